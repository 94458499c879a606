r"""Inference learning as implicit stochastic gradient descent.

Claims
    alonso-2022/proximal   with normalised energies and updates, a step of PC is a proximal step on the loss

Notation: one example, a chain without skips and biases, W_l including the scaling; z_0 = x, the output z_L is free;
e_l = z_l - W_l z_{l-1}, n_l = |z_l|^2, alpha the step size, loss(W) = (1/2)|y - W_L .. W_1 x|^2.
Why: for given z, the W'_l nearest to W_l with W'_l z_{l-1} = z_l is W_l + e_l z_{l-1}^T / n_{l-1}, at the squared
distance |e_l|^2 / n_{l-1}. So the least of loss(W') + |W' - W|^2 / (2 alpha) over W' is the least over z of
E(z) = (1/2)|y - z_L|^2 + sum_l |e_l|^2 / (2 alpha n_{l-1}), with W' the normalised update at the
minimum; and stationary points correspond alike.
Independent route: a proximal step is W = W' + alpha d loss(W') read backwards. From any W' this gives W exactly,
and its activities should be stationary for E, its normalised update lead from W to W'.

Reference: N. Alonso, B. Millidge, J. Krichmar, E. Neftci, NeurIPS 2022, arXiv 2206.00164, which shows that
inference learning comes close to implicit gradient descent; the energy for which it is that exactly is derived
here.
"""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize

from pctheory.claims import Check, claim, judged, largest, scaled_error
from tests import oracles
from tests.cases import Case, random_cases, rational_cases

Vectors = list[np.ndarray]
STEP_SIZE = Fraction(1, 3)


class Problem(NamedTuple):
    """A proximal step from `weights` to `ends`, its step size, and the activities that `ends` makes of x."""

    weights: Vectors
    ends: Vectors
    alpha: Any
    activities: Vectors
    y: np.ndarray


def _problem(given: Case) -> Problem:
    """Read backwards from the case's weights: W = W' + alpha d loss(W')."""
    alpha = STEP_SIZE if given.x.dtype == object else float(STEP_SIZE)
    ends, z = given.weights, [given.x[0]]
    for w in ends:
        z.append(w @ z[-1])
    gradients: Vectors = []
    pull = z[-1] - given.y[0]
    for w, below in zip(reversed(ends), reversed(z[:-1]), strict=True):
        gradients.insert(0, np.outer(pull, below))
        pull = w.T @ pull
    return Problem([w + alpha * g for w, g in zip(ends, gradients, strict=True)], ends, alpha, z, given.y[0])


def _gradient(problem: Problem, *, normalised: bool = True, frozen: bool = False) -> Vectors:
    """dE/dz_1..dE/dz_L at the problem's activities; with n_l = 1, or n_l held while z_l moves."""
    z, weights = problem.activities, problem.weights
    errors = [above - w @ below for w, (below, above) in zip(weights, pairwise(z), strict=True)]
    sizes = [below @ below if normalised else 1 + 0 * below @ below for below in z[:-1]]
    forces = [e / (problem.alpha * n) for e, n in zip(errors, sizes, strict=True)]
    found = []
    for l in range(1, len(z)):
        force = forces[l - 1]
        if l == len(weights):
            force = force + z[l] - problem.y
        else:
            force = force - weights[l].T @ forces[l]
            if normalised and not frozen:  # n_l moves with z_l
                force = force - (errors[l] @ errors[l]) / (problem.alpha * sizes[l] ** 2) * z[l]
        found.append(force)
    return found


def _updated(problem: Problem, *, normalised: bool = True) -> Vectors:
    """W_l + e_l z_{l-1}^T / n_{l-1}."""
    moved = []
    for w, (below, above) in zip(problem.weights, pairwise(problem.activities), strict=True):
        moved.append(w + np.outer(above - w @ below, below) / (below @ below if normalised else 1))
    return moved


def _remainder(
    gradient: Callable[[Problem], Vectors], updated: Callable[[Problem], Vectors], given: Case
) -> np.ndarray:
    """The gradient of E, and by how far the update misses the end of the proximal step."""
    problem = _problem(given)
    missed = [found - end for found, end in zip(updated(problem), problem.ends, strict=True)]
    return oracles.flat([*gradient(problem), *missed])


def _error(gradient: Callable[[Problem], Vectors], updated: Callable[[Problem], Vectors], given: Case) -> float:
    problem = _problem(given)
    sizes = [float(z @ z) for z in problem.activities]
    size = (1 + max(sizes)) / min(sizes[:-1]) * max(float(np.abs(w).max()) for w in problem.weights)
    remainder = _remainder(gradient, updated, given)
    return scaled_error(remainder, 0 * remainder, scale=largest(1.0, size) ** 2)


