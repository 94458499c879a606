r"""Training of linear residual networks with exact inference, by muPC and in the standard parameterisation (SP).

Hidden layers have skips; SP has weights of variance 1 / N_{l-1} from the same random numbers as muPC. Adam, on F*.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
from jaxtyping import Array

from pctheory import Layers, LinearPCN, mupc
from pctheory.arrays import entry
from pctheory.datasets import dataset, stacked_batches
from pctheory.dynamics import LearningRule, WeightDescent, equilibrium_rule, weight_descent_snapshots
from pctheory.energy import feedforward, loss
from pctheory.equilibrium import equilibrium_and_gradient
from pctheory.random_matrix import RandomChain, standard_variances

Values = npt.NDArray[np.float64]
Batches = tuple[Array, Array]

Kinds = tuple[str, ...]

PARAMETERISATIONS = ("mupc", "standard")


def minibatches(name: str, count: int, size: int, seed: int, data_dir: Path | None) -> Batches:
    """The first `count` shuffled batches of the training data, stacked; a new permutation for each epoch."""
    xs, ys = stacked_batches(dataset(name, data_dir=data_dir), size, seed=seed, count=count)
    return jax.device_put((xs, ys))


def hidden(batched: Batches, width: int, count: int) -> tuple[int, ...]:
    """Widths N_0..N_L for this data with `count` hidden layers of one width."""
    return (batched[0].shape[2], *(width,) * count, batched[1].shape[2])


def initial(widths: Sequence[int], seed: int | Array, kinds: Kinds = PARAMETERISATIONS) -> list[LinearPCN]:
    """Networks of one set of random numbers, "mupc" and "standard" with skips between hidden layers.

    "plain" is SP without skips; "small" the same with a third of the variance, that of the papers' code.
    """
    net = mupc(widths, seed=seed)
    spread = iter(np.sqrt(standard_variances(widths)))
    counts = [run.shape[0] for run in net.weights.runs]
    factors = [jnp.array([next(spread) for _ in range(count)])[:, None, None] for count in counts]
    weights = Layers(tuple(run * factor for run, factor in zip(net.weights.runs, factors, strict=True)))
    small = Layers(tuple(run / np.sqrt(3) for run in weights.runs))
    made = {
        "mupc": net,
        "standard": LinearPCN(weights, skips=net.skips),
        "plain": LinearPCN(weights),
        "small": LinearPCN(small),
    }
    return [made[kind] for kind in kinds]


def energies_rule(net: LinearPCN, x: Array, y: Array) -> tuple[Layers, tuple[Array, Array]]:
    """The gradient of F*, and (loss, F*): what is cheapest to compile where nothing else is looked at."""
    found, gradient = equilibrium_and_gradient(net, x, y)
    return gradient, (loss(net, x, y), found.energy)


@partial(jax.jit, static_argnames=("widths", "seeds", "kinds", "at", "rule"))
def trained(
    widths: tuple[int, ...],
    batched: Batches,
    rates: npt.ArrayLike,
    *,
    seeds: int,
    kinds: Kinds = PARAMETERISATIONS,
    at: tuple[int, ...] = (0,),
    rule: LearningRule = equilibrium_rule,
) -> WeightDescent:
    """Runs of (kind, seed), each kind at its rate; one update for each batch."""
    nets = jax.vmap(lambda seed: initial(widths, seed, kinds))(jnp.arange(seeds))
    every = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *nets)

    def run(case: tuple[LinearPCN, Array]) -> WeightDescent:
        net, rate = case
        return weight_descent_snapshots(rule, net, batched, optax.adam(rate), at=at)

    found = jax.lax.map(run, (every, jnp.repeat(jnp.asarray(rates), seeds)))
    shaped: WeightDescent = jax.tree.map(lambda leaf: leaf.reshape(len(nets), seeds, *leaf.shape[1:]), found)
    return shaped


def ensembles(nets: LinearPCN) -> list[RandomChain]:
    """What networks stacked by (parameterisation, seed) are drawn from: one ensemble for each parameterisation."""
    mupc, standard = (jax.tree.map(lambda leaf, k=k: entry(leaf, (k, 0)), nets) for k in range(2))
    return [RandomChain.of(mupc), RandomChain.of(standard, standard_variances(standard.widths))]


def accuracy(net: LinearPCN, x: Values, y: Values) -> float:
    """The share of examples whose largest output is that of the largest target."""
    return float(np.mean(np.argmax(feedforward(net, x)[-1], axis=1) == np.argmax(y, axis=1)))
