"""Computing units through an executor: what a worker does, the pool of workers, and their results as they come."""

import importlib
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from .cache import UnitCache, encoded, storable
from .plan import Unit
from .sources import Sources

# Several workers of several threads each would fight for the cores.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}

T = TypeVar("T")


@dataclass(frozen=True)
class Order:
    """All that a worker, here or on another machine with the same files, needs to compute and store a unit.

    `parameters` are pickled, for their class can be found only once `root` is on the path.
    """

    root: str
    module: str
    parameters: bytes
    data_dir: Path | None
    initializer: Callable[[], object] | None
    cache: UnitCache
    entry: str
    sources: Sources


@dataclass(frozen=True)
class Stored:
    """The unit is in the cache; its computation took this time."""

    seconds: float


@dataclass(frozen=True)
class Raised:
    """An error in one line, and its traceback where it was raised."""

    error: str
    traceback: str

    @classmethod
    def by(cls, error: BaseException) -> "Raised":
        """The record of an exception."""
        message = " ".join(str(error).split())
        line = f"{type(error).__name__}: {message}" if message else type(error).__name__
        return cls(line, "".join(traceback.format_exception(error)))


Outcome = Stored | Raised


def compute_unit(order: Order) -> Outcome:
    """Compute a unit and store it. What is raised comes back as a record: not every exception survives pickling."""
    try:
        if order.root not in sys.path:
            sys.path.insert(0, order.root)
        if order.initializer is not None:
            order.initializer()
        figure = importlib.import_module(order.module).FIGURE
        parameters = pickle.loads(order.parameters)
        start = time.perf_counter()
        arrays = storable(figure.data(parameters, order.data_dir), figure.allow_nonfinite)
        seconds = time.perf_counter() - start
        changed = order.sources.changed()
        if changed:  # the name of the entry no longer says what it was computed from
            raise RuntimeError(f"{', '.join(changed)} changed while the unit was computed; run again")
        order.cache.write(order.entry, encoded(arrays))
        return Stored(seconds)
    except (Exception, SystemExit) as error:
        return Raised.by(error)


@dataclass(frozen=True)
class Job:
    """A unit, and the order to compute it."""

    unit: Unit
    order: Order


class InProcess(Executor):
    """Runs each call at once, in this process."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """The finished call. An exception passes through, for `compute_unit` lets out no other than Ctrl-C."""
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@contextmanager
def workers(jobs: int) -> Iterator[Executor]:
    """An executor of `jobs` fresh processes, one thread each for linear algebra; this process if `jobs` is 1.

    Left by an exception, Ctrl-C for one, it kills them at once.
    """
    if jobs == 1:
        yield InProcess()
    else:
        with process_pool(jobs) as pool:
            yield pool


@contextmanager
def process_pool(count: int) -> Iterator[Executor]:
    """The same, always of fresh processes: spawned, never forked, for JAX does not survive a fork."""
    others = set(multiprocessing.active_children())
    spawn = multiprocessing.get_context("spawn")
    with _environment(ONE_THREAD), ProcessPoolExecutor(count, spawn, initializer=_start_worker) as pool:
        try:
            yield pool
        except BaseException:
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
            raise


@contextmanager
def _environment(defaults: Mapping[str, str]) -> Iterator[None]:
    """Set variables that are not set, for the processes started meanwhile."""
    added = [name for name in defaults if name not in os.environ]
    os.environ.update({name: defaults[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def outcomes(
    waiting: deque[Job], executor: Executor, at_once: int, started: Callable[[Job], None]
) -> Generator[tuple[Job, Outcome | None], None, None]:
    """Takes jobs from `waiting` and gives them with their outcomes as they finish, `at_once` handed over at a time.

    None: the executor broke down before the job was done, through this job or another. No more are handed over
    then; the rest stays in `waiting`. Closing the iterator cancels what has not started.
    """
    running: dict[Future[Outcome], Job] = {}
    finished: queue.SimpleQueue[Future[Outcome]] = queue.SimpleQueue()
    broken = False
    try:
        while running or (waiting and not broken):
            while waiting and not broken and len(running) < at_once:
                started(waiting[0])
                try:
                    future = executor.submit(compute_unit, waiting[0].order)
                except BrokenExecutor:
                    broken = True
                else:
                    running[future] = waiting.popleft()
                    future.add_done_callback(finished.put)
            if running:
                future = finished.get()
                outcome = _outcome(future)
                broken = broken or outcome is None
                yield running.pop(future), outcome
    finally:
        for future in running:
            future.cancel()


def _outcome(future: Future[Outcome]) -> Outcome | None:
    """What a finished future came to. `compute_unit` raises nothing: an exception is the executor's own."""
    if future.cancelled() or isinstance(error := future.exception(), BrokenExecutor):
        return None
    return future.result() if error is None else Raised.by(error)
