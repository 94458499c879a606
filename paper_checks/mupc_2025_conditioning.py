r"""muPC: how well inference is conditioned, before and while training, and what helps.

Claims
    mupc-2025/conditioning     how cond(H_z) depends on width, depth, skips and training
    mupc-2025/orthogonal       orthogonal weights: the exact spectrum at initialisation, the forward pass, training
    mupc-2025/activity-decay   what an activity decay does to cond(H_z) and to the activities

Notation: H_z is the Hessian of one example's energy in its H hidden activities; N their width; "variance" is that
of the weights of the standard parameterisation (SP) times their fan-in: 1 in the papers' table, 1/3 in their code.
Independent routes: extreme eigenvalues by LAPACK's banded solver; characteristic polynomials in fractions.

Reference: F. Innocenti, E. M. Achour, C. L. Buckley, NeurIPS 2025, arXiv 2505.13124.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np

import pctheory
from paper_checks._conditioning import Ensemble, condition, extremes, fitted, log_ratio, outside, trained
from paper_checks._differences import FALSE_ORDER, Difference, shortfall
from pctheory import conditioning
from pctheory.claims import Check, claim, judged, largest, scaled_error
from tests import oracles
from tests.cases import FEW, Case, rational_cases

SP, THIRD = Ensemble(16, 8, 4), Ensemble(16, 8, 4, variance=1 / 3)
SP_SKIPS, THIRD_SKIPS = replace(SP, skips=True), replace(THIRD, skips=True)
MUPC = Ensemble(16, 8, 4, skips=True, mupc=True)
KINDS = {
    "SP": SP,
    "SP, variance 1/3": THIRD,
    "SP with skips": SP_SKIPS,
    "SP with skips, variance 1/3": THIRD_SKIPS,
    "muPC with skips": MUPC,
}
ORTHOGONAL = Ensemble(16, 8, 10, orthogonal=True, inputs=64)

# --- mupc-2025/conditioning ---


def _library_error(change: Callable[[Ensemble], Ensemble], drawn: Ensemble) -> float:
    """The library's two extremes against the banded solver's, for seed 0."""
    found = conditioning.activity_hessian_extremes(change(drawn).net(0))
    low, high = extremes(drawn, 0)
    return largest(scaled_error(found.smallest, low), scaled_error(found.largest, high))


def _difference(later: list[float], earlier: list[float]) -> Difference:
    return Difference.of(np.log(later), np.log(earlier))


@cache
def _training(drawn: Ensemble) -> Difference:
    """Of log cond after 400 steps and at the start, over eight seeds."""
    runs = [trained(drawn, seed) for seed in range(8)]
    return _difference([run[-1] for run in runs], [run[0] for run in runs])


DEPTHS, WIDTHS, WIDE = (8, 16, 32), (8, 16, 32, 64), (16, 32, 64)
GROWS, LEVEL = (0.1, math.inf), (-0.35, 0.35)  # a tenth: below it, 30 times the size changes less than a half


@claim(
    key="mupc-2025/conditioning",
    statement=r"""At initialisation cond($H_z$) grows with depth: about as $H^{2.1}$ for SP of variance 1 and as
        $H^{1.9}$ for muPC with skips, exponentially for SP with skips and $d_y < N$. But it stays below 128/3 for
        SP of variance 1/3. It grows with width while the output stays narrow, and nearly ceases to where $d_y = N$.
        Skips make SP worse by far, and muPC with skips is better than SP with skips. In training it grows for SP of
        variance 1/3, but falls for SP of variance 1, and for SP of variance 1/3 with skips.""",
    hypotheses=(
        "linear networks, Gaussian weights; depth: N = 16, H = 8 to 32; width: H = 6, N = 8 to 64; d_y = 4 or N",
        "training: exact equilibrium, digits, N = 16, H = 8, Adam at 1e-3, batches of 64, 400 steps, 8 seeds",
    ),
    attribution="stated",
    source="mupc-2025 (that it grows with width, depth and training); exponents and exceptions measured here",
    uses=("mupc-2025/activity-hessian",),
)
def conditioning_grows(check: Check) -> None:
    check.property(
        "the library's extremes against LAPACK's banded solver",
        [replace(drawn, hidden=6) for drawn in KINDS.values()],
        partial(_library_error, lambda drawn: drawn),
        twins=judged(
            _library_error,
            {
                "skips exchanged": lambda drawn: replace(drawn, skips=not drawn.skips),
                "one layer more": lambda drawn: replace(drawn, hidden=drawn.hidden + 1),
                "an output as wide as the rest": lambda drawn: replace(drawn, outputs=drawn.width),
            },
        ),
        bound=1e-8,  # eps cond of the banded solver, with cond up to 1e5
        seed=0,
    )
    for name in ("SP", "SP with skips", "SP with skips, variance 1/3", "muPC with skips"):
        found = fitted(KINDS[name], DEPTHS)
        check.property(
            f"{name}: exponent in depth {found.text}",
            [found],
            partial(outside, GROWS),
            twins={"level in depth": partial(outside, LEVEL)},
            bound=0.0,
            seed=0,
        )
    deep = [condition(replace(THIRD, width=32, hidden=hidden), 0) for hidden in (16, 32)]
    doubled = [condition(replace(SP, width=32, hidden=hidden), 0) for hidden in (16, 32)]
    check.property(
        f"SP, variance 1/3: {deep[0]:.3g} at H = 16, {deep[1]:.3g} at 32; at most 128/3",
        deep,
        lambda cond: largest(0.0, cond / (128 / 3) - 1),
        twins={"variance 1": lambda _: largest(0.0, min(doubled) / (128 / 3) - 1)},
        bound=0.05,  # edges of a finite width lie off those of the limit by N^(-2/3), a tenth, mostly inside
        seed=0,
    )
    for name, drawn in KINDS.items():
        narrow = fitted(replace(drawn, hidden=6), WIDTHS, over="width")
        square = fitted(replace(drawn, hidden=6), WIDE, over="width", square=True)
        if name != "SP, variance 1/3":
            check.property(
                f"{name}: exponent in width, d_y = 4: {narrow.text}",
                [narrow],
                partial(outside, GROWS),
                twins={"level in width": partial(outside, (-0.1, 0.1))},
                bound=0.0,
                seed=0,
            )
        check.property(
            f"{name}: exponent in width from N = 16 on, d_y = N: {square.text}",
            [square],
            partial(outside, LEVEL),
            twins={"grows as N": partial(outside, (0.65, 1.35))},
            bound=0.0,
            seed=0,
        )
    for name, worse, better in (
        ("SP, skips against none", SP_SKIPS, SP),
        ("SP of variance 1/3, skips against none", THIRD_SKIPS, THIRD),
        ("skips, SP against muPC", SP_SKIPS, MUPC),
        ("skips, SP of variance 1/3 against muPC", replace(THIRD_SKIPS, hidden=16), replace(MUPC, hidden=16)),
    ):
        ratios = log_ratio(worse, better)
        ratio = Difference.of(ratios, 0 * ratios)
        check.property(f"{name}, log ratio {ratio.text}", [ratio], partial(shortfall, 1), twins=FALSE_ORDER, seed=0)
    _in_training(check)


def _in_training(check: Check) -> None:
    kinds = {name: replace(drawn, outputs=10, inputs=64) for name, drawn in KINDS.items() if not drawn.mupc}
    found = {name: _training(drawn) for name, drawn in kinds.items()}
    grown = found["SP, variance 1/3"]
    check.property(
        f"SP, variance 1/3, in training: log cond up by {grown.text}",
        [grown],
        partial(shortfall, 1),
        twins=FALSE_ORDER,
        seed=0,
    )
    others = ("SP", "SP with skips, variance 1/3")
    check.difference(
        "grows in training: not from every initialisation",
        all(found[name].mean < 0 and shortfall(1, found[name]) > 0 for name in others),
        "; ".join(f"{name}: log cond changes by {found[name].text} in 400 steps" for name in others),
    )
    square = fitted(replace(SP, hidden=6), WIDE, over="width", square=True)
    check.difference(
        "grows with depth and width: not at variance 1/3, nor with d_y = N",
        condition(replace(THIRD, width=32, hidden=32), 0) < 45 and outside(LEVEL, square) == 0,
        f"SP of variance 1/3: {condition(replace(THIRD, width=32, hidden=32), 0):.3g} at H = 32, limit 128/3; "
        f"SP of variance 1 with d_y = N: exponent in width {square.text} from N = 16 on",
    )


# --- mupc-2025/orthogonal ---


@dataclass(frozen=True)
class OrthogonalCase:
    """A square orthogonal chain in fractions, d_y orthonormal rows on top; the maps A_2..A_L."""

    width: int
    hidden: int
    outputs: int
    maps: tuple[np.ndarray, ...]


def _rational_orthogonal(random: np.random.Generator, width: int) -> np.ndarray:
    """(I - K)(I + K)^-1 of a random skew K in whole numbers."""
    whole = random.integers(-2, 3, (width, width))
    skew = np.array([[Fraction(int(v)) for v in row] for row in whole - whole.T])
    identity = np.array([[Fraction(int(i == j)) for j in range(width)] for i in range(width)])
    return np.asarray(oracles.solve(identity + skew, identity - skew))


def _orthogonal_cases() -> list[OrthogonalCase]:
    random, found = np.random.default_rng(700), []
    for width, hidden, outputs in ((1, 3, 1), (2, 2, 1), (2, 4, 1), (3, 3, 1), (3, 2, 2), (3, 3, 3), (2, 1, 1)):
        maps = [_rational_orthogonal(random, width) for _ in range(hidden)]
        found.append(OrthogonalCase(width, hidden, outputs, (*maps[:-1], maps[-1][:outputs])))
    return found


def _characteristic(given: OrthogonalCase, shift: Fraction) -> Any:
    """det(H_z + shift I), for shift > 0, by elimination."""
    ends = np.cumsum([0] + [given.width] * given.hidden)
    h = np.array([[Fraction(0)] * int(ends[-1])] * int(ends[-1]))
    for l, a in enumerate(given.maps):
        own = slice(ends[l], ends[l + 1])
        h[own, own] = a.T @ a + np.eye(given.width, dtype=int) * (1 + shift)
        if l + 1 < given.hidden:
            above = slice(ends[l + 1], ends[l + 2])
            h[above, own], h[own, above] = -a, -a.T
    return oracles.determinant(h)


def _chain_polynomial(hidden: int, shift: Fraction, *, free: bool) -> Fraction:
    """det(T + shift I) of the chain with 2 on the diagonal, 1 at a free end, and -1 beside it."""
    before, now = Fraction(1), Fraction(1)
    for l in range(hidden):
        own = (1 if free and l == hidden - 1 else 2) + shift
        before, now = now, own * now - (before if l else 0)
    return now


Multiplicities = Callable[[OrthogonalCase], tuple[int, int]]


def _multiplicities(given: OrthogonalCase) -> tuple[int, int]:
    """Of the chain that is free at the output, and of the one clamped at it."""
    return given.width - given.outputs, given.outputs


def _spectrum_remainder(multiplicities: Multiplicities, given: OrthogonalCase) -> np.ndarray:
    """Two polynomials of degree n that agree at n + 1 points are one."""
    free, clamped = multiplicities(given)
    shifts = [Fraction(k) for k in range(1, given.width * given.hidden + 2)]
    return np.array(
        [
            _characteristic(given, s)
            - _chain_polynomial(given.hidden, s, free=True) ** free
            * _chain_polynomial(given.hidden, s, free=False) ** clamped
            for s in shifts
        ]
    )


def _chain_values(hidden: int, *, free: bool) -> np.ndarray:
    k = np.arange(1, hidden + 1)
    return 2 - 2 * np.cos((2 * k - 1) * np.pi / (2 * hidden + 1) if free else k * np.pi / (hidden + 1))


def _chain_error(values: Callable[..., np.ndarray], hidden: int) -> float:
    """The stated values against LAPACK's of the tridiagonal chains, free and clamped."""
    errors = []
    for free in (True, False):
        chain = 2 * np.eye(hidden) - np.eye(hidden, k=1) - np.eye(hidden, k=-1)
        chain[-1, -1] = 1 if free else 2
        errors.append(scaled_error(np.sort(values(hidden, free=free)), np.linalg.eigvalsh(chain)))
    return largest(*errors)


