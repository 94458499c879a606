r"""Training from near a saddle, by backpropagation (BP) and by predictive coding (PC): what the figures share.

One normalisation, that of the library: BP descends the loss and PC the energy, both 1/2 times the sum over outputs,
mean over the batch. The published code descends BP's squared error averaged over outputs too, which is 2/d_y times
that loss, and PC's energy summed over the batch, which is B times that energy; so a published learning rate is

    2 rate / d_y   for BP,        B rate   for PC,        which is  B d_y / 2  times as long a step.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import optax
from jaxtyping import Array
from matplotlib.axes import Axes

from pctheory import Layers, LinearPCN, equilibrium_and_gradient, nonlinear, weight_descent_by_rule
from pctheory.datasets import dataset, stacked_batches
from pctheory.figures import COLOURS, WIDTHS, Arrays
from pctheory.nonlinear import NonlinearPCN

Values = npt.NDArray[np.float64]
Batches = tuple[Values, Values]
Objective = Callable[[NonlinearPCN, Array, Array], Array]
Rule = Callable[[NonlinearPCN, Array, Array], tuple[Layers, Any]]

STYLES: dict[str, dict[str, Any]] = {
    "BP": {"color": COLOURS["loss"]},
    "PC": {"color": COLOURS["energy"]},
}

# of the published code, for each example
INFERENCE_RATE, INFERENCE_STEPS, INFERENCE_FLOOR = 0.1, 50, 0.025


# of the published image experiments; every data set has ten classes
RATE, BATCH, CLASSES = 1e-3, 64, 10


def identity(z: Array) -> Array:
    return z


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"linear": identity, "tanh": jnp.tanh, "relu": jax.nn.relu}
TITLES = {"linear": "linear", "tanh": "tanh", "relu": "ReLU"}
LINEAR_FIRST = tuple(TITLES)
DATA_TITLES = {"digits": "Digits", "mnist1d": "MNIST-1D", "mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}


def published_step(method: str, rate: float, batch: int, outputs: int) -> float:
    """The step on the library's loss or energy that the published code takes at this learning rate."""
    return {"BP": 2 * rate / outputs, "PC": rate * batch}[method]


def near_origin(widths: Sequence[int], std: float, rng: np.random.Generator) -> list[Values]:
    """Weights that are independent normal numbers of standard deviation `std`, W_1 first."""
    return [rng.normal(0.0, std, (above, below)) for below, above in pairwise(widths)]


def network(weights: Sequence[Values], activation: str) -> NonlinearPCN:
    return NonlinearPCN(LinearPCN(weights), ACTIVATIONS[activation])


def learning_rule(method: str, activation: str, objective: Objective, measured: Objective) -> Rule:
    """BP on `objective`, or PC: the exact equilibrium of a linear network, iterative inference of any other.

    Each records `measured` before its update, and the norm of its gradient.
    """
    if method == "BP":
        directed = _gradient_of(objective)
    else:
        directed = _at_equilibrium if activation == "linear" else _after_inference

    def rule(net: NonlinearPCN, x: Array, y: Array) -> tuple[Layers, dict[str, Array]]:
        direction = directed(net, x, y)
        return direction, {"loss": measured(net, x, y), "gradient_norm": norm(direction)}

    return rule


def norm(direction: Layers) -> Array:
    """The Euclidean norm of all entries together."""
    return jnp.sqrt(sum(jnp.sum(run**2) for run in direction.runs))


def _gradient_of(objective: Objective) -> Callable[[NonlinearPCN, Array, Array], Layers]:
    def gradient(net: NonlinearPCN, x: Array, y: Array) -> Layers:
        return jax.grad(lambda weights: objective(net.with_weights(weights), x, y))(net.weights)

    return gradient


def _at_equilibrium(net: NonlinearPCN, x: Array, y: Array) -> Layers:
    return equilibrium_and_gradient(net.linear, x, y)[1]


