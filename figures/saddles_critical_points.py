r"""Critical points of the equilibrated energy, found and written down: value, curvature, rank and kind."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.lines import Line2D

from figures._panels import RIM, TEXT_RIM
from pctheory import (
    LinearPCN,
    equilibrated_energy,
    net_at,
    saddles,
    standard,
    weight_gradient,
    weight_hessian_dense,
)
from pctheory.figures import COLOUR_MAPS, COLOURS, THEORY_LINE, WIDTHS, Arrays, Figure
from pctheory.landscape import landscape_values

KINDS = ("strict saddle", "minimum", "non-strict")
COLOUR_OF = {"strict saddle": COLOURS["saddle"], "minimum": COLOURS["minimum"], "non-strict": COLOURS["other"]}
MARKERS = ("o", "s", "^", "D")  # by rank
ENERGY = saddles.Derivatives(equilibrated_energy, weight_gradient, weight_hessian_dense)
# One input always 1, two targets 1 and -1: nothing of y depends on x
NO_SIGNAL = np.ones((2, 1)), np.array([[1.0], [-1.0]])


@dataclass(frozen=True)
class Parameters:
    """`starts` of the search and `copies` of each family for every network; the landscape's `resolution`."""

    widths: tuple[tuple[int, ...], ...]
    starts: int
    copies: int
    resolution: int = 161
    reach: tuple[float, float] = (2.0, 1.5)
    landscape: bool = True
    seed: int = 0


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """One unit per network, and one for the landscape."""
    named = {_name(w): replace(parameters, widths=(w,), landscape=False) for w in parameters.widths}
    return {**named, "landscape": replace(parameters, widths=())}


def _name(widths: tuple[int, ...]) -> str:
    return "-".join(map(str, widths))


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """The critical points of the one network, or the landscape without signal."""
    return _landscape(parameters) if parameters.landscape else _critical_points(parameters)


