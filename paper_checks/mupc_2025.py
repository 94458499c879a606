r"""muPC: scaling predictive coding to 100+ layer networks. Here: the linear system of inference.

Claims
    mupc-2025/activity-solution           inference solves H_z z = b
    mupc-2025/activity-hessian            the blocks of H_z
    mupc-2025/inference-strictly-convex   there is one equilibrium

Notation: one example has the energy F(z) = sum_l (pi_l / 2)|z_l - A_l z_{l-1} - c_l|^2 of its hidden activities
z = (z_1, .., z_H), with Hessian H_z and gradient H_z z - b. The energy of a batch is the mean over its B examples,
so that its gradient in the activities of one example carries 1/B.
Independent route: differences of the energy itself. It is quadratic in z, so that central and mixed second
differences are exact for any step; in fractions they are the derivatives.

Reference: F. Innocenti, E. M. Achour, C. L. Buckley, NeurIPS 2025, arXiv 2505.13124.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

import pctheory
from paper_checks._conditioning import Ensemble
from pctheory import induction
from pctheory.claims import Check, claim, judged, largest, scaled_error
from pctheory.matrix_algebra import identity
from tests import oracles
from tests.cases import (
    EQUAL_SIZES,
    FEW,
    SIZES,
    Case,
    Formula,
    at_unit_precision,
    case,
    random_cases,
    rational,
    rational_cases,
)


def _starts(given: Case) -> list[int]:
    """Where each hidden layer starts among the activities side by side, and where the last one ends."""
    stops: list[int] = np.cumsum([0, *given.widths[1:-1]]).tolist()
    return stops


def _split(given: Case, activities: np.ndarray) -> list[np.ndarray]:
    return np.split(activities, _starts(given)[1:-1], axis=1)


def _energies(given: Case, activities: np.ndarray) -> np.ndarray:
    """The energy of each example."""
    errors = oracles.errors(given, _split(given, activities))
    return np.sum([pi * (e**2).sum(axis=1) / 2 for pi, e in zip(given.precisions, errors, strict=True)], axis=0)


def _probe(given: Case, seed: int) -> np.ndarray:
    """Activities in whole numbers, one row per example, of the same kind of number as the case."""
    drawn = np.random.default_rng(seed).integers(-3, 4, (len(given.x), _starts(given)[-1]))
    return drawn + 0 * given.x[:, :1]


def _gradient_by_differences(given: Case) -> np.ndarray:
    z = _probe(given, 1)
    steps = np.eye(z.shape[1], dtype=int)
    return np.stack([(_energies(given, z + d) - _energies(given, z - d)) / 2 for d in steps], axis=1)


def _hessian(given: Case, *, transposed: bool = False, own: int = 1) -> np.ndarray:
    """H_z from its blocks; `transposed` exchanges those below the diagonal with those above it."""
    pi, maps, starts = given.precisions, given.maps, _starts(given)
    hessian = np.zeros((starts[-1], starts[-1]), dtype=given.x.dtype)
    for l, (i, j) in enumerate(pairwise(starts), start=1):
        hessian[i:j, i:j] = own * pi[l - 1] * np.eye(j - i, dtype=int) + pi[l] * maps[l].T @ maps[l]
        if l > 1:
            below, block = slice(starts[l - 2], i), -pi[l - 1] * maps[l - 1]
            hessian[i:j, below] = block.T if transposed else block
            hessian[below, i:j] = block if transposed else block.T
    return hessian


def _source(given: Case, *, sign: int = -1, above: int = 1) -> np.ndarray:
    """b with precisions and biases, one row per example; `above` switches off what the output contributes."""
    pi, maps = given.precisions, given.maps
    drives = [0 * given.x[:, :1] + c for c in given.biases]
    drives[0] = drives[0] + given.x @ maps[0].T
    drives[-1] = above * (drives[-1] - given.y)
    pairs = enumerate(pairwise(drives))
    return np.concatenate([pi[l] * d + sign * pi[l + 1] * up @ maps[l + 1] for l, (d, up) in pairs], axis=1)


def _stated_source(given: Case, *, both: bool = True) -> np.ndarray:
    """(A_1 x, 0, .., A_L^T y), the sum of both if H = 1."""
    starts = _starts(given)
    b = np.zeros((len(given.x), starts[-1]), dtype=given.x.dtype)
    b[:, : starts[1]] += given.x @ given.maps[0].T
    if both or given.depth > 2:
        b[:, starts[-2] :] += given.y @ given.maps[-1]
    return b


def _gradient(source: Formula, given: Case) -> np.ndarray:
    """H_z z - b for a given b."""
    return _probe(given, 1) @ _hessian(given) - source(given)


def _gradient_remainder(source: Formula, given: Case) -> np.ndarray:
    return _gradient(source, given) - _gradient_by_differences(given)


def _gradient_error(source: Formula, given: Case) -> float:
    size = oracles.scale(given, _split(given, abs(_probe(given, 1)) + 1))  # of what is differenced, one step away
    return scaled_error(_gradient(source, given), _gradient_by_differences(given), scale=size)


def _solution_error(source: Formula, given: Case) -> float:
    """H_z^-1 b against least squares on the stacked errors; both lose as many digits as cond(H_z) has."""
    hidden = oracles.equilibrium(given)
    actual = np.linalg.solve(_hessian(given), source(given).T).T
    size = oracles.scale(given, hidden) ** 0.5
    return scaled_error(actual, np.concatenate(hidden, axis=1), scale=size, condition=oracles.condition(given))


def _library_gradient_error(batch: Formula, given: Case) -> float:
    """The library's gradient of the batch mean, times B, against H_z z - b."""
    z = _probe(given, 1)
    gradient = pctheory.activity_gradient(given.net, _split(given, z), given.x, given.y)
    size = oracles.scale(given, _split(given, z)) ** 0.5
    return scaled_error(batch(given) * np.concatenate(gradient[:], axis=1), _gradient(_source, given), scale=size)


