"""How the cost of one exact step grows: the slope of log time against log size, by least squares.

The number of operations is exactly linear in depth; what time adds to that is memory (results that no longer fit
the caches, fresh pages for large ones), which the slope of backpropagation over the same sizes shows too.
"""

from collections.abc import Mapping
from functools import partial

import jax

import pctheory

from .exact_step import problem, scanned_backpropagation
from .measure import Case, Goal, Row, alternating, milliseconds, quartiles

Sizes = tuple[int, int, int, int]
BATCH, OUTPUTS = 64, 10


def cases(*, quick: bool) -> list[Case]:
    if quick:
        return [Case(in_depth, (8, (4, 8, 16)), {"rounds": 3})]
    depths = (16, 32, 64, 128, 256, 512)
    return [
        Case(in_depth, (64, depths)),
        Case(in_depth, (128, depths)),
        Case(in_width, (32, (64, 128, 256, 512))),
        Case(in_batch, (128, 32, (16, 32, 64, 128, 256, 512, 1024))),
    ]


def in_depth(width: int, depths: tuple[int, ...], *, rounds: int = 7) -> list[Row]:
    sizes = {f"L {depth}": (width, depth, BATCH, OUTPUTS) for depth in depths}
    return [fitted(f"cost exponent in depth, N {width}", depths, sizes, rounds, Goal("at most", 1.1))]


def in_width(depth: int, widths: tuple[int, ...], *, rounds: int = 7) -> list[Row]:
    sizes = {f"N {width}": (width, depth, BATCH, OUTPUTS) for width in widths}
    return [fitted(f"cost exponent in width, L {depth}", widths, sizes, rounds)]


def in_batch(width: int, depth: int, batches: tuple[int, ...], *, rounds: int = 7) -> list[Row]:
    sizes = {f"B {batch}": (width, depth, batch, OUTPUTS) for batch in batches}
    return [fitted(f"cost exponent in batch, N {width}, L {depth}", batches, sizes, rounds)]


def fitted(
    name: str, varied: tuple[int, ...], sizes: Mapping[str, Sizes], rounds: int, goal: Goal | None = None
) -> Row:
    step, backpropagation = jax.jit(pctheory.equilibrium_and_gradient), jax.jit(scanned_backpropagation)
    problems = {label: problem(*shape) for label, shape in sizes.items()}
    calls = {label: partial(step, *arguments) for label, arguments in problems.items()}
    others = {f"backpropagation, {label}": partial(backpropagation, *problems[label]) for label in problems}
    times = alternating(calls | others, rounds)
    medians = {label: quartiles(samples)[1] for label, samples in times.items()}
    fit = pctheory.log_log_fit(varied, [medians[label] for label in calls])
    reference = pctheory.log_log_fit(varied, [medians[label] for label in others])
    details = milliseconds({label: times[label] for label in calls})
    details["slope for scanned backpropagation"] = reference.slope
    what = f"slope of log time over {min(varied)} to {max(varied)}, 95 % interval"
    return Row(name, what, fit.slope, spread=fit.interval, goal=goal, details=details)
