r"""The energy that inference descends: of toy networks, and along the fastest and slowest ways of wide ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import optax
from jaxtyping import Array
from matplotlib.axes import Axes

from figures._panels import LANDSCAPE
from figures._planes import chain
from pctheory import LinearPCN, activity_hessian_dense, energy, equilibrated_energy, equilibrium, mupc, standard
from pctheory.datasets import toy_regression
from pctheory.dynamics import inference_descent
from pctheory.figures import COLOURS, Arrays, Figure, colour_sequence
from pctheory.network import Layers

Values = npt.NDArray[np.float64]
Batch = tuple[Array, Array]

CONTOURS = {"equal": (1.0, 1.0, 1.0), "second": (1.0, 3.0, 1.0), "last": (1.0, 1.0, 3.0)}
STEEP = (-1.0, 2.0, 10.0)  # the weights whose inference is followed
WIDE: dict[str, Callable[..., LinearPCN]] = {
    "SP": lambda widths, seed: standard(widths, seed=seed),
    "SP with skips": lambda widths, seed: standard(widths, seed=seed, skips=True),
    "muPC with skips": lambda widths, seed: mupc(widths, seed=seed),
}


@dataclass(frozen=True)
class Parameters:
    """`part`: what this unit computes. Times and rates are of the batch mean, B times those of an example.

    The wide networks are shown as far as 1 along the fastest direction and `slow_reach` along the slowest.
    """

    part: str = ""
    weights: tuple[float, ...] = (0.1, 1.0, 2.0)
    resolution: int = 121
    slice_reach: float = 3.0
    plane_reach: float = 2.0
    rate: float = 0.5
    steps: int = 100
    adam_steps: int = 4
    tolerance: float = 1e-3
    width: int = 128
    depth: int = 16
    outputs: int = 10
    slow_reach: float = 50.0
    examples: int = 64
    seed: int = 0


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """The slices, the planes of two hidden units, the paths, and one wide network each."""
    parts = ("slices", "planes", "paths", *WIDE)
    return {part: replace(parameters, part=part) for part in parts}


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """Energies over the activities of the part, its equilibrium, and where inference goes."""
    p = parameters
    if p.part in WIDE:
        return _wide(WIDE[p.part]((p.width,) * p.depth + (p.outputs,), p.seed), p)
    x, _ = (jnp.asarray(a) for a in toy_regression(p.examples, seed=p.seed))
    return {"slices": _slices, "planes": _planes, "paths": _paths}[p.part](p, (x, x))


def _slices(p: Parameters, batch: Batch) -> Mapping[str, npt.ArrayLike]:
    """Of one hidden unit, all examples at the same activity, for each value of the first and of the last weight."""
    axis = np.linspace(-p.slice_reach, p.slice_reach, p.resolution)
    arrays: dict[str, npt.ArrayLike] = {"axis": axis}
    for place, name in enumerate(("first", "last")):
        nets = [chain(np.where(np.arange(2) == place, w, 1.0)) for w in p.weights]
        arrays[f"{name}_energies"] = np.stack([_energies(net, axis[:, None], batch) for net in nets])
        settled = [np.mean(equilibrium(net, *batch).activities[0]) for net in nets]
        arrays[f"{name}_settled"] = np.array(settled)
        arrays[f"{name}_least"] = np.stack(
            [_energies(net, np.full((1, 1), z), batch)[0] for net, z in zip(nets, settled, strict=True)]
        )
    return arrays


def _planes(p: Parameters, batch: Batch) -> Mapping[str, npt.ArrayLike]:
    axis = np.linspace(-p.plane_reach, p.plane_reach, p.resolution)
    arrays: dict[str, npt.ArrayLike] = {"axis": axis}
    for name, weights in CONTOURS.items():
        arrays |= {f"{name}_{what}": a for what, a in _plane(chain(np.array(weights)), axis, batch).items()}
    return arrays


def _plane(net: LinearPCN, axis: Values, batch: Batch) -> dict[str, Values]:
    """The energy of two hidden units, its equilibrium and its condition number."""
    first, second = np.meshgrid(axis, axis)
    values = _energies(net, np.stack([first.ravel(), second.ravel()], axis=1), batch)
    settled = equilibrium(net, *batch).activities
    return {
        "energies": values.reshape(first.shape),
        "settled": np.array([np.mean(settled[0]), np.mean(settled[1])]),
        "condition": np.array(np.linalg.cond(np.asarray(activity_hessian_dense(net)))),
    }


def _energies(net: LinearPCN, points: Values, batch: Batch) -> Values:
    """At each of the points, shared by all examples."""
    return np.asarray(_at_points(net, points, batch))


@jax.jit
def _at_points(net: LinearPCN, points: Array, batch: Batch) -> Array:
    def at(point: Array) -> Array:
        hidden = [jnp.broadcast_to(z, (len(batch[0]), 1)) for z in point]
        return energy(net, Layers.of(hidden), *batch)

    return jax.vmap(at)(points)


def _paths(p: Parameters, batch: Batch) -> Mapping[str, npt.ArrayLike]:
    """The mean activities on the way, for each method, over the same plane."""
    net = chain(np.array(STEEP))
    axis = np.linspace(-p.plane_reach, p.plane_reach, p.resolution)
    arrays: dict[str, npt.ArrayLike] = {"axis": axis, **_plane(net, axis, batch)}
    adaptive = diffrax.PIDController(p.tolerance, p.tolerance)
    solvers: dict[str, tuple[diffrax.AbstractSolver[Any], diffrax.AbstractStepSizeController[Any, Any]]] = {
        "Euler": (diffrax.Euler(), diffrax.ConstantStepSize()),
        "Heun": (diffrax.Heun(), adaptive),
        "Dopri5": (diffrax.Dopri5(), adaptive),
    }
    for name, (solver, controller) in solvers.items():
        arrays[f"{name}_path"] = _flow(net, batch, solver, controller, p)
    for name, options in {
        "GD": {"rate": p.rate / p.examples, "steps": p.steps},
        "Adam": {"optimiser": optax.adam(p.rate), "steps": p.adam_steps},
    }.items():
        _, path = inference_descent(net, *batch, record=_mean_activities, **options)
        arrays[f"{name}_path"] = np.asarray(path)
    return arrays


def _mean_activities(net: LinearPCN, hidden: Layers, x: Array, y: Array) -> Array:
    return jnp.stack([z.mean() for z in hidden])


def _flow(
    net: LinearPCN,
    batch: Batch,
    solver: diffrax.AbstractSolver[Any],
    controller: diffrax.AbstractStepSizeController[Any, Any],
    p: Parameters,
) -> Values:
    """Gradient flow of the batch mean for as long as `steps` of `rate` last, at every step of the solver."""

    def velocity(t: object, hidden: Layers, args: object) -> Layers:
        return jax.tree.map(jnp.negative, jax.grad(lambda z: energy(net, z, *batch))(hidden))

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(velocity),
        solver,
        t0=0.0,
        t1=p.rate * p.steps,
        dt0=p.rate,
        y0=_feedforward(net, batch),
        stepsize_controller=controller,
        saveat=diffrax.SaveAt(t0=True, steps=True),
        max_steps=10 * p.steps,
    )
    found = np.stack([np.asarray(run)[:, :, :, 0].mean(axis=2) for run in solution.ys.runs], axis=0)
    path = np.concatenate(list(found), axis=1)
    return path[np.isfinite(path).all(axis=1)]


def _feedforward(net: LinearPCN, batch: Batch) -> Layers:
    hidden, z = [], batch[0]
    for layer in list(net.maps)[:-1]:
        z = z @ layer.T
        hidden.append(z)
    return Layers.of(hidden)


def _wide(net: LinearPCN, p: Parameters) -> Mapping[str, npt.ArrayLike]:
    """One example's energy above F* around its equilibrium, along the eigenvectors at both ends of the spectrum."""
    rng = np.random.default_rng(p.seed)
    x, y = rng.standard_normal((1, p.width)), rng.standard_normal((1, p.outputs))
    values, vectors = np.linalg.eigh(np.asarray(activity_hessian_dense(net)))
    settled = equilibrium(net, x, y).activities
    centre = np.concatenate([np.asarray(z) for z in list(settled)[: p.depth - 1]], axis=1)[0]
    axis = np.linspace(-1.0, 1.0, 41)
    first, second = (a.ravel() for a in np.meshgrid(axis, axis))
    points = centre + first[:, None] * vectors[:, -1] + p.slow_reach * second[:, None] * vectors[:, 0]

    def at(point: Array) -> Array:
        return energy(net, Layers((point.reshape(p.depth - 1, 1, p.width),)), x, y)

    energies = np.asarray(jax.lax.map(jax.jit(at), jnp.asarray(points))) - float(equilibrated_energy(net, x, y))
    grid = energies.reshape(len(axis), -1)
    return {"fast": axis, "slow": p.slow_reach * axis, "energies": grid, "ends": values[[0, -1]]}


