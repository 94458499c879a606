"""Slow twins, written from the definitions in plain NumPy. None of them calls pctheory.

They take a `Case` of floats or, through `Case.converted`, of fractions or mpmath numbers.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .cases import Case


def solve(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a^-1 b; for numbers other than floats by elimination with pivoting."""
    if a.dtype != object:
        return np.linalg.solve(a, b)
    rows, n = np.concatenate([a, b], axis=1).tolist(), len(a)
    for k in range(n):
        pivot = max(range(k, n), key=lambda i: abs(rows[i][k]))
        rows[k], rows[pivot] = rows[pivot], rows[k]
        for i in range(k + 1, n):
            if rows[i][k]:
                _add(-rows[i][k] / rows[k][k], rows[k], rows[i])
    found = [row[n:] for row in rows]
    for k in reversed(range(n)):
        for j in range(k + 1, n):
            _add(-rows[k][j], found[j], found[k])
        found[k] = [v / rows[k][k] for v in found[k]]
    return np.array(found, dtype=object).reshape(b.shape)


def _add(factor: Any, row: list[Any], other: list[Any]) -> None:
    """other += factor * row."""
    if factor:
        other[:] = [u + factor * v if v else u for u, v in zip(other, row, strict=True)]


def determinant(a: np.ndarray) -> float:
    """The product of the pivots: for numbers other than floats, where the leading minors do not vanish."""
    return np.prod(pivots(a))


def pivots(a: np.ndarray) -> list[float]:
    """Those of elimination without exchanges: all positive iff a symmetric matrix is positive definite."""
    rows, found = a.copy(), []
    for k in range(len(a)):
        found.append(rows[k, k])
        for i in range(k + 1, len(a)):
            rows[i] = rows[i] - rows[i, k] / rows[k, k] * rows[k]
    return found


def second_differences(function: Callable[[np.ndarray], float], start: np.ndarray) -> np.ndarray:
    """Mixed second differences with steps of 1 from a vector: for a quadratic function its Hessian."""
    steps = np.eye(len(start), dtype=int)
    origin, moved = function(start), [function(start + d) for d in steps]
    rows = range(len(start))
    return np.array(
        [[function(start + steps[i] + steps[j]) - moved[i] - moved[j] + origin for j in rows] for i in rows]
    )


def flat(arrays: Iterable[np.ndarray]) -> np.ndarray:
    """All entries of the layers' arrays in one row."""
    return np.concatenate([np.zeros(0, dtype=int), *(np.ravel(a) for a in arrays)])


def feedforward(case: "Case") -> list[np.ndarray]:
    """z_1..z_L."""
    activities, z = [], case.x
    for a, c in zip(case.maps, case.biases, strict=True):
        z = z @ a.T + c
        activities.append(z)
    return activities


def residual(case: "Case") -> np.ndarray:
    """y minus the network's output."""
    return case.y - feedforward(case)[-1]


def loss(case: "Case") -> float:
    return (residual(case) ** 2).sum() / (2 * len(case.x))


def errors(case: "Case", hidden: list[np.ndarray]) -> list[np.ndarray]:
    """z_l - A_l z_{l-1} - c_l."""
    z = [case.x, *hidden, case.y]
    return [z[l + 1] - z[l] @ a.T - c for l, (a, c) in enumerate(zip(case.maps, case.biases, strict=True))]


def layer_energies(case: "Case", hidden: list[np.ndarray]) -> list[float]:
    return [
        pi * (e**2).sum() / (2 * len(case.x)) for pi, e in zip(case.precisions, errors(case, hidden), strict=True)
    ]


def energy(case: "Case", hidden: list[np.ndarray]) -> float:
    return sum(layer_energies(case, hidden))


def partial_weight_gradient(case: "Case", hidden: list[np.ndarray]) -> list[np.ndarray]:
    """-a_l pi_l mean(e_l z_{l-1}^T)."""
    below = [case.x, *hidden]
    return [
        -case.scalings[l] * case.precisions[l] * (e.T @ below[l]) / len(case.x)
        for l, e in enumerate(errors(case, hidden))
    ]


def linear_system(case: "Case") -> tuple[np.ndarray, np.ndarray]:
    """H_z and one right-hand side per example: grad_z F = H_z z - b, from the stacked errors A z - t."""
    stops = np.cumsum([0, *case.widths[1:]])
    total, hidden = stops[-1], stops[-2]
    bidiagonal = np.zeros((total, total), dtype=case.x.dtype) + np.eye(total, dtype=int)
    target = np.zeros((len(case.x), total), dtype=case.x.dtype) + np.concatenate(case.biases)
    target[:, : stops[1]] += case.x @ case.maps[0].T
    target[:, hidden:] -= case.y
    for l, a in enumerate(case.maps[1:], start=1):
        bidiagonal[stops[l] : stops[l + 1], stops[l - 1] : stops[l]] = -a
    bidiagonal = bidiagonal[:, :hidden]  # the output is clamped
    weighted = bidiagonal.T * np.repeat(case.precisions, case.widths[1:])
    return _sparse_product(weighted, bidiagonal), _sparse_product(target, weighted.T)


