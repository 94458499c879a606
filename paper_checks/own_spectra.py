r"""Limiting spectra of the activity Hessian: at any depth, of its two parts, and how the initialisation decides.

Claims
    own/dyson-spectrum                 the matrix Dyson equation, against samples and counted pairings
    mupc-2025/spectra                  the diagonal part is a shifted Marchenko-Pastur law, the other a semicircle
    own/conditioning-depends-on-init   edges in the limit of depth, and the law of the condition number

Notation: widths go to infinity in proportion, and only then the depth. t: N_{l-1} times the entry variance of A_l.
Independent routes: eigenvalues of sampled H_z; moments by counting pairings of closed walks; discriminants in
fractions; the elliptic integral of the continuum limit against the edges of the Dyson equation.
"""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cache, partial
from math import comb, sqrt

import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq, minimize_scalar

from paper_checks._sampled_spectra import counted_moment, histogram_distance, sampled_eigenvalues
from pctheory.claims import Check, claim, judged, largest, scaled_error
from pctheory.conditioning import log_log_fit
from pctheory.random_matrix import (
    Law,
    RandomChain,
    activity_hessian_law,
    free_edges,
    marchenko_pastur,
    semicircle,
)

ChainOf = Callable[[RandomChain], RandomChain]
LawOf = Callable[[RandomChain], Law]


def _chain(widths: tuple[int, ...], t: float, last: float | None = None, **more: tuple[float, ...]) -> RandomChain:
    """Entry variance t / N_{l-1}, and `last` in the map to the output if given."""
    variances = [t / n for n in widths[:-1]]
    return RandomChain(widths, (*variances[:-1], variances[-1] if last is None else last), **more)


def _square(width: int, hidden: int, t: float) -> RandomChain:
    return _chain((width,) * (hidden + 2), t)


CHAINS = (
    _chain((10, 300, 300, 300, 300, 10), 1.0),
    _square(300, 2, 1 / 3),
    _chain((10, 300, 300, 10), 1 / 3, 1 / 300**2, skips=(0.0, 1.0, 0.0)),  # muPC
    _chain((20, 350, 300, 300, 200), 1.0, skips=(0.0, 0.0, 0.7, 0.0), precisions=(1.0, 2.0, 0.5, 1.5)),
    _chain((5, 400, 100, 300), 1.0, precisions=(1.0, 1.0, 2.0)),  # three fifths of the mass in an atom
)


def _with_the_other_width(chain: RandomChain) -> RandomChain:
    """The variance times N_l / N_{l+1}: the ratio of the fixed point inverted."""
    ratios = [n / above for n, above in zip(chain.widths[:-1], chain.widths[1:], strict=True)]
    return replace(chain, variances=tuple(v * r for v, r in zip(chain.variances, ratios, strict=True)))


FALSE_CHAINS: dict[str, ChainOf] = {
    "variance ratio N_{l+1}/N_l inverted": _with_the_other_width,
    "without the skips": lambda chain: replace(chain, skips=(0.0,) * chain.depth),
    "without the precisions": lambda chain: replace(chain, precisions=(1.0,) * chain.depth),
}


@cache
def _law(chain: RandomChain) -> Law:
    return activity_hessian_law(chain)


def _same(chain: RandomChain) -> RandomChain:
    return chain


def _distance(assumed: ChainOf, chain: RandomChain) -> float:
    return histogram_distance(_law(assumed(chain)), sampled_eigenvalues(chain, seed=900))


ORDERS = (0, 1, 2, 3)


def _moment_error(counted: Callable[[RandomChain, int], float], chain: RandomChain) -> float:
    expected = [counted(chain, k) for k in ORDERS]
    return largest(*(scaled_error(_law(chain).moment(k), e) for k, e in zip(ORDERS, expected, strict=True)))


SIZES_SEEDS = ((100, 12), (200, 6), (400, 3))


def _scaled(chain: RandomChain, factor: float) -> RandomChain:
    """All widths times `factor`, with the same products of variance and width."""
    widths = tuple(round(n * factor) for n in chain.widths)
    return replace(chain, widths=widths, variances=tuple(v / factor for v in chain.variances))


EDGED = (
    _chain((100,) * 4, 1.0),
    _chain((100,) * 4, 1 / 4, skips=(0.0, 1.0, 0.0)),
    _chain((100, 100, 50, 100), 1.0, precisions=(1.0, 2.0, 1.0)),
)


