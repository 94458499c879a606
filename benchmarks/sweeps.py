"""Sweeps of training as the library makes them, one run after another on a CPU, beside all runs at once.

The ratio of all at once to the library's way is above 1 where the latter is faster. muPC with tanh on random
batches, each network at six rates; with inference T = H steps, without it backpropagation.
"""

from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import pctheory
from pctheory.dynamics import Inference, Training, train, training_sweep
from pctheory.nonlinear import NonlinearPCN

from .measure import Case, Row, alternating, compared

RATES = 2.0 ** np.arange(-9, -3)
ENDS = (64, 10)
ACTIVITY_RATE = 0.1


def cases(*, quick: bool) -> list[Case]:
    if quick:
        return [Case(sweep, (4, 2, 3), {"rounds": 3, "batches": 2})]
    return [Case(sweep, size) for size in ((24, 4, 16), (96, 4, 16), (24, 16, 16), (128, 8, 64))]


def sweep(width: int, hidden: int, batch: int, *, rounds: int = 5, batches: int = 10) -> list[Row]:
    widths = (ENDS[0], *[width] * hidden, ENDS[1])
    nets = [NonlinearPCN(pctheory.mupc(widths, seed=seed), jnp.tanh) for seed in range(3)]
    random = np.random.default_rng(0)
    xs, ys = (random.standard_normal((len(nets), batches, batch, columns)) for columns in ENDS)
    rows = []
    for name, steps in (("PC", hidden), ("backpropagation", None)):
        inference_rates = None if steps is None else [ACTIVITY_RATE]
        calls: dict[str, Callable[[], Training]] = {
            "library": partial(
                training_sweep, nets, (xs, ys), rates=RATES, inference_rates=inference_rates, inference_steps=steps
            ),
            "all at once": partial(at_once, nets, (xs, ys), steps),
        }
        times = alternating(calls, rounds)
        row = f"sweep by {name}, N {width}, H {hidden}, batch {batch}, {len(nets) * len(RATES)} runs"
        rows.append(compared(row, times, "all at once", "library", what="time all at once / library"))
    return rows


def at_once(nets: list[NonlinearPCN], batches: tuple[np.ndarray, np.ndarray], steps: int | None) -> Training:
    """All networks and rates in parallel."""
    stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *nets)
    xs, ys = batches
    return _at_once(stacked, (jnp.asarray(xs), jnp.asarray(ys)), jnp.asarray(RATES), steps)


@eqx.filter_jit
def _at_once(
    nets: NonlinearPCN, batches: tuple[jax.Array, jax.Array], rates: jax.Array, steps: int | None
) -> Training:
    def run(net: NonlinearPCN, batches: tuple[jax.Array, jax.Array], rate: jax.Array) -> Training:
        return train(
            net, batches, rate=rate, inference=None if steps is None else Inference(ACTIVITY_RATE, steps=steps)
        )

    return jax.vmap(jax.vmap(run, (None, None, 0)), (0, 0, None))(nets, batches, rates)
