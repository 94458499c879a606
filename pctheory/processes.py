"""Work in processes of its own: fresh workers, results as they come, nothing lost when one of them dies or hangs.

Defined here
    Job, finished_here, outcomes   calls, made by the workers of this machine or by any executor
    Raised, LOST                   what comes back where no result does
    workers, process_pool          executors of fresh processes
    one_thread                     settings without which JAX and LAPACK get in each other's way
    drop_compiled_code             before a process runs out of memory maps
"""

import faulthandler
import multiprocessing
import os
import queue
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, MutableMapping
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

W = TypeVar("W")
T = TypeVar("T")


@dataclass(frozen=True)
class Job(Generic[W]):
    """A call that a worker makes, and what it is for. Function and arguments can be pickled."""

    what: W
    call: Callable[..., Any]
    arguments: tuple[Any, ...]


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


LOST = Raised("the worker died: killed by the system (out of memory?), crashed, or past its time limit", "")


def finished_here(
    jobs: deque[Job[W]], count: int, started: Callable[[Job[W]], None], *, ahead: int = 2
) -> Generator[tuple[Job[W], Any], None, None]:
    """All jobs, taken from `jobs`, with their results or `Raised`, as `count` processes here finish them.

    A worker that dies takes with it what the others were doing: each of those jobs is tried once more, alone in a
    fresh process, where it can harm only itself; `LOST` is what comes of it if it dies again. `ahead`: how many
    jobs are handed over for each worker. With one process it is this one.
    """
    at_once = 1 if count == 1 else ahead * count
    while jobs:
        lost = []
        with workers(count) as pool, closing(outcomes(jobs, pool, at_once, started)) as done:
            for job, outcome in done:
                if outcome is None:
                    lost.append(job)
                else:
                    yield job, outcome
        for job in lost:
            with process_pool(1) as pool, closing(outcomes(deque([job]), pool, 1, started)) as done:
                for _, outcome in done:
                    yield job, LOST if outcome is None else outcome


def outcomes(
    waiting: deque[Job[W]], executor: Executor, at_once: int, started: Callable[[Job[W]], None]
) -> Generator[tuple[Job[W], Any], None, None]:
    """Takes jobs from `waiting` and gives them with their results as they finish, `at_once` handed over at a time.

    None: the executor broke down before the job was done, through this job or another. No more are handed over
    then; the rest stays in `waiting`. Closing the iterator cancels what has not started.
    """
    running: dict[Future[Any], Job[W]] = {}
    finished: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
    broken = False
    try:
        while running or (waiting and not broken):
            while waiting and not broken and len(running) < at_once:
                started(waiting[0])
                try:
                    future = executor.submit(waiting[0].call, *waiting[0].arguments)
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


def _outcome(future: Future[Any]) -> Any:
    """What a finished future came to."""
    if future.cancelled() or isinstance(error := future.exception(), BrokenExecutor):
        return None
    return future.result() if error is None else Raised.by(error)


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """End this process, with the traceback of every thread on stderr, if the body takes longer; None: no limit.

    From a thread of C, so that a deadlock in compiled code does not stop it. Only in a worker: elsewhere it would
    end the whole program.
    """
    if seconds is None or multiprocessing.parent_process() is None:
        yield
        return
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or sys.stderr)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


class InProcess(Executor):
    """Runs each call at once, in this process."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """The finished call. An exception that is no `Exception`, Ctrl-C for one, passes through."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
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
    with _environment(), ProcessPoolExecutor(count, spawn, initializer=_start_worker) as pool:
        try:
            yield pool
        except BaseException:
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
            raise


# Several workers of several threads each would fight for the cores.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    # The size of XLA's pool. With two threads it can wait for itself for ever, in batched linear algebra under
    # `vmap`, with asynchronous dispatch or without: at the first call or after some, never in 340 with one thread.
    "NPROC": "1",
}


def one_thread(environment: MutableMapping[str, str]) -> None:
    """One thread for the linear algebra of JAX and LAPACK, unless the environment says otherwise already.

    Both are read when JAX and NumPy start.
    """
    for name, value in ONE_THREAD.items():
        environment.setdefault(name, value)


@contextmanager
def _environment() -> Iterator[None]:
    """`one_thread` for the processes started meanwhile."""
    before = dict(os.environ)
    one_thread(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def drop_compiled_code(*, above: int = 20_000) -> None:
    """Forget what JAX has compiled, if this process has more than `above` memory maps; nothing outside Linux.

    A compiled function takes some of the 65,530 maps that Linux grants a process, a large one hundreds; past that
    the process crashes.
    """
    maps = Path("/proc/self/maps")
    if "jax" in sys.modules and maps.exists() and maps.read_bytes().count(b"\n") > above:
        sys.modules["jax"].clear_caches()
