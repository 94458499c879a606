"""What the functions of this package refuse at the door."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from ..arguments import is_number, shown, whole_number
from ..arrays import is_concrete


def optimiser_of_optax(value: optax.GradientTransformation) -> optax.GradientTransformation:
    """`value`, which must be an optimiser; TypeError otherwise."""
    if not isinstance(value, optax.GradientTransformation):
        raise TypeError(f"optimiser is {shown(value)}, expected one of optax, such as optax.sgd(0.1)")
    return value


def positive(name: str, value: float | Array) -> Array:
    """`value` as an array of no axes, positive and finite; ValueError otherwise."""
    fits = is_number(value) and 0 < value < np.inf if is_concrete(value) else np.ndim(value) == 0
    if not fits:
        raise ValueError(f"{name} is {shown(value)}, expected a positive finite number")
    return jnp.asarray(value, dtype=float)


def at_least_one(name: str, value: int) -> int:
    """`value`, a whole number of at least 1; ValueError otherwise."""
    return whole_number(name, value, 1)


def pair(name: str, value: object) -> tuple[Any, Any]:
    """`value`, which must be (xs, ys); TypeError otherwise."""
    if not (isinstance(value, tuple) and len(value) == 2):
        raise TypeError(f"{name} is a {type(value).__name__}, expected (xs, ys), a tuple of two arrays")
    return value


def recorded(record: PyTree) -> PyTree:
    """`record`, what the function of that name returned; TypeError for what is neither number nor array."""
    for leaf in jax.tree.leaves(record, is_leaf=lambda part: isinstance(part, Iterator)):
        try:
            jnp.asarray(leaf)
        except (TypeError, ValueError) as error:
            raise TypeError(f"record returns {shown(leaf)}, expected numbers and arrays of them") from error
    return record
