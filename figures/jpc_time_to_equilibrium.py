r"""How long inference must run: the energy it reaches, against the closed form, and the accuracy of training."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import optax
from jaxtyping import Array

from pctheory import (
    LinearPCN,
    batches,
    dataset,
    equilibrated_energy,
    feedforward,
    inference_flow,
    partial_weight_gradient,
    standard,
)
from pctheory.figures import THEORY_LINE, Arrays, Figure, colour_sequence

Batch = tuple[Array, Array]


@dataclass(frozen=True)
class Parameters:
    """`times`: of the flow on the published energy. `rate`: of Adam on the weights, for this many `updates`.

    Accuracies are measured before the first and after every `stride` updates, on all test examples.
    """

    times: tuple[float, ...] = (10.0, 20.0, 50.0, 100.0, 200.0)
    width: int = 64
    hidden: int = 10
    updates: int = 100
    stride: int = 10
    rate: float = 1e-3
    examples: int = 64
    data_set: str = "digits"
    tolerance: float = 1e-3
    seed: int = 0

    @property
    def scale(self) -> float:
        """Time for each example's half squares, per time for a batch mean of whole squares."""
        return 2 / self.examples


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """One unit per inference time."""
    return {f"time-{time:g}": replace(parameters, times=(time,)) for time in parameters.times}


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """Energies reached and F* of the same weights and batches, and test accuracies, along training."""
    p = parameters
    given = dataset(p.data_set, data_dir=data_dir)
    widths = (given.inputs.shape[1], *(p.width,) * p.hidden, given.targets.shape[1])
    net = standard(widths, seed=p.seed, initialisation="uniform", variance=1 / 3)
    optimiser = optax.adam(p.rate)
    state, duration = optimiser.init(net.weights), jnp.asarray(p.times[0] * p.scale)
    energies, accuracies = [], [_accuracy(net, given.test_inputs, given.test_targets)]
    drawn = islice(batches(given, p.examples, seed=p.seed), p.updates)
    for update, batch in enumerate(drawn, start=1):
        x, y = (jnp.asarray(a) for a in batch)
        net, state, found = _updated(net, state, (x, y), duration, (optimiser, p.tolerance))
        energies.append(found)
        if update % p.stride == 0:
            accuracies.append(_accuracy(net, given.test_inputs, given.test_targets))
    reached, least = np.array(energies).T
    return {"reached": reached, "least": least, "excess": reached / least - 1, "accuracies": accuracies}


@eqx.filter_jit
def _updated(
    net: LinearPCN,
    state: optax.OptState,
    batch: Batch,
    duration: Array,
    how: tuple[optax.GradientTransformation, float],
) -> tuple[LinearPCN, optax.OptState, Array]:
    """One step of the optimiser by the local rule at the activities reached; their energy, and F*."""
    optimiser, tolerance = how
    flow = inference_flow(
        net, *batch, duration=duration, relative_tolerance=tolerance, absolute_tolerance=tolerance
    )
    gradient = partial_weight_gradient(net, flow.activities, *batch)
    changes, state = optimiser.update(gradient, state, net.weights)
    energies = jnp.stack([flow.energy, equilibrated_energy(net, *batch)])
    return net.with_weights(optax.apply_updates(net.weights, changes)), state, energies


@jax.jit
def _accuracy(net: LinearPCN, x: Array, y: Array) -> Array:
    """The share of examples whose largest output is that of their class."""
    return jnp.mean(jnp.argmax(feedforward(net, x)[-1], axis=1) == jnp.argmax(y, axis=1), dtype=float)


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """Energies with the closed form, what is missing to it, and accuracies."""
    p = parameters
    picture, (energies, excess, accuracies) = plt.subplots(1, 3, figsize=(6.75, 2.5))
    updates = range(1, p.updates + 1)
    for (name, a), shade in zip(arrays.items(), colour_sequence(len(arrays), "energy")[::-1], strict=True):
        label = f"$t = {name.removeprefix('time-')}$"
        energies.plot(updates, a["reached"], color=shade, linewidth=1.0, label=label)
        excess.plot(updates, a["excess"], color=shade, linewidth=1.0)
        accuracies.plot(range(0, p.updates + 1, p.stride), 100 * a["accuracies"], ".-", color=shade, label=label)
    last = list(arrays.values())[-1]
    energies.plot(updates, last["least"], **THEORY_LINE, label=r"$\mathcal{F}^*$, last $t$")
    energies.set(ylabel="energy of the batch", title="energy reached")
    excess.set(yscale="log", ylabel=r"$F_t \,/\, \mathcal{F}^* - 1$", title=r"above $\mathcal{F}^*$")
    accuracies.set(ylabel="test accuracy (%)", title="accuracy")
    for axes in (energies, excess, accuracies):
        axes.set_xlabel("update of the weights")
    energies.legend(fontsize=6.5)
    return picture


def caption(parameters: Parameters) -> str:
    p = parameters
    scaled = "" if p.width == 300 else f" Scaled down: width {p.width} for 300, {p.data_set} for MNIST."
    return (
        f"Training a linear network of {p.hidden} hidden layers of width {p.width} (SP, uniform initialisation) on "
        f"{p.data_set}, batches of {p.examples}, Adam with rate {p.rate:g}, by the local rule after a gradient "
        f"flow of time t on the activities (Heun's method, adaptive steps, tolerance {p.tolerance:g}). Left: the "
        "energy reached, and in dashes the closed form F* for the weights of the longest time. Middle: by how much "
        "the energy exceeds F* of the same weights and batch. Right: test accuracy. Times are those of the "
        "published flow, on a mean over the batch of whole squares: for each example's own half squares they are "
        f"2 t / {p.examples}, here {p.times[0] * p.scale:.2g} to {p.times[-1] * p.scale:.2g}.{scaled} After the "
        "figure on convergence to the theoretical energy of arXiv 2412.03676."
    )


DEFAULT = Parameters()
FIGURE = Figure(
    key="jpc/time-to-equilibrium",
    title="Time to equilibrium",
    caption=caption,
    source="jpc-2024",
    claims=("saddles-2024/equilibrated-energy", "mupc-2025/inference-strictly-convex"),
    presets={
        "quick": replace(DEFAULT, times=(10.0, 200.0), width=16, hidden=4, updates=20),
        "default": DEFAULT,
        "paper": replace(DEFAULT, width=300, data_set="mnist"),
    },
    units=units,
    data=data,
    draw=draw,
    data_sets=lambda parameters: (parameters.data_set,),
)
