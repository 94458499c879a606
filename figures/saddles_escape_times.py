r"""How long gradient flow stays near the origin: a power of 1/eps on the loss, of log(1/eps) on F*."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from jaxtyping import Array
from matplotlib.axes import Axes
from scipy.stats import t

from figures._planes import OBJECTIVES, chain
from pctheory.dynamics import escape_time_of_flow
from pctheory.figures import THEORY_LINE, Arrays, Figure, colour_sequence

Values = npt.NDArray[np.float64]

# (objective of the flow, quantity that halves)
ESCAPES = {"loss": ("loss", "loss"), "energy": ("energy", "energy"), "late": ("energy", "loss")}
GOLDEN = (1 + 5**0.5) / 2


@dataclass(frozen=True)
class Parameters:
    """`starts`: how many eps, from `largest` to `smallest`; those on the loss end where its time is `longest`."""

    depths: tuple[int, ...] = (2, 3, 4, 5, 6)
    starts: int = 13
    largest: float = 0.1
    smallest: float = 1e-9
    longest: float = 1e9
    fitted: int = 7
    tolerance: float = 1e-9


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """One unit per depth."""
    return {f"depth-{depth}": replace(parameters, depths=(depth,)) for depth in parameters.depths}


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """Times against eps, their laws, and the exponents fitted to the smallest eps with confidence intervals."""
    p = parameters
    (depth,) = p.depths
    smallest = dict.fromkeys(ESCAPES, p.smallest)
    if depth > 2:
        smallest["loss"] = max(p.smallest, p.longest ** (-1 / (depth - 2)))
    arrays: dict[str, npt.ArrayLike] = {}
    for name, (objective, quantity) in ESCAPES.items():
        starts = np.geomspace(p.largest, smallest[name], p.starts)
        times = _times(OBJECTIVES[objective], OBJECTIVES[quantity], depth, starts, p.tolerance)
        size = np.log(1 / starts)
        x, y = {
            "loss": (size, times if depth == 2 else np.log(times)),
            "energy": (size, times),
            "late": (np.log(size), np.log(times)),
        }[name]
        arrays |= {
            f"{name}_starts": starts,
            f"{name}_times": times,
            f"{name}_law": LAWS[name](depth, size),
            f"{name}_fit": _slope(x[-p.fitted :], y[-p.fitted :]),
        }
    return arrays


def _times(
    objective: Callable[..., Array], quantity: Callable[..., Array], depth: int, starts: Values, tolerance: float
) -> Values:
    """When the quantity is half of what it was, on data x = y = 1."""
    one = np.ones((1, 1))
    times = []
    for start in starts:
        net = chain(np.full(depth, start))
        half = float(quantity(net, one, one)) / 2
        tolerances = {"relative_tolerance": tolerance, "absolute_tolerance": tolerance * start}
        times.append(escape_time_of_flow(objective, net, one, one, quantity=quantity, threshold=half, **tolerances))
    return np.array(times)


def _slope(x: Values, y: Values) -> Values:
    """The slope of the least-squares line and the half-width of its 95 % confidence interval."""
    (slope, _), covariance = np.polyfit(x, y, 1, cov=True)
    return np.array([slope, np.sqrt(covariance[0, 0]) * t.ppf(0.975, len(x) - 2)])


def loss_law(depth: int, size: Values) -> Values:
    """eps^-(L-2) / (L-2), and log(1/eps) for L = 2; `size` is log(1/eps)."""
    return size if depth == 2 else np.exp((depth - 2) * size) / (depth - 2)


def energy_law(depth: int, size: Values) -> Values:
    """log(1/eps) + 5/4; for L = 2 log(1/eps) over the golden ratio, the steepest curvature of F* at the origin."""
    return size / GOLDEN if depth == 2 else size + 5 / 4


def late_law(depth: int, size: Values) -> Values:
    r"""2^(L-3) Lambda^(L-2) integral_0^1 tau (tau+1) .. (tau+L-4) dtau, and (3 Lambda)^(4/3) / 4 for L = 3."""
    if depth < 4:
        return size / GOLDEN if depth == 2 else (3 * size) ** (4 / 3) / 4
    integral = np.polynomial.Polynomial.fromroots(-np.arange(depth - 3)).integ()(1.0)
    return 2 ** (depth - 3) * integral * size ** (depth - 2)


LAWS: dict[str, Callable[[int, Values], Values]] = {"loss": loss_law, "energy": energy_law, "late": late_law}


TITLES = {
    "loss": r"flow on $\mathcal{L}$, until $\mathcal{L}$ is half",
    "energy": r"flow on $\mathcal{F}^*$, until $\mathcal{F}^*$ is half",
    "late": r"flow on $\mathcal{F}^*$, until $\mathcal{L}$ is half",
}
LEGENDS = {
    "loss": r"$L$: fitted exponent",
    "energy": r"$L$: fitted factor of $\log\,1/\epsilon$",
    "late": r"$L$: fitted exponent of $\log\,1/\epsilon$",
}


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """Three panels of times against eps, one for each way to escape; the fourth compares them against depth."""
    picture, panels = plt.subplots(2, 2, figsize=(6.75, 5.2))
    shades = {name: colour_sequence(len(parameters.depths), ESCAPES[name][0]) for name in ESCAPES}
    for axes, (name, title) in zip(panels.flat, TITLES.items(), strict=False):
        for depth, shade in zip(parameters.depths, shades[name], strict=True):
            _curve(axes, arrays[f"depth-{depth}"], name, depth, shade)
        axes.set(title=title, xlabel=r"$1 / \epsilon$", xscale="log", ylabel="time")
        axes.legend(fontsize=6.5, title=LEGENDS[name], title_fontsize=7, handlelength=1.0, loc="upper left")
    for axes in panels[:, 0]:
        axes.set_yscale("log")
    panels[0, 0].get_legend().set_loc("lower right")
    panels[0, 0].get_legend().set_bbox_to_anchor((1.02, 0.16))
    panels[1, 0].set_ylim(None, 1e4 * panels[1, 0].get_ylim()[1])  # room for the legend
    _against_depth(panels[1, 1], arrays, parameters)
    return picture


def _curve(axes: Axes, a: Arrays, name: str, depth: int, colour: str) -> None:
    slope, width = a[f"{name}_fit"]
    label = rf"{depth}: ${slope:.3f} \pm {_rounded_up(width)}$"
    axes.plot(1 / a[f"{name}_starts"], a[f"{name}_times"], "o-", color=colour, markersize=2.5, label=label)
    axes.plot(1 / a[f"{name}_starts"], a[f"{name}_law"], **THEORY_LINE)


def _rounded_up(width: float) -> str:
    """With three decimals; a power of ten where that would show nothing."""
    if width >= 5e-4:
        return f"{np.ceil(1000 * width) / 1000:.3f}"
    return rf"10^{{{int(np.ceil(np.log10(max(width, np.finfo(float).eps))))}}}"


def _against_depth(axes: Axes, arrays: Mapping[str, Arrays], parameters: Parameters) -> None:
    """All three at the largest eps, which they share."""
    red, blue = (colour_sequence(3, concept)[1] for concept in ("loss", "energy"))
    looks: dict[str, dict[str, Any]] = {
        "loss": {"color": red, "marker": "s", "label": r"flow on $\mathcal{L}$, $\mathcal{L}$ half"},
        "late": {
            "color": blue,
            "marker": "^",
            "linestyle": ":",
            "label": r"flow on $\mathcal{F}^*$, $\mathcal{L}$ half",
        },
        "energy": {"color": blue, "marker": "o", "label": r"flow on $\mathcal{F}^*$, $\mathcal{F}^*$ half"},
    }
    for name, look in looks.items():
        times = [arrays[f"depth-{depth}"][f"{name}_times"][0] for depth in parameters.depths]
        axes.plot(parameters.depths, times, **look)
    axes.set(xlabel="depth $L$", ylabel="time", yscale="log", xticks=parameters.depths)
    axes.set_title(rf"start $\epsilon = {parameters.largest:g}$")
    axes.legend(fontsize=7)


def caption(parameters: Parameters) -> str:
    p = parameters
    return (
        f"Gradient flow of chains of L = {p.depths[0]} to {p.depths[-1]} single units on x = y = 1, all weights "
        "eps at the start. Dots: times at which a quantity is half of what it was. Dashes: laws for small eps. "
        "On the loss (top left): eps^-(L-2) / (L-2), and log(1/eps) for L = 2. On F* (top right): log(1/eps) + "
        "5/4 for L >= 3, whatever the depth, as w_L alone grows; log(1/eps) / 1.618 for L = 2. The loss, along "
        "the same flow on F* (bottom left), waits until layer after layer has grown: for L >= 4, 2^(L-3) "
        "log(1/eps)^(L-2) times the integral of tau (tau+1) .. (tau+L-4) over [0, 1]; (3 log(1/eps))^(4/3) / 4 "
        "for L = 3. These laws are approached slowly, as their next terms are smaller by a power of log(1/eps) "
        f"only. Bottom right: the three times at eps = {p.largest:g}. Legends: slopes fitted to the {p.fitted} "
        "smallest eps, with 95 % confidence intervals of the fit, for L = 2 on the loss against log(1/eps) "
        f"(tolerance of the solver: {p.tolerance:g}). Not in the papers."
    )


DEFAULT = Parameters()
FIGURE = Figure(
    key="saddles/escape-times",
    title="Escape times of chains",
    caption=caption,
    source="own",
    claims=("own/escape-times", "saddles-2024/scalar-chain"),
    presets={
        "quick": replace(DEFAULT, depths=(3, 4), starts=5, fitted=3, smallest=1e-6, tolerance=1e-7),
        "default": DEFAULT,
        "paper": replace(DEFAULT, starts=25, fitted=13, longest=1e11),
    },
    units=units,
    data=data,
    draw=draw,
)
