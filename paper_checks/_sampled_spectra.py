"""What limiting laws are held to: eigenvalues of sampled activity Hessians, and moments by counting pairings."""

from collections.abc import Iterator
from functools import cache

import numpy as np

from pctheory.random_matrix import Law, RandomChain


def sampled_hessian(chain: RandomChain, seed: int) -> np.ndarray:
    """H_z with Gaussian maps, from its definition as the square of the stacked error maps."""
    random = np.random.default_rng(seed)
    n, size = chain.widths, sum(chain.widths[1:-1])
    starts = np.cumsum([0, *n[1:]])
    errors = np.zeros((starts[-1], size))
    for l in range(1, chain.depth + 1):
        here, root = slice(starts[l - 1], starts[l]), np.sqrt(chain.precisions[l - 1])
        if l < chain.depth:
            errors[here, here] = root * np.eye(n[l])
        if l > 1:
            drawn = np.sqrt(chain.variances[l - 1]) * random.standard_normal((n[l], n[l - 1]))
            errors[here, starts[l - 2] : starts[l - 1]] = -root * (
                drawn + chain.skips[l - 1] * np.eye(n[l], n[l - 1])
            )
    return errors.T @ errors


def diagonal_part(chain: RandomChain, hessian: np.ndarray) -> np.ndarray:
    """The blocks on the diagonal, zero elsewhere."""
    layer = np.repeat(np.arange(chain.depth - 1), chain.widths[1:-1])
    return np.where(layer[:, None] == layer, hessian, 0.0)


@cache
def sampled_eigenvalues(chain: RandomChain, seed: int, part: str = "all") -> np.ndarray:
    """Ascending, of H_z, or of its `diagonal` or `off-diagonal` part."""
    hessian = sampled_hessian(chain, seed)
    if part != "all":
        diagonal = diagonal_part(chain, hessian)
        hessian = diagonal if part == "diagonal" else hessian - diagonal
    return np.linalg.eigvalsh(hessian)


def histogram_distance(law: Law, eigenvalues: np.ndarray, bins: int = 40) -> float:
    """L1: sum over bins, up to 10 % beyond both ends of law and sample, of |share of eigenvalues - mass|."""
    low, high = min(law.edges[0], eigenvalues[0]), max(law.edges[1], eigenvalues[-1])
    margin = (high - low) / 10
    edges = np.linspace(low - margin, high + margin, bins + 1)
    shares = np.histogram(eigenvalues, edges)[0] / len(eigenvalues)
    return float(np.abs(shares - np.diff(law.cdf(edges))).sum())


def counted_moment(chain: RandomChain, k: int, *, swapped: bool = False, crossing: bool = False) -> float:
    r"""Limit of E tr(H_z^k) / (number of activities), term by term.

    B^T B .. B^T B is a sum over closed walks from an activity's layer to errors and back, a step being an identity,
    a skip or a random map X. Wick's rule pairs the X; what survives as widths grow are pairings that do not cross,
    and E[X M X^T] = v tr(M) I gives a pair the variance times the width at its far end.
    swapped: the width at its near end instead; crossing: pairings that cross as well. Both are wrong.
    """
    total = 0.0
    for layer in range(1, chain.depth):
        for walk in _walks(chain, ("activity", layer), ("activity", layer), 2 * k):
            total += chain.widths[layer] * _pairings(chain, walk, swapped, crossing)
    return total / sum(chain.widths[1:-1])


Node = tuple[str, int]
Step = tuple[Node, Node, float, bool]  # from, to, factor, whether it is a random map


def _steps(chain: RandomChain, node: Node) -> Iterator[Step]:
    """Activity l meets the error l by the identity, the error l + 1 by the map of that layer."""
    kind, l = node
    if kind == "activity":
        ends: list[tuple[Node, int]] = [(("error", l), 0), (("error", l + 1), l + 1)]
    else:
        ends = [(("activity", l), 0), (("activity", l - 1), l)]
    for end, layer in ends:
        if not 1 <= end[1] <= (chain.depth if end[0] == "error" else chain.depth - 1):
            continue
        root = np.sqrt(chain.precisions[max(l, end[1]) - 1])
        if not layer:
            yield node, end, float(root), False
            continue
        if chain.skips[layer - 1]:
            yield node, end, float(-root * chain.skips[layer - 1]), False
        if chain.variances[layer - 1]:
            yield node, end, float(root * np.sqrt(chain.variances[layer - 1])), True


def _walks(chain: RandomChain, node: Node, home: Node, left: int) -> Iterator[tuple[Step, ...]]:
    if not left:
        if node == home:
            yield ()
        return
    for step in _steps(chain, node):
        for rest in _walks(chain, step[1], home, left - 1):
            yield (step, *rest)


def _pairings(chain: RandomChain, walk: tuple[Step, ...], swapped: bool, crossing: bool) -> float:
    if not walk:
        return 1.0
    (start, end, factor, random), rest = walk[0], walk[1:]
    if not random:
        return factor * _pairings(chain, rest, swapped, crossing)
    width = chain.widths[(start if swapped else end)[1]]
    total = 0.0
    for i, (other_start, other_end, other_factor, other_random) in enumerate(rest):
        if other_random and (other_start, other_end) == (end, start):
            weight = factor * other_factor * width
            if crossing:
                total += weight * _pairings(chain, rest[:i] + rest[i + 1 :], swapped, crossing)
            else:
                inside = _pairings(chain, rest[:i], swapped, crossing)
                total += weight * inside * _pairings(chain, rest[i + 1 :], swapped, crossing)
    return total
