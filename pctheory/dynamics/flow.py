r"""Learning in continuous time: gradient flow on the weights, and when it escapes.

    dW_l/dt = - d objective / dW_l

Explicit Runge-Kutta steps of order 5 (Tsitouras) with adaptive sizes. Gradient descent of rate eta is this flow at
t = eta, 2 eta, .. but for terms of the order of eta. Nothing here depends on what the objective is.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree

from ..arguments import number, numbers, public, refuse_too_large
from ..arrays import number_returned, weight_count
from ..network import double_array, finite_result, is_concrete
from .arguments import at_least_one, positive, recorded
from .learning import GradientRule, Network, Objective, WeightRecord

Quantity = Callable[[Any, Array, Array], Array]


class WeightFlow(eqx.Module):
    """Records of a gradient flow on the weights, stacked along a leading axis of the sampled times.

    net: the network at the last of them. steps: how many steps the solver tried, rejected included.
    """

    net: Any
    records: PyTree
    steps: Int[Array, ""]


class _Tolerances(eqx.Module):
    relative: Float[Array, ""]
    absolute: Float[Array, ""]
    max_steps: int

    @classmethod
    def checked(cls, relative: float | Array, absolute: float | Array, max_steps: int) -> "_Tolerances":
        return cls(
            positive("relative_tolerance", relative),
            positive("absolute_tolerance", absolute),
            at_least_one("max_steps", max_steps),
        )


@public
def weight_flow(
    objective: Objective,
    net: Network,
    x: ArrayLike,
    y: ArrayLike,
    *,
    times: ArrayLike | Sequence[float],
    record: WeightRecord,
    relative_tolerance: float | Float[Array, ""],
    absolute_tolerance: float | Float[Array, ""],
    max_steps: int = 100_000,
) -> WeightFlow:
    r"""Gradient flow on the weights from t = 0,  dW/dt = -d objective(net, x, y) / dW,  seen at `times`.

    `times` increase and are at least 0, the start; `record(net, x, y)` is any pytree. Tolerances are of one step
    and one weight; near a saddle at 0 give an absolute one far below the weights.

    Raises RuntimeError when `max_steps` do not reach the last time; inside `jit`, `vmap` or `scan`, where nothing
    can be raised, weights and records of unreached times are NaN. FloatingPointError for a record that is not
    finite, ValueError and TypeError for times, tolerances and objectives that are none.
    Twin: SciPy's solvers on gradients written by hand. Cost: six gradients a step.
    """
    x, y = net.batch(x, y)
    rule = GradientRule(objective, record)
    instants = _increasing(times)
    tolerances = _Tolerances.checked(relative_tolerance, absolute_tolerance, max_steps)
    size = weight_count(net.weights)
    refuse_too_large("weight_flow: times x weights", (len(instants), size), "see it at fewer times")
    flow, reached = _weight_flow(rule, net, (x, y), instants, tolerances)
    if is_concrete(reached) and not reached:
        raise RuntimeError(
            f"weight_flow: {flow.steps} steps did not reach time {instants[-1]}; raise max_steps, or give earlier "
            "times or larger tolerances"
        )
    return finite_result("weight_flow", flow)


@public
def escape_time_of_flow(
    objective: Objective,
    net: Network,
    x: ArrayLike,
    y: ArrayLike,
    *,
    quantity: Quantity,
    threshold: float | Float[Array, ""],
    relative_tolerance: float | Float[Array, ""],
    absolute_tolerance: float | Float[Array, ""],
    max_steps: int = 100_000,
) -> Float[Array, ""]:
    r"""The first time at which `quantity(net, x, y)` is at most `threshold` along the flow of `weight_flow`.

    For a quantity that rises, give both with their signs turned. The time is found within a step by bisection on
    its interpolant of order 4. Beyond about 1e15 times the duration of the escape itself no step moves the clock
    any more, and the flow runs out of steps.

    Raises RuntimeError, with the time and quantity reached, when `max_steps` pass without it: raise them, or look
    whether it can happen at all. Inside `jit`, `vmap` or `scan` the result is NaN then. ValueError and TypeError
    for a threshold, tolerances and functions that are none.
    Twin: `scipy.integrate.quad` where one weight is left, `solve_ivp` with events elsewhere.
    Cost: six gradients and one quantity a step, and at the end 256 quantities.
    """
    x, y = net.batch(x, y)
    threshold = double_array(threshold, "threshold", ndim=0)
    rule = GradientRule(objective, quantity)
    tolerances = _Tolerances.checked(relative_tolerance, absolute_tolerance, max_steps)
    time, crossed, last, value = _escape_time_of_flow(rule, net, (x, y), threshold, tolerances)
    if is_concrete(crossed) and not crossed:
        raise RuntimeError(
            f"escape_time_of_flow: quantity is {value:.6g} after {max_steps} steps, at time {last:.6g}, above the "
            f"threshold {threshold:.6g}; raise max_steps or the threshold"
        )
    return time


@public
def escape_time(
    times: ArrayLike | Sequence[float], values: ArrayLike | Sequence[float], *, threshold: float
) -> float:
    """The first time at which `values`, recorded at `times`, are at most `threshold`; between records, linearly.

    Infinity if they never are: it happens later than the records reach, if at all. For values that rise, give both
    with their signs turned.

    Raises ValueError for times that do not increase, another number of values, values that are not finite before
    they cross, and a threshold that is not.
    Twin: a loop. Error: that of the straight line between two records.
    """
    instants, records = np.asarray(_increasing(times)), numbers("values", values)
    if records.shape != instants.shape:
        raise ValueError(f"values has shape {records.shape}, expected {instants.shape}: one for each time")
    if not math.isfinite(number("threshold", threshold)):
        raise ValueError(f"threshold is {threshold}, expected a finite number")
    below = np.flatnonzero(records <= threshold)
    first = int(below[0]) if len(below) else len(records)
    if not np.isfinite(records[: first + 1]).all():
        raise ValueError(f"values holds {records[~np.isfinite(records)][0]} before it crosses; the run diverged")
    if first in (0, len(records)):
        return float(instants[0]) if first == 0 else np.inf
    before, after = records[first - 1 : first + 1]
    fraction = (before - threshold) / (before - after)
    return float(instants[first - 1] + fraction * (instants[first] - instants[first - 1]))


def _increasing(times: ArrayLike | Sequence[float]) -> Float[Array, " times"]:
    instants = double_array(times, "times", ndim=1)
    if is_concrete(instants) and not (instants[0] >= 0 and (np.diff(instants) > 0).all()):
        raise ValueError(f"times is {instants}, expected increasing numbers of at least 0; sort them")
    return instants


def _solution(
    rule: GradientRule,
    net: Network,
    batch: tuple[Array, Array],
    tolerances: _Tolerances,
    **options: Any,
) -> diffrax.Solution:
    @jax.jit  # the solver writes it down in several places: so it is traced and lowered once
    def downhill(weights: PyTree) -> PyTree:
        return jax.tree.map(jnp.negative, rule.gradient(net.with_weights(weights), *batch))

    def velocity(t: Any, weights: PyTree, args: Any) -> PyTree:
        return downhill(weights)

    return diffrax.diffeqsolve(
        diffrax.ODETerm(velocity),
        diffrax.Tsit5(),
        t0=0.0,
        dt0=None,
        y0=net.weights,
        stepsize_controller=diffrax.PIDController(rtol=tolerances.relative, atol=tolerances.absolute),
        max_steps=tolerances.max_steps,
        throw=False,
        **options,
    )


@eqx.filter_jit
def _weight_flow(
    rule: GradientRule,
    net: Network,
    batch: tuple[Array, Array],
    times: Float[Array, " times"],
    tolerances: _Tolerances,
) -> tuple[WeightFlow, Bool[Array, ""]]:
    solution = _solution(rule, net, batch, tolerances, t1=times[-1], saveat=diffrax.SaveAt(ts=times))
    reached = diffrax.is_successful(solution.result)
    weights = jax.tree.map(lambda w: jnp.where(jnp.isfinite(w), w, jnp.nan), solution.ys)  # inf where unreached
    records = jax.lax.map(lambda w: recorded(rule.record(net.with_weights(w), *batch)), weights)
    last = net.with_weights(jax.tree.map(lambda w: w[-1], weights))
    return WeightFlow(last, records, jnp.asarray(solution.stats["num_steps"])), reached


@eqx.filter_jit
def _escape_time_of_flow(
    rule: GradientRule,
    net: Network,
    batch: tuple[Array, Array],
    threshold: Float[Array, ""],
    tolerances: _Tolerances,
) -> tuple[Array, Array, Array, Array]:
    """(time, or NaN; whether it crossed; the last time and quantity)."""

    def above(t: Array, y: PyTree, args: None, **_: Any) -> Array:
        return number_returned("quantity", rule.record(net.with_weights(y), *batch)) - threshold

    at_start = above(jnp.zeros(()), net.weights, None) <= 0
    # No tolerance: it halves the step that brackets the crossing until that has no inner number any more.
    bisection: Any = optimistix.Bisection(rtol=0.0, atol=0.0, flip=True)  # type: ignore[call-arg]
    solution = _solution(
        rule,
        net,
        batch,
        tolerances,
        t1=jnp.where(at_start, 0.0, jnp.inf),
        saveat=diffrax.SaveAt(t1=True),
        event=diffrax.Event(above, bisection, direction=False),
    )
    crossed = at_start | jnp.asarray(solution.event_mask)
    last = jnp.asarray(solution.ts)[-1]
    value = threshold + above(last, jax.tree.map(lambda w: w[-1], solution.ys), None)
    return jnp.where(at_start, 0.0, jnp.where(crossed, last, jnp.nan)), crossed, last, value
