r"""Predictive coding as a second-order trust-region method: what becomes of the weight gradient.

Claims
    trust-region-2023/weight-gradient   five readings of one sentence

Notation: h the feedforward activities, theta the weights, r = y - output, g = dF/dz at h, I the Fisher information
there, Delta = -I^-1 g; F(h) = (pi_L / 2)|r|^2. A reading is what the sentence says once its "gradient of the loss"
is made precise (`pctheory.trust_region.decomposition` lists them).
Independent routes: exact Taylor coefficients of F* along a direction; the local rule at the equilibrium of the
dense linear system, for nonlinear networks at the stationary point of Newton's method. Orders: as in
`trust_region_2023`.

Reference: F. Innocenti, R. Singh, C. L. Buckley, arXiv 2305.18188 (the sentence, as an approximation; readings,
remainders and orders are ours).
"""

from dataclasses import replace
from fractions import Fraction
from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np
from jax.flatten_util import ravel_pytree

from paper_checks._slopes import slope_remainder
from paper_checks._trust_region import (
    NARROW,
    SMALL,
    SMOOTH,
    layers_of,
    order_distance,
    over_networks,
    pooled,
    settled,
    start_gradient,
    targets_off,
)
from pctheory import induction, nonlinear, trust_region
from pctheory.claims import Check, claim, judged, scaled_error
from pctheory.matrix_algebra import zero
from pctheory.nonlinear import NonlinearPCN
from tests import oracles
from tests.cases import EQUAL_SIZES, FEW, SIZES, Case, Formula, case, rational, rational_cases

ONE = np.ones((1, 1))


@cache
def _reading_errors(activation: str) -> dict[str, list[np.ndarray]]:
    """|reading - dF*/dtheta| for residuals of the sizes SMALL, one line for each network."""
    lines = over_networks(_errors_of_readings, activation)
    return {reading: [line[reading] for line in lines] for reading in trust_region.READINGS}


def _errors_of_readings(net: NonlinearPCN, x: np.ndarray, offset: np.ndarray) -> dict[str, np.ndarray]:
    found = []
    for size in SMALL:
        y = targets_off(net, x, offset, size)
        gradient, _ = ravel_pytree(nonlinear.partial_weight_gradient(net, settled(net, x, y), x, y))
        found.append(
            [pooled(r - gradient) for r in trust_region.gradient_decomposition(net, x, y).readings.values()]
        )
    return dict(zip(trust_region.READINGS, np.transpose(found), strict=True))


def _reading(given: Case, *, reading: str) -> list[np.ndarray]:
    """What a reading takes for the gradient of F*, written out for a linear network."""
    r, count = oracles.residual(given), len(given.x)
    h = [given.x, *oracles.feedforward(given)[:-1]]
    steps = layers_of(given, -oracles.solve(oracles.linear_system(given)[0], start_gradient(given).T).T)
    step = [0 * given.x, *steps, 0 * r]
    starts = [pi * e for pi, e in zip(given.precisions, [*(0 * d for d in steps), r], strict=True)]
    pairs = zip(given.precisions, given.maps, strict=True)
    changes = [pi * (step[l + 1] - step[l] @ a.T) for l, (pi, a) in enumerate(pairs)]
    pulls = [given.precisions[-1] * r @ p for p in oracles.output_maps(given)]
    passed = [0 * r]  # sum over k >= l of M_{k:l+1}^T Delta_k, from the top
    for a, d in zip(reversed(given.maps[1:]), reversed(steps), strict=True):
        passed.insert(0, d + passed[0] @ a)
    terms = list(zip(starts, changes, pulls, passed, h, step[:-1], strict=True))
    totals = {
        "total gradient": [(pull + q).T @ z for _, _, pull, q, z, _ in terms],
        "partial gradient": [(e + q).T @ z for e, _, _, q, z, _ in terms],
        "first order": [(e + change).T @ z + e.T @ d for e, change, _, _, z, d in terms],
        "with its remainder": [(e + change).T @ z + (e + change).T @ d for e, change, _, _, z, d in terms],
    }
    return [-a * total / count for a, total in zip(given.scalings, totals[reading], strict=True)]


def _slope_remainder(formula: Formula, given: Case, *, layers: int | None = None) -> Any:
    return slope_remainder(given, formula(given), layers=layers)


def _library_error(given: Case, reading: str, expected: list[np.ndarray]) -> float:
    found = trust_region.gradient_decomposition(given.net, given.x, given.y).readings[reading]
    size = oracles.scale(given, oracles.equilibrium(given)) * float(max(np.abs(given.precisions)))
    return scaled_error(found, oracles.flat(expected), scale=size, condition=oracles.condition(given))


def _library_reading(given: Case, reading: str) -> float:
    """Against the local rule at the equilibrium, the gradient of F* by the envelope theorem."""
    return _library_error(given, reading, oracles.partial_weight_gradient(given, oracles.equilibrium(given)))


def _written_out_error(pair: tuple[Case, str], *, taken_for: str | None = None) -> float:
    """The library's reading against the same one written out, or against another."""
    given, reading = pair
    return _library_error(given, reading, READINGS[taken_for or reading](given))


def _of_library(reading: str, pair: tuple[Case, str]) -> float:
    return _library_reading(pair[0], reading)


def _order_error(pair: tuple[str, str]) -> float:
    activation, reading = pair
    return order_distance(ORDERS[reading], _reading_errors(activation)[reading])


