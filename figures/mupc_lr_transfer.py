r"""The loss over weight rate and activity rate for several widths and depths, and how its least moves."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from scipy.stats import t

from figures._training import Values, best_log_rate, minibatches, networks, widths_of
from pctheory.datasets import dataset
from pctheory.dynamics import training_sweep
from pctheory.figures import COLOURS, Arrays, Figure

Size = tuple[int, int]  # width, hidden layers


@dataclass(frozen=True)
class Parameters:
    """Rates are logarithms to base 2, evenly spaced. `last`: the share of batches whose loss is averaged."""

    widths: tuple[Size, ...] = ((16, 8), (32, 8), (64, 8))
    depths: tuple[Size, ...] = ((32, 4), (32, 8), (32, 16))
    activation: str = "tanh"
    seeds: int = 4
    batch: int = 16
    batches: int = 40
    last: float = 0.25
    data_set: str = "digits"
    mupc_rates: tuple[float, ...] = (-5.0, -4.0, -3.0, -2.0, -1.0, 0.0)
    standard_rates: tuple[float, ...] = (-11.25, -10.0, -8.75, -7.5, -6.25, -5.0)
    activity_rates: tuple[float, ...] = (-7.0, -5.0, -3.0, -1.0, 1.0)
    activity_rate: float = -1.0


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """One unit per size."""
    sizes = dict.fromkeys((*parameters.widths, *parameters.depths))
    return {_unit(size): replace(parameters, widths=(size,), depths=()) for size in sizes}


def _unit(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """muPC: losses of every seed, weight rate and activity rate, NaN where a run diverged, and their mean.

    Of both parameterisations the best weight rate of each seed at one activity rate, and its mean with the
    half-width of its 95 % confidence interval.
    """
    p = parameters
    ((width, hidden),) = p.widths
    examples, seeds = dataset(p.data_set, data_dir=data_dir), range(p.seeds)
    batches = minibatches(examples, p.batch, seeds, count=p.batches)
    last = max(1, round(p.last * p.batches))

    def losses(kind: str, rates: tuple[float, ...], activity_rates: tuple[float, ...]) -> Values:
        found = training_sweep(
            networks(kind, widths_of(examples, width, hidden), p.activation, seeds),
            batches,
            rates=2 ** np.array(rates),
            inference_rates=2 ** np.array(activity_rates),
            inference_steps=hidden,
        )
        mean = np.asarray(found.losses)[..., -last:].mean(axis=-1)
        return np.where((np.asarray(found.diverged_at) < 0) & np.isfinite(mean), mean, np.nan)

    mupc = losses("mupc", p.mupc_rates, p.activity_rates)
    standard = losses("standard", p.standard_rates, (p.activity_rate,))[..., 0]
    chosen = mupc[..., p.activity_rates.index(p.activity_rate)]
    arrays: dict[str, npt.ArrayLike] = {
        "mupc_losses": mupc,
        "mupc_mean": mupc.mean(axis=0),
        "standard_losses": standard,
    }
    for kind, found, rates in (("mupc", chosen, p.mupc_rates), ("standard", standard, p.standard_rates)):
        best = best_log_rate(found, np.array(rates))
        margin = t.ppf(0.975, p.seeds - 1) * best.std(ddof=1) / p.seeds**0.5
        arrays |= {f"{kind}_best": best, f"{kind}_best_mean": best.mean(), f"{kind}_best_margin": margin}
    return arrays


LOOKS = {"mupc": ("energy", "o", "$\\mu$PC"), "standard": ("other", "^", "PC, standard")}


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """Rows: widths, depths. Maps of muPC's mean loss, its least circled; on the right the best weight rates."""
    p = parameters
    columns = max(len(p.widths), len(p.depths))
    picture, panels = plt.subplots(2, columns + 1, figsize=(6.75, 3.7), width_ratios=[1] * columns + [1.35])
    finite = np.concatenate([a["mupc_mean"].ravel() for a in arrays.values()])
    span = (np.nanmin(finite), np.nanmax(finite))
    for row, sizes, letter, position in zip(panels, (p.widths, p.depths), "NH", (0, 1), strict=True):
        for axes, size in zip(row, sizes, strict=False):
            mesh = _map(axes, arrays[_unit(size)]["mupc_mean"], p, span)
            axes.set_title(f"$N = {size[0]}$, $H = {size[1]}$", fontsize=8)
        for axes in row[len(sizes) : columns]:
            axes.axis("off")
        for axes in row[1:columns]:
            axes.set_yticklabels([])
        row[0].set_ylabel("$\\log_2$ weight rate")
        _best(row[-1], [arrays[_unit(size)] for size in sizes], [size[position] for size in sizes])
        row[-1].set_xlabel(f"{'width' if letter == 'N' else 'hidden layers'} ${letter}$")
    for axes in panels[1, :columns]:
        axes.set_xlabel("$\\log_2$ activity rate")
    bar = picture.colorbar(mesh, ax=panels[:, :columns], shrink=0.75, pad=0.02, label="loss of $\\mu$PC")
    bar.ax.yaxis.set_major_formatter("{x:g}")
    bar.ax.yaxis.set_minor_formatter("{x:g}")
    panels[0, -1].legend(fontsize=7, loc="center left", handlelength=1.4)
    return picture


