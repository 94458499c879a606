r"""Curvature without forming a Hessian: products, the ends of the spectrum, its density, and planes to look at.

Claims
    own/hessian-products    the derivative of the gradient along a direction, and what Lanczos finds with it
    own/spectral-density    what some steps of Lanczos from random vectors say about all eigenvalues
    own/landscape-planes    what an objective on a plane of networks shows of its gradient and its curvature

Notation: H is the Hessian of the loss or of F* in all weights, n of them; D has the directions of a line or plane
as rows. A rule of k nodes has the weights w_i and nodes theta_i, eigenvalues of the k x k matrix T of Lanczos.
Independent routes: power series through the oracles (`_curvature`), Lanczos in fractions, spectra in closed form.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, partial
from itertools import product
from typing import Any, Literal

import numpy as np

import pctheory
from paper_checks._curvature import OBJECTIVES, Ray, curvature_error, hessian_scale, rays
from pctheory import curvature, landscape
from pctheory.claims import Check, claim, judged, largest, scaled_error
from tests import oracles, series
from tests.cases import FEW, Case, Formula, case

LIBRARY: dict[str, Callable[..., Any]] = {"loss": pctheory.loss, "energy": pctheory.equilibrated_energy}


def _vector(ray: Ray) -> np.ndarray:
    return oracles.flat([np.asarray(move, dtype=float) for move in ray.moves])


def _at_origin(given: Case) -> Case:
    return replace(given, weights=[0 * w for w in given.weights])


# --- own/hessian-products ---


def _form_of_product(objective: str, ray: Ray, *, order: Literal["C", "F"] = "C") -> float:
    """d^T H d by the library; `order` F reads each W_l column by column."""
    given, moves = ray.given, [np.asarray(move, dtype=float) for move in ray.moves]
    operator = curvature.weight_hessian_operator(LIBRARY[objective], given.net, given.x, given.y)
    moved = np.concatenate([move.ravel(order) for move in moves])
    return float(moved @ operator.matvec(moved))


FALSE_PRODUCTS: dict[str, Callable[[str, Ray], float]] = {
    "summed over the batch": lambda objective, ray: len(ray.given.x) * _form_of_product(objective, ray),
    "weights column by column": partial(_form_of_product, order="F"),
    "the loss's for F*'s": lambda objective, ray: _form_of_product("loss", ray),
}


def _product_error(form: Callable[[str, Ray], float], case: tuple[str, Ray]) -> float:
    objective, ray = case
    return curvature_error(objective, partial(form, objective), ray)


def _local_rule(given: Case) -> list[np.ndarray]:
    """The library's, at the equilibrium of the dense linear system."""
    found = pctheory.partial_weight_gradient(given.net, oracles.equilibrium(given), given.x, given.y)
    return [np.asarray(g) for g in found]


def _slope_error(gradient: Formula, ray: Ray) -> float:
    """The gradient of F* along the move, against power series."""
    given = ray.given
    slope = sum(np.sum(g * d) for g, d in zip(gradient(given), ray.moves, strict=True))
    size = oracles.scale(given, oracles.equilibrium(given)) * float(np.linalg.norm(_vector(ray)))
    expected = series.least_energy(series.along(given, ray.moves, 1))[1]
    return scaled_error(slope, expected, scale=size, condition=oracles.condition(given))


FALSE_RULES: dict[str, Formula] = {
    "scalings left out": lambda given: [g / a for g, a in zip(_local_rule(given), given.scalings, strict=True)],
    "summed over the batch": lambda given: [len(given.x) * g for g in _local_rule(given)],
}


@dataclass(frozen=True, eq=False)
class Saddle:
    """The origin of a network, and how many eigenvalues at each end are asked for."""

    objective: str
    given: Case
    count: int


SADDLES = (
    Saddle("loss", _at_origin(case("", (3, 4, 2), seed=700, scalings=True)), 3),
    Saddle("energy", _at_origin(case("", (3, 4, 2), seed=700, scalings=True, precisions=True)), 3),
    Saddle("energy", _at_origin(case("", (2, 3, 3, 2), seed=701, precisions=True)), 4),
    Saddle("loss", _at_origin(case("", (40, 50, 6), seed=702)), 2),  # 2300 weights: by Lanczos
)


def _origin_spectrum(saddle: Saddle) -> np.ndarray:
    """With one hidden layer the loss has +- a_1 a_2 sigma_k(Sigma_yx), N_1 times each; F* by power series."""
    given = saddle.given
    if saddle.objective == "energy":
        return np.linalg.eigvalsh(series.hessian(OBJECTIVES["energy"], given))
    sigma = np.prod(given.scalings) * np.linalg.svd(given.y.T @ given.x / len(given.x), compute_uv=False)
    spectrum = np.zeros(sum(w.size for w in given.weights))
    repeated = np.repeat(sigma, given.widths[1])
    spectrum[: 2 * len(repeated)] = np.concatenate([repeated, -repeated])
    return np.sort(spectrum)


