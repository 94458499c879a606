r"""How well the gradient of F* points along that of the loss, across widths and depths, before and in training."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from figures._learning import hidden as widths_of
from figures._learning import minibatches, trained
from pctheory.figures import COLOUR_MAPS, Arrays, Figure, colour_sequence

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Parameters:
    """`times`: after how many updates; `rates`: of Adam for muPC and SP."""

    widths: tuple[int, ...] = (4, 16, 64)
    depths: tuple[int, ...] = (2, 8, 32)
    times: tuple[int, ...] = (0, 50, 100)
    rates: tuple[float, float] = (0.1, 1e-4)
    seeds: int = 3
    batch: int = 64
    data_set: str = "digits"


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """One unit per width and depth."""
    p = parameters
    return {
        f"width-{n}-depth-{depth}": replace(p, widths=(n,), depths=(depth,)) for n in p.widths for depth in p.depths
    }


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """Cosines of (parameterisation, seed, time) and their mean over seeds.

    `short`: the geometric mean of 1 - cosine, `range`: how far seeds lie below and above it.
    """
    p = parameters
    batched = minibatches(p.data_set, max(p.times) + 1, p.batch, 0, data_dir)
    widths = widths_of(batched, p.widths[0], p.depths[0] - 1)
    records = trained(widths, batched, p.rates, seeds=p.seeds).records
    cosines = np.asarray(records.alignment)[:, :, list(p.times)]
    short = 1 - cosines
    middle = np.exp(np.log(short).mean(axis=1))
    return {
        "cosines": cosines,
        "mean": cosines.mean(axis=1),
        "short": middle,
        "range": np.stack([middle - short.min(axis=1), short.max(axis=1) - middle], axis=-1),
    }


def _map(axes: Axes, cosines: Values, norm: Normalize) -> None:
    axes.imshow(cosines, norm=norm, cmap=COLOUR_MAPS["values"], origin="lower", aspect="auto")
    for (row, column), value in np.ndenumerate(cosines) if len(cosines) <= 6 else ():
        text = f"{value:.3f}" if value >= 0.9 else f"{value:.2f}"
        axes.text(
            column, row, text, ha="center", va="center", fontsize=7, color="black" if value > 0.6 else "white"
        )


def _curves(axes: Axes, p: Parameters, short: Values, ranges: Values) -> None:
    """Filled: muPC, with the range over seeds; hollow: SP."""
    for j, (depth, shade) in enumerate(zip(p.depths, colour_sequence(len(p.depths)), strict=True)):
        across = depth / np.array(p.widths)
        bars: dict[str, Any] = {"color": shade, "capsize": 1.5, "markersize": 3.5}
        axes.errorbar(across, short[:, j, 0], ranges[:, j, 0].T, fmt="o-", label=str(depth), **bars)
        look: dict[str, Any] = {"color": shade, "markersize": 3.5, "markerfacecolor": "white", "linewidth": 0.8}
        axes.plot(across, short[:, j, 1], "o:", **look)


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """Above, the cosines of muPC over width and depth; below, how far they are from 1, against L / N."""
    p = parameters
    picture, (maps, curves) = plt.subplots(2, len(p.times), figsize=(6.75, 4.6), squeeze=False)
    stacked = {name: np.stack([a[name] for a in arrays.values()]) for name in ("mean", "short", "range")}
    cells = {name: a.reshape(len(p.widths), len(p.depths), *a.shape[1:]) for name, a in stacked.items()}
    norm = Normalize(0.0, 1.0)
    for k, time in enumerate(p.times):
        _map(maps[k], cells["mean"][:, :, 0, k].T, norm)
        maps[k].set_title(f"muPC, $t = {time}$")
        maps[k].set(xlabel="width $N$", xticks=range(len(p.widths)), xticklabels=p.widths)
        maps[k].set(yticks=range(len(p.depths)), yticklabels=p.depths)
        _curves(curves[k], p, cells["short"][:, :, :, k], cells["range"][:, :, :, k])
        curves[k].set(title=f"$t = {time}$", xlabel="$L / N$", xscale="log", yscale="log")
        curves[k].sharey(curves[0])
    maps[0].set_ylabel("depth $L$")
    curves[0].set_ylabel("1 - cosine")
    colours = ScalarMappable(norm, COLOUR_MAPS["values"])
    picture.colorbar(colours, ax=maps.tolist(), label="cosine", pad=0.02)
    curves[-1].legend(title="depth $L$", fontsize=7, title_fontsize=7, loc="lower right")
    return picture


def caption(parameters: Parameters) -> str:
    p = parameters
    return (
        "Cosine of the gradients of F* and of the loss, in the weights of all layers together, after t updates "
        f"of linear residual networks of depth L and width N on {p.data_set}, trained on F* (exact inference) by "
        f"Adam of rate {p.rates[0]:g} (muPC) and {p.rates[1]:g} (SP with skips), batches of {p.batch}. Above: "
        f"muPC, mean over {p.seeds} seeds. Below: 1 - cosine against L / N, geometric mean and range over seeds; "
        "filled: muPC, hollow: SP. At the start that of muPC is little more than a function of L / N, about its "
        "square; in training deep networks fall behind shallow ones at the same L / N. With SP width does not "
        "help. After figures of arXiv 2602.07697, up to N = 2048 and L = 32 and trained by Adam of rate 1e-3, "
        "scaled in a way that was not at hand: rates here are those of mupc/energy-ratio-map."
    )


DEFAULT = Parameters()
FIGURE = Figure(
    key="mupc/gradient-alignment",
    title="Alignment of the gradients of F* and of the loss",
    caption=caption,
    source="limits-2026",
    claims=("limits-2026/alignment", "mupc-2025/limit-in-training"),
    presets={
        "quick": replace(DEFAULT, widths=(4,), depths=(3,), times=(0, 10), seeds=2),
        "default": DEFAULT,
        "paper": replace(
            DEFAULT,
            widths=tuple(2**k for k in range(1, 12)),
            depths=(2, 4, 8, 16, 32),
            data_set="mnist",
        ),
    },
    units=units,
    data=data,
    draw=draw,
    data_sets=lambda parameters: (parameters.data_set,),
)
