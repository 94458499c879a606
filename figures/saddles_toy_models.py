r"""The saddle at the origin of three networks: flatter with depth for the loss, not for the equilibrated energy."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import numpy.typing as npt
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from mpl_toolkits.mplot3d import Axes3D

from figures._panels import RIM, SADDLE, Values, box, page, surface, surface_axes
from figures._planes import OBJECTIVES, Batch
from pctheory import LinearPCN, loss
from pctheory.datasets import toy_regression
from pctheory.dynamics import Objective, weight_descent
from pctheory.figures import COLOURS, Arrays, Figure
from pctheory.landscape import landscape_values

ROWS = {
    "loss": r"loss  $\mathcal{L} / \mathcal{L}(0)$",
    "energy": r"equilibrated energy  $\mathcal{F}^* / \mathcal{F}^*(0)$",
}
LABELS = {"loss": "BP", "energy": "PC"}
# |residual| = 0.1, 0.3, .. of that at the origin: no contour runs along a flat line through the origin
LEVELS = np.linspace(0.1, 3.1, 16) ** 2


@dataclass(frozen=True)
class Model:
    """A network of widths N_0..N_L and its training. `axes`: names of the axes of the plane through its origin."""

    name: str
    title: str
    widths: tuple[int, ...]
    rate: float
    steps: int
    axes: tuple[str, str]


@dataclass(frozen=True)
class Parameters:
    """`resolution`: points per axis, `reach`: of the axes. `std`: of the weights at the start of each run."""

    resolution: int
    models: tuple[Model, ...]
    runs: int = 5
    std: float = 0.05
    reach: float = 1.0
    examples: int = 64
    seed: int = 0


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """One unit per network."""
    return {model.name: replace(parameters, models=(model,)) for model in parameters.models}


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """Landscape and training of the one network in `parameters`."""
    (model,) = parameters.models
    return _landscape(model, parameters) | _training(model, parameters)


def _landscape(model: Model, p: Parameters) -> dict[str, npt.ArrayLike]:
    """Values over the plane, Hessians at the origin, and values along the eigenvector of smallest curvature of F*.

    Values are relative to the origin. Weights are vectors, W_1 first.
    """
    x, y = toy_regression(p.examples, seed=p.seed, features=model.widths[0])
    batch = jnp.asarray(x), jnp.asarray(y)
    plane = _plane(model.widths, batch)
    hessians = {name: _origin_hessian(objective, model.widths, batch) for name, objective in OBJECTIVES.items()}
    eigenvectors = _extreme_eigenvectors(hessians["energy"], plane.sum(axis=0))
    direction = plane @ eigenvectors[0] / np.sum(plane**2, axis=1)  # coordinates in the plane, which holds it
    axis = np.linspace(-p.reach, p.reach, p.resolution)
    line = np.linspace(-p.reach, p.reach, 101)[:, None] * direction / np.abs(direction).max()
    origin = len(line) // 2
    net = _network(model.widths, jnp.zeros(plane.shape[1]))
    along: dict[str, Any] = {"directions": line[-1:] @ plane, "axes": (np.linspace(-1, 1, len(line)),)}
    over: dict[str, Any] = {"directions": plane, "axes": (axis, axis)}
    arrays: dict[str, npt.ArrayLike] = {"axis": axis, "plane": plane, "eigenvectors": eigenvectors, "line": line}
    for name, objective in OBJECTIVES.items():
        heights = landscape_values(objective, net, *batch, **along)
        arrays |= {
            f"{name}_values": landscape_values(objective, net, *batch, **over) / heights[origin],
            f"{name}_line": heights / heights[origin],
            f"{name}_hessian": hessians[name],
            f"{name}_curvature": eigenvectors[0] @ hessians[name] @ eigenvectors[0],
        }
    return arrays


def _shapes(widths: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    return ((above, below) for below, above in pairwise(widths))


def _network(widths: tuple[int, ...], vector: Array) -> LinearPCN:
    """The network whose weights are `vector`."""
    origin = LinearPCN([np.zeros(shape) for shape in _shapes(widths)])
    return origin.with_weights(ravel_pytree(origin.weights)[1](vector))


def _plane(widths: tuple[int, ...], batch: Batch) -> Float[np.ndarray, "2 weights"]:
    r"""The two directions that move W_1..W_{L-1} together, and W_L: all layers of rank one, aligned, of equal size.

    W_1 = e q^T, W_l = e e^T, W_L = q e^T, with e the first unit vector and q the leading eigenvector of the mean of
    x x^T, also that of y y^T for y = -x. Which e makes no difference: hidden layers may be rotated.
    """
    x, _ = batch
    q = np.linalg.eigh(x.T @ x)[1][:, -1]
    q = q * np.sign(q.sum())
    units = [q, *(np.eye(width)[0] for width in widths[1:-1]), q]
    weights = [np.outer(above, below).ravel() for below, above in pairwise(units)]
    is_last = np.repeat([0.0, 1.0], [sum(len(w) for w in weights[:-1]), len(weights[-1])])
    return np.concatenate(weights) * np.stack([1 - is_last, is_last])


def _origin_hessian(objective: Objective, widths: tuple[int, ...], batch: Batch) -> Values:
    """The Hessian in all weights at the origin. Cost: dense."""
    zero = jnp.zeros(sum(rows * columns for rows, columns in _shapes(widths)))
    hessian = jax.jit(jax.hessian(lambda vector: objective(_network(widths, vector), *batch)))
    return np.asarray(hessian(zero))


def _extreme_eigenvectors(hessian: Values, guide: Values) -> Float[np.ndarray, "2 weights"]:
    """Unit eigenvectors of smallest and largest curvature: of each eigenspace, the one nearest to `guide`."""
    values, vectors = np.linalg.eigh(hessian)
    # equal but for rounding; the distinct ones here are more than 1e-3 of the largest apart
    spaces = [np.isclose(values, extreme, rtol=0, atol=1e-9 * np.abs(values).max()) for extreme in values[[0, -1]]]
    nearest = [vectors[:, space] @ (vectors[:, space].T @ guide) for space in spaces]
    return np.stack([vector / np.linalg.norm(vector) for vector in nearest])


def _training(model: Model, p: Parameters) -> dict[str, npt.ArrayLike]:
    """The loss while training on each objective, on a fresh batch in each step, from the same starts."""
    optimiser = optax.sgd(model.rate)
    losses: dict[str, list[Array]] = {name: [] for name in OBJECTIVES}
    for run in range(p.runs):
        rng = np.random.default_rng([p.seed, run])
        start = LinearPCN([rng.normal(0.0, p.std, shape) for shape in _shapes(model.widths)])
        x, y = toy_regression(model.steps * p.examples, seed=1 + p.seed + run, features=model.widths[0])
        batches = x.reshape(model.steps, p.examples, -1), y.reshape(model.steps, p.examples, -1)
        for name, objective in OBJECTIVES.items():
            losses[name].append(weight_descent(objective, start, batches, optimiser, record=loss)[1])
    return {f"{name}_training": np.stack(runs) for name, runs in losses.items()}


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """A column for each network: surface of the loss, surface of the energy, training."""
    picture = page(6.75, 7.15)
    for bottom, text in zip((5.7, 3.25, 1.05), (*ROWS.values(), "loss in training"), strict=True):
        picture.text(0.015, bottom / 7.15, text, rotation=90, va="center")
    for column, model in enumerate(parameters.models):
        a, left = arrays[model.name], 0.12 + 2.15 * column
        picture.text((left + 1.1) / 6.75, 7.0 / 7.15, model.title, ha="center", va="center", fontsize=10)
        for name, bottom in (("loss", 4.45), ("energy", 1.98)):
            place = box(picture, left - 0.05, bottom, 2.4, 2.4)
            _surface(surface_axes(picture, place, model.axes), a, name)
        training = picture.add_axes(box(picture, left + 0.42, 0.4, 1.6, 1.3))
        for name in OBJECTIVES:
            first, *_ = training.plot(a[f"{name}_training"].T, color=COLOURS[name], linewidth=0.9, alpha=0.8)
            first.set_label(LABELS[name])
        training.set(xlabel="training step", xlim=(0, model.steps), ylim=(0, None))
    training.legend(loc="lower right", bbox_to_anchor=(1.0, 0.97), ncols=2)
    return picture


def _surface(axes: Axes3D, a: Arrays, name: str) -> None:
    """The surface with the line of smallest curvature through the saddle."""
    surface(axes, a["axis"], a[f"{name}_values"], LEVELS)
    axes.view_init(elev=54, azim=-68)
    axes.plot(*a["line"].T, a[f"{name}_line"], color=COLOURS[name], zorder=6, **RIM)
    axes.plot(0, 0, 1, **SADDLE)
    top = {"loss": 4, "energy": 2}[name]
    axes.set(zticks=range(top + 1), zlim=(0, top))
    curvature = round(float(a[f"{name}_curvature"]), 2) + 0.0  # no minus sign before a zero
    above: dict[str, Any] = {"ha": "center", "fontsize": 8, "color": COLOURS[name], "transform": axes.transAxes}
    axes.text2D(0.45, 0.96, f"curvature along the line: ${curvature:.2f}$", **above)


def caption(parameters: Parameters) -> str:
    p = parameters
    return (
        "The saddle at the origin of three networks that learn y = -x with entries x ~ N(1, 0.1^2). Top, middle: "
        f"the loss and the equilibrated energy F* on {p.examples} samples, relative to the origin, over the plane "
        "of the eigenvectors of largest and smallest curvature of F* at the origin; the line follows the latter, "
        "and above stands its curvature at the origin, of the loss and of F* themselves. "
        "(The Hessian of the loss cannot choose a plane: from two hidden layers on it is zero.) With one hidden "
        "unit the plane is all there is. From two hidden layers on, the largest curvature is 0 and the smallest "
        "that of W_L along the leading eigenvector q of the mean of y y^T. Both have many eigenvectors; we take "
        "those towards the fit of rank one with layers of equal size. So the axes are w_1 = w_2 and w_3, and the "
        "singular values of W_1 = e q^T, W_2 = W_3 = e e^T and of W_4 = q e^T for a unit vector e. Bottom: the "
        f"loss in {p.runs} runs of gradient descent from weights of standard deviation {p.std}, the same for BP "
        "and PC, on a fresh batch in each step, with exact inference, at rates "
        f"{', '.join(str(model.rate) for model in p.models)}. With one hidden unit it depends on the start which "
        "of the two is faster. After a figure of arXiv 2408.11979. Its published code shows the second chain as a "
        "volume over all three weights; makes 20 inference steps of 0.1; trains the chains for 15 and 100 steps "
        "(preset `paper`); and projects the wide network, each objective by itself, on rows of the matrix whose "
        "columns are the eigenvectors. The plane, rate and steps of the wide network are ours; rate 0.4 would be "
        "unstable for BP."
    )


ONE_UNIT = Model("one-unit", "Chain, one hidden unit", (1, 1, 1), 0.4, 20, ("$w_1$", "$w_2$"))
TWO_UNITS = Model("two-units", "Chain, two hidden units", (1, 1, 1, 1), 0.4, 400, ("$w_1 = w_2$", "$w_3$"))
WIDE = Model("wide", "Three hidden layers of width 4", (3, 4, 4, 4, 3), 0.1, 400, ("$W_1, W_2, W_3$", "$W_4$"))
DEFAULT = Parameters(resolution=101, models=(ONE_UNIT, TWO_UNITS, WIDE))
AS_PUBLISHED = (replace(ONE_UNIT, steps=15), replace(TWO_UNITS, steps=100), WIDE)
FIGURE = Figure(
    key="saddles/toy-models",
    title="The saddle at the origin of three toy networks",
    caption=caption,
    source="saddles-2024",
    claims=("saddles-2024/loss-hessian-origin", "saddles-2024/saddle-order", "saddles-2024/origin-strict"),
    presets={
        "quick": replace(DEFAULT, resolution=41, runs=2),
        "default": DEFAULT,
        "paper": replace(DEFAULT, models=AS_PUBLISHED),
    },
    units=units,
    data=data,
    draw=draw,
)
