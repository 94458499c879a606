r"""How the weight gradient of predictive coding splits at the feedforward activities: readings of one sentence.

"PC gradient = (dz/dtheta)^T I^-1 g + loss gradient": the direction of a trust region plus that of backpropagation.
With D = -I^-1 g the inference step and h the feedforward activities, as a function of the weights theta:

    reading               formula                                                 against dF*/dtheta, if linear
    total gradient        d/dtheta F(h(theta), theta) - (dh/dtheta)^T D           wrong to first order in r
    partial gradient      dF/dtheta at h              - (dh/dtheta)^T D           wrong to first order in r (*)
    first order           dF/dtheta at h + (d^2 F / dz dtheta)^T D                off by r^2, exactly known (**)
    quadratic model       d/dtheta [F(h) - (1/2) g^T I^-1 g]                      exact
    local rule            dF/dtheta at h + D                                      exact

(*) but exact in W_1 with one hidden layer at unit precision. (**) by -pi_l a_l (D_l - A_l D_{l-1}) D_{l-1}^T, with
D_0 = 0 and D_L = 0. In nonlinear networks the last three are off by order r^2.
F(h) = pi_L loss. dF/dtheta is the local rule at fixed activities: at h it vanishes but for layer L.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float

from ..arguments import public
from ..network import Layers, finite_result
from ..nonlinear import Batch, NonlinearPCN, _energies, _feedforward, _linearised, _weight_gradients
from .activities import Network, as_nonlinear
from .taylor import inference_step

READINGS = ("total gradient", "partial gradient", "first order", "quadratic model", "local rule")


class GradientDecomposition(eqx.Module):
    """The terms of the readings, each as one vector of all weights, layer by layer, each W_l row by row.

    total, partial: gradients of the energy at the feedforward activities, moving with the weights or held.
    propagated: -(dh/dtheta)^T D. mixed: (d^2 F / dz dtheta)^T D. model: the gradient of the quadratic model's
    minimum. local: the local rule after the inference step. All are means over the batch.
    """

    total: Float[Array, " weights"]
    partial: Float[Array, " weights"]
    propagated: Float[Array, " weights"]
    mixed: Float[Array, " weights"]
    model: Float[Array, " weights"]
    local: Float[Array, " weights"]

    @property
    def readings(self) -> dict[str, Float[Array, " weights"]]:
        """What each of `READINGS` takes for the gradient."""
        sums = (
            self.total + self.propagated,
            self.partial + self.propagated,
            self.partial + self.mixed,
            self.model,
            self.local,
        )
        return dict(zip(READINGS, sums, strict=True))


@public
def gradient_decomposition(net: Network, x: ArrayLike, y: ArrayLike) -> GradientDecomposition:
    """The terms at the feedforward activities.

    Raises as `inference_step`. Source: trust-region-2023/weight-gradient, which states the sentence; the readings
    and their remainders are ours. Cost: as `inference_step`, and some five gradients.
    """
    step = inference_step(net, x, y).step
    nonlinear = as_nonlinear(net)
    terms = _terms(nonlinear, nonlinear.batch(x, y), step)
    return finite_result("gradient_decomposition", terms)


@eqx.filter_jit
def _terms(net: NonlinearPCN, batch: Batch, step: Layers) -> GradientDecomposition:
    x, _ = batch

    def activities(weights: Layers) -> Layers:
        return _feedforward(net.with_weights(weights), x).without_last()

    def total(weights: Layers) -> Array:
        moved = net.with_weights(weights)
        return _energies(moved, _linearised(moved, activities(weights), batch)).sum() / len(x)

    def local_rule(hidden: Layers) -> Layers:
        return _weight_gradients(net, _linearised(net, hidden, batch))

    def model(weights: Layers) -> Array:
        return _model_energy(net.with_weights(weights), activities(weights), batch, step)

    hidden, pull = jax.vjp(activities, net.weights)
    partial, mixed = jax.jvp(local_rule, (hidden,), (step,))
    terms = (
        jax.grad(total)(net.weights),
        partial,
        pull(jax.tree.map(lambda d: -d / len(x), step))[0],
        mixed,
        jax.grad(model)(net.weights),  # the step, being the minimum, may be held
        local_rule(jax.tree.map(jnp.add, hidden, step)),
    )
    return GradientDecomposition(*(ravel_pytree(term)[0] for term in terms))


def _model_energy(net: NonlinearPCN, hidden: Layers, batch: Batch, step: Layers) -> Array:
    """The model with the Fisher metric after the step: the energy of the errors' first-order change."""

    def errors(activities: Layers) -> Layers:
        return _linearised(net, activities, batch).errors

    at, change = jax.jvp(errors, (hidden,), (step,))
    moved = jax.tree.map(jnp.add, at, change)
    squares = jnp.concatenate([jnp.sum(e**2, axis=(1, 2)) for e in moved.runs])
    return jnp.sum(net.linear.precisions * squares) / (2 * len(batch[0]))
