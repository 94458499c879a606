r"""Error-based predictive coding (ePC): inference in the errors instead of the activities.

Claims
    goemaere-2025/error-hessian   the curvature of inference in error coordinates
    goemaere-2025/first-arrival   how slowly the errors travel when inference runs on activities

Notation: hidden errors e = (e_1, .., e_H) as coordinates, from which one forward sweep
z_l = A_l z_{l-1} + c_l + e_l makes the activities; J = [P_1 .. P_H]. Gradient descent on activities:
z <- z - eta dF/dz with the gradient of one example's energy, from the feedforward start.
One might expect cond(I + J^T J) <= cond(S) from their common spectrum. That is false where there are more hidden
units than outputs and J has full rank, the usual case: I + J^T J then has the eigenvalue 1 and S has not.

Reference: arXiv 2505.20137 (ePC).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np

import pctheory
from pctheory import induction
from pctheory.claims import Check, claim, judged, scaled_error
from tests import oracles
from tests.cases import FEW, SIZES, Case, Formula, at_unit_precision, random_cases, rational_cases


def _energy_of_errors(given: Case, errors: np.ndarray) -> Any:
    """The energy of one example after the sweep that these hidden errors make."""
    hidden, z = [], given.x[:1]
    parts = np.split(errors, np.cumsum(given.widths[1:-2]))
    for a, c, e in zip(given.maps[:-1], given.biases[:-1], parts, strict=True):
        z = z @ a.T + c + e
        hidden.append(z)
    return oracles.energy(replace(given, x=given.x[:1], y=given.y[:1]), hidden)


def _hessian_by_differences(given: Case) -> np.ndarray:
    start = np.zeros(sum(given.widths[1:-1]), dtype=int) * given.precisions[0]
    return oracles.second_differences(partial(_energy_of_errors, given), start)


def _jacobian(given: Case) -> np.ndarray:
    """J = [P_1 .. P_H], the map from hidden errors to the output."""
    return np.concatenate(oracles.output_maps(given)[:-1], axis=1)


def _error_hessian(given: Case, *, own: bool = True) -> np.ndarray:
    """Pi + pi_L J^T J with the hidden precisions in Pi, which is I + J^T J at unit precision."""
    j = _jacobian(given)
    hidden = np.repeat(given.precisions[:-1], given.widths[1:-1])
    return own * np.diag(hidden) + given.precisions[-1] * j.T @ j


def _hessian_remainder(formula: Formula, given: Case) -> np.ndarray:
    return formula(given) - _hessian_by_differences(given)


def _spectrum_remainder(rescaling: Formula, given: Case) -> Any:
    """det(t - H_e)(t - 1)^{d_y} - det(t - S)(t - 1)^n at more negative t than its degree: all 0 iff it is 0.

    Then H_e, of size n, and S have the same eigenvalues but for the 1.
    """
    hessian, s = _error_hessian(given), rescaling(given)
    n, d_y = len(hessian), len(s)
    return [
        oracles.determinant(t * np.eye(n, dtype=int) - hessian) * (t - 1) ** d_y
        - oracles.determinant(t * np.eye(d_y, dtype=int) - s) * (t - 1) ** n
        for t in range(-1, -n - d_y - 2, -1)
    ]


def _spectrum_error(rescaling: Formula, given: Case) -> float:
    """The eigenvalues of both, each filled up with ones to the same number."""
    hessian, s = _error_hessian(given), rescaling(given)
    size = len(hessian) + len(s)
    spectra = [np.append(np.linalg.eigvalsh(m), np.ones(size - len(m))) for m in (hessian, s)]
    return scaled_error(np.sort(spectra[0]), np.sort(spectra[1]))


FALSE_RESCALINGS: dict[str, Formula] = {
    "S with W_1": lambda given: oracles.rescaling(given) + _first_share(given),
    "S without its last term I": lambda given: oracles.rescaling(given) - np.eye(given.widths[-1], dtype=int),
}


def _first_share(given: Case) -> np.ndarray:
    p_0 = oracles.output_maps(given)[0] @ given.maps[0]
    share: np.ndarray = p_0 @ p_0.T
    return share


def _rescaling_spectrum(given: Case) -> np.ndarray:
    """The eigenvalues of S, largest first, filled up with ones to at least the number of hidden units."""
    eigenvalues = np.linalg.eigvalsh(oracles.rescaling(given))[::-1]
    return np.append(eigenvalues, np.ones(sum(given.widths[1:-1])))


def _condition(given: Case) -> float:
    """lambda_1(S) / lambda_n(S), n the number of hidden units."""
    spectrum = _rescaling_spectrum(given)
    return float(spectrum[0] / spectrum[sum(given.widths[1:-1]) - 1])


def _condition_error(formula: Formula, given: Case) -> float:
    """Relative to the condition number, times that by which it magnifies rounding: itself."""
    condition = float(np.linalg.cond(_error_hessian(given)))
    return scaled_error(formula(given), condition, condition=condition)


FALSE_CONDITIONS: dict[str, Formula] = {
    "cond(S)": lambda given: np.linalg.cond(oracles.rescaling(given)),
    "the largest eigenvalue of S always": lambda given: _rescaling_spectrum(given)[0],
}


@claim(
    key="goemaere-2025/error-hessian",
    statement=r"""With the hidden errors as coordinates the Hessian of one example's energy is $I + J^T J$ with
        $J = [P_1 \dots P_{L-1}]$, while $S = I + J J^T$: their eigenvalues other than 1 agree, with multiplicities.
        Hence, with $n$ hidden units and eigenvalues $\lambda_1 \ge \lambda_2 \ge \dots$ of $S$, $\lambda_k = 1$ for
        $k > d_y$, $\mathrm{cond}(I + J^T J) = \lambda_1 / \lambda_n \le \lambda_1$. It is above $\mathrm{cond}(S)$
        where $n > d_y$ and $J$ has full rank: with a single output $\mathrm{cond}(S) = 1$.""",
    hypotheses=("unit precision", "at least one hidden layer", "any widths, scalings, skips and biases"),
    attribution="own",
    source="goemaere-2025 for inference in error coordinates; the spectrum and what follows from it are ours",
)
def error_hessian(check: Check) -> None:
    check.proof(
        "both Gram matrices and how J carries eigenvectors between them",
        [induction.error_hessian(), induction.error_hessian(SIZES)],
        twins={"without the I": induction.error_hessian(hessian=lambda j: j.T @ j)},
    )
    check.exact(
        "the Hessian, with precisions Pi + pi_L J^T J, against second differences in fractions",
        rational_cases(40, seed=400, depths=(2, 4)),
        partial(_hessian_remainder, _error_hessian),
        twins=judged(_hessian_remainder, {"without the I": partial(_error_hessian, own=False)}),
    )
    check.exact(
        "the characteristic polynomials in fractions",
        rational_cases(40, seed=401, depths=(2, 4), precisions=False),
        partial(_spectrum_remainder, oracles.rescaling),
        twins=judged(_spectrum_remainder, FALSE_RESCALINGS),
    )
    check.property(
        "the spectra, depth 2 to 6",
        random_cases(400, seed=402, depths=(2, 6), precisions=False),
        partial(_spectrum_error, oracles.rescaling),
        twins=judged(_spectrum_error, FALSE_RESCALINGS),
        seed=402,
    )
    check.property(
        "the condition number, depth 2 to 6",
        random_cases(400, seed=403, depths=(2, 6), precisions=False),
        partial(_condition_error, _condition),
        twins=judged(_condition_error, FALSE_CONDITIONS),
        seed=403,
    )
    check.property(
        "the library's rescaling",
        [at_unit_precision(given) for given in FEW],
        partial(_spectrum_error, lambda given: pctheory.rescaling(given.net)),
        twins=judged(_spectrum_error, FALSE_RESCALINGS),
    )


SLOWNESS = 3  # 1/eta, whole so that it divides fractions and floats alike
Activities: TypeAlias = list[np.ndarray]
Step: TypeAlias = Callable[[Case, Activities], Activities]


def _descended(given: Case, hidden: Activities) -> Activities:
    """z_l - eta (pi_l e_l - pi_{l+1} A_{l+1}^T e_{l+1})."""
    weighted = [pi * e for pi, e in zip(given.precisions, oracles.errors(given, hidden), strict=True)]
    layers = zip(hidden, weighted[:-1], weighted[1:], given.maps[1:], strict=True)
    return [z - (own - above @ a) / SLOWNESS for z, own, above, a in layers]


def _descended_on_mean(given: Case, hidden: Activities) -> Activities:
    """The same with the gradient of the batch mean, B times less."""
    steps = zip(hidden, _descended(given, hidden), strict=True)
    return [z + (moved - z) / len(given.x) for z, moved in steps]


def _descended_by_library(given: Case, hidden: Activities) -> Activities:
    gradient = pctheory.activity_gradient(given.net, hidden, given.x, given.y)
    return [z - len(given.x) * np.asarray(g) / SLOWNESS for z, g in zip(hidden, gradient, strict=True)]


def _front(given: Case, t: int, *, power: int | None = None, precisions: bool = True) -> np.ndarray:
    """eta^t pi_L ... pi_{L-t+1} M_{L:L-t+1}^T r, one row per example."""
    force = oracles.residual(given) / SLOWNESS ** (t if power is None else power)
    for l in range(given.depth, given.depth - t, -1):
        force = force @ given.maps[l - 1] * (given.precisions[l - 1] if precisions else 1)
    return force


def _zeros(given: Case) -> Activities:
    return [np.zeros((len(given.x), n), dtype=int) * given.x[:, :1] for n in given.widths[1:-1]]


def _feedforward(given: Case) -> Activities:
    return oracles.feedforward(given)[:-1]


def _arrival_remainder(
    front: Callable[[Case, int], Any],
    given: Case,
    *,
    step: Step = _descended,
    start: Callable[[Case], Activities] = _feedforward,
) -> np.ndarray:
    """After t = 1..H steps, the errors below layer L - t, and that of layer L - t minus the front."""
    hidden, found = start(given), []
    for t in range(1, given.depth):
        hidden = step(given, hidden)
        *before, reached = oracles.errors(given, hidden)[: given.depth - t]
        found += [*before, reached - front(given, t)]
    return oracles.flat(found)


def _arrival_error(front: Callable[[Case, int], Any], given: Case, **route: Any) -> float:
    """Relative to the data and to the growth of the front, at most prod of pi_l |A_l| / eta over the layers."""
    growth = [1 + pi * np.linalg.norm(a, 2) for pi, a in zip(given.precisions, given.maps, strict=True)]
    size = oracles.scale(given, _feedforward(given)) ** 0.5 * float(np.prod(growth))
    remainder = _arrival_remainder(front, given, **route)
    return scaled_error(remainder, 0 * remainder, scale=size)


FALSE_FRONTS: dict[str, Callable[[Case, int], Any]] = {
    "arrives one step later": lambda given, t: 0,
    "size eta at every step": partial(_front, power=1),
    "precisions left out": partial(_front, precisions=False),
}


@claim(
    key="goemaere-2025/first-arrival",
    statement=r"""Gradient descent on the activities, at rate $\eta$ from the feedforward start: after $t \le H$
        steps the error has reached layer $L - t$, where it is $\eta^t M_{L:L-t+1}^T r$ exactly, and in the layers
        before it is exactly 0. With precisions it is $\eta^t \pi_L \dots \pi_{L-t+1} M_{L:L-t+1}^T r$.""",
    hypotheses=("gradient of one example's energy (that of a batch mean is B times less)", "feedforward start"),
    attribution="own",
    source="derived here",
    uses=("mupc-2025/activity-solution",),
)
def first_arrival(check: Check) -> None:
    check.exact(
        "in fractions, depth 2 to 5",
        rational_cases(60, seed=410, depths=(2, 5)),
        partial(_arrival_remainder, _front),
        twins={
            **judged(_arrival_remainder, FALSE_FRONTS),
            "with the gradient of the batch mean": partial(_arrival_remainder, _front, step=_descended_on_mean),
            "from any start": partial(_arrival_remainder, _front, start=_zeros),
        },
    )
    check.property(
        "in floating point, depth 2 to 6",
        random_cases(300, seed=411, depths=(2, 6)),
        partial(_arrival_error, _front),
        twins=judged(_arrival_error, FALSE_FRONTS),
        seed=411,
    )
    check.property(
        "by the library's gradient",
        FEW,
        partial(_arrival_error, _front, step=_descended_by_library),
        twins={
            name: partial(_arrival_error, wrong, step=_descended_by_library) for name, wrong in FALSE_FRONTS.items()
        },
    )
