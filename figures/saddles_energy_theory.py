r"""The energy that inference reaches while a network learns, with the theory over it.

Real predictive coding: at each iteration the hidden activities follow the gradient flow of the energy, solved
numerically, and the weights take PC's local gradient at what was reached. Theory enters nowhere in the run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import optax
from jaxtyping import Array
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullFormatter

from pctheory import Layers, LinearPCN, equilibrated_energy, loss, partial_weight_gradient, standard
from pctheory.datasets import dataset, stacked_batches
from pctheory.dynamics import inference_flow, weight_descent_by_rule
from pctheory.figures import COLOURS, THEORY_LINE, WIDTHS, Arrays, Figure, colour_sequence

TITLES = {
    "digits": "Digits",
    "mnist1d": "MNIST-1D",
    "mnist": "MNIST",
    "fashion-mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
}


@dataclass(frozen=True)
class Parameters:
    """Networks of `hidden_layers` hidden layers on each data set; inference runs to time `duration`."""

    data_sets: tuple[str, ...]
    width: int
    iterations: int
    duration: float
    hidden_layers: tuple[int, ...] = (2, 5, 10)
    batch: int = 64
    rate: float = 1e-3
    tolerance: float = 1e-5
    seed: int = 0


def units(parameters: Parameters) -> dict[str, Parameters]:
    """One for each data set and depth, the longest first: shorter ones fill what time is left at the end."""
    return {
        _unit(name, depth): replace(parameters, data_sets=(name,), hidden_layers=(depth,))
        for depth, name in product(sorted(parameters.hidden_layers, reverse=True), parameters.data_sets)
    }


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.NDArray[np.float64]]:
    """Each iteration's batch before its update: energies, loss, how far inference came and what it cost."""
    p = parameters
    (name,), (depth,) = p.data_sets, p.hidden_layers
    examples = dataset(name, data_dir=data_dir)
    xs, ys = stacked_batches(examples, p.batch, seed=p.seed, count=p.iterations)
    widths = (xs.shape[-1], *[p.width] * depth, ys.shape[-1])
    net = standard(widths, seed=p.seed, initialisation="uniform", variance=1 / 3)

    def predictive_coding(net: LinearPCN, x: Array, y: Array) -> tuple[Layers, dict[str, Array]]:
        flow = inference_flow(
            net, x, y, duration=p.duration, relative_tolerance=p.tolerance, absolute_tolerance=p.tolerance
        )
        record = {
            "inferred": flow.energy,
            "theory": equilibrated_energy(net, x, y),
            "loss": loss(net, x, y),
            "stationarity": flow.stationarity,
            "solver_steps": flow.steps,
        }
        return partial_weight_gradient(net, flow.activities, x, y), record

    _, records = weight_descent_by_rule(predictive_coding, net, (xs, ys), optax.adam(p.rate))
    arrays = {key: np.asarray(values, dtype=float) for key, values in records.items()}
    arrays["relative_difference"] = np.abs(arrays["inferred"] / arrays["theory"] - 1)
    arrays["rescaling"] = arrays["loss"] / arrays["theory"]
    return arrays


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """A row of energies for each data set, a column for each depth; the effective rescaling below."""
    p = parameters
    rows, columns = len(p.data_sets), len(p.hidden_layers)
    picture, grid = plt.subplots(
        rows + 1,
        columns,
        figsize=(WIDTHS["text"], 1.5 * rows + 1.6),
        height_ratios=[1.0] * rows + [0.75],
        sharex=True,
        sharey="row",
        squeeze=False,
    )
    for (i, name), (j, depth) in product(enumerate(p.data_sets), enumerate(p.hidden_layers)):
        _energies(grid[i, j], arrays[_unit(name, depth)])
    shades = colour_sequence(rows, "other")
    for (j, depth), (name, shade) in product(enumerate(p.hidden_layers), zip(p.data_sets, shades, strict=True)):
        values = arrays[_unit(name, depth)]["rescaling"]
        grid[-1, j].plot(_iterations(values), values, color=shade, label=TITLES[name], linewidth=1.1)
    for j, depth in enumerate(p.hidden_layers):
        grid[0, j].set_title(f"$H = {depth}$", loc="left")
        grid[-1, j].set_xlabel("training iteration")
        grid[-1, j].xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    for i, name in enumerate(p.data_sets):
        grid[i, 0].set_ylabel(f"{TITLES[name]}\nenergy per example")
        _log_scale(grid[i, 0], 0.1, 1)
    grid[-1, 0].set_ylabel(r"$s = \mathcal{L}\,/\,\mathcal{F}^*$")
    _log_scale(grid[-1, 0], 1, 10)
    if rows > 1:
        grid[-1, 0].legend(loc="upper left", handlelength=1.2)
    picture.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return picture


