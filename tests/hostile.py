"""Hostile input, and what a call may answer to it: an error that is documented, or a number that is right.

Defined here
    JUNK, hostile        values that are not what was asked for, and damaged versions of one that is
    Fuzz                 calls a target, judges what came of it, and keeps the smallest input of each defect
    judged_error         whether an error is one line that pctheory itself raised and that names an argument
    run_suite            the main function of `python -m tests.test_fuzz_...`: a fresh process without shape checks

A target is tried in a process of its own, where neither beartype nor pytest stands in front of the library.
"""

import faulthandler
import functools
import hashlib
import importlib
import json
import os
import pkgutil
import random
import re
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import equinox as eqx
import hypothesis
import jax
import numpy as np
import scipy.sparse
from hypothesis import strategies as st

PACKAGE = Path(__file__).parents[1] / "pctheory"
DOCUMENTED = (TypeError, ValueError, FloatingPointError, MemoryError)  # themselves, not what derives from them
LONGEST_MESSAGE = 700
FOLDER = "a\nfolder"  # a path that was given stands in errors as it is; the command line makes one line of it
SECONDS = 60.0  # of processor time for one input, compiling included: ten times what the slowest target takes
STATE = ("x64", "warnings", "errstate", "folder", "environ", "path", "random", "numpy random", "backend")
ROUND = 25  # examples
HANGS_AFTER = 600  # seconds on the clock: a hang in compiled code ends the process, with its traceback


class MineError(Exception):
    """Raised by hostile functions: it must come out as it is."""


class LikeATable:
    """Looks like a DataFrame: an array only to those who ask."""

    shape = (3, 2)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise MineError("not convertible")


def raising(*args: Any, **kwargs: Any) -> Any:
    raise MineError("on purpose")


def returning_none(*args: Any, **kwargs: Any) -> Any:
    return None


def returning_text(*args: Any, **kwargs: Any) -> Any:
    return "junk"


def returning_nan(*args: Any, **kwargs: Any) -> Any:
    return np.nan


def returning_array(*args: Any, **kwargs: Any) -> Any:
    return jax.numpy.ones((2, 3))


