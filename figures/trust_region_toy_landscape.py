r"""The two landscapes of the smallest network, w_2 w_1 x, and gradient descent on each of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import numpy.typing as npt
import optax
from jaxtyping import Array
from matplotlib.axes import Axes
from matplotlib.contour import QuadContourSet

from figures._panels import (
    LEVELS,
    SADDLE,
    TEXT_RIM,
    Values,
    box,
    critical_points,
    descent_path,
    filled_contours,
    page,
    surface,
    surface_axes,
)
from figures._planes import OBJECTIVES, Batch, chain
from pctheory import LinearPCN, loss
from pctheory.datasets import toy_regression
from pctheory.dynamics import Objective, weight_descent
from pctheory.figures import COLOURS, Arrays, Figure
from pctheory.landscape import landscape_field, landscape_values

NAMES = {"loss": r"$\mathcal{L}$", "energy": r"$\mathcal{F}^*$"}
TITLES = {"loss": "Loss: backpropagation", "energy": "Equilibrated energy: predictive coding"}


@dataclass(frozen=True)
class Parameters:
    """Points per axis: `resolution` of contours and surfaces, `arrows` of the field. `dots`: steps between dots."""

    resolution: tuple[int, int]
    start: tuple[float, float] = (-0.6, -0.64)
    rate: float = 0.1
    steps: int = 60
    dots: int = 4
    arrows: int = 16
    reach: float = 2.0
    surface_reach: float = 1.25
    examples: int = 64
    seed: int = 0


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """Values, negative gradients, and paths with the values on them, of both objectives."""
    p = parameters
    x, y = toy_regression(p.examples, seed=p.seed)
    batch = jnp.asarray(x), jnp.asarray(y)
    axis = np.linspace(-p.reach, p.reach, p.resolution[0])
    near = np.linspace(-p.surface_reach, p.surface_reach, p.resolution[1])
    arrows = np.linspace(-p.reach, p.reach, p.arrows + 2)[1:-1]
    branch = np.geomspace(1 / p.reach, p.reach, p.resolution[0])
    arrays: dict[str, npt.ArrayLike] = {"axis": axis, "near": near, "arrows": arrows}
    arrays["minima"] = np.stack([branch, -1 / branch])
    origin = chain(jnp.zeros(2))
    weights = np.eye(2)  # the plane is all there is
    for name, objective in OBJECTIVES.items():
        field = landscape_field(objective, origin, *batch, directions=weights, axes=(arrows, arrows))
        path, losses, heights = _descent(objective, batch, p)
        arrays |= {
            f"{name}_values": landscape_values(objective, origin, *batch, directions=weights, axes=(axis, axis)),
            f"{name}_near": landscape_values(objective, origin, *batch, directions=weights, axes=(near, near)),
            f"{name}_saddle": objective(origin, *batch),
            # lengths below 1, so that arrows of all sizes can be drawn
            f"{name}_field": field / np.sqrt(1 + np.sum(field**2, axis=-1, keepdims=True)),
            f"{name}_path": path,
            f"{name}_path_heights": heights,
            f"{name}_steps_above_half": np.sum(losses > loss(origin, *batch) / 2),
        }
    return arrays


def _descent(objective: Objective, batch: Batch, p: Parameters) -> tuple[Array, Array, Array]:
    """The weights, the loss and the objective at the start and after each step."""

    def record(net: LinearPCN, x: Array, y: Array) -> tuple[Array, Array, Array]:
        return jnp.concatenate([w[0] for w in net.weights]), loss(net, x, y), objective(net, x, y)

    x, y = batch
    start, optimiser = chain(jnp.array(p.start)), optax.sgd(p.rate)
    _, records = weight_descent(objective, start, (x[None], y[None]), optimiser, record=record, steps=p.steps + 1)
    return records


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """Contours above, surfaces below; loss on the left, energy on the right; one scale of colours for all."""
    a = arrays["all"]
    levels = 0.5 * LEVELS
    picture = page(6.75, 6.2)
    for column, (name, symbol) in enumerate(NAMES.items()):
        flat = picture.add_axes(box(picture, 0.4 + 2.98 * column, 3.15, 2.6, 2.6))
        contours = _contours(flat, a, name, levels)
        descent_path(flat, tuple(a[f"{name}_path"].T), parameters.dots, COLOURS[name])
        place = box(picture, -0.05 + 2.98 * column, 0.0, 3.3, 3.0)
        solid = surface_axes(picture, place, ("$w_1$", "$w_2$", symbol))
        surface(solid, a["near"], a[f"{name}_near"], levels)
        solid.plot(0, 0, a[f"{name}_saddle"], **SADDLE)
        descent_path(solid, (*a[f"{name}_path"].T, a[f"{name}_path_heights"]), parameters.dots, COLOURS[name])
        solid.set(zticks=range(4), zlim=(0, a["loss_near"].max()))
    bar = picture.add_axes(box(picture, 6.2, 3.15, 0.12, 2.6))
    picture.colorbar(contours, cax=bar, ticks=levels[::5])
    bar.set_title(", ".join(NAMES.values()), fontsize=8)
    return picture


def _contours(axes: Axes, a: Arrays, name: str, levels: Values) -> QuadContourSet:
    """The upper panel of an objective, but for the path."""
    contours = filled_contours(axes, a["axis"], a[f"{name}_values"], levels)
    field = np.moveaxis(a[f"{name}_field"], -1, 0)
    axes.quiver(a["arrows"], a["arrows"], *field, color="#333333", alpha=0.7, pivot="mid", scale=22, width=0.0035)
    critical_points(axes, a["minima"])
    axes.text(0.0, 0.2, "saddle", ha="center", **TEXT_RIM)
    axes.text(-1.9, 1.15, "$w_1 w_2 = -1$", color=COLOURS["minimum"], **TEXT_RIM)
    at_start: dict[str, Any] = {"textcoords": "offset points", "color": COLOURS[name]}
    axes.annotate("start", a[f"{name}_path"][0], (-26, -10), **at_start, **TEXT_RIM)
    axes.set_title(TITLES[name], color=COLOURS[name], y=1.065)
    steps = a[f"{name}_steps_above_half"]
    below: dict[str, Any] = {"fontsize": 8, "ha": "center", "transform": axes.transAxes}
    axes.text(0.5, 1.02, f"{steps} steps to half the loss of the saddle", **below)
    axes.set(xlabel="$w_1$", xticks=range(-2, 3), yticks=range(-2, 3))
    axes.set_ylabel("$w_2$", labelpad=-2)
    return contours


def caption(parameters: Parameters) -> str:
    p = parameters
    return (
        "The loss and the equilibrated energy F* = loss / (1 + w_2^2) of the network w_2 w_1 x, on "
        f"{p.examples} samples x ~ N(1, 0.1^2), y = -x. Both have a saddle at the origin and their minima where "
        "w_1 w_2 = -1. Top: contours, spaced evenly in the square root of the loss, and arrows along the negative "
        "gradient g, of length |g| / sqrt(1 + |g|^2). Bottom: the same as surfaces. From the same start "
        f"{p.start}, {p.steps} steps of gradient descent with rate {p.rate}, a dot every {p.dots}: descent on the "
        "loss slows down near the saddle, descent on F* gets away from it sooner. How much sooner depends on the "
        "start; far from the line w_1 = w_2, along which the loss falls into the saddle, it can be later. After "
        "the toy example of arXiv 2305.18188 and its sequel arXiv 2408.11979, whose published code starts at "
        "(0.0812, -0.0306) and makes 15 steps with rate 0.4: preset `paper`. The other presets start, of our own "
        "choice, where both paths feel the saddle."
    )


DEFAULT = Parameters(resolution=(301, 121))
FIGURE = Figure(
    key="trust-region/toy-landscape",
    title="Loss and equilibrated energy of the smallest network",
    caption=caption,
    source="trust-region-2023",
    claims=(
        "trust-region-2023/toy-equilibrium",
        "trust-region-2023/toy-faster-escape",
        "saddles-2024/scalar-chain",
        "saddles-2024/energy-below-loss",
    ),
    presets={
        "quick": replace(DEFAULT, resolution=(61, 41)),
        "default": DEFAULT,
        "paper": replace(DEFAULT, start=(0.0812, -0.0306), rate=0.4, steps=15, dots=1),
    },
    data=data,
    draw=draw,
)
