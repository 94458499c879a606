r"""Towards scaling deep neural networks with predictive coding: theory and practice.

Claims
    thesis-2025/energy-split-only-at-start   the energy is internal energies plus loss, until inference moves

Notation: the energy is the sum over layers of mean (pi_l / 2)|e_l|^2. Internal energies are those of the hidden
layers; the loss is that of the feedforward output. As the energy is a sum over layers, "energy = internal energies
+ pi_L loss" says that the energy of the output layer is pi_L loss.

Reference: F. Innocenti, PhD thesis, arXiv 2510.23323.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np

import pctheory
from pctheory.claims import Check, claim, judged, scaled_error
from tests import oracles
from tests.cases import FEW, Case, Formula, random_cases, rational_cases

Activities: TypeAlias = Callable[[Case], list[np.ndarray]]


def _start(given: Case) -> list[np.ndarray]:
    return oracles.feedforward(given)[:-1]


def _after_one_step(given: Case) -> list[np.ndarray]:
    """Gradient descent at rate 1/4 from the start: it moves the last hidden layer only."""
    *hidden, last = _start(given)
    return [*hidden, last + given.precisions[-1] * oracles.residual(given) @ given.maps[-1] / 4]


def _energy_beyond_split(activities: Activities, given: Case) -> Any:
    """Energy minus internal energies minus pi_L loss."""
    *internal, _ = oracles.layer_energies(given, activities(given))
    return oracles.energy(given, activities(given)) - sum(internal) - given.precisions[-1] * oracles.loss(given)


def _internal_energies(activities: Activities, given: Case) -> list[Any]:
    return oracles.layer_energies(given, activities(given))[:-1]


def _split_error(activities: Activities, given: Case) -> float:
    size = oracles.scale(given, activities(given))
    return scaled_error(_energy_beyond_split(activities, given), 0.0, scale=size)


def _library_split_error(activities: Activities, given: Case) -> float:
    """No internal energies, and pi_L times the loss at the output."""
    found = pctheory.layer_energies(given.net, activities(given), given.x, given.y)
    expected = np.zeros(given.depth)
    expected[-1] = given.precisions[-1] * oracles.loss(given)
    return scaled_error(found, expected, scale=oracles.scale(given, activities(given)))


LATER: dict[str, Activities] = {"at the equilibrium": oracles.equilibrium, "after one step": _after_one_step}


def _output_energy(given: Case, *, power: int = 1) -> Any:
    """mean |S^-1 r|^2 / (2 pi_L^power)."""
    multiplier = oracles.solve(oracles.rescaling(given), oracles.residual(given).T)
    return (multiplier**2).sum() / (2 * len(given.x) * given.precisions[-1] ** power)


def _output_remainder(formula: Formula, given: Case) -> Any:
    return oracles.layer_energies(given, oracles.equilibrium(given))[-1] - formula(given)


def _output_error(formula: Formula, given: Case) -> float:
    """The dense solve that it is compared with loses as many digits as cond(H_z) has."""
    hidden = oracles.equilibrium(given)
    actual, condition = oracles.layer_energies(given, hidden)[-1], oracles.condition(given)
    return scaled_error(actual, formula(given), scale=oracles.scale(given, hidden), condition=condition)


FALSE_OUTPUT_ENERGIES: dict[str, Formula] = {
    "pi_L times the loss": lambda given: given.precisions[-1] * oracles.loss(given),
    "all of F*": lambda given: oracles.rescaled_loss(given, oracles.rescaling(given)),
    "precision not inverted": partial(_output_energy, power=-1),
}


def _order_violations(equal: Callable[[Case], bool], given: Case) -> list[bool]:
    """What is wrong in: at equilibrium the output's energy is at most pi_L loss, equal where `equal` says so."""
    split = given.precisions[-1] * oracles.loss(given)
    output = oracles.layer_energies(given, oracles.equilibrium(given))[-1]
    return [output > split, bool(output == split) != equal(given)]


@claim(
    key="thesis-2025/energy-split-only-at-start",
    statement=r"""At the feedforward start the internal energies are 0 and the output's energy is $\pi_L$ times the
        loss, so that energy = internal energies + loss (at $\pi_L = 1$). Inference breaks this: at the equilibrium
        the output's energy is $\mathrm{mean}\, |S^{-1} r|^2 / (2 \pi_L)$, less than $\pi_L$ times the loss
        unless $P_l^T r = 0$ for every example and every $l < L$.""",
    hypotheses=("at least one hidden layer", "the loss is that of the feedforward output", "positive precisions"),
    attribution="stated",
    source="thesis-2025 for the split and that it breaks; the output's energy at the equilibrium is ours",
    uses=("saddles-2024/equilibrium-errors",),
)
def energy_split_only_at_start(check: Check) -> None:
    _before_inference(check)
    drawn = rational_cases(60, seed=302, depths=(2, 4))
    check.exact(
        "the output's energy at the equilibrium in fractions",
        drawn,
        partial(_output_remainder, _output_energy),
        twins=judged(_output_remainder, FALSE_OUTPUT_ENERGIES),
    )
    check.exact(
        "that it is less in fractions",
        drawn,
        partial(_order_violations, oracles.residual_is_unseen),
        twins=judged(_order_violations, {"always less": lambda given: False}),
    )
    check.property(
        "the output's energy at the equilibrium, depth 2 to 6",
        random_cases(300, seed=303, depths=(2, 6)),
        partial(_output_error, _output_energy),
        twins=judged(_output_error, FALSE_OUTPUT_ENERGIES),
        seed=303,
    )


def _before_inference(check: Check) -> None:
    drawn = rational_cases(60, seed=300, depths=(2, 4))
    check.exact(
        "no internal energy at the start in fractions",
        drawn,
        partial(_internal_energies, _start),
        twins=judged(_internal_energies, LATER),
    )
    check.exact(
        "the split at the start in fractions",
        drawn,
        partial(_energy_beyond_split, _start),
        twins=judged(_energy_beyond_split, LATER),
    )
    check.property(
        "the split at the start, depth 2 to 6",
        random_cases(300, seed=301, depths=(2, 6)),
        partial(_split_error, _start),
        twins=judged(_split_error, LATER),
        seed=301,
    )
    check.property(
        "the library's layer energies at the start",
        FEW,
        partial(_library_split_error, _start),
        twins=judged(_library_split_error, LATER),
    )
