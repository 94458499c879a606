"""Gradient flow on the weights and escape times against SciPy's solvers, quadrature and plain loops."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp

import pctheory
from pctheory import LinearPCN, dynamics

from . import oracles
from .cases import CASES, Case
from .test_dynamics import TanhNetwork, tanh_loss

SMALL = next(case for case in CASES if case.name == "one hidden layer")
GENERAL = next(case for case in CASES if case.name == "everything, depth 6")
NET, X, Y = SMALL.net, SMALL.x, SMALL.y
ONE = np.ones((1, 1))
TIGHT = {"relative_tolerance": 1e-9, "absolute_tolerance": 1e-11}
# the tolerance of a step, 1e-9, times at most some hundred steps
CLOSE = {"rtol": 1e-7, "atol": 1e-9}


@pytest.fixture
def no_shape_checks() -> Iterator[None]:
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def chain(depth: int, start: float | jax.Array) -> LinearPCN:
    return LinearPCN(list(start * jnp.ones((depth, 1, 1))))


def gradient(given: Case) -> list[np.ndarray]:
    """dF*/dW_l by the local rule at the dense equilibrium."""
    return oracles.partial_weight_gradient(given, oracles.equilibrium(given))


def loss_gradient(given: Case) -> list[np.ndarray]:
    r, below = oracles.residual(given), [given.x, *oracles.feedforward(given)]
    maps = zip(given.scalings, oracles.output_maps(given), below[:-1], strict=True)
    return [-a * (r @ p).T @ z / len(r) for a, p, z in maps]


def at(given: Case, vector: np.ndarray) -> Case:
    stops = np.cumsum([0, *(w.size for w in given.weights)])
    parts = zip(stops[:-1], stops[1:], given.weights, strict=True)
    return replace(given, weights=[vector[i:j].reshape(w.shape) for i, j, w in parts])


# --- gradient flow ---


@pytest.mark.parametrize("given", [SMALL, GENERAL], ids=lambda given: given.name)
@pytest.mark.parametrize(
    ("objective", "slopes"),
    [(pctheory.loss, loss_gradient), (pctheory.equilibrated_energy, gradient)],
    ids=["loss", "energy"],
)
def test_flow_against_scipy(given: Case, objective: Callable, slopes: Callable) -> None:
    def record(net: LinearPCN, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return objective(net, x, y), jnp.concatenate([w.ravel() for w in net.weights])

    times = np.array([0.0, 0.3, 1.0, 2.5])
    flow = dynamics.weight_flow(objective, given.net, given.x, given.y, times=times, record=record, **TIGHT)
    values, weights = flow.records
    twin = solve_ivp(
        lambda _, w: -oracles.flat(slopes(at(given, w))),
        (0.0, 2.5),
        oracles.flat(given.weights),
        "DOP853",
        t_eval=times,
        rtol=1e-10,
        atol=1e-12,
    )
    np.testing.assert_allclose(weights, twin.y.T, **CLOSE)
    np.testing.assert_array_equal(np.concatenate([w.ravel() for w in flow.net.weights]), weights[-1])
    ends = [at(given, w) for w in twin.y.T]
    energies = {
        pctheory.loss: oracles.loss,
        pctheory.equilibrated_energy: lambda end: oracles.energy(end, oracles.equilibrium(end)),
    }
    np.testing.assert_allclose(values, [energies[objective](end) for end in ends], **CLOSE)
    assert (np.diff(values) < 0).all()
    assert 0 < flow.steps < 1000


def test_flow_of_any_network_with_weights() -> None:
    first, last = (jnp.asarray(w) for w in SMALL.weights)
    net = TanhNetwork((first, last), (3, 4, 2))
    flow = dynamics.weight_flow(tanh_loss, net, X, Y, times=[0.0, 0.01, 0.02], record=tanh_loss, **TIGHT)
    slopes = jax.grad(lambda weights: tanh_loss(net.with_weights(weights), X, Y))(net.weights)
    steepness = sum(np.sum(g**2) for g in slopes)  # d loss / dt = -|gradient|^2
    rate = (-3 * flow.records[0] + 4 * flow.records[1] - flow.records[2]) / 0.02
    np.testing.assert_allclose(rate, -steepness, rtol=1e-3)  # a difference of second order


def test_flow_seen_at_the_start_only() -> None:
    flow = dynamics.weight_flow(pctheory.loss, NET, X, Y, times=[0.0], record=pctheory.loss, **TIGHT)
    np.testing.assert_allclose(flow.records, [oracles.loss(SMALL)], rtol=1e-14)
    np.testing.assert_array_equal(flow.net.weights[1], SMALL.weights[1])


def test_flow_that_runs_out_of_steps_is_refused() -> None:
    def flow(net: LinearPCN) -> dynamics.WeightFlow:
        return dynamics.weight_flow(
            pctheory.loss, net, X, Y, times=[0.0, 50.0], record=pctheory.loss, max_steps=4, **TIGHT
        )

    with pytest.raises(RuntimeError, match=r"weight_flow: 4 steps did not reach time 50.0; raise max_steps"):
        flow(NET)
    found = jax.jit(flow)(NET)
    np.testing.assert_allclose(found.records[0], oracles.loss(SMALL))  # the start was reached
    assert np.isnan(found.records[1])
    assert np.isnan(found.net.weights[0]).all()


def test_flow_whose_record_is_not_finite_is_refused() -> None:
    with pytest.raises(FloatingPointError, match="weight_flow: the result holds inf"):
        dynamics.weight_flow(pctheory.loss, NET, X, Y, times=[0.0, 1.0], record=lambda net, x, y: jnp.inf, **TIGHT)


# --- escape times ---


def test_escape_time_of_flow_is_the_integral() -> None:
    for start in (0.2, 0.05):
        half = (1 - start**3) ** 2 / 4
        end = (1 - np.sqrt(2 * half)) ** (1 / 3)
        expected = quad(lambda w: 1 / (w**2 * (1 - w**3)), start, end)[0]
        found = dynamics.escape_time_of_flow(
            pctheory.loss, chain(3, start), ONE, ONE, quantity=pctheory.loss, threshold=half, **TIGHT
        )
        np.testing.assert_allclose(found, expected, **CLOSE)


def test_escape_time_of_flow_is_where_its_records_cross() -> None:
    def output(net: LinearPCN, x: jax.Array, y: jax.Array) -> jax.Array:
        return -pctheory.feedforward(net, x)[-1][0, 0]  # it rises

    net, energy = chain(3, 0.3), pctheory.equilibrated_energy
    time = dynamics.escape_time_of_flow(energy, net, ONE, ONE, quantity=output, threshold=-0.4, **TIGHT)
    times = np.linspace(0.0, 2 * float(time), 4001)
    records = dynamics.weight_flow(energy, net, ONE, ONE, times=times, record=output, **TIGHT).records
    between = dynamics.escape_time(times, records, threshold=-0.4)
    np.testing.assert_allclose(between, time, rtol=1e-5)  # straight lines over 1/4000 of the time


def test_a_quantity_below_the_threshold_at_once_escapes_at_once() -> None:
    options = {"quantity": pctheory.loss, "threshold": 10.0, **TIGHT}
    assert dynamics.escape_time_of_flow(pctheory.loss, chain(3, 0.3), ONE, ONE, **options) == 0


def test_a_flow_that_does_not_escape_is_refused() -> None:
    def escape(net: LinearPCN) -> jax.Array:
        options = {"quantity": pctheory.loss, "threshold": -1.0, "max_steps": 40, **TIGHT}
        return dynamics.escape_time_of_flow(pctheory.loss, net, ONE, ONE, **options)

    message = r"quantity is 0\.\d+ after 40 steps, at time [\d.]+, above the threshold -1; raise max_steps or"
    with pytest.raises(RuntimeError, match=message):
        escape(chain(3, 0.3))
    assert np.isnan(jax.jit(escape)(chain(3, 0.3)))


def test_escape_times_of_many_starts_at_once() -> None:
    def escape(start: jax.Array) -> jax.Array:
        options = {"quantity": pctheory.loss, "threshold": 0.25, **TIGHT}
        return dynamics.escape_time_of_flow(pctheory.loss, chain(2, start), ONE, ONE, **options)

    starts = jnp.array([0.9, 0.1, 0.3])
    np.testing.assert_allclose(jax.jit(jax.vmap(escape))(starts), [escape(start) for start in starts], **CLOSE)


@drawn(st.lists(st.floats(-3, 3), min_size=1, max_size=12), st.floats(-2, 2), st.integers(0, 100))
@settings(max_examples=200, deadline=None)
def test_escape_time_of_records_is_a_loop(values: list[float], threshold: float, seed: int) -> None:
    times = np.cumsum(np.random.default_rng(seed).uniform(0.1, 2.0, len(values)))
    found = dynamics.escape_time(times, values, threshold=threshold)
    expected = np.inf
    for i, (time, value) in enumerate(zip(times, values, strict=True)):
        if value <= threshold:
            expected = time if i == 0 else np.interp(-threshold, [-values[i - 1], -value], times[i - 1 : i + 1])
            break
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_records_after_the_escape_may_diverge() -> None:
    assert dynamics.escape_time([0.0, 1.0, 2.0], [3.0, 1.0, np.inf], threshold=2.0) == 0.5


# --- bad input ---


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"times": [1.0, 0.5]}, ValueError, "expected increasing numbers of at least 0; sort them"),
        ({"times": [-1.0, 0.5]}, ValueError, "expected increasing numbers of at least 0"),
        ({"times": 1.0}, ValueError, r"times has shape \(\), expected 1 axes"),
        ({"times": [np.nan]}, ValueError, "times holds nan"),
        ({"relative_tolerance": 0.0}, ValueError, "relative_tolerance is 0.0, expected a positive finite number"),
        ({"absolute_tolerance": -1.0}, ValueError, "absolute_tolerance is -1.0"),
        ({"max_steps": 0}, ValueError, "max_steps is 0, expected a whole number of at least 1"),
        ({"objective": None}, TypeError, "objective is None, expected a function"),
        ({"record": 3}, TypeError, "record is 3, expected a function"),
        ({"objective": lambda net, x, y: x[0]}, ValueError, r"objective returns shape \(3,\), expected a number"),
        ({"x": X[:3]}, ValueError, "x has 3 rows and y has 4"),
    ],
)
def test_weight_flow_refuses(options: dict, error: type[Exception], message: str) -> None:
    usual = {"objective": pctheory.loss, "x": X, "y": Y, "times": [1.0], "record": pctheory.loss, **TIGHT}
    with pytest.raises(error, match=message):
        dynamics.weight_flow(net=NET, **{**usual, **options})


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"threshold": np.nan}, ValueError, "threshold holds nan"),
        ({"threshold": np.ones(2)}, TypeError, r"threshold is a ndarray of shape \(2,\), expected a number"),
        ({"quantity": None}, TypeError, "quantity is None, expected a function"),
        ({"max_steps": 2.5}, ValueError, "max_steps is 2.5, expected a whole number"),
    ],
)
def test_escape_time_of_flow_refuses(options: dict, error: type[Exception], message: str) -> None:
    usual = {"quantity": pctheory.loss, "threshold": 0.1, **TIGHT}
    with pytest.raises(error, match=message):
        dynamics.escape_time_of_flow(pctheory.loss, NET, X, Y, **{**usual, **options})


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("times", "values", "threshold", "message"),
    [
        ([0.0, 1.0], [1.0], 0.5, r"values has shape \(1,\), expected \(2,\): one for each time"),
        ([0.0, 0.0], [1.0, 0.0], 0.5, "expected increasing numbers"),
        ([0.0, 1.0], [1.0, 0.0], np.nan, "threshold is nan, expected a finite number"),
        ([0.0, 1.0, 2.0], [1.0, np.nan, 0.0], 0.5, "values holds nan before it crosses; the run diverged"),
        ([0.0, 1.0, 2.0], [1.0, np.inf, 3.0], 0.5, "values holds inf before it crosses; the run diverged"),
        ([0.0, 1.0], [1.0, -np.inf], 0.5, "values holds -inf before it crosses"),
    ],
)
def test_escape_time_refuses(times: list, values: list, threshold: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dynamics.escape_time(times, values, threshold=threshold)
