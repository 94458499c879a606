r"""Spectra of the activity Hessian and of its parts against depth and width, with their limiting laws."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from pctheory import LinearPCN, mupc, standard
from pctheory.conditioning import activity_hessian_spectrum
from pctheory.figures import THEORY_LINE, Arrays, Figure, colour_sequence
from pctheory.random_matrix import (
    RandomChain,
    activity_hessian_law,
    marchenko_pastur,
    semicircle,
    standard_variances,
)

Values = npt.NDArray[np.float64]

KINDS: dict[str, Callable[..., LinearPCN]] = {"SP": standard, "muPC with skips": mupc}
PARTS: tuple[Literal["all", "diagonal", "off-diagonal"], ...] = ("all", "diagonal", "off-diagonal")


@dataclass(frozen=True)
class Parameters:
    """`depths` hidden layers of width `width`, and `widths` at `hidden` layers; inputs and outputs are as wide.

    Spectra are pooled over as many draws as make this many `eigenvalues`, at least one.
    """

    depths: tuple[int, ...] = (2, 4, 16)
    width: int = 48
    widths: tuple[int, ...] = (8, 32, 96)
    hidden: int = 4
    bins: int = 40
    eigenvalues: int = 1500
    points: int = 300
    seed: int = 0
    kind: str = ""


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """One unit per parameterisation and size."""
    p, made = parameters, {}
    for kind in KINDS:
        for width, hidden in _sizes(p):
            made[_unit(kind, width, hidden)] = replace(p, kind=kind, width=width, depths=(hidden,))
    return made


def _sizes(p: Parameters) -> list[tuple[int, int]]:
    return [(p.width, hidden) for hidden in p.depths] + [(width, p.hidden) for width in p.widths]


def _unit(kind: str, width: int, hidden: int) -> str:
    return f"{kind}, N {width}, H {hidden}"


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """Histograms of the eigenvalues of H_z and its parts, and the densities of their laws, where there are any."""
    p = parameters
    (hidden,) = p.depths
    widths = (p.width,) * (hidden + 2)
    draws = range(p.seed, p.seed + max(1, p.eigenvalues // (p.width * hidden)))
    nets = [KINDS[p.kind](widths, seed=seed) for seed in draws]
    arrays: dict[str, npt.ArrayLike] = {}
    for part in PARTS:
        if part == "off-diagonal" and hidden == 1:  # there is none
            continue
        values = np.concatenate([activity_hessian_spectrum(net, part) for net in nets])
        heights, edges = np.histogram(values, bins=p.bins, density=True)
        arrays |= {f"{part}_heights": heights, f"{part}_edges": edges}
    variances = standard_variances(widths) if p.kind == "SP" else 1.0
    laws = {"all": activity_hessian_law(RandomChain.of(nets[0], variances), points=p.points)}
    return arrays | _densities(laws["all"], "all") | _parts(p, hidden)


def _densities(law: Any, part: str, share: float = 1.0) -> dict[str, npt.ArrayLike]:
    """Between the edges, closer together towards them."""
    low, high = law.edges
    places = low + (high - low) * np.sin(np.linspace(0.02, np.pi / 2 - 0.02, 300)) ** 2
    return {f"{part}_places": places, f"{part}_density": share * np.asarray(law.density(places))}


def _parts(p: Parameters, hidden: int) -> dict[str, npt.ArrayLike]:
    """SP: shifted Marchenko-Pastur, and the semicircle of the deep limit. muPC: all blocks but the last."""
    if p.kind == "SP":
        return _densities(marchenko_pastur(1.0).shifted(1.0), "diagonal") | _densities(
            semicircle(2 * 2**0.5), "off-diagonal"
        )
    if hidden == 1:
        return {}
    block = RandomChain((p.width,) * 3, (1.0, 1 / (p.width * (hidden + 1))), (0.0, 1.0))
    return _densities(activity_hessian_law(block, points=p.points), "diagonal", share=1 - 1 / hidden)


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """A row for each parameterisation and sweep, a column for each part."""
    p = parameters
    picture, grid = plt.subplots(2 * len(KINDS), len(PARTS), figsize=(6.75, 7.6))
    for k, kind in enumerate(KINDS):
        depths = {f"$H = {h}$": arrays[_unit(kind, p.width, h)] for h in p.depths}
        widths = {f"$N = {n}$": arrays[_unit(kind, n, p.hidden)] for n in p.widths}
        for row, (sweep, fixed) in zip(
            grid[2 * k : 2 * k + 2],
            ((depths, f"$N = {p.width}$"), (widths, f"$H = {p.hidden}$")),
            strict=True,
        ):
            for axes, part in zip(row, PARTS, strict=True):
                _panel(axes, sweep, part)
            row[0].set_ylabel(f"{kind.replace('mu', chr(0x3BC))}, {fixed}\ndensity", fontsize=8)
            row[0].legend(fontsize=6.5)
    for axes, title in zip(grid[0], ("$H_z$", "diagonal part", "off-diagonal part"), strict=True):
        axes.set_title(title)
    for axes in grid[-1]:
        axes.set_xlabel("eigenvalue")
    return picture


def _panel(axes: Axes, sweep: Mapping[str, Arrays], part: str) -> None:
    tallest = 0.0
    for (label, a), shade in zip(sweep.items(), colour_sequence(len(sweep)), strict=True):
        if f"{part}_heights" in a:
            axes.stairs(a[f"{part}_heights"], a[f"{part}_edges"], color=shade, linewidth=1.0, label=label)
            tallest = max(tallest, float(np.sort(a[f"{part}_heights"])[-3]))
        if f"{part}_density" in a:
            axes.plot(a[f"{part}_places"], a[f"{part}_density"], **THEORY_LINE | {"linewidth": 0.8})
    axes.set_ylim(0, 1.3 * tallest)


def caption(parameters: Parameters) -> str:
    p = parameters
    scaled = "" if p.width == 128 else f" Scaled down from N = 128 and H = 128 to N = {p.width} and H = {p.hidden}."
    return (
        "Histograms of the eigenvalues of the activity Hessian, of its diagonal blocks and of the rest, at "
        f"initialisation, of as many draws as make {p.eigenvalues} eigenvalues, over depth H and width N, inputs "
        "and outputs as wide as the hidden layers; SP with variance 1/N, without skips, and muPC with skips. "
        "Dashes: limiting laws. For the Hessian that of the "
        "matrix Dyson equation at this depth; for the diagonal part of SP Marchenko and Pastur's, shifted to "
        "[1, 5]; for its off-diagonal part the semicircle of radius 2 sqrt(2); for the diagonal part of muPC the "
        "law of one block, without the last, which is all but the identity. Peaks beyond the panels are cut. After "
        f"the spectra in the appendix of arXiv 2505.13124; laws own.{scaled}"
    )


DEFAULT = Parameters()
FIGURE = Figure(
    key="mupc/activity-spectra",
    title="Spectra of the activity Hessian",
    caption=caption,
    source="mupc-2025",
    claims=("mupc-2025/spectra", "own/dyson-spectrum"),
    presets={
        "quick": replace(
            DEFAULT, depths=(1, 3), width=10, widths=(6, 12), hidden=2, bins=20, points=60, eigenvalues=60
        ),
        "default": DEFAULT,
        "paper": replace(DEFAULT, depths=(2, 8, 32, 128), width=128, widths=(16, 32, 64, 128), hidden=128),
    },
    units=units,
    data=data,
    draw=draw,
)
