r"""Learning that keeps the network at given steps, and where a run diverged."""

from collections.abc import Iterator, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from ..arguments import public, refuse_too_large, shown
from ..arrays import entry, weight_count
from ..compiled_code import optimised
from .arguments import at_least_one, optimiser_of_optax
from .learning import LearningRule, Net, checked_batches, learning_step, refuse_records


class Snapshots(eqx.Module):
    """Networks after `steps` updates, read like a sequence; inside, stacked along a leading axis."""

    steps: Int[Array, " kept"]
    stacked: Any

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> Any:
        return jax.tree.map(lambda leaf: entry(leaf, index), self.stacked)

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))


class WeightDescent(eqx.Module):
    """What learning leaves: the last network, a record of each step, and the network at some of them."""

    net: Any
    records: PyTree
    snapshots: Snapshots


@public
def weight_descent_snapshots(
    rule: LearningRule,
    net: Net,
    batches: tuple[ArrayLike, ArrayLike],
    optimiser: optax.GradientTransformation,
    *,
    at: Sequence[int],
    steps: int | None = None,
) -> WeightDescent:
    r"""As `weight_descent_by_rule`, and the networks after  t  updates for t in `at`, 0 being the start.

    A record is of the network before the update of its step, so  records[t]  and the snapshot at t belong together.
    A run that diverges is returned as it is, with inf or NaN from some step on: `divergence_step` says which.
    In a sweep (`vmap`, `jax.lax.map`) the other runs go on.

    Raises ValueError where `at` does not increase from 0 or more to at most `steps`, and as `weight_descent`.
    Twin: separate runs of as many steps. Cost: that of the run, and a copy of the weights for each snapshot;
    one compilation per number of snapshots, whichever steps they are at.
    """
    optimiser = optimiser_of_optax(optimiser)
    xs, ys = checked_batches(net, batches)
    count = len(xs) if steps is None else at_least_one("steps", steps)
    kept = jnp.array(_stops(at, count), dtype=int)
    size = weight_count(net.weights)
    refuse_too_large("weight_descent_snapshots: networks x weights", (len(kept), size), "keep fewer of them")
    with optimised(count * xs.shape[1] * size):
        return _training(rule, net, (xs, ys), optimiser, (kept, jnp.asarray(count)), count)


@public
def divergence_step(records: PyTree) -> Float[Array, ""]:
    """The first step whose record holds a number that is not finite; infinity if there is none.

    `records` as learning returns them: a leading axis of steps. Twin: a loop.
    Raises ValueError where there is nothing to look at, or the leading axes differ.
    """
    leaves = [_recorded(leaf) for leaf in jax.tree.leaves(records, is_leaf=lambda v: isinstance(v, Iterator))]
    lengths = {leaf.shape[:1] for leaf in leaves}
    if len(lengths) != 1 or () in lengths or (0,) in lengths:
        shapes = ", ".join(str(leaf.shape) for leaf in leaves)
        raise ValueError(
            f"records has leaves of shape {shapes or 'none'}, expected arrays with a common leading axis of at "
            "least one step; pass what learning returned"
        )
    finite = jnp.stack([jnp.isfinite(leaf).reshape(len(leaf), -1).all(axis=1) for leaf in leaves]).all(axis=0)
    return jnp.where(finite.all(), jnp.inf, jnp.argmin(finite).astype(float))


def _recorded(leaf: Any) -> Array:
    """As an array of JAX; TypeError where it is none of numbers, or would lose its mask or its digits."""
    refused = f"records holds {shown(leaf)}, expected arrays of numbers; pass what learning returned"
    if isinstance(leaf, np.ma.MaskedArray):
        raise TypeError(refused)
    try:
        array = jnp.asarray(leaf if isinstance(leaf, jax.Array) else np.asarray(leaf))
    except (TypeError, ValueError) as error:
        raise TypeError(refused) from error
    if not (jnp.issubdtype(array.dtype, np.number) or array.dtype == bool):
        raise TypeError(refused)
    return array


def _stops(at: Sequence[int], count: int) -> list[int]:
    stops = list(at)
    for number in stops:
        if isinstance(number, bool) or not isinstance(number, int | np.integer):
            raise ValueError(f"at holds {shown(number)}, expected whole numbers: how many updates were made")
    if not stops or stops[0] < 0 or stops[-1] > count or any(np.diff(stops) <= 0):
        raise ValueError(f"at is {stops}, expected at least one step, increasing, from 0 to steps = {count}")
    return stops


@eqx.filter_jit
def _training(
    rule: LearningRule,
    net: Net,
    batches: tuple[Array, Array],
    optimiser: optax.GradientTransformation,
    stops: tuple[Array, Array],
    steps: int,
) -> WeightDescent:
    """Segments of a loop whose ends are data, so that one compilation serves all of them."""
    at, end = stops
    step = learning_step(rule, net, batches, optimiser)
    start = net.weights, optimiser.init(net.weights)
    shapes = jax.eval_shape(lambda carry: step(carry, at[0])[1], start)
    refuse_records([leaf.shape for leaf in jax.tree.leaves(shapes)], steps)
    blank = jax.tree.map(lambda leaf: jnp.zeros((steps, *leaf.shape), leaf.dtype), shapes)

    def moved(t: Array, carry: tuple[Any, PyTree]) -> tuple[Any, PyTree]:
        learning, records = carry
        learning, record = step(learning, t)
        return learning, jax.tree.map(lambda whole, one: whole.at[t].set(one), records, record)

    def until(carry: tuple[Array, Any], stop: Array) -> tuple[tuple[Array, Any], PyTree]:
        t, inner = carry
        inner = jax.lax.fori_loop(t, stop, moved, inner)
        return (stop, inner), net.with_weights(inner[0][0])

    last, nets = jax.lax.scan(until, (jnp.zeros_like(end), (start, blank)), at)
    ((_, ((weights, _), records)), _) = until(last, end)
    return WeightDescent(net.with_weights(weights), records, Snapshots(at, nets))
