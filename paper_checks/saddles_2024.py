r"""Only strict saddles in the energy landscape of predictive coding networks?

Claims
    saddles-2024/equilibrated-energy   inference ends at the rescaled loss
    saddles-2024/scalar-chain          the rescaling of a chain of single units
    saddles-2024/energy-below-loss     the order of the two, and where they meet
    saddles-2024/equilibrium-errors    errors and activities at the equilibrium
    saddles-2024/envelope              the local rule there is the exact gradient

Notation: maps A_l = a_l W_l + s_l I, M_{k:l} = A_k ... A_l (empty product I), P_l = M_{L:l+1}, residual
r = y - feedforward(x).
Independent routes, in which the closed forms do not occur: the dense linear system of `tests.oracles`, in floating
point and in fractions, and complex steps (the imaginary part of f(w + ih)/h is the derivative, to every digit).

Reference: F. Innocenti, E. M. Achour, R. Singh, C. L. Buckley, NeurIPS 2024, arXiv 2408.11979.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import sympy

import pctheory
from paper_checks._balls import in_balls, ratio_in_balls
from pctheory import induction
from pctheory.claims import Check, claim, judged, largest, scaled_error
from pctheory.induction.layer import BELOW, HERE, OUTPUT, layers, rescaling_recursion
from pctheory.induction.layer import Formula as SymbolicFormula
from pctheory.matrix_algebra import evaluated
from tests import oracles
from tests.cases import (
    EQUAL_SIZES,
    FEW,
    SIZES,
    Case,
    Formula,
    at_unit_precision,
    case,
    random_cases,
    rational,
    rational_cases,
)


def _least_energy(given: Case) -> Any:
    return oracles.energy(given, oracles.equilibrium(given))


def _energy_remainder(formula: Formula, given: Case) -> Any:
    return formula(given) - _least_energy(given)


def _energy_error(formula: Formula, given: Case) -> float:
    """Without a condition number: the energy is flat at its least value, where the dense solve puts it."""
    hidden = oracles.equilibrium(given)
    return scaled_error(formula(given), oracles.energy(given, hidden), scale=oracles.scale(given, hidden))


def _shares(given: Case) -> list[np.ndarray]:
    """P_l P_l^T / pi_l, which add up to S."""
    return [p @ p.T / pi for p, pi in zip(oracles.output_maps(given), given.precisions, strict=True)]


def _rescaled_loss(given: Case, *, first: int = 1) -> Any:
    """mean (1/2) r^T S^-1 r with the sum from l = first."""
    return oracles.rescaled_loss(given, np.sum(_shares(given)[first - 1 :], axis=0))


def _with_first_weights(given: Case) -> Any:
    p_0 = oracles.output_maps(given)[0] @ given.maps[0]
    return oracles.rescaled_loss(given, np.sum([*_shares(given), p_0 @ p_0.T], axis=0))


def _with_transposes_swapped(given: Case) -> Any:
    pairs = zip(oracles.output_maps(given), given.precisions, strict=True)
    return oracles.rescaled_loss(given, np.sum([p.T @ p / pi for p, pi in pairs], axis=0))


FALSE_ENERGIES: dict[str, Formula] = {
    "factor 1 instead of 1/2": lambda given: 2 * _rescaled_loss(given),
    "sum from l = 2 only": partial(_rescaled_loss, first=2),
    "W_1 in S": _with_first_weights,
}


# Eliminating the activities in balls costs some 4 bits a layer.
STEEP = [case("", (3,) * (depth + 1), seed=1, scale=3.0, batch=2, precisions=True) for depth in (25, 49)]


def _rescaling_as_proved(given: Case, *, recursion: SymbolicFormula = rescaling_recursion) -> Any:
    """S by the recursion of the proof, its symbols replaced by the network's matrices layer by layer."""
    _, layer = layers((BELOW, HERE, OUTPUT))
    s = np.eye(given.widths[1]) / given.precisions[0]
    for a, precision in zip(given.maps[1:], given.precisions[1:], strict=True):
        matrices = {str(layer.map): a, str(layer.rescaling_below): s}
        s = evaluated(recursion(layer), matrices, {layer.precision: sympy.Float(float(precision))})
    return s


