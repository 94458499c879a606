"""Training of residual networks, with inference and without: against a plain loop, alone and in sweeps."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest

import pctheory
from figures._training import PUBLISHED_RATES, best_log_rate, minibatches, networks, widths_of
from pctheory import dynamics, nonlinear
from pctheory.claims import scaled_error
from pctheory.dynamics import Inference, accuracy, adam, train, training_sweep
from pctheory.nonlinear import NonlinearPCN

from .cases import CASES, Case
from .test_nonlinear import ACTIVATIONS, DERIVATIVES, identity, loop, loop_activity_gradient, loop_feedforward

GIVEN = next(c for c in CASES if c.name == "everything, depth 6")
RATE, STEPS = 0.03, 7


def plain_descent(given: Case, activation, derivative, rate: float, steps: int) -> list[np.ndarray]:
    hidden = loop_feedforward(given, activation)[:-1]
    for _ in range(steps):
        gradient = loop_activity_gradient(given, hidden, activation, derivative)
        hidden = [z - rate * len(given.x) * g for z, g in zip(hidden, gradient, strict=True)]
    return hidden


# --- inference ---


@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_descent_is_a_plain_loop(name: str):
    activation, plain = ACTIVATIONS[name]
    expected = plain_descent(GIVEN, plain, DERIVATIVES[name], 0.1, 5)
    found = nonlinear.inference_descent(NonlinearPCN(GIVEN.net, activation), GIVEN.x, GIVEN.y, rate=0.1, steps=5)
    largest = max(np.abs(z).max() for z in expected)
    assert found.steps == 5
    assert all(scaled_error(a, b, scale=largest) <= 1e-10 for a, b in zip(found.activities, expected, strict=True))


def test_descent_of_the_identity_is_that_of_the_linear_network():
    found = nonlinear.inference_descent(NonlinearPCN(GIVEN.net, identity), GIVEN.x, GIVEN.y, rate=0.02, steps=20)
    expected, energies = dynamics.inference_descent(GIVEN.net, GIVEN.x, GIVEN.y, rate=0.02, steps=20)
    assert scaled_error(found.energy, energies[-1]) <= 1e-10
    assert all(scaled_error(a, b) <= 1e-10 for a, b in zip(found.activities, expected, strict=True))


def test_descent_without_halving_is_the_halving_rule():
    """Where the energy falls at every step."""
    net = NonlinearPCN(GIVEN.net, jnp.tanh)
    found = nonlinear.inference_descent(net, GIVEN.x, GIVEN.y, rate=0.02, steps=50)
    expected = nonlinear.inference_by_halving(net, GIVEN.x, GIVEN.y, rate=0.02, floor=0.01, steps=50)
    assert expected.steps == 50
    assert found.energy == expected.energy


def test_descent_of_many_layers_and_units_of_one():
    """An error climbs down one layer a step: 20 steps reach z_481..z_500, and what is left below is rounding."""
    net = NonlinearPCN(pctheory.mupc((1, *[1] * 500, 3), seed=0), jnp.tanh)  # and d_y is above N
    x, y = np.ones((1, 1)), np.ones((1, 3))
    found = nonlinear.inference_descent(net, x, y, rate=0.2, steps=20)
    sizes = [float(jnp.abs(e).max()) for e in nonlinear.prediction_errors(net, found.activities, x, y)]
    assert max(sizes[:480]) < 1e-14
    assert min(sizes[485:500]) > 1e-10


def test_descent_that_diverges_is_returned():
    found = nonlinear.inference_descent(NonlinearPCN(GIVEN.net, identity), GIVEN.x, GIVEN.y, rate=1e3, steps=200)
    assert not np.isfinite(found.energy)


# --- one run ---


def small_problem(count: int = 4) -> tuple[NonlinearPCN, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    net = NonlinearPCN(pctheory.mupc((3, 5, 5, 5, 2), seed=1), jnp.tanh)
    return net, rng.standard_normal((count, 6, 3)), rng.standard_normal((count, 6, 2))


def as_case(net: NonlinearPCN, weights, x, y) -> Case:
    linear = net.linear
    arrays = [np.array(w) for w in weights]
    return Case(
        "run",
        arrays,
        *(np.array(a) for a in (linear.scalings, linear.skips)),
        [np.zeros(len(w)) for w in arrays],
        np.ones(len(arrays)),
        x,
        y,
    )


def plain_training(net: NonlinearPCN, xs, ys, rate: float, inference: tuple[float, int] | None):
    """Adam written out, on the local rule at activities of a plain loop, or on central differences of the loss."""
    weights = [np.array(w) for w in net.weights]
    first, second, losses = [0 * w for w in weights], [0 * w for w in weights], []
    for step, (x, y) in enumerate(zip(xs, ys, strict=True), start=1):
        given = as_case(net, weights, x, y)
        losses.append(plain_loss(given))
        gradients = plain_loss_gradient(given) if inference is None else plain_local_rule(given, *inference)
        for l, g in enumerate(gradients):
            first[l] = 0.9 * first[l] + 0.1 * g
            second[l] = 0.999 * second[l] + 0.001 * g**2
            root = np.sqrt(second[l] / (1 - 0.999**step))
            weights[l] = weights[l] - rate * first[l] / (1 - 0.9**step) / (root + 1e-8)
    return weights, losses


def plain_loss(given: Case) -> float:
    return float(((given.y - loop_feedforward(given, np.tanh)[-1]) ** 2).sum() / (2 * len(given.x)))


def plain_local_rule(given: Case, rate: float, steps: int) -> list[np.ndarray]:
    hidden = plain_descent(given, np.tanh, DERIVATIVES["tanh"], rate, steps)
    errors, seen = loop(given, [*hidden, given.y], np.tanh)
    layers = zip(given.scalings, errors, seen, strict=True)
    return [-a * e.T @ h / len(given.x) for a, e, h in layers]


def plain_loss_gradient(given: Case) -> list[np.ndarray]:
    found = []
    for w in given.weights:
        slopes = np.zeros(w.shape)
        for entry in np.ndindex(w.shape):
            kept, ends = w[entry], []
            for step in (1e-6, -1e-6):
                w[entry] = kept + step
                ends.append(plain_loss(given))
            w[entry] = kept
            slopes[entry] = (ends[0] - ends[1]) / 2e-6
        found.append(slopes)
    return found


@pytest.mark.parametrize("inference", [None, (0.1, STEPS)], ids=["backpropagation", "predictive coding"])
def test_training_is_a_plain_loop(inference):
    net, xs, ys = small_problem()
    expected, losses = plain_training(net, xs, ys, RATE, inference)
    rule = None if inference is None else Inference(inference[0], steps=inference[1])
    found = train(net, (xs, ys), rate=RATE, inference=rule)
    # Adam's first step divides a gradient by its size; that of central differences is good to some 1e-10
    tolerance = 1e-10 if inference else 1e-5
    np.testing.assert_allclose(found.losses, losses, rtol=tolerance)
    for w, v in zip(found.net.weights, expected, strict=True):
        np.testing.assert_allclose(w, v, atol=tolerance)
    assert found.diverged_at == -1
    if inference is None:
        np.testing.assert_array_equal(found.energies, found.losses)
    else:
        assert (np.asarray(found.energies) < found.losses).all()


def test_adam_is_that_of_optax():
    net, xs, ys = small_problem()
    rule = Inference(0.1, steps=STEPS)
    expected, _ = dynamics.weight_descent_by_rule(rule, net, (xs, ys), optax.adam(RATE))
    found = train(net, (xs, ys), rate=RATE, inference=rule)
    for w, v in zip(found.net.weights, expected.weights, strict=True):
        np.testing.assert_allclose(w, v, rtol=1e-12, atol=1e-14)


def test_long_inference_in_a_wide_network_is_backpropagation():
    """Long inference on targets near the output of a wide net: the local rule tends to the gradient of the loss."""
    net, xs, _ = small_problem(1)
    targets = np.asarray(nonlinear.feedforward(net, xs[0])[-1])
    wide = NonlinearPCN(pctheory.mupc((3, *[200] * 3, 2), seed=1), jnp.tanh)
    y = np.asarray(nonlinear.feedforward(wide, xs[0])[-1]) + 1e-3 * targets
    rule, _ = Inference(0.4, steps=60)(wide, jnp.asarray(xs[0]), jnp.asarray(y))
    gradient = jax.grad(lambda w: nonlinear.loss(wide.with_weights(w), xs[0], y))(wide.weights)
    for a, b in zip(rule, gradient, strict=True):
        cosine = jnp.sum(a * b) / jnp.linalg.norm(a) / jnp.linalg.norm(b)
        assert cosine > 0.99  # 1 - O(L / N)


@pytest.mark.parametrize("rate", [1e12, 0.1])
def test_divergence_is_recorded_with_its_step(rate: float):
    net, xs, ys = small_problem(6)
    net = NonlinearPCN(net.linear, jax.nn.relu)
    found = train(net, (xs, ys), rate=rate, inference=Inference(0.1, steps=3))
    losses = np.asarray(found.losses)
    if rate == 0.1:
        assert found.diverged_at == -1
        return
    step = int(found.diverged_at)
    assert step == 1  # the first update does it
    assert not losses[step] <= 1e6 * losses[0]


# --- sweeps ---


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_a_sweep_is_its_runs(backend: str, monkeypatch):
    """One after another, as on a CPU, and all at once, as elsewhere."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    jax.clear_caches()  # the sweep of the other way would be taken for this one
    net, xs, ys = small_problem()
    other = NonlinearPCN(pctheory.standard((3, 5, 5, 5, 2), seed=2, skips=True), jnp.tanh)
    batches = np.stack([xs, xs[::-1]]), np.stack([ys, ys[::-1]])
    rates, inference_rates = [0.01, 0.1], [0.05, 0.2, 30.0]
    found = training_sweep(
        [net, other], batches, rates=rates, inference_rates=inference_rates, inference_steps=STEPS
    )
    assert found.losses.shape == (2, 2, 3, 4)
    hits = found.accuracy(xs[0], ys[0])
    for i, one in enumerate((net, other)):
        for j, rate in enumerate(rates):
            for k, activity_rate in enumerate(inference_rates[:2]):
                rule = Inference(activity_rate, steps=STEPS)
                run = train(one, (batches[0][i], batches[1][i]), rate=rate, inference=rule)
                np.testing.assert_allclose(found.losses[i, j, k], run.losses, rtol=1e-9)
                assert hits[i, j, k] == accuracy(run.net, xs[0], ys[0])


