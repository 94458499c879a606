r"""Data that no linear map fits: training on the equilibrated energy goes on for ever."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import optax
from jaxtyping import Array
from matplotlib.axes import Axes

from pctheory import LinearPCN, equilibrated_energy, loss
from pctheory.dynamics import weight_descent
from pctheory.figures import COLOURS, THEORY_LINE, Arrays, Figure, colour_sequence

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """Widths N_0..N_L, and the standard deviation of the noise of each output."""

    name: str
    title: str
    widths: tuple[int, ...]
    noise: tuple[float, ...]


@dataclass(frozen=True)
class Parameters:
    """`shown`: how many of the `steps` are drawn, evenly spaced in their logarithm. The last model is wide."""

    models: tuple[Model, ...]
    steps: int = 100_000
    rate: float = 0.1
    shown: int = 240
    examples: int = 40
    seed: int = 0


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """One unit per network."""
    return {model.name: replace(parameters, models=(model,)) for model in parameters.models}


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """Loss, F*, weight norms and the law of s, at times rate * step."""
    (model,) = parameters.models
    p = parameters
    x, y = _noisy_batch(model, p)
    optimiser = optax.sgd(p.rate)
    batch = jnp.asarray(x)[None], jnp.asarray(y)[None]
    _, records = weight_descent(
        equilibrated_energy, _start(model, p), batch, optimiser, record=_record, steps=p.steps + 1
    )
    steps = np.unique(np.geomspace(1, p.steps, p.shown).round().astype(int))
    losses, energies, norms = (np.asarray(part)[steps] for part in records)
    unfitted = _unfitted(x, y)
    return {
        "times": p.rate * steps,
        "losses": losses,
        "energies": energies,
        "norms": norms,
        "law": rescaling_law(p.rate * steps, np.linalg.eigvalsh(unfitted), len(model.widths) - 1),
        "least_loss": np.trace(unfitted) / 2,
        "critical_energy": np.trace(y.T @ y) / len(y) / 2,
    }


def _noisy_batch(model: Model, p: Parameters) -> tuple[Values, Values]:
    """x ~ N(0, 1), y = B x + noise, with B of about orthonormal columns."""
    rng = np.random.default_rng(p.seed)
    inputs, outputs = model.widths[0], model.widths[-1]
    x = rng.standard_normal((p.examples, inputs))
    y = x @ rng.standard_normal((inputs, outputs)) / np.sqrt(inputs)
    return x, y + rng.standard_normal(y.shape) * np.array(model.noise)


def _start(model: Model, p: Parameters) -> LinearPCN:
    """Chains start with all weights 0.7, wide networks with normal weights of variance 1 / N_{l-1}."""
    rng = np.random.default_rng([p.seed, len(model.widths)])
    shapes = list(zip(model.widths[1:], model.widths[:-1], strict=True))
    if max(model.widths) == 1:
        return LinearPCN([np.full(shape, 0.7) for shape in shapes])
    return LinearPCN([rng.standard_normal(shape) / np.sqrt(shape[1]) for shape in shapes])


def _record(net: LinearPCN, x: Array, y: Array) -> tuple[Array, Array, Array]:
    norms = jnp.stack([jnp.linalg.norm(w) for w in net.weights])
    return loss(net, x, y), equilibrated_energy(net, x, y), norms


def _unfitted(x: Values, y: Values) -> Values:
    """R, the second moment of what the least-squares fit leaves."""
    left = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return left.T @ left / len(x)


def rescaling_law(times: Values, unfitted: npt.NDArray[Any], depth: int) -> Values:
    r"""s = loss / F* at late times of gradient flow, for the eigenvalues R_i of `unfitted`:

        s_i = (2 L R_i t)^((L-1)/L),    s = sum_i R_i / sum_i (R_i / s_i)

    Along output direction i, once the map is fitted, F* = sum_i R_i / (2 s_i). All layers but the first grow alike,
    s_i = w^(2(L-1)), and dw/dt = -dF*/dw_l for each of them gives d(w^2)/dt = 2 R_i / w^(2(L-1)).
    """
    rescalings = (2 * depth * np.outer(times, unfitted)) ** ((depth - 1) / depth)
    return unfitted.sum() / (unfitted / rescalings).sum(axis=1)


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """s of every network with its law; loss and energy of the wide one; the weights of the last chain."""
    picture, (left, middle, right) = plt.subplots(1, 3, figsize=(6.75, 2.5))
    colours = [*colour_sequence(len(parameters.models) - 1, "energy"), COLOURS["other"]]
    for model, colour in zip(parameters.models, colours, strict=True):
        a = arrays[model.name]
        left.plot(a["times"], a["losses"] / a["energies"], color=colour, label=model.title)
        (law,) = left.plot(a["times"], a["law"], **THEORY_LINE)
    law.set_label("law")
    left.set(xscale="log", yscale="log", ylabel=r"$s = \mathcal{L} / \mathcal{F}^*$", title="rescaling")
    left.set_ylim(0.9, None)
    left.legend(fontsize=7)
    *_, chain, wide = parameters.models
    _losses(middle, arrays[wide.name])
    middle.set_title(wide.title)
    times, norms = arrays[chain.name]["times"], arrays[chain.name]["norms"].T
    for l, (size, shade) in enumerate(zip(norms, colour_sequence(len(norms)), strict=True), start=1):
        right.plot(times, size, color=shade, label=f"$w_{l}$")
    right.set(xscale="log", yscale="log", ylabel="size of the weight", title=chain.title)
    right.legend(fontsize=7)
    for axes in (left, middle, right):
        axes.set(xlabel="time (rate × steps)", xlim=(times[0], times[-1]))
    return picture


def _losses(axes: Axes, a: Arrays) -> None:
    """Where they go, and where they would have to stay at a minimum or another critical point of F*."""
    axes.plot(a["times"], a["losses"], color=COLOURS["loss"], label=r"loss $\mathcal{L}$")
    axes.plot(a["times"], a["energies"], color=COLOURS["energy"], label=r"$\mathcal{F}^*$")
    axes.plot(a["times"], a["losses"][-1] / a["law"], **THEORY_LINE)
    axes.axhline(float(a["least_loss"]), color=COLOURS["minimum"], linewidth=0.9, linestyle=":", label="least loss")
    axes.axhline(
        float(a["critical_energy"]), color=COLOURS["saddle"], linewidth=0.9, linestyle="-.", label="critical points"
    )
    axes.set(xscale="log", yscale="log", ylabel="value")
    axes.set_ylim(float(a["energies"].min()) / 2, 4 * float(a["critical_energy"]))
    axes.legend(fontsize=7, loc="lower left")


def caption(parameters: Parameters) -> str:
    p = parameters
    *_, chain, wide = p.models
    return (
        f"Gradient descent on F* for {p.steps} steps of rate {p.rate} on {p.examples} samples y = B x + noise "
        "that no linear map fits. The least-squares fit leaves a positive definite moment R, so every critical "
        "point of F* has W_L = 0 and F* = tr(Sigma_yy) / 2, and there is no minimum: the weights fit the data "
        "(the loss comes to its least value, tr(R) / 2), and then all layers but the first grow, which takes F* "
        "towards 0. Left: s = loss / F* for chains of single units from equal weights and for a network of "
        f"widths {'-'.join(map(str, wide.widths))}. Dashes: s = sum R_i / sum(R_i / s_i), s_i = (2 L R_i "
        "t)^((L-1)/L), with the eigenvalues R_i of R, derived for layers that grow alike and met at late times. "
        "Middle: loss and F* of the wide network, with the least loss and the value of F* at its critical "
        f"points. Right: the weights of the chain with L = {len(chain.widths) - 1}; w_1 changes its sign once, "
        "and later shrinks, so that the product stays. Not in the papers."
    )


CHAINS = tuple(Model(f"chain-{depth}", f"chain, $L = {depth}$", (1,) * (depth + 1), (0.6,)) for depth in (2, 3, 5))
WIDE = Model("wide", "wide, $L = 3$", (4, 8, 8, 3), (0.3, 0.6, 1.0))
DEFAULT = Parameters(models=(*CHAINS, WIDE))
FIGURE = Figure(
    key="saddles/no-minimiser",
    title="On noisy data the equilibrated energy has no minimum",
    caption=caption,
    source="own",
    claims=("own/noisy-data",),
    presets={
        "quick": replace(DEFAULT, models=(CHAINS[1], WIDE), steps=20_000),
        "default": DEFAULT,
        "paper": replace(DEFAULT, steps=1_000_000),
    },
    units=units,
    data=data,
    draw=draw,
)
