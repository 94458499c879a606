r"""What was derived for this project and stands in none of the papers.

Claims
    own/determinant   the determinant of the activity Hessian
    own/likelihood    inference is exact in the linear-Gaussian chain, learning leaves out a log-determinant

Notation: the linear-Gaussian chain is z_l = A_l z_{l-1} + c_l + noise of variance 1/pi_l for l = 1..L, from
z_0 = x, with y = z_L. The density of hidden activities and output given x is exp(-F) for one example, up to its
normaliser.
Independent route: all activities are linear in the noise, so the mean and covariance of (z_1, .., z_L) come from
one triangular solve, the posterior from conditioning that Gaussian on y, the density of y from `scipy.stats`.
"""

import math
from functools import partial
from typing import Any

import numpy as np
from scipy.stats import multivariate_normal

import pctheory
from pctheory import induction
from pctheory.claims import Check, claim, judged, scaled_error
from pctheory.matrix_algebra import scalar
from tests import oracles
from tests.cases import FEW, SIZES, Case, Formula, at_unit_precision, random_cases, rational_cases


def _precision_product(given: Case, *, output: bool = True) -> Any:
    """prod_l pi_l^N_l over the hidden layers, times pi_L^d_y."""
    pairs = list(zip(given.precisions, given.widths[1:], strict=True))
    return math.prod(pi**n for pi, n in (pairs if output else pairs[:-1]))


def _determinant(given: Case) -> Any:
    return oracles.determinant(oracles.rescaling(given)) * _precision_product(given)


def _log_determinant(given: Case) -> float:
    return float(np.linalg.slogdet(oracles.rescaling(given))[1] + np.log(_precision_product(given)))


def _determinant_remainder(formula: Formula, given: Case) -> Any:
    return formula(given) - oracles.determinant(oracles.linear_system(given)[0])


def _log_determinant_error(formula: Formula, given: Case) -> float:
    """Both are sums of as many logarithms as H_z has rows."""
    hessian = oracles.linear_system(given)[0]
    return scaled_error(formula(given), np.linalg.slogdet(hessian)[1], scale=float(len(hessian)))


FALSE_DETERMINANTS: dict[str, Formula] = {
    "without the precision terms": lambda given: oracles.determinant(oracles.rescaling(given)),
    "without the output's precision": lambda given: (
        oracles.determinant(oracles.rescaling(given)) * _precision_product(given, output=False)
    ),
}
FALSE_LOG_DETERMINANTS: dict[str, Formula] = {
    "without the precision terms": lambda given: np.linalg.slogdet(oracles.rescaling(given))[1],
    "with their sign turned": lambda given: _log_determinant(given) - 2 * np.log(_precision_product(given)),
}


@claim(
    key="own/determinant",
    statement=r"""$\log \det H_z = \log \det S + \sum_{l=1}^{L-1} N_l \log \pi_l + d_y \log \pi_L$.""",
    hypotheses=("at least one hidden layer", "positive precisions", "any widths, scalings, skips and biases"),
    attribution="own",
    source="derived here",
    uses=("mupc-2025/activity-hessian",),
)
def determinant(check: Check) -> None:
    check.proof(
        "block elimination, whose pivots telescope",
        [induction.determinant(), induction.determinant(SIZES)],
        twins={"without the precision terms": induction.determinant(precision_term=lambda layer: scalar(0))},
    )
    check.exact(
        "against elimination in fractions",
        rational_cases(60, seed=500, depths=(2, 4)),
        partial(_determinant_remainder, _determinant),
        twins=judged(_determinant_remainder, FALSE_DETERMINANTS),
    )
    check.property(
        "against the dense Hessian, depth 2 to 6",
        random_cases(400, seed=501, depths=(2, 6)),
        partial(_log_determinant_error, _log_determinant),
        twins=judged(_log_determinant_error, FALSE_LOG_DETERMINANTS),
        seed=501,
    )
    check.property(
        "the library's log-determinant against the dense Hessian",
        FEW,
        partial(_log_determinant_error, lambda given: pctheory.activity_hessian_log_determinant(given.net)),
        twins=judged(_log_determinant_error, FALSE_LOG_DETERMINANTS),
    )


def _joint(given: Case) -> tuple[np.ndarray, np.ndarray]:
    """Mean, one row per example, and covariance of all activities z_1..z_L given x."""
    widths = given.widths[1:]
    stops = np.cumsum([0, *widths])
    noise_of = np.eye(stops[-1], dtype=int) + 0 * given.precisions[0]
    for l, a in enumerate(given.maps[1:], start=1):
        noise_of[stops[l] : stops[l + 1], stops[l - 1] : stops[l]] = -a
    spread = oracles.solve(noise_of, np.eye(stops[-1], dtype=int) + 0 * given.precisions[0])
    drives = np.tile(np.concatenate(given.biases), (len(given.x), 1))
    drives[:, : widths[0]] += given.x @ given.maps[0].T
    return drives @ spread.T, (spread / np.repeat(given.precisions, widths)) @ spread.T


