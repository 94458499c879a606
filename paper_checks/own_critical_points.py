r"""Critical points of F*: those of the loss at which the last layer sees no residual.

Claims
    own/critical-points   where they are, and what holds there

Notation: P_l the map from layer l to the output, r the residual.
Independent route: points written down in fractions (`tests.critical_points`), gradients from a dense linear system.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from pctheory import induction
from pctheory.claims import Check, claim, judged
from tests import oracles
from tests.cases import SIZES, Case, rational_cases
from tests.critical_points import EXACT, points


def _moved(given: Case, seed: int) -> Case:
    """The same data, weights moved at random: hardly ever critical."""
    rng = np.random.default_rng(seed)
    return replace(given, weights=[w + EXACT(rng.integers(-1, 2, w.shape)) for w in given.weights])


def _noisy_along_the_fit(given: Case) -> Case:
    """Critical for the loss still; no more for F* where A_L != 0: what is added to y does not depend on x."""
    extra = np.array([[1, -1, -1, 1, -1, 1, 1, -1]]).T  # orthogonal to three columns of the data
    return replace(given, y=given.y + EXACT(extra) @ given.maps[-1].sum(axis=1)[None])


def _candidates() -> list[Case]:
    """Critical points, critical points of the loss alone, points moved at random, random networks."""
    changed = [
        change
        for i, point in enumerate(points())
        for change in (point.case, _noisy_along_the_fit(point.case), _moved(point.case, i))
    ]
    return changed + rational_cases(40, seed=800, depths=(2, 4), biases=False, skips=False)


def _is_critical_for_energy(given: Case) -> bool:
    return not any(np.any(g) for g in oracles.partial_weight_gradient(given, oracles.equilibrium(given)))


def _is_critical_for_loss(given: Case) -> bool:
    r = oracles.residual(given)
    below = [given.x, *oracles.feedforward(given)]
    pairs = zip(given.scalings, oracles.output_maps(given), below, strict=False)
    return not any(np.any(a * p.T @ r.T @ z) for a, p, z in pairs)


def _is_critical(given: Case, *, unseen: bool = True) -> bool:
    return _is_critical_for_loss(given) and (not unseen or oracles.residual_is_unseen(given))


def _equivalence(condition: Callable[[Case], bool], given: Case) -> int:
    return int(condition(given)) - int(_is_critical_for_energy(given))


def _values(rescaled: Callable[[Case], Any], given: Case) -> Any:
    """S^-1 r = pi_L r and F* = pi_L loss, at a critical point."""
    pull = oracles.residual(given).T
    energy = oracles.energy(given, oracles.equilibrium(given))
    vectors = oracles.rescaling(given) @ (given.precisions[-1] * pull) - pull
    return np.append(vectors.ravel(), energy - rescaled(given))


def _with_fixed_bias() -> Case:
    """x = -1, 1, y = 1 + x, one hidden unit with bias 1: critical at w_2 = -1, w_1 = -1, and A_L r = -2."""
    one = EXACT([[1]])
    return Case(
        "bias",
        [-one, -one],
        EXACT([1, 1]),
        EXACT([0, 0]),
        [one[0], 0 * one[0]],
        EXACT([1, 1]),
        EXACT([[-1], [1]]),
        EXACT([[0], [2]]),
    )


@claim(
    key="own/critical-points",
    statement=r"""The weights are critical for $F^*$ if and only if they are critical for the loss and
        $P_l^T r = 0$ for every example and every $l < L$; equally $A_L^T r = 0$. There $S^{-1} r = \pi_L r$ and
        $F^* = \pi_L\, \mathrm{loss}$.""",
    hypotheses=(
        "at least one hidden layer, no biases (fixed biases break it)",
        "no skip in the first and last layer; skips of hidden layers, scalings and positive precisions are free",
    ),
    attribution="own",
    source="derived here",
    uses=("saddles-2024/equilibrated-energy", "saddles-2024/envelope", "saddles-2024/energy-below-loss"),
)
def critical_points(check: Check) -> None:
    check.proof(
        "scaling W_1 alone and W_L alone",
        [induction.critical_points(), induction.critical_points(SIZES)],
        twins={
            "converse without the second condition": induction.critical_points(second_condition=False),
            "scaling W_L leaves the rescaling alone": induction.critical_points(
                rescaling_rate=lambda a, k: 0 * (a @ k @ a.T)
            ),
        },
    )
    check.exact(
        "the equivalence at points written down, with noise along the fit, and moved; depth 2 to 5",
        _candidates(),
        partial(_equivalence, _is_critical),
        twins=judged(
            _equivalence,
            {
                "critical for the loss suffices": _is_critical_for_loss,
                "the residual unseen suffices": oracles.residual_is_unseen,
            },
        ),
    )
    check.exact(
        "rescaling and value at critical points",
        [point.case for point in points()],
        partial(_values, lambda given: given.precisions[-1] * oracles.loss(given)),
        twins=judged(_values, {"half of it": lambda given: oracles.loss(given) / 2}),
    )
    check.false_twin("with a fixed bias", _equivalence(_is_critical, _with_fixed_bias()) != 0)
