"""Learning at the exact equilibrium, its records, snapshots and divergence, against oracles and plain loops."""

from collections.abc import Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

import pctheory
from pctheory import LinearPCN, dynamics
from pctheory.claims import TOLERANCE, scaled_error

from . import oracles
from .cases import CASES, FEW, Case, case

SMALL = next(case for case in CASES if case.name == "one hidden layer")
ADAM = optax.adam(0.05)


@pytest.fixture(params=[*FEW, CASES[0]], ids=lambda case: case.name)
def given(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def no_shape_checks() -> Iterator[None]:
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def batches_of(case: Case, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    return rng.normal(size=(count, 5, case.widths[0])), rng.normal(size=(count, 5, case.widths[-1]))


def loss_gradient(case: Case) -> list[np.ndarray]:
    r, below = oracles.residual(case), [case.x, *oracles.feedforward(case)]
    forces = [r @ p for p in oracles.output_maps(case)]
    return [-a * f.T @ m / len(r) for a, f, m in zip(case.scalings, forces, below[:-1], strict=True)]


def with_network(case: Case, net: LinearPCN) -> Case:
    return replace(case, weights=[np.asarray(w) for w in net.weights])


# --- the rules and their record ---


def test_records_are_their_definitions(given: Case) -> None:
    hidden = oracles.equilibrium(given)
    of_energy, of_loss = oracles.partial_weight_gradient(given, hidden), loss_gradient(given)
    scale, condition = oracles.scale(given, hidden), oracles.condition(given)
    for rule, expected in ((dynamics.equilibrium_rule, of_energy), (dynamics.backpropagation_rule, of_loss)):
        direction, found = rule(given.net, given.x, given.y)
        sizes = max(1.0, *(np.abs(m).max() for m in given.maps)) ** given.depth
        assert (
            scaled_error(oracles.flat(direction), oracles.flat(expected), scale=sizes * scale, condition=condition)
            <= TOLERANCE
        )
        assert scaled_error(found.loss, oracles.loss(given), scale=scale) <= TOLERANCE
        assert (
            scaled_error(found.energy, oracles.energy(given, hidden), scale=scale, condition=condition) <= TOLERANCE
        )
        np.testing.assert_allclose(found.energy_ratio, found.loss / found.energy)
        trace = np.trace(oracles.rescaling(given)) / given.widths[-1]
        np.testing.assert_allclose(found.mean_rescaling, trace, rtol=1e-12)
        means = [np.mean(z**2) for z in oracles.feedforward(given)]
        np.testing.assert_allclose(found.forward, means, rtol=1e-11, atol=1e-12 * scale)
        np.testing.assert_allclose(found.settled, [np.mean(z**2) for z in hidden], rtol=1e-9, atol=1e-12 * scale)
        one, other = oracles.flat(of_energy), oracles.flat(of_loss)
        cosine = one @ other / np.sqrt((one @ one) * (other @ other))
        np.testing.assert_allclose(found.alignment, cosine, rtol=1e-9)


def test_ratio_lies_between_the_eigenvalues_of_the_rescaling() -> None:
    for seed in range(20):
        made = case("", (3, 5, 5, 4), seed=seed, skips=True)
        record = dynamics.equilibrium_rule(made.net, made.x, made.y)[1]
        eigenvalues = np.linalg.eigvalsh(oracles.rescaling(made))
        assert eigenvalues[0] <= record.energy_ratio <= eigenvalues[-1]
        np.testing.assert_allclose(record.mean_rescaling, eigenvalues.mean(), rtol=1e-12)


def test_gradients_of_a_network_without_hidden_layer_are_aligned() -> None:
    made = CASES[0]
    record = dynamics.equilibrium_rule(replace(made, precisions=np.ones(1)).net, made.x, made.y)[1]
    np.testing.assert_allclose([record.alignment, record.energy_ratio, record.mean_rescaling], 1.0, rtol=1e-14)
    assert record.settled.shape == (0,)


def test_alignment_survives_gradients_whose_squares_overflow() -> None:
    x, y = np.array([[1.0]]), np.array([[1e200]])
    record = dynamics.backpropagation_rule(LinearPCN([np.ones((1, 1))] * 3), x, y)[1]
    assert not np.isfinite(record.loss)
    made = case("", (1, 1, 1, 1), seed=5)
    small, large = (
        dynamics.equilibrium_rule(made.net, size * made.x, size * made.y)[1].alignment for size in (1.0, 1e100)
    )
    np.testing.assert_allclose(large, small, rtol=1e-12)


def test_alignment_with_no_gradient_is_undefined() -> None:
    record = dynamics.equilibrium_rule(SMALL.net, SMALL.x, 0 * SMALL.y + oracles.feedforward(SMALL)[-1])[1]
    assert record.energy < 1e-25
    zero = dynamics.equilibrium_rule(LinearPCN([np.zeros((2, 3))]), SMALL.x, 0 * SMALL.y)[1]
    assert np.isnan(zero.alignment)


@pytest.mark.parametrize("hidden", [60, pytest.param(500, marks=pytest.mark.slow)])
def test_a_batch_of_one_and_many_layers(hidden: int) -> None:
    net = pctheory.mupc((3, *(4,) * hidden, 2), seed=0)
    x, y = np.ones((1, 3)), np.ones((1, 2))
    record = dynamics.equilibrium_rule(net, x, y)[1]
    np.testing.assert_allclose(record.energy, pctheory.equilibrated_energy(net, x, y), rtol=1e-12)
    np.testing.assert_allclose(record.mean_rescaling, np.trace(pctheory.rescaling(net)) / 2, rtol=1e-12)
    assert record.forward.shape == (hidden + 1,)
    gradient = jax.grad(lambda w: pctheory.loss(net.with_weights(w), x, y))(net.weights)
    found = dynamics.backpropagation_rule(net, x, y)[0]
    for one, other in zip(found.runs, gradient.runs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-14)


# --- snapshots ---


def test_snapshots_are_the_networks_on_the_way() -> None:
    def rule(net: LinearPCN, x: jax.Array, y: jax.Array) -> tuple[pctheory.Layers, pctheory.Layers]:
        return pctheory.equilibrated_gradient(net, x, y), net.weights

    net, batches, at = SMALL.net, batches_of(SMALL, 3), (0, 1, 4, 7)
    run = dynamics.weight_descent_snapshots(rule, net, batches, ADAM, at=at, steps=7)
    whole, passed = dynamics.weight_descent_by_rule(rule, net, batches, ADAM, steps=7)
    np.testing.assert_array_equal(run.snapshots.steps, at)
    assert len(run.snapshots) == 4
    for t, kept in zip(at, run.snapshots, strict=True):
        expected = jax.tree.map(lambda w, t=t: w[t], passed) if t < 7 else whole.weights
        for found, wanted in zip(kept.weights, expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-12)
        np.testing.assert_array_equal(kept.scalings, net.scalings)
    for found, wanted in zip(jax.tree.leaves(run.records), jax.tree.leaves(passed), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
    for found, wanted in zip(run.net.weights, whole.weights, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_records_belong_to_the_snapshot_before_the_update() -> None:
    (xs, ys), at = batches_of(SMALL, 3), (1, 2)
    run = dynamics.weight_descent_snapshots(dynamics.equilibrium_rule, SMALL.net, (xs, ys), ADAM, at=at)
    for t, kept in zip(at, run.snapshots, strict=True):
        own = replace(with_network(SMALL, kept), x=xs[t], y=ys[t])
        np.testing.assert_allclose(run.records.loss[t], oracles.loss(own), rtol=1e-12)
        assert abs(run.records.loss[t] - oracles.loss(replace(own, x=xs[t - 1], y=ys[t - 1]))) > 1e-3


def test_other_snapshots_of_the_same_number_do_not_compile_again() -> None:
    traces = []

    def rule(net: LinearPCN, x: jax.Array, y: jax.Array) -> tuple[pctheory.Layers, jax.Array]:
        traces.append(net)
        return pctheory.equilibrated_gradient(net, x, y), pctheory.loss(net, x, y)

    batches = batches_of(SMALL, 4)
    dynamics.weight_descent_snapshots(rule, SMALL.net, batches, ADAM, at=(0, 3))
    first = len(traces)
    dynamics.weight_descent_snapshots(rule, SMALL.net, batches, ADAM, at=(1, 4))
    assert len(traces) == first


def test_seeds_and_rates_at_once_and_one_run_that_diverges() -> None:
    batches, rates = batches_of(SMALL, 3), jnp.array([0.05, 1e8, 0.1])

    def run(rate: jax.Array) -> dynamics.WeightDescent:
        rule, sgd = dynamics.backpropagation_rule, optax.sgd(rate)
        return dynamics.weight_descent_snapshots(rule, SMALL.net, batches, sgd, at=(0, 12), steps=12)

    found = jax.jit(lambda rates: jax.lax.map(run, rates))(rates)
    mapped = jax.jit(jax.vmap(run))(rates)
    one_by_one = jax.jit(run)
    for i, rate in enumerate(rates):
        alone = one_by_one(rate)
        np.testing.assert_allclose(found.records.loss[i], alone.records.loss, rtol=1e-9)
        np.testing.assert_allclose(mapped.records.loss[i], alone.records.loss, rtol=1e-9)
        kept = jax.tree.map(lambda leaf, i=i: leaf[i], found.snapshots)
        np.testing.assert_allclose(kept[1].weights[0], alone.net.weights[0], rtol=1e-9)
    steps = jax.vmap(dynamics.divergence_step)(found.records)
    losses = np.asarray(found.records.loss[1])
    assert list(np.isfinite(steps)) == [False, True, False]
    assert 0 < steps[1] <= np.flatnonzero(~np.isfinite(losses))[0] < 12


@drawn(st.lists(st.tuples(st.floats(), st.floats()), min_size=1, max_size=9))
@settings(max_examples=200, deadline=None)
def test_divergence_step_is_a_loop(rows: list[tuple[float, float]]) -> None:
    table = np.array(rows)
    expected = next((t for t, row in enumerate(rows) if not np.isfinite(row).all()), np.inf)
    assert dynamics.divergence_step({"a": table[:, 0], "b": table[:, None, 1:]}) == expected


# --- bad input ---

XS, YS = batches_of(SMALL, 2)


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"at": ()}, ValueError, r"at is \[\], expected at least one step, increasing, from 0 to steps = 2"),
        ({"at": (0, 3)}, ValueError, r"at is \[0, 3\], expected .* from 0 to steps = 2"),
        ({"at": (1, 1)}, ValueError, r"at is \[1, 1\], expected .* increasing"),
        ({"at": (-1, 1)}, ValueError, r"at is \[-1, 1\]"),
        ({"at": (0.5,)}, ValueError, "at holds 0.5, expected whole numbers"),
        ({"at": (True,)}, ValueError, "at holds True, expected whole numbers"),
        ({"steps": 0}, ValueError, "steps is 0, expected a whole number of at least 1"),
        ({"optimiser": 0.1}, TypeError, "optimiser is 0.1, expected one of optax"),
        ({"rule": None}, TypeError, "rule is None, expected a function"),
        ({"batches": XS}, TypeError, r"batches is a ndarray, expected \(xs, ys\)"),
        ({"batches": (XS, YS[:, :2])}, ValueError, "batches: xs has shape"),
        ({"batches": (np.nan * XS, YS)}, ValueError, "batches, xs holds nan"),
    ],
)
def test_snapshots_refuse(options: dict, error: type[Exception], message: str) -> None:
    usual = {"rule": dynamics.equilibrium_rule, "batches": (XS, YS), "optimiser": ADAM, "at": (0, 1)}
    with pytest.raises(error, match=message):
        dynamics.weight_descent_snapshots(net=SMALL.net, **{**usual, **options})


@pytest.mark.parametrize("records", [(), {"a": 1.0}, (np.ones(3), np.ones(2)), np.ones((0, 2))])
def test_divergence_of_no_records_is_refused(records: object) -> None:
    with pytest.raises(ValueError, match="expected arrays with a common leading axis of at least one step"):
        dynamics.divergence_step(records)