def _energy(problem: Problem, hidden: np.ndarray) -> float:
    """E at hidden and output activities in one vector."""
    stops = np.cumsum([len(w) for w in problem.weights[:-1]])
    z = [problem.activities[0], *np.split(hidden, stops)]
    terms = [
        (above - w @ below) @ (above - w @ below) / (below @ below)
        for w, (below, above) in zip(problem.weights, pairwise(z), strict=True)
    ]
    return float((problem.y - z[-1]) @ (problem.y - z[-1]) + sum(terms) / problem.alpha) / 2


def _proximal(problem: Problem, vector: np.ndarray) -> float:
    """loss(W') + |W' - W|^2 / (2 alpha) at weights W' in one vector."""
    parts = np.split(vector, np.cumsum([w.size for w in problem.weights[:-1]]))
    ends = [part.reshape(w.shape) for part, w in zip(parts, problem.weights, strict=True)]
    z = problem.activities[0]
    for w in ends:
        z = w @ z
    distance = sum(((end - w) ** 2).sum() for end, w in zip(ends, problem.weights, strict=True))
    return float((problem.y - z) @ (problem.y - z) + distance / problem.alpha) / 2


def _least_values(given: Case, *, factor: float = 1.0) -> float:
    """The least E found from the feedforward activities, and the least proximal objective from the weights."""
    problem = _problem(given)
    z = problem.activities[:1]
    for w in problem.weights:
        z.append(w @ z[-1])
    inferred = minimize(lambda z: _energy(problem, z), oracles.flat(z[1:]), tol=1e-8).fun
    stepped = minimize(lambda w: _proximal(problem, w), oracles.flat(problem.weights), tol=1e-8).fun
    return scaled_error(factor * inferred, stepped)


def _without_zeros(cases: list[Case]) -> list[Case]:
    """Those in which no activity vanishes as a whole: |z_l|^2 divides."""
    return [made for made in cases if all(np.any(z) for z in _problem(made).activities[:-1])]


@claim(
    key="alonso-2022/proximal",
    statement=r"""One example, linear, the output free: let inference minimise
        $\frac{1}{2}|y - z_L|^2 + \sum_l |e_l|^2 / (2 \alpha |z_{l-1}|^2)$ and update
        $W_l \leftarrow W_l + e_l z_{l-1}^T / |z_{l-1}|^2$. That is the proximal (implicit gradient) step
        $W' = W - \alpha\, \partial \mathcal{L}(W')$: stationary activities give stationary points of
        $\mathcal{L}(W') + |W' - W|^2 / (2 \alpha)$, every one of these is reached, and the values agree.""",
    hypotheses=("one example", "no layer's activity vanishes but the output's", "alpha > 0", "no skips or biases"),
    attribution="own",
    source="derived here, after alonso-2022 (inference learning as implicit gradient descent)",
)
def proximal(check: Check) -> None:
    gradients: dict[str, Callable[[Problem], Vectors]] = {
        "energies that are not normalised": partial(_gradient, normalised=False),
        "the normaliser held during inference": partial(_gradient, frozen=True),
    }
    wrong = {name: partial(_remainder, gradient, _updated) for name, gradient in gradients.items()}
    wrong["updates that are not normalised"] = partial(_remainder, _gradient, partial(_updated, normalised=False))
    check.exact(
        "proximal steps read backwards, in fractions",
        _without_zeros(rational_cases(80, seed=760, depths=(1, 4))),
        partial(_remainder, _gradient, _updated),
        twins=wrong,
    )
    errors: dict[str, Callable[[Case], float]] = {
        name: partial(_error, gradient, _updated) for name, gradient in gradients.items()
    }
    errors["updates that are not normalised"] = partial(_error, _gradient, partial(_updated, normalised=False))
    check.property(
        "proximal steps read backwards, depth 1 to 6",
        _without_zeros(list(random_cases(300, seed=761))),
        partial(_error, _gradient, _updated),
        twins=errors,
        seed=761,
    )
    check.property(
        "the least values of both objectives, by minimisation",
        _without_zeros(list(random_cases(12, seed=762, depths=(2, 3), width=3)))[:8],
        _least_values,
        twins=judged(lambda factor, given: _least_values(given, factor=factor), {"half the energy": 0.5}),
        bound=1e-9,  # that of the minimisers, whose derivatives are differences
        seed=762,
    )
