r"""How large a step of inference may be. Derived for this project.

Claims
    own/step-stability           for which rates gradient descent on the activities converges
    own/activity-rate-transfer   that these depend little on width and depth

Notation: d is the deviation of an example's activities from the equilibrium. A rate on the energy's mean over a
batch of B moves each example by rate / B times its own gradient H_z d.

Where the law of muPC comes from: without its weights H_z is the second difference over the layers, whose spectrum
ends at 4 like that of a chain, G(4 + delta) = 1 / (2 sqrt(delta)). The weights add, at alternating signs, a free
part of variance 8 / L, by which the end moves to the least value of z = 4 + delta + (8 / L) / (2 sqrt(delta)), at
delta = (2 / L)^(2/3): z = 4 + 3 delta.

Published rates: 0.5 (ReLU) and 1 (tanh), batches of 64. The code of mupc-2025 divides its energy by the batch size,
so that these are rates on the batch mean.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import sympy

import pctheory
from paper_checks._inference import EXAMPLES, PUBLISHED, ResidualNet, exponent_error
from pctheory.claims import Check, claim, judged, largest
from pctheory.conditioning import LawFit, log_log_fit
from pctheory.induction.certificate import Certificate, Section, Step
from pctheory.matrix_algebra import Expression, Relation, matrix, vector
from tests import oracles
from tests.cases import Case, case, random_cases, rational_cases

RATE, BATCH, EIGENVALUE = sympy.symbols("eta B lambda", positive=True)


def _stability_proof(
    sizes: tuple[Any, Any] = sympy.symbols("M n", positive=True, integer=True),
    *,
    factor: sympy.Expr = RATE / BATCH,
) -> Certificate:
    """`factor` is by what the asserted formulas multiply H_z; a step on the batch mean has eta / B."""
    rows, n = sizes
    chain, deviation, mode = matrix("A", rows, n), vector("d", n), vector("v", n)
    gram = chain.T @ chain

    def stepped(d: Expression) -> Expression:
        return d - (RATE / BATCH) * (gram @ d)

    moved, force = stepped(deviation), gram @ deviation
    energies = (deviation.T @ gram @ deviation) - (moved.T @ gram @ moved)
    drop = 2 * factor * (force.T @ force) - factor**2 * (force.T @ gram @ force)
    eigen = Relation(gram @ mode, EIGENVALUE * mode, r"$v$ is an eigenvector of $H_z$")
    return Certificate(
        title="Stability of a step of inference",
        statement=r"""Write $H_z = A^T A$ (with the roots of the precisions in $A$), $d$ for the deviation of one
            example from the equilibrium and $g = H_z d$. A step of rate $\eta$ on the mean over $B$ examples takes
            $d$ to $(I - (\eta / B) H_z) d$ and lowers $d^T H_z d$, twice the example's excess energy, by""",
        definitions=(drop.named("drop"),),
        conclusion=r"""This is $(\eta / B) g^T (2 I - (\eta / B) H_z) g$, positive for all $g \neq 0$ iff
            $\eta < 2 B / \lambda_{max}$. An eigenvector is multiplied by $1 - (\eta / B) \lambda$ in each step, so
            at or above that rate the deviation along the largest one does not shrink.""",
        proof=(
            Section("The energy", (Step("The energy before minus after.", energies, drop),)),
            Section("Eigenvectors", (Step("", stepped(mode), (1 - factor * EIGENVALUE) * mode, (eigen,)),)),
        ),
        conditions=(r"$H_z$ is positive definite, so that $g = 0$ only at the equilibrium.",),
    )


def _batch_gradient(given: Case, hidden: list[np.ndarray]) -> np.ndarray:
    """Of the energy's batch mean, one row per example, by central differences: exact, as it is quadratic."""
    found = np.concatenate(hidden, axis=1)
    flat = np.concatenate(hidden, axis=1)
    stops = np.cumsum(given.widths[1:-2])
    for entry in np.ndindex(flat.shape):
        sides = []
        for sign in (1, -1):
            moved = flat.copy()
            moved[entry] += sign
            sides.append(oracles.energy(given, np.split(moved, stops, axis=1)))
        found[entry] = (sides[0] - sides[1]) / 2
    return found


def _drop_remainder(batch: Callable[[Case], int], given: Case, *, rate: int = 3) -> Any:
    """What a step on the batch mean takes off the energy, minus rate sum_i G_i^T (I - rate H_z / (2 B)) G_i."""
    stops = np.cumsum(given.widths[1:-2])
    hidden = oracles.feedforward(given)[:-1]
    slope = _batch_gradient(given, hidden)
    after = np.split(np.concatenate(hidden, axis=1) - slope / rate, stops, axis=1)
    fallen = oracles.energy(given, hidden) - oracles.energy(given, after)
    hessian, _ = oracles.linear_system(given)
    bent = slope - slope @ hessian / (2 * rate * batch(given))
    return fallen - (slope * bent).sum() / rate


