r"""The trust-region sub-problem, solved to rounding; no case of it is inexact, the hard case least of all.

    minimise  g^T d + (1/2) d^T B d   over   d^T M d <= radius^2,

with B symmetric and M, the metric, symmetric positive definite. A step d solves it iff a multiplier lambda >= 0 has

    (B + lambda M) d = -g,   B + lambda M >= 0,   lambda (radius - |d|_M) = 0      (Moré and Sorensen 1983).

Method: M = C C^T turns the ellipsoid into a ball; Householder reflections make B tridiagonal, T = Q^T B Q, and Q
is never formed; T = V diag(lambda_i) V^T. With gamma = V^T Q^T g, mu = lambda + lambda_1 and
delta_i = lambda_i - lambda_1,

    d_i = -gamma_i / (mu + delta_i),     1/|d(mu)| = 1/radius:

a concave increasing function of mu, so Newton's method from the left climbs to its root. In mu nothing cancels
however close lambda comes to -lambda_1, which is the (nearly) hard case.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import ArrayLike, Float
from scipy.linalg import eigh_tridiagonal, lapack, solve_triangular

from ..arguments import OVERFLOW_IS_REPORTED, public
from ..network import Scalar, double_array, finite_result

EPS = float(np.finfo(float).eps)
ASYMMETRY = 1e-10  # largest accepted, relative to the largest entry: well above rounding, below any real slip
MOST_NEWTON_STEPS = 200  # quadratic convergence takes about ten; with gammas of many sizes a few dozen


@dataclass(frozen=True, eq=False)
class Step:
    """A solution of the sub-problem, with what certifies it.

    predicted_reduction: by how much the quadratic model falls, at least 0. multiplier: lambda. on_boundary: whether
    lambda > 0 or the length is the radius. hard_case: lambda is minus the least eigenvalue of B (relative to M) to
    rounding; then the mirror image in the lowest eigenvector is as good a step.
    """

    step: Float[np.ndarray, " n"]
    multiplier: float
    predicted_reduction: float
    on_boundary: bool
    hard_case: bool


@public
@OVERFLOW_IS_REPORTED
def trust_region_step(
    gradient: ArrayLike, hessian: ArrayLike, radius: Scalar, *, metric: ArrayLike | None = None
) -> Step:
    r"""The d that minimises  g^T d + (1/2) d^T B d  within  d^T M d <= radius^2;  M = I unless given.

    B may be indefinite, singular or zero. Where it is singular and the minimum lies inside, d is the shortest one.
    Raises ValueError for a radius that is not positive and finite, sizes that do not match, a hessian that is not
    symmetric, a metric that is not symmetric positive definite.
    Source: More and Sorensen 1983. Twin: Newton on lambda with a dense factorisation each time. Cost: (4/3) n^3
    operations for the reflections, the rest O(n^2); with a metric another (4/3) n^3.
    """
    g = np.asarray(double_array(gradient, "gradient", ndim=1))
    if not 0 < radius < np.inf:
        raise ValueError(f"radius is {radius}, expected a positive finite number")
    b = symmetric("hessian", hessian, len(g))
    root = None if metric is None else cholesky_root(metric, len(g))
    if root is not None:
        g = solve_triangular(root, g, lower=True)
        b, _ = lapack.dsygst(b, root, itype=1, lower=1)
    finite_result("trust_region_step", (g, b))
    values, vectors, reflected = _spectrum(b)
    gamma = vectors.T @ reflected(g, "T")
    along, multiplier, on_boundary, hard = _solved(values, gamma, float(radius))
    step = reflected(vectors @ along, "N")
    if root is not None:
        step = solve_triangular(root, step, lower=True, trans="T")
    # stationarity makes  -g^T d - (1/2) d^T B d  a sum of terms that are not negative
    reduction = (multiplier * along @ along - gamma @ along) / 2
    finite_result("trust_region_step", (step, multiplier, reduction))
    return Step(step, multiplier, float(reduction), on_boundary, hard)


def symmetric(name: str, matrix: ArrayLike, size: int) -> Float[np.ndarray, "n n"]:
    """`matrix` as a finite symmetric array of that size; ValueError with its `name` where it is none."""
    array = np.asarray(double_array(matrix, name, ndim=2))
    if array.shape != (size, size):
        raise ValueError(f"{name} has shape {array.shape}, expected ({size}, {size}): as many rows as the gradient")
    asymmetry = float(np.abs(array - array.T).max())
    if asymmetry > ASYMMETRY * float(np.abs(array).max()):
        raise ValueError(f"{name} differs from its transpose by {asymmetry:.3g}, expected a symmetric matrix")
    return array


def cholesky_root(metric: ArrayLike, size: int) -> Float[np.ndarray, "n n"]:
    """The lower triangular C with metric = C C^T; ValueError where it has none to working precision."""
    array = symmetric("metric", metric, size)
    root, failed = lapack.dpotrf(array, lower=1, clean=1)
    if failed or np.diag(root).min() ** 2 <= size * EPS * np.diag(array).max():
        raise ValueError(
            "metric is indefinite or singular, expected a positive definite matrix; add to its diagonal"
        )
    return root


def _spectrum(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, Callable[[np.ndarray, str], np.ndarray]]:
    """Eigenvalues, ascending, and vectors of the tridiagonal T = Q^T B Q; the product with Q ("N") or Q^T ("T")."""
    size = len(matrix)
    room, _ = lapack.dsytrd_lwork(size, lower=1)
    packed, diagonal, beside, scales, _ = lapack.dsytrd(matrix, lower=1, lwork=int(room))
    values, vectors = eigh_tridiagonal(diagonal, beside)
    return values, vectors, partial(_reflected, packed, scales)


def _reflected(packed: np.ndarray, scales: np.ndarray, vector: np.ndarray, which: str) -> np.ndarray:
    """The product with Q or Q^T, from the reflections of LAPACK's dsytrd."""
    if len(vector) == 1:
        return vector
    image, *_ = lapack.dormqr("L", which, packed[1:, :-1], scales, vector[1:, None], lwork=64)
    return np.append(vector[0], image[:, 0])