def _extremes_error(ends: Callable[[np.ndarray, int], np.ndarray], saddle: Saddle) -> float:
    given, spectrum = saddle.given, _origin_spectrum(saddle)
    operator = curvature.weight_hessian_operator(LIBRARY[saddle.objective], given.net, given.x, given.y)
    found = curvature.extreme_eigenpairs(operator, count=saddle.count, tolerance=1e-10)
    errors = [scaled_error(np.r_[found.lowest, found.highest], ends(spectrum, saddle.count))]
    for values, vectors in ((found.lowest, found.lowest_vectors), (found.highest, found.highest_vectors)):
        off = [operator.matvec(v) - value * v for value, v in zip(values, vectors.T, strict=True)]
        errors.append(scaled_error(np.array(off), 0 * np.array(off), scale=float(np.abs(spectrum).max())))
    return largest(*errors)


def _ends(spectrum: np.ndarray, count: int) -> np.ndarray:
    return np.r_[spectrum[:count], spectrum[::-1][:count]]


def _distinct_ends(spectrum: np.ndarray, count: int) -> np.ndarray:
    """As if each eigenvalue were found once, and 0 where there are no more."""
    once = np.unique(spectrum.round(12))
    return _ends(np.r_[once[once < 0], np.zeros(2 * count), once[once > 0]], count)


@claim(
    key="own/hessian-products",
    statement=r"""The derivative of the weight gradient along $d$ is $H d$, for $F^*$ through its gradient in closed
        form, the local rule at the equilibrium: no entry of $H$ is formed, and $d^T H d$ is twice the coefficient
        of $t^2$ on the ray $W + t d$. Block Lanczos on such products finds the eigenvalues at both ends of the
        spectrum as often as they are repeated: at the origin those of the closed forms.""",
    hypotheses=("any widths, scalings, skips, biases and precisions", "the origin: without biases and skips"),
    attribution="own",
    source="derived here; Pearlmutter 1994 for the products, Golub and Underwood 1977 for block Lanczos",
    uses=("saddles-2024/envelope", "saddles-2024/loss-hessian-origin"),
)
def hessian_products(check: Check) -> None:
    moves = rays((FEW[0], FEW[2], FEW[4]))
    cases = [(objective, ray) for objective in LIBRARY for ray in moves]
    check.property(
        "the local rule at the equilibrium along moves, against power series",
        moves,
        partial(_slope_error, _local_rule),
        twins=judged(_slope_error, FALSE_RULES),
    )
    check.property(
        "curvature along moves, depth 2 to 6, against power series",
        cases,
        partial(_product_error, _form_of_product),
        twins=judged(_product_error, FALSE_PRODUCTS),
    )
    check.property(
        "the ends of the spectrum at the origin",
        SADDLES,
        partial(_extremes_error, _ends),
        twins=judged(
            _extremes_error,
            {"each once": _distinct_ends, "the ends exchanged": lambda values, count: -_ends(values, count)},
        ),
        bound=1e-9,  # ten times the tolerance asked for: the residual bounds the error of an eigenvalue
    )


# --- own/spectral-density ---


@dataclass(frozen=True, eq=False)
class Started:
    """A symmetric matrix and a start, in fractions, and a number of steps."""

    matrix: np.ndarray
    start: np.ndarray
    steps: int


def _started(seed: int) -> Started:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(4, 6))
    half = rng.integers(-2, 3, (size, size))
    fractions = np.vectorize(Fraction, otypes=[object])
    return Started(fractions(half + half.T), fractions(rng.integers(1, 4, size)), int(rng.integers(1, size - 1)))


def _quadrature(given: Started) -> np.ndarray:
    """T, similar to that of Lanczos: its vectors here have the leading coefficient 1 instead of the length 1."""
    matrix = np.zeros((given.steps, given.steps), dtype=object) + Fraction(0)
    before, now = 0 * given.start, given.start
    for k in range(given.steps):
        image = given.matrix @ now
        matrix[k, k] = (now @ image) / (now @ now)
        above = (now @ now) / (before @ before) if k else Fraction(0)
        if k:
            matrix[k - 1, k], matrix[k, k - 1] = above, Fraction(1)
        before, now = now, image - matrix[k, k] * now - above * before
    return matrix


def _moment_remainder(powers: Callable[[int], int], given: Started) -> np.ndarray:
    """(T^j)_11 |v|^2 - v^T A^j v for all j below the number of powers."""
    rule = _quadrature(given)
    inside, outside = np.eye(given.steps, dtype=int)[0] * Fraction(1), given.start
    found = []
    for _ in range(powers(given.steps)):
        found.append(inside[0] * (given.start @ given.start) - given.start @ outside)
        inside, outside = rule @ inside, given.matrix @ outside
    return np.array(found)


