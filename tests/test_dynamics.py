"""Dynamics against closed-form linear recursions, matrix exponentials and plain loops."""

from collections.abc import Callable, Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
import scipy.linalg

import pctheory
from pctheory import Layers, LinearPCN, dynamics
from pctheory.claims import TOLERANCE, scaled_error

from . import oracles
from .cases import CASES, FEW, Case

GENERAL = next(case for case in CASES if case.name == "everything, depth 6")
SMALL = next(case for case in CASES if case.name == "one hidden layer")


@pytest.fixture(params=FEW, ids=lambda case: case.name)
def given(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def no_shape_checks() -> Iterator[None]:
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


class Recursion:
    """Inference on the dense linear system, rows being examples: activities of all layers side by side."""

    def __init__(self, case: Case):
        self.hessian, self.b = oracles.linear_system(case)
        self.equilibrium = np.linalg.solve(self.hessian, self.b.T).T
        self.start = np.hstack(oracles.feedforward(case)[:-1])
        self.cuts = np.cumsum(case.widths[1:-2])
        self.scale = oracles.scale(case, oracles.equilibrium(case))
        self.eigenvalues = np.linalg.eigvalsh(self.hessian)

    def descended(self, rate: float, steps: int, start: np.ndarray | None = None) -> np.ndarray:
        power = np.linalg.matrix_power(np.eye(len(self.hessian)) - rate * self.hessian, steps)
        return self.equilibrium + ((self.start if start is None else start) - self.equilibrium) @ power.T

    def flowed(self, duration: float) -> np.ndarray:
        return self.equilibrium + (self.start - self.equilibrium) @ scipy.linalg.expm(-duration * self.hessian).T

    def layers(self, activities: np.ndarray) -> list[np.ndarray]:
        return np.split(activities, self.cuts, axis=1)


def of_seeds(count: int) -> tuple[LinearPCN, list[LinearPCN]]:
    """Networks of several seeds, stacked and one by one."""
    stacked = jax.jit(jax.vmap(lambda seed: pctheory.mupc((3, 5, 5, 5, 2), seed=seed)))(jnp.arange(count))
    return stacked, [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(count)]


def flat(activities: Layers) -> np.ndarray:
    return np.hstack([np.asarray(z) for z in activities])


# --- inference, fixed steps ---


def test_descent_is_the_linear_recursion(given: Case) -> None:
    dense = Recursion(given)
    rate = 0.9 / dense.eigenvalues[-1]
    last, energies = dynamics.inference_descent(given.net, given.x, given.y, rate=rate, steps=17)
    path = [dense.descended(rate, t) for t in range(18)]
    expected = [oracles.energy(given, dense.layers(z)) for z in path]
    assert scaled_error(flat(last), path[-1], scale=dense.scale**0.5) <= TOLERANCE
    assert scaled_error(energies, np.array(expected), scale=dense.scale) <= TOLERANCE


def test_descent_from_given_activities_records_what_is_asked(given: Case) -> None:
    def record(net: LinearPCN, activities: Layers, x: jax.Array, y: jax.Array) -> dict[str, jax.Array | float]:
        return {"first": activities[0], "data": y.sum() - x.sum() + net.scalings[0], "number": 2.5}

    dense = Recursion(given)
    start = np.random.default_rng(0).normal(size=dense.start.shape)
    options = {"rate": 0.5 / dense.eigenvalues[-1], "steps": 3}
    last, records = dynamics.inference_descent(
        given.net, given.x, given.y, start=dense.layers(start), record=record, **options
    )
    path = [dense.descended(options["rate"], t, start) for t in range(4)]
    assert scaled_error(flat(last), path[-1], scale=dense.scale**0.5) <= TOLERANCE
    first = np.stack([dense.layers(z)[0] for z in path])
    assert scaled_error(records["first"], first, scale=dense.scale**0.5) <= TOLERANCE
    np.testing.assert_allclose(records["data"], np.full(4, given.y.sum() - given.x.sum() + given.scalings[0]))
    np.testing.assert_array_equal(records["number"], np.full(4, 2.5))


@pytest.mark.parametrize("rows", [1, 4])
def test_descent_is_stable_up_to_two_over_the_largest_eigenvalue_whatever_the_batch(rows: int) -> None:
    net, x, y = GENERAL.net, GENERAL.x[:rows], GENERAL.y[:rows]
    limit = 2 / Recursion(GENERAL).eigenvalues[-1]
    best = pctheory.equilibrated_energy(net, x, y)
    _, below = dynamics.inference_descent(net, x, y, rate=0.98 * limit, steps=3000)
    _, above = dynamics.inference_descent(net, x, y, rate=1.02 * limit, steps=3000)
    np.testing.assert_allclose(below[-1], best, rtol=1e-9)
    assert above[-1] > 1e6 * best


def test_divergence_of_inference_is_returned_not_hidden() -> None:
    _, energies = dynamics.inference_descent(GENERAL.net, GENERAL.x, GENERAL.y, rate=1e3, steps=200)
    assert np.isfinite(energies[0])
    assert not np.isfinite(energies[-1])


def test_descent_under_jit_and_vmap_over_seeds_and_rates() -> None:
    x, y = np.ones((2, 3)), np.ones((2, 2))
    stacked, nets = of_seeds(2)
    rates = jnp.array([0.05, 0.2])

    def energies(net: LinearPCN, rate: jax.Array) -> jax.Array:
        return dynamics.inference_descent(net, x, y, rate=rate, steps=6)[1]

    single = [energies(net, rate) for net, rate in zip(nets, rates, strict=True)]
    np.testing.assert_allclose(jax.jit(jax.vmap(energies))(stacked, rates), np.stack(single), rtol=1e-12)


def by_hand(kind: str, gradients: Iterator[np.ndarray], start: np.ndarray) -> Iterator[np.ndarray]:
    """The points that Adam or momentum visit, from their definitions; `gradients` are asked for one by one."""
    point, first, second = start, 0 * start, 0 * start
    for t, gradient in enumerate(gradients, start=1):
        if kind == "momentum":
            first = gradient + 0.9 * first
            point = point - 0.01 * first
        else:
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            point = point - 0.01 * (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
        yield point


OPTIMISERS = {"adam": optax.adam(1e-2), "momentum": optax.sgd(1e-2, momentum=0.9)}


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_inference_by_an_optimiser_is_its_definition(given: Case, kind: str) -> None:
    dense = Recursion(given)
    path = [np.random.default_rng(1).normal(size=dense.start.shape)]

    def gradients() -> Iterator[np.ndarray]:
        while True:
            yield path[-1] @ dense.hessian - dense.b

    visited = by_hand(kind, gradients(), path[0])
    for _ in range(6):
        path.append(next(visited))
    start = dense.layers(path[0])
    last, energies = dynamics.inference_descent(
        given.net, given.x, given.y, optimiser=OPTIMISERS[kind], steps=6, start=start
    )
    expected = [oracles.energy(given, dense.layers(z)) for z in path]
    assert scaled_error(flat(last), path[-1], scale=dense.scale**0.5) <= TOLERANCE
    assert scaled_error(energies, np.array(expected), scale=dense.scale) <= TOLERANCE


# --- inference, gradient flow ---

TIGHT = {"relative_tolerance": 1e-8, "absolute_tolerance": 1e-10}
LOOSE = {"relative_tolerance": 1e-5, "absolute_tolerance": 1e-5}


@pytest.mark.parametrize("duration", [0.01, 0.7])
def test_flow_is_the_matrix_exponential(given: Case, duration: float) -> None:
    dense = Recursion(given)
    flow = dynamics.inference_flow(given.net, given.x, given.y, duration=duration, **TIGHT)
    expected = dense.flowed(duration)
    # 1e-6: the tolerance of a step, 1e-8, times at most some hundred steps
    assert scaled_error(flat(flow.activities), expected, scale=dense.scale**0.5) <= 1e-6
    assert scaled_error(flow.energy, oracles.energy(given, dense.layers(expected)), scale=dense.scale) <= 1e-6


@pytest.mark.parametrize("relaxation_times", [0.5, 30.0])
def test_flow_reports_what_it_returns_and_reaches_the_equilibrium_in_time(
    given: Case, relaxation_times: float
) -> None:
    dense = Recursion(given)
    duration = relaxation_times / dense.eigenvalues[0]
    flow = dynamics.inference_flow(given.net, given.x, given.y, duration=duration, **LOOSE)
    z = flat(flow.activities)
    gradient = np.abs(z @ dense.hessian - dense.b).max() / max(np.abs(z).max(), np.abs(given.y).max())
    assert scaled_error(flow.energy, oracles.energy(given, dense.layers(z)), scale=dense.scale) <= TOLERANCE
    np.testing.assert_allclose(flow.stationarity, gradient, rtol=1e-6, atol=1e-14)
    if relaxation_times == 30.0:
        assert flow.stationarity < 1e-3
        best = pctheory.equilibrated_energy(given.net, given.x, given.y)
        assert scaled_error(flow.energy, best, scale=dense.scale) <= 1e-6


def test_flow_that_runs_out_of_steps_is_refused() -> None:
    net, x, y = GENERAL.net, GENERAL.x, GENERAL.y
    with pytest.raises(RuntimeError, match=r"inference_flow: 5 steps did not reach duration 9.0; raise max_steps"):
        dynamics.inference_flow(net, x, y, duration=9.0, max_steps=5, **TIGHT)
    flow = jax.jit(lambda net: dynamics.inference_flow(net, x, y, duration=9.0, max_steps=5, **TIGHT))(net)
    assert flow.steps == 5
    assert np.isnan(flow.energy)
    assert np.isnan(flow.stationarity)
    assert np.isnan(flat(flow.activities)).all()


def test_flow_under_jit_and_vmap_over_seeds() -> None:
    x, y = np.ones((2, 3)), np.ones((2, 2))

    def energy(net: LinearPCN) -> jax.Array:
        return dynamics.inference_flow(net, x, y, duration=2.0, **TIGHT).energy

    stacked, nets = of_seeds(3)
    np.testing.assert_allclose(jax.jit(jax.vmap(energy))(stacked), [energy(net) for net in nets], rtol=1e-9)


def test_stationarity_of_zero_data_is_zero() -> None:
    flow = dynamics.inference_flow(SMALL.net, 0 * SMALL.x, 0 * SMALL.y, duration=1.0, **TIGHT)
    assert flow.stationarity == 0
    assert flow.energy == 0


# --- learning ---


def batches_of(case: Case, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    return rng.normal(size=(count, 5, case.widths[0])), rng.normal(size=(count, 5, case.widths[-1]))


def test_sgd_on_the_loss_by_hand() -> None:
    xs, ys = batches_of(SMALL, 4)
    w_1, w_2 = SMALL.weights
    losses = []
    for x, y in zip(xs, ys, strict=True):
        r = y - x @ w_1.T @ w_2.T
        losses.append((r**2).sum() / 10)
        w_1, w_2 = w_1 + 0.3 * w_2.T @ r.T @ x / 5, w_2 + 0.3 * r.T @ x @ w_1.T / 5
    trained, records = dynamics.weight_descent(
        pctheory.loss, SMALL.net, (xs, ys), optax.sgd(0.3), record=pctheory.loss
    )
    np.testing.assert_allclose(records, losses, rtol=1e-12)
    np.testing.assert_allclose(trained.weights[0], w_1, rtol=1e-12)
    np.testing.assert_allclose(trained.weights[1], w_2, rtol=1e-12)


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_learning_by_an_optimiser_is_its_definition(kind: str) -> None:
    xs, ys = batches_of(SMALL, 5)
    shapes = [w.shape for w in SMALL.weights]
    size = shapes[0][0] * shapes[0][1]
    path = [np.concatenate([w.ravel() for w in SMALL.weights])]

    def gradients() -> Iterator[np.ndarray]:
        for x, y in zip(xs, ys, strict=True):
            w_1, w_2 = path[-1][:size].reshape(shapes[0]), path[-1][size:].reshape(shapes[1])
            r = y - x @ w_1.T @ w_2.T
            yield -np.concatenate([(w_2.T @ r.T @ x / 5).ravel(), (r.T @ x @ w_1.T / 5).ravel()])

    for point in by_hand(kind, gradients(), path[0]):
        path.append(point)
    trained, _ = dynamics.weight_descent(pctheory.loss, SMALL.net, (xs, ys), OPTIMISERS[kind], record=pctheory.loss)
    np.testing.assert_allclose(np.concatenate([w.ravel() for w in trained.weights]), path[-1], rtol=1e-9)


class TanhNetwork(eqx.Module):
    """No linear network, with other weights: all that learning asks for."""

    weights: tuple[jax.Array, jax.Array]
    widths: tuple[int, ...] = eqx.field(static=True)

    def with_weights(self, weights: tuple[jax.Array, jax.Array]) -> "TanhNetwork":
        return TanhNetwork(weights, self.widths)

    def batch(self, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.asarray(x), jnp.asarray(y)


def tanh_loss(net: TanhNetwork, x: jax.Array, y: jax.Array) -> jax.Array:
    first, last = net.weights
    return jnp.mean((y - jnp.tanh(x @ first.T) @ last.T) ** 2)


def test_learning_takes_any_network_with_weights() -> None:
    first, last = (jnp.asarray(w) for w in SMALL.weights)
    xs, ys = batches_of(SMALL, 3)
    trained, losses = dynamics.weight_descent(
        tanh_loss, TanhNetwork((first, last), (3, 4, 2)), (xs, ys), optax.sgd(0.2), record=tanh_loss
    )
    for x, y, found in zip(xs, ys, losses, strict=True):
        hidden = np.tanh(x @ first.T)
        r = y - hidden @ last.T
        np.testing.assert_allclose(found, np.mean(r**2), rtol=1e-12)
        back = (r @ last) * (1 - hidden**2)
        first, last = first + 0.2 * 2 * back.T @ x / r.size, last + 0.2 * 2 * r.T @ hidden / r.size
    np.testing.assert_allclose(trained.weights[0], first, rtol=1e-11)
    np.testing.assert_allclose(trained.weights[1], last, rtol=1e-11)


@pytest.mark.parametrize("optimiser", OPTIMISERS.values(), ids=OPTIMISERS)
@pytest.mark.parametrize("objective", [pctheory.loss, pctheory.equilibrated_energy])
def test_weight_descent_is_a_loop(
    objective: Callable[..., jax.Array], optimiser: optax.GradientTransformation
) -> None:
    def record(net: LinearPCN, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return objective(net, x, y), net.weights[0]

    net, batches = GENERAL.net, batches_of(GENERAL, 3)
    trained, (values, firsts) = dynamics.weight_descent(objective, net, batches, optimiser, record=record)
    value_and_gradient = jax.jit(jax.value_and_grad(lambda w, x, y: objective(net.with_weights(w), x, y)))
    weights, state = net.weights, optimiser.init(net.weights)
    for t, batch in enumerate(zip(*batches, strict=True)):
        value, gradient = value_and_gradient(weights, *batch)
        np.testing.assert_allclose(values[t], value, rtol=1e-11)
        np.testing.assert_allclose(firsts[t], weights[0], rtol=1e-11)
        updates, state = optimiser.update(gradient, state, weights)
        weights = optax.apply_updates(weights, updates)
    for found, expected in zip(trained.weights, weights, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_the_local_rule_at_equilibrium_descends_the_equilibrated_energy() -> None:
    def rule(net: LinearPCN, x: jax.Array, y: jax.Array) -> tuple[Layers, jax.Array]:
        activities = pctheory.equilibrium(net, x, y).activities
        return pctheory.partial_weight_gradient(net, activities, x, y), pctheory.energy(net, activities, x, y)

    net, batches, sgd = GENERAL.net, batches_of(GENERAL, 4), optax.sgd(0.05)
    by_rule, reached = dynamics.weight_descent_by_rule(rule, net, batches, sgd)
    energy = pctheory.equilibrated_energy
    by_gradient, expected = dynamics.weight_descent(energy, net, batches, sgd, record=energy)
    np.testing.assert_allclose(reached, expected, rtol=1e-10)
    for found, wanted in zip(by_rule.weights, by_gradient.weights, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("steps", [2, 5])
def test_batches_start_over_and_may_stop_early(steps: int) -> None:
    sgd, (xs, ys), again = optax.sgd(0.1), batches_of(SMALL, 3), [0, 1, 2, 0, 1][:steps]
    written_out = xs[again], ys[again]
    _, wanted = dynamics.weight_descent(pctheory.loss, SMALL.net, written_out, sgd, record=pctheory.loss)
    _, found = dynamics.weight_descent(pctheory.loss, SMALL.net, (xs, ys), sgd, record=pctheory.loss, steps=steps)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_weight_descent_under_jit_and_vmap_over_seeds() -> None:
    stacked, nets = of_seeds(3)
    batches = np.ones((4, 2, 3)), np.ones((4, 2, 2))
    adam = optax.adam(0.01)

    def losses(net: LinearPCN) -> jax.Array:
        return dynamics.weight_descent(pctheory.equilibrated_energy, net, batches, adam, record=pctheory.loss)[1]

    np.testing.assert_allclose(jax.jit(jax.vmap(losses))(stacked), [losses(net) for net in nets], rtol=1e-9)


def test_learning_rates_can_be_mapped_over() -> None:
    batches = batches_of(SMALL, 4)

    def losses(rate: float | jax.Array) -> jax.Array:
        return dynamics.weight_descent(pctheory.loss, SMALL.net, batches, optax.sgd(rate), record=pctheory.loss)[1]

    rates = [0.01, 0.1]
    np.testing.assert_allclose(jax.vmap(losses)(jnp.array(rates)), [losses(r) for r in rates], rtol=1e-12)


def test_divergence_of_learning_is_returned_not_hidden() -> None:
    batches = SMALL.x[None], SMALL.y[None]
    trained, losses = dynamics.weight_descent(
        pctheory.loss, SMALL.net, batches, optax.sgd(1e6), record=pctheory.loss, steps=30
    )
    assert np.isfinite(losses[0])
    assert not np.isfinite(losses[-1])
    assert not np.isfinite(trained.weights[0]).all()


def test_weight_descent_compiles_once() -> None:
    traces = []

    def objective(net: LinearPCN, x: jax.Array, y: jax.Array) -> jax.Array:
        traces.append(net)
        return pctheory.loss(net, x, y)

    sgd, batches = optax.sgd(0.1), batches_of(SMALL, 2)
    dynamics.weight_descent(objective, SMALL.net, batches, sgd, record=pctheory.loss)
    first = len(traces)
    changed = LinearPCN([2 * w for w in SMALL.weights])
    dynamics.weight_descent(objective, changed, batches, sgd, record=pctheory.loss)
    assert len(traces) == first


# --- bad input ---

NET, X, Y = SMALL.net, SMALL.x, SMALL.y
XS, YS = batches_of(SMALL, 2)
FLOW = {"duration": 1.0, **LOOSE}


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0}, "rate is 0.0, expected a positive finite number"),
        ({"rate": -1.0}, "rate is -1.0"),
        ({"rate": np.inf}, "rate is inf"),
        ({"rate": np.nan}, "rate is nan"),
        ({"rate": np.ones(2)}, r"rate is a ndarray of shape \(2,\), expected a number"),
        ({"steps": 0}, "steps is 0, expected a whole number of at least 1"),
        ({"steps": 2.0}, "steps is 2.0, expected a whole number"),
        ({"steps": True}, "steps is True, expected a whole number"),
        ({"start": [np.ones((4, 3))]}, r"start, layer 1 has shape \(4, 3\), expected \(4, 4\)"),
        ({"x": X[:3]}, "x has 3 rows and y has 4"),
        ({"rate": None}, "rate and optimiser: neither is given, expected one of them"),
        ({"optimiser": optax.sgd(0.1)}, "rate and optimiser: both are given, expected one of them"),
    ],
)
def test_inference_descent_refuses(options: dict, message: str) -> None:
    arguments = {"x": X, "y": Y, "rate": 0.1, "steps": 2, **options}
    with pytest.raises((TypeError, ValueError), match=message):
        dynamics.inference_descent(NET, **arguments)


@pytest.mark.usefixtures("no_shape_checks")
def test_inference_descent_refuses_what_is_no_optimiser() -> None:
    with pytest.raises(TypeError, match=r"optimiser is 0.1, expected one of optax, such as optax.sgd\(0.1\)"):
        dynamics.inference_descent(NET, X, Y, optimiser=0.1, steps=2)


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"duration": 0.0}, "duration is 0.0, expected a positive finite number"),
        ({"duration": np.inf}, "duration is inf"),
        ({"relative_tolerance": 0.0}, "relative_tolerance is 0.0"),
        ({"absolute_tolerance": np.nan}, "absolute_tolerance is nan"),
        ({"max_steps": 0}, "max_steps is 0, expected a whole number"),
    ],
)
def test_inference_flow_refuses(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dynamics.inference_flow(NET, X, Y, **{**FLOW, **options})


def test_inference_needs_hidden_layers() -> None:
    net = pctheory.standard((3, 2), seed=0)
    with pytest.raises(ValueError, match="inference_descent: a network of depth 1 has no hidden layers; add one"):
        dynamics.inference_descent(net, X, Y, rate=0.1, steps=1)
    with pytest.raises(ValueError, match="inference_flow: a network of depth 1 has no hidden layers; add one"):
        dynamics.inference_flow(net, X, Y, **FLOW)


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batches": (X, Y)}, ValueError, r"batches, xs has shape \(4, 3\), expected 3 axes"),
        ({"batches": (XS, YS[:1])}, ValueError, r"xs has shape \(2, 5, 3\) and ys \(1, 5, 2\), expected"),
        ({"batches": (XS, YS[:, :4])}, ValueError, r"ys \(2, 4, 2\), expected"),
        ({"batches": (YS, XS)}, ValueError, "N_0 = 3 and N_L = 2 columns"),
        ({"batches": (XS * np.nan, YS)}, ValueError, "batches, xs holds nan"),
        ({"batches": (XS[:0], YS[:0])}, ValueError, "batches, xs is empty"),
        ({"batches": (XS.astype(np.float32), YS)}, TypeError, "batches, xs has dtype float32"),
        ({"batches": np.ones((2, 2, 5, 3))}, TypeError, r"batches is a ndarray, expected \(xs, ys\)"),
        ({"optimiser": 0.1}, TypeError, "optimiser is 0.1, expected one of optax, such as optax.sgd"),
        ({"objective": None}, TypeError, "objective is None, expected a function"),
        ({"record": None}, TypeError, "record is None, expected a function"),
        ({"objective": lambda net, x, y: x[0]}, ValueError, r"objective returns shape \(3,\), expected a number"),
        ({"steps": 0}, ValueError, "steps is 0, expected a whole number of at least 1"),
    ],
)
def test_weight_descent_refuses(options: dict, error: type[Exception], message: str) -> None:
    usual = {"objective": pctheory.loss, "batches": (XS, YS), "optimiser": optax.sgd(0.1), "record": pctheory.loss}
    with pytest.raises(error, match=message):
        dynamics.weight_descent(net=NET, **{**usual, **options})
