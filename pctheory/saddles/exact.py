r"""Gradient, Hessian and inertia in exact arithmetic: of loss and F*, for weights and data in fractions.

For an MLP at unit precision without biases, per example, with z_l, e_l activities and errors at equilibrium,
P_l the map from layer l to the output, S_l = I + W_l S_{l-1} W_l^T with S_0 = 0, and S = S_L,

    dF*/dW_l   = -e_l z_{l-1}^T
    J_l        = -P_l (x) z_{l-1}^T - e_l^T (x) P_{l-1} S_{l-1}        (d_y rows; W_l row by row)
    Hessian    = J^T S^-1 J  +  second order of residual and rescaling:
        W_l, W_l:          -e_l e_l^T (x) S_{l-1}
        W_k, W_m, k < m:   -e_m,p [ M_{m-1:k+1,qi} z_{k-1,j} + (M_{m-1:k} S_{k-1})_qj e_k,i ]   at W_k,ij and W_m,pq

and the loss is the same with z_l feedforward, e_l = P_l^T r, S_l = 0 for l < L and S = I. No autodiff, no rounding.
Scalings, skips and precisions only change coordinates: put A_l for W_l (times sqrt(pi_l / pi_{l-1})).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from numbers import Integral, Rational
from typing import Any, TypeAlias

import numpy as np

from ..arguments import is_number, public, refuse_too_large, shown
from .classification import Classification, kind_of

try:
    import flint
except ImportError:
    flint = None  # type: ignore[assignment]

Exact: TypeAlias = np.ndarray  # of Fraction, or of what was given
# The memory of a fraction of small numbers, in doubles.
FRACTION = 16


@dataclass(frozen=True)
class ExactDerivatives:
    """Value, gradient (length P) and Hessian (P x P) in fractions, weights ordered layer by layer, row by row."""

    value: Rational
    gradient: Exact
    hessian: Exact


@public
def exact_derivatives(weights: Sequence[Any], x: Any, y: Any, *, equilibrated: bool = True) -> ExactDerivatives:
    """Value, gradient and Hessian of F* (or, with `equilibrated=False`, of the loss) in all weights.

    Weights and data are nested lists or arrays of whole numbers or fractions; rows of x and y are examples. The
    result is in fractions, of Python or of the type that was given (those of gmpy2 are ten times as fast).
    Raises TypeError for numbers that were rounded, ValueError for shapes that do not fit.
    Twin: autodiff. Cost: about B d_y P^2 products of fractions; meant for P up to about 60.
    """
    maps = [_exact(w, f"weights, layer {l}") for l, w in enumerate(weights, start=1)]
    xs, ys = _exact(x, "x"), _exact(y, "y")
    _check_shapes(maps, xs, ys)
    size = sum(w.size for w in maps)
    refuse_too_large("exact_derivatives", (FRACTION, size, size), "take a smaller network")
    chain = _Chain.of(maps, equilibrated)
    value, gradient, hessian = Fraction(0), _zeros(size), _zeros(size, size)
    for x_row, y_row in zip(xs, ys, strict=True):
        z, e = chain.sweep(x_row, y_row)
        value += (y_row - chain.output(x_row)) @ e[-1] / (2 * len(xs))
        gradient -= np.concatenate([np.kron(e[l + 1], z[l]) for l in range(len(maps))])
        jacobian = -np.concatenate(
            [
                np.kron(chain.to_output[l + 1], z[l][None])
                + np.kron(e[l + 1][None], chain.to_output[l] @ chain.spread[l])
                for l in range(len(maps))
            ],
            axis=1,
        )
        hessian += jacobian.T @ chain.inverse @ jacobian + _second_order(chain, z, e)
    return ExactDerivatives(value, gradient / len(xs), hessian / len(xs))


@public
def exact_classification(
    weights: Sequence[Any], x: Any, y: Any, *, equilibrated: bool = True, least: Any = 0
) -> Classification:
    """As `classification`, decided without rounding: gradient exactly 0, rank and inertia of exact matrices.

    Raises ImportError where python-flint is missing, besides as `exact_derivatives`.
    """
    if not is_number(least) and not isinstance(least, Rational):  # of any size
        raise TypeError(f"least is {shown(least)}, expected a number")
    found = exact_derivatives(weights, x, y, equilibrated=equilibrated)
    product = _exact(weights[0], "weights, layer 1")
    for l, w in enumerate(weights[1:], start=2):
        product = _exact(w, f"weights, layer {l}") @ product
    inertia = exact_inertia(found.hessian)
    critical = not np.any(found.gradient)
    try:
        parts = (found.value, found.gradient, found.hessian)
        value, gradient, hessian = (np.asarray(part).astype(float) for part in parts)
    except OverflowError as error:
        raise FloatingPointError("exact_classification: a derivative is beyond double precision") from error
    return Classification(
        kind=kind_of(critical, inertia, found.value == least),
        value=float(value),
        gradient_norm=float(np.linalg.norm(gradient)),
        rank=_rank(product),
        inertia=inertia,
        smallest=float(np.linalg.eigvalsh(hessian)[0]),
    )


@public
def exact_inertia(matrix: Any) -> tuple[int, int, int]:
    """How many eigenvalues of a symmetric matrix of fractions are negative, zero and positive.

    By Descartes' rule, exact where all roots are real: the sign changes of the characteristic polynomial.
    Raises ImportError where python-flint is missing, ValueError for a matrix that is not symmetric.
    """
    entries = _exact(matrix, "matrix")
    if entries.shape[0] != entries.shape[1] or np.any(entries != entries.T):
        raise ValueError(f"matrix has shape {entries.shape} and must equal its transpose; symmetrise it")
    coefficients = _fmpq_matrix(entries).charpoly().coeffs()
    signs = [(c > 0) - (c < 0) for c in coefficients]
    zero = next(i for i, sign in enumerate(signs) if sign)
    changes = sum(a != b for a, b in pairwise(sign for sign in signs if sign))
    return len(entries) - zero - changes, zero, changes


@dataclass(frozen=True)
class _Chain:
    """Maps, P_0..P_L, S_0..S_{L-1} (zero for the loss) and S^-1."""

    maps: list[Exact]
    to_output: list[Exact]
    spread: list[Exact]
    inverse: Exact

    @classmethod
    def of(cls, maps: list[Exact], equilibrated: bool) -> "_Chain":
        to_output = [_identity(len(maps[-1]))]
        for w in reversed(maps):
            to_output.insert(0, to_output[0] @ w)
        spread = [_zeros(maps[0].shape[1], maps[0].shape[1])]
        for w in maps:
            spread.append(equilibrated * (_identity(len(w)) + w @ spread[-1] @ w.T))
        inverse = _inverse(spread[-1]) if equilibrated else _identity(len(maps[-1]))
        return cls(maps, to_output, spread[:-1], inverse)

    def output(self, x: Exact) -> Exact:
        return self.to_output[0] @ x

    def sweep(self, x: Exact, y: Exact) -> tuple[list[Exact], list[Exact]]:
        """z_0..z_{L-1} and e_0..e_L, e_0 = P_0^T S^-1 r."""
        pull = self.inverse @ (y - self.output(x))
        errors = [p.T @ pull for p in self.to_output]
        mean, activities = x, []
        for w, s, e in zip(self.maps, self.spread, errors[:-1], strict=True):
            activities.append(mean + s @ e)
            mean = w @ mean
        return activities, errors


def _second_order(chain: _Chain, z: list[Exact], e: list[Exact]) -> Exact:
    """What moves in residual and rescaling when two weights move."""
    stops = np.cumsum([0, *(w.size for w in chain.maps)]).tolist()
    total = _zeros(stops[-1], stops[-1])
    for k, first in enumerate(chain.maps):
        rows = slice(stops[k], stops[k + 1])
        total[rows, rows] = -np.kron(np.outer(e[k + 1], e[k + 1]), chain.spread[k])
        above = _identity(len(first))  # M_{m-1:k+1}
        for m in range(k + 1, len(chain.maps)):
            both = _times(above.T, z[k]) + np.einsum("qj,i->ijq", above @ first @ chain.spread[k], e[k + 1])
            block = -np.einsum("ijq,p->ijpq", both, e[m + 1]).reshape(first.size, -1)
            columns = slice(stops[m], stops[m + 1])
            total[rows, columns], total[columns, rows] = block, block.T
            above = chain.maps[m] @ above
    return total


def _times(matrix: Exact, row: Exact) -> Exact:
    """Entry [i, j, q] is matrix[i, q] row[j]."""
    return np.einsum("iq,j->ijq", matrix, row)


def _exact(values: Any, name: str) -> Exact:
    try:
        array = np.asarray(values, dtype=object)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is {shown(values)}, expected a list of lists of whole numbers") from error
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}, expected two axes that are not empty; reshape it")
    if wrong := [v for v in array.ravel() if not isinstance(v, Rational | np.integer) or isinstance(v, bool)]:
        raise TypeError(
            f"{name} holds {shown(wrong[0])}, expected whole numbers or fractions; convert it to Fraction"
        )
    return _fractions(array)


def _fractions(values: np.ndarray) -> Exact:
    """Whole numbers become fractions, others stay what they are."""
    flat: Iterable[Rational] = (Fraction(int(v)) if isinstance(v, Integral) else v for v in values.ravel())
    return np.array([*flat, None], dtype=object)[:-1].reshape(values.shape)


def _check_shapes(maps: list[Exact], x: Exact, y: Exact) -> None:
    if not maps:
        raise ValueError("weights is empty; a network needs at least one layer")
    for l, (below, above) in enumerate(pairwise(maps), start=2):
        if above.shape[1] != len(below):
            raise ValueError(f"weights, layer {l} has shape {above.shape}, expected (any, {len(below)})")
    wanted = (len(x), maps[0].shape[1]), (len(x), len(maps[-1]))
    if (x.shape, y.shape) != wanted:
        raise ValueError(f"x has shape {x.shape} and y {y.shape}, expected {wanted[0]} and {wanted[1]}")


def _zeros(*shape: int) -> Exact:
    return np.full(shape, Fraction(0), dtype=object)


def _identity(size: int) -> Exact:
    return _fractions(np.eye(size, dtype=int).astype(object))


def _inverse(positive_definite: Exact) -> Exact:
    """By elimination without exchanges."""
    size = len(positive_definite)
    rows = np.concatenate([positive_definite, _identity(size)], axis=1)
    for k in range(size):
        rows[k] = rows[k] / rows[k, k]
        for i in set(range(size)) - {k}:
            rows[i] = rows[i] - rows[i, k] * rows[k]
    return rows[:, size:]


def _rank(matrix: Exact) -> int:
    return int(_fmpq_matrix(matrix).rank())


def _fmpq_matrix(matrix: Exact) -> Any:
    if flint is None:
        raise ImportError("exact ranks and inertias need python-flint: pip install 'pctheory[rigorous]'")
    entries = [flint.fmpq(int(v.numerator), int(v.denominator)) for v in matrix.ravel()]
    return flint.fmpq_mat(matrix.shape[0], matrix.shape[1], entries)
