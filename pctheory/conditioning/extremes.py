r"""The extreme eigenvalues of the activity Hessian H_z = A^T Pi A at any size, from the structure of the chain.

The largest comes from Lanczos on the product, the smallest from Lanczos on the inverse: a tiny one keeps its digits
that way, where rounding in H_z itself is eps lambda_max. There are two ways to apply the inverse:

    sweeps      `activity_hessian_solve`, O(L N^2) a vector. Loses digits where chains that are free at the output
                grow far beyond those that are clamped at it: deep growing maps with d_y near N.
    triangles   H_z = R^T R from a block QR factorisation of B = Pi^(1/2) A, O(L N^3) once and O(L N^2) a vector,
                with a relative error of about eps sqrt(cond).

The first is used, and the second where rounding in the first is found to exceed the tolerance; small networks go by
the singular values of B. Rounding in the sweeps is measured: c A_L and pi_L / c^2 make another network with the
same H_z; solving it for the vector over c = 3, 5, 7 rounds every number on the way differently.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from ..arguments import public, whole_number
from ..equilibrium import (
    _activity_hessian_product,
    _activity_hessian_solve,
    _needs_hidden_layers,
    _rescaling_factor,
)
from ..network import Layer, Layers, LinearPCN, finite_result, refuse_too_large, scan_layers, without_first
from .lanczos import Apply, RitzPair, largest_eigenpair

EPS = float(np.finfo(float).eps)
DENSE_BELOW = 600  # activities: the singular values of a matrix this large take a fifth of a second
SAFETY = 8
SCALES = (3.0, 5.0, 7.0)  # one comparison of two roundings may by chance be small
Method = Literal["dense", "sweeps", "triangles", "cholesky", "products"]
Triangles = tuple[Layers, Layers]


@dataclass(frozen=True)
class ActivityHessianExtremes:
    """The smallest and the largest eigenvalue of an activity Hessian, with what is known of their errors.

    residuals: (|H^-1 v - mu v| / mu, |H v - lambda v| / lambda) of the unit vectors found, 0 for dense ones.
    errors: relative to the values found: residual or residual^2 / gap, the smaller (Kato and Temple, with the gap
    of the two outermost Ritz values), plus rounding. They take for granted that Lanczos missed no eigenvalue
    further out. converged: both errors keep to the tolerance asked for. products, solves: how often H_z and its
    inverse were applied. method: how the smallest was found.
    """

    smallest: float
    largest: float
    residuals: tuple[float, float]
    errors: tuple[float, float]
    converged: bool
    products: int
    solves: int
    method: Method

    @property
    def condition_number(self) -> float:
        """largest / smallest: negative where H_z is not positive definite, as for some activation functions."""
        return self.largest / self.smallest


@public
def activity_hessian_extremes(
    net: LinearPCN, *, decay: float = 0.0, tolerance: float = 1e-6, max_products: int = 3000
) -> ActivityHessianExtremes:
    r"""The extreme eigenvalues of H_z + decay I, one example: those of H_z, each shifted by `decay`.

    `tolerance` bounds the relative errors. Where they stay above it, after `max_products` products and as many
    solves or for rounding, `converged` is False and `errors` say how good the best found is.

    Raises ValueError for a network without hidden layer, a negative decay and a tolerance that is not positive;
    FloatingPointError where H_z overflows; MemoryError where the triangles are needed and do not fit.
    Source: mupc-2025/conditioning. Twin: the dense eigenvalues. Cost: some hundred products and solves of O(L N^2);
    O(L N^3) once where only the triangles will do; one singular value decomposition up to 600 activities.
    """
    _needs_hidden_layers(net, "activity_hessian_extremes")
    check_options(decay, tolerance, max_products)
    if sum(net.widths[1:-1]) <= DENSE_BELOW:
        found = _dense_extremes(net)
        if found is not None and np.max(found.errors) <= tolerance:
            return shifted(found, decay, tolerance)
    return shifted(_lanczos_extremes(net, tolerance, int(max_products)), decay, tolerance)


def check_decay(decay: float) -> None:
    """Raise ValueError for a decay that is negative or not finite."""
    if not 0 <= decay < np.inf:
        raise ValueError(f"decay is {decay}, expected a finite number of at least 0")


def check_options(decay: float, tolerance: float, max_products: int) -> None:
    """Raise ValueError for what no search for extremes takes."""
    check_decay(decay)
    if not 0 < tolerance < np.inf:
        raise ValueError(f"tolerance is {tolerance}, expected a positive finite number")
    whole_number("max_products", max_products, 1)


def shifted(found: ActivityHessianExtremes, decay: float, tolerance: float) -> ActivityHessianExtremes:
    """The extremes of H_z + decay I, judged by the tolerance."""
    smallest, largest = found.smallest + decay, found.largest + decay
    errors = (found.errors[0] * abs(found.smallest / smallest), found.errors[1] * found.largest / largest)
    converged = bool(np.max(errors) <= tolerance)  # not for NaN, which `max` may pass over
    return replace(found, smallest=smallest, largest=largest, errors=errors, converged=converged)


def _dense_extremes(net: LinearPCN) -> ActivityHessianExtremes | None:
    """From the singular values of B; their errors are eps times the largest. None where B overflows."""
    root = dense_root(net, "activity_hessian_extremes")
    if not np.isfinite(root).all():
        return None
    singular = np.linalg.svd(root, compute_uv=False)
    largest, smallest = float(singular[0]), float(singular[-1])
    if smallest == 0 or largest > np.sqrt(np.finfo(float).max):
        return None
    errors = (2 * SAFETY * EPS * largest / smallest, 2 * SAFETY * EPS)
    return ActivityHessianExtremes(smallest**2, largest**2, (0.0, 0.0), errors, True, 0, 0, "dense")


def dense_root(net: LinearPCN, name: str) -> np.ndarray:
    """B = Pi^(1/2) A: I in the blocks (l, l) and -A_l in (l, l-1), rows l = 1..L, columns the hidden layers.

    Raises, for the function of this `name`, ValueError without hidden layer and MemoryError where it does not fit.
    """
    _needs_hidden_layers(net, name)
    stops = np.cumsum([0, *net.widths[1:]])
    refuse_too_large(name, (2, int(stops[-1]), int(stops[-1])), "ask for activity_hessian_extremes instead")
    roots = np.sqrt(np.asarray(net.precisions))
    dense = np.diag(np.repeat(roots, net.widths[1:]))
    for l, a in enumerate(layer_arrays(net.maps)[1:], start=1):
        dense[stops[l] : stops[l + 1], stops[l - 1] : stops[l]] = -roots[l] * a
    return finite_result(name, dense[:, : stops[-2]])


def layer_arrays(layers: Layers) -> list[np.ndarray]:
    """One array per layer."""
    return [array for run in layers.runs for array in np.asarray(run)]


def _lanczos_extremes(net: LinearPCN, tolerance: float, max_products: int) -> ActivityHessianExtremes:
    start = np.random.default_rng(0).standard_normal(sum(net.widths[1:-1]))
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found below
        high = largest_eigenpair(finite(partial(_product, net)), start, tolerance / 2, max_products)
        low = _by_sweeps(net, start, tolerance, max_products)
        method: Method = "sweeps"
        if low is None or low.error > tolerance:
            other = _by_triangles(net, start, tolerance, (max_products, high.value))
            if low is None or other.error < low.error:
                low, method = other, "triangles"
    return ActivityHessianExtremes(
        1 / low.value,
        high.value,
        (low.residual, high.residual),
        (low.error, high.error + 2 * SAFETY * EPS),
        True,
        high.applied,
        low.applied,
        method,
    )


def finite(apply: Apply) -> Apply:
    """`apply`, refusing results that are not finite."""

    def applied(vector: np.ndarray) -> np.ndarray:
        image = apply(vector)
        if not np.isfinite(image).all():
            raise FloatingPointError(
                "activity_hessian_extremes: a product with the activity Hessian or its inverse is not finite; "
                "rescale the weights or take a shallower network"
            )
        return image

    return applied


def _product(net: LinearPCN, vector: np.ndarray) -> np.ndarray:
    return np.asarray(hessian_times(net, vector))


def _by_sweeps(net: LinearPCN, start: np.ndarray, tolerance: float, max_products: int) -> RitzPair | None:
    """None where rounding already spoils the inverse of the start vector."""
    nets = {c: _same_hessian(net, c) for c in (1.0, *SCALES)}
    factors = {c: _rescaling_factor(same) for c, same in nets.items()}
    if not all(np.isfinite(factor).all() for factor in factors.values()):
        return None

    def solution(vector: np.ndarray, c: float = 1.0) -> np.ndarray:
        return c * np.asarray(_swept(nets[c], factors[c], vector / c))

    def rounding(vector: np.ndarray) -> float:
        one = solution(vector)
        off = np.max([np.linalg.norm(one - solution(vector, c)) for c in SCALES]) / np.linalg.norm(one)
        return SAFETY * float(off) if np.isfinite(off) else np.inf

    if rounding(start) > tolerance / 2:
        return None
    found = largest_eigenpair(finite(solution), start, tolerance / 2, max_products)
    return replace(found, error=found.error + rounding(found.vector) + 2 * SAFETY * EPS)


def _by_triangles(net: LinearPCN, start: np.ndarray, tolerance: float, limits: tuple[int, float]) -> RitzPair:
    """`limits`: the most solves, and the largest eigenvalue, for the rounding."""
    max_products, largest = limits
    hidden, width = net.depth - 1, max(net.widths[1:])
    refuse_too_large(
        "activity_hessian_extremes", (2 * hidden, width, width), "take a narrower or shallower network"
    )
    triangles = _triangles(net)
    apply = finite(lambda vector: np.asarray(solved(net, triangles, vector)))
    found = largest_eigenpair(apply, start, tolerance / 2, max_products)
    return replace(found, error=found.error + 2 * SAFETY * EPS * float(np.sqrt(largest * found.value)))


def _same_hessian(net: LinearPCN, scale: float) -> LinearPCN:
    """A_L times the scale, pi_L over its square."""
    return eqx.tree_at(
        lambda n: (n.scalings, n.skips, n.precisions),
        net,
        (
            net.scalings.at[-1].multiply(scale),
            net.skips.at[-1].multiply(scale),
            net.precisions.at[-1].divide(scale**2),
        ),
    )


def layers_of(net: LinearPCN, vector: Array, lengths: tuple[int, ...]) -> Layers:
    """A vector over z_1..z_H as one row per layer, in stacks of these `lengths`."""
    runs, layer, at = [], 1, 0
    for length in lengths:
        width = net.widths[layer]
        runs.append(vector[at : at + length * width].reshape(length, 1, width))
        layer, at = layer + length, at + length * width
    return Layers(tuple(runs))


def vector_of(layers: Layers) -> Float[Array, " activities"]:
    """One row per layer, side by side."""
    return jnp.concatenate([run.ravel() for run in layers.runs])


@jax.jit
def hessian_times(net: LinearPCN, vector: Array) -> Float[Array, " activities"]:
    """H_z v."""
    return vector_of(_activity_hessian_product(net, layers_of(net, vector, net.hidden_lengths)))


@jax.jit
def _swept(net: LinearPCN, factor: Array, vector: Array) -> Float[Array, " activities"]:
    return vector_of(_activity_hessian_solve(net, layers_of(net, vector, net.hidden_lengths), factor))


@jax.jit
def _triangles(net: LinearPCN) -> Triangles:
    """R of B = Q R: its diagonal blocks R_l and those above them, U_{l-1}, l = 1..H, stacked like layers 2..L.

    Layer by layer, with D_1 = sqrt(pi_1) I:  (D_l; -sqrt(pi_{l+1}) A_{l+1}) = Q_l (R_l; 0), and Q_l^T turns
    (0; sqrt(pi_{l+1}) I) into (U_l; D_{l+1}).
    """

    def step(d: Array, layer: Layer) -> tuple[Array, tuple[Array, Array]]:
        width, root = d.shape[1], jnp.sqrt(layer.precision)
        q, r = jnp.linalg.qr(jnp.concatenate([d, -root * layer.matrix]), mode="complete")
        return root * q[width:, width:].T, (r[:width], root * q[width:, :width].T)

    start = jnp.sqrt(net.precisions[0]) * jnp.eye(net.widths[1])
    triangles: Triangles = scan_layers(without_first(net.runs), step, start)[1]
    return triangles


@jax.jit
def solved(net: LinearPCN, triangles: Triangles, vector: Array) -> Float[Array, " activities"]:
    """R^-1 R^-T v."""
    upper = without_first(net.runs)
    sources = layers_of(net, vector, tuple(len(run.scaling) for run in upper))

    def forward(above: Array, _: Layer, v: Array, r: Array, u: Array) -> tuple[Array, Array]:
        w = solve_triangular(r, (v - above).T, trans="T").T
        return w @ u, w

    def backward(from_above: Array, _: Layer, w: Array, r: Array, u: Array) -> tuple[Array, Array]:
        z = solve_triangular(r, (w - from_above @ u.T).T).T
        return z, z

    half = scan_layers(upper, forward, jnp.zeros((1, net.widths[1])), sources, *triangles)[1]
    return vector_of(
        scan_layers(upper, backward, jnp.zeros((1, net.widths[-1])), half, *triangles, reverse=True)[1]
    )
