"""Laws fitted to measurements: exponents and rates with their confidence intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import ArrayLike
from scipy.stats import linregress
from scipy.stats import t as students_t

from ..arguments import OVERFLOW_IS_REPORTED, numbers, public

Values = ArrayLike | Sequence[Any]


@dataclass(frozen=True)
class LawFit:
    """A line through logarithms, by least squares, with the interval of confidence `level` of its slope.

    From `log_log_fit` the slope is the exponent k of y = exp(intercept) x^k, from `exponential_fit` the rate k of
    y = exp(intercept + k x). The interval, by Student's t, takes the points as independent and the law as exact: it
    says how well a slope is known over these points, not how far the law reaches beyond them.
    """

    slope: float
    intercept: float
    interval: tuple[float, float]
    level: float

    def keeps_to(self, least: float, most: float) -> bool:
        """Whether the whole interval lies between `least` and `most`."""
        return least <= self.interval[0] and self.interval[1] <= most

    @property
    def text(self) -> str:
        """The slope and its interval, to read."""
        return f"{self.slope:.3g} ({self.interval[0]:.3g} to {self.interval[1]:.3g})"


@public
def log_log_fit(x: Values, y: Values, level: float = 0.95) -> LawFit:
    """The exponent k of y ~ x^k: the slope of log y against log x. From three points on, x at two places at least.

    Raises ValueError for vectors that do not match, fewer points, numbers that are not positive and finite, and a
    `level` outside (0, 1).
    """
    horizontal, vertical = _vectors(x, y)
    _positive("x", horizontal)
    return _fit(np.log(horizontal), vertical, level)


@public
def exponential_fit(x: Values, y: Values, level: float = 0.95) -> LawFit:
    """The rate k of y ~ exp(k x): the slope of log y against x, which may be negative. Raises as `log_log_fit`."""
    return _fit(*_vectors(x, y), level)


def _vectors(x: Values, y: Values) -> tuple[np.ndarray, np.ndarray]:
    horizontal, vertical = numbers("x", x), numbers("y", y)
    if horizontal.ndim != 1 or horizontal.shape != vertical.shape:
        raise ValueError(f"x has shape {horizontal.shape} and y {vertical.shape}, expected vectors of one length")
    if len(horizontal) < 3:
        raise ValueError(f"x has {len(horizontal)} points, expected at least 3: two leave no room for an interval")
    _finite("x", horizontal)
    _positive("y", vertical)
    return horizontal, vertical


def _finite(name: str, values: np.ndarray) -> None:
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise ValueError(
            f"{name} is {values[wrong[0]]} at index {wrong[0]}, expected a finite number; leave it out"
        )


def _positive(name: str, values: np.ndarray) -> None:
    _finite(name, values)
    wrong = np.flatnonzero(values <= 0)
    if len(wrong):
        raise ValueError(f"{name} is {values[wrong[0]]} at index {wrong[0]}, expected a positive number")


@OVERFLOW_IS_REPORTED
def _fit(horizontal: np.ndarray, vertical: np.ndarray, level: float) -> LawFit:
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, expected a number between 0 and 1, such as 0.95")
    if np.ptp(horizontal) == 0:
        raise ValueError("x is the same at every point, expected at least two places; vary it")
    line = linregress(horizontal, np.log(vertical))
    half = float(students_t.ppf((1 + level) / 2, len(horizontal) - 2) * line.stderr)
    slope = float(line.slope)
    if not np.isfinite([slope, half, line.intercept]).all():
        raise FloatingPointError("x and y: no line through them in double precision; take points further apart")
    return LawFit(slope, float(line.intercept), (slope - half, slope + half), level)
