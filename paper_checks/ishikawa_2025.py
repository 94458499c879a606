r"""Precisions between gradient descent and Gauss-Newton target propagation.

Claims
    ishikawa-2025/precision-interpolates   what equilibrium becomes where one precision is far below or above others

Notation: P_l is the map from layer l to the output, r the residual of the feedforward pass m_l, T_l the rescaling
without the share of layer l, T_l = sum over k other than l of P_k P_k^T / pi_k; P^+ is the pseudo-inverse. The
Gauss-Newton target of layer l is m_l + P_l^+ r: the nearest activity from which the rest of the network comes
closest to y. Independent route: the dense linear system of the equilibrium, in fractions, at precisions of 2^-60.

Reference: S. Ishikawa, R. Yokota, R. Karakida, arXiv 2411.02001, whose abstract says that in deep linear networks
"PC's gradients interpolate between first-order and Gauss-Newton-like gradients, depending on the parameterization".
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, partial
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import sympy
from scipy.stats import t as student

from pctheory.claims import Check, claim, scaled_error
from pctheory.induction.certificate import Certificate, Section, Step
from pctheory.matrix_algebra import Expression, Relation, identity, inverse, matrix, vector
from tests import oracles
from tests.cases import EQUAL_SIZES, SIZES, Case, rational_cases

Values = npt.NDArray[np.float64]
Exact = npt.NDArray[Any]
TINY = Fraction(1, 2**60)
# Singular values below this are zeros: entries are quarters, products of at most four maps.
RANK = 1e-9


# --- a damped Gauss-Newton step ---


def _step_proof(
    sizes: tuple[Any, Any] = sympy.symbols("N_l N_L", positive=True, integer=True),
    *,
    damping: Callable[[sympy.Symbol], Any] = lambda pi: pi,
    weight: Callable[[Expression, Expression], Expression] = lambda rest, rescaling: rest,
) -> Certificate:
    """`damping(pi_l)` and `weight(T_l, S)` are asserted."""
    here, output = sizes
    pi = sympy.Symbol("pi_l", positive=True)
    to_output, r = matrix("P_l", output, here), vector("r", output)
    rescaling, rest = (matrix(name, output, output, symmetric=True) for name in ("S", "T_l"))
    (pull_map, of_s), (_, of_t) = inverse(rescaling), inverse(rest)
    share = Relation(to_output @ to_output.T, pi * (rescaling - rest), "definition of $T_l$")
    error = to_output.T @ pull_map @ r / pi
    metric = inverse(weight(rest, rescaling))[0]
    gain = to_output.T @ metric
    return Certificate(
        title="The error at equilibrium is a damped Gauss-Newton step",
        statement=r"""With $S = T_l + P_l P_l^T / \pi_l$ and $e_l = P_l^T S^{-1} r / \pi_l$, the error solves
            $(P_l^T T_l^{-1} P_l + \pi_l I) e_l = P_l^T T_l^{-1} r$""",
        conclusion=r"""a Levenberg-Marquardt step of $|r - P_l e|^2$ in the metric $T_l^{-1}$ with damping $\pi_l$.
            So are all hidden errors together, in units of $\pi_k^{-1/2}$: read the stack of $P_k \pi_k^{-1/2}$ for
            $P_l$, $I/\pi_L$ for $T_l$ and 1 for $\pi_l$.""",
        proof=(
            Section(
                "Normal equations",
                (
                    Step(
                        r"With $P_l P_l^T / \pi_l = S - T_l$.",
                        gain @ to_output @ error + damping(pi) * error,
                        gain @ r,
                        (share, *of_s, *of_t),
                    ),
                ),
            ),
        ),
        lemmas=(
            Section(
                "Tikhonov",
                prose=r"""As the damping tends to 0 with the metric fixed, the solution tends to the least-norm
                    minimiser, whatever the rank.""",
            ),
        ),
        conditions=(r"$T_l \succ 0$, as another layer than l is there: for l < L, $T_l \succeq I / \pi_L$.",),
    )


def _limits_proof(
    sizes: tuple[Any, Any] = sympy.symbols("N_l N_L", positive=True, integer=True), *, factor: int = 1
) -> Certificate:
    """Both limits with their exact remainders; `factor` multiplies these."""
    here, output = sizes
    pi = sympy.Symbol("pi", positive=True)
    to_output, r = matrix("P_l", output, here), vector("r", output)
    rescaling, gram = (matrix(name, output, output, symmetric=True) for name in ("S", "Q"))
    (s_inverse, of_s), (q_inverse, of_q) = inverse(rescaling), inverse(gram)
    product = Relation(to_output @ to_output.T, gram, "definition of Q")
    others = (rescaling - identity(output) / pi).named("T")
    rest = (rescaling - gram / pi).named("T_l")
    target = to_output.T @ q_inverse @ r
    return Certificate(
        title="Both ends of the interpolation",
        statement=r"""Where pi is the output precision, $T = S - I/\pi$ does not depend on it; where pi belongs to
            a layer l below, of full row rank, $Q = P_l P_l^T$ is invertible and $T_l = S - Q/\pi$ does not.""",
        conclusion=r"""$S^{-1} = O(\pi)$, so that both remainders are O(pi).""",
        proof=(
            Section(
                "Output precision",
                (
                    Step(
                        r"The pull in units of pi is the residual, up to a remainder.",
                        s_inverse @ r / pi - r,
                        -factor * (others @ s_inverse @ r),
                        of_s,
                    ),
                ),
            ),
            Section(
                "Precision of layer l",
                (
                    Step(
                        r"The error is the target's, $P_l^+ r = P_l^T Q^{-1} r$, up to a remainder.",
                        to_output.T @ s_inverse @ r / pi - target,
                        -factor * (to_output.T @ q_inverse @ rest @ s_inverse @ r),
                        (product, *of_s, *of_q),
                    ),
                    Step("The target is hit.", to_output @ target, r, (product, *of_q)),
                ),
            ),
        ),
        conditions=(r"$S \succ 0$; $P_l$ of rank $N_L$ in the second part.",),
    )


def _errors(given: Case) -> list[Exact]:
    return oracles.errors(given, oracles.equilibrium(given))


def _rest(given: Case, layer: int) -> Exact:
    """T_l, layers counted from 0."""
    shares = zip(oracles.output_maps(given), given.precisions, strict=True)
    return np.asarray(sum(p @ p.T / pi for k, (p, pi) in enumerate(shares) if k != layer))


def _step_remainder(
    given: Case,
    *,
    damping: Callable[[Any], Any] = lambda pi: pi,
    metric: Callable[[Case, int], Exact] = _rest,
) -> Exact:
    """Of the normal equations of every hidden layer, at the errors of the dense equilibrium."""
    r, found = oracles.residual(given), []
    for l, (p, e, pi) in enumerate(zip(oracles.output_maps(given), _errors(given), given.precisions, strict=True)):
        if l < given.depth - 1:
            gain = oracles.solve(metric(given, l), p).T  # P_l^T T_l^-1
            found.append(e @ (gain @ p).T + damping(pi) * e - r @ gain.T)
    return oracles.flat(found)


def _joint_remainder(given: Case, *, damping: int = 1) -> Exact:
    """pi_k e_k = pi_L P_k^T (r - sum_j P_j e_j) over hidden layers: one step in all errors together."""
    hidden = list(zip(oracles.output_maps(given), _errors(given), given.precisions, strict=True))[:-1]
    left = oracles.residual(given) - sum(e @ p.T for p, e, _ in hidden)
    return oracles.flat([damping * pi * e - given.precisions[-1] * left @ p for p, e, pi in hidden])


# --- the limits ---


@dataclass(frozen=True, eq=False)
class Limit:
    """A case whose precision of one layer (from 0) goes to `towards`, 0 or infinity."""

    given: Case
    layer: int
    towards: float = 0.0

    def at(self, small: Fraction) -> Case:
        precisions = self.given.precisions.copy()
        precisions[self.layer] = 1 / small if self.towards else small
        return replace(self.given, precisions=precisions)


def _floats(arrays: list[Exact]) -> list[Values]:
    return [np.asarray(a, dtype=float) for a in arrays]


def _forces(given: Case) -> list[Exact]:
    """The negative gradient of the loss by layer."""
    r, below = oracles.residual(given), [given.x, *oracles.feedforward(given)]
    layers = zip(given.scalings, oracles.output_maps(given), below, strict=False)
    return [a * (r @ p).T @ z / len(r) for a, p, z in layers]


def _first_order(limit: Limit, small: Fraction = TINY) -> Exact:
    """- dF*/dW / pi_L of every layer."""
    case = limit.at(small)
    return oracles.flat([-g / small for g in oracles.partial_weight_gradient(case, oracles.equilibrium(case))])


def _target(limit: Limit, small: Fraction = TINY) -> Exact:
    """e_l, and - dF*/dW_k / pi_l of layers k up to l."""
    case = limit.at(small)
    hidden = oracles.equilibrium(case)
    gradients = oracles.partial_weight_gradient(case, hidden)[: limit.layer + 1]
    return oracles.flat([oracles.errors(case, hidden)[limit.layer], *(-g / small for g in gradients)])


def _joint(limit: Limit, small: Fraction = TINY) -> Exact:
    """e_1..e_{L-1}."""
    return oracles.flat(_errors(limit.at(small))[:-1])


def _whitened_pseudo_inverse(limit: Limit) -> Values:
    """The least-norm minimiser of |r - P_l e| in the metric T_l^-1, as a matrix on r."""
    p, rest = _floats([oracles.output_maps(limit.given)[limit.layer], _rest(limit.given, limit.layer)])
    root = np.linalg.inv(np.linalg.cholesky(rest))
    return np.asarray(np.linalg.pinv(root @ p, rcond=RANK) @ root)


def _pseudo_inverse(limit: Limit) -> Values:
    (p,) = _floats([oracles.output_maps(limit.given)[limit.layer]])
    return np.asarray(np.linalg.pinv(p, rcond=RANK))


def _transpose(limit: Limit) -> Values:
    (p,) = _floats([oracles.output_maps(limit.given)[limit.layer]])
    return p.T


def _claimed_target(inverse_of: Callable[[Limit], Values], limit: Limit) -> Values:
    """The error, and the rule that moves m_l to its target: through layer l and, backpropagated, those below."""
    given, l = limit.given, limit.layer
    (r,) = _floats([oracles.residual(given)])
    below, maps = _floats([given.x, *oracles.feedforward(given)]), _floats(given.maps)
    force = error = r @ inverse_of(limit).T
    rules: list[Values] = []
    for k in range(l, -1, -1):
        rules.insert(0, float(given.scalings[k]) * force.T @ below[k] / len(r))
        force = force @ maps[k]
    return np.concatenate([part.ravel() for part in (error, *rules)])


def _claimed_joint(weighted: bool, limit: Limit) -> Values:
    """Least norm in the hidden precisions: e_k = P_k'^T / sqrt(pi_k) of the stack of P_k' = P_k / sqrt(pi_k)."""
    given = limit.given
    (r,) = _floats([oracles.residual(given)])
    roots = np.sqrt(np.asarray(given.precisions[:-1], dtype=float)) if weighted else np.ones(given.depth - 1)
    stack = [p / root for p, root in zip(_floats(oracles.output_maps(given)), roots, strict=False)]
    joint = r @ np.linalg.pinv(np.hstack(stack), rcond=RANK).T
    parts = np.split(joint, np.cumsum(given.widths[1:-2]), axis=1)
    return np.concatenate([(part / root).ravel() for part, root in zip(parts, roots, strict=True)])


Reached: TypeAlias = Callable[[Limit], Exact]
Claimed: TypeAlias = Callable[[Limit], Values]


def _limit_error(reached: Reached, claimed: Claimed, limit: Limit) -> float:
    """Relative to the data; the pseudo-inverse loses digits where singular values are small."""
    found, expected = np.asarray(reached(limit), dtype=float), claimed(limit)
    return scaled_error(found, expected, scale=1.0 + float(np.abs(expected).max()), condition=1e3)


@cache
def _cases() -> list[Case]:
    return rational_cases(60, seed=970, depths=(2, 4))


def _hidden_limits(ranks: Callable[[int, int, int], bool]) -> list[Limit]:
    """Every hidden layer of every case where `ranks(rank of P_l, rank of P_{L-1}, d_y)` holds."""
    found = []
    for given in _cases():
        sizes = [int(np.linalg.matrix_rank(p, tol=RANK)) for p in _floats(oracles.output_maps(given))]
        kept = [l for l in range(given.depth - 1) if ranks(sizes[l], sizes[-2], sizes[-1])]
        found += [Limit(given, l) for l in kept]
    return found


def _exponent(reached: Callable[[Limit, Fraction], Exact], limit: Limit) -> tuple[float, float]:
    """Of the change from t to t/2, fitted over six t, and the half-width of its 95 % interval; NaN if none."""
    times = [Fraction(1, 2**k) for k in range(40, 47)]
    values = [reached(limit, t) for t in times]
    changes = [float(np.max(np.abs(b - a))) for a, b in pairwise(values)]
    if not all(changes):
        return float("nan"), float("nan")
    logs = np.log([float(t) for t in times[:-1]])
    (slope, _), covariance = np.polyfit(logs, np.log(changes), 1, cov=True)
    return float(slope), float(np.sqrt(max(covariance[0, 0], 0.0)) * student.ppf(0.975, len(logs) - 2))


@cache
def _exponents() -> dict[str, list[tuple[float, float]]]:
    """By kind of limit, over the first cases in which something moves at all."""
    kinds: dict[str, tuple[Any, list[Limit]]] = {
        "first order": (_first_order, [Limit(given, given.depth - 1) for given in _cases()]),
        "target": (_target, _hidden_limits(lambda rank, _, d_y: rank > 0)),
        "joint": (_joint, [Limit(given, given.depth - 1, np.inf) for given in _cases()]),
    }
    found = {}
    for kind, (reached, limits) in kinds.items():
        fits = (_exponent(reached, limit) for limit in limits[:24])
        found[kind] = [fit for fit in fits if np.isfinite(fit[0])]
    return found


@claim(
    key="ishikawa-2025/precision-interpolates",
    statement=r"""Precisions interpolate between gradient descent and Gauss-Newton target propagation. At
        equilibrium the error of a hidden layer is the damped Gauss-Newton step
        $(P_l^T T_l^{-1} P_l + \pi_l I) e_l = P_l^T T_l^{-1} r$. As $\pi_L \to 0$ the gradient of $F^*$ in units of
        $\pi_L$ tends to that of the loss. As $\pi_l \to 0$ for one $l < L$, $e_l \to P_l^+ r$, the Gauss-Newton
        target, if the rank of $P_l$ is $d_y$ or that of $P_{L-1}$, and in general to the least-norm minimiser of
        $|r - P_l e|$ in the metric $T_l^{-1}$; in units of $\pi_l$ layer l then learns by
        $P_l^+ r\, m_{l-1}^T$ and those below by backpropagation of $P_l^+ r$. As $\pi_L \to \infty$ the hidden
        errors tend to the least-norm solution of $\sum_l P_l e_l = r$, with equal precisions
        $(P_1 \dots P_{L-1})^+ r$, whatever the ranks. All deviations are of the first order in the small quantity.
        With less rank, behind a bottleneck, the first pseudo-inverse fails: with $A_2 = (1, 1)^T$,
        $A_3 = \mathrm{diag}(2, 1)$, $r = (1, 0)^T$ and unit precisions elsewhere $e_1 \to 4/13$, not 2/5.""",
    hypotheses=(
        "any depth of at least 2, widths, skips, biases, scalings",
        "exact equilibrium, one feedforward pass m_l of the network as it is",
    ),
    attribution="stated",
    source="ishikawa-2025, abstract (that PC's gradients interpolate); steps, limits, ranks and rates derived here",
    uses=("saddles-2024/equilibrium-errors", "saddles-2024/envelope"),
)
def precision_interpolates(check: Check) -> None:
    check.proof(
        "normal equations, at any layer",
        [_step_proof(), _step_proof(SIZES[:2]), _step_proof(EQUAL_SIZES[:2])],
        twins={
            "undamped": _step_proof(damping=lambda pi: 0),
            "damped by the variance": _step_proof(damping=lambda pi: 1 / pi),
            "the metric of S": _step_proof(weight=lambda rest, rescaling: rescaling),
        },
    )
    check.proof(
        "both ends, with exact remainders",
        [_limits_proof(), _limits_proof(SIZES[:2]), _limits_proof(EQUAL_SIZES[:2])],
        twins={"no remainder": _limits_proof(factor=0), "remainders of the other sign": _limits_proof(factor=-1)},
    )
    check.exact(
        "each hidden layer's step in fractions",
        _cases(),
        _step_remainder,
        twins={
            "undamped": partial(_step_remainder, damping=lambda pi: 0),
            "plain least squares": partial(
                _step_remainder, metric=lambda given, l: _rest(given, l) ** 0 * np.eye(given.widths[-1], dtype=int)
            ),
            "the metric of S": partial(_step_remainder, metric=lambda given, l: oracles.rescaling(given)),
        },
    )
    check.exact(
        "all hidden errors as one step in fractions",
        _cases(),
        _joint_remainder,
        twins={"undamped": partial(_joint_remainder, damping=0), "twice": partial(_joint_remainder, damping=2)},
    )
    _check_limits(check)


def _check_limits(check: Check) -> None:
    outputs = [Limit(given, given.depth - 1) for given in _cases()]

    def first_order(given: Case) -> Values:
        return np.asarray(oracles.flat(_forces(given)), dtype=float)

    check.property(
        "output precision 2^-60: backpropagation",
        outputs,
        partial(_limit_error, _first_order, lambda limit: first_order(limit.given)),
        twins={
            "twice as long a step": partial(_limit_error, _first_order, lambda limit: 2 * first_order(limit.given)),
            "at precision 1": partial(
                _limit_error, partial(_first_order, small=Fraction(1)), lambda limit: first_order(limit.given)
            ),
        },
        seed=970,
    )
    every = _hidden_limits(lambda rank, widest, d_y: True)
    covered = _hidden_limits(lambda rank, widest, d_y: rank in (d_y, widest))
    targets: dict[str, Claimed] = {
        "the backpropagated error": partial(_claimed_target, _transpose),
        "no error": lambda limit: 0 * _claimed_target(_pseudo_inverse, limit),
    }
    check.property(
        "hidden precision 2^-60, full rank or none wider above: the Gauss-Newton target",
        covered,
        partial(_limit_error, _target, partial(_claimed_target, _pseudo_inverse)),
        twins={name: partial(_limit_error, _target, wrong) for name, wrong in targets.items()},
        seed=970,
    )
    check.property(
        "hidden precision 2^-60, any rank: the target in the metric of the rest",
        every,
        partial(_limit_error, _target, partial(_claimed_target, _whitened_pseudo_inverse)),
        twins={
            name: partial(_limit_error, _target, wrong)
            for name, wrong in (
                targets | {"the plain target whatever the rank": partial(_claimed_target, _pseudo_inverse)}
            ).items()
        },
        seed=970,
    )
    check.property(
        "output precision 2^60: the joint target",
        [Limit(given, given.depth - 1, np.inf) for given in _cases()],
        partial(_limit_error, _joint, partial(_claimed_joint, True)),
        twins={"without the precisions": partial(_limit_error, _joint, partial(_claimed_joint, False))},
        seed=970,
    )
    fits = _exponents()
    widest = max(width for kind in fits.values() for _, width in kind)
    check.property(
        f"deviations in the small precision, exponents 1 +- {widest:.0e} at most",
        [fit for kind in fits.values() for fit in kind],
        lambda fit: abs(fit[0] - 1),
        twins={
            "the square root": lambda fit: abs(fit[0] - 0.5),
            "the square": lambda fit: abs(fit[0] - 2),
        },
        bound=1e-6,  # the next order, 2^-40 times a condition number
        seed=970,
    )
    check.exact(
        "the bottleneck: 4/13 is the limit of its error",
        [Fraction(4, 13)],
        _bottleneck_remainder,
        twins={"2/5, the pseudo-inverse": lambda _: _bottleneck_remainder(Fraction(2, 5))},
    )


def _bottleneck_remainder(limit: Fraction) -> Exact:
    """e_1 at pi_1 = t is 4 / (13 + 10 t): the limit in question at t = 0, from the dense equilibrium at four t."""
    one, zero = Fraction(1), Fraction(0)
    maps = [[[one]], [[one], [one]], [[2 * one, zero], [zero, one]]]
    ones, none = np.array([one] * 3), np.array([zero] * 3)
    biases = [np.array([zero] * n) for n in (1, 2, 2)]
    x, y = np.array([[zero]]), np.array([[one, zero]])
    given = Case("bottleneck", [np.array(a) for a in maps], ones, none, biases, ones, x, y)
    inverses = [
        [t, 1 / _errors(Limit(given, 0).at(t))[0][0, 0]] for t in (Fraction(1, 2**k) for k in (60, 8, 2, 0))
    ]
    return np.array([value - 1 / limit - t * Fraction(10, 4) for t, value in inverses])