class Anything:
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Of any arguments."""


HUGE = 2**62  # more than any machine holds: refused before anything is allocated
# Made anew for each input, as some can be used up.
JUNK: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "empty text": lambda: "",
    "text": lambda: "junk",
    "text of two lines": lambda: "two\nlines",
    "a lone surrogate": lambda: "\udcff",
    "bytes": lambda: b"\xff\x00",
    "0": lambda: 0,
    "-1": lambda: -1,
    "3": lambda: 3,
    "1.5": lambda: 1.5,
    "nan": lambda: np.nan,
    "inf": lambda: np.inf,
    "-inf": lambda: -np.inf,
    "1e300": lambda: 1e300,
    "-1e300": lambda: -1e300,
    "1e-300": lambda: 1e-300,
    "5e-324": lambda: 5e-324,
    "-0.0": lambda: -0.0,
    repr(HUGE): lambda: HUGE,
    "2**64": lambda: 2**64,
    "10**400": lambda: 10**400,
    "10**5000": lambda: 10**5000,
    "complex": lambda: 1j,
    "Fraction": lambda: Fraction(1, 3),
    "Decimal": lambda: Decimal("0.1"),
    "numpy float32": lambda: np.float32(1.5),
    "numpy int8": lambda: np.int8(3),
    "numpy text": lambda: np.str_("x"),
    "numpy date": lambda: np.datetime64("2020-01-01"),
    "array of no axes": lambda: np.array(2.0),
    "array of no axes, nan": lambda: np.array(np.nan),
    "object": object,
    "a class": lambda: Anything,
    "a function": lambda: raising,
    "empty list": list,
    "empty tuple": tuple,
    "ragged list": lambda: [[1.0], [1.0, 2.0]],
    "list of None": lambda: [None, None],
    "list of texts": lambda: ["a", "b"],
    "list of lists": lambda: [[1.0, 2.0], [3.0, 4.0]],
    "list in itself": lambda: functools.reduce(lambda a, _: [a], range(200), 1.0),
    "empty dict": dict,
    "dict": lambda: {"a": 1.0},
    "dict of numbers": lambda: {1: 2},
    "set": lambda: {1.0, 2.0},
    "generator": lambda: (v for v in (1.0, 2.0)),
    "range": lambda: range(3),
    "memoryview": lambda: memoryview(b"abcdefgh"),
    "sparse": lambda: scipy.sparse.eye(3, format="csr"),
    "masked": lambda: np.ma.masked_array(np.ones((3, 2)), mask=np.eye(3, 2)),
    "matrix": lambda: np.asmatrix(np.ones((3, 2))),
    "table": LikeATable,
    "structured": lambda: np.zeros(3, dtype=[("a", float), ("b", int)]),
    "array of objects": lambda: np.array([object(), None]),
    "array of texts": lambda: np.array(["a", "b"]),
    "array of dates": lambda: np.array(["2020-01-01"], dtype="datetime64[D]"),
    "complex array": lambda: np.ones((3, 2), complex),
    "path": lambda: Path("/no/such/place"),
    "a key": lambda: jax.random.key(0),
}
FUNCTIONS = (raising, returning_none, returning_text, returning_nan, returning_array)
NUMBERS = (0.0, -0.0, -1.0, 1e-300, 5e-324, 1e300, -1e300, 1e150, 1e-150, np.nan, np.inf, -np.inf, 1e16, 0.5, 2.5)
COUNTS = (0, -1, 1, 2, 3, 5, True, 2.0, 2.5, -(2**63), 2**70, 10**400, np.int64(2), np.uint8(2), "2", None)
TYPES = (int, bool, np.float16, np.float32, complex, object, str, ">f8", np.longdouble)


def damaged_arrays(array: np.ndarray) -> dict[str, Callable[[], Any]]:
    """What an array may be turned into."""
    flat = np.ravel(array)

    def with_entry(value: float) -> np.ndarray:
        changed = np.array(array)
        changed[(-1,) * changed.ndim] = value
        return changed

    made: dict[str, Callable[[], Any]] = {
        "one axis more": lambda: array[None],
        "one axis less": lambda: array[0] if array.ndim else array,
        "flat": lambda: flat,
        "transposed": lambda: array.T,
        "doubled": lambda: np.concatenate([array, array]) if array.ndim else array,
        "one row": lambda: array[:1] if array.ndim else array,
        "no rows": lambda: array[:0] if array.ndim else array,
        "no columns": lambda: array[..., :0] if array.ndim else array,
        "one column more": lambda: np.concatenate([array, array[..., :1]], axis=-1) if array.ndim else array,
        "many axes": lambda: array.reshape((1,) * 33 + array.shape),
        "list": array.tolist,
        "sparse": lambda: scipy.sparse.csr_matrix(np.atleast_2d(array)) if array.ndim < 3 else array,
        "masked": lambda: np.ma.masked_array(array, mask=np.ones(array.shape, bool)),
        "zeros": lambda: np.zeros_like(array),
    }
    made |= {f"entry {value}": functools.partial(with_entry, value) for value in NUMBERS}
    made |= {f"times {size}": lambda size=size: array * size for size in (1e-320, 1e-160, 1e-8, 1e8, 1e153, 1e305)}
    made |= {f"as {np.dtype(t)}": lambda t=t: array.astype(t) for t in TYPES}
    return made


@st.composite
def hostile(draw: st.DrawFn, value: Any, *, huge: bool = True) -> tuple[str, Any]:
    """A value that may stand in place of `value`, and its name. `huge`: counts that cannot be met are refused."""
    made: dict[str, Callable[[], Any]]
    if draw(st.integers(0, 2)) == 0:
        made = JUNK if huge else {name: junk for name, junk in JUNK.items() if name != repr(HUGE)}
    elif isinstance(value, np.ndarray):
        made = damaged_arrays(value)
    elif isinstance(value, bool) or value is None or isinstance(value, str):
        made = JUNK
    elif isinstance(value, int):
        counts = (*COUNTS, HUGE) if huge else COUNTS
        made = {repr(c) if not isinstance(c, int) or c < 2**80 else "10**400": lambda c=c: c for c in counts}
    elif isinstance(value, float):
        if draw(st.booleans()):
            drawn = draw(st.floats())
            return repr(drawn), drawn
        made = {repr(n): lambda n=n: n for n in NUMBERS}
    elif type(value) in (list, tuple) and value:
        return draw(damaged_lists(value, huge=huge))
    elif isinstance(value, dict) and value:
        key = draw(st.sampled_from(sorted(value)))
        name, other = draw(hostile(value[key], huge=huge))
        return f"{key}: {name}", value | {key: other}
    elif callable(value):
        made = {function.__name__: lambda f=function: f for function in FUNCTIONS}
    else:
        made = JUNK
    name = draw(st.sampled_from(sorted(made)))
    return name, made[name]()


@st.composite
def damaged_lists(draw: st.DrawFn, value: Sequence[Any], *, huge: bool) -> tuple[str, Any]:
    """One entry replaced, left out or added, or the list in another form."""
    kind = type(value)
    at = draw(st.integers(0, len(value) - 1))
    what = draw(st.sampled_from(("entry", "entry", "entry", "shorter", "longer", "empty", "reversed", "generator")))
    if what == "entry":
        name, other = draw(hostile(value[at], huge=huge))
        return f"[{at}] {name}", kind([*value[:at], other, *value[at + 1 :]])
    forms: dict[str, Callable[[], Any]] = {
        "shorter": lambda: kind([*value[:at], *value[at + 1 :]]),
        "longer": lambda: kind([*value, value[at]]),
        "empty": kind,
        "reversed": lambda: kind(value[::-1]),
        "generator": lambda: iter(value),
    }
    return what, forms[what]()


@dataclass
class Defect:
    """What a target should not have done, where, and the smallest input that made it do so."""

    target: str
    what: str
    where: str
    input: str
    count: int = 1


@dataclass
class Fuzz:
    """Inputs by target, and the defects found."""

    inputs: dict[str, int] = field(default_factory=dict)
    defects: dict[tuple[str, str, str], Defect] = field(default_factory=dict)

    def note(self, target: str, what: str, where: str, given: str) -> None:
        """Keep a defect, or the smaller input of one that is known."""
        key = (target, re.sub(r"[0-9.]+|0x\w+", "#", what)[:80], where)
        known = self.defects.get(key)
        if known is None:
            self.defects[key] = Defect(target, what, where, given)
            return
        known.count += 1
        if len(given) < len(known.input):
            known.what, known.input = what, given

    def call(
        self,
        target: str,
        call: Callable[[], Any],
        given: str,
        *,
        names: Sequence[str],
        also: tuple[type[BaseException], ...] = (),
        state: Sequence[str] = STATE,
    ) -> Any:
        """What `call` returns, or the error it raised; every defect on the way is noted.

        names: of which an error must name one. also: errors documented beside the usual ones. state: what must not
        change.
        """
        self.inputs[target] = self.inputs.get(target, 0) + 1
        before = global_state()
        faulthandler.dump_traceback_later(HANGS_AFTER, exit=True)
        start = time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                result = call()
                jax.block_until_ready([leaf for leaf in jax.tree.leaves(result) if isinstance(leaf, jax.Array)])
        except (Exception, SystemExit) as error:
            result = error
            if problem := judged_error(error, names, also):
                self.note(target, problem, place(error), given)
        finally:
            faulthandler.cancel_dump_traceback_later()
        if (spent := time.process_time() - start) > SECONDS:
            self.note(target, f"took {spent:.0f} s of processor time", "", given)
        after = global_state()
        if changed := [name for name in state if before[name] != after[name]]:
            self.note(target, f"changed the global state: {', '.join(changed)}", "", given)
        return result


def judged_error(error: BaseException, names: Sequence[str], also: tuple[type[BaseException], ...]) -> str | None:
    """What is wrong with an error: None if it is documented, in one line, names an argument and is pctheory's."""
    text = str(error).replace(FOLDER, "a folder")
    what = f"{type(error).__name__}: {text[:200]!r}"
    if isinstance(error, MineError):
        return None
    if type(error) not in (*DOCUMENTED, *also):
        return f"not documented: {what}"
    if PACKAGE not in Path(traceback.extract_tb(error.__traceback__)[-1].filename).parents:
        return f"not raised by pctheory: {what}"
    if "\n" in text or not text or len(text) > LONGEST_MESSAGE:
        return f"not one line: {what}"
    if not any(re.search(rf"(?<![\w]){re.escape(name)}(?![\w])", text) for name in names):
        return f"names no argument: {what}"
    if re.search(r"Traced|jaxlib|XLA|PyTreeDef", text):
        return f"speaks of the inside of JAX: {what}"
    return None