def _posterior(given: Case) -> np.ndarray:
    """The mean of the hidden activities given y, one row per example, then their covariance."""
    mean, covariance = _joint(given)
    hidden = sum(given.widths[1:-1])
    gain = oracles.solve(covariance[hidden:, hidden:], covariance[hidden:, :hidden]).T
    means = mean[:, :hidden] + (given.y - mean[:, hidden:]) @ gain.T
    return np.concatenate([means, covariance[:hidden, :hidden] - gain @ covariance[hidden:, :hidden]])


def _inference(given: Case, *, inverse: bool = True) -> np.ndarray:
    """z*, one row per example, then H_z^-1."""
    hessian, _ = oracles.linear_system(given)
    unit = np.eye(len(hessian), dtype=int) + 0 * given.precisions[0]
    covariance = oracles.solve(hessian, unit) if inverse else hessian
    return np.concatenate([np.concatenate(oracles.equilibrium(given), axis=1), covariance])


def _posterior_remainder(formula: Formula, given: Case) -> np.ndarray:
    return formula(given) - _posterior(given)


def _posterior_error(formula: Formula, given: Case) -> float:
    """Means have the size of the data, variances that of the noise; both routes lose what cond(H_z) takes."""
    size = oracles.scale(given, oracles.equilibrium(given)) ** 0.5 + float(np.max(1 / given.precisions))
    return scaled_error(formula(given), _posterior(given), scale=size, condition=oracles.condition(given))


def _likelihood(given: Case, *, covariance: Formula = oracles.rescaling) -> float:
    """F* + (1/2) log det S + (d_y / 2) log 2 pi."""
    energy = oracles.energy(given, oracles.equilibrium(given))
    logarithms = np.linalg.slogdet(covariance(given))[1] + given.widths[-1] * np.log(2 * np.pi)
    return float(energy + logarithms / 2)


def _library_likelihood(given: Case) -> float:
    energy = pctheory.equilibrated_energy(given.net, given.x, given.y)
    logarithms = pctheory.rescaling_log_determinant(given.net) + given.widths[-1] * np.log(2 * np.pi)
    return float(energy + logarithms / 2)


def _likelihood_error(formula: Formula, given: Case) -> float:
    """Against the mean of -log p(y given x), from the joint Gaussian."""
    mean, covariance = _joint(given)
    d_y = given.widths[-1]
    density = multivariate_normal(np.zeros(d_y), covariance[-d_y:, -d_y:])
    expected = -np.mean(density.logpdf(given.y - mean[:, -d_y:]))
    return scaled_error(formula(given), expected, scale=oracles.scale(given, oracles.feedforward(given)) + d_y)


FALSE_LIKELIHOODS: dict[str, Formula] = {
    "without the log-determinant": lambda given: _likelihood(given, covariance=lambda g: np.eye(g.widths[-1])),
    "log det H_z for log det S": partial(_likelihood, covariance=lambda given: oracles.linear_system(given)[0]),
    "the loss for F*": lambda given: (
        _likelihood(given) + oracles.loss(given) - oracles.energy(given, oracles.equilibrium(given))
    ),
}
FALSE_POSTERIORS: dict[str, Formula] = {
    "covariance H_z": partial(_inference, inverse=False),
    "noise of variance 1": lambda given: _inference(at_unit_precision(given)),
}


@claim(
    key="own/likelihood",
    statement=r"""In the linear-Gaussian chain, $z_l$ with mean $A_l z_{l-1} + c_l$ and covariance $I / \pi_l$,
        $F^* + \frac{1}{2} \log \det S + \frac{d_y}{2} \log 2 \pi$ is the mean negative log-likelihood of $y$ given
        $x$: learning on $F^*$ leaves out the log-determinant. And $z^*$ is the posterior mean, $H_z^{-1}$ the
        posterior covariance of the hidden activities.""",
    hypotheses=("positive precisions", "any depth, widths, scalings, skips and biases"),
    attribution="own",
    source="derived here",
    uses=("saddles-2024/equilibrated-energy", "mupc-2025/activity-solution", "own/determinant"),
)
def likelihood(check: Check) -> None:
    check.proof(
        "marginals layer by layer, posterior by completing the square",
        [induction.posterior(), induction.posterior(SIZES)],
        twins={
            "without the log-determinant": induction.posterior(
                likelihood=lambda e, log_det, constant: e + constant
            ),
            "noise of variance 1": induction.posterior(
                recursion=lambda l: l.identity + l.map @ l.rescaling_below @ l.map.T
            ),
        },
    )
    check.exact(
        "the posterior against conditioning in fractions",
        rational_cases(40, seed=510, depths=(2, 4)),
        partial(_posterior_remainder, _inference),
        twins=judged(_posterior_remainder, FALSE_POSTERIORS),
    )
    check.property(
        "the posterior against conditioning, depth 2 to 6",
        random_cases(300, seed=511, depths=(2, 6)),
        partial(_posterior_error, _inference),
        twins=judged(_posterior_error, FALSE_POSTERIORS),
        seed=511,
    )
    check.property(
        "the likelihood against the density of y, depth 1 to 6",
        random_cases(300, seed=512),
        partial(_likelihood_error, _likelihood),
        twins=judged(_likelihood_error, FALSE_LIKELIHOODS),
        seed=512,
    )
    check.property(
        "the library's energy and log-determinant against the density of y",
        FEW,
        partial(_likelihood_error, _library_likelihood),
        twins=judged(_likelihood_error, FALSE_LIKELIHOODS),
    )
