"""Expressions at given matrices: the slow twin of the algebra, by plain matrix arithmetic."""

from collections.abc import Mapping
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
import sympy

from .expression import Expression, Letter

Matrix: TypeAlias = np.ndarray[Any, np.dtype[Any]] | sympy.MatrixBase
Values: TypeAlias = Mapping[sympy.Symbol, int | sympy.Expr]


def evaluated(expression: Expression, matrices: Mapping[str, Matrix], scalars: Values | None = None) -> Matrix:
    """The expression at given matrices (by symbol name) and scalars.

    Exact for sympy matrices, float64 for NumPy arrays. Sizes that are symbols are read off the matrices; one that
    no matrix fixes is given among the scalars.
    Raises ValueError for a missing, misshapen or unsymmetric value, TypeError where both kinds of matrix are mixed.
    """
    letters = {letter for word, _ in expression.terms for letter in word}
    if missing := sorted({letter.name for letter in letters} - set(matrices)):
        raise ValueError(f"no matrix for {missing[0]}; give one for each of {missing}")
    kinds = {isinstance(value, np.ndarray) for value in matrices.values()}
    if len(kinds) > 1:
        raise TypeError("matrices mix NumPy arrays and sympy matrices; give all of one kind")
    numeric = True in kinds
    values = dict(scalars or {})
    for letter in sorted(letters, key=lambda letter: letter.name):
        _check(letter, matrices[letter.name], values)
    rows, cols = (int(_number(size, values)) for size in (expression.rows, expression.cols))
    unit, total = (np.eye(rows), np.zeros((rows, cols))) if numeric else (sympy.eye(rows), sympy.zeros(rows, cols))
    for word, c in expression.terms:
        factors = (matrices[a.name].T if a.transposed else matrices[a.name] for a in word)
        amount = float(_number(c, values)) if numeric else _number(c, values)
        total = total + amount * reduce(lambda v, w: v @ w, factors, unit)
    return total


def _number(c: sympy.Expr, values: Values) -> sympy.Expr:
    result = c.subs(values)
    if result.free_symbols:
        raise ValueError(f"no value for {sorted(map(str, result.free_symbols))} in {c}; give it among the scalars")
    return result


def _check(letter: Letter, value: Matrix, values: dict[sympy.Symbol, int | sympy.Expr]) -> None:
    """Check one value against its symbol, and note in `values` the sizes that it fixes."""
    upright = letter.T if letter.transposed else letter
    if len(value.shape) != 2:
        raise ValueError(f"{letter.name} has shape {value.shape}, expected two axes; reshape it")
    for size, actual in zip((upright.rows, upright.cols), value.shape, strict=True):
        bound = size.subs(values)
        if bound.is_Symbol:
            values[bound] = int(actual)
        elif bound != actual:
            raise ValueError(f"{letter.name} has shape {value.shape}, expected {upright.rows} x {upright.cols}")
    if isinstance(value, np.ndarray):
        if np.iscomplexobj(value) or not np.isfinite(value).all():
            raise ValueError(f"{letter.name} has entries that are complex or not finite; give a finite real array")
        symmetric = (
            np.allclose(value, value.T) if letter.symmetric else True
        )  # to catch a wrong matrix, not rounding
    else:
        symmetric = not letter.symmetric or value == value.T
    if not symmetric:
        raise ValueError(
            f"{letter.name} is declared symmetric but its value is not; correct the value or the symbol"
        )
