"""Trust regions against autodiff of the energy written out, dense solves, and SciPy's sub-problem solvers."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from scipy.linalg import eigh
from scipy.optimize import minimize
from scipy.optimize._trustregion_exact import IterativeSubproblem
from scipy.optimize._trustregion_ncg import CGSteihaugSubproblem
from scipy.sparse.linalg import aslinearoperator

import pctheory
from pctheory import nonlinear, trust_region
from pctheory.claims import TOLERANCE, scaled_error
from pctheory.nonlinear import NonlinearPCN
from pctheory.trust_region.activities import identity
from tests import oracles
from tests.cases import CASES, FEW, Case, case

HIDDEN = [made for made in CASES if made.depth > 1]
SHAPES = [FEW[0], *FEW[2:5]]  # JAX compiles each anew
names = pytest.mark.parametrize("made", SHAPES, ids=lambda made: made.name)


def nonlinear_net(made: Case, activation: Callable[[Any], Any] = jnp.tanh) -> NonlinearPCN:
    return NonlinearPCN(made.net, activation)


def activities(made: Case, seed: int = 0) -> np.ndarray:
    """Hidden activities of every example, away from the feedforward ones, one row each."""
    return np.random.default_rng(seed).standard_normal((len(made.x), sum(made.widths[1:-1])))


def layers(made: Case, vectors: np.ndarray) -> list[np.ndarray]:
    return np.split(np.asarray(vectors), np.cumsum(made.widths[1:-2]), axis=1)


def feedforward_vector(net: NonlinearPCN, made: Case) -> np.ndarray:
    hidden = nonlinear.feedforward(net, made.x).without_last()
    return np.asarray(trust_region.activity_vectors(hidden))


# --- the slow twins: one example, every layer written out ---


def plain_forces(made: Case, z: np.ndarray, b: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Example b with tanh: pi_l e_l of all layers, the derivative of the stacked e, and sum_l pi_l e_l . d2f_l."""
    stops = np.cumsum([0, *made.widths[1:]])
    hidden = stops[-2]
    chain = [made.x[b], *np.split(z, stops[1:-2]), made.y[b]]
    errors, jacobian, bend = [], np.eye(stops[-1])[:, :hidden], np.zeros(hidden)
    for l, (w, a, s, c) in enumerate(zip(made.weights, made.scalings, made.skips, made.biases, strict=True)):
        seen = np.tanh(chain[l]) if l else chain[l]
        e = chain[l + 1] - a * w @ seen - (s * chain[l] if s else 0) - c
        errors.append(made.precisions[l] * e)
        if l:
            slope = 1 - seen**2
            rows, columns = slice(stops[l], stops[l + 1]), slice(stops[l - 1], stops[l])
            jacobian[rows, columns] = -(a * w * slope + (s * np.eye(*w.shape) if s else 0))
            bend[columns] = -2 * seen * slope * (a * w.T @ errors[-1])
    return np.concatenate(errors), jacobian, bend


def plain_energy(made: Case, z: np.ndarray, b: int) -> float:
    force, _, _ = plain_forces(made, z, b)
    return float(force**2 @ (1 / np.repeat(made.precisions, made.widths[1:]))) / 2


def plain_gradient(made: Case, z: np.ndarray, b: int) -> np.ndarray:
    force, jacobian, _ = plain_forces(made, z, b)
    return jacobian.T @ force


def plain_metric(made: Case, z: np.ndarray, b: int) -> np.ndarray:
    _, jacobian, _ = plain_forces(made, z, b)
    return (jacobian.T * np.repeat(made.precisions, made.widths[1:])) @ jacobian


def plain_hessian(made: Case, z: np.ndarray, b: int) -> np.ndarray:
    return plain_metric(made, z, b) - np.diag(plain_forces(made, z, b)[2])


def per_example(function: Callable[..., Any], made: Case, vectors: np.ndarray) -> np.ndarray:
    return np.stack([function(made, z, b) for b, z in enumerate(vectors)])


def test_the_twins_agree_among_themselves():
    made = FEW[4]
    z, step = activities(made)[0], 1e-6

    def difference(function: Callable[..., Any], unit: np.ndarray) -> Any:
        return (function(made, z + step * unit, 0) - function(made, z - step * unit, 0)) / (2 * step)

    units = np.eye(len(z))
    gradient, hessian = plain_gradient(made, z, 0), plain_hessian(made, z, 0)
    assert scaled_error([difference(plain_energy, u) for u in units], gradient) < 1e-8
    assert scaled_error(np.stack([difference(plain_gradient, u) for u in units]), hessian) < 1e-8