@cache
def _sampled_edges(chain: RandomChain) -> tuple[float, float]:
    """Extremes of samples, averaged, extrapolated in N^(-2/3), by which the extremes of a sample stay inside."""
    sizes, ends = [], []
    for size, seeds in SIZES_SEEDS:
        drawn = [
            sampled_eigenvalues(_scaled(chain, size / chain.widths[0]), 1000 + i)[[0, -1]] for i in range(seeds)
        ]
        sizes.append(size)
        ends.append(np.mean(drawn, axis=0))
    columns = np.stack([np.ones(len(sizes)), np.array(sizes, dtype=float) ** (-2 / 3)], axis=1)
    low, high = np.linalg.lstsq(columns, np.array(ends), rcond=None)[0][0]
    return float(low), float(high)


def _edge_error(assumed: ChainOf, chain: RandomChain) -> float:
    edges = _law(assumed(chain)).edges
    return largest(*(scaled_error(e, s) for e, s in zip(edges, _sampled_edges(chain), strict=True)))


@claim(
    key="own/dyson-spectrum",
    statement=r"""As the widths grow in proportion the spectrum of $H_z$ tends, at any depth, variances, skips and
        precisions, to the law with transform $m = \sum_l N_l m_{\mathrm{col}\,l} / \sum_l N_l$, where
        $m = \mathrm{diag}\, T^{-1}$ and $T$ is tridiagonal on the path row 1, column 1, row 2, .., row L:
        $T_{nn} = -\lambda (1 + c_n m_{n'})$ with $c_{\mathrm{col}\,l} = \pi_{l+1} v_{l+1} N_{l+1}$,
        $c_{\mathrm{row}\,l+1} = \pi_{l+1} v_{l+1} N_l$ and $n'$ the other of the two, squares beside the diagonal
        $\lambda \pi_l$ and $\lambda \pi_{l+1} s_{l+1}^2$. An atom of mass proportional to
        $N_l - N_{l-1} - N_{l+1}$ (for l = 1: $N_1 - N_2$) stands at $\pi_l$ where that is positive.""",
    hypotheses=(
        "entries of X_l = A_l - s_l I independent, Gaussian, of mean 0 and variance v_l",
        "any depth of two layers and more, widths, precisions and skips between equal widths",
        "some map above the first one is random",
    ),
    attribution="own",
    source="derived here from the matrix Dyson equation, which is well known (random-matrix theory)",
)
def dyson_spectrum(check: Check) -> None:
    check.property(
        "L1 distance of 40 bins to one sample, N = 300, H = 2 to 4",
        CHAINS,
        partial(_distance, _same),
        twins=judged(_distance, FALSE_CHAINS),
        seed=900,
        bound=0.05,  # of 1,000 eigenvalues, in bins of some 25: rigid, so off by about 1 of them in each
    )
    check.property(
        "moments 0 to 3 against counted pairings",
        CHAINS,
        partial(_moment_error, counted_moment),
        twins={
            "the width at the near end": partial(_moment_error, partial(counted_moment, swapped=True)),
            "pairings that cross": partial(_moment_error, partial(counted_moment, crossing=True)),
        },
        bound=1e-8,  # the fixed point is solved to 1e-10
    )
    check.property(
        "edges against the extremes of samples of N = 100, 200, 400, extrapolated",
        EDGED,
        partial(_edge_error, _same),
        twins=judged(_edge_error, FALSE_CHAINS),
        seed=1000,
        bound=0.02,  # 12, 6 and 3 samples, each inside by up to 10 % at N = 100
    )


def _gap(law: Law, eigenvalues: np.ndarray) -> float:
    """Largest distance of the distribution functions."""
    steps = np.arange(len(eigenvalues) + 1) / len(eigenvalues)
    mass = law.cdf(eigenvalues)
    return float(max(np.abs(mass - steps[1:]).max(), np.abs(mass - steps[:-1]).max()))


def _diagonal_gap(law: Law, seed: int) -> float:
    return _gap(law, sampled_eigenvalues(_square(250, 3, 1.0), seed, "diagonal"))


def _one_layer_error(law_of: Callable[[float, float], Law], given: tuple[int, int, float]) -> float:
    """Against the Dyson law of one hidden layer: distribution at 50 places, atom and moments."""
    below, above, t = given
    found, expected = _law(_chain((1, below, above), t)), law_of(below / above, t * above / below)
    places = np.linspace(0.9 * expected.edges[0], 1.1 * expected.edges[1], 50)
    moments = [scaled_error(found.moment(k), expected.moment(k)) for k in range(5)]
    return largest(scaled_error(found.cdf(places), expected.cdf(places)), *moments)


