"""Trust regions: the Fisher metric beside a forward pass, the sub-problem beside SciPy's trust-exact.

A metric is made once for given activities: with a pass of d_y rows for all examples if the network is linear, for
each example if it is not. Product and solve are through the public methods, checks included. Both solvers of the
sub-problem get the same random indefinite problem; trust-exact's is run at its own loose tolerance, and as tight as
ours, whose step meets the boundary to rounding.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize._trustregion_exact import IterativeSubproblem

import pctheory
from pctheory import LinearPCN, trust_region
from pctheory.nonlinear import NonlinearPCN, feedforward

from .curvature import sizes
from .measure import Case, Goal, Row, alternating, compared

WIDE = (64, *(256,) * 64, 10)
BATCH = 64


def cases(*, quick: bool) -> list[Case]:
    if quick:
        return [Case(metric, ((6, 5, 5, 3),), {"rounds": 3}), Case(subproblem, (6,), {"rounds": 3})]
    return [Case(metric, (WIDE,)), *(Case(subproblem, (size,)) for size in (50, 200, 800))]


def metric(widths: tuple[int, ...], *, rounds: int = 11) -> list[Row]:
    random = np.random.default_rng(0)
    x = jnp.asarray(random.standard_normal((BATCH, widths[0])))
    linear = pctheory.standard(widths, seed=0)
    rows = []
    networks: dict[str, LinearPCN | NonlinearPCN] = {"linear": linear, "tanh": NonlinearPCN(linear, jnp.tanh)}
    for kind, net in networks.items():
        pass_forward = jax.jit(feedforward if isinstance(net, NonlinearPCN) else pctheory.feedforward)
        made = trust_region.fisher_metric(net, x)
        vectors = trust_region.activities_of(net, random.standard_normal((BATCH, sum(widths[1:-1]))))
        calls = {
            "forward pass": partial(pass_forward, net, x),
            "metric": partial(trust_region.fisher_metric, net, x),
            "product": partial(made.product, vectors),
            "solve": partial(made.solve, vectors),
        }
        times = alternating(calls, rounds)
        for what, goal in (("metric", None), ("product", Goal("at most", 4.0)), ("solve", Goal("at most", 8.0))):
            rows.append(compared(f"Fisher {what}, {kind}, {sizes(widths)}", times, what, "forward pass", goal=goal))
    return rows


def problem(size: int) -> tuple[np.ndarray, np.ndarray]:
    """A random gradient and a random symmetric, indefinite hessian."""
    random = np.random.default_rng(size)
    square = random.standard_normal((size, size))
    return random.standard_normal(size), (square + square.T) / np.sqrt(8 * size)


def scipys_step(gradient: np.ndarray, hessian: np.ndarray, radius: float, tolerance: float | None) -> np.ndarray:
    """The step of trust-exact's sub-problem, at its own tolerances unless given."""
    tolerances = {} if tolerance is None else {"k_easy": tolerance, "k_hard": tolerance}
    solver = IterativeSubproblem(
        np.zeros_like(gradient), lambda z: 0.0, lambda z: gradient, lambda z: hessian, **tolerances
    )
    step: np.ndarray = solver.solve(radius)[0]
    return step


def subproblem(size: int, *, rounds: int = 11) -> list[Row]:
    gradient, hessian = problem(size)
    calls: dict[str, Callable[[], Any]] = {
        "ours": partial(trust_region.trust_region_step, gradient, hessian, 1.0),
        "trust-exact": partial(scipys_step, gradient, hessian, 1.0, None),
        "trust-exact, tight": partial(scipys_step, gradient, hessian, 1.0, 1e-12),
    }
    times = alternating(calls, rounds)
    ours = trust_region.trust_region_step(gradient, hessian, 1.0)
    details = {
        f"step length off by, {name}": abs(float(np.linalg.norm(step)) - 1.0)
        for name, step in (("ours", ours.step), ("trust-exact", scipys_step(gradient, hessian, 1.0, None)))
    }
    name = f"trust-region step, {size} unknowns"
    return [
        compared(name, times, "ours", other, details=details) for other in ("trust-exact", "trust-exact, tight")
    ]
