r"""Descent directions in weight space, all as vectors of the same kind, so that they can be compared.

    gradient descent     -d loss / d theta
    predictive coding    -dF*/dtheta, inference run to its end
    trust region         -d/dtheta [F(h) - (1/2) g^T I^-1 g], inference replaced by one step; the same if linear
    damped Newton        -(H + damping I)^-1 d loss / d theta,   H the Hessian of the loss
    Gauss-Newton         -(G + damping I)^-1 d loss / d theta,   G = mean J^T J,  J = d output / d theta
    natural gradient     -(N + damping I)^-1 d loss / d theta,
                         N = mean [J^T S^-1 J + (1/2) tr(S^-1 dS S^-1 dS)]

N is the Fisher information in theta of y given x, which the chain, linearised at the feedforward activities, draws
from a Gaussian around the output with the covariance S = sum_l P_l P_l^T / pi_l. (With I / pi_L for S, noise at the
output only, N would be pi_L G.)
"""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float

from .. import nonlinear
from ..arguments import public
from ..arrays import weight_count
from ..equilibrium import equilibrated_gradient
from ..network import Layer, Layers, LinearPCN, Scalar, double_array, finite_result, refuse_too_large, scan_layers
from ..nonlinear import Batch, NonlinearPCN, _feedforward, _linearised, _pulled
from .activities import Network, as_nonlinear
from .decomposition import gradient_decomposition

EPS = float(np.finfo(float).eps)


@public
def weight_directions(
    net: Network, x: ArrayLike, y: ArrayLike, *, damping: Scalar = 2.0
) -> dict[str, Float[Array, " weights"]]:
    r"""The directions by name, each a vector of all weights, layer by layer, each W_l row by row.

    The default damping, 2, is that of trust-region-2023/direction-alignment.
    Raises ValueError for a damping that is negative or leaves a matrix singular, and at depth 1; RuntimeError, with
    the stationarity reached, where inference does not converge (nonlinear networks only); MemoryError for networks
    too large for dense matrices. Twin: the formulas written out. Cost: dense in the number of weights.
    """
    if not 0 <= damping < np.inf:
        raise ValueError(f"damping is {damping}, expected a finite number of at least 0")
    whole = as_nonlinear(net)
    batch = whole.batch(x, y)
    size = weight_count(net.weights)
    refuse_too_large("weight_directions", (size, size), "take a smaller network")
    gradient, hessian, gauss_newton, fisher = _curvatures(whole, batch)
    directions = {
        "gradient descent": -gradient,
        "predictive coding": -ravel_pytree(_equilibrated_gradient(net, x, y))[0],
        "trust region": -gradient_decomposition(net, x, y).model,
    }
    matrices = {"damped Newton": hessian, "Gauss-Newton": gauss_newton, "natural gradient": fisher}
    damped = {name: _damped(name, matrix, gradient, float(damping)) for name, matrix in matrices.items()}
    return finite_result("weight_directions", directions | damped)


@public
def cosines(directions: Mapping[str, ArrayLike]) -> Float[np.ndarray, "directions directions"]:
    """The cosine of the angle between every two directions, in their order.

    Raises ValueError for a direction of length 0, as at a critical point.
    """
    vectors = {k: np.asarray(double_array(v, f"directions, {k!r}", ndim=1)) for k, v in directions.items()}
    if len(sizes := {len(vector) for vector in vectors.values()}) != 1:
        raise ValueError(f"directions have lengths {sorted(sizes)}, expected one length and at least one direction")
    for name, vector in vectors.items():
        if not vector.any():
            raise ValueError(f"directions, {name!r} has length 0, expected a direction: the point may be critical")
    scaled = np.stack([vector / np.abs(vector).max() for vector in vectors.values()])  # no square overflows
    unit = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    return np.asarray(unit @ unit.T)