def _library_solution_error(source: Formula, given: Case) -> float:
    """The library's H_z^-1 b, likewise."""
    hidden = oracles.equilibrium(given)
    found = pctheory.activity_hessian_solve(given.net, _split(given, source(given)))
    actual, expected = np.concatenate(found[:], axis=1), np.concatenate(hidden, axis=1)
    size = oracles.scale(given, hidden) ** 0.5
    return scaled_error(actual, expected, scale=size, condition=oracles.condition(given))


FALSE_SOURCES: dict[str, Formula] = {
    "sign of what comes from above": partial(_source, sign=1),
    "the output left out": partial(_source, above=0),
}


@claim(
    key="mupc-2025/activity-solution",
    statement=r"""For one example $\nabla_z F = H_z z - b$, so that $z^* = H_z^{-1} b$. At unit precision and
        without biases $b = (A_1 x, 0, \dots, 0, A_L^T y)$, the sum of both when $H = 1$. In general
        $b_l = \pi_l d_l - \pi_{l+1} A_{l+1}^T d_{l+1}$, where $d_l$ is $c_l$, plus $A_1 x$ in $d_1$ and
        minus $y$ in $d_L$.""",
    hypotheses=("at least one hidden layer", "positive precisions"),
    attribution="stated",
    source="mupc-2025 states it at unit precision and without biases; the general b is ours",
    uses=("mupc-2025/activity-hessian", "mupc-2025/inference-strictly-convex"),
)
def activity_solution(check: Check) -> None:
    _activity_solution_proof(check)
    check.exact(
        "as stated, against differences in fractions",
        rational_cases(40, seed=200, depths=(2, 4), biases=False, precisions=False),
        partial(_gradient_remainder, _stated_source),
        twins=judged(_gradient_remainder, {"only one of both when H = 1": partial(_stated_source, both=False)}),
    )
    check.exact(
        "in general, against differences in fractions",
        rational_cases(40, seed=201, depths=(2, 4)),
        partial(_gradient_remainder, _source),
        twins=judged(_gradient_remainder, {**FALSE_SOURCES, "precisions left out": _stated_source}),
    )
    check.property(
        "the gradient against differences, depth 2 to 6",
        random_cases(300, seed=202, depths=(2, 6)),
        partial(_gradient_error, _source),
        twins=judged(_gradient_error, FALSE_SOURCES),
        seed=202,
    )
    check.property(
        "the solution against stacked least squares, depth 2 to 6",
        random_cases(300, seed=203, depths=(2, 6)),
        partial(_solution_error, _source),
        twins=judged(_solution_error, FALSE_SOURCES),
        seed=203,
    )
    check.property(
        "the library's gradient of the batch mean",
        FEW,
        partial(_library_gradient_error, lambda given: len(given.x)),
        twins=judged(_library_gradient_error, {"without 1/B": lambda given: 1}),
    )
    check.property(
        "the library's solution",
        FEW,
        partial(_library_solution_error, _source),
        twins=judged(_library_solution_error, FALSE_SOURCES),
    )


