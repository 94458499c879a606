r"""How claims on the conditioning of inference are judged: random chains, their extreme eigenvalues, fitted laws.

Networks are drawn here by NumPy. The extreme eigenvalues come from LAPACK's banded solver on H_z itself, which
shares nothing with the library's Lanczos and singular values; it is good to eps cond(H_z), 1e-6 at the worst used.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any, Literal

import jax
import numpy as np
import numpy.typing as npt
import optax
from scipy.linalg import eig_banded

import pctheory
from pctheory import conditioning
from pctheory.claims import largest
from pctheory.conditioning import LawFit

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ensemble:
    """Networks of one shape, drawn alike: SP with weights of variance `variance` / fan-in, or muPC.

    `inputs` is N_0, which H_z does not depend on. orthogonal: orthonormal rows or columns instead of Gaussian ones.
    """

    width: int
    hidden: int
    outputs: int
    variance: float = 1.0
    skips: bool = False
    mupc: bool = False
    orthogonal: bool = False
    inputs: int = 1

    @property
    def widths(self) -> tuple[int, ...]:
        return (self.inputs, *(self.width,) * self.hidden, self.outputs)

    def drawn(self, seed: int) -> tuple[list[Values], Values, Values]:
        """Weights, scalings and skips of one of them."""
        random, depth = np.random.default_rng([seed, self.width]), self.hidden + 1
        scalings, weights = np.ones(depth), []
        for l, (below, above) in enumerate(pairwise(self.widths)):
            w = random.standard_normal((above, below))
            if self.orthogonal:
                w = np.linalg.qr(w)[0] if above >= below else np.linalg.qr(w.T)[0].T
            elif self.mupc:
                inner = self.skips and 0 < l < depth - 1
                scalings[l] = 1 / below if l == depth - 1 else 1 / np.sqrt(below * (depth if inner else 1))
            else:
                w *= np.sqrt(self.variance / below)
            weights.append(w)
        return weights, scalings, np.array([float(self.skips and 0 < l < depth - 1) for l in range(depth)])

    def maps(self, seed: int) -> list[Values]:
        """A_1..A_L of one of them."""
        return maps_of(*self.drawn(seed))

    def net(self, seed: int) -> pctheory.LinearPCN:
        """The same one for the library."""
        weights, scalings, skips = self.drawn(seed)
        return pctheory.LinearPCN(weights, scalings=scalings, skips=skips)


def maps_of(weights: Sequence[Values], scalings: Values, skips: Values) -> list[Values]:
    """a_l W_l + s_l I."""
    layers = zip(weights, scalings, skips, strict=True)
    return [a * w + (s * np.eye(len(w)) if s else 0) for w, a, s in layers]


def banded_extremes(maps: Sequence[Values]) -> tuple[float, float]:
    """The smallest and the largest eigenvalue of H_z at unit precision, from the maps A_1..A_L."""
    widths = [len(a) for a in maps[:-1]]
    starts = np.cumsum([0, *widths])
    band = np.zeros((2 * max(widths), starts[-1]))
    for l, a in enumerate(maps[1:]):
        columns = np.eye(a.shape[1]) + a.T @ a
        if l < len(widths) - 1:
            columns = np.concatenate([columns, -a])
        for c in range(a.shape[1]):
            band[: len(columns) - c, starts[l] + c] = columns[c:, c]
    values = eig_banded(band, lower=True, eigvals_only=True)  # all: few of them take two reductions
    return float(values[0]), float(values[-1])


@cache
def extremes(drawn: Ensemble, seed: int) -> tuple[float, float]:
    """Of one network of the ensemble."""
    return banded_extremes(drawn.maps(seed))


def condition(drawn: Ensemble, seed: int) -> float:
    low, high = extremes(drawn, seed)
    return high / low


Fit = Callable[[Any, Any], LawFit]


def _resized(drawn: Ensemble, over: Literal["hidden", "width"], size: int) -> Ensemble:
    return replace(drawn, width=size) if over == "width" else replace(drawn, hidden=size)


def fitted(
    drawn: Ensemble,
    sizes: Sequence[int],
    *,
    over: Literal["hidden", "width"] = "hidden",
    seeds: int = 4,
    fit: Fit = conditioning.log_log_fit,
    what: Callable[[Ensemble, int], float] = condition,
    square: bool = False,
) -> LawFit:
    """The law of cond(H_z), or of something else, in depth or width; `square`: outputs as wide as the rest."""
    found = [(size, _resized(drawn, over, size), seed) for size in sizes for seed in range(seeds)]
    values = [what(replace(e, outputs=e.width) if square else e, seed) for _, e, seed in found]
    return fit([float(size) for size, *_ in found], values)


def outside(band: tuple[float, float], found: LawFit) -> float:
    """By how much the interval of the slope reaches out of the band."""
    return largest(0.0, band[0] - found.interval[0], found.interval[1] - band[1])


def log_ratio(larger: Ensemble, smaller: Ensemble, seeds: int = 6) -> Values:
    """log cond of one minus log cond of the other, seed by seed."""
    return np.array([np.log(condition(larger, s) / condition(smaller, s)) for s in range(seeds)])


# --- while training ---

STEPS, BATCH, RATE = 400, 64, 1e-3
optimiser = optax.adam(RATE)


@jax.jit
def _step(net: pctheory.LinearPCN, state: Any, x: Any, y: Any) -> tuple[pctheory.LinearPCN, Any]:
    updates, state = optimiser.update(pctheory.equilibrated_gradient(net, x, y), state)
    return net.with_weights(optax.apply_updates(net.weights, updates)), state


@cache
def trained(drawn: Ensemble, seed: int) -> Values:
    """cond(H_z) before and after each half of 400 exact steps of Adam on F*, on batches of the digits."""
    net, random = drawn.net(seed), np.random.default_rng(seed)
    digits = pctheory.dataset("digits")
    state, found = optimiser.init(net.weights), []
    for t in range(STEPS + 1):
        if t % (STEPS // 2) == 0:
            weights = [w for run in net.weights.runs for w in np.asarray(run)]
            low, high = banded_extremes(maps_of(weights, *drawn.drawn(seed)[1:]))
            found.append(high / low)
        rows = random.integers(0, len(digits.inputs), BATCH)
        net, state = _step(net, state, digits.inputs[rows], digits.targets[rows])
    return np.array(found)
