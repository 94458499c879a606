"""What the figures of toy landscapes share: the two objectives, and chains of single units."""

import numpy as np
import numpy.typing as npt
from jaxtyping import Array

from pctheory import LinearPCN, equilibrated_energy, loss

Values = npt.NDArray[np.float64]
Batch = tuple[Array, Array]

OBJECTIVES = {"loss": loss, "energy": equilibrated_energy}


def chain(weights: Array | Values) -> LinearPCN:
    """The network of one unit in every layer with these weights, w_1 first."""
    return LinearPCN(list(weights[:, None, None]))
