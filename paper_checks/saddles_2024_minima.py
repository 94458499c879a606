r"""Zero-rank saddles other than the origin, and the minima, of the loss and of the equilibrated energy.

Claims
    saddles-2024/zero-rank-saddles-strict   the Hessian of F* where W_L = 0 and M_{L-1:1} = 0
    saddles-2024/zero-rank-spectrum         its spectrum where all weights but W_{L-1} vanish
    saddles-2024/flatter-minima             the Hessian of F* where the loss vanishes

Notation: A_l = a_l W_l + s_l I, M_{k:l} = A_k ... A_l, P_l = M_{L:l+1}, D_l = a_l (move of W_l),
K = sum_{l<L} M_{L-1:l+1} M_{L-1:l+1}^T / pi_l, second moments Sigma_yy of the batch.
Independent route: power series through the oracles (`_curvature`), in which the closed forms do not occur.

Reference: F. Innocenti, E. M. Achour, R. Singh, C. L. Buckley, NeurIPS 2024, arXiv 2408.11979.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial, reduce
from typing import Any

import numpy as np

import pctheory
from paper_checks._curvature import (
    PLAIN,
    Form,
    Ray,
    curvature_error,
    curvature_remainder,
    eigenvalues,
    few_weights,
    hessian_scale,
    is_semidefinite,
    kernel,
    moment,
    rays,
    spectrum_error,
)
from pctheory import induction, saddles
from pctheory.claims import Check, claim, judged, largest, scaled_error
from pctheory.matrix_algebra import Expression
from tests import oracles, series
from tests.cases import SIZES, Case, Formula, case, random_cases, rational, rational_cases


def _zero_rank(cases: Iterable[Case]) -> Iterator[Case]:
    """W_L = 0 and M_{L-1:1} = 0, from depth 3: in turn A_1 = 0, A_{L-1} = 0, and A_2 A_1 = 0 with both not 0."""
    for i, given in enumerate(cases):
        weights, skips = [w.copy() for w in given.weights], given.skips.copy()
        weights[-1] *= 0
        skips[-1] *= 0
        if i % 3 == 2:
            skips[:2] *= 0
            weights[0][1:] *= 0
            weights[1][:, :1] *= 0
        else:
            l = 0 if i % 3 == 0 else given.depth - 2
            weights[l] *= 0
            skips[l] *= 0
        yield replace(given, weights=weights, skips=skips)


def _with_output_bias(given: Case) -> Case:
    """A bias of 1, 2, .. at the output: it shifts the targets."""
    return replace(given, biases=[*given.biases[:-1], given.biases[-1] + np.arange(1, given.widths[-1] + 1)])


def _rate(ray: Ray) -> np.ndarray:
    """By how much the activities m_{L-1} move to first order, rows are examples."""
    z, rate = ray.given.x, 0 * ray.given.x
    for a, scaling, d in zip(ray.given.maps[:-1], ray.given.scalings, ray.moves, strict=False):
        z, rate = z @ a.T, rate @ a.T + z @ (scaling * d).T
    return rate


def _loss_form(ray: Ray) -> Any:
    """-2 mean r^T D_L m'."""
    moved = _rate(ray) @ (ray.given.scalings[-1] * ray.moves[-1]).T
    return -2 * np.sum(oracles.residual(ray.given) * moved) / len(moved)


def _form(ray: Ray, *, stiffness: Formula = kernel, mixed: int = 1) -> Any:
    """`mixed` pi_L times that of the loss, minus pi_L^2 mean r^T D_L K D_L^T r."""
    given = ray.given
    seen = oracles.residual(given) @ (given.scalings[-1] * ray.moves[-1])
    own = given.precisions[-1] ** 2 * np.sum(seen @ stiffness(given) * seen) / len(seen)
    return mixed * given.precisions[-1] * _loss_form(ray) - own


def _strength(given: Case) -> Any:
    return (given.precisions[-1] * given.scalings[-1]) ** 2


def _least(given: Case, *, stiffness: Formula = kernel) -> float:
    """-(pi_L a_L)^2 lambda_max(Sigma_yy) lambda_max(K)."""
    top = np.linalg.eigvalsh(moment(given.y, given.y))[-1] * np.linalg.eigvalsh(stiffness(given))[-1]
    return float(-_strength(given) * top)


