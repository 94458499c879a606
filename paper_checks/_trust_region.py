"""What the claims about trust regions share: linear networks in any kind of number, and fitted orders of errors."""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.stats import t as student

import pctheory
from pctheory import nonlinear, trust_region
from pctheory.network import Layers
from pctheory.nonlinear import NonlinearPCN
from tests import oracles
from tests.cases import Case

NARROW = 0.05  # of an order: a wrong one is off by 1
SMOOTH: dict[str, Callable[[Array], Array]] = {"tanh": jnp.tanh, "softplus": jax.nn.softplus}
NETWORKS, EXAMPLES = 6, 16  # behind each fitted order: independent networks, and examples whose errors are pooled
SMALL = np.geomspace(1e-3, 1e-2, 5)


# --- linear networks, any kind of number ---


def rows_of(layers: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(layers, axis=1)


def layers_of(given: Case, rows: np.ndarray) -> list[np.ndarray]:
    return np.split(rows, np.cumsum(given.widths[1:-2]), axis=1)


def start_gradient(given: Case, *, total: bool = False) -> np.ndarray:
    """g of each example; or the derivative of pi_L loss in each activity if those above it follow."""
    pull = -given.precisions[-1] * oracles.residual(given)
    maps = oracles.output_maps(given)[:-1]
    return rows_of([pull @ p * (total or p is maps[-1]) for p in maps])


def random_step(given: Case) -> np.ndarray:
    """A step in whole numbers, the same for every kind of number."""
    rng = np.random.default_rng(crc32(given.name.encode()))
    return rng.integers(-3, 4, (len(given.x), sum(given.widths[1:-1]))).astype(given.x.dtype)


def start_energy(given: Case) -> Any:
    return oracles.loss(given) * given.precisions[-1]


# --- nonlinear networks: fitted orders ---


@cache
def random_network(activation: str, seed: int) -> tuple[NonlinearPCN, np.ndarray, np.ndarray]:
    """A random network, inputs, and directions in which targets are set off from its outputs."""
    rng = np.random.default_rng([seed, *activation.encode()])
    widths = (3, 5, 4, 2)
    weights = [rng.standard_normal((n, m)) / np.sqrt(m) for m, n in pairwise(widths)]
    net = pctheory.LinearPCN(
        weights, biases=[rng.standard_normal(n) / 2 for n in widths[1:]], precisions=[1.0, 2.0, 3.0]
    )
    whole = NonlinearPCN(net, (SMOOTH | {"relu": jax.nn.relu})[activation])
    return whole, rng.standard_normal((EXAMPLES, widths[0])), rng.standard_normal((EXAMPLES, widths[-1]))


def over_networks(errors: Callable[[NonlinearPCN, Any, Any], Any], activation: str) -> list[Any]:
    """What `errors` gives for each of the random networks."""
    return [errors(*random_network(activation, seed)) for seed in range(NETWORKS)]


def order_distance(whole: int, errors: Sequence[np.ndarray]) -> float:
    """Of the slope of log(errors) against log(SMALL), mean over networks, from the order expected.

    Added is the half-width of its 95 % confidence interval.
    """
    slopes = [np.polyfit(np.log(SMALL), np.log(line), 1)[0] for line in errors]
    half = student.ppf(0.975, len(slopes) - 1) * np.std(slopes, ddof=1) / np.sqrt(len(slopes))
    return float(abs(np.mean(slopes) - whole) + half)


def settled(net: NonlinearPCN, x: np.ndarray, y: np.ndarray) -> Layers:
    """The stationary activities next to the feedforward ones, by Newton's method with dense Hessians."""
    z = nonlinear.feedforward(net, x).without_last()
    for _ in range(6):
        model = trust_region.taylor_model(net, x, y, at=z)
        g = np.asarray(trust_region.activity_vectors(model.gradient))
        step = -np.linalg.solve(np.asarray(model.curvature.dense()), g[:, :, None])[:, :, 0]
        z = jax.tree.map(jnp.add, z, trust_region.activities_of(net, step))
    steepest = max(float(jnp.max(jnp.abs(run))) for run in nonlinear.activity_gradient(net, z, x, y).runs)
    if not steepest < 1e-13:
        raise RuntimeError(f"Newton's method ended where the gradient is {steepest:.1e}, expected rounding")
    return z


def pooled(errors: Array) -> float:
    return float(np.sqrt(np.mean(np.asarray(errors) ** 2)))


def targets_off(net: NonlinearPCN, x: np.ndarray, offset: np.ndarray, size: float) -> np.ndarray:
    return np.asarray(nonlinear.feedforward(net, x)[-1]) + size * offset
