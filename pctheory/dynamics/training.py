r"""Training on mini-batches by Adam, with inference or by backpropagation: one run, or a sweep of them at once.

Nothing here asks how a network was made: PC, muPC and backpropagation with Depth-muP differ in the network and in
whether there is `Inference`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from .. import nonlinear
from ..arguments import listed, numbers, public, shown
from ..arrays import all_on_device, double_array, stacked, weight_count
from ..compiled_code import optimised
from ..nonlinear import NonlinearPCN
from .arguments import at_least_one, pair, positive
from .learning import weight_descent, weight_descent_by_rule

Rate = float | Float[Array, ""]
Rates = Sequence[float] | ArrayLike

# A loss this many times that of the first batch has diverged: where training learns it never exceeds some tens.
DIVERGED = 1e6


class Inference(eqx.Module):
    """How PC infers on each batch before it learns: `steps` steps of gradient descent on the activities.

    `rate` is of each example by itself, as everywhere here; one stated for a batch-mean energy is B times this one
    (mupc-2025: 0.5 for ReLU and 1 for tanh, with batches of B = 64 and steps = H).

    Raises ValueError for a rate that is not positive and finite, and `steps` below 1.
    """

    rate: Float[Array, "*runs"]
    steps: int = eqx.field(static=True)

    def __init__(self, rate: Rate, *, steps: int) -> None:
        self.rate = positive("rate", rate)
        self.steps = at_least_one("steps", steps)

    def __call__(self, net: NonlinearPCN, x: Array, y: Array) -> tuple[PyTree, "Record"]:
        """The local rule of PC at the activities that were reached, and the record."""
        found = nonlinear.inference_descent(net, x, y, rate=self.rate, steps=self.steps)
        direction = nonlinear.partial_weight_gradient(net, found.activities, x, y)
        return direction, Record(nonlinear.loss(net, x, y), found.energy)


class Record(NamedTuple):
    """Of one batch, before its update: the loss, and the energy that inference reached (BP: the loss)."""

    loss: Float[Array, "*runs"]
    energy: Float[Array, "*runs"]


class Training(eqx.Module):
    """What a run of training came to; a sweep has its axes in front.

    losses, energies: of each batch before its update, stacked; inf and NaN from where a run diverged.
    diverged_at: the first step, from 0, whose loss is not finite or more than `DIVERGED` times that of step 0; -1
    where there is none.
    """

    net: NonlinearPCN
    losses: Float[Array, "*runs steps"]
    energies: Float[Array, "*runs steps"]
    diverged_at: Int[Array, "*runs"]

    def accuracy(self, x: ArrayLike, y: ArrayLike) -> Float[Array, "*runs"]:
        """Of each run, as `accuracy` of its network."""
        compared = accuracy
        for _ in range(self.diverged_at.ndim):
            compared = jax.vmap(compared, (0, None, None))
        x, y = (double_array(part, name, ndim=2) for part, name in ((x, "x"), (y, "y")))
        return compared(self.net, x, y)


@public
def train(
    net: NonlinearPCN,
    batches: tuple[ArrayLike, ArrayLike],
    *,
    rate: Rate,
    inference: Inference | None = None,
    steps: int | None = None,
) -> Training:
    r"""Train by Adam, one batch after another: by PC with this `inference`, by backpropagation of the loss without.

    `batches` is (xs, ys), one batch per leading index; `steps` as in `weight_descent`. `rate` is Adam's, a number
    or a traced one: all rates share one compilation, and `jax.vmap` over nets, rates and inference makes a sweep of
    them (`training_sweep`). A run that diverges is returned as it is: read `diverged_at`.

    Raises ValueError, TypeError for bad batches and rates, and for a net without hidden layers with inference.
    Source: mupc-2025 (its Adam). Twin: a Python loop. Cost: with inference about 2 (steps of it) passes a batch.
    """
    optimiser = adam(rate)
    if inference is None:
        net, found = weight_descent(nonlinear.loss, net, batches, optimiser, record=_loss_record, steps=steps)
    else:
        net, found = weight_descent_by_rule(inference, net, batches, optimiser, steps=steps)
    return Training(net, found.loss, found.energy, _diverged_at(found.loss))


@public
def adam(rate: Rate) -> optax.GradientTransformation:
    """Adam of optax with its defaults, at a rate that is data: one compilation serves all rates.

    Raises ValueError for a rate that is not positive and finite.
    """
    step = jax.tree_util.Partial(_adam_step, positive("rate", rate))  # type: ignore[no-untyped-call]
    return optax.GradientTransformation(_ADAM.init, step)


@public
def accuracy(net: NonlinearPCN, x: ArrayLike, y: ArrayLike) -> Float[Array, ""]:
    """The fraction of examples whose largest output is where y is largest; NaN where an output is not finite."""
    x, y = net.batch(x, y)
    return _accuracy(net, x, y)


@public
def training_sweep(
    nets: Sequence[NonlinearPCN],
    batches: tuple[ArrayLike, ArrayLike],
    *,
    rates: Rates,
    inference_rates: Rates | None = None,
    inference_steps: int | None = None,
) -> Training:
    r"""`train` for every network, every rate of Adam and, where given, every rate of inference, in one call.

    The networks differ in seed or parameterisation, not in shape. `batches` is (xs, ys) with axes (networks,
    batches, examples, columns), so that each network can see its own order. On a GPU all runs go in parallel, on a
    CPU one after another: faster there but for narrow networks (`benchmarks/sweeps.py`). Runs that diverge leave
    the others alone.

    Returns a `Training` with axes (networks, rates), or (networks, rates, inference rates), in front.
    Raises ValueError for networks, rates and batches that do not fit together.
    Cost: one compilation per shape, activation and number of rates.
    """
    xs, ys = (
        double_array(part, f"batches, {name}", ndim=4)
        for part, name in zip(pair("batches", batches), ("xs", "ys"), strict=True)
    )
    nets = listed("nets", nets)
    if not nets or not len(nets) == len(xs) == len(ys):
        raise ValueError(
            f"batches are for {len(xs)} and {len(ys)} networks, expected one list for each of {len(nets)}"
        )
    for net in nets:
        if not isinstance(net, NonlinearPCN):
            raise TypeError(f"nets holds {shown(net)}, expected networks, each a NonlinearPCN")
    kinds = [(net.widths, net.activation) for net in nets]
    for number, kind in enumerate(kinds, start=1):
        if kind != kinds[0]:
            raise ValueError(
                f"nets, number {number} has widths {kind[0]} and {kind[1]}, the first {kinds[0]}; sort them"
            )
    if (inference_rates is None) != (inference_steps is None):
        missing = "inference_rates" if inference_rates is None else "inference_steps"
        raise ValueError(f"{missing} is not given; give both, or neither for backpropagation")
    infer = None
    if inference_rates is not None and inference_steps is not None:
        infer = _rates("inference_rates", inference_rates), at_least_one("inference_steps", inference_steps)
    together = jax.tree.map(lambda *parts: all_on_device([stacked(parts)])[0], *nets)
    learning_rates = _rates("rates", rates)
    inferences = 1 if infer is None else len(infer[0]) * infer[1]
    runs = len(learning_rates) * inferences * weight_count(together.weights)
    with optimised(xs.shape[1] * xs.shape[2] * runs):
        return _sweep(together, (xs, ys), learning_rates, infer)


_ADAM = optax.scale_by_adam()


def _adam_step(rate: Array, gradient: PyTree, state: PyTree, weights: PyTree = None) -> tuple[PyTree, PyTree]:
    moved, state = _ADAM.update(gradient, state, weights)
    return jax.tree.map(lambda m: -rate * m, moved), state


def _rates(name: str, values: Rates) -> Array:
    rates = numbers(name, values)
    if rates.ndim != 1 or not rates.size or not ((rates > 0) & (rates < np.inf)).all():
        raise ValueError(f"{name} is {shown(values)}, expected a list of positive finite numbers")
    return jnp.asarray(rates)


@eqx.filter_jit
def _sweep(
    nets: NonlinearPCN, batches: tuple[Array, Array], rates: Array, infer: tuple[Array, int] | None
) -> Training:
    def of_rate(net: NonlinearPCN, batches: tuple[Array, Array], rate: Array) -> Training:
        def run(inference: Inference | None) -> Training:
            return train(net, batches, rate=rate, inference=inference)

        if infer is None:
            return run(None)
        activity_rates, steps = infer
        return _each(lambda activity_rate: run(Inference(activity_rate, steps=steps)), activity_rates)

    return _each(lambda net, batches: _each(lambda rate: of_rate(net, batches, rate), rates), nets, batches)


def _each(run: Callable[..., Training], *stacked: PyTree) -> Training:
    """One after another on a CPU: products of stacks of matrices, but the smallest, take longer there."""
    if jax.default_backend() == "cpu":
        return jax.lax.map(lambda one: run(*one), stacked)
    return jax.vmap(run)(*stacked)


def _loss_record(net: NonlinearPCN, x: Array, y: Array) -> Record:
    loss = nonlinear.loss(net, x, y)
    return Record(loss, loss)


@eqx.filter_jit
def _accuracy(net: NonlinearPCN, x: Array, y: Array) -> Array:
    outputs = nonlinear.feedforward(net, x)[-1]
    hit = jnp.mean(jnp.argmax(outputs, axis=1) == jnp.argmax(y, axis=1), dtype=float)
    return jnp.where(jnp.isfinite(outputs).all(), hit, jnp.nan)


def _diverged_at(losses: Array) -> Array:
    bad = ~(losses <= DIVERGED * losses[0])  # so that NaN and inf are bad
    return jnp.where(bad.any(), jnp.argmax(bad), -1)
