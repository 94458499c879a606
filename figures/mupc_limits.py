r"""How far F* is from the loss at initialisation: s - 1 against L/N, which collapses for muPC alone."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from figures._random_chains import Kind, compared
from pctheory.conditioning import log_log_fit
from pctheory.figures import COLOURS, THEORY_LINE, Arrays, Figure, colour_sequence
from pctheory.random_matrix.expectations import expected_rescaling

Values = npt.NDArray[np.float64]
KINDS = {
    "mupc-skips": Kind("muPC, skips", "muPC", skips=True),
    "mupc": Kind("muPC", "muPC", skips=False),
    "ntp-skips": Kind("NTP, skips", "NTP", skips=True),
    "sp-skips": Kind("SP, skips", "SP", skips=True),
    "sp-third": Kind("SP, $t = 1/3$", "SP", skips=False, variance=1 / 3),
}


@dataclass(frozen=True)
class Parameters:
    """`fitted`: exponents are fitted where L/N is at most this."""

    widths: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    depths: tuple[int, ...] = (4, 8, 16, 32, 64)
    networks: int = 4
    ends: int = 4
    examples: int = 16
    fitted: float = 0.125
    seed: int = 0


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """One unit per depth."""
    return {f"depth-{depth}": replace(parameters, depths=(depth,)) for depth in parameters.depths}


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """For each kind, against width: s - 1, 1 - cosine of the gradients, E[tr S] / d_y - 1, exponents of L/N."""
    p = parameters
    (depth,) = p.depths
    ratios = depth / np.array(p.widths)
    small = ratios <= p.fitted
    x, y = np.random.default_rng(p.seed).standard_normal((2, p.examples, p.ends))
    arrays: dict[str, npt.ArrayLike] = {"ratios": ratios}
    for key, kind in KINDS.items():
        means, errors, laws = [], [], []
        for width in p.widths:
            widths = [p.ends, *[width] * (depth - 1), p.ends]
            drawn = []
            for network in range(p.networks):
                rng = np.random.default_rng([p.seed, network, width, depth])
                drawn.append(compared(list(kind.maps(widths, rng)), kind.scalings(widths), x, y, 1.0)[:2])
            means.append(np.mean(drawn, axis=0) - [1, 0])
            errors.append(np.std(drawn, axis=0, ddof=1) / p.networks**0.5)
            laws.append(float(expected_rescaling(kind.chain(widths))[-1]) - 1)
        excess, apart = np.array(means).T
        arrays |= {f"{key}_excess": excess, f"{key}_apart": apart, f"{key}_law": np.array(laws)}
        arrays |= {f"{key}_errors": np.array(errors).T}
        if small.sum() > 2:
            arrays |= {f"{key}_excess_fit": _fit(ratios[small], excess[small])}
            arrays |= {f"{key}_apart_fit": _fit(ratios[small], apart[small])}
    return arrays


def _fit(x: Values, y: Values) -> Values:
    """The exponent and both ends of its 95 % confidence interval."""
    found = log_log_fit(x, y)
    return np.array([found.slope, *found.interval])


@dataclass(frozen=True)
class Look:
    """What a family of curves shows, one curve per depth."""

    key: str
    label: str
    marker: str


COLLAPSING = (Look("mupc-skips", "skips", "o"), Look("mupc", "no skips", "x"))
OTHERS = (
    Look("sp-skips", "SP, skips", "^"),
    Look("ntp-skips", "NTP, skips", "o"),
    Look("sp-third", "SP, 1/3", "v"),
)
ALIGNED = (Look("ntp-skips", "NTP, skips", "D"), Look("mupc-skips", r"$\mu$PC, skips", "o"))


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """muPC, which collapses; the others, which do not; how the gradients align."""
    picture, panels = plt.subplots(1, 3, figsize=(6.75, 2.9))
    shades = colour_sequence(len(parameters.depths))
    for axes, looks, name in zip(panels, (COLLAPSING, OTHERS, ALIGNED), ("excess", "excess", "apart"), strict=True):
        for look in looks:
            _family(axes, list(arrays.values()), look, name, shades)
        axes.set(xscale="log", yscale="log", xlabel="$L / N$")
        handles = [
            Line2D([], [], color="black", marker=look.marker, linestyle="", markersize=3.5) for look in looks
        ]
        labels = [_label(look, arrays, parameters, name) for look in looks]
        axes.legend(handles, labels, loc="upper left", handletextpad=0.1, fontsize=7, borderaxespad=0.1)
    mupc, others, aligned = panels
    ends = np.array(
        [min(a["ratios"].min() for a in arrays.values()), max(a["ratios"].max() for a in arrays.values())]
    )
    mupc.plot(ends, (math.e - 1) * ends, color=COLOURS["neutral"], linewidth=3.5, zorder=0)
    mupc.text(0.98, 0.03, "grey: $(e-1)\\,L/N$", color="#606060", ha="right", transform=mupc.transAxes, fontsize=8)
    mupc.set(title=r"$\mu$PC", ylabel=r"$s - 1$,  $s = \mathcal{L} / \mathcal{F}^*$")
    others.set(title="SP and NTP", ylabel="$s - 1$")
    aligned.set(title="gradients", ylabel=r"$1 - \cos(\nabla\mathcal{F}^*, \nabla\mathcal{L})$")
    for axes, room in zip(panels, (8.0, 1e7, 20.0), strict=True):  # for the legends
        axes.set_ylim(None, room * axes.get_ylim()[1])
    entries = [Line2D([], [], color=shade, marker="o", linestyle="", markersize=3.5) for shade in shades]
    names = [f"$L = {depth}$" for depth in parameters.depths]
    picture.legend(entries, names, loc="outside lower center", ncols=len(names), handletextpad=0.1)
    return picture


def _family(axes: Axes, depths: list[Arrays], look: Look, name: str, shades: list[str]) -> None:
    """Markers against L/N, and the law of s - 1 dashed."""
    for a, shade in zip(depths, shades, strict=True):
        line: dict[str, Any] = {"linewidth": 0.5, "linestyle": "" if name == "excess" else "-"}
        axes.plot(a["ratios"], a[f"{look.key}_{name}"], marker=look.marker, color=shade, markersize=3.2, **line)
        if name == "excess":
            axes.plot(a["ratios"], a[f"{look.key}_law"], **THEORY_LINE | {"linewidth": 0.7})


def _label(look: Look, arrays: Mapping[str, Arrays], parameters: Parameters, name: str) -> str:
    """With the exponent fitted at the smallest depth, where there is one."""
    fit = arrays[f"depth-{parameters.depths[0]}"].get(f"{look.key}_{name}_fit")
    return look.label if fit is None else rf"{look.label}: ${fit[0]:.2f}$ $({fit[1]:.2f}, {fit[2]:.2f})$"


def caption(parameters: Parameters) -> str:
    p = parameters
    return (
        f"Linear networks at initialisation, hidden widths N = {p.widths[0]} to {p.widths[-1]}, depths L = "
        f"{p.depths[0]} to {p.depths[-1]}, d_x = d_y = {p.ends}, {p.examples} normal examples; means over "
        f"{p.networks} networks. Left and middle: s - 1, s = loss / F*. Dashes: E[tr S] / d_y - 1 in closed form "
        "for each depth. For muPC it is (L/N)((1 + 1/L)^(L-1) - 1) with skips, which collapses on (e-1) L/N (grey) "
        "as L grows, and (L-1)/N without. For SP and NTP it does not depend on N: no width brings F* to the loss: "
        "2^(L-1) - 1 for SP with skips, L((1 + 1/L)^(L-1) - 1) for NTP with skips, about 1/2 for SP with "
        "weights of variance 1/(3N) and no skips. Where L exceeds N, the mean over so few networks without skips "
        "falls short of the expectation, which rare networks carry. Right: 1 - cosine between the gradients of F* "
        f"and of the loss in all weights. Legends: exponents of L/N fitted over N at L = {p.depths[0]}, L/N <= "
        f"{p.fitted:g}, with 95 % confidence intervals: the gradients of NTP align as well, but more slowly, and s "
        "stays. Not in the papers."
    )


DEFAULT = Parameters()
FIGURE = Figure(
    key="mupc/limits",
    title="F* and the loss at initialisation",
    caption=caption,
    source="own",
    claims=("mupc-2025/limit-to-loss", "limits-2026/alignment", "limits-2026/rescaling-line"),
    presets={
        "quick": replace(DEFAULT, widths=(32, 64, 128), depths=(4, 8), networks=2),
        "default": DEFAULT,
        "paper": replace(DEFAULT, widths=(*DEFAULT.widths, 1024, 2048), depths=(*DEFAULT.depths, 128), networks=8),
    },
    units=units,
    data=data,
    draw=draw,
)
