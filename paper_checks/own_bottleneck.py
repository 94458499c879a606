r"""Critical points of F* below the width that guarantees strict saddles, N_{L-1} < min(d_x, d_y).

Claims
    own/bottleneck   strict unless it is a best fit of rank N_{L-1}; noise can make such a fit a non-strict saddle

Notation: C = Sigma_yx Sigma_xx^+ is the least-squares map, C Sigma_xx C^T = sum_k lambda_k q_k q_k^T with
lambda_1 >= lambda_2 >= ..; U is the range of A_L, M = M_{L-1:1}. Biases are 0, layers 1 and L have no skip.
The argument, for a critical point with Sigma_rx != 0:
  (1) If M Sigma_xx M^T is singular or A_L is not injective, `own/saddles-strict-with-signal` steps (2) and (3)
   apply: they do not use the width.
  (2) Otherwise M_{L:1} Sigma_xx^(1/2) has rank N_{L-1}, U is spanned by N_{L-1} of the q_k, and M_{L:1} x is the
   projection of C x on U. Turn q_a, in U, towards q_b, not in U: the direction A_L' = q_b q_a^T A_L, A_1' with
   M_{L-1:2} A_1' = A_L^+ q_a q_b^T C has curvature lambda_a - lambda_b in the loss. F* <= pi_L loss everywhere,
   both are critical here and equal (`own/critical-points`), so the Hessian of F* is at most pi_L times that of
   the loss. So F* has negative curvature along it if lambda_b > lambda_a; with E the moments of y - C x it is
   pi_L (lambda_a - lambda_b) - pi_L^2 (q_b^T E q_b)(q_a^T A_L G A_L^T q_a), G = (K^-1 + pi_L A_L^T A_L)^-1.
  (3) So U belongs to the N_{L-1} largest lambda_k: a best fit. As S^-1 >= pi_L (I - P), P the projection on the
   range of A_L, and (I - P) A_L = 0, everywhere F* >= (pi_L / 2) tr (I - P) Sigma_yy, with equality here. If U
   holds the leading eigenvectors of Sigma_yy too, which it does where y is linear in x, no network of these
   widths has a lower F*. Noise outside U can undo that, by the second term of (2).
Independent route: fractions, with the first three Taylor coefficients of F* and the loss along a line of weights.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import sympy as sp

from pctheory.claims import Check, claim, judged, largest
from tests import oracles
from tests.cases import Case, random_cases
from tests.critical_points import EXACT, HADAMARD, critical_point, integers, product, remaining_spread, spread

INPUTS, OUTPUTS = 3, 4
GAINS = (3, 2, 1, 0)  # those of `critical_point` for these sizes; the fourth output is noise alone
EIGENVALUES = tuple(gain**2 for gain in GAINS)  # lambda_k


@dataclass(frozen=True)
class Fit:
    """A critical point of F* that fits the directions `fitted` of the outputs exactly, the others not at all."""

    case: Case
    directions: np.ndarray  # columns q_k
    fitted: tuple[int, ...]

    @property
    def least_squares(self) -> np.ndarray:
        """C."""
        x, y = self.case.x, self.case.y
        return oracles.solve(x.T @ x, x.T @ y).T


def _fit(seed: int, depth: int, fitted: tuple[int, ...], *, noise: int) -> Fit:
    """With as many units in layer L-1 as directions fitted, and up to one more in those below."""
    rng = np.random.default_rng(seed)
    lower = (len(fitted) + int(rng.integers(2)) for _ in range(depth - 2))
    point = critical_point(seed, (INPUTS, *lower, len(fitted), OUTPUTS), fitted, noise=noise)
    return Fit(point.case, point.directions, fitted)


def _right_inverse(onto: np.ndarray) -> np.ndarray:
    return onto.T @ oracles.solve(onto @ onto.T, EXACT(np.eye(len(onto), dtype=int)))


def _turn(fit: Fit, lost: int, gained: int) -> list[np.ndarray]:
    """The change of the weights that turns q_lost, fitted, towards q_gained."""
    given, q = fit.case, fit.directions
    last = given.maps[-1]
    left_inverse = oracles.solve(last.T @ last, last.T)
    above = product(given.maps[1:-1], len(given.maps[0]))
    inner = left_inverse @ np.outer(q[:, lost], q[:, gained] @ fit.least_squares)
    changes = [0 * w for w in given.weights]
    changes[0] = _right_inverse(above) @ inner / given.scalings[0]
    changes[-1] = np.outer(q[:, gained], q[:, lost] @ last) / given.scalings[-1]
    return changes


def _random_change(given: Case, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [integers(rng, *w.shape) for w in given.weights]


FITS = [
    _fit(100 * depth + 10 * sum(fitted) + noise, depth, fitted, noise=noise)
    for depth in (2, 3, 4, 5)
    for rank in (1, 2)
    for fitted in combinations(range(3), rank)
    for noise in (0, 1, 4)
]
TURNS = [
    (fit, lost, gained) for fit in FITS for lost in fit.fitted for gained in set(range(OUTPUTS)) - set(fit.fitted)
]


def _slopes(fit: Fit) -> np.ndarray:
    """dF*/dt along a few random lines, and what a critical point adds: F* = pi_L loss there."""
    given = fit.case
    lines = [oracles.along(given, _random_change(given, seed)) for seed in range(6)]
    return np.array([*(line[1] for line in lines), lines[0][0] - given.precisions[-1] * oracles.loss(given)])


def _curvature_of_turn(expected: Any, turn: tuple[Fit, int, int]) -> Any:
    fit, lost, gained = turn
    curvature = 2 * oracles.along(fit.case, _turn(fit, lost, gained), rescaled=False)[2]
    return curvature - expected(fit, lost, gained)


def _energy_of_turn(noise_term: Any, turn: tuple[Fit, int, int]) -> Any:
    """What the curvature of F* has beside pi_L (lambda_lost - lambda_gained)."""
    fit, lost, gained = turn
    curvature = 2 * oracles.along(fit.case, _turn(fit, lost, gained))[2]
    loss = fit.case.precisions[-1] * (EIGENVALUES[lost] - EIGENVALUES[gained])
    return curvature - loss + noise_term(fit, lost, gained)


def _noise_term(fit: Fit, lost: int, gained: int, *, remaining: bool = True) -> Any:
    """pi_L^2 (q_b^T E q_b) (q_a^T A_L G A_L^T q_a), or with K for G."""
    given, pi = fit.case, fit.case.precisions[-1]
    inner = remaining_spread(given) if remaining else spread(given)
    noise = (given.y - given.x @ fit.least_squares.T) @ fit.directions[:, gained]
    seen = fit.directions[:, lost] @ given.maps[-1]
    return pi**2 * (noise @ noise) / len(noise) * (seen @ inner @ seen)


def _excess(case: Case, seed: int) -> Any:
    """By how much the curvature of F* along a random line is above pi_L times that of the loss: 0 if it is not."""
    line = _random_change(case, seed)
    energy, loss = (oracles.along(case, line, rescaled=rescaled)[2] for rescaled in (True, False))
    excess = energy - case.precisions[-1] * loss
    return excess if excess > 0 else 0


def _missed_energy(fit: Fit) -> Any:
    """(pi_L / 2) tr (I - P) Sigma_yy, P the projection on the fitted directions."""
    q = fit.directions[:, list(fit.fitted)]
    missed = fit.case.y - fit.case.y @ q @ q.T
    return fit.case.precisions[-1] * (missed**2).sum() / (2 * len(missed))


def _below_bound(bound: Any, given: Case) -> float:
    """By how much F* is below a bound, on the scale of its value at zero prediction."""
    found = oracles.rescaled_loss(given, oracles.rescaling(given))
    return 2 * len(given.y) * largest(bound(given) - found, 0.0) / (given.precisions[-1] * (given.y**2).sum())


def _out_of_range(given: Case, *, precision: float | None = None, turned: bool = False) -> float:
    """(pi_L / 2) tr (I - P) Sigma_yy with P the projection on the range of A_L."""
    last = given.maps[-1]
    inside = given.y @ (last @ np.linalg.pinv(last))
    seen = inside if turned else given.y - inside
    return float((given.precisions[-1] if precision is None else precision) * (seen**2).sum() / (2 * len(seen)))


def _narrow(count: int, seed: int) -> Iterator[Case]:
    """Networks with fewer units in the last hidden layer than outputs, where the bound is not 0."""
    drawn = random_cases(count, seed=seed, depths=(2, 6), biases=False)
    return (made for made in drawn if made.widths[-2] < made.widths[-1])


W = sp.symbols("w11 w12 v1 v2", real=True)
ALPHA, GAIN, OTHER, NOISE = sp.symbols("alpha s1 s2 m", positive=True)


def _one_unit(gain: Any, other: Any, noise: Any) -> Any:
    """F* of one hidden unit for x = (1, 1), (1, -1) and y = (s1 x_1, s2 x_2 +- m), four examples."""
    w1, v = sp.Matrix([W[:2]]), sp.Matrix(W[2:])
    total = 0
    for x in (sp.Matrix([1, 1]), sp.Matrix([1, -1])):
        for draw in (noise, -noise):
            r = sp.Matrix([gain * x[0], other * x[1] + draw]) - v * (w1 * x)
            total += (r.dot(r) - r.dot(v) ** 2 / (1 + v.dot(v))) / 8
    return total


def _at_fit(expression: Any, gain: Any, alpha: Any) -> Any:
    """At the fit of the first output: W_1 = (s1 / alpha, 0), W_2 = (alpha, 0)^T."""
    return expression.subs(dict(zip(W, (gain / alpha, 0, alpha, 0), strict=True)))


def _hessian_at_fit(gain: Any, other: Any, noise: Any, alpha: Any) -> Any:
    energy = _one_unit(gain, other, noise)
    assert all(sp.simplify(_at_fit(energy.diff(w), gain, alpha)) == 0 for w in W), "the fit is not critical"
    return _at_fit(sp.hessian(energy, W), gain, alpha).applyfunc(sp.simplify)


def _determinant_remainder(numerator: Any) -> Any:
    """Of the block of w12 and v2, the directions (u v^T, b), for all gains, noise and alpha."""
    block = _hessian_at_fit(GAIN, OTHER, NOISE, ALPHA).extract([1, 3], [1, 3])
    return sp.simplify(block.det() - numerator / (1 + ALPHA**2) ** 2)


def _spectrum(noise: int, alpha: Any) -> list[Any]:
    return sorted(_hessian_at_fit(sp.Integer(3), sp.Integer(1), noise, alpha).eigenvals(multiple=True), key=sp.N)


@claim(
    key="own/bottleneck",
    statement=r"""Whatever $N_{L-1}$, every critical point of $F^*$ with $\Sigma_{rx} \ne 0$ is a strict saddle,
    unless $A_L$ is injective and $M_{L:1}$ is a best fit of rank $N_{L-1}$ to the data. Such a fit is a global
    minimum of $F^*$ if the range of $A_L$ is spanned by leading eigenvectors of $\Sigma_{yy}$, as where $y$ is a
    linear function of $x$. With noise $E = \langle (y - C x)(y - C x)^T \rangle$ ($C$ the least-squares map)
    turning it from $q_a$, fitted, towards $q_b$, missed, has the curvature
    $\pi_L (\lambda_a - \lambda_b) - \pi_L^2 (q_b^T E q_b)(q_a^T A_L G A_L^T q_a)$, with
    $G = (K^{-1} + \pi_L A_L^T A_L)^{-1}$. That can make it a strict saddle, and a non-strict one: one hidden unit,
    $x = (1, \pm 1)$, $y = (3 x_1, x_2 \pm 4)$, $W_1 = (3/\alpha, 0)$, $W_2 = (\alpha, 0)^T$: at $\alpha \le 1$ the
    Hessian is positive semidefinite, at every $\alpha > 1$ it has a negative eigenvalue, with $F^* = 17/2$.""",
    hypotheses=(
        "at least one hidden layer",
        "no biases",
        "no skip in the first and the last layer",
        "positive precisions",
    ),
    attribution="own",
    source="derived here",
    uses=("own/critical-points", "own/saddles-strict-with-signal", "saddles-2024/energy-below-loss"),
)
def bottleneck(check: Check) -> None:
    check.exact(
        "fits of rank 1 and 2, depth 2 to 5, are critical, with F* = pi_L loss",
        FITS,
        _slopes,
        twins={"without A_L^T r = 0": lambda fit: _slopes(replace(fit, case=_tilted(fit.case)))},
    )
    check.exact(
        "turning the fit has curvature lambda_lost - lambda_gained in the loss",
        TURNS,
        partial(_curvature_of_turn, lambda fit, lost, gained: EIGENVALUES[lost] - EIGENVALUES[gained]),
        twins=judged(
            _curvature_of_turn,
            {
                "eigenvalues exchanged": lambda fit, lost, gained: EIGENVALUES[gained] - EIGENVALUES[lost],
                "singular values": lambda fit, lost, gained: GAINS[lost] - GAINS[gained],
            },
        ),
    )
    check.exact(
        "... and pi_L times that in F*, less pi_L^2 (q_b^T E q_b)(q_a^T A_L G A_L^T q_a)",
        TURNS,
        partial(_energy_of_turn, _noise_term),
        twins=judged(
            _energy_of_turn,
            {"without noise": lambda *turn: 0, "K for G": partial(_noise_term, remaining=False)},
        ),
    )
    check.exact(
        "along any line the curvature of F* is at most pi_L times that of the loss",
        FITS,
        lambda fit: [_excess(fit.case, seed) for seed in range(4)],
        twins={
            "away from critical points too": lambda fit: [_excess(_shifted(fit.case), seed) for seed in range(4)]
        },
    )
    check.property(
        "F* >= (pi_L / 2) tr (I - P) Sigma_yy",
        _narrow(2000, seed=700),
        partial(_below_bound, _out_of_range),
        twins=judged(
            _below_bound,
            {
                "without pi_L": partial(_out_of_range, precision=1.0),
                "P for I - P": partial(_out_of_range, turned=True),
            },
        ),
        seed=700,
    )
    check.exact(
        "with equality at the fits",
        FITS,
        lambda fit: fit.case.precisions[-1] * oracles.loss(fit.case) - _missed_energy(fit),
        twins={"without pi_L": lambda fit: oracles.loss(fit.case) - _missed_energy(fit)},
    )
    numerator = (GAIN**2 - OTHER**2) * (1 + ALPHA**2) - ALPHA**2 * NOISE**2
    check.exact(
        "one hidden unit: determinant ((s1^2 - s2^2)(1 + alpha^2) - alpha^2 m^2) / (1 + alpha^2)^2",
        [numerator],
        _determinant_remainder,
        twins={"noise ignored": lambda n: _determinant_remainder(n + ALPHA**2 * NOISE**2)},
    )
    semidefinite = _spectrum(4, sp.Integer(1)) == [0, 0, 1, 5]
    sides = [_spectrum(4, alpha)[0] for alpha in (sp.Rational(1, 2), 1 + sp.Rational(1, 1000))]
    level = _at_fit(_one_unit(3, 1, 4), 3, ALPHA)
    check.exact(
        "the integer example: semidefinite at alpha = 1 on a curve of equal F*, negative beyond",
        [(semidefinite, sides, sp.simplify(level - sp.Rational(17, 2)))],
        lambda found: [int(not found[0]), int(found[1][0] != 0), int(not found[1][1] < 0), found[2]],
        twins={"without noise": lambda found: [int(not _spectrum(0, 1 + sp.Rational(1, 1000))[0] < 0)]},
    )
    check.false_twin("at any width, every critical point with signal that is no minimum is strict", semidefinite)


def _tilted(given: Case) -> Case:
    """The same fit with noise in the fitted outputs as well."""
    return replace(given, y=given.y + EXACT(HADAMARD[:, -1:]) * EXACT(np.ones(OUTPUTS)))


def _shifted(given: Case) -> Case:
    """The same data, every weight changed by one."""
    return replace(given, weights=[w + 1 for w in given.weights])