# --- the Fisher metric ---


@names
def test_metric_is_that_of_the_linearised_chain(made: Case):
    net, z = nonlinear_net(made), activities(made)
    metric = trust_region.fisher_metric(net, made.x, at=layers(made, z))
    expected = per_example(plain_metric, made, z)
    assert scaled_error(metric.dense(), expected) < TOLERANCE
    rows = activities(made, seed=1)
    vectors = layers(made, rows)
    product = trust_region.activity_vectors(metric.product(vectors))
    solved = trust_region.activity_vectors(metric.solve(vectors))
    assert scaled_error(product, np.einsum("bij,bj->bi", expected, rows)) < TOLERANCE
    condition = max(map(np.linalg.cond, expected))
    wanted = np.linalg.solve(expected, rows[:, :, None])[:, :, 0]
    assert scaled_error(solved, wanted, condition=condition) < TOLERANCE


@pytest.mark.parametrize("made", FEW, ids=lambda made: made.name)
def test_metric_of_a_linear_network_is_its_activity_hessian(made: Case):
    metric = trust_region.fisher_metric(made.net, made.x)
    dense = np.asarray(metric.dense())
    hessian, _ = oracles.linear_system(made)
    assert dense.shape == (1, *hessian.shape)  # one for all examples
    assert scaled_error(dense[0], hessian) < TOLERANCE
    rows = activities(made)
    solved = trust_region.activity_vectors(metric.solve(layers(made, rows)))
    wanted = np.linalg.solve(hessian, rows.T).T
    assert scaled_error(solved, wanted, condition=oracles.condition(made)) < TOLERANCE


@names
def test_target_part_is_what_the_output_layer_adds(made: Case):
    net = nonlinear_net(made)
    metric = trust_region.fisher_metric(net, made.x)
    part, n = np.asarray(metric.target_part()), made.widths[-2]
    own = made.precisions[-2] * np.eye(n)
    assert (
        scaled_error(part, metric.dense()[:, -n:, -n:] - own, scale=float(np.abs(part).max() + own.max()))
        < TOLERANCE
    )
    assert max(np.linalg.matrix_rank(part)) <= min(made.widths[-1], n)


# --- the Taylor model ---


@names
def test_model_is_that_of_the_energy_written_out(made: Case):
    net, z = nonlinear_net(made), activities(made)
    at = layers(made, z)
    model = trust_region.taylor_model(net, made.x, made.y, at=at)
    value = per_example(plain_energy, made, z)
    gradient = per_example(plain_gradient, made, z)
    hessian = per_example(plain_hessian, made, z)
    assert scaled_error(model.value, value) < TOLERANCE
    assert scaled_error(trust_region.activity_vectors(model.gradient), gradient) < TOLERANCE
    assert scaled_error(model.curvature.dense(), hessian) < TOLERANCE
    step = activities(made, seed=2)
    change = np.einsum("bi,bi->b", gradient, step) + np.einsum("bi,bij,bj->b", step, hessian, step) / 2
    scale = float(np.abs(value).max() + np.abs(change).max())
    assert scaled_error(model(layers(made, step)), value + change, scale=scale) < TOLERANCE
    assert scaled_error(model.predicted_reduction(layers(made, step)), -change, scale=scale) < TOLERANCE
    product = trust_region.activity_vectors(model.curvature.product(layers(made, step)))
    assert scaled_error(product, np.einsum("bij,bj->bi", hessian, step)) < TOLERANCE


def test_models_of_both_curvatures_differ_by_the_output_curvature():
    made = case("", (3, 4, 4, 2), seed=30, batch=3, precisions=True, biases=True)
    net = nonlinear_net(made)
    exact, fisher = (
        np.asarray(trust_region.taylor_model(net, made.x, made.y, curvature=c).curvature.dense())
        for c in ("hessian", "fisher")
    )
    last = feedforward_vector(net, made)[:, -4:]
    r = made.y - np.asarray(nonlinear.feedforward(net, made.x)[-1])
    slope = 1 - np.tanh(last) ** 2
    bend = -made.precisions[-1] * (r @ made.weights[-1]) * (-2 * np.tanh(last) * slope)
    expected = np.zeros_like(exact)
    expected[:, range(4, 8), range(4, 8)] = bend
    assert scaled_error(exact - fisher, expected, scale=float(np.abs(exact).max())) < TOLERANCE