def _activity_solution_proof(check: Check) -> None:
    check.proof(
        "gradient of the stacked energy, and the blocks of b",
        [induction.activity_hessian_factorisation(), induction.activity_hessian_factorisation(SIZES)],
        twins={
            "sign of what comes from above": induction.activity_hessian_factorisation(
                source=lambda l, own, after: l.precision * own + l.next.precision * (l.next.map.T @ after)
            )
        },
    )


def _hessian_by_differences(given: Case) -> np.ndarray:
    one = replace(given, x=given.x[:1], y=given.y[:1])
    return oracles.second_differences(lambda z: _energies(one, z[None])[0], _probe(one, 1)[0])


def _hessian_remainder(formula: Formula, given: Case) -> np.ndarray:
    return formula(given) - _hessian_by_differences(given)


def _residual_networks(count: int) -> list[Case]:
    """Equal widths 1 to 3, depth 3 and 4, skips of 1, in fractions at unit precision."""
    drawn = [rational(case("", (1 + i % 3,) * (4 + i % 2), seed=i, scalings=True)) for i in range(count)]
    return [replace(given, skips=given.precisions) for given in drawn]


def _skip_block(given: Case, *, linear: int = 1, own: int = 2) -> np.ndarray:
    """2 I + a^2 W^T W + a (W + W^T) for the skip into layer 2: the first diagonal block."""
    a, w = given.scalings[1], given.weights[1]
    return own * np.eye(len(w), dtype=int) + a**2 * w.T @ w + linear * a * (w + w.T)


def _skip_remainder(formula: Formula, given: Case) -> np.ndarray:
    n = given.widths[1]
    return formula(given) - _hessian_by_differences(given)[:n, :n]


def _hessian_error(formula: Formula, given: Case) -> float:
    """Against A^T Pi A, formed from the stacked errors."""
    return scaled_error(formula(given), oracles.linear_system(given)[0])


FALSE_HESSIANS: dict[str, Formula] = {
    "the diagonal's own pi_l left out": partial(_hessian, own=0),
    "precisions left out": lambda given: _hessian(at_unit_precision(given)),
}