def _probe_remainder(given: Started, *, trace: int = 1) -> Fraction:
    """The mean of v^T A^2 v / |v|^2 over all vectors of signs, minus tr A^2 / n."""
    square = given.matrix @ given.matrix
    size = len(square)
    signs = [np.array(v) for v in product((-1, 1), repeat=size)]
    mean = sum(v @ square @ v for v in signs) / (len(signs) * Fraction(size))
    return mean - trace * sum(np.diag(square)) / (Fraction(size) if trace == 1 else 1)


DENSE_POINTS = np.linspace(-1.0, 1.0, 5)
WIDTH, PROBES = 0.2, 200
STANDARD_ERRORS = 5.0  # of the mean over the probes; five correlated points


@cache
def _density(seed: int) -> tuple[np.ndarray, curvature.SpectralDensity]:
    """The spectrum of the loss at an origin, and its estimate."""
    given = _at_origin(case("", (4, 5, 2), seed=seed))
    operator = curvature.weight_hessian_operator(pctheory.loss, given.net, given.x, given.y)
    estimate = curvature.spectral_density(
        operator, points=DENSE_POINTS, width=WIDTH, probes=PROBES, steps=12, seed=seed
    )
    return _origin_spectrum(Saddle("loss", given, 1)), estimate


def _density_error(changed: Callable[[np.ndarray], np.ndarray], seed: int, *, width: float = WIDTH) -> float:
    """In standard errors."""
    spectrum, found = _density(seed)
    bumps = np.exp(-(((DENSE_POINTS[:, None] - changed(spectrum)) / width) ** 2) / 2)
    exact = bumps.mean(axis=1) / (np.sqrt(2 * np.pi) * width)
    return largest(*(np.abs(found.density - exact) / found.standard_error))


def _identity_error(height: float, multiple: float) -> float:
    """Multiples of the identity need one step, and their density is one bump: its area, and its height."""
    points = multiple + np.linspace(-8, 8, 161) * WIDTH
    found = curvature.spectral_density(multiple * np.eye(6), points=points, width=WIDTH, probes=3)
    area = float(found.density.sum()) * (points[1] - points[0])  # exact to rounding for a function so smooth
    top = float(found.density.max()) * np.sqrt(2 * np.pi) * WIDTH
    return largest(scaled_error(area, 1.0), scaled_error(top, height))


@claim(
    key="own/spectral-density",
    statement=r"""After $k$ steps of Lanczos from a unit vector $v$, $\sum_i w_i p(\theta_i) = v^T p(A) v$ for every
        polynomial of degree up to $2k - 1$, and for uniform $v$ the mean of $v^T f(A) v$ is
        $\mathrm{tr} f(A) / n$. So means over random starts estimate the density of all eigenvalues, each widened to
        a normal density, without bias once $k$ resolves the width.""",
    hypotheses=("A symmetric", "exact arithmetic, or vectors kept orthogonal"),
    attribution="own",
    source="Golub and Welsch 1969; Lin, Saad and Yang 2016; checked here",
    uses=("own/hessian-products",),
)
def spectral_density(check: Check) -> None:
    started = [_started(seed) for seed in range(30)]
    check.exact(
        "moments of the rule in fractions",
        started,
        partial(_moment_remainder, lambda steps: 2 * steps),
        twins=judged(_moment_remainder, {"to degree 2k": lambda steps: 2 * steps + 1}),
    )
    check.exact(
        "the mean over starts, second moment, in fractions",
        started,
        _probe_remainder,
        twins={"the trace, not its mean": partial(_probe_remainder, trace=2)},
    )
    check.property(
        f"the loss at its saddle, mean of {PROBES} starts, in standard errors",
        range(710, 714),
        partial(_density_error, lambda spectrum: spectrum),
        twins={
            "zeros counted once": partial(_density_error, lambda spectrum: np.unique(spectrum.round(12))),
            "half the width": partial(_density_error, lambda spectrum: spectrum, width=WIDTH / 2),
            "eigenvalues doubled": partial(_density_error, lambda spectrum: 2 * spectrum),
        },
        seed=710,
        bound=STANDARD_ERRORS,
    )
    check.property(
        "multiples of the identity",
        [-1.5, 0.0, 2.0],
        partial(_identity_error, 1.0),
        twins=judged(_identity_error, {"half the height": 0.5}),
    )


# --- own/landscape-planes ---


@dataclass(frozen=True, eq=False)
class Plane:
    """A network, an objective, and two directions as moves of its weights."""

    objective: str
    given: Case
    first: Ray
    second: Ray

    @property
    def directions(self) -> np.ndarray:
        return np.stack([_vector(self.first), _vector(self.second)])


AXES = ((-0.5, 0.0, 0.75), (-0.25, 0.5))


