"""Conditioning: both extreme eigenvalues of the activity Hessian from its structure, beside dense ones.

Dense is what existing code does: form H_z, then all its eigenvalues. Both include everything from the network on,
and are compiled before. The large case has 65,536 activities, whose dense Hessian would take 34 GB: its time is
that of the first call, compilation included, and its errors are the bounds that the search reports. "products
alone" are those of maps and vectors in the search and nothing else: its floor.
"""

import time
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import pctheory
from pctheory.conditioning import ActivityHessianExtremes, activity_hessian_extremes

from .measure import Case, Goal, Row, alternating, compared, quartiles

SECONDS, MAP_SECONDS, ERROR = Goal("at most", 30.0), Goal("at most", 600.0), Goal("at most", 1e-6)
KINDS: dict[str, Callable[..., pctheory.LinearPCN]] = {
    "muPC with skips": pctheory.mupc,
    "SP": pctheory.standard,
    "SP with skips": partial(pctheory.standard, skips=True),
}


def cases(*, quick: bool) -> list[Case]:
    if quick:
        return [Case(against_dense, (16, 40, 2), {"rounds": 2}), Case(large, (8, 80, 2)), Case(whole_map, (2,))]
    return [
        Case(against_dense, (64, 16, 10)),
        Case(against_dense, (64, 32, 10)),
        Case(large, (512, 128, 10)),
        Case(whole_map, (7,)),
    ]


def dense_extremes(net: pctheory.LinearPCN) -> tuple[float, float]:
    values = np.linalg.eigvalsh(np.asarray(pctheory.activity_hessian_dense(net)))
    return float(values[0]), float(values[-1])


def products_alone(net: pctheory.LinearPCN, found: ActivityHessianExtremes) -> float:
    """Seconds for the maps applied as often as in the search: twice in a product, four times in a solve."""

    @jax.jit
    def applied(runs: tuple[Array, ...], vectors: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(jnp.einsum("lij,lj->li", a, v) for a, v in zip(runs, vectors, strict=True))

    runs = net.maps.runs
    vectors = tuple(jnp.ones((len(a), a.shape[2])) for a in runs)
    times = alternating({"applied": partial(applied, runs, vectors)}, 5)
    return (2 * found.products + 4 * found.solves) * quartiles(times["applied"])[1]


def against_dense(width: int, hidden: int, outputs: int, *, rounds: int = 5) -> list[Row]:
    rows = []
    for kind, constructor in KINDS.items():
        net = constructor((width,) * (hidden + 1) + (outputs,), seed=0)
        found, (low, high) = activity_hessian_extremes(net), dense_extremes(net)
        calls: dict[str, Callable[[], Any]] = {
            "structure": partial(activity_hessian_extremes, net),
            "dense": partial(dense_extremes, net),
        }
        times = alternating(calls, rounds)
        details = {
            "condition number": found.condition_number,
            "smallest differs by": abs(found.smallest / low - 1),  # for SP with skips the dense one is the worse
            "largest differs by": abs(found.largest / high - 1),
            "products": found.products,
            "solves": found.solves,
            "products alone (ms)": 1e3 * products_alone(net, found),
        }
        name = f"cond(H_z), {kind}, N {width}, H {hidden}, d_y {outputs}"
        rows.append(compared(name, times, "structure", "dense", details=details))
    return rows


def whole_map(powers: int) -> list[Row]:
    """Every cell of the map with inputs and outputs as wide as the hidden layers; each shape is compiled in it."""
    sizes, worst, unfinished = [2**k for k in range(1, powers + 1)], 0.0, 0
    start = time.perf_counter()
    for constructor, width, hidden in product(KINDS.values(), sizes, sizes):
        found = activity_hessian_extremes(constructor((width,) * (hidden + 2), seed=0))
        worst, unfinished = float(np.max([worst, *found.errors])), unfinished + (not found.converged)
    taken = time.perf_counter() - start
    name = f"cond(H_z), N and H = 2 to {sizes[-1]}, {len(KINDS) * len(sizes) ** 2} networks"
    details = {"largest error bound": worst, "not converged": unfinished}
    return [Row(name, "seconds", taken, "s", goal=MAP_SECONDS, details=details)]


def large(width: int, hidden: int, outputs: int) -> list[Row]:
    rows = []
    for kind, constructor in KINDS.items():
        net = constructor((width,) * (hidden + 1) + (outputs,), seed=0)
        start = time.perf_counter()
        found = activity_hessian_extremes(net)
        taken = time.perf_counter() - start
        name = f"cond(H_z), {kind}, N {width}, H {hidden}, d_y {outputs}"
        floor = products_alone(net, found)
        details = {
            "time / products alone": taken / floor,
            "products alone (s)": floor,
            "condition number": found.condition_number,
            "residual of smallest": found.residuals[0],
            "residual of largest": found.residuals[1],
            "products": found.products,
            "solves": found.solves,
        }
        rows.append(Row(name, "time", taken, "s", goal=SECONDS, details=details))
        rows.append(Row(name, "relative error, bound", float(np.max(found.errors)), goal=ERROR))
    return rows
