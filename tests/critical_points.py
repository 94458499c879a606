"""Critical points of F* in fractions, written down from their singular directions, with everything else at random.

In the coordinates of orthogonal q and v the data are  y = sum_k gain_k q_k v_k^T x  (plus noise in directions q_k
that are not fitted), x of second moments I, then turned by any C. A point fits the directions `fitted`:

    W_1 = G_1 [D v_J^T; Y],   W_l = G_l diag(I, X_l) G_{l-1}^-1,   W_L = q_J [D', B] G_{L-1}^-1

with X_{L-1} .. X_2 Y = 0, or B = 0 and Y in the span of v_J^T. It is critical, as A_L^T r = 0 and Sigma_rx M^T = 0.
"""

from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

import numpy as np

from . import oracles
from .cases import Case, exact

HADAMARD = np.array([[1]])
for _ in range(3):  # 8 x 8: orthogonal columns of mean square 1
    HADAMARD = np.block([[HADAMARD, HADAMARD], [HADAMARD, -HADAMARD]])
EXACT = np.vectorize(lambda value: exact(int(value)), otypes=[object])
UNROUNDED = np.vectorize(exact, otypes=[object])  # of floats
FITS = ((), (0,), (1,), (0, 1), (1, 2))
SHAPES = (  # N_{L-1} >= min(d_x, d_y): depth 2 to 5, narrow layers elsewhere
    *((2, 2, 2), (3, 3, 2), (2, 2, 3), (3, 3, 3), (3, 4, 3), (1, 2, 2)),
    *((2, 3, 2, 2), (3, 1, 3, 2), (3, 2, 3, 3), (3, 3, 3, 3)),
    *((2, 3, 2, 2, 2), (3, 2, 2, 3, 3), (3, 2, 2, 2, 3, 3), (2, 2, 1, 3, 2, 2)),
)


@dataclass(frozen=True)
class CriticalPoint:
    """The network with its data, and the directions q_k that it misses although y depends on x along them."""

    case: Case
    missed: np.ndarray  # in columns
    directions: np.ndarray  # all q_k, in columns

    @property
    def top(self) -> np.ndarray:
        """M_{L-1:1}."""
        return product(self.case.maps[:-1], self.case.widths[0])

    @property
    def residual_moments(self) -> tuple[np.ndarray, np.ndarray]:
        """R and Sigma_rx."""
        r = oracles.residual(self.case)
        return r.T @ r / len(r), r.T @ self.case.x / len(r)


def product(maps: list[np.ndarray], size: int) -> np.ndarray:
    """M = A_k .. A_1, the identity of `size` for no maps."""
    product = EXACT(np.eye(size, dtype=int))
    for a in maps:
        product = a @ product
    return product


def critical_point(
    seed: int, widths: tuple[int, ...], fitted: tuple[int, ...], *, noise: int = 0, plain: bool = False
) -> CriticalPoint:
    """The point that fits the directions `fitted` (0: largest gain); `plain`: unit scalings and precisions."""
    rng = np.random.default_rng(seed)
    d_x, *hidden, d_y = widths
    signal = min(d_x, d_y)
    gains = EXACT(np.arange(signal, 0, -1))
    q, v = _rotation(rng, d_y), _rotation(rng, d_x)
    turn = _unimodular(rng, d_x)
    missed = [k for k in range(d_y) if k not in fitted]
    x = EXACT(HADAMARD[:, :d_x])
    y = x @ (v[:, :signal] * gains) @ q[:, :signal].T
    y = y + noise * HADAMARD[:, d_x : d_x + len(missed)] @ q[:, missed].T
    maps = _maps(rng, (q[:, list(fitted)], gains[list(fitted)], v[:, list(fitted)]), d_x, hidden)
    maps[0] = maps[0] @ _inverse(turn)
    depth = len(maps)
    scalings, precisions = (EXACT(rng.integers(1, 4, depth)) ** (not plain) for _ in range(2))
    skips = EXACT([int(not plain and 0 < l < depth - 1 and len(a) == len(a.T)) for l, a in enumerate(maps)])
    diagonals = [s * np.eye(a.shape[0], a.shape[1], dtype=int) for s, a in zip(skips, maps, strict=True)]
    weights = [(a - d) / c for a, d, c in zip(maps, diagonals, scalings, strict=True)]
    biases = [0 * w[:, 0] for w in weights]
    name = f"{widths}, fits {fitted}, noise {noise}, seed {seed}"
    case = Case(name, weights, scalings, skips, biases, precisions, x @ turn.T, y)
    return CriticalPoint(case, q[:, [k for k in missed if k < signal]], q)