def _sparse_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a b; for numbers other than floats past the zeros."""
    if a.dtype != object:
        return a @ b
    entries = [[(j, v) for j, v in enumerate(row) if v] for row in b.tolist()]
    total = np.zeros((len(a), b.shape[1]), dtype=object).tolist()
    for row, found in zip(a.tolist(), total, strict=True):
        for k, u in enumerate(row):
            if u:
                for j, v in entries[k]:
                    found[j] += u * v
    return np.array(total, dtype=object).reshape(len(a), b.shape[1])


def condition(case: "Case") -> float:
    """cond(H_z), by which a solve for the activities magnifies rounding; 1 where there are none."""
    return float(np.linalg.cond(linear_system(case)[0])) if case.depth > 1 else 1.0


def equilibrium(case: "Case") -> list[np.ndarray]:
    """z_1..z_H from the dense linear system."""
    hessian, b = linear_system(case)
    if not len(hessian):
        return []
    return np.split(solve(hessian, b.T).T, np.cumsum(case.widths[1:-2]), axis=1)


def residual_is_unseen(case: "Case") -> bool:
    """Whether P_l^T r = 0 for every example and every l < L: no hidden layer feels a pull."""
    r = residual(case)
    return not any(np.any(r @ p) for p in output_maps(case)[:-1])


def output_maps(case: "Case") -> list[np.ndarray]:
    """P_1..P_L."""
    maps = [np.eye(case.widths[-1], dtype=int) + 0 * case.weights[-1][:, :1]]
    for a in reversed(case.maps[1:]):
        maps.append(maps[-1] @ a)
    return maps[::-1]


def rescaling(case: "Case") -> np.ndarray:
    """S by the forward recursion S_l = I / pi_l + A_l S_{l-1} A_l^T."""
    s = 0
    for l, (a, pi) in enumerate(zip(case.maps, case.precisions, strict=True)):
        s = np.eye(len(a), dtype=int) / pi + (a @ s @ a.T if l else 0)
    return s


def rescaled_loss(case: "Case", s: np.ndarray) -> float:
    """mean (1/2) r^T S^-1 r for a given S."""
    r = residual(case)
    return (r * solve(s, r.T).T).sum() / (2 * len(r))


def scale(case: "Case", hidden: list[np.ndarray]) -> float:
    """The size of the quadratic quantities: mean over the batch of |y|^2 + |prediction|^2 + |z|^2."""
    arrays = [case.y, *feedforward(case), *hidden]
    return float(sum((a**2).sum() for a in arrays)) / len(case.x)


def along(case: "Case", change: list[np.ndarray], *, rescaled: bool = True) -> tuple[Any, Any, Any]:
    """The first three Taylor coefficients in t of F*, or of the loss, with weights W_l + t change_l."""
    zero = [0 * a for a in case.maps]
    lines = [(a, c * d, n) for a, c, d, n in zip(case.maps, case.scalings, change, zero, strict=True)]
    z = (case.x.T, 0 * case.x.T, 0 * case.x.T)
    s: Series | None = None
    for line, bias, pi in zip(lines, case.biases, case.precisions, strict=True):
        z = _times(line, z)
        z = (z[0] + bias[:, None], *z[1:])
        noise = np.eye(len(bias), dtype=int) / pi
        passed = _times(_times(line, s), tuple(a.T for a in line)) if s else tuple(0 * noise for _ in range(3))
        s = (noise + passed[0], *passed[1:])
    r = (case.y.T - z[0], -z[1], -z[2])
    assert s is not None
    u = list(r)
    for k in range(3) if rescaled else ():
        u[k] = solve(s[0], r[k] - sum((s[k - i] @ u[i] for i in range(k)), 0 * r[k]))
    totals = [sum((r[i] * u[k - i]).sum() for i in range(k + 1)) / (2 * len(case.x)) for k in range(3)]
    return totals[0], totals[1], totals[2]


Series = tuple[np.ndarray, ...]  # coefficients of t^0, t^1, t^2


def _times(a: Series, b: Series) -> Series:
    return tuple(sum(a[i] @ b[k - i] for i in range(k + 1)) for k in range(3))
