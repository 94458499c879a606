r"""Loss, F* and their ratio along training, for networks from narrow to wide."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from figures._learning import PARAMETERISATIONS, energies_rule, ensembles, minibatches, trained
from figures._learning import hidden as widths_of
from pctheory.figures import COLOURS, Arrays, Figure, colour_sequence
from pctheory.random_matrix.expectations import expected_rescaling

TITLES = {"mupc": "muPC", "standard": "SP"}


@dataclass(frozen=True)
class Parameters:
    """`rates`: of Adam for muPC and SP. `smoothed`: updates over which the curves are averaged."""

    widths: tuple[int, ...] = (2, 8, 32, 128, 512)
    hidden: int = 4
    updates: int = 200
    rates: tuple[float, float] = (0.1, 1e-4)
    seeds: int = 2
    smoothed: int = 10
    batch: int = 64
    data_set: str = "digits"


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """One unit per width."""
    return {f"width-{n}": replace(parameters, widths=(n,)) for n in parameters.widths}


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """Geometric means over seeds of loss, F* and ratio of (parameterisation, time), and E tr S / d_y at the start.

    After the first of them, each is also averaged over the last `smoothed` updates, as batches differ.
    """
    p = parameters
    batched = minibatches(p.data_set, p.updates + 1, p.batch, 0, data_dir)
    widths = widths_of(batched, p.widths[0], p.hidden)
    found = trained(widths, batched, p.rates, seeds=p.seeds, rule=energies_rule)
    losses, energies = (np.exp(_smoothed(np.log(part).mean(axis=1), p.smoothed)) for part in found.records)
    return {
        "losses": losses,
        "energies": energies,
        "ratios": losses / energies,
        "expected": [expected_rescaling(chain)[-1] for chain in ensembles(found.net)],
    }


def _smoothed(values: npt.NDArray[np.float64], window: int) -> npt.NDArray[np.float64]:
    """Means over the last `window` times, fewer at the start."""
    sums = np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1)
    ends = np.arange(1, values.shape[1] + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[:, ends] - sums[:, starts]) / (ends - starts)


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """Above muPC, below SP; loss and F* on the left, their ratio on the right."""
    picture, rows = plt.subplots(2, 2, figsize=(6.75, 4.6), sharex=True)
    for k, name in enumerate(PARAMETERISATIONS):
        _values(rows[k, 0], arrays, k)
        _ratios(rows[k, 1], arrays, k)
        rows[k, 0].set_title(f"{TITLES[name]}, Adam of rate {parameters.rates[k]:g}")
        rows[k, 1].set_title(f"{TITLES[name]}: ratio")
    for axes in rows[1]:
        axes.set_xlabel("updates $t$")
    rows[1, 1].set_ylim(None, 1.5 * rows[1, 1].get_ylim()[1])  # room for the legend
    rows[1, 1].legend(title="width $N$", fontsize=7, title_fontsize=7, loc="upper right", ncols=5, handlelength=1.2)
    for style, concept, text in (("-", "loss", r"loss $\mathcal{L}$"), ("--", "energy", r"$\mathcal{F}^*$")):
        rows[0, 0].plot([], [], style, color=COLOURS[concept], label=text)
    rows[0, 0].legend(loc="upper right")
    return picture


def _values(axes: Axes, arrays: Mapping[str, Arrays], k: int) -> None:
    shades = zip(colour_sequence(len(arrays), "loss"), colour_sequence(len(arrays), "energy"), strict=True)
    for a, (of_loss, of_energy) in zip(arrays.values(), shades, strict=True):
        axes.plot(a["losses"][k], color=of_loss)
        axes.plot(a["energies"][k], "--", color=of_energy)
    axes.set(yscale="log", ylabel="value")


def _ratios(axes: Axes, arrays: Mapping[str, Arrays], k: int) -> None:
    """With E tr S / d_y of the start as a mark on the left edge."""
    for (unit, a), shade in zip(arrays.items(), colour_sequence(len(arrays)), strict=True):
        axes.plot(a["ratios"][k] - 1, color=shade, label=unit.removeprefix("width-"))
        axes.plot(0, a["expected"][k] - 1, ">", color=shade, clip_on=False, zorder=4)
    axes.set(yscale="log", ylabel=r"$\mathcal{L} / \mathcal{F}^* - 1$", xlim=(0, None))


def caption(parameters: Parameters) -> str:
    p = parameters
    return (
        f"Linear residual networks with H = {p.hidden} hidden layers of width N on {p.data_set}, trained on F* "
        f"(exact inference) by Adam of rate {p.rates[0]:g} (muPC, above) and {p.rates[1]:g} (SP with skips, "
        f"below), batches of {p.batch}; geometric means over {p.seeds} seeds and the last {p.smoothed} updates. "
        "Left: loss and F*, dark to pale from narrow to wide. Right: by how much loss / F* exceeds 1; "
        "triangles: E tr S / d_y - 1 at the start, in closed form. With muPC it falls with the width at the "
        "start; in training it grows for networks not much wider than their output, stays for wide ones, and "
        "falls for N < d_y, where the residual that is left lies in directions that S leaves as they are. With "
        "SP it is about 2^H - 1 for N >> d_y, whatever the width. After a figure of arXiv 2505.13124, there on "
        "MNIST and for one epoch."
    )


DEFAULT = Parameters()
FIGURE = Figure(
    key="mupc/energy-ratio-curves",
    title="Loss and equilibrated energy along training",
    caption=caption,
    source="mupc-2025",
    claims=("mupc-2025/limit-in-training", "mupc-2025/limit-to-loss"),
    presets={
        "quick": replace(DEFAULT, widths=(4,), hidden=2, updates=20, seeds=1),
        "default": DEFAULT,
        "paper": replace(DEFAULT, updates=900, seeds=3, data_set="mnist"),
    },
    units=units,
    data=data,
    draw=draw,
    data_sets=lambda parameters: (parameters.data_set,),
)
