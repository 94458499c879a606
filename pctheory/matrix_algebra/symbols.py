"""What formulas are made of: matrix and vector symbols, identity, zero, scalars, inverses."""

from dataclasses import replace
from typing import TypeAlias

import sympy

from . import notation as written
from .expression import Expression, Letter, Relation, equal_sizes, exact_scalar, gathered
from .notation import Notation

Size: TypeAlias = int | sympy.Expr


def matrix(name: str, rows: Size, cols: Size, *, symmetric: bool = False) -> Expression:
    """A matrix symbol; `name` is LaTeX without dollars. Sizes are positive integers or sympy expressions.

    Raises ValueError for an empty name, a size that is not positive, and a symmetric symbol that is not square.
    """
    if not name.strip():
        raise ValueError("the name of a matrix symbol is empty; give it one")
    height, width = _size(rows, name), _size(cols, name)
    if symmetric and not equal_sizes(height, width):
        raise ValueError(f"{name} is declared symmetric but is {height} x {width}; make it square or not symmetric")
    letter = Letter(name, height, width, symmetric)
    return gathered(height, width, [((letter,), sympy.S.One)], letter.notation)


def vector(name: str, size: Size) -> Expression:
    """A column vector symbol."""
    return matrix(name, size, 1)


def identity(size: Size) -> Expression:
    """The identity, which is the empty word."""
    order = _size(size, "I")
    return gathered(order, order, [((), sympy.S.One)], Notation("I", "I"))


def zero(rows: Size, cols: Size) -> Expression:
    """The zero matrix."""
    return gathered(_size(rows, "0"), _size(cols, "0"), [], Notation("0", "0"))


def scalar(value: int | sympy.Expr) -> Expression:
    """A commutative scalar as a 1 x 1 expression, so that scalar identities are checked in the same way."""
    exact = exact_scalar(value, "scalar")
    return gathered(sympy.S.One, sympy.S.One, [((), exact)], written.number(exact))


def inverse(symbol: Expression) -> tuple[Expression, tuple[Relation, Relation]]:
    """A symbol for the inverse of a square symbol, and its two defining relations.

    That the inverse exists is a hypothesis of whoever asks for it.
    Raises ValueError for anything but a square symbol that is not transposed.
    """
    if not symbol.is_letter or symbol.terms[0][0][0].transposed or not equal_sizes(symbol.rows, symbol.cols):
        raise ValueError(f"inverse of {symbol.described}: expected a square symbol; introduce one for it")
    letter = symbol.terms[0][0][0]
    result = matrix(f"{letter.name}^{{-1}}", letter.rows, letter.cols, symmetric=letter.symmetric)
    unit, reason = identity(letter.rows), "inverse"
    return result, (Relation(symbol @ result, unit, reason), Relation(result @ symbol, unit, reason))


def squared_norm(column: Expression) -> Expression:
    """The squared Euclidean norm of a column vector, as a 1 x 1 expression."""
    if column.cols != 1:
        raise ValueError(f"squared norm of {column.described}: expected one column; take a column vector")
    inner = column.notation
    return replace(column.T @ column, notation=Notation(f"|{inner.text}|^2", rf"\lVert {inner.latex} \rVert^2"))


def _size(value: Size, name: str) -> sympy.Expr:
    if isinstance(value, bool) or not isinstance(value, int | sympy.Expr):
        raise TypeError(f"size of {name} is {value!r}, expected a positive integer or a sympy expression")
    size = sympy.sympify(value)
    if (size.is_number and not size.is_Integer) or size.is_positive is False:
        raise ValueError(f"size of {name} is {size}, expected a positive integer or a sympy expression")
    return size
