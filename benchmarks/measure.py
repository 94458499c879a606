"""What every measurement shares: a row of the table, alternating timings, and the machine they were made on.

Timings are wall-clock seconds per call, results waited for. The sides of a comparison run in turn within one
process, in an order that reverses every round, so that a busy machine slows them alike; ratios are taken within
a round. Reported are medians with the quartiles around them.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import jax
import numpy as np

import pctheory
from pctheory import ledger

Times = np.ndarray[tuple[int], np.dtype[np.float64]]
Result = TypeVar("Result")
GIBIBYTE = 2**30


@dataclass(frozen=True)
class Goal:
    """The number a measurement should stay below, or reach."""

    kind: Literal["at most", "at least"]
    limit: float

    def met_by(self, value: float) -> bool:
        """Whether `value` keeps to the goal; NaN does not."""
        return value <= self.limit if self.kind == "at most" else value >= self.limit

    def __str__(self) -> str:
        return f"{self.kind} {self.limit:,g}"


@dataclass(frozen=True)
class Row:
    """One measurement. `spread` is the quartiles, or the 95 % confidence interval of a fitted slope."""

    name: str
    what: str
    value: float
    unit: str = ""
    spread: tuple[float, float] | None = None
    goal: Goal | None = None
    details: Mapping[str, float] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        return None if self.goal is None else self.goal.met_by(self.value)

    def as_json(self) -> dict[str, Any]:
        """The fields, and whether the goal is met."""
        return asdict(self) | {"met": self.met}

    def as_cells(self) -> tuple[str, ...]:
        """The fields as text, in the order of `HEADINGS`."""
        spread = "" if self.spread is None else f"{self.spread[0]:,.3g} to {self.spread[1]:,.3g}"
        verdict = {None: "", True: "met", False: "**missed**"}[self.met]
        details = ", ".join(f"{name} {value:,.3g}" for name, value in self.details.items())
        value = f"{self.value:,.3g} {self.unit}".strip()
        return (self.name, self.what, value, spread, str(self.goal or ""), verdict, details)


HEADINGS = ("name", "what", "value", "spread", "goal", "met", "details")


@dataclass(frozen=True)
class Case:
    """Work for one fresh process: `measured(*sizes, **options)` gives rows."""

    measured: Callable[..., list[Row]]
    sizes: tuple[int | tuple[int, ...], ...]
    options: Mapping[str, int] = field(default_factory=dict)

    def rows(self) -> list[Row]:
        """Run the measurement here."""
        return self.measured(*self.sizes, **self.options)

    def rows_compiled_anew(self) -> list[Row]:
        """The same in double precision, with nothing that another process compiled."""
        pctheory.enable_x64()
        jax.config.update("jax_enable_compilation_cache", False)  # type: ignore[no-untyped-call]
        return self.rows()

    def __str__(self) -> str:
        topic = self.measured.__module__.rpartition(".")[2].replace("_", "-")
        return " ".join([topic, self.measured.__name__.replace("_", " "), *map(str, self.sizes)])


def finished(result: Result) -> Result:
    """`result`, once it is computed: JAX returns before."""
    return jax.block_until_ready(result)  # type: ignore[no-untyped-call]


def seconds(call: Callable[[], Any], repeats: int = 1) -> float:
    """Seconds per call over `repeats` calls in a row, each waited for."""
    start = time.perf_counter()
    for _ in range(repeats):
        finished(call())
    return (time.perf_counter() - start) / repeats


def alternating(calls: Mapping[str, Callable[[], Any]], rounds: int, at_least: float = 0.02) -> dict[str, Times]:
    """Seconds per call, one entry per round. A short call repeats until its sample lasts `at_least` seconds."""
    repeats = {}
    for name, call in calls.items():
        seconds(call)  # compiles
        repeats[name] = max(1, round(at_least / seconds(call)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds):
        for name in list(calls) if turn % 2 else reversed(list(calls)):
            times[name].append(seconds(calls[name], repeats[name]))
    return {name: np.asarray(samples) for name, samples in times.items()}


def quartiles(samples: Times) -> tuple[float, float, float]:
    """The quartiles, the median in the middle."""
    low, middle, high = np.quantile(samples, [0.25, 0.5, 0.75]).tolist()
    return low, middle, high


def milliseconds(times: Mapping[str, Times]) -> dict[str, float]:
    """The medians, labelled with their unit."""
    return {f"{name} (ms)": 1e3 * statistics.median(samples.tolist()) for name, samples in times.items()}


def compared(
    name: str,
    times: Mapping[str, Times],
    one: str,
    other: str,
    *,
    what: str = "",
    goal: Goal | None = None,
    details: Mapping[str, float] = MappingProxyType({}),
) -> Row:
    """The row of the ratio, round by round, of the times of `one` to those of `other`; all medians are details."""
    low, ratio, high = quartiles(times[one] / times[other])
    every = {**milliseconds(times), **details}
    return Row(name, what or f"time / {other}", ratio, spread=(low, high), goal=goal, details=every)


def machine() -> dict[str, Any]:
    """Where and with what the numbers were made."""
    return ledger.machine() | {
        "load average before": os.getloadavg(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "numpy": np.__version__,
        "device": jax.devices()[0].device_kind,
        "settings": {name: os.environ.get(name) for name in SETTINGS},
    }


SETTINGS = (
    "NPROC",
    "XLA_FLAGS",
    "JAX_DISABLE_MOST_OPTIMIZATIONS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
)
