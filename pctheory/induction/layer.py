"""Layer l of a chain of any length, in symbols: what the formulas of the theorems are written with."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import sympy

from ..matrix_algebra import Expression, Relation, Size, identity, inverse, matrix, vector

HALF = sympy.Rational(1, 2)
NILPOTENT = sympy.Symbol("t")  # a derivative is a coefficient of its first power
Dimensions: TypeAlias = tuple[Size, Size, Size]
BELOW, HERE, ABOVE, OUTPUT, ZERO, ONE, TWO = (
    sympy.Symbol(f"N_{index}", positive=True, integer=True) for index in ("{l-1}", "l", "{l+1}", "L", "0", "1", "2")
)
FIRST_SIZES = {BELOW: ZERO, HERE: ONE, ABOVE: TWO}


@dataclass(frozen=True)
class SymbolicLayer:
    """The layer `anchor + offset`, such as l, l + 1 or 1 (no anchor), from `below` units to `here` units.

    `above` is the size of the output, or of the next layer where a theorem speaks of that one.
    """

    anchor: str
    offset: int
    below: Size
    here: Size
    above: Size

    @property
    def next(self) -> "SymbolicLayer":
        """The layer after this one, of `above` units."""
        return replace(self, offset=self.offset + 1, below=self.here, here=self.above)

    @property
    def precision(self) -> sympy.Symbol:
        """pi_l, positive."""
        return sympy.Symbol(self._indexed("pi"), positive=True)

    @property
    def precision_below(self) -> sympy.Symbol:
        """pi_{l-1}, positive."""
        return sympy.Symbol(self._indexed("pi", -1), positive=True)

    @property
    def identity(self) -> Expression:
        """The identity on layer l."""
        return identity(self.here)

    @property
    def map(self) -> Expression:
        """A_l, any matrix: scaling and skip are inside."""
        return matrix(self._indexed("A"), self.here, self.below)

    @property
    def bias(self) -> Expression:
        """c_l."""
        return vector(self._indexed("c"), self.here)

    @property
    def rescaling(self) -> Expression:
        """S_l, symmetric."""
        return matrix(self._indexed("S"), self.here, self.here, symmetric=True)

    @property
    def rescaling_below(self) -> Expression:
        """S_{l-1}, symmetric."""
        return matrix(self._indexed("S", -1), self.below, self.below, symmetric=True)

    @property
    def rescaling_inverse(self) -> Expression:
        """S_l^-1."""
        return inverse(self.rescaling)[0]

    @property
    def rescaling_below_inverse(self) -> Expression:
        """S_{l-1}^-1."""
        return inverse(self.rescaling_below)[0]

    @property
    def inverses(self) -> tuple[Relation, ...]:
        """The defining relations of both inverses."""
        return inverse(self.rescaling_below)[1] + inverse(self.rescaling)[1]

    @property
    def activity(self) -> Expression:
        """z_l."""
        return vector(self._indexed("z"), self.here)

    @property
    def activity_below(self) -> Expression:
        """z_{l-1}."""
        return vector(self._indexed("z", -1), self.below)

    @property
    def mean_below(self) -> Expression:
        """m_{l-1}, the feedforward activity."""
        return vector(self._indexed("m", -1), self.below)

    @property
    def deviation(self) -> Expression:
        """d_l = z_l - m_l."""
        return vector(self._indexed("d"), self.here)

    @property
    def deviation_below(self) -> Expression:
        """d_{l-1}."""
        return vector(self._indexed("d", -1), self.below)

    @property
    def to_output(self) -> Expression:
        """P_l, the map from layer l to the output."""
        return matrix(self._indexed("P"), self.above, self.here)

    @property
    def output_rescaling(self) -> Expression:
        """S_L."""
        return matrix("S_L", self.above, self.above, symmetric=True)

    @property
    def residual(self) -> Expression:
        """r = y - m_L."""
        return vector("r", self.above)

    @property
    def pull(self) -> Expression:
        """S_L^-1 r, the residual as the equilibrium feels it."""
        return inverse(self.output_rescaling)[0] @ self.residual

    def _indexed(self, name: str, shift: int = 0) -> str:
        offset = self.offset + shift
        return indexed(name, f"{self.anchor}{offset:+d}" if self.anchor and offset else self.anchor or offset)


Formula: TypeAlias = Callable[[SymbolicLayer], Expression]


def indexed(name: str, index: str | int) -> str:
    """The name with its index, in LaTeX."""
    return f"{name}_{index}" if len(str(index)) == 1 else f"{name}_{{{index}}}"


def three_sizes(dimensions: Dimensions) -> Dimensions:
    """`dimensions`; ValueError unless there are three."""
    if len(dimensions) != 3:
        raise ValueError(f"dimensions is {dimensions}, expected three sizes: below, here, above")
    return dimensions


def layers(dimensions: Dimensions) -> tuple[SymbolicLayer, SymbolicLayer]:
    """The first layer and a layer l > 1. Raises ValueError unless there are three sizes."""
    first = (FIRST_SIZES.get(size, size) for size in three_sizes(dimensions))
    return SymbolicLayer("", 1, *first), SymbolicLayer("l", 0, *dimensions)


def first_rescaling(layer: SymbolicLayer) -> Expression:
    r"""`S_1 = I/\pi_1`."""
    return layer.identity / layer.precision


def rescaling_recursion(layer: SymbolicLayer) -> Expression:
    r"""`S_l = I/\pi_l + A_l S_{l-1} A_l^T`."""
    return layer.identity / layer.precision + layer.map @ layer.rescaling_below @ layer.map.T


def to_output_below(layer: SymbolicLayer) -> Expression:
    """`P_{l-1} = P_l A_l`."""
    return layer.to_output @ layer.map


def number(name: str) -> Expression:
    """A real number given by name, such as a log-determinant."""
    return matrix(name, 1, 1)


def described(dimensions: Dimensions) -> str:
    """For which sizes a certificate speaks."""
    if all(isinstance(size, sympy.Symbol) for size in dimensions):
        return "Shown for every width: all sizes are symbols."
    return f"Shown for three consecutive sizes {', '.join(map(str, dimensions))}."
