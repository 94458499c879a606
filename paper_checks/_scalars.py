r"""Proofs by algebra of numbers: identities, and inequalities that can be read off.

`smaller < larger` is shown by a witness: an expression equal to the difference in which nothing is subtracted,
made of positive symbols and squares by sums, products, quotients and powers. That it equals the difference is an
identity of polynomials. So the inequality holds wherever the symbols are what they were declared to be.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import sympy

Roots = Mapping[sympy.Symbol, sympy.Expr]  # letters for square roots: what their squares are


@dataclass(frozen=True)
class Identity:
    """`left = right`, given what the squares of some letters are, with the reason for it in words."""

    reason: str
    left: sympy.Expr
    right: sympy.Expr
    roots: Roots = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether the numerator of left - right is zero, over a denominator that never is."""
        numerator, denominator = sympy.fraction(sympy.together(self.left - self.right))
        for root, square in self.roots.items():
            numerator = sympy.rem(numerator, root**2 - square, root)
        return sympy.expand(numerator) == 0 and visibly_positive(denominator)

    def __str__(self) -> str:
        outcome = "" if self.holds else "   DOES NOT HOLD"
        return f"{self.reason}\n    {self.left} = {self.right}{outcome}"


@dataclass(frozen=True)
class Less:
    """`smaller < larger`, as the witness for their difference is positive."""

    reason: str
    smaller: sympy.Expr
    larger: sympy.Expr
    witness: sympy.Expr
    roots: Roots = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether the witness is visibly positive, and the difference."""
        difference = Identity("", self.larger - self.smaller, self.witness, self.roots)
        return visibly_positive(self.witness) and difference.holds

    def __str__(self) -> str:
        outcome = "" if self.holds else "   DOES NOT HOLD"
        return f"{self.reason}\n    {self.larger} - ({self.smaller}) = {self.witness} > 0{outcome}"


@dataclass(frozen=True)
class ScalarProof:
    """A theorem on numbers with the steps that prove it."""

    theorem: str
    steps: tuple[Identity | Less, ...]

    @property
    def holds(self) -> bool:
        """Whether there are steps and all of them hold."""
        return bool(self.steps) and all(step.holds for step in self.steps)

    def text(self) -> str:
        """The theorem, its numbered steps, and the squares of letters that stand for roots."""
        roots = {f"{root}^2 = {square}" for step in self.steps for root, square in step.roots.items()}
        numbered = (f"{number}. {step}" for number, step in enumerate(self.steps, 1))
        return "\n".join((self.theorem, *sorted(roots), *numbered))


def visibly_positive(expression: sympy.Expr) -> bool:
    """Whether it is built from positive numbers, positive symbols and squares so that nothing can cancel."""
    return _has_sign(sympy.sympify(expression), strictly=True)


def _has_sign(e: sympy.Expr, *, strictly: bool) -> bool:
    """Whether e > 0, or e >= 0 unless `strictly`, can be read off."""
    if e.is_Rational:
        return bool(e > 0 or (e == 0 and not strictly))
    if e.is_Symbol:
        return bool(e.is_positive)
    if e.is_Add:
        signs = [_has_sign(term, strictly=True) for term in e.args]
        return all(_has_sign(term, strictly=False) for term in e.args) and (any(signs) or not strictly)
    if e.is_Mul:
        return all(_has_sign(factor, strictly=strictly) for factor in e.args)
    if e.is_Pow and e.exp.is_Integer:
        if e.exp % 2 == 0 and e.base.is_Symbol and e.base.is_real:
            return bool(e.base.is_nonzero or (e.exp > 0 and not strictly))
        return _has_sign(e.base, strictly=True)
    return False
