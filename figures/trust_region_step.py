"""Inference as a trust-region step: quadratic model and ellipse in activity space, directions in weight space."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from figures._panels import LANDSCAPE, RIM, TEXT_RIM, Values, box, page
from figures._planes import chain
from pctheory import nonlinear, trust_region
from pctheory.figures import COLOURS, Arrays, Figure
from pctheory.landscape import landscape_values
from pctheory.nonlinear import NonlinearPCN

ACTIVATIONS = {"linear": lambda z: z, "tanh": jnp.tanh}
TITLES = {"linear": "Activities, linear", "tanh": r"Activities, $\tanh$"}
# of a direction: its colour, its name in the picture, and where that stands from its tip, in points
DIRECTIONS: dict[str, tuple[str, str, tuple[int, int]]] = {
    "gradient descent": (COLOURS["loss"], "BP", (-10, -12)),
    "predictive coding": (COLOURS["energy"], "PC", (2, 3)),
    "trust region": (COLOURS["other"], "trust region", (-38, 5)),
    "damped Newton": (COLOURS["minimum"], "damped\nNewton", (2, -4)),
}
MODEL: dict[str, Any] = {"colors": COLOURS["theory"], "linewidths": 0.7, "linestyles": [(0, (4, 3))]}
WHITE_EDGE: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.7, "linestyle": "none", "zorder": 9}


@dataclass(frozen=True)
class Parameters:
    """A chain w_3 phi(w_2 phi(w_1 x)) and one example. `reach`: half the side of a panel, activities or weights."""

    resolution: int
    weights: tuple[float, float, float] = (0.6, 1.1, 1.3)
    x: float = 1.0
    y: float = 1.8
    reach: tuple[float, float] = (1.0, 1.0)
    damping: float = 2.0


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """Energy, model, ellipse and steps in the plane of (z_1, z_2); loss and directions in a plane of weights."""
    p = parameters
    batch = np.full((1, 1), p.x), np.full((1, 1), p.y)
    linear = chain(jnp.array(p.weights))
    arrays: dict[str, npt.ArrayLike] = {}
    for kind, activation in ACTIVATIONS.items():
        found = _activities(NonlinearPCN(linear, activation), batch, p)
        arrays |= {f"{kind}_{name}": array for name, array in found.items()}
    return arrays | _weights(NonlinearPCN(linear, jnp.tanh), batch, p)


def _activities(net: NonlinearPCN, batch: tuple[Values, Values], p: Parameters) -> dict[str, npt.ArrayLike]:
    """On a grid about the middle of the step."""
    x, y = batch
    model = trust_region.taylor_model(net, x, y, curvature="fisher")
    start, gradient = (np.asarray(trust_region.activity_vectors(a)[0]) for a in (model.activities, model.gradient))
    metric = np.asarray(trust_region.fisher_metric(net, x).dense()[0])
    step = np.asarray(trust_region.activity_vectors(trust_region.inference_step(net, x, y).step)[0])
    end = trust_region.activity_vectors(nonlinear.inference_to_stationarity(net, x, y).activities)[0]
    across, up = (np.linspace(c - p.reach[0], c + p.reach[0], p.resolution) for c in start + step / 4)
    points = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
    many = np.repeat(x, len(points), axis=0), np.repeat(y, len(points), axis=0)
    energy = trust_region.taylor_model(net, *many, at=trust_region.activities_of(net, points)).value
    moved = points - start
    predicted = float(model.value[0]) + moved @ gradient + np.sum(moved @ metric * moved, axis=1) / 2
    angles = np.linspace(0.0, 2 * np.pi, 361)
    circle = np.stack([np.cos(angles), np.sin(angles)])
    radius = np.sqrt(-gradient @ step)
    return {
        "axes": np.stack([across, up]),
        "energy": np.reshape(energy, (p.resolution, p.resolution)),
        "model": predicted.reshape(p.resolution, p.resolution),
        "ellipse": start[:, None] + radius * np.linalg.solve(np.linalg.cholesky(metric).T, circle),
        "start": start,
        "step": step,
        "end": end,
        "downhill": -gradient * np.linalg.norm(step) / np.linalg.norm(gradient),
    }


def _weights(net: NonlinearPCN, batch: tuple[Values, Values], p: Parameters) -> dict[str, npt.ArrayLike]:
    """The plane through the weights that holds the directions of BP and PC; unit directions projected on it."""
    found = trust_region.weight_directions(net, *batch, damping=p.damping)
    units = {name: np.asarray(found[name]) / np.linalg.norm(found[name]) for name in DIRECTIONS}
    first = units["gradient descent"]
    second = units["predictive coding"] - (units["predictive coding"] @ first) * first
    plane = np.stack([first, second / np.linalg.norm(second)])
    axes = tuple(np.linspace(c - p.reach[1], c + p.reach[1], p.resolution) for c in (0.6, 0.4))
    return {
        "weights_axes": np.stack(axes),
        "weights_loss": landscape_values(nonlinear.loss, net, *batch, directions=plane, axes=axes),
        "weights_cosines": trust_region.cosines({name: found[name] for name in DIRECTIONS}),
        **{f"weights_{name}": plane @ unit for name, unit in units.items()},
    }


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """Two planes of activities, one of weights."""
    a = arrays["all"]
    picture = page(6.75, 2.45)
    for column, kind in enumerate(ACTIVATIONS):
        axes = picture.add_axes(box(picture, 0.42 + 2.22 * column, 0.42, 1.75, 1.75))
        _draw_activities(axes, {name: a[f"{kind}_{name}"] for name in ACTIVITY_ARRAYS}, kind)
    _draw_weights(picture.add_axes(box(picture, 4.92, 0.42, 1.75, 1.75)), a)
    return picture


ACTIVITY_ARRAYS = ("axes", "energy", "model", "ellipse", "start", "step", "end", "downhill")


def _draw_activities(axes: Axes, a: Arrays, kind: str) -> None:
    levels = a["energy"].min() + (a["energy"].max() - a["energy"].min()) * np.linspace(0.0, 1.0, 19) ** 2
    axes.contourf(*a["axes"], a["energy"], levels=levels, cmap=LANDSCAPE)
    axes.contour(*a["axes"], a["energy"], levels=levels[1:], colors="white", linewidths=0.8)
    axes.contour(*a["axes"], a["model"], levels=levels[2::2], **MODEL)
    axes.plot(*a["ellipse"], color=COLOURS["other"], linewidth=1.5, zorder=5)
    _arrow(axes, a["start"], a["downhill"], COLOURS["loss"])
    _arrow(axes, a["start"], a["step"], COLOURS["other"])
    axes.plot(*a["start"], "o", color="black", **WHITE_EDGE)
    axes.plot(*a["end"], "*", color=COLOURS["energy"], markersize=10, **WHITE_EDGE)
    notes: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8, "zorder": 10}
    axes.annotate("$h$", tuple(a["start"]), (-10, -9), **notes, **TEXT_RIM)
    axes.annotate("$z^*$", tuple(a["end"]), (6, -8), color=COLOURS["energy"], **notes, **TEXT_RIM)
    axes.annotate(
        "$-I^{-1}g$", tuple(a["start"] + a["step"] / 2), (3, -11), color=COLOURS["other"], **notes, **TEXT_RIM
    )
    axes.annotate("$-g$", tuple(a["start"] + a["downhill"]), (-8, 5), color=COLOURS["loss"], **notes, **TEXT_RIM)
    axes.set(title=TITLES[kind], xlabel="$z_1$", ylabel="$z_2$", aspect="equal")


def _draw_weights(axes: Axes, a: Arrays) -> None:
    levels = a["weights_loss"].max() * np.linspace(0.0, 1.0, 19) ** 2
    axes.contourf(*a["weights_axes"], a["weights_loss"], levels=levels, cmap=LANDSCAPE)
    lines: dict[str, Any] = {"colors": "black", "linewidths": 0.3, "alpha": 0.45}
    axes.contour(*a["weights_axes"], a["weights_loss"], levels=levels[1:], **lines)
    for name, (colour, label, place) in DIRECTIONS.items():
        tip = a[f"weights_{name}"]
        _arrow(axes, np.zeros(2), tip, colour)
        axes.annotate(
            label, tuple(tip), place, textcoords="offset points", color=colour, fontsize=8, zorder=10, **TEXT_RIM
        )
    axes.plot(0, 0, "o", color="black", **WHITE_EDGE)
    axes.set(title=r"Weights, $\tanh$", xlabel="along BP", aspect="equal")
    axes.set_ylabel("towards PC", labelpad=0)


def _arrow(axes: Axes, start: Values, move: Values, colour: str) -> None:
    style = {
        "arrowstyle": "-|>",
        "color": colour,
        "linewidth": 1.6,
        "shrinkA": 0,
        "shrinkB": 0,
        "mutation_scale": 9,
    }
    axes.annotate("", tuple(start + move), tuple(start), arrowprops=style | RIM, zorder=7)


def caption(parameters: Parameters) -> str:
    p = parameters
    return (
        "Left and middle: the energy of one example (filled) in the plane of the two hidden activities of a chain "
        f"of single units with weights {p.weights}, x = {p.x:g}, y = {p.y:g}; dashes: its quadratic model at the "
        "feedforward activities h with the Fisher information I for curvature, at every other of these values. "
        "The ellipse d^T I d = g^T I^-1 g about h is the boundary of the trust region whose linear sub-problem "
        "the inference step -I^-1 g solves; the negative gradient -g (as long as the step) moves the last activity "
        "only. In the linear chain the model is the energy and the step ends at the equilibrium z*; with tanh it "
        "comes near. Right: the loss in the plane of weights through this network that holds the directions of "
        "backpropagation (BP) and of predictive coding (PC, inference run to its end). Arrows are unit vectors, "
        "projected on the plane: the trust-region direction, down the gradient of F(h) - (1/2) g^T I^-1 g, which "
        f"makes PC with one step of inference, and damped Newton's, -(H + {p.damping:g} I)^-1 times the gradient "
        "of the loss. Not in the paper."
    )


DEFAULT = Parameters(resolution=201)
FIGURE = Figure(
    key="trust-region/step",
    title="Inference as a trust-region step",
    caption=caption,
    source="trust-region-2023",
    claims=(
        "trust-region-2023/taylor",
        "trust-region-2023/inference-step",
        "trust-region-2023/subproblem",
        "trust-region-2023/weight-gradient",
    ),
    presets={"quick": replace(DEFAULT, resolution=61), "default": DEFAULT, "paper": DEFAULT},
    data=data,
    draw=draw,
)
