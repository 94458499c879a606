r"""Inference reshapes the landscape of w_2 w_1 x: from the loss, step by step, to the equilibrated energy."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from jaxtyping import Array

from figures._panels import LEVELS, critical_points, filled_contours
from figures._planes import chain
from pctheory import LinearPCN, equilibrated_energy
from pctheory.datasets import toy_regression
from pctheory.dynamics import inference_descent
from pctheory.figures import Arrays, Figure
from pctheory.landscape import landscape_values

COLUMNS = 4


@dataclass(frozen=True)
class Parameters:
    """`resolution`: points per axis, `reach`: of the axes. `shown`: numbers of inference steps of size `rate`."""

    resolution: int
    shown: tuple[int, ...] = (0, 1, 5, 10, 20, 50, 100)
    rate: float = 0.1
    reach: float = 2.0
    examples: int = 64
    seed: int = 0


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """The energy after each number of steps and at equilibrium, and the largest difference between the two."""
    p = parameters
    x, y = toy_regression(p.examples, seed=p.seed)

    def energies(net: LinearPCN, x: Array, y: Array) -> Array:
        _, energies = inference_descent(net, x, y, rate=p.rate, steps=max(p.shown))
        return energies[np.array(p.shown)]

    origin = chain(jnp.zeros(2))
    axis = np.linspace(-p.reach, p.reach, p.resolution)
    branch = np.geomspace(1 / p.reach, p.reach, p.resolution)
    plane: dict[str, Any] = {"directions": np.eye(2), "axes": (axis, axis)}  # of all weights
    reached = np.moveaxis(landscape_values(energies, origin, x, y, **plane), -1, 0)
    limit = landscape_values(equilibrated_energy, origin, x, y, **plane)
    return {
        "axis": axis,
        "minima": np.stack([branch, -1 / branch]),
        "energies": reached,
        "equilibrium": limit,
        "deviations": np.max(np.abs(reached - limit), axis=(1, 2)),
    }


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """A panel for each number of steps, the last for the equilibrium; one scale of colours for all."""
    a = arrays["all"]
    titles = [f"$t = {steps}$" + (", the loss" if steps == 0 else "") for steps in parameters.shown]
    notes = [rf"within {_rounded(deviation)} of $\mathcal{{F}}^*$" for deviation in a["deviations"]]
    shown = [
        *zip(a["energies"], titles, notes, strict=True),
        (a["equilibrium"], r"equilibrium, $\mathcal{F}^*$", ""),
    ]
    rows = -(-len(shown) // COLUMNS)
    picture, grid = plt.subplots(rows, COLUMNS, figsize=(6.75, 1.92 * rows), sharex=True, sharey=True)
    panels, unused = grid.flat[: len(shown)], grid.flat[len(shown) :]
    for axes, (values, title, note) in zip(panels, shown, strict=True):
        contours = filled_contours(axes, a["axis"], values, 0.5 * LEVELS)
        critical_points(axes, a["minima"], saddle_size=5.0)
        axes.set_title(title, y=1.1)
        axes.text(0.5, 1.03, note, fontsize=7.5, ha="center", transform=axes.transAxes)
        axes.set(xticks=range(-2, 3), yticks=range(-2, 3))
    for axes in unused:
        axes.remove()
    for axes in panels[-COLUMNS:]:
        axes.set_xlabel("$w_1$")
        axes.tick_params(labelbottom=True)
    for axes in panels[::COLUMNS]:
        axes.set_ylabel("$w_2$")
    picture.colorbar(contours, ax=panels, ticks=0.5 * LEVELS[::5], shrink=0.9, aspect=30, label="energy $F_t$")
    return picture


def _rounded(number: float) -> str:
    """Two digits, with a power of ten for small numbers."""
    digits, exponent = f"{number:.1e}".split("e")
    return f"{number:.2g}" if int(exponent) > -2 else rf"${digits} \times 10^{{{int(exponent)}}}$"


def caption(parameters: Parameters) -> str:
    p = parameters
    return (
        f"The energy of the network w_2 w_1 x after t inference steps of size {p.rate} on its hidden activity, "
        f"from the feedforward activity, on {p.examples} samples x ~ N(1, 0.1^2), y = -x. At t = 0 it is the loss; "
        "it converges to the equilibrated energy F*, the last panel. Above each panel: the largest difference from "
        "F* over the panel. Contours are spaced evenly in the square root of the loss; the green curves are the "
        "minima w_1 w_2 = -1, which stay where they are, and the cross is the saddle. After the toy example of "
        "arXiv 2305.18188."
    )


DEFAULT = Parameters(resolution=201)
FIGURE = Figure(
    key="trust-region/inference-reshapes",
    title="Inference reshapes the landscape",
    caption=caption,
    source="trust-region-2023",
    claims=(
        "trust-region-2023/toy-equilibrium",
        "saddles-2024/equilibrated-energy",
        "thesis-2025/energy-split-only-at-start",
    ),
    presets={"quick": replace(DEFAULT, resolution=61), "default": DEFAULT, "paper": DEFAULT},
    data=data,
    draw=draw,
)
