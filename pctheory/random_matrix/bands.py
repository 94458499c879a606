"""Where the spectrum of the activity Hessian lies: its atoms, and the edges of its bands."""

from dataclasses import dataclass, field

import numpy as np
from numpy.polynomial.legendre import leggauss

from .dyson import Complex, DysonEquation, NotConvergedError, Real, Resolvents
from .ensemble import RandomChain
from .laws import Bands

# Between heights h and h/4 the imaginary part of the trace falls by 4 outside the support, not at all inside, and
# by 2 at an edge where the density rises as a square root.
FALL = 2.0
SEARCH = (1.0, 0.1, 3e-3, 1e-6, 2.5e-7)  # relative heights for telling inside from outside on a grid
NARROWING = (0.2, 0.01, 2.5e-3)  # the same within a bracket of an edge, relative to its width
GRID = 200  # points on a logarithmic, and as many on a linear scale
CUTS = 4  # points within a bracket of an edge
WIDEST = 2.0  # a gap, in logarithms, so that the half circle above it stays in the right half-plane
POLE_ROUNDING = 100 * np.finfo(float).eps  # relative to the distance from an atom
LEAST = 1e-5  # mass that is looked for in gaps, relative to that of all bands
BLUR = 1e-9  # relative width of what is not told apart
LONGER = 1e3 ** np.arange(1, 4)  # widths of a band that gaps beside it are cut at
PIECES = 100  # for each layer, that gaps are cut into at a time, at most
CLOSE, LIGHT = 1e-6, 1e-6  # width of a bracket at the end (less beside a narrow band) and its mass: it may be steep

# Angles of a half circle and their weights, crowded at its ends, where bands may begin with a square root.
_KNOTS, _WEIGHTS = leggauss(24)
TURNS = np.pi * np.sin(np.pi / 4 * (1 + _KNOTS)) ** 2
TURN_WEIGHTS = _WEIGHTS * np.pi**2 / 4 * np.sin(np.pi / 2 * (1 + _KNOTS))


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

    def continuous(self, found: Resolvents) -> Complex:
        """The trace of the continuous part: the pole of each atom is taken off."""
        trace = self.equation.trace(found)
        for place, mass in self.atoms:
            trace = trace - mass / (place - found.places)
        return trace

    def density(self, found: Resolvents) -> Real:
        """Of the continuous part, smoothed by the height of the places; 0 where an atom's rounding hides it."""
        density: Real = self.continuous(found).imag / np.pi
        for place, mass in self.atoms:
            density[density < POLE_ROUNDING * mass * place / np.abs(place - found.places) ** 2] = 0.0
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


def bands(search: Search) -> Bands:
    """(lower edge, upper edge), ascending: those seen on a grid, and those that mass between them tells of.

    Raises NotConvergedError where mass lies between the bands and none is found there.
    """
    continuous = 1 - sum(mass for _, mass in search.atoms)
    low, high = search.ladder[-1].places[0].imag, search.equation.bound
    grid = np.unique(np.concatenate([np.geomspace(low, high, GRID), np.linspace(low, high, GRID)]))
    found = _bands_on(search, np.log(grid)[None])
    gaps = _outside(found, np.log(low), np.log(high))
    most = len(gaps) + PIECES * (len(search.equation.links) + 1)
    while len(gaps) <= most:
        mass, centre = mass_within(search, gaps)
        hiding = (mass > LEAST * continuous) & (np.diff(gaps, axis=1)[:, 0] > BLUR)
        if not hiding.any() and len(found):
            return tuple((float(low), float(high)) for low, high in np.exp(found[np.argsort(found[:, 0])]))
        if not hiding.any():
            break
        rows = _around(gaps[hiding], centre[hiding])
        more = _bands_on(search, rows)
        found = np.concatenate([found, more])
        gaps = np.concatenate([_rest(row, more) for row in rows])
    raise NotConvergedError(
        f"chain: the bands that hold the mass near {np.exp(gaps[0, 0]):.4g} were not found; no density is reported"
    )


