"""Work in processes of its own: fresh workers, results as they come, nothing lost when one of them dies or hangs.

Defined here
    Job, finished_here, finished_by, outcomes   calls, made by the workers of this machine or by any executor
    Work, work_through             jobs of several kinds, one kind after another without a pause
    Raised, LOST, BROKEN           what comes back where no result does
    Sealed                         what travels: a result that is believed only whole
    refuse_limits                  what may be asked of workers
    workers, process_pool          executors of fresh processes
    one_thread, avoid_two_threads  settings without which JAX and LAPACK get in each other's way
    enable_x64                     double precision
    cores                          how many there are
    drop_compiled_code             before a process runs out of memory maps
"""

import atexit
import faulthandler
import hashlib
import importlib
import multiprocessing
import os
import pickle
import queue
import secrets
import signal
import sys
import tempfile
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, MutableMapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TextIO, TypeVar, runtime_checkable

from .compiled_code import exchange_compiled_code, share_compiled_code, stop_sharing

W = TypeVar("W")
T = TypeVar("T")


@dataclass(frozen=True)
class Job(Generic[W]):
    """A call that a worker makes, and what it is for. Function, arguments and result can be pickled."""

    what: W
    call: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Raised:
    """An error in one line, and its traceback where it was raised; the line tells two of them apart."""

    error: str
    traceback: str = field(compare=False)

    @classmethod
    def by(cls, error: BaseException) -> "Raised":
        """The record of an exception."""
        message = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(str(error).split()))
        line = f"{type(error).__name__}: {message}" if message else type(error).__name__
        return cls(line, "".join(traceback.format_exception(error)))


LOST = Raised("the worker died: killed by the system (out of memory?), crashed, or past its time limit", "")
BROKEN = Raised("the executor broke down or was shut down before this was done; run again", "")


@dataclass(frozen=True)
class Sealed:
    """A result, or `Raised`, pickled where it was made, with the sha256 of that."""

    content: bytes
    digest: str

    @classmethod
    def of(cls, mark: str, call: Callable[..., Any], *arguments: Any) -> "Sealed":
        """What a call comes to: a worker makes it. Ctrl-C passes through.

        `mark` is another each time: Dask takes equal calls for one, and would give an old result again.
        """
        try:
            content = pickle.dumps(call(*arguments))
        except (Exception, SystemExit) as error:
            content = pickle.dumps(Raised.by(error))
        exchange_compiled_code()
        return cls(content, hashlib.sha256(content).hexdigest())

    def opened(self) -> Any:
        """The result. Raises: ValueError if it was damaged on its way, and what unpickling raises."""
        if hashlib.sha256(self.content).hexdigest() != self.digest:
            raise ValueError("the result was damaged on its way: its sha256 does not fit; run again")
        return pickle.loads(self.content)


def refuse_limits(jobs: int, time_limit: float | None) -> None:
    """Raises ValueError unless there are `jobs` processes to run, of a positive time limit or none."""
    if jobs < 1:
        raise ValueError(f"jobs: expected a number of processes, 1 or more, got {jobs}")
    if time_limit is not None and not time_limit > 0:
        raise ValueError(f"time_limit: expected a positive number of seconds, got {time_limit}")


def finished_here(
    jobs: deque[Job[W]],
    count: int,
    started: Callable[[Job[W]], None],
    *,
    ahead: int = 2,
    ready: Executor | None = None,
) -> Generator[tuple[Job[W], Any], None, None]:
    """All jobs, taken from `jobs`, with their results or `Raised`, as `count` processes here finish them.

    A worker that dies takes with it what the others were doing: each of those jobs is tried once more, alone in a
    fresh process, where it can harm only itself; `LOST` is what comes of it if it dies again. `ahead`: how many
    jobs are handed over for each worker. With one process it is this one, and nothing protects it. `ready`: so many
    processes that run already.
    """
    at_once = 1 if count == 1 else ahead * count
    while jobs:
        lost = []
        fresh, ready = nullcontext(ready) if ready else workers(count), None
        with fresh as pool, closing(outcomes(jobs, pool, at_once, started)) as done:
            for job, outcome in done:
                if outcome is None:
                    lost.append(job)
                else:
                    yield job, outcome
        for job in lost:
            yield job, _alone(job, started)