def _energies(axes: Axes, unit: Arrays) -> None:
    iterations = _iterations(unit["inferred"])
    axes.plot(
        iterations, unit["loss"], color=COLOURS["loss"], linewidth=0.8, alpha=0.6, label=r"loss $\mathcal{L}$"
    )
    axes.plot(
        iterations, unit["inferred"], color=COLOURS["energy"], linewidth=2.4, label="energy reached by inference"
    )
    axes.plot(iterations, unit["theory"], **THEORY_LINE, label=r"theory, $\mathcal{F}^*$")
    worst = unit["relative_difference"].max()
    axes.set_title(f"max. relative difference {_scientific(worst)}", loc="right", fontsize=7)


def _log_scale(axes: Axes, low: float, high: float) -> None:
    """Logarithmic, showing at least the decade from `low` to `high`, so that its ends are labelled."""
    axes.set_yscale("log")
    axes.yaxis.set_minor_formatter(NullFormatter())
    bottom, top = axes.get_ylim()
    axes.set_ylim(min(bottom, low), max(top, high))


def _iterations(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    return np.arange(1, len(values) + 1)


def _unit(name: str, depth: int) -> str:
    return f"{name}, H = {depth}"


def _scientific(value: float) -> str:
    mantissa, exponent = f"{value:.0e}".split("e")
    return rf"${mantissa} \times 10^{{{int(exponent)}}}$"


def caption(parameters: Parameters) -> str:
    """What is drawn at these parameters, and how it relates to the published figure."""
    p = parameters
    return (
        "The equilibrated energy of the theory (dashes) over the energy that numerical inference reaches "
        "(blue), on each training batch before its update; the loss of the same batch (orange), and how much "
        f"larger it is, s = loss / F* (bottom). Linear networks of width {p.width} with H hidden layers; Adam "
        f"(rate {p.rate:g}), batches of {p.batch}, {p.iterations} iterations along PC's local gradient at the "
        "activities that inference reached: gradient flow of each example's energy from the feedforward "
        f"activities, by Heun's method with adaptive steps (relative and absolute tolerance {p.tolerance:g}) "
        f"to t = {p.duration:g}. Theory enters nowhere in the run. Each panel gives the largest relative "
        "difference between the two curves over all iterations; the solver's tolerance sets it, and it grows "
        "where F* becomes small. Corresponds to the figure of theoretical and numerical energies of arXiv "
        f"2408.11979. {_scaled(p)} Weights start uniform in +-1/sqrt(fan-in), as the papers' code draws them; "
        "the solver's tolerance is our choice. The loss and s are not in the published figure: where s grows "
        "faster than the loss falls, the energy falls by the growth of the maps from hidden layers to the "
        "output more than by a better fit."
    )


def _scaled(parameters: Parameters) -> str:
    published = FIGURE.presets["paper"]
    if parameters == published:
        return "The sizes are the published ones."
    others = parameters.data_sets != published.data_sets
    return (
        f"Scaled: the published runs have width {published.width}, t = {published.duration:g} and "
        f"{published.iterations} iterations{', on other data' if others else ''}."
    )


FIGURE = Figure(
    key="saddles/energy-theory",
    title="The equilibrated energy: theory and inference",
    caption=caption,
    source="saddles-2024",
    claims=("saddles-2024/equilibrated-energy", "saddles-2024/energy-below-loss"),
    presets={
        "quick": Parameters(("digits",), width=20, iterations=20, duration=100.0, hidden_layers=(2, 5)),
        "default": Parameters(("digits", "mnist1d"), width=64, iterations=100, duration=100.0),
        "paper": Parameters(("mnist", "fashion-mnist", "cifar10"), width=300, iterations=100, duration=300.0),
    },
    units=units,
    data=data,
    draw=draw,
    data_sets=lambda parameters: parameters.data_sets,
)
