"""Weight Hessians: a product beside a gradient, the spectrum at the origin, the extreme curvatures elsewhere.

Gradient and product both give all weights as one vector; the product goes through the SciPy operator, checks
included. Eigenvalues are those of the equilibrated energy: at the origin in closed form, without compiling
anything; at a random network (standard parameterisation) matrix-free, compiling included.
"""

import time
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import pctheory
from pctheory import LinearPCN

from . import exact_step
from .measure import Case, Goal, Row, alternating, compared, quartiles
from .memory import peak

OBJECTIVES = {"loss": pctheory.loss, "F*": pctheory.equilibrated_energy}
MILLION = (784, 500, 500, 500, 500, 10)
BATCH = 64


def cases(*, quick: bool) -> list[Case]:
    small = (6, 5, 5, 3)
    if quick:
        return [
            Case(product, (small,), {"rounds": 3}),
            Case(spectrum_at_origin, (small,)),
            Case(extreme_eigenvalues, (small,)),
        ]
    return [
        *(Case(product, (widths,)) for widths in (MILLION, (128,) * 9 + (10,), (32,) * 65 + (10,))),
        Case(spectrum_at_origin, (MILLION,)),
        Case(extreme_eigenvalues, (MILLION,)),
    ]


def network(widths: tuple[int, ...]) -> tuple[LinearPCN, Array, Array]:
    """A random network of these widths with random data."""
    random = np.random.default_rng(0)
    x, y = random.standard_normal((BATCH, widths[0])), random.standard_normal((BATCH, widths[-1]))
    return pctheory.standard(widths, seed=0), jnp.asarray(x), jnp.asarray(y)


def product(widths: tuple[int, ...], *, rounds: int = 11) -> list[Row]:
    net, x, y = network(widths)
    vector = np.random.default_rng(1).standard_normal(pctheory.weight_vector(net).size)
    alone, rows = floors(net, x, y), []
    for name, objective in OBJECTIVES.items():
        gradient = jax.jit(partial(pctheory.weight_gradient, objective))
        operator = pctheory.weight_hessian_operator(objective, net, x, y)
        calls: dict[str, Callable[[], Any]] = {
            "gradient": partial(gradient, net, x, y),
            "product": partial(operator.matvec, vector),
            "products alone": alone[name],
        }
        times = alternating(calls, rounds)
        floor = quartiles(times["product"] / times["products alone"])[1]
        rows.append(
            compared(
                f"Hessian-vector product of {name}, {sizes(widths)}",
                times,
                "product",
                "gradient",
                goal=Goal("at most", 5.0),
                details={"product / products alone": floor},
            )
        )
    return rows


def floors(net: LinearPCN, x: Array, y: Array) -> dict[str, Callable[[], list[Any]]]:
    """The matrix products of one Hessian-vector product: those of a gradient, differentiated along the weights.

    What no direction changes is computed before, as an operator does.
    """
    maps, turns = list(net.maps), list(net.weights)
    _, of_loss = jax.linearize(partial(gradient_products, x=x, y=y), maps)
    _, of_energy = jax.linearize(lambda maps, force: exact_step.products_alone(maps, x, force), maps, y)
    return {"loss": partial(changed, of_loss, turns), "F*": partial(changed, of_energy, turns, y)}


@jax.jit
def changed(tangent_map: Callable[..., list[Any]], *changes: Any) -> list[Any]:
    return tangent_map(*changes)


def gradient_products(maps: list[Array], x: Array, y: Array) -> list[Array]:
    """The matrix products of one gradient of the loss, nothing scaled."""
    *below, output = accumulate(maps, lambda z, a: z @ a.T, initial=x)
    forces = accumulate(reversed(maps[1:]), jnp.matmul, initial=output - y)
    return [force.T @ z for force, z in zip(forces, reversed(below), strict=True)][::-1]


def spectrum_at_origin(widths: tuple[int, ...]) -> list[Row]:
    net, x, y = network(widths)
    start = time.perf_counter()
    values, multiplicities = pctheory.equilibrated_hessian_at_origin(net, x, y).eigenvalues()
    elapsed = time.perf_counter() - start
    return [
        Row(
            f"spectrum of F* at the origin, {sizes(widths)}",
            "time",
            elapsed,
            "s",
            goal=Goal("at most", 1.0),
            details={"distinct eigenvalues": len(values), "eigenvalues": int(multiplicities.sum())},
        )
    ]


def extreme_eigenvalues(widths: tuple[int, ...]) -> list[Row]:
    net, x, y = network(widths)
    before = peak()
    start = time.perf_counter()
    operator = pctheory.weight_hessian_operator(pctheory.equilibrated_energy, net, x, y)
    found = pctheory.extreme_eigenpairs(operator)
    elapsed = time.perf_counter() - start
    if not found.converged:
        raise RuntimeError(f"residuals {found.residuals.ravel()} exceed the tolerance")
    details = {
        "smallest": found.smallest,
        "largest": found.largest,
        "largest residual": float(found.residuals.max()),
        "peak memory before (GiB)": before,
        "peak memory (GiB)": peak(),
    }
    name = f"smallest and largest eigenvalue of F*, {sizes(widths)}"
    return [Row(name, "time", elapsed, "s", goal=Goal("at most", 120.0), details=details)]


def sizes(widths: tuple[int, ...]) -> str:
    """The widths, batch and number of weights, for a row's name."""
    inner = f"{len(widths) - 2} x {widths[1]}" if len(set(widths[1:-1])) == 1 else "-".join(map(str, widths[1:-1]))
    weights = sum(n * m for n, m in zip(widths[1:], widths[:-1], strict=True))
    return f"{widths[0]}-({inner})-{widths[-1]}, batch {BATCH}, {weights:,} weights"
