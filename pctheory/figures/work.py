"""Computing one unit, wherever that is: what a worker is sent, what it does, and what it answers."""

import importlib
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..processes import drop_compiled_code, time_limit
from .cache import encoded, storable


@dataclass(frozen=True)
class Order:
    """All that a worker which can import the figure's `module` needs to compute a unit.

    `parameters` are pickled: their class is found only where that module is. A worker that takes longer than
    `limit` seconds ends itself (see `processes.time_limit`).
    """

    module: str
    parameters: bytes
    data_dir: Path | None
    initializer: Callable[[], object] | None
    limit: float | None = None


@dataclass(frozen=True)
class Computed:
    """The arrays of a unit as the payload of its cache entry; their computation took this time."""

    payload: bytes
    seconds: float


def compute_unit(order: Order) -> Computed:
    """Compute a unit. Raises: what its figure does, and ValueError, TypeError for arrays that cannot be stored."""
    if order.initializer is not None:
        order.initializer()
    figure = importlib.import_module(order.module).FIGURE
    parameters = pickle.loads(order.parameters)
    start = time.perf_counter()
    with time_limit(order.limit):
        arrays = storable(figure.data(parameters, order.data_dir), figure.allow_nonfinite)
    seconds = time.perf_counter() - start
    payload = encoded(arrays)
    drop_compiled_code()
    return Computed(payload, seconds)
