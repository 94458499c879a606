r"""Experiments on chains of single units that learn y = -x: many starts and many rates at once.

    chain of L weights    w_L phi(.. w_2 phi(w_1 x)),    loss = mean (1/2)(y - output)^2

A step is minus a rate times: for BP the gradient of the loss; for PC that of the energy where inference ends; for
damped Newton (H + damping I)^-1 times that of the loss, H its Hessian. Losses and energies are normalised as in
the library. Without activation functions the minima of w_2 w_1 x are the curve w_1 w_2 = -1.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
from jaxtyping import Array, Float

from figures._planes import OBJECTIVES, chain
from pctheory import Layers, LinearPCN, equilibrated_gradient, nonlinear, weight_descent_by_rule, weight_vector
from pctheory.compiled_code import optimised
from pctheory.datasets import toy_regression
from pctheory.nonlinear import NonlinearPCN

Values = npt.NDArray[np.float64]
Batches = tuple[Values, Values]
Rule = Callable[[Any, Array, Array], tuple[Layers, Any]]

# "long" brings even chains of eleven weights near their equilibrium; "published" is that of arXiv 2408.11979
INFERENCES = {
    "long": partial(nonlinear.inference_by_halving, rate=0.4, steps=100, floor=0.01),
    "published": partial(nonlinear.inference_by_halving, rate=0.1, steps=50, floor=0.025),
}
# to choose from: for linear chains with H = 1, 2, 5, 10 the largest below 2 / L, where BP gets unstable
# at balanced minima, is at least 0.6 of it
RATES = (0.15, 0.3, 0.6, 1.2, 2.4, 4.8)
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"linear": lambda z: z, "tanh": jnp.tanh, "relu": jax.nn.relu}


def fresh_batches(steps: int, examples: int, seed: int) -> Batches:
    """One batch of x ~ N(1, 0.1^2), y = -x for each step."""
    x, y = toy_regression(steps * examples, seed=seed)
    return x.reshape(steps, examples, 1), y.reshape(steps, examples, 1)


def normal_starts(count: int, depth: int, std: float, seed: int) -> Float[np.ndarray, "count depth"]:
    return np.random.default_rng(seed).normal(0.0, std, (count, depth))


def uniform_starts(count: int, depth: int, seed: int) -> Float[np.ndarray, "count depth"]:
    """Between -1 and 1: the standard parameterisation of single units, as published code draws it."""
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (count, depth))


def descents(
    rule: Rule, network: Callable[[Array], Any], starts: Values, batches: Batches, rates: npt.ArrayLike
) -> Any:
    """What `rule` records before each step of plain descent. Leading axes: rates, starts, steps."""

    def descent(start: Array, rate: Array) -> Any:
        return weight_descent_by_rule(rule, network(start), batches, optax.sgd(rate))[1]

    @jax.jit
    def every(starts: Array, rates: Array) -> Any:
        return jax.lax.map(lambda rate: jax.lax.map(lambda start: descent(start, rate), starts), rates)

    with optimised():
        return every(np.asarray(starts, dtype=float), np.asarray(rates, dtype=float))


# --- directions of w_2 w_1 x ---


def gradient(name: str, weights: Array, x: Array, y: Array) -> Array:
    """Of the loss (BP) or the equilibrated energy (PC)."""
    return jax.grad(lambda w: OBJECTIVES[name](chain(w), x, y))(weights)


def damped_newton(damping: float, weights: Array, x: Array, y: Array) -> Array:
    hessian = jax.hessian(lambda w: OBJECTIVES["loss"](chain(w), x, y))(weights)
    return jnp.linalg.solve(hessian + damping * jnp.eye(len(weights)), gradient("loss", weights, x, y))


def steps_against(damping: float = 2.0) -> dict[str, Callable[[Array, Array, Array], Array]]:
    """What each method steps against, as a function of the weights and a batch."""
    return {
        "newton": partial(damped_newton, damping),
        "energy": partial(gradient, "energy"),
        "loss": partial(gradient, "loss"),
    }


def paths(
    against: Callable[[Array, Array, Array], Array], starts: Values, batches: Batches, rates: npt.ArrayLike
) -> tuple[Values, Values]:
    """Weights before each step, and minus what it goes against: (rates, starts, steps, 2) each."""

    def rule(net: LinearPCN, x: Array, y: Array) -> tuple[Layers, tuple[Array, Array]]:
        weights = weight_vector(net)
        direction = against(weights, x, y)
        return chain(direction).weights, (weights, -direction)

    weights, directions = descents(rule, chain, starts, batches, rates)
    return np.asarray(weights), np.asarray(directions)


def nearest_minima(weights: Float[np.ndarray, "... 2"]) -> Float[np.ndarray, "... 2"]:
    """The nearest point of w_1 w_2 = -1: (t, -1/t) for one of the real roots of  t^4 - w_1 t^3 - w_2 t - 1."""
    companion = np.zeros((*weights.shape[:-1], 4, 4))
    companion[..., [1, 2, 3], [0, 1, 2]] = 1.0
    companion[..., 0, [0, 2]] = weights
    companion[..., 0, 3] = 1.0
    roots = np.linalg.eigvals(companion)
    real = np.abs(roots.imag) < 1e-9 * np.abs(roots)  # there are two such roots, or four: simple but at the evolute
    points = np.stack([roots.real, -1 / roots.real], axis=-1)
    distances = np.where(real, np.linalg.norm(points - weights[..., None, :], axis=-1), np.inf)
    return np.take_along_axis(points, distances.argmin(axis=-1)[..., None, None], axis=-2)[..., 0, :]


def cosines(a: Float[np.ndarray, "... 2"], b: Float[np.ndarray, "... 2"]) -> Float[np.ndarray, "..."]:
    return np.sum(a * b, axis=-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))


# --- noise on the weights of w_2 w_1 x ---


def rises(name: str, weights: Values, noise: Values, batch: Batches) -> Float[np.ndarray, " networks"]:
    """By how much noise raises the objective, mean over its draws (draws, 2), for each network (networks, 2)."""
    return np.asarray(_rises(name, weights, noise, batch))


@partial(jax.jit, static_argnames="name")
def _rises(name: str, weights: Array, noise: Array, batch: tuple[Array, Array]) -> Array:
    def value(w: Array) -> Array:
        return OBJECTIVES[name](chain(w), *batch)

    def rise(w: Array) -> Array:
        return jnp.mean(jax.vmap(lambda added: value(w + added))(noise)) - value(w)

    return jax.lax.map(rise, weights)


# --- training of deep chains ---


def training_losses(
    method: str, activation: str, starts: Values, batches: Batches, rates: npt.ArrayLike, *, inference: str = "long"
) -> Float[np.ndarray, "rates starts steps"]:
    """Training loss before each step of "loss" (BP) or "energy" (PC); `inference` is of nonlinear chains."""
    phi, infer = ACTIVATIONS[activation], INFERENCES[inference]

    def rule(net: NonlinearPCN, x: Array, y: Array) -> tuple[Layers, Array]:
        value, slopes = jax.value_and_grad(lambda w: nonlinear.loss(net.with_weights(w), x, y))(net.weights)
        if method == "loss":
            return slopes, value
        if activation == "linear":
            return equilibrated_gradient(net.linear, x, y), value
        return nonlinear.partial_weight_gradient(net, infer(net, x, y).activities, x, y), value

    return np.asarray(descents(rule, lambda w: NonlinearPCN(chain(w), phi), starts, batches, rates))


def best(losses: Float[np.ndarray, "rates starts steps"]) -> int:
    """Which rate has the smallest loss, mean over starts and steps; ValueError if runs diverge at each of them."""
    means = losses.mean(axis=(1, 2))
    if not np.isfinite(means).any():
        raise ValueError(f"losses diverge at each of {len(losses)} rates; try smaller ones")
    return int(np.argmin(np.where(np.isfinite(means), means, np.inf)))