def _examples(given: Case) -> int:
    return len(given.x)


Threshold = Callable[[Case], float]
NEARBY = 0.03  # how far below and above the threshold the rates that are tried are
STEPS = 200  # 1.06^200 = 1e5, more than a random start can lack of the largest mode


def _threshold(given: Case, *, share: float = 2.0, batch: bool = True) -> float:
    top = float(np.linalg.eigvalsh(oracles.linear_system(given)[0])[-1])
    return share * (len(given.x) if batch else 1) / top


def _by_oracle(given: Case, hidden: list[np.ndarray], rate: float) -> list[np.ndarray]:
    """`STEPS` steps on the batch mean."""
    for _ in range(STEPS):
        weighted = [
            pi * e / len(given.x) for pi, e in zip(given.precisions, oracles.errors(given, hidden), strict=True)
        ]
        layers = zip(hidden, weighted[:-1], weighted[1:], given.maps[1:], strict=True)
        hidden = [z - rate * (own - above @ a) for z, own, above, a in layers]
    return hidden


def _by_library(given: Case, hidden: list[np.ndarray], rate: float) -> list[np.ndarray]:
    last, _ = pctheory.inference_descent(
        given.net, given.x, given.y, steps=STEPS, rate=rate / len(given.x), start=hidden
    )
    return [np.asarray(z) for z in last]


def _stability_error(threshold: Threshold, given: Case, *, descended: Any = _by_oracle) -> float:
    """By how much the distance to the equilibrium grows just below the threshold, or shrinks just above it."""
    rng = np.random.default_rng(given.depth)
    settled = oracles.equilibrium(given)
    start = [z + rng.standard_normal(z.shape) for z in settled]

    def growth(rate: float) -> float:
        before, after = (
            np.linalg.norm(oracles.flat(z) - oracles.flat(settled)) for z in (start, descended(given, start, rate))
        )
        return float(after / before)

    below, above = (growth(threshold(given) * (1 + side * NEARBY)) for side in (-1, 1))
    return largest(0.0, below - 1, 1 - above)


FALSE_THRESHOLDS: dict[str, Threshold] = {
    "without B": partial(_threshold, batch=False),
    "half of it": partial(_threshold, share=1.0),
}

DEPTHS, WIDTH_OF_DEPTHS = (16, 32, 64, 128), 64
WIDTHS, DEPTH_OF_WIDTHS = (32, 64, 128, 192), 32
SEEDS = (0, 1, 2)
EXPONENT_BAND = 0.04  # the next term of the law is of relative order L^(-1/3) times a small factor
CONSTANT_BAND = 0.1  # the same, and fluctuations of order N^(-2/3)


@cache
def _largest(width: int, depth: int, parameterisation: str = "muPC") -> float:
    """Mean over seeds of lambda_max(H_z)."""
    nets = (ResidualNet.drawn(width, depth, parameterisation, seed) for seed in SEEDS)
    return float(np.mean([net.largest_eigenvalue() for net in nets]))


def _edge_law(depth: int) -> float:
    """4 + 3 (2/L)^(2/3)."""
    return float(4 + 3 * (2 / depth) ** (2 / 3))


@cache
def _excess_over_depth() -> LawFit:
    return log_log_fit(np.array(DEPTHS), np.array([_largest(WIDTH_OF_DEPTHS, depth) - 4 for depth in DEPTHS]))


@cache
def _excess_over_width() -> LawFit:
    return log_log_fit(np.array(WIDTHS), np.array([_largest(width, DEPTH_OF_WIDTHS) - 4 for width in WIDTHS]))


def _excess_error(law: Callable[[int], float], depth: int) -> float:
    """Relative to lambda_max - 4."""
    return abs(_largest(WIDTH_OF_DEPTHS, depth) - law(depth)) / (_largest(WIDTH_OF_DEPTHS, depth) - 4)


def _growth_with_depth(parameterisation: str) -> float:
    """lambda_max at H = 64 relative to H = 16, minus 1, in absolute value."""
    return abs(
        _largest(WIDTH_OF_DEPTHS, 65, parameterisation) / _largest(WIDTH_OF_DEPTHS, 17, parameterisation) - 1
    )


def _stable_share(rate: float, depth: int, batch: int) -> float:
    """A rate on the mean over the batch, relative to the largest stable one of a linear net."""
    return rate / batch * _largest(WIDTH_OF_DEPTHS, depth) / 2


