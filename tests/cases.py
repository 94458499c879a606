"""The one list of networks that the tests and the claims use, as plain NumPy arrays.

`CASES` are named and few, since JAX compiles each shape; `random_cases` are many, for the NumPy twins.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import sympy
from sympy.core.sympify import converter

import pctheory

try:
    from gmpy2 import mpq as exact
except ImportError:  # ten times as slow
    from fractions import Fraction as exact  # noqa: N813

# sympy would read a fraction of gmpy2 as a rounded number.
converter[type(exact())] = lambda v: sympy.Rational(int(v.numerator), int(v.denominator))

# Widths of three consecutive layers, for proofs at concrete sizes: distinct, so that a slip in a shape shows, and
# equal, so that a transpose can be confused.
SIZES = (2, 3, 5)
EQUAL_SIZES = (3, 3, 3)


@dataclass(frozen=True)
class Case:
    """A network and a batch. The arrays hold floats, or exact or high-precision numbers (see `converted`)."""

    name: str
    weights: list[np.ndarray]
    scalings: np.ndarray
    skips: np.ndarray
    biases: list[np.ndarray]
    precisions: np.ndarray
    x: np.ndarray
    y: np.ndarray

    @property
    def depth(self) -> int:
        return len(self.weights)

    @property
    def widths(self) -> list[int]:
        return [self.weights[0].shape[1], *(len(w) for w in self.weights)]

    @cached_property
    def maps(self) -> list[np.ndarray]:
        return [
            a * w + s * np.eye(*w.shape, dtype=int) if s else a * w
            for a, w, s in zip(self.scalings, self.weights, self.skips, strict=True)
        ]

    @cached_property
    def net(self) -> pctheory.LinearPCN:
        return pctheory.LinearPCN(
            self.weights,
            scalings=self.scalings,
            skips=self.skips,
            biases=self.biases,
            precisions=self.precisions,
        )

    def converted(self, number: Callable[[Any], Any]) -> "Case":
        """The same case with `number` applied to every entry, for example `exact`."""

        def array(a: np.ndarray) -> np.ndarray:
            return np.array([number(v) for v in a.ravel().tolist()]).reshape(a.shape)

        return Case(
            self.name,
            [array(w) for w in self.weights],
            array(self.scalings),
            array(self.skips),
            [array(c) for c in self.biases],
            array(self.precisions),
            array(self.x),
            array(self.y),
        )


Formula: TypeAlias = Callable[[Case], Any]  # what is asserted of a case: the same for every kind of number


def at_unit_precision(given: Case) -> Case:
    """The same case with all precisions 1."""
    return replace(given, precisions=given.precisions**0)


def case(
    name: str,
    widths: tuple[int, ...],
    *,
    seed: int,
    batch: int = 4,
    skips: bool = False,
    biases: bool = False,
    precisions: bool = False,
    scalings: bool = False,
    scale: float = 1.0,
) -> Case:
    """A random network: weights of variance scale^2 / fan-in, everything else off unless asked for."""
    rng = np.random.default_rng(seed)
    shapes = list(zip(widths[1:], widths[:-1], strict=True))
    depth = len(shapes)
    square = np.array([float(n == m) for n, m in shapes])
    return Case(
        name,
        [scale * rng.standard_normal(shape) / np.sqrt(shape[1]) for shape in shapes],
        rng.uniform(0.5, 1.5, depth) if scalings else np.ones(depth),
        square * rng.uniform(0.5, 1.0, depth) if skips else np.zeros(depth),
        [rng.standard_normal(n) if biases else np.zeros(n) for n, _ in shapes],
        np.exp(rng.uniform(-1, 1, depth)) if precisions else np.ones(depth),
        rng.standard_normal((batch, widths[0])),
        rng.standard_normal((batch, widths[-1])),
    )


def _with_weights(base: Case, name: str, change: Callable[[list[np.ndarray]], list[np.ndarray]]) -> Case:
    return replace(base, name=name, weights=change([w.copy() for w in base.weights]))


def _named() -> Iterator[Case]:
    everything = {"skips": True, "biases": True, "precisions": True, "scalings": True}
    yield case("depth 1", (3, 2), seed=1, biases=True, precisions=True)
    yield case("depth 1, scalar", (1, 1), seed=2, batch=1)
    yield case("one hidden layer", (3, 4, 2), seed=3)
    yield case("one hidden unit, one sample", (3, 1, 2), seed=4, batch=1, precisions=True)
    yield case("scalar chain, depth 4", (1, 1, 1, 1, 1), seed=5, precisions=True, scalings=True)
    yield case("scalar chain, depth 6", (1,) * 7, seed=6)
    yield case("unequal widths", (3, 5, 2, 4, 3), seed=7, **everything)
    yield case("bottleneck", (4, 5, 1, 5, 4), seed=8, biases=True)
    yield case("wider output than hidden", (2, 2, 2, 5), seed=9, precisions=True)
    yield case("skips, depth 5", (3, 4, 4, 4, 4, 2), seed=10, skips=True)
    yield case("everything, depth 6", (3, 4, 4, 4, 2, 2, 3), seed=11, **everything)
    yield case("all widths equal, skips", (3, 3, 3, 3), seed=12, **everything)
    deep = case("", (3, 4, 4, 4, 2), seed=13)
    yield _with_weights(deep, "zero weights", lambda ws: [0 * w for w in ws])
    yield _with_weights(deep, "zero last layer", lambda ws: [*ws[:-1], 0 * ws[-1]])
    yield _with_weights(
        deep, "rank one", lambda ws: [np.outer(np.arange(1.0, 1 + len(w)), w[0]) / len(w) for w in ws]
    )
    yield replace(deep, name="zero targets", y=0 * deep.y)


CASES = list(_named())


# A handful of shapes, for what compiles anew for each: every option, a zero and a rank-deficient layer among them.
FEW = [
    next(made for made in CASES if made.name == name)
    for name in (
        "one hidden layer",
        "scalar chain, depth 4",
        "unequal widths",
        "wider output than hidden",
        "everything, depth 6",
        "zero last layer",
        "rank one",
    )
]


def random_cases(
    count: int, *, seed: int, depths: tuple[int, int] = (1, 6), width: int = 6, **fixed: bool
) -> Iterator[Case]:
    """`count` random networks of `depths` and widths 1 to `width`, batch 1-5; one in eight has a degenerate layer.

    Each of skips, biases, precisions and scalings is there in half of them, unless `fixed` says otherwise.
    """
    rng = np.random.default_rng(seed)
    for i in range(count):
        depth = int(rng.integers(depths[0], depths[1] + 1))
        widths = rng.integers(1, width + 1, depth + 1)
        if rng.random() < 0.5:  # equal hidden widths, so that skips occur
            widths[1:-1] = widths[-1]
        options = {key: bool(rng.integers(2)) for key in ("skips", "biases", "precisions", "scalings")} | fixed
        made = case(
            f"random {seed}/{i}", tuple(widths.tolist()), seed=seed + i, batch=int(rng.integers(1, 6)), **options
        )
        if rng.random() < 0.125:
            layer = int(rng.integers(depth))
            made.weights[layer][:, 1:] = 0  # rank one
            made.weights[layer] *= rng.integers(2)  # or zero
        yield made


def rational(made: Case) -> Case:
    """The case rounded to quarters, as fractions: exact arithmetic stays short."""
    return made.converted(lambda value: exact(round(4 * value), 4))


def rational_cases(count: int, *, seed: int, depths: tuple[int, int] = (1, 4), **fixed: bool) -> list[Case]:
    """Small random networks (widths 1-3) in fractions."""
    return [rational(made) for made in random_cases(count, seed=seed, depths=depths, width=3, **fixed)]
