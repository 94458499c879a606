"""What each reading of the weight gradient's decomposition misses, against the residual and the depth."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from jax.flatten_util import ravel_pytree
from matplotlib.axes import Axes

from figures._panels import Values
from pctheory import equilibrated_gradient, feedforward, nonlinear, standard, trust_region
from pctheory.figures import COLOURS, WIDTHS, Arrays, Figure, colour_sequence
from pctheory.nonlinear import NonlinearPCN

BLUES = colour_sequence(3, "energy")
# colour, marker and name of each reading, in the order of trust_region.READINGS
STYLES = {
    "total gradient": (COLOURS["loss"], "o", "total gradient"),
    "partial gradient": (COLOURS["other"], "s", "partial gradient"),
    "first order": (BLUES[2], "^", "first order"),
    "quadratic model": (BLUES[1], "D", "quadratic model"),
    "local rule": (BLUES[0], "v", "local rule after the step"),
}


@dataclass(frozen=True)
class Parameters:
    """`sizes`: range of residuals; `shown`: depth of the first two panels; `middle`: residual of the last."""

    hidden_layers: tuple[int, ...]
    networks: int = 6
    width: int = 6
    features: int = 4
    examples: int = 16
    sizes: tuple[float, float, int] = (0.01, 0.4, 7)
    shown: int = 2
    middle: float = 0.1
    seed: int = 0


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    return {_unit(hidden): replace(parameters, hidden_layers=(hidden,)) for hidden in parameters.hidden_layers}


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """Errors relative to the gradient: (networks, residuals, readings) for linear and tanh; fitted slopes."""
    p = parameters
    sizes = np.append(np.geomspace(*p.sizes), p.middle)
    arrays: dict[str, npt.ArrayLike] = {"sizes": sizes[:-1]}
    for kind in ("linear", "tanh"):
        errors = np.array([[_errors(kind, seed, size, p) for size in sizes] for seed in range(p.networks)])
        arrays |= {kind: errors[:, :-1], f"{kind}_middle": errors[:, -1]}
        low = slice(len(sizes) // 2)
        arrays[f"{kind}_slopes"] = np.array(
            [
                [np.polyfit(np.log(sizes[low]), np.log(line[low]), 1)[0] for line in network.T]
                for network in np.maximum(errors, np.finfo(float).tiny)
            ]
        )
    return arrays


def _errors(kind: str, seed: int, size: float, p: Parameters) -> list[float]:
    """|reading - dF*/dtheta| / |dF*/dtheta| with targets off the outputs by random vectors of this size."""
    (hidden,) = p.hidden_layers
    rng = np.random.default_rng([p.seed, seed])
    linear = standard((p.features, *(p.width,) * hidden, p.features), seed=100 * p.seed + seed)
    x, offset = rng.standard_normal((2, p.examples, p.features))
    tanh = NonlinearPCN(linear, jnp.tanh)
    if kind == "linear":
        y = np.asarray(feedforward(linear, x)[-1]) + size * offset
        gradient, found = equilibrated_gradient(linear, x, y), trust_region.gradient_decomposition(linear, x, y)
    else:
        y = np.asarray(nonlinear.feedforward(tanh, x)[-1]) + size * offset
        end = nonlinear.inference_to_stationarity(tanh, x, y).activities
        gradient = nonlinear.partial_weight_gradient(tanh, end, x, y)
        found = trust_region.gradient_decomposition(tanh, x, y)
    wanted, _ = ravel_pytree(gradient)
    return [float(jnp.linalg.norm(r - wanted) / jnp.linalg.norm(wanted)) for r in found.readings.values()]


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """Against the residual, linear and tanh; against the depth, tanh."""
    p = parameters
    picture, grid = plt.subplots(1, 3, figsize=(WIDTHS["text"], 2.7), width_ratios=(1, 1, 0.9))
    shown = arrays[_unit(p.shown)]
    for axes, kind in zip(grid, ("linear", "tanh"), strict=False):
        for i, reading in enumerate(STYLES):
            _line(axes, shown["sizes"], shown[kind][..., i], reading)
        _slopes(axes, shown[f"{kind}_slopes"].mean(axis=0), count=3 if kind == "linear" else 5)
        axes.set(title=f"{kind}, $H = {p.shown}$", xlabel="size of the residual", xscale="log", yscale="log")
    middle = np.stack([arrays[_unit(hidden)]["tanh_middle"] for hidden in p.hidden_layers], axis=1)
    for i, reading in enumerate(STYLES):
        _line(grid[2], np.array(p.hidden_layers), middle[..., i], reading)
    grid[2].set(title=f"tanh, residual {p.middle:g}", xlabel="hidden layers $H$", yscale="log")
    grid[2].set_xscale("log", base=2)
    grid[2].set_xticks(p.hidden_layers, [str(hidden) for hidden in p.hidden_layers])
    grid[0].set_ylabel("error / gradient")
    grid[1].set_ylim(grid[2].get_ylim()[0] / 30, None)
    handles, labels = grid[2].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside lower center", ncols=5, columnspacing=1.0, handletextpad=0.3)
    return picture


def _line(axes: Axes, places: Values, errors: Values, reading: str) -> None:
    """Median over the networks, and their range."""
    colour, marker, label = STYLES[reading]
    axes.plot(
        places, np.median(errors, axis=0), marker=marker, markersize=3, linewidth=1, color=colour, label=label
    )
    axes.fill_between(places, errors.min(axis=0), errors.max(axis=0), color=colour, alpha=0.15, linewidth=0)


def _slopes(axes: Axes, slopes: Values, count: int) -> None:
    """Those of the first `count` readings, below each other in their colours; the others are rounding."""
    label: dict[str, Any] = {"transform": axes.transAxes, "ha": "right", "fontsize": 8}
    axes.text(0.98, 0.42, "slope", **label)
    for i, (colour, *_) in enumerate(list(STYLES.values())[:count]):
        axes.text(0.98, 0.34 - 0.075 * i, f"{slopes[i]:z.2f}", color=colour, **label)


def _unit(hidden_layers: int) -> str:
    return f"H = {hidden_layers}"


def caption(parameters: Parameters) -> str:
    p = parameters
    return (
        'How far each reading of "the gradient of PC is a trust-region term plus the gradient of the loss" is '
        "from the gradient of PC, relative to it: with the total gradient of the loss; with the partial gradient "
        "of the energy at the feedforward activities h; to first order in the inference step D = -I^-1 g; as the "
        "gradient of F(h) - (1/2) g^T I^-1 g; as the local rule at h + D. Targets are the outputs plus random "
        f"vectors of the given size per coordinate. Median and range over {p.networks} random networks (standard "
        f"parameterisation, width {p.width}, {p.features} inputs and outputs, {p.examples} examples). Slopes are "
        "fitted over the lower half of the residuals: 0 means wrong to the order of the gradient itself, 1 an "
        "error of second order in the residual. In linear networks the last two readings are exact to rounding. "
        "Not in the paper."
    )


DEFAULT = Parameters(hidden_layers=(1, 2, 4, 8, 16))
FIGURE = Figure(
    key="trust-region/decomposition-error",
    title="Readings of the gradient's decomposition",
    caption=caption,
    source="trust-region-2023",
    claims=("trust-region-2023/weight-gradient",),
    presets={
        "quick": replace(DEFAULT, hidden_layers=(2,), networks=2, sizes=(0.01, 0.4, 4)),
        "default": DEFAULT,
        "paper": DEFAULT,
    },
    units=units,
    data=data,
    draw=draw,
)