# --- the inference step ---


@pytest.mark.parametrize("made", HIDDEN, ids=lambda made: made.name)
def test_inference_step_of_a_linear_network_ends_at_the_equilibrium(made: Case):
    found = trust_region.inference_step(made.net, made.x, made.y)
    start, end = oracles.feedforward(made)[:-1], oracles.equilibrium(made)
    scale = float(max(np.abs(z).max() for z in (*end, *start, made.y)))
    for step, z, z_star in zip(found.step, start, end, strict=True):
        assert scaled_error(step, z_star - z, scale=scale, condition=oracles.condition(made)) < TOLERANCE
    size = oracles.scale(made, end) * len(made.x)  # of one example at most
    assert scaled_error(found.predicted_reduction, found.actual_reduction, scale=size) < TOLERANCE
    drop = oracles.energy(made, start) - oracles.energy(made, end)
    assert scaled_error(np.mean(found.predicted_reduction), drop, scale=oracles.scale(made, end)) < TOLERANCE


@names
def test_inference_step_solves_the_linearised_chain(made: Case):
    """From any activities; the prediction of a nonlinear energy is not its fall."""
    net, z = nonlinear_net(made), activities(made)
    found = trust_region.inference_step(net, made.x, made.y, at=layers(made, z))
    metric = per_example(plain_metric, made, z)
    gradient = per_example(plain_gradient, made, z)
    wanted = -np.linalg.solve(metric, gradient[:, :, None])[:, :, 0]
    condition = max(map(np.linalg.cond, metric))
    assert scaled_error(trust_region.activity_vectors(found.step), wanted, condition=condition) < TOLERANCE
    assert scaled_error(found.predicted_reduction, -np.sum(gradient * wanted, axis=1) / 2) < 1e-11
    value = per_example(plain_energy, made, z)
    fall = value - per_example(plain_energy, made, z + wanted)
    assert scaled_error(found.actual_reduction, fall, scale=float(np.abs(value).max()) * 10) < TOLERANCE


def test_gauss_newton_iterations_find_the_equilibrium_of_a_nonlinear_network():
    made = case("", (3, 4, 4, 2), seed=31, batch=3)
    net = nonlinear_net(made)
    z = nonlinear.feedforward(net, made.x).without_last()
    for _ in range(30):
        z = jax.tree.map(jnp.add, z, trust_region.inference_step(net, made.x, made.y, at=z).step)
    end = nonlinear.inference_to_stationarity(net, made.x, made.y, tolerance=1e-13).activities
    assert scaled_error(z[0], end[0]) < 1e-9


# --- activities as vectors ---


def test_vectors_hold_the_layers_in_order():
    made = FEW[2]
    rows = activities(made)
    back = trust_region.activities_of(made.net, rows)
    for ours, wanted in zip(back, layers(made, rows), strict=True):
        np.testing.assert_array_equal(ours, wanted)
    np.testing.assert_array_equal(trust_region.activity_vectors(back), rows)


# --- the sub-problem ---