def test_a_sweep_by_backpropagation_goes_on_where_a_run_diverges():
    net, xs, ys = small_problem()
    net = NonlinearPCN(net.linear, jax.nn.relu)
    found = training_sweep([net], (xs[None], ys[None]), rates=[0.01, 1e200, 0.05])
    assert found.diverged_at.shape == (1, 3)
    assert found.diverged_at[0, 1] == 1
    assert (np.asarray(found.diverged_at)[0, [0, 2]] == -1).all()
    hits = np.asarray(found.accuracy(xs[0], ys[0]))[0]
    assert np.isnan(hits[1])
    assert np.isfinite(hits[[0, 2]]).all()
    alone = train(net, (xs, ys), rate=0.05)
    np.testing.assert_allclose(found.losses[0, 2], alone.losses, rtol=1e-9)


def test_accuracy_by_hand():
    net = NonlinearPCN(pctheory.LinearPCN([np.eye(2)]), jnp.tanh)
    x = np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 2.0], [0.0, 5.0]])
    y = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert accuracy(net, x, y) == 0.75


# --- what it must show ---


def digits_accuracies(hidden: int, activation: str = "tanh") -> dict[str, float]:
    """Width 32, one pass in batches of 8: Adam at the published rate for muPC, best of three for BP."""
    data = pctheory.dataset("digits")
    batches = minibatches(data, 8, [0])
    widths = widths_of(data, 32, hidden)
    inference = {"inference_rates": [PUBLISHED_RATES[activation]], "inference_steps": hidden}
    sweeps = {
        "mupc": training_sweep(networks("mupc", widths, activation, [0]), batches, rates=[0.1], **inference),
        "standard": training_sweep(
            networks("standard", widths, activation, [0]), batches, rates=[0.003], **inference
        ),
        "backpropagation": training_sweep(
            networks("mupc", widths, activation, [0]), batches, rates=[0.01, 0.03, 0.1]
        ),
    }
    return {
        name: float(np.nanmax(found.accuracy(data.test_inputs, data.test_targets)))
        for name, found in sweeps.items()
    }


