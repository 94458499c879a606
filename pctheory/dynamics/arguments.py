"""What the functions of this package refuse at the door."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from ..network import is_concrete

Function = TypeVar("Function", bound=Callable[..., Any])


def function(name: str, value: Function) -> Function:
    """`value`, which must be callable; TypeError otherwise."""
    if not callable(value):
        raise TypeError(f"{name} is {value!r}, expected a function of a network and a batch")
    return value


def optimiser_of_optax(value: optax.GradientTransformation) -> optax.GradientTransformation:
    """`value`, which must be an optimiser; TypeError otherwise."""
    if not isinstance(value, optax.GradientTransformation):
        raise TypeError(f"optimiser is {value!r}, expected one of optax, such as optax.sgd(0.1)")
    return value


def positive(name: str, value: float | Array) -> Array:
    """`value` as an array of no axes, positive and finite; ValueError otherwise."""
    if np.ndim(value) or (is_concrete(value) and not 0 < value < np.inf):
        raise ValueError(f"{name} is {value}, expected a positive finite number")
    return jnp.asarray(value, dtype=float)


def at_least_one(name: str, value: int) -> int:
    """`value`, a whole number of at least 1; ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} is {value!r}, expected a whole number of at least 1")
    return int(value)
