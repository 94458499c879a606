r"""Differences between two methods that start alike, as claims on training measure them.

Differences are paired, start by start. "a +- b" is their mean with its interval of 95 per cent confidence (by
Student's t), d the effect size, mean over standard deviation. A shortfall is by how much the interval reaches over
to the wrong side of 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy.stats import t as students_t

from pctheory.claims import largest

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """Of two methods from each start."""

    mean: float
    margin: float
    effect: float

    @classmethod
    def of(cls, larger: Values, smaller: Values) -> "Difference":
        found = larger - smaller
        spread = float(found.std(ddof=1))
        margin = float(students_t.ppf(0.975, len(found) - 1)) * spread / math.sqrt(len(found))
        return cls(float(found.mean()), margin, float(found.mean()) / spread)

    @property
    def text(self) -> str:
        return f"{self.mean:.3g} +- {self.margin:.2g}, d = {self.effect:.2g}"


def shortfall(sign: int, found: Difference) -> float:
    """Of the claim that the difference has this sign."""
    return largest(0.0, found.margin - sign * found.mean)


FALSE_ORDER: dict[str, Callable[[Difference], float]] = {"the other way round": partial(shortfall, -1)}
