"""Where a trust region lives: the hidden activities of a network, as layers and as plain vectors.

A vector holds (z_1, .., z_H) of one example, layer by layer.
"""

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import TypeAlias

import jax
import numpy as np
from jaxtyping import Array, ArrayLike, Float
from scipy.sparse.linalg import LinearOperator

from ..arguments import public
from ..arrays import checked_array, without_compiling
from ..energy import Activities
from ..network import Layers, LinearPCN
from ..nonlinear import NonlinearPCN, _feedforward

Network: TypeAlias = LinearPCN | NonlinearPCN
Product: TypeAlias = Callable[[Layers], Layers]


def identity(z: Array) -> Array:
    """The activation of a linear network."""
    return z


def as_nonlinear(net: Network) -> NonlinearPCN:
    """`net` itself, or the linear one with the identity as its activation.

    Raises ValueError at depth 1, TypeError for an activation that JAX cannot differentiate.
    """
    if net.depth == 1:
        raise ValueError("trust_region: a network of depth 1 has no hidden layers; add one")
    if not isinstance(net, NonlinearPCN):
        return NonlinearPCN(net, identity)
    try:
        _differentiated(net.activation)
    except (TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise TypeError(f"activation has no derivative ({reason}); give it one with jax.custom_jvp") from error
    return net


@lru_cache
def _differentiated(activation: Callable[[Array], Array]) -> None:
    """Raises what JAX raises where it cannot differentiate this."""
    jax.eval_shape(lambda z: jax.jvp(activation, (z,), (z,)), np.ones((1, 1)))


def start_activities(net: NonlinearPCN, x: Array, at: Activities | None) -> Layers:
    """The hidden activities `at`, checked; those of the feedforward pass unless given."""
    return _feedforward(net, x).without_last() if at is None else net.linear.hidden(at, len(x), "at")


@public
def activity_vectors(activities: Layers) -> Float[Array, "rows n"]:
    """Hidden activities, or anything shaped like them, as one vector a row. `activities_of` undoes it."""
    return without_compiling(
        lambda xp, runs: xp.concatenate([xp.moveaxis(run, 0, 1).reshape(run.shape[1], -1) for run in runs], axis=1),
        activities.runs,
    )


@public
def activities_of(net: Network, vectors: ArrayLike) -> Layers:
    """The rows of `vectors` as hidden activities of `net`. Raises ValueError for rows of another length."""
    rows, widths = checked_array(vectors, "vectors", ndim=2), net.widths[1:-1]
    if rows.shape[1] != sum(widths):
        raise ValueError(f"vectors has {rows.shape[1]} columns, expected {sum(widths)}: one for each hidden unit")
    stops = np.cumsum([0, *widths]).tolist()
    linear = net.linear if isinstance(net, NonlinearPCN) else net
    return linear.hidden([rows[:, i:j] for i, j in pairwise(stops)], len(rows))


@public
def activity_operator(net: Network, product: Product) -> LinearOperator:
    """`product` (of a metric or a curvature at one example, or its inverse) as a SciPy operator of vectors."""
    size = sum(net.widths[1:-1])

    def image(vector: np.ndarray) -> np.ndarray:
        return np.asarray(activity_vectors(product(activities_of(net, np.reshape(vector, (1, size)))))[0])

    return LinearOperator((size, size), matvec=image, rmatvec=image, dtype=np.float64)
