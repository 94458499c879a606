"""The closed-form equilibrium against the dense linear system, autodiff and 50-digit arithmetic."""

import itertools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.linalg

import pctheory
from pctheory.claims import TOLERANCE, scaled_error

from . import oracles
from .cases import CASES, Case, case


@pytest.fixture(params=CASES, ids=lambda c: c.name)
def given(request) -> Case:
    return request.param


def largest_error(actual, expected, **scale: float) -> float:
    pairs = list(zip(actual, expected, strict=True))
    return max((scaled_error(a, b, **scale) for a, b in pairs), default=0.0)


def test_equilibrium_against_the_dense_system(given: Case):
    hidden = oracles.equilibrium(given)
    size = oracles.scale(given, hidden)
    found, gradient = pctheory.equilibrium_and_gradient(given.net, given.x, given.y)
    assert scaled_error(found.energy, oracles.energy(given, hidden), scale=size) <= TOLERANCE
    assert largest_error(found.activities, hidden, scale=size**0.5) <= TOLERANCE
    assert largest_error(found.errors, oracles.errors(given, hidden), scale=size**0.5) <= TOLERANCE
    assert largest_error(gradient, oracles.partial_weight_gradient(given, hidden), scale=size) <= TOLERANCE


def test_gradient_against_autodiff(given: Case):
    size = oracles.scale(given, oracles.equilibrium(given))
    expected = jax.jit(jax.grad(pctheory.equilibrated_energy))(given.net, given.x, given.y).weights
    assert (
        largest_error(pctheory.equilibrated_gradient(given.net, given.x, given.y), expected, scale=size)
        <= TOLERANCE
    )


def test_separate_functions_agree_with_the_joint_step(given: Case):
    found = pctheory.equilibrium(given.net, given.x, given.y)
    size = oracles.scale(given, list(found.activities))
    assert (
        scaled_error(pctheory.equilibrated_energy(given.net, given.x, given.y), found.energy, scale=size)
        <= TOLERANCE
    )
    assert scaled_error(pctheory.rescaling(given.net), oracles.rescaling(given)) <= TOLERANCE
    assert largest_error(pctheory.output_maps(given.net)[0], oracles.output_maps(given)) <= TOLERANCE
    sign, log_determinant = np.linalg.slogdet(oracles.rescaling(given))
    assert sign == 1
    assert abs(pctheory.rescaling_log_determinant(given.net) - log_determinant) <= TOLERANCE * given.widths[-1]


# A network of depth 1 has no activity Hessian: see test_bad_input.
DEEPER = [c for c in CASES if c.depth > 1]


@pytest.mark.parametrize("given", DEEPER, ids=lambda c: c.name)
def test_activity_hessian(given: Case):
    """Blocks, product, solve and determinant against the matrix A^T Pi A formed from the stacked errors."""
    dense, _ = oracles.linear_system(given)
    rng = np.random.default_rng(7)
    vectors = [rng.standard_normal((3, n)) for n in given.widths[1:-1]]
    rows = np.concatenate(vectors, axis=1)
    assert scaled_error(pctheory.activity_hessian_dense(given.net), dense) <= TOLERANCE
    product = np.concatenate(list(pctheory.activity_hessian_product(given.net, vectors)), axis=1)
    assert scaled_error(product, rows @ dense) <= TOLERANCE
    solution = np.concatenate(list(pctheory.activity_hessian_solve(given.net, vectors)), axis=1)
    condition = np.linalg.cond(dense)
    assert scaled_error(solution, np.linalg.solve(dense, rows.T).T, condition=condition) <= TOLERANCE
    expected = np.linalg.slogdet(dense)[1]
    found = pctheory.activity_hessian_log_determinant(given.net)
    assert abs(found - expected) <= TOLERANCE * len(dense)  # a sum of as many logarithms


