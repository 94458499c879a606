r"""Loss over F* across widths and depths: at the start, with its closed form, and in training."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm

from figures._learning import PARAMETERISATIONS, energies_rule, ensembles, minibatches, trained
from figures._learning import hidden as widths_of
from pctheory.dynamics import divergence_step
from pctheory.figures import COLOUR_MAPS, COLOURS, Arrays, Figure
from pctheory.random_matrix import RandomChain
from pctheory.random_matrix.expectations import rescaling_moments

TITLES = {"mupc": "muPC", "standard": "SP"}
CELLS = matplotlib.colormaps[COLOUR_MAPS["values"]].with_extremes(bad=COLOURS["neutral"])
LARGEST = {"mupc": 1e3, "standard": 1e7}  # of the published colours, which start at 1


@dataclass(frozen=True)
class Parameters:
    """`times`: after how many updates. `draws`: networks for tr S at the start, of which the first are trained."""

    widths: tuple[int, ...] = (1, 4, 16, 64)
    hidden: tuple[int, ...] = (1, 4, 16, 64)
    times: tuple[int, ...] = (0, 5, 10, 50, 100, 200)
    rates: tuple[float, float] = (0.1, 1e-4)
    draws: int = 100
    seeds: int = 2
    batch: int = 64
    data_set: str = "digits"


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """One unit per width and depth."""
    p = parameters
    return {f"width-{n}-hidden-{h}": replace(p, widths=(n,), hidden=(h,)) for n in p.widths for h in p.hidden}


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    r"""Of one cell, for each parameterisation: E tr S / d_y, its mean over draws, and loss / F* at `times`.

    `standard_error`: of that mean, exact. `ratios` of (parameterisation, seed, time), `ratio` their geometric mean.
    """
    p = parameters
    batched = minibatches(p.data_set, max(p.times) + 1, p.batch, 0, data_dir)
    widths = widths_of(batched, p.widths[0], p.hidden[0])
    found = trained(widths, batched, p.rates, seeds=p.seeds, rule=energies_rule)
    chains = ensembles(found.net)
    moments = [rescaling_moments(chain) for chain in chains]
    losses, energies = (np.asarray(part)[:, :, list(p.times)] for part in found.records)
    return {
        "expected": [m.mean[-1] for m in moments],
        "standard_error": [np.sqrt(m.variance[-1] / p.draws) for m in moments],
        "drawn": [drawn_rescalings(chain, p.draws).mean() for chain in chains],
        "ratios": losses / energies,
        "ratio": np.exp(np.log(losses / energies).mean(axis=1)),
        "losses": losses,
        "diverged": jax.vmap(jax.vmap(divergence_step))(found.records),
    }


def drawn_rescalings(chain: RandomChain, draws: int) -> npt.NDArray[np.float64]:
    """tr S / d_y of networks drawn from `chain`, from the output down: tr S is the sum of |P_l|^2 / pi_l."""
    rng = np.random.default_rng(0)
    d_y = chain.widths[-1]
    p = np.broadcast_to(np.eye(d_y), (draws, d_y, d_y))
    total = np.full(draws, d_y / chain.precisions[-1])
    for l in range(chain.depth - 1, 0, -1):
        rows, columns = chain.widths[l + 1], chain.widths[l]
        weights = np.sqrt(chain.variances[l]) * rng.standard_normal((draws, rows, columns))
        p = p @ weights + (chain.skips[l] * p if chain.skips[l] else 0.0)
        total = total + np.sum(p**2, axis=(1, 2)) / chain.precisions[l - 1]
    return total / d_y


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """Two rows of maps for each parameterisation, from the closed form on the left to the last time."""
    p = parameters
    shape = len(p.widths), len(p.hidden)
    panels = ["expected", "drawn", *range(len(p.times))]
    columns = -(-len(panels) // 2)
    picture, rows = plt.subplots(4, columns, figsize=(6.75, 6.4), sharex=True, sharey=True)
    for k, name in enumerate(PARAMETERISATIONS):
        axes = rows[2 * k : 2 * k + 2]
        norm = LogNorm(1.0, LARGEST[name])
        for place, panel in zip(axes.flat, panels, strict=False):
            cells = [a["ratio"][k, panel] if isinstance(panel, int) else a[panel][k] for a in arrays.values()]
            _panel(place, np.reshape(cells, shape).T, norm)
            place.set_title(f"{TITLES[name]}, {_title(panel, p.times)}", fontsize=8)
        for spare in axes.flat[len(panels) :]:
            spare.set_visible(False)
        colours = ScalarMappable(norm, CELLS)
        bar = picture.colorbar(colours, ax=axes.ravel().tolist(), extend="max", aspect=30, pad=0.02)
        bar.set_label(rf"$\mathcal{{L}} / \mathcal{{F}}^*$ or $\mathrm{{tr}}\, S / d_y$, {TITLES[name]}")
    for place in rows[:, 0]:
        place.set(ylabel="hidden layers $H$", yticks=range(shape[1]), yticklabels=p.hidden)
    for place in rows[-1]:
        place.set(xlabel="width $N$", xticks=range(shape[0]), xticklabels=p.widths)
    return picture


def _title(panel: str | int, times: tuple[int, ...]) -> str:
    if isinstance(panel, int):
        return f"$t = {times[panel]}$"
    return {"expected": r"$\mathrm{E}\, \mathrm{tr}\, S / d_y$", "drawn": r"$\mathrm{tr}\, S / d_y$, drawn"}[panel]


def _panel(axes: Axes, values: npt.NDArray[np.float64], norm: LogNorm) -> None:
    """Cells of one map, grey where a run diverged; their values are written in where they are few."""
    axes.imshow(values, norm=norm, cmap=CELLS, origin="lower", aspect="auto")
    for (row, column), value in np.ndenumerate(values) if len(values) <= 4 else ():
        colour = "black" if np.isfinite(value) and norm(value) > 0.6 else "white"
        axes.text(column, row, _short(value), ha="center", va="center", fontsize=6, color=colour)


def _short(value: float) -> str:
    """Three digits, or a power of ten."""
    if not np.isfinite(value):
        return "diverged"
    if value < 999.5:
        return f"{value:.3g}"
    exponent = int(np.floor(np.log10(value)))
    return rf"${value / 10**exponent:.0f}\!\cdot\!10^{{{exponent}}}$"


def caption(parameters: Parameters) -> str:
    p = parameters
    return (
        f"Linear residual networks with H hidden layers of width N on {p.data_set}, trained on F* (exact "
        f"inference) by Adam of rate {p.rates[0]:g} (muPC, upper half) and {p.rates[1]:g} (SP with skips, "
        f"weights of variance 1/N, lower half), batches of {p.batch}. At the start E tr S / d_y is known in "
        "closed form: 1 + (L/N)((1 + 1/L)^(L-1) - 1) for muPC and 2^(L-1) for SP, with L = H + 1. Beside it the "
        f"mean over {p.draws} networks drawn: they agree up to the sampling error, which is large for SP with L "
        "> N, where rare networks carry the expectation. loss / F* after t updates (batch of that step, "
        f"geometric mean over {p.seeds} seeds; grey: diverged) is a mean of the eigenvalues of S, harmonic and "
        "weighted by the residual, so that it may differ from tr S / d_y where S is far from a multiple of the "
        "identity, above all for N < d_y. Training raises the ratio of muPC by orders of magnitude in deep "
        "networks, at equal L / N the more the deeper, and hardly in wide and shallow ones. For N < d_y it "
        "falls towards 1: the residual that is left lies where the last layer does not reach, and S has "
        "eigenvalue 1 there. After the maps of arXiv 2505.13124, with the same colours, 1 to 1e3 and "
        "to 1e7" + ("." if p == PAPER else "; there for N, H = 1, 2, 4 .. 64 on MNIST, up to t = 900.")
    )


DEFAULT = Parameters()
POWERS = tuple(2**k for k in range(7))
PAPER = replace(
    DEFAULT, widths=POWERS, hidden=POWERS, times=(0, 5, 10, 50, 100, 200, 450, 900), seeds=3, data_set="mnist"
)
FIGURE = Figure(
    key="mupc/energy-ratio-map",
    title="Loss over equilibrated energy, across widths and depths",
    caption=caption,
    source="mupc-2025",
    claims=("mupc-2025/limit-in-training", "mupc-2025/limit-to-loss"),
    presets={
        "quick": replace(DEFAULT, widths=(4,), hidden=(2,), times=(0, 5), draws=20, seeds=1),
        "default": DEFAULT,
        "paper": PAPER,
    },
    units=units,
    data=data,
    draw=draw,
    data_sets=lambda parameters: (parameters.data_set,),
    allow_nonfinite=True,
)
