"""Arrays at the door: what goes in is finite and of double precision, and so is what comes out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, ArrayLike, PyTree

from .arguments import shown

R = TypeVar("R")
Index = int | slice | tuple[int, ...]


def double_array(value: ArrayLike | Sequence[Any], name: str, *, ndim: int | None = None) -> Array:
    """`value` as a finite float64 array of JAX with `ndim` axes. Raises as `checked_array`."""
    return double_arrays({name: value}, ndim=ndim)[0]


def double_arrays(values: Mapping[str, ArrayLike | Sequence[Any]], *, ndim: int | None = None) -> list[Array]:
    """`double_array` of each, by its name, in one transfer."""
    return all_on_device([own_array(value, name, ndim=ndim) for name, value in values.items()])


def own_array(
    value: ArrayLike | Sequence[Any], name: str, *, ndim: int | None = None
) -> Array | npt.NDArray[np.float64]:
    """`checked_array`, which the caller cannot change any more."""
    array = checked_array(value, name, ndim=ndim)
    return array if isinstance(array, jax.Array) else np.array(array)


def checked_array(
    value: ArrayLike | Sequence[Any], name: str, *, ndim: int | None = None
) -> Array | npt.NDArray[np.float64]:
    """`value` as a finite float64 array with `ndim` axes, of NumPy unless it is JAX's: perhaps the caller's own.

    `name` says where it stands in an error. Raises TypeError for single precision, integers and complex numbers,
    ValueError for a wrong number of axes, an empty axis and values that are not finite (the latter only where
    values are known, not under `jit`).
    """
    if not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise TypeError(f"{name}: JAX is in single precision; call pctheory.enable_x64() first")
    try:
        array = value if isinstance(value, jax.Array) else np.asarray(value)
    except ValueError as error:
        raise TypeError(f"{name} is not an array: its rows have different lengths") from error
    except TypeError as error:
        raise TypeError(f"{name} is {shown(value)}, expected an array of numbers") from error
    if array.dtype != np.float64:
        raise TypeError(
            f"{name} has dtype {array.dtype}, expected float64; convert it with numpy.asarray(value, dtype=float)"
        )
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name} has shape {array.shape}, expected {ndim} axes; reshape it")
    if 0 in array.shape:
        raise ValueError(f"{name} is empty (shape {array.shape}); every axis needs at least one entry")
    if is_concrete(array) and not np.isfinite(array).all():
        raise ValueError(f"{name} holds {_first_non_finite(array)}; every entry must be finite")
    return array


def on_device(made: np.ndarray) -> Array:
    """A NumPy array made for this and not changed after, for JAX; `jnp.asarray` would compile for each shape."""
    return jax.device_put(made)


def all_on_device(arrays: Sequence[ArrayLike]) -> list[Array]:
    """`on_device` of those that are NumPy's, in one transfer: for nine, two thirds of the time of nine."""
    placed = iter(jax.device_put([array for array in arrays if not isinstance(array, jax.Array)]))
    return [array if isinstance(array, jax.Array) else next(placed) for array in arrays]


def _at_hand(value: ArrayLike) -> bool:
    """Whether NumPy may take the values: they are known, not on an accelerator, nor placed where they are."""
    if not isinstance(value, jax.Array):
        return True
    return is_concrete(value) and not value.committed and jax.default_backend() == "cpu"


def by_numpy(function: Callable[..., Any], arrays: Sequence[ArrayLike]) -> ArrayLike:
    """`function(np or jax.numpy, arrays)`, of NumPy where it has the values: nothing is compiled then."""
    if all(map(_at_hand, arrays)):
        with np.errstate(over="ignore", invalid="ignore"):  # silent, as JAX is
            return np.asarray(function(np, [np.asarray(a) for a in arrays]))
    made: Array = function(jnp, arrays)
    return made


def without_compiling(function: Callable[..., Any], arrays: Sequence[ArrayLike]) -> Array:
    """`function(np or jax.numpy, arrays)` for JAX; nothing is compiled where NumPy has the values."""
    return all_on_device([by_numpy(function, arrays)])[0]


def stacked(arrays: Sequence[ArrayLike]) -> ArrayLike:
    """Arrays of one shape along a new first axis, of NumPy where it has the values."""
    return by_numpy(lambda xp, parts: xp.stack(parts), arrays)


def ravelled(arrays: Sequence[ArrayLike]) -> Array:
    """All entries of all arrays as one vector."""
    return without_compiling(lambda xp, parts: xp.concatenate([part.reshape(-1) for part in parts]), arrays)


def entry(stack: Array, index: Index) -> Array:
    """An entry, or several, along the first axes; nothing is compiled where NumPy has the values."""
    return entries([(stack, index)])[0]


def entries(places: Iterable[tuple[Array, Index]]) -> list[Array]:
    """`entry` of each stack at each index, in one transfer."""
    return all_on_device([np.asarray(s)[index] if _at_hand(s) else s[index] for s, index in places])


def array_returned(name: str, made: object) -> Array:
    """`made`, which the function `name` returned, as an array; TypeError if it cannot be one."""
    try:
        return jnp.asarray(made)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} returns {shown(made)}, expected a number") from error


def number_returned(name: str, made: object) -> Array:
    """The same of one number; ValueError if there are many."""
    value = array_returned(name, made)
    if value.shape != ():
        raise ValueError(f"{name} returns shape {value.shape}, expected a number; sum or average it")
    return value


def is_concrete(value: object) -> bool:
    """Whether the values of `value` are known, that is, it is no tracer of a JAX transformation."""
    return not isinstance(value, jax.core.Tracer)


def like_weights(name: str, direction: PyTree, weights: PyTree) -> PyTree:
    """`direction`, what `name` returned; TypeError unless it has a number for every weight."""
    structures = (jax.tree.structure(tree) for tree in (direction, weights))
    if len(set(structures)) > 1 or any(
        np.shape(one) != np.shape(other)
        for one, other in zip(jax.tree.leaves(direction), jax.tree.leaves(weights), strict=True)
    ):
        raise TypeError(f"{name} returns {shown(direction)}, expected numbers shaped like the weights")
    return direction


def weight_count(weights: PyTree) -> int:
    """How many numbers there are in all arrays."""
    return sum(int(leaf.size) for leaf in jax.tree.leaves(weights))


def with_last(values: npt.NDArray[np.float64], last: Any) -> ArrayLike:
    """`values` with this last entry, which may be traced."""
    return np.append(values[:-1], last) if is_concrete(last) else jnp.asarray(values).at[-1].set(last)


def as_float(value: Any) -> Any:
    """A number as a float, unless it is traced: JAX takes no fractions, and no whole numbers above 64 bits."""
    return float(value) if is_concrete(value) else value


def finite_result(name: str, result: R) -> R:
    """`result`, or FloatingPointError if finite input gave an infinite or undefined number."""
    for leaf in jax.tree.leaves(result):
        if is_concrete(leaf) and not np.isfinite(leaf).all():
            raise FloatingPointError(
                f"{name}: the result holds {_first_non_finite(leaf)} although every input is finite; "
                "a product of the maps leaves the range of double precision: rescale weights or data"
            )
    return result


def _first_non_finite(array: ArrayLike) -> str:
    values = np.asarray(array)
    where = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
    return f"{values[where]} at index {where}"
