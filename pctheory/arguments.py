"""The door: what public functions ask of their arguments.

Defined here
    public              a function that refuses arguments of another kind than its annotations say
    whole_number        a number that counts; random_generator: NumPy's, of a seed
    refuse_too_large    what does not fit into memory
    shown               a value on one short line

    @public
    def loss(net: LinearPCN, x: ArrayLike, y: ArrayLike) -> Float[Array, ""]: ...

`loss(None, x, y)` raises TypeError: "net is None, expected a LinearPCN". Checked so are networks and other classes,
numbers, functions, lists, flags and paths; arrays and values (signs, shapes, what is finite) where they are used.
"""

import inspect
import math
import os
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from functools import wraps
from numbers import Rational, Real
from typing import Any, Literal, ParamSpec, TypeAlias, TypeGuard, TypeVar, Union, cast

import jaxtyping
import numpy as np

P = ParamSpec("P")
R = TypeVar("R")
Test: TypeAlias = Callable[[Any], bool]
Kind: TypeAlias = tuple[str, Test]  # in words, and whether a value is of it

OVERFLOW_IS_REPORTED = np.errstate(over="ignore", invalid="ignore", divide="ignore")  # by finite_result
CHECKED_PACKAGES = ("pctheory", "pathlib", "concurrent", "fractions")  # whose classes are looked for
LARGEST_COUNT = 2**63 - 1
LONGEST = 60  # characters of a value in an error


