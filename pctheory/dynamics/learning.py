r"""Learning in steps: an optimiser of optax on the weights of a network."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Float, PyTree

from ..arguments import public, refuse_too_large, shown
from ..arrays import like_weights, number_returned, weight_count
from ..compiled_code import optimised
from ..network import double_array
from .arguments import at_least_one, optimiser_of_optax, pair, recorded


@runtime_checkable
class Network(Protocol):
    """What learning needs to know of a network: `LinearPCN` has it. It must be a pytree of JAX."""

    @property
    def weights(self) -> PyTree[Array]:
        """All that is learned."""
        ...

    @property
    def widths(self) -> tuple[int, ...]:
        """(N_0, .., N_L)."""
        ...

    def with_weights(self, weights: Any) -> Any:
        """The same network with other weights."""
        ...

    def batch(self, x: ArrayLike, y: ArrayLike) -> tuple[Float[Array, "batch d_x"], Float[Array, "batch d_y"]]:
        """`x` and `y` as checked batches."""
        ...


Net = TypeVar("Net", bound=Network)
Objective = Callable[[Any, Array, Array], Array]
WeightRecord = Callable[[Any, Array, Array], Any]
LearningRule = Callable[[Any, Array, Array], tuple[PyTree, Any]]


@public
def weight_descent(
    objective: Objective,
    net: Net,
    batches: tuple[ArrayLike, ArrayLike],
    optimiser: optax.GradientTransformation,
    *,
    record: WeightRecord,
    steps: int | None = None,
) -> tuple[Net, PyTree]:
    r"""Train the weights:  W <- W + optimiser(d objective(net, x, y) / dW),  one batch after another.

    `batches` is (xs, ys), one batch per leading index. `steps` updates are made, starting over at the first batch
    when they run out (default: each batch once); a fixed batch is  (x[None], y[None])  with `steps`.
    `record(net, x, y)` is any pytree, evaluated on each batch before its update.

    Returns the final network and the records, stacked along a leading axis of length `steps`.
    A run that diverges is returned as it is: records and weights hold inf or NaN from there on; look at them.
    Raises ValueError, TypeError for what is no batch, optimiser or scalar objective.
    Twin: a Python loop. Cost: one compilation per pair of shapes and objects `objective`, `optimiser` and `record`:
    define them once, not in the call, to compile once.
    """
    rule = GradientRule(objective, record)
    return weight_descent_by_rule(rule, net, batches, optimiser, steps=steps)


@public
def weight_descent_by_rule(
    rule: LearningRule,
    net: Net,
    batches: tuple[ArrayLike, ArrayLike],
    optimiser: optax.GradientTransformation,
    *,
    steps: int | None = None,
) -> tuple[Net, PyTree]:
    """As `weight_descent`, for  rule(net, x, y) -> (direction like the weights, record).

    For rules that are no gradient of an objective, or that find direction and record together: PC's local rule at
    activities that inference reached is one.
    """
    optimiser = optimiser_of_optax(optimiser)
    xs, ys = checked_batches(net, batches)
    count = len(xs) if steps is None else at_least_one("steps", steps)
    with optimised(count * xs.shape[1] * weight_count(net.weights)):
        return _weight_descent(rule, net, (xs, ys), optimiser, count)


class GradientRule(eqx.Module):
    """The gradient of an objective as a learning rule, with a record beside it."""

    objective: Objective
    record: WeightRecord

    def __call__(self, net: Network, x: Array, y: Array) -> tuple[PyTree, Any]:
        """(gradient, record)."""
        return self.gradient(net, x, y), self.record(net, x, y)

    def gradient(self, net: Network, x: Array, y: Array) -> PyTree:
        """d objective / d weights; ValueError where the objective is no number."""

        def value(weights: PyTree) -> Array:
            return number_returned("objective", self.objective(net.with_weights(weights), x, y))

        return jax.grad(value)(net.weights)


def checked_batches(net: Network, batches: tuple[ArrayLike, ArrayLike]) -> tuple[Array, Array]:
    """`batches` as (xs, ys), finite and with the columns that `net` has; TypeError or ValueError otherwise."""
    xs, ys = (
        double_array(part, f"batches, {name}", ndim=3)
        for name, part in zip(("xs", "ys"), pair("batches", batches), strict=True)
    )
    wanted = (*xs.shape[:2], net.widths[-1])
    if xs.shape[2] != net.widths[0] or ys.shape != wanted:
        raise ValueError(
            f"batches: xs has shape {xs.shape} and ys {ys.shape}, expected (batches, examples, columns) with "
            f"N_0 = {net.widths[0]} and N_L = {net.widths[-1]} columns"
        )
    return xs, ys


def learning_step(
    rule: LearningRule, net: Network, batches: tuple[Array, Array], optimiser: optax.GradientTransformation
) -> Callable[[tuple[PyTree, PyTree], Array], tuple[tuple[PyTree, PyTree], PyTree]]:
    """One update as a function of (weights, state of the optimiser) and the step's number, for a loop of JAX."""

    def step(carry: tuple[PyTree, PyTree], index: Array) -> tuple[tuple[PyTree, PyTree], PyTree]:
        weights, state = carry
        x, y = (part[index % len(part)] for part in batches)
        made = rule(net.with_weights(weights), x, y)
        if not (isinstance(made, tuple) and len(made) == 2):
            raise TypeError(f"rule returns {shown(made)}, expected (direction, record)")
        direction, record = made
        updates, state = optimiser.update(like_weights("rule", direction, weights), state, weights)
        return (optax.apply_updates(weights, updates), state), recorded(record)

    return step


def refuse_records(shapes: Iterable[tuple[int, ...]], steps: int) -> None:
    """Raises MemoryError where as many records, one of arrays of these shapes, are larger than the memory."""
    numbers = sum(map(math.prod, shapes))
    refuse_too_large("records: steps x numbers in one", (steps, numbers), "take fewer steps, or record less")


@eqx.filter_jit
def _weight_descent(
    rule: LearningRule,
    net: Net,
    batches: tuple[Array, Array],
    optimiser: optax.GradientTransformation,
    steps: int,
) -> tuple[Net, PyTree]:
    start = net.weights, optimiser.init(net.weights)
    step = learning_step(rule, net, batches, optimiser)
    (weights, _), records = jax.lax.scan(step, start, jnp.arange(steps))
    refuse_records([leaf.shape[1:] for leaf in jax.tree.leaves(records)], steps)  # traced: nothing is allocated yet
    return net.with_weights(weights), records
