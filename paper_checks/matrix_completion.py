r"""Completing a matrix of low rank: where descent on the loss waits, and how soon predictive coding leaves.

Claims
    saddles-2024/matrix-completion   the loss waits at plateaus of rank 0, 1, 2; the equilibrated energy leaves them

Notation: the network maps the masked target, row by row, to the target; the loss is of the observed entries only.
A level is the loss of the best fit of a rank, a boundary lies between two levels. Speed-ups as in
`paper_checks._speedups`. PC has the exact equilibrium.

Reference: arXiv 2408.11979 with its published code.
"""

from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from figures.saddles_matrix_completion import best_fit
from paper_checks._speedups import ORDER, Ordering, Speedup, Values, escape_times, shortfall
from pctheory import Layers, LinearPCN, equilibrium_and_gradient, feedforward, weight_descent_by_rule
from pctheory.claims import Check, claim, judged
from pctheory.compiled_code import optimised

SIZE, RANK, DRAWS = 10, 3, 4


@dataclass(frozen=True)
class Completion:
    """Targets of rank 3 and masks, one for each seed, and the least masked mean squares of rank 0, 1, 2."""

    targets: Values
    masks: Values
    levels: Values

    @property
    def boundaries(self) -> Values:
        """Losses between one level and the next, halfway on a logarithmic scale; half of the last."""
        between = np.sqrt(self.levels[:, :-1] * self.levels[:, 1:])
        return np.concatenate([between, self.levels[:, -1:] / 2], axis=1)


@cache
def completion() -> Completion:
    targets, masks = [], []
    for seed in range(DRAWS):
        rng = np.random.default_rng([seed, 7])
        targets.append(rng.standard_normal((SIZE, RANK)) @ rng.standard_normal((RANK, SIZE)))
        masks.append((rng.random((SIZE, SIZE)) > 0.2).astype(float))
    levels = [[best_fit(t, m, rank) for rank in range(RANK)] for t, m in zip(targets, masks, strict=True)]
    return Completion(np.stack(targets), np.stack(masks), np.array(levels))


@dataclass(frozen=True)
class Descents:
    """A run of each draw: losses and gradient norms, (draws, steps), and the networks every PIECE steps."""

    losses: Values
    gradient_norms: Values
    networks: list[LinearPCN]


PIECE, STEP, GAIN = 100, 0.01, 0.05


def _descend(start: LinearPCN, *, coding: bool, clamp: str, pieces: int) -> Descents:
    """BP on the loss of the observed entries, or PC with its output clamped to the full or the masked target."""
    given = completion()
    targets, masks = jnp.asarray(given.targets), jnp.asarray(given.masks)
    clamped = {"full": targets, "masked": masks * targets}[clamp]

    def piece(net: LinearPCN, target: Array, mask: Array, y: Array) -> tuple[LinearPCN, Any]:
        def masked(weights: Layers, x: Array) -> Array:
            return jnp.sum((mask * (target - feedforward(net.with_weights(weights), x)[-1])) ** 2) / (2 * SIZE)

        def rule(net: LinearPCN, x: Array, y: Array) -> tuple[Layers, tuple[Array, Array]]:
            loss, gradient = jax.value_and_grad(masked)(net.weights, x)
            direction = equilibrium_and_gradient(net, x, y)[1] if coding else gradient
            norm = jnp.sqrt(sum(jnp.sum(run**2) for run in direction.runs))
            return direction, (2 * loss / SIZE, norm)

        x = mask * target
        return weight_descent_by_rule(rule, net, (x[None], y[None]), optax.sgd(STEP), steps=PIECE)

    run = jax.jit(jax.vmap(piece))
    nets, records = [start], []
    for _ in range(pieces):
        with optimised():
            last, record = run(nets[-1], targets, masks, clamped)
        nets.append(last)
        records.append([np.asarray(values) for values in record])
    losses, norms = (np.concatenate(parts, axis=1) for parts in zip(*records, strict=True))
    return Descents(losses, norms, nets)