def random_problem(seed: int) -> tuple[np.ndarray, np.ndarray, float, np.ndarray | None]:
    """Gradient, hessian, radius and metric: definite, indefinite, (nearly) hard, repeated, zero, every other one
    with a metric."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 12))
    basis = np.linalg.qr(rng.standard_normal((n, n)))[0]
    values, gamma = rng.standard_normal(n) * 10 ** rng.uniform(-3, 3), rng.standard_normal(n)
    kind = seed % 7
    if kind == 0:
        values = np.abs(values)
    elif kind == 1:  # hard
        gamma[np.argmin(values)] = 0
    elif kind == 2:  # hard, on a repeated eigenvalue
        values[: min(n, 2)] = values.min()
        gamma[: min(n, 2)] = 0
    elif kind == 3:  # nearly hard
        gamma[np.argmin(values)] *= 1e-14
    elif kind == 4:  # linear
        values[:] = 0
    b = (basis * values) @ basis.T
    factor = rng.standard_normal((n, n))
    metric = factor @ factor.T + np.eye(n) if seed % 2 else None
    return basis @ gamma, (b + b.T) / 2, float(10 ** rng.uniform(-2, 2)), metric


def model_value(g: np.ndarray, b: np.ndarray, d: np.ndarray) -> float:
    return float(g @ d + d @ b @ d / 2)


@pytest.mark.parametrize("block", range(4))
def test_step_meets_the_conditions_of_a_global_minimum(block: int):
    for seed in range(150 * block, 150 * (block + 1)):
        g, b, radius, metric = random_problem(seed)
        found = trust_region.trust_region_step(g, b, radius, metric=metric)
        m = np.eye(len(g)) if metric is None else metric
        d, shifted = found.step, b + found.multiplier * m
        length = np.sqrt(d @ m @ d)
        size = np.abs(b).max() + found.multiplier * np.abs(m).max()
        assert np.abs(shifted @ d + g).max() <= 1e-12 * (np.abs(g).max() + size * np.abs(d).max()), seed
        assert found.multiplier >= 0
        assert eigh(shifted, m, eigvals_only=True)[0] >= -1e-12 * size
        assert length <= radius * (1 + 1e-12)
        assert found.on_boundary == (length >= radius * (1 - 1e-12))
        assert found.multiplier == 0 or found.on_boundary
        expected = -model_value(g, b, d)
        scale = abs(g @ d) + abs(d @ b @ d)
        assert abs(found.predicted_reduction - expected) <= 1e-12 * scale
        assert found.predicted_reduction >= 0


def test_hard_cases_are_told():
    b, g = np.diag([-1.0, 2.0, 3.0]), np.array([0.0, 1.0, 1.0])
    hard = trust_region.trust_region_step(g, b, 5.0)
    assert hard.hard_case
    np.testing.assert_allclose(hard.multiplier, 1.0, rtol=1e-14)
    np.testing.assert_allclose(np.abs(hard.step), [np.sqrt(25 - 1 / 9 - 1 / 16), 1 / 3, 1 / 4], rtol=1e-14)
    short = trust_region.trust_region_step(g, b, 0.1)  # the boundary is met before the hard case
    assert not short.hard_case
    assert short.multiplier > 1
    inside = trust_region.trust_region_step(g, np.diag([1.0, 2.0, 3.0]), 5.0)
    assert not inside.on_boundary
    np.testing.assert_allclose(inside.step, [0, -1 / 2, -1 / 3], atol=1e-15)


@pytest.mark.parametrize("size", [1e-290, 1e-150, 1e150, 1e290])
def test_extreme_sizes_change_nothing(size: float):
    g, b, _, _ = random_problem(8)
    first, second = (trust_region.trust_region_step(g * t, 0 * b, 1.0).step for t in (1.0, size))
    assert scaled_error(second, first) < TOLERANCE
    first, second = (trust_region.trust_region_step(g, 0 * b, t).step / t for t in (1.0, size))
    assert scaled_error(second, first) < TOLERANCE


@pytest.mark.parametrize("block", range(4))
def test_step_is_no_worse_than_scipys_and_the_same_where_that_is_exact(block: int):
    """trust-exact stops short of the boundary in hard cases, however small its tolerances."""
    compared = 0
    for seed in range(200 * block, 200 * (block + 1)):
        g, b, radius, metric = random_problem(seed)
        if metric is not None:
            continue
        found = trust_region.trust_region_step(g, b, radius)
        problem = IterativeSubproblem(
            np.zeros(len(g)), lambda x: 0.0, lambda x, g=g: g, lambda x, b=b: b, k_easy=1e-13, k_hard=1e-13
        )
        try:
            theirs, at_boundary = problem.solve(radius)
        except UnboundLocalError:  # a slip of SciPy's where its first multiplier is already exact
            continue
        reduction, length = -model_value(g, b, theirs), np.linalg.norm(theirs) / radius
        if length <= 1 + 1e-12:
            assert found.predicted_reduction >= reduction * (1 - 1e-10), seed
        if abs(length - 1) < 1e-9 if at_boundary else not found.on_boundary:
            compared += 1
            assert abs(found.predicted_reduction - reduction) <= 1e-8 * abs(reduction), seed
    assert compared > 50


@pytest.mark.parametrize("seed", range(0, 60, 2))
def test_step_is_that_of_trust_krylov(seed: int):
    g, b, radius, _ = random_problem(7 * seed + 6)
    b = b if seed % 4 else b + (1 - np.linalg.eigvalsh(b)[0]) * np.eye(len(g))
    options = {"initial_trust_radius": radius, "max_trust_radius": 2 * radius, "maxiter": 1, "inexact": False}
    theirs = minimize(
        partial(lambda g, b, d: model_value(g, b, d), g, b),
        np.zeros(len(g)),
        jac=lambda d: g + b @ d,
        hessp=lambda d, p: b @ p,
        method="trust-krylov",
        options=options,
    ).x
    found = trust_region.trust_region_step(g, b, radius)
    assert abs(found.predicted_reduction / -model_value(g, b, theirs) - 1) < 1e-8


# --- conjugate gradients ---


@pytest.mark.parametrize("seed", range(60))
def test_truncated_step_beside_the_exact_one(seed: int):
    g, b, radius, metric = random_problem(seed)
    inverse = None if metric is None else np.linalg.inv(metric)
    inverse = None if inverse is None else (inverse + inverse.T) / 2
    found = trust_region.truncated_step(g, aslinearoperator(b), radius, metric_inverse=inverse)
    exact = trust_region.trust_region_step(g, b, radius, metric=metric)
    m = np.eye(len(g)) if metric is None else metric
    length = np.sqrt(found.step @ m @ found.step)
    assert length <= radius * (1 + 1e-9)
    assert found.on_boundary == (abs(length - radius) < 1e-9 * radius)
    assert abs(found.predicted_reduction + model_value(g, b, found.step)) <= 1e-9 * abs(found.predicted_reduction)
    assert found.predicted_reduction <= exact.predicted_reduction * (1 + 1e-9)
    if np.linalg.eigvalsh(b)[0] >= 0:
        assert found.predicted_reduction >= exact.predicted_reduction / 2 * (1 - 1e-9)
    if not found.on_boundary and np.linalg.eigvalsh(b)[0] > 0:
        assert scaled_error(found.step, exact.step, condition=np.linalg.cond(b)) < 1e-9


@pytest.mark.parametrize("seed", [seed for seed in range(0, 40, 2) if random_problem(seed)[0].any()])
def test_truncated_step_is_that_of_trust_ncg(seed: int):
    g, b, radius, _ = random_problem(seed)
    problem = CGSteihaugSubproblem(np.zeros(len(g)), lambda x: 0.0, lambda x: g, lambda x: b)
    theirs, at_boundary = problem.solve(radius)
    # its tolerance is min(1/2, sqrt|g|) on the residual
    tolerance = min(0.5, np.sqrt(np.linalg.norm(g)))
    found = trust_region.truncated_step(g, b, radius, tolerance=tolerance)
    assert found.on_boundary == at_boundary
    assert scaled_error(found.step, theirs) < 1e-9


def test_fisher_metric_as_operators():
    """The least of the Taylor model in the metric's own ball, without a matrix: the inference step, shortened."""
    made = case("", (3, 6, 6, 2), seed=33, batch=1)
    net = nonlinear_net(made)
    model = trust_region.taylor_model(net, made.x, made.y, curvature="fisher")
    metric = model.curvature
    g = np.asarray(trust_region.activity_vectors(model.gradient)[0])
    curvature, inverse = (
        trust_region.activity_operator(net, product) for product in (metric.product, metric.solve)
    )
    full = np.asarray(trust_region.activity_vectors(trust_region.inference_step(net, made.x, made.y).step)[0])
    radius = 0.3 * np.sqrt(-g @ full)
    found = trust_region.truncated_step(g, curvature, radius, metric_inverse=inverse)
    assert scaled_error(found.step, 0.3 * full) < 1e-11
    assert found.products == 1
    dense = np.asarray(metric.dense()[0])
    exact = trust_region.trust_region_step(g, dense, radius, metric=dense)
    assert scaled_error(exact.step, 0.3 * full) < 1e-11