LOOKS: dict[str, dict[str, Any]] = {
    "Euler": {"color": COLOURS["neutral"], "linewidth": 4.0},
    "GD": {"color": COLOURS["energy"], "marker": "o", "markersize": 1.8},
    "Heun": {"color": COLOURS["loss"], "marker": "s", "markersize": 2.5},
    "Dopri5": {"color": COLOURS["minimum"], "marker": "^", "markersize": 2.8},
    "Adam": {"color": COLOURS["other"], "marker": "D", "markersize": 3.0},
}
STAR: dict[str, Any] = {
    "marker": "*",
    "markersize": 9,
    "color": COLOURS["saddle"],
    "markeredgecolor": "black",
    "linestyle": "none",
}


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """Above: slices, and the paths of inference; in the middle: planes; below: wide networks."""
    picture, grid = plt.subplots(3, 3, figsize=(6.75, 6.9))
    for axes, name, symbol in zip(grid[0], ("first", "last"), ("w_1", "w_2"), strict=False):
        _draw_slices(axes, arrays["slices"], name, symbol, parameters.weights)
    _draw_paths(grid[0, 2], arrays["paths"])
    for axes, (name, weights) in zip(grid[1], CONTOURS.items(), strict=True):
        a = arrays["planes"]
        _contours(axes, a["axis"], a["axis"], a[f"{name}_energies"])
        axes.set_aspect("equal")
        axes.plot(*a[f"{name}_settled"], **STAR)
        axes.set_title(f"$w = ({', '.join(f'{w:g}' for w in weights)})$\ncondition {a[f'{name}_condition']:.3g}")
        axes.set(xlabel="$z_1$", ylabel="$z_2$")
    for axes, name in zip(grid[2], WIDE, strict=True):
        _draw_wide(axes, arrays[name], name)
    return picture


