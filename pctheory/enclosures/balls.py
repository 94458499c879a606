r"""Balls: numbers known to lie within a radius of a midpoint, with the rounding of every step inside the radius.

A ball is a `flint.arb`. Doubles are taken as the binary fractions that they are: a ball encloses the value of the
formula at exactly those numbers. What is computed here is computed again with twice the bits, until the radius is
small enough or the statement is decided; what then is still open is refused.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from numbers import Rational
from typing import Any, TypeAlias, TypeVar

import numpy as np

from ..arguments import refuse_too_large, shown
from ..arrays import is_concrete

try:
    import flint
except ImportError:
    flint = None  # type: ignore[assignment]

Ball: TypeAlias = Any  # flint.arb
Balls: TypeAlias = np.ndarray  # of flint.arb
Matrix: TypeAlias = Any  # flint.arb_mat or flint.fmpq_mat
T = TypeVar("T")

GOAL = 2.0**-53
FIRST_BITS = 128
MOST_BITS = 2**14


class UndecidedError(ArithmeticError):
    """The balls are too wide to tell; more bits may help."""


@dataclass(frozen=True)
class Arithmetic:
    """One kind of number with its matrices: fractions, or balls of the working precision."""

    number: Callable[[Any], Any]
    of: Callable[[int, int, list[Any]], Matrix]

    def matrix(self, values: Any) -> Matrix:
        """The matrix of these doubles, unrounded."""
        array = np.asarray(values)
        rows, columns = array.shape
        return self.of(rows, columns, [self.number(v) for v in array.ravel().tolist()])

    def identity(self, size: int) -> Matrix:
        """I."""
        return self.matrix(np.eye(size))


def fractions() -> Arithmetic:
    """Exact fractions. Raises ImportError where python-flint is missing."""
    _require_flint()
    return Arithmetic(_fraction, flint.fmpq_mat)


def balls() -> Arithmetic:
    """Balls of the working precision. Raises ImportError where python-flint is missing."""
    _require_flint()
    return Arithmetic(lambda v: flint.arb(v if isinstance(v, float | flint.arb) else _fraction(v)), flint.arb_mat)


def is_ball(value: Any) -> bool:
    """Whether it is a ball, whose radius is then taken as it is."""
    _require_flint()
    return isinstance(value, flint.arb)


def refined(
    name: str,
    found: Callable[[], T],
    radius: Callable[[T], float] = lambda _: 0.0,
    *,
    goal: float = GOAL,
    most_bits: int = MOST_BITS,
) -> T:
    """`found` with 128 bits, 256 and so on, until it decides and `radius` of it is at most `goal`.

    Raises ValueError for a goal that is not positive, ArithmeticError where `most_bits` are not enough.
    """
    _require_flint()
    if not goal > 0:
        raise ValueError(f"{name}: goal is {shown(goal)}, expected a positive relative radius, such as 2.0**-53")
    bits, reached = FIRST_BITS, float("inf")
    while bits <= most_bits:
        with flint.ctx.workprec(bits):
            try:
                value = found()
                reached = radius(value)
                if reached <= goal:
                    return value
            except (UndecidedError, ZeroDivisionError):  # flint's word for a matrix that may be singular
                pass
        bits *= 2
    if reached == float("inf"):
        raise ArithmeticError(
            f"{name}: not decided with {most_bits} bits: a number is 0, or given balls are too wide"
        )
    raise ArithmeticError(
        f"{name}: the relative radius is {reached:.1e} with {most_bits} bits, expected at most {goal:.1e}; "
        "ask for less, or for the exact value"
    )


def relative_radius(ball: Ball | Balls) -> float:
    """The radius over the size of the midpoint, rounded up; of an array, the largest over the largest.

    0 for what is exact, infinity where the midpoint is 0 and the radius is not, NaN for what is not finite.
    """
    _require_flint()
    given = np.ravel(np.asarray(ball, dtype=object))
    if not all(entry.is_finite() for entry in given):
        return float("nan")
    with flint.ctx.workprec(FIRST_BITS):
        radius = _largest(entry.rad() for entry in given)
        size = _largest(abs(entry.mid()) for entry in given)
        if radius == 0:
            return 0.0
        return _float_above(radius / size) if size > 0 else float("inf")


def contains(ball: Ball | Balls, value: Any) -> bool:
    """Whether a number, or each entry of an array of the same shape, lies in its ball; no number is rounded."""
    _require_flint()
    enclosing, inside = np.asarray(ball, dtype=object), np.asarray(value, dtype=object)
    if enclosing.shape != inside.shape:
        raise ValueError(f"value has shape {inside.shape}, expected {enclosing.shape}")
    pairs = zip(enclosing.ravel(), inside.ravel(), strict=True)
    return all(
        b.contains(v) if is_ball(v) else abs(_fraction(v) - _dyadic(b.mid())) <= _dyadic(b.rad()) for b, v in pairs
    )


def entries(matrix: Matrix) -> np.ndarray:
    """The numbers of a matrix as an array; fractions are those of Python."""
    shape = matrix.nrows(), matrix.ncols()
    numbers = matrix.entries()
    if numbers and isinstance(numbers[0], flint.fmpq):
        numbers = [Fraction(int(v.p), int(v.q)) for v in numbers]
    return np.array([*numbers, None], dtype=object)[:-1].reshape(shape)


def refuse_unknown(name: str, *values: Any) -> None:
    """TypeError where the numbers are traced by JAX, so that there is nothing to enclose."""
    if not all(is_concrete(value) for value in values):
        raise TypeError(f"{name}: its numbers are not known inside jit, vmap and grad; call it outside")


def require_numbers(name: str, given: np.ndarray) -> None:
    """ValueError or TypeError at the first entry of a matrix that is no exact number and no ball, or not finite."""
    balls_expected = is_ball(given.flat[0])
    for place, value in np.ndenumerate(given):
        if is_ball(value) != balls_expected or not (
            balls_expected or isinstance(value, Rational | float | np.integer)
        ):
            raise TypeError(
                f"{name}: matrix holds {shown(value)} at {place}, "
                "expected doubles, whole numbers and fractions, or balls"
            )
        if not (value.is_finite() if balls_expected else abs(value) < float("inf")):
            raise ValueError(f"{name}: matrix holds {value} at {place}, expected finite numbers")


def refuse_too_many(name: str, numbers: int) -> None:
    """MemoryError where this many balls of 1024 bits exceed the machine's memory."""
    refuse_too_large(name, (numbers, 24), "take a smaller one")


def _fraction(value: float | Rational) -> Any:
    """flint's fraction of a double, a whole number or a fraction."""
    if isinstance(value, float):
        return flint.fmpq(*value.as_integer_ratio())
    return flint.fmpq(int(value.numerator), int(value.denominator))


def _dyadic(point: Ball) -> Any:
    """A ball without radius as a fraction: flint would round a fraction to the working precision instead."""
    mantissa, exponent = point.man_exp()
    return mantissa * flint.fmpq(2) ** exponent


def _largest(values: Iterable[Any]) -> Any:
    """Of balls without radius."""
    return max(values, default=flint.arb(0))


def _float_above(ball: Ball) -> float:
    """A double of at least the ball's upper end."""
    return float(np.nextafter(float(ball.upper()), np.inf))


def _require_flint() -> None:
    if flint is None:
        raise ImportError("enclosures need python-flint: pip install 'pctheory[rigorous]'")