def _maps(
    rng: np.random.Generator, fit: tuple[np.ndarray, np.ndarray, np.ndarray], d_x: int, hidden: list[int]
) -> list[np.ndarray]:
    """A_1..A_L."""
    left, gains, right = fit
    rank = len(gains)
    sides = [_unimodular(rng, n) for n in hidden]
    spare = [n - rank for n in hidden]
    free = [integers(rng, above, below) for below, above in pairwise(spare)]
    first, last = integers(rng, spare[0], d_x), integers(rng, rank, spare[-1])
    closed = int(rng.integers(len(hidden) + 1))  # which of Y, X_2, .., X_{L-1} is 0, or B
    if closed == 0:
        first = 0 * first
    elif closed == len(hidden):
        first, last = integers(rng, spare[0], rank) @ right.T, 0 * last
    else:
        free[closed - 1] = 0 * free[closed - 1]
    share = EXACT(rng.integers(1, 4, rank))
    maps = [sides[0] @ np.concatenate([(gains * share)[:, None] * right.T, first])]
    for x, below, above in zip(free, sides[:-1], sides[1:], strict=True):
        middle = np.zeros((len(above), len(below)), dtype=object) + exact(0)
        middle[:rank, :rank], middle[rank:, rank:] = EXACT(np.eye(rank, dtype=int)), x
        maps.append(above @ middle @ _inverse(below))
    return [*maps, left @ np.concatenate([np.diag(1 / share), last], axis=1) @ _inverse(sides[-1])]


def integers(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """From -2 to 2, as fractions."""
    return (
        EXACT(rng.integers(-2, 3, (rows, columns))) if rows * columns else np.zeros((rows, columns), dtype=object)
    )


def _unimodular(rng: np.random.Generator, size: int) -> np.ndarray:
    one = EXACT(np.eye(size, dtype=int))
    return (one + np.tril(integers(rng, size, size), -1)) @ (one + np.triu(integers(rng, size, size), 1))


def _inverse(matrix: np.ndarray) -> np.ndarray:
    return oracles.solve(matrix, EXACT(np.eye(len(matrix), dtype=int)))


def _rotation(rng: np.random.Generator, size: int) -> np.ndarray:
    """(I - K)^-1 (I + K) with K skew: orthogonal, in fractions."""
    lower = np.tril(integers(rng, size, size), -1)
    one = EXACT(np.eye(size, dtype=int))
    return oracles.solve(one - (lower - lower.T), one + (lower - lower.T))


@cache
def points(*, plain: bool = False, shapes: tuple[tuple[int, ...], ...] = SHAPES) -> list[CriticalPoint]:
    """Of every shape and rank that leaves some signal out, with and without noise."""
    return [
        critical_point(10 * i + 2 * j + noise, widths, fitted, noise=noise, plain=plain)
        for i, widths in enumerate(shapes)
        for j, fitted in enumerate(FITS)
        if max(fitted, default=0) < min(widths[0], widths[-1]) > len(fitted) <= min(widths)
        for noise in (0, 1)
    ]


def spread(given: Case) -> np.ndarray:
    """K: the rescaling of the layers below the last."""
    layered = ("weights", "scalings", "skips", "biases", "precisions")
    return oracles.rescaling(replace(given, **{name: getattr(given, name)[:-1] for name in layered}))


def remaining_spread(given: Case) -> np.ndarray:
    """G = (K^-1 + pi_L A_L^T A_L)^-1."""
    below, last = spread(given), given.maps[-1]
    one = EXACT(np.eye(len(below), dtype=int))
    return oracles.solve(oracles.solve(below, one) + given.precisions[-1] * last.T @ last, one)
