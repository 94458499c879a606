r"""Limiting spectra in closed form: Marchenko-Pastur, semicircle, free-probability edges, orthogonal weights."""

from collections.abc import Callable
from dataclasses import dataclass
from math import comb, inf, isfinite, sqrt
from typing import Any, TypeAlias

import numpy as np

from ..arguments import listed, number, public, refuse_too_large, shown, whole_number

Numbers: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Bands: TypeAlias = tuple[tuple[float, float], ...]

SMALLEST_VARIANCE = 1e-200  # below, powers in the formula of the edges are beyond double precision
HIGHEST_MOMENT = 500  # above, the binomial coefficients in them are beyond double precision


@dataclass(frozen=True, eq=False)
class Law:
    r"""A probability law on the real line, where the eigenvalues of a large random matrix lie.

    `density` is that of the continuous part, on its `bands` (lower edge, upper edge), ascending; `atoms` are
    (place, mass). `cdf` counts both and reaches 1. `moment(k)` is the mean of the k-th power, k >= 0.
    """

    bands: Bands
    atoms: Bands
    density: Callable[[Any], Numbers]
    cdf: Callable[[Any], Numbers]
    moment: Callable[[int], float]

    @property
    def edges(self) -> tuple[float, float]:
        """The lowest and the highest place of the law, atoms included."""
        places = [place for band in self.bands for place in band] + [place for place, _ in self.atoms]
        return min(places), max(places)

    def shifted(self, offset: float) -> "Law":
        """The law of an eigenvalue plus `offset`."""
        return Law(
            tuple((low + offset, high + offset) for low, high in self.bands),
            tuple((place + offset, mass) for place, mass in self.atoms),
            lambda x: self.density(np.asarray(x, dtype=float) - offset),
            lambda x: self.cdf(np.asarray(x, dtype=float) - offset),
            lambda k: float(sum(comb(k, j) * offset ** (k - j) * self.moment(j) for j in range(k + 1))),
        )


@public
def mixture(laws: tuple[Law, ...], shares: tuple[float, ...]) -> Law:
    """The law drawn from `laws[i]` with probability `shares[i]`. Bands that overlap are joined.

    Raises ValueError unless there are as many shares as laws, positive and of sum 1.
    """
    laws, shares = listed("laws", laws), listed("shares", shares)
    if len(laws) != len(shares) or not laws:
        raise ValueError(f"shares has {len(shares)} entries, expected {len(laws)}: one per law, at least one")
    if (
        not all(number("shares", share) > 0 for share in shares) or not abs(sum(shares) - 1) < 1e-9
    ):  # rounding of a few thousand terms
        raise ValueError(f"shares are {shares}, expected positive numbers of sum 1")
    for law in laws:
        if not isinstance(law, Law):
            raise TypeError(f"laws holds {shown(law)}, expected laws such as semicircle(1.0)")
    pairs = tuple(zip(laws, shares, strict=True))
    bands: list[tuple[float, float]] = []
    for low, high in sorted(band for law in laws for band in law.bands):
        if bands and low <= bands[-1][1]:
            bands[-1] = (bands[-1][0], max(high, bands[-1][1]))
        else:
            bands.append((low, high))
    atoms: dict[float, float] = {}
    for law, share in pairs:
        for place, mass in law.atoms:
            atoms[place] = atoms.get(place, 0.0) + share * mass
    return Law(
        tuple(bands),
        tuple(sorted(atoms.items())),
        lambda x: np.asarray(sum(share * law.density(x) for law, share in pairs)),
        lambda x: np.asarray(sum(share * law.cdf(x) for law, share in pairs)),
        lambda k: float(sum(share * law.moment(k) for law, share in pairs)),
    )


@public
def marchenko_pastur(ratio: float, variance: float = 1.0) -> Law:
    r"""The law of X^T X / n, p/n = ratio, for an n x p matrix X of independent centred entries and this variance.

    density(x) = sqrt((b - x)(x - a)) / (2 pi ratio variance x) on [a, b], a, b = variance (1 -+ sqrt(ratio))^2,
    and an atom of mass 1 - 1/ratio at 0 where ratio > 1. A map of entry variance v from N_l to N_{l+1} has
    A^T A of ratio N_l / N_{l+1} and variance N_{l+1} v.

    Raises ValueError unless both are positive and finite.
    Source: V. A. Marchenko, L. A. Pastur, Math. USSR Sbornik 1 (1967).
    """
    y, scale = _positive("ratio", ratio), _positive("variance", variance)
    a, b = _finite_edges(scale * (1 - sqrt(y)) ** 2, scale * (1 + sqrt(y)) ** 2)
    atom = max(0.0, 1 - 1 / y)

    def density(x: Any) -> Numbers:
        places = np.asarray(x, dtype=float)
        inside = (places > a) & (places < b)
        at = np.where(inside, places, (a + b) / 2)
        return np.asarray(np.where(inside, np.sqrt((b - at) * (at - a)) / (2 * np.pi * y * scale * at), 0.0))

    def cdf(x: Any) -> Numbers:
        places = np.asarray(x, dtype=float)
        at = np.clip(places, a, b)  # the continuous part is flat outside
        root = np.sqrt((b - at) * (at - a))
        first = (a + b) * np.arctan2(np.sqrt(at - a), np.sqrt(b - at))
        third = 2 * np.sqrt(a * b) * np.arctan2(np.sqrt(b * (at - a)), np.sqrt(a * (b - at)))
        return np.asarray((root + first - third) / (2 * np.pi * y * scale) + atom * (places >= 0))

    def moment(k: int) -> float:
        order = order_of(k)
        terms = (comb(order, r) * comb(order - 1, r) * y**r / (r + 1) for r in range(order))
        return _finite_moment(order, lambda: scale**order * sum(terms)) if order else 1.0

    return Law(((a, b),), ((0.0, atom),) if atom else (), density, cdf, moment)


