r"""The solved chain without rounding: in fractions, or in balls that enclose it.

The formulas of `equilibrium`, written once for both kinds of number; examples are columns here:

    P_L = I,  P_l = P_{l+1} A_{l+1},   S = sum_l P_l P_l^T / pi_l,   q = S^-1 r,   r = y - feedforward(x)
    F* = mean (1/2) r^T q,   e_l = P_l^T q / pi_l,   z_l = A_l z_{l-1} + c_l + e_l,
    dF*/dW_l = -a_l pi_l mean(e_l z_{l-1}^T)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import ArrayLike

from ..arguments import public
from ..network import LinearPCN
from .balls import (
    GOAL,
    Arithmetic,
    Ball,
    Balls,
    Matrix,
    balls,
    entries,
    fractions,
    refined,
    refuse_too_many,
    refuse_unknown,
    relative_radius,
)

T = TypeVar("T")


@dataclass(frozen=True)
class ExactEquilibrium:
    """Where inference ends, in fractions: z_1..z_H, e_1..e_L (rows are examples), F*, the loss and dF*/dW_l."""

    activities: list[np.ndarray]
    errors: list[np.ndarray]
    energy: Fraction
    loss: Fraction
    gradient: list[np.ndarray]


@public
def exact_equilibrium(net: LinearPCN, x: ArrayLike, y: ArrayLike) -> ExactEquilibrium:
    """The equilibrium, F* and its gradient as fractions: of exactly the doubles in `net`, `x` and `y`.

    Fractions grow by 53 bits a layer; for deep or wide nets see `enclosed_equilibrated_energy`.
    Raises ImportError where python-flint is missing. Source: saddles-2024/equilibrium-errors.
    Twin: elimination in the dense system. Cost: as `equilibrium`, in numbers of some 100 L d_y bits.
    """
    data = _known("exact_equilibrium", net, x, y)
    chain = _chain("exact_equilibrium", fractions(), net)
    batch = _Batch.of(chain, *data)
    errors = batch.errors
    activities = batch.activities(errors)
    return ExactEquilibrium(
        [entries(z.transpose()) for z in activities[1:]],
        [entries(e.transpose()) for e in errors],
        _python(batch.energy),
        _python(batch.loss),
        [entries(g) for g in batch.gradient(errors, activities)],
    )


@public
def enclosed_loss(net: LinearPCN, x: ArrayLike, y: ArrayLike, *, goal: float = GOAL) -> Ball:
    """A ball around the loss, of a relative radius of at most `goal`.

    Raises ImportError where python-flint is missing, ArithmeticError where 2^14 bits do not reach the goal.
    Twin: mpmath. Cost: one forward pass in balls, some 50 ns a multiplication.
    """
    data = _known("enclosed_loss", net, x, y)
    return _enclosed("enclosed_loss", net, lambda chain: _Batch.of(chain, *data).loss, goal)


@public
def enclosed_equilibrated_energy(net: LinearPCN, x: ArrayLike, y: ArrayLike, *, goal: float = GOAL) -> Ball:
    """A ball around F*, of a relative radius of at most `goal`, however ill-conditioned the rescaling is.

    Raises: as `enclosed_loss`. Source: saddles-2024/equilibrated-energy. Twin: the dense system in mpmath.
    Cost: a forward pass and a backward pass of d_y rows in balls of about 2 log2 cond(S) bits.
    """
    data = _known("enclosed_equilibrated_energy", net, x, y)
    return _enclosed("enclosed_equilibrated_energy", net, lambda chain: _Batch.of(chain, *data).energy, goal)


@public
def enclosed_equilibrated_gradient(
    net: LinearPCN, x: ArrayLike, y: ArrayLike, *, goal: float = GOAL
) -> list[Balls]:
    """Balls around the entries of dF*/dW_1..dF*/dW_L; `goal` bounds radius over largest entry, over all layers.

    Raises: as `enclosed_loss`. Source: saddles-2024/envelope. Twin: differences in mpmath.
    Cost: as `enclosed_equilibrated_energy`, and a forward pass.
    """
    data = _known("enclosed_equilibrated_gradient", net, x, y)

    def gradient(chain: _Chain) -> list[Balls]:
        batch = _Batch.of(chain, *data)
        errors = batch.errors
        return [entries(g) for g in batch.gradient(errors, batch.activities(errors))]

    return _enclosed("enclosed_equilibrated_gradient", net, gradient, goal)


@public
def enclosed_rescaling(net: LinearPCN, *, goal: float = GOAL) -> Balls:
    """Balls around the entries of S; `goal` bounds the largest radius over the largest entry.

    Its extreme eigenvalues: `enclosed_extremes`. Raises: as `enclosed_loss`.
    Source: saddles-2024/equilibrated-energy. Twin: mpmath. Cost: a backward pass of d_y rows in balls.
    """
    refuse_unknown("enclosed_rescaling", *jax.tree.leaves(net))
    return _enclosed("enclosed_rescaling", net, lambda chain: entries(chain.rescaling), goal)


def _known(name: str, net: LinearPCN, x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The checked batch."""
    x, y = net.batch(x, y)
    refuse_unknown(name, x, y, *jax.tree.leaves(net))
    return np.asarray(x), np.asarray(y)


