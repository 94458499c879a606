r"""muPC: whether the best learning rates of a small network are those of a wider and of a deeper one.

Claims
    mupc-2025/lr-transfer   the best weight and activity rates when width or depth are four times as large

Experiments: residual networks of tanh on the digits, one pass over half of them in batches of 16, Adam, T = H steps
of inference. The best weight rate of each seed is where a parabola fitted to the losses (mean of the last batches,
in logarithms) is least; shifts are paired, seed by seed, with their interval of 95 per cent confidence.
Standard parameterisation goes through the same judge, and so do other laws than "it does not move".

Reference: F. Innocenti, E. M. Achour, C. L. Buckley, arXiv 2505.13124, which states it from larger networks.
Activity rates here are of each example; the published ones, for a batch-mean energy, are B times as large.
"""

from functools import cache, partial

import numpy as np

import pctheory
from figures._training import Values, best_log_rate, minibatches, networks, widths_of
from paper_checks._differences import Difference
from pctheory.claims import Check, claim
from pctheory.datasets import Dataset
from pctheory.dynamics import training_sweep

SEEDS = range(6)
SMALL, WIDE, DEEP = (24, 4), (96, 4), (24, 16)  # width N and number H of hidden layers
EXAMPLES, BATCHES, LAST = 16, 40, 10
ACTIVITY_RATE = 0.5  # 2 / 4, where 4 is the limit of the largest eigenvalue of the activity Hessian
ACTIVITY_RATES = {"1/64, the published one for batches of 64": 1 / 64, "1/2": ACTIVITY_RATE, "2": 2.0}

# Logarithms to base 2, around the best rate at every size.
LOG_RATES: dict[str, Values] = {"mupc": np.arange(-5.0, 1.0), "standard": np.linspace(-11.25, -5.0, 6)}


@cache
def _digits() -> Dataset:
    return pctheory.dataset("digits")


@cache
def _losses(kind: str, size: tuple[int, int], activity_rate: float) -> Values:
    """Of each seed and weight rate; infinite where a run diverged."""
    data, (width, hidden_layers) = _digits(), size
    found = training_sweep(
        networks(kind, widths_of(data, width, hidden_layers), "tanh", SEEDS),
        minibatches(data, EXAMPLES, SEEDS, count=BATCHES),
        rates=2 ** LOG_RATES[kind],
        inference_rates=[activity_rate],
        inference_steps=hidden_layers,
    )
    last = np.asarray(found.losses)[:, :, 0, -LAST:].mean(axis=-1)
    return np.where(np.isfinite(last), last, np.inf)


def _best(kind: str, size: tuple[int, int]) -> Values:
    return best_log_rate(_losses(kind, size, ACTIVITY_RATE), LOG_RATES[kind])


def _shift(kind: str, size: tuple[int, int]) -> Difference:
    """In octaves, from the small network to one of this size."""
    return Difference.of(_best(kind, size), _best(kind, SMALL))


def _miss(octaves: float, size: tuple[int, int], *, kind: str = "mupc") -> float:
    """How far from a shift by `octaves` its confidence interval reaches; NaN where a best rate is off the grid."""
    found = _shift(kind, size)
    return abs(found.mean - octaves) + found.margin


def _excess(activity_rate: float, size: tuple[int, int]) -> float:
    """By what share the loss at this activity rate is above that at the best of the grid, each at its best weight
    rate; geometric mean over seeds."""
    least = {rate: np.log(_losses("mupc", size, rate).min(axis=1)).mean() for rate in ACTIVITY_RATES.values()}
    return float(np.exp(least[activity_rate] - min(least.values())) - 1)


def _text(size: tuple[int, int]) -> str:
    shifts = {kind: _shift(kind, size) for kind in LOG_RATES}
    return "; ".join(f"{kind} {found.mean:.2f} +- {found.margin:.2f}" for kind, found in shifts.items())


@claim(
    key="mupc-2025/lr-transfer",
    statement=r"""The best weight rate of muPC moves by less than a factor 1.7 when the width, or the number of
        hidden layers, is four times as large. In standard parameterisation it falls by a factor of 2 to 4 when the
        width is; with the depth it does not move measurably there either, so that up to 16 hidden layers depth does
        not tell the two apart. One activity rate, 1/2 of each example, serves all sizes of muPC: its loss is within
        15 per cent of the best of 1/64, 1/2 and 2.""",
    hypotheses=(
        "tanh, skips, $(N, H) = (24, 4), (96, 4), (24, 16)$, digits, 40 batches of 16, 6 seeds",
        "Adam on the weights, $T = H$ steps of gradient descent on the activities from the feedforward ones",
        "weight rates at activity rate 1/2; the best by a parabola through the loss of the last 10 batches",
    ),
    attribution="stated",
    source="mupc-2025 (empirical, larger networks); the numbers are measured here",
    uses=(),
)
def lr_transfer(check: Check) -> None:
    for name, size in (("width", WIDE), ("depth", DEEP)):
        twins = {
            f"as one over the {name}": partial(_miss, -2.0),
            f"as one over the root of the {name}": partial(_miss, -1.0),
        }
        if name == "width":
            twins["standard parameterisation"] = partial(_miss, 0.0, kind="standard")
        check.property(
            f"best weight rate, {name} four times as large, octaves: {_text(size)}",
            [size],
            partial(_miss, 0.0),
            twins=twins,
            bound=0.75,  # octaves: a factor 1.7, less than one step of the grid
        )
    check.property(
        "activity rate 1/2 serves all sizes",
        [SMALL, WIDE, DEEP],
        partial(_excess, ACTIVITY_RATE),
        twins={name: partial(_excess, rate) for name, rate in ACTIVITY_RATES.items() if rate != ACTIVITY_RATE},
        bound=0.15,  # of the loss: what a seed changes it by
    )
