r"""The conditioning of inference while training, and the test accuracy beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt

from figures._learning import accuracy, energies_rule, minibatches, trained
from figures._learning import hidden as widths_of
from pctheory.arrays import entry
from pctheory.conditioning import activity_hessian_extremes
from pctheory.datasets import dataset
from pctheory.figures import Arrays, Figure, colour_sequence

TITLES = {
    "mupc": "muPC, skips",
    "standard": "SP, skips, $1/N$",
    "plain": "SP, no skips, $1/N$",
    "small": "SP, no skips, $1/3N$",
}


@dataclass(frozen=True)
class Parameters:
    """`times`: after how many updates. `rates`: of Adam for each kind of network."""

    hidden: tuple[int, ...] = (8, 16, 32)
    width: int = 64
    times: tuple[int, ...] = (0, 1, 2, 5, 10, 20, 50, 100, 200)
    rates: tuple[float, ...] = (0.1, 1e-3, 1e-3, 1e-3)
    batch: int = 64
    data_set: str = "digits"


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """One unit per depth."""
    return {f"hidden-{h}": replace(parameters, hidden=(h,)) for h in parameters.hidden}


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """Extreme eigenvalues of H_z with a bound on their relative errors, and test accuracy, of (kind, time)."""
    p = parameters
    batched = minibatches(p.data_set, max(p.times), p.batch, 0, data_dir)
    test = dataset(p.data_set, data_dir=data_dir)
    widths = widths_of(batched, p.width, p.hidden[0])
    run = trained(widths, batched, p.rates, seeds=1, kinds=tuple(TITLES), at=p.times, rule=energies_rule)
    rows = []
    for k in range(len(TITLES)):
        kept = jax.tree.map(lambda leaf, k=k: entry(leaf, (k, 0)), run.snapshots)
        extremes = [activity_hessian_extremes(net) for net in kept]
        shares = [accuracy(net, test.test_inputs, test.test_targets) for net in kept]
        rows.append(
            [(e.smallest, e.largest, np.max(e.errors), share) for e, share in zip(extremes, shares, strict=True)]
        )
    smallest, largest, errors, shares = np.moveaxis(np.array(rows), 2, 0)
    return {
        "smallest": smallest,
        "largest": largest,
        "condition_number": largest / smallest,
        "error": errors,
        "accuracy": shares,
    }


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """Above the condition numbers, below the accuracies, one column for each kind of network."""
    p = parameters
    picture, rows = plt.subplots(2, len(TITLES), figsize=(6.75, 4.2), sharex=True, sharey="row")
    shades = colour_sequence(len(p.hidden))
    for k, title in enumerate(TITLES.values()):
        for (unit, a), shade in zip(arrays.items(), shades, strict=True):
            look = {"color": shade, "marker": "o", "markersize": 3, "label": unit.removeprefix("hidden-")}
            rows[0, k].plot(p.times, a["condition_number"][k], **look)
            rows[1, k].plot(p.times, 100 * a["accuracy"][k], **look)
        rows[0, k].set_title(title, fontsize=8)
        rows[0, k].set_yscale("log")
        rows[1, k].set(xlabel="updates $t$", ylim=(0, 100))
        rows[1, k].set_xscale("symlog", linthresh=1)
        rows[1, k].set_xticks([0, 1, 10, 100], labels=["0", "1", "10", "100"])
    rows[0, 0].set_ylabel(r"$\lambda_{\max} / \lambda_{\min}$ of $H_z$")
    rows[1, 0].set_ylabel("test accuracy (%)")
    rows[1, 1].legend(title="hidden layers $H$", fontsize=7, title_fontsize=7, loc="upper left")
    return picture


def caption(parameters: Parameters) -> str:
    p = parameters
    return (
        f"Linear networks with H hidden layers of width {p.width} on {p.data_set}, trained on F* (exact "
        f"inference) by Adam of rate {p.rates[0]:g} (muPC) and {p.rates[1]:g} (SP), batches of {p.batch}. SP "
        "with weights of variance 1/N, as in the papers' table, and of a third of it, as in their code. Above: "
        "condition number of the activity Hessian H_z from its extreme eigenvalues. Below: share of test images "
        "whose largest output is that of the target. Training raises the condition number of SP with the small "
        "variance, where it starts low, and lowers it or leaves it in all others. The condition number of muPC "
        "is small beside that of SP with skips. After a figure of arXiv 2505.13124 (SP, H = 8, 16, 32, N = 128, "
        "Adam of rate 1e-3, MNIST). Inference is exact here, so that the accuracy shows what F* teaches, not "
        "what slow inference does to it."
    )


DEFAULT = Parameters()
FIGURE = Figure(
    key="mupc/conditioning-in-training",
    title="Conditioning of inference while training",
    caption=caption,
    source="mupc-2025",
    claims=("mupc-2025/conditioning",),
    presets={
        "quick": replace(DEFAULT, hidden=(3,), width=8, times=(0, 5, 10)),
        "default": DEFAULT,
        "paper": replace(DEFAULT, width=128, times=(*DEFAULT.times, 200, 500, 900), data_set="mnist"),
    },
    units=units,
    data=data,
    draw=draw,
    data_sets=lambda parameters: (parameters.data_set,),
)
