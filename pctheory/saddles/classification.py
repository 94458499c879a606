"""What kind of critical point a network is: value, gradient, rank and the signs of the Hessian's eigenvalues."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Array, ArrayLike

from ..arguments import OVERFLOW_IS_REPORTED, public, refuse_too_large
from ..network import LinearPCN, finite_result

Kind = Literal["strict saddle", "non-strict", "minimum", "not critical"]
Objective: TypeAlias = Callable[[LinearPCN, Array, Array], Array]
Derivative: TypeAlias = Callable[[Objective, LinearPCN, ArrayLike, ArrayLike], Array]

TOLERANCE = 1e-7  # of the data's scale: far above rounding, far below any curvature that the data decide


@dataclass(frozen=True)
class Derivatives:
    """An objective(net, x, y) and how its gradient and Hessian in all weights are found.

    Derivatives(equilibrated_energy, weight_gradient, weight_hessian_dense), for one, or with `loss`: any functions
    of (objective, net, x, y) that give a vector and a matrix, weights ordered as in `weight_vector`.
    """

    objective: Objective
    gradient: Derivative
    hessian: Derivative


@dataclass(frozen=True)
class Classification:
    """What was found at a point.

    kind: "strict saddle" where the Hessian has a negative eigenvalue. "minimum" where it has none and either all
    are positive or the value is the least possible. "non-strict" otherwise: a non-strict saddle, or a minimum among
    flat directions that second derivatives cannot tell from one.
    value, gradient_norm: of the objective. rank: of M_{L:1}. smallest: the smallest eigenvalue.
    inertia: how many eigenvalues are negative, zero and positive.
    """

    kind: Kind
    value: float
    gradient_norm: float
    rank: int
    inertia: tuple[int, int, int]
    smallest: float


@public
@OVERFLOW_IS_REPORTED
def classification(
    net: LinearPCN,
    x: ArrayLike,
    y: ArrayLike,
    derivatives: Derivatives,
    *,
    tolerance: float = TOLERANCE,
    least: float = 0.0,
) -> Classification:
    r"""The kind of point that `net` is for an objective, up to a tolerance.

    With the data's scale  c = max_l a_l^2 (mean |x|^2 + mean |y|^2),  gradients up to tolerance c count as 0, and
    so do eigenvalues up to tolerance max(c, largest |eigenvalue|). `least`: a lower bound of the objective, which
    a minimum attains; 0 for loss and F*, or the value of the best fit where a layer is too narrow for 0.
    Raises ValueError for a tolerance not between 0 and 1, FloatingPointError for an objective that is not finite.
    Twin: `exact_classification`. Cost: the dense Hessian and its eigenvalues.
    """
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance is {tolerance}, expected a number between 0 and 1")
    x, y = net.batch(x, y)
    value = float(derivatives.objective(net, x, y))
    if not np.isfinite(value):
        raise FloatingPointError(f"objective is {value} at this network, expected a finite number; rescale weights")
    gradient_norm = float(np.linalg.norm(derivatives.gradient(derivatives.objective, net, x, y)))
    eigenvalues = np.linalg.eigvalsh(derivatives.hessian(derivatives.objective, net, x, y))
    scale = data_scale(net, x, y)
    finite_result("classification", (gradient_norm, eigenvalues, scale))
    negligible = tolerance * max(scale, float(np.abs(eigenvalues).max()))
    inertia = _counts(eigenvalues, negligible)
    attained = value - least <= tolerance * scale
    return Classification(
        kind=kind_of(gradient_norm <= tolerance * scale, inertia, attained),
        value=value,
        gradient_norm=gradient_norm,
        rank=_rank(net, x, y, tolerance),
        inertia=inertia,
        smallest=float(eigenvalues[0]),
    )


def kind_of(critical: bool, inertia: tuple[int, int, int], attained: bool) -> Kind:
    """From whether the gradient is 0, the inertia, and whether the value is the least possible."""
    negative, zero, _ = inertia
    if not critical:
        return "not critical"
    if negative:
        return "strict saddle"
    return "minimum" if attained or not zero else "non-strict"


def data_scale(net: LinearPCN, x: ArrayLike, y: ArrayLike) -> float:
    """max_l a_l^2 (mean |x|^2 + mean |y|^2): the size of second derivatives at weights of size one."""
    squares = sum(float(np.mean(np.sum(np.asarray(part) ** 2, axis=1))) for part in (x, y))
    return float(np.max(np.asarray(net.scalings) ** 2)) * squares


def _counts(eigenvalues: np.ndarray, negligible: float) -> tuple[int, int, int]:
    negative, positive = int((eigenvalues < -negligible).sum()), int((eigenvalues > negligible).sum())
    return negative, len(eigenvalues) - negative - positive, positive


def _rank(net: LinearPCN, x: ArrayLike, y: ArrayLike, tolerance: float) -> int:
    """Singular values of M_{L:1} count beside the largest, and beside |y| / |x|."""
    refuse_too_large("classification", (net.widths[0], max(net.widths)), "take narrower layers")
    product = np.eye(net.widths[0])
    for a in net.maps:
        product = np.asarray(a) @ product
    values = np.linalg.svd(product, compute_uv=False)
    gain = np.linalg.norm(y) / max(float(np.linalg.norm(x)), np.finfo(float).tiny)
    return int((values > tolerance * max(values[0], gain)).sum())
