"""Random weights, drawn layer by layer: the same for a seed whatever the depth.

Method: each entry depends on its place alone, so small matrices are the first entries of rows of a few lengths, and
new widths compile nothing.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby, pairwise
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .arguments import is_number, listed, refuse_too_large, shown
from .arrays import all_on_device, checked_array, is_concrete
from .compiled_code import optimised

Seed = int | Int[Array, ""]
Scalar = float | Float[Array, ""]
Initialisation = Literal["gaussian", "uniform", "orthogonal"]


def random_weights(
    widths: Sequence[int],
    seed: Seed,
    initialisation: Initialisation = "gaussian",
    variance: Scalar | None = None,
) -> list[Array]:
    """One random matrix per layer, those of equal shape stacked; entries of variance `variance`/fan-in, or 1.

    Layer l draws from its own key, so its weights do not depend on the depth.
    """
    check_widths(widths, skips=False)
    if variance is not None and is_concrete(variance) and not (0 < variance < np.inf):
        raise ValueError(f"variance is {variance}, expected a positive finite number")
    if initialisation not in ("gaussian", "uniform", "orthogonal"):
        raise ValueError(f"initialisation is {initialisation!r}, expected 'gaussian', 'uniform' or 'orthogonal'")
    checked_array(1.0, "weights")  # refuses to draw them in single precision
    if is_concrete(seed) and not (is_number(seed) and np.asarray(seed).dtype.kind in "iu"):
        raise ValueError(f"seed is {shown(seed)}, expected a whole number of 64 bits")
    numbers = sum(n * m for n, m in pairwise(widths))
    refuse_too_large("weights", (numbers,), "take smaller widths")
    shapes = tuple((fan_out, fan_in) for fan_in, fan_out in pairwise(widths))
    by_place: bool = jax.config.jax_threefry_partitionable  # type: ignore[attr-defined]
    small = max(n * m for n, m in shapes) <= max(ENTRIES_CLASSES)
    with optimised():  # a fifth of the time, whatever else is compiled in haste
        if small and by_place and is_concrete(seed) and initialisation != "orthogonal":
            runs: tuple[Any, ...] = _drawn_by_entries(seed, shapes, initialisation)
        else:
            runs = _drawn(jnp.asarray(seed), shapes, initialisation)
    if variance is not None:
        fans = [1 if initialisation == "orthogonal" else run.shape[2] for run in runs]
        root = np.sqrt if is_concrete(variance) else jnp.sqrt
        runs = tuple(run * root(variance / fan) for run, fan in zip(runs, fans, strict=True))
    return all_on_device(runs)


DRAWS: dict[str, Callable[[Array, tuple[int, ...]], Array]] = {
    "gaussian": jax.random.normal,
    "uniform": partial(jax.random.uniform, minval=-np.sqrt(3), maxval=np.sqrt(3)),
    "orthogonal": lambda key, shape: jax.random.orthogonal(key, shape[0], m=shape[1]),
}
ENTRIES_CLASSES = {4**4: 8, 4**6: 1, 4**8: 1}  # numbers of entries, and how many such layers are drawn at once


def _drawn_by_entries(
    seed: Seed, shapes: tuple[tuple[int, int], ...], initialisation: Initialisation
) -> tuple[np.ndarray, ...]:
    """As `_drawn`, compiled once for each of a few numbers of entries instead of each list of widths.

    An entry depends on its place alone, so those of a matrix are the first of a longer row.
    """
    drawn, rows = [], {}
    with jax.ensure_compile_time_eval():
        for l, (n, m) in enumerate(shapes):
            size, count = next(item for item in ENTRIES_CLASSES.items() if n * m <= item[0])
            first = l - l % count
            if (first, size) not in rows:
                rows[first, size] = np.asarray(_entries(seed, first + 1, (count, size), initialisation))
            drawn.append(rows[first, size][l - first, : n * m].reshape(n, m))
    return tuple(np.stack(list(run)) for _, run in groupby(drawn, key=np.shape))


@partial(jax.jit, static_argnums=(2, 3))
def _entries(seed: Array, first: Array, shape: tuple[int, int], initialisation: Initialisation) -> Array:
    """Of the layers from `first` on, a row for each."""
    count, size = shape
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(seed)))(first + jnp.arange(count))
    return jax.vmap(lambda key: DRAWS[initialisation](key, (size,)))(keys)


@partial(jax.jit, static_argnums=(1, 2))
def _drawn(seed: Array, shapes: tuple[tuple[int, int], ...], initialisation: Initialisation) -> tuple[Array, ...]:
    """Matrices with independent entries of mean 0 and variance 1, or orthonormal rows or columns, in stacks.

    One layer at a time: memory for the random bits of one layer, not of all.
    """
    key, start, runs = jax.random.key(seed), 1, []
    for shape, run in groupby(shapes):
        stop = start + len(list(run))
        layer = partial(lambda shape, l: DRAWS[initialisation](jax.random.fold_in(key, l), shape), shape)
        runs.append(jax.lax.map(layer, jnp.arange(start, stop)))
        start = stop
    return tuple(runs)


def check_widths(widths: Sequence[int], skips: bool) -> None:
    """Raises ValueError unless these can be the widths of a network, TypeError for what is no list."""
    widths = listed("widths", widths)
    if len(widths) < 2:
        raise ValueError(f"widths is {shown(widths)}, expected at least (N_0, N_L): one layer")
    for l, width in enumerate(widths):
        if not isinstance(width, int | np.integer) or isinstance(width, bool) or width < 1:
            raise ValueError(f"widths, layer {l} is {shown(width)}, expected a whole number of at least 1")
    if skips:
        for l, (below, above) in enumerate(pairwise(widths[1:-1]), start=2):
            if below != above:
                raise ValueError(
                    f"widths, layer {l} is {above} above {below}; skips need equal hidden widths: "
                    "make them equal or pass skips=False"
                )