def _map(axes: Axes, losses: Values, p: Parameters, span: tuple[float, float]) -> QuadMesh:
    mesh = axes.pcolormesh(p.activity_rates, p.mupc_rates, losses, norm=LogNorm(*span), shading="nearest")
    axes.set_facecolor(COLOURS["neutral"])
    weight, activity = np.unravel_index(np.nanargmin(losses), losses.shape)
    axes.plot(p.activity_rates[activity], p.mupc_rates[weight], "o", color="white", markersize=5, fillstyle="none")
    axes.set(xticks=p.activity_rates, yticks=p.mupc_rates)
    axes.set_xticklabels([f"{rate:g}" for rate in p.activity_rates])
    axes.tick_params(labelsize=6.5)
    return mesh


def _best(axes: Axes, found: list[Arrays], places: list[int]) -> None:
    """The best weight rates, mean over seeds with confidence interval."""
    for kind, (concept, marker, label) in LOOKS.items():
        means, margins = ([float(a[f"{kind}_best_{part}"]) for a in found] for part in ("mean", "margin"))
        look: dict[str, Any] = {"color": COLOURS[concept], "marker": marker, "markersize": 3, "capsize": 2}
        axes.errorbar(places, means, margins, label=label, **look)
    axes.set(xscale="log", ylim=(-11, 0))
    axes.set_title("best weight rate", fontsize=8)
    axes.yaxis.set_label_position("right")
    axes.yaxis.tick_right()
    axes.spines["right"].set_visible(True)
    axes.spines["left"].set_visible(False)
    axes.set_ylabel("$\\log_2$ weight rate")
    axes.set_xticks(places, [str(place) for place in places])
    axes.minorticks_off()
    axes.tick_params(labelsize=6.5)


def caption(parameters: Parameters) -> str:
    p = parameters
    return (
        "Maps: loss of muPC over the weight rate of Adam and the activity rate (of each example; one stated for "
        f"the mean energy of a batch of B is B times as large), mean over {p.seeds} seeds and the last "
        f"{p.last:.0%} of {p.batches} batches of {p.batch}, {p.data_set}; residual networks of {p.activation}, "
        "T = H steps of gradient descent on the activities. Circles: the least loss of the grid; grey: a run "
        "diverged. Upper row: widths. Lower row: depths. Right: the best weight rate at the activity rate "
        f"{2**p.activity_rate:g}, from a parabola through the losses of each seed, mean with 95 % confidence "
        "interval over seeds, of muPC and of PC in standard parameterisation (weights uniform in +-1/sqrt(N), with "
        "skips). The limit of stability of the activity rate, 2 / lambda_max of the activity Hessian, is near 1/2 "
        "at every size of muPC. After the figures on transfer of arXiv 2505.13124, which have larger networks."
    )


DEFAULT = Parameters()
FIGURE = Figure(
    key="mupc/lr-transfer",
    title="Transfer of learning rates",
    caption=caption,
    source="mupc-2025",
    claims=("mupc-2025/lr-transfer",),
    presets={
        "quick": replace(
            DEFAULT,
            widths=((8, 2),),
            depths=((8, 2),),
            seeds=2,
            batches=20,
            mupc_rates=(-5.0, -3.0, -1.0),
            standard_rates=(-9.0, -6.5, -4.0),
            activity_rates=(-7.0, -1.0),
        ),
        "default": DEFAULT,
        "paper": replace(
            DEFAULT,
            widths=((64, 8), (128, 8), (256, 8), (512, 8)),
            depths=((128, 8), (128, 16), (128, 32), (128, 64)),
            batch=64,
            batches=900,
            data_set="mnist",
            mupc_rates=tuple(np.arange(-8.0, 1.0).tolist()),
            standard_rates=tuple(np.arange(-15.0, -3.0).tolist()),
            activity_rates=tuple(np.arange(-9.0, 2.0).tolist()),
        ),
    },
    units=units,
    data=data,
    draw=draw,
    data_sets=lambda parameters: (parameters.data_set,),
    allow_nonfinite=True,
)