@public
def semicircle(radius: float) -> Law:
    r"""density(x) = 2 sqrt(radius^2 - x^2) / (pi radius^2): a symmetric matrix with radius^2/4 of variance a row.

    Raises ValueError unless the radius is positive and finite. Source: E. Wigner, Annals of Mathematics 62 (1955).
    """
    radius = _positive("radius", radius)

    def density(x: Any) -> Numbers:
        inside = np.clip(np.asarray(x, dtype=float) / radius, -1.0, 1.0)  # 0 at the edges, and so outside
        return np.asarray(2 * np.sqrt(1 - inside**2) / (np.pi * radius))

    def cdf(x: Any) -> Numbers:
        inside = np.clip(np.asarray(x, dtype=float) / radius, -1.0, 1.0)
        return np.asarray(0.5 + (inside * np.sqrt(1 - inside**2) + np.arcsin(inside)) / np.pi)

    def moment(k: int) -> float:
        half, odd = divmod(order_of(k), 2)
        return (
            0.0
            if odd
            else _finite_moment(2 * half, lambda: (radius / 2) ** (2 * half) * comb(2 * half, half) / (half + 1))
        )

    return Law(((-radius, radius),), (), density, cdf, moment)


@public
def free_edges(variance: float) -> tuple[float, float]:
    r"""Edges of the spectrum of H_z without skips, entry variance `variance`/N, N and then the depth to infinity.

    The transform m of the law solves lambda m (1 + t m)^2 = (1 - t) m - 1, t the variance; its folds are
    t (q -+ 3)^3 / (8 (q -+ 1)) with q = sqrt(1 + 8/t). From t = 1 on the lower edge is 0 (the lower fold is then
    below 0, on no branch of a law), and the condition number grows with depth without end.

    Raises ValueError unless the variance is positive and finite. Source: own/conditioning-depends-on-init.
    """
    t = _positive("variance", variance)
    if t < SMALLEST_VARIANCE:
        raise FloatingPointError(f"variance is {t}, below {SMALLEST_VARIANCE}: both edges are 1 to rounding")
    q = sqrt(1 + 8 / t)
    lower = t * (q - 3) ** 3 / (8 * (q - 1)) if t < 1 else 0.0
    return _finite_edges(lower, t * (q + 3) ** 3 / (8 * (q + 1)))


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues, ascending, each with how often it occurs."""

    eigenvalues: Numbers
    multiplicities: np.ndarray[Any, np.dtype[np.int64]]

    @property
    def condition_number(self) -> float:
        """The largest eigenvalue by the smallest."""
        return float(self.eigenvalues[-1] / self.eigenvalues[0])

    @property
    def repeated(self) -> Numbers:
        """All eigenvalues, ascending, each as often as it occurs."""
        return np.repeat(self.eigenvalues, self.multiplicities)


@public
def orthogonal_spectrum(width: int, hidden_layers: int, outputs: int) -> Spectrum:
    r"""H_z of orthogonal maps: square ones between the H hidden layers, orthonormal rows in the last, no skips.

    2 - 2 cos((2k - 1) pi / (2H + 1)), width - outputs times, and 2 - 2 cos(k pi / (H + 1)), outputs times,
    k = 1..H, at unit precision. The condition number is about (16/pi^2) H^2 where outputs < width, and (4/pi^2) H^2
    where they are equal.

    Raises ValueError for counts below 1 and for more outputs than the width.
    Source: mupc-2025/orthogonal.
    """
    for name, count in (("width", width), ("hidden_layers", hidden_layers), ("outputs", outputs)):
        whole_number(name, count, 1)
    refuse_too_large("orthogonal_spectrum", (2, hidden_layers), "take fewer hidden_layers")
    if outputs > width:
        raise ValueError(f"outputs is {outputs}, expected at most the width {width}: orthonormal rows do not exist")
    k = np.arange(1, hidden_layers + 1)
    # 2 - 2 cos(2 u) = 4 sin(u)^2 without cancellation
    free = 4 * np.sin((2 * k - 1) * np.pi / (4 * hidden_layers + 2)) ** 2
    held = 4 * np.sin(k * np.pi / (2 * hidden_layers + 2)) ** 2
    values, times = np.concatenate([free, held]), np.repeat([width - outputs, outputs], hidden_layers)
    order = [i for i in np.argsort(values, kind="stable") if times[i]]
    return Spectrum(values[order], times[order])


def _positive(name: str, number: float) -> float:
    value = float(number)
    if not (isfinite(value) and value > 0):
        raise ValueError(f"{name} is {number}, expected a positive number below {inf}")
    return value


def order_of(k: int) -> int:
    """k, checked to be the order of a moment."""
    return whole_number("k", k, 0, HIGHEST_MOMENT)


def _finite_edges(lower: float, upper: float) -> tuple[float, float]:
    if not isfinite(upper):
        raise FloatingPointError("variance or ratio: the upper edge is beyond double precision; take smaller ones")
    return lower, upper


def _finite_moment(k: int, value: Callable[[], float]) -> float:
    """FloatingPointError where the numbers of double precision end."""
    try:
        found = value()
    except OverflowError:
        found = inf
    if not isfinite(found):
        raise FloatingPointError(f"moment: that of order k = {k} is beyond double precision; take a lower one")
    return found