def _recursion_error(recursion: SymbolicFormula, given: Case) -> float:
    return scaled_error(_rescaling_as_proved(given, recursion=recursion), oracles.rescaling(given))


def _energy_ratio(given: Case, *, formula: Formula = _rescaled_loss) -> Any:
    return ratio_in_balls(formula, _least_energy, given, bits=1024)


@claim(
    key="saddles-2024/equilibrated-energy",
    statement=r"""Minimised over the hidden activities, the energy is the rescaled loss:
        $\min_z F = F^* = \mathrm{mean}\, \frac{1}{2} r^T S^{-1} r$ with $S = \sum_{l=1}^L P_l P_l^T / \pi_l$.
        Equally $S = S_L$ from $S_1 = I/\pi_1$ and $S_l = I/\pi_l + A_l S_{l-1} A_l^T$.""",
    hypotheses=("any depth, widths, scalings, skips and biases", "positive precisions"),
    attribution="own",
    source="saddles-2024 states it at unit precision and without biases; the general form is ours",
)
def equilibrated_energy(check: Check) -> None:
    _equilibrated_energy_proof(check)
    check.exact(
        "against elimination in fractions, depth 2 to 4",
        rational_cases(60, seed=100, depths=(2, 4)),
        partial(_energy_remainder, _rescaled_loss),
        twins=judged(_energy_remainder, FALSE_ENERGIES),
    )
    check.property(
        "against the dense linear system, depth 2 to 6",
        random_cases(400, seed=101, depths=(2, 6)),
        partial(_energy_error, _rescaled_loss),
        twins=judged(_energy_error, FALSE_ENERGIES),
        seed=101,
    )
    check.property(
        "against the dense linear system, all widths equal",
        [case("", (1 + i % 4,) * (3 + i % 5), seed=i, precisions=True, skips=i % 2 == 0) for i in range(100)],
        partial(_energy_error, _rescaled_loss),
        twins=judged(_energy_error, {"transposes swapped": _with_transposes_swapped}),
        seed=0,
    )
    check.enclosure(
        "over the least energy, in balls: depth 25 and 49, cond(S) 1e11 and 1e28",
        STEEP,
        _energy_ratio,
        within=(1 - 1e-15, 1 + 1e-15),
        twins={name: partial(_energy_ratio, formula=formula) for name, formula in FALSE_ENERGIES.items()},
    )
    check.property(
        "the recursion as it is proved, its symbols replaced by matrices",
        random_cases(100, seed=102, depths=(2, 6)),
        partial(_recursion_error, rescaling_recursion),
        twins=judged(
            _recursion_error,
            {
                "noise of variance 1": lambda l: l.identity + l.map @ l.rescaling_below @ l.map.T,
                "nothing from below": lambda l: l.identity / l.precision + l.map @ l.map.T,
            },
        ),
        seed=102,
    )
    check.property(
        "the library's rescaling against the recursion",
        FEW,
        lambda given: scaled_error(pctheory.rescaling(given.net), oracles.rescaling(given)),
        twins={
            "precisions left out": lambda given: scaled_error(
                pctheory.rescaling(given.net), oracles.rescaling(at_unit_precision(given))
            )
        },
    )
    check.enclosure(
        "the library's ball of the equilibrated energy over the least energy",
        STEEP,
        lambda given: (
            pctheory.enclosed_equilibrated_energy(given.net, given.x, given.y)
            / in_balls(_least_energy, given, bits=1024)
        ),
        within=(1 - 1e-15, 1 + 1e-15),
        twins={"the loss": lambda given: ratio_in_balls(oracles.loss, _least_energy, given, bits=1024)},
    )
    check.property(
        "the library's equilibrated energy against the dense linear system",
        FEW,
        partial(_energy_error, lambda given: pctheory.equilibrated_energy(given.net, given.x, given.y)),
        twins=judged(_energy_error, {"the loss": oracles.loss}),
    )


