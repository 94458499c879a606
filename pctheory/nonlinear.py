r"""Networks with an activation function: energy, gradients and inference, without closed forms.

Defined here
    NonlinearPCN   a `LinearPCN` with an elementwise activation before the weights of layers 2..L
    feedforward, loss, prediction_errors, layer_energies, energy, activity_gradient, partial_weight_gradient
                   under the names, normalisation and checks of `energy`, which they equal for the identity
    Inferred       where inference ended, and how near that is to a stationary point
    inference_descent           gradient descent on the activities, a number of steps of one rate
    inference_by_halving        the same, the rate halved when the energy rises
    inference_to_stationarity   conjugate Gauss-Newton steps on the activities to a stated tolerance

Notation: phi is the activation, and the prediction of layer l is

    a_l W_l phi(z_{l-1}) + s_l z_{l-1} + c_l,    l = 2..L;        a_1 W_1 x + s_1 x + c_1 for layer 1.

The input enters unactivated, the output is linear, a skip carries z and not phi(z).
Used as  `from pctheory import nonlinear; nonlinear.loss(net, x, y)`.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from .arguments import public, refuse_too_large, shown, whole_number
from .energy import Activities
from .network import Layer, Layers, LinearPCN, finite_result, is_concrete, scan_layers, without_first

Activation = Callable[[Array], Array]
Batch = tuple[Array, Array]
State = tuple[Layers, Array, Array, Array]  # of a loop: hidden activities, two numbers of it, how many steps

# An energy that differs by this much has not risen but been rounded: a sum of a few hundred squares.
ROUNDING = 64 * float(np.finfo(float).eps)


class NonlinearPCN(eqx.Module):
    r"""A `LinearPCN` whose layers 2..L see phi(z) instead of z; weights, skips, biases, precisions are its.

    `activation` is any elementwise JAX function: `jnp.tanh`, `jax.nn.relu`, the identity. It is static: each one is
    compiled for itself. Where it has a kink, derivatives are those that JAX gives: 0 for `jax.nn.relu` at 0.

    Raises TypeError for what is no function or no `LinearPCN`, ValueError for a function that is not elementwise.
    """

    linear: LinearPCN
    activation: Activation = eqx.field(static=True)

    def __init__(self, linear: LinearPCN, activation: Activation) -> None:
        if not isinstance(linear, LinearPCN):
            raise TypeError(f"linear is a {type(linear).__name__}, expected a LinearPCN")
        if not callable(activation):
            raise TypeError(f"activation is {shown(activation)}, expected a function such as jax.numpy.tanh")
        self.linear = linear
        self.activation = activation

    def __check_init__(self) -> None:
        given = jnp.zeros((2, 3))
        try:
            made = jax.eval_shape(self.activation, given)
        except (TypeError, ValueError) as error:
            reason = str(error).partition("\n")[0][:200]
            raise TypeError(
                f"activation fails on an array ({reason}); give a function such as jax.nn.relu"
            ) from error
        if not hasattr(made, "shape") or made.dtype != given.dtype:
            raise TypeError(f"activation gives {shown(made)} for an array, expected an array of numbers like it")
        if made.shape != (2, 3):
            raise ValueError(f"activation gives shape {made.shape} for (2, 3), expected an elementwise function")

    @property
    def weights(self) -> Layers:
        """W_1..W_L."""
        return self.linear.weights

    @property
    def widths(self) -> tuple[int, ...]:
        """(N_0 = d_x, N_1, ..., N_L = d_y)."""
        return self.linear.widths

    @property
    def depth(self) -> int:
        """L, the number of weight layers."""
        return self.linear.depth

    def with_weights(self, weights: Layers) -> "NonlinearPCN":
        """The same network with other weights, stacked as these; no validation, for use inside `grad`."""
        return eqx.tree_at(lambda net: net.linear.weights, self, weights)

    def batch(self, x: ArrayLike, y: ArrayLike) -> tuple[Float[Array, "batch d_x"], Float[Array, "batch d_y"]]:
        """`x` and `y` as checked batches."""
        return self.linear.batch(x, y)


class Inferred(eqx.Module):
    """Where inference on the hidden activities ended.

    energy: batch mean. stationarity: the largest entry of each example's own gradient (no 1/B), divided by the
    largest entry of y and the activities. steps: how many were made.
    """

    activities: Layers
    energy: Float[Array, ""]
    stationarity: Float[Array, ""]
    steps: Int[Array, ""]


@public
def feedforward(net: NonlinearPCN, x: ArrayLike) -> Layers:
    """The predictions z_1..z_L from z_0 = x, before activation; the last is the network's output."""
    return finite_result("feedforward", _feedforward(net, net.linear.inputs(x)))


