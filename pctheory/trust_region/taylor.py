r"""The quadratic model of the energy around any hidden activities, and the step to its minimum.

    F(z + d) = F(z) + g^T d + (1/2) d^T B d + remainder       for each example; rows are examples, no 1/B.

g = dF/dz is the partial derivative: each activity moves by itself, and nothing is propagated to those above.
At the feedforward activities the hidden errors vanish, so that

    F = (pi_L / 2)|r|^2,    g = (0, .., 0, -pi_L J_L^T r),    B - I = -pi_L (r . f_L'')  in the last hidden block,

r = y - output and f_L'' the second derivative of the last layer's prediction, zero in a linear network. The
remainder is of order |d|^3 with B the Hessian; with the Fisher metric I in its place of order |d|^3 + |r||d|^2.
In a linear network both models are exact.
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ..arguments import public
from ..energy import Activities
from ..network import Layers, finite_result, refuse_too_large
from ..nonlinear import Batch, NonlinearPCN, _dot, _energies, _gradients, _linearised
from .activities import Network, activities_of, activity_vectors, as_nonlinear, start_activities
from .metric import FisherMetric, fisher_metric

Curvature = Literal["hessian", "fisher"]


class ActivityHessian(eqx.Module):
    """The exact Hessian of each example's energy in its hidden activities; symmetric, indefinite in general."""

    net: NonlinearPCN
    activities: Layers
    batch: Batch

    @public
    def product(self, vectors: Activities) -> Layers:
        """H v for each row v. Cost: the derivative of a gradient along v, four passes."""
        rows = self.net.linear.hidden(vectors, len(self.batch[0]), "vectors")
        return finite_result("ActivityHessian.product", _hessian_product(self, rows))

    def dense(self) -> Float[Array, "examples activities activities"]:
        """One matrix for each example. MemoryError where they would not fit. Twin: `jax.hessian` of the energy."""
        size = sum(self.net.widths[1:-1])
        refuse_too_large("ActivityHessian.dense", (len(self.batch[0]), size, size), "use product")
        return finite_result("ActivityHessian.dense", _hessian_dense(self))


class TaylorModel(eqx.Module):
    """Value, gradient and curvature of each example's energy at `activities`. Made by `taylor_model`."""

    net: NonlinearPCN
    activities: Layers
    value: Float[Array, " examples"]
    gradient: Layers
    curvature: ActivityHessian | FisherMetric

    def __call__(self, step: Activities) -> Float[Array, " examples"]:
        """F + g^T d + (1/2) d^T B d."""
        return self.value - self.predicted_reduction(step)

    @public
    def predicted_reduction(self, step: Activities) -> Float[Array, " examples"]:
        """-(g^T d + (1/2) d^T B d): by how much the model says that the energy falls."""
        step = self.net.linear.hidden(step, len(self.value), "step")
        halfway = jax.tree.map(lambda g, b: g + b / 2, self.gradient, self.curvature.product(step))
        return finite_result("predicted_reduction", -_dot(halfway, step))


class InferenceStep(eqx.Module):
    """A step of inference, and by how much the energy of each example fell: as predicted, and in fact."""

    step: Layers
    predicted_reduction: Float[Array, " examples"]
    actual_reduction: Float[Array, " examples"]


@public
def taylor_model(
    net: Network, x: ArrayLike, y: ArrayLike, *, at: Activities | None = None, curvature: Curvature = "hessian"
) -> TaylorModel:
    """The quadratic model of each example's energy at `at`, by default at the feedforward activities.

    `curvature` is the exact Hessian of the energy, or its Fisher metric.
    Raises ValueError at depth 1 and for another curvature, FloatingPointError where a derivative is not finite.
    Source: trust-region-2023/taylor. Twin: `jax.grad` and `jax.hessian` of the energy.
    """
    if curvature not in ("hessian", "fisher"):
        raise ValueError(f"curvature is {curvature!r}, expected 'hessian' or 'fisher'")
    nonlinear = as_nonlinear(net)
    batch = nonlinear.batch(x, y)
    hidden = start_activities(nonlinear, batch[0], at)
    bent = fisher_metric(net, x, at=at) if curvature == "fisher" else ActivityHessian(nonlinear, hidden, batch)
    value, gradient = _value_and_gradient(nonlinear, hidden, batch)
    return finite_result("taylor_model", TaylorModel(nonlinear, hidden, value, gradient, bent))


@public
def inference_step(net: Network, x: ArrayLike, y: ArrayLike, *, at: Activities | None = None) -> InferenceStep:
    r"""-I^-1 g: to the minimum of the model with the Fisher metric, a Gauss-Newton step of inference.

    From the feedforward activities it is a natural-gradient step on the loss, damped by the hidden layers' terms;
    in a linear network it ends at the equilibrium. Its predicted reduction is (1/2) g^T I^-1 g.
    Source: trust-region-2023/inference-step. Twin: a dense solve. Cost: as `fisher_metric`, and some ten passes.
    """
    model = taylor_model(net, x, y, at=at, curvature="fisher")
    assert isinstance(model.curvature, FisherMetric)
    uphill = model.curvature.solve(model.gradient)
    step, predicted, moved = _step(uphill, model.gradient, model.activities)
    after, _ = _value_and_gradient(model.net, moved, model.net.batch(x, y))
    return finite_result("inference_step", InferenceStep(step, predicted, model.value - after))


@jax.jit
def _step(uphill: Layers, gradient: Layers, activities: Layers) -> tuple[Layers, Float[Array, " examples"], Layers]:
    """Minus `uphill`, by how much the model falls along it, and where it leads."""
    step = jax.tree.map(jnp.negative, uphill)
    return step, -_dot(gradient, step) / 2, jax.tree.map(jnp.add, activities, step)


@eqx.filter_jit
def _value_and_gradient(net: NonlinearPCN, hidden: Layers, batch: Batch) -> tuple[Array, Layers]:
    chain = _linearised(net, hidden, batch)
    return _energies(net, chain).sum(axis=0), _gradients(net, chain)


@eqx.filter_jit
def _hessian_product(hessian: ActivityHessian, vectors: Layers) -> Layers:
    def gradient(hidden: Layers) -> Layers:
        return _gradients(hessian.net, _linearised(hessian.net, hidden, hessian.batch))

    return jax.jvp(gradient, (hessian.activities,), (vectors,))[1]


@eqx.filter_jit
def _hessian_dense(hessian: ActivityHessian) -> Array:
    rows, size = len(hessian.batch[0]), sum(hessian.net.widths[1:-1])

    def column(unit: Array) -> Array:  # examples do not meet, so one direction serves all
        vectors = activities_of(hessian.net, jnp.broadcast_to(unit, (rows, size)))
        return activity_vectors(_hessian_product(hessian, vectors))

    return jnp.moveaxis(jax.vmap(column)(jnp.eye(size)), 0, 2)
