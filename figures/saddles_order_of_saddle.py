r"""The order of the saddle at the origin: how loss and equilibrated energy leave it along random rays."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from jaxtyping import Array

from pctheory import LinearPCN, equilibrated_energy, feedforward
from pctheory.datasets import toy_regression
from pctheory.figures import THEORY_LINE, WIDTHS, Arrays, Figure, colour_sequence

Values = npt.NDArray[np.float64]
TITLES = {"loss": r"loss $\mathcal{L}$", "energy": r"equilibrated energy $\mathcal{F}^*$"}


@dataclass(frozen=True)
class Parameters:
    """`rays` random rays for each depth; t on `points` from 10^-3 to 1, slopes fitted up to `fit`."""

    hidden_layers: tuple[int, ...]
    rays: int = 5
    points: int = 61
    width: int = 4
    features: int = 3
    examples: int = 64
    fit: float = 3e-3
    seed: int = 0


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """One unit per depth."""
    return {_unit(depth): replace(parameters, hidden_layers=(depth,)) for depth in parameters.hidden_layers}


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """For each ray the change of both objectives over its leading coefficient in theory, and the fitted slope."""
    p = parameters
    (hidden,) = p.hidden_layers
    x, y = toy_regression(p.examples, seed=p.seed, features=p.features)
    moves = _moves(p)
    times = np.logspace(-3, 0, p.points)
    coefficients = _leading_coefficients(moves, x, y)
    fitted = times <= p.fit
    arrays = {"times": times}
    for name, change in _changes(moves, times, x, y).items():
        arrays[name] = change / coefficients[name][:, None]
        arrays[f"{name}_theory"] = times ** (hidden + 1 if name == "loss" else 2)
        arrays[f"{name}_slopes"] = np.polyfit(np.log(times[fitted]), np.log(arrays[name][:, fitted]).T, 1)[0]
    return arrays


def _moves(p: Parameters) -> list[Values]:
    """The directions of all rays, one array for each layer; entries of variance 1/fan-in."""
    rng = np.random.default_rng([p.seed, *p.hidden_layers])
    shapes = pairwise((p.features, *[p.width] * p.hidden_layers[0], p.features))
    return [rng.normal(0.0, below**-0.5, (p.rays, above, below)) for below, above in shapes]


def _changes(moves: list[Values], times: Values, x: Values, y: Values) -> dict[str, Values]:
    """Loss and F* minus their value at the origin, for each ray and time."""

    def change(move: list[Array], t: Array) -> dict[str, Array]:
        net = LinearPCN([t * d for d in move])
        output = feedforward(net, x)[-1]
        return {
            # the loss without cancellation: t^7 is far below the rounding of |y|^2
            "loss": jnp.sum(output**2 / 2 - y * output) / len(x),
            "energy": equilibrated_energy(net, x, y) - jnp.sum(y**2) / (2 * len(x)),
        }

    every = jax.jit(jax.vmap(jax.vmap(change, in_axes=(None, 0)), in_axes=(0, None)))
    return {name: np.asarray(found) for name, found in every(moves, times).items()}


def _leading_coefficients(moves: list[Values], x: Values, y: Values) -> dict[str, Values]:
    """-mean y^T D_L ... D_1 x at order L, and -mean |D_L^T y|^2 / 2 at order 2, where L = 2 adds the former."""
    product = reduce(lambda below, above: above @ below, moves)
    loss = -np.einsum("bi,rij,bj->r", y, product, x) / len(x)
    energy = -np.sum((y @ moves[-1]) ** 2, axis=(1, 2)) / (2 * len(x))
    return {"loss": loss, "energy": energy + (loss if len(moves) == 2 else 0.0)}


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """The loss left, F* right; a colour for each depth."""
    picture, grid = plt.subplots(1, 2, figsize=(WIDTHS["text"], 3.1), sharex=True, sharey=True)
    colours = colour_sequence(len(parameters.hidden_layers))
    for axes, (name, title) in zip(grid, TITLES.items(), strict=True):
        for hidden, colour in zip(parameters.hidden_layers, colours, strict=True):
            unit = arrays[_unit(hidden)]
            axes.plot(unit["times"], unit[name].T, color=colour, linewidth=1.1)
            axes.plot(unit["times"], unit[f"{name}_theory"], **THEORY_LINE | {"linewidth": 0.8})
            slopes = unit[f"{name}_slopes"]
            axes.plot([], [], color=colour, label=f"{hidden}:  {slopes.mean():.3f} ({slopes.std():.3f})")
        axes.set(title=title, xlabel="distance from the origin $t$", xscale="log")
        axes.set_yscale("log", nonpositive="mask")
        axes.legend(title="$H$:  fitted slope (s.d.)", loc="lower right", alignment="left", handlelength=1.2)
    grid[0].set(xlim=(1e-3, 1), ylim=(1e-22, 10), ylabel="change / leading coefficient")
    return picture


def _unit(hidden_layers: int) -> str:
    return f"H = {hidden_layers}"


def caption(parameters: Parameters) -> str:
    p = parameters
    return (
        "How the loss and the equilibrated energy F* change along rays W_l = t V_l from the origin, for linear "
        f"networks with H hidden layers of width {p.width}: the change over the coefficient of its leading term in "
        f"theory, on {p.rays} random rays each (entries of V_l of variance 1/fan-in), for {p.examples} examples of "
        f"{p.features} coordinates x ~ N(1, 0.1^2) with y = -x. Dashes: the power of t in theory. Where the change "
        "turns its sign, a line ends. Slopes are fitted by least squares to log(change) over log(t) for t up to "
        f"{p.fit:g}, mean and standard deviation over the rays. The loss leaves a saddle of order H + 1, F* one of "
        "order 2 at every depth. Not in a paper."
    )


DEFAULT = Parameters(hidden_layers=(1, 2, 3, 4, 5, 6))
FIGURE = Figure(
    key="saddles/order-of-saddle",
    title="The order of the saddle at the origin",
    caption=caption,
    source="saddles-2024",
    claims=("saddles-2024/saddle-order",),
    presets={"quick": replace(DEFAULT, hidden_layers=(1, 3)), "default": DEFAULT, "paper": DEFAULT},
    units=units,
    data=data,
    draw=draw,
)