@public
def loss(net: NonlinearPCN, x: ArrayLike, y: ArrayLike) -> Float[Array, ""]:
    """Mean over the batch of (1/2)|y - feedforward(x)|^2. It has no precision in it."""
    x, y = net.batch(x, y)
    return finite_result("loss", jnp.sum((y - _feedforward(net, x)[-1]) ** 2) / (2 * len(x)))


@public
def prediction_errors(net: NonlinearPCN, activities: Activities, x: ArrayLike, y: ArrayLike) -> Layers:
    """e_l = z_l minus the prediction of layer l, l = 1..L, with z_0 = x and z_L = y, not weighted by precision."""
    chain, _ = _linearised_at(net, activities, x, y)
    return finite_result("prediction_errors", chain.errors)


@public
def layer_energies(net: NonlinearPCN, activities: Activities, x: ArrayLike, y: ArrayLike) -> Float[Array, " depth"]:
    """Mean over the batch of (pi_l / 2)|e_l|^2, one number per layer."""
    chain, _ = _linearised_at(net, activities, x, y)
    return finite_result("layer_energies", _energies(net, chain).mean(axis=1))


@public
def energy(net: NonlinearPCN, activities: Activities, x: ArrayLike, y: ArrayLike) -> Float[Array, ""]:
    """F at given activities: the sum of `layer_energies`."""
    return finite_result("energy", layer_energies(net, activities, x, y).sum())


@public
def activity_gradient(net: NonlinearPCN, activities: Activities, x: ArrayLike, y: ArrayLike) -> Layers:
    r"""dF/dz_l = (pi_l e_l - phi'(z_l) * a_{l+1} W_{l+1}^T pi_{l+1} e_{l+1} - s_{l+1} pi_{l+1} e_{l+1}) / B.

    For the hidden layers; rows are examples, and the 1/B is that of the batch mean. Twin: `jax.grad` of `energy`.
    """
    chain, batch_size = _linearised_at(net, activities, x, y)
    return finite_result("activity_gradient", jax.tree.map(lambda g: g / batch_size, _gradients(net, chain)))


@public
def partial_weight_gradient(net: NonlinearPCN, activities: Activities, x: ArrayLike, y: ArrayLike) -> Layers:
    r"""dF/dW_l = -a_l pi_l mean(e_l phi(z_{l-1})^T) at fixed activities: the local learning rule of PC.

    Where inference has reached a stationary point this is the whole gradient of the energy there.
    """
    chain, _ = _linearised_at(net, activities, x, y)
    return finite_result("partial_weight_gradient", _weight_gradients(net, chain))


@public
def inference_descent(
    net: NonlinearPCN, x: ArrayLike, y: ArrayLike, *, rate: float | Float[Array, ""], steps: int
) -> Inferred:
    r"""Gradient descent on the activities of each example,  z <- z - rate B dF/dz,  from the feedforward ones.

    `steps` steps of one rate. There is no B in what moves: a rate that was stated for the batch-mean energy, as in
    the published code of mupc-2025, is to be divided by the batch size,  rate = published / B. Whether it is near a
    stationary point then is not promised: read `stationarity`. A descent that diverges is returned as it is:
    activities grow to inf or NaN.

    Raises ValueError for a rate that is not positive and finite, `steps` below 1, a net without hidden layers.
    Source: mupc-2025, with steps = H. Twin: a Python loop; `dynamics.inference_descent` for the identity.
    Cost: two passes a step.
    """
    if np.ndim(rate) or (is_concrete(rate) and not 0 < rate < np.inf):
        raise ValueError(f"rate is {rate}, expected a positive finite number")
    batch, steps = _inference_batch(net, x, y, steps, "inference_descent")
    return _inference_descent(net, batch, jnp.asarray(rate, dtype=float), steps)