@pytest.mark.parametrize("given", DEEPER, ids=lambda c: c.name)
def test_activity_hessian_against_autodiff(given: Case):
    """For one example H_z is the second derivative of the energy."""
    stops = np.cumsum([0, *given.widths[1:-1]])

    def energy(flat):
        zs = [flat[None, i:j] for i, j in itertools.pairwise(stops)]
        return pctheory.energy(given.net, zs, given.x[:1], given.y[:1])

    expected = jax.jit(jax.hessian(energy))(jnp.zeros(stops[-1]))
    assert scaled_error(pctheory.activity_hessian_dense(given.net), expected) <= TOLERANCE


@pytest.mark.parametrize("decay", [0.0, 0.3, 5.0])
def test_decay_against_the_dense_system(given: Case, decay: float):
    hessian, b = oracles.linear_system(given)
    found = pctheory.equilibrium_with_decay(given.net, given.x, given.y, decay)
    if given.depth == 1:
        assert len(found.activities) == 0
        return
    expected = np.linalg.solve(hessian + decay * np.eye(len(hessian)), b.T).T
    hidden = np.split(expected, np.cumsum(given.widths[1:-2]), axis=1)
    size = oracles.scale(given, hidden)
    assert largest_error(found.activities, hidden, scale=size**0.5) <= TOLERANCE
    assert largest_error(found.errors, oracles.errors(given, hidden), scale=size**0.5) <= TOLERANCE
    penalty = decay * (expected**2).sum() / (2 * len(given.x))
    assert scaled_error(found.energy, oracles.energy(given, hidden) + penalty, scale=size) <= TOLERANCE


def test_zero_decay_is_no_decay(given: Case):
    found = pctheory.equilibrium_with_decay(given.net, given.x, given.y, 0.0)
    expected = pctheory.equilibrium(given.net, given.x, given.y)
    size = oracles.scale(given, list(expected.activities))
    assert largest_error(found.activities, expected.activities, scale=size**0.5) <= TOLERANCE


def test_second_derivatives_pass_through():
    """The Hessian of F* by forward over reverse differentiation, against finite differences of the gradient."""
    given = case("", (2, 3, 3, 1), seed=3)
    direction = jax.tree.map(jnp.ones_like, given.net.weights)

    def gradient(t):
        moved = jax.tree.map(lambda w, d: w + t * d, given.net.weights, direction)
        return pctheory.equilibrated_gradient(given.net.with_weights(moved), given.x, given.y)

    _, tangent = jax.jvp(gradient, (0.0,), (1.0,))
    h = 1e-5
    for a, up, down in zip(tangent, gradient(h), gradient(-h), strict=True):
        np.testing.assert_allclose(a, (up - down) / (2 * h), atol=1e-8)  # O(h^2) truncation


# Ill-conditioned at depth 64: (initialisation, skips). cond S runs from 1e1 to beyond 1e9.
DEEP = {
    "skips": {"skips": True},
    "no skips": {},
    "growing": {"scale": 1.3},
    "skips, precisions": {"skips": True, "precisions": True, "biases": True},
}


@pytest.mark.parametrize("name", DEEP)
def test_depth_64_against_50_digits(name: str):
    """Digits are lost as the conditioning says: F* to eps sqrt(cond S), activities to eps cond(H_z).

    The factor 100 covers the rounding of some 64 products of 6 terms.
    """
    given = case(name, (3, *(6,) * 63, 3), seed=64, batch=2, **DEEP[name])
    with mpmath.workdps(50):
        precise = given.converted(mpmath.mpf)
        s = oracles.rescaling(precise)
        r = oracles.residual(precise)
        multiplier = oracles.solve(s, r.T).T
        energy = float((r * multiplier).sum() / (2 * len(r)))
        errors = [
            multiplier @ p / pi for p, pi in zip(oracles.output_maps(precise), precise.precisions, strict=True)
        ]
        hidden, z = [], precise.x
        for a, c, e in zip(precise.maps[:-1], precise.biases, errors, strict=False):
            z = z @ a.T + c + e
            hidden.append(z)
        stationary = max(abs(v) for v in _activity_gradient(precise, hidden).ravel())
        assert stationary < 1e-25  # the 50-digit solution is an equilibrium
        expected = [np.array(z, dtype=float) for z in hidden]
    eps = np.finfo(float).eps
    found = pctheory.equilibrium(given.net, given.x, given.y)
    factor = np.asarray(pctheory.rescaling_factor(given.net))
    condition = np.linalg.cond(factor)  # the root of cond S
    assert scaled_error(found.energy, energy) <= 100 * eps * condition
    size = oracles.scale(given, expected)
    hessian_condition = np.linalg.cond(oracles.linear_system(given)[0])
    assert largest_error(found.activities, expected, scale=size**0.5) <= 100 * eps * hessian_condition