def place(error: BaseException) -> str:
    """The last line of pctheory that an error passed, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    door = PACKAGE / "arguments.py"
    ours = [f for f in frames if PACKAGE in Path(f.filename).parents and Path(f.filename) != door]
    last = ours[-1] if ours else frames[-1]
    return f"{Path(last.filename).name}:{last.lineno} {last.name}"


def global_state() -> dict[str, Any]:
    """What no call may change."""
    pyplot = sys.modules.get("matplotlib")
    return {
        "x64": jax.config.jax_enable_x64,
        "warnings": list(warnings.filters),
        "errstate": np.geterr(),
        "folder": str(Path.cwd()),
        "environ": dict(os.environ),
        "path": list(sys.path),
        "random": hashlib.sha256(repr(random.getstate()).encode()).hexdigest(),
        "numpy random": hashlib.sha256(np.random.get_state()[1].tobytes()).hexdigest(),
        "backend": pyplot.rcParams._get_backend_or_none() if pyplot else None,
    }


def numbers_in(value: Any, depth: int = 0) -> Iterator[np.ndarray]:
    """Every array and number of a result, through dataclasses, lists and mappings."""
    if depth > 6 or (callable(value) and not is_dataclass(value)):
        return
    if isinstance(value, int) and abs(value) > 2**62:
        return
    if isinstance(value, int | float | complex | np.ndarray | np.generic | jax.Array):
        array = np.asarray(value)
        if array.dtype.kind in "biufc":
            yield array
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from numbers_in(item, depth + 1)
    elif is_dataclass(value):
        for one in fields(value):
            yield from numbers_in(getattr(value, one.name), depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from numbers_in(item, depth + 1)


def frozen(value: Any) -> Any:
    """The bytes of every NumPy array in arguments."""
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape, value.tobytes() if value.dtype != object else repr(value)
    if isinstance(value, list | tuple):
        return [frozen(item) for item in value]
    if isinstance(value, dict):
        return {key: frozen(item) for key, item in value.items()}
    return None


def shown(arguments: Mapping[str, Any]) -> str:
    """Arguments on one line."""
    text = ", ".join(f"{name}={_short(value)}" for name, value in arguments.items())
    return " ".join(text.split())[:600]


def _short(value: Any) -> str:
    if isinstance(value, eqx.Module):  # writing a network out takes longer than most calls
        return f"<{type(value).__name__}>"
    if isinstance(value, np.ndarray) and value.size > 4:
        return f"<{value.dtype} {value.shape}>"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_short(item) for item in value)}]"[:120]
    if isinstance(value, int) and abs(value) > 10**80:
        return "<a number beyond 1e80>"
    try:
        return f"<{type(value).__name__}>" if len(text := repr(value)) > 80 else text
    except Exception:
        return f"<{type(value).__name__}>"


def driven(body: Callable[[st.DataObject], None], examples: int, seed: int | None) -> None:
    """Have hypothesis draw this many inputs; the body keeps its own account, so that all defects are found."""

    @hypothesis.settings(
        max_examples=examples,
        derandomize=seed is None,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(st.data())
    def test(data: st.DataObject) -> None:
        body(data)

    (test if seed is None else hypothesis.seed(seed)(test))()


def run_suite(suite: Callable[[Fuzz, int, int | None, Sequence[str]], None], arguments: Sequence[str]) -> None:
    """`EXAMPLES [SEED|-] [TARGET...]`: examples for each target; prints inputs and defects as a line of JSON.

    With a seed, in rounds of all targets, each with a seed of its own and a line after it: the last one counts.
    """
    for module in pkgutil.walk_packages([str(PACKAGE)], "pctheory."):  # all of one state of the code
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    examples, seed, *only = [*arguments, *["-"][: 2 - len(arguments)]]
    fuzz, left, number = Fuzz(), int(examples), 0
    while left > 0:
        count = left if seed == "-" else min(left, ROUND)
        suite(fuzz, count, None if seed == "-" else 1000 * int(seed) + number, only)
        left, number = left - count, number + 1
        defects = sorted(fuzz.defects.values(), key=lambda defect: (defect.what, defect.target))
        print(json.dumps({"inputs": fuzz.inputs, "defects": [asdict(d) for d in defects]}), flush=True)
