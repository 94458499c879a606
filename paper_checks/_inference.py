r"""Inference in residual nets in plain NumPy, as claims on its steps and its reach measure it.

The hidden maps are equally wide: z_l = a_l W_l phi(z_{l-1}) + s_l z_{l-1} for l = 2..L, and z_1 = a_1 W_1 x.
Rates are per example: on the energy's mean over a batch of B they are B times larger.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import LinearOperator, eigsh

import pctheory
from pctheory.claims import largest
from pctheory.conditioning import LawFit

Values = npt.NDArray[np.float64]

OUTPUTS, EXAMPLES = 10, 64
PUBLISHED = {"ReLU": 0.5, "tanh": 1.0}  # activity rates on the batch mean

# Each with its derivative.
ACTIVATIONS: dict[str, tuple[Callable[[Values], Values], Callable[[Values], Values]]] = {
    "linear": (lambda z: z, np.ones_like),
    "ReLU": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
}


@dataclass(frozen=True, eq=False)
class ResidualNet:
    """a_1 W_1; a_l W_l of the hidden layers 2..H in a stack, with their skips; a_L W_L; and which activation."""

    first: Values
    inner: Values
    skips: Values
    last: Values
    activation: str = "linear"

    @classmethod
    def of(cls, net: pctheory.LinearPCN, activation: str = "linear") -> "ResidualNet":
        scaled = [float(a) * np.asarray(w) for a, w in zip(net.scalings, net.weights, strict=True)]
        first, *inner, last = scaled
        width = len(first)
        stack = np.stack(inner) if inner else np.zeros((0, width, width))
        return cls(first, stack, np.asarray(net.skips)[1:-1, None, None], last, activation)

    @classmethod
    def drawn(cls, width: int, depth: int, parameterisation: str, seed: int) -> "ResidualNet":
        """A linear net with inputs as wide as its layers and `OUTPUTS` outputs, by the papers' table."""
        scaling, skip, output = {
            "muPC": (1 / np.sqrt(width * depth), 1.0, 1 / width),
            "SP": (1 / np.sqrt(width), 0.0, 1 / np.sqrt(width)),
            "SP with skips": (1 / np.sqrt(width), 1.0, 1 / np.sqrt(width)),
        }[parameterisation]
        rng = np.random.default_rng((seed, width, depth))
        first = rng.standard_normal((width, width)) / np.sqrt(width)
        inner = scaling * rng.standard_normal((depth - 2, width, width))
        skips = np.full((depth - 2, 1, 1), skip)
        return cls(first, inner, skips, output * rng.standard_normal((OUTPUTS, width)))

    @property
    def hidden(self) -> int:
        """H."""
        return len(self.inner) + 1

    def feedforward(self, x: Values) -> Values:
        """z_1..z_H, one axis for each of layer, example and unit."""
        phi, _ = ACTIVATIONS[self.activation]
        zs = [x @ self.first.T]
        for w, s in zip(self.inner, self.skips[:, 0, 0], strict=True):
            zs.append(phi(zs[-1]) @ w.T + s * zs[-1])
        return np.stack(zs)

    def errors(self, z: Values, x: Values, y: Values) -> tuple[Values, Values]:
        """e_1..e_H, and e_L."""
        phi, _ = ACTIVATIONS[self.activation]
        signals = phi(z)
        above = z[1:] - signals[:-1] @ self.inner.transpose(0, 2, 1) - self.skips * z[:-1]
        return np.concatenate([(z[0] - x @ self.first.T)[None], above]), y - signals[-1] @ self.last.T

    def gradient(self, z: Values, x: Values, y: Values) -> Values:
        """Each example's own: e_l - J_{l+1}^T e_{l+1}."""
        _, slope = ACTIVATIONS[self.activation]
        errors, last = self.errors(z, x, y)
        slopes = slope(z)
        pulls = slopes[:-1] * (errors[1:] @ self.inner) + self.skips * errors[1:]
        return errors - np.concatenate([pulls, (slopes[-1] * (last @ self.last))[None]])

    def descended(self, x: Values, y: Values, *, rate: float, steps: int) -> Values:
        """The activities after `steps` steps from the feedforward ones."""
        z = self.feedforward(x)
        for _ in range(steps):
            z = z - rate * self.gradient(z, x, y)
        return z

    def pulls(self, x: Values, y: Values) -> Values:
        """P_l^T r at the feedforward activities, l = 1..H: the errors of backpropagation."""
        _, slope = ACTIVATIONS[self.activation]
        z = self.feedforward(x)
        slopes = slope(z)
        found = [slopes[-1] * (self.errors(z, x, y)[1] @ self.last)]
        for w, s, d in zip(self.inner[::-1], self.skips[::-1, 0, 0], slopes[-2::-1], strict=True):
            found.append(d * (found[-1] @ w) + s * found[-1])
        return np.stack(found[::-1])

    def weight_gradients(self, errors: Values, z: Values) -> Values:
        """e_l phi(z_{l-1})^T summed over the batch, l = 2..H: the local rule, up to sign and scaling."""
        phi, _ = ACTIVATIONS[self.activation]
        return errors[1:].transpose(0, 2, 1) @ phi(z[:-1])

    def largest_eigenvalue(self, *, seed: int = 0) -> float:
        """lambda_max(H_z) of the linear net, by Lanczos on the gradient at zero data, relative to 1e-5."""
        width = len(self.first)
        x, y = np.zeros((1, self.first.shape[1])), np.zeros((1, len(self.last)))

        def product(v: Values) -> Values:
            return self.gradient(v.reshape(self.hidden, 1, width), x, y).ravel()

        size = self.hidden * width
        start = np.random.default_rng(seed).standard_normal(size)
        operator = LinearOperator((size, size), matvec=product, dtype=float)
        return float(eigsh(operator, k=1, which="LA", v0=start, tol=1e-5, return_eigenvectors=False)[0])


def chain_share(hidden: int, *, rate: float, steps: int) -> Values:
    """e_l after `steps` steps in a chain of identity maps under a constant pull of 1 from above, l = 1..H.

    The pull holds where the last map is so small that the output does not move, as in muPC.
    """
    z = np.zeros(hidden)
    for _ in range(steps):
        errors = np.diff(z, prepend=0.0)
        z = z - rate * (errors - np.append(errors[1:], 1.0))
    return np.diff(z, prepend=0.0)


def exponent_error(expected: float, fit: Callable[[], LawFit]) -> float:
    """By how much the interval of confidence of a fitted exponent reaches away from the expected one."""
    return largest(*(abs(bound - expected) for bound in fit().interval))