def _alone(job: Job[W], started: Callable[[Job[W]], None]) -> Any:
    """What a job comes to in a process of its own; `LOST` with what its threads were doing if that dies."""
    with tempfile.TemporaryDirectory() as folder:
        words = Path(folder) / "traceback"
        with process_pool(1, words) as pool, closing(outcomes(deque([job]), pool, 1, started)) as done:
            _, outcome = next(done, (job, None))
        return replace(LOST, traceback=words.read_text(errors="replace")) if outcome is None else outcome


def finished_by(
    executor: Executor, jobs: deque[Job[W]], at_once: int, started: Callable[[Job[W]], None]
) -> Generator[tuple[Job[W], Any], None, None]:
    """All jobs, taken from `jobs`, with their results or `Raised`, as an executor finishes them.

    A job that a cluster gives up, for it has killed workers, is tried once more with no other beside it; `LOST` is
    what comes of it if it is given up again. `BROKEN` is what comes of the rest if the executor breaks down.
    """
    lost: deque[Job[W]] = deque()
    while jobs or lost:
        waiting, handed_over = (jobs, at_once) if jobs else (lost, 1)
        with closing(outcomes(waiting, executor, handed_over, started)) as done:
            for job, outcome in done:
                if outcome is LOST and waiting is jobs:
                    lost.append(job)
                else:
                    yield job, BROKEN if outcome is None else outcome
        while waiting:
            yield waiting.popleft(), BROKEN


def outcomes(
    waiting: deque[Job[W]], executor: Executor, at_once: int, started: Callable[[Job[W]], None]
) -> Generator[tuple[Job[W], Any], None, None]:
    """Takes jobs from `waiting` and gives them with their results as they finish, `at_once` handed over at a time.

    None: the executor broke down before the job was done, through this job or another. No more are handed over
    then; the rest stays in `waiting`. `LOST`: the executor lives on, but not the worker. Closing the iterator
    cancels what has not started.
    """
    running: dict[Future[Any], Job[W]] = {}
    finished: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
    broken = False
    try:
        while running or (waiting and not broken):
            while waiting and not broken and len(running) < at_once:
                started(waiting[0])
                try:
                    future = executor.submit(
                        Sealed.of, secrets.token_hex(8), waiting[0].call, *waiting[0].arguments
                    )
                except (RuntimeError, OSError):  # broken down, shut down, out of reach
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


@runtime_checkable
class Work(Protocol):
    """Jobs of one kind, and what hears of each that it starts and what it came to.

    `jobs` are taken from there; `finished` may put further ones there, which come next.
    """

    jobs: deque[Job[Any]]

    def started(self, job: Job[Any]) -> None:
        """A job was handed over, for the first time or again."""
        ...

    def finished(self, job: Job[Any], outcome: Any) -> None:
        """A job came to this result, or to `Raised`."""
        ...


def work_through(
    kinds: Sequence[Work],
    executor: Executor | None,
    count: int,
    *,
    ahead: int = 2,
    ready: Executor | None = None,
) -> None:
    """All jobs of all kinds, in this order, by an executor with `count` workers or by as many processes here.

    Between two kinds no worker waits. `ahead`: how many jobs are handed over for each worker. `ready`: processes
    here that run already.
    """
    jobs = deque(job for kind in kinds for job in _taken(kind))

    def started(job: Job[tuple[Work, Job[Any]]]) -> None:
        kind, own = job.what
        kind.started(own)

    if executor is None:
        finished = finished_here(jobs, count, started, ahead=ahead, ready=ready)
    else:
        finished = finished_by(executor, jobs, ahead * count, started)
    with closing(finished) as stream:
        for job, outcome in stream:
            kind, own = job.what
            kind.finished(own, outcome)
            jobs.extendleft(reversed(_taken(kind)))


def _taken(kind: Work) -> list[Job[tuple[Work, Job[Any]]]]:
    """The jobs that wait there, each with its kind."""
    taken = [Job((kind, job), job.call, job.arguments) for job in kind.jobs]
    kind.jobs.clear()
    return taken