@public
def inference_by_halving(
    net: NonlinearPCN,
    x: ArrayLike,
    y: ArrayLike,
    *,
    rate: float = 0.1,
    steps: int = 50,
    floor: float = 0.025,
) -> Inferred:
    r"""Gradient descent on the activities of each example, z <- z - rate B dF/dz, from the feedforward ones.

    The published rule: `rate` is halved whenever the energy of the batch has not fallen since the step before, and
    inference is over when it comes down to `floor` or after `steps` steps. Whether it is near a stationary point
    then is not promised: read `stationarity`. Where the published code holds on to a halved rate for later batches,
    here each call starts at `rate`.

    Raises ValueError for rates that are not positive with floor < rate, `steps` below 1, a net without hidden
    layers. Source: the published code of saddles-2024. Twin: a Python loop. Cost: two passes a step.
    """
    if not (0 < floor < rate < np.inf):
        raise ValueError(f"rate is {rate} and floor {floor}, expected 0 < floor < rate; correct them")
    batch, steps = _inference_batch(net, x, y, steps, "inference_by_halving")
    rates = jnp.asarray(rate, dtype=float), jnp.asarray(floor, dtype=float)
    return finite_result("inference_by_halving", _inference_by_halving(net, batch, *rates, steps))


@public
def inference_to_stationarity(
    net: NonlinearPCN,
    x: ArrayLike,
    y: ArrayLike,
    *,
    tolerance: float = 1e-10,
    max_steps: int = 200,
    allow_unfinished: bool = False,
) -> Inferred:
    r"""A stationary point of each example's energy, from its feedforward activities.

    By nonlinear conjugate gradients (Polak and Ribiere), preconditioned by the Gauss-Newton step: with
    J_l = a_l W_l diag(phi'(z_{l-1})) + s_l I the linearised chain, that solves it exactly as `equilibrium` does,
    P_L = I, P_{l-1} = P_l J_l, S = sum_l P_l P_l^T / pi_l for each example, and

        dz_l = J_l dz_{l-1} - e_l + P_l^T q / pi_l,    q such that dz_L = 0.

    How far to go along a direction says the Hessian; an example whose energy would rise tries half of that next,
    along the Gauss-Newton step. For the identity one step is the equilibrium.
    It is a minimum in all likelihood, as energy only falls on the way, but not shown to be one, nor the lowest.
    At a kink (ReLU) the energy can be least where no gradient vanishes: then this does not converge, and says so.

    Raises RuntimeError with the stationarity reached when `max_steps` do not bring it to `tolerance`; inside `jit`
    everything is NaN then. With `allow_unfinished` it returns where it got to: read its `stationarity`.
    ValueError for a tolerance that is not positive, and a net without hidden layers.
    Twin: `inference_by_halving` for long enough. Cost: about d_y + 10 passes a step, and d_y^3 an example.
    """
    if not 0 < tolerance < np.inf:
        raise ValueError(f"tolerance is {tolerance}, expected a positive finite number")
    batch, max_steps = _inference_batch(net, x, y, max_steps, "inference_to_stationarity")
    found = _inference_to_stationarity(net, batch, jnp.asarray(tolerance), max_steps)
    reached = (found.stationarity <= tolerance) | allow_unfinished
    if is_concrete(reached) and not reached:
        raise RuntimeError(
            f"inference_to_stationarity: stationarity {found.stationarity:.1e} after {found.steps} steps, wanted "
            f"{tolerance:.1e}; raise max_steps or tolerance, and mind kinks of the activation"
        )
    if is_concrete(reached):
        return finite_result("inference_to_stationarity", found)
    return jax.tree.map(lambda a: jnp.where(reached, a, jnp.nan), found)