def _instability(batch: int, setting: tuple[float, int]) -> float:
    return largest(0.0, _stable_share(*setting, batch) - 1)


def _stability(batch: int, setting: tuple[float, int]) -> float:
    return largest(0.0, 1 - _stable_share(*setting, batch))


@claim(
    key="own/step-stability",
    statement=r"""Gradient descent on the activities at rate $\eta$, on the energy's mean over $B$ examples,
        converges from every start iff $\eta < 2B/\lambda_{max}(H_z)$, and then the energy falls in every step until
        the equilibrium is reached.""",
    hypotheses=("linear nets with at least one hidden layer", "a constant rate"),
    attribution="own",
    source="derived here; well known of gradient descent on quadratic functions",
    uses=("mupc-2025/activity-hessian", "mupc-2025/inference-strictly-convex"),
)
def step_stability(check: Check) -> None:
    check.proof(
        "a step on the batch mean, at any spectrum",
        [_stability_proof(), _stability_proof((5, 3)), _stability_proof((4, 4))],
        twins={"without B": _stability_proof(factor=RATE)},
    )
    check.exact(
        "how far the energy falls, in fractions, depth 2 to 4",
        rational_cases(25, seed=620, depths=(2, 4)),
        partial(_drop_remainder, _examples),
        twins={"without B": partial(_drop_remainder, lambda given: 1)},
    )
    check.property(
        "descents just below and just above the threshold, depth 2 to 5",
        random_cases(40, seed=621, depths=(2, 5)),
        partial(_stability_error, _threshold),
        twins=judged(_stability_error, FALSE_THRESHOLDS),
        seed=621,
    )
    check.property(
        "the library's descent",
        [case("stability", (3, 4, 4, 2), seed=622, skips=True, precisions=True)],
        partial(_stability_error, _threshold, descended=_by_library),
        twins=judged(partial(_stability_error, descended=_by_library), FALSE_THRESHOLDS),
    )


@claim(
    key="own/activity-rate-transfer",
    statement=r"""In muPC with skips, at initialisation, $\lambda_{max}(H_z)$ is free of the width and falls to 4
        with depth, $4 + 3 (2/L)^{2/3}$ to leading order: the largest stable activity rate tends to $B/2$ whatever
        $N$ and $H$, a plain reason for activity rates to transfer. It does not single out muPC: in SP, with skips
        or without, $\lambda_{max}$ does not grow with depth either. The published rates are stable on the batch
        mean and, in linear nets, unstable if read per example.""",
    hypotheses=("linear nets at initialisation", "N >= 32, and large against the outputs"),
    attribution="own",
    source="derived here by free probability, to leading order in 1/L",
    uses=("own/step-stability",),
)
def activity_rate_transfer(check: Check) -> None:
    check.property(
        f"muPC, lambda_max - 4 over L = {DEPTHS}: exponent -2/3",
        [_excess_over_depth],
        partial(exponent_error, -2 / 3),
        twins={"-1": partial(exponent_error, -1.0), "-1/2": partial(exponent_error, -0.5)},
        bound=EXPONENT_BAND,
    )
    check.property(
        f"muPC, lambda_max - 4 over N = {WIDTHS}: exponent 0",
        [_excess_over_width],
        partial(exponent_error, 0.0),
        twins={"1/2": partial(exponent_error, 0.5), "-2/3": partial(exponent_error, -2 / 3)},
        bound=0.1,  # edges of finite matrices fluctuate by N^(-2/3), a tenth at N = 32
    )
    check.property(
        "muPC, the constant",
        DEPTHS,
        partial(_excess_error, _edge_law),
        twins={
            "a constant of 2": partial(_excess_error, lambda depth: 4 + 2 * (2 / depth) ** (2 / 3)),
            "already 4": partial(_excess_error, lambda depth: 4.0),
        },
        bound=CONSTANT_BAND,
    )
    check.property(
        "SP, with skips and without, from H = 16 to 64",
        ["SP", "SP with skips"],
        _growth_with_depth,
        twins={"as the depth does": lambda parameterisation: abs(_growth_with_depth(parameterisation) - 3)},
        bound=0.05,  # edges fluctuate by N^(-2/3), 6 % at N = 64, averaged over three seeds
    )
    published = [(rate, depth) for rate in PUBLISHED.values() for depth in DEPTHS]
    check.property(
        "the published rates are stable on the batch mean",
        published,
        partial(_instability, EXAMPLES),
        twins={"read per example": partial(_instability, 1)},
        bound=0.0,
    )
    check.property(
        "the published rates are unstable read per example",
        published,
        partial(_stability, 1),
        twins={"on the batch mean": partial(_stability, EXAMPLES)},
        bound=0.0,
    )
