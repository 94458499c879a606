"""Networks with an activation: against the linear formulas, a plain loop and autodiff; inference against itself."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import pctheory
from pctheory import nonlinear
from pctheory.claims import TOLERANCE, scaled_error
from pctheory.nonlinear import NonlinearPCN

from . import oracles
from .cases import CASES, FEW, Case


def identity(z):
    return z


# NumPy's own, for the plain loop
ACTIVATIONS = {"tanh": (jnp.tanh, np.tanh), "relu": (jax.nn.relu, lambda z: z * (z > 0))}
DERIVATIVES = {"tanh": lambda z: 1 - np.tanh(z) ** 2, "relu": lambda z: (z > 0) * 1.0}
HIDDEN = [c for c in FEW if c.name != "scalar chain, depth 4"]


def hidden_of(given: Case) -> list[np.ndarray]:
    rng = np.random.default_rng(99)
    return [rng.standard_normal((len(given.x), n)) for n in given.widths[1:-1]]


def loop(given: Case, zs: list[np.ndarray], activation) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Errors, and what each layer's weights see, from the definition."""
    below = [given.x, *zs[:-1]]
    seen = [given.x, *(activation(z) for z in zs[:-1])]
    rows = zip(zs, below, seen, given.weights, given.scalings, given.skips, given.biases, strict=True)
    errors = [z - a * h @ w.T - (s * b if s else 0) - c for z, b, h, w, a, s, c in rows]
    return errors, seen


def loop_feedforward(given: Case, activation) -> list[np.ndarray]:
    zs = [given.x]
    for l, (w, a, s, c) in enumerate(zip(given.weights, given.scalings, given.skips, given.biases, strict=True)):
        seen = activation(zs[-1]) if l else zs[-1]
        zs.append(a * seen @ w.T + (s * zs[-1] if s else 0) + c)
    return zs[1:]


def loop_activity_gradient(given: Case, hidden, activation, derivative) -> list[np.ndarray]:
    errors, _ = loop(given, [*hidden, given.y], activation)
    forces = [pi * e for pi, e in zip(given.precisions, errors, strict=True)]
    found = []
    for l, z in enumerate(hidden):
        pulled = derivative(z) * (given.scalings[l + 1] * forces[l + 1] @ given.weights[l + 1])
        skipped = given.skips[l + 1] * forces[l + 1] if given.skips[l + 1] else 0
        found.append((forces[l] - pulled - skipped) / len(given.x))
    return found


def close(actual, expected, scale: float) -> bool:
    return all(scaled_error(a, b, scale=scale) <= TOLERANCE for a, b in zip(actual, expected, strict=True))


def everything(module, net, hidden, x, y) -> dict[str, list]:
    """Each function of the module: what is of the size of the activities, and what is quadratic in them."""
    return {
        "linear": [*module.feedforward(net, x), *module.prediction_errors(net, hidden, x, y)],
        "quadratic": [
            module.loss(net, x, y),
            module.layer_energies(net, hidden, x, y),
            module.energy(net, hidden, x, y),
            *module.activity_gradient(net, hidden, x, y),
            *module.partial_weight_gradient(net, hidden, x, y),
        ],
    }


@jax.jit
def both_ways(net, hidden, x, y):
    """Compiled at once: sixteen shapes are many."""
    found = everything(nonlinear, NonlinearPCN(net, identity), hidden, x, y)
    return found, everything(pctheory, net, hidden, x, y)


@pytest.mark.parametrize("given", CASES, ids=lambda c: c.name)
def test_the_identity_is_the_linear_network(given: Case):
    hidden = hidden_of(given)
    found, expected = both_ways(given.net, hidden, given.x, given.y)
    size = oracles.scale(given, hidden)
    assert close(found["linear"], expected["linear"], size**0.5)
    assert close(found["quadratic"], expected["quadratic"], size)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("given", FEW[:5], ids=lambda c: c.name)
def test_against_a_plain_loop(given: Case, name: str):
    activation, plain = ACTIVATIONS[name]
    net, hidden = NonlinearPCN(given.net, activation), hidden_of(given)
    size = oracles.scale(given, hidden)
    outputs = loop_feedforward(given, plain)
    errors, seen = loop(given, [*hidden, given.y], plain)
    energies = [pi * (e**2).sum() / (2 * len(given.x)) for pi, e in zip(given.precisions, errors, strict=True)]
    local = [
        -a * pi * e.T @ h / len(given.x)
        for a, pi, e, h in zip(given.scalings, given.precisions, errors, seen, strict=True)
    ]
    found = jax.jit(lambda *arrays: everything(nonlinear, net, *arrays))(hidden, given.x, given.y)
    half = ((given.y - outputs[-1]) ** 2).sum() / (2 * len(given.x))
    by_activity = loop_activity_gradient(given, hidden, plain, DERIVATIVES[name])
    assert close(found["linear"], [*outputs, *errors], size**0.5)
    expected = [half, np.array(energies), sum(energies), *by_activity, *local]
    assert close(found["quadratic"], expected, size)