FALSE_VALUES: dict[str, Callable[..., np.ndarray]] = {
    "ends exchanged": lambda hidden, *, free: _chain_values(hidden, free=not free),
    "k for 2k - 1": lambda hidden, *, free: 2 - 2 * np.cos(2 * np.arange(1, hidden + 1) * np.pi / (2 * hidden + 1)),
    "free as well where it is clamped": lambda hidden, *, free: _chain_values(hidden, free=True),
}


def _growth_error(constant: float, hidden: int) -> float:
    """cond / H^2 against the constant, with d_y < N, where its corrections are 1 / H."""
    drawn = Ensemble(4, hidden, 1, orthogonal=True)
    return abs(condition(drawn, 0) / (constant * hidden**2) - 1) * hidden


def _norm_error(drawn: Ensemble, seed: int) -> float:
    """|z_l| of every hidden layer against |z_1|, for one input of 1."""
    z, norms = np.ones(drawn.inputs), []
    for a in drawn.maps(seed)[:-1]:
        z = a @ z
        norms.append(float(np.linalg.norm(z)))
    return scaled_error(np.array(norms), np.full(len(norms), norms[0]))


@claim(
    key="mupc-2025/orthogonal",
    statement=r"""Orthogonal weights keep $|z_l|$ in the forward pass, and at initialisation the spectrum of $H_z$
        is exactly $2 - 2\cos((2k-1)\pi/(2H+1))$, $N - d_y$ times each, and $2 - 2\cos(k\pi/(H+1))$, $d_y$ times
        each, $k = 1..H$: so cond is about $(16/\pi^2) H^2$ for $d_y < N$, whatever the width. That is better than
        Gaussian weights of variance 1, though worse than those of variance 1/3 in deep networks. It does not last:
        cond grows in training.""",
    hypotheses=(
        "linear SP networks without skips; square orthogonal hidden weights, orthonormal rows of the last one",
        "training: exact equilibrium, digits, N = 16, H = 8, Adam at 1e-3, batches of 64, 400 steps, 8 seeds",
    ),
    attribution="stated",
    source="mupc-2025 (stable at initialisation, not in training); the spectrum and the comparison derived here",
    uses=("mupc-2025/activity-hessian",),
)
def orthogonal(check: Check) -> None:
    check.exact(
        "the characteristic polynomial in fractions, as that of the two chains",
        _orthogonal_cases(),
        partial(_spectrum_remainder, _multiplicities),
        twins=judged(
            _spectrum_remainder,
            {
                "multiplicities exchanged": lambda given: _multiplicities(given)[::-1],
                "all free": lambda given: (given.width, 0),
                "all clamped": lambda given: (0, given.width),
            },
        ),
    )
    check.property(
        "the eigenvalues of the two chains, H = 1 to 60",
        range(1, 61),
        partial(_chain_error, _chain_values),
        twins=judged(_chain_error, FALSE_VALUES),
    )
    check.property(
        "cond / H^2 tends to 16 / pi^2",
        (10, 20, 40, 80),
        partial(_growth_error, 16 / math.pi**2),
        twins=judged(_growth_error, {"4 / pi^2, as with d_y = N": 4 / math.pi**2, "1": 1.0}),
        bound=1.3,  # ((2H+1) / 2H)^2 - 1 is 1 / H and smaller terms
    )
    check.property(
        "activities keep their length",
        range(5),
        partial(_norm_error, replace(ORTHOGONAL, hidden=20)),
        twins={"Gaussian weights": partial(_norm_error, replace(ORTHOGONAL, hidden=20, orthogonal=False))},
        seed=0,
    )
    deep = replace(ORTHOGONAL, hidden=20)
    for name, worse, better in (
        ("Gaussian of variance 1 against orthogonal", replace(deep, orthogonal=False), deep),
        ("orthogonal against Gaussian of variance 1/3", deep, replace(deep, orthogonal=False, variance=1 / 3)),
    ):
        ratios = log_ratio(worse, better)
        found = Difference.of(ratios, 0 * ratios)
        check.property(
            f"{name}, H = 20, log ratio {found.text}", [found], partial(shortfall, 1), twins=FALSE_ORDER, seed=0
        )
    found = _training(ORTHOGONAL)
    check.property(
        f"in training log cond grows by {found.text}", [found], partial(shortfall, 1), twins=FALSE_ORDER, seed=0
    )


