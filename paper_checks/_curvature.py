"""How claims on Hessians are judged: curvature along moves and whole spectra, from power series.

The weights are w + t d, and the oracles, which know no closed form, compute the loss and the energy at the solution
of the dense linear system as series in t. Twice the coefficient of t^2 is the curvature along d, in fractions or in
floating point; the curvatures of all pairs of weights are the Hessian.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeAlias

import numpy as np

from pctheory.claims import largest, scaled_error
from tests import oracles, series
from tests.cases import Case, Formula
from tests.series import Moves, least_energy

OBJECTIVES: dict[str, Formula] = {"loss": oracles.loss, "energy": least_energy}
PLAIN = {"skips": False, "biases": False}  # of `random_cases` and `rational_cases`


@dataclass(frozen=True, eq=False)
class Ray:
    """A network and a move of all its weights, of whole numbers. What is said of one is a `Form`."""

    given: Case
    moves: Moves


Form: TypeAlias = Callable[[Ray], Any]


def rays(cases: Iterable[Case], each: int = 2) -> list[Ray]:
    """Every case with `each` moves, entries from -3 to 3."""

    def drawn() -> Iterator[Ray]:
        for seed, given in enumerate(cases):
            rng = np.random.default_rng(seed)
            for _ in range(each):
                yield Ray(given, [rng.integers(-3, 4, w.shape) for w in given.weights])

    return list(drawn())


def few_weights(cases: Iterable[Case], most: int) -> list[Case]:
    """Those with at most so many weights, for whole Hessians."""
    return [given for given in cases if sum(w.size for w in given.weights) <= most]


@cache
def _curvature(objective: str, ray: Ray) -> Any:
    """Once for the claim and all its false twins."""
    return series.curvature(OBJECTIVES[objective], ray.given, ray.moves)


def curvature_remainder(objective: str, form: Form, ray: Ray) -> Any:
    """Claimed minus actual curvature along the move, in fractions."""
    return form(ray) - _curvature(objective, ray)


def curvature_error(objective: str, form: Form, ray: Ray) -> float:
    """The same in floating point; the dense solve loses as many digits as cond(H_z) has."""
    size, condition = _yardstick(ray)
    return scaled_error(form(ray), _curvature(objective, ray), scale=size, condition=condition)


@cache
def _yardstick(ray: Ray) -> tuple[float, float]:
    length = float(sum(((a * d) ** 2).sum() for a, d in zip(ray.given.scalings, ray.moves, strict=True)))
    return length * hessian_scale(ray.given), oracles.condition(ray.given)


def spectrum_error(objective: str, spectrum: Formula, given: Case) -> float:
    """All eigenvalues in ascending order, against dense linear algebra on the Hessian from power series."""
    size = float(np.max(given.scalings)) ** 2 * hessian_scale(given)
    actual = eigenvalues(objective, given)
    return scaled_error(np.sort(spectrum(given)), actual, scale=size, condition=oracles.condition(given))


def eigenvalues(objective: str, given: Case) -> np.ndarray:
    """Those of the Hessian from power series, in ascending order."""
    return np.linalg.eigvalsh(series.hessian(OBJECTIVES[objective], given))


def hessian_scale(given: Case) -> float:
    """How large curvature is along a unit move of the maps: data times K times the output's precision squared."""
    precision = largest(1.0, float(given.precisions[-1]))
    return precision**2 * (1.0 + float(np.abs(kernel(given)).max())) * oracles.scale(given, [given.x])


def kernel(given: Case) -> Any:
    r"""K = sum_{l<L} M_{L-1:l+1} M_{L-1:l+1}^T / pi_l."""
    below = {name: getattr(given, name)[:-1] for name in ("weights", "scalings", "skips", "biases", "precisions")}
    return oracles.rescaling(replace(given, **below))


def moment(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The mean of a b^T over examples, which are rows."""
    return a.T @ b / len(a)


def is_semidefinite(matrix: np.ndarray) -> bool:
    """Whether a symmetric matrix of fractions is positive semidefinite, by elimination."""
    rows = matrix.copy()
    for k in range(len(rows)):
        if rows[k, k] < 0 or (rows[k, k] == 0 and np.any(rows[k, k:])):
            return False
        if rows[k, k]:
            rows[k + 1 :] = rows[k + 1 :] - np.outer(rows[k + 1 :, k] / rows[k, k], rows[k])
    return True