def _equilibrated_gradient(net: Network, x: ArrayLike, y: ArrayLike) -> Layers:
    if isinstance(net, LinearPCN):
        return equilibrated_gradient(net, x, y)
    found = nonlinear.inference_to_stationarity(net, x, y)
    return nonlinear.partial_weight_gradient(net, found.activities, x, y)


def _damped(name: str, matrix: Array, gradient: Array, damping: float) -> Array:
    """-(matrix + damping I)^-1 gradient; the matrix may be indefinite."""
    try:
        values, vectors = np.linalg.eigh(finite_result("weight_directions", matrix))
    except np.linalg.LinAlgError as error:
        raise FloatingPointError(
            f"weight_directions: the matrix of {name} has no eigenvalues in doubles; rescale weights or data"
        ) from error
    shifted = values + damping
    if np.abs(shifted).min() <= len(values) * EPS * np.abs(shifted).max():
        raise ValueError(f"damping is {damping}, which leaves the matrix of {name} singular; take another")
    return jnp.asarray(-vectors @ ((vectors.T @ gradient) / shifted))


@eqx.filter_jit
def _curvatures(net: NonlinearPCN, batch: Batch) -> tuple[Array, Array, Array, Array]:
    """The gradient and the Hessian of the loss, the Gauss-Newton matrix and the Fisher information."""
    x, y = batch
    vector, split = ravel_pytree(net.weights)

    def loss(vector: Array) -> Array:
        return jnp.sum((y - output(vector)) ** 2) / (2 * len(x))

    def output(vector: Array) -> Float[Array, "batch d_y"]:
        return _feedforward(net.with_weights(split(vector)), x)[-1]

    def covariance(vector: Array) -> Float[Array, "batch d_y d_y"]:
        return _output_covariance(net.with_weights(split(vector)), x)

    outputs, spreads = jax.jacrev(output)(vector), jax.jacrev(covariance)(vector)
    root = jnp.linalg.cholesky(covariance(vector))
    whitened = _left_solved(root, outputs)
    half = jnp.moveaxis(_left_solved(root, spreads), 1, 2)
    relative = _left_solved(root, half)  # R^-1 dS R^-T, symmetric in its two axes
    fisher = jnp.einsum("byi,byj->ij", whitened, whitened) + jnp.einsum("byzi,byzj->ij", relative, relative) / 2
    gauss_newton = jnp.einsum("byi,byj->ij", outputs, outputs)
    return jax.grad(loss)(vector), jax.hessian(loss)(vector), gauss_newton / len(x), fisher / len(x)


def _left_solved(
    root: Float[Array, "batch d d"], arrays: Float[Array, "batch d ..."]
) -> Float[Array, "batch d ..."]:
    """root^-1 applied to the second axis."""
    flat = arrays.reshape(*arrays.shape[:2], -1)
    return jax.scipy.linalg.solve_triangular(root, flat, lower=True).reshape(arrays.shape)


def _output_covariance(net: NonlinearPCN, x: Array) -> Float[Array, "batch d_y d_y"]:
    """S of each example: sum_l P_l P_l^T / pi_l of the chain linearised at its feedforward activities."""
    d_y = net.widths[-1]
    refuse_too_large("weight_directions", (len(x), d_y, max(net.widths)), "take fewer examples or outputs")
    hidden = _feedforward(net, x).without_last()
    slopes = _linearised(net, hidden, (x, jnp.zeros((len(x), d_y)))).slopes

    def step(above: tuple[Array, Array], layer: Layer, slope: Array) -> tuple[tuple[Array, Array], None]:
        p, s = above
        return (_pulled(layer, slope[:, None, :], p), s + p @ jnp.swapaxes(p, 1, 2) / layer.precision), None

    nothing = jnp.zeros((len(x), d_y, d_y))
    start = nothing + jnp.eye(d_y), nothing
    return scan_layers(net.linear.runs, step, start, slopes, reverse=True)[0][1]