def _excess(bound: Formula, given: Case) -> float:
    """By how much the smallest eigenvalue is above the bound, or the bound above that with K = I / pi_{L-1}."""
    weakest = _least(given, stiffness=lambda g: np.eye(g.widths[-2]) / g.precisions[-2])
    least, claimed = eigenvalues("energy", given)[0], bound(given)
    size = float(np.max(given.scalings)) ** 2 * hessian_scale(given)
    return scaled_error(largest(least - claimed, claimed - weakest, 0.0), 0.0, scale=size)


def _lower_with_rate(given: Case) -> float:
    """As if the largest singular value of the loss's blocks came on top."""
    return _least(given) - float(np.abs(series.hessian(oracles.loss, given)).max())


def _identity(given: Case) -> np.ndarray:
    return np.eye(given.widths[-2], dtype=int) + 0 * given.precisions[0]


def _form_with_identity(top: induction.ZeroRank) -> Expression:
    """The certificate's form with I in the place of K = S_{L-1}."""
    seen = top.move.T @ top.residual
    excess = seen.T @ (top.rescaling - top.identity) @ seen
    return induction.zero_rank_form(top) + top.output_precision**2 / 2 * excess


ENERGY = saddles.Derivatives(pctheory.equilibrated_energy, pctheory.weight_gradient, pctheory.weight_hessian_dense)
NEARBY = (  # networks whose nearest saddle keeps a part of W_1, and one where that is 0
    case("", (2, 3, 2, 2), seed=233, scalings=True, precisions=True),
    case("", (2, 2, 2, 1), seed=234, precisions=True),
)


def _library_error(end: int, given: Case) -> float:
    """What is left of M_{L-1:1} and W_L at the library's saddle, and whether it is told for what it is."""
    net = saddles.zero_rank_saddle(given.net)
    there = replace(given, weights=[np.asarray(w) for w in net.weights])
    product = reduce(lambda below, a: a @ below, there.maps[:-1])
    found = saddles.classification(net, given.x, given.y, ENERGY)
    return largest(
        scaled_error(product, 0 * product, scale=1.0),
        scaled_error(there.weights[-1], 0 * there.weights[-1], scale=1.0),
        scaled_error(found.smallest, eigenvalues("energy", there)[end], scale=hessian_scale(there)),
        float(found.kind != "strict saddle"),
    )


def _not_vanishing(form: Form, ray: Ray) -> float:
    """Put to a network whose product M_{L-1:1} is not 0."""
    weights = [w + 1 for w in ray.given.weights[:-1]]
    elsewhere = replace(ray.given, weights=[*weights, ray.given.weights[-1]])
    return curvature_error("energy", form, Ray(elsewhere, ray.moves))


def _with_hidden_biases(form: Form, ray: Ray) -> float:
    biases = [c + 1 for c in ray.given.biases[:-1]]
    return curvature_error(
        "energy", form, Ray(replace(ray.given, biases=[*biases, ray.given.biases[-1]]), ray.moves)
    )


FALSE_FORMS: dict[str, Form] = {
    "K replaced by I": partial(_form, stiffness=_identity),
    "without the blocks of the loss": partial(_form, mixed=0),
    "the output's precision once less": lambda ray: _form(ray) / ray.given.precisions[-1],
}