def _enclosed(name: str, net: LinearPCN, found: Callable[["_Chain"], T], goal: float) -> T:
    kind = balls()

    def radius(value: T) -> float:
        return relative_radius(
            np.concatenate([np.ravel(part) for part in value]) if isinstance(value, list) else value
        )

    return refined(name, lambda: found(_chain(name, kind, net)), radius, goal=goal)


def layers_of(net: LinearPCN) -> list[np.ndarray]:
    """The weights of each layer as NumPy arrays."""
    return [weight for run in net.weights.runs for weight in np.asarray(run)]


def matrices(kind: Arithmetic, net: LinearPCN) -> list[Matrix]:
    """A_l = a_l W_l + s_l I."""
    found = []
    for w, a, s in zip(layers_of(net), net.scalings.tolist(), net.skips.tolist(), strict=True):
        scaled = kind.matrix(w) * kind.number(a)
        found.append(scaled + kind.identity(len(w)) * kind.number(s) if s else scaled)
    return found


@dataclass(frozen=True)
class _Chain:
    """Maps A_l, the maps P_l to the output for l = 1..L, S, and what else the network has."""

    kind: Arithmetic
    maps: list[Matrix]
    to_output: list[Matrix]
    rescaling: Matrix
    biases: list[np.ndarray]
    scalings: list[Any]
    precisions: list[Any]


def _chain(name: str, kind: Arithmetic, net: LinearPCN) -> _Chain:
    refuse_too_many(name, sum(n * (m + net.widths[-1]) for n, m in zip(net.widths[1:], net.widths, strict=False)))
    maps = matrices(kind, net)
    scalings, precisions = ([kind.number(v) for v in row.tolist()] for row in (net.scalings, net.precisions))
    to_output = [kind.identity(net.widths[-1])]
    for a in reversed(maps[1:]):
        to_output.insert(0, to_output[0] * a)
    rescaling = to_output[-1] * (1 / precisions[-1])
    for p, pi in zip(to_output[:-1], precisions[:-1], strict=True):
        rescaling = rescaling + p * p.transpose() * (1 / pi)
    biases = [bias for run in net.biases.runs for bias in np.asarray(run)]
    return _Chain(kind, maps, to_output, rescaling, biases, scalings, precisions)


@dataclass(frozen=True)
class _Batch:
    """A batch under a chain: inputs and residual in columns."""

    chain: _Chain
    inputs: Matrix
    residual: Matrix

    @classmethod
    def of(cls, chain: _Chain, x: np.ndarray, y: np.ndarray) -> "_Batch":
        """The residual is y minus the network's output."""
        inputs, targets = (chain.kind.matrix(part.T) for part in (x, y))
        batch = cls(chain, inputs, targets)
        output = inputs
        for l in range(len(chain.maps)):
            output = batch._predicted(l, output)
        return cls(chain, inputs, targets - output)

    @property
    def size(self) -> int:
        return self.inputs.ncols()

    @property
    def loss(self) -> Any:
        return self._mean_half_product(self.residual)

    @property
    def pull(self) -> Matrix:
        """q = S^-1 r."""
        return self.chain.rescaling.solve(self.residual)

    @property
    def energy(self) -> Any:
        return self._mean_half_product(self.pull)

    @property
    def errors(self) -> list[Matrix]:
        """e_1..e_L."""
        pull = self.pull
        layers = zip(self.chain.to_output, self.chain.precisions, strict=True)
        return [p.transpose() * pull * (1 / pi) for p, pi in layers]

    def activities(self, errors: Sequence[Matrix]) -> list[Matrix]:
        """z_0..z_H."""
        found = [self.inputs]
        for l, e in enumerate(errors[:-1]):
            found.append(self._predicted(l, found[-1]) + e)
        return found

    def gradient(self, errors: Sequence[Matrix], activities: Sequence[Matrix]) -> list[Matrix]:
        """-a_l pi_l mean(e_l z_{l-1}^T)."""
        chain = self.chain
        layers = zip(errors, activities, chain.scalings, chain.precisions, strict=True)
        return [e * z.transpose() * (-a * pi / self.size) for e, z, a, pi in layers]

    def _predicted(self, l: int, z: Matrix) -> Matrix:
        """A z + c for the layer with index l."""
        bias = np.tile(self.chain.biases[l][:, None], self.size)
        return self.chain.maps[l] * z + self.chain.kind.matrix(bias)

    def _mean_half_product(self, other: Matrix) -> Any:
        pairs = zip(self.residual.entries(), other.entries(), strict=True)
        return sum((a * b for a, b in pairs), self.chain.kind.number(0)) / (2 * self.size)


def _python(number: Any) -> Fraction:
    return Fraction(int(number.p), int(number.q))
