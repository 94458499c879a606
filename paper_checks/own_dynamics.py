r"""Gradient flow drives adjacent layers apart on F*, not on the loss. Derived for this project.

Claims
    own/imbalance   what adjacent layers' difference grows by on F*, and that the loss conserves it

Notation: gradient flow moves every weight against its gradient, dW_l/dt = -dF*/dW_l, and likewise every bias.
Independent routes: the rates in fractions from the local rule at the dense equilibrium; gradients by complex steps
through the dense linear system; the library's flow against Gauss-Legendre quadrature of the growth.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sympy

import pctheory
from pctheory.claims import Check, claim, judged, scaled_error
from pctheory.dynamics import weight_flow
from pctheory.induction.certificate import Certificate, Section, Step
from pctheory.matrix_algebra import Expression, Relation, matrix, vector, zero
from tests import oracles
from tests.cases import EQUAL_SIZES, SIZES, Case, Formula, case, random_cases, rational_cases

OBJECTIVES = {"loss": pctheory.loss, "energy": pctheory.equilibrated_energy}

NILPOTENT = sympy.Symbol("t")


def _imbalance_proof(
    sizes: tuple[Any, Any, Any] = sympy.symbols("N_{l-1} N_l N_{l+1}", positive=True, integer=True),
    *,
    growth: Callable[[sympy.Symbol, Expression], Expression] = lambda pi, e: 2 * pi * (e @ e.T),
) -> Certificate:
    """Per sample; the batch mean is linear. `growth(pi_l, e_l)` is the rate that is asserted on F*."""
    below, here, above = sizes
    pi, pi_up = sympy.symbols("pi_l pi_{l+1}", positive=True)
    upper, lower = matrix("A_{l+1}", above, here), matrix("A_l", here, below)
    e, e_up, bias, z_below = vector("e_l", here), vector("e_{l+1}", above), vector("c_l", here), vector("z", below)
    z = lower @ z_below + bias + e
    balance = Relation(upper.T @ e_up, e * (pi / pi_up), r"at equilibrium the errors balance")
    force, force_up, mean_below = vector("g_l", here), vector("g_{l+1}", above), vector("m", below)
    mean = lower @ mean_below + bias
    asserted = growth(pi, e)
    carried = Relation(upper.T @ force_up, force, r"$g_l = P_l^T r$ and $P_l = P_{l+1} A_{l+1}$")
    return Certificate(
        title="Imbalance of adjacent layers",
        statement=r"""Gradient flow moves the map $A_l = a_l W_l + s_l I$ at the rate
            $a_l^2 \pi_l e_l z_{l-1}^T$ and the bias at $\pi_l e_l$ (envelope theorem; mean over the samples). Let
            the imbalance be
            $D_l = A_{l+1}^T A_{l+1} / a_{l+1}^2 - A_l A_l^T / a_l^2 - c_l c_l^T$. On F* it grows at the rate""",
        definitions=(asserted.named("dD_l/dt"),),
        conclusion=r"On the loss, with $g_l = P_l^T r$ and the feedforward $m_l$ in their place, it is conserved.",
        proof=(
            Section("On F*", (_drift(upper, pi_up * e_up, z, balance, lower, pi * e, z_below, bias, asserted),)),
            Section(
                "On the loss",
                (_drift(upper, force_up, mean, carried, lower, force, mean_below, bias, zero(here, here)),),
            ),
        ),
        conditions=("Scalings do not vanish.",),
    )


def _drift(*parts: Any) -> Step:
    """The first-order change of the imbalance when maps move by force times activity, and the bias by its force."""
    upper, force_up, activity, relation, lower, force, activity_below, bias, growth = parts
    moved_up = upper + NILPOTENT * (force_up @ activity.T)  # in units of a_{l+1}, which cancels; likewise below
    moved = lower + NILPOTENT * (force @ activity_below.T)
    moved_bias = bias + NILPOTENT * force
    above = (moved_up.T @ moved_up).coefficient(NILPOTENT, 1)
    below = (moved @ moved.T + moved_bias @ moved_bias.T).coefficient(NILPOTENT, 1)
    return Step("The rates of both products.", above - below, growth, (relation,))


def _gradients(given: Case) -> list[np.ndarray]:
    """dF*/dW_l by the local rule at the dense equilibrium."""
    return oracles.partial_weight_gradient(given, oracles.equilibrium(given))


def _bias_gradients(given: Case) -> list[np.ndarray]:
    errors = oracles.errors(given, oracles.equilibrium(given))
    return [-pi * e.sum(axis=0) / len(e) for pi, e in zip(given.precisions, errors, strict=True)]


def _loss_gradients(given: Case) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Of the loss in weights and biases."""
    r, below = oracles.residual(given), [given.x, *oracles.feedforward(given)]
    forces = [r @ p for p in oracles.output_maps(given)]
    weights = [-a * f.T @ m / len(r) for a, f, m in zip(given.scalings, forces, below[:-1], strict=True)]
    return weights, [-f.sum(axis=0) / len(r) for f in forces]


