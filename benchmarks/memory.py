"""Peak resident memory of a fresh process that solves, then trains, a network whose weights take gigabytes.

A full set of weight gradients is as large as the weights, so the two together leave no room within twice the
weights. A learning step needs no such set: at equilibrium the gradient of a layer is local,
-a_l pi_l mean(e_l z_{l-1}^T), and is subtracted from the weights in place, layer by layer.
"""

import resource
import sys
from functools import partial

import jax
from jax import Array

import pctheory
from pctheory import Equilibrium, Layers, LinearPCN

from .exact_step import problem
from .measure import GIBIBYTE, Case, Goal, Row, finished

LEARNING_RATE = 0.1


def cases(*, quick: bool) -> list[Case]:
    if quick:
        return [Case(peaks, (16, 8, 8, 3))]
    return [Case(peaks, (512, 1024, 64, 10))]


def peaks(width: int, hidden_layers: int, batch: int, outputs: int) -> list[Row]:
    start = peak()
    net, x, y = finished(problem(width, hidden_layers + 1, batch, outputs))
    weights = sum(run.nbytes for run in net.weights.runs) / GIBIBYTE
    built = peak()
    solved_net = finished(pctheory.equilibrium(net, x, y))
    solved = peak()
    finished(learning_step(net, solved_net, x))
    trained = peak()
    sizes = f"N {width}, H {hidden_layers}, batch {batch}"
    goal = Goal("at most", 4.0)
    stages = {"weights alone": weights, "imports": start, "network built": built}
    before = {"equilibrium solved": solved}
    return [
        Row(f"equilibrium, {sizes}", "peak memory", solved, "GiB", goal=goal, details=stages),
        Row(f"in-place learning step, {sizes}", "peak memory", trained, "GiB", goal=goal, details=before),
    ]


def peak() -> float:
    """The most memory this process has held so far, in GiB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1 if sys.platform == "darwin" else 1024) / GIBIBYTE


def learning_step(net: LinearPCN, solved: Equilibrium, x: Array) -> Layers:
    """The weights after one step down the equilibrated energy. Overwrites the weights of `net`.

    For networks whose input is as wide as their hidden layers and whose output is not: two stacks of layers.
    """
    (z,) = solved.activities.runs
    hidden, last = net.runs
    weights, last_weights = net.weights.runs
    errors, last_errors = solved.errors.runs
    rate = LEARNING_RATE / len(x)
    weights = in_place(weights, rate * hidden.scaling * hidden.precision, errors, x, z)
    last_weights = in_place(last_weights, rate * last.scaling * last.precision, last_errors, z[-1], z)
    return Layers((weights, last_weights))


@partial(jax.jit, donate_argnums=0)
def in_place(weights: Array, rates: Array, errors: Array, first: Array, z: Array) -> Array:
    """W_l + rate_l e_l^T z_{l-1} for each layer of a stack; `first` is what the lowest of them sees."""

    def updated(l: int, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        weights, below = carry
        return weights.at[l].add(rates[l] * errors[l].T @ below), z[l]

    return jax.lax.fori_loop(0, len(weights), updated, (weights, first))[0]