def _after_inference(net: NonlinearPCN, x: Array, y: Array) -> Layers:
    found = nonlinear.inference_by_halving(
        net, x, y, rate=INFERENCE_RATE, steps=INFERENCE_STEPS, floor=INFERENCE_FLOOR
    )
    return nonlinear.partial_weight_gradient(net, found.activities, x, y)


def training(
    rule: Rule, net: NonlinearPCN, batches: Batches, step: float, lengths: Sequence[int], until: float = 0.0
) -> tuple[list[NonlinearPCN], dict[str, Values]]:
    """Plain gradient descent in pieces of these `lengths`, ended by the first in which the loss came to `until`.

    Returns the network before each piece and after the last, and the records of all iterations. Batches start over
    with each piece.
    """
    nets, pieces = [net], []
    for length in lengths:
        last, records = weight_descent_by_rule(rule, nets[-1], batches, optax.sgd(step), steps=length)
        nets.append(last)
        pieces.append({name: np.asarray(values) for name, values in records.items()})
        if pieces[-1]["loss"].min() <= until:
            break
    return nets, {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def thinned(arrays: Mapping[str, Values], count: int) -> dict[str, Values]:
    """About `count` of the iterations, evenly spaced on a logarithmic axis, and which they are, from 1."""
    total = len(arrays["loss"])
    kept = np.unique(np.geomspace(1, total, count).round().astype(int))
    return {"iteration": kept.astype(float)} | {name: values[kept - 1] for name, values in arrays.items()}


@dataclass(frozen=True)
class Run:
    """One network trained on one data set. `step`: on the library's loss or energy."""

    data_set: str
    activation: str
    method: str
    step: float
    seed: int = 0

    @property
    def name(self) -> str:
        """What tells it from all other runs."""
        return f"{self.data_set}, {self.activation}, {self.method}, step {self.step:g}, seed {self.seed}"


@dataclass(frozen=True)
class Images:
    """Four hidden layers, weights of standard deviation `std`; W_{L-1} uniform in +-1/sqrt(width) if `usual_layer`.

    `batches` shuffled mini-batches are taken in turn, over and over.
    """

    runs: tuple[Run, ...]
    width: int
    std: float
    iterations: int
    batches: int = 200
    usual_layer: bool = False
    rate: float = RATE
    batch: int = BATCH

    def units(self) -> dict[str, "Images"]:
        """One for each run."""
        return {run.name: replace(self, runs=(run,)) for run in self.runs}

    def data_sets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(run.data_set for run in self.runs))


def image_runs(data_sets: Sequence[str], activations: Sequence[str]) -> tuple[Run, ...]:
    """For each: PC and BP with their published steps, and BP with PC's."""
    pc, bp = (published_step(method, RATE, BATCH, CLASSES) for method in ("PC", "BP"))
    return tuple(
        Run(name, activation, method, step)
        for name, activation in product(data_sets, activations)
        for method, step in (("PC", pc), ("BP", bp), ("BP", pc))
    )


def image_training(parameters: Images, data_dir: Path | None) -> dict[str, Values]:
    """Loss of each batch before its update, and norm of the gradient, of the one run in `parameters`."""
    p = parameters
    (run,) = p.runs
    count = min(p.batches, p.iterations)
    xs, ys = stacked_batches(dataset(run.data_set, data_dir=data_dir), p.batch, seed=run.seed, count=count)
    rng = np.random.default_rng(run.seed)
    weights = near_origin((xs.shape[-1], *[p.width] * 4, ys.shape[-1]), p.std, rng)
    if p.usual_layer:
        weights[-2] = rng.uniform(-1, 1, weights[-2].shape) / np.sqrt(p.width)
    rule = learning_rule(run.method, run.activation, nonlinear.loss, nonlinear.loss)
    _, records = training(rule, network(weights, run.activation), (xs, ys), run.step, [p.iterations])
    records["iteration"] = np.arange(1.0, p.iterations + 1)
    return records