# --- the gradient's decomposition ---


def plain_errors(phi: Callable[[Any], Any], made: Case, weights: list[Any], z: Any, b: int) -> Any:
    """z_l - a_l W_l phi(z_{l-1}) - s_l z_{l-1} - c_l of example b in one vector, with no phi on the input."""
    chain = [made.x[b], *jnp.split(z, np.cumsum(made.widths[1:-2])), made.y[b]]
    seen = [chain[0], *map(phi, chain[1:-1])]
    parts = zip(weights, made.scalings, made.skips, made.biases, strict=True)
    return jnp.concatenate(
        [chain[l + 1] - a * (w @ seen[l]) - (s * chain[l] if s else 0) - c for l, (w, a, s, c) in enumerate(parts)]
    )


def plain_feedforward(phi: Callable[[Any], Any], made: Case, weights: list[Any], b: int) -> Any:
    """The hidden activities of example b in one vector."""
    z, signal, found = made.x[b], made.x[b], []
    parts = zip(weights, made.scalings, made.skips, made.biases, strict=True)
    for w, a, s, c in list(parts)[:-1]:
        z = a * (w @ signal) + (s * z if s else 0) + c
        signal = phi(z)
        found.append(z)
    return jnp.concatenate(found)


def plain_terms(phi: Any, made: Case, b: int) -> dict[str, np.ndarray]:
    """The terms of example b from their definitions, by autodiff and dense inverses."""
    precisions = np.repeat(made.precisions, made.widths[1:])
    weights = [jnp.asarray(w) for w in made.weights]

    def energy(weights: list[Any], z: Any) -> Any:
        return precisions @ plain_errors(phi, made, weights, z, b) ** 2 / 2

    def at_start(weights: list[Any]) -> Any:
        return plain_feedforward(phi, made, weights, b)

    def model(weights: list[Any]) -> tuple[Any, Any]:
        z = at_start(weights)
        jacobian = jax.jacfwd(lambda z: plain_errors(phi, made, weights, z, b))(z)
        g = jax.grad(energy, argnums=1)(weights, z)
        step = -jnp.linalg.solve((jacobian.T * precisions) @ jacobian, g)
        return energy(weights, z) + g @ step / 2, step

    local = jax.grad(energy)

    @jax.jit
    def terms(weights: list[Any]) -> dict[str, Any]:
        z, pull = jax.vjp(at_start, weights)
        slope, step = jax.grad(model, has_aux=True)(weights)
        return {
            "total": jax.grad(lambda w: energy(w, at_start(w)))(weights),
            "partial": local(weights, z),
            "propagated": pull(-step)[0],
            "mixed": jax.jvp(lambda h: local(weights, h), (z,), (step,))[1],
            "model": slope,
            "local": local(weights, z + step),
        }

    return {name: oracles.flat(parts) for name, parts in terms(weights).items()}