def _equilibrated_energy_proof(check: Check) -> None:
    check.proof(
        "elimination of one layer after the other",
        [induction.rescaling_theorem(), induction.rescaling_theorem(SIZES)],
        twins={
            "factor 1 instead of 1/2": induction.rescaling_theorem(value=lambda d, inverse: d.T @ inverse @ d),
            "W_1 in S": induction.rescaling_theorem(first=lambda one: one.map @ one.map.T),
            "transposes swapped": induction.rescaling_theorem(
                EQUAL_SIZES, recursion=lambda l: l.identity / l.precision + l.map.T @ l.rescaling_below @ l.map
            ),
        },
    )
    check.proof(
        "the recursion is the sum",
        [induction.rescaling_sum(), induction.rescaling_sum(SIZES)],
        twins={
            "sum from l = 2 only": induction.rescaling_sum(
                first_term=lambda one: 0 * (one.to_output @ one.to_output.T)
            )
        },
    )


def _chains(count: int, *, seed: int) -> Iterator[Case]:
    """Single units in a row, depth 2 to 7, with biases and scalings."""
    for i in range(count):
        yield case(f"chain {i}", (1,) * (3 + i % 6), seed=seed + i, biases=True, scalings=True, scale=1.5)


def _chain_energy(given: Case, *, one: int = 1, first: int = 2, above: int = 0) -> Any:
    """loss / s with s = one + sum_{l=first}^L prod_{k=l+above}^L w_k^2."""
    w = [a[0, 0] for a in given.maps]
    products = [math.prod(v**2 for v in w[l - 1 + above :]) for l in range(first, given.depth + 1)]
    return oracles.loss(given) / (one + sum(products))


FALSE_CHAINS: dict[str, Formula] = {
    "s without the 1": partial(_chain_energy, one=0),
    "w_1 in s": partial(_chain_energy, first=1),
    "products from l + 1": partial(_chain_energy, above=1),
}


@claim(
    key="saddles-2024/scalar-chain",
    statement=r"""For a chain of single units $F^* = \mathrm{loss} / s$ with
        $s = 1 + \sum_{l=2}^L \prod_{k=l}^L w_k^2$.""",
    hypotheses=("all widths 1", "unit precision", "$w_k$ is the whole map of layer k; any biases"),
    attribution="stated",
    source="saddles-2024",
    uses=("saddles-2024/equilibrated-energy",),
)
def scalar_chain(check: Check) -> None:
    check.proof(
        "every formula written out, depth 1 to 6; at any depth the rescaling theorem with all widths 1",
        [*(induction.scalar_chain(depth) for depth in range(1, 7)), induction.rescaling_theorem((1, 1, 1))],
        twins={
            "s without the 1": induction.scalar_chain(3, rescaling=lambda w: induction.chain_rescaling(w) - 1),
            "w_1 in s": induction.scalar_chain(3, rescaling=lambda w: induction.chain_rescaling([sympy.S.One, *w])),
        },
    )
    check.exact(
        "against elimination in fractions, depth 2 to 7",
        [rational(given) for given in _chains(60, seed=110)],
        partial(_energy_remainder, _chain_energy),
        twins=judged(_energy_remainder, FALSE_CHAINS),
    )
    check.property(
        "against the dense linear system, depth 2 to 7",
        _chains(300, seed=111),
        partial(_energy_error, _chain_energy),
        twins=judged(_energy_error, FALSE_CHAINS),
        seed=111,
    )


def _with_output_precision(given: Case, precision: float) -> Case:
    return replace(given, precisions=np.append(given.precisions[:-1], given.precisions[-1] ** 0 * precision))


def _at_unit_output_precision(cases: Iterator[Case] | list[Case]) -> list[Case]:
    return [_with_output_precision(given, 1) for given in cases]


