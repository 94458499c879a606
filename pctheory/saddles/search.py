r"""Looking for critical points of an objective: many starts, each driven to a point where the gradient vanishes.

Method: Levenberg-Marquardt on the gradient g, whose Jacobian is the Hessian H,

    (H^2 + mu I) step = -H g,      mu divided by 3 where |g| fell, times 4 where it did not,

which ends in Newton's method as mu -> 0. It does not ask for H >= 0, so saddles are found as readily as minima.
Start i is drawn from (seed, i) alone: neither the units nor the executor change what is found.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float

from ..arguments import public, refuse_too_large, shown, whole_number
from ..arrays import double_array, weight_count
from ..figures.cache import decoded
from ..files import content_of
from ..network import LinearPCN
from .classification import TOLERANCE, Classification, Derivative, Derivatives, classification, data_scale

State: TypeAlias = tuple[Array, Array, Array, Array]  # iterations done, weights, gradient, mu

EASIER, HARDER = 1 / 3, 4.0  # by how much mu shrinks after success and grows after failure
ARRIVED, NEAR = 1e-15, 1e-14  # gradients, of the data's scale: where to stop, and what counts as arrived
# Nothing moves along curvatures below ROUNDING of the largest, so a run to infinity halts where its gradient is
# about ROUNDING |weights|, which is not NEAR. Where the objective falls to 0 there, |gradient| |weights| is of its
# size; at a critical point it is far below (STILL), unless the value is NOTHING itself.
ROUNDING, STILL, NOTHING = 1e-13, 1e-6, 1e-20
SIZES = (-0.5, 0.5)  # decimal logarithms of a start's entries, in units of 1/sqrt(fan-in)


@dataclass(frozen=True)
class FoundPoint:
    """A critical point: which start led to it, the network, and what kind of point it is."""

    start: int
    net: LinearPCN
    classification: Classification


@dataclass(frozen=True, eq=False)
class Unit:
    """A few starts and all that a worker needs for them; plain arrays, so that it can be sent anywhere."""

    derivatives: Derivatives
    net: LinearPCN
    x: np.ndarray
    y: np.ndarray
    starts: Float[np.ndarray, "starts weights"]
    iterations: int


@public
def critical_point_search(
    net: LinearPCN,
    x: ArrayLike,
    y: ArrayLike,
    derivatives: Derivatives,
    *,
    starts: int,
    seed: int,
    iterations: int = 150,
    tolerance: float = TOLERANCE,
    least: float = 0.0,
    at_once: int = 64,
    executor: Executor | None = None,
    state: Path | None = None,
) -> list[FoundPoint]:
    r"""The critical points that `starts` random networks lead to, in the order of the starts.

    Starts have the widths, scalings, skips and so on of `net`; one in three has a layer of rank one or zero. Those
    that reach no critical point within `iterations` are left out; `tolerance` and `least` are as in
    `classification`. `at_once` starts are one unit of work for `executor` (default: this process); a pool of
    processes needs `initializer=pctheory.enable_x64`. With `state`, a file that is written after each unit, a
    search that was interrupted goes on where it stopped.

    Raises ValueError for no starts or iterations and for a `state` of another search, FloatingPointError for an
    objective that is not finite at `net`.
    Cost: per start and iteration one dense Hessian and its factorisation; one compilation per shape.
    """
    _require_positive(starts=starts, iterations=iterations, at_once=at_once)
    whole_number("seed", seed, 0)
    x, y = net.batch(x, y)
    if not np.isfinite(value := float(derivatives.objective(net, x, y))):
        raise FloatingPointError(f"objective is {value} at this network, expected a finite number; rescale weights")
    at_once = min(at_once, starts)
    size = weight_count(net.weights)
    refuse_too_large("critical_point_search: starts x weights", (starts, size), "take fewer starts")
    refuse_too_large("critical_point_search: a Hessian", (size, size), "take a smaller network")
    drawn = np.stack([_start(net, seed, i) for i in range(-(-starts // at_once) * at_once)])
    plain: LinearPCN = jax.tree.map(np.asarray, net)
    batch = np.asarray(x), np.asarray(y)
    chunks = np.split(drawn, len(drawn) // at_once)
    ends = _finished([Unit(derivatives, plain, *batch, chunk, iterations) for chunk in chunks], executor, state)
    unravel = ravel_pytree(net.weights)[1]
    found = []
    for start, vector in enumerate(np.concatenate(ends)[:starts]):
        if np.isfinite(vector).all():
            end = net.with_weights(unravel(jnp.asarray(vector)))
            kind = classification(end, x, y, derivatives, tolerance=tolerance, least=least)
            if kind.kind != "not critical":
                found.append(FoundPoint(start, end, kind))
    return found


@public
def least_strict(points: Iterable[FoundPoint]) -> FoundPoint:
    """Of the points that are no minima, the one whose smallest eigenvalue is largest: the most nearly non-strict.

    Raises ValueError where there is none.
    """
    points = list(points)
    for point in points:
        if not isinstance(point, FoundPoint):
            raise TypeError(f"points holds {shown(point)}, expected what critical_point_search returns")
    saddles = [point for point in points if point.classification.kind != "minimum"]
    if not saddles:
        raise ValueError("points holds no saddle; search from more starts")
    return max(saddles, key=lambda point: point.classification.smallest)


def _require_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        whole_number(name, number, 1)


def _start(net: LinearPCN, seed: int, index: int) -> Float[np.ndarray, " weights"]:
    """Entries of one random size in all layers; in every third start a layer of rank one or zero."""
    rng = np.random.default_rng([seed, index])
    size = 10 ** rng.uniform(*SIZES)
    weights = [size * rng.standard_normal(shape) / np.sqrt(shape[1]) for shape in net.weights.shapes]
    if index % 3 == 2:
        layer = weights[rng.integers(len(weights))]
        layer[:] = rng.integers(2) * np.outer(layer[:, 0], layer[0])
    return np.concatenate([w.ravel() for w in weights])


def ends_of(unit: Unit) -> Float[np.ndarray, "starts weights"]:
    """Where the starts of a unit end, one row each; NaN where that is no critical point."""
    starts = double_array(unit.starts, "starts", ndim=2)
    net, batch = jax.device_put((unit.net, (unit.x, unit.y)))
    scale = jnp.asarray(data_scale(net, *batch))  # an array, so that other data need no other compilation
    return np.asarray(_ends(unit.derivatives, net, batch, starts, unit.iterations, scale))


@eqx.filter_jit
def _ends(
    derivatives: Derivatives,
    net: LinearPCN,
    batch: tuple[Array, Array],
    starts: Array,
    iterations: int,
    scale: Array,
) -> Array:
    unravel = ravel_pytree(net.weights)[1]

    def at(derivative: Derivative, vector: Array) -> Array:
        return derivative(derivatives.objective, net.with_weights(unravel(vector)), *batch)

    def end(start: Array) -> Array:
        def going(state: State) -> Array:
            count, _, g, _ = state
            return (count < iterations) & (jnp.linalg.norm(g) > ARRIVED * scale)

        def step(state: State) -> State:
            count, w, g, mu = state
            moved = w - damped(at(derivatives.hessian, w), g, mu)
            there = at(derivatives.gradient, moved)
            better = jnp.linalg.norm(there) < jnp.linalg.norm(g)  # not so if it is NaN
            kept = jax.tree.map(partial(jnp.where, better), (moved, there, mu * EASIER), (w, g, mu * HARDER))
            return count + 1, *kept

        first = at(derivatives.gradient, start)
        _, w, g, _ = jax.lax.while_loop(going, step, (jnp.asarray(0), start, first, scale**2))
        size = jnp.abs(derivatives.objective(net.with_weights(unravel(w)), *batch))
        steepest = jnp.linalg.norm(g)
        still = (steepest * jnp.linalg.norm(w) <= STILL * size) | (size <= NOTHING * scale)
        return jnp.where((steepest <= NEAR * scale) & still, w, jnp.nan)

    def damped(hessian: Array, g: Array, mu: Array) -> Array:
        values, vectors = jnp.linalg.eigh(hessian)
        negligible = jnp.abs(values) <= ROUNDING * jnp.abs(values).max()
        return vectors @ (jnp.where(negligible, 0.0, values / (values**2 + mu)) * (vectors.T @ g))

    return jax.lax.map(end, starts)


def _finished(units: Sequence[Unit], executor: Executor | None, state: Path | None) -> list[np.ndarray]:
    """The ends of all units, those kept in the file `state` taken from it."""
    key = _fingerprint(units)
    done = _kept(state, key)
    waiting = {i: unit for i, unit in enumerate(units) if i not in done}
    for i, ends in _as_they_come(waiting, executor):
        done[i] = ends
        if state is not None:
            _write(state, key, done)
    return [done[i] for i in range(len(units))]


def _as_they_come(waiting: dict[int, Unit], executor: Executor | None) -> Iterator[tuple[int, np.ndarray]]:
    """What a unit raises is raised at the end, so that nothing that others found is lost."""
    if executor is None:
        yield from ((i, ends_of(unit)) for i, unit in waiting.items())
        return
    futures = {executor.submit(ends_of, unit): i for i, unit in waiting.items()}
    for future in as_completed(futures):
        if future.exception() is None:
            yield futures[future], future.result()
    for future in futures:
        future.result()


def _fingerprint(units: Sequence[Unit]) -> str:
    """Of all that decides what is found."""
    digest = hashlib.sha256()
    for unit in units:
        names = [f"{f.__module__}.{f.__qualname__}" for f in vars(unit.derivatives).values()]
        digest.update(
            repr((names, unit.iterations, [np.shape(leaf) for leaf in jax.tree.leaves(unit.net)])).encode()
        )
        for array in (*jax.tree.leaves(unit.net), unit.x, unit.y, unit.starts):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _kept(state: Path | None, key: str) -> dict[int, np.ndarray]:
    if state is None or not state.exists():
        return {}
    try:
        stored = decoded(content_of(state), "key", "done", "ends")
    except (OSError, ValueError, MemoryError) as error:
        raise ValueError(f"state {state} is damaged ({type(error).__name__}); remove it") from error
    if str(stored["key"]) != key:
        raise ValueError(f"state {state} is of another search; give another file or remove it")
    return dict(zip(stored["done"].tolist(), stored["ends"], strict=True))


def _write(state: Path, key: str, done: dict[int, np.ndarray]) -> None:
    """All or nothing: a reader, or a run that is killed, never meets half a file."""
    with tempfile.NamedTemporaryFile(dir=state.parent, suffix=".npz", delete=False) as file:
        np.savez(
            file, key=np.array(key), done=np.array(sorted(done)), ends=np.stack([done[i] for i in sorted(done)])
        )
    Path(file.name).replace(state)