@pytest.mark.parametrize("given", FEW[4:5], ids=lambda c: c.name)
def test_gradients_against_autodiff(given: Case):
    net, hidden = NonlinearPCN(given.net, jnp.tanh), hidden_of(given)
    stacked, size = given.net.hidden(hidden, len(given.x)), oracles.scale(given, hidden)
    by_activity = jax.jit(jax.grad(lambda h: nonlinear.energy(net, h, given.x, given.y)))(stacked)
    assert close(nonlinear.activity_gradient(net, hidden, given.x, given.y), by_activity, size)
    of_weights = jax.grad(lambda w: nonlinear.energy(net.with_weights(w), stacked, given.x, given.y))
    by_weight = jax.jit(of_weights)(net.weights)
    assert close(nonlinear.partial_weight_gradient(net, hidden, given.x, given.y), by_weight, size)


@pytest.mark.parametrize("given", HIDDEN[:4], ids=lambda c: c.name)
def test_one_gauss_newton_step_is_the_equilibrium_of_a_linear_network(given: Case):
    net = NonlinearPCN(given.net, identity)
    found = nonlinear.inference_to_stationarity(net, given.x, given.y)
    expected = oracles.equilibrium(given)
    assert found.steps == 1
    size = oracles.scale(given, expected)
    assert all(
        scaled_error(a, b, scale=size**0.5, condition=oracles.condition(given)) <= TOLERANCE
        for a, b in zip(found.activities, expected, strict=True)
    )
    assert close([found.energy], [oracles.energy(given, expected)], size)


@pytest.mark.parametrize("given", [HIDDEN[0], HIDDEN[3]], ids=lambda c: c.name)
def test_stationarity_with_tanh(given: Case):
    """The plain loop's gradient vanishes there, and the energy is that of a long descent."""
    net = NonlinearPCN(given.net, jnp.tanh)
    found = nonlinear.inference_to_stationarity(net, given.x, given.y)
    hidden = [np.asarray(z) for z in found.activities]
    gradient = loop_activity_gradient(given, hidden, np.tanh, DERIVATIVES["tanh"])
    largest = max(np.abs(a).max() for a in (*hidden, given.y))
    steepest = len(given.x) * max(np.abs(g).max() for g in gradient)
    assert found.stationarity <= 1e-10
    assert steepest / largest <= 1.1e-10
    long = nonlinear.inference_by_halving(net, given.x, given.y, rate=0.02, floor=1e-9, steps=10_000)
    assert (
        scaled_error(found.energy, long.energy, scale=oracles.scale(given, hidden)) <= 1e-9
    )  # the descent's accuracy
    assert found.energy <= nonlinear.energy(net, loop_feedforward(given, np.tanh)[:-1], given.x, given.y)


def plain_halving(given: Case, activation, derivative, rate: float, floor: float, steps: int):
    """The published rule in a Python loop: activities, rate at the end and how many steps were made."""
    hidden, before, made = loop_feedforward(given, activation)[:-1], np.inf, 0
    while made < steps:
        errors, _ = loop(given, [*hidden, given.y], activation)
        energy = sum(pi * (e**2).sum() / 2 for pi, e in zip(given.precisions, errors, strict=True))
        rate = rate if energy < before else rate / 2
        if rate <= floor:
            break
        gradient = loop_activity_gradient(given, hidden, activation, derivative)
        hidden = [z - rate * len(given.x) * g for z, g in zip(hidden, gradient, strict=True)]
        before, made = energy, made + 1
    return hidden, rate, made


@pytest.mark.parametrize("rate", [0.1, 1.5])
@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_halving_is_the_published_rule(name: str, rate: float):
    """At rate 1.5 the energy rises, so that both ends of the rule are met."""
    given = next(c for c in CASES if c.name == "everything, depth 6")
    activation, plain = ACTIVATIONS[name]
    expected, last, made = plain_halving(given, plain, DERIVATIVES[name], rate, rate / 4, 50)
    net = NonlinearPCN(given.net, activation)
    found = nonlinear.inference_by_halving(net, given.x, given.y, rate=rate, floor=rate / 4, steps=50)
    assert found.steps == made
    assert (made == 50) == (last > rate / 4)
    assert (made < 50) == (rate == 1.5)
    size = oracles.scale(given, expected)
    assert all(scaled_error(a, b, scale=size**0.5) <= 1e-9 for a, b in zip(found.activities, expected, strict=True))