def _extremes(given: Case) -> Iterator[Case]:
    """No loss; W_L = 0; and r = (0, .., 0, 1), in the kernel of A_L^T although A_L need not vanish."""
    yield replace(given, name="no loss", y=oracles.feedforward(given)[-1])
    yield replace(given, name="W_L = 0", weights=[*given.weights[:-1], 0 * given.weights[-1]])
    last = given.weights[-1].copy()
    last[-1] *= 0
    blind = replace(given, name="r in the kernel", weights=[*given.weights[:-1], last])
    shifted = oracles.feedforward(blind)[-1].copy()
    shifted[:, -1] += 1
    yield replace(blind, y=shifted)


def _order_violations(unseen: Callable[[Case], bool], given: Case) -> list[bool]:
    """What is wrong in: F* <= loss; equal iff unseen; both 0 or neither."""
    energy, loss = _least_energy(given), oracles.loss(given)
    return [energy > loss, bool(energy == loss) != unseen(given), bool(energy == 0) != bool(loss == 0)]


FALSE_EQUALITIES: dict[str, Callable[[Case], bool]] = {
    "strict inequality always": lambda given: False,
    "equal only where r = 0": lambda given: not np.any(oracles.residual(given)),
    "equal only where A_L = 0 or r = 0": lambda given: (
        not np.any(oracles.residual(given)) or not np.any(given.maps[-1])
    ),
}


def _excess(energy: Formula, given: Case) -> float:
    """By how much the energy exceeds the loss, if it does."""
    size = oracles.scale(given, oracles.feedforward(given))
    return scaled_error(largest(float(energy(given)) - oracles.loss(given), 0.0), 0.0, scale=size)


# Weights so small that F* and the loss are the same in floats
SMALL = [case("", widths, seed=i, scale=1e-9) for i, widths in enumerate([(3, 4, 2), (2, 3, 4, 3), (1,) * 5])]


def _share_saved(given: Case) -> Any:
    """1 - F* / loss."""
    return in_balls(lambda balls: 1 - _least_energy(balls) / oracles.loss(balls), given, bits=512)


@claim(
    key="saddles-2024/energy-below-loss",
    statement=r"""$F^* \le \mathrm{loss}$, with equality if and only if $P_l^T r = 0$ for every example and every
        $l < L$; and $F^* = 0$ if and only if the loss is 0.""",
    hypotheses=(r"$\pi_L = 1$, the other precisions positive", "finite weights"),
    attribution="own",
    source="saddles-2024 states the inequality at unit precision; when the two are equal is ours",
    uses=("saddles-2024/equilibrated-energy",),
)
def energy_below_loss(check: Check) -> None:
    check.proof(
        "the difference is a sum of squares",
        [induction.energy_below_loss(), induction.energy_below_loss(SIZES)],
        twins={
            "the first square left out": induction.energy_below_loss(
                gap=lambda j, pull: sympy.Rational(1, 2) * (pull.T @ j @ j.T @ pull)
            ),
        },
    )
    drawn = _at_unit_output_precision(rational_cases(60, seed=120, depths=(2, 4), skips=False))
    check.exact(
        "order and equality in fractions, a third of the cases with equality",
        [*drawn, *(extreme for given in drawn[:20] for extreme in _extremes(given))],
        partial(_order_violations, oracles.residual_is_unseen),
        twins=judged(_order_violations, FALSE_EQUALITIES),
    )
    check.enclosure(
        "1 - F* / loss in balls, for weights of 1e-9",
        SMALL,
        _share_saved,
        within=(0.0, 1e-15),
        twins={"where A_L = 0": lambda given: _share_saved(list(_extremes(given))[1])},
    )
    check.property(
        "the inequality, depth 1 to 6",
        _at_unit_output_precision(random_cases(400, seed=121)),
        partial(_excess, _least_energy),
        twins={
            "at any output precision": lambda given: _excess(_least_energy, _with_output_precision(given, 4.0)),
        },
        seed=121,
    )
    check.property(
        "the library's equilibrated energy against the loss",
        _at_unit_output_precision(FEW),
        partial(_excess, lambda given: pctheory.equilibrated_energy(given.net, given.x, given.y)),
        twins=judged(_excess, {"the factor 1/2 left out": lambda given: 2 * _rescaled_loss(given)}),
    )


