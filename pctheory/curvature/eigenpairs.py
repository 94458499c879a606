r"""The eigenvalues at both ends of a symmetric operator, with their vectors and true residuals.

Dense below `DENSE_BELOW` rows. Above, block Lanczos with thick restart: the block has as many random vectors as
eigenvalues are asked for, so repeated eigenvalues are found that often; the basis is kept orthonormal to rounding,
so that an invariant subspace (zero, identity, low rank) ends the search exactly.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import ArrayLike, Float
from scipy.linalg import qr
from scipy.sparse.linalg import LinearOperator

from ..arguments import public, whole_number
from ..network import refuse_too_large
from .operators import Product, symmetric_operator

DENSE_BELOW = 2000
ROOM = 40  # vectors in the basis before a restart, or 8 for each pair asked for if that is more
NEGLIGIBLE, CANCELLED = 1e-12, 1e-6  # relative to the operator: where rounding is all, or a tenth of the digits
Pairs = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class ExtremeEigenpairs:
    """The `count` lowest eigenvalues, ascending, and the `count` highest, descending, repeated ones repeated.

    Vectors stand in columns, of length 1. residuals: |A v - lambda v|, lowest in the first row, highest in the
    second; each bounds the distance to an eigenvalue. converged: all residuals keep to the tolerance asked for.
    """

    lowest: Float[np.ndarray, " count"]
    highest: Float[np.ndarray, " count"]
    lowest_vectors: Float[np.ndarray, "n count"]
    highest_vectors: Float[np.ndarray, "n count"]
    residuals: Float[np.ndarray, "2 count"]
    converged: bool

    @property
    def smallest(self) -> float:
        """The smallest eigenvalue."""
        return float(self.lowest[0])

    @property
    def largest(self) -> float:
        """The largest eigenvalue."""
        return float(self.highest[0])

    @property
    def smallest_vector(self) -> Float[np.ndarray, " n"]:
        """An eigenvector of the smallest eigenvalue."""
        return self.lowest_vectors[:, 0]

    @property
    def largest_vector(self) -> Float[np.ndarray, " n"]:
        """An eigenvector of the largest eigenvalue."""
        return self.highest_vectors[:, 0]


@public
def extreme_eigenpairs(
    matrix: ArrayLike | LinearOperator, *, count: int = 1, tolerance: float = 1e-8, max_products: int = 5000
) -> ExtremeEigenpairs:
    r"""The `count` eigenpairs at each end of a symmetric matrix or operator, from a fixed start.

    `tolerance` bounds the residuals relative to the largest eigenvalue in absolute value; an eigenvalue is off by
    at most its residual, and by about residual^2 / gap where it is isolated. Where `max_products` products do not
    suffice, `converged` is False and the best found is returned.

    Raises ValueError for what is not square and symmetric, `count` outside 1..n and a tolerance that is not
    positive; FloatingPointError for a product that is not finite; MemoryError where the basis would not fit.
    Twin: `numpy.linalg.eigh`. Cost: n products and an eigendecomposition below 2,000 rows; above, a product and
    four passes over the basis a step, which holds 40 vectors at most (8 for each pair asked for, if that is more),
    and half as many beside it at a restart.
    """
    product, size = symmetric_operator(matrix)
    count = whole_number("count", count, 1, size)
    max_products = whole_number("max_products", max_products, 1)
    if not 0 < tolerance < np.inf:
        raise ValueError(f"tolerance is {tolerance}, expected a positive finite number")
    room = min(size, max(ROOM, 8 * count))
    refuse_too_large("extreme_eigenpairs", (room + room // 2, size), "ask for fewer pairs")
    start = np.random.default_rng(0).standard_normal((count, size))
    unit = float(np.abs(product(start[0])).max()) or 1.0  # squares of what is measured in it stay in range

    def scaled(vector: np.ndarray) -> np.ndarray:
        return product(vector) / unit

    if size < DENSE_BELOW or size <= 8 * count:
        values, vectors = np.linalg.eigh(_images(scaled, np.eye(size)))
    else:
        values, vectors = _lanczos(scaled, start, room, tolerance, max_products)
    low, high = slice(None, count), slice(None, -count - 1, -1)
    residuals = np.stack([_residuals(scaled, values[end], vectors[:, end]) for end in (low, high)])
    return ExtremeEigenpairs(
        lowest=unit * values[low],
        highest=unit * values[high],
        lowest_vectors=vectors[:, low],
        highest_vectors=vectors[:, high],
        residuals=unit * residuals,
        converged=bool((residuals <= tolerance * np.abs(values).max()).all()),
    )


def _residuals(product: Product, values: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """|A v - lambda v| for each column."""
    return np.linalg.norm(_images(product, vectors.T) - values[:, None] * vectors.T, axis=1)


def _images(product: Product, rows: np.ndarray) -> np.ndarray:
    """The products with each of the `rows`, as rows."""
    return np.stack([product(row) for row in rows])


def _lanczos(product: Product, start: np.ndarray, room: int, tolerance: float, max_products: int) -> Pairs:
    """Ritz values, ascending, and vectors in columns: `len(start)` from each end, fewer where the ends overlap.

    A V = V T + W^T on the last block, with V the rows of the basis, T projected, W new and orthogonal to them; so
    the Ritz pair with coefficients s has the residual W^T s_last. A restart keeps the outer half of the Ritz pairs.
    """
    count, size = start.shape
    basis, projected = np.empty((room, size)), np.zeros((room, room))
    block, old, products = np.linalg.qr(start.T)[0].T, 0, 0
    while True:
        rank = old + len(block)
        basis[old:rank] = block
        new, inside = _split(_images(product, block), basis[:rank])
        products += len(block)
        projected[old:rank, :rank], projected[:rank, old:rank] = inside, inside.T
        values, vectors = np.linalg.eigh(projected[:rank, :rank])
        scale = np.abs(values).max()
        ends = np.unique(np.r_[: min(count, rank), max(rank - count, 0) : rank])
        residuals = np.linalg.norm(new.T @ vectors[old:rank, ends], axis=0)
        block = _orthonormal(new, basis[:rank], scale)
        if (residuals <= tolerance * scale).all() or products >= max_products or not len(block):
            return values[ends], (vectors[:, ends].T @ basis[:rank]).T
        old = rank
        if rank + len(block) > room:
            kept = np.r_[: room // 4, rank - room // 4 : rank]
            old = len(kept)
            basis[:old], projected[:old, :old] = vectors[:, kept].T @ basis[:rank], np.diag(values[kept])


def _split(images: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The parts of the rows outside the span of the orthonormal `basis`, and their coefficients within."""
    inside = images @ basis.T
    outside = images - inside @ basis
    correction = outside @ basis.T  # twice is enough
    return outside - correction @ basis, inside + correction


def _orthonormal(new: np.ndarray, basis: np.ndarray, scale: float) -> np.ndarray:
    """Orthonormal rows that span those of `new` as far as these are more than rounding."""
    directions, triangle, _ = qr(new.T, mode="economic", pivoting=True)
    lengths = np.abs(np.diag(triangle))
    block = directions[:, lengths > NEGLIGIBLE * scale].T
    if (lengths[: len(block)] < CANCELLED * scale).any():  # orthogonal to the basis no longer
        block = np.linalg.qr(_split(block, basis)[0].T)[0].T
    return block
