r"""Steps and directions: the trust-region step by conjugate gradients, and the descent directions in weight space.

Claims
    own/truncated-steps     what conjugate gradients that stop at the boundary reach
    own/weight-directions   the natural gradient of a chain, and which directions coincide

Notation: a step d lowers the model g^T d + (1/2) d^T B d, within d^T M d <= radius^2; d_0 = 0, d_1, .. are the
points of conjugate gradients with the preconditioner M^-1. Weights are one vector; m and S are the mean and the
covariance of the output y that the chain draws given x, S = sum_l P_l P_l^T / pi_l.
Independent routes: conjugate gradients in fractions, the exact step by eigenvalues and a scalar equation, and
power series of m, S and the loss through the oracles.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import brentq
from scipy.sparse.linalg import aslinearoperator

from paper_checks._curvature import Ray, rays
from pctheory import trust_region
from pctheory.claims import TOLERANCE, Check, claim, judged, largest, scaled_error
from tests import oracles, series
from tests.cases import Case, Formula, case, rational_cases

# --- own/truncated-steps ---


@dataclass(frozen=True, eq=False)
class Model:
    """g, B, the inverse of M, and the radius."""

    gradient: np.ndarray
    hessian: np.ndarray
    inverse: np.ndarray
    radius: float = 1.0

    def fall(self, step: np.ndarray) -> Any:
        return -self.gradient @ step - step @ self.hessian @ step / 2


def _rational(seed: int) -> Model:
    """Positive definite, of size 2 to 4, in fractions."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 5))
    root, other = rng.integers(-2, 3, (2, size, size)) + 4 * np.eye(size, dtype=int)
    gradient = rng.integers(1, 4, size)
    fractions = np.vectorize(Fraction, otypes=[object])
    return Model(fractions(gradient), fractions(root.T @ root), fractions(other.T @ other))


def _points(given: Model, *, conjugate: bool = True, preconditioned: bool = True) -> list[np.ndarray]:
    """d_0 .. d_n; without conjugation each is a steepest descent from the one before."""
    d, r, direction = 0 * given.gradient, given.gradient, 0 * given.gradient
    before, points = None, [d]
    for _ in d:
        s = given.inverse @ r if preconditioned else r
        share = (r @ s) / before if conjugate and before is not None else 0
        before, direction = r @ s, share * direction - s
        if before == 0:
            return points
        length = before / (direction @ given.hessian @ direction)
        d, r = d + length * direction, r + length * (given.hessian @ direction)
        points.append(d)
    return points


def _path_remainder(
    path: Callable[[Model], list[np.ndarray]], given: Model, *, euclidean: bool = False
) -> list[Any]:
    """What is left of g + B d at the end, and 1 for each step that does not lengthen d or lower the model."""
    points = path(given)
    identity = np.eye(len(given.gradient), dtype=int) * Fraction(1)
    metric = identity if euclidean else oracles.solve(given.inverse, identity)
    lengths = [d @ metric @ d for d in points]
    falls = [given.fall(d) for d in points]
    grows = [int(not b > a) for values in (lengths, falls) for a, b in pairwise(values)]
    return [*(given.gradient + given.hessian @ points[-1]), *grows]