def _order_error_of(reading: str, order: int, pair: tuple[str, str]) -> float:
    return order_distance(order, _reading_errors(pair[0])[reading])


READINGS: dict[str, Formula] = {
    name: partial(_reading, reading=name)
    for name in ("total gradient", "partial gradient", "first order", "with its remainder")
}
ORDERS = {"total gradient": 1, "partial gradient": 1, "first order": 2, "quadratic model": 2, "local rule": 2}
TOY = rational(replace(case("smallest", (1, 1, 1), seed=0, batch=1), weights=[ONE, ONE], x=ONE, y=4 * ONE))
TOY_GRADIENTS = {
    "total gradient": (Fraction(-9, 2), Fraction(-3)),
    "partial gradient": (Fraction(-3, 2), Fraction(-3)),
    "first order": (Fraction(-3, 2), Fraction(-6)),
    "with its remainder": (Fraction(-3, 2), Fraction(-15, 4)),
}


def _toy_remainder(name: str, toy: Case, *, expected: str | None = None) -> np.ndarray:
    return oracles.flat(READINGS[name](toy)) - np.array(TOY_GRADIENTS[expected or name])


@claim(
    key="trust-region-2023/weight-gradient",
    statement=r""""The gradient of PC is $(\partial h / \partial \theta)^T I^{-1} g$ plus the gradient of the loss":
        a trust-region direction plus that of backpropagation. With the total gradient of the loss this counts
        backpropagation twice: for $y = w_2 w_1 x$, $dF^*/dw_1$ is the first term alone. With the partial gradient,
        which vanishes but for $W_L$, it is exact for $W_1$ at $H = 1$ and $\pi_1 = 1$, linear; elsewhere its error
        is of first order in $r$, as is the gradient itself. At $w_1 = w_2 = x = 1$, $y = 4$ the gradient is
        $(-1.5, -3.75)$, the readings give $(-4.5, -3)$ and $(-1.5, -3)$. What holds: $\partial_\theta F$ at $h$
        plus $(\partial_z \partial_\theta F) \Delta$ up to $O(|r|^2)$, which in linear networks is
        $-\pi_l a_l (\Delta_l - A_l \Delta_{l-1}) \Delta_{l-1}^T$ with $\Delta_0 = \Delta_L = 0$; and
        $d/d\theta\,[\pi_L \mathcal{L} - \frac{1}{2} g^T I^{-1} g]$ or $\partial_\theta F$ at $h + \Delta$, both
        exact in linear networks, up to $O(|r|^2)$ in smooth ones.""",
    hypotheses=("at least one hidden layer", "positive precisions", "for the orders: as of inference-step"),
    attribution="stated",
    source="trust-region-2023 (the sentence, as an approximation); readings, remainders and orders derived",
    uses=("trust-region-2023/inference-step", "saddles-2024/envelope"),
)
def weight_gradient(check: Check) -> None:
    check.proof(
        "the local rule along the step is quadratic, at every depth",
        [
            induction.weight_gradient_readings(),
            induction.weight_gradient_readings(SIZES),
            induction.weight_gradient_readings(EQUAL_SIZES),
        ],
        twins={
            "first order without remainder": induction.weight_gradient_readings(
                remainder=lambda layer, direction, steps: zero(1, 1)
            ),
            "the remainder without precision": induction.weight_gradient_readings(
                remainder=lambda layer, direction, steps: (
                    -((steps[0] - layer.map @ steps[1]).T @ direction @ steps[1])
                )
            ),
        },
    )
    wrong = {name: READINGS[name] for name in ("total gradient", "partial gradient", "first order")}
    check.exact(
        "the first-order reading with its remainder, against Taylor coefficients of F* in fractions",
        rational_cases(50, seed=740, depths=(2, 4)),
        partial(_slope_remainder, READINGS["with its remainder"]),
        twins=judged(_slope_remainder, wrong),
    )
    check.exact(
        "the partial gradient, for W_1 below one hidden layer of unit precision",
        rational_cases(40, seed=741, depths=(2, 2), precisions=False),
        partial(_slope_remainder, READINGS["partial gradient"], layers=1),
        twins={
            "the total gradient": partial(_slope_remainder, READINGS["total gradient"], layers=1),
            "for W_2 too": partial(_slope_remainder, READINGS["partial gradient"]),
        },
    )
    check.exact(
        "the smallest example, w_1 = w_2 = x = 1 and y = 4: every reading's value",
        [TOY],
        lambda toy: np.concatenate([_toy_remainder(name, toy) for name in READINGS]),
        twins={name: partial(_toy_remainder, name, expected="with its remainder") for name in wrong},
    )
    check.property(
        "linear networks: the quadratic model and the local rule after the step are exact",
        product(FEW, ("quadratic model", "local rule")),
        lambda pair: _library_reading(*pair),
        twins={name: partial(_of_library, name) for name in wrong},
    )
    check.property(
        "linear networks: the library's readings are those written out",
        product(FEW, wrong),
        _written_out_error,
        twins={name: partial(_written_out_error, taken_for=name) for name in wrong},
    )
    check.property(
        "tanh and softplus: order of the readings' errors in r",
        product(SMOOTH, ORDERS),
        _order_error,
        twins={
            f"order {order} of the {name}": partial(_order_error_of, name, order)
            for name, order in (("total gradient", 2), ("partial gradient", 2), ("first order", 3))
        },
        bound=NARROW,
    )