# --- mupc-2025/activity-decay ---

DECAYS = (Fraction(0), Fraction(1, 8), Fraction(1), Fraction(5))


def _decayed(given: Case, decay: Any) -> np.ndarray:
    """The hidden activities of each example at the equilibrium with decay, side by side."""
    hessian, b = oracles.linear_system(given)
    return np.asarray(oracles.solve(hessian + decay * np.eye(len(hessian), dtype=int), b.T).T)


def _growth_of_norms(parts: Callable[[Case], list[slice]], given: Case) -> np.ndarray:
    """By how much a part's squared norm grows from one decay to the next; 0 where it does not."""
    at = [_decayed(given, decay) for decay in DECAYS]
    norms = [[(z[:, part] ** 2).sum(axis=1) for part in parts(given)] for z in at]
    grown = [np.array(after) - np.array(before) for before, after in pairwise(norms)]
    return np.array([max(v, 0 * v) for v in np.ravel(grown)])


def _whole(given: Case) -> list[slice]:
    return [slice(None)]


def _layers(given: Case) -> list[slice]:
    ends = np.cumsum([0, *given.widths[1:-1]])
    return [slice(i, j) for i, j in pairwise(ends)]


def _counterexample() -> tuple[Fraction, Fraction]:
    """|z_1| without decay and at decay 1: weights 1, 1, 1, x = 1, y = -2."""
    ones = [np.array([[Fraction(1)]])] * 3
    none = [np.array([Fraction(0)])] * 3
    flags = np.array([Fraction(1)] * 3)
    given = Case("", ones, flags, 0 * flags, none, flags, ones[0], -2 * ones[0])
    return abs(_decayed(given, 0)[0, 0]), abs(_decayed(given, 1)[0, 0])