@pytest.mark.parametrize(
    ("made", "phi"),
    [(FEW[0], identity), (FEW[0], jnp.tanh), (FEW[2], jnp.tanh)],
    ids=["one hidden layer, linear", "one hidden layer, tanh", "unequal widths, tanh"],
)
def test_terms_of_the_decomposition(made: Case, phi: Any):
    net = made.net if phi is identity else nonlinear_net(made)
    made = replace(made, x=made.x[:1], y=made.y[:1])
    found = trust_region.gradient_decomposition(net, made.x, made.y)
    for name, expected in plain_terms(phi, made, 0).items():
        scale = max(float(np.abs(expected).max()), float(np.abs(found.total).max()))
        assert scaled_error(getattr(found, name), expected, scale=scale) < 1e-11, name
    assert tuple(found.readings) == trust_region.READINGS


def test_terms_are_means_over_the_examples():
    made = FEW[0]
    whole = trust_region.gradient_decomposition(made.net, made.x, made.y)
    parts = [
        trust_region.gradient_decomposition(made.net, x[None], y[None]) for x, y in zip(made.x, made.y, strict=True)
    ]
    for name in ("total", "partial", "propagated", "mixed", "model", "local"):
        expected = np.mean([getattr(part, name) for part in parts], axis=0)
        assert scaled_error(getattr(whole, name), expected) < TOLERANCE, name


# --- directions in weight space ---


def test_a_matrix_without_eigenvalues_in_doubles_is_named(monkeypatch):
    def failing(matrix: np.ndarray) -> None:
        raise np.linalg.LinAlgError("Eigenvalues did not converge")

    monkeypatch.setattr(np.linalg, "eigh", failing)
    with pytest.raises(FloatingPointError, match="the matrix of damped Newton has no eigenvalues in doubles"):
        trust_region.weight_directions(FEW[1].net, FEW[1].x, FEW[1].y)


