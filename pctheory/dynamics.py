r"""Descent and flow: learning on the weights, inference on the activities.

Defined here
    weight_descent             an optax optimiser on any objective of a network
    weight_descent_by_rule     the same for any learning rule, gradient or not, that also says what to record
    inference_descent          gradient descent on the hidden activities
    inference_flow             gradient flow on the hidden activities, solved adaptively

Normalisation: objectives are means over the batch, as in `energy`; inference moves each example along its own
gradient  H_z z - b,  without the 1/B of the batch mean, so rates and times do not depend on the batch.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from .energy import Activities, _activity_gradient, _layer_energies, energy, feedforward
from .equilibrium import _needs_hidden_layers
from .network import Layers, LinearPCN, double_array, finite_result, is_concrete

Objective = Callable[[LinearPCN, Array, Array], Array]
WeightRecord = Callable[[LinearPCN, Array, Array], Any]
LearningRule = Callable[[LinearPCN, Array, Array], tuple[Layers, Any]]
Function = TypeVar("Function", bound=Callable[..., Any])
ActivityRecord = Callable[[LinearPCN, Layers, Array, Array], Any]


class InferenceFlow(eqx.Module):
    """Where a gradient flow on the hidden activities ended, and how near that is to an equilibrium.

    energy: the energy reached, batch mean. stationarity: the largest entry of the per-example gradient H_z z - b,
    divided by the largest entry of y and the activities. steps: how many steps the solver tried, rejected included.
    """

    activities: Layers
    energy: Float[Array, ""]
    stationarity: Float[Array, ""]
    steps: Int[Array, ""]


def weight_descent(
    objective: Objective,
    net: LinearPCN,
    batches: tuple[ArrayLike, ArrayLike],
    optimiser: optax.GradientTransformation,
    *,
    record: WeightRecord,
    steps: int | None = None,
) -> tuple[LinearPCN, PyTree]:
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
    rule = _GradientRule(_function("objective", objective), _function("record", record))
    return weight_descent_by_rule(rule, net, batches, optimiser, steps=steps)


def weight_descent_by_rule(
    rule: LearningRule,
    net: LinearPCN,
    batches: tuple[ArrayLike, ArrayLike],
    optimiser: optax.GradientTransformation,
    *,
    steps: int | None = None,
) -> tuple[LinearPCN, PyTree]:
    """As `weight_descent`, for  rule(net, x, y) -> (direction stacked like the weights, record).

    For rules that are no gradient of an objective, or that find direction and record together: PC's local rule at
    activities that inference reached is one.
    """
    if not isinstance(optimiser, optax.GradientTransformation):
        raise TypeError(f"optimiser is {optimiser!r}, expected one of optax, such as optax.sgd(0.1)")
    xs, ys = _batches(net, batches)
    count = len(xs) if steps is None else _at_least_one("steps", steps)
    return _weight_descent(_function("rule", rule), net, (xs, ys), optimiser, count)


def inference_descent(
    net: LinearPCN,
    x: ArrayLike,
    y: ArrayLike,
    *,
    rate: float | Float[Array, ""],
    steps: int,
    record: ActivityRecord = energy,
    start: Activities | None = None,
) -> tuple[Layers, PyTree]:
    r"""Gradient descent on the activities of each example,  z <- z - rate (H_z z - b).

    No 1/B in it: on the batch-mean energy this is a rate of B rate. The descent converges from everywhere iff
    rate < 2 / lambda_max(H_z). From the feedforward activities unless `start` (z_1..z_H) is given.
    `record(net, activities, x, y)` is any pytree; the default is the energy.

    Returns the last activities and the records at steps 0, 1, .., `steps`. A descent that diverges is returned as
    it is: records and activities grow to inf or NaN; look at them.
    Raises ValueError for a rate that is not positive and finite, `steps` below 1, and a net without hidden layers.
    Source: own/step-stability. Twin: z_t - z* = (I - rate H_z)^t (z_0 - z*) with the dense H_z.
    """
    _needs_hidden_layers(net, "inference_descent")
    rate, steps = _positive("rate", rate), _at_least_one("steps", steps)
    x, y = net.batch(x, y)
    hidden = feedforward(net, x).without_last() if start is None else net.hidden(start, len(x))
    return _inference_descent(net, hidden, (x, y), rate, steps=steps, record=_function("record", record))


def inference_flow(
    net: LinearPCN,
    x: ArrayLike,
    y: ArrayLike,
    *,
    duration: float | Float[Array, ""],
    relative_tolerance: float | Float[Array, ""],
    absolute_tolerance: float | Float[Array, ""],
    max_steps: int = 100_000,
) -> InferenceFlow:
    r"""Gradient flow on the activities of each example,  dz/dt = b - H_z z,  from the feedforward activities.

    Heun's method with adaptive steps (diffrax, PID controller), one step size for the whole batch, until t =
    `duration`. That the flow is over then is not promised: read `stationarity`.

    Raises RuntimeError when `max_steps` do not reach `duration`; inside `jit`, `vmap` or `scan`, where nothing can
    be raised, activities, energy and stationarity are NaN then. ValueError for a duration or tolerance that is not
    positive and finite, and a net without hidden layers.
    Source: jpc-2024. Twin: z(t) - z* = exp(-H_z t) (z_0 - z*) with the dense H_z.
    Cost: two passes a step; stability needs at least about lambda_max(H_z) duration / 2 steps.
    """
    _needs_hidden_layers(net, "inference_flow")
    x, y = net.batch(x, y)
    flow, reached = _inference_flow(
        net,
        (x, y),
        _positive("duration", duration),
        (_positive("relative_tolerance", relative_tolerance), _positive("absolute_tolerance", absolute_tolerance)),
        _at_least_one("max_steps", max_steps),
    )
    if is_concrete(reached) and not reached:
        raise RuntimeError(
            f"inference_flow: {flow.steps} steps did not reach duration {duration}; raise max_steps, or give a "
            "shorter duration or larger tolerances"
        )
    return finite_result("inference_flow", flow)


class _GradientRule(eqx.Module):
    """The gradient of an objective as a learning rule, with a record beside it."""

    objective: Objective
    record: WeightRecord

    def __call__(self, net: LinearPCN, x: Array, y: Array) -> tuple[Layers, Any]:
        def value(weights: Layers) -> Array:
            result = self.objective(net.with_weights(weights), x, y)
            if jnp.shape(result) != ():
                raise ValueError(
                    f"objective returns shape {jnp.shape(result)}, expected a number; sum or average it"
                )
            return result

        return jax.grad(value)(net.weights), self.record(net, x, y)


def _batches(net: LinearPCN, batches: tuple[ArrayLike, ArrayLike]) -> tuple[Array, Array]:
    if not (isinstance(batches, tuple) and len(batches) == 2):
        raise TypeError(
            f"batches is a {type(batches).__name__}, expected (xs, ys), each (batches, examples, columns)"
        )
    xs, ys = (
        double_array(part, f"batches, {name}", ndim=3) for name, part in zip(("xs", "ys"), batches, strict=True)
    )
    wanted = (*xs.shape[:2], net.widths[-1])
    if xs.shape[2] != net.widths[0] or ys.shape != wanted:
        raise ValueError(
            f"batches: xs has shape {xs.shape} and ys {ys.shape}, expected (batches, examples, columns) with "
            f"N_0 = {net.widths[0]} and N_L = {net.widths[-1]} columns"
        )
    return xs, ys


def _function(name: str, value: Function) -> Function:
    if not callable(value):
        raise TypeError(f"{name} is {value!r}, expected a function of a network and a batch")
    return value


def _positive(name: str, value: float | Array) -> Array:
    if np.ndim(value) or (is_concrete(value) and not 0 < value < np.inf):
        raise ValueError(f"{name} is {value}, expected a positive finite number")
    return jnp.asarray(value, dtype=float)


def _at_least_one(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} is {value!r}, expected a whole number of at least 1")
    return int(value)


@eqx.filter_jit
def _weight_descent(
    rule: LearningRule,
    net: LinearPCN,
    batches: tuple[Array, Array],
    optimiser: optax.GradientTransformation,
    steps: int,
) -> tuple[LinearPCN, PyTree]:
    def step(carry: tuple[Layers, PyTree], index: Array) -> tuple[tuple[Layers, PyTree], PyTree]:
        weights, state = carry
        x, y = (part[index % len(part)] for part in batches)
        direction, record = rule(net.with_weights(weights), x, y)
        updates, state = optimiser.update(direction, state, weights)
        return (optax.apply_updates(weights, updates), state), record

    start = net.weights, optimiser.init(net.weights)
    (weights, _), records = jax.lax.scan(step, start, jnp.arange(steps))
    return net.with_weights(weights), records


@eqx.filter_jit
def _inference_descent(
    net: LinearPCN,
    start: Layers,
    batch: tuple[Array, Array],
    rate: Array,
    *,
    steps: int,
    record: ActivityRecord,
) -> tuple[Layers, PyTree]:
    x, y = batch

    def step(hidden: Layers, _: None) -> tuple[Layers, PyTree]:
        gradient = _activity_gradient(net, hidden, x, y)
        hidden = jax.tree.map(lambda z, g: z - rate * len(x) * g, hidden, gradient)
        return hidden, record(net, hidden, x, y)

    first = record(net, start, x, y)
    last, records = jax.lax.scan(step, start, length=steps)
    return last, jax.tree.map(lambda one, rest: jnp.concatenate([jnp.asarray(one)[None], rest]), first, records)


@eqx.filter_jit
def _inference_flow(
    net: LinearPCN,
    batch: tuple[Array, Array],
    duration: Array,
    tolerances: tuple[Array, Array],
    max_steps: int,
) -> tuple[InferenceFlow, Array]:
    x, y = batch

    def gradient(hidden: Layers) -> Layers:
        return jax.tree.map(lambda g: len(x) * g, _activity_gradient(net, hidden, x, y))

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, hidden, args: jax.tree.map(jnp.negative, gradient(hidden))),
        diffrax.Heun(),
        t0=0.0,
        t1=duration,
        dt0=None,
        y0=feedforward(net, x).without_last(),
        stepsize_controller=diffrax.PIDController(*tolerances),
        max_steps=max_steps,
        throw=False,
    )
    reached = diffrax.is_successful(solution.result)
    hidden = jax.tree.map(lambda z: jnp.where(reached, z[-1], jnp.nan), solution.ys)
    steepest = _largest(gradient(hidden))
    size = jnp.maximum(_largest(hidden), jnp.abs(y).max())
    stationarity = jnp.where(steepest == 0, 0.0, steepest / size)  # all zero data have no size, and no gradient
    total = _layer_energies(net, hidden, x, y).sum()
    return InferenceFlow(hidden, total, stationarity, jnp.asarray(solution.stats["num_steps"])), reached


def _largest(layers: Layers) -> Float[Array, ""]:
    return jnp.max(jnp.stack([jnp.abs(run).max() for run in layers.runs]))