def _decay_error(shift: Callable[[float], float], case: tuple[Ensemble, float]) -> float:
    """The library's extremes with decay against the banded solver's, moved by `shift(decay)`."""
    drawn, decay = case
    found = conditioning.activity_hessian_extremes(drawn.net(0), decay=decay)
    low, high = (value + shift(decay) for value in extremes(drawn, 0))
    return largest(scaled_error(found.smallest, low), scaled_error(found.largest, high))


def _excess(bound: Callable[[float], float], case: tuple[Ensemble, float, int]) -> float:
    """By how much cond with decay exceeds the bound."""
    drawn, decay, seed = case
    low, high = extremes(drawn, seed)
    return largest(0.0, (high + decay) / (low + decay) / bound(decay) - 1)


def _activities_error(decay: float, given: Case) -> float:
    """`equilibrium_with_decay` of the library at 1/2 against the dense system at `decay`."""
    found = pctheory.equilibrium_with_decay(given.net, given.x, given.y, 0.5).activities
    expected = _decayed(given, decay)
    return scaled_error(np.concatenate(list(found), axis=1), expected, condition=oracles.condition(given))


@claim(
    key="mupc-2025/activity-decay",
    statement=r"""A decay $(\alpha/2)|z_l|^2$ of the hidden activities turns $H_z$ into $H_z + \alpha I$: each
        eigenvalue moves up by $\alpha$, so that cond is at most $(\lambda_{max} + \alpha)/\alpha$ at any depth; for
        wide SP networks of variance 1 that is $(27/4 + \alpha)/\alpha$. The activities at equilibrium shrink taken
        together, $|z|^2$ summed over the layers never grows with $\alpha$; those of a single layer may grow.""",
    hypotheses=("any linear network", "the same decay in every hidden layer"),
    attribution="stated",
    source="mupc-2025 (better conditioned, activities shrink); the bounds and the exception derived here",
    uses=("mupc-2025/activity-hessian",),
)
def activity_decay(check: Check) -> None:
    without, at_one = _counterexample()
    check.exact(
        "the squared norm of all activities never grows with decay, in fractions",
        [given for given in rational_cases(30, seed=710, depths=(2, 4)) if given.depth > 1],
        partial(_growth_of_norms, _whole),
        twins={
            f"each layer's (weights 1, x = 1, y = -2: |z_1| from {without} to {at_one})": partial(
                _growth_of_norms, _layers
            )
        },
    )
    check.false_twin(
        "each layer shrinks, H = 2, all weights 1, x = 1, y = -2", without == 0 and at_one == Fraction(1, 8)
    )
    check.property(
        "the library's equilibrium with decay",
        FEW[:3],
        partial(_activities_error, 0.5),
        twins=judged(_activities_error, {"without decay": 0.0, "twice the decay": 1.0}),
    )
    decays = (1e-3, 0.1, 1.0)
    check.property(
        "each extreme moves up by the decay",
        [(drawn, decay) for drawn in (SP, THIRD, MUPC) for decay in decays],
        partial(_decay_error, lambda decay: decay),
        twins=judged(_decay_error, {"half of it": lambda decay: decay / 2, "not at all": lambda decay: 0.0}),
        bound=1e-9,  # eps cond of the banded solver, with cond up to 1e4
        seed=0,
    )
    check.property(
        "SP of variance 1, N = 32: cond is at most (27/4 + alpha) / alpha",
        [(Ensemble(32, hidden, 4), decay, seed) for hidden in (4, 16, 48) for decay in decays for seed in range(3)],
        partial(_excess, lambda decay: (27 / 4 + decay) / decay),
        twins=judged(
            _excess,
            {
                "4, as for muPC": lambda decay: (4 + decay) / decay,
                "27/4 / alpha": lambda decay: 27 / 4 / decay,
                "1 / alpha": lambda decay: 1 / decay,
            },
        ),
        bound=0.05,  # the largest eigenvalue exceeds its limit by N^(-2/3) or so, a tenth; less in these draws
        seed=0,
    )