def _planes() -> list[Plane]:
    return [
        Plane(objective, given, *rays([given], each=2))
        for objective in LIBRARY
        for given in (FEW[0], FEW[2], FEW[4])
    ]


def _moved(plane: Plane, at: tuple[float, float]) -> Case:
    both = zip(plane.given.weights, plane.first.moves, plane.second.moves, strict=True)
    return replace(plane.given, weights=[w + at[0] * a + at[1] * b for w, a, b in both])


def _grid_error(at: Callable[..., tuple[float, float]], plane: Plane) -> float:
    """The library's grid, rows along the second direction, against each network by itself."""
    given = plane.given
    values = landscape.landscape_values(
        LIBRARY[plane.objective], given.net, given.x, given.y, directions=plane.directions, axes=AXES
    )
    errors = []
    for (i, t), (j, s) in product(enumerate(AXES[1]), enumerate(AXES[0])):
        there = _moved(plane, at(s, t))
        size = oracles.scale(there, oracles.equilibrium(there))
        expected = OBJECTIVES[plane.objective](there)
        errors.append(scaled_error(values[i, j], expected, scale=size, condition=oracles.condition(there)))
    return largest(*errors)


def _field_error(projected: Callable[[np.ndarray, np.ndarray], np.ndarray], plane: Plane) -> float:
    """The library's field at the centre, against slopes along both directions from power series."""
    given, rows = plane.given, plane.directions
    field = landscape.landscape_field(
        LIBRARY[plane.objective], given.net, given.x, given.y, directions=rows, axes=((0.0,), (0.0,))
    )[0, 0]
    slopes = np.array(
        [OBJECTIVES[plane.objective](series.along(given, r.moves, 1))[1] for r in (plane.first, plane.second)]
    )
    size = hessian_scale(given) * float(np.max(given.scalings))
    condition = oracles.condition(given) * float(np.linalg.cond(rows @ rows.T))
    return scaled_error(field, projected(rows, slopes), scale=size, condition=condition)


def _projected(rows: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    return -np.linalg.solve(rows @ rows.T, slopes)


def _eigenplane_error(ends: Callable[[np.ndarray], np.ndarray], saddle: Saddle) -> float:
    """Second derivatives along the lowest and the highest eigenvector, from the polynomials of degree 4 there."""
    given = saddle.given
    dense = np.asarray(curvature.weight_hessian_dense(pctheory.loss, given.net, given.x, given.y))
    vectors = np.linalg.eigh(dense)[1][:, [0, -1]].T
    axis = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    values = landscape.landscape_values(
        pctheory.loss, given.net, given.x, given.y, directions=vectors, axes=(axis, axis)
    )
    bends = [2 * np.polynomial.polynomial.polyfit(axis, line, 4)[2] for line in (values[2], values[:, 2])]
    return scaled_error(np.array(bends), ends(_origin_spectrum(saddle)), scale=oracles.scale(given, []))


@claim(
    key="own/landscape-planes",
    statement=r"""An objective on the plane $W + t_1 d_1 + t_2 d_2$ is that of each network by itself; what its
        negative gradient is within the plane has the coordinates $c$ with $D D^T c = -D g$, the nearest vector
        of the plane to $-g$. Where the plane is spanned by the eigenvectors of the lowest and the highest
        eigenvalue at a critical point, these are the second derivatives along its axes.""",
    hypotheses=("linearly independent directions", "any widths, scalings, skips, biases and precisions"),
    attribution="own",
    source="derived here, in the manner of Li et al. 2018 (arXiv 1712.09913)",
    uses=("own/hessian-products",),
)
def landscape_planes(check: Check) -> None:
    planes = _planes()
    check.property(
        "values on a grid, depth 2 to 6",
        planes,
        partial(_grid_error, lambda s, t: (s, t)),
        twins=judged(_grid_error, {"axes exchanged": lambda s, t: (t, s), "the other way": lambda s, t: (-s, -t)}),
    )
    check.property(
        "the field, depth 2 to 6, against power series",
        planes,
        partial(_field_error, _projected),
        twins=judged(
            _field_error,
            {
                "slopes for coordinates": lambda rows, slopes: -slopes,
                "uphill": lambda rows, slopes: -_projected(rows, slopes),
            },
        ),
    )
    check.property(
        "the plane of the outer eigenvectors at the saddle of the loss",
        [SADDLES[0], Saddle("loss", _at_origin(case("", (4, 3, 3), seed=703)), 1)],
        partial(_eigenplane_error, lambda spectrum: spectrum[[0, -1]]),
        twins=judged(
            _eigenplane_error,
            {
                "half of each": lambda spectrum: spectrum[[0, -1]] / 2,
                "the ends exchanged": lambda spectrum: spectrum[[-1, 0]],
            },
        ),
    )
