r"""The origin as a saddle, of the loss and of the equilibrated energy.

Claims
    saddles-2024/loss-hessian-origin   what curvature the loss has there
    saddles-2024/saddle-order          along rays the loss leaves at order H + 1, F* at order 2
    saddles-2024/origin-strict         the Hessian of F* there

Notation: A_l = a_l W_l, D_l = a_l (move of W_l), C_l = D_l ... D_1, second moments Sigma_yy, Sigma_yx of the batch.
Independent route: power series through the oracles (`_curvature`), in which the closed forms do not occur.

Reference: F. Innocenti, E. M. Achour, R. Singh, C. L. Buckley, NeurIPS 2024, arXiv 2408.11979.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

import pctheory
from paper_checks._curvature import (
    OBJECTIVES,
    PLAIN,
    Form,
    Ray,
    curvature_error,
    curvature_remainder,
    eigenvalues,
    few_weights,
    hessian_scale,
    is_semidefinite,
    moment,
    rays,
    spectrum_error,
)
from pctheory import induction
from pctheory.claims import Check, claim, judged, largest, scaled_error
from tests import series
from tests.cases import SIZES, Case, Formula, random_cases, rational_cases


def _at_origin(cases: Iterable[Case]) -> list[Case]:
    return [replace(given, weights=[0 * w for w in given.weights]) for given in cases]


def _loss_form(ray: Ray, *, hidden_layers: int = 1) -> Any:
    """-2 mean y^T D_L D_1 x with one hidden layer, otherwise 0."""
    given, (first, *_, last) = ray.given, (a * d for a, d in zip(ray.given.scalings, ray.moves, strict=True))
    if given.depth - 1 > hidden_layers:
        return 0 * given.scalings[0]
    return -2 * np.sum(moment(given.y, given.x) * (last @ first))


def _loss_spectrum(given: Case, *, copies: int | None = None) -> np.ndarray:
    """+- a_1 a_2 sigma_k(Sigma_yx), N_1 times each (or `copies` times), and zeros."""
    spectrum = np.zeros(sum(w.size for w in given.weights))
    if given.depth == 2:
        sigma = np.prod(given.scalings) * np.linalg.svd(moment(given.y, given.x), compute_uv=False)
        nonzero = np.tile(np.concatenate([sigma, -sigma]), given.widths[1] if copies is None else copies)
        spectrum[: len(nonzero)] = nonzero
    return spectrum


def _changed(option: str, objective: str, form: Form, ray: Ray) -> float:
    """The form put to the same network but for biases, or skips."""
    given, rng = ray.given, np.random.default_rng(ray.given.depth)
    biases = [rng.standard_normal(len(w)) for w in given.weights]
    skips = np.array([0.5 * (w.shape[0] == w.shape[1]) for w in given.weights])
    changed = {"biases": replace(given, biases=biases), "skips": replace(given, skips=skips)}[option]
    return curvature_error(objective, form, Ray(changed, ray.moves))


def _without_hypotheses(objective: str, form: Form) -> dict[str, Callable[[Ray], float]]:
    return {f"with {option}": partial(_changed, option, objective, form) for option in ("biases", "skips")}


def _library_spectrum(
    closed_form: Callable[..., pctheory.StructuredHessian], given: Case, *, repeated: bool = True
) -> np.ndarray:
    values, counts = closed_form(given.net, given.x, given.y).eigenvalues()
    return np.repeat(values, counts if repeated else np.r_[counts[:-1] * 0 + 1, sum(counts) - len(counts) + 1])


FALSE_LOSSES: dict[str, Form] = {
    "factor 2 left out": lambda ray: _loss_form(ray) / 2,
    "scalings left out": lambda ray: _loss_form(Ray(replace(ray.given, scalings=ray.given.scalings**0), ray.moves)),
    "Sigma_yy for Sigma_yx": lambda ray: (
        -2 * np.sum(moment(ray.given.y, ray.given.y) * (ray.moves[-1] @ ray.moves[-1].T))
    ),
}


@claim(
    key="saddles-2024/loss-hessian-origin",
    statement=r"""At the origin, with one hidden layer, the Hessian of the loss has only the blocks
        $-a_1 a_2 \Sigma_{yx}$ between $W_1$ and $W_2$; its eigenvalues are $\pm a_1 a_2 \sigma_k(\Sigma_{yx})$,
        $N_1$ times each, and 0. With more hidden layers it is zero.""",
    hypotheses=("no biases", "no skips", "at least one hidden layer", "any widths and scalings"),
    attribution="stated",
    source="saddles-2024; with scalings in the notation of this project",
)
def loss_hessian_origin(check: Check) -> None:
    check.proof(
        "eigenvectors with one hidden layer; no order below L along any ray",
        [
            *(induction.loss_at_origin(), induction.loss_at_origin(SIZES)),
            *(induction.ray_order(), induction.ray_order(SIZES)),
        ],
        twins={
            "the other sign": induction.loss_at_origin(sign=lambda side: side),
            "order L - 1": induction.ray_order(power=lambda layers: layers - 1),
        },
    )
    check.exact(
        "curvature along moves in fractions, depth 2 to 5",
        rays(_at_origin(rational_cases(60, seed=200, depths=(2, 5), **PLAIN))),
        partial(curvature_remainder, "loss", _loss_form),
        twins=judged(partial(curvature_remainder, "loss"), FALSE_LOSSES),
    )
    check.property(
        "curvature along moves, depth 2 to 7",
        rays(_at_origin(random_cases(300, seed=201, depths=(2, 7), **PLAIN)), each=1),
        partial(curvature_error, "loss", _loss_form),
        twins=judged(partial(curvature_error, "loss"), FALSE_LOSSES) | _without_hypotheses("loss", _loss_form),
        seed=201,
    )
    small = few_weights(_at_origin(random_cases(200, seed=202, depths=(2, 3), width=4, **PLAIN)), 16)
    check.property(
        "the whole spectrum, one and two hidden layers",
        small,
        partial(spectrum_error, "loss", _loss_spectrum),
        twins=judged(partial(spectrum_error, "loss"), {"each once": partial(_loss_spectrum, copies=1)}),
        seed=202,
    )
    library = partial(_library_spectrum, pctheory.loss_hessian_at_origin)
    check.property(
        "the library's spectrum",
        small[:30],
        partial(spectrum_error, "loss", library),
        twins=judged(partial(spectrum_error, "loss"), {"each once": partial(library, repeated=False)}),
    )


def _loss_terms(ray: Ray, *, order: int | None = None) -> np.ndarray:
    """The change of the loss up to t^L: 0 but at `order` (L), there -mean y^T C_L x."""
    given, product = ray.given, np.eye(ray.given.widths[0], dtype=int)
    for a, d in zip(given.scalings, ray.moves, strict=True):
        product = a * d @ product
    terms = [0 * given.scalings[0]] * (given.depth + 1)
    terms[given.depth if order is None else order] = -np.sum(moment(given.y, given.x) * product)
    return np.array(terms)


def _energy_terms(ray: Ray) -> np.ndarray:
    """The change of F* up to t^2."""
    zero = 0 * ray.given.scalings[0]
    return np.array([zero, zero, _energy_form(ray) / 2])


def _terms_remainder(objective: str, terms: Form, ray: Ray) -> np.ndarray:
    expected, function = terms(ray), OBJECTIVES[objective]
    found = function(series.along(ray.given, ray.moves, len(expected) - 1))
    return expected - np.array([found[0] - function(ray.given), *(found[n] for n in range(1, len(expected)))])


def _order_error(objective: str, order: Callable[[int], int], ray: Ray) -> float:
    """`order(H)` against the slope of log |change| over log t from 2^-24 to 2^-20, the changes in fractions."""
    function, powers = OBJECTIVES[objective], range(20, 25)
    points = [replace(ray.given, weights=[d * Fraction(1, 2**n) for d in ray.moves]) for n in powers]
    changes = [abs(function(point) - function(ray.given)) for point in points]
    logarithms = [math.log2(change.numerator) - math.log2(change.denominator) for change in changes]
    return scaled_error(-np.polyfit(powers, logarithms, 1)[0], float(order(ray.given.depth - 1)))


@claim(
    key="saddles-2024/saddle-order",
    statement=r"""Along a ray $W_l = t V_l$ from the origin, with $D_l = a_l V_l$, the loss first changes at order
        $L = H + 1$ in t, by $-t^L\, \mathrm{mean}\, y^T D_L \cdots D_1 x$, and $F^*$ at order 2, whatever the
        depth: from two hidden layers on by
        $-\frac{t^2}{2} \frac{\pi_L^2}{\pi_{L-1}}\, \mathrm{mean}\, |D_L^T y|^2$.""",
    hypotheses=(
        "no biases",
        "no skips",
        "at least one hidden layer",
        "rays on which this coefficient does not vanish; on the others the order is higher",
    ),
    attribution="stated",
    source="saddles-2024; the coefficients, with scalings and precisions, are ours",
    uses=("saddles-2024/equilibrated-energy",),
)
def saddle_order(check: Check) -> None:
    check.proof(
        "a product of l maps has order l; the energy's second order at a zero-rank saddle",
        [
            *(induction.ray_order(), induction.ray_order(SIZES)),
            *(induction.zero_rank_hessian(), induction.zero_rank_hessian(SIZES)),
        ],
        twins={"order L + 1": induction.ray_order(power=lambda layers: layers + 1)},
    )
    origins = _at_origin(rational_cases(100, seed=210, depths=(2, 7), **PLAIN))
    every = rays(origins, each=1)
    check.exact(
        "the loss up to order L, depth 2 to 7",
        every,
        partial(_terms_remainder, "loss", _loss_terms),
        twins=judged(
            partial(_terms_remainder, "loss"), {"order H": lambda ray: _loss_terms(ray, order=ray.given.depth - 1)}
        ),
    )
    check.exact(
        "F* up to order 2, depth 2 to 7",
        every,
        partial(_terms_remainder, "energy", _energy_terms),
        twins=judged(partial(_terms_remainder, "energy"), {"no change": lambda ray: 0 * _energy_terms(ray)}),
    )
    telling = [ray for ray in every[:72] if _loss_terms(ray)[-1] and _energy_form(ray)]
    orders: dict[str, dict[str, Callable[[int], int]]] = {
        "loss": {"holds": lambda hidden: hidden + 1, "order H": lambda hidden: hidden},
        "energy": {"holds": lambda hidden: 2, "order H + 1, as the loss": lambda hidden: hidden + 1},
    }
    for objective, order in orders.items():
        holds = order.pop("holds")
        check.property(
            f"fitted order of the {objective}, H = 1 to 6, within 1 %",
            telling,
            partial(_order_error, objective, holds),
            twins=judged(partial(_order_error, objective), order),
            seed=210,
            bound=0.01,  # what the next terms of the series, smaller by a factor of order t, may change
        )


def _energy_form(ray: Ray, *, power: int = 1, mixed: int = 1) -> Any:
    """`mixed` pi_L times that of the loss, minus pi_L^2 / pi_{L-1}^power mean |D_L^T y|^2."""
    given = ray.given
    seen = given.y @ (given.scalings[-1] * ray.moves[-1])
    own = given.precisions[-1] ** 2 / given.precisions[-2] ** power * np.sum(seen**2) / len(seen)
    return mixed * given.precisions[-1] * _loss_form(ray) - own


def _least(given: Case, *, data: str = "y") -> float:
    """-(pi_L a_L)^2 / pi_{L-1} lambda_max(Sigma_yy)."""
    columns = getattr(given, data)
    strength = (given.precisions[-1] * given.scalings[-1]) ** 2 / given.precisions[-2]
    return float(-strength * np.linalg.eigvalsh(moment(columns, columns))[-1])


def _least_error(least: Formula, given: Case) -> float:
    """By how much the smallest eigenvalue misses it; with one hidden layer, by how much it is above."""
    missed = eigenvalues("energy", given)[0] - least(given)
    size = float(np.max(given.scalings)) ** 2 * hessian_scale(given)
    return scaled_error(abs(missed) if given.depth > 2 else largest(missed, 0.0), 0.0, scale=size)


def _strictness(strict: Callable[[Case], bool], given: Case) -> list[bool]:
    """Whether the claim is wrong: there is a move of negative curvature, or there is none."""
    return [strict(given) == is_semidefinite(series.hessian(series.least_energy, given))]


FALSE_FORMS: dict[str, Form] = {
    "the precision of layer L-1 left out": partial(_energy_form, power=0),
    "without the mixed blocks": partial(_energy_form, mixed=0),
    "the output's precision once less": lambda ray: _energy_form(ray) / ray.given.precisions[-1],
    "Sigma_xx for Sigma_yy": lambda ray: (
        _energy_form(Ray(replace(ray.given, y=ray.given.x), ray.moves))
        if ray.given.widths[0] == ray.given.widths[-1]
        else _energy_form(ray)
    ),
}


@claim(
    key="saddles-2024/origin-strict",
    statement=r"""At the origin the Hessian of $F^*$ has the block
        $-\frac{(\pi_L a_L)^2}{\pi_{L-1}} \Sigma_{yy} \otimes I$ of $W_L$, with one hidden layer also $\pi_L$ times
        the mixed blocks of the loss, and no other. From two hidden layers on
        $\lambda_{min} = -\frac{(\pi_L a_L)^2}{\pi_{L-1}} \lambda_{max}(\Sigma_{yy})$ at every depth; with one it is
        at most that. So the origin is a strict saddle if and only if $\Sigma_{yy} \ne 0$.""",
    hypotheses=("no biases", "no skips", "at least one hidden layer", "positive precisions", "scalings not 0"),
    attribution="stated",
    source="saddles-2024; with scalings and precisions in the notation of this project",
    uses=("saddles-2024/equilibrated-energy", "saddles-2024/loss-hessian-origin"),
)
def origin_strict(check: Check) -> None:
    check.proof(
        "second order at a zero-rank saddle, such as the origin",
        [induction.zero_rank_hessian(), induction.zero_rank_hessian(SIZES)],
        twins={
            "the output's precision once less": induction.zero_rank_hessian(
                form=lambda top: induction.zero_rank_form(top) / top.output_precision
            )
        },
    )
    check.exact(
        "curvature along moves in fractions, depth 2 to 5",
        rays(_at_origin(rational_cases(60, seed=220, depths=(2, 5), **PLAIN))),
        partial(curvature_remainder, "energy", _energy_form),
        twins=judged(partial(curvature_remainder, "energy"), FALSE_FORMS),
    )
    small = few_weights(_at_origin(rational_cases(60, seed=221, depths=(2, 4), **PLAIN)), 9)
    check.exact(
        "strict or not, by elimination in fractions, each also without targets",
        [*small, *(replace(given, y=0 * given.y) for given in small)],
        partial(_strictness, lambda given: bool(np.any(given.y))),
        twins=judged(_strictness, {"strict for y = 0": lambda given: True}),
    )
    check.property(
        "curvature along moves, depth 2 to 7",
        rays(_at_origin(random_cases(200, seed=222, depths=(2, 7), width=3, **PLAIN)), each=1),
        partial(curvature_error, "energy", _energy_form),
        twins=judged(partial(curvature_error, "energy"), FALSE_FORMS) | _without_hypotheses("energy", _energy_form),
        seed=222,
    )
    few = few_weights(_at_origin(random_cases(200, seed=223, depths=(2, 6), width=3, **PLAIN)), 12)
    check.property(
        "the smallest eigenvalue, depth 2 to 6",
        few,
        partial(_least_error, _least),
        twins=judged(_least_error, {"Sigma_xx for Sigma_yy": partial(_least, data="x")}),
        seed=223,
    )
    library = partial(_library_spectrum, pctheory.equilibrated_hessian_at_origin)
    check.property(
        "the library's spectrum",
        few[:30],
        partial(spectrum_error, "energy", library),
        twins=judged(
            partial(spectrum_error, "energy"),
            {"that of the loss": partial(_library_spectrum, pctheory.loss_hessian_at_origin)},
        ),
    )