def _inference_batch(net: NonlinearPCN, x: ArrayLike, y: ArrayLike, steps: int, name: str) -> tuple[Batch, int]:
    """The batch, and the number of steps as Python counts."""
    if net.depth == 1:
        raise ValueError(f"{name}: a network of depth 1 has no hidden layers; add one")
    return net.batch(x, y), whole_number(f"{name}: the number of steps", steps, 1)


class _Chain(eqx.Module):
    """What a step needs to know at given activities, layer by layer.

    signals: what the weights see, x for layer 1 and phi(z_{l-1}) above. slopes: the derivatives of these signals,
    1 and phi'(z_{l-1}), so that J_l v = a_l W_l (slopes_l * v) + s_l v.
    """

    errors: Layers
    signals: Layers
    slopes: Layers


def _skipped(layer: Layer, v: Array) -> Array | float:
    """s v; a layer that changes the width has no skip."""
    rows, columns = layer.weight.shape[-2:]
    return layer.skip * v if rows == columns else 0.0


def _weighted(layer: Layer, signal: Array) -> Array:
    return layer.scaling * (signal @ layer.weight.T)


def _pulled(layer: Layer, slope: Array, force: Array) -> Array:
    """J^T force."""
    return slope * (layer.scaling * (force @ layer.weight)) + _skipped(layer, force)


@eqx.filter_jit
def _feedforward(net: NonlinearPCN, x: Array) -> Layers:
    def step(below: Batch, layer: Layer) -> tuple[Batch, Array]:
        z, signal = below
        z = _weighted(layer, signal) + _skipped(layer, z) + layer.bias
        return (z, net.activation(z)), z

    return scan_layers(net.linear.runs, step, (x, x))[1]


def _linearised_at(net: NonlinearPCN, activities: Activities, x: ArrayLike, y: ArrayLike) -> tuple[_Chain, int]:
    x, y = net.batch(x, y)
    return _linearised(net, net.linear.hidden(activities, len(x)), (x, y)), len(x)


@eqx.filter_jit
def _linearised(net: NonlinearPCN, hidden: Layers, batch: Batch) -> _Chain:
    """All layers at once: no layer waits for another, as the activities of all are given."""
    x, y = batch
    lengths = net.weights.lengths

    def error(layer: Layer, z: Array, z_below: Array, signal: Array) -> Array:
        return z - (_weighted(layer, signal) + _skipped(layer, z_below) + layer.bias)

    def seen_above(first: Array, rest: Layers) -> Layers:
        return Layers((first[None], *rest.runs)).restacked(lengths)

    def slope(z: Array) -> Array:
        return jax.jvp(net.activation, (z,), (jnp.ones_like(z),))[1]

    signals, slopes = jax.tree.map(net.activation, hidden), jax.tree.map(slope, hidden)
    below, signals, slopes = seen_above(x, hidden), seen_above(x, signals), seen_above(jnp.ones_like(x), slopes)
    return _Chain(_each(error, net.linear, hidden.appended(y, lengths), below, signals), signals, slopes)


@eqx.filter_jit
def _energies(net: NonlinearPCN, chain: _Chain) -> Float[Array, "depth batch"]:
    """(pi_l / 2)|e_l|^2 of each example."""
    squares = jnp.concatenate([jnp.sum(e**2, axis=2) for e in chain.errors.runs])
    return net.linear.precisions[:, None] * squares / 2


@eqx.filter_jit
def _gradients(net: NonlinearPCN, chain: _Chain) -> Layers:
    """dF/dz_1..dF/dz_H of each example by itself: pi_l e_l - J_{l+1}^T pi_{l+1} e_{l+1}, all layers at once."""
    forces = _each(lambda layer, e: layer.precision * e, net.linear, chain.errors)
    upper = Layers(without_first(_each(_pulled, net.linear, chain.slopes, forces).runs))
    below = forces.without_last()
    return jax.tree.map(lambda force, pull: force - pull, below, upper.restacked(below.lengths))


@eqx.filter_jit
def _weight_gradients(net: NonlinearPCN, chain: _Chain) -> Layers:
    def gradient(layer: Layer, e: Array, signal: Array) -> Array:
        return -layer.scaling * layer.precision * (e.T @ signal) / len(e)

    return _each(gradient, net.linear, chain.errors, chain.signals)