@claim(
    key="mupc-2025/activity-hessian",
    statement=r"""The Hessian of one example's energy in the activities is block tridiagonal, with
        $\pi_l I + \pi_{l+1} A_{l+1}^T A_{l+1}$ on the diagonal and $-\pi_{l+1} A_{l+1}$ below it. For a skip,
        $A = a W + I$, at unit precision the diagonal block is $2 I + a^2 W^T W + a (W + W^T)$.""",
    hypotheses=("at least one hidden layer", "any widths, scalings, skips and biases"),
    attribution="stated",
    source="mupc-2025; with precisions in the notation of this project",
)
def activity_hessian(check: Check) -> None:
    _activity_hessian_proof(check)
    check.exact(
        "against second differences in fractions",
        rational_cases(40, seed=210, depths=(2, 4)),
        partial(_hessian_remainder, _hessian),
        twins=judged(_hessian_remainder, FALSE_HESSIANS),
    )
    networks = _residual_networks(24)
    check.exact(
        "with skips and equal widths, against second differences in fractions",
        networks,
        partial(_hessian_remainder, _hessian),
        twins=judged(_hessian_remainder, {"transposed block": partial(_hessian, transposed=True)}),
    )
    check.exact(
        "the block of a skip, against second differences in fractions",
        networks,
        partial(_skip_remainder, _skip_block),
        twins=judged(
            _skip_remainder,
            {"missing a(W + W^T)": partial(_skip_block, linear=0), "I for 2I": partial(_skip_block, own=1)},
        ),
    )
    check.property(
        "against the Hessian of the stacked errors, depth 2 to 6",
        random_cases(400, seed=211, depths=(2, 6)),
        partial(_hessian_error, _hessian),
        twins=judged(_hessian_error, FALSE_HESSIANS),
        seed=211,
    )
    check.property(
        "the library's Hessian against that of the stacked errors",
        FEW,
        partial(_hessian_error, lambda given: pctheory.activity_hessian_dense(given.net)),
        twins=judged(_hessian_error, FALSE_HESSIANS),
    )


def _activity_hessian_proof(check: Check) -> None:
    check.proof(
        "column by column from A^T Pi A",
        [induction.activity_hessian_factorisation(), induction.activity_hessian_factorisation(SIZES)],
        twins={
            "transposed block": induction.activity_hessian_factorisation(
                EQUAL_SIZES, lower=lambda layer: -(layer.precision * layer.map.T)
            ),
            "missing a(W + W^T)": induction.activity_hessian_factorisation(
                with_skip=lambda w, a: 2 * identity(w.rows) + a**2 * (w.T @ w)
            ),
        },
    )


Point: TypeAlias = tuple[Case, list[np.ndarray]]


def _two_activities(given: Case) -> tuple[Point, Point]:
    z = _probe(given, 2)
    return (given, _split(given, z)), (given, _split(given, z + 1))


def _two_activities_and_weights(given: Case) -> tuple[Point, Point]:
    """Feedforward activities, and their negatives with W_1 and W_L negated: the same output, no hidden errors."""
    z = oracles.feedforward(given)[:-1]
    first, *inner, last = given.weights
    return (given, z), (replace(given, weights=[-first, *inner, -last]), [-v for v in z])


def _is_not_below_mean(points: Callable[[Case], tuple[Point, Point]], given: Case) -> bool:
    """Whether the energy at the midpoint of two points is no less than the mean of their energies."""
    (one, z), (other, v) = points(given)
    weights = [(a + b) / 2 for a, b in zip(one.weights, other.weights, strict=True)]
    middle = oracles.energy(replace(given, weights=weights), [(a + b) / 2 for a, b in zip(z, v, strict=True)])
    return not 2 * middle < oracles.energy(one, z) + oracles.energy(other, v)


def _rise(given: Case, *, last: bool = True, precisions: bool = True) -> Any:
    """mean sum_l (pi_l / 2)|d_l - A_l d_{l-1}|^2 with d_0 = d_L = 0, which vanishes for d = 0 only."""
    still = replace(given, x=0 * given.x, y=0 * given.y, biases=[0 * c for c in given.biases])
    if not precisions:
        still = at_unit_precision(still)
    energies = oracles.layer_energies(still, _split(given, _probe(given, 4)))
    return sum(energies if last else energies[:-1])


def _rise_remainder(formula: Formula, given: Case) -> Any:
    z = oracles.equilibrium(given)
    moved = [a + d for a, d in zip(z, _split(given, _probe(given, 4)), strict=True)]
    return oracles.energy(given, moved) - oracles.energy(given, z) - formula(given)