@claim(
    key="saddles-2024/zero-rank-saddles-strict",
    statement=r"""Where $W_L = 0$ and $M_{L-1:1} = 0$ the Hessian of $F^*$ has the block
        $-(\pi_L a_L)^2 \Sigma_{yy} \otimes K$ of $W_L$, no other diagonal block, and off the diagonal $\pi_L$ times
        the blocks of the loss. So
        $\lambda_{min} \le -(\pi_L a_L)^2 \lambda_{max}(\Sigma_{yy}) \lambda_{max}(K)$, which is at most
        $-\frac{(\pi_L a_L)^2}{\pi_{L-1}} \lambda_{max}(\Sigma_{yy})$: a strict saddle if $\Sigma_{yy} \ne 0$.""",
    hypotheses=(
        "at least one hidden layer",
        "no biases of hidden layers; one of the output is subtracted from y in $\\Sigma_{yy}$",
        "no skip to the output; others are inside the maps",
        "positive precisions",
    ),
    attribution="stated",
    source="saddles-2024; with scalings, skips and precisions in the notation of this project",
    uses=("saddles-2024/equilibrated-energy",),
)
def zero_rank_saddles_strict(check: Check) -> None:
    check.proof(
        "second order in all weights",
        [induction.zero_rank_hessian(), induction.zero_rank_hessian(SIZES)],
        twins={
            "K replaced by I": induction.zero_rank_hessian(form=_form_with_identity),
            "half the block": induction.zero_rank_hessian(form=lambda top: induction.zero_rank_form(top) / 2),
        },
    )
    exact = _zero_rank(rational_cases(60, seed=230, depths=(3, 5), biases=False))
    check.exact(
        "curvature along moves in fractions, depth 3 to 5, half of them with a bias of the output",
        rays(_with_output_bias(given) if i % 2 else given for i, given in enumerate(exact)),
        partial(curvature_remainder, "energy", _form),
        twins=judged(partial(curvature_remainder, "energy"), FALSE_FORMS),
    )
    check.property(
        "curvature along moves, depth 3 to 7",
        rays(_zero_rank(random_cases(200, seed=231, depths=(3, 7), width=3, biases=False)), each=1),
        partial(curvature_error, "energy", _form),
        twins=judged(partial(curvature_error, "energy"), FALSE_FORMS)
        | {
            "where M_{L-1:1} is not 0": partial(_not_vanishing, _form),
            "with biases of hidden layers": partial(_with_hidden_biases, _form),
        },
        seed=231,
    )
    small = _zero_rank(random_cases(300, seed=232, depths=(3, 6), width=3, biases=False))
    check.property(
        "the smallest eigenvalue, depth 3 to 6",
        few_weights(small, 12),
        partial(_excess, _least),
        twins=judged(_excess, {"lower still by the blocks of the loss": _lower_with_rate}),
        seed=232,
    )
    check.property(
        "the library's nearest saddle, its kind and its smallest eigenvalue",
        NEARBY,
        partial(_library_error, 0),
        twins=judged(_library_error, {"its largest eigenvalue": -1}),
    )


def _only_below_output(cases: Iterable[Case]) -> list[Case]:
    """All weights 0 but W_{L-1}."""
    return [
        replace(given, weights=[w if l == given.depth - 2 else 0 * w for l, w in enumerate(given.weights)])
        for given in cases
    ]


def _products(given: Case, *, stiffness: Formula = kernel) -> np.ndarray:
    """-(pi_L a_L)^2 lambda_i(Sigma_yy) lambda_j(K), and zeros."""
    pairs = np.outer(np.linalg.eigvalsh(moment(given.y, given.y)), np.linalg.eigvalsh(stiffness(given)))
    spectrum = np.zeros(sum(w.size for w in given.weights))
    spectrum[: pairs.size] = -_strength(given) * pairs.ravel()
    return spectrum


def _library_spectrum(given: Case) -> np.ndarray:
    return np.repeat(*pctheory.equilibrated_hessian_at_zero_rank(given.net, given.x, given.y).eigenvalues())


# One unit in each layer, x = y = 1, w_2 = 1: the Hessian is [[0, 0, -1], [0, 0, 0], [-1, 0, -2]].
ONE = Fraction(1)
SMALLEST = replace(
    rational(case("two hidden units in a row", (1, 1, 1, 1), seed=0, batch=1)),
    weights=[np.array([[ONE * w]]) for w in (0, 1, 0)],
    x=np.array([[ONE]]),
    y=np.array([[ONE]]),
)


