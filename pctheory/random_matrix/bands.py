"""Where the spectrum of the activity Hessian lies: its atoms, and the edges of its bands."""

from dataclasses import dataclass, field

import numpy as np

from .dyson import Complex, DysonEquation, NotConvergedError, Real, Resolvents
from .ensemble import RandomChain
from .laws import Bands

# Between heights h and h/4 the imaginary part of the trace falls by 4 outside the support, not at all inside, and
# by 2 at an edge where the density rises as a square root.
FALL = 2.0
SEARCH = (1.0, 0.1, 3e-3, 1e-6, 2.5e-7)  # relative heights for telling inside from outside on the grid
NARROWING = (0.2, 0.01, 2.5e-3)  # the same within a bracket of an edge, relative to its width
GRID = 200  # points on a logarithmic, and as many on a linear scale, beside the eigenvalues of the mean
CUTS = 4  # points within a bracket of an edge
CLOSE, LIGHT = 1e-6, 1e-6  # width and mass of a bracket at the end, both reached: an edge may be steep


@dataclass(eq=False)
class Search:
    """An equation, its poles on the real axis, where its solutions start from, and what was spent on them."""

    equation: DysonEquation
    atoms: Bands
    ladder: list[Resolvents]
    iterations: int = field(init=False)
    residual: float = field(init=False)

    def __post_init__(self) -> None:
        self.iterations = sum(rung.iterations for rung in self.ladder)
        self.residual = float(np.max([rung.residual for rung in self.ladder]))

    def noted(self, solved: list[Resolvents]) -> list[Resolvents]:
        """The same, counted."""
        self.iterations += sum(one.iterations for one in solved)
        self.residual = float(np.max([self.residual, *(one.residual for one in solved)]))
        return solved

    def density(self, found: Resolvents) -> Real:
        """Of the continuous part, smoothed by the height of the places: the pole of each atom is taken off."""
        trace = self.equation.trace(found)
        for place, mass in self.atoms:
            trace = trace - mass / (place - found.places)
        density: Real = trace.imag / np.pi
        return density

    def density_at(self, points: Real) -> Real:
        """On the real axis."""
        return self.density(self.solved_at(points))

    def solved_at(self, points: Real, near: Resolvents | None = None) -> Resolvents:
        """Solutions just above the real axis, from those `near`, ascending, where they are given."""
        if near is None:
            return self.noted(self.equation.near_axis(points, self.ladder))[-1]
        return self.noted([self.equation.beside(points, near, self.ladder)])[0]


def atoms(chain: RandomChain) -> Bands:
    r"""(place, mass): directions that the random maps on both sides of a run of layers send to 0.

    A run is a layer, or several tied by maps that are not random: a map of variance 0 and skip s is s I.
    """
    n, v, s, pi = chain.widths, chain.variances, chain.skips, chain.precisions
    found: dict[float, float] = {}
    first = 1
    for last in range(1, chain.depth):
        tied = v[last] == 0 and s[last] != 0  # by the map of layer last + 1
        if tied and last < chain.depth - 1:
            continue
        below = n[first - 1] if first > 1 and v[first - 1] else 0
        above = n[last + 1] if v[last] else 0
        if (count := n[last] - below - above) > 0:
            diagonal = np.array([pi[l - 1] for l in range(first, last + 1)])
            for l in range(first, last + 1 if tied else last):
                diagonal[l - first] += pi[l] * s[l] ** 2
            beside = np.array([-pi[l] * s[l] for l in range(first, last)])
            for place in np.linalg.eigvalsh(np.diag(diagonal) + np.diag(beside, -1)):
                found[float(place)] = found.get(float(place), 0.0) + count / sum(n[1:-1])
        first = last + 1
    return tuple(sorted(found.items()))


def bands(search: Search, chain: RandomChain) -> Bands:
    """(lower edge, upper edge), ascending, from where a grid lies inside. Raises NotConvergedError for none."""
    low, high = search.ladder[-1].places[0].imag, search.equation.bound
    near = _centres(chain)
    near = near[(near > low) & (near < high)]
    grid = np.unique(np.concatenate([np.geomspace(low, high, GRID), np.linspace(low, high, GRID), near]))
    solved = search.noted(search.equation.near_axis(grid, search.ladder, SEARCH))
    inside = search.density(solved[-2]) < FALL * search.density(solved[-1])
    turns = np.flatnonzero(inside[1:] != inside[:-1])
    if not len(turns) or inside[0] or inside[-1]:
        raise NotConvergedError("chain: no band with both of its edges was found; no density is reported")
    within = np.where(inside[turns], turns, turns + 1)  # the side of each bracket that lies inside
    without = np.where(inside[turns], turns + 1, turns)
    edges = _narrowed(search, np.log(grid[within]), np.log(grid[without]), solved[1].values[:, within])
    return tuple(zip(edges[0::2].tolist(), edges[1::2].tolist(), strict=True))


def _centres(chain: RandomChain) -> Real:
    """Eigenvalues of the mean of B, squared: where the narrow bands of maps of little variance lie."""
    pi, s = np.sqrt(np.array(chain.precisions)), np.array(chain.skips)
    mean = np.zeros((chain.depth, chain.depth - 1))
    for l in range(chain.depth - 1):
        mean[l, l], mean[l + 1, l] = pi[l], -pi[l + 1] * s[l + 1]
    centres: Real = np.asarray(np.linalg.svd(mean, compute_uv=False), dtype=float) ** 2
    return centres


def _narrowed(search: Search, inner: Real, outer: Real, values: Complex) -> Real:
    """Edges between logarithms of places inside and outside, all narrowed down together; `values` to start from."""
    left = np.arange(len(inner))
    shares = np.arange(1, CUTS + 1) / (CUTS + 1)
    while left.size:
        span = (outer[left] - inner[left])[:, None]
        cuts = inner[left, None] + span * shares
        heights = [height * np.repeat(np.abs(span), CUTS) for height in NARROWING]
        start = np.repeat(values[:, left], CUTS, axis=1)
        solved = search.equation.descended(heights, np.exp(cuts).ravel(), start)
        higher, lower = (search.density(one).reshape(-1, CUTS) for one in search.noted(solved)[-2:])
        inside = np.concatenate([higher < FALL * lower, np.zeros((len(left), 1), bool)], axis=1)
        count = inside.argmin(axis=1)  # of cuts inside, counted from within
        ends = np.concatenate([inner[left, None], cuts, outer[left, None]], axis=1)
        rows, nearest = np.arange(len(left)), np.maximum(count - 2, 0)
        values[:, left] = solved[0].values.reshape(len(values), -1, CUTS)[:, rows, nearest]
        # one cut back: a point outside, but nearer to a steep edge than the height, is taken for one inside
        inner[left], outer[left] = ends[rows, np.maximum(count - 1, 0)], ends[rows, count + 1]
        width = np.abs(outer[left] - inner[left])
        mass = lower[rows, nearest] * np.exp(inner[left]) * width
        left = left[(width > CLOSE) | (mass > LIGHT)]
    edges: Real = np.exp((inner + outer) / 2)
    return edges