def _product(given: Case, upper: int, lower: int) -> np.ndarray:
    """M_{upper:lower} = A_upper ... A_lower; the identity of layer `upper` where lower > upper."""
    product = np.eye(given.widths[upper], dtype=int)
    for l in range(upper, lower - 1, -1):
        product = product @ given.maps[l - 1]
    return product


def _closed_form(given: Case, *, power: int = -1, own: bool = True) -> np.ndarray:
    """All e_l = pi_l^power P_l^T S^-1 r, then all z_l = feedforward_l + sum_{k<=l} M_{l:k+1} e_k."""
    multiplier = oracles.solve(np.sum(_shares(given), axis=0), oracles.residual(given).T).T
    maps = zip(oracles.output_maps(given), given.precisions, strict=True)
    errors = [multiplier @ p * pi**power for p, pi in maps]
    activities = [
        start + sum(errors[k - 1] @ _product(given, l, k + 1).T for k in range(1, l + own))
        for l, start in enumerate(oracles.feedforward(given)[:-1], start=1)
    ]
    return oracles.flat([*errors, *activities])


def _errors_and_activities(given: Case) -> np.ndarray:
    hidden = oracles.equilibrium(given)
    return oracles.flat([*oracles.errors(given, hidden), *hidden])


def _library_equilibrium(given: Case) -> np.ndarray:
    found = pctheory.equilibrium(given.net, given.x, given.y)
    return oracles.flat([*found.errors, *found.activities])


def _equilibrium_remainder(formula: Formula, given: Case) -> Any:
    return formula(given) - _errors_and_activities(given)


def _equilibrium_error(formula: Formula, given: Case) -> float:
    """The dense solve that it is compared with loses as many digits as cond(H_z) has."""
    size = oracles.scale(given, oracles.equilibrium(given)) ** 0.5
    expected = _errors_and_activities(given)
    return scaled_error(formula(given), expected, scale=size, condition=oracles.condition(given))


FALSE_EQUILIBRIA: dict[str, Formula] = {
    "precision not inverted": partial(_closed_form, power=1),
    "a layer's own error left out of its activity": partial(_closed_form, own=False),
}


@claim(
    key="saddles-2024/equilibrium-errors",
    statement=r"""At the equilibrium $e_l = P_l^T S^{-1} r / \pi_l$ and
        $z_l = \mathrm{feedforward}_l + \sum_{k \le l} M_{l:k+1} e_k$.""",
    hypotheses=("any depth, widths, scalings, skips and biases", "positive precisions"),
    attribution="own",
    source="derived here, from the equilibrium of saddles-2024",
    uses=("mupc-2025/inference-strictly-convex",),
)
def equilibrium_errors(check: Check) -> None:
    check.proof(
        "the errors balance, and the sweep that adds them arrives at y",
        [induction.equilibrium_errors(), induction.equilibrium_errors(SIZES)],
        twins={
            "precision not inverted": induction.equilibrium_errors(
                error=lambda to_output, precision, pull: precision * (to_output.T @ pull)
            )
        },
    )
    check.exact(
        "against elimination in fractions, depth 2 to 4",
        rational_cases(60, seed=130, depths=(2, 4)),
        partial(_equilibrium_remainder, _closed_form),
        twins=judged(_equilibrium_remainder, FALSE_EQUILIBRIA),
    )
    check.property(
        "against the dense linear system, depth 1 to 6",
        random_cases(400, seed=131),
        partial(_equilibrium_error, _closed_form),
        twins=judged(_equilibrium_error, FALSE_EQUILIBRIA),
        seed=131,
    )
    check.property(
        "the library's equilibrium against the dense linear system",
        FEW,
        partial(_equilibrium_error, _library_equilibrium),
        twins=judged(_equilibrium_error, {"precision not inverted": FALSE_EQUILIBRIA["precision not inverted"]}),
    )


STEP = 1e-30  # of the complex step: its square vanishes beside 1


def _directions(given: Case) -> list[np.ndarray]:
    """One random direction for the weights of each layer."""
    rng = np.random.default_rng(given.depth)
    return [rng.standard_normal(w.shape) for w in given.weights]


