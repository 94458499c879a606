r"""The limits of width and depth: gradients that align, the rescaling at initialisation, the output precision.

Claims
    limits-2026/alignment          the gradients of F* and of the loss align where N >> L
    limits-2026/rescaling-line     the rescaling of muPC at initialisation, against the lines that were published
    limits-2026/output-precision   a precision of the output that keeps F* apart from the loss at any width

Notation: linear networks of depth L, hidden widths N, an output scaling divided by gamma, the precision lambda of
the output. s = lambda loss / F*: where hidden errors vanish, F is lambda times the loss, so that s is 1 where F* is
the loss up to its unit. E[s] stands for lambda E[tr S] / d_y; what separates the two says mupc-2025/limit-to-loss.
Independent routes: expectations in fractions and from sampled networks; gradients at large width by sweeps.

Reference: F. Innocenti, E. M. Achour, R. Bogacz, arXiv 2602.07697. Of its scripts only the lines that are drawn
were at hand.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from itertools import product

import numpy as np

import pctheory
from paper_checks._limits import (
    EQUAL,
    MUPC,
    NTP,
    Setting,
    exponent_error,
    measured,
    sampled_rescalings,
    standard_errors,
)
from pctheory.claims import Check, claim, judged, scaled_error
from pctheory.conditioning import LawFit, log_log_fit
from pctheory.random_matrix.expectations import expected_rescaling

WIDTHS, DEPTH = (64, 128, 256, 512), 4
# Of exponents: half-widths of up to 0.2 from 4 to 32 networks at each width, and terms of order L/N <= 1/16.
NOISE = 0.25


@dataclass(frozen=True)
class Shape:
    """What the expected rescaling of muPC depends on."""

    width: int
    depth: int
    gamma: Fraction = Fraction(1)
    precision: Fraction = Fraction(1)
    skips: bool = True

    def rescaling(self) -> Fraction:
        """E[s], layer by layer:  sigma_l = 1/pi_l + (s_l^2 + v_l N_{l-1}) sigma_{l-1}."""
        gain = 1 + Fraction(1, self.depth) if self.skips else Fraction(1)  # N v_l is 1/L, or 1
        sigma = Fraction(1)
        for _ in range(2, self.depth):
            sigma = 1 + gain * sigma
        return self.precision * (1 / self.precision + sigma / (self.gamma**2 * self.width))


Law = Callable[[Shape], Fraction]  # of E[s] - 1
SHAPES = [
    Shape(n, depth, gamma, precision, skips)
    for n, depth, gamma, precision, skips in product(
        (1, 2, 64),
        (2, 3, 5, 32),
        (Fraction(1), Fraction(1, 3), Fraction(4)),
        (Fraction(1), Fraction(7, 2)),
        (False, True),
    )
]


def line(given: Shape) -> Fraction:
    """lambda / (gamma^2 N) times L - 1 without skips, L ((1 + 1/L)^(L-1) - 1) with."""
    l = given.depth
    grown = l * ((1 + Fraction(1, l)) ** (l - 1) - 1) if given.skips else Fraction(l - 1)
    return given.precision * grown / (given.gamma**2 * given.width)


def published(shift: int, given: Shape) -> Fraction:
    """(L + shift) / (gamma^2 N)."""
    return given.precision * Fraction(given.depth + shift) / (given.gamma**2 * given.width)


PUBLISHED: dict[str, Law] = {
    "L / (gamma^2 N)": partial(published, 0),
    "(L-1) / (gamma^2 N), with skips too": partial(published, -1),
    "(L+1) / (gamma^2 N)": partial(published, 1),
}


def _line_remainder(law: Law, given: Shape) -> Fraction:
    return given.rescaling() - 1 - law(given)


OPTIONS = [
    (gamma, precision, skips) for gamma, precision, skips in product((0.25, 1.0, 4.0), (1.0, 5.0), (False, True))
]


def _setting(options: tuple[float, float, bool]) -> Setting:
    gamma, precision, skips = options
    return Setting("", pctheory.mupc, {"gamma": gamma, "output_precision": precision, "skips": skips})


def _shape(options: tuple[float, float, bool]) -> Shape:
    gamma, precision, skips = options
    return Shape(EQUAL[1], len(EQUAL) - 1, Fraction(gamma), Fraction(precision), skips)


def _library_line_error(law: Law, options: tuple[float, float, bool]) -> float:
    return scaled_error(
        options[1] * expected_rescaling(_setting(options).chain)[-1], float(1 + law(_shape(options)))
    )


@cache
def _sampled(options: tuple[float, float, bool]) -> np.ndarray:
    """lambda tr S / d_y - 1 of 4000 networks."""
    s = sampled_rescalings(_setting(options))
    return np.asarray(options[1] * np.trace(s, axis1=1, axis2=2) / s.shape[1] - 1)


def _sampled_line_error(law: Law, options: tuple[float, float, bool]) -> float:
    return standard_errors(_sampled(options), float(law(_shape(options))))


@cache
def _width_fit(quantity: str, gamma: float = 1.0, precision: str = "1") -> LawFit:
    """Of muPC or NTP against N / L, at L = 4."""
    name, measure = quantity.split(", ")
    given, column = {"muPC": MUPC, "NTP": NTP}[name], {"s - 1": 0, "1 - cosine": 1}[measure]
    found = [measured(given, n, DEPTH, gamma, PRECISIONS[precision](gamma, n))[column] for n in WIDTHS]
    return log_log_fit(np.array(WIDTHS) / DEPTH, np.array(found) - (column == 0))


PRECISIONS: dict[str, Callable[[float, int], float]] = {
    "1": lambda gamma, n: 1.0,
    "gamma^2 N L": lambda gamma, n: gamma**2 * n * DEPTH,
}


def _quantity_error(law: float, given: tuple[str, float, str]) -> float:
    return exponent_error(law, _width_fit(*given))


def _constant_error(law: Callable[[int], float], depth: int) -> float:
    """L times the relative distance between  L ((1 + 1/L)^(L-1) - 1)  and its law, less what it tends to."""
    exact = float(line(Shape(1, depth)))
    return abs(depth * (1 - exact / law(depth)) - 1.5 * math.e / (math.e - 1))


# --- the claims ---


@claim(
    key="limits-2026/alignment",
    statement=r"""Linear residual muPC at initialisation: the cosine between the gradients of F* and of the loss
        tends to 1 as N >> L, $1 - \cos$ falling like $1/N^2$. With skips
        $E[s] - 1 = L((1 + 1/L)^{L-1} - 1) / (\gamma^2 N)$, which is $((e-1)/\gamma^2) L/N$ up to a share
        $3e / (2(e-1)L)$. Alignment alone does not tell parameterisations apart: that of NTP, whose s stays away
        from 1, tends to 1 with N as well, but $1 - \cos$ falls like 1/N only, and the lengths stay different.""",
    hypotheses=("d_x = d_y = 4, 16 normal examples", "rates against N: L = 4, N = 64 to 512, gamma = 1 and 2"),
    attribution="stated",
    source="limits-2026 (that gradients align); rates, the constant and NTP measured or derived here",
    uses=("mupc-2025/limit-to-loss", "limits-2026/rescaling-line"),
)
def alignment(check: Check) -> None:
    gammas = 1.0, 2.0
    fits = ", ".join(f"gamma = {gamma:g}: {_width_fit('muPC, 1 - cosine', gamma).text}" for gamma in gammas)
    check.property(
        f"1 - cosine of muPC against N/L: exponent {fits}",
        [("muPC, 1 - cosine", gamma, "1") for gamma in gammas],
        partial(_quantity_error, -2.0),
        twins=judged(_quantity_error, {"like L/N": -1.0, "width and depth exchanged": 2.0, "not at all": 0.0}),
        seed=901,
        bound=NOISE,
    )
    of_ntp = "NTP, 1 - cosine", 1.0, "1"
    check.property(
        f"1 - cosine of NTP: exponent {_width_fit(*of_ntp).text}",
        [of_ntp],
        partial(_quantity_error, -1.0),
        twins=judged(_quantity_error, {"as fast as muPC": -2.0, "not at all": 0.0}),
        seed=901,
        bound=NOISE,
    )
    check.property(
        f"s - 1 of NTP does not fall: exponent {_width_fit('NTP, s - 1').text}",
        [("NTP, s - 1", 1.0, "1")],
        partial(_quantity_error, 0.0),
        twins=judged(_quantity_error, {"as that of muPC": -1.0}),
        seed=901,
        bound=NOISE,
    )
    check.property(
        "(e-1) L/N, and by how much it is off, L = 500 to 8000",
        (500, 2000, 8000),
        partial(_constant_error, lambda depth: (math.e - 1) * depth),
        twins=judged(_constant_error, {"L/N": float, "e L/N": lambda depth: math.e * depth}),
        bound=0.02,  # the next term of the series, of order 1/L
    )


@claim(
    key="limits-2026/rescaling-line",
    statement=r"""The expected rescaling of muPC at initialisation: $E[s] - 1$ is $(L-1) / (\gamma^2 N)$ without
        skips and $L((1 + 1/L)^{L-1} - 1) / (\gamma^2 N)$ with skips, at any width, depth and gamma. Of the three
        lines drawn for it, $L / (\gamma^2 N)$, $(L-1) / (\gamma^2 N)$ and $(L+1) / (\gamma^2 N)$, the second is
        exact without skips, and none is with skips and L > 2: at large depth they fall short by a factor e-1.""",
    hypotheses=("unit precision; weights of mean 0, uncorrelated",),
    attribution="stated",
    source="limits-2026 (its scripts: three lines); the exact expectations derived here",
    uses=("mupc-2025/limit-to-loss",),
)
def rescaling_line(check: Check) -> None:
    check.exact(
        "in fractions, L = 2 to 32",
        SHAPES,
        partial(_line_remainder, line),
        twins=judged(_line_remainder, PUBLISHED),
    )
    check.property(
        "the library's expectation for its own networks",
        OPTIONS,
        partial(_library_line_error, line),
        twins=judged(_library_line_error, PUBLISHED),
    )
    check.property(
        "4000 sampled networks, N = 8, L = 6, in standard errors",
        OPTIONS,
        partial(_sampled_line_error, line),
        twins=judged(_sampled_line_error, PUBLISHED),
        seed=900,
        bound=3.0,
    )
    deep, plain = Shape(128, 16), Shape(128, 16, skips=False)
    drawn = [published(shift, deep) for shift in (0, -1, 1)]
    smallest = line(Shape(1, 3)) == Fraction(7, 3) and line(Shape(1, 2)) == 1
    mean = float(np.mean(_sampled((1.0, 1.0, True))))
    check.difference(
        "the published lines with skips",
        all(value < line(deep) for value in drawn) and drawn[1] == line(plain) and smallest,
        f"N = 128, L = 16, gamma = 1: s - 1 is {float(line(deep)):.4f} with skips and {float(line(plain)):.4f} "
        f"without; the lines are at {', '.join(f'{float(value):.4f}' for value in drawn)}. "
        f"Sampled at N = 8, L = 6 with skips: {mean:.3f}, law {float(line(_shape((1.0, 1.0, True)))):.3f}, "
        "the lines 0.750, 0.625, 0.875. The smallest case is L = 3: 7/(3N) with skips, the lines 3/N, 2/N, 4/N",
    )


def _unit_of_loss(given: Shape) -> Fraction:
    """loss / F* without the factor lambda, less 1."""
    return (1 + line(given)) / given.precision - 1


def _precise(choice: Callable[[Shape], Fraction], given: Shape) -> Shape:
    return Shape(given.width, given.depth, given.gamma, choice(given), given.skips)


def _grown(given: Shape) -> Fraction:
    """E[s] - 1 at lambda = gamma^2 N L: it has neither N nor gamma in it."""
    return given.depth * line(Shape(1, given.depth, skips=given.skips))


def _precision_remainder(law: Law, given: Shape) -> Fraction:
    return _precise(lambda shape: shape.gamma**2 * shape.width * shape.depth, given).rescaling() - 1 - law(given)


def _balanced_remainder(choice: Callable[[Shape], Fraction], given: Shape) -> Fraction:
    """E[s] against (1 + 1/L)^(L-1), and 2 - 1/L without skips."""
    l = given.depth
    expected = (1 + Fraction(1, l)) ** (l - 1) if given.skips else 2 - Fraction(1, l)
    return _precise(choice, given).rescaling() - expected


@claim(
    key="limits-2026/output-precision",
    statement=r"""An output precision $\lambda = \gamma^2 N L$ keeps F* of muPC away from the loss at any width and
        gamma: with $s = \lambda\, loss / F^*$, $E[s] - 1$ is $L^2((1 + 1/L)^{L-1} - 1)$ with skips and L(L-1)
        without, where unit precision leaves L/N of it; and $1 - \cos$ of the gradients does not fall with N. It
        grows with depth: $\lambda = \gamma^2 N / L$ makes it $(1 + 1/L)^{L-1} - 1 \le e - 1$ and 1 - 1/L. The
        factor lambda matters: loss / F* itself tends to 0 as N grows.""",
    hypotheses=("at initialisation; rates: d_x = d_y = 4, 16 normal examples, L = 4, N = 64 to 512",),
    attribution="stated",
    source="limits-2026 (that s stays away from 1); formulas, and the precision for all depths, derived here",
    uses=("mupc-2025/limit-to-loss", "limits-2026/rescaling-line"),
)
def output_precision(check: Check) -> None:
    check.exact(
        "E[s] - 1 at lambda = gamma^2 N L, in fractions",
        SHAPES,
        partial(_precision_remainder, _grown),
        twins=judged(
            _precision_remainder,
            {
                "as at unit precision": lambda given: line(Shape(given.width, given.depth, given.gamma)),
                "loss / F* for lambda loss / F*": lambda given: _unit_of_loss(
                    _precise(lambda shape: shape.gamma**2 * shape.width * shape.depth, given)
                ),
                "L times less": lambda given: _grown(given) / given.depth,
            },
        ),
    )
    check.exact(
        "E[s] at lambda = gamma^2 N / L, in fractions",
        SHAPES,
        partial(_balanced_remainder, lambda shape: shape.gamma**2 * shape.width / shape.depth),
        twins=judged(
            _balanced_remainder,
            {
                "lambda = gamma^2 N": lambda shape: shape.gamma**2 * shape.width,
                "lambda = N / L": lambda shape: Fraction(shape.width, shape.depth),
            },
        ),
    )
    cases = [
        (f"muPC, {measure}", gamma, "gamma^2 N L") for measure in ("s - 1", "1 - cosine") for gamma in (0.5, 1.0)
    ]
    check.property(
        f"against N, exponents {', '.join(_width_fit(*case).text for case in cases)}",
        cases,
        partial(_quantity_error, 0.0),
        twins={
            "at unit precision as well": lambda case: _quantity_error(0.0, (case[0], case[1], "1")),
            **judged(_quantity_error, {"tends to the loss": -1.0}),
        },
        seed=901,
        bound=NOISE,
    )
