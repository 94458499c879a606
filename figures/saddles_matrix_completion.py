r"""Completing a matrix of rank 3: plateaus of rank 0, 1, 2 for the loss, quick escapes for the energy."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from jaxtyping import Array
from matplotlib.lines import Line2D

from figures._escape import (
    INFERENCE_RATE,
    INFERENCE_STEPS,
    STYLES,
    TITLES,
    Rule,
    Values,
    curve,
    learning_rule,
    near_origin,
    network,
    published_step,
    thinned,
    training,
)
from pctheory import nonlinear
from pctheory.figures import COLOURS, THEORY_LINE, WIDTHS, Arrays, Figure, colour_sequence
from pctheory.nonlinear import NonlinearPCN

SIZE, RANK, RATE = 10, 3, 1e-2
THRESHOLDS = (("linear", 1.1, 0.15), ("tanh", 1.2, 0.15), ("relu", 2.0, 0.6))
MOST = 200_000  # iterations of BP in search of a threshold


@dataclass(frozen=True)
class Run:
    """From the origin (`rank` 0), or from BP's weights when its loss first fell below the threshold of that rank.

    `clamp`: the target that PC's output is clamped to, "full" or "masked". `step`: on the library's loss or energy.
    """

    activation: str
    method: str
    step: float
    iterations: int
    rank: int = 0
    clamp: str = "full"

    @property
    def name(self) -> str:
        """What tells it from all other runs."""
        clamp = f", {self.clamp} target" if self.method == "PC" else ""
        return f"{self.activation}, {self.method} from rank {self.rank}{clamp}, step {self.step:g}"


@dataclass(frozen=True)
class Parameters:
    """`thresholds`: of the loss, by activation, where PC takes over. `until`: the loss at which a run ends."""

    runs: tuple[Run, ...]
    equal_step: float = 0.01
    thresholds: tuple[tuple[str, float, float], ...] = (
        ("linear", 1.1, 0.15),
        ("tanh", 1.2, 0.15),
        ("relu", 2.0, 0.6),
    )
    width: int = 100
    std: float = 5e-3
    until: float = 1e-2
    seed: int = 3682


def units(parameters: Parameters) -> dict[str, Parameters]:
    """One for each run."""
    return {run.name: replace(parameters, runs=(run,)) for run in parameters.runs}


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """Loss, as published the mean square over all entries, masked; norm of the gradient; plateaus of the target."""
    (run,) = parameters.runs
    target, mask = matrix(parameters.seed)
    clamped = {"full": target, "masked": mask * target}[run.clamp]
    pieces = _pieces(run.method, run.iterations)
    batches = (mask * target)[None], clamped[None]
    start = _start(parameters, run)
    _, records = training(_rule(run, target, mask), start, batches, run.step, pieces, parameters.until)
    plateaus = [best_fit(target, mask, rank) for rank in range(RANK)]
    return thinned(records, 600) | {"plateaus": np.array(plateaus)}


def _pieces(method: str, iterations: int) -> list[int]:
    """Long ones for BP, whose iterations are quick."""
    piece = min({"BP": 2000, "PC": 200}[method], iterations)
    return [piece] * (iterations // piece)


def matrix(seed: int) -> tuple[Values, Values]:
    """The target, of rank 3, and the mask: 1 where an entry is observed."""
    rng = np.random.default_rng(seed)
    target = rng.standard_normal((SIZE, RANK)) @ rng.standard_normal((RANK, SIZE))
    return target, (rng.random((SIZE, SIZE)) > 0.2).astype(float)


def _rule(run: Run, target: Values, mask: Values) -> Rule:
    """BP on the loss of the observed entries, or PC. What is measured is of the full target always."""
    seen = jnp.asarray(mask)

    def masked_loss(net: NonlinearPCN, x: Array, y: Array) -> Array:
        return jnp.sum((seen * (y - nonlinear.feedforward(net, x)[-1])) ** 2) / (2 * len(x))

    def published(net: NonlinearPCN, x: Array, y: Array) -> Array:
        return 2 * masked_loss(net, x, jnp.asarray(target)) / SIZE

    return learning_rule(run.method, run.activation, masked_loss, published)


def _start(p: Parameters, run: Run) -> NonlinearPCN:
    """Near the origin, or where BP with the published step is just below the threshold of this rank."""
    target, mask = matrix(p.seed)
    widths = (SIZE, *[p.width] * 3, SIZE)
    net = network(near_origin(widths, p.std, np.random.default_rng([p.seed, 1])), run.activation)
    if run.rank == 0:
        return net
    bp = replace(run, method="BP", step=published_step("BP", RATE, SIZE, SIZE))
    descent = partial(
        training, _rule(bp, target, mask), batches=((mask * target)[None], target[None]), step=bp.step
    )
    threshold = next(levels for name, *levels in p.thresholds if name == run.activation)[run.rank - 1]
    nets, records = descent(net, lengths=_pieces("BP", MOST), until=threshold)
    below = np.flatnonzero(records["loss"] < threshold)
    if len(below) == 0:
        raise RuntimeError(f"rank {run.rank}: BP's loss is {records['loss'][-1]:.3g} after {MOST} iterations")
    whole = len(records["loss"]) - len(records["loss"]) // (len(nets) - 1)
    return descent(nets[-2], lengths=[int(below[0]) + 1 - whole])[0][-1]


def best_fit(target: Values, mask: Values, rank: int) -> float:
    """The least mean square over all entries, masked, of a matrix of this rank: alternating least squares."""
    values = []
    for seed in range(4):
        right = np.random.default_rng(seed).standard_normal((len(target), rank))
        for _ in range(500):
            left = _least_squares(right, target, mask)
            right = _least_squares(left, target.T, mask.T)
        values.append(np.mean((mask * (left @ right.T - target)) ** 2))
    return float(min(values))


def _least_squares(factor: Values, target: Values, mask: Values) -> Values:
    """The rows u_i that minimise the sum over observed j of (factor_j . u_i - target_ij)^2."""
    normal = np.einsum("ij,jk,jl->ikl", mask, factor, factor)
    return np.linalg.solve(normal, ((mask * target) @ factor)[..., None])[..., 0]


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """A column for each activation: loss and gradient norm, as published and at equal normalisation."""
    p = parameters
    names = list(dict.fromkeys(run.activation for run in p.runs))
    size = WIDTHS["text"], 7.2
    picture, grid = plt.subplots(4, len(names), figsize=size, sharex="row", sharey="row", squeeze=False)
    for run in p.runs:
        top = 2 if run.step == p.equal_step else 0
        column, unit = names.index(run.activation), arrays[run.name]
        scale = run.step / RATE if top == 0 else 1.0  # the gradients of the published code are longer or shorter
        curve(grid[top, column], unit, "loss", **_style(run))
        curve(grid[top + 1, column], unit, "gradient_norm", scale, **_style(run))
    for axes in grid.flat:
        axes.set(xscale="log", yscale="log")
    for row, name in product((0, 2), names):
        if name == "linear":
            for level in next(iter(arrays.values()))["plateaus"]:
                grid[row, names.index(name)].axhline(level, **THEORY_LINE | {"linewidth": 0.7, "zorder": 0})
    _labels(grid, names)
    _legend(picture)
    return picture


def _style(run: Run) -> dict[str, Any]:
    if run.method == "BP":
        return STYLES["BP"]
    if run.clamp == "masked":
        return {"color": COLOURS["other"], "linewidth": 0.9}
    return {"color": colour_sequence(2 * RANK, "energy")[2 * run.rank]}


def _labels(grid: npt.NDArray[Any], names: list[str]) -> None:
    for column, name in enumerate(names):
        grid[0, column].set_title(f"{TITLES[name]}: as published", loc="left")
        grid[2, column].set_title(f"{TITLES[name]}: equal normalisation", loc="left")
        for row in (1, 3):
            grid[row, column].set_xlabel("training iteration")
    for row in (0, 2):
        grid[row, 0].set_ylabel("masked squared error")
        grid[row + 1, 0].set_ylabel("gradient norm")


def _legend(picture: matplotlib.figure.Figure) -> None:
    shades = colour_sequence(2 * RANK, "energy")
    lines = [Line2D([], [], label="BP from rank 0", **STYLES["BP"])]
    lines += [Line2D([], [], label=f"PC from rank {rank}", color=shades[2 * rank]) for rank in range(RANK)]
    lines.append(Line2D([], [], label="PC from rank 0, masked target", color=COLOURS["other"]))
    lines.append(Line2D([], [], label="best fit of rank 0, 1, 2", **THEORY_LINE))
    picture.legend(handles=lines, loc="outside upper center", ncols=3)


def caption(parameters: Parameters) -> str:
    p = parameters
    pc, bp = (published_step(method, RATE, SIZE, SIZE) for method in ("PC", "BP"))
    measured = " With equal steps PC leaves rank 0 over ten times sooner than BP; its loss falls slower later on."
    return (
        "Completing a 10 x 10 matrix of rank 3, product of normal factors, of which 80 % is observed, by networks "
        f"of three hidden layers of width {p.width} whose input is the masked target; all data at once, weights at "
        f"the start normal of standard deviation {p.std:g}. Loss as published, the squared error of the observed "
        "entries averaged over all 100, against the iteration from the start of each run; its plateaus lie at the "
        "best fits of rank 0, 1, 2 (dashes, by alternating least squares). PC also takes over from BP with the "
        "published step where the loss first falls below (1.1, 0.15), (1.2, 0.15), (2, 0.6) with linear, tanh, "
        "ReLU units (from rank 1, from rank 2). Published, PC's output is clamped to the full target although the "
        "loss is of the masked one: what it learns from, BP never sees. From rank 0 it is drawn clamped to the "
        "masked target too (purple), where unobserved entries count as zeros. Upper two rows, as published: at one "
        f"learning rate, {RATE:g}, PC's step on the mean energy is B d_y / 2 = {pc / bp:g} times BP's on the mean "
        f"loss ({pc:g} against {bp:g}), and its gradients are scaled alike. Lower two rows: step {p.equal_step:g} "
        "for both. PC in the linear networks: the exact equilibrium; with tanh and ReLU "
        f"{INFERENCE_STEPS} steps of {INFERENCE_RATE:g}, halved when the energy does not fall; the activation acts "
        "before the weights here, in the published code after them. Of the first 6000 seeds this is the target "
        "most like the published one: it starts at 3.38, its plateaus are 1.07 and 0.125; published are 3.446, "
        "about 1.095 and 0.1255, left by BP after about 7000, 15000 and 91000 iterations (linear), while PC is "
        f"below 0.01 within 2000. Runs end at a loss of {p.until:g}, or after a number of iterations"
        f"{'' if p == PAPER else ' that is scaled down here'}. "
        f"After the matrix-completion figure of arXiv 2408.11979.{measured if p == DEFAULT else ''}"
    )


def planned(
    bp: tuple[int, int, int], pc: tuple[int, int, int], step: float | None = None, *, ranks: int, masked: int
) -> tuple[Run, ...]:
    """BP, PC from the first `ranks` ranks, and from rank 0 clamped to the masked target.

    `bp`, `pc`: iterations at most with linear, tanh and ReLU units; 0 leaves them out. The masked target is there
    for the first `masked` of them. `step`: of both methods, None for the published ones.
    """
    runs = []
    for i, (name, slow, quick) in enumerate(zip(TITLES, bp, pc, strict=True)):
        steps = {method: step or published_step(method, RATE, SIZE, SIZE) for method in STYLES}
        if slow:
            runs.append(Run(name, "BP", steps["BP"], slow))
            runs += [Run(name, "PC", steps["PC"], quick, rank) for rank in range(ranks)]
            runs += [Run(name, "PC", steps["PC"], quick, clamp="masked")] * (i < masked)
    return tuple(runs)


EQUAL_STEP = 0.01
QUICK = Parameters(
    planned((2000, 0, 0), (200, 0, 0), ranks=1, masked=1)
    + planned((2000, 0, 0), (200, 0, 0), EQUAL_STEP, ranks=1, masked=1),
    width=20,
)
DEFAULT = Parameters(
    planned((100_000, 40_000, 80_000), (1000, 400, 400), ranks=RANK, masked=3)
    + planned((22_000, 8000, 12_000), (3000, 800, 800), EQUAL_STEP, ranks=1, masked=1)
)
PAPER = Parameters(
    planned((200_000, 200_000, 200_000), (4000, 4000, 4000), ranks=RANK, masked=3)
    + planned((40_000, 40_000, 40_000), (20_000, 20_000, 20_000), EQUAL_STEP, ranks=RANK, masked=3)
)
FIGURE = Figure(
    key="saddles/matrix-completion",
    title="Completing a matrix: plateaus of rank 0, 1, 2",
    caption=caption,
    source="saddles-2024",
    claims=("saddles-2024/matrix-completion", "own/escape-normalisation"),
    presets={"quick": QUICK, "default": DEFAULT, "paper": PAPER},
    units=units,
    data=data,
    draw=draw,
)
