r"""The solved chain: what inference converges to, in closed form.

Minimising the energy over the hidden activities, with x and y clamped, gives (r = y - feedforward(x))

    P_L = I,  P_l = P_{l+1} A_{l+1}           the map from layer l to the output
    S   = sum_{l=1}^{L} P_l P_l^T / pi_l      the rescaling
    F*  = mean (1/2) r^T S^-1 r               the equilibrated energy
    e_l = P_l^T S^-1 r / pi_l                 the prediction errors at equilibrium
    z_l = A_l z_{l-1} + c_l + e_l             the equilibrium
    dF*/dW_l = -a_l pi_l mean(e_l z_{l-1}^T)  its gradient (the envelope theorem)

Method: the triangular factor R of S = R^T R is that of a QR factorisation of the stacked P_l^T / sqrt(pi_l), kept
up to date layer by layer; so the relative error of F* is of the order eps sqrt(cond S), not eps cond S.
Proof at every depth: `pctheory derive`.
Reference: arXiv 2408.11979 (unit precision, no biases); the general form and the method are ours.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, ArrayLike, Float

from .arguments import public
from .arrays import as_float, on_device, without_compiling
from .energy import Activities, _activity_gradient, _layer_energies, _prediction_errors
from .network import (
    Carry,
    Layer,
    Layers,
    LinearPCN,
    Scalar,
    double_array,
    finite_result,
    is_concrete,
    refuse_too_large,
    scan_layers,
    without_first,
)


class Equilibrium(eqx.Module):
    """Where inference ends: hidden activities z_1..z_H, errors e_1..e_L and the energy F*."""

    activities: Layers
    errors: Layers
    energy: Float[Array, ""]


@public
def rescaling(net: LinearPCN) -> Float[Array, "d_y d_y"]:
    r"""S = sum_l P_l P_l^T / pi_l, symmetric, S >= I / pi_L. It does not depend on W_1, x or y.

    Source: saddles-2024/equilibrated-energy. Twin: the recursion S_l = I/pi_l + A_l S_{l-1} A_l^T.
    Cost: one backward pass of d_y rows, and a QR factorisation of (d_y + N_l) x d_y for each layer.
    """
    factor = rescaling_factor(net)
    return finite_result("rescaling", without_compiling(lambda xp, parts: parts[0].T @ parts[0], [factor]))


@public
def rescaling_factor(net: LinearPCN) -> Float[Array, "d_y d_y"]:
    """The upper triangular R with S = R^T R, accurate to eps sqrt(cond S) in what it solves."""
    return finite_result("rescaling_factor", _rescaling_factor(net))


@public
def rescaling_log_determinant(net: LinearPCN) -> Float[Array, ""]:
    """log det S, from the diagonal of its triangular factor."""
    return finite_result("rescaling_log_determinant", _rescaling_log_determinant(net))


@public
def equilibrated_energy(net: LinearPCN, x: ArrayLike, y: ArrayLike) -> Float[Array, ""]:
    r"""F* = min over activities of F = mean (1/2) r^T S^-1 r: the loss, rescaled. F* <= loss if pi_L = 1.

    Source: saddles-2024/equilibrated-energy. Twin: solve with the dense activity Hessian. Cost: as `rescaling`.
    """
    value, loss_of_digits = _equilibrated_energy(net, *net.batch(x, y))
    return _trustworthy("equilibrated_energy", value, loss_of_digits)


@public
def equilibrium(net: LinearPCN, x: ArrayLike, y: ArrayLike) -> Equilibrium:
    r"""The unique minimiser of the energy over the hidden activities, with its errors and energy.

    Source: saddles-2024/equilibrium-errors. Twin: solve with the dense activity Hessian.
    Cost: one backward pass of d_y rows, one forward pass of the batch.
    """
    found, missed = _equilibrium(net, *net.batch(x, y))
    return _trustworthy("equilibrium", found, missed)


@public
def equilibrated_gradient(net: LinearPCN, x: ArrayLike, y: ArrayLike) -> Layers:
    r"""dF*/dW_l = -a_l pi_l mean(e_l z_{l-1}^T) = -a_l P_l^T mean(S^-1 r z_{l-1}^T), stacked like `net.weights`.

    Source: saddles-2024/envelope. Twin: `jax.grad` of `equilibrated_energy`. Cost: as `equilibrium_and_gradient`.
    """
    _, gradient, missed = _equilibrium_and_gradient(net, *net.batch(x, y))
    return _trustworthy("equilibrated_gradient", gradient, missed)


@public
def equilibrium_and_gradient(net: LinearPCN, x: ArrayLike, y: ArrayLike) -> tuple[Equilibrium, Layers]:
    """One exact step of predictive coding: `equilibrium` and `equilibrated_gradient` from the same sweeps.

    Raises FloatingPointError, as the functions above and outside `jit` only, where the network is so
    ill-conditioned that fewer than three digits are left.
    Cost: no more than backpropagation through the loss as long as d_y does not exceed the batch.
    """
    found, gradient, missed = _equilibrium_and_gradient(net, *net.batch(x, y))
    return _trustworthy("equilibrium_and_gradient", (found, gradient), missed)


@public
def output_maps(net: LinearPCN) -> tuple[Layers, Float[Array, "d_y d_x"]]:
    """P_1..P_L, the maps from each layer to the output, and P_0, the map from the input. No biases in them."""
    return finite_result("output_maps", _output_maps(net))


@public
def activity_hessian_blocks(net: LinearPCN) -> tuple[Layers, Layers]:
    r"""The block-tridiagonal Hessian H_z of the energy of one example in z_1..z_H.

        diagonal, layer l:  pi_l I + pi_{l+1} A_{l+1}^T A_{l+1}      (H blocks, N_l x N_l)
        below it:           -pi_{l+1} A_{l+1}                        (H - 1 blocks, N_{l+1} x N_l)

    Symmetric positive definite. Per example: the batch-mean energy has H_z / B for each example.
    Source: mupc-2025/activity-hessian. Twin: `jax.hessian` of `energy`. Cost: H products of N x N matrices.
    """
    _needs_hidden_layers(net, "activity_hessian_blocks")
    return finite_result("activity_hessian_blocks", _activity_hessian_blocks(net))


@public
def activity_hessian_dense(net: LinearPCN) -> Float[Array, "activities activities"]:
    """H_z as one matrix over (z_1, ..., z_H): the slow twin. Cost: (N_1 + .. + N_H)^2 numbers.

    Raises MemoryError, before allocating, where that is more than the machine's memory.
    """
    stops = np.cumsum([0, *net.widths[1:-1]]).tolist()
    shape = (stops[-1], stops[-1])
    refuse_too_large("activity_hessian_dense", shape, "use activity_hessian_product and activity_hessian_solve")
    diagonal, below = activity_hessian_blocks(net)
    dense = np.zeros(shape)
    for l, block in enumerate(diagonal):
        dense[stops[l] : stops[l + 1], stops[l] : stops[l + 1]] = block
    for l, block in enumerate(below):
        dense[stops[l + 1] : stops[l + 2], stops[l] : stops[l + 1]] = block
        dense[stops[l] : stops[l + 1], stops[l + 1] : stops[l + 2]] = np.transpose(block)
    return on_device(dense)


@public
def activity_hessian_product(net: LinearPCN, vectors: Activities) -> Layers:
    r"""H_z v for each example's v = (v_1, ..., v_H), one vector per row of the batch.

    Twin: `activity_hessian_dense`. Cost: two passes, O(L N^2) a row; no block is formed.
    """
    return finite_result("activity_hessian_product", _activity_hessian_product(net, _rows(net, vectors)))


@public
def activity_hessian_solve(
    net: LinearPCN, vectors: Activities, factor: Float[Array, "d_y d_y"] | None = None
) -> Layers:
    r"""H_z^-1 v by sweeps: with lambda_l = v_l + A_{l+1}^T lambda_{l+1} and lambda_L = q,

        u_l = A_l u_{l-1} + lambda_l / pi_l,   q such that u_L = 0:   S q = -(u_L reached with q = 0).

    `factor` is `rescaling_factor(net)`, worth keeping over many solves. Twin: a dense solve.
    Cost: four passes, O(L N^2) a row, and `rescaling_factor` unless given. Error: about eps cond(H_z).
    """
    vectors = _rows(net, vectors)
    factor = rescaling_factor(net) if factor is None else double_array(factor, "factor", ndim=2)
    if factor.shape != (net.widths[-1],) * 2:
        raise ValueError(f"factor has shape {factor.shape}, expected {(net.widths[-1],) * 2}; see rescaling_factor")
    return finite_result("activity_hessian_solve", _activity_hessian_solve(net, vectors, factor))


@public
def activity_hessian_log_determinant(net: LinearPCN) -> Float[Array, ""]:
    r"""log det H_z = log det S + sum over hidden l of N_l log pi_l + d_y log pi_L.

    Source: own/determinant. Twin: the determinant of the dense matrix. Cost: as `rescaling`.
    """
    widths = np.array(net.widths[1:], dtype=float)
    return without_compiling(
        lambda xp, parts: parts[0] + xp.sum(widths * xp.log(parts[1])),
        [rescaling_log_determinant(net), net.precisions],
    )


@public
def equilibrium_with_decay(net: LinearPCN, x: ArrayLike, y: ArrayLike, decay: Scalar) -> Equilibrium:
    r"""The minimiser of  F(z) + mean over the batch of sum over hidden l of (decay / 2)|z_l|^2.

    Block-tridiagonal Cholesky: with C_l the pivot of layer l (C_l >= pi_{l+1} A_{l+1}^T A_{l+1}),

        C_{l-1} = J_{l-1} + pi_l A_l^T A_l,    J_l = (pi_l + decay) I - pi_l^2 A_l C_{l-1}^-1 A_l^T.

    `errors` are z_l - A_l z_{l-1} - c_l and `energy` includes the decay term. At decay 0 this is `equilibrium`.
    Raises ValueError if `decay` is negative or not finite. Source: mupc-2025/activity-decay.
    Twin: solve with the dense H_z + decay I. Cost: O(L N^3), O(L N^2) memory.
    """
    if is_concrete(decay) and not 0 <= decay < np.inf:
        raise ValueError(f"decay is {decay}, expected a finite number of at least 0")
    x, y = net.batch(x, y)
    if net.depth == 1:
        return equilibrium(net, x, y)
    return finite_result("equilibrium_with_decay", _equilibrium_with_decay(net, x, y, as_float(decay)))


@jax.jit
def _output_maps(net: LinearPCN) -> tuple[Layers, Float[Array, "d_y d_x"]]:
    refuse_too_large("output_maps", (net.widths[-1], sum(net.widths)), "take a narrower output")

    def step(p: Array, layer: Layer) -> tuple[Array, Array]:
        return layer.transposed(p), p

    p_0, maps = scan_layers(net.runs, step, jnp.eye(net.widths[-1]), reverse=True)
    return maps, p_0


def _factor(net: LinearPCN, maps: Layers) -> Float[Array, "d_y d_y"]:
    """R by one update per layer: a single tall QR makes LAPACK start threads that stall whenever a core is busy."""
    d_y = net.widths[-1]

    def step(r: Array, layer: Layer, p: Array) -> tuple[Array, None]:
        return jnp.linalg.qr(jnp.concatenate([r, p.T / jnp.sqrt(layer.precision)]), mode="r"), None

    return scan_layers(net.runs, step, jnp.zeros((d_y, d_y)), maps, reverse=True)[0]


def _residual(net: LinearPCN, maps: Layers, p_0: Array, x: Array, y: Array) -> Float[Array, "batch d_y"]:
    """r = y - P_0 x - sum_l P_l c_l."""
    shifts = [jnp.einsum("loi,li->o", p, c) for p, c in zip(maps.runs, net.biases.runs, strict=True)]
    return y - x @ p_0.T - sum(shifts)


_rescaling_factor = jax.jit(lambda net: _factor(net, _output_maps(net)[0]))


@jax.jit
def _rescaling_log_determinant(net: LinearPCN) -> Float[Array, ""]:
    return 2 * jnp.sum(jnp.log(jnp.abs(jnp.diagonal(_rescaling_factor(net)))))


# Three digits are left where the relative error is estimated at this; with fewer a result is refused.
LARGEST_ERROR = 1e-3


def _trustworthy(name: str, result: Carry, error: Array) -> Carry:
    """`result`, or FloatingPointError if it is not finite or its estimated relative `error` is too large."""
    finite_result(name, result)
    if is_concrete(error) and not error <= LARGEST_ERROR:  # so that NaN is refused too
        raise FloatingPointError(
            f"{name}: too ill-conditioned for double precision, relative error about {error:.0e}; "
            "make the network shallower or its maps smaller"
        )
    return result


@jax.jit
def _equilibrated_energy(net: LinearPCN, x: Array, y: Array) -> tuple[Float[Array, ""], Float[Array, ""]]:
    maps, p_0 = _output_maps(net)
    factor = _factor(net, maps)
    whitened = solve_triangular(factor, _residual(net, maps, p_0, x, y).T, trans="T")
    diagonal = jnp.abs(jnp.diagonal(factor))  # its spread is at most the root of cond S, and close to it
    error = np.finfo(float).eps * jnp.max(diagonal) / jnp.min(diagonal)
    return jnp.sum(whitened**2) / (2 * len(x)), error


@jax.jit
def _equilibrium_and_gradient(net: LinearPCN, x: Array, y: Array) -> tuple[Equilibrium, Layers, Array]:
    maps, p_0 = _output_maps(net)
    factor = _factor(net, maps)
    whitened = solve_triangular(factor, _residual(net, maps, p_0, x, y).T, trans="T")
    multiplier = solve_triangular(factor, whitened).T  # S^-1 r: the force at the output

    def step(below: Array, layer: Layer, p: Array) -> tuple[Array, tuple[Array, Array, Array]]:
        e = multiplier @ p / layer.precision
        z = layer.predicted(below) + e
        return z, (z, e, -layer.scaling * p.T @ (multiplier.T @ below) / len(x))

    reached, (activities, errors, gradient) = scan_layers(net.runs, step, x, maps)
    energy = jnp.sum(whitened**2) / (2 * len(x))
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(y)), *(jnp.max(jnp.abs(z)) for z in activities.runs)]))
    gap = jnp.max(jnp.abs(reached - y))  # the sweep must arrive at the target
    missed = jnp.where(gap == 0, 0.0, gap / largest)
    return Equilibrium(activities.without_last(), errors, energy), gradient, missed


# the gradient, as large as the weights, is left out of the compiled code
_equilibrium = jax.jit(lambda net, x, y: _equilibrium_and_gradient(net, x, y)[::2])


def _needs_hidden_layers(net: LinearPCN, name: str) -> None:
    if net.depth == 1:
        raise ValueError(f"{name}: a network of depth 1 has no hidden layers; add one")


def _sizes_of_blocks(net: LinearPCN) -> tuple[int]:
    """How many numbers the diagonal blocks of H_z hold."""
    return (sum(width**2 for width in net.widths[1:-1]),)


def _rows(net: LinearPCN, vectors: Activities) -> Layers:
    """`vectors` as checked hidden activities; the first layer says how many rows there are."""
    _needs_hidden_layers(net, "activity Hessian")
    vectors = vectors if isinstance(vectors, Layers) else list(vectors)
    rows = len(double_array(vectors[0], "vectors, layer 1", ndim=2)) if len(vectors) else 1
    return net.hidden(vectors, rows, "vectors")


@jax.jit
def _activity_hessian_blocks(net: LinearPCN) -> tuple[Layers, Layers]:
    refuse_too_large("activity_hessian_blocks", _sizes_of_blocks(net), "use activity_hessian_product")

    def step(pi_below: Array, layer: Layer) -> tuple[Array, tuple[Array, Array]]:
        a = layer.matrix
        own = pi_below * jnp.eye(a.shape[1])
        return layer.precision, (own + layer.precision * a.T @ a, -layer.precision * a)

    _, (diagonal, below) = scan_layers(without_first(net.runs), step, net.precisions[0])
    return diagonal, below.without_last()


@jax.jit
def _activity_hessian_product(net: LinearPCN, vectors: Layers) -> Layers:
    rows = vectors.runs[0].shape[1]
    unbiased = eqx.tree_at(lambda n: n.biases, net, jax.tree.map(jnp.zeros_like, net.biases))
    zeros = jnp.zeros((rows, net.widths[0])), jnp.zeros((rows, net.widths[-1]))
    return jax.tree.map(lambda g: rows * g, _activity_gradient(unbiased, vectors, *zeros))


@jax.jit
def _activity_hessian_solve(net: LinearPCN, vectors: Layers, factor: Array) -> Layers:
    rows = vectors.runs[0].shape[1]
    sources = vectors.appended(jnp.zeros((rows, net.widths[-1])), net.weights.lengths)

    def down(above: Array, layer: Layer, v: Array) -> tuple[Array, Array]:
        force = v + above
        return layer.transposed(force), force

    def up(below: Array, layer: Layer, force: Array) -> tuple[Array, Array]:
        u = layer.applied(below) + force / layer.precision
        return u, u

    def swept(q: Array) -> tuple[Array, Layers]:
        forces = scan_layers(net.runs, down, q, sources, reverse=True)[1]
        return scan_layers(net.runs, up, jnp.zeros((rows, net.widths[0])), forces)

    missed, _ = swept(jnp.zeros((rows, net.widths[-1])))
    whitened = solve_triangular(factor, -missed.T, trans="T")
    return swept(solve_triangular(factor, whitened).T)[1].without_last()


@jax.jit
def _equilibrium_with_decay(net: LinearPCN, x: Array, y: Array, decay: Array) -> Equilibrium:
    refuse_too_large("equilibrium_with_decay", _sizes_of_blocks(net), "take narrower layers, or decay 0")
    first, *_ = jax.tree.map(lambda a: a[0], net.runs)
    upper = without_first(net.runs)
    mean = first.predicted(x)
    message = first.precision * mean, (first.precision + decay) * jnp.eye(mean.shape[1])

    def eliminate(message: tuple[Array, Array], layer: Layer) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        information, own = message
        a, pi, c = layer.matrix, layer.precision, layer.bias
        pivot = jnp.linalg.cholesky(own + pi * a.T @ a)
        information = information - pi * layer.transposed(c[None])
        half = solve_triangular(pivot, a.T, lower=True)
        reduced = pi * (solve_triangular(pivot, information.T, lower=True).T @ half + c)
        own_above = (pi + decay) * jnp.eye(len(a)) - pi**2 * half.T @ half
        return (reduced, own_above), (pivot, information)

    def substitute(above: Array, layer: Layer, pivot: Array, information: Array) -> tuple[Array, Array]:
        force = information + layer.precision * layer.transposed(above)
        z = solve_triangular(pivot, solve_triangular(pivot, force.T, lower=True), lower=True, trans="T").T
        return z, z

    _, (pivots, informations) = scan_layers(upper, eliminate, message)
    _, hidden = scan_layers(upper, substitute, y, pivots, informations, reverse=True)
    # `hidden` is stacked like layers 2..L but holds z_1..z_{L-1}
    activities = hidden.restacked(net.hidden_lengths)
    penalty = sum(jnp.sum(z**2) for z in activities.runs) * decay / (2 * len(x))
    errors = _prediction_errors(net, activities, x, y)
    return Equilibrium(activities, errors, _layer_energies(net, activities, x, y).sum() + penalty)
