"""Symmetric operators as the functions of this folder take them: a matrix or a SciPy operator, checked."""

from collections.abc import Callable

import numpy as np
from jaxtyping import ArrayLike
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from ..arrays import checked_array

Product = Callable[[np.ndarray], np.ndarray]
ASYMMETRY = 1e-10  # largest accepted, relative to the largest entry: well above rounding, below any real slip


def symmetric_operator(matrix: ArrayLike | LinearOperator) -> tuple[Product, int]:
    """`v -> A v`, which raises FloatingPointError for results that are not finite, and the number of rows.

    Raises ValueError for what is not square, and for a matrix that is not symmetric or not finite.
    """
    if isinstance(matrix, LinearOperator):
        operator = matrix
    else:
        array = np.array(checked_array(matrix, "matrix", ndim=2), order="C")
        operator = aslinearoperator(array)
    if operator.shape[0] != operator.shape[1]:
        raise ValueError(f"matrix has shape {operator.shape}, expected a square one")
    if not isinstance(matrix, LinearOperator):
        asymmetry = float(np.abs(array - array.T).max())
        if asymmetry > ASYMMETRY * float(np.abs(array).max()):
            raise ValueError(f"matrix differs from its transpose by {asymmetry:.3g}, expected a symmetric one")

    def product(vector: np.ndarray) -> np.ndarray:
        image = np.asarray(operator.matvec(vector))
        if not np.isfinite(image).all():
            raise FloatingPointError("matrix: its product with a finite vector is not finite; rescale it")
        return image

    return product, operator.shape[0]