def test_mupc_trains_where_standard_pc_does_less():
    found = digits_accuracies(24)
    assert found["mupc"] > 0.7
    assert found["mupc"] > found["backpropagation"] - 0.1
    assert found["standard"] < found["mupc"] - 0.05


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "least"), [("tanh", 0.5), ("relu", 0.2)])
def test_mupc_trains_at_depth_128_where_standard_pc_does_not(activation: str, least: float):
    """Standard PC is at chance with ReLU, and learns half as much with tanh."""
    found = digits_accuracies(128, activation)
    assert found["mupc"] > 0.75
    assert found["mupc"] > found["backpropagation"] - 0.08
    assert found["standard"] < least


# --- the best rate ---


def test_best_rate_of_a_parabola():
    rates = np.arange(-6.0, 1.0)
    losses = np.exp(np.stack([(rates + 2.3) ** 2, (rates + 4.9) ** 2 / 7, rates, np.full(7, np.nan)]))
    found = best_log_rate(losses, rates)
    np.testing.assert_allclose(found[:2], [-2.3, -4.9], rtol=1e-10)
    assert np.isnan(found[2:]).all()  # at the end of the grid, and nothing but divergence
    losses[0, 5:] = np.inf  # diverged
    np.testing.assert_allclose(best_log_rate(losses[:1], rates), [-2.3], rtol=1e-10)


