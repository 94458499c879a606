r"""Inference: descent and flow on the hidden activities.

Each example moves along its own gradient  H_z z - b,  without the 1/B of the batch mean: rates and times do not
depend on the batch.
"""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from ..arguments import public
from ..energy import Activities, _activity_gradient, _layer_energies, energy, feedforward
from ..equilibrium import _needs_hidden_layers
from ..network import Layers, LinearPCN, finite_result, is_concrete
from .arguments import at_least_one, optimiser_of_optax, positive, recorded
from .learning import refuse_records

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


@public
def inference_descent(
    net: LinearPCN,
    x: ArrayLike,
    y: ArrayLike,
    *,
    steps: int,
    rate: float | Float[Array, ""] | None = None,
    optimiser: optax.GradientTransformation | None = None,
    record: ActivityRecord = energy,
    start: Activities | None = None,
) -> tuple[Layers, PyTree]:
    r"""Gradient descent on the activities of each example,  z <- z - rate (H_z z - b),  or z <- z + optimiser(..).

    No 1/B in it: on the batch-mean energy this is a rate of B rate. At a fixed rate the descent converges from
    everywhere iff rate < 2 / lambda_max(H_z). Give either the rate or an optimiser of optax, which sees the
    gradient H_z z - b. From the feedforward activities unless `start` (z_1..z_H) is given.
    `record(net, activities, x, y)` is any pytree; the default is the energy.

    Returns the last activities and the records at steps 0, 1, .., `steps`. A descent that diverges is returned as
    it is: records and activities grow to inf or NaN; look at them.
    Raises ValueError for a rate that is not positive and finite, for a rate and an optimiser or neither, `steps`
    below 1, and a net without hidden layers; TypeError for an optimiser that is none.
    Source: own/step-stability. Twin: z_t - z* = (I - rate H_z)^t (z_0 - z*) with the dense H_z.
    """
    _needs_hidden_layers(net, "inference_descent")
    if (rate is None) == (optimiser is None):
        found = "neither is" if rate is None else "both are"
        raise ValueError(f"rate and optimiser: {found} given, expected one of them")
    step_rule = optimiser_of_optax(optimiser) if rate is None else positive("rate", rate)
    steps = at_least_one("steps", steps)
    x, y = net.batch(x, y)
    hidden = feedforward(net, x).without_last() if start is None else net.hidden(start, len(x), "start")
    return _inference_descent(net, hidden, (x, y), step_rule, steps=steps, record=record)


@public
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
        positive("duration", duration),
        (positive("relative_tolerance", relative_tolerance), positive("absolute_tolerance", absolute_tolerance)),
        at_least_one("max_steps", max_steps),
    )
    if is_concrete(reached) and not reached:
        raise RuntimeError(
            f"inference_flow: {flow.steps} steps did not reach duration {duration}; raise max_steps, or give a "
            "shorter duration or larger tolerances"
        )
    return finite_result("inference_flow", flow)


def _gradient(net: LinearPCN, hidden: Layers, x: Array, y: Array) -> Layers:
    """H_z z - b for each example."""
    return jax.tree.map(lambda g: len(x) * g, _activity_gradient(net, hidden, x, y))


@eqx.filter_jit
def _inference_descent(
    net: LinearPCN,
    start: Layers,
    batch: tuple[Array, Array],
    step_rule: Any,
    *,
    steps: int,
    record: ActivityRecord,
) -> tuple[Layers, PyTree]:
    """`step_rule`: a rate, so that another one compiles nothing anew, or an optimiser."""
    optimiser = optax.sgd(step_rule) if eqx.is_array(step_rule) else step_rule

    def step(carry: tuple[Layers, PyTree], _: None) -> tuple[tuple[Layers, PyTree], PyTree]:
        hidden, state = carry
        updates, state = optimiser.update(_gradient(net, hidden, *batch), state, hidden)
        hidden = optax.apply_updates(hidden, updates)
        return (hidden, state), record(net, hidden, *batch)

    first = recorded(record(net, start, *batch))
    refuse_records(map(jnp.shape, jax.tree.leaves(first)), steps)
    (last, _), records = jax.lax.scan(step, (start, optimiser.init(start)), length=steps)
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

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, hidden, args: jax.tree.map(jnp.negative, _gradient(net, hidden, x, y))),
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
    steepest = _largest(_gradient(net, hidden, x, y))
    size = jnp.maximum(_largest(hidden), jnp.abs(y).max())
    stationarity = jnp.where(steepest == 0, 0.0, steepest / size)  # all zero data have no size, and no gradient
    total = _layer_energies(net, hidden, x, y).sum()
    return InferenceFlow(hidden, total, stationarity, jnp.asarray(solution.stats["num_steps"])), reached


def _largest(layers: Layers) -> Float[Array, ""]:
    return jnp.max(jnp.stack([jnp.abs(run).max() for run in layers.runs]))