def _drawn(seed: int, *, indefinite: bool = False) -> Model:
    """In floating point, of size 2 to 8; a third of the radii lie outside the minimiser."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 9))
    root, other = rng.standard_normal((2, size + 2, size))
    bent = root.T @ root - indefinite * 2 * np.eye(size)
    return Model(rng.standard_normal(size), bent, other.T @ other, float(10 ** rng.uniform(-2, 1)))


@cache
def _exact_fall(given: Model) -> float:
    """Of the best step, B positive definite by its eigenvalues in the metric and the multiplier for the radius."""
    metric = np.linalg.inv(given.inverse)
    values, vectors = eigh(given.hessian, (metric + metric.T) / 2)
    along = vectors.T @ given.gradient

    def excess(multiplier: float) -> float:
        return float(np.linalg.norm(along / (values + multiplier)) - given.radius)

    most = float(np.linalg.norm(along)) / given.radius  # there the step is shorter than the radius
    multiplier = float(brentq(excess, 0.0, most, xtol=1e-15)) if excess(0.0) > 0 else 0.0
    return float(given.fall(-vectors @ (along / (values + multiplier))))


def _found(given: Model) -> trust_region.TruncatedStep:
    return trust_region.truncated_step(
        given.gradient,
        aslinearoperator(given.hessian),
        given.radius,
        metric_inverse=aslinearoperator(given.inverse),
    )


def _step_error(changed: Callable[[Model], Model], given: Model) -> float:
    """Inside: the residual. On the boundary: the length in M. Both: the reduction that is reported."""
    found, judge = _found(given), changed(given)
    inside = judge.gradient + judge.hessian @ found.step
    length = float(found.step @ np.linalg.solve(judge.inverse, found.step)) ** 0.5
    errors = [scaled_error(found.predicted_reduction, judge.fall(found.step))]
    if found.on_boundary:
        errors.append(scaled_error(length, judge.radius))
    else:
        errors.append(scaled_error(inside, 0 * inside, scale=float(np.abs(given.gradient).max())))
        errors.append(largest(0.0, length / judge.radius - 1))
    return largest(*errors)


def _shortfall(share: float, given: Model) -> float:
    """By how much the reduction misses that share of the best one, or exceeds the best one."""
    found, best = _found(given).predicted_reduction, _exact_fall(given)
    return largest(0.0, share - found / best, found / best - 1)


def _changed(part: str) -> Callable[[Model], Model]:
    changes: dict[str, Callable[[Model], Model]] = {
        "nothing": lambda m: m,
        "metric": lambda m: Model(m.gradient, m.hessian, np.eye(len(m.gradient)), m.radius),
        "half": lambda m: Model(m.gradient, 2 * m.hessian, m.inverse, m.radius),
        "radius": lambda m: Model(m.gradient, m.hessian, m.inverse, m.radius**2),
    }
    return changes[part]


ROUNDING = 1e-9  # conjugate gradients stop at 1e-10, and lose as many digits as cond(B) and cond(M) have


@claim(
    key="own/truncated-steps",
    statement=r"""Conjugate gradients on $g^T d + \frac12 d^T B d$ from $d = 0$, with $M^{-1}$ as preconditioner and
        $B$ positive definite, lengthen $d$ in the metric $M$ and lower the model in every step, and end at
        $B d = -g$ after $n$. So the first step that would leave $d^T M d \le \rho^2$ is cut at the boundary, and a
        direction of negative curvature is followed to it; with $B$ positive definite that lowers the model by at
        least half as much as the best step.""",
    hypotheses=("B symmetric, M positive definite", "g not 0"),
    attribution="reconstructed",
    source="Steihaug 1983, Toint 1981; the half: Yuan 2000",
    uses=("trust-region-2023/subproblem",),
)
def truncated_steps(check: Check) -> None:
    check.exact(
        "the path in fractions",
        [_rational(seed) for seed in range(40)],
        partial(_path_remainder, _points),
        twins={
            **judged(_path_remainder, {"steepest descents": partial(_points, conjugate=False)}),
            "lengths without the metric": partial(_path_remainder, _points, euclidean=True),
        },
    )
    convex = [_drawn(seed) for seed in range(720, 780)]
    bent = [_drawn(seed, indefinite=True) for seed in range(780, 820)]
    check.property(
        "residual, length and reduction of the library's step",
        convex + bent,
        partial(_step_error, _changed("nothing")),
        twins=judged(
            _step_error,
            {
                "length without the metric": _changed("metric"),
                "model without the half": _changed("half"),
                "radius squared": _changed("radius"),
            },
        ),
        seed=720,
        bound=ROUNDING,
    )
    check.property(
        "its share of the best reduction",
        convex,
        partial(_shortfall, 0.5),
        twins=judged(_shortfall, {"all of it": 1.0}),
        seed=720,
        bound=ROUNDING,
    )


# --- own/weight-directions ---


def _outputs(given: Case) -> np.ndarray:
    return oracles.feedforward(given)[-1]


def _divergence(ray: Ray) -> Any:
    """Twice the coefficient of t^2 of the mean of KL(p(y given x; W), p(y given x; W + t d)), d_y = 1.

    KL = (1/2) (S / S_t - 1 + log(S_t / S) + (m_t - m)^2 / S_t), and log(1 + u) = u - u^2 / 2 up to t^2.
    """
    given, moved = ray.given, series.along(ray.given, ray.moves)
    spread, there = oracles.rescaling(given)[0, 0], oracles.rescaling(moved)[0, 0]
    u = there / spread + (-1)
    shift = _outputs(moved)[:, 0] - _outputs(given)[:, 0]
    quadratic = sum(s * s for s in shift) / len(shift) / there
    return (spread / there + (-1) + u - u * u / 2 + quadratic)[2]


def _information(ray: Ray, *, spread: Fraction = Fraction(1, 2), output_only: bool = False) -> Any:
    """d^T N d = mean (dm)^2 / S + (1/2) (dS / S)^2."""
    given, moved = ray.given, series.along(ray.given, ray.moves, 1)
    s, there = oracles.rescaling(given)[0, 0], oracles.rescaling(moved)[0, 0]
    slopes = [m[1] for m in _outputs(moved)[:, 0]]
    width = 1 / given.precisions[-1] if output_only else s
    return sum(m * m for m in slopes) / len(slopes) / width + spread * (there[1] / s) ** 2


def _information_remainder(form: Callable[[Ray], Any], ray: Ray) -> Any:
    return form(ray) - _divergence(ray)


NETWORKS = (
    case("", (2, 3, 2), seed=730, biases=True, precisions=True),
    case("", (1, 2, 2, 1), seed=731, skips=True, scalings=True),
)
Matrices = dict[str, np.ndarray]


def _units(given: Case) -> list[list[np.ndarray]]:
    sizes = [w.size for w in given.weights]
    rows = np.split(np.eye(sum(sizes), dtype=int), np.cumsum(sizes)[:-1], axis=1)
    return [
        [part[k].reshape(w.shape) for part, w in zip(rows, given.weights, strict=True)] for k in range(sum(sizes))
    ]


@cache
def _matrices(number: int) -> tuple[np.ndarray, np.ndarray, Matrices]:
    """The gradients of the loss and of F*, and what the loss's is solved with, all from power series."""
    given = NETWORKS[number]
    moved = [series.along(given, unit, 1) for unit in _units(given)]
    objectives: tuple[Formula, Formula] = oracles.loss, series.least_energy
    loss, coded = (np.array([objective(one)[1] for one in moved]) for objective in objectives)
    slope = np.vectorize(lambda value: float(value[1]))
    jacobian = np.stack([slope(_outputs(one)) for one in moved], axis=-1)  # examples, outputs, weights
    spreads = np.stack([slope(oracles.rescaling(one)) for one in moved])
    inverse = np.linalg.inv(oracles.rescaling(given))
    whitened = inverse @ spreads
    count = len(given.x)
    return (
        loss,
        coded,
        {
            "damped Newton": series.hessian(oracles.loss, given),
            "Gauss-Newton": np.einsum("byi,byj->ij", jacobian, jacobian) / count,
            "natural gradient": np.einsum("byi,yz,bzj->ij", jacobian, inverse, jacobian) / count
            + np.einsum("iyz,jzy->ij", whitened, whitened) / 2,
        },
    )


