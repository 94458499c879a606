"""The largest eigenvalue of a symmetric operator by Lanczos, with a bound on its error."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..network import refuse_too_large

Apply = Callable[[np.ndarray], np.ndarray]
ROOM, KEPT = 120, 40  # vectors in the basis, and Ritz vectors kept of them when it is full
EVERY = 4  # steps between looks at the Ritz values
NEGLIGIBLE = 1e-14  # a next vector this short, beside the operator, is rounding: the subspace is invariant


@dataclass(frozen=True, eq=False)
class RitzPair:
    """An approximate eigenpair. residual: |A v - value v|, error: a bound on the value's, both relative to it.

    error is the smaller of the residual and of residual^2 / gap (Kato and Temple), with the gap down to the second
    Ritz value plus its residual. `applied`: how many products it took.
    """

    value: float
    vector: np.ndarray
    residual: float
    error: float
    applied: int


def largest_eigenpair(apply: Apply, start: np.ndarray, tolerance: float, max_products: int) -> RitzPair:
    """Of a positive definite operator, to a relative error of `tolerance` or as near as `max_products` come.

    Thick restarts; the basis is kept orthonormal to rounding. The residual returned is measured anew.
    """
    room = min(len(start), ROOM)
    refuse_too_large("largest_eigenpair", (room + KEPT, len(start)), "take a smaller network")
    basis, projected = np.empty((room, len(start))), np.zeros((room, room))
    vector, rank, applied = start / np.linalg.norm(start), 0, 0
    while True:
        basis[rank] = vector
        rank, applied = rank + 1, applied + 1
        image, inside = _split(apply(vector), basis[:rank])
        projected[rank - 1, :rank] = projected[:rank, rank - 1] = inside
        length = float(np.linalg.norm(image))
        full, over = rank == room, applied >= max_products or length <= NEGLIGIBLE * np.linalg.norm(inside)
        if rank % EVERY == 0 or full or over:
            values, vectors = np.linalg.eigh(projected[:rank, :rank])
            error = _error(values, length * np.abs(vectors[-1]))
            if error <= tolerance * values[-1] or over or rank == len(start):
                break
            if full:
                basis[:KEPT] = vectors[:, -KEPT:].T @ basis
                projected[:KEPT, :KEPT] = np.diag(values[-KEPT:])
                rank = KEPT
        vector = image / length
    found = vectors[:, -1] @ basis[:rank]
    found /= np.linalg.norm(found)
    image = apply(found)
    value = float(found @ image)
    residual = float(np.linalg.norm(image - value * found))
    with_others = _error(np.append(values[:-1], value), np.append(length * np.abs(vectors[-1, :-1]), residual))
    return RitzPair(value, found, residual / value, with_others / value, applied + 1)


def _error(values: np.ndarray, residuals: np.ndarray) -> float:
    """Of the last of ascending Ritz values."""
    residual = float(residuals[-1])
    gap = float(values[-1] - values[-2] - residuals[-2]) if len(values) > 1 else 0.0
    return min(residual, residual**2 / gap) if gap > 0 else residual


def _split(image: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is outside the span of the orthonormal rows, and the coefficients within; twice is enough."""
    inside = basis @ image
    outside = image - inside @ basis
    correction = basis @ outside
    return outside - correction @ basis, inside + correction
