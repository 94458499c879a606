r"""Learning of a linear network at the exact equilibrium of inference, and what is recorded on the way.

    equilibrium_rule        the gradient of F*: predictive coding with inference run to its end
    backpropagation_rule    the gradient of the loss
    LearningRecord          what either records of a batch before its update

Direction and record come from the same sweeps. Both rules suit `weight_descent_by_rule`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ..arguments import public
from ..equilibrium import equilibrium_and_gradient, output_maps
from ..network import Layer, Layers, LinearPCN, scan_layers


class LearningRecord(eqx.Module):
    r"""Of one batch. Gradients are those in the weights W_l of all layers together.

    loss, energy      the loss and F*
    mean_rescaling    tr S / d_y, the mean eigenvalue of S; loss / F* lies between the least and the largest one
    alignment         cosine of the gradients of F* and of the loss; NaN where one of them is 0
    forward           mean of z_l^2 over batch and units after the forward pass, l = 1..L
    settled           the same at equilibrium, l = 1..H
    """

    loss: Float[Array, ""]
    energy: Float[Array, ""]
    mean_rescaling: Float[Array, ""]
    alignment: Float[Array, ""]
    forward: Float[Array, " depth"]
    settled: Float[Array, " hidden"]

    @property
    def energy_ratio(self) -> Array:
        """loss / F*, at least 1 if pi_L <= 1."""
        return self.loss / self.energy


@public
def equilibrium_rule(net: LinearPCN, x: ArrayLike, y: ArrayLike) -> tuple[Layers, LearningRecord]:
    """(dF*/dW, record): one exact step of predictive coding.

    Twin: `jax.grad` of `equilibrated_energy`. Cost: that of `equilibrium_and_gradient`, and a forward pass and the
    products of one gradient more.
    """
    gradient, _, record = _gradients(net, *net.batch(x, y))
    return gradient, record


@public
def backpropagation_rule(net: LinearPCN, x: ArrayLike, y: ArrayLike) -> tuple[Layers, LearningRecord]:
    """(dloss/dW, record): gradient descent on the loss, with the same record. Twin: `jax.grad` of `loss`."""
    _, gradient, record = _gradients(net, *net.batch(x, y))
    return gradient, record


@jax.jit
def _gradients(net: LinearPCN, x: Array, y: Array) -> tuple[Layers, Layers, LearningRecord]:
    """Gradients of F* and of the loss, and the record."""
    found, of_energy = equilibrium_and_gradient(net, x, y)
    maps, _ = output_maps(net)

    def up(below: Array, layer: Layer) -> tuple[Array, tuple[Array, Array]]:
        z = layer.predicted(below)
        return z, (jnp.mean(z**2), below)

    output, (forward, inputs) = scan_layers(net.runs, up, x)
    residual = y - output

    def down(_: None, layer: Layer, p: Array, below: Array) -> tuple[None, tuple[Array, Array]]:
        slope = -layer.scaling * p.T @ (residual.T @ below) / len(x)
        return None, (jnp.sum(p**2) / layer.precision, slope)

    _, (traces, of_loss) = scan_layers(net.runs, down, None, maps, inputs)
    record = LearningRecord(
        loss=jnp.sum(residual**2) / (2 * len(x)),
        energy=found.energy,
        mean_rescaling=jnp.sum(jnp.concatenate(traces.runs)) / y.shape[1],
        alignment=_cosine(of_energy, of_loss),
        forward=jnp.concatenate(forward.runs),
        settled=jnp.concatenate([jnp.zeros(0), *(jnp.mean(z**2, axis=(1, 2)) for z in found.activities.runs)]),
    )
    return of_energy, of_loss, record


def _cosine(one: Layers, other: Layers) -> Float[Array, ""]:
    first, second = _of_size_one(one), _of_size_one(other)
    return _product(first, second) / jnp.sqrt(_product(first, first) * _product(second, second))


def _of_size_one(layers: Layers) -> Layers:
    """Divided by the largest entry: squares of large gradients overflow."""
    size = jnp.max(jnp.stack([jnp.max(jnp.abs(g)) for g in layers.runs]))
    return jax.tree.map(lambda g: g / size, layers)


def _product(one: Layers, other: Layers) -> Array:
    return jnp.sum(jnp.stack([jnp.vdot(a, b) for a, b in zip(one.runs, other.runs, strict=True)]))