def _rates(given: Case, gradients: list[np.ndarray], bias_gradients: list[np.ndarray]) -> np.ndarray:
    """dD_l/dt for l = 1..H under the flow of these gradients."""
    moves = [-a * g for a, g in zip(given.scalings, gradients, strict=True)]  # of the maps
    grams = []
    for m, move, a in zip(given.maps, moves, given.scalings, strict=True):
        grams.append(((m.T @ move + move.T @ m) / a**2, (m @ move.T + move @ m.T) / a**2))
    drifts = [
        grams[l + 1][0] - grams[l][1] + np.outer(c, g) + np.outer(g, c)
        for l, (c, g) in enumerate(zip(given.biases[:-1], bias_gradients[:-1], strict=True))
    ]
    return oracles.flat(drifts)


def _growth(given: Case, *, factor: int = 2) -> np.ndarray:
    """2 pi_l mean(e_l e_l^T)."""
    errors = oracles.errors(given, oracles.equilibrium(given))
    layers = zip(given.precisions, errors, strict=True)
    return oracles.flat([factor * pi * e.T @ e / len(e) for pi, e in list(layers)[: given.depth - 1]])


def _imbalance_remainder(growth: Formula, given: Case) -> np.ndarray:
    return _rates(given, _gradients(given), _bias_gradients(given)) - growth(given)


def _loss_remainder(given: Case, *, growth: int = 0) -> np.ndarray:
    return _rates(given, *_loss_gradients(given)) - growth * _growth(given)


def _weights_for_maps(given: Case) -> np.ndarray:
    """With W_l instead of A_l / a_l: another matrix where there are skips."""
    bare = replace(given, skips=0 * given.skips)
    return _rates(bare, _gradients(given), _bias_gradients(given)) - _growth(given)


def _with_fixed_biases(given: Case) -> np.ndarray:
    return _rates(given, _gradients(given), [0 * c for c in given.biases]) - _growth(given)


FALSE_GROWTHS: dict[str, Formula] = {
    "conserved": lambda given: 0 * _growth(given),
    "without the 2": partial(_growth, factor=1),
    "without the precision": lambda given: np.concatenate(
        [part / pi for part, pi in zip(_by_layer(given), given.precisions[:-1], strict=True)]
    ),
}


def _by_layer(given: Case) -> list[np.ndarray]:
    return np.split(_growth(given), np.cumsum([n * n for n in given.widths[1:-1]])[:-1])


STEP = 1e-30  # of the complex step: its square vanishes beside 1


def _by_complex_steps(given: Case) -> list[np.ndarray]:
    """dF*/dW_l from the least energy of the dense linear system alone."""
    start = given.converted(complex)
    found = []
    for l, w in enumerate(start.weights):
        slopes = np.zeros(w.shape)
        for entry in np.ndindex(w.shape):
            moved = w.copy()
            moved[entry] += 1j * STEP
            case_ = replace(start, weights=[*start.weights[:l], moved, *start.weights[l + 1 :]])
            slopes[entry] = oracles.energy(case_, oracles.equilibrium(case_)).imag / STEP
        found.append(slopes)
    return found


def _imbalance_error(growth: Formula, given: Case) -> float:
    """Relative to gradients times weights; the dense solves lose what cond(H_z) takes."""
    size = oracles.scale(given, oracles.equilibrium(given)) * (1 + max(np.abs(m).max() for m in given.maps)) ** 2
    rates = _rates(given, _by_complex_steps(given), _bias_gradients(given))
    return scaled_error(rates, growth(given), scale=size, condition=oracles.condition(given))


