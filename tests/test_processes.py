"""Work in processes of its own: nothing is lost when a worker dies or hangs."""

import importlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pctheory.compiled_code import STORE
from pctheory.processes import (
    BROKEN,
    LOST,
    InProcess,
    Job,
    Raised,
    Sealed,
    enable_x64,
    finished_by,
    finished_here,
    one_thread,
    process_pool,
    refuse_limits,
    time_limit,
    work_through,
)


def square(number: int) -> int:
    if number < 0:
        raise ValueError(f"number is {number}")
    return number**2


def dies_once(number: int, mark: Path) -> int:
    if not mark.exists():
        mark.touch()
        os._exit(9)
    return number**2


def hangs(number: int) -> int:
    with time_limit(0.5):
        time.sleep(600)
    return number


def thread_settings(name: str) -> str:
    return os.environ[name]


def came_of(jobs: list[Job[int]], count: int) -> dict[int, object]:
    started: list[int] = []
    found = {
        job.what: outcome for job, outcome in finished_here(deque(jobs), count, lambda j: started.append(j.what))
    }
    assert set(started) == set(found)
    return found


@pytest.mark.parametrize("count", [1, 2])
def test_results_and_what_is_raised(count: int):
    found = came_of([Job(n, square, (n,)) for n in (3, -1, 5)], count)
    assert (found[3], found[5]) == (9, 25)
    raised = found[-1]
    assert isinstance(raised, Raised)
    assert raised.error == "ValueError: number is -1"
    assert "in square" in raised.traceback


def test_a_worker_that_dies_takes_nothing_with_it(tmp_path: Path):
    jobs = [Job(n, square, (n,)) for n in range(6)]
    jobs.insert(2, Job(7, dies_once, (7, tmp_path / "mark")))
    assert came_of(jobs, 2) == {n: n**2 for n in (*range(6), 7)}


def test_a_call_past_its_time_limit_is_lost_alone(capfd: pytest.CaptureFixture[str]):
    jobs = [Job(0, hangs, (0,)), *(Job(n, square, (n,)) for n in range(1, 5))]
    assert came_of(jobs, 2) == {0: LOST} | {n: n**2 for n in range(1, 5)}
    assert "in hangs" in capfd.readouterr().err, "where it hung"


def ready_made(jobs: list[Job[int]], ready: Executor) -> dict[int, object]:
    return {job.what: outcome for job, outcome in finished_here(deque(jobs), 2, lambda job: None, ready=ready)}


def leaves_its_name(folder: Path) -> None:
    (folder / str(os.getpid())).touch()


def test_processes_that_run_already_work_once_they_are_warm(tmp_path: Path):
    with process_pool(2, warm_up=partial(leaves_its_name, tmp_path)) as ready:
        found = ready_made([Job(n, os.getpid, ()) for n in range(6)], ready)
    assert set(map(str, found.values())) <= {file.name for file in tmp_path.iterdir()}
    assert len(found) == 6


def test_where_those_die_fresh_ones_go_on(tmp_path: Path):
    jobs = [Job(7, dies_once, (7, tmp_path / "mark")), *(Job(n, square, (n,)) for n in range(6))]
    with process_pool(2) as ready:
        assert ready_made(jobs, ready) == {n: n**2 for n in (*range(6), 7)}


def test_a_warm_up_may_fail():
    with process_pool(1, warm_up=partial(square, -1)) as pool:
        assert pool.submit(square, 3).result() == 9


def watch_the_end_of_jax(file: Path) -> None:
    """JAX tidies up at exit, for seconds where much was compiled: `file` appears if it does."""
    importlib.import_module("jax._src.api").clear_caches = file.touch


def test_workers_end_at_once_and_leave_nothing(tmp_path: Path, monkeypatch, run_python):
    monkeypatch.setenv(STORE, str(tmp_path / "store"))
    by_worker, by_other = tmp_path / "worker", tmp_path / "other"
    with process_pool(1) as pool:
        pool.submit(watch_the_end_of_jax, by_worker).result()
        assert len(list(tmp_path.glob("store/*/.process-*"))) == 1
    assert not list(tmp_path.glob("store/*/.process-*"))
    run_python(
        "from pathlib import Path\nfrom tests.test_processes import watch_the_end_of_jax as watch\n"
        f"import jax\nwatch(Path({str(by_other)!r}))"
    )
    assert (by_worker.exists(), by_other.exists()) == (False, True)


