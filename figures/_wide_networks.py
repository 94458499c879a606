"""Training of many wide networks side by side, by loops in NumPy: gradient descent on the loss (BP) or F* (PC)."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
METHODS = {"loss": "BP", "energy": "PC"}
IN_CACHE = 2**16  # numbers in the weights of the networks that are trained side by side


@dataclass(frozen=True, eq=False)
class Setting:
    """Data and hyperparameters of a run; the learning rate is  rate gamma^2 N."""

    x: Values
    y: Values
    depth: int
    rate: float
    steps: int
    gamma: float

    @property
    def options(self) -> dict[str, Any]:
        """Those that the theory takes by name, but for gamma."""
        return {"depth": self.depth, "rate": self.rate, "steps": self.steps}

    @property
    def input_kernel(self) -> Values:
        """x x^T / N_0."""
        return np.asarray(self.x @ self.x.T / self.x.shape[1])


def whitened_batch(examples: int, seed: int) -> tuple[Values, Values]:
    """As many inputs as examples with x x^T / N_0 = I, and one target each, of mean square 1."""
    rng = np.random.default_rng(seed)
    x = np.sqrt(examples) * np.linalg.qr(rng.standard_normal((examples, examples)))[0]
    y = rng.standard_normal((examples, 1))
    return x, y / np.sqrt(np.mean(y**2))


def ensemble(given: Setting, width: int, networks: int, seed: int) -> dict[str, Values]:
    """Losses of BP and of PC from the same starts, (networks, steps)."""
    rng = np.random.default_rng([seed, width])
    parts: dict[str, list[Values]] = {method: [] for method in METHODS}
    for count in _blocks(networks, max(1, IN_CACHE // width**2)):
        widths = [given.x.shape[1], *[width] * (given.depth - 1), given.y.shape[1]]
        start = [rng.standard_normal((count, above, below)) for below, above in pairwise(widths)]
        for method, found in parts.items():
            found.append(trained(given, method, start))
    return {method: np.concatenate(found) for method, found in parts.items()}


def _blocks(total: int, size: int) -> Iterator[int]:
    while total > 0:
        yield min(size, total)
        total -= size


def trained(given: Setting, method: str, start: list[Values]) -> Values:
    """Losses along the training of networks stacked along the first axis of their weights, (networks, steps)."""
    width, weights, found = start[-1].shape[-1], [w.copy() for w in start], []
    scalings = [given.x.shape[1] ** -0.5, *[width**-0.5] * (given.depth - 2), 1 / (given.gamma * width)]
    rate = given.rate * given.gamma**2 * width / len(given.y)
    for _ in range(given.steps):
        z = [np.broadcast_to(given.x, (len(weights[0]), *given.x.shape))]
        for a, w in zip(scalings, weights, strict=True):
            z.append(a * z[-1] @ w.swapaxes(1, 2))
        r = given.y - z[-1]
        found.append(np.sum(r**2, axis=(1, 2)) / (2 * len(given.y)))
        maps = [np.broadcast_to(np.eye(given.y.shape[1]), (len(r), *[given.y.shape[1]] * 2))]
        for a, w in zip(scalings[:0:-1], weights[:0:-1], strict=True):
            maps.insert(0, a * maps[0] @ w)
        pull, below = r, z[:-1]
        if method == "energy":
            rescaling = sum(p @ p.swapaxes(1, 2) for p in maps)
            pull = np.asarray(np.linalg.solve(rescaling, r.swapaxes(1, 2)), dtype=float).swapaxes(1, 2)
            below = [z[0]]
            for a, w, p in zip(scalings[:-1], weights[:-1], maps[:-1], strict=True):
                below.append(a * below[-1] @ w.swapaxes(1, 2) + pull @ p)
        for w, a, p, z_below in zip(weights, scalings, maps, below, strict=True):
            w += (rate * a * pull @ p).swapaxes(1, 2) @ z_below
    return np.array(found).T


def mean_distance(losses: Values, other: Values) -> float:
    """Root mean square over networks and steps."""
    return float(np.sqrt(np.mean((losses - other) ** 2)))