FLOWING = case("flow", (2, 3, 3, 2), seed=7, batch=5, precisions=True, scalings=True, skips=True)
DURATION = 2.0


@cache
def _flowed(name: str) -> tuple[np.ndarray, np.ndarray]:
    """How much the imbalance of the library's flow grew, and its predicted growth by Gauss-Legendre quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    times = np.concatenate([[0.0], DURATION * (nodes + 1) / 2, [DURATION]])
    pi = FLOWING.precisions

    def record(net: pctheory.LinearPCN, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        maps, a = list(net.maps), net.scalings
        errors = pctheory.equilibrium(net, x, y).errors
        imbalances = [up.T @ up / a[l + 1] ** 2 - m @ m.T / a[l] ** 2 for l, (m, up) in enumerate(pairwise(maps))]
        growths = [2 * pi[l] * e.T @ e / len(e) for l, e in enumerate(errors[:-1])]
        return tuple(jnp.concatenate([m.ravel() for m in parts]) for parts in (imbalances, growths))  # type: ignore[return-value]

    flow = weight_flow(
        OBJECTIVES[name],
        FLOWING.net,
        FLOWING.x,
        FLOWING.y,
        times=times,
        record=record,
        relative_tolerance=1e-11,
        absolute_tolerance=1e-12,
    )
    imbalances, growths = (np.asarray(part) for part in flow.records)
    return imbalances[-1] - imbalances[0], DURATION / 2 * weights @ growths[1:-1]


def _flow_error(share: float, name: str) -> float:
    grown, predicted = _flowed(name)
    return scaled_error(grown, share * predicted, scale=float(np.abs(predicted).max()))


@claim(
    key="own/imbalance",
    statement=r"""Under gradient flow on F* the imbalance
        $D_l = A_{l+1}^T A_{l+1} / a_{l+1}^2 - A_l A_l^T / a_l^2 - c_l c_l^T$ grows,
        $dD_l/dt = 2 \pi_l\, \mathrm{mean}(e_l e_l^T) \ge 0$, for every hidden layer; on the loss it is conserved.
        Without skips and biases $D_l = W_{l+1}^T W_{l+1} - W_l W_l^T$.""",
    hypotheses=(
        "any depth, widths, precisions, skips and scalings other than 0",
        "biases are 0 and fixed, or learned by the same flow",
    ),
    attribution="own",
    source="derived here; that the loss conserves it is well known without skips",
    uses=("saddles-2024/envelope", "saddles-2024/equilibrium-errors"),
)
def imbalance(check: Check) -> None:
    check.proof(
        "from the balance of errors, at any layer",
        [_imbalance_proof(), _imbalance_proof(SIZES), _imbalance_proof(EQUAL_SIZES)],
        twins={
            "conserved": _imbalance_proof(growth=lambda pi, e: zero(e.rows, e.rows)),
            "without the 2": _imbalance_proof(growth=lambda pi, e: pi * (e @ e.T)),
        },
    )
    drawn = rational_cases(60, seed=600, depths=(2, 4))
    check.exact(
        "on F*, in fractions, depth 2 to 4",
        drawn,
        partial(_imbalance_remainder, _growth),
        twins={
            **judged(_imbalance_remainder, FALSE_GROWTHS),
            "weights for maps where there are skips": _weights_for_maps,
            "biases that do not move": _with_fixed_biases,
        },
    )
    check.exact(
        "on the loss, in fractions, depth 2 to 4",
        drawn,
        _loss_remainder,
        twins={"grows as on F*": partial(_loss_remainder, growth=1)},
    )
    check.property(
        "on F*, the gradient by complex steps, depth 2 to 5",
        random_cases(100, seed=601, depths=(2, 5), width=4),
        partial(_imbalance_error, _growth),
        twins=judged(_imbalance_error, FALSE_GROWTHS),
        seed=601,
    )
    check.property(
        "along the library's flow on F*, growth against its integral",
        ["energy"],
        partial(_flow_error, 1.0),
        twins={"conserved": partial(_flow_error, 0.0)},
        bound=1e-8,  # steps of tolerance 1e-11, some hundred of them
    )
    check.property(
        "along the library's flow on the loss, conservation",
        ["loss"],
        partial(_flow_error, 0.0),
        twins={"grows as on F*": partial(_flow_error, 1.0)},
        bound=1e-8,  # as above
    )