@claim(
    key="saddles-2024/zero-rank-spectrum",
    statement=r"""Where all weights are 0 but $W_{L-1}$, and there are at least three hidden layers, the spectrum of
        the Hessian of $F^*$ is $-(\pi_L a_L)^2 \lambda_i(\Sigma_{yy}) \lambda_j(K)$ with
        $K = I / \pi_{L-1} + A_{L-1} A_{L-1}^T / \pi_{L-2}$, and 0. With two hidden layers it is not: the block of
        the loss between $W_1$ and $W_3$ does not vanish.""",
    hypotheses=("no biases", "no skips", "positive precisions"),
    attribution="own",
    source="saddles-2024 has such saddles; which depths the spectrum holds for was found here",
    uses=("saddles-2024/zero-rank-saddles-strict",),
)
def zero_rank_spectrum(check: Check) -> None:
    check.proof(
        "what does not move at first order, and K",
        [induction.zero_rank_hessian(), induction.zero_rank_hessian(SIZES)],
        twins={
            "no mixed block with two hidden layers": induction.zero_rank_hessian(
                second_rate=lambda two: 0 * two.map @ two.map.T @ two.activity
            )
        },
    )
    three = rays(_only_below_output(rational_cases(60, seed=240, depths=(4, 6), **PLAIN)))
    check.exact(
        "from three hidden layers on W_L's block is all there is, in fractions",
        three,
        partial(curvature_remainder, "energy", partial(_form, mixed=0)),
        twins=judged(partial(curvature_remainder, "energy"), {"K replaced by I": FALSE_FORMS["K replaced by I"]}),
    )
    few = few_weights(_only_below_output(random_cases(300, seed=241, depths=(4, 6), width=3, **PLAIN)), 14)
    check.property(
        "the whole spectrum, three to five hidden layers",
        few,
        partial(spectrum_error, "energy", _products),
        twins=judged(
            partial(spectrum_error, "energy"), {"K replaced by I": partial(_products, stiffness=_identity)}
        ),
        seed=241,
    )
    two = few_weights(_only_below_output(random_cases(60, seed=242, depths=(3, 3), width=3, **PLAIN)), 14)
    check.property(
        "the library's spectrum, two to five hidden layers",
        [*two[:20], *few[:20]],
        partial(spectrum_error, "energy", _library_spectrum),
        twins=judged(partial(spectrum_error, "energy"), {"the products, two hidden layers included": _products}),
    )
    found = series.hessian(series.least_energy, SMALLEST)
    expected = np.array([[0, 0, -1], [0, 0, 0], [-1, 0, -2]])
    check.difference(
        "two hidden layers",
        bool(np.all(found == expected)) and not is_semidefinite(found) and not is_semidefinite(-found),
        "chain of two hidden units, x = y = 1, weights (0, 1, 0): the Hessian is "
        "[[0, 0, -1], [0, 0, 0], [-1, 0, -2]] with eigenvalues -1 - sqrt 2, 0, -1 + sqrt 2; "
        "the products alone would be -2, 0, 0",
    )


def _at_minima(cases: Iterable[Case]) -> list[Case]:
    """Targets that the network meets exactly."""
    return [replace(given, y=oracles.feedforward(given)[-1]) for given in cases]


def _at_unit_output_precision(cases: Iterable[Case]) -> list[Case]:
    return [
        replace(given, precisions=np.append(given.precisions[:-1], given.precisions[-1] ** 0)) for given in cases
    ]


def _gauss_newton(ray: Ray, *, weight: Callable[[Case, np.ndarray], np.ndarray] | None = None) -> Any:
    """mean p^T S^-1 p, or of another `weight` on p = sum_l P_l D_l z_{l-1}, by which the predictions move."""
    given = ray.given
    below = [given.x, *oracles.feedforward(given)]
    terms = zip(oracles.output_maps(given), given.scalings, ray.moves, below, strict=False)
    moved = sum(z @ (p @ (a * d)).T for p, a, d, z in terms)
    weighted = oracles.solve(oracles.rescaling(given), moved.T) if weight is None else weight(given, moved.T)
    return np.sum(moved * weighted.T) / len(moved)


def _violations(scales: Callable[[Case], tuple[Any, Any]], given: Case) -> list[bool]:
    """Whether Hess F* is not between the two multiples of Hess loss, in the order of semidefinite matrices."""
    energy, loss = (series.hessian(function, given) for function in (series.least_energy, oracles.loss))
    low, high = scales(given)
    return [not is_semidefinite(energy - low * loss), not is_semidefinite(high * loss - energy)]


def _trace(given: Case) -> Any:
    """A rational bound on the largest eigenvalue of S."""
    return np.trace(oracles.rescaling(given))


def _sandwich_error(
    bounds: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]], given: Case
) -> float:
    """By how much an eigenvalue of Hess F* is outside the bounds, functions of those of Hess loss and of S."""
    energy, loss = eigenvalues("energy", given), eigenvalues("loss", given)
    low, high = bounds(loss, np.linalg.eigvalsh(oracles.rescaling(given)))
    outside = max(np.max(low - energy), np.max(energy - high), 0.0)
    size = float(np.abs(loss).max()) * max(1.0, float(given.precisions[-1]))
    return scaled_error(outside, 0.0, scale=size, condition=oracles.condition(given))


