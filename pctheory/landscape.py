r"""Landscapes: an objective on a line or a plane of networks through a given one.

    net(t) = net + t_1 direction_1 + t_2 direction_2,       weights as one vector, layer by layer, each row by row

Defined here
    landscape_values     an objective at the points of a grid of such networks
    landscape_field      its negative gradient, projected on the line or plane
    random_directions, filter_normalised_directions     where to go; any other vectors, such as eigenvectors, do

Directions are the rows of an array (1 or 2, weights). Axes are the coordinates t_1 (and t_2) at which to look. On
a plane entry [i, j] is at t_1 = axes[0][j], t_2 = axes[1][i], as contour plots take it; on a line, [j].
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float

from .arguments import listed, public, random_generator, refuse_too_large, shown
from .arrays import array_returned, on_device, weight_count
from .network import double_array

Objective = Callable[[Any, Array, Array], Array]


@runtime_checkable
class Network(Protocol):
    """What a landscape needs of a network: `LinearPCN` and `NonlinearPCN` have it."""

    @property
    def weights(self) -> Any:
        """All that the directions move."""
        ...

    def with_weights(self, weights: Any) -> Any:
        """The same network with other weights."""
        ...

    def batch(self, x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
        """`x` and `y` as checked batches."""
        ...


Axes = Sequence[ArrayLike | Sequence[float]]
Directions = Float[Array, "dimensions weights"]
Batch = tuple[Float[Array, "batch d_x"], Float[Array, "batch d_y"]]


@public
def landscape_values(
    objective: Objective,
    net: Network,
    x: ArrayLike,
    y: ArrayLike,
    *,
    directions: ArrayLike,
    axes: Axes,
) -> Float[np.ndarray, "..."]:
    """`objective(net, x, y)` on the grid. Axes after those of the grid are those that the objective returns.

    Raises ValueError for directions of another length, none or more than two, and axes that do not fit them;
    FloatingPointError, with the coordinates, where the objective is not finite.
    Twin: a loop over networks. Cost: one compilation per objective and shape; memory for one row at a time.
    """
    directions, points = _grid(net, directions, axes)
    _shape(objective, net, x, y)
    values = np.asarray(_values(objective, net, net.batch(x, y), directions, points))
    return _finite("objective", values, points)[0 if len(axes) == 1 else slice(None)]


@public
def landscape_field(
    objective: Objective,
    net: Network,
    x: ArrayLike,
    y: ArrayLike,
    *,
    directions: ArrayLike,
    axes: Axes,
) -> Float[np.ndarray, "... dimensions"]:
    r"""Minus the weight gradient g, projected on the line or plane: its coordinates c along the last axis.

        sum_k c_k direction_k = -(projection of g),      D D^T c = -D g,   D the directions as rows

    Raises as `landscape_values`, and ValueError for directions that are not linearly independent.
    Twin: `numpy.linalg.lstsq` on the whole gradient. Cost: a gradient a point; memory for one row at a time.
    """
    directions, points = _grid(net, directions, axes)
    if np.linalg.matrix_rank(directions) < len(directions):
        raise ValueError("directions are linearly dependent, expected a plane; change one of them")
    if (shape := _shape(objective, net, x, y)) != ():
        raise ValueError(f"objective returns shape {shape}, expected a number; sum or average it")
    slopes = np.asarray(_slopes(objective, net, net.batch(x, y), directions, points))
    try:
        coordinates = -np.linalg.solve(np.asarray(directions @ directions.T), slopes[..., None])[..., 0]
    except np.linalg.LinAlgError as error:
        raise ValueError("directions are too short for their squares, expected longer ones") from error
    return _finite("the gradient of objective", coordinates, points)[0 if len(axes) == 1 else slice(None)]


@public
def random_directions(net: Network, count: int, *, seed: int) -> Directions:
    """`count` unit vectors, each evenly distributed over all directions of the weights. Nearly orthogonal."""
    drawn = _normal(net, count, seed)
    return drawn / jnp.linalg.norm(drawn, axis=1, keepdims=True)


@public
def filter_normalised_directions(net: Network, count: int, *, seed: int) -> Directions:
    r"""Normally distributed vectors, each row of each layer rescaled to the norm of that row of the weights.

    A filter of a linear layer is a row of W_l, the weights into one unit. So coordinate 1 changes every unit by as
    much as it has, whatever the scale of its layer. Where a row of the weights is 0, so is that of the direction.

    Raises ValueError where all weights are 0.
    Source: Li, Xu, Taylor, Studer, Goldstein, Visualizing the Loss Landscape of Neural Nets, arXiv 1712.09913.
    """
    weights, unravelled = ravel_pytree(net.weights)
    if not np.any(weights):
        raise ValueError("the weights of net are all 0, and so would the directions be; use random_directions")

    def normalised(direction: Array) -> Array:
        rows = jax.tree.map(_with_rows_of, unravelled(direction), net.weights)
        return ravel_pytree(rows)[0]

    return jax.vmap(normalised)(_normal(net, count, seed))


def _with_rows_of(drawn: Array, weight: Array) -> Array:
    sizes = jnp.linalg.norm(weight, axis=-1, keepdims=True) / jnp.linalg.norm(drawn, axis=-1, keepdims=True)
    return drawn * sizes


def _normal(net: Network, count: int, seed: int) -> Directions:
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise ValueError(f"count is {shown(count)}, expected a whole number of directions, at least 1")
    size = weight_count(net.weights)
    refuse_too_large("count of directions", (count, size), "take fewer")
    return on_device(random_generator(seed).standard_normal((count, size)))


def _shape(objective: Objective, net: Network, x: ArrayLike, y: ArrayLike) -> tuple[int, ...]:
    """Of what the objective returns; TypeError where that is no array of numbers."""
    batch = net.batch(x, y)
    try:
        made = jax.eval_shape(objective, net, *batch)
    except TypeError:  # of the objective itself, or of JAX at what it returned: looked at, that one says so
        made = jax.eval_shape(lambda *given: array_returned("objective", objective(*given)), net, *batch)
    if not hasattr(made, "shape") or not jnp.issubdtype(made.dtype, jnp.floating):
        raise TypeError(f"objective returns {shown(made)}, expected a number")
    return tuple(made.shape)


def _grid(
    net: Network, directions: ArrayLike, axes: Axes
) -> tuple[Directions, Float[Array, "rows columns dimensions"]]:
    """The checked directions, and the coordinates of every point in rows and columns: one row on a line."""
    directions = double_array(directions, "directions", ndim=2)
    size = weight_count(net.weights)
    if directions.shape[1] != size or len(directions) > 2:
        raise ValueError(
            f"directions has shape {directions.shape}, expected (1 or 2, {size}): one number per weight, ordered "
            "as in weight_vector"
        )
    axes = listed("axes", axes)
    if len(axes) != len(directions):
        raise ValueError(f"axes has {len(axes)} entries, expected {len(directions)}: one for each direction")
    checked = [double_array(axis, f"axes, direction {k}", ndim=1) for k, axis in enumerate(axes, start=1)]
    refuse_too_large("a row of the grid, with weights", (len(checked[0]), size), "take fewer points on axis 1")
    if len(checked) == 1:
        return directions, on_device(np.asarray(checked[0])[None, :, None])
    return directions, on_device(np.stack(np.meshgrid(*checked), axis=-1))


def _finite(name: str, values: np.ndarray, points: Array) -> np.ndarray:
    if not np.isfinite(values).all():
        where = tuple(np.argwhere(~np.isfinite(values))[0])
        coordinates = ", ".join(f"{t:.4g}" for t in np.asarray(points)[where[:2]])
        raise FloatingPointError(f"{name} is {values[where]} at coordinates ({coordinates}); shorten the axes")
    return values


def _moved(objective: Objective, net: Network, batch: Batch, directions: Directions) -> Callable[[Array], Array]:
    """The objective as a function of the coordinates."""
    centre, unravelled = ravel_pytree(net.weights)
    return lambda point: objective(net.with_weights(unravelled(centre + point @ directions)), *batch)


@eqx.filter_jit
def _values(objective: Objective, net: Network, batch: Batch, directions: Directions, points: Array) -> Array:
    return jax.lax.map(jax.vmap(_moved(objective, net, batch, directions)), points)


@eqx.filter_jit
def _slopes(objective: Objective, net: Network, batch: Batch, directions: Directions, points: Array) -> Array:
    return jax.lax.map(jax.vmap(jax.grad(_moved(objective, net, batch, directions))), points)