def _slopes(given: Case) -> np.ndarray:
    """Of the least energy when one layer's weights move along their direction, by complex steps."""
    start, found = given.converted(complex), []
    for l, direction in enumerate(_directions(given)):
        weights = [w + (1j * STEP * direction if k == l else 0) for k, w in enumerate(start.weights)]
        found.append(_least_energy(replace(start, weights=weights)).imag / STEP)
    return np.array(found)


def _along(gradient: Callable[[Case], Any], given: Case) -> float:
    """The gradient along the directions, against the slopes, relative to the directions' lengths.

    Both rest on a dense solve, which loses as many digits as cond(H_z) has.
    """
    pairs = list(zip(gradient(given), _directions(given), strict=True))
    size = oracles.scale(given, oracles.equilibrium(given)) * max(float(np.linalg.norm(d)) for _, d in pairs)
    actual = np.array([np.sum(np.asarray(g) * d) for g, d in pairs])
    return scaled_error(actual, _slopes(given), scale=size, condition=oracles.condition(given))


def _slope_ratio(given: Case, *, gradient: Formula) -> Any:
    """The gradient along a random direction over the slope, in balls."""
    change = [direction.astype(object) for direction in _directions(given)]

    def along(balls: Case) -> Any:
        return sum((g * d).sum() for g, d in zip(gradient(balls), change, strict=True))

    return ratio_in_balls(along, lambda balls: oracles.along(balls, change)[1], given, bits=1024)


def _local_rule(given: Case) -> list[np.ndarray]:
    return oracles.partial_weight_gradient(given, oracles.equilibrium(given))


FALSE_GRADIENTS: dict[str, Formula] = {
    "at the feedforward activities": lambda given: oracles.partial_weight_gradient(
        given, oracles.feedforward(given)[:-1]
    ),
    "scalings left out": lambda given: [g / a for g, a in zip(_local_rule(given), given.scalings, strict=True)],
    "precisions left out": lambda given: [
        g / pi for g, pi in zip(_local_rule(given), given.precisions, strict=True)
    ],
}


@claim(
    key="saddles-2024/envelope",
    statement=r"""$dF^*/dW_l = -a_l \pi_l\, \mathrm{mean}(e_l z_{l-1}^T)$ with errors and activities of the
        equilibrium: the local rule there is the exact gradient.""",
    hypotheses=("any depth, widths, scalings, skips and biases", "positive precisions"),
    attribution="stated",
    source="saddles-2024; with scalings, skips, biases and precisions in the notation of this project",
    uses=("saddles-2024/equilibrium-errors", "saddles-2024/equilibrated-energy"),
)
def envelope(check: Check) -> None:
    check.proof(
        "the derivative of the rescaled loss along any direction",
        [induction.envelope(), induction.envelope(SIZES)],
        twins={
            "at the feedforward activities": induction.envelope(activity=lambda layer: layer.mean_below),
            "precisions left out": induction.envelope(
                derivative=lambda precision, error, direction, activity: -(error.T @ direction @ activity)
            ),
        },
    )
    check.property(
        "against complex steps through the dense linear system, depth 1 to 6",
        random_cases(400, seed=141),
        partial(_along, _local_rule),
        twins=judged(_along, FALSE_GRADIENTS),
        seed=141,
    )
    check.enclosure(
        "over the slope of the rescaled loss, in balls: depth 25 and 49, cond(S) 1e11 and 1e28",
        STEEP,
        partial(_slope_ratio, gradient=_local_rule),
        within=(1 - 1e-15, 1 + 1e-15),
        twins={
            name: partial(_slope_ratio, gradient=formula)
            for name, formula in FALSE_GRADIENTS.items()
            if "scalings" not in name  # these are 1 here
        },
    )
    check.property(
        "the library's gradient against complex steps",
        FEW,
        partial(_along, lambda given: pctheory.equilibrated_gradient(given.net, given.x, given.y)),
        twins=judged(_along, FALSE_GRADIENTS),
    )
