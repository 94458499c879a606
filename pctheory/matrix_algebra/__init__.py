r"""Noncommutative matrix symbols with sizes and defining relations: what the proofs are computed in.

Defined here
    matrix, vector, identity, zero, scalar, inverse, squared_norm   what formulas are made of
    Expression   a formula: it remembers how it was written, and is equally a sum of coefficients times words
    Blocks       a matrix of expressions
    Relation     an equation that the symbols satisfy, used as a rewriting rule
    evaluated    an expression at given matrices, exactly or in floating point
    Notation, plain   how a formula is written, in LaTeX and in plain text

A *word* is a product of symbols and transposed symbols; the empty word is the identity. Coefficients are exact
commutative sympy expressions, standing for real numbers, brought to one fraction by `sympy.cancel`. An identity
holds wherever its denominators do not vanish.

Termination. A relation replaces its longest word by strictly shorter ones, and so does its transpose. Every
rewriting exchanges one word for finitely many shorter ones, and that can happen finitely many times only.

What a zero means. Rewriting replaces equals by equals: an expression that reduces to zero *is* zero for all
matrices that satisfy the relations. The converse fails, because the rules need not be confluent: something that
does vanish may leave a remainder. The rewriting can fail to prove, but it cannot prove what is false, unless the
relations contradict one another. sympy's own matrix calculus is not used.
"""

from .blocks import Blocks
from .evaluation import evaluated
from .expression import Expression, Letter, Relation
from .notation import Notation, plain
from .symbols import Size, identity, inverse, matrix, scalar, squared_norm, vector, zero

__all__ = [
    "Blocks",
    "Expression",
    "Letter",
    "Notation",
    "Relation",
    "Size",
    "evaluated",
    "identity",
    "inverse",
    "matrix",
    "plain",
    "scalar",
    "squared_norm",
    "vector",
    "zero",
]