def teacher(widths: tuple[int, ...]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """White x and y = diag(n, .., 2, 1) x / norm, so that F* at the origin is 1/2."""
    n = min(widths[0], widths[-1])
    x = np.concatenate([np.eye(widths[0]), -np.eye(widths[0])]) * np.sqrt(widths[0])
    gains = np.zeros((widths[0], widths[-1]))
    gains[range(n), range(n)] = np.arange(n, 0, -1)
    return x, x @ gains / np.linalg.norm(gains)


def _critical_points(p: Parameters) -> dict[str, npt.ArrayLike]:
    """Value, smallest eigenvalue, rank and kind of each point; first those found, then those written down."""
    (widths,) = p.widths
    x, y = teacher(widths)
    strengths = np.arange(min(widths[0], widths[-1]), 0, -1.0) ** 2
    strengths /= strengths.sum()
    least = float(strengths[min(widths) :].sum()) / 2
    net = standard(widths, seed=p.seed)
    found = saddles.critical_point_search(net, x, y, ENERGY, starts=p.starts, seed=p.seed, least=least)
    written = [
        saddles.classification(point, x, y, ENERGY, least=least)
        for copy in range(p.copies)
        for point in _family(widths, copy)
    ]
    points = [*(point.classification for point in found), *written]
    levels = [strengths[list(missed)].sum() for missed in _subsets(len(strengths), min(widths))]
    return {
        "value": [2 * point.value for point in points],
        "smallest": [point.smallest for point in points],
        "rank": [point.rank for point in points],
        "kind": [KINDS.index(point.kind) for point in points],
        "found": len(found),
        "levels": sorted(set(levels)),
    }


def _subsets(count: int, most: int) -> list[tuple[int, ...]]:
    """What is left out by fits of at most `most` directions."""
    return [
        missed for size in range(max(count - most, 0), count + 1) for missed in combinations(range(count), size)
    ]


def _family(widths: tuple[int, ...], copy: int) -> list[LinearPCN]:
    """A fit of every choice of directions, with random shares and free part."""
    x, y = teacher(widths)
    count = min(widths[0], widths[-1])
    points = []
    for missed in _subsets(count, min(widths)):
        fitted = [k + 1 for k in range(count) if k not in missed]
        shares = np.random.default_rng([copy, *missed]).dirichlet(np.full(len(widths) - 1, 3.0))
        shares[-1] = 1 - shares[:-1].sum()
        options: dict[str, Any] = {"shares": shares.tolist(), "seed": copy, "free": 0.5}
        points.append(saddles.rank_k_critical_point(widths, x, y, fitted, **options))
    return points


def _landscape(p: Parameters) -> dict[str, npt.ArrayLike]:
    """Without signal: F* - 1/2 over (w_1, w_2), and both eigenvalues of the Hessian along the line w_2 = 0."""
    across, up = (np.linspace(-reach, reach, p.resolution) for reach in p.reach)
    net = LinearPCN([np.zeros((1, 1))] * 2)
    values = landscape_values(equilibrated_energy, net, *NO_SIGNAL, directions=np.eye(2), axes=(across, up))
    hessians = jax.vmap(lambda w: weight_hessian_dense(equilibrated_energy, net_at(net, w), *NO_SIGNAL))(
        jnp.stack([across, 0 * across], axis=1)
    )
    return {
        "w_1": across,
        "w_2": up,
        "values": values - 0.5,
        "eigenvalues": np.linalg.eigvalsh(hessians),
    }


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """Above: a panel for each network. Below: the landscape without signal, and curvature on its critical line."""
    picture = plt.figure(figsize=(WIDTHS["text"], 5.0))
    above, below = picture.subfigures(2, 1, height_ratios=(1.0, 1.05), squeeze=False)[:, 0]
    panels = above.subplots(1, len(parameters.widths), sharey=True, squeeze=False)[0]
    for axes, widths in zip(panels, parameters.widths, strict=True):
        _scatter(axes, arrays[_name(widths)])
        axes.set_title("widths " + "\u2013".join(map(str, widths)))
    lowest = min(float(arrays[_name(widths)]["smallest"].min()) for widths in parameters.widths)
    panels[0].set_ylim(2 * lowest, 5e-4)
    panels[0].set_ylabel(r"smallest eigenvalue of $\nabla^2 \mathcal{F}^*$")
    above.legend(handles=_legend(), loc="outside upper center", ncols=6, columnspacing=1.0, handletextpad=0.3)
    landscape, curvature = below.subplots(1, 2, width_ratios=(1.15, 1.0))
    _draw_landscape(landscape, arrays["landscape"])
    _draw_curvature(curvature, arrays["landscape"])
    return picture


def _scatter(axes: Axes, a: Arrays) -> None:
    """Points found are filled, points written down small and white; dashes at the values that theory allows."""
    for level in a["levels"]:
        axes.axvline(level, **THEORY_LINE | {"linewidth": 0.5, "zorder": 1})
    axes.axhline(0.0, color=COLOURS["neutral"], linewidth=0.6, zorder=1)
    is_found = np.arange(len(a["value"])) < a["found"]
    for rank in np.unique(a["rank"]):
        for index, kind in enumerate(KINDS):
            for found in (False, True):
                chosen = (a["rank"] == rank) & (a["kind"] == index) & (is_found == found)
                filled: dict[str, Any] = {"color": COLOUR_OF[kind], "markeredgecolor": "black"}
                hollow: dict[str, Any] = {"color": "white", "markeredgecolor": "#4D4D4D"}
                axes.plot(
                    a["value"][chosen],
                    a["smallest"][chosen],
                    MARKERS[rank],
                    markersize=4.5 if found else 2.2,
                    markeredgewidth=0.4,
                    zorder=3 if found else 4,
                    **(filled if found else hollow),
                )
    axes.set_yscale("symlog", linthresh=1e-3, linscale=0.6)
    axes.set(xlabel=r"$\mathcal{F}^* / \mathcal{F}^*(0)$", xlim=(-0.06, 1.06))


def _legend() -> list[Line2D]:
    blank: dict[str, Any] = {"linestyle": "none", "markersize": 4.5, "markeredgewidth": 0.4}
    kinds = [
        Line2D([], [], marker="o", color=COLOUR_OF[kind], markeredgecolor="black", label=kind, **blank)
        for kind in KINDS[:2]
    ]
    ranks = [
        Line2D([], [], marker=marker, color="none", markeredgecolor="black", label=f"rank {rank}", **blank)
        for rank, marker in enumerate(MARKERS)
    ]
    return [*kinds, *ranks]


def _draw_landscape(axes: Axes, a: Arrays) -> None:
    size = float(np.abs(a["values"]).max())
    levels = np.linspace(-1.0, 1.0, 41) ** 3 * size
    norm = SymLogNorm(linthresh=0.02, vmin=-size, vmax=size)
    axes.contourf(a["w_1"], a["w_2"], a["values"], levels=levels, norm=norm, cmap=COLOUR_MAPS["signed"])
    axes.contour(a["w_1"], a["w_2"], a["values"], levels=levels, colors="black", linewidths=0.25, alpha=0.35)
    _critical_line(axes, a["w_1"])
    axes.set(xlabel="$w_1$", ylabel="$w_2$", title=r"no signal: $\mathcal{F}^* - \frac{1}{2}$ of one hidden unit")
    for place, text in (((0.0, 0.8), "lower"), ((1.6, 0.8), "higher"), ((-1.6, 0.8), "higher")):
        axes.text(*place, text, ha="center", fontsize=8, **TEXT_RIM)


def _critical_line(axes: Axes, w_1: npt.NDArray[np.float64]) -> None:
    """The points w_2 = 0, all critical: strict saddles, two that are not strict, minima."""
    edges = (w_1[0], -1.0, 1.0, w_1[-1])
    for kind, span in zip(("minimum", "strict saddle", "minimum"), pairwise(edges), strict=True):
        axes.plot(span, (0, 0), color=COLOUR_OF[kind], linewidth=2.4, solid_capstyle="butt", zorder=3, **RIM)
    axes.plot((-1, 1), (0, 0), color=COLOUR_OF["non-strict"], label="non-strict saddle", zorder=4, **NON_STRICT)


def _draw_curvature(axes: Axes, a: Arrays) -> None:
    _critical_line(axes, a["w_1"])
    axes.plot(a["w_1"], a["eigenvalues"], color=COLOURS["energy"], linewidth=2.0, zorder=2)
    axes.plot(a["w_1"], a["w_1"] ** 2 - 1, **THEORY_LINE, label="$w_1^2 - 1$")
    axes.set(xlabel="$w_1$ of the critical point $(w_1, 0)$", ylabel=r"eigenvalues of $\nabla^2 \mathcal{F}^*$")
    axes.set_title("curvature along the critical line")
    axes.legend(loc="upper center")


NON_STRICT: dict[str, Any] = {
    "linestyle": "none",
    "marker": "X",
    "markersize": 8,
    "markeredgecolor": "black",
    "markeredgewidth": 0.6,
}


def caption(parameters: Parameters) -> str:
    p = parameters
    return (
        "Critical points of the equilibrated energy F*. Above: networks of three inputs and outputs on white x "
        "with y = diag(3, 2, 1) x, up to a factor. Filled: what a search by Levenberg-Marquardt on the gradient "
        f"finds from {p.starts} random starts; white: fits of every choice of singular directions, {p.copies} of "
        "each, with random balance and free part. Dashes stand at the values of these fits, which theory says are "
        "all there are: half the sum of the squared singular values left out. Every critical point is a strict "
        "saddle but the fit of all directions, or of the leading ones where layer L-1 is too narrow for all. The "
        "scale is linear within 0.001 of zero: a saddle may be strict by as little as the balance of the layers "
        "makes it. Below: data without signal, x = 1, 1 and y = 1, -1, and one hidden unit, F* - 1/2 = "
        "w_2^2 (w_1^2 - 1) / (2 (1 + w_2^2)). The line w_2 = 0 is critical: strict saddles for |w_1| < 1, minima "
        "for |w_1| > 1, and at |w_1| = 1 two saddles that are not strict, for the Hessian is 0 there. So the "
        "conjecture of arXiv 2408.11979 that all saddles of F* are strict needs signal. Left: F* - 1/2; right: "
        "both eigenvalues of the Hessian along the line. No such figure is in the papers."
    )


SHAPES = ((3, 3, 3), (3, 3, 3, 3), (3, 1, 3))
DEFAULT = Parameters(widths=SHAPES, starts=512, copies=12)
FIGURE = Figure(
    key="saddles/critical-points",
    title="Critical points of the equilibrated energy",
    caption=caption,
    source="saddles-2024",
    claims=(
        "own/critical-points",
        "own/saddles-strict-with-signal",
        "own/bottleneck",
        "saddles-2024/conjecture-unrestricted",
    ),
    presets={
        "quick": replace(DEFAULT, widths=SHAPES[:1], starts=32, copies=2, resolution=41),
        "default": DEFAULT,
        "paper": replace(DEFAULT, starts=4096, copies=50),
    },
    units=units,
    data=data,
    draw=draw,
)
