"""Functions of the weights over a plane of networks: what the figures of landscapes compute."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float

from pctheory import LinearPCN, equilibrated_energy, loss

Values = npt.NDArray[np.float64]
Batch = tuple[Array, Array]
Function = Callable[[Float[Array, "2"]], Array]

OBJECTIVES = {"loss": loss, "energy": equilibrated_energy}


def chain(weights: Float[Array, " depth"]) -> LinearPCN:
    """The network of one unit in every layer with these weights, w_1 first."""
    return LinearPCN(list(weights[:, None, None]))


def over_plane(function: Function, first: Values, second: Values) -> Values:
    """`function` of the points (first[j], second[i]) as entry [i, j], as contour plots take it."""
    return at_points(function, jnp.stack(jnp.meshgrid(jnp.asarray(first), jnp.asarray(second)), axis=-1))


def at_points(function: Function, points: Float[Array, "rows columns 2"]) -> Values:
    """`function` of each point; axes after the first two are those that it returns.

    Cost: one compilation per function and number of points; memory for one row at a time.
    """
    return np.asarray(_at_points(function, points))


@partial(jax.jit, static_argnums=0)
def _at_points(function: Function, points: Array) -> Any:
    return jax.lax.map(jax.vmap(function), points)
