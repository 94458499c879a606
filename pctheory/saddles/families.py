r"""Networks at which the gradient vanishes, written down: the origin, zero-rank saddles, fits of some directions.

With C = Sigma_yx Sigma_xx^+ the least-squares map and C Sigma_xx^(1/2) = sum_k s_k u_k v_k^T (s_1 >= s_2 >= ..),
the loss is critical where the network is the fit of any chosen directions, M_{L:1} = sum over those of u_k u_k^T C,
and the last layer sees nothing else. For F* the residual must not be seen by the last layer either
(`own/critical-points`): that is so where y is linear in x along the chosen u_k.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

from ..arguments import OVERFLOW_IS_REPORTED, listed, number, public, random_generator, refuse_too_large
from ..arrays import checked_array
from ..initialisation import check_widths
from ..network import Layers, LinearPCN, finite_result

Shares: TypeAlias = Sequence[float] | Float[np.ndarray, " depth"]

NEGLIGIBLE = 1e-12  # of the largest singular value: rounding in data and products, below which there is no rank


@public
def origin(net: LinearPCN) -> LinearPCN:
    """The network with all weights 0: critical for loss and F*, on any data.

    Raises ValueError, as all of this module that take a network, where that is not so: for biases, for skips in the
    first or last layer, and without a hidden layer. Source: saddles-2024/origin-strict.
    """
    _require_critical_family("origin", net)
    return net.with_weights(jax.tree.map(jnp.zeros_like, net.weights))


@public
@OVERFLOW_IS_REPORTED
def zero_rank_saddle(net: LinearPCN) -> LinearPCN:
    r"""The nearest network with W_L = 0 and M_{L-1:1} = 0 whose layers 2..L-1 are those of `net`: its free part.

    W_1 keeps what M_{L-1:2} sends to 0, W_1 - M_{L-1:2}^+ M_{L-1:2} W_1; so every such saddle is its own image.
    Where M_{L-1:2} has no kernel, W_1 = 0. Critical for loss and F*, on any data.
    Raises: as `origin`. Source: saddles-2024/zero-rank-saddles-strict.
    """
    _require_critical_family("zero_rank_saddle", net)
    first, *middle = [np.asarray(a) for a in net.maps[:-1]]
    above = np.eye(len(first))
    for a in middle:
        above = a @ above
    seen = np.linalg.pinv(above, rcond=NEGLIGIBLE) @ (above @ first)
    weights = [np.asarray(w) for w in net.weights]
    weights[0] = (first - seen) / float(net.scalings[0])
    weights[-1] = 0 * weights[-1]
    finite_result("zero_rank_saddle", weights)
    return net.with_weights(Layers.of(weights).restacked(net.weights.lengths))


@public
@OVERFLOW_IS_REPORTED
def rank_k_critical_point(
    widths: Sequence[int],
    x: ArrayLike,
    y: ArrayLike,
    directions: Iterable[int],
    *,
    shares: Shares | None = None,
    seed: int | None = None,
    free: float = 0.0,
) -> LinearPCN:
    r"""The network that fits the chosen `directions` k = 1, 2, .. (largest s_k first) and nothing else.

    Critical for the loss, whatever Sigma_xx; for F* where y is linear in x along the chosen u_k (module docstring).
    With the fit U diag(d) V^T, layer l takes the powers d^shares[l]: by default 1/L each, which is balanced,
    W_{l+1}^T W_{l+1} = W_l W_l^T. `seed` turns the hidden layers by random rotations; `free` is the size of random
    entries where nothing arrives from the input and nothing goes on to the output (layers 2..L-1).

    Raises ValueError for directions that are repeated, out of range or more than the narrowest layer holds, shares
    that do not add up to 1, a `free` part without a seed. Twin: its gradient is 0, its map the projected C.
    """
    x, y = _checked_data(widths, x, y)
    chosen = _checked_directions(directions, widths)
    powers = _checked_shares(shares, len(widths) - 1)
    if free and seed is None:
        raise ValueError(f"free is {free} without a seed; give one")
    numbers = sum(n * n for n in widths[1:])
    refuse_too_large("rank_k_critical_point", (numbers,), "take smaller widths")
    left, sizes, right = _projected_fit(x, y, chosen)
    rng = random_generator(0 if seed is None else seed)
    turns = [np.eye(n) if seed is None else _rotation(rng, n) for n in widths[1:-1]]
    frames = [right, *(turn[:, : len(chosen)] for turn in turns), left]  # where the fit passes, in columns
    weights = []
    for l, (below, above) in enumerate(pairwise(frames)):
        weight = above * sizes ** powers[l] @ below.T
        if free and 0 < l < len(powers) - 1:
            weight += free * _outside(above) @ rng.standard_normal(weight.shape) @ _outside(below)
        weights.append(weight)
    return LinearPCN(finite_result("rank_k_critical_point", weights))


@public
@OVERFLOW_IS_REPORTED
def global_minimum(
    widths: Sequence[int],
    x: ArrayLike,
    y: ArrayLike,
    *,
    shares: Shares | None = None,
    seed: int | None = None,
) -> LinearPCN:
    """The network of least loss: `rank_k_critical_point` with the leading directions, as many as fit in.

    `shares` say how the layers share the fit; equal shares, the default, are balanced. Raises: as above.
    """
    x, y = _checked_data(widths, x, y)
    count = min(_signal(x, y)[1].shape[1], *widths)
    return rank_k_critical_point(widths, x, y, range(1, count + 1), shares=shares, seed=seed)


def _require_critical_family(name: str, net: LinearPCN) -> None:
    if net.depth == 1:
        raise ValueError(f"{name}: a network of depth 1 has no such saddle; give it a hidden layer")
    if any(np.any(run) for run in net.biases.runs):
        raise ValueError(f"{name}: the net has biases, with which it is not critical; set them to 0")
    for l in (1, net.depth):
        if net.skips[l - 1]:
            raise ValueError(
                f"{name}: skips, layer {l} is {net.skips[l - 1]}, expected 0 in the first and last layer"
            )


def _checked_directions(directions: Iterable[int], widths: Sequence[int]) -> list[int]:
    """The directions counted from 0."""
    listed = list(directions)
    most = min(widths[0], widths[-1])
    for k in listed:
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= most:
            raise ValueError(f"directions holds {k!r}, expected whole numbers from 1 to min(d_x, d_y) = {most}")
    if len(set(listed)) < len(listed):
        raise ValueError(f"directions is {listed}, expected each at most once")
    if len(listed) > min(widths):
        raise ValueError(
            f"directions has {len(listed)} entries, more than the narrowest layer holds; take {min(widths)} at most"
        )
    return [int(k) - 1 for k in listed]


def _checked_shares(shares: Shares | None, depth: int) -> Float[np.ndarray, " depth"]:
    given = (1 / depth,) * depth if shares is None else listed("shares", shares)
    powers = np.array([number(f"shares, layer {l}", share) for l, share in enumerate(given, start=1)])
    if powers.shape != (depth,) or not abs(powers.sum() - 1) <= depth * np.finfo(float).eps:
        raise ValueError(f"shares is {given}, expected {depth} numbers, one per layer, that add up to 1")
    return powers


def _checked_data(widths: Sequence[int], x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    check_widths(widths, skips=False)
    inputs, targets = (
        np.ascontiguousarray(checked_array(part, name, ndim=2)) for part, name in ((x, "x"), (y, "y"))
    )
    if (inputs.shape[1], targets.shape[1]) != (widths[0], widths[-1]) or len(inputs) != len(targets):
        raise ValueError(
            f"x has shape {inputs.shape} and y {targets.shape}, expected {widths[0]} and {widths[-1]} columns, as "
            "many as widths says, and equally many rows"
        )
    return inputs, targets


def _signal(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """C, and in columns the directions u_k along which y depends on x."""
    fit = (np.linalg.pinv(x, rcond=NEGLIGIBLE) @ y).T
    explained = finite_result("rank_k_critical_point", fit @ x.T)
    directions, strengths, _ = np.linalg.svd(explained, full_matrices=False)
    return fit, directions[:, strengths > NEGLIGIBLE * np.linalg.norm(y)]


def _projected_fit(x: np.ndarray, y: np.ndarray, chosen: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """U, d and V, the map C projected on the chosen u_k being U diag(d) V^T with d > 0."""
    fit, directions = _signal(x, y)
    if chosen and max(chosen) >= directions.shape[1]:
        raise ValueError(
            f"directions holds {max(chosen) + 1}, but y depends on x along {directions.shape[1]} only; leave it out"
        )
    u = directions[:, chosen]
    left, sizes, right = np.linalg.svd(u @ (u.T @ fit), full_matrices=False)
    return left[:, : len(chosen)], sizes[: len(chosen)], right[: len(chosen)].T


def _outside(frame: np.ndarray) -> np.ndarray:
    """The projection on what is orthogonal to the columns."""
    return np.eye(len(frame)) - frame @ frame.T


def _rotation(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((size, size)))[0]
