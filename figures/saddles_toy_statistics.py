r"""Training of the three toy networks from near the origin: training and test loss, size of the gradient."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import jax.numpy as jnp
import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import optax
from jaxtyping import Array, ArrayLike
from matplotlib.axes import Axes

from figures._planes import OBJECTIVES
from figures.saddles_toy_models import AS_PUBLISHED, LABELS, ONE_UNIT, TWO_UNITS, WIDE, Model
from pctheory import LinearPCN, loss, weight_descent, weight_gradient
from pctheory.datasets import toy_regression
from pctheory.dynamics import Objective
from pctheory.figures import COLOURS, WIDTHS, Arrays, Figure

ROWS = {"training": "training loss", "test": "test loss", "gradient": "size of the gradient"}


@dataclass(frozen=True)
class Parameters:
    """`runs` of each network from weights of standard deviation `std`, on `examples` fresh in every step."""

    models: tuple[Model, ...]
    runs: int = 5
    std: float = 0.05
    examples: int = 64
    seed: int = 0


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """One unit per network."""
    return {model.name: replace(parameters, models=(model,)) for model in parameters.models}


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """{objective}_{row}, before each step, a row for each run. Both objectives start from the same weights."""
    p = parameters
    (model,) = p.models
    test = toy_regression(p.examples, seed=p.seed, features=model.widths[0])
    optimiser = optax.sgd(model.rate)
    records = {name: partial(_recorded, objective, test) for name, objective in OBJECTIVES.items()}
    runs: dict[str, list[npt.ArrayLike]] = {f"{name}_{row}": [] for name in OBJECTIVES for row in ROWS}
    for run in range(p.runs):
        rng = np.random.default_rng([p.seed, run])
        start = LinearPCN([rng.normal(0.0, p.std, (above, below)) for below, above in pairwise(model.widths)])
        x, y = toy_regression(model.steps * p.examples, seed=1 + p.seed + run, features=model.widths[0])
        batches = x.reshape(model.steps, p.examples, -1), y.reshape(model.steps, p.examples, -1)
        for name, objective in OBJECTIVES.items():
            _, found = weight_descent(objective, start, batches, optimiser, record=records[name])
            for row in ROWS:
                runs[f"{name}_{row}"].append(found[row])
    return {key: np.stack(rows) for key, rows in runs.items()}


def _recorded(
    objective: Objective, test: tuple[ArrayLike, ArrayLike], net: LinearPCN, x: Array, y: Array
) -> dict[str, Array]:
    """The loss on this batch and on the test examples, and the length of the objective's gradient."""
    gradient = weight_gradient(objective, net, x, y)
    return {"training": loss(net, x, y), "test": loss(net, *test), "gradient": jnp.linalg.norm(gradient)}


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """A row for each quantity, a column for each network: means and standard deviations over the runs."""
    models = parameters.models
    size = (WIDTHS["text"], 1.35 * len(ROWS) + 0.7)
    picture, grid = plt.subplots(len(ROWS), len(models), figsize=size, sharex="col", squeeze=False)
    for axes, (row, label) in zip(grid, ROWS.items(), strict=True):
        for place, model in zip(axes, models, strict=True):
            for name in OBJECTIVES:
                _band(place, arrays[model.name][f"{name}_{row}"], name)
            place.set(xlim=(1, model.steps), ylim=(0, None))
        axes[0].set_ylabel(label)
    for place, model in zip(grid[0], models, strict=True):
        place.set_title(model.title)
    for place in grid[-1]:
        place.set_xlabel("training step")
    picture.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return picture


def _band(axes: Axes, runs: npt.NDArray[np.float64], name: str) -> None:
    steps, mean, spread = np.arange(1, runs.shape[1] + 1), runs.mean(axis=0), runs.std(axis=0)
    axes.fill_between(steps, mean - spread, mean + spread, color=COLOURS[name], alpha=0.25, linewidth=0)
    axes.plot(steps, mean, color=COLOURS[name], label=LABELS[name])


def caption(parameters: Parameters) -> str:
    p = parameters
    return (
        f"Training of the three networks of saddles/toy-models from weights of standard deviation {p.std}: loss on "
        f"the batch of {p.examples} fresh examples before each step, on {p.examples} test examples, and the length "
        f"of the gradient that is followed, of the loss for BP and of F* for PC; mean and standard deviation (cut "
        f"at 0) over {p.runs} runs, the same starts for both. x ~ N(1, 0.1^2), y = -x, gradient descent at rates "
        f"{', '.join(str(model.rate) for model in p.models)}, PC with exact inference. A long plateau of the loss "
        "goes with a small gradient: BP waits near the saddle longer, the deeper the network. The spread is large "
        "while some runs have left and others have not. After a figure of arXiv 2408.11979; "
        "the wide network's rate and steps are ours."
    )


DEFAULT = Parameters(models=(ONE_UNIT, TWO_UNITS, WIDE))
FIGURE = Figure(
    key="saddles/toy-statistics",
    title="Training of three toy networks",
    caption=caption,
    source="saddles-2024",
    claims=("saddles-2024/saddle-order", "saddles-2024/origin-strict"),
    presets={
        "quick": Parameters(models=(ONE_UNIT, replace(TWO_UNITS, steps=100)), runs=2),
        "default": DEFAULT,
        "paper": replace(DEFAULT, models=AS_PUBLISHED),
    },
    units=units,
    data=data,
    draw=draw,
)