@cache
def loss_descent() -> Descents:
    """From near the origin: 3 hidden layers of width 20, gain 0.05."""
    made = []
    for seed in range(DRAWS):
        rng = np.random.default_rng([seed, 8])
        widths = (SIZE, 20, 20, 20, SIZE)
        made.append(LinearPCN([rng.normal(0, GAIN / np.sqrt(n), (m, n)) for n, m in pairwise(widths)]))
    start = jax.tree.map(lambda *leaves: np.stack(leaves), *made)
    return _descend(start, coding=False, clamp="full", pieces=160)


def _crossing(rank: int) -> Values:
    """For each draw, the step at which BP's loss leaves the level of this rank; 0 before the first."""
    if rank < 0:
        return np.zeros(DRAWS)
    return escape_times(loss_descent().losses, completion().boundaries[:, rank, None], f"BP, rank {rank}")


def _flattest(draw: int, rank: int) -> int:
    """The piece at whose start BP's gradient is smallest while the loss is near the level of this rank."""
    begin, end = (-(-int(_crossing(k)[draw]) // PIECE) for k in (rank - 1, rank))
    starts = np.arange(begin, end)
    return int(starts[np.argmin(loss_descent().gradient_norms[draw, starts * PIECE])])


def _plateau_error(shift: int, place: tuple[int, int]) -> float:
    """Of the loss at BP's flattest point of a rank, relative to the best fit of this rank, or of `shift` more."""
    draw, rank = place
    levels = np.append(completion().levels[draw], 0.0)
    loss = loss_descent().losses[draw, _flattest(draw, rank) * PIECE]
    return float(abs(loss - levels[rank + shift]) / levels[rank])


@cache
def departure(rank: int, clamp: str) -> Speedup:
    """From BP's flattest point of this rank to the next: BP goes on, or PC takes over."""
    kept = [_flattest(draw, rank) for draw in range(DRAWS)]
    nets = loss_descent().networks
    start = jax.tree.map(lambda *leaves: np.stack([np.asarray(leaves[k])[i] for i, k in enumerate(kept)]), *nets)
    taken_over = _descend(start, coding=True, clamp=clamp, pieces=30).losses
    quick = escape_times(taken_over, completion().boundaries[:, rank, None], f"PC, rank {rank}, {clamp} target")
    return Speedup.of(_crossing(rank) - PIECE * np.array(kept), quick)


def _departure_shortfall(ordering: Ordering, start: tuple[int, str]) -> float:
    return shortfall(ordering, departure(*start))


@claim(
    key="saddles-2024/matrix-completion",
    statement=r"""Completing a matrix of rank 3 from near the origin, descent on the loss waits at plateaus: there
        the loss is that of the best fit of rank 0, then 1, then 2. Descent on $F^*$ with the same step leaves the
        origin, and each of these plateaus, sooner, whether its output is clamped to the full target, as published,
        or to the masked one that the loss sees.""",
    hypotheses=(
        "linear networks of 3 hidden layers; 10 x 10 targets of rank 3, 80 % observed, the input the masked target",
        "measured: 4 targets, masks and starts; the mean over entries of the masked squared error",
    ),
    attribution="stated",
    source="saddles-2024 (empirical); the comparison at one step, and with the masked target, is ours",
    uses=("own/escape-normalisation",),
)
def matrix_completion(check: Check) -> None:
    places = [(draw, rank) for draw in range(DRAWS) for rank in range(RANK)]
    check.property(
        "where BP's gradient is smallest the loss is that of the best fit of rank 0, 1, 2",
        places,
        partial(_plateau_error, 0),
        twins=judged(_plateau_error, {"of one rank more": 1}),
        seed=0,
        bound=0.05,  # at a plateau the fit still improves slowly, along the small singular values of the input
    )
    starts = [(rank, clamp) for rank in range(RANK) for clamp in ("full", "masked")]
    check.property(
        "PC leaves the origin and BP's plateaus sooner than BP does, at one step",
        starts,
        partial(_departure_shortfall, ORDER["faster"]),
        twins=judged(_departure_shortfall, {"later": ORDER["slower"]}),
        seed=0,
    )
