r"""Data that no linear map fits: where F* has its critical points, and that it has no minimum. Derived here.

Claims
    own/noisy-data   all critical points of F* are saddles with A_L = 0, and F* falls for ever

Notation: Sigma_xx, Sigma_yx, Sigma_yy are uncentred second moments. The least-squares fit leaves the moment
R = Sigma_yy - Sigma_yx Sigma_xx^+ Sigma_xy; other maps leave more, R + (a positive semidefinite matrix). A batch is
noisy if R > 0. M_{k:l} = A_k .. A_l, q = S^-1 r, A_L K A_L^T = S - I/pi_L, so K > 0. G_l = dF*/dW_l.

Proof. (1) W_1 and W_L enter r through one product, and S only through A_L K A_L^T, so that
  <W_L, G_L> - <W_1, G_1> = - mean q^T A_L K A_L^T q.
At a critical point A_L^T q = 0 for every sample, hence A_L^T S^-1 (mean r r^T) S^-1 A_L = 0, hence A_L = 0.
(2) There F* = pi_L tr(Sigma_yy) / 2 whatever the other weights, and all that is left of the gradient is
G_L = -a_L pi_L Sigma_yx M_{L-1:1}^T.
(3) Take u with b_0 = Sigma_xy u != 0: then M_{L-1:1} b_0 = 0. If there is v != 0 with
M_{L-1:1} Sigma_xx M_{L-1:1}^T v = 0, the curvature along W_L = u v^T is negative,
-a_L^2 pi_L^2 (u^T Sigma_yy u)(v^T K v). If not, every M_{L-1:k+1} is onto. Let k be the first layer with
A_k b_{k-1} = 0 where b_{k-1} = M_{k-1:1} b_0, and M_{L-1:k+1} a = v: along W_k = a b_{k-1}^T F* is constant, and
its mixed derivative with W_L = u v^T is -a_L a_k pi_L |b_{k-1}|^2 |v|^2. Either way an eigenvalue is negative.
(4) F* > 0, and with N_{L-1} >= d_y it tends to 0 where A_L K A_L^T grows in every direction: no minimum.
With N_{L-1} < d_y the infimum is not 0. A_L leaves d_y - N_{L-1} directions out, whose share stays: at least
pi_L / 2 times the sum of the d_y - N_{L-1} smallest eigenvalues of Sigma_yy, which is the infimum and below every
critical value.

Independent routes: least energies of the dense linear system in fractions; second derivatives as difference
quotients in fractions, with a step so small that nothing else is left.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

from pctheory.claims import Check, claim, judged, largest, scaled_error
from tests import oracles
from tests.cases import Case, Formula, case, random_cases, rational


def _moment(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return left.T @ right / len(left)


def _energy(given: Case) -> Any:
    return oracles.energy(given, oracles.equilibrium(given))


def _gradients(given: Case) -> list[np.ndarray]:
    return oracles.partial_weight_gradient(given, oracles.equilibrium(given))


def _noisy(given: Case, seed: int, *, rows: int = 2) -> Case:
    """The same network on data of `rows` more samples than a linear map can fit; only hidden layers keep skips."""
    rng = np.random.default_rng(seed)
    size = given.widths[0] + given.widths[-1] + rows
    x, y = rng.standard_normal((size, given.widths[0])), rng.standard_normal((size, given.widths[-1]))
    skips = given.skips.copy()
    skips[[0, -1]] = 0
    return replace(given, skips=skips, x=x, y=y + x[:, :1])


def _networks(count: int, *, seed: int) -> Iterator[Case]:
    cases = random_cases(count, seed=seed, depths=(2, 4), width=3, biases=False)
    return (rational(_noisy(given, seed + i)) for i, given in enumerate(cases))


def _unfitted(given: Case) -> np.ndarray:
    """R."""
    xx, yx, yy = _moment(given.x, given.x), _moment(given.y, given.x), _moment(given.y, given.y)
    unfitted: np.ndarray = yy - yx @ oracles.solve(xx, yx.T)
    return unfitted


def _is_noisy(given: Case) -> bool:
    return all(pivot > 0 for pivot in oracles.pivots(_unfitted(given)))


def _radial(given: Case) -> Any:
    """<W_L, G_L> - <W_1, G_1>."""
    gradients = _gradients(given)
    return np.sum(given.weights[-1] * gradients[-1]) - np.sum(given.weights[0] * gradients[0])


def _reach(given: Case, *, own: int = 0) -> Any:
    """- mean q^T A_L K A_L^T q, with S - I/pi_L for A_L K A_L^T; `own` = 1 leaves that identity in."""
    s = oracles.rescaling(given)
    q = oracles.solve(s, oracles.residual(given).T).T
    inner = s - (1 - own) * np.eye(len(s), dtype=int) / given.precisions[-1]
    return -np.sum((q @ inner) * q) / len(q)


def _radial_remainder(formula: Formula, given: Case) -> list[Any]:
    """The identity; and for A_L != 0 on noisy data its two sides are negative, so the point is not critical."""
    has_last = bool(np.any(given.weights[-1]))
    return [_radial(given) - formula(given), not _is_noisy(given), (formula(given) < 0) != has_last]


def _fitted_exactly(given: Case) -> Case:
    """One hidden layer of d_y units whose product is the least-squares fit: W_2 = I, W_1 = Sigma_yx Sigma_xx^-1."""
    d_y = given.widths[-1]
    fit = oracles.solve(_moment(given.x, given.x), _moment(given.x, given.y)).T
    unit = np.eye(d_y, dtype=int) + 0 * fit[:, :1]
    ones, zeros = given.precisions[:2] ** 0, 0 * given.precisions[:2]
    biases = [0 * unit[0], 0 * unit[0]]
    return replace(given, weights=[fit, unit], scalings=ones, skips=zeros, biases=biases, precisions=ones)


def _loss_gradient(given: Case) -> np.ndarray:
    """Of two layers without scalings: -W_2^T (mean r x^T) and -(mean r x^T) W_1^T."""
    first, last = given.weights
    mean = _moment(oracles.residual(given), given.x)
    return oracles.flat([-last.T @ mean, -mean @ first.T])


# --- the critical points ---


def _critical(count: int, *, seed: int) -> Iterator[Case]:
    """Points with W_L = 0 and Sigma_yx M_{L-1:1}^T = 0; at `name` that vanishes by layer k, the ones before free.

    In a third W_k = 0; in the others the rows of W_k are made orthogonal to what must not pass.
    """
    rng = np.random.default_rng(seed)
    for i in range(count):
        depth = int(rng.integers(2, 5))
        k = int(rng.integers(1, depth))
        widths = (4,) * k + tuple(sorted(rng.integers(1, 3, depth - k).tolist(), reverse=True)) + (2,)
        drawn = case(f"{k}", widths, seed=seed + i, scalings=True, precisions=True, skips=True)
        given = rational(_noisy(drawn, seed + i))
        weights = [w if np.any(w) else w + 1 for w in given.weights]
        given = replace(given, weights=[*weights[:-1], 0 * weights[-1]])
        target = _signal(given, k)
        w = given.weights[k - 1]
        w = 0 * w if i % 3 == 0 else w - oracles.solve(target.T @ target, target.T @ w.T).T @ target.T
        yield replace(given, weights=[*given.weights[: k - 1], w, *given.weights[k:]])


def _product(given: Case, upper: int, lower: int) -> np.ndarray:
    """M_{upper:lower}."""
    product = np.eye(given.widths[upper], dtype=int) + 0 * given.x[:1, :1]
    for l in range(upper, lower - 1, -1):
        product = product @ given.maps[l - 1]
    return product


def _signal(given: Case, k: int) -> np.ndarray:
    """M_{k-1:1} Sigma_xy, what layer k may pass nothing of."""
    return _product(given, k - 1, 1) @ _moment(given.x, given.y)


def _critical_remainder(value: Formula, given: Case) -> np.ndarray:
    """All gradients, the value, and whether the data are noisy and carry a signal."""
    conditions = [not _is_noisy(given), not np.any(_moment(given.y, given.x))]
    return oracles.flat([*_gradients(given), np.array([_energy(given) - value(given), *conditions])])


def _plateau(given: Case, *, factor: Fraction = Fraction(1, 2)) -> Any:
    """pi_L tr(Sigma_yy) / 2."""
    return factor * given.precisions[-1] * np.trace(_moment(given.y, given.y))


STEP = Fraction(1, 10**9)


def _curvature(given: Case, moves: list[np.ndarray]) -> float:
    """The second derivative of F* along a direction, but for terms of order STEP: 2 (F*(h) - F*(0)) / h^2."""
    moved = replace(given, weights=[w + STEP * m for w, m in zip(given.weights, moves, strict=True)])
    return float(2 * (_energy(moved) - _energy(given)) / STEP**2)


def _downhill(given: Case) -> tuple[list[np.ndarray], float]:
    """The direction of the proof, and the negative curvature that it predicts there."""
    moment = _moment(given.y, given.x)
    moves = [0 * w for w in given.weights]
    row = next(i for i in range(len(moment)) if np.any(moment[i]))
    u, b = np.eye(len(moment), dtype=int)[row], moment[row]
    forward = _product(given, given.depth - 1, 1)
    spread = forward @ _moment(given.x, given.x) @ forward.T
    scale_up, pi = given.scalings[-1], given.precisions[-1]
    inside = _kernel_vector(spread)
    if inside is not None:
        moves[-1] = np.outer(u, inside)
        curvature = -((scale_up * pi) ** 2) * (u @ _moment(given.y, given.y) @ u)
        return moves, float(curvature * (inside @ _hidden_rescaling(given) @ inside))
    k = 1
    while np.any(given.maps[k - 1] @ b):
        b, k = given.maps[k - 1] @ b, k + 1
    onto = _product(given, given.depth - 1, k + 1)
    v = np.eye(len(spread), dtype=int)[0]
    a = onto.T @ oracles.solve(onto @ onto.T, v[:, None] + 0 * onto[:, :1])[:, 0]
    carried = u @ moment @ _product(given, k - 1, 1).T @ b
    mixed = -pi * scale_up * given.scalings[k - 1] * carried * (v @ onto @ a)
    own = pi * scale_up**2 * (v @ spread @ v) - (scale_up * pi) ** 2 * (
        u @ _moment(given.y, given.y) @ u * (v @ _hidden_rescaling(given) @ v)
    )
    weight = -(abs(own) + 1) / mixed  # so that the mixed term outweighs the other
    moves[-1], moves[k - 1] = np.outer(u, v), weight * np.outer(a, b)
    return moves, float(own + 2 * weight * mixed)


def _hidden_rescaling(given: Case) -> np.ndarray:
    """K, the rescaling S of layers 1..L-1."""
    below = replace(given, weights=given.weights[:-1], scalings=given.scalings[:-1], skips=given.skips[:-1])
    return oracles.rescaling(replace(below, biases=given.biases[:-1], precisions=given.precisions[:-1]))


def _kernel_vector(matrix: np.ndarray) -> np.ndarray | None:
    """A vector that a symmetric positive semidefinite matrix of size 1 or 2 maps to 0, if there is one."""
    if len(matrix) == 1:
        return None if matrix[0, 0] else np.array([Fraction(1)])
    if matrix[0, 0] * matrix[1, 1] != matrix[0, 1] * matrix[1, 0]:
        return None
    row = next((row for row in matrix if np.any(row)), np.array([Fraction(1), Fraction(0)]))
    return np.array([-row[1], row[0]])


def _strictness_error(predicted: Callable[[float], float], given: Case) -> float:
    """Infinite where the curvature is not negative."""
    moves, expected = _downhill(given)
    found = _curvature(given, moves)
    return scaled_error(predicted(expected), found, scale=abs(found)) if found < 0 else np.inf


def _without_signal() -> float:
    """The steepest curvature found at weights (1, 0) on data (1, 1), (1, -1), where R = 1 and Sigma_yx = 0."""
    drawn = rational(case("", (1, 1, 1), seed=0, batch=2))
    one, zero = np.array([[Fraction(1)]]), np.array([[Fraction(0)]])
    point = replace(drawn, weights=[one, zero], x=np.vstack([one, one]), y=np.vstack([one, -one]))
    return -largest(*(-_curvature(point, [a * one, b * one]) for a in (-1, 0, 1) for b in (-1, 0, 1)))


# --- no minimum ---


def _wide(count: int, *, seed: int) -> Iterator[Case]:
    """With N_{L-1} >= d_y and A_L of full row rank."""
    for i in range(count):
        widths = (2,) + (3,) * (1 + i % 3) + (1 + i % 3,)
        yield rational(_noisy(case("", widths, seed=seed + i, precisions=True, skips=True), seed + i))


def _scaled(given: Case, factor: int) -> Case:
    """W_1 / c and c W_L."""
    first, *middle, last = given.weights
    return replace(given, weights=[first / Fraction(factor), *middle, last * factor])


def _fall_remainder(given: Case) -> list[Any]:
    """The loss stays, and c^2 F* stays below mean r^T (A_L K A_L^T)^-1 r / 2, so that F* tends to 0."""
    s, r = oracles.rescaling(given), oracles.residual(given)
    reached = s - np.eye(len(s), dtype=int) / given.precisions[-1]
    limit = np.sum(oracles.solve(reached, r.T).T * r) / (2 * len(r))
    moved = [_scaled(given, factor) for factor in (2, 1000)]
    return [
        *(oracles.loss(m) - oracles.loss(given) for m in moved),
        *(bool(c**2 * _energy(m) > limit) for c, m in zip((2, 1000), moved, strict=True)),
    ]


def _infimum(given: Case, *, smallest: bool = True) -> float:
    """pi_L / 2 times the sum of the d_y - N_{L-1} smallest eigenvalues of Sigma_yy; 0 if there are none."""
    eigenvalues = np.linalg.eigvalsh(_moment(given.y, given.y))
    left = max(given.widths[-1] - given.widths[-2], 0)
    chosen = eigenvalues[:left] if smallest else eigenvalues[len(eigenvalues) - left :]
    return float(given.precisions[-1] * chosen.sum() / 2)


def _floats(count: int, *, seed: int) -> Iterator[Case]:
    """Depth 2 to 4, any widths."""
    cases = random_cases(count, seed=seed, depths=(2, 4), width=4, biases=False)
    return (_noisy(given, seed + i) for i, given in enumerate(cases))


def _far_out(given: Case) -> Case:
    """W_1 = 0, and W_L = 10^4 times the leading eigenvectors of Sigma_yy."""
    vectors = np.linalg.eigh(_moment(given.y, given.y))[1][:, ::-1]
    last = np.zeros_like(given.weights[-1])
    n = min(last.shape)
    last[:, :n] = 1e4 * vectors[:, :n]
    return replace(given, weights=[0 * given.weights[0], *given.weights[1:-1], last])


def _rescaled_loss(given: Case) -> float:
    return float(oracles.rescaled_loss(given, oracles.rescaling(given)))


def _infimum_error(infimum: Formula, given: Case) -> float:
    """By how much F* is below it, or stays above it far out."""
    size = float(given.precisions[-1] * np.trace(_moment(given.y, given.y)))
    below = largest(infimum(given) - _rescaled_loss(given), 0.0)
    return scaled_error(largest(below, abs(_rescaled_loss(_far_out(given)) - infimum(given))), 0.0, scale=size)


FALSE_INFIMA: dict[str, Formula] = {
    "0 whatever the width": lambda given: 0.0,
    "the largest eigenvalues": partial(_infimum, smallest=False),
}


@claim(
    key="own/noisy-data",
    statement=r"""If the least-squares fit leaves a positive definite residual moment $R$, every critical point of
        F* has $A_L = 0$ and $F^* = \pi_L\, \mathrm{tr}(\Sigma_{yy}) / 2$; all are strict saddles if
        $\Sigma_{yx} \neq 0$. F* has no minimiser. Its infimum is 0 if $N_{L-1} \ge d_y$, approached as
        $W_L \to c W_L$, $W_1 \to W_1 / c$ while the loss stays what it is; otherwise it is $\pi_L / 2$ times the
        sum of the $d_y - N_{L-1}$ smallest eigenvalues of $\Sigma_{yy}$.""",
    hypotheses=(
        "depth at least 2, any widths and precisions, scalings other than 0",
        "skips between hidden layers only, no biases",
    ),
    attribution="own",
    source="derived here",
    uses=("saddles-2024/equilibrated-energy", "saddles-2024/envelope"),
)
def noisy_data(check: Check) -> None:
    check.exact(
        "(1) in fractions, depth 2 to 4: the identity, and that it excludes critical points with A_L != 0",
        _networks(60, seed=700),
        partial(_radial_remainder, _reach),
        twins=judged(_radial_remainder, {"S for A_L K A_L^T": partial(_reach, own=1)}),
    )
    check.exact(
        "(1) at the least-squares fit the loss is stationary",
        [_fitted_exactly(given) for given in _networks(20, seed=701)],
        _loss_gradient,
        twins={"so is F*: both share their minima": lambda given: oracles.flat(_gradients(given))},
    )
    points = list(_critical(36, seed=702))
    check.exact(
        "(2) critical points with M_{L-1:1} = 0 and without, in fractions",
        points,
        partial(_critical_remainder, _plateau),
        twins=judged(_critical_remainder, {"the trace itself": partial(_plateau, factor=Fraction(1))}),
    )
    check.property(
        "(3) negative curvature where the proof says, and as much, for each first layer k",
        points,
        partial(_strictness_error, lambda value: value),
        twins=judged(_strictness_error, {"half of it": lambda value: value / 2}),
        bound=1e-6,  # a difference quotient of step 1e-9, in fractions
    )
    check.false_twin("strict without a signal", abs(_without_signal()) < 1e-6)  # 0 but for the step 1e-9
    check.exact(
        "(4) F* tends to 0 as W_L grows and W_1 shrinks, while the loss stays",
        _wide(30, seed=703),
        _fall_remainder,
        twins={"F* stays too": lambda given: [_energy(_scaled(given, 2)) - _energy(given)]},
    )
    check.property(
        "(4) the infimum, below F* of random networks and approached far out",
        _floats(300, seed=704),
        partial(_infimum_error, _infimum),
        twins=judged(_infimum_error, FALSE_INFIMA),
        seed=704,
        bound=1e-6,  # far out, at 10^4, some 10^-8 is left
    )
