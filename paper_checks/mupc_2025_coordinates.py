r"""muPC: how the size of activities at initialisation depends on the width, measured on the library's networks.

Claims
    mupc-2025/coordinate-check   hidden layers keep their size, and the output of muPC falls

Notation: q_l = |z_l|^2 / N_l, from a fixed input. A coordinate check fits the exponent k of N^k to the root of q_l.
Independent route: the closed forms of the means, which mupc-2025/forward-pass rests on.

Reference: F. Innocenti, E. M. Achour, C. L. Buckley, NeurIPS 2025, arXiv 2505.13124.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

import pctheory
from paper_checks._limits import SETTINGS, Setting, exponent_error, fixed_example
from pctheory.claims import Check, claim, largest
from pctheory.conditioning import LawFit, coordinate_check, forward_pass_moments
from pctheory.random_matrix.expectations import expected_forward_pass

BY_NAME = {setting.name: setting for setting in SETTINGS}


def _library_moments_error(shift: int, given: Setting) -> float:
    """Standard errors between the library's measured means and its formulas, for 200 of its networks."""
    x = fixed_example(given.widths)[0]
    nets = (given.constructor(given.widths, seed=seed, **given.options) for seed in range(200))
    found = forward_pass_moments(nets, x[None])
    expected = np.roll(expected_forward_pass(given.chain, float(np.mean(x**2))), shift)
    return largest(*(np.abs(found.mean - expected) / found.standard_error))


@cache
def _exponents(constructor: Callable[..., pctheory.LinearPCN]) -> dict[float | str, LawFit]:
    """The library's coordinate check at the start: root-mean-square activity against the width, by place."""
    x = np.ones((1, 6))
    found = coordinate_check(
        lambda width, seed: constructor((6, width, width, width, 2), seed=seed, skips=True),
        (16, 256),
        (x, x[:, :2]),
        seeds=range(24),
        places=(1.0, "output"),
    )
    return {line.where: line.fit for line in found if line.fit is not None}


EXPONENTS: dict[tuple[Any, float | str], float] = {  # over the width at the start, skips in all
    (pctheory.mupc, 1.0): 0.0,
    (pctheory.standard, 1.0): 0.0,
    (pctheory.mupc, "output"): -0.5,
    (pctheory.standard, "output"): 0.0,
}


def _exponent_error(exponents: dict[tuple[Any, float | str], float], case: tuple[Any, float | str]) -> float:
    constructor, place = case
    return exponent_error(exponents[case], _exponents(constructor)[place])


@claim(
    key="mupc-2025/coordinate-check",
    statement=r"""At initialisation the root-mean-square activity of the last hidden layer goes as $N^0$ in SP and
        in muPC; that of the output as $N^0$ in SP and as $N^{-1/2}$ in muPC.""",
    hypotheses=("linear networks with skips, three hidden layers", "a fixed input and a fixed number of outputs"),
    attribution="stated",
    source="mupc-2025 (as the design of muPC); measured here",
    uses=("mupc-2025/forward-pass",),
)
def size_of_coordinates(check: Check) -> None:
    check.property(
        "networks of the library measured by it, in standard errors",
        [BY_NAME["SP, skips"], BY_NAME["muPC"]],
        partial(_library_moments_error, 0),
        twins={"one layer off": partial(_library_moments_error, 1)},
        seed=0,
        bound=5.0,  # means over 200 networks, of which a few explode: not quite normal
    )
    check.property(
        "the library's coordinate check over the width, exponents at the last hidden layer and at the output",
        EXPONENTS,
        partial(_exponent_error, EXPONENTS),
        twins={"an output of muPC of size 1": partial(_exponent_error, dict.fromkeys(EXPONENTS, 0.0))},
        seed=0,
        bound=0.25,  # half way to a wrong scaling
    )
