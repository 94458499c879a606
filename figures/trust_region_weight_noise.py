r"""What noise on the trained weights of w_2 w_1 x does to the loss, after BP and after PC."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import Circle
from scipy.stats import t

from figures._panels import LEVELS, MINIMA, TEXT_RIM, filled_contours
from figures._toy import Values, fresh_batches, gradient, normal_starts, paths, rises, uniform_starts
from pctheory.datasets import toy_regression
from pctheory.figures import COLOURS, THEORY_LINE, Arrays, Figure

STARTS = {"near": "starts near the saddle", "uniform": "uniform starts"}
DEVIATIONS = {0.5: r"$\sigma = 0.5$", math.sqrt(0.5): r"$\sigma^2 = 0.5$"}
LABELS = {"BP": "loss", "PC": "energy"}


@dataclass(frozen=True)
class Parameters:
    """`starts`: of each kind. `noises`: draws, before mirroring. `deviations`: how many, up to `largest`."""

    starts: int
    noises: int
    deviations: int
    largest: float = 1.0
    std: float = 0.05
    rate: float = 0.1
    steps: int = 500
    examples: int = 64
    reach: float = 2.1
    seed: int = 0


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """Trained weights; how much noise raises the loss after BP and after PC, and F* after PC; and the formula.

    `excess` is by how many per cent the loss rises more after PC, with the margin of its 95 % confidence interval.
    """
    p = parameters
    x, y = toy_regression(p.examples, seed=p.seed)
    deviations = np.linspace(0.0, p.largest, p.deviations + 1)[1:]
    noise = _noise(p)
    axis = np.linspace(-p.reach, p.reach, 201)
    branch = np.geomspace(1 / p.reach, p.reach, 201)
    arrays: dict[str, npt.ArrayLike] = {
        "deviations": deviations,
        "axis": axis,
        "minima": np.stack([branch, -1 / branch]),
    }
    moment = float(np.mean(x**2))
    arrays["loss"] = moment / 2 * (1 + np.multiply.outer(axis, axis)) ** 2
    for kind, ends in _ends(p).items():
        of_bp, of_pc, own = (
            np.stack([rises(objective, ends[method], s * noise, (x, y)) for s in deviations])
            for objective, method in (("loss", "loss"), ("loss", "energy"), ("energy", "energy"))
        )
        half = moment / 2 * deviations**2
        laws = {m: half * (np.mean(np.sum(w**2, axis=1)) + deviations**2) for m, w in ends.items()}
        spread = t.ppf(0.975, p.starts - 1) / p.starts**0.5
        arrays |= {f"{kind}_{method}_ends": weights for method, weights in ends.items()}
        arrays |= {f"{kind}_{method}_middle": weights.mean(axis=0) for method, weights in ends.items()}
        arrays |= {f"{kind}_{method}_law": law for method, law in laws.items()}
        arrays |= {
            f"{kind}_loss_rise": of_bp.mean(axis=1),
            f"{kind}_energy_rise": of_pc.mean(axis=1),
            f"{kind}_own_rise": own.mean(axis=1),
            f"{kind}_excess": 100 * (of_pc - of_bp).mean(axis=1) / of_bp.mean(axis=1),
            f"{kind}_margin": 100 * spread * (of_pc - of_bp).std(axis=1, ddof=1) / of_bp.mean(axis=1),
            f"{kind}_excess_law": 100 * (laws["energy"] - laws["loss"]) / laws["loss"],
        }
    return arrays


def _noise(p: Parameters) -> Values:
    """Normal draws of unit variance, each with its mirror images, so that odd moments vanish as they should."""
    drawn = np.random.default_rng(p.seed).standard_normal((p.noises, 2))
    drawn = drawn / np.sqrt(np.mean(drawn**2, axis=0))
    return np.concatenate([drawn * signs for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1))])


def _ends(p: Parameters) -> dict[str, dict[str, Values]]:
    """Trained weights for each kind of start, on the branch with w_1 > 0: the other is its mirror image."""
    starts = np.concatenate(
        [normal_starts(p.starts, 2, p.std, p.seed + 1), uniform_starts(p.starts, 2, p.seed + 2)]
    )
    batches = fresh_batches(p.steps, p.examples, p.seed + 3)
    trained = {}
    for method in ("loss", "energy"):
        weights = paths(partial(gradient, method), starts, batches, [p.rate])[0][0, :, -1]
        trained[method] = weights * np.sign(weights[:, :1])
    parts = {"near": slice(p.starts), "uniform": slice(p.starts, None)}
    return {kind: {method: weights[part] for method, weights in trained.items()} for kind, part in parts.items()}


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """Where training ends; how much noise raises the loss there; how much more after PC."""
    a = arrays["all"]
    picture, (plane, rise, excess) = plt.subplots(1, 3, figsize=(6.75, 2.65))
    _plane(plane, a)
    _rise(rise, a)
    _excess(excess, a)
    for axes in (rise, excess):
        axes.set(xlabel=r"standard deviation $\sigma$ of the noise", xlim=(0, None))
        for deviation in DEVIATIONS:
            axes.axvline(deviation, ymax=0.4, color=COLOURS["neutral"], linewidth=0.8, zorder=0)
    return picture


def _plane(axes: Axes, a: Arrays) -> None:
    """The loss with its minima, the ends of training, and noise of one standard deviation around two of them."""
    filled_contours(axes, a["axis"], a["loss"], 0.5 * LEVELS)
    axes.plot(*a["minima"], **MINIMA)
    for label, method in LABELS.items():
        for kind, size, alpha in (("uniform", 2.2, 0.35), ("near", 3.2, 1.0)):
            dots: dict[str, Any] = {"markersize": size, "alpha": alpha, "markeredgewidth": 0, "zorder": 8}
            axes.plot(*a[f"{kind}_{method}_ends"].T, "o", color=COLOURS[method], **dots)
        x, y = a[f"near_{method}_middle"]
        axes.add_patch(Circle((x, y), 0.5, fill=False, color=COLOURS[method], linewidth=1.0, zorder=7))
        beside: dict[str, Any] = {"xytext": (7, 4) if label == "BP" else (-19, -3), "textcoords": "offset points"}
        axes.annotate(label, (x, y), color=COLOURS[method], zorder=9, **beside, **TEXT_RIM)
    axes.set(xlim=(0, 2.1), ylim=(-2.1, 0), xticks=range(3), yticks=range(-2, 1), title="where training ends")
    axes.set(xlabel="$w_1$", ylabel="$w_2$")


def _rise(axes: Axes, a: Arrays) -> None:
    for label, method in LABELS.items():
        line: dict[str, Any] = {"color": COLOURS[method], "linewidth": 3.0 if label == "BP" else 1.4}
        axes.plot(a["deviations"], a[f"near_{method}_rise"], **line, label=f"loss, after {label}")
        axes.plot(a["deviations"], a[f"near_{method}_law"], **THEORY_LINE)
    axes.plot(a["deviations"], a["near_own_rise"], ":", color=COLOURS["energy"], label=r"$\mathcal{F}^*$, after PC")
    axes.set(title="rise, starts near the saddle", ylabel="mean rise under noise", ylim=(0, None))
    axes.legend(loc="upper left", handlelength=1.4)


def _excess(axes: Axes, a: Arrays) -> None:
    for (kind, label), marker, colour in zip(STARTS.items(), "oD", ("saddle", "neutral"), strict=True):
        look: dict[str, Any] = {
            "marker": marker,
            "markersize": 3.5,
            "linewidth": 1.2,
            "capsize": 1.5,
            "label": label,
        }
        axes.errorbar(a["deviations"], a[f"{kind}_excess"], a[f"{kind}_margin"], color=COLOURS[colour], **look)
        axes.plot(a["deviations"], a[f"{kind}_excess_law"], **THEORY_LINE)
    for deviation, text in DEVIATIONS.items():
        axes.text(deviation + 0.02, 0.1, text, rotation=90, va="bottom", fontsize=7)
    axes.set(title="loss rises more after PC by", ylabel="per cent", ylim=(0, 1.7 * a["uniform_excess"].max()))
    axes.legend(loc="upper right", handlelength=1.4)


def caption(parameters: Parameters) -> str:
    p = parameters
    return (
        f"Noise on the weights of w_2 w_1 x after training on y = -x, x ~ N(1, 0.1^2): {p.steps} steps of rate "
        f"{p.rate:g} on fresh batches of {p.examples} samples, by BP and by PC from the same {p.starts} starts, "
        f"normal of standard deviation {p.std:g} (near the saddle), and as many uniform in [-1, 1]. Left: where "
        "they end on the curve of minima (dark: from near the saddle, pale: from uniform starts; the branch with "
        "w_1 < 0 is its mirror image), over contours of the loss, with circles of radius 0.5. Middle: how much "
        f"noise raises the loss, mean over starts and {p.noises} draws with their mirror images, and how much it "
        "raises F* after PC. Dashes: mean x^2 / 2 times sigma^2 |w|^2 + sigma^4, exact for all noise. Right: by "
        "how much more the loss rises after PC, with 95 % confidence intervals over starts. Balanced weights "
        "suffer least: there BP ends from near the saddle, while PC makes w_2 the larger weight. arXiv 2305.18188 "
        "reports less harm for PC, with N(0, 0.5), be that the variance or the standard deviation (thin lines): "
        "so it is if PC is judged by its own energy F*, not if both are by the loss."
    )


DEFAULT = Parameters(starts=100, noises=1000, deviations=10)
FIGURE = Figure(
    key="trust-region/weight-noise",
    title="Noise on trained weights",
    caption=caption,
    source="trust-region-2023",
    claims=("trust-region-2023/weight-noise", "trust-region-2023/toy-flatter-minima", "own/imbalance"),
    presets={
        "quick": replace(DEFAULT, starts=20, noises=50, deviations=5),
        "default": DEFAULT,
        "paper": DEFAULT,
    },
    data=data,
    draw=draw,
)