def _layer_moments(hidden: int, orders: int) -> list[Fraction]:
    r"""Even moments of the off-diagonal part, t = 1: M_l(k) = sum over neighbours a, j of M_a(j) M_l(k - 1 - j)."""
    moments = [[1] for _ in range(hidden)]
    for k in range(1, orders + 1):
        after = []
        for l in range(hidden):
            beside = [a for a in (l - 1, l + 1) if 0 <= a < hidden]
            after.append(sum(moments[a][j] * moments[l][k - 1 - j] for a in beside for j in range(k)))
        for l, moment in enumerate(after):
            moments[l].append(moment)
    return [Fraction(sum(row[k] for row in moments), hidden) for k in range(orders + 1)]


def _end_effect(square_radius: int, hidden: int) -> np.ndarray:
    """H (moment of the semicircle - moment at H), less the same at H + 1: zero if the difference is c/H."""
    orders = 4

    def lacking(h: int) -> list[Fraction]:
        limit = [Fraction(square_radius, 4) ** k * comb(2 * k, k) / (k + 1) for k in range(orders + 1)]
        return [h * (one - m) for one, m in zip(limit, _layer_moments(h, orders), strict=True)]

    return np.array([a - b for a, b in zip(lacking(hidden), lacking(hidden + 1), strict=True)])


def _off_diagonal_gap(radius: float, given: tuple[int, int]) -> float:
    """Times H/2: the two layers at the ends have half the neighbours, which shifts at most 2/H of the mass."""
    hidden, width = given
    found = sampled_eigenvalues(_square(width, hidden, 1.0), 910, "off-diagonal")
    return _gap(semicircle(radius), found) * hidden / 2


def _null_error(expected: Callable[[int], float], hidden: int) -> float:
    found = sampled_eigenvalues(_square(40, hidden, 1.0), 911, "off-diagonal")
    return scaled_error(np.mean(np.abs(found) < 1e-10), expected(hidden), scale=1.0)  # the others are above 1e-5


SHIFTED = marchenko_pastur(1.0).shifted(1.0)


@claim(
    key="mupc-2025/spectra",
    statement=r"""At initialisation without skips, square maps of entry variance 1/N, unit precision: the diagonal
        part of $H_z$ has the Marchenko-Pastur law of ratio 1 shifted by 1, on [1, 5], at every depth; in general
        $\pi_l + \pi_{l+1} N_{l+1} v_{l+1} \cdot$ MP($N_l / N_{l+1}$) layer by layer. The off-diagonal part has the
        semicircle law of radius $2\sqrt 2$ in the limit of depth, all moments off by order 1/H; at H = 2 it is the
        semicircle of radius 2, and at odd H a share 1/H of its eigenvalues is 0.""",
    hypotheses=("widths to infinity", "independent entries of mean 0"),
    attribution="own",
    source="mupc-2025 shows these spectra in figures; the laws are derived here",
    uses=("own/dyson-spectrum",),
)
def spectra(check: Check) -> None:
    check.property(
        "the Dyson law of one hidden layer is the shifted Marchenko-Pastur law, any ratio and variance",
        [(300, 300, 1.0), (300, 100, 1.0), (100, 300, 0.5), (200, 150, 2.0)],
        partial(_one_layer_error, lambda ratio, variance: marchenko_pastur(ratio, variance).shifted(1.0)),
        twins={
            "the ratio inverted": partial(_one_layer_error, lambda r, v: marchenko_pastur(1 / r, v).shifted(1.0)),
            "without the shift": partial(_one_layer_error, marchenko_pastur),
        },
        bound=1e-4,  # the quadrature of the distribution function where it is steep
    )
    check.property(
        "diagonal part of samples, N = 250, H = 3, largest distance of the distributions",
        [SHIFTED],
        partial(_diagonal_gap, seed=912),
        twins={
            "without the shift": lambda _: _diagonal_gap(marchenko_pastur(1.0), 912),
            "on [1, 9]": lambda _: _diagonal_gap(marchenko_pastur(1.0, 2.0).shifted(1.0), 912),
        },
        seed=912,
        bound=0.01,  # 750 eigenvalues, rigid: some units of 1/750
    )
    check.exact(
        "off-diagonal part: moments up to the eighth differ from the semicircle's by exactly c/H, H = 8 to 14",
        range(8, 15),
        partial(_end_effect, 8),
        twins={"radius 2": partial(_end_effect, 4), "radius 4": partial(_end_effect, 16)},
    )
    check.property(
        "off-diagonal part of samples, H = 2",
        [(2, 300)],
        partial(_off_diagonal_gap, 2.0),
        twins={"radius 2 sqrt 2": partial(_off_diagonal_gap, 2 * sqrt(2))},
        seed=910,
        bound=0.01,  # 600 eigenvalues, rigid
    )
    check.property(
        "off-diagonal part of samples: distance to the semicircle, in units of 2/H",
        [(8, 80), (12, 60), (24, 30)],
        partial(_off_diagonal_gap, 2 * sqrt(2)),
        twins={
            "radius 2": partial(_off_diagonal_gap, 2.0),
            "radius 4": partial(_off_diagonal_gap, 4.0),
        },
        seed=910,
        bound=0.5,  # of 2/H, the most that the ends can shift; a half is what is not shifted at the centre
    )
    check.property(
        "off-diagonal part: share of zeros, H = 3 to 8",
        range(3, 9),
        partial(_null_error, lambda hidden: hidden % 2 / hidden),
        twins={
            "none": partial(_null_error, lambda hidden: 0.0),
            "always 1/H": partial(_null_error, lambda h: 1 / h),
        },
        seed=911,
    )


