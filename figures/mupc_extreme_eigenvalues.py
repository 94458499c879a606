r"""Both ends of the spectrum of inference against width and depth, with their laws."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt

from pctheory import LinearPCN, mupc, standard
from pctheory.conditioning import activity_hessian_extremes, log_log_fit
from pctheory.figures import COLOURS, THEORY_LINE, Arrays, Figure
from pctheory.random_matrix import free_edges, orthogonal_spectrum

KINDS: dict[str, Callable[..., LinearPCN]] = {
    "SP, table": standard,
    "SP, code": partial(standard, initialisation="uniform", variance=1 / 3),
    "SP with skips": partial(standard, skips=True),
    "orthogonal": partial(standard, initialisation="orthogonal"),
    "muPC with skips": mupc,
}


@dataclass(frozen=True)
class Parameters:
    """`depths`: hidden layers H at width `width`; `widths`: those at depth `hidden`. `decay`: of activities."""

    depths: tuple[int, ...] = (2, 4, 8, 16, 32)
    width: int = 32
    widths: tuple[int, ...] = (8, 16, 32)
    hidden: int = 8
    outputs: int = 10
    decay: float = 0.01
    seeds: tuple[int, ...] = (0,)
    fitted: int = 4
    kind: str = ""


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """One unit per parameterisation."""
    return {kind: replace(parameters, kind=kind) for kind in KINDS}


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """Smallest and largest eigenvalues by depth and by width, their laws, and the exponent of the condition."""
    p = parameters
    arrays: dict[str, npt.ArrayLike] = {}
    sweeps = {"depth": [(p.width, h) for h in p.depths], "width": [(n, p.hidden) for n in p.widths]}
    for name, sizes in sweeps.items():
        ends = np.array([[_ends(p, width, hidden, seed) for seed in p.seeds] for width, hidden in sizes])
        arrays |= {f"{name}_smallest": ends[..., 0], f"{name}_largest": ends[..., 1]}
    smallest, largest = (np.asarray(arrays[f"depth_{end}"]) for end in ("smallest", "largest"))
    condition = np.exp(np.log(largest / smallest).mean(axis=1))
    fit = log_log_fit(np.array(p.depths[-p.fitted :]), condition[-p.fitted :])
    decayed = (largest + p.decay) / (smallest + p.decay)
    arrays |= {"exponent": [fit.slope, *fit.interval], "condition": condition}
    return arrays | {"decayed": np.exp(np.log(decayed).mean(axis=1)), **_laws(p)}


def _ends(p: Parameters, width: int, hidden: int, seed: int) -> tuple[float, float]:
    net = KINDS[p.kind]((width,) * (hidden + 1) + (min(p.outputs, width),), seed=seed)
    found = activity_hessian_extremes(net)
    if not found.converged:
        raise ArithmeticError(f"{p.kind}, N = {width}, H = {hidden}: relative errors {found.errors}, wanted 1e-6")
    return found.smallest, found.largest


def _laws(p: Parameters) -> dict[str, Any]:
    """By depth: exact for orthogonal weights, edges of the deep limit for SP, the largest one for muPC."""
    if p.kind == "orthogonal":
        spectra = [orthogonal_spectrum(p.width, h, min(p.outputs, p.width)) for h in p.depths]
        ends = np.array([s.eigenvalues[[0, -1]] for s in spectra]).T
        return {"smallest_law": ends[0], "largest_law": ends[1]}
    if p.kind == "muPC with skips":
        return {"largest_law": 4 + 3 * (2 / (np.array(p.depths) + 1)) ** (2 / 3)}
    if "skips" in p.kind:
        return {}
    low, high = free_edges(1.0 if p.kind == "SP, table" else 1 / 3)
    law = {"largest_law": np.full(len(p.depths), high)}
    return law | ({"smallest_law": np.full(len(p.depths), low)} if low > 0 else {})


LABELS = {
    "SP, table": "SP, $1/N$",
    "SP, code": "SP, $1/3N$",
    "SP with skips": "SP with skips, $1/N$",
    "muPC with skips": r"$\mu$PC with skips",
}
LOOKS = dict(zip(KINDS, [COLOURS[c] for c in ("loss", "saddle", "other", "minimum", "energy")], strict=True))


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """Largest, smallest and condition number by depth above; by width below, and with decay."""
    p = parameters
    picture, ((largest, smallest, condition), (wide, narrow, decayed)) = plt.subplots(2, 3, figsize=(6.75, 4.6))
    for kind, colour in LOOKS.items():
        a, label = arrays[kind], LABELS.get(kind, kind)
        slope, low, high = a["exponent"]
        dots: dict[str, Any] = {"marker": "o", "markersize": 2.5, "linewidth": 1.0, "color": colour}
        for axes, end in ((largest, "largest"), (smallest, "smallest")):
            axes.plot(p.depths, a[f"depth_{end}"].mean(axis=1), **dots, label=label)
            if f"{end}_law" in a:
                axes.plot(p.depths, a[f"{end}_law"], **THEORY_LINE)
        for axes, end in ((wide, "largest"), (narrow, "smallest")):
            axes.plot(p.widths, a[f"width_{end}"].mean(axis=1), **dots)
        exponent = f"{slope:.2f} ({low:.2f} to {high:.2f})"
        condition.plot(p.depths, a["condition"], **dots, label=None if kind == "SP with skips" else exponent)
        decayed.plot(p.depths, a["decayed"], **dots)
    titles = {
        largest: "largest eigenvalue",
        smallest: "smallest eigenvalue",
        condition: "condition number",
        wide: rf"largest, $H = {p.hidden}$",
        narrow: rf"smallest, $H = {p.hidden}$",
        decayed: rf"condition, decay {p.decay:g}",
    }
    for axes, title in titles.items():
        by_width = axes in (wide, narrow)
        ticks = p.widths if by_width else p.depths
        axes.set(title=title, xscale="log", xlabel="width $N$" if by_width else "hidden layers $H$")
        axes.set_xticks(ticks, [str(tick) for tick in ticks], fontsize=7)
        axes.xaxis.minorticks_off()
        if axes not in (largest, wide):
            axes.set_yscale("log")
    condition.legend(fontsize=5.5, title="exponent of $H$", title_fontsize=6, handlelength=1.0)
    largest.set_ylim(2.5, 12)
    handles, labels = largest.get_legend_handles_labels()
    handles += largest.plot([], [], **THEORY_LINE)
    picture.legend(handles, [*labels, "law"], fontsize=7.5, ncols=6, loc="outside upper center", handlelength=1.4)
    return picture


def caption(parameters: Parameters) -> str:
    p = parameters
    return (
        f"The ends of the spectrum of the activity Hessian at initialisation, linear networks with {p.outputs} "
        f"outputs. Top: by depth at width {p.width}; bottom left and middle: by width at {p.hidden} hidden layers; "
        f"bottom right: the condition number with activity decay {p.decay:g}, which adds it to every eigenvalue. "
        f"Means, geometric for condition numbers; number of draws: {len(p.seeds)}. Dashes: the exact spectrum for "
        "orthogonal weights; the edges of the deep limit for SP without skips, 27/4 at variance 1/N, 1/12 and 32/9 "
        "at 1/3N; 4 + 3 (2/L)^(2/3) for the largest of muPC. Exponents of the condition number: fitted to the "
        f"{p.fitted} largest depths (not SP with skips, which is no power law), with intervals of 95 % confidence. "
        "After the conditioning figures of arXiv 2505.13124; laws own."
    )


DEFAULT = Parameters()
FIGURE = Figure(
    key="mupc/extreme-eigenvalues",
    title="Extreme eigenvalues of inference",
    caption=caption,
    source="mupc-2025",
    claims=(
        "own/conditioning-depends-on-init",
        "own/conditioning-with-skips",
        "mupc-2025/orthogonal",
        "mupc-2025/activity-decay",
        "own/activity-rate-transfer",
    ),
    presets={
        "quick": replace(
            DEFAULT, depths=(2, 4, 8), width=8, widths=(6, 12), hidden=3, outputs=3, seeds=(0,), fitted=3
        ),
        "default": DEFAULT,
        "paper": replace(
            DEFAULT,
            depths=(2, 4, 8, 16, 32, 64, 128),
            width=128,
            widths=(16, 32, 64, 128, 256, 512),
            hidden=32,
            seeds=(0, 1, 2, 3, 4),
            fitted=4,
        ),
    },
    units=units,
    data=data,
    draw=draw,
)