def images_drawn(arrays: Mapping[str, Arrays], parameters: Images) -> matplotlib.figure.Figure:
    """A column for each data set and activation; loss and gradient norm as published, then with equal steps."""
    p = parameters
    columns = list(dict.fromkeys((run.data_set, run.activation) for run in p.runs))
    picture, grid = plt.subplots(
        4, len(columns), figsize=(WIDTHS["text"], 6.6), sharex=True, sharey="row", squeeze=False
    )
    common = published_step("PC", p.rate, p.batch, CLASSES)
    for run in p.runs:
        column = columns.index((run.data_set, run.activation))
        if run.method == "PC" or run.step != common:
            _pair(grid[:2, column], arrays[run.name], run.method, run.step / p.rate)
        if run.step == common:
            _pair(grid[2:, column], arrays[run.name], run.method, 1.0)
    for (name, activation), axes in zip(columns, grid[0], strict=True):
        axes.set_title(f"{DATA_TITLES[name]}, {TITLES[activation]}", loc="left")
    for row, text in enumerate(("as published", "as published", "equal steps", "equal steps")):
        grid[row, 0].set_ylabel(f"{('loss', 'gradient norm')[row % 2]},\n{text}")
    for axes in grid[1::2].flat:
        axes.set_yscale("log")
    for axes in grid[-1]:
        axes.set_xlabel("training iteration")
    picture.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return picture


def _pair(axes: npt.NDArray[Any], run: Arrays, method: str, scale: float) -> None:
    """Loss above, gradient norm below."""
    curve(axes[0], run, "loss", label=method, **STYLES[method])
    curve(axes[1], run, "gradient_norm", scale, **STYLES[method])


def images_scaled(parameters: Images, published: Images) -> str:
    """What is drawn, in which normalisation, and how it differs from the published experiment."""
    p = parameters
    pc, bp = (published_step(method, p.rate, p.batch, CLASSES) for method in ("PC", "BP"))
    text = (
        f"Networks of four hidden layers of width {p.width} without biases, plain SGD on batches of {p.batch} for "
        f"{p.iterations} iterations, over and over the same {p.batches}. "
        "Upper two rows, as published: at one "
        f"learning rate, {p.rate:g}, PC's gradient is a sum over the batch (with the 1/2), BP's that of an error "
        f"averaged over batch and outputs: PC's step is B d_y / 2 = {pc / bp:g} times longer ({pc:g} against "
        f"{bp:g} on loss and energy as means over the batch), and so are its gradients. Lower two rows: BP with "
        "PC's step; what is left is the landscape. The loss is half the squared error, summed over outputs. "
        "PC in the linear networks: the exact equilibrium; with tanh and ReLU real inference, "
        f"{INFERENCE_STEPS} steps of {INFERENCE_RATE:g} on each example's energy, halved whenever it does not "
        f"fall and over at {INFERENCE_FLOOR:g}. The activation acts before the weights here, "
        "z_l = W_l phi(z_{l-1}); in the published code after them, z_l = phi(W_l z_{l-1}), which makes the same "
        "loss but another energy. The published convolutional network on CIFAR-10 is left out: it needs a GPU. "
        "After the convergence figures of arXiv 2408.11979."
    )
    if p == published:
        return text + " The number of iterations is our choice."
    return text + (
        f" Scaled: published are width {published.width}, standard deviation {published.std:g} and other data "
        "(MNIST, Fashion-MNIST). A hidden layer scales its input by about std times the root of the width: "
        f"{published.std * published.width**0.5:.2f} there, {p.std * p.width**0.5:.2f} here."
    )


def curve(axes: Axes, run: Arrays, quantity: str, scale: float = 1.0, **style: Any) -> None:
    """One quantity of a run, times `scale`, against its iteration."""
    axes.plot(run["iteration"], scale * run[quantity], **({"linewidth": 1.1} | style))
