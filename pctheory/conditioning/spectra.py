r"""The whole spectrum of the activity Hessian and of its two parts, where dense matrices fit.

    H_z = D + O,   D: the diagonal blocks pi_l I + pi_{l+1} A_{l+1}^T A_{l+1},   O: the blocks -pi_l A_l beside them

The spectrum of D is that of each layer's block. O joins even layers to odd ones only, so that its eigenvalues come
in pairs +-sigma, the singular values of its even-odd corner, and zeros.
"""

from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..arguments import OVERFLOW_IS_REPORTED, public
from ..equilibrium import _needs_hidden_layers, activity_hessian_blocks
from ..network import LinearPCN, finite_result, refuse_too_large
from .extremes import check_decay, dense_root, layer_arrays

Part = Literal["all", "diagonal", "off-diagonal"]
Matrix = Float[Array, "activities activities"]


@public
def activity_hessian_split(net: LinearPCN) -> tuple[Matrix, Matrix]:
    """The block-diagonal part D of H_z and the rest O, as dense matrices over (z_1, ..., z_H): H_z = D + O.

    Raises ValueError for a network without hidden layer, MemoryError where they do not fit.
    Twin: `activity_hessian_dense`. Cost: 2 (N_1 + .. + N_H)^2 numbers.
    """
    blocks, stops = activity_hessian_blocks(net), _stops(net)
    shape = (2, stops[-1], stops[-1])
    refuse_too_large("activity_hessian_split", shape, "use activity_hessian_blocks")
    parts = np.zeros(shape)
    for l, block in enumerate(layer_arrays(blocks[0])):
        own = slice(stops[l], stops[l + 1])
        parts[0, own, own] = block
    for l, block in enumerate(layer_arrays(blocks[1])):
        own, above = slice(stops[l], stops[l + 1]), slice(stops[l + 1], stops[l + 2])
        parts[1, above, own], parts[1, own, above] = block, block.T
    return jnp.asarray(parts[0]), jnp.asarray(parts[1])


@public
@OVERFLOW_IS_REPORTED
def activity_hessian_spectrum(
    net: LinearPCN, part: Part | str = "all", *, decay: float = 0.0
) -> Float[np.ndarray, " activities"]:
    r"""All eigenvalues, ascending, of H_z + decay I, or of its diagonal or off-diagonal `part`, for one example.

    The decay belongs to the diagonal: the off-diagonal part does not change. Small eigenvalues of H_z keep their
    digits, as squares of singular values: their relative error is about eps sqrt(cond).
    Raises ValueError for a network without hidden layer, an unknown `part`, a negative decay; MemoryError, before
    allocating, where a matrix does not fit: the diagonal part needs one block only.
    Source: mupc-2025/spectra. Twin: `numpy.linalg.eigvalsh` of the dense matrix. Cost: a singular value
    decomposition of n x n, of n/2 x n/2 for the off-diagonal part, of each N_l x N_l block for the diagonal one.
    """
    if part not in get_args(Part):
        raise ValueError(f"part is {part!r}, expected one of {', '.join(get_args(Part))}")
    check_decay(decay)
    found = {"all": _all, "diagonal": _diagonal, "off-diagonal": _off_diagonal}[part](net)
    shift = 0.0 if part == "off-diagonal" else decay
    return finite_result("activity_hessian_spectrum", np.sort(found) + shift)


def _all(net: LinearPCN) -> np.ndarray:
    return np.linalg.svd(dense_root(net, "activity_hessian_spectrum"), compute_uv=False) ** 2


def _diagonal(net: LinearPCN) -> np.ndarray:
    """pi_l + pi_{l+1} sigma^2, with zeros where A_{l+1} has fewer rows than columns."""
    _needs_hidden_layers(net, "activity_hessian_spectrum")
    found, precisions = [], np.asarray(net.precisions)
    for l, a in enumerate(layer_arrays(finite_result("activity_hessian_spectrum", net.maps))[1:], start=1):
        squares = np.zeros(a.shape[1])
        squares[: min(a.shape)] = np.linalg.svd(a, compute_uv=False) ** 2
        found.append(precisions[l - 1] + precisions[l] * squares)
    return np.concatenate(found)


def _off_diagonal(net: LinearPCN) -> np.ndarray:
    below, stops = activity_hessian_blocks(net)[1], _stops(net)
    widths = np.diff(stops)
    even, odd = widths[0::2], widths[1::2]
    starts = [np.cumsum([0, *group]) for group in (even, odd)]
    size = (int(even.sum()), int(odd.sum()))
    refuse_too_large("activity_hessian_spectrum", size, "ask for activity_hessian_extremes instead")
    corner = np.zeros(size)
    for l, block in enumerate(layer_arrays(below)):  # from layer l to l + 1, counted from 0
        lower = slice(starts[l % 2][l // 2], starts[l % 2][l // 2 + 1])
        upper = slice(starts[(l + 1) % 2][(l + 1) // 2], starts[(l + 1) % 2][(l + 1) // 2 + 1])
        if l % 2:
            corner[upper, lower] = block
        else:
            corner[lower, upper] = block.T
    sigma = np.linalg.svd(corner, compute_uv=False) if min(size) else np.zeros(0)
    return np.concatenate([sigma, -sigma, np.zeros(abs(size[0] - size[1]))])


def _stops(net: LinearPCN) -> list[int]:
    """Where each hidden layer starts among the activities, and where the last one ends."""
    stops: list[int] = np.cumsum([0, *net.widths[1:-1]]).tolist()
    return stops
