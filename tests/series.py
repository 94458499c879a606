"""Power series in one variable: a slow and exact way to derivatives of anything the oracles compute.

A `Case` whose weights are `w + t d` goes through the oracles like any other: what comes out is the series of the
loss or the least energy along a ray, without a closed form or a difference quotient anywhere.
"""

from collections.abc import Sequence
from dataclasses import replace
from operator import add
from typing import Any, TypeAlias

import numpy as np

from . import oracles
from .cases import Case, Formula

Number: TypeAlias = Any  # int, Fraction or float
Moves: TypeAlias = Sequence[np.ndarray]  # a direction for the weights of each layer


class Series:
    """`coefficients[0] + coefficients[1] t + ..`, everything beyond t^order dropped."""

    __slots__ = ("coefficients", "order")

    def __init__(self, coefficients: tuple[Number, ...], order: int) -> None:
        self.coefficients, self.order = coefficients, order

    def __getitem__(self, power: int) -> Number:
        """A fraction where the others are, for what was dropped too."""
        return self.coefficients[power] if power < len(self.coefficients) else 0 * self.coefficients[0]

    def __add__(self, other: Any) -> "Series":
        if isinstance(other, np.ndarray):
            return NotImplemented
        if _is_zero(other):
            return self
        b = self._like(other).coefficients
        longer, shorter = (self.coefficients, b) if len(self.coefficients) >= len(b) else (b, self.coefficients)
        return Series((*map(add, longer, shorter), *longer[len(shorter) :]), self.order)

    def __mul__(self, other: Any) -> Any:
        """The number 0 from 0, of which dense linear systems are full."""
        if isinstance(other, np.ndarray):
            return NotImplemented
        if _is_zero(other):
            return 0 * self.coefficients[0]
        a, b = self.coefficients, self._like(other).coefficients
        if len(a) == 1 or len(b) == 1:
            (factor,), many = (a, b) if len(a) == 1 else (b, a)
            return Series(tuple([factor * c for c in many]), self.order)
        made = [a[0] * q for q in b] + [0] * min(len(a) - 1, self.order + 1 - len(b))
        for i, p in enumerate(a[1:], start=1):
            for j, q in enumerate(b[: len(made) - i]):
                made[i + j] = made[i + j] + p * q
        return Series(tuple(made), self.order)

    def __truediv__(self, other: Any) -> "Series":
        """Long division; the divisor's constant term must not vanish."""
        if isinstance(other, np.ndarray):
            return NotImplemented
        divisor, quotient = self._like(other), list[Number]()
        if len(divisor.coefficients) == 1:
            return Series(tuple(a / divisor[0] for a in self.coefficients), self.order)
        for n in range(self.order + 1):
            quotient.append((self[n] - sum(quotient[i] * divisor[n - i] for i in range(n))) / divisor[0])
        return Series(tuple(quotient), self.order)

    def __bool__(self) -> bool:
        return any(a.any() if isinstance(a, np.ndarray) else a for a in self.coefficients)

    def __neg__(self) -> "Series":
        return Series(tuple(-a for a in self.coefficients), self.order)

    def __sub__(self, other: Any) -> "Series":
        return NotImplemented if isinstance(other, np.ndarray) else self + -self._like(other)

    def __rsub__(self, other: Number) -> "Series":
        return -self + other

    def __rtruediv__(self, other: Number) -> "Series":
        return self._like(other) / self

    def __pow__(self, exponent: int) -> "Series":
        return self * self if exponent == 2 else NotImplemented

    def __abs__(self) -> Number:
        """Of the constant term: what decides whether it can be a pivot."""
        return abs(self[0])

    __radd__, __rmul__ = __add__, __mul__

    def _like(self, other: Any) -> "Series":
        return other if isinstance(other, Series) else Series((other,), self.order)


def _is_zero(other: Any) -> bool:
    return other.__class__ is not Series and not other


def along(given: Case, moves: Moves, order: int = 2) -> Case:
    """The case with weights `w + t move`, every number in it a series."""
    series = given.converted(lambda value: Series((value,), order))
    t = Series((0, 1), order)
    return replace(series, weights=[w + t * d for w, d in zip(series.weights, moves, strict=True)])


def least_energy(given: Case) -> Number:
    """The energy at the solution of the dense linear system: F* from its definition."""
    return oracles.energy(given, oracles.equilibrium(given))


def curvature(objective: Formula, given: Case, moves: Moves) -> Number:
    """Twice the coefficient of t^2: the Hessian as a quadratic form."""
    return 2 * objective(along(given, moves))[2]


def hessian(objective: Formula, given: Case) -> np.ndarray:
    """The whole Hessian, ordered W_1..W_L, each row by row: from the curvature along every pair of weights.

    All pairs at once: the coefficients of t, and only they, are arrays with an entry for each pair.
    """
    size = sum(w.size for w in given.weights)
    units, (i, j) = np.eye(size, dtype=int), np.triu_indices(size)
    columns = iter((units[i] + units[j] * (i != j)[:, None]).T)
    weights = [np.array([Series((v, next(columns)), 2) for v in w.flat]).reshape(w.shape) for w in given.weights]
    constants = along(given, [0 * w for w in given.weights])
    found = np.zeros((size, size), dtype=given.x.dtype)
    found[i, j] = found[j, i] = 2 * objective(replace(constants, weights=weights))[2]
    own = np.diag(found).copy()
    found = (found - own - own[:, None]) / 2
    np.fill_diagonal(found, own)
    return found