def _discriminant(t: Fraction, edge: Fraction) -> Fraction:
    r"""Of lambda m (1 + t m)^2 - (1 - t) m + 1 in m: zero where two branches of the transform meet."""
    a, b, c, d = edge * t**2, 2 * edge * t, edge - 1 + t, Fraction(1)
    return 18 * a * b * c * d - 4 * b**3 * d + b**2 * c**2 - 4 * a * c**3 - 27 * a**2 * d**2


def _edges_in_fractions(q: Fraction, *, three: int = 3, eight: int = 8, power: int = 3) -> list[Fraction]:
    """For t = 8/(q^2 - 1), so that q = sqrt(1 + 8/t)."""
    t = 8 / (q**2 - 1)
    return [t * (q + sign * three) ** power / (eight * (q + sign)) for sign in (-1, 1)]


def _fold_remainder(q: Fraction, **wrong: int) -> np.ndarray:
    t = 8 / (q**2 - 1)
    return np.array([_discriminant(t, edge) for edge in _edges_in_fractions(q, **wrong)])


@cache
def _finite_edges(hidden: int, t: float) -> tuple[float, float]:
    return activity_hessian_law(_square(100, hidden, t), points=1).edges


DOUBLED = (4, 8, 16, 32)


def _approach_error(power: float, given: tuple[float, int]) -> float:
    """How far the growth of |edge - limit|^(-1/power) per layer, H to 2 H, is from constant: its exponent."""
    t, end = given
    left = [abs(_finite_edges(h, t)[end] - free_edges(t)[end]) ** (-1 / power) for h in DOUBLED]
    growth = [(b - a) / h for h, a, b in zip(DOUBLED, left, left[1:], strict=False)]
    low, high = log_log_fit(DOUBLED[:-1], growth).interval
    return largest(low, -high, 0.0) + (high - low)  # an interval that is wide shows nothing


def _length(e: float) -> float:
    r"""Of the path of p = c r from 0 to -infinity, dp/dx = -+ sqrt((e - p^2/2)^2 - 4 p), in scaled units.

    For e > 0 it first climbs to the turning point and back.
    """

    def onward(s: float) -> float:
        return 2 * s / sqrt((e - s**4 / 2) ** 2 + 4 * s * s)  # p = -s^2

    knee = max(1.0, (2 * abs(e)) ** 0.25)
    length: float = sum(
        quad(onward, a, b, limit=200)[0] for a, b in ((0, knee), (knee, 4 * knee), (4 * knee, np.inf))
    )
    if e <= 0:
        return length
    top = brentq(lambda v: e - v * v / 2 - 2 * sqrt(v), 0, e * e / 4, xtol=1e-15)

    def upward(s: float) -> float:
        v = top * (1 - s * s)
        return 2 * top * s / sqrt(max((e - v * v / 2) ** 2 - 4 * v, 1e-300))

    return length + 2 * float(quad(upward, 0, 1, limit=200)[0])


@cache
def _hard_edge_constant() -> float:
    """lambda_min H^3 in the limit of depth at t = 1: the cube of the longest path."""
    longest = minimize_scalar(lambda e: -_length(e), bounds=(0.5, 6.0), method="bounded")
    return float(-longest.fun) ** 3


