r"""The spectral density of a symmetric operator by stochastic Lanczos quadrature.

For v uniform on the unit sphere, v^T f(A) v has mean tr f(A) / n; `steps` of Lanczos from v give its Gauss rule
sum_k w_k f(theta_k), exact for polynomials up to degree 2 steps - 1. Here f is a normal density around each point.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import ArrayLike, Float
from scipy.linalg import eigh_tridiagonal
from scipy.sparse.linalg import LinearOperator

from ..arguments import OVERFLOW_IS_REPORTED, positive_number, public, random_generator, whole_number
from ..arrays import checked_array
from ..network import finite_result, refuse_too_large
from .operators import Product, symmetric_operator

BREAKDOWN = 1e-12  # a next Lanczos vector this short, beside the operator, is rounding: the rule is exact


@dataclass(frozen=True, eq=False)
class SpectralDensity:
    """Estimated density at the points: its integral is 1. standard_error: that of the mean over the probes."""

    points: Float[np.ndarray, " points"]
    density: Float[np.ndarray, " points"]
    standard_error: Float[np.ndarray, " points"]


@public
@OVERFLOW_IS_REPORTED
def spectral_density(
    matrix: ArrayLike | LinearOperator,
    *,
    points: ArrayLike,
    width: float,
    probes: int = 20,
    steps: int = 60,
    seed: int = 0,
) -> SpectralDensity:
    r"""The density of the eigenvalues of a symmetric matrix or operator, each widened by `width`:

        density(t) = (1/n) sum_i N(t; lambda_i, width^2),   estimated from `probes` random vectors

    Unbiased over the probes once `steps` resolve the width: about spread / width steps, no more than there are
    distinct eigenvalues. A k-fold eigenvalue weighs k / n.
    Raises ValueError for what is not square and symmetric, points that are no vector, a width that is not positive,
    fewer than 2 probes; FloatingPointError for a product that is not finite; MemoryError for vectors that do not
    fit.
    Twin: the formula with exact eigenvalues. Cost: probes x steps products; memory for `steps` vectors.
    """
    product, size = symmetric_operator(matrix)
    points = np.ascontiguousarray(checked_array(points, "points", ndim=1))
    width = positive_number("width", width)
    probes, steps = whole_number("probes", probes, 2), whole_number("steps", steps, 1)
    refuse_too_large("spectral_density", (min(steps, size), size), "take fewer steps and a larger width")
    rng = random_generator(seed)
    estimates = []
    for _ in range(probes):
        nodes, weights = _gauss_rule(product, rng.standard_normal(size), min(steps, size))
        bumps = np.exp(-(((points[:, None] - nodes) / width) ** 2) / 2) / (np.sqrt(2 * np.pi) * width)
        estimates.append(bumps @ weights)
    error = np.std(estimates, axis=0, ddof=1) / np.sqrt(probes)
    density = SpectralDensity(points, np.mean(estimates, axis=0), error)
    finite_result("spectral_density", (density.density, error))
    return density


def _gauss_rule(product: Product, start: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of v^T f(A) v, v = start / |start|, by Lanczos with full reorthogonalisation."""
    basis = np.empty((steps, len(start)))
    vector, diagonal, below = start / np.linalg.norm(start), [], []
    for k in range(steps):
        basis[k] = vector
        image = product(vector)
        diagonal.append(float(vector @ image))
        size = np.linalg.norm(image)
        for _ in range(2):  # twice is enough
            image = image - (basis[: k + 1] @ image) @ basis[: k + 1]
        length = float(np.linalg.norm(image))
        if length <= BREAKDOWN * size:
            break
        below.append(length)
        vector = image / length
    nodes, vectors = eigh_tridiagonal(diagonal, below[: len(diagonal) - 1])
    return nodes, vectors[0] ** 2