def _draw_slices(axes: Axes, a: Arrays, name: str, symbol: str, weights: Sequence[float]) -> None:
    shades = colour_sequence(len(weights), "energy")
    for k, (weight, shade) in enumerate(zip(weights, shades, strict=True)):
        axes.plot(a["axis"], a[f"{name}_energies"][k], color=shade, label=f"${symbol} = {weight:g}$")
        axes.plot(a[f"{name}_settled"][k], a[f"{name}_least"][k], **STAR)
    axes.set(
        xlabel="$z$", ylabel="energy $F$", xlim=(-2, 3), ylim=(0, 7), title=f"one hidden unit, ${symbol}$ varied"
    )
    axes.legend(fontsize=7, loc="upper center")


def _contours(axes: Axes, across: Values, up: Values, values: Values) -> None:
    """Evenly spaced in the square root above the least value."""
    levels = values.min() + (values.max() - values.min()) * np.linspace(0, 1, 16) ** 2
    axes.contourf(across, up, values, levels=levels, cmap=LANDSCAPE)
    axes.contour(across, up, values, levels=levels[1:-1], colors="black", linewidths=0.25, alpha=0.4)


def _draw_paths(axes: Axes, a: Arrays) -> None:
    _contours(axes, a["axis"], a["axis"], a["energies"])
    for name in ("Euler", "Heun", "Dopri5", "GD", "Adam"):
        path = a[f"{name}_path"]
        axes.plot(*path.T, label=f"{name} ({len(path) - 1})", zorder=6, **LOOKS[name])
    axes.plot(*a["settled"], **STAR, zorder=7)
    weights = ", ".join(f"{w:g}" for w in STEEP)
    axes.set(xlabel="$z_1$", ylabel="$z_2$", title=f"paths, $w = ({weights})$")
    axes.set(xlim=(-1.4, 1.4), ylim=(-2.0, 0.8))
    axes.legend(fontsize=6.5, loc="lower right", title="method (steps)", title_fontsize=6.5, handlelength=1.5)


def _draw_wide(axes: Axes, a: Arrays, name: str) -> None:
    _contours(axes, a["fast"], a["slow"], a["energies"])
    smallest, largest = a["ends"]
    axes.set_title(f"{name.replace('mu', chr(0x3BC))}\ncondition {_small(largest / smallest)}")
    axes.set_xlabel(rf"fastest, $\lambda =$ {largest:.2f}")
    axes.set_ylabel(rf"slowest, $\lambda =$ {_small(smallest)}", labelpad=1)


def _small(number: float) -> str:
    """Two digits, with a power of ten where it is far from 1."""
    digits, exponent = f"{number:.1e}".split("e")
    return f"{number:.2g}" if -2 < int(exponent) < 3 else rf"${digits} \times 10^{{{int(exponent)}}}$"


def caption(parameters: Parameters) -> str:
    p = parameters
    return (
        "The energy of activities, and inference on it. Top left: one hidden unit, weights 1 but for the one that "
        f"varies, all of {p.examples} examples x = y ~ N(1, 0.1^2) at the same activity z; stars: the equilibrium. "
        f"Top right: w = {STEEP}; the mean activities on their way from the feedforward pass: gradient flow on the "
        f"batch mean until time {p.rate * p.steps:g} by three solvers (Euler with steps {p.rate}, the others "
        f"adaptive, tolerance {p.tolerance:g}), {p.steps} steps of gradient descent (GD) at rate {p.rate}, which "
        f"visit the same points as Euler's, and {p.adam_steps} steps of Adam at rate {p.rate}. Middle: two hidden "
        f"units. Bottom: one random example in networks of width {p.width}, {p.depth} layers, {p.outputs} outputs "
        "at initialisation (variance 1/N in SP): the energy above F* along the eigenvectors of the largest and the "
        f"smallest eigenvalue of the activity Hessian, the slow axis {p.slow_reach:g} times as long. Contours: "
        "evenly spaced in the square root. After the appendix of arXiv 2505.13124."
    )


DEFAULT = Parameters()
FIGURE = Figure(
    key="mupc/toy-inference",
    title="The landscape of inference",
    caption=caption,
    source="mupc-2025",
    claims=("mupc-2025/activity-solution", "mupc-2025/inference-strictly-convex", "own/step-stability"),
    presets={
        "quick": replace(DEFAULT, resolution=41, width=16, depth=6, outputs=4),
        "default": DEFAULT,
        "paper": replace(DEFAULT, resolution=301),
    },
    units=units,
    data=data,
    draw=draw,
)