def _solved(values: np.ndarray, gamma: np.ndarray, radius: float) -> tuple[np.ndarray, float, bool, bool]:
    """The step along the eigenvectors, lambda, whether it is on the boundary, whether the case is hard."""
    lowest, gaps = float(values[0]), values - values[0]
    if lowest >= 0:
        along = _moved(gamma, values)
        length = float(np.linalg.norm(along))
        if length <= radius:
            return along, 0.0, length == radius, False
    in_radii = gamma / radius
    mu = max(float(np.max(np.abs(in_radii) - gaps)), lowest, 0.0)  # each |d_i| is at most the radius
    along, mu = _on_boundary(in_radii, gaps, mu)
    if mu == 0:  # gamma vanishes on the lowest eigenvectors: any length along them is allowed
        along[0] = np.sqrt(max(0.0, 1 - along @ along))
    hard = lowest < 0 and mu <= len(values) * EPS * float(np.abs(values).max())
    return radius * along, mu - lowest, True, hard


def _moved(gamma: np.ndarray, curvatures: np.ndarray) -> np.ndarray:
    """-gamma / curvature: nothing where gamma is 0, infinite where only the curvature is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(gamma == 0, 0.0, -gamma / curvatures)


def _on_boundary(gamma: np.ndarray, gaps: np.ndarray, mu: float) -> tuple[np.ndarray, float]:
    """d(mu) of length 1, or d(0) if that is shorter, from a mu at most the root; and that mu."""
    for _ in range(MOST_NEWTON_STEPS):
        along = _moved(gamma, mu + gaps)
        length = float(np.linalg.norm(along))
        if length <= 1:
            return along, mu
        slope = -float(along @ _moved(along, mu + gaps))
        ahead = mu + (length - 1) * length**2 / slope
        if ahead <= mu:  # no larger number before the root
            return along, mu
        mu = ahead
    raise RuntimeError(
        f"trust_region_step: |d| = {length} radii after {MOST_NEWTON_STEPS} steps; rescale the problem"
    )
