r"""Extreme eigenvalues of the activity Hessian of a network with an activation, at given activities.

With J_l = a_l W_l diag(phi'(z_{l-1})) + s_l I, the maps of a linear chain, the Hessian for one example is

    H_z = J^T Pi J - diag(C),    C_l = phi''(z_l) * (a_{l+1} W_{l+1}^T pi_{l+1} e_{l+1}),

the first part block tridiagonal like that of the linear chain. C vanishes for piecewise linear functions, such as
ReLU: the Hessian is that of the linearised chain then. At the feedforward activities only C_H does not vanish.
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, ArrayLike, Float

from ..arguments import public
from ..energy import Activities
from ..equilibrium import activity_hessian_dense
from ..network import Layer, Layers, LinearPCN, finite_result, refuse_too_large, scan_layers, without_first
from ..nonlinear import NonlinearPCN, _linearised
from .extremes import (
    EPS,
    SAFETY,
    ActivityHessianExtremes,
    Method,
    Triangles,
    activity_hessian_extremes,
    check_options,
    finite,
    hessian_times,
    layers_of,
    shifted,
    solved,
    vector_of,
)
from .lanczos import largest_eigenpair

DENSE_UP_TO = 1000  # activities: all eigenvalues of a matrix this large take some 0.3 s


@public
def activity_hessian_extremes_nonlinear(
    net: NonlinearPCN,
    activities: Activities,
    x: ArrayLike,
    y: ArrayLike,
    *,
    decay: float = 0.0,
    tolerance: float = 1e-6,
    max_products: int = 3000,
) -> ActivityHessianExtremes:
    r"""The extreme eigenvalues of H_z + decay I for one example, at its `activities`: x and y of one row each.

    The options are those of `activity_hessian_extremes`, whose result this equals for the identity. The smallest
    eigenvalue may be negative. Where the Hessian is positive definite, Lanczos runs on its inverse, by a Cholesky
    factorisation of its blocks (error about eps cond); where it is not, on lambda_max - H_z, which may take more
    products than allowed: read `converged`. There is no derivative at a kink: it is what JAX takes, 0 for
    `jax.nn.relu` at 0.

    Raises as `activity_hessian_extremes`, and ValueError for more than one example.
    Source: mupc-2025/conditioning. Twin: `jax.hessian` of `nonlinear.energy`. Cost: as `activity_hessian_extremes`,
    with O(L N^3) once; dense up to 1,000 activities.
    """
    check_options(decay, tolerance, max_products)
    x, y = net.batch(x, y)
    if len(x) != 1:
        raise ValueError(f"x has {len(x)} rows, expected 1: each example has its own Hessian; call once for each")
    if net.depth == 1:
        raise ValueError("activity_hessian_extremes_nonlinear: a network of depth 1 has no hidden layers; add one")
    chain, bent = _linearised_chain(net, net.linear.hidden(activities, 1), (x, y))
    finite_result("activity_hessian_extremes_nonlinear", (chain, bent))
    if not np.any(bent):
        return activity_hessian_extremes(chain, decay=decay, tolerance=tolerance, max_products=max_products)
    small = len(bent) <= DENSE_UP_TO
    found = _dense(chain, np.asarray(bent)) if small else _lanczos(chain, bent, tolerance, max_products)
    return shifted(found, decay, tolerance)


@eqx.filter_jit
def _linearised_chain(
    net: NonlinearPCN, hidden: Layers, batch: tuple[Array, Array]
) -> tuple[LinearPCN, Float[Array, " activities"]]:
    """The linear network with the maps J_l, and C."""
    chain = _linearised(net, hidden, batch)
    weights = jax.tree.map(lambda w, slope: w * slope, net.weights, chain.slopes)

    def slope(z: Array) -> Array:
        return jax.jvp(net.activation, (z,), (jnp.ones_like(z),))[1]

    def step(_: None, layer: Layer, e: Array, z: Array) -> tuple[None, Array]:
        bend = jax.jvp(slope, (z,), (jnp.ones_like(z),))[1]
        return None, bend * (layer.precision * layer.scaling * (e @ layer.weight))

    upper = without_first(net.linear.runs)
    lengths = tuple(len(run.scaling) for run in upper)
    errors = Layers(without_first(chain.errors.runs))
    bent = scan_layers(upper, step, None, errors, hidden.restacked(lengths))[1]
    return net.linear.with_weights(weights), vector_of(bent)


def _dense(chain: LinearPCN, bent: np.ndarray) -> ActivityHessianExtremes:
    values = np.linalg.eigvalsh(np.asarray(activity_hessian_dense(chain)) - np.diag(bent))
    smallest, largest = float(values[0]), float(values[-1])
    rounding = SAFETY * EPS * float(np.abs(values).max())
    errors = (_relative(rounding, smallest), _relative(rounding, largest))
    return ActivityHessianExtremes(smallest, largest, (0.0, 0.0), errors, True, 0, 0, "dense")


def _relative(error: float, value: float) -> float:
    return error / abs(value) if value else np.inf


def _lanczos(chain: LinearPCN, bent: Array, tolerance: float, max_products: int) -> ActivityHessianExtremes:
    start = np.random.default_rng(0).standard_normal(len(bent))
    largest = partial(largest_eigenpair, start=start, tolerance=tolerance / 2, max_products=max_products)

    def times(vector: np.ndarray) -> np.ndarray:
        return np.asarray(_bent_times(chain, bent, vector))

    high = largest(finite(times))
    hidden, width = chain.depth - 1, max(chain.widths[1:])
    refuse_too_large("activity_hessian_extremes_nonlinear", (2 * hidden, width, width), "take a smaller network")
    triangles = _cholesky(chain, bent)
    top = high.value * (1 + high.residual)
    if all(np.isfinite(part).all() for part in jax.tree.leaves(triangles)):
        low = largest(finite(lambda v: np.asarray(solved(chain, triangles, v))))
        smallest, error = 1 / low.value, low.error + SAFETY * EPS * top * low.value
        method: Method = "cholesky"
    else:
        low = largest(finite(lambda v: top * v - times(v)))
        smallest = top - low.value
        error, method = _relative((low.error + SAFETY * EPS) * low.value, smallest), "products"
    return ActivityHessianExtremes(
        smallest,
        high.value,
        (low.residual, high.residual),
        (error, high.error + 2 * SAFETY * EPS),
        True,
        high.applied + (low.applied if method == "products" else 0),
        low.applied if method == "cholesky" else 0,
        method,
    )


@jax.jit
def _bent_times(chain: LinearPCN, bent: Array, vector: Array) -> Float[Array, " activities"]:
    return hessian_times(chain, vector) - bent * vector


@jax.jit
def _cholesky(chain: LinearPCN, bent: Array) -> Triangles:
    """R of H_z = R^T R, as blocks R_l and U_l above them, stacked like layers 2..L; NaN if it is not positive."""
    upper = without_first(chain.runs)

    def step(below: tuple[Array, Array], layer: Layer, c: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        precision, taken = below
        a = layer.matrix
        own = precision * jnp.eye(a.shape[1]) + layer.precision * a.T @ a - jnp.diag(c[0]) - taken
        pivot = jnp.linalg.cholesky(own)
        above = solve_triangular(pivot, -layer.precision * a.T, lower=True)
        return (layer.precision, above.T @ above), (pivot.T, above)

    curvatures = layers_of(chain, bent, tuple(len(run.scaling) for run in upper))
    start = chain.precisions[0], jnp.zeros((chain.widths[1], chain.widths[1]))
    triangles: Triangles = scan_layers(upper, step, start, curvatures)[1]
    return triangles
