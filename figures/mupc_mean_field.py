r"""Training curves of wide muPC networks without skips, and the mean-field theory that BP and PC both approach."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from figures._wide_networks import METHODS, Setting, ensemble, mean_distance, whitened_batch
from pctheory.conditioning import log_log_fit
from pctheory.figures import COLOURS, THEORY_LINE, Arrays, Figure, colour_sequence
from pctheory.mean_field import lazy_descent, mean_field_descent

LOOKS: dict[str, dict[str, Any]] = {
    "loss": {"color": COLOURS["loss"], "marker": "s", "name": "BP to theory"},
    "energy": {"color": COLOURS["energy"], "marker": "o", "name": "PC to theory"},
    "between": {"color": COLOURS["other"], "marker": "^", "name": "PC to BP"},
}


@dataclass(frozen=True)
class Parameters:
    """`shown`: widths whose curves are drawn. `fitted`: how many of the largest. `rate`: in units of gamma^2 N."""

    gammas: tuple[float, ...] = (0.5, 2.0)
    widths: tuple[int, ...] = (8, 16, 32, 48, 64, 96, 128, 192, 256)
    shown: tuple[int, ...] = (8, 32, 128)
    networks: int = 128
    fitted: int = 7
    depth: int = 4
    examples: int = 4
    rate: float = 0.04
    steps: int = 30
    seed: int = 0


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """One unit per output factor."""
    return {f"gamma-{gamma:g}": replace(parameters, gammas=(gamma,)) for gamma in parameters.gammas}


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """Losses of every network, (networks, steps), those of the theory, distances and their fitted exponents."""
    p = parameters
    given = Setting(*whitened_batch(p.examples, p.seed), p.depth, p.rate, p.steps, p.gammas[0])
    limit = mean_field_descent(given.x, given.y, gamma=given.gamma, **given.options).losses
    arrays: dict[str, npt.ArrayLike] = {
        "theory": limit,
        "lazy": lazy_descent(given.x, given.y, **given.options).losses,
        "widths": np.array(p.widths),
    }
    distances: dict[str, list[float]] = {kind: [] for kind in LOOKS}
    for width in p.widths:
        curves = ensemble(given, width, p.networks, p.seed)
        for method, losses in curves.items():
            arrays[f"{method}_{width}"] = losses
            distances[method].append(mean_distance(losses, limit))
        distances["between"].append(mean_distance(curves["energy"], curves["loss"]))
    for kind, sizes in distances.items():
        fit = log_log_fit(np.array(p.widths[-p.fitted :], dtype=float), np.array(sizes[-p.fitted :]))
        arrays |= {f"{kind}_distances": sizes, f"{kind}_fit": [fit.slope, *fit.interval]}
    return arrays


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """Mean losses along training for each output factor; distances to the theory and of PC to BP against width."""
    gammas = parameters.gammas
    picture, panels = plt.subplots(1, len(gammas) + 1, figsize=(6.75, 2.9), squeeze=False)
    for axes, gamma in zip(panels[0], gammas, strict=False):
        _curves(axes, arrays[f"gamma-{gamma:g}"], parameters)
        axes.set(title=rf"$\gamma = {gamma:g}$", xlabel="step", ylim=(0, None), xlim=(0, parameters.steps - 1))
    panels[0, 0].set_ylabel("training loss")
    panels[0, -2].legend(fontsize=7, handlelength=1.6, loc="upper right", borderaxespad=0.0)
    _distances(panels[0, -1], arrays, parameters)
    return picture


def _curves(axes: Axes, a: Arrays, p: Parameters) -> None:
    steps = np.arange(p.steps)
    for method, name in METHODS.items():
        for width, shade in zip(p.shown, colour_sequence(len(p.shown), method)[::-1], strict=True):
            mean = a[f"{method}_{width}"].mean(axis=0)
            axes.plot(steps, mean, color=shade, linewidth=1.2, label=f"{name}, $N = {width}$")
    axes.plot(steps, a["lazy"], ":", color=COLOURS["neutral"], label="lazy limit")
    axes.plot(steps, a["theory"], **THEORY_LINE, label="theory")


def _distances(axes: Axes, arrays: Mapping[str, Arrays], p: Parameters) -> None:
    """Full markers for the first output factor, open ones for others."""
    for k, gamma in enumerate(p.gammas):
        a = arrays[f"gamma-{gamma:g}"]
        for kind, look in LOOKS.items():
            slope, low, high = a[f"{kind}_fit"]
            axes.plot(
                a["widths"],
                a[f"{kind}_distances"],
                "--" if k else "-",
                linewidth=1.0,
                color=look["color"],
                marker=look["marker"],
                markersize=3.5,
                markerfacecolor="white" if k else look["color"],
                label=rf"{look['name']}: ${slope:.2f}$ (${low:.2f}$, ${high:.2f}$)",
            )
    axes.set(xscale="log", yscale="log", xlabel="width $N$", title="distance of losses")
    powers = [width for width in p.widths if width & (width - 1) == 0]
    axes.set_xticks(powers, [str(width) for width in powers])
    axes.minorticks_off()
    axes.set_ylim(axes.get_ylim()[0] / 800, None)  # room for the legend
    title = "fitted exponents, 95 % intervals"
    axes.legend(fontsize=6, title=title, title_fontsize=6.5, handlelength=1.6, loc="lower left", borderaxespad=0.0)


def caption(parameters: Parameters) -> str:
    p = parameters
    first, *others = (f"{gamma:g}" for gamma in p.gammas)
    markers = f" for gamma = {first} (full markers) and {', '.join(others)} (open)" if others else ""
    return (
        f"Loss along {p.steps} steps of full-batch gradient descent, on the loss (BP) and on F* (PC at "
        f"equilibrium), of linear networks in the muPC scaling without skips: L = {p.depth}, {p.examples} whitened "
        f"examples, one output, learning rate {p.rate:g} gamma^2 N, mean over {p.networks} nets of each width, "
        "from the same starts for both. Dashes: dynamical mean-field theory, the limit of infinite width. Dots: "
        "the lazy limit, with kernels as at the start. At small gamma the theory is close to that limit, and "
        "PC needs larger widths, as its rescaling at the start is 1 + (L - 1) / (gamma^2 N) on average. Right: "
        f"root-mean-square distance of the losses of one network, over networks and steps{markers}: to the theory "
        f"about N^(-1/2), between PC and BP about 1/N; slopes over the {p.fitted} largest widths. After the limit "
        "curves of arXiv 2602.07697; widths, data and rate are ours, nothing of it was scaled from there."
    )


DEFAULT = Parameters()
FIGURE = Figure(
    key="mupc/mean-field",
    title="Infinite width: one limit for BP and PC",
    caption=caption,
    source="limits-2026",
    claims=("limits-2026/dmft",),
    presets={
        "quick": replace(
            DEFAULT, gammas=(2.0,), widths=(8, 16, 32), shown=(8, 32), networks=8, fitted=3, depth=3, steps=20
        ),
        "default": DEFAULT,
        "paper": replace(DEFAULT, widths=(*DEFAULT.widths, 512, 1024), shown=(8, 64, 1024)),
    },
    units=units,
    data=data,
    draw=draw,
)
