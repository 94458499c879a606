r"""Training of deep chains of single units, linear, tanh and ReLU, by both methods at their best rates."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from figures._toy import RATES, Values, best, fresh_batches, normal_starts, training_losses, uniform_starts
from pctheory.figures import COLOURS, Arrays, Figure

TITLES = {"linear": "linear", "tanh": "tanh", "relu": "ReLU"}
LABELS = {"loss": "BP", "energy": "PC"}


@dataclass(frozen=True)
class Depth:
    """Chains with this many `hidden` units; weights normal with `std`, or uniform in [-1, 1] where it is None."""

    hidden: int
    steps: int
    std: float | None = None


@dataclass(frozen=True)
class Parameters:
    """`rates`: to choose from. `inference`: of tanh and ReLU chains, a name of `figures._toy.INFERENCES`."""

    depths: tuple[Depth, ...]
    activations: tuple[str, ...] = ("linear", "tanh", "relu")
    starts: int = 16
    rates: tuple[float, ...] = RATES
    examples: int = 32
    inference: str = "long"
    seed: int = 0


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """One unit for each kind and depth of chains."""
    return {
        _unit(activation, depth): replace(parameters, activations=(activation,), depths=(depth,))
        for activation in parameters.activations
        for depth in parameters.depths
    }


def _unit(activation: str, depth: Depth) -> str:
    return f"{activation}-{depth.hidden}"


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """Of each method: which rate is best, the losses of all runs at it, their mean, and the mean of every rate."""
    p = parameters
    (activation,), (depth,) = p.activations, p.depths
    batches = fresh_batches(depth.steps, p.examples, p.seed + 1)
    arrays: dict[str, npt.ArrayLike] = {}
    for method in LABELS:
        losses = training_losses(method, activation, _starts(depth, p), batches, p.rates, inference=p.inference)
        chosen = best(losses)
        means = losses.mean(axis=(1, 2))
        arrays |= {
            f"{method}_rate": p.rates[chosen],
            f"{method}_runs": losses[chosen],
            f"{method}_mean": losses[chosen].mean(axis=0),
            f"{method}_means": np.where(np.isfinite(means), means, np.nan),  # NaN: a run diverged
        }
    return arrays


def _starts(depth: Depth, p: Parameters) -> Values:
    if depth.std is None:
        return uniform_starts(p.starts, depth.hidden + 1, p.seed)
    return normal_starts(p.starts, depth.hidden + 1, depth.std, p.seed)


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """A row for each activation, a column for each depth."""
    rows, columns = len(parameters.activations), len(parameters.depths)
    size = (0.55 + 1.55 * columns, 0.5 + 1.4 * rows)
    picture, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, sharex="col", sharey=True)
    for activation, row in zip(parameters.activations, grid, strict=True):
        for depth, axes in zip(parameters.depths, row, strict=True):
            _training(axes, arrays[_unit(activation, depth)], depth)
        row[0].set_ylabel(f"{TITLES[activation]}\ntraining loss")
    for depth, top, bottom in zip(parameters.depths, grid[0], grid[-1], strict=True):
        top.set_title(f"$H = {depth.hidden}$", y=1.12)
        bottom.set_xlabel("batch")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside upper center", ncols=2)
    return picture


def _training(axes: Axes, a: Arrays, depth: Depth) -> None:
    """Thin: the runs. Thick: their mean. Beside them the rates."""
    for method, label in LABELS.items():
        colour = COLOURS[method]
        axes.plot(a[f"{method}_runs"].T, color=colour, linewidth=0.5, alpha=0.3)
        axes.plot(a[f"{method}_mean"], color=colour, linewidth=1.8, label=label)
    axes.set(xlim=(0, depth.steps - 1), ylim=(0, 0.58), yticks=(0, 0.25, 0.5))
    above: dict[str, Any] = {"transform": axes.transAxes, "fontsize": 7.5}
    for place, method in ((0.0, "loss"), (1.0, "energy")):
        side = "left" if place == 0 else "right"
        axes.text(place, 1.03, f"rate {a[f'{method}_rate']:g}", color=COLOURS[method], ha=side, **above)


def caption(parameters: Parameters) -> str:
    p = parameters
    near = [depth for depth in p.depths if depth.std is not None]
    far = [depth for depth in p.depths if depth.std is None]
    starts = [f"normal of standard deviation {depth.std:g} for H = {depth.hidden}" for depth in near]
    starts += [f"uniform in [-1, 1] for H = {', '.join(str(depth.hidden) for depth in far)}"] if far else []
    return (
        f"Training of chains of single units that learn y = -x, x ~ N(1, 0.1^2), on fresh batches of {p.examples} "
        f"samples, from {p.starts} starts: weights {'; '.join(starts)}. Thin: each run; thick: their mean, by BP "
        "and by PC from the same starts on the same batches, each at the rate with the smallest loss, mean over "
        f"runs and batches, of {', '.join(f'{rate:g}' for rate in p.rates)}. Linear chains have exact equilibria, "
        f"others {INFERENCE_TEXTS[p.inference]}. Part of PC's lead is the larger rate that F* tolerates. ReLU "
        "chains with a negative weight below the last never move under either method, which leaves about 2^-H of "
        "them: there PC has no consistent lead. After a figure of arXiv 2305.18188, whose starts, rates and runs "
        "were not at hand."
    )


INFERENCE_TEXTS = {"long": "100 steps of inference of 0.4", "published": "50 steps of inference of 0.1"}
DEFAULT = Parameters(depths=(Depth(1, 60, 0.05), Depth(2, 150, 0.05), Depth(5, 200), Depth(10, 300)))
FIGURE = Figure(
    key="trust-region/chains",
    title="Training deep chains",
    caption=caption,
    source="trust-region-2023",
    claims=("trust-region-2023/chains", "saddles-2024/scalar-chain"),
    presets={
        "quick": replace(DEFAULT, depths=(Depth(2, 100, 0.05),), starts=4, examples=4, inference="published"),
        "default": DEFAULT,
        "paper": replace(DEFAULT, starts=64, examples=64),
    },
    units=units,
    data=data,
    draw=draw,
    allow_nonfinite=True,
)