def _activity_gradient(given: Case, hidden: list[np.ndarray]) -> np.ndarray:
    errors = oracles.errors(given, hidden)
    maps, pi = given.maps, given.precisions
    return np.concatenate(
        [pi[l] * errors[l] - pi[l + 1] * errors[l + 1] @ maps[l + 1] for l in range(given.depth - 1)], axis=1
    )


def test_forming_the_rescaling_would_lose_the_digits():
    """Why the factor comes from a QR: solving with a formed S loses twice as many digits."""
    given = case("", (3, *(6,) * 95, 3), seed=1, batch=2, skips=True)
    with mpmath.workdps(80):
        precise = given.converted(mpmath.mpf)
        exact = float(oracles.rescaled_loss(precise, oracles.rescaling(precise)))
    ours = scaled_error(pctheory.equilibrated_energy(given.net, given.x, given.y), exact)
    formed = scaled_error(oracles.rescaled_loss(given, oracles.rescaling(given)), exact)
    assert ours < formed / 100


@pytest.mark.parametrize("scale", [1e-150, 1e-8, 1e8, 1e150])
def test_scales_of_the_data(scale: float):
    """F* is quadratic in the data, at any scale whose square is a number."""
    given = CASES[5]
    small = pctheory.equilibrated_energy(given.net, given.x, given.y)
    scaled = pctheory.equilibrated_energy(given.net, scale * given.x, scale * given.y)
    np.testing.assert_allclose(scaled / scale / scale, small, rtol=1e-12)


def test_overflow_is_reported():
    net = pctheory.LinearPCN([np.full((1, 1), 1e200)] * 3)
    with pytest.raises(FloatingPointError, match=r"equilibrated_energy: the result holds .* every input is finite"):
        pctheory.equilibrated_energy(net, np.ones((1, 1)), np.ones((1, 1)))


def test_solve_with_a_kept_factor():
    given = CASES[10]
    rng = np.random.default_rng(0)
    vectors = [rng.standard_normal((2, n)) for n in given.widths[1:-1]]
    kept = pctheory.activity_hessian_solve(given.net, vectors, pctheory.rescaling_factor(given.net))
    for a, b in zip(kept, pctheory.activity_hessian_solve(given.net, vectors), strict=True):
        np.testing.assert_array_equal(a, b)


def test_posterior_covariance_is_the_inverse_hessian():
    given = CASES[2]
    dense, _ = oracles.linear_system(given)
    columns = np.eye(len(dense))
    vectors = np.split(columns, np.cumsum(given.widths[1:-2]), axis=1)
    found = np.concatenate(list(pctheory.activity_hessian_solve(given.net, vectors)), axis=1)
    assert scaled_error(found, scipy.linalg.inv(dense)) <= TOLERANCE


@pytest.mark.parametrize("name", ["equilibrated_energy", "equilibrium", "equilibrated_gradient"])
def test_a_result_without_digits_is_refused(name: str):
    """500 layers with skips: cond S is about 1e90, so that nothing computed in double precision is right."""
    net = pctheory.standard((2, *(3,) * 499, 2), seed=1, skips=True)
    with pytest.raises(
        FloatingPointError, match=f"{name}: too ill-conditioned for double precision, relative error"
    ):
        getattr(pctheory, name)(net, np.ones((1, 2)), np.ones((1, 2)))