def test_directions_from_their_formulas():
    made = case("", (2, 3, 2), seed=34, batch=3, precisions=True)

    def moments(vector: Any) -> tuple[Any, Any]:
        """Mean and covariance of the output, layer by layer."""
        z, s = made.x, jnp.zeros((2, 2))
        stops = np.cumsum([0, *(w.size for w in made.weights)])
        for l, (w, pi) in enumerate(zip(made.weights, made.precisions, strict=True)):
            a = vector[stops[l] : stops[l + 1]].reshape(w.shape)
            z, s = z @ a.T, np.eye(len(a)) / pi + a @ s @ a.T * (l > 0)
        return z, s

    def loss(vector: Any) -> Any:
        return jnp.mean(jnp.sum((made.y - moments(vector)[0]) ** 2, axis=1)) / 2

    def divergence(vector: Any, here: Any) -> Any:
        """Mean of KL(p(y given x) here, there), whose Hessian here is the Fisher information."""
        (mean, spread), (there, around) = moments(here), moments(vector)
        shift = there - mean
        quadratic = jnp.mean(jnp.sum(shift * jnp.linalg.solve(around, shift.T).T, axis=1))
        return (jnp.trace(jnp.linalg.solve(around, spread)) + quadratic + jnp.linalg.slogdet(around)[1]) / 2

    def predicted(vector: Any) -> Any:
        return moments(vector)[0]

    @jax.jit
    def matrices(vector: Any) -> Any:
        jacobian = jax.jacfwd(predicted)(vector)
        return jax.grad(loss)(vector), {
            "damped Newton": jax.hessian(loss)(vector),
            "Gauss-Newton": jnp.einsum("byi,byj->ij", jacobian, jacobian) / len(made.x),
            "natural gradient": jax.hessian(divergence)(vector, vector),
        }

    vector = pctheory.weight_vector(made.net)
    gradient, found_matrices = matrices(vector)
    gradient = np.asarray(gradient)
    found = trust_region.weight_directions(made.net, made.x, made.y, damping=2.0)
    for name, matrix in found_matrices.items():
        expected = -np.linalg.solve(matrix + 2 * np.eye(len(vector)), gradient)
        assert scaled_error(found[name], expected) < 1e-11, name
    assert scaled_error(found["gradient descent"], -gradient) < TOLERANCE
    pc = -pctheory.weight_gradient(pctheory.equilibrated_energy, made.net, made.x, made.y)
    assert scaled_error(found["predictive coding"], pc) < TOLERANCE
    assert scaled_error(found["trust region"], pc) < TOLERANCE
    angles = trust_region.cosines(found)
    np.testing.assert_allclose(np.diag(angles), 1, rtol=1e-14)
    expected = gradient @ pc / np.linalg.norm(gradient) / np.linalg.norm(pc)
    np.testing.assert_allclose(angles[0, 1], -expected, rtol=1e-12)


def test_predictive_coding_of_a_nonlinear_network_runs_inference_to_its_end():
    made = case("", (2, 3, 2), seed=35, batch=3)
    net = nonlinear_net(made)
    found = trust_region.weight_directions(net, made.x, made.y)
    step = 1e-5

    def least(weights: list[np.ndarray]) -> float:
        moved = NonlinearPCN(pctheory.LinearPCN(weights), jnp.tanh)
        return float(nonlinear.inference_to_stationarity(moved, made.x, made.y, tolerance=1e-12).energy)

    ahead, behind = ([w.copy() for w in made.weights] for _ in range(2))
    ahead[0][2, 0] += step
    behind[0][2, 0] -= step
    slope = (least(ahead) - least(behind)) / (2 * step)
    index = 2 * 2
    assert abs(found["predictive coding"][index] + slope) < 1e-8
    assert abs(found["trust region"][index] + slope) > 1e-4  # one step is not the end


# --- bad input ---


