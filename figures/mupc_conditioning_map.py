r"""How the condition number of inference depends on width and depth at initialisation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm

from pctheory import LinearPCN, mupc, standard
from pctheory.conditioning import activity_hessian_extremes, activity_hessian_extremes_nonlinear
from pctheory.figures import Arrays, Figure, colour_sequence
from pctheory.nonlinear import NonlinearPCN, feedforward

ROWS = ("SP", "SP with skips", "muPC with skips")
UNIFORM: dict[str, Any] = {"initialisation": "uniform", "variance": 1 / 3}  # the papers' code: +-1/sqrt(fan-in)
# By the papers' table (Gaussian, variance 1/N) and by their code.
LINEAR: dict[str, Callable[..., LinearPCN]] = {
    "SP, table": standard,
    "SP, code": partial(standard, **UNIFORM),
    "SP with skips, table": partial(standard, skips=True),
    "SP with skips, code": partial(standard, skips=True, **UNIFORM),
    "muPC with skips, both": mupc,
}
ACTIVATIONS = {"tanh": jnp.tanh, "ReLU": jax.nn.relu}
# Of each row, as in the papers' code.
CODE = {"SP": "SP, code", "SP with skips": "SP with skips, code", "muPC with skips": "muPC with skips, both"}


@dataclass(frozen=True)
class Parameters:
    """Widths and depths H of the map: 2 to the `powers`, those for tanh and ReLU 2 to the `curved` ones.

    `wide`: widths with `few` hidden layers, `features` inputs and `classes` outputs. `seeds`: means are of the
    logarithms over these.
    """

    powers: tuple[int, ...] = (1, 2, 3, 4, 5)
    curved: tuple[int, ...] = (1, 2, 3)
    wide: tuple[int, ...] = (16, 64, 128)
    few: tuple[int, ...] = (1, 2, 8)
    seeds: tuple[int, ...] = (0,)
    features: int = 784
    classes: int = 10
    part: str = ""


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """One unit per width of each of the maps, and per wide width."""
    p = parameters
    made = {f"linear-{k}": replace(p, part="linear", powers=(k,), curved=p.powers) for k in p.powers}
    made |= {f"curved-{k}": replace(p, part="curved", powers=(k,)) for k in p.curved}
    return made | {f"wide-{width}": replace(p, part="wide", wide=(width,)) for width in p.wide}


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """Condition numbers over depth for each network of the unit, and the largest relative error of an end.

    Where a Hessian is not positive definite (`indefinite`): the ratio of both ends, in absolute value.
    """
    p = parameters
    if p.part == "wide":
        (width,) = p.wide
        shapes = [(p.features, *(width,) * hidden, p.classes) for hidden in p.few]
    else:
        width = 2 ** p.powers[0]
        shapes = [(width,) * (2**k + 2) for k in p.curved]
    if p.part == "curved":
        kinds = {
            f"{row}, {name}": partial(_of_curved, LINEAR[CODE[row]], phi)
            for row in ROWS
            for name, phi in ACTIVATIONS.items()
        }
    else:
        kinds = {name: partial(_of_linear, make) for name, make in LINEAR.items()}
        kinds = {name: kinds[name] for name in CODE.values()} if p.part == "wide" else kinds
    arrays: dict[str, npt.ArrayLike] = {}
    for name, found in kinds.items():
        values = np.array([[found(widths, seed) for seed in p.seeds] for widths in shapes])
        arrays[name] = np.exp(np.log(np.abs(values[..., 0])).mean(axis=1))
        arrays[f"{name}, indefinite"] = (values[..., 0] < 0).any(axis=1)
        arrays[f"{name}, error"] = values[..., 1].max()
    return arrays


def _of_linear(make: Callable[..., LinearPCN], widths: tuple[int, ...], seed: int) -> tuple[float, float]:
    found = activity_hessian_extremes(make(widths, seed=seed))
    return found.condition_number, float(np.max(found.errors))


def _of_curved(
    make: Callable[..., LinearPCN], activation: Callable[..., Any], widths: tuple[int, ...], seed: int
) -> tuple[float, float]:
    """At the feedforward activities of one random example, whose target is at random too."""
    net = NonlinearPCN(make(widths, seed=seed), activation)
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((1, widths[0])), rng.standard_normal((1, widths[-1]))
    found = activity_hessian_extremes_nonlinear(net, feedforward(net, x).without_last(), x, y)
    return found.condition_number, float(np.max(found.errors))


COLUMNS = ("linear, variance 1/N", "linear, 1/3N", "tanh", "ReLU", "few outputs")


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """A row for each parameterisation; maps on one scale of colours, and curves of the wide networks."""
    p = parameters
    picture, grid = plt.subplots(len(ROWS), len(COLUMNS), figsize=(6.75, 4.4))
    norm = LogNorm(1, _largest(arrays))
    for axes, row in zip(grid, ROWS, strict=True):
        own = [name for name in LINEAR if name.rpartition(",")[0] == row]
        panels = [*own, *(None for _ in range(2 - len(own))), f"{row}, tanh", f"{row}, ReLU"]
        for panel, name in zip(axes, panels, strict=False):
            if name is None:
                panel.remove()
                continue
            part, powers = ("linear", p.powers) if name in LINEAR else ("curved", p.curved)
            mesh = _map(panel, np.stack([arrays[f"{part}-{k}"][name] for k in powers]), powers, norm)
            indefinite = np.stack([arrays[f"{part}-{k}"][f"{name}, indefinite"] for k in powers])
            panel.plot(*(np.argwhere(indefinite).T + 0.5), "x", color="white", markersize=4)
        _curves(axes[-1], arrays, CODE[row], p)
        axes[0].set_ylabel(f"{row.replace('mu', chr(0x3BC))}\nhidden layers $H$", fontsize=8)
    for panel, title in zip(grid[0], COLUMNS, strict=True):
        panel.set_title(title, fontsize=8)
    grid[-1, 0].set_title("linear, variance 1", fontsize=8)
    maps = [panel for row in grid for panel in row[:-1] if panel.get_figure() is not None]
    for panel in grid[-1]:
        panel.set_xlabel("width $N$", fontsize=8)
    picture.colorbar(mesh, ax=maps, location="bottom", shrink=0.6, aspect=40, label="condition number of $H_z$")
    return picture


def _largest(arrays: Mapping[str, Arrays]) -> float:
    beside = {"error", "indefinite"}
    tables = [a for unit in arrays.values() for name, a in unit.items() if name.rpartition(", ")[2] not in beside]
    return max(float(table.max()) for table in tables)


def _map(axes: Axes, values: npt.NDArray[np.float64], powers: tuple[int, ...], norm: LogNorm) -> QuadMesh:
    """Rows of `values` are widths."""
    mesh = axes.pcolormesh(values.T, norm=norm, cmap="cividis")
    ticks = range(0, len(powers), 2 if len(powers) > 4 else 1)
    labels = [str(2 ** powers[k]) for k in ticks]
    axes.set_xticks([k + 0.5 for k in ticks], labels, fontsize=7)
    axes.set_yticks([k + 0.5 for k in ticks], labels, fontsize=7)
    axes.set_aspect("equal")
    return mesh


def _curves(axes: Axes, arrays: Mapping[str, Arrays], name: str, p: Parameters) -> None:
    table = np.stack([arrays[f"wide-{width}"][name] for width in p.wide])
    for values, hidden, shade in zip(table.T, p.few, colour_sequence(len(p.few)), strict=True):
        axes.plot(p.wide, values, "o-", color=shade, markersize=2.5, linewidth=1.0, label=f"$H = {hidden}$")
    axes.set(xscale="log", yscale="log", ylim=(1, None))
    axes.set_xticks(p.wide, [str(width) for width in p.wide], fontsize=7)
    axes.tick_params(axis="y", labelsize=7)
    axes.minorticks_off()
    if name == CODE["SP"]:
        axes.set_ylim(1, 8 * table.max())
        axes.legend(fontsize=5.5, handlelength=1.0, columnspacing=0.8, ncols=len(p.few), loc="upper center")


def caption(parameters: Parameters) -> str:
    p = parameters
    top = 2 ** p.powers[-1]
    scaled = "" if top == 128 else " Scaled down from 128, and 1024 on the right."
    return (
        f"Condition number of the activity Hessian at initialisation over width N and hidden layers H up to {top}, "
        "inputs and outputs as wide as the hidden layers. SP with weights of variance 1/N, Gaussian, and of "
        "variance 1/3N, uniform in +-1/sqrt(fan-in) as in the published code; muPC has variance 1 and one map. "
        "tanh and ReLU: at the feedforward activities of a random example with a random target, up to "
        f"{2 ** p.curved[-1]}, SP with 1/3N. Right: {p.features} inputs and {p.classes} outputs, linear, SP with "
        f"1/3N. Crosses: the Hessian is not positive definite; there the ratio of both ends in absolute value. "
        f"Geometric means, number of draws: {len(p.seeds)}. After the maps of arXiv 2505.13124, figures 2 "
        f"and 4 and its appendix.{scaled}"
    )


DEFAULT = Parameters()
FIGURE = Figure(
    key="mupc/conditioning-map",
    title="Conditioning of inference",
    caption=caption,
    source="mupc-2025",
    claims=("mupc-2025/conditioning", "own/conditioning-with-skips", "own/conditioning-depends-on-init"),
    presets={
        "quick": replace(DEFAULT, powers=(1, 2), curved=(1,), wide=(4,), few=(1, 2), features=5, classes=3),
        "default": DEFAULT,
        "paper": replace(
            DEFAULT,
            powers=(1, 2, 3, 4, 5, 6, 7),
            curved=(1, 2, 3, 4, 5, 6),
            wide=(16, 32, 64, 128, 256, 512, 1024),
            few=(1, 2, 3, 4, 5, 6, 7, 8),
            seeds=(0, 1, 2),
        ),
    },
    units=units,
    data=data,
    draw=draw,
)