def public(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, which refuses arguments that are not of the kind its annotations say, with TypeError.

    Fractions become floats where those are asked for: neither NumPy nor JAX computes with them.
    """
    parameters = inspect.signature(function).parameters
    named = ((name, _kind(parameter.annotation)) for name, parameter in parameters.items())
    kinds = {name: kind for name, kind in named if kind is not None}
    ordered = [(place, name) for place, name in enumerate(parameters) if name in kinds]
    floats = {name for name, parameter in parameters.items() if _asks_for_float(parameter.annotation)}

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> R:
        for place, name in ordered:
            if place < len(args):
                value = args[place]
            elif name in kwargs:
                value = kwargs[name]
            else:
                continue
            words, fits = kinds[name]
            if not fits(value):
                raise TypeError(f"{name} is {shown(value)}, expected {words}")
            if name in floats and not isinstance(value, float | int) and isinstance(value, Rational):
                if place < len(args):
                    args = (*args[:place], float(value), *args[place + 1 :])
                else:
                    kwargs[name] = float(value)
        return function(*args, **kwargs)

    return checked


def shown(value: object) -> str:
    """A value on one short line; arrays and objects by their type."""
    if isinstance(value, str | bytes):
        text = repr(value)
    elif (
        value is None
        or is_number(value)
        or isinstance(value, bool | np.bool_ | complex)
        or (isinstance(value, list | tuple) and all(isinstance(item, bool) or is_number(item) for item in value))
    ):
        text = str(value)
    elif (shape := getattr(value, "shape", None)) is not None and isinstance(shape, tuple):
        text = f"a {type(value).__name__} of shape {shape}"
    elif isinstance(value, int):
        text = "more than 1e308" if value > 0 else "less than -1e308"
    else:
        text = f"a {type(value).__name__}"
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def is_number(value: object) -> bool:
    """Whether `value` is one real number: of Python, NumPy or JAX, traced or not; no truth value, no text."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        dtype = str(getattr(value, "dtype", ""))
        return getattr(value, "shape", None) == () and dtype.startswith(("float", "int", "uint"))
    try:
        float(value)
    except OverflowError:  # a whole number beyond double precision
        return False
    return True


def is_whole(value: object) -> TypeGuard[int]:
    """Whether `value` counts: a whole number of Python or NumPy, no truth value."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def whole_number(name: str, value: object, least: int, most: int | None = None) -> int:
    """`value`, or ValueError where it is no whole number from `least` to `most`."""
    if not is_whole(value) or not least <= value <= (value if most is None else most):
        bound = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} is {shown(value)}, expected a whole number {bound}")
    if value > LARGEST_COUNT:
        raise ValueError(f"{name} is {shown(value)}, expected a whole number of 64 bits")
    return int(value)


def listed(name: str, values: object) -> tuple[Any, ...]:
    """`values` as a tuple; TypeError where they are no list."""
    if not _is_sequence(values):
        raise TypeError(f"{name} is {shown(values)}, expected a list")
    return tuple(cast(Sequence[Any], values))


def number(name: str, value: object) -> float:
    """`value` as a float; TypeError where it is no real number."""
    if not is_number(value):
        raise TypeError(f"{name} is {shown(value)}, expected a number")
    return float(cast(float, value))


def positive_number(name: str, value: object) -> float:
    """`value` as a float; ValueError where it is not positive and finite."""
    if not 0 < (found := number(name, value)) < math.inf:
        raise ValueError(f"{name} is {value}, expected a positive finite number")
    return found


def numbers(name: str, values: object) -> np.ndarray:
    """`values` as an array of doubles, whatever kind of real numbers they are; TypeError where they are none."""
    try:
        found = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is {shown(values)}, expected a list of numbers") from error
    if isinstance(values, np.ma.MaskedArray) or found.dtype.kind not in "iuf":
        raise TypeError(f"{name} is {shown(values)}, expected a list of numbers")
    return found.astype(float)


def random_generator(seed: object) -> np.random.Generator:
    """The generator of this seed; ValueError where it is no whole number of at least 0."""
    return np.random.default_rng(whole_number("seed", seed, 0))


def refuse_too_large(name: str, shape: tuple[int, ...], remedy: str) -> None:
    """Raise MemoryError if an array of doubles of this shape is larger than the machine's memory."""
    needed = 8 * math.prod(int(size) for size in shape)
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > available:
        gibibytes = f"{needed / 2**30:.1f}" if needed < 2**100 else "more than 1e20"
        raise MemoryError(
            f"{name}: {' x '.join(map(shown, shape))} numbers need {gibibytes} GiB, "
            f"more than this machine's {available / 2**30:.1f} GiB; {remedy}"
        )


def _kind(annotation: Any) -> Kind | None:
    """None where nothing is asked."""
    if annotation in (Any, object, inspect.Parameter.empty):
        return None
    if isinstance(annotation, TypeVar):
        return _kind(annotation.__bound__) if annotation.__bound__ else None
    origin = typing.get_origin(annotation)
    if origin in (Union, types.UnionType):
        return _one_of(typing.get_args(annotation))
    simple = _SIMPLE.get(origin or annotation)
    if simple is not None:
        return simple
    if origin is Literal:
        return _SIMPLE[str]  # which one is judged with the others
    if annotation is int:
        return None  # whole numbers are judged with their bounds
    if isinstance(annotation, type) and annotation.__module__.partition(".")[0] in CHECKED_PACKAGES:
        return f"a {annotation.__name__}", lambda value: isinstance(value, annotation)
    return None


def _asks_for_float(annotation: Any) -> bool:
    return annotation is float or float in typing.get_args(annotation)


def _one_of(members: Sequence[Any]) -> Kind | None:
    if np.ndarray in members:
        return None
    if float in members:  # the arrays beside it are numbers that may be traced
        members = [m for m in members if not (isinstance(m, type) and issubclass(m, jaxtyping.AbstractArray))]
    kinds = [_kind(member) for member in members]
    found = [kind for kind in kinds if kind is not None]
    if len(found) < len(kinds):
        return None
    words = " or ".join(dict.fromkeys(words for words, _ in found))
    return words, lambda value: any(fits(value) for _, fits in found)


def _is_iterable(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping | set) and _has_axis(value)


def _has_axis(value: object) -> bool:
    return getattr(value, "shape", (1,)) != ()


def _is_sequence(value: object) -> bool:
    return _is_iterable(value) and isinstance(value, Sized) and not isinstance(value, Iterator)


_SIMPLE: dict[Any, Kind] = {
    float: ("a number", is_number),
    bool: ("True or False", lambda value: isinstance(value, bool | np.bool_)),
    str: ("a text", lambda value: isinstance(value, str)),
    type(None): ("None", lambda value: value is None),
    Callable: ("a function", callable),
    Mapping: ("a mapping", lambda value: isinstance(value, Mapping)),
    Iterable: ("a list", _is_iterable),
    Sequence: ("a list", _is_sequence),
    list: ("a list", _is_sequence),
    tuple: ("a tuple", _is_sequence),
}
