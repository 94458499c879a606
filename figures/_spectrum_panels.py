"""How Hessian matrices and their spectra are drawn. All that is computed here is how far two curves are apart."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pctheory.figures import COLOUR_MAPS, COLOURS, THEORY_LINE, WIDTHS, Arrays

MATRICES = {
    "loss_hessian": r"loss $\mathcal{L}$",
    "energy_hessian": r"$\mathcal{F}^*$, numerical",
    "energy_theory_hessian": r"$\mathcal{F}^*$, theory",
}
BORDER: dict[str, Any] = {"color": "#8C8C8C", "linewidth": 0.4}
MOST_LABELS = 5


def matrices_and_spectra(arrays: Mapping[str, Arrays], titles: Mapping[str, str], *, letter: str = "W") -> Figure:
    """A row for each network: its Hessians, in one scale of colours, and eigenvalues. `letter`: of the weights."""
    rows = len(titles)
    picture, grid = plt.subplots(
        rows, 4, figsize=(WIDTHS["text"], 1.5 * rows + 0.85), width_ratios=[1, 1, 1, 1.45], squeeze=False
    )
    largest = max(np.abs(arrays[unit][name]).max() for unit in titles for name in MATRICES)
    for axes, (unit, title) in zip(grid, titles.items(), strict=True):
        for place, name in zip(axes, MATRICES, strict=False):
            image = _matrix(place, arrays[unit][name], largest)
            _layers(place, arrays[unit]["layer_ends"], letter)
        axes[0].set_ylabel(title)
        spectrum(axes[-1], arrays[unit])
    for place, title in zip(grid[0], MATRICES.values(), strict=False):
        place.set_title(title)
    grid[0, -1].set_title(r"eigenvalues $\lambda_k$")
    grid[-1, -1].set_xlabel("index $k$")
    picture.colorbar(
        image, ax=grid[:, :3], location="bottom", shrink=0.6, aspect=40, pad=0.02, label="entry of the Hessian"
    )
    picture.legend(*_legend(grid[0, -1]), loc="outside upper center", ncols=3)
    return picture


def spectra_of_data_sets(arrays: Mapping[str, Arrays], titles: Sequence[Mapping[str, str]]) -> Figure:
    """A row of spectra for each data set; `titles` has, for each, the titles of its units."""
    columns = max(len(row) for row in titles)
    picture, grid = plt.subplots(
        len(titles), columns, figsize=(WIDTHS["text"], 1.7 * len(titles) + 0.5), squeeze=False
    )
    for axes, row in zip(grid, titles, strict=True):
        for place, (unit, title) in zip(axes, row.items(), strict=False):
            spectrum(place, arrays[unit])
            place.set_title(title, loc="left", fontsize=8)
        axes[0].set_ylabel(r"eigenvalue $\lambda_k$")
        for unused in axes[len(row) :]:
            unused.set_axis_off()
    for place in grid[-1]:
        place.set_xlabel("index $k$")
    picture.legend(*_legend(grid[0, 0]), loc="outside upper center", ncols=3)
    return picture


def spectrum(axes: Axes, unit: Arrays) -> None:
    """Eigenvalues of both objectives in ascending order, theory as dashes over them, and how far it is off."""
    edges = np.arange(len(unit["energy"]) + 1) + 0.5
    style: dict[str, Any] = {"edges": edges, "baseline": None}
    axes.axhline(0.0, color="#E0E0E0", linewidth=0.5, zorder=0)
    axes.stairs(
        unit["energy"], **style, color=COLOURS["energy"], linewidth=2.6, label=r"$\mathcal{F}^*$, numerical"
    )
    axes.stairs(unit["loss"], **style, color=COLOURS["loss"], linewidth=1.3, label=r"loss $\mathcal{L}$, numerical")
    for name in ("energy_theory", "loss_theory"):
        if unit[name].any():  # both on the line 0 would make their dashes a solid line
            axes.stairs(unit[name], **style, **THEORY_LINE | {"linewidth": 0.8})
    axes.plot([], [], **THEORY_LINE, label="theory")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    axes.set_xlim(edges[0] - 0.03 * edges[-1], edges[-1] + 0.03 * edges[-1])
    axes.text(
        0.97, 0.06, _difference(unit), transform=axes.transAxes, ha="right", fontsize=7, color=COLOURS["theory"]
    )


def _difference(unit: Arrays) -> str:
    """The largest between numerics and theory, relative to the largest eigenvalue."""
    pairs = ((unit[name], unit[f"{name}_theory"]) for name in ("loss", "energy"))
    worst = max(float(np.abs(numeric - theory).max()) for numeric, theory in pairs)
    relative = worst / float(np.abs(unit["energy_theory"]).max())
    if relative == 0:
        return "difference 0"
    mantissa, exponent = f"{relative:.0e}".split("e")
    return rf"difference ${mantissa} \times 10^{{{int(exponent)}}}$"


def _matrix(axes: Axes, matrix: npt.NDArray[np.float64], largest: float) -> Any:
    return axes.imshow(matrix, cmap=COLOUR_MAPS["signed"], vmin=-largest, vmax=largest, interpolation="nearest")


def _layers(axes: Axes, ends: npt.NDArray[np.int64], letter: str) -> None:
    """Lines between the layers; their names, or of many the first and the last."""
    for end in ends[:-1] - 0.5:
        axes.axhline(end, **BORDER)
        axes.axvline(end, **BORDER)
    starts = np.concatenate([[0], ends[:-1]])
    shown = range(len(ends)) if len(ends) <= MOST_LABELS else (0, len(ends) - 1)
    labels = [f"${letter}_{{{l + 1}}}$" for l in shown]
    places = [(starts[l] + ends[l] - 1) / 2 for l in shown]
    axes.set_xticks(places, labels, fontsize=7)
    axes.set_yticks(places, labels, fontsize=7)
    axes.tick_params(length=0, pad=1.5)
    for side in axes.spines.values():
        side.set_visible(True)


def _legend(axes: Axes) -> tuple[list[Any], list[str]]:
    """The loss first, theory last."""
    handles, labels = axes.get_legend_handles_labels()
    order = [1, 0, *range(2, len(labels))]
    return [handles[i] for i in order], [labels[i] for i in order]
