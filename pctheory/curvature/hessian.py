r"""The Hessian of any objective of a network in all its weights: dense, matrix-free, by layer.

An objective is any `objective(net, x, y) -> number`: `loss`, `equilibrated_energy`, or one's own in JAX. Weights
are one vector, layer by layer in order 1..L, each W_l row by row:  concatenate([W_1.ravel(), .., W_L.ravel()]).

Method: the gradient is linearised once; a product is its derivative along a direction. The gradient of
`equilibrated_energy` is taken in closed form (`equilibrated_gradient`).
"""

from collections.abc import Callable
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float
from scipy.sparse.linalg import LinearOperator

from ..arguments import public
from ..arrays import number_returned, ravelled, weight_count
from ..equilibrium import equilibrated_energy, equilibrated_gradient
from ..network import Layers, LinearPCN, double_array, finite_result, is_concrete, refuse_too_large

Objective = Callable[[LinearPCN, Array, Array], Array]
TangentMap = Callable[[Layers], Layers]
Batch = tuple[Float[Array, "batch d_x"], Float[Array, "batch d_y"]]

COLUMNS_AT_ONCE = 2**22  # numbers in one chunk of the dense Hessian: 32 MiB, small beside what it is part of


@public
def weight_vector(net: LinearPCN) -> Float[Array, " weights"]:
    """All weights as one vector, layer by layer, each W_l row by row. `net_at` undoes it."""
    return ravelled(net.weights.runs)


@public
def net_at(net: LinearPCN, vector: ArrayLike) -> LinearPCN:
    """The network with the weights of `vector`, ordered as in `weight_vector`, and all else as in `net`.

    Raises ValueError for a vector of another length. Works under `jit`, `vmap` and `grad`.
    """
    vector = double_array(vector, "vector", ndim=1)
    if vector.shape != (weight_count(net.weights),):
        raise ValueError(
            f"vector has shape {vector.shape}, expected ({weight_count(net.weights)},): one number per weight, "
            "ordered as in weight_vector"
        )
    return net.with_weights(_split(net, vector))


@public
def weight_gradient(objective: Objective, net: LinearPCN, x: ArrayLike, y: ArrayLike) -> Float[Array, " weights"]:
    """d objective / d weights as one vector, ordered as in `weight_vector`; in closed form for F*.

    Raises ValueError for an objective that is no number, FloatingPointError for one that is not finite.
    """
    value, gradient = _weight_gradient(objective, net, net.batch(x, y))
    _refuse(value)
    return finite_result("weight_gradient", gradient)


