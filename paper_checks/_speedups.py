"""Escape times and speed-ups, as the claims about escapes from saddles measure them.

The escape time is the number of steps until the loss is below a stated level. A speed-up is the escape time of
backpropagation (BP) over that of predictive coding (PC) from the same weights on the same data. Means are
geometric, over seeds, with intervals that cover them with 95 per cent confidence (Student's t of the logarithms).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as students_t

from pctheory.claims import largest

Values = npt.NDArray[np.float64]


def escape_times(losses: Values, level: Values, name: str) -> Values:
    """For each run, one row each, the first step whose loss is below its level; RuntimeError where none is."""
    below = losses < level
    if not below.any(axis=1).all():
        raise RuntimeError(f"{name}: {(~below.any(axis=1)).sum()} of {len(losses)} runs do not escape; run longer")
    return below.argmax(axis=1).astype(float)


@dataclass(frozen=True)
class Speedup:
    """The logarithm of a geometric mean over seeds, the half-width of its interval, and the effect size."""

    log: float
    margin: float
    effect: float

    @classmethod
    def of(cls, slow: Values, quick: Values) -> "Speedup":
        ratios = np.log(slow) - np.log(quick)
        spread = float(ratios.std(ddof=1))
        margin = float(students_t.ppf(0.975, len(ratios) - 1)) * spread / math.sqrt(len(ratios))
        return cls(float(ratios.mean()), margin, float(ratios.mean()) / spread if spread else math.inf)

    @property
    def low(self) -> float:
        return self.log - self.margin

    @property
    def high(self) -> float:
        return self.log + self.margin

    def text(self) -> str:
        interval = f"[{math.exp(self.low):.2f}, {math.exp(self.high):.2f}]"
        return f"{math.exp(self.log):.2f} {interval}, effect size {self.effect:.1f}"


Ordering = Callable[[Speedup], float]
ORDER: dict[str, Ordering] = {"faster": lambda found: found.low, "slower": lambda found: -found.high}


def shortfall(ordering: Ordering, found: Speedup) -> float:
    """By how much the interval of the logarithm reaches over to the wrong side."""
    return largest(0.0, -ordering(found))


def growth_shortfall(sign: int, first: Speedup, second: Speedup) -> float:
    """The same for their difference: the second, times `sign`, is larger."""
    return largest(0.0, math.hypot(first.margin, second.margin) - sign * (second.log - first.log))
