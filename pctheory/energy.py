r"""The energy of a linear predictive-coding network: the one place where 1/2, sum and mean are chosen.

Normalisation
    F    = mean over the batch of  sum_l (pi_l / 2) |e_l|^2,   e_l = z_l - A_l z_{l-1} - c_l
    loss = mean over the batch of  (1/2) |y - feedforward(x)|^2
    A factor 1/2, the sum over layers and features, the mean over examples (rows of x and y).

Defined here: feedforward, loss, prediction_errors, layer_energies, energy, and the partial gradients of the
energy with respect to activities and weights. `activities` are those of the hidden layers, z_1..z_H.
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .arguments import public
from .network import Layer, Layers, LinearPCN, finite_result, scan_layers

Activities = Layers | Iterable[ArrayLike]


@public
def feedforward(net: LinearPCN, x: ArrayLike) -> Layers:
    """z_l = A_l z_{l-1} + c_l from z_0 = x: z_1..z_L, the last being the network's output.

    Cost: one forward pass.
    """
    return finite_result("feedforward", _feedforward(net, net.inputs(x)))


@public
def loss(net: LinearPCN, x: ArrayLike, y: ArrayLike) -> Float[Array, ""]:
    """Mean over the batch of (1/2)|y - feedforward(x)|^2. It has no precision in it."""
    return finite_result("loss", _loss(net, *net.batch(x, y)))


@public
def prediction_errors(net: LinearPCN, activities: Activities, x: ArrayLike, y: ArrayLike) -> Layers:
    """e_l = z_l - A_l z_{l-1} - c_l for l = 1..L, with z_0 = x and z_L = y, not weighted by precision."""
    x, y = net.batch(x, y)
    return finite_result("prediction_errors", _prediction_errors(net, net.hidden(activities, len(x)), x, y))


@public
def layer_energies(net: LinearPCN, activities: Activities, x: ArrayLike, y: ArrayLike) -> Float[Array, " depth"]:
    """Mean over the batch of (pi_l / 2)|e_l|^2, one number per layer."""
    x, y = net.batch(x, y)
    return finite_result("layer_energies", _layer_energies(net, net.hidden(activities, len(x)), x, y))


@public
def energy(net: LinearPCN, activities: Activities, x: ArrayLike, y: ArrayLike) -> Float[Array, ""]:
    """F at given activities: the sum of `layer_energies`."""
    x, y = net.batch(x, y)
    return finite_result("energy", _layer_energies(net, net.hidden(activities, len(x)), x, y).sum())


@public
def activity_gradient(net: LinearPCN, activities: Activities, x: ArrayLike, y: ArrayLike) -> Layers:
    r"""dF/dz_l = (pi_l e_l - A_{l+1}^T pi_{l+1} e_{l+1}) / B for the hidden layers; rows are examples.

    The 1/B is that of the batch mean: for one example this is  H_z z - b  of `mupc-2025/activity-solution`.
    Cost: about two forward passes.
    """
    x, y = net.batch(x, y)
    return finite_result("activity_gradient", _activity_gradient(net, net.hidden(activities, len(x)), x, y))


@public
def partial_weight_gradient(net: LinearPCN, activities: Activities, x: ArrayLike, y: ArrayLike) -> Layers:
    r"""dF/dW_l = -a_l pi_l mean(e_l z_{l-1}^T) at fixed activities: the local learning rule of PC.

    At equilibrium this is the whole gradient (`saddles-2024/envelope`); there `equilibrated_gradient` is cheaper.
    """
    x, y = net.batch(x, y)
    hidden = net.hidden(activities, len(x))
    return finite_result("partial_weight_gradient", _partial_weight_gradient(net, hidden, x, y))


@jax.jit
def _feedforward(net: LinearPCN, x: Float[Array, "batch d_x"]) -> Layers:
    def step(z: Array, layer: Layer) -> tuple[Array, Array]:
        z = layer.predicted(z)
        return z, z

    return scan_layers(net.runs, step, x)[1]


@jax.jit
def _loss(net: LinearPCN, x: Float[Array, "batch d_x"], y: Float[Array, "batch d_y"]) -> Float[Array, ""]:
    output, _ = scan_layers(net.runs, lambda z, layer: (layer.predicted(z), None), x)
    return jnp.sum((y - output) ** 2) / (2 * len(x))


@jax.jit
def _prediction_errors(net: LinearPCN, hidden: Layers, x: Array, y: Array) -> Layers:
    def step(below: Array, layer: Layer, z: Array) -> tuple[Array, Array]:
        return z, z - layer.predicted(below)

    return scan_layers(net.runs, step, x, hidden.appended(y, net.weights.lengths))[1]


@jax.jit
def _layer_energies(net: LinearPCN, hidden: Layers, x: Array, y: Array) -> Float[Array, " depth"]:
    squares = [jnp.sum(e**2, axis=(1, 2)) for e in _prediction_errors(net, hidden, x, y).runs]
    return net.precisions * jnp.concatenate(squares) / (2 * len(x))


@jax.jit
def _activity_gradient(net: LinearPCN, hidden: Layers, x: Array, y: Array) -> Layers:
    def step(from_above: Array, layer: Layer, e: Array) -> tuple[Array, Array]:
        weighted = layer.precision * e
        return layer.transposed(weighted), weighted - from_above

    errors = _prediction_errors(net, hidden, x, y)
    gradient = scan_layers(net.runs, step, jnp.zeros_like(y), errors, reverse=True)[1]
    return jax.tree.map(lambda g: g / len(x), gradient.without_last())


@jax.jit
def _partial_weight_gradient(net: LinearPCN, hidden: Layers, x: Array, y: Array) -> Layers:
    def step(below: Array, layer: Layer, z: Array) -> tuple[Array, Array]:
        e = z - layer.predicted(below)
        return z, -layer.scaling * layer.precision * (e.T @ below) / len(x)

    return scan_layers(net.runs, step, x, hidden.appended(y, net.weights.lengths))[1]