@public
def weight_hessian_dense(
    objective: Objective, net: LinearPCN, x: ArrayLike, y: ArrayLike
) -> Float[Array, "weights weights"]:
    r"""d^2 objective / d weights^2, ordered as in `weight_vector`, symmetric to rounding.

    Raises MemoryError, before allocating, where the matrix exceeds the machine's memory; ValueError for an
    objective that is no number, FloatingPointError for one that is not finite.
    Twin: `jax.hessian` of the objective written out in plain products. Cost: one product a weight, in chunks.
    """
    size = weight_count(net.weights)
    refuse_too_large("weight_hessian_dense", (size, size), "use weight_hessian_operator with extreme_eigenpairs")
    chunk = int(np.clip(COLUMNS_AT_ONCE // size, 1, size))
    value, dense = _weight_hessian_dense(objective, net, net.batch(x, y), chunk)
    _refuse(value)
    return finite_result("weight_hessian_dense", dense)


@public
def weight_hessian_operator(objective: Objective, net: LinearPCN, x: ArrayLike, y: ArrayLike) -> LinearOperator:
    """The Hessian as `v -> H v`, without forming it; a symmetric SciPy operator of real vectors.

    Raises as `weight_hessian_dense`, save MemoryError; a product raises for vectors that are not finite.
    Twin: `weight_hessian_dense`. Cost: a product is below five gradients (`benchmarks curvature`).
    """
    value, tangent_map = _linearised_gradient(objective, net, net.batch(x, y))
    _refuse(value)

    def product(vector: np.ndarray) -> np.ndarray:
        image = _weight_hessian_product(net, tangent_map, double_array(np.ravel(vector), "vector"))
        return np.asarray(finite_result("weight_hessian_operator", image))

    size = weight_count(net.weights)
    return LinearOperator((size, size), matvec=product, rmatvec=product, dtype=np.float64)


@public
def weight_hessian_blocks(
    objective: Objective, net: LinearPCN, x: ArrayLike, y: ArrayLike
) -> list[list[Float[Array, "rows columns"]]]:
    """The Hessian by layer: `blocks[k - 1][l - 1]` has the entries of W_k in rows, of W_l in columns.

    Raises and cost: as `weight_hessian_dense`.
    """
    return _blocks(net, weight_hessian_dense(objective, net, x, y))


def _split(net: LinearPCN, vector: Float[Array, " weights"]) -> Layers:
    """`vector` in the shapes of the weights."""
    stops = np.cumsum([0, *(run.size for run in net.weights.runs)]).tolist()
    parts = zip(pairwise(stops), net.weights.runs, strict=True)
    return Layers(tuple(vector[i:j].reshape(run.shape) for (i, j), run in parts))


@jax.jit
def _blocks(net: LinearPCN, dense: Float[Array, "weights weights"]) -> list[list[Float[Array, "rows columns"]]]:
    stops = np.cumsum([0, *(rows * columns for rows, columns in net.weights.shapes)]).tolist()
    layers = list(pairwise(stops))
    return [[dense[i:j, k:l] for k, l in layers] for i, j in layers]


def _refuse(value: Array) -> None:
    """FloatingPointError where the objective, known by its value, is not finite."""
    if is_concrete(value) and not np.isfinite(value):
        raise FloatingPointError(
            f"objective is {value} at this network, expected a finite number; rescale weights or data"
        )


def _value(objective: Objective, net: LinearPCN, batch: Batch) -> Array:
    return number_returned("objective", objective(net, *batch))


def _layer_gradients(objective: Objective, net: LinearPCN, batch: Batch) -> Layers:
    if objective is equilibrated_energy:
        return equilibrated_gradient(net, *batch)
    return jax.grad(lambda weights: objective(net.with_weights(weights), *batch))(net.weights)


@eqx.filter_jit
def _weight_gradient(objective: Objective, net: LinearPCN, batch: Batch) -> tuple[Array, Float[Array, " weights"]]:
    value = _value(objective, net, batch)
    return value, ravelled(_layer_gradients(objective, net, batch).runs)


@eqx.filter_jit
def _linearised_gradient(objective: Objective, net: LinearPCN, batch: Batch) -> tuple[Array, TangentMap]:
    """The value, and the gradient's derivative as a linear map: all that is the same for all directions is kept."""
    value = _value(objective, net, batch)

    def gradient(weights: Layers) -> Layers:
        return _layer_gradients(objective, net.with_weights(weights), batch)

    return value, jax.linearize(gradient, net.weights)[1]


@eqx.filter_jit
def _weight_hessian_product(
    net: LinearPCN, tangent_map: TangentMap, vector: Float[Array, " weights"]
) -> Float[Array, " weights"]:
    return ravelled(tangent_map(_split(net, vector)).runs)


@eqx.filter_jit
def _weight_hessian_dense(
    objective: Objective, net: LinearPCN, batch: Batch, chunk: int
) -> tuple[Array, Float[Array, "weights weights"]]:
    size = weight_count(net.weights)
    value, tangent_map = _linearised_gradient(objective, net, batch)

    def row(index: Array) -> Array:
        return _weight_hessian_product(net, tangent_map, jnp.zeros(size).at[index].set(1.0))

    def filled(i: Array, dense: Array) -> Array:
        start = jnp.minimum(i * chunk, size - chunk)  # the last chunk overlaps the one before
        rows = jax.vmap(row)(start + jnp.arange(chunk))
        return jax.lax.dynamic_update_slice(dense, rows, (start, 0))

    return value, jax.lax.fori_loop(0, -(-size // chunk), filled, jnp.zeros((size, size)))