def test_a_kink_is_reported():
    """(z - 0.1)^2 + (4 + 3 relu z)^2: the energy falls towards the kink at 0 from above and from below."""
    linear = pctheory.LinearPCN([np.array([[1.0]]), np.array([[3.0]])])
    net = NonlinearPCN(linear, jax.nn.relu)
    x, y = np.array([[0.1]]), np.array([[-4.0]])
    with pytest.raises(RuntimeError, match=r"stationarity .* after 40 steps, wanted 1\.0e-10; raise max_steps or"):
        nonlinear.inference_to_stationarity(net, x, y, max_steps=40)
    inside = jax.jit(lambda x: nonlinear.inference_to_stationarity(net, x, y, max_steps=40))(jnp.asarray(x))
    assert np.isnan(inside.energy)
    there = nonlinear.inference_to_stationarity(net, x, y, max_steps=40, allow_unfinished=True)
    assert there.steps == 40
    assert there.stationarity > 0.01
    assert abs(there.activities[0][0, 0]) < 1e-3  # at the kink


def test_learning_with_inference():
    """The local rule at a stationary point is the gradient of the energy there: central differences of it."""
    given = HIDDEN[0]
    net = NonlinearPCN(given.net, jnp.tanh)

    def least(weights):
        return nonlinear.inference_to_stationarity(net.with_weights(weights), given.x, given.y, tolerance=1e-12)

    found = least(net.weights)
    assert found.energy > 0.01
    gradient = nonlinear.partial_weight_gradient(net, found.activities, given.x, given.y)
    direction = jax.tree.map(lambda w: jnp.cos(jnp.arange(w.size, dtype=float)).reshape(w.shape), net.weights)
    h = 1e-4
    ends = [least(jax.tree.map(lambda w, d, s=s: w + s * d, net.weights, direction)).energy for s in (h, -h)]
    slope = sum(jnp.sum(g * d) for g, d in zip(gradient, direction, strict=True))
    assert abs((ends[0] - ends[1]) / (2 * h) - slope) <= 1e-7 * abs(slope)  # h^2 and eps / h


@pytest.fixture
def without_shape_checks():
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


LINEAR = pctheory.LinearPCN([np.ones((3, 2)), np.ones((1, 3))])
X, Y = np.ones((4, 2)), np.ones((4, 1))
BAD = {
    "no network": (lambda: NonlinearPCN(3, jnp.tanh), TypeError, "linear is a int, expected a LinearPCN"),
    "no function": (lambda: NonlinearPCN(LINEAR, "tanh"), TypeError, "activation is 'tanh', expected a function"),
    "not elementwise": (lambda: NonlinearPCN(LINEAR, jnp.sum), ValueError, "activation gives shape () for (2, 3)"),
    "floor above rate": (
        lambda: nonlinear.inference_by_halving(NonlinearPCN(LINEAR, jnp.tanh), X, Y, rate=0.1, floor=0.2),
        ValueError,
        "rate is 0.1 and floor 0.2, expected 0 < floor < rate; correct them",
    ),
    "no steps": (
        lambda: nonlinear.inference_by_halving(NonlinearPCN(LINEAR, jnp.tanh), X, Y, steps=0),
        ValueError,
        "inference_by_halving: the number of steps is 0, expected a whole number of at least 1",
    ),
    "no tolerance": (
        lambda: nonlinear.inference_to_stationarity(NonlinearPCN(LINEAR, jnp.tanh), X, Y, tolerance=0.0),
        ValueError,
        "tolerance is 0.0, expected a positive finite number",
    ),
    "no hidden layer": (
        lambda: nonlinear.inference_by_halving(NonlinearPCN(pctheory.LinearPCN([np.ones((1, 2))]), jnp.tanh), X, Y),
        ValueError,
        "inference_by_halving: a network of depth 1 has no hidden layers; add one",
    ),
    "wrong activities": (
        lambda: nonlinear.energy(NonlinearPCN(LINEAR, jnp.tanh), [np.ones((4, 2))], X, Y),
        ValueError,
        "activities, layer 1 has shape (4, 2), expected (4, 3)",
    ),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.usefixtures("without_shape_checks")
def test_bad_input(what: str):
    call, error, message = BAD[what]
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