class Numbers:
    """Squares of numbers, as `work_through` is given them."""

    def __init__(self, *numbers: int):
        self.jobs = deque(Job(n, square, (n,)) for n in numbers)
        self.heard: list[object] = []

    def started(self, job: Job[int]) -> None:
        self.heard.append(job.what)

    def finished(self, job: Job[int], outcome: object) -> None:
        self.heard.append((job.what, outcome))


@pytest.mark.parametrize("executor", [None, InProcess()])
def test_kinds_of_work_follow_one_another_and_each_hears_of_its_own(executor: Executor | None):
    kinds = [Numbers(3, -1), Numbers(), Numbers(5)]
    work_through(kinds, executor, 1, ahead=1)
    first, none, last = (kind.heard for kind in kinds)
    assert first[:3] == [3, (3, 9), -1]
    assert isinstance(first[3][1], Raised)
    assert (none, last) == ([], [5, (5, 25)])


class Countdown(Numbers):
    """Each number is followed by the next smaller one."""

    def finished(self, job: Job[int], outcome: object) -> None:
        super().finished(job, outcome)
        if job.what:
            self.jobs.append(Job(job.what - 1, square, (job.what - 1,)))


@pytest.mark.parametrize("executor", [None, InProcess()])
def test_work_that_comes_up_meanwhile_is_next(executor: Executor | None):
    order: list[object] = []
    kinds = [Countdown(2), Numbers(5)]
    for kind in kinds:
        kind.heard = order
    work_through(kinds, executor, 1, ahead=1)
    assert [what for what in order if isinstance(what, int)] == [2, 1, 0, 5]


def test_work_that_comes_of_what_a_cluster_gave_up_is_done_too():
    kind = Countdown(2)
    work_through([kind], Faulty(gives_up=(2,)), 1)
    assert [what for what in kind.heard if isinstance(what, tuple)] == [(2, 4), (1, 1), (0, 0)]


def test_two_processes_share_all_kinds_of_work():
    kinds = [Numbers(0, 1, 2), Numbers(3, 4)]
    work_through(kinds, None, 2)
    heard = [what for kind in kinds for what in kind.heard if isinstance(what, tuple)]
    assert sorted(heard) == [(n, n**2) for n in range(5)]


class KilledWorker(Exception):  # noqa: N818 (as Dask calls it)
    pass


class Faulty(Executor):
    """Gives up some calls at their first submission, or always; breaks down at the call for `breaks`."""

    def __init__(self, gives_up: tuple[int, ...] = (), always: tuple[int, ...] = (), breaks: int | None = None):
        self.gives_up, self.always, self.breaks = [*gives_up], always, breaks
        self.seen: list[int] = []

    def submit(self, fn, /, mark, call, number):
        if number == self.breaks:
            raise RuntimeError("cannot schedule new futures after shutdown")
        self.seen.append(number)
        future: Future = Future()
        if number in self.gives_up or number in self.always:
            self.gives_up = [one for one in self.gives_up if one != number]
            future.set_exception(KilledWorker("task", "worker"))
        else:
            future.set_result(fn(mark, call, number))
        return future


def by(executor: Executor, numbers: range) -> dict[int, object]:
    jobs = deque(Job(n, square, (n,)) for n in numbers)
    return {job.what: outcome for job, outcome in finished_by(executor, jobs, 3, lambda job: None)}


def test_what_a_cluster_gives_up_is_tried_once_more_and_last():
    executor = Faulty(gives_up=(0, 2), always=(3,))
    assert by(executor, range(5)) == {0: 0, 1: 1, 2: 4, 3: LOST, 4: 16}
    assert executor.seen == [0, 1, 2, 3, 4, 0, 2, 3]


def test_what_is_left_when_an_executor_breaks_down():
    assert by(Faulty(gives_up=(0,), breaks=2), range(4)) == {0: 0, 1: 1, 2: BROKEN, 3: BROKEN}


def test_equal_calls_are_marked_apart():
    """Dask gives the old result of an equal call."""
    marks = []

    class Marked(InProcess):
        def submit(self, fn, /, mark, *arguments):
            marks.append(mark)
            return super().submit(fn, mark, *arguments)

    assert by(Marked(), range(3)) == by(Marked(), range(3))
    assert len(set(marks)) == 6