def _each(function: Callable[..., Any], *layers: LinearPCN | Layers) -> Any:
    """`function` of every layer, all at once: of networks and `Layers`, stacked alike."""
    outputs = [jax.vmap(function)(*runs) for runs in zip(*(part.runs for part in layers), strict=True)]
    return jax.tree.map(lambda *parts: Layers(parts), *outputs)


def _stationarity(y: Array, hidden: Layers, gradients: Layers) -> Array:
    steepest = _largest(gradients)
    return jnp.where(steepest == 0, 0.0, steepest / jnp.maximum(_largest(hidden), jnp.max(jnp.abs(y))))


def _largest(layers: Layers) -> Array:
    return jnp.max(jnp.stack([jnp.max(jnp.abs(run)) for run in layers.runs]))


def _inferred(net: NonlinearPCN, hidden: Layers, batch: Batch, steps: Array) -> Inferred:
    chain = _linearised(net, hidden, batch)
    energy = _energies(net, chain).sum() / len(batch[0])
    return Inferred(hidden, energy, _stationarity(batch[1], hidden, _gradients(net, chain)), steps)


def _descended(net: NonlinearPCN, hidden: Layers, chain: _Chain, rate: Array) -> Layers:
    """One step of each example against its own gradient."""
    return jax.tree.map(lambda z, g: z - rate * g, hidden, _gradients(net, chain))


@eqx.filter_jit
def _inference_descent(net: NonlinearPCN, batch: Batch, rate: Array, steps: int) -> Inferred:
    def step(hidden: Layers, _: None) -> tuple[Layers, None]:
        return _descended(net, hidden, _linearised(net, hidden, batch), rate), None

    hidden, _ = jax.lax.scan(step, _feedforward(net, batch[0]).without_last(), None, length=steps)
    return _inferred(net, hidden, batch, jnp.asarray(steps))


@eqx.filter_jit
def _inference_by_halving(net: NonlinearPCN, batch: Batch, rate: Array, floor: Array, steps: int) -> Inferred:
    def running(state: State) -> Array:
        _, _, rate, made = state
        return (made < steps) & (rate > floor)

    def step(state: State) -> State:
        hidden, before, rate, made = state
        chain = _linearised(net, hidden, batch)
        energy = _energies(net, chain).sum()
        rate = jnp.where(energy < before, rate, rate / 2)
        hidden = _descended(net, hidden, chain, jnp.where(rate > floor, rate, 0.0))
        return hidden, energy, rate, made + (rate > floor)

    start = _feedforward(net, batch[0]).without_last(), jnp.asarray(jnp.inf), rate, jnp.asarray(0)
    hidden, _, _, made = jax.lax.while_loop(running, step, start)
    return _inferred(net, hidden, batch, made)


def _gauss_newton_steps(net: NonlinearPCN, chain: _Chain) -> Layers:
    """dz_1..dz_H of each example: the linearised chain solved exactly between clamped ends."""
    rows, d_y = chain.errors[-1].shape
    refuse_too_large("Gauss-Newton steps", (rows, d_y, sum(net.linear.widths)), "take fewer examples or outputs")

    def back(p: Array, layer: Layer, slope: Array) -> tuple[Array, Array]:
        return _pulled(layer, slope[:, None, :], p), p

    identity = jnp.broadcast_to(jnp.eye(d_y), (rows, d_y, d_y))
    _, maps = scan_layers(net.linear.runs, back, identity, chain.slopes, reverse=True)

    def swept(q: Array) -> tuple[Array, Layers]:
        def up(moved: Array, layer: Layer, e: Array, slope: Array, p: Array) -> tuple[Array, Array]:
            added = jnp.einsum("byn,by->bn", p, q) / layer.precision
            moved = _weighted(layer, slope * moved) + _skipped(layer, moved) - e + added
            return moved, moved

        start = jnp.zeros_like(chain.signals[0])
        return scan_layers(net.linear.runs, up, start, chain.errors, chain.slopes, maps)

    missed, _ = swept(jnp.zeros((rows, d_y)))
    rescaling = sum(
        jnp.einsum("lbyn,lbzn,l->byz", p, p, 1 / run.precision)
        for p, run in zip(maps.runs, net.linear.runs, strict=True)
    )
    q = jnp.linalg.solve(rescaling, -missed[:, :, None])[:, :, 0]
    return swept(q)[1].without_last()


