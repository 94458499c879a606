"""Time to compile an exact step of a deep network, against a shallow one; and what new widths cost without one."""

import time
from functools import partial

import jax
import numpy as np

import pctheory

from .exact_step import problem
from .measure import Case, Goal, Row, Times, compared


def cases(*, quick: bool) -> list[Case]:
    if quick:
        return [Case(in_depth, (8, 4, 16), {"rounds": 1}), Case(of_new_widths, (), {"rounds": 2})]
    return [Case(in_depth, (64, 16, 1024)), Case(of_new_widths, ())]


def in_depth(width: int, shallow: int, deep: int, *, rounds: int = 7) -> list[Row]:
    shapes = {depth: jax.eval_shape(partial(problem, width, depth, 64, 10)) for depth in (shallow, deep)}
    samples: dict[int, list[float]] = {shallow: [], deep: []}  # the first of each: warm-up
    for turn in range(rounds + 1):
        for depth in (shallow, deep) if turn % 2 else (deep, shallow):
            samples[depth].append(compilation(*shapes[depth]))
    times: dict[str, Times] = {f"L {depth}": np.asarray(taken[1:]) for depth, taken in samples.items()}
    return [
        compared(
            f"compile time, N {width}, L {deep}",
            times,
            f"L {deep}",
            f"L {shallow}",
            what=f"time / that at L {shallow}",
            goal=Goal("at most", 2.0),
        )
    ]


def of_new_widths(*, rounds: int = 9) -> list[Row]:
    """Making a network of widths that this process never had, against the same network again."""
    samples: dict[str, list[float]] = {"new widths": [], "the same widths": []}
    for turn in range(-1, rounds):  # the first of all: warm-up
        for taken in samples.values():
            start = time.perf_counter()
            pctheory.mupc((turn + 3, turn + 5, turn + 5, turn + 4), seed=0)
            if turn >= 0:
                taken.append(time.perf_counter() - start)
    return [
        compared(
            "making a network of three layers",
            {name: np.asarray(taken) for name, taken in samples.items()},
            "new widths",
            "the same widths",
            what="time / that of the same widths",
            goal=Goal("at most", 2.0),
        )
    ]


def compilation(*shapes: object) -> float:
    """Seconds to trace, lower and compile an exact step with nothing cached."""
    jax.clear_caches()  # type: ignore[no-untyped-call]
    start = time.perf_counter()
    jax.jit(pctheory.equilibrium_and_gradient).lower(*shapes).compile()
    return time.perf_counter() - start