def _claimed(number: int, *, damping: float = 2.0, natural: str = "natural gradient") -> dict[str, np.ndarray]:
    loss, coded, matrices = _matrices(number)
    shift = damping * np.eye(len(loss))
    solved = {name: -np.linalg.solve(matrices[name] + shift, loss) for name in matrices}
    return solved | {
        "natural gradient": solved[natural],
        "gradient descent": -loss,
        "predictive coding": -coded,
        "trust region": -coded,
    }


@cache
def _library(number: int) -> dict[str, np.ndarray]:
    given = NETWORKS[number]
    found = trust_region.weight_directions(given.net, given.x, given.y)
    return {name: np.asarray(direction) for name, direction in found.items()}


def _direction_error(claimed: Callable[[int], dict[str, np.ndarray]], number: int) -> float:
    found, expected = _library(number), claimed(number)
    return largest(*(scaled_error(found[name], expected[name], condition=10.0) for name in expected))


def _descends(sign: int, number: int) -> float:
    """By how much a direction that ought to lead downhill leads uphill on the loss, or on F* for those of F*."""
    loss, coded, _ = _matrices(number)
    found = _library(number)
    downhill = {"gradient descent": loss, "Gauss-Newton": loss, "natural gradient": loss}
    downhill |= {"predictive coding": coded, "trust region": coded}
    cosines = trust_region.cosines({name: found[name] for name in downhill} | {"loss": loss, "F*": coded})
    slopes = [cosines[k, -2 if g is loss else -1] for k, g in enumerate(downhill.values())]
    return largest(0.0, *(sign * slope for slope in slopes))


@claim(
    key="own/weight-directions",
    statement=r"""A chain draws $y$ given $x$ with mean $m$, its output, and covariance
        $S = \sum_l P_l P_l^T / \pi_l$.
        The Fisher information of the weights is then $N = \mathrm{mean}\,[(\partial m)^T S^{-1} \partial m +
        \frac12 \mathrm{tr}(S^{-1} \partial S\, S^{-1} \partial S)]$, the second derivative of the relative
        entropy. The direction with inference replaced by one trust-region step is that of predictive coding,
        $-dF^*/dW$; damped Newton, Gauss-Newton and the natural gradient are the loss's gradient solved with $H$,
        $G$ and $N$.""",
    hypotheses=("linear networks with hidden layers", "any widths, scalings, skips, biases and precisions"),
    attribution="own",
    source="derived here; the natural gradient: Amari 1998, of a chain with noise in every layer",
    uses=("trust-region-2023/weight-gradient", "own/likelihood"),
)
def weight_directions(check: Check) -> None:
    single = [given for given in rational_cases(200, seed=733, depths=(2, 4)) if given.widths[-1] == 1]
    check.exact(
        "the Fisher information along moves in fractions, one output",
        rays(single[:40]),
        partial(_information_remainder, _information),
        twins=judged(
            _information_remainder,
            {
                "without the covariance's part": partial(_information, spread=Fraction(0)),
                "without its half": partial(_information, spread=Fraction(1)),
                "noise at the output only": partial(_information, output_only=True),
            },
        ),
    )
    check.property(
        "the library's directions against their formulas",
        range(len(NETWORKS)),
        partial(_direction_error, _claimed),
        twins=judged(
            _direction_error,
            {
                "half the damping": partial(_claimed, damping=1.0),
                "Gauss-Newton's for the natural gradient": partial(_claimed, natural="Gauss-Newton"),
            },
        ),
    )
    check.property(
        "all but damped Newton lead downhill",
        range(len(NETWORKS)),
        partial(_descends, 1),
        twins=judged(_descends, {"uphill": -1}),
        bound=TOLERANCE,
    )
