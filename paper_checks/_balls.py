"""Formulas of the claims in balls: decided where floating point has no digits left."""

from typing import Any

import flint

from tests.cases import Case, Formula


def in_balls(formula: Formula, given: Case, *, bits: int) -> Any:
    """The formula's value at exactly the doubles of the case, every number a ball of so many bits."""
    with flint.ctx.workprec(bits):
        return formula(given.converted(flint.arb))


def ratio_in_balls(formula: Formula, other: Formula, given: Case, *, bits: int) -> Any:
    """The ratio of the values of two formulas."""
    return in_balls(lambda balls: formula(balls) / other(balls), given, bits=bits)