@pytest.fixture
def unhooked():
    """What the annotations would refuse reaches the functions' own checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


PROBLEM = np.ones(2), np.eye(2)
SMALL = case("", (2, 3, 2), seed=36, batch=3)


@pytest.mark.usefixtures("unhooked")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        *(
            (partial(step, *PROBLEM, radius), f"radius is {radius}, expected a positive finite number")
            for step in (trust_region.trust_region_step, trust_region.truncated_step)
            for radius in (0.0, -1.0, np.inf, np.nan)
        ),
        (
            partial(trust_region.truncated_step, *PROBLEM, 1.0, tolerance=0.0),
            "tolerance is 0.0, expected a positive",
        ),
        (
            partial(trust_region.truncated_step, *PROBLEM, 1.0, max_products=0),
            "max_products is 0, expected a whole",
        ),
        (
            partial(trust_region.trust_region_step, *PROBLEM, 1.0, metric=np.diag([1.0, -1.0])),
            "metric is indefinite or singular, expected a positive definite matrix",
        ),
        (
            partial(trust_region.trust_region_step, *PROBLEM, 1.0, metric=np.ones((2, 2))),
            "metric is indefinite or singular, expected a positive definite matrix",
        ),
        (
            partial(trust_region.truncated_step, *PROBLEM, 1.0, metric_inverse=np.diag([-1.0, -1.0])),
            "metric_inverse has v.T M.-1 v = -2, expected a positive definite metric",
        ),
        (
            partial(trust_region.trust_region_step, np.ones(3), np.eye(2), 1.0),
            r"hessian has shape \(2, 2\), expected \(3, 3\)",
        ),
        (
            partial(trust_region.trust_region_step, np.ones(2), np.array([[1.0, 1.0], [0.0, 1.0]]), 1.0),
            "hessian differs from its transpose by 1, expected a symmetric matrix",
        ),
        (partial(trust_region.trust_region_step, np.array([np.nan, 1.0]), np.eye(2), 1.0), "gradient holds nan"),
        (
            partial(trust_region.taylor_model, SMALL.net, SMALL.x, SMALL.y, curvature="newton"),
            "curvature is 'newton', expected 'hessian' or 'fisher'",
        ),
        (partial(trust_region.fisher_metric, FEW[0].net, np.ones((1, 4))), "x has 4 columns, expected N_0 = 3"),
        (partial(trust_region.fisher_metric, CASES[0].net, CASES[0].x), "depth 1 has no hidden layers"),
        (partial(trust_region.activities_of, SMALL.net, np.ones((1, 2))), "vectors has 2 columns, expected 3"),
        (
            partial(trust_region.weight_directions, SMALL.net, SMALL.x, SMALL.y, damping=-1.0),
            "damping is -1.0, expected a finite number of at least 0",
        ),
        (
            partial(trust_region.weight_directions, SMALL.net, SMALL.x, SMALL.y, damping=0.0),
            "damping is 0.0, which leaves the matrix of .* singular; take another",
        ),
        (partial(trust_region.cosines, {"a": np.ones(2), "b": np.zeros(2)}), "'b' has length 0"),
    ],
)
def test_bad_values_are_named(call: Callable[[], Any], message: str):
    with pytest.raises(ValueError, match=message):
        call()


def test_product_that_is_not_finite_is_refused():
    operator = aslinearoperator(np.diag([np.inf, 1.0]))
    with pytest.raises(FloatingPointError, match="hessian: its product with a finite vector is not finite"):
        trust_region.truncated_step(np.ones(2), operator, 1.0)


def test_activation_without_a_derivative():
    def opaque(z: jax.Array) -> jax.Array:
        return jax.pure_callback(np.tanh, jax.ShapeDtypeStruct(z.shape, z.dtype), z, vmap_method="sequential")

    with pytest.raises(TypeError, match=r"activation has no derivative .*; give it one with jax.custom_jvp"):
        trust_region.fisher_metric(nonlinear_net(SMALL, opaque), SMALL.x)


def test_derivative_that_is_not_finite_is_refused():
    made = case("", (1, 1, 1), seed=37)
    net = NonlinearPCN(pctheory.LinearPCN([np.zeros((1, 1)), np.ones((1, 1))]), jnp.sqrt)  # at 0
    with pytest.raises(FloatingPointError, match="fisher_metric: the result holds inf"):
        trust_region.fisher_metric(net, made.x)


def test_inference_that_does_not_converge_is_no_equilibrium():
    """A hidden unit is pulled onto the kink of ReLU from both sides, and no gradient vanishes there."""
    net = NonlinearPCN(pctheory.LinearPCN([np.full((1, 1), 0.5), np.ones((1, 1))]), jax.nn.relu)
    x, y = np.ones((1, 1)), np.full((1, 1), -2.0)
    with pytest.raises(RuntimeError, match=r"stationarity .* after 200 steps, wanted"):
        trust_region.weight_directions(net, x, y)
