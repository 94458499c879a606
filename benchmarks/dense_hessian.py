"""The exact equilibrium beside forming the dense activity Hessian and solving with it, in two ways.

Both count forming the matrix (`activity_hessian_dense`) and what is done with it for the whole batch; right-hand
sides, compilation and, for Cholesky, a copy that may be overwritten are not counted.
    Cholesky    LAPACK's factorisation in place and two triangular solves: the cheapest that a dense matrix allows
    inverse     `jax.numpy.linalg.inv` and a product, as the code published with the papers does
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import cho_factor, cho_solve

import pctheory
from pctheory import Equilibrium, Layers, LinearPCN

from .exact_step import problem
from .measure import Case, Goal, Row, alternating, finished, milliseconds, quartiles

Solution = tuple[np.ndarray, dict[str, float]]


def cases(*, quick: bool) -> list[Case]:
    sizes = [(8, 4, 3, 2)] if quick else [(128, 64, 1, 10), (128, 64, 64, 10)]
    return [Case(against_dense_solutions, size) for size in sizes]


def against_dense_solutions(width: int, hidden_layers: int, batch: int, outputs: int) -> list[Row]:
    net, x, y = problem(width, hidden_layers + 1, batch, outputs)
    right_sides = linear_term(net, x, y)
    pctheory.activity_hessian_blocks(net)  # compiles
    equilibrium = partial(jax.jit(pctheory.equilibrium), net, x, y)
    by_cholesky = partial(cholesky_solution, net, right_sides)
    by_inverse = partial(inverse_solution, net, right_sides)
    name = f"equilibrium, N {width}, H {hidden_layers}, batch {batch}, d_y {outputs}"
    goal = Goal("at least", 1000)
    return [
        Row(
            name,
            "times faster than form + Cholesky + solve",
            **compared(equilibrium, by_cholesky, rounds=3),
            goal=goal,
        ),
        Row(
            name,
            "times faster than form + invert + multiply",
            **compared(equilibrium, by_inverse, rounds=1),
            goal=goal,
        ),
    ]


def compared(
    equilibrium: Callable[[], Equilibrium], dense: Callable[[], Solution], *, rounds: int
) -> dict[str, Any]:
    """How many times faster `equilibrium` is: the fields of a row."""
    exact = flat(equilibrium().activities)
    ratios, details = [], {}
    for _ in range(rounds):
        solution, parts = dense()
        fast = alternating({"equilibrium": equilibrium}, rounds=11)
        ratios.append(sum(parts.values()) / np.median(fast["equilibrium"]))
        difference = float(np.abs(solution - exact).max() / np.abs(exact).max())
        details = {**milliseconds(fast), **parts, "relative difference": difference}
    low, ratio, high = quartiles(np.asarray(ratios))
    return {"value": ratio, "spread": (low, high) if rounds > 1 else None, "details": details}


def linear_term(net: LinearPCN, x: jax.Array, y: jax.Array) -> np.ndarray:
    """b of H_z z = b, one column per example: minus the gradient of each example's energy at z = 0."""
    zeros = Layers.of(jnp.zeros((len(x), width)) for width in net.widths[1:-1])
    return -len(x) * flat(pctheory.activity_gradient(net, zeros, x, y))


def flat(activities: Layers) -> np.ndarray:
    """One column per example, the layers one below the other."""
    return np.concatenate([np.asarray(z) for z in activities], axis=1).T


def cholesky_solution(net: LinearPCN, right_sides: np.ndarray) -> Solution:
    """The equilibrium, and the seconds spent on each part."""
    start = time.perf_counter()
    hessian = finished(pctheory.activity_hessian_dense(net))
    formed = time.perf_counter()
    writable = np.array(hessian).T  # symmetric: the transpose puts it in the column order that LAPACK wants
    copied = time.perf_counter()
    factor = cho_factor(writable, overwrite_a=True, check_finite=False)
    factorised = time.perf_counter()
    solution = cho_solve(factor, right_sides, check_finite=False)
    solved = time.perf_counter()
    parts = {"form (s)": formed - start, "factorise (s)": factorised - copied, "solve (s)": solved - factorised}
    return solution, parts


def inverse_solution(net: LinearPCN, right_sides: np.ndarray) -> Solution:
    """The equilibrium, and the seconds spent on each part."""
    start = time.perf_counter()
    hessian = finished(pctheory.activity_hessian_dense(net))
    formed = time.perf_counter()
    inversion = jax.jit(jnp.linalg.inv).lower(hessian).compile()
    compiled = time.perf_counter()
    inverse = finished(inversion(hessian))
    inverted = time.perf_counter()
    solution = np.asarray(inverse @ right_sides)
    multiplied = time.perf_counter()
    parts = {"form (s)": formed - start, "invert (s)": inverted - compiled, "multiply (s)": multiplied - inverted}
    return solution, parts
