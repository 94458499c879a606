r"""What random-matrix theory needs to know of a network before its weights are drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..arguments import listed, number, positive_number, public, whole_number


@runtime_checkable
class Parameterised(Protocol):
    """A network, read for everything but its weights: `LinearPCN` is one."""

    @property
    def widths(self) -> tuple[int, ...]:
        """(N_0, .., N_L)."""
        ...

    scalings: Any
    skips: Any
    precisions: Any


@dataclass(frozen=True)
class RandomChain:
    r"""Random maps  A_l = s_l I + X_l: independent, the entries of X_l of mean 0 and variance v_l.

    v_l = a_l^2 b_l, with b_l the variance of the entries of W_l. widths: (N_0, .., N_L); `variances`, `skips` and
    `precisions` hold one number per layer, the last two default to 0 and 1.

    Raises ValueError for widths below 1, variances that are negative or not finite, precisions that are not
    positive, and a skip between unequal widths. A variance of 0 is a map that is not random.
    """

    widths: tuple[int, ...]
    variances: tuple[float, ...]
    skips: tuple[float, ...] = ()
    precisions: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        widths = listed("widths", self.widths)
        if len(widths) < 2:
            raise ValueError(f"widths is {widths}, expected at least (N_0, N_L): one layer")
        for l, width in enumerate(widths):
            whole_number(f"widths, layer {l}", width, 1)
        object.__setattr__(self, "widths", widths)
        defaults = {"variances": None, "skips": 0.0, "precisions": 1.0}
        for name, default in defaults.items():
            object.__setattr__(self, name, self._numbers(name, getattr(self, name), default))
        for l, (v, s, pi) in enumerate(zip(self.variances, self.skips, self.precisions, strict=True), start=1):
            if v < 0:
                raise ValueError(f"variances, layer {l} is {v}, expected a number of at least 0")
            if pi <= 0:
                raise ValueError(f"precisions, layer {l} is {pi}, expected a positive number")
            if s and widths[l - 1] != widths[l]:
                raise ValueError(
                    f"skips, layer {l} is {s} between widths {widths[l - 1]} and {widths[l]}; "
                    "a skip needs equal widths: set it to 0 or make them equal"
                )

    def _numbers(self, name: str, values: Sequence[float], default: float | None) -> tuple[float, ...]:
        depth = len(self.widths) - 1
        given = listed(name, values)
        if default is not None and not given:
            return (default,) * depth
        numbers = tuple(number(f"{name}, layer {l}", value) for l, value in enumerate(given, start=1))
        if len(numbers) != depth:
            raise ValueError(f"{name} has {len(numbers)} entries, expected {depth}: one per layer")
        for l, found in enumerate(numbers, start=1):
            if not np.isfinite(found):
                raise ValueError(f"{name}, layer {l} is {found}, expected a finite number")
        return numbers

    @property
    def depth(self) -> int:
        """L, the number of layers."""
        return len(self.widths) - 1

    @classmethod
    def of(cls, net: Parameterised, weight_variances: float | Sequence[float] = 1.0) -> "RandomChain":
        r"""The ensemble that `net` was drawn from, given the variance b_l of the entries of its weights.

        1 for `ntp` and `mupc` (the default), variance/N_{l-1} for `standard`: see `standard_variances`.
        """
        scalings = np.asarray(net.scalings)
        spread = np.broadcast_to(np.asarray(weight_variances, dtype=float), scalings.shape)
        variances = scalings**2 * spread
        return cls(net.widths, tuple(variances), tuple(np.asarray(net.skips)), tuple(np.asarray(net.precisions)))


@public
def standard_variances(widths: Sequence[int], variance: float = 1.0) -> tuple[float, ...]:
    """b_l = variance / N_{l-1}, the variances of the weights that `standard(widths, variance=..)` draws."""
    variance = positive_number("variance", variance)
    counts = [whole_number(f"widths, layer {l}", width, 1) for l, width in enumerate(widths)]
    return tuple(variance / width for width in counts[:-1])