def _hard_edge_error(constant: float, depths: tuple[int, ...]) -> float:
    """lambda_min^(-1/3) = (H + a log H + b) / constant^(1/3), fitted: the coefficient of H against the constant."""
    h = np.array(depths, dtype=float)
    left = np.array([_finite_edges(d, 1.0)[0] for d in depths]) ** (-1 / 3)
    slope = np.linalg.lstsq(np.stack([h, np.log(h), np.ones_like(h)], axis=1), left, rcond=None)[0][0]
    return scaled_error(slope**-3, constant)


def _exponent(depths: tuple[int, ...]) -> tuple[float, float]:
    """Confidence interval of k in cond ~ H^k, of the limit of infinite width."""
    edges = [_finite_edges(h, 1.0) for h in depths]
    low, high = log_log_fit(list(depths), [high / low for low, high in edges]).interval
    return low, high


def _exponent_error(exponent: float, depths: tuple[int, ...]) -> float:
    low, high = _exponent(depths)
    return largest(low - exponent, exponent - high, 0.0)


@claim(
    key="own/conditioning-depends-on-init",
    statement=r"""Linear chains without skips, square maps of entry variance t/N, widths and then depth to infinity:
        the spectrum of $H_z$ lies between $x_\mp = t (\sqrt{1 + 8/t} \mp 3)^3 / (8 (\sqrt{1 + 8/t} \mp 1))$ for
        $t \le 1$; edges other than 0 are reached as $H^{-4}$. At t = 1/3 it is [1/12, 32/9], the condition number
        saturates at 128/3; at t = 1 it is [0, 27/4] and the condition number grows without end, as $0.2017 H^3$:
        $\lambda_{\min} H^3 \to 33.46$, the cube of the longest path of an elliptic integral. The exponent is near
        2.2 at H = 4 to 16 and 3 only in the limit. For t > 1 the lower edge is 0.""",
    hypotheses=("no skips, unit precision, equal widths, output included",),
    attribution="own",
    source="derived here; mupc-2025 says that conditioning worsens with depth",
    uses=("own/dyson-spectrum",),
)
def conditioning_depends_on_init(check: Check) -> None:
    check.exact(
        "x-+ are where branches meet, in fractions, t = 1/3, 8/15, 1 and more",
        [Fraction(q) for q in ("3", "4", "5", "7", "9/2", "11/3")],
        _fold_remainder,
        twins={
            "2 for 3": partial(_fold_remainder, three=2),
            "the square": partial(_fold_remainder, power=2),
            "4 for 8": partial(_fold_remainder, eight=4),
        },
    )
    check.property(
        "edges at t = 1, 1/3 and 8/15",
        [(1.0, 0.0, 27 / 4), (1 / 3, 1 / 12, 32 / 9), (8 / 15, 1 / 45, 343 / 75)],
        lambda given: scaled_error(free_edges(given[0]), given[1:]),
        twins={"Marchenko-Pastur shifted by 1": lambda given: scaled_error(_shifted_edges(given[0]), given[1:])},
    )
    check.property(
        "edges of the Dyson law approach them as (H + c)^-4, H = 4 to 32",
        [(1 / 3, 0), (1 / 3, 1), (1.0, 1)],
        partial(_approach_error, 4.0),
        twins={"as H^-2": partial(_approach_error, 2.0), "as H^-3": partial(_approach_error, 3.0)},
        bound=0.2,  # the width of the interval of three points; an exponent 3 grows by 0.3
    )
    check.property(
        "t = 1: the Dyson law's smallest edge against the elliptic integral, H = 16 to 256",
        [(16, 32, 64, 128, 256)],
        partial(_hard_edge_error, _hard_edge_constant()),
        twins={
            "without the turning point": partial(_hard_edge_error, _length(0.0) ** 3),
            "the square": partial(_hard_edge_error, _hard_edge_constant() ** (2 / 3)),
        },
        bound=5e-3,  # what H, log H and 1 leave of the next orders
    )
    check.property(
        "t = 1: exponent of the condition number, H = 64 to 256, towards 3",
        [(64, 128, 256)],
        partial(_exponent_error, 3.0),
        twins={"2.2": partial(_exponent_error, 2.2), "2": partial(_exponent_error, 2.0)},
        bound=0.1,  # 3 a log H / H is still missing
    )
    check.property(
        "t = 1: the same at H = 4 to 16",
        [(4, 6, 8, 11, 16)],
        partial(_exponent_error, 2.2),
        twins={"3": partial(_exponent_error, 3.0)},
        bound=0.1,
    )


def _shifted_edges(t: float) -> tuple[float, float]:
    return marchenko_pastur(1.0, t).shifted(1.0).edges