FALSE_MINIMA: dict[str, Form] = {
    "that of the loss": partial(_gauss_newton, weight=lambda given, moved: moved),
    "S for its inverse": partial(_gauss_newton, weight=lambda given, moved: oracles.rescaling(given) @ moved),
    "without precisions": partial(
        _gauss_newton,
        weight=lambda given, moved: oracles.solve(
            np.sum([p @ p.T for p in oracles.output_maps(given)], axis=0), moved
        ),
    ),
}


@claim(
    key="saddles-2024/flatter-minima",
    statement=r"""Where the loss $\mathcal{L}$ vanishes, with $J$ the derivative of the predictions in the weights,
        the Hessians are $\mathrm{mean}\, J^T J$ of the loss and $\mathrm{mean}\, J^T S^{-1} J$ of $F^*$. So
        $0 \le \mathrm{Hess}\, F^* \le \pi_L\, \mathrm{Hess}\, \mathcal{L}$, and for every k
        $\lambda_k(F^*)$ is between $\lambda_k(\mathcal{L}) / \lambda_{max}(S)$ and
        $\lambda_k(\mathcal{L}) / \lambda_{min}(S)$: at unit precision the minima of $F^*$ are flatter.""",
    hypotheses=(
        "the residual of every example is 0",
        "positive precisions",
        "any depth, widths, scalings, skips and biases",
    ),
    attribution="reconstructed",
    source="saddles-2024 is known to find flatter minima; the form given here, with precisions, is ours",
    uses=("saddles-2024/equilibrated-energy",),
)
def flatter_minima(check: Check) -> None:
    check.proof(
        "Gauss-Newton, and what lies between it and the bounds as sums of squares",
        [induction.minimum_hessian(), induction.minimum_hessian(SIZES)],
        twins={
            "where the residual is not 0": induction.minimum_hessian(residual=lambda r: r),
            "reversed": induction.minimum_hessian(bound=lambda least: least),
            "that of the loss": induction.minimum_hessian(form=lambda rate, inverse: (rate.T @ rate) / 2),
        },
    )
    minima = _at_minima(rational_cases(60, seed=250, depths=(1, 4)))
    away = partial(_elsewhere, curvature_remainder)
    check.exact(
        "curvature along moves in fractions, depth 1 to 4",
        rays(minima),
        partial(curvature_remainder, "energy", _gauss_newton),
        twins=judged(partial(curvature_remainder, "energy"), FALSE_MINIMA)
        | {"where the loss does not vanish": partial(away, "energy", _gauss_newton)},
    )
    check.exact(
        "between multiples of the Hessian of the loss, by elimination in fractions",
        few_weights(_at_minima(rational_cases(60, seed=251, depths=(2, 4))), 9),
        partial(_violations, lambda given: (1 / _trace(given), given.precisions[-1])),
        twins=judged(
            _violations,
            {
                "reversed": lambda given: (given.precisions[-1], 1 + 1 / _trace(given)),
                "flatter at any output precision": lambda given: (1 / _trace(given), 1),
            },
        ),
    )
    check.property(
        "curvature along moves, depth 1 to 6",
        rays(_at_minima(random_cases(300, seed=252, width=3)), each=1),
        partial(curvature_error, "energy", _gauss_newton),
        twins=judged(partial(curvature_error, "energy"), FALSE_MINIMA),
        seed=252,
    )
    check.property(
        "every eigenvalue within its bounds, depth 1 to 5",
        few_weights(_at_minima(random_cases(250, seed=253, depths=(1, 5), width=3)), 12),
        partial(_sandwich_error, lambda loss, s: (loss / s[-1], loss / s[0])),
        twins=judged(
            _sandwich_error,
            {
                "the bounds exchanged": lambda loss, s: (loss / s[0], loss / s[-1]),
                "no flatter than the loss": lambda loss, s: (loss, loss / s[0]),
            },
        ),
        seed=253,
    )


def _elsewhere(judge: Callable[[str, Form, Ray], Any], objective: str, form: Form, ray: Ray) -> Any:
    """The form put to targets that the network misses."""
    return judge(objective, form, Ray(replace(ray.given, y=ray.given.y + 1), ray.moves))
