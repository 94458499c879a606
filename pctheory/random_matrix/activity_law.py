r"""The limiting spectrum of the activity Hessian: density and distribution, and what is checked of them."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.polynomial.legendre import leggauss, legint, legval, legvander

from ..arguments import public, refuse_too_large, whole_number
from .bands import Search, apart, atoms, bands, mass_within
from .dyson import DysonEquation, NotConvergedError, Real, Resolvents
from .ensemble import RandomChain
from .laws import Bands, Law, order_of

NODES = 16  # of a panel of a band
ROUGH = 5e-5  # mass in the last quarter of a panel's Legendre series, above which it is halved
HALVINGS = 14  # at most: a density as steep as |x - x_0|^(-1/3) is then resolved to 1e-4
PEAK = 2e-4  # mass that is not in the panels of a band, above which they are halved further
FINER, NARROWEST = 18, 1e-10  # so many times more, but for panels of half that width in logarithms
CIRCLE = 48  # places on the upper half of the circle that moments are integrated on, twice as far as the support
MASS_ERROR = 1e-3  # where a band is narrower than what is told apart; else quadrature is off by 1e-4 at most


@dataclass(frozen=True, eq=False)
class ActivityHessianLaw(Law):
    """The law, and how it was found.

    points, densities: where the continuous part was evaluated, ascending. mass: of all bands and atoms by
    quadrature, 1 up to its error. iterations: of the fixed point, in all; residual: the largest of any solution.
    """

    points: Real
    densities: Real
    mass: float
    iterations: int
    residual: float


@public
def activity_hessian_law(
    chain: RandomChain, *, points: int = 400, tolerance: float = 1e-10, max_iterations: int = 200
) -> ActivityHessianLaw:
    r"""The limiting spectrum of H_z: widths that grow in proportion, this depth, these variances and skips.

    density(x) = Im(mean of m over the columns at x + i0) / pi, with m of the matrix Dyson equation (`dyson.py`),
    solved at x itself; `cdf` is its quadrature on at least `points` places, more where it is steep; `moment` is a
    contour integral around the support. An atom needs N_l > N_{l-1} + N_{l+1} (for l = 1: N_1 > N_2), and is at
    pi_l. `tolerance` bounds what one more iteration would change, relative, except where rounding changes more, as
    beside an atom and in narrow bands. Bands are looked for wherever a contour integral tells of more than 1e-5 of
    the mass; where a gap between two is narrower than a hundredth of its place, they may count as one. Edges are
    known to 1e-6 of their place, and the density is seen through a blur of 1e-11: where a band is so narrow or so
    steep that 1e-3 of the mass is lost, as for variances below 1e-8 beside an atom, the chain is refused.

    Raises ValueError without a hidden layer, without a random map above the first layer, and for `points` below 1;
    NotConvergedError (an ArithmeticError), never a density, where the fixed point is not reached within
    `max_iterations` or the density does not make up the mass.
    Source: own/dyson-spectrum. Twin: eigenvalues of sampled H_z. Cost: some 25 iterations of O(H) at each place.
    """
    points = whole_number("points", points, 1)
    refuse_too_large("activity_hessian_law", (chain.depth, chain.depth - 1), "take a shallower chain")
    equation = DysonEquation.of(chain, tolerance=tolerance, max_iterations=max_iterations)
    search = Search(equation, atoms(chain), equation.ladder())
    found = bands(search)
    panels = _whole(search, found, _panels(search, _cuts(found, chain, points)))

    def density(x: Any) -> Real:
        at = np.asarray(x, dtype=float)
        inside = np.logical_or.reduce([(low < at) & (at < high) for low, high in found])
        values = np.zeros(at.shape)
        if inside.any():
            values[inside] = search.density_at(at[inside])
        return values

    cdf = _cdf(panels, search.atoms)
    mass = float(cdf(2 * equation.bound))
    if not abs(mass - 1) < MASS_ERROR:
        raise NotConvergedError(
            f"chain: the quadrature of its density gives {mass:.4g}, expected 1: a band is too narrow or too "
            "steep; no density is reported"
        )
    return ActivityHessianLaw(
        found,
        search.atoms,
        density,
        cdf,
        _moments(search, found[-1][1]),
        np.concatenate([panel.places for panel in panels]),
        np.concatenate([panel.densities for panel in panels]),
        mass,
        search.iterations,
        search.residual,
    )


@dataclass(frozen=True, eq=False)
class _Panel:
    r"""A part of a band: log x = (log low + log high)/2 - (log high - log low)/2 cos(angle), angle from 0 to pi.

    In the angle a density is smooth also at an edge where it starts as a square root or its inverse. series: the
    Legendre series of the mass up to the angle pi (1 + xi)/2, in xi.
    """

    low: float
    high: float
    places: Real
    densities: Real
    series: Real

    @property
    def mass(self) -> float:
        """Of the panel."""
        return float(legval(1.0, self.series))

    def mass_below(self, x: Real) -> Real:
        """Of what lies in the panel below x."""
        middle, half = np.log(self.low) / 2 + np.log(self.high) / 2, np.log(self.high / self.low) / 2
        angle = np.arccos(np.clip((middle - np.log(np.clip(x, self.low, self.high))) / half, -1.0, 1.0))
        below: Real = legval(2 * angle / np.pi - 1, self.series)
        return below


KNOTS, WEIGHTS = leggauss(NODES)
ANGLES = np.pi / 2 * (1 + KNOTS)
TRANSFORM = (np.arange(NODES) + 0.5) * legvander(KNOTS, NODES - 1) * WEIGHTS[:, None]  # values to Legendre series


def _cuts(found: Bands, chain: RandomChain, points: int) -> list[tuple[float, float]]:
    """Panels to begin with: bands, cut where a density may be singular (at the precisions) and to enough points."""
    parts = []
    for low, high in found:
        inner = sorted({pi for pi in chain.precisions[:-1] if low * (1 + 1e-9) < pi < high * (1 - 1e-9)})
        parts += list(pairwise((low, *inner, high)))
    pieces = -(-points // (NODES * len(parts)))
    return [pair for low, high in parts for pair in pairwise(np.geomspace(low, high, pieces + 1).tolist())]


def _whole(search: Search, found: Bands, panels: list[_Panel]) -> list[_Panel]:
    """The same, halved further in bands that hold a peak which fell between the places of a panel."""
    parts = apart(np.log(found))
    mass, _ = mass_within(search, parts)
    whole: list[_Panel] = []
    peaked: list[_Panel] = []
    for low, high in found:
        within = [panel for panel in panels if low <= panel.low and panel.high <= high]
        expected = mass[(parts[:, 0] >= np.log(low)) & (parts[:, 1] <= np.log(high))].sum()
        missed = abs(sum(panel.mass for panel in within) - expected) > PEAK
        (peaked if missed else whole).extend(within)
    if peaked:
        cuts = apart(np.log([(panel.low, panel.high) for panel in peaked]))
        whole += _panels(search, [(float(low), float(high)) for low, high in np.exp(cuts)], exact=True)
    return sorted(whole, key=lambda panel: panel.low)


def _panels(search: Search, cuts: list[tuple[float, float]], exact: bool = False) -> list[_Panel]:
    """Panels halved until they are smooth, and hold what they should where this is to be `exact`; ascending."""
    done: list[_Panel] = []
    near: Resolvents | None = None  # the solutions of the panels that were halved
    most = HALVINGS + FINER * exact
    for halving in range(most + 1):
        if not cuts:
            break
        lows, highs = np.array(cuts).T
        half = np.log(highs / lows) / 2
        places = np.sqrt(lows * highs)[:, None] * np.exp(-half[:, None] * np.cos(ANGLES))
        solved = search.solved_at(places.ravel(), near)
        densities = search.density(solved).reshape(places.shape)
        series = np.pi / 2 * (densities * places * half[:, None] * np.sin(ANGLES)) @ TRANSFORM
        rough = (np.abs(series[:, -NODES // 4 :]).max(axis=1) > ROUGH) & (halving < HALVINGS)
        sums = legint(series, lbnd=-1, axis=1)
        if exact and halving < most:
            mass, _ = mass_within(search, np.log(cuts))
            rough |= (np.abs(legval(1.0, sums.T) - mass) > ROUGH / 4) & (half > NARROWEST)
        made = [_Panel(*cut, *rows) for cut, *rows in zip(cuts, places, densities, sums, strict=True)]
        done += [panel for panel, again in zip(made, rough, strict=True) if not again]
        again = np.repeat(rough, NODES)
        near = Resolvents(solved.places[again], solved.values[:, again], 0, 0.0)
        cuts = [cut for cut, again in zip(cuts, rough, strict=True) if again]
        cuts = [pair for low, high in cuts for pair in pairwise((low, float(np.sqrt(low * high)), high))]
    return sorted(done, key=lambda panel: panel.low)


def _cdf(panels: list[_Panel], atoms: Bands) -> Callable[[Any], Real]:
    highs = np.array([panel.high for panel in panels])
    lows = np.array([panel.low for panel in panels])
    before = np.concatenate([[0.0], np.cumsum([panel.mass for panel in panels])])

    def cdf(x: Any) -> Real:
        at = np.asarray(x, dtype=float)
        flat = at.ravel()
        total = before[np.searchsorted(highs, flat, side="right")]
        inside = np.searchsorted(lows, flat, side="left") - 1
        for index in np.unique(inside[inside >= 0]):
            here = (inside == index) & (flat < highs[index])
            total[here] += panels[index].mass_below(flat[here])
        for place, mass in atoms:
            total += mass * (flat >= place)
        return total.reshape(at.shape)

    return cdf


def _moments(search: Search, highest: float) -> Callable[[int], float]:
    r"""-1/(2 pi i) times the integral of lambda^k trace(lambda) around a circle, by the trapezoidal rule.

    The circle is twice as far from its centre as the support: the error falls as 2^(-2 CIRCLE).
    """
    directions = np.exp(1j * np.pi * (np.arange(CIRCLE) + 0.5) / CIRCLE)
    places = highest / 2 + highest * directions
    (around,) = search.noted([search.equation.solved(places)])
    # the lower half of the circle holds the conjugates: the real part counts both
    weights = -search.equation.trace(around) * highest * directions / CIRCLE

    def moment(k: int) -> float:
        return float((places ** order_of(k) @ weights).real)

    return moment