class _Search(eqx.Module):
    """Of each example: where it is, with the gradient there and before the last step, and how that step went."""

    hidden: Layers
    gradients: Layers
    before: Layers
    direction: Layers
    slope: Float[Array, " batch"]  # of the last Gauss-Newton step; 0 at the start and after a failure: begin anew
    length: Float[Array, " batch"]


def _dot(a: Layers, b: Layers) -> Float[Array, " batch"]:
    """a^T b of each example."""
    return sum((jnp.einsum("lbn,lbn->b", u, v) for u, v in zip(a.runs, b.runs, strict=True)), jnp.asarray(0.0))


def _moved(a: Layers, factor: Array, b: Layers) -> Layers:
    """a + factor b, one factor for each example."""
    return jax.tree.map(lambda u, v: u + factor[:, None] * v, a, b)


def _direction(last: _Search, down: Layers) -> Layers:
    """Conjugate to the last direction (Polak, Ribiere, never turned back); `down` itself where that would climb."""
    gain = _dot(last.gradients, down) - _dot(last.before, down)
    beta = jnp.where(last.slope == 0, 0.0, jnp.maximum(0.0, gain / jnp.where(last.slope == 0, 1.0, last.slope)))
    direction = _moved(down, beta, last.direction)
    return _moved(down, jnp.where(_dot(last.gradients, direction) < 0, beta, 0.0), last.direction)


@eqx.filter_jit
def _inference_to_stationarity(net: NonlinearPCN, batch: Batch, tolerance: Array, max_steps: int) -> Inferred:
    _, y = batch

    def gradients_at(hidden: Layers) -> Layers:
        return _gradients(net, _linearised(net, hidden, batch))

    def running(state: tuple[_Search, Array, Array]) -> Array:
        _, stationarity, made = state
        return (made < max_steps) & ~(stationarity <= tolerance)

    def step(state: tuple[_Search, Array, Array]) -> tuple[_Search, Array, Array]:
        last, _, made = state
        chain = _linearised(net, last.hidden, batch)
        down = _gauss_newton_steps(net, chain)
        direction = _direction(last, down)
        curvature = _dot(direction, jax.jvp(gradients_at, (last.hidden,), (direction,))[1])
        bent = curvature > 0
        whole = jnp.where(bent, -_dot(last.gradients, direction) / jnp.where(bent, curvature, 1.0), 1.0)
        tried = _moved(last.hidden, last.length * whole, direction)
        before, after = (_energies(net, at).sum(axis=0) for at in (chain, _linearised(net, tried, batch)))
        size = jnp.sqrt(_dot(last.hidden, last.hidden) + jnp.sum(y**2, axis=1))
        better = after <= before + ROUNDING * (before + jnp.sqrt(before) * size)
        hidden = jax.tree.map(lambda old, new: jnp.where(better[:, None], new, old), last.hidden, tried)
        slope = jnp.where(better, _dot(last.gradients, down), 0.0)
        length = jnp.where(better, jnp.minimum(1.0, 2 * last.length), last.length / 2)
        gradients = gradients_at(hidden)
        now = _Search(hidden, gradients, last.gradients, direction, slope, length)
        return now, _stationarity(y, hidden, gradients), made + 1

    hidden = _feedforward(net, batch[0]).without_last()
    gradients = gradients_at(hidden)
    nothing = jax.tree.map(jnp.zeros_like, hidden)
    start = _Search(hidden, gradients, nothing, nothing, jnp.zeros(len(y)), jnp.ones(len(y)))
    found, _, made = jax.lax.while_loop(running, step, (start, jnp.asarray(jnp.inf), jnp.asarray(0)))
    return _inferred(net, found.hidden, batch, made)
