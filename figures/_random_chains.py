"""Random networks at large width and depth: their maps, and how F* and its gradient compare with the loss."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pctheory.random_matrix import RandomChain

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Kind:
    """A parameterisation: SP, NTP or muPC. `variance` is that of a weight of SP times its fan-in."""

    name: str
    family: Literal["SP", "NTP", "muPC"]
    skips: bool
    variance: float = 1.0
    orthogonal: bool = False

    def scalings(self, widths: Sequence[int]) -> Values:
        """a_l, as the table of arXiv 2505.13124 has them."""
        depth = len(widths) - 1
        if self.family == "SP":
            return np.ones(depth)
        found = 1 / np.sqrt(np.array(widths[:-1], dtype=float))
        if self.skips:
            found[1:-1] /= np.sqrt(depth)
        if self.family == "muPC" and depth > 1:
            found[-1] = 1 / widths[-2]
        return found

    def factors(self, widths: Sequence[int]) -> Values:
        """The standard deviation of the entries of a_l W_l; orthogonal ones have that of their larger side."""
        if self.family != "SP":
            return self.scalings(widths)
        below, above = np.array(widths[:-1]), np.array(widths[1:])
        return np.sqrt(self.variance / (np.maximum(below, above) if self.orthogonal else below))

    def chain(self, widths: Sequence[int]) -> RandomChain:
        """What is known of a network before its weights are drawn."""
        depth = len(widths) - 1
        skips = [float(self.skips and 0 < l < depth - 1) for l in range(depth)]
        return RandomChain(tuple(widths), tuple(self.factors(widths) ** 2), tuple(skips))

    def maps(self, widths: Sequence[int], rng: np.random.Generator) -> Iterator[Values]:
        """A_1, A_2, .., drawn one by one."""
        factors, skips = self.factors(widths), self.chain(widths).skips
        for factor, skip, below, width in zip(factors, skips, widths, widths[1:], strict=False):
            weights = orthogonal(rng, width, below) if self.orthogonal else rng.standard_normal((width, below))
            weights *= factor
            if skip:
                weights[np.diag_indices(width)] += skip
            yield weights


def orthogonal(rng: np.random.Generator, rows: int, columns: int) -> Values:
    """Uniform orthonormal rows or columns, the fewer of the two, times the root of the larger side."""
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r)) * max(rows, columns) ** 0.5
    return np.ascontiguousarray(q if rows >= columns else q.T)


def compared(maps: list[Values], scalings: Values, x: Values, y: Values, precision: float) -> list[float]:
    r"""(pi_L loss / F*, 1 - cosine of the gradients of F* and of the loss, their relative distance) of one batch.

    The distance is |g_F - pi_L g| / (pi_L |g|); unit precision below the output. One backward and two forward
    sweeps: gradients are sums of outer products, so that their products need none to be formed.
    """
    outputs = [np.eye(len(maps[-1]))]
    for a in reversed(maps):
        outputs.insert(0, outputs[0] @ a)
    inverses = [*[1.0] * (len(maps) - 1), 1 / precision]
    s = np.sum([inverse * p @ p.T for inverse, p in zip(inverses, outputs[1:], strict=True)], axis=0)
    r = y - x @ outputs[0].T
    q = np.linalg.solve(s, r.T).T
    z, m = x, x
    products = np.zeros(3)  # of the gradients: F* with itself, with that of the loss, that with itself
    for a, scaling, inverse, p in zip(maps, scalings, inverses, outputs[1:], strict=True):
        of_energy, of_loss = q @ p, precision * r @ p
        pairs = ((of_energy, z, of_energy, z), (of_energy, z, of_loss, m), (of_loss, m, of_loss, m))
        products += [scaling**2 * np.sum((e @ f.T) * (u @ v.T)) for e, u, f, v in pairs]
        z, m = z @ a.T + inverse * of_energy, m @ a.T
    energy, inner, loss = products
    distance = max(energy - 2 * inner + loss, 0.0) ** 0.5 / loss**0.5
    return [precision * float(np.sum(r * r) / np.sum(r * q)), 1 - inner / (energy * loss) ** 0.5, distance]


def energy_gradients(maps: list[Values], scalings: Values, x: Values, y: Values) -> list[Values]:
    """dF*/dW_l = -a_l mean(e_l z_{l-1}^T) at unit precision, e_l = P_l^T S^-1 r, by two sweeps."""
    outputs = [np.eye(len(maps[-1]))]
    for a in reversed(maps):
        outputs.insert(0, outputs[0] @ a)
    s = np.sum([p @ p.T for p in outputs[1:]], axis=0)
    q = np.linalg.solve(s, (y - x @ outputs[0].T).T).T
    z, found = x, []
    for a, scaling, p in zip(maps, scalings, outputs[1:], strict=True):
        e = q @ p
        found.append(-scaling * e.T @ z / len(x))
        z = z @ a.T + e
    return found
