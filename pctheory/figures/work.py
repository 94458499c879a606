"""Computing one unit, wherever that is: what a worker is sent, what it does, and what it answers."""

import importlib
import pickle
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..processes import Raised, drop_compiled_code, time_limit
from .cache import UnitCache, encoded, storable
from .sources import Sources


@dataclass(frozen=True)
class Order:
    """All that a worker, here or on another machine with the same files, needs to compute and store a unit.

    `parameters` are pickled, for their class can be found only once `root` is on the path. A worker that takes
    longer than `limit` seconds ends itself (see `processes.time_limit`).
    """

    root: str
    module: str
    parameters: bytes
    data_dir: Path | None
    initializer: Callable[[], object] | None
    cache: UnitCache
    entry: str
    sources: Sources
    limit: float | None = None


@dataclass(frozen=True)
class Stored:
    """The unit is in the cache; its computation took this time."""

    seconds: float


def compute_unit(order: Order) -> Stored | Raised:
    """Compute a unit and store it. What is raised comes back as a record: not every exception survives pickling."""
    try:
        if order.root not in sys.path:
            sys.path.insert(0, order.root)
        if order.initializer is not None:
            order.initializer()
        figure = importlib.import_module(order.module).FIGURE
        parameters = pickle.loads(order.parameters)
        start = time.perf_counter()
        with time_limit(order.limit):
            arrays = storable(figure.data(parameters, order.data_dir), figure.allow_nonfinite)
        seconds = time.perf_counter() - start
        changed = order.sources.changed()
        if changed:  # the name of the entry no longer says what it was computed from
            raise RuntimeError(f"{', '.join(changed)} changed while the unit was computed; run again")
        order.cache.write(order.entry, encoded(arrays))
        drop_compiled_code()
        return Stored(seconds)
    except (Exception, SystemExit) as error:
        return Raised.by(error)
