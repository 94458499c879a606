r"""The trust-region sub-problem for operators: conjugate gradients, stopped at the boundary (Steihaug, Toint).

    minimise  g^T d + (1/2) d^T B d   over   d^T M d <= radius^2,

from d = 0 along directions conjugate in B. A direction of negative curvature, or a step that would leave the
region, is followed to the boundary. With a metric it is the preconditioned method: only M^-1 is applied, and the
lengths in M follow from recursions.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import ArrayLike, Float
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from ..arguments import OVERFLOW_IS_REPORTED, public, whole_number
from ..network import Scalar, double_array, finite_result
from .subproblem import symmetric

Product = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class TruncatedStep:
    """Where conjugate gradients ended.

    residual: |g + B d| relative to |g|, both in the norm of M^-1; it meets the tolerance unless the step is on the
    boundary or the products ran out. negative_curvature: a direction with p^T B p <= 0 led to the boundary.
    """

    step: Float[np.ndarray, " n"]
    predicted_reduction: float
    on_boundary: bool
    negative_curvature: bool
    residual: float
    products: int


@public
@OVERFLOW_IS_REPORTED
def truncated_step(
    gradient: ArrayLike,
    hessian: ArrayLike | LinearOperator,
    radius: Scalar,
    *,
    metric_inverse: ArrayLike | LinearOperator | None = None,
    tolerance: float = 1e-10,
    max_products: int | None = None,
) -> TruncatedStep:
    r"""A d within  d^T M d <= radius^2  whose model value is at most that of the best step along -M^-1 g.

    Inside, it is the minimiser to `tolerance`; on the boundary, with B positive semidefinite, it reduces the model
    by at least half of what the exact step does (Yuan 2000). M^-1 is `metric_inverse`, the identity unless given;
    `max_products` is 10 n unless given.

    Raises ValueError for a radius or tolerance that is not positive, sizes that do not match, and a metric found to
    be indefinite or singular; FloatingPointError for a product that is not finite.
    Source: Steihaug 1983, Toint 1981. Twin: `trust_region_step`. Cost: a product with B and one with M^-1 a step.
    """
    g = np.asarray(double_array(gradient, "gradient", ndim=1))
    for name, value in (("radius", radius), ("tolerance", tolerance)):
        if not 0 < value < np.inf:
            raise ValueError(f"{name} is {value}, expected a positive finite number")
    most = 10 * len(g) if max_products is None else whole_number("max_products", max_products, 1)
    curvature = _checked("hessian", hessian, len(g))
    inverse = None if metric_inverse is None else _checked("metric_inverse", metric_inverse, len(g))
    try:
        found = _descended(g, curvature, float(radius), inverse, (float(tolerance), most))
    except (OverflowError, ZeroDivisionError) as error:
        raise FloatingPointError(
            "truncated_step: a number leaves the range of double precision; rescale gradient, hessian and radius"
        ) from error
    finite_result("truncated_step", (found.step, found.predicted_reduction, found.residual))
    return found


def _descended(
    g: np.ndarray, curvature: Product, radius: float, inverse: Product | None, limits: tuple[float, int]
) -> TruncatedStep:
    """r = g + B d, s = M^-1 r, p the direction; d_d, d_p, p_p are d^T M d, d^T M p and p^T M p."""
    tolerance, most = limits
    d, r, reduction, products = np.zeros_like(g), g, 0.0, 0
    s = _preconditioned(r, inverse)
    p, r_s = -s, float(r @ s)
    first, d_d, d_p, p_p = r_s, 0.0, 0.0, r_s
    boundary = negative = False
    while r_s > tolerance**2 * first and products < most and not boundary:
        image = curvature(p)
        products += 1
        bend = float(p @ image)
        negative = bend <= 0
        root = math.sqrt(d_p**2 + p_p * (radius**2 - d_d))
        boundary = negative or r_s / bend >= (root - d_p) / p_p
        ends = (
            (root - d_p) / p_p,
            (-root - d_p) / p_p,
        )  # both ways along p, as with negative curvature either may win
        length = max(ends, key=lambda t: t * (r_s - t * bend / 2)) if boundary else r_s / bend
        reduction += length * (r_s - length * bend / 2)  # as -p^T r = r_s
        d, r = d + length * p, r + length * image
        d_d += length * (2 * d_p + length * p_p)
        s = _preconditioned(r, inverse)
        before, r_s = r_s, float(r @ s)
        p = -s + (r_s / before) * p
        d_p, p_p = (r_s / before) * (d_p + length * p_p), r_s + (r_s / before) ** 2 * p_p
    residual = 0.0 if first == 0 else math.sqrt(r_s / first)
    return TruncatedStep(d, reduction, boundary, negative, residual, products)


def _preconditioned(vector: np.ndarray, inverse: Product | None) -> np.ndarray:
    """M^-1 v. Raises ValueError where it shows that M is not positive definite."""
    if inverse is None:
        return vector
    image = inverse(vector)
    if vector.any() and not vector @ image > 0:
        raise ValueError(
            f"metric_inverse has v^T M^-1 v = {vector @ image:.3g}, expected a positive definite metric"
        )
    return image


def _checked(name: str, matrix: ArrayLike | LinearOperator, size: int) -> Product:
    """`v -> A v`, for a symmetric matrix or an operator of that size; it refuses what is not finite."""
    operator = matrix if isinstance(matrix, LinearOperator) else aslinearoperator(symmetric(name, matrix, size))
    if operator.shape != (size, size):
        raise ValueError(
            f"{name} has shape {operator.shape}, expected ({size}, {size}): as many rows as the gradient"
        )

    def product(vector: np.ndarray) -> np.ndarray:
        image = np.asarray(operator.matvec(vector))
        if not np.isfinite(image).all():
            raise FloatingPointError(f"{name}: its product with a finite vector is not finite; rescale it")
        return image

    return product