def test_damaged_result_is_refused():
    sealed = Sealed.of("", square, 3)
    assert sealed.opened() == 9
    with pytest.raises(ValueError, match="the result was damaged on its way: its sha256 does not fit; run again"):
        replace(sealed, content=sealed.content[:-1]).opened()


def test_result_that_cannot_be_pickled_is_an_error_of_its_call():
    opened = Sealed.of("", threading.Lock).opened()
    assert opened.error.startswith("TypeError: cannot pickle")


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_bad_limits_are_refused(limit: float):
    refuse_limits(1, None)
    refuse_limits(3, 0.5)
    with pytest.raises(ValueError, match="time_limit: expected a positive number of seconds, got"):
        refuse_limits(1, limit)
    with pytest.raises(ValueError, match="jobs: expected a number of processes, 1 or more, got 0"):
        refuse_limits(0, None)


def test_no_time_limit_ends_a_process_that_is_no_worker():
    with time_limit(0.05):
        time.sleep(0.2)


def test_workers_have_one_thread_each(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NPROC", "4")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    names = ("OPENBLAS_NUM_THREADS", "NPROC")
    outcomes = finished_here(deque(Job(name, thread_settings, (name,)) for name in names), 2, lambda job: None)
    assert {job.what: outcome for job, outcome in outcomes} == {"OPENBLAS_NUM_THREADS": "1", "NPROC": "4"}
    assert "OPENBLAS_NUM_THREADS" not in os.environ, "as it was"


def test_workers_compute_in_double_precision_and_import_jax_only_if_they_must(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(STORE, "")
    monkeypatch.setenv("JAX_ENABLE_X64", "0")
    module, figure = "__import__('sys').modules", "__import__('pctheory.figures').figures.Figure"
    with process_pool(1) as pool:
        pool.submit(enable_x64).result()
        assert pool.submit(eval, f"{figure} and {{'jax', 'matplotlib'}} & set({module})").result() == set()
        assert pool.submit(eval, "__import__('jax').numpy.ones(1).dtype.name").result() == "float64"
        pool.submit(eval, "__import__('jax').config.update('jax_enable_x64', False)").result()
        pool.submit(enable_x64).result()
        assert pool.submit(eval, "__import__('jax').numpy.ones(1).dtype.name").result() == "float64"
    assert os.environ["JAX_ENABLE_X64"] == "0", "as it was"


def test_one_thread_leaves_the_users_choice():
    environment = {"OPENBLAS_NUM_THREADS": "4"}
    one_thread(environment)
    assert environment["OPENBLAS_NUM_THREADS"] == "4"
    assert environment["NPROC"] == "1"


def test_xla_has_one_thread_of_its_own(run_python: Callable[[str], str]):
    """With two it can wait for itself for ever."""
    code = (
        "import os\n"
        "from pctheory.processes import one_thread\n"
        "one_thread(os.environ)\n"
        "import jax.numpy as jnp\n"
        "jnp.ones((64, 64)).dot(jnp.ones((64, 64))).block_until_ready()\n"
        "names = [open(f'/proc/self/task/{t}/comm').read() for t in os.listdir('/proc/self/task')]\n"
        "print(sum('XLAEigen' in name for name in names))\n"
    )
    if not Path("/proc/self/task").exists():
        pytest.skip("threads are counted on Linux only")
    assert int(run_python(code)) == 1


@pytest.mark.parametrize(
    ("count", "given", "left"), [(1, None, None), (2, None, "1"), (2, "2", "2"), (4, None, None)]
)
def test_double_precision_avoids_a_pool_of_two_threads(run_python, count: int, given: str | None, left: str | None):
    """Measured on two cores (JAX 0.10.2): a claim that hung in 2 of 3 runs; with 3 to 8 threads in none of 5."""
    code = (
        "import os, pctheory\n"
        f"os.sched_getaffinity = lambda process: range({count})\n"
        f"os.environ.pop('NPROC', None); os.environ.update({{'NPROC': {given!r}}} if {given!r} else {{}})\n"
        "pctheory.enable_x64()\n"
        "print(os.environ.get('NPROC'))\n"
    )
    assert run_python(code).strip() == str(left)
