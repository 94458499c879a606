"""One exact predictive-coding step (equilibrium, energy, all weight gradients) beside backpropagation.

Backpropagation is `jax.value_and_grad` of the loss with respect to the weights, the faster of two: scanned over
the layers (`pctheory.loss`), and plain and unrolled, its weights a list and its scalings constants. Everything is
jitted. "products alone" are the matrix products of the exact step and nothing else: its floor.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import pctheory
from pctheory import Layers, LinearPCN

from .measure import Case, Goal, Row, alternating, compared, quartiles


def cases(*, quick: bool) -> list[Case]:
    if quick:
        return [Case(against_backpropagation, (32, 4, 8, 3), {"rounds": 3})]
    sizes = [(width, depth, 64, 10) for width in (128, 256, 512) for depth in (16, 32, 64)]
    many_outputs = Case(against_backpropagation, (256, 32, 64, 128), {"rounds": 5})
    return [*(Case(against_backpropagation, size) for size in sizes), many_outputs]


def problem(width: int, depth: int, batch: int, outputs: int) -> tuple[LinearPCN, Array, Array]:
    """A muPC network of `depth` layers with random data."""
    net = pctheory.mupc([width] * depth + [outputs], seed=0)
    random = np.random.default_rng(0)
    x, y = random.standard_normal((batch, width)), random.standard_normal((batch, outputs))
    return net, jnp.asarray(x), jnp.asarray(y)


def against_backpropagation(width: int, depth: int, batch: int, outputs: int, *, rounds: int = 11) -> list[Row]:
    net, x, y = problem(width, depth, batch, outputs)
    weights, maps = list(net.weights), list(net.maps)
    step = jax.jit(pctheory.equilibrium_and_gradient)
    scanned = jax.jit(scanned_backpropagation)
    unrolled = unrolled_backpropagation(net)
    products = jax.jit(products_alone)
    times = alternating(
        {
            "exact step": lambda: step(net, x, y),
            "the same with checks": lambda: pctheory.equilibrium_and_gradient(net, x, y),
            "scanned backpropagation": lambda: scanned(net, x, y),
            "unrolled backpropagation": lambda: unrolled(weights, x, y),
            "products alone": lambda: products(maps, x, y),
        },
        rounds,
    )
    fastest = min("scanned backpropagation", "unrolled backpropagation", key=lambda name: np.median(times[name]))
    floor = quartiles(times["exact step"] / times["products alone"])[1]
    return [
        compared(
            f"exact step, N {width}, L {depth}, batch {batch}, d_y {outputs}",
            times,
            "exact step",
            fastest,
            goal=Goal("at most", 1.2) if outputs <= batch else None,
            details={"exact step / products alone": floor},
        )
    ]


def scanned_backpropagation(net: LinearPCN, x: Array, y: Array) -> tuple[Array, Layers]:
    return jax.value_and_grad(lambda weights: pctheory.loss(net.with_weights(weights), x, y))(net.weights)


def unrolled_backpropagation(net: LinearPCN) -> Callable[..., tuple[Array, list[Array]]]:
    """`(weights, x, y) -> (loss, gradients)`, the weights a list. For networks without biases."""
    scalings, skips = net.scalings.tolist(), net.skips.tolist()

    def loss(weights: list[Array], x: Array, y: Array) -> Array:
        z = x
        for weight, scaling, skip in zip(weights, scalings, skips, strict=True):
            z = scaling * (z @ weight.T) + (skip * z if skip else 0)
        return jnp.sum((y - z) ** 2) / (2 * len(x))

    return jax.jit(jax.value_and_grad(loss))


def products_alone(maps: Sequence[Array], x: Array, force: Array) -> list[tuple[Array, ...]]:
    """The matrix products of one exact step, with `force` in place of S^-1 r; nothing is scaled or added."""
    results = []
    output_map = jnp.eye(force.shape[1])
    output_maps = []
    for a in reversed(maps):
        output_maps.append(output_map)
        output_map = output_map @ a
    z = x
    for a, p in zip(maps, reversed(output_maps), strict=True):
        results.append((force @ p, p.T @ (force.T @ z)))
        z = z @ a.T
    return [*results, (z, output_map)]
