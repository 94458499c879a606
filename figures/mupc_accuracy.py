r"""How well residual networks of 8 to 128 hidden layers classify after one epoch: PC, muPC, BP with Depth-muP."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from figures._training import PUBLISHED_RATES, minibatches, networks, widths_of
from pctheory.datasets import dataset
from pctheory.dynamics import training_sweep
from pctheory.figures import COLOURS, THEORY_LINE, Arrays, Figure


@dataclass(frozen=True)
class Parameters:
    """Rates of Adam for each method: those tried, of which the best at each depth is shown."""

    hidden_layers: tuple[int, ...] = (8, 32, 128)
    activations: tuple[str, ...] = ("relu", "tanh")
    width: int = 32
    seeds: int = 3
    batch: int = 8
    data_set: str = "digits"
    mupc_rates: tuple[float, ...] = (0.1,)
    standard_rates: tuple[float, ...] = (0.0003, 0.003)
    backpropagation_rates: tuple[float, ...] = (0.01, 0.03, 0.1)


# method: (kind of network, its rates among the parameters, whether it infers)
METHODS = {
    "backpropagation": ("mupc", "backpropagation_rates", False),
    "mupc": ("mupc", "mupc_rates", True),
    "standard": ("standard", "standard_rates", True),
}


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """One unit per activation and depth."""
    return {
        f"{activation}-{hidden}": replace(parameters, activations=(activation,), hidden_layers=(hidden,))
        for activation in parameters.activations
        for hidden in parameters.hidden_layers
    }


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """Of each method: accuracy of every seed and rate, where it diverged, mean and deviation at its best rate.

    A run that diverged counts as chance.
    """
    p = parameters
    (activation,), (hidden,) = p.activations, p.hidden_layers
    examples = dataset(p.data_set, data_dir=data_dir)
    chance, seeds = 1 / examples.targets.shape[1], range(p.seeds)
    batches = minibatches(examples, p.batch, seeds)
    arrays: dict[str, npt.ArrayLike] = {"chance": chance}
    for method, (kind, rates, infers) in METHODS.items():
        nets = networks(kind, widths_of(examples, p.width, hidden), activation, seeds)
        found = training_sweep(
            nets,
            batches,
            rates=getattr(p, rates),
            inference_rates=[PUBLISHED_RATES[activation]] if infers else None,
            inference_steps=hidden if infers else None,
        )
        shape = (p.seeds, len(getattr(p, rates)))
        accuracy = np.asarray(found.accuracy(examples.test_inputs, examples.test_targets)).reshape(shape)
        diverged_at = np.asarray(found.diverged_at).reshape(shape)
        counted = np.where((diverged_at >= 0) | ~np.isfinite(accuracy), chance, accuracy)
        best = int(np.argmax(counted.mean(axis=0)))
        arrays |= {
            f"{method}_accuracy": counted,
            f"{method}_diverged_at": diverged_at,
            f"{method}_best_rate": getattr(p, rates)[best],
            f"{method}_best": counted[:, best],
            f"{method}_best_diverged": diverged_at[:, best] >= 0,
            f"{method}_mean": counted[:, best].mean(),
            f"{method}_deviation": counted[:, best].std(ddof=1) if p.seeds > 1 else 0.0,
        }
    return arrays


LABELS = {"backpropagation": "BP, Depth-$\\mu$P", "mupc": "$\\mu$PC", "standard": "PC, standard"}
LOOKS = {"backpropagation": ("loss", "s"), "mupc": ("energy", "o"), "standard": ("other", "^")}
NAMES = {"relu": "ReLU", "tanh": "tanh"}


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """A panel for each activation: mean accuracy with deviation, and each seed."""
    count = len(parameters.activations)
    picture, panels = plt.subplots(1, count, figsize=(3.4 * count, 2.6), sharey=True, squeeze=False)
    for axes, activation in zip(panels[0], parameters.activations, strict=True):
        found = [arrays[f"{activation}-{hidden}"] for hidden in parameters.hidden_layers]
        for method in METHODS:
            _curve(axes, method, found, parameters.hidden_layers)
        axes.axhline(100 * found[0]["chance"], **THEORY_LINE)
        axes.text(parameters.hidden_layers[0], 100 * found[0]["chance"] + 1.5, "chance", fontsize=7)
        axes.set(title=NAMES[activation], xlabel="hidden layers $H$", xscale="log", ylim=(0, 100))
        axes.set_xticks(parameters.hidden_layers, [str(hidden) for hidden in parameters.hidden_layers])
        axes.minorticks_off()
    panels[0, 0].set_ylabel("test accuracy (%)")
    panels[0, 0].legend(loc="lower left", bbox_to_anchor=(0.0, 0.12))
    return picture


def _curve(axes: Axes, method: str, found: list[Arrays], hidden_layers: tuple[int, ...]) -> None:
    concept, marker = LOOKS[method]
    colour = COLOURS[concept]
    means, spreads = ([100 * a[f"{method}_{part}"] for a in found] for part in ("mean", "deviation"))
    axes.errorbar(hidden_layers, means, spreads, color=colour, marker=marker, capsize=2, label=LABELS[method])
    for hidden, a in zip(hidden_layers, found, strict=True):
        values, diverged = 100 * a[f"{method}_best"], a[f"{method}_best_diverged"].astype(bool)
        for kept, dot in ((~diverged, "."), (diverged, "x")):
            axes.plot(np.full(kept.sum(), hidden), values[kept], dot, color=colour, markersize=3, alpha=0.6)


def caption(parameters: Parameters) -> str:
    p = parameters
    rates = {
        method: ", ".join(f"{rate:g}" for rate in getattr(p, names)) for method, (_, names, _) in METHODS.items()
    }
    return (
        f"Test accuracy after one epoch of {p.data_set} in batches of {p.batch}, residual networks of width "
        f"{p.width}; mean and standard deviation over {p.seeds} seeds, dots: each. PC and muPC: T = H steps of "
        "gradient descent on the activities at the published rates, 0.5 (ReLU) and 1 (tanh) for the mean energy of "
        "batches of 64, which is 1/128 and 1/64 of each example; then Adam on the weights. Rates of Adam, the best "
        f"at each depth is shown: muPC {rates['mupc']} (the published one is 0.1), PC in standard parameterisation "
        f"{rates['standard']} (weights uniform in +-1/sqrt(N), with skips), BP on the muPC network "
        f"{rates['backpropagation']}. Runs that diverged count as chance (crosses). After figures 1 and A.16 of "
        "arXiv 2505.13124, which have width 512 and batches of 64 of MNIST."
        + (" Smaller batches make up for fewer examples: with 64 it is 22 steps." if p.data_set == "digits" else "")
    )


DEFAULT = Parameters()
FIGURE = Figure(
    key="mupc/accuracy",
    title="Accuracy of deep residual networks",
    caption=caption,
    source="mupc-2025",
    presets={
        "quick": replace(
            DEFAULT,
            hidden_layers=(4,),
            activations=("tanh",),
            width=16,
            seeds=2,
            standard_rates=(0.003,),
            backpropagation_rates=(0.03,),
        ),
        "default": DEFAULT,
        "paper": replace(
            DEFAULT,
            hidden_layers=(8, 16, 32, 64, 128),
            width=512,
            batch=64,
            data_set="mnist",
            standard_rates=(0.0001, 0.0003, 0.001, 0.003),
        ),
    },
    units=units,
    data=data,
    draw=draw,
    data_sets=lambda parameters: (parameters.data_set,),
)
