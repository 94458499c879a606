"""Weight gradients against exact Taylor coefficients along a change of the weights."""

from typing import Any
from zlib import crc32

import numpy as np

from tests import oracles
from tests.cases import Case


def slope_remainder(
    given: Case, gradient: list[np.ndarray], *, layers: int | None = None, rescaled: bool = True
) -> Any:
    """The derivative of F* (or of the loss) along a change in whole numbers, less that of the gradient.

    The change is of all weights, or of those of the first `layers`; the same for every kind of number.
    """
    rng = np.random.default_rng(crc32(given.name.encode()))
    change = [rng.integers(-2, 3, w.shape).astype(given.x.dtype) for w in given.weights]
    change = [c * (layers is None or l < layers) for l, c in enumerate(change)]
    slope = sum((g * c).sum() for g, c in zip(gradient, change, strict=True))
    return oracles.along(given, change, rescaled=rescaled)[1] - slope