def _lost_pivots(given: Case) -> list[bool]:
    """Which pivots of H_z are not positive: none iff it is positive definite."""
    return [not pivot > 0 for pivot in oracles.pivots(oracles.linear_system(given)[0])]


def _shortfall(bound: Formula, given: Case) -> float:
    """By how much the least eigenvalue of H_z stays below the bound, if it does."""
    eigenvalues = np.linalg.eigvalsh(oracles.linear_system(given)[0])
    size = float(abs(eigenvalues).max())
    return scaled_error(largest(float(bound(given) - eigenvalues[0]), 0.0), 0.0, scale=size)


def _with_negative_output_precision(given: Case) -> Case:
    return replace(given, precisions=np.append(given.precisions[:-1], -given.precisions[-1]))


SKIPS = Ensemble(8, 24, 2, variance=4.0, skips=True)  # LAPACK's smallest eigenvalue is negative from H = 30 on


@claim(
    key="mupc-2025/inference-strictly-convex",
    statement=r"""$H_z = A^T \Pi A$ with $A$ block bidiagonal and ones on its diagonal, so $H_z$ is positive
        definite: the energy is strictly convex in the activities and there is one equilibrium. Around it
        $F(z^* + d) = F^* + \mathrm{mean} \sum_l \frac{\pi_l}{2} |d_l - A_l d_{l-1}|^2$ with $d_0 = d_L = 0$.""",
    hypotheses=("at least one hidden layer", "positive precisions", "fixed weights"),
    attribution="reconstructed",
    source="mupc-2025; the exact wording was not at hand",
    uses=("mupc-2025/activity-hessian",),
)
def inference_strictly_convex(check: Check) -> None:
    _inference_strictly_convex_proof(check)
    check.exact(
        "midpoints in fractions",
        rational_cases(60, seed=220, depths=(2, 4), biases=False, skips=False),
        partial(_is_not_below_mean, _two_activities),
        twins=judged(_is_not_below_mean, {"in activities and weights together": _two_activities_and_weights}),
    )
    check.exact(
        "the energy around the equilibrium in fractions",
        rational_cases(60, seed=221, depths=(2, 4)),
        partial(_rise_remainder, _rise),
        twins=judged(
            _rise_remainder,
            {
                "the output's term left out": partial(_rise, last=False),
                "precisions left out": partial(_rise, precisions=False),
            },
        ),
    )
    check.exact(
        "the pivots of elimination in fractions",
        rational_cases(60, seed=222, depths=(2, 4)),
        _lost_pivots,
        twins={
            "with a negative precision": lambda given: _lost_pivots(_with_negative_output_precision(given)),
        },
    )
    check.enclosure(
        "the smallest eigenvalue of SP with skips, N = 8, H = 24, 48 and 72, where condition numbers reach 1e41",
        [replace(SKIPS, hidden=hidden).net(0) for hidden in (24, 48, 72)],
        lambda net: pctheory.enclosed_activity_hessian_extremes(net)[0],
        within=(0.0, math.inf),
        twins={
            "not below the least precision": lambda net: pctheory.enclosed_activity_hessian_extremes(net)[0] - 1,
        },
    )
    check.property(
        "no negative eigenvalue, depth 2 to 6",
        random_cases(400, seed=223, depths=(2, 6)),
        partial(_shortfall, lambda given: 0),
        twins=judged(_shortfall, {"none below the least precision": lambda given: given.precisions.min()}),
        seed=223,
    )


def _inference_strictly_convex_proof(check: Check) -> None:
    check.proof(
        "the Hessian is A^T Pi A, with A injective",
        [induction.activity_hessian_factorisation(), induction.activity_hessian_factorisation(SIZES)],
        twins={
            "the diagonal's own pi_l left out": induction.activity_hessian_factorisation(
                diagonal=lambda l: l.next.precision * (l.next.map.T @ l.next.map)
            )
        },
    )