def _outcome(future: Future[Any]) -> Any:
    """What a finished future came to."""
    if future.cancelled() or isinstance(error := future.exception(), BrokenExecutor):
        return None
    if type(error).__name__ == "KilledWorker":  # of Dask, which need not be installed
        return LOST
    try:
        return future.result().opened()
    except Exception as failure:
        return Raised.by(failure)


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """End this process, with the traceback of every thread on stderr, if the body takes longer; None: no limit.

    From a thread of C, so that a deadlock in compiled code does not stop it. Only in a worker: elsewhere it would
    end the whole program.
    """
    if seconds is None or multiprocessing.parent_process() is None:
        yield
        return
    faulthandler.dump_traceback_later(seconds, exit=True, file=_last_words or sys.__stderr__ or sys.stderr)
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
        share_compiled_code()
        yield InProcess()
    else:
        with process_pool(jobs) as pool:
            yield pool


@contextmanager
def process_pool(
    count: int, last_words: Path | None = None, warm_up: Callable[[], object] = int
) -> Iterator[Executor]:
    """The same, always of fresh processes: spawned, never forked, for JAX does not survive a fork.

    last_words: the file into which a worker that crashes or passes its time limit writes its tracebacks.
    warm_up: what each worker calls first, to import what it will need. It may fail; importable.
    """
    others = set(multiprocessing.active_children())
    spawn = multiprocessing.get_context("spawn")
    pool = partial(ProcessPoolExecutor, count, spawn, _start_worker, (last_words, warm_up))
    with _environment(), _spared() as done, pool() as made:
        try:
            made.submit(int)  # starts all workers
            done()
            yield made
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

# What JAX reads when it is imported. Workers have it set, and so need not import JAX for units that use none.
X64 = "JAX_ENABLE_X64"


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def avoid_two_threads(environment: MutableMapping[str, str]) -> None:
    """One thread in XLA's pool where it would have two, unless the environment has its size (see `ONE_THREAD`)."""
    if cores() == 2:
        environment.setdefault("NPROC", ONE_THREAD["NPROC"])


def enable_x64() -> None:
    """Switch JAX to double precision for this process. Nothing else in pctheory changes a global setting for good.

    On two cores it also sets NPROC=1, unless NPROC is set: a pool of two threads is one in which XLA can wait for
    itself for ever. It must be called before JAX computes anything.
    """
    avoid_two_threads(os.environ)
    if "jax" in sys.modules or os.environ.get(X64) != "1":
        jax = importlib.import_module("jax")  # a process that hands work to others needs none
        jax.config.update("jax_enable_x64", True)


def one_thread(environment: MutableMapping[str, str]) -> None:
    """One thread for the linear algebra of JAX and LAPACK, unless the environment says otherwise already.

    Both are read when JAX and NumPy start.
    """
    for name, value in ONE_THREAD.items():
        environment.setdefault(name, value)


@contextmanager
def _environment() -> Iterator[None]:
    """`one_thread` and double precision for the processes started meanwhile."""
    before = dict(os.environ)
    one_thread(os.environ)
    os.environ[X64] = "1"
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _spared() -> Iterator[Callable[[], object]]:
    """Processes started before the call of what it gives never see Ctrl-C or the end of the terminal.

    They leave it to this process, which sees it after that call.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield lambda: None
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    restore = partial(signal.pthread_sigmask, signal.SIG_SETMASK, before)
    try:
        yield restore
    finally:
        restore()


_last_words: TextIO | None = None


def _start_worker(last_words: Path | None, warm_up: Callable[[], object]) -> None:
    """Leave Ctrl-C to the parent, and end with it, however it ends."""
    global _last_words
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if last_words is not None:
        _last_words = last_words.open("w")
        faulthandler.enable(_last_words)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    share_compiled_code()
    atexit.register(_end_at_once)
    with suppress(Exception):  # what is wrong comes up again where it can be told
        warm_up()


def _end_at_once() -> None:
    """End this process without the seconds in which JAX would drop all it has compiled."""
    stop_sharing()
    os._exit(0)


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