def _bands_on(search: Search, rows: Real) -> Real:
    """Bands that hold places of the `rows`, each of them ascending from one end of a gap to the other.

    All in logarithms, as below.
    """
    grid = rows.ravel()
    solved = search.noted(search.equation.near_axis(np.exp(grid), search.ladder, SEARCH))
    inside = (search.density(solved[-2]) < FALL * search.density(solved[-1])).reshape(rows.shape)
    inside[:, [0, -1]] = False
    inside = inside.ravel()
    turns = np.flatnonzero(inside[1:] != inside[:-1])
    within = np.where(inside[turns], turns, turns + 1)  # the side of each bracket that lies inside
    without = np.where(inside[turns], turns + 1, turns)
    return _narrowed(search, grid[within], grid[without], solved[1].values[:, within]).reshape(-1, 2)


def apart(gaps: Real) -> Real:
    """The same, none wider than `WIDEST`."""
    parts = [np.linspace(low, high, int((high - low) / WIDEST) + 2) for low, high in gaps]
    return np.concatenate([np.stack([part[:-1], part[1:]], axis=1) for part in parts])


def _outside(found: Real, low: float, high: float) -> Real:
    """Gaps between low, the bands and high; short beside a narrow band, so that it is far from no half circle."""
    widths = found[:, 1] - found[:, 0]
    starts, ends = [low, *found[:, 1]], [*found[:, 0], high]
    gaps = []
    for start, end, below, above in zip(starts, ends, [np.inf, *widths], [*widths, np.inf], strict=True):
        cuts = np.concatenate([[start, end], start + below * LONGER, end - above * LONGER])
        cuts = np.unique(cuts[(start <= cuts) & (cuts <= end)])
        gaps.append(np.stack([cuts[:-1], cuts[1:]], axis=1))
    return apart(np.concatenate(gaps))


def mass_within(search: Search, gaps: Real) -> tuple[Real, Real]:
    r"""Of the continuous part in each of the gaps, exact up to rounding: its mass and its mean place.

    The moments are -1/pi Im of the integral of trace(e^w) (w - middle)^k e^w dw over the half circle above the gap.
    """
    middle, radius = gaps.mean(axis=1, keepdims=True), np.diff(gaps, axis=1) / 2
    offsets = radius * np.exp(1j * TURNS)
    places = np.exp(middle + offsets)
    flat = places.ravel()
    heights = np.maximum(flat.imag / flat.real, np.finfo(float).eps)  # 0 where a gap is narrower than rounding
    (found,) = search.noted(search.equation.near_axis(flat.real, search.ladder, (heights,)))
    trace = search.continuous(found).reshape(places.shape)
    shares = -(trace * places * 1j * offsets * TURN_WEIGHTS) / np.pi
    mass: Real = shares.sum(axis=1).imag
    with np.errstate(all="ignore"):  # there may be no mass
        centre: Real = middle[:, 0] + (shares * offsets).sum(axis=1).imag / mass
    return mass, centre


def _around(gaps: Real, centre: Real) -> Real:
    """Rows of five: each gap's ends, where its mass has its mean, and a place on either side of that."""
    low, high = gaps.T
    centre = np.where((low < centre) & (centre < high), centre, (low + high) / 2)
    aside = (high - low) / 6
    left, right = np.maximum(centre - aside, (low + centre) / 2), np.minimum(centre + aside, (centre + high) / 2)
    return np.stack([low, left, centre, right, high], axis=1)


def _rest(row: Real, found: Real) -> Real:
    """What is left of a gap: outside the bands found in it; without any, cut on either side of the mean."""
    new = found[(row[0] < found[:, 0]) & (found[:, 1] < row[-1])]
    return _outside(new, row[0], row[-1]) if len(new) else np.stack([row[[0, 1, 3]], row[[1, 3, 4]]], axis=1)


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
        extent = np.repeat(np.minimum(10 * (outer[1::2] - outer[0::2]), 1.0), 2)[left]
        left = left[((width > CLOSE * extent) | (mass > LIGHT)) & (width > BLUR)]
    edges: Real = (inner + outer) / 2
    return edges
