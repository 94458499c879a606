"""Training of residual networks on the digits: the networks, their mini-batches, and where the best rate lies."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

import pctheory
from pctheory import LinearPCN
from pctheory.datasets import Dataset, stacked_batches
from pctheory.nonlinear import Activation, NonlinearPCN

Values = npt.NDArray[np.float64]

ACTIVATIONS: dict[str, Activation] = {"relu": jax.nn.relu, "tanh": jnp.tanh}

# Of the published code, for the batch-mean energy of 64 examples.
PUBLISHED_RATES = {"relu": 0.5 / 64, "tanh": 1.0 / 64}


NETWORKS: dict[str, Callable[..., LinearPCN]] = {
    "mupc": pctheory.mupc,
    "standard": partial(pctheory.standard, skips=True, initialisation="uniform", variance=1 / 3),
}


def networks(kind: str, widths: Sequence[int], activation: str, seeds: Sequence[int]) -> list[NonlinearPCN]:
    """One for each seed, with skips. "standard" draws as the published code does, uniform in +-1/sqrt(N_{l-1})."""
    return [NonlinearPCN(NETWORKS[kind](widths, seed=seed), ACTIVATIONS[activation]) for seed in seeds]


def widths_of(data: Dataset, width: int, hidden_layers: int) -> tuple[int, ...]:
    """(N_0, N, .., N, N_L)."""
    return (data.inputs.shape[1], *[width] * hidden_layers, data.targets.shape[1])


def minibatches(
    data: Dataset, size: int, seeds: Sequence[int], *, count: int | None = None
) -> tuple[Values, Values]:
    """(xs, ys) with axes (seeds, batches, examples, columns): `count` batches a seed, by default one epoch."""
    xs, ys = zip(*(stacked_batches(data, size, seed=seed, count=count) for seed in seeds), strict=True)
    return np.stack(xs), np.stack(ys)


def best_log_rate(losses: Values, log_rates: Values) -> Values:
    """Where the parabola fitted to the least loss and two neighbours on each side, in logarithms, is least.

    `losses` has the rates as last axis. Losses that are not finite are left out; near an end of the grid the five
    points reach further to the other side. NaN where the least loss stands at an end of the grid, as the best rate
    then lies outside, and where fewer than three points are left or the parabola has no least value near them.
    """
    rows = np.where(np.isfinite(losses), losses, np.inf).reshape(-1, len(log_rates))
    return np.array([_vertex(row, log_rates) for row in rows]).reshape(losses.shape[:-1])


def _vertex(losses: Values, log_rates: Values) -> float:
    least = int(np.argmin(losses))
    if not 0 < least < len(losses) - 1:
        return float("nan")
    first = min(max(least - 2, 0), max(len(losses) - 5, 0))
    near = slice(first, first + 5)
    kept = np.isfinite(losses[near])
    if kept.sum() < 3:
        return float("nan")
    bend, slope, _ = np.polyfit(log_rates[near][kept] - log_rates[least], np.log(losses[near][kept]), 2)
    offset = -slope / (2 * bend) if bend > 0 else float("nan")
    return float(log_rates[least] + offset) if abs(offset) <= 2 * (log_rates[1] - log_rates[0]) else float("nan")
