r"""Random chains enumerated, drawn and measured, as the claims about expectations and limits need them.

Enumerated: activities and rescaling are polynomials in the weights, of degree 2 in each for E|z|^2 and E[S], of
degree 4 for their squares. So signs +-1 have the means of all weights of variance 1, and the values -3, 0, 3 with
probabilities 1/6, 2/3, 1/6 the second moments of normal weights of variance 3: sums over all patterns are exact.
Drawn: weights by NumPy, with the scalings, skips and precisions that the library gives a network of the same shape.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache, cached_property
from itertools import pairwise, product
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

import pctheory
from figures._random_chains import compared
from pctheory.claims import largest
from pctheory.conditioning import LawFit
from pctheory.random_matrix import RandomChain, standard_variances
from pctheory.random_matrix.expectations import orthogonal_variances

Values = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

# --- enumerated ---


@dataclass(frozen=True)
class Enumerated:
    """A chain of whole numbers: entries of layer l are `sizes[l]` times the values, 1/pi_l is `inverses[l]`."""

    widths: tuple[int, ...]
    sizes: tuple[int, ...]
    skips: tuple[int, ...]
    inverses: tuple[int, ...]
    values: tuple[int, ...] = (-1, 1)
    weights: tuple[int, ...] = (1, 1)

    @property
    def variances(self) -> list[Fraction]:
        """v_l."""
        square = Fraction(sum(p * v * v for p, v in zip(self.weights, self.values, strict=True)), sum(self.weights))
        return [size**2 * square for size in self.sizes]

    @property
    def chain(self) -> RandomChain:
        """The same as the library takes it."""
        numbers = self.variances, self.skips, [1 / inverse for inverse in self.inverses]
        return RandomChain(self.widths, *(tuple(map(float, values)) for values in numbers))

    @property
    def start(self) -> Whole:
        """The input (1, 2, ..)."""
        return np.arange(1, self.widths[0] + 1)

    def mean(self, values: Whole) -> Fraction:
        """Of one whole number per pattern."""
        probabilities = _patterns(self)[1]
        return Fraction(int(probabilities @ values), int(probabilities.sum()))

    def maps(self) -> list[Whole]:
        """A_1..A_L of every pattern."""
        drawn, found, start = _patterns(self)[0], [], 0
        for size, skip, (below, width) in zip(self.sizes, self.skips, pairwise(self.widths), strict=True):
            entries = drawn[:, start : start + width * below].reshape(-1, width, below)
            found.append(size * entries + skip * np.eye(width, below, dtype=np.int64))
            start += width * below
        return found

    def squares(self, *, relu: bool = False) -> list[Whole]:
        """|z_1|^2..|z_L|^2 of every pattern; with `relu`, weights from layer 2 on see max(z, 0), skips see z."""
        z, found = self.start[:, None], []
        for l, (a, skip) in enumerate(zip(self.maps(), self.skips, strict=True)):
            bent = np.maximum(z, 0) if relu and l else z
            z = a @ bent + skip * (z - bent if skip else 0)
            found.append((z**2).sum(axis=(1, 2)))
        return found

    def rescalings(self) -> list[Whole]:
        """S_1..S_L of every pattern."""
        found: list[Whole] = []
        for a, inverse in zip(self.maps(), self.inverses, strict=True):
            own = np.broadcast_to(inverse * np.eye(a.shape[1], dtype=np.int64), (len(a), a.shape[1], a.shape[1]))
            found.append(own + a @ found[-1] @ a.transpose(0, 2, 1) if found else own)
        return found


@cache
def _patterns(made: Enumerated) -> tuple[Whole, Whole]:
    """All patterns of weights, one per row, and how often each occurs."""
    count = sum(below * width for below, width in pairwise(made.widths))
    places = np.array(list(product(range(len(made.values)), repeat=count)))
    return np.array(made.values)[places], np.array(made.weights)[places].prod(axis=1)


SIGNED = (
    Enumerated((2, 3), (2,), (0,), (3,)),
    Enumerated((2, 1, 2, 2), (1, 2, 3), (0, 0, 2), (1, 2, 1)),
    Enumerated((2, 2, 2), (1, 3), (2, 1), (2, 1)),
    Enumerated((1, 2, 2, 1), (2, 1, 3), (0, 3, 0), (3, 1, 2)),
    Enumerated((1, 3, 1, 2), (1, 2, 1), (0, 0, 0), (1, 1, 1)),
    Enumerated((1, 1, 1, 1, 1), (2, 1, 3, 1), (0, 2, 1, 0), (1, 2, 3, 4)),
    Enumerated((1, 1, 2, 3), (1, 1, 2), (1, 0, 0), (2, 1, 1)),
)
NORMAL: Mapping[str, Any] = {"values": (-3, 0, 3), "weights": (1, 4, 1)}
NORMAL_LIKE = (
    Enumerated((1, 2, 2, 1), (1, 2, 1), (0, 2, 0), (3, 1, 2), **NORMAL),
    Enumerated((2, 1, 3), (1, 2), (0, 0), (2, 1), **NORMAL),
    Enumerated((1, 2, 1, 2), (2, 1, 1), (0, 0, 0), (1, 2, 1), **NORMAL),
    Enumerated((1, 1, 1, 1), (2, 1, 1), (2, 1, 3), (1, 1, 2), **NORMAL),
    Enumerated((1, 3, 1), (1, 2), (0, 0), (1, 1), **NORMAL),
    Enumerated((2, 2, 2), (1, 1), (3, 1), (1, 2), **NORMAL),
)

# --- drawn ---

EQUAL, UNEQUAL, SCALAR = (5, 8, 8, 8, 8, 8, 3), (4, 7, 3, 9, 5, 2), (5, 8, 8, 8, 8, 8, 1)
NETWORKS = 4000


@dataclass(frozen=True)
class Setting:
    """Networks of one parameterisation; `drawn` is how their weights are distributed, at the variances b_l."""

    name: str
    constructor: Callable[..., pctheory.LinearPCN]
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    widths: tuple[int, ...] = EQUAL
    drawn: Literal["normal", "uniform", "orthogonal"] = "normal"

    @cached_property
    def net(self) -> pctheory.LinearPCN:
        """One of them, from the library."""
        return self.constructor(self.widths, seed=0, **self.options)

    @property
    def weight_variances(self) -> tuple[float, ...]:
        """b_l."""
        if self.constructor is not pctheory.standard:
            return (1.0,) * (len(self.widths) - 1)
        made = orthogonal_variances if self.drawn == "orthogonal" else standard_variances
        return made(self.widths, self.options.get("variance", 1.0))

    @cached_property
    def chain(self) -> RandomChain:
        """What is known before they are drawn."""
        return RandomChain.of(self.net, self.weight_variances)

    @cached_property
    def maps(self) -> list[Values]:
        """A_1..A_L of `NETWORKS` networks."""
        rng, found = np.random.default_rng(900), []
        constants = zip(np.asarray(self.net.scalings), np.asarray(self.net.skips), strict=True)
        layers = zip(constants, self.weight_variances, pairwise(self.widths), strict=True)
        for (scaling, skip), variance, (below, width) in layers:
            weights = variance**0.5 * _entries(rng, self.drawn, (NETWORKS, width, below))
            found.append(scaling * weights + skip * np.eye(width, below))
        return found


def _entries(rng: np.random.Generator, drawn: str, shape: tuple[int, int, int]) -> Values:
    """Of mean 0 and variance 1."""
    if drawn == "uniform":
        return rng.uniform(-(3**0.5), 3**0.5, shape)
    normal = rng.standard_normal(shape)
    if drawn == "normal":
        return normal
    _, width, below = shape
    wide = width < below
    q, r = np.linalg.qr(normal.transpose(0, 2, 1) if wide else normal)
    q = q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None]  # so that they are uniformly distributed
    return np.asarray(max(width, below) ** 0.5 * (q.transpose(0, 2, 1) if wide else q))


_THIRD: dict[str, Any] = {"variance": 1 / 3}
_SKIPS: dict[str, Any] = {"skips": True}
_OUTPUT: dict[str, Any] = {"gamma": 0.3, "output_precision": 4.0}
SETTINGS = (
    Setting("SP", pctheory.standard),
    Setting("SP, skips", pctheory.standard, _SKIPS),
    Setting("SP, t = 1/3", pctheory.standard, _THIRD, drawn="uniform"),
    Setting("SP, t = 1/3, skips", pctheory.standard, _THIRD | _SKIPS, drawn="uniform"),
    Setting("SP, unequal widths", pctheory.standard, {"variance": 0.7, "output_precision": 2.0}, UNEQUAL),
    Setting("orthogonal", pctheory.standard, drawn="orthogonal"),
    Setting("orthogonal, skips", pctheory.standard, _SKIPS | {"variance": 0.5}, drawn="orthogonal"),
    Setting("orthogonal, unequal widths", pctheory.standard, {}, UNEQUAL, drawn="orthogonal"),
    Setting("NTP", pctheory.ntp),
    Setting("NTP, skips", pctheory.ntp, _SKIPS | {"gamma": 3.0}),
    Setting("NTP, unequal widths", pctheory.ntp, {}, UNEQUAL),
    Setting("muPC", pctheory.mupc),
    Setting("muPC, no skips", pctheory.mupc, {"skips": False}),
    Setting("muPC, gamma and precision", pctheory.mupc, _OUTPUT),
    Setting("muPC, unequal widths", pctheory.mupc, {"skips": False}, UNEQUAL),
)
SCALARS = (  # one output: S is a number
    Setting("SP, skips, one output", pctheory.standard, _SKIPS, SCALAR),
    Setting("NTP, skips, one output", pctheory.ntp, _SKIPS, SCALAR),
    Setting("muPC, one output", pctheory.mupc, {}, SCALAR),
    Setting("muPC, gamma, one output", pctheory.mupc, {"gamma": 0.2}, SCALAR),
)


def sampled_squares(given: Setting, *, relu: bool = False) -> Values:
    """|z_l|^2 / N_l of each network, one row per layer, from the fixed input."""
    z, found = np.tile(fixed_example(given.widths)[0][:, None], (NETWORKS, 1, 1)), []
    for l, (a, skip) in enumerate(zip(given.maps, given.chain.skips, strict=True)):
        bent = np.maximum(z, 0) if relu and l else z
        z = a @ bent + (skip * (z - bent) if skip else 0)
        found.append((z**2).mean(axis=(1, 2)))
    return np.array(found)


def drawn_error(above: int, given: Setting) -> float:
    """Of the mean square entry of each layer's weights, as the library itself draws them, in standard errors.

    Of one network twenty times as wide; compared with b_l, or (false) with b_l N_{l-1} / N_l.
    """
    wide, options = replace(given, widths=tuple(20 * width for width in given.widths)), dict(given.options)
    if given.constructor is pctheory.standard:
        options["initialisation"] = {"normal": "gaussian"}.get(given.drawn, given.drawn)
    weights = wide.constructor(wide.widths, seed=0, **options).weights
    layers = zip(weights, wide.weight_variances, pairwise(wide.widths), strict=True)
    return largest(
        *(standard_errors(np.asarray(w).ravel() ** 2, b * (below / n) ** above) for w, b, (below, n) in layers)
    )


def sampled_rescalings(given: Setting) -> Values:
    """S of each network."""
    found = np.zeros((NETWORKS, given.widths[1], given.widths[1]))
    for l, (a, precision) in enumerate(zip(given.maps, given.chain.precisions, strict=True)):
        found = (a @ found @ a.transpose(0, 2, 1) if l else found) + np.eye(a.shape[1]) / precision
    return found


def fixed_example(widths: Sequence[int]) -> tuple[Values, Values]:
    """An input and a target."""
    return np.linspace(-1.0, 2.0, widths[0]), np.linspace(1.0, -0.5, widths[-1])


def standard_errors(values: Values, expected: npt.ArrayLike) -> float:
    """How many standard errors the mean over the last axis is from what is expected: the largest over the others.

    What does not vary, as the length of an orthogonal map's image, is compared by itself, in units of 1e-12.
    """
    error = values.std(axis=-1, ddof=1) / values.shape[-1] ** 0.5
    return float(np.max(np.abs(values.mean(axis=-1) - expected) / np.maximum(error, 1e-12 * np.abs(expected))))


# --- measured at large width ---


@dataclass(frozen=True)
class Wide:
    """A parameterisation with skips, as in the table of the sources; d_x = d_y = 4, all hidden widths N."""

    name: str
    output_exponent: float = 1.0  # a_L = N^-this
    residual: Callable[[int, int], float] = lambda width, depth: (width * depth) ** -0.5
    skips: bool = True

    def layers(self, width: int, depth: int) -> tuple[list[tuple[int, int]], Values]:
        """Shapes of the maps, and what their normal entries are multiplied by."""
        shapes = [(width, 4), *[(width, width)] * (depth - 2), (4, width)]
        inner = self.residual(width, depth)
        return shapes, np.array([0.5, *[inner] * (depth - 2), width**-self.output_exponent])


MUPC, NTP = Wide("muPC"), Wide("NTP", output_exponent=0.5)
SP = Wide("SP", output_exponent=0.5, residual=lambda width, depth: width**-0.5)
WITHOUT_SKIPS = Wide("muPC without skips", residual=lambda width, depth: width**-0.5, skips=False)
EXAMPLES = 16


@cache
def measured(given: Wide, width: int, depth: int, gamma: float = 1.0, precision: float = 1.0) -> Values:
    """Means of pi_L loss / F*, of 1 - cosine of the gradients of F* and loss, and of their relative distance.

    The distance is |g_F - pi_L g| / (pi_L |g|). Over 2048 / N networks, at least 4, on the same 16 normal examples.
    """
    found = []
    x, y = np.random.default_rng(901).standard_normal((2, EXAMPLES, 4))
    for seed in range(max(4, 2048 // width)):
        rng = np.random.default_rng([seed, width, depth])
        shapes, factors = given.layers(width, depth)
        factors[-1] /= gamma
        maps = [factor * rng.standard_normal(shape) for factor, shape in zip(factors, shapes, strict=True)]
        for a in maps[1:-1]:
            a += given.skips * np.eye(width)
        found.append(compared(maps, np.ones(depth) if given is SP else factors, x, y, precision))
    return np.mean(found, axis=0)


def exponent_error(law: float, fit: LawFit) -> float:
    """How far from the law the farther end of the confidence interval lies."""
    return largest(*(abs(end - law) for end in fit.interval))