# --- bad input ---


@pytest.fixture
def without_shape_checks():
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


NET, XS, YS = small_problem(2)
BAD = {
    "rate": (lambda: train(NET, (XS, YS), rate=0.0), ValueError, "rate is 0.0, expected a positive finite number"),
    "adam": (lambda: adam(np.inf), ValueError, "rate is inf, expected a positive finite number"),
    "activity rate": (lambda: Inference(np.nan, steps=3), ValueError, "rate is nan, expected a positive"),
    "steps": (lambda: Inference(0.1, steps=0), ValueError, "steps is 0, expected a whole number of at least 1"),
    "descent": (
        lambda: nonlinear.inference_descent(NET, XS[0], YS[0], rate=-1.0, steps=3),
        ValueError,
        "rate is -1.0, expected a positive finite number",
    ),
    "no hidden layer": (
        lambda: train(
            NonlinearPCN(pctheory.LinearPCN([np.ones((2, 3))]), jnp.tanh),
            (XS, YS),
            rate=0.1,
            inference=Inference(0.1, steps=1),
        ),
        ValueError,
        "inference_descent: a network of depth 1 has no hidden layers; add one",
    ),
    "no networks": (lambda: training_sweep([], (XS[None], YS[None]), rates=[0.1]), ValueError, "each of 0"),
    "too few batches": (
        lambda: training_sweep([NET, NET], (XS[None], YS[None]), rates=[0.1]),
        ValueError,
        "batches are for 1 and 1 networks, expected one list for each of 2",
    ),
    "no list of batches": (
        lambda: training_sweep([NET], (XS, YS), rates=[0.1]),
        ValueError,
        "xs has shape (2, 6, 3), expected 4 axes",
    ),
    "two activations": (
        lambda: training_sweep(
            [NET, NonlinearPCN(NET.linear, jax.nn.relu)], (np.stack([XS] * 2), np.stack([YS] * 2)), rates=[0.1]
        ),
        ValueError,
        "nets, number 2 has widths (3, 5, 5, 5, 2)",
    ),
    "no steps": (
        lambda: training_sweep([NET], (XS[None], YS[None]), rates=[0.1], inference_rates=[0.1]),
        ValueError,
        "inference_steps is not given; give both, or neither for backpropagation",
    ),
    "rates": (
        lambda: training_sweep([NET], (XS[None], YS[None]), rates=[0.1, -1.0]),
        ValueError,
        "rates is [0.1, -1.0], expected a list of positive finite numbers",
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
