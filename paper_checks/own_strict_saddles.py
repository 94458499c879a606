r"""Which critical points of F* have a way down at second order: strict saddles.

Claims
    own/saddles-strict-with-signal   all, as long as the residual still depends on x and layer L-1 is wide enough

Notation: M_{k:l} = A_k .. A_l, Z = M_{L-1:1}, Sigma_zz = Z Sigma_xx Z^T, R = mean r r^T, Sigma_rx = mean r x^T,
K = S_{L-1}, G = (K^-1 + pi_L A_L^T A_L)^-1.
Argument, at a critical point with Sigma_rx != 0 (any u with Sigma_rx^T u = b != 0 and A_L^T u = 0 serves):
  (1) A_L^T r = 0, S^-1 r = pi_L r, Sigma_rx Z^T = 0, rho = u^T R u > 0.
  (2) The curvature along Delta_L = u v^T is pi_L v^T Sigma_zz v - pi_L^2 rho v^T G v: negative if Sigma_zz v = 0.
  (3) Otherwise Z is onto. If A_L a' = 0, a' != 0, choose a with M_{L-1:2} a = a': F* is constant along
   Delta_1 = a b^T, and its mixed derivative with Delta_L = u a'^T is -pi_L |b|^2 |a'|^2: indefinite. The same
   holds for Delta_k = a b_{k-1}^T with b_{k-1} = M_{k-1:1} b, for every k < L; k = 1 always serves.
  (4) Otherwise Z is onto and A_L injective: N_{L-1} <= min(d_x, d_y). If equal, r = 0 or Sigma_rx = 0.
Skips of hidden layers and scalings are inside the maps: residual networks are covered.
Independent route: points written down in fractions (`tests.critical_points`), gradients from the dense linear
system, the first three Taylor coefficients of F* along lines of weights.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any, TypeAlias

import jax
import numpy as np
import sympy

import pctheory
from pctheory import induction, saddles
from pctheory.claims import Check, claim, judged
from tests import oracles
from tests.cases import SIZES, Case
from tests.critical_points import (
    EXACT,
    HADAMARD,
    UNROUNDED,
    CriticalPoint,
    critical_point,
    points,
    product,
    remaining_spread,
    spread,
)

# A step, at a point with the output direction u that it misses
Missed: TypeAlias = tuple[CriticalPoint, np.ndarray]


def _missed() -> list[Missed]:
    return [(point, u) for point in points() for u in point.missed.T]


def _first_step(missed: Missed, *, residual: Any = oracles.residual) -> np.ndarray:
    """A_L^T r = 0, (S - I / pi_L) r = 0, Sigma_rx Z^T = 0, A_L^T u = 0, Z b = 0; then rho > 0 and b != 0."""
    point, u = missed
    given, r = point.case, residual(point.case).T
    moments, signal = point.residual_moments
    b = signal.T @ u
    unscaled = oracles.rescaling(given) @ r - r / given.precisions[-1]
    zeros = (given.maps[-1].T @ r, unscaled, signal @ point.top.T, given.maps[-1].T @ u, point.top @ b)
    return np.append(oracles.flat(zeros), [int(u @ moments @ u <= 0), int(not np.any(b))])


def _change(given: Case, layers: dict[int, np.ndarray]) -> list[np.ndarray]:
    """The change of the weights that moves these maps by these matrices."""
    return [
        layers[l] / a if l in layers else 0 * w
        for l, (w, a) in enumerate(zip(given.weights, given.scalings, strict=True), start=1)
    ]


def _sum(changes: list[list[np.ndarray]]) -> list[np.ndarray]:
    return [np.sum(layer, axis=0) for layer in zip(*changes, strict=True)]


def _second_derivative(given: Case, *changes: list[np.ndarray]) -> Any:
    """Along one change twice, or mixed."""
    if len(changes) == 1:
        return 2 * oracles.along(given, changes[0])[2]
    both = 2 * oracles.along(given, _sum(list(changes)))[2]
    return (both - sum(_second_derivative(given, change) for change in changes)) / 2


def _second_step(form: Callable[[CriticalPoint, np.ndarray, np.ndarray], Any], missed: Missed) -> np.ndarray:
    """The curvature along u v^T, for random v, against `form`."""
    point, u = missed
    given, found = point.case, []
    for v in EXACT(np.random.default_rng(len(given.name)).integers(-3, 4, (2, given.widths[-2]))):
        along_last = _change(given, {given.depth: np.outer(u, v)})
        found.append(_second_derivative(given, along_last) - form(point, u, v))
    return np.array(found)


def _curvature(point: CriticalPoint, u: np.ndarray, v: np.ndarray, *, remaining: bool = True) -> Any:
    """pi_L v^T Sigma_zz v - pi_L^2 rho v^T G v, or with K for G."""
    given, pi = point.case, point.case.precisions[-1]
    inner = remaining_spread(given) if remaining else spread(given)
    activities = given.x @ point.top.T @ v
    rho = u @ point.residual_moments[0] @ u
    return pi * (activities @ activities) / len(given.x) - pi**2 * rho * (v @ inner @ v)


# Delta_k = a b_{k-1}^T and Delta_L = u v^T: the layer k, a with A_L M_{L-1:k+1} a = 0, and v
Pair: TypeAlias = tuple[CriticalPoint, np.ndarray, int, np.ndarray, np.ndarray]


def _above(given: Case, k: int) -> np.ndarray:
    """M_{L-1:k+1}."""
    return product(given.maps[k:-1], given.widths[k])


def _pairs() -> list[Pair]:
    """Every k < L at every point that has such an a."""
    found = []
    for i, (point, u) in enumerate(_missed()):
        rng = np.random.default_rng(i)
        for k in range(1, point.case.depth):
            seen = point.case.maps[-1] @ _above(point.case, k)
            kernel = [np.ravel(column) for column in sympy.Matrix(seen).nullspace()]
            if kernel:
                exact = np.array(
                    [[Fraction(int(c.p), int(c.q)) for c in column] for column in kernel], dtype=object
                )
                a = EXACT(rng.integers(1, 4, len(kernel))) @ exact
                found.append((point, u, k, a, EXACT(rng.integers(1, 4, point.case.widths[-2]))))
    return found


def _mixed(pair: Pair, *, power: int = 1) -> Any:
    """-pi_L (v^T a') |b_{k-1}|^2."""
    point, _, k, a, v = pair
    b_k = _carried(pair)
    return -point.case.precisions[-1] * (v @ _above(point.case, k) @ a) * (b_k @ b_k) ** power


def _carried(pair: Pair) -> np.ndarray:
    """b_{k-1} = M_{k-1:1} Sigma_rx^T u."""
    point, u, k, *_ = pair
    return product(point.case.maps[: k - 1], point.case.widths[0]) @ point.residual_moments[1].T @ u


def _third_step(form: Callable[[Pair], Any], pair: Pair) -> np.ndarray:
    """F* is constant along Delta_k, and its mixed derivative with Delta_L is `form`."""
    point, u, k, a, v = pair
    given = point.case
    below = _change(given, {k: np.outer(a, _carried(pair))})
    last = _change(given, {given.depth: np.outer(u, v)})
    return np.array([*oracles.along(given, below)[1:], _second_derivative(given, below, last) - form(pair)])


def _without_a_way_down(given: Case, *, equilibrated: bool = True) -> int:
    """1 where the Hessian has no negative eigenvalue, exactly, at unit precision, from the maps."""
    hessian = saddles.exact_derivatives(given.maps, given.x, given.y, equilibrated=equilibrated).hessian
    return int(saddles.exact_inertia(hessian)[0] == 0)


ENERGY = saddles.Derivatives(pctheory.equilibrated_energy, pctheory.weight_gradient, pctheory.weight_hessian_dense)
SEARCHED = ((3, 2, 3, 2), (2, 2, 1, 2, 2))
NEGATIVE = 1e-8  # of the largest eigenvalue: well above its rounding


def _family(widths: tuple[int, ...], count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, x and y of `count` critical points that miss a direction; noise in half of them."""
    rng, found = np.random.default_rng(seed), []
    most = min(widths[0], widths[-1])
    for i in range(count):
        x = rng.standard_normal((8, widths[0]))
        y = x @ rng.standard_normal((widths[0], widths[-1]))
        fitted = rng.permutation(most)[: rng.integers(min(most, min(widths) + 1))] + 1
        shares = rng.dirichlet(np.ones(len(widths) - 1))
        options = {"shares": shares / shares.sum(), "seed": i, "free": float(rng.random())}
        net = saddles.rank_k_critical_point(widths, x, y, fitted.tolist(), **options)
        last = np.asarray(net.weights[-1])
        noise = (i % 2) * rng.standard_normal(y.shape)
        noise = noise - x @ np.linalg.lstsq(x, noise, rcond=None)[0]
        y = y + noise @ (np.eye(widths[-1]) - last @ np.linalg.pinv(last, rcond=1e-10))
        found.append((np.asarray(pctheory.weight_vector(net)), x, y))
    weights, xs, ys = (np.stack(part) for part in zip(*found, strict=True))
    return weights, xs, ys


def _lowest(
    widths: tuple[int, ...], weights: np.ndarray, xs: np.ndarray, ys: np.ndarray
) -> list[tuple[float, float]]:
    """Gradient norm and smallest eigenvalue of F* at each point, relative to the largest eigenvalue."""
    net = pctheory.standard(widths, seed=0)

    @jax.jit
    @jax.vmap
    def derivatives(w: Any, x: Any, y: Any) -> tuple[Any, Any]:
        there = pctheory.net_at(net, w), x, y
        return ENERGY.gradient(ENERGY.objective, *there), ENERGY.hessian(ENERGY.objective, *there)

    gradients, hessians = (np.asarray(part) for part in derivatives(weights, xs, ys))
    values = np.linalg.eigvalsh(hessians)
    sizes = np.abs(values).max(axis=1)
    return list(zip(np.linalg.norm(gradients, axis=1) / sizes, values[:, 0] / sizes, strict=True))


def _enclosed_lowest(point: tuple[np.ndarray, np.ndarray, np.ndarray], *, equilibrated: bool = True) -> Any:
    """The same in balls, from the Hessian in fractions."""
    weights, x, y = point
    widths = next(w for w in FAMILIES if (w[0], w[-1]) == (x.shape[1], y.shape[1]))
    net = pctheory.net_at(pctheory.standard(widths, seed=0), weights)
    maps, x, y = [UNROUNDED(w) for w in net.weights], UNROUNDED(x), UNROUNDED(y)
    found = saddles.exact_derivatives(maps, x, y, equilibrated=equilibrated)
    low, high = pctheory.enclosed_extremes(found.hessian)
    return low / high


def _is_critical(given: Case) -> bool:
    return not any(np.any(g) for g in oracles.partial_weight_gradient(given, oracles.equilibrium(given)))


def _not_strict(point: tuple[float, float]) -> float:
    """0 at a critical point with a negative eigenvalue, 1 otherwise."""
    gradient, smallest = point
    return float(not (gradient < NEGATIVE and smallest < -NEGATIVE))


def _found(widths: tuple[int, ...], seed: int) -> list[tuple[float, float]]:
    """As `_lowest`, at critical points with Sigma_rx != 0 that a search finds; y is linear in x for even seeds."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((6, widths[0]))
    y = x @ rng.standard_normal((widths[0], widths[-1])) + (seed % 2) * rng.standard_normal((6, widths[-1]))
    start = pctheory.standard(widths, seed=0)
    found = saddles.critical_point_search(start, x, y, ENERGY, starts=128, seed=seed)
    kept = []
    for point in found:
        r = y - np.asarray(pctheory.feedforward(point.net, x)[-1])
        if np.abs(r.T @ x).max() > 1e-6:  # far above what is left of a residual that vanishes
            kept.append(np.asarray(pctheory.weight_vector(point.net)))
    return _lowest(widths, np.stack(kept), *(np.tile(part, (len(kept), 1, 1)) for part in (x, y)))


@claim(
    key="own/saddles-strict-with-signal",
    statement=r"""If $N_{L-1} \ge \min(d_x, d_y)$, every critical point of $F^*$ at which $\Sigma_{rx} \ne 0$ is a
        strict saddle.""",
    hypotheses=(
        "at least one hidden layer, no biases, positive precisions, scalings that are not 0",
        "no skip in the first and last layer; residual networks, with skips of hidden layers, are covered",
        "the signal is in the residual: $\\Sigma_{yx} \\ne 0$ is not enough",
    ),
    attribution="own",
    source="derived here",
    uses=("own/critical-points",),
)
def saddles_strict_with_signal(check: Check) -> None:
    check.proof(
        "a direction of negative curvature, or an indefinite pair, at every depth",
        [induction.strict_saddles(), induction.strict_saddles(SIZES)],
        twins={
            "K in place of G": induction.strict_saddles(curvature=_with_spread),
            "mixed derivative of opposite sign": induction.strict_saddles(
                mixed=lambda last: -induction.mixed_derivative(last)
            ),
        },
    )
    _steps(check)
    plain = [point.case for point in points(plain=True)]
    check.exact(
        "the theorem by exact inertia, rank 0 to 2, depth 2 to 5",
        plain,
        _without_a_way_down,
        twins={"the same for the loss": partial(_without_a_way_down, equilibrated=False)},
    )
    check.property(
        "the theorem at points written down, with random free parts",
        [point for i, widths in enumerate(FAMILIES) for point in _lowest(widths, *_family(widths, 700, 810 + i))],
        _not_strict,
        twins={},
        seed=810,
    )
    check.enclosure(
        "the smallest eigenvalue at some of them, over the largest",
        [point for i, widths in enumerate(FAMILIES) for point in zip(*_family(widths, 3, 810 + i), strict=True)],
        _enclosed_lowest,
        within=(-math.inf, -NEGATIVE),
        twins={"of the loss": partial(_enclosed_lowest, equilibrated=False)},
    )
    check.property(
        "the theorem at points found by search",
        [point for i, widths in enumerate(SEARCHED) for point in _found(widths, 820 + i)],
        _not_strict,
        twins={},
        seed=820,
    )
    for name, given in COUNTEREXAMPLES.items():
        check.false_twin(name, _is_critical(given) and _without_a_way_down(given) == 1)


def _with_spread(last: Any) -> Any:
    return induction.last_layer_curvature(last, inner=last.spread)


FALSE_MIXED: dict[str, Callable[[Pair], Any]] = {
    "opposite sign": lambda pair: -_mixed(pair),
    "without b": partial(_mixed, power=0),
}


def _steps(check: Check) -> None:
    """The numbered steps of the argument, each by itself, in fractions."""
    check.exact(
        "step 1, what holds at a critical point",
        _missed(),
        _first_step,
        twins={"y for r": partial(_first_step, residual=lambda given: given.y)},
    )
    check.exact(
        "step 2, the curvature along u v^T",
        _missed(),
        partial(_second_step, _curvature),
        twins=judged(_second_step, {"K in place of G": partial(_curvature, remaining=False)}),
    )
    check.exact(
        "step 3, the mixed derivative, for every k",
        _pairs(),
        partial(_third_step, _mixed),
        twins=judged(_third_step, FALSE_MIXED),
    )
    check.exact(
        "step 4, what is left is no case",
        [point for point in points() if point.missed.size],
        _fourth_step,
        twins={"without the width hypothesis": lambda point: _fourth_step(NARROW)},
    )


def _fourth_step(point: CriticalPoint) -> int:
    """1 where A_L is injective, Z onto, and Sigma_rx not 0."""
    given = point.case
    n = given.widths[-2]
    full = all(sympy.Matrix(a).rank() == n for a in (given.maps[-1], point.top))
    return int(full and np.any(point.residual_moments[1]))


FAMILIES = ((3, 3, 2), (2, 3, 2, 2), (3, 2, 3, 3))
NARROW = critical_point(0, (2, 1, 2), (0,), plain=True)


def _plain(weights: list[Any], x: Any, y: Any) -> Case:
    maps = [EXACT(w) for w in weights]
    ones = EXACT(np.ones(len(maps)))
    return Case("", maps, ones, 0 * ones, [0 * w[:, 0] for w in maps], ones, EXACT(x), EXACT(y))


# With a second output of noise, uncorrelated with x
SIGNAL_FITTED = _plain([[[1, 0], [0, 1]], [[1, 0], [0, 0]]], HADAMARD[:4, 1:3], HADAMARD[:4, [1, 3]])
COUNTEREXAMPLES = {
    "without the width hypothesis": NARROW.case,
    "without signal": _plain([[[1]], [[0]]], [[1], [1]], [[1], [-1]]),
    "signal in y instead of the residual": SIGNAL_FITTED,
}
