r"""One update at the exact equilibrium of inference, and what a record of it says. Derived for this project.

Claims
    own/exact-learning   both gradients written out; loss / F* is a mean of the eigenvalues of S

Notation: r = y - output, P_l = M_{L:l+1}, m_l the feedforward activities and z*_l those at equilibrium.
Independent routes: Taylor coefficients along a change of the weights, in fractions; the formulas in NumPy.
"""

from functools import partial
from typing import Any

import numpy as np

from paper_checks._slopes import slope_remainder
from pctheory.claims import Check, claim, judged, largest, scaled_error
from pctheory.dynamics import backpropagation_rule, equilibrium_rule
from tests import oracles
from tests.cases import FEW, Case, random_cases, rational_cases

Rule = tuple[Any, bool]  # the library's rule, and whether it descends F* rather than the loss
RULES: dict[str, Rule] = {"backpropagation": (backpropagation_rule, False), "equilibrium": (equilibrium_rule, True)}


def _gradient(given: Case, *, rescaled: bool, scaled: bool = True, settled: bool | None = None) -> list[np.ndarray]:
    """-a_l P_l^T mean(force z_{l-1}^T): force S^-1 r and z at equilibrium, or r and z after the forward pass."""
    force = oracles.residual(given)
    if rescaled:
        force = oracles.solve(oracles.rescaling(given), force.T).T
    hidden = (
        oracles.equilibrium(given) if (rescaled if settled is None else settled) else oracles.feedforward(given)
    )
    parts = zip(given.scalings, oracles.output_maps(given), [given.x, *hidden], strict=False)
    return [-(a if scaled else 1) * (force @ p).T @ z / len(force) for a, p, z in parts]


def _slope_remainder(formula: Any, given: Case) -> list[Any]:
    return [slope_remainder(given, formula(given, rescaled=r), rescaled=r) for r in (False, True)]


def _rule_error(formula: Any, pair: tuple[Case, str]) -> float:
    given, name = pair
    rule, rescaled = RULES[name]
    size = oracles.scale(given, oracles.equilibrium(given)) * max(1.0, *(np.abs(m).max() for m in given.maps))
    return scaled_error(
        oracles.flat(rule(given.net, given.x, given.y)[0]),
        oracles.flat(formula(given, rescaled=rescaled)),
        scale=size,
        condition=oracles.condition(given),
    )


def _cosine(given: Case, *, scaled: bool = True) -> float:
    one, other = (oracles.flat(_gradient(given, rescaled=rescaled, scaled=scaled)) for rescaled in (True, False))
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


def _mean_eigenvalue(given: Case, *, total: bool = False) -> float:
    return float(np.trace(oracles.rescaling(given))) / (1 if total else given.widths[-1])


def _record_error(wrong: str, given: Case) -> float:
    """What a record says of mean eigenvalue, alignment and the ratio, against their definitions."""
    record = equilibrium_rule(given.net, given.x, given.y)[1]
    loss, energy = oracles.loss(given), oracles.energy(given, oracles.equilibrium(given))
    return largest(
        scaled_error(record.mean_rescaling, _mean_eigenvalue(given, total=wrong == "total")),
        scaled_error(record.alignment, _cosine(given, scaled=wrong != "scalings"), condition=1e3),
        scaled_error(
            record.energy_ratio,
            energy / loss if wrong == "ratio" else loss / energy,
            condition=oracles.condition(given),
        ),
    )


def _out_of_range(given: Case, *, top: str = "largest") -> float:
    """By how much loss / F* leaves the range of the eigenvalues of S, relative to it."""
    ratio = oracles.loss(given) / oracles.energy(given, oracles.equilibrium(given))
    eigenvalues = np.linalg.eigvalsh(oracles.rescaling(given))
    highest = {"largest": eigenvalues[-1], "mean": eigenvalues.mean(), "least": eigenvalues[0]}[top]
    return largest(0.0, eigenvalues[0] / ratio - 1, ratio / highest - 1) / oracles.condition(given)


@claim(
    key="own/exact-learning",
    statement=r"""With $P_l = A_L \cdots A_{l+1}$ and $m_l$ the feedforward activities, backpropagation descends
        $d\mathcal{L}/dW_l = -a_l P_l^T\, \mathrm{mean}(r\, m_{l-1}^T)$, and predictive coding at equilibrium
        $dF^*/dW_l = -a_l P_l^T\, \mathrm{mean}(S^{-1} r\, z_{l-1}^{*T})$. $\mathcal{L} / F^*$ is a mean of the
        eigenvalues of $S$, weighted by what of $S^{-1/2} r$ lies along each: between the least and the largest, and
        $\mathrm{tr}\, S / d_y$ if the weights are equal.""",
    hypotheses=("any depth, widths, scalings, skips and biases", "positive precisions", "a residual that is not 0"),
    attribution="own",
    source="derived here from saddles-2024/envelope; the first is backpropagation",
    uses=("saddles-2024/equilibrated-energy", "saddles-2024/envelope"),
)
def exact_learning(check: Check) -> None:
    wrong = {
        "without the scalings": partial(_gradient, scaled=False),
        "activities of the forward pass in both": partial(_gradient, settled=False),
    }
    check.exact(
        "slopes of the loss and of F* along changes of the weights, in fractions",
        rational_cases(50, seed=620),
        partial(_slope_remainder, _gradient),
        twins=judged(_slope_remainder, wrong),
    )
    check.property(
        "the library's two rules",
        [(given, name) for given in FEW for name in RULES],
        partial(_rule_error, _gradient),
        twins=judged(_rule_error, wrong),
    )
    check.property(
        "the library's record: mean eigenvalue of S, alignment of the gradients, loss / F*",
        FEW,
        partial(_record_error, ""),
        twins={
            "the trace of S for its mean": partial(_record_error, "total"),
            "gradients in the maps for those in the weights": partial(_record_error, "scalings"),
            "F* / loss": partial(_record_error, "ratio"),
        },
    )
    check.property(
        "loss / F* between the eigenvalues of S, depth 1 to 6",
        [given for given in random_cases(300, seed=621) if oracles.residual(given).any()],
        _out_of_range,
        twins={
            "at most their mean": partial(_out_of_range, top="mean"),
            "the least": partial(_out_of_range, top="least"),
        },
        seed=621,
    )
