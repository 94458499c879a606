r"""Eigenvalues of symmetric matrices: how many are negative, proven, and balls around the extreme ones.

M = L D L^T has as many negative eigenvalues as D has negative pivots (Sylvester), whatever the rounding, as long as
no pivot's ball holds 0. So t is below the smallest eigenvalue if the pivots of M - t I are positive, and any vector
v has v^T M v / v^T v above it: a proven lower and a proven upper bound. Good vectors come from inverse iteration at
the lower bound, the next t from their residual; neither is trusted. A block-tridiagonal matrix is eliminated block
by block:  D_l = M_ll - t I - M_l,l-1 D_{l-1}^-1 M_l-1,l.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, TypeAlias

import jax
import numpy as np
from scipy.linalg import eigh
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from ..arguments import public, shown
from ..equilibrium import _needs_hidden_layers
from ..network import LinearPCN
from ..saddles import exact_inertia
from .balls import (
    GOAL,
    Ball,
    Matrix,
    UndecidedError,
    balls,
    entries,
    is_ball,
    refined,
    refuse_too_many,
    refuse_unknown,
    relative_radius,
    require_numbers,
)
from .chain import matrices

Inertia: TypeAlias = tuple[int, int, int]
Extremes: TypeAlias = tuple[Ball, Ball]
Vector: TypeAlias = list[Matrix]  # one column for each block

SWEEPS = 6  # of inverse iteration at one shift: cheap beside its elimination
ROUNDS = 64
RATIONAL_BITS = 1024  # where these do not decide, an eigenvalue is likely to be 0
DENSE_START = 400  # rows up to which LAPACK finds the vector to start from


@public
def decided_inertia(matrix: Any) -> Inertia:
    """How many eigenvalues of a symmetric matrix are negative, zero and positive: proven.

    Entries are doubles, whole numbers and fractions, all taken exactly, or balls. Rational matrices are always
    decided, by `exact_inertia` where an eigenvalue is 0.
    Raises ValueError for a matrix that is not symmetric, ArithmeticError where the balls leave it open,
    ImportError where python-flint is missing. Twin: `exact_inertia`.
    Cost: n^3 / 6 operations on balls, 0.1 s at n = 100; with an eigenvalue 0 as `exact_inertia`.
    """
    given = _symmetric("decided_inertia", matrix)
    if is_ball(given[0, 0]):
        return refined("decided_inertia", lambda: _inertia(given))
    try:
        return refined("decided_inertia", lambda: _inertia(entries(balls().matrix(given))), most_bits=RATIONAL_BITS)
    except ArithmeticError:
        return exact_inertia(_as_fractions(given))


@public
def enclosed_extremes(matrix: Any, *, goal: float = GOAL) -> Extremes:
    """Balls around the smallest and the largest eigenvalue of a symmetric matrix, of relative radius up to `goal`.

    Entries as in `decided_inertia`; around balls, for every symmetric matrix inside. Clusters and repeated
    eigenvalues do no harm. Of rational matrices an end that is exactly 0 is found to be so.
    Raises: as `decided_inertia`, and ArithmeticError where the goal is not reached. Twin: mpmath's `eigsy`.
    Cost: some five eliminations of n^3 / 6 operations on balls for each end, 0.5 s at n = 100.
    """
    name = "enclosed_extremes"
    given = _symmetric(name, matrix)
    ends = []
    inertia = (None, 0, None) if is_ball(given[0, 0]) else decided_inertia(given)
    for sign, beyond in ((1, inertia[0]), (-1, inertia[2])):
        if beyond == 0 and inertia[1]:
            ends.append(balls().number(0))
            continue
        positive = None if beyond is None else beyond == 0
        ends.append(_end(name, lambda: _Blocks([balls().matrix(given)], []), sign, positive, goal))
    return ends[0], ends[1]


@public
def enclosed_activity_hessian_extremes(net: LinearPCN, *, goal: float = GOAL) -> Extremes:
    """Balls around the smallest and the largest eigenvalue of the activity Hessian H_z.

    Their ratio encloses its condition number, however large: in floats it is lost beyond 1e16.
    Raises ValueError without hidden layers, else as `enclosed_extremes`. Source: mupc-2025/activity-hessian.
    Twin: `activity_hessian_extremes`. Cost: some ten eliminations of H blocks, 16 x 64 layers in seconds.
    """
    name = "enclosed_activity_hessian_extremes"
    _needs_hidden_layers(net, name)
    refuse_unknown(name, *jax.tree.leaves(net))
    refuse_too_many(name, 8 * sum(n * n for n in net.widths[1:-1]))

    def blocks() -> _Blocks:
        kind = balls()
        maps, precisions = matrices(kind, net), [kind.number(v) for v in net.precisions.tolist()]
        own = [kind.identity(n) * pi for n, pi in zip(net.widths[1:-1], precisions, strict=False)]
        upper = list(zip(maps[1:], precisions[1:], strict=True))
        diagonal = [d + a.transpose() * a * pi for d, (a, pi) in zip(own, upper, strict=True)]
        return _Blocks(diagonal, [a * -pi for a, pi in upper[:-1]])

    return _end(name, blocks, 1, True, goal), _end(name, blocks, -1, False, goal)


def _end(name: str, blocks: Callable[[], "_Blocks"], sign: int, positive: bool | None, goal: float) -> Ball:
    """The smallest eigenvalue, or for sign -1 the largest; `positive`: that of sign M, where it is known."""
    return refined(name, lambda: sign * _smallest(blocks().times(sign), positive, goal), relative_radius, goal=goal)


@dataclass(frozen=True)
class _Blocks:
    """A symmetric block-tridiagonal matrix: its diagonal blocks and those below them."""

    diagonal: list[Matrix]
    below: list[Matrix]

    def times(self, sign: int) -> "_Blocks":
        return self if sign == 1 else _Blocks([-d for d in self.diagonal], [-b for b in self.below])

    def product(self, v: Vector) -> Vector:
        image = [d * part for d, part in zip(self.diagonal, v, strict=True)]
        for l, b in enumerate(self.below):
            image[l + 1] += b * v[l]
            image[l] += b.transpose() * v[l + 1]
        return image

    @cached_property
    def bound(self) -> Ball:
        """The largest sum of sizes in a row: no eigenvalue is larger in size."""
        sums = [np.abs(entries(d)).sum(axis=1) for d in self.diagonal]
        for l, b in enumerate(self.below):
            sizes = np.abs(entries(b))
            sums[l + 1] = sums[l + 1] + sizes.sum(axis=1)
            sums[l] = sums[l] + sizes.sum(axis=0)
        return max(total.upper() for part in sums for total in part)

    def vector(self, values: np.ndarray) -> Vector:
        """One row of floats, block by block."""
        stops = np.cumsum([d.nrows() for d in self.diagonal])[:-1]
        return [balls().matrix(piece[:, None]) for piece in np.split(values, stops)]

    def start(self) -> Vector:
        """An approximate vector of the smallest eigenvalue, from floats; nothing relies on it."""
        diagonal, below = ([_floats(m / self.bound) for m in part] for part in (self.diagonal, self.below))
        stops = np.cumsum([len(d) for d in diagonal])

        def product(v: np.ndarray) -> np.ndarray:
            pieces = np.split(v.ravel(), stops[:-1])
            image = [d @ piece for d, piece in zip(diagonal, pieces, strict=True)]
            for l, b in enumerate(below):
                image[l + 1] += b @ pieces[l]
                image[l] += b.T @ pieces[l + 1]
            return np.concatenate(image)

        size = int(stops[-1])
        if size <= DENSE_START:
            dense = np.stack([product(row) for row in np.eye(size)])
            return self.vector(eigh(dense, subset_by_index=(0, 0))[1][:, 0])
        operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
        try:  # a rough one will do, as inverse iteration follows
            return self.vector(eigsh(operator, k=1, which="SA", v0=_random(size), tol=1e-4)[1][:, 0])
        except ArpackNoConvergence:
            return self.vector(_random(size))


class _Eliminated:
    """M - t I block by block, positive definite: what its inverse is applied with."""

    def __init__(self, inverses: list[Matrix], multipliers: list[Matrix]):
        self.inverses, self.multipliers = inverses, multipliers

    @classmethod
    def of(cls, blocks: _Blocks, shift: Ball) -> "_Eliminated | None":
        """None if M - t I is proven not to be positive definite. Raises UndecidedError if neither is proven."""
        inverses: list[Matrix] = []
        multipliers: list[Matrix] = []
        for l, d in enumerate(blocks.diagonal):
            pivot = d - balls().identity(d.nrows()) * shift
            if l:
                multipliers.append(blocks.below[l - 1] * inverses[-1])
                pivot = pivot - multipliers[-1] * blocks.below[l - 1].transpose()
            if not _is_positive(pivot):
                return None
            inverses.append(pivot.inv())
        return cls([m.mid() for m in inverses], [m.mid() for m in multipliers])

    def solved(self, v: Vector) -> Vector:
        """About (M - t I)^-1 v, scaled to entries of at most about 1."""
        rows = [v[0]]
        for m, part in zip(self.multipliers, v[1:], strict=True):
            rows.append((part - m * rows[-1]).mid())
        found = [self.inverses[-1] * rows[-1]]
        for inverse, m, row in zip(self.inverses[-2::-1], self.multipliers[::-1], rows[-2::-1], strict=True):
            found.append((inverse * row - m.transpose() * found[-1]).mid())
        size = max(abs(entry).upper() for part in found for entry in part.entries())
        return [(part / size).mid() for part in reversed(found)]


def _smallest(blocks: _Blocks, positive: bool | None, goal: float) -> Ball:
    """The smallest eigenvalue between two proven bounds."""
    bound = blocks.bound
    if bound == 0:
        return bound
    lower, upper = -2 * bound, bound
    eliminated = None if positive is False else _at_zero(blocks, positive)
    if eliminated is None:
        v = blocks.start()
    else:
        lower, v = 0 * bound, blocks.vector(_random(sum(d.nrows() for d in blocks.diagonal)))
    for _ in range(ROUNDS):
        for _ in range(SWEEPS):
            v = v if eliminated is None else eliminated.solved(v)
        quotient, residual = _rayleigh(blocks, v)
        upper = min(upper, quotient.upper())
        width = (abs(upper) * float(goal)).mid()
        shift = (upper - max(2 * residual, width)).mid()
        if not lower < shift:
            shift = ((lower + upper) / 2).mid()
        trial = _Eliminated.of(blocks, shift)
        if trial is None:
            upper = shift
            shift = ((lower + upper) / 2).mid()
            trial = _Eliminated.of(blocks, shift)
        if trial is None:
            upper = shift
        else:
            lower, eliminated = shift, trial
        if upper - lower <= 1.5 * width:  # of a radius of 3/4 of what is allowed
            return lower.union(upper)
    raise UndecidedError


def _random(size: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(size)


def _at_zero(blocks: _Blocks, positive: bool | None) -> _Eliminated | None:
    try:
        return _Eliminated.of(blocks, balls().number(0))
    except (UndecidedError, ZeroDivisionError):
        if positive:
            raise
        return None


def _rayleigh(blocks: _Blocks, v: Vector) -> tuple[Ball, Ball]:
    """v^T M v / v^T v and |M v - that v| / |v|, rounded up."""
    image = blocks.product(v)
    squares = _dot(v, v)
    quotient = _dot(v, image) / squares
    missed = [m - part * quotient.mid() for m, part in zip(image, v, strict=True)]
    return quotient, (_dot(missed, missed) / squares).upper().sqrt().upper()


def _dot(a: Vector, b: Vector) -> Ball:
    return sum(((x.transpose() * y)[0, 0] for x, y in zip(a, b, strict=True)), balls().number(0))


def _is_positive(matrix: Matrix) -> bool:
    """Whether all pivots are positive; False where one before is negative. Raises UndecidedError at a zero."""
    rows = [row[: i + 1] for i, row in enumerate(matrix.tolist())]
    while rows:
        column = [row[0] for row in rows]
        if not column[0] > 0:
            if column[0] < 0:
                return False
            raise UndecidedError
        rows = [_less(row[1:], row[0] / column[0], column[1:]) for row in rows[1:]]
    return True


def _less(row: list[Ball], factor: Ball, column: list[Ball]) -> list[Ball]:
    return [a - factor * b for a, b in zip(row, column, strict=False)]


def _inertia(matrix: np.ndarray) -> Inertia:
    """The signs of the pivots, the largest first; where the diagonal has none left, from a sum of two rows."""
    rows = matrix.copy()
    signs: list[int] = []
    while len(rows):
        sizes = [entry.abs_lower() for entry in rows.diagonal()]
        k = max(range(len(rows)), key=sizes.__getitem__)
        if not sizes[k] > 0:
            if all(entry.is_zero() for entry in rows.ravel()):
                return signs.count(-1), len(rows), signs.count(1)
            k = _with_pivot(rows)
        pivot = rows[k, k]
        signs.append(1 if pivot > 0 else -1)
        rest = np.delete(rows, k, axis=0)
        rows = np.delete(rest, k, axis=1) - np.outer(rest[:, k] / pivot, np.delete(rows[k], k))
    return signs.count(-1), 0, signs.count(1)


def _with_pivot(rows: np.ndarray) -> int:
    """Adds the row and column of another to one whose diagonal may be 0, so that it is not: a congruence."""
    sizes = {(i, j): rows[i, j].abs_lower() for i in range(1, len(rows)) for j in range(i)}
    if not sizes:
        raise UndecidedError
    i, j = max(sizes, key=sizes.__getitem__)
    rows[i] = rows[i] + rows[j]
    rows[:, i] = rows[:, i] + rows[:, j]
    if not abs(rows[i, i]) > 0:
        raise UndecidedError
    return i


def _symmetric(name: str, matrix: Any) -> np.ndarray:
    """The entries, after a look at shape, size, kind and symmetry; balls need only overlap."""
    try:
        given = np.asarray(matrix.tolist() if hasattr(matrix, "nrows") else matrix)
    except ValueError as error:
        raise ValueError(f"{name}: matrix has rows of different lengths, expected n x n") from error
    except TypeError as error:
        raise TypeError(f"{name}: matrix is {shown(matrix)}, expected numbers, n x n") from error
    if given.ndim != 2 or given.shape[0] != given.shape[1] or not given.size:
        raise ValueError(f"{name}: matrix has shape {given.shape}, expected n x n with n of at least 1")
    refuse_too_many(name, 4 * given.size)
    require_numbers(name, given)
    ball = is_ball(given[0, 0])
    for i, j in zip(*np.tril_indices(len(given), -1), strict=True):
        a, b = given[i, j], given[j, i]
        if not (a.overlaps(b) if ball else a == b):
            raise ValueError(f"{name}: matrix has {a} at ({i}, {j}) and {b} at ({j}, {i}); symmetrise it")
    return given


def _floats(matrix: Matrix) -> np.ndarray:
    return entries(matrix).astype(float)


def _as_fractions(given: np.ndarray) -> np.ndarray:
    return np.array([[Fraction(v) for v in row] for row in given.tolist()], dtype=object)
