r"""Are all saddles of F* strict?

Claims
    saddles-2024/conjecture-unrestricted   not on all data: refuted by one hidden unit and two examples

The counterexample: x = 1, 1 and y = 1, -1, which carry no signal (Sigma_yx = 0). For weights w_1, w_2

  F* = (1 + w_1^2 w_2^2) / (2 (1 + w_2^2)),      F* - 1/2 = w_2^2 (w_1^2 - 1) / (2 (1 + w_2^2)).

Every point (w_1, 0) is critical, with curvatures 0 along w_1 and w_1^2 - 1 along w_2. At (1, 0) the Hessian is 0,
and arbitrarily near F* is larger (w_1 > 1) and smaller (w_1 < 1). Signal elsewhere does not help: a second output,
fitted exactly, leaves it as it is. What does help: `own/saddles-strict-with-signal`.
Independent route: the least energy by elimination in fractions, Taylor coefficients along lines of weights.
"""

from fractions import Fraction
from typing import Any

import numpy as np

from pctheory import saddles
from pctheory.claims import Check, claim, judged
from tests import oracles
from tests.cases import Case
from tests.critical_points import EXACT, HADAMARD

X, Y = [[1], [1]], [[1], [-1]]
STEPS = [Fraction(1, n) for n in (2, 10, 1000, 10**6)]


def _network(weights: list[Any], x: Any, y: Any) -> Case:
    """An MLP of these maps, at unit precision."""
    maps = [EXACT(w) if np.asarray(w).dtype != object else np.asarray(w) for w in weights]
    ones = EXACT(np.ones(len(maps)))
    return Case("", maps, ones, 0 * ones, [0 * w[:, 0] for w in maps], ones, EXACT(x), EXACT(y))


def _unit(w_1: Any, w_2: Any, x: Any = X, y: Any = Y) -> Case:
    """One hidden unit."""
    return _network([np.array([[w]], dtype=object) * Fraction(1) for w in (w_1, w_2)], x, y)


def _with_signal_beside(w_1: Any, w_2: Any) -> Case:
    """The same in the second coordinate, beside a first one that is learnt, y_1 = x_1, uncorrelated with it."""
    diagonals = [np.diag([Fraction(1), Fraction(w)]) for w in (w_1, w_2)]
    return _network(diagonals, HADAMARD[:4, 1:3], HADAMARD[:4, [1, 3]])


def _least_energy(given: Case) -> Any:
    return oracles.energy(given, oracles.equilibrium(given))


def _closed_form(given: Case, *, rescaled: bool = True) -> Any:
    """(1 + w_1^2 w_2^2) / (2 (1 + w_2^2)), or without the denominator's w_2^2."""
    w_1, w_2 = (w[0, 0] for w in given.weights)
    return (1 + w_1**2 * w_2**2) / (2 * (1 + rescaled * w_2**2))


def _energy_remainder(formula: Any, given: Case) -> Any:
    return formula(given) - _least_energy(given)


def _no_negative_curvature(given: Case) -> bool:
    """Critical, with a Hessian that has no negative eigenvalue; gradient and Hessian also along random lines."""
    found = saddles.exact_derivatives(given.weights, given.x, given.y)
    rng = np.random.default_rng(0)
    for _ in range(5):
        change = [EXACT(rng.integers(-3, 4, w.shape)) for w in given.weights]
        flat = oracles.flat(change)
        value, slope, bend = oracles.along(given, change)
        if (value, slope, 2 * bend) != (found.value, found.gradient @ flat, flat @ found.hessian @ flat):
            return False
    return not np.any(found.gradient) and saddles.exact_inertia(found.hessian)[0] == 0


def _goes_both_ways(family: Any) -> bool:
    """Nearer and nearer to (1, 0), F* is above its value there at (1 + t, t), below it at (1 - t, t)."""
    there = _least_energy(family(1, 0))
    above, below = ([_least_energy(family(1 + sign * t, t)) - there for t in STEPS] for sign in (1, -1))
    return all(v > 0 for v in above) and all(v < 0 for v in below)


@claim(
    key="saddles-2024/conjecture-unrestricted",
    statement=r"""Every saddle of $F^*$ is strict. Refuted as it stands: for one hidden unit and the data (1, 1),
        (1, -1), $F^* = (1 + w_1^2 w_2^2) / (2 (1 + w_2^2))$ has at (1, 0) the Hessian 0 and goes up and down.""",
    hypotheses=("none: any data, depth and widths",),
    attribution="stated",
    source="saddles-2024, as a conjecture",
    uses=("saddles-2024/equilibrated-energy",),
)
def conjecture_unrestricted(check: Check) -> None:
    check.exact(
        "the closed form against elimination in fractions",
        [_unit(Fraction(i, 3), Fraction(j, 2)) for i in range(-4, 5) for j in range(-4, 5)],
        lambda given: _energy_remainder(_closed_form, given),
        twins=judged(_energy_remainder, {"the loss": lambda given: _closed_form(given, rescaled=False)}),
    )
    check.exact(
        "the Hessian at (w_1, 0) is diag(0, w_1^2 - 1)",
        [Fraction(i, 3) for i in range(-4, 5)],
        lambda w: _hessian(w) - np.diag([0, w**2 - 1]),
        twins={"diag(0, w_1^2 + 1)": lambda w: _hessian(w) - np.diag([0, w**2 + 1])},
    )
    check.counterexample(
        "one hidden unit, no signal",
        not np.any(_hessian(Fraction(1))) and _no_negative_curvature(_unit(1, 0)) and _goes_both_ways(_unit),
        "x = (1, 1), y = (1, -1), w = (1, 0): gradient 0, Hessian 0; F* - 1/2 = "
        f"{_least_energy(_unit(Fraction(3, 2), Fraction(1, 2))) - Fraction(1, 2)} at (3/2, 1/2) and "
        f"{_least_energy(_unit(Fraction(1, 2), Fraction(1, 2))) - Fraction(1, 2)} at (1/2, 1/2)",
    )
    check.counterexample(
        "signal in the data, none in the residual",
        _no_negative_curvature(_with_signal_beside(1, 0)) and _goes_both_ways(_with_signal_beside),
        "x = (s, t), y = (s, s t) over s, t = 1, -1; W_1 = I, W_2 = diag(1, 0): no negative eigenvalue, no minimum",
    )
    signal = [[1], [1]], [[1], [0]]
    check.false_twin("on data with signal", not _no_negative_curvature(_unit(1, 0, *signal)))
    check.false_twin("at (1/2, 0) instead of (1, 0)", not _no_negative_curvature(_unit(Fraction(1, 2), 0)))
    check.false_twin("for the loss, which has a minimum there", not _goes_both_ways_in_loss())


def _hessian(w_1: Fraction) -> np.ndarray:
    given = _unit(w_1, 0)
    return saddles.exact_derivatives(given.weights, given.x, given.y).hessian


def _goes_both_ways_in_loss() -> bool:
    values = [oracles.loss(_unit(1 + sign * t, t)) - oracles.loss(_unit(1, 0)) for t in STEPS for sign in (1, -1)]
    return min(values) < 0 < max(values)
