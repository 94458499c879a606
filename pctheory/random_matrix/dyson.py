r"""The matrix Dyson equation of the activity Hessian H_z = B^T B, B bidiagonal with rows 1..L and columns 1..H.

    B_{l,l} = sqrt(pi_l) I,   B_{l+1,l} = -sqrt(pi_{l+1}) (s_{l+1} I + X_{l+1}),   X_l of entry variance v_l

As widths grow in proportion, the resolvents (B^T B - lambda)^-1 and (B B^T - lambda)^-1 have diagonal blocks m I,
one number for each column and each row. Hermitised, rows and columns form a path row 1, column 1, row 2, .. row L,
on which the skips and the identities couple neighbours, and the random maps couple column l with row l+1:

    m = diag of T^-1,   T tridiagonal,   T_{nn} = -lambda (1 + c_n m_{n'}),   T_{n,n+1}^2 = lambda k_n
    c_{column l} = pi_{l+1} v_{l+1} N_{l+1},   c_{row l+1} = pi_{l+1} v_{l+1} N_l,   n' the other one of the two
    k = pi_l between row l and column l,   pi_{l+1} s_{l+1}^2 between column l and row l+1

At each lambda above the real axis exactly one solution has sqrt(lambda) m in the upper half-plane (J. W. Helton,
R. Rashidi Far, R. Speicher, International Mathematics Research Notices 2007): what is found is checked for that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..arguments import whole_number
from .ensemble import RandomChain

Complex: TypeAlias = np.ndarray[Any, np.dtype[np.complex128]]
Real: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

# Of the way to the edge of the half-plane a step may go; below SHORT the averaged fixed point does better.
REACH, SHORT = 0.9, 0.2
DESCENT = (1.0, 0.1, 3e-3, 1e-11)  # heights above the real axis, relative
UPRIGHT = 10.0  # a height that is nearly the imaginary axis
PATIENCE, CLOSEST = 25, 1.01  # iterations before a height between is tried, and the least ratio of heights
# Which of a pair's three responses are to what arrives from the left, which to what arrives from the right.
FROM_LEFT, FROM_RIGHT = np.array([1.0, 0, 0]).reshape(3, 1, 1), np.array([0, 1.0, 0]).reshape(3, 1, 1)
ROUNDING = 4 * np.finfo(float).eps  # relative, of a sum of terms as large as the largest
RUNG = 2.0  # of the ladder of starting points on the imaginary axis


class NotConvergedError(ArithmeticError):
    """The fixed point of the Dyson equation was not reached: there is no density to report."""


class Resolvents(NamedTuple):
    """Solutions at `places`: m of column 1, row 2, column 2, .., row L along the first axis.

    iterations: how many were made altogether; residual: the largest relative change one more would make.
    """

    places: Complex
    values: Complex
    iterations: int
    residual: float


@dataclass(frozen=True, eq=False)
class DysonEquation:
    """The numbers of the equation, for the H pairs (column l, row l+1). weights: N_l / sum of the N_l."""

    links: Real
    skips: Real
    column_variances: Real
    row_variances: Real
    weights: Real
    tolerance: float
    max_iterations: int

    @classmethod
    def of(cls, chain: RandomChain, *, tolerance: float, max_iterations: int) -> "DysonEquation":
        """Raises ValueError without a hidden layer, or where no map above the first one is random."""
        if chain.depth < 2:
            raise ValueError(f"chain, widths are {chain.widths}: no hidden layer, so no activity Hessian; add one")
        if not any(chain.variances[1:]):
            raise ValueError(
                f"chain, variances are {chain.variances}: no map of layers 2..{chain.depth} is random, so H_z is a "
                "fixed matrix without a density; take its eigenvalues, or set a positive variance"
            )
        if not 0 < tolerance < 1:
            raise ValueError(f"tolerance is {tolerance}, expected a number between 0 and 1")
        max_iterations = whole_number("max_iterations", max_iterations, 1)
        widths, precisions = np.array(chain.widths, dtype=float), np.array(chain.precisions)
        hidden = widths[1:-1]
        with np.errstate(over="ignore", invalid="ignore"):
            variances = precisions[1:] * np.array(chain.variances[1:])
            equation = cls(
                links=precisions[:-1],
                skips=precisions[1:] * np.array(chain.skips[1:]) ** 2,
                column_variances=variances * widths[2:],
                row_variances=variances * hidden,
                weights=hidden / hidden.sum(),
                tolerance=tolerance,
                max_iterations=max_iterations,
            )
            if not np.isfinite(equation.bound):
                raise ValueError("chain: precisions times widths, variances or skips are beyond double precision")
        return equation

    def trace(self, found: Resolvents) -> Complex:
        """The mean of 1 / (eigenvalue of H_z - lambda)."""
        mean: Complex = self.weights @ found.values[0::2]
        return mean

    @property
    def bound(self) -> float:
        """Above every eigenvalue: |B| is at most the largest identity plus the largest map."""
        maps = np.sqrt(self.skips) + np.sqrt(self.column_variances) + np.sqrt(self.row_variances)
        return float((np.sqrt(self.links.max()) + maps.max()) ** 2)

    def solved(self, places: Complex, start: Complex | None = None) -> Resolvents:
        """Solutions at `places`, from `start` (default -1/lambda). Raises NotConvergedError."""
        first = np.repeat(-1 / places[None], 2 * len(self.links), axis=0) if start is None else start
        values, worst, iterations = self._iterated(places, first, self.max_iterations)
        if not self._enough(places, values, worst).all():
            raise self._failure(places, worst, iterations)
        return Resolvents(places, values, iterations, float(worst.max(initial=0.0)))

    def lowered(self, points: Real, start: Complex, above: Real, height: Real) -> Resolvents:
        """Solutions at points (1 + i height) from those at (1 + i above), through heights between if need be."""
        places = points * (1 + 1j * height)
        values, worst, iterations = self._iterated(places, start, min(PATIENCE, self.max_iterations))
        stuck = ~self._enough(places, values, worst)
        if stuck.any():
            if (above / height)[stuck].max() < CLOSEST or iterations >= self.max_iterations:
                raise self._failure(places[stuck], worst[stuck], iterations)
            between = np.sqrt(above * height)[stuck]
            half = self.lowered(points[stuck], start[:, stuck], above[stuck], between)
            rest = self.lowered(points[stuck], half.values, between, height[stuck])
            values[:, stuck], worst[stuck] = rest.values, rest.residual
            iterations += half.iterations + rest.iterations
        return Resolvents(places, values, iterations, float(worst.max(initial=0.0)))

    def _enough(self, places: Complex, values: Complex, worst: Real) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Where no more is asked for: the tolerance, or what rounding leaves of 1/m, a difference of larger terms.

        The terms are of the size of T_{nn}: beside an atom and in a narrow band they are much larger than 1/m.
        """
        lost = ROUNDING * np.abs(self._own(places, values) * values).max(axis=0)
        enough: np.ndarray[Any, np.dtype[np.bool_]] = worst <= np.maximum(self.tolerance, lost)
        return enough

    def _failure(self, places: Complex, worst: Real, iterations: int) -> NotConvergedError:
        place, most = places[np.argmax(worst)], worst.max()
        return NotConvergedError(
            f"the Dyson equation at lambda = {place:.3g} is off by {most:.2g} after {iterations} iterations, "
            f"expected {self.tolerance:.2g}; no density is reported, raise max_iterations"
        )

    def _iterated(self, places: Complex, start: Complex, limit: int) -> tuple[Complex, Real, int]:
        """Newton steps kept within the half-plane, fixed-point steps where they are short: values, what is left."""
        values = start.copy()
        left, worst, iteration = np.arange(len(places)), np.full(len(places), np.inf), 0
        while left.size and iteration < limit:
            here, z = values[:, left], places[left]
            with np.errstate(all="ignore"):  # what is not finite is not taken
                step, image = self._newton_step(z, here)
                away = np.abs(image / here - 1).max(axis=0)
                root = np.sqrt(z)
                share = REACH / np.maximum((-(root * step).imag / (root * here).imag).max(axis=0), REACH)
                moved = here + share * step
            taken = (share > SHORT) & np.isfinite(moved).all(axis=0)
            values[:, left] = np.where(taken, moved, (here + image) / 2)
            worst[left] = np.where(np.isfinite(away), away, np.inf)
            left = left[~self._enough(z, here, worst[left])]
            iteration += 1
        outside = ~((np.sqrt(places) * values).imag > 0).all(axis=0)
        worst[outside] = np.inf  # another solution, or none
        return values, worst, iteration

    def descended(self, heights: Sequence[Any], points: Real, start: Complex) -> list[Resolvents]:
        """Solutions at points (1 + i height) for falling heights (numbers, or one for each point)."""
        found: list[Resolvents] = []
        above = np.full(len(points), UPRIGHT)
        for height in heights:
            found.append(
                self.lowered(points, start, above, np.broadcast_to(np.asarray(height, float), points.shape))
            )
            start, above = found[-1].values, np.broadcast_to(np.asarray(height, float), points.shape)
        return found

    def ladder(self) -> list[Resolvents]:
        r"""Solutions at i x for x falling from the bound by `RUNG`, down to below the support.

        With x well below every eigenvalue the imaginary part of the trace is proportional to x.
        """
        x, start, found, linear = self.bound, None, [], 0
        while x > 1e-280:  # the squares of what is below are not represented
            found.append(self.solved(np.array([1j * x]), start))
            start = found[-1].values
            if len(found) > 1:
                steepness = np.log(self.trace(found[-2]).imag / self.trace(found[-1]).imag) / np.log(RUNG)
                linear = linear + 1 if steepness[0] > 0.98 else 0
            if linear > 3:  # three more rungs, for a tail of little mass
                return found
            x /= RUNG
        raise NotConvergedError(
            "chain: the support reaches below 1e-280, no number's square; no density is reported"
        )

    def near_axis(
        self, points: Real, ladder: list[Resolvents], heights: Sequence[float | Real] = DESCENT
    ) -> list[Resolvents]:
        """Solutions at points (1 + i height) for each of the heights, started from the nearest rung above."""
        rungs = np.array([rung.places[0].imag for rung in ladder])
        nearest = np.clip(np.searchsorted(-rungs, -points, side="right") - 1, 0, None)
        start = np.concatenate([rung.values for rung in ladder], axis=1)[:, nearest]
        return self.descended(heights, points, start)

    def beside(self, points: Real, near: Resolvents, ladder: list[Resolvents]) -> Resolvents:
        """As the lowest of `near_axis`, from between neighbours in `near` (ascending) where that leads to it."""
        right = np.clip(np.searchsorted(near.places.real, points), 1, len(near.places) - 1)
        low, high = near.places.real[right - 1], near.places.real[right]
        share = np.clip(np.divide(points - low, high - low, out=np.zeros(len(points)), where=high > low), 0, 1)
        places: Complex = np.asarray(points * (1 + 1j * DESCENT[-1]), dtype=np.complex128)
        start = (1 - share) * near.values[:, right - 1] + share * near.values[:, right]
        values, worst, iterations = self._iterated(places, start, min(PATIENCE, self.max_iterations))
        stuck = ~self._enough(places, values, worst)
        if stuck.any():
            solved = self.near_axis(points[stuck], ladder)
            values[:, stuck], worst[stuck] = solved[-1].values, np.max([one.residual for one in solved])
            iterations += sum(one.iterations for one in solved)
        return Resolvents(places, values, iterations, float(worst.max(initial=0.0)))

    def _own(self, z: Complex, m: Complex) -> Complex:
        """T_{nn} of all nodes but the first row, whose is -lambda."""
        own: Complex = np.repeat(-z[None], len(m), axis=0)
        own[0::2] *= 1 + self.column_variances[:, None] * m[1::2]
        own[1::2] *= 1 + self.row_variances[:, None] * m[0::2]
        return own

    def _sweeps(self, z: Complex, m: Complex) -> tuple[Complex, Complex, Complex]:
        """diag(T^-1) of all 2H + 1 nodes, and the inverse pivots of T from the first node on and from the last."""
        own = np.concatenate([-z[None], self._own(z, m)])
        couplings = z * np.stack([self.links, self.skips], axis=1).reshape(-1, 1)
        both = np.concatenate([own, own[::-1]], axis=1)  # side by side, so that one loop makes both sweeps
        reach = np.concatenate([couplings, couplings[::-1]], axis=1)
        pivots = np.empty_like(both)
        pivots[0] = 1 / both[0]
        for n in range(len(m)):
            both[n + 1] -= reach[n] * pivots[n]
            np.divide(1, both[n + 1], out=pivots[n + 1])
        count = len(z)
        backward = pivots[::-1, count:]
        diagonal = 1 / (both[:, :count] + both[::-1, count:] - own)
        return diagonal, pivots[:, :count], backward

    def _newton_step(self, z: Complex, m: Complex) -> tuple[Complex, Complex]:
        r"""The step that solves the linearised equation, and the image diag(T^-1) of m.

        The equation is taken as m_n / diag(T^-1)_n = 1: as a quotient it is nearly quadratic in m, and Newton's
        steps lead to the solution from far away. d diag(T^-1)_n = sum_k (T^-1)_{nk}^2 z c_k d m_{k'}, and
        (T^-1)_{nk}^2 is a product along the path: what reaches a pair (column, row) from its left and right is
        linear in what leaves it, so that two sweeps over the pairs solve it.
        """
        diagonal, forward, backward = self._sweeps(z, m)
        skips, links = z * self.skips[:, None], z * self.links[:, None]
        up, down = skips * backward[2::2] ** 2, skips * forward[1::2] ** 2  # within a pair, towards column and row
        to_column, to_row = z * self.column_variances[:, None], z * self.row_variances[:, None]
        column, row = diagonal[1::2] * m[0::2], diagonal[2::2] * m[1::2]
        a, d = 1 - column * up * to_row, 1 - row * down * to_column
        b, c = column * to_column, row * to_row  # of the pair's matrix [[a, -b], [-c, d]]
        scale = 1 / (a * d - b * c)
        a, b, c, d = a * scale, b * scale, c * scale, d * scale
        # the response (column, row) to what arrives from the left, from the right, and to the pair's own residual
        back, on = up * column, down * row
        residual = diagonal[1:] - m
        from_left = d * column + b * on, a * on + c * column
        from_right = d * back + b * row, a * row + c * back
        own = d * residual[0::2] + b * residual[1::2], a * residual[1::2] + c * residual[0::2]
        responses = np.array([from_left, from_right, own])
        u, v = to_row * responses[:, 0], to_column * responses[:, 1]
        leftward, rightward = links * backward[1::2] ** 2, links[1:] * forward[2:-1:2] ** 2
        rightward = np.concatenate([rightward, np.zeros((1, len(z)))])  # to no one
        left, right = _two_sided(leftward * (v + up * (u + FROM_RIGHT)), rightward * (u + down * (v + FROM_LEFT)))
        step = np.empty_like(m)
        for k in (0, 1):
            step[k::2] = from_left[k] * left + from_right[k] * right + own[k]
        return step, diagonal[1:]


def _two_sided(leftward: Complex, rightward: Complex) -> tuple[Complex, Complex]:
    """What arrives at each pair from the left and the right, nothing arriving at the ends.

    leftward, rightward: what leaves a pair for what arrives from the left, from the right, and of its own.
    """
    (ll, rl, sl), (lr, rr, sr) = leftward, rightward
    returned, sent = np.zeros_like(ll), np.zeros_like(ll)  # from the left: returned * (what was sent there) + sent
    for n in range(len(ll) - 1):
        through = lr[n] / (1 - ll[n] * returned[n])
        returned[n + 1] = rr[n] + through * returned[n] * rl[n]
        sent[n + 1] = sr[n] + through * (sent[n] + returned[n] * sl[n])
    left, right = np.zeros_like(ll), np.zeros_like(ll)
    for n in range(len(ll) - 1, -1, -1):
        leaving = (ll[n] * sent[n] + rl[n] * right[n] + sl[n]) / (1 - ll[n] * returned[n])
        left[n] = returned[n] * leaving + sent[n]
        if n:
            right[n - 1] = leaving
    return left, right
