"""Runs of figures that are interrupted or fail: nothing done is lost, and one failure stops nothing else.

Processes and signals are real.
"""

import importlib
import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import matplotlib.pyplot as plt
import numpy as np
import pytest

from pctheory.figures import (
    UnitCached,
    UnitStarted,
    collect_figures,
    run_figures,
)

from .toy_figures import (
    alive,
    checkout,
    drawn_bytes,
    entries,
    kinds,
    run,
    started,
    started_units,
    wait_until,
    worker_pids,
)

# Interrupted


def test_killed_run_resumes_with_only_units_in_flight_recomputed(tmp_path):
    checkout(tmp_path, quick="P(tuple(range(10)), pause=0.3)")
    out = tmp_path / "out"
    with started(tmp_path, out, 2) as process:
        wait_until(lambda: len(entries(out)) >= 3)
        process.kill()  # SIGKILL: nothing can be tidied up
        process.communicate(timeout=30)
    wait_until(lambda: not any(alive(pid) for pid in worker_pids(tmp_path)), 30)
    kept, before = len(entries(out)), len(started_units(tmp_path))
    assert 3 <= kept < 10
    assert before - kept <= 4, "two are handed over for each worker"
    result, events = run(tmp_path, data_dir=tmp_path)
    assert (result.ok, result.cached, result.computed) == (True, kept, 10 - kept)
    assert sum(isinstance(event, UnitCached) for event in events) == kept
    assert len(started_units(tmp_path)) == before + 10 - kept


@pytest.mark.usefixtures("signals_of_a_terminal")
def test_ctrl_c_stops_at_once_keeps_what_is_done_and_leaves_no_worker(tmp_path):
    checkout(tmp_path, quick="P((0, 1, 2, 3, 4, 5), pause=0.2)")
    checkout(tmp_path, name="zoo", key="zoo/slow", quick="P((0, 1), pause=60.0)")
    out = tmp_path / "out"
    with started(tmp_path, out, 2) as process:
        wait_until(lambda: len(entries(out)) == 6 and len(started_units(tmp_path)) == 8)
        for pid in worker_pids(tmp_path):
            os.kill(pid, signal.SIGINT)  # left to the parent
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does: parent and workers get it
        told, complaints = process.communicate(timeout=20)  # the units take 60 seconds
    assert "UnitFailed" not in told
    assert process.returncode == -signal.SIGINT
    assert complaints.count("Traceback") == 1, complaints
    assert not any(alive(pid) for pid in worker_pids(tmp_path))
    assert len(entries(out)) == 6


# What fails


@pytest.mark.parametrize("jobs", [1, 2])
def test_raising_unit_is_recorded_and_stops_nothing(tmp_path, jobs):
    checkout(tmp_path, quick='P((0, 1, 2), fault="raise")')
    checkout(tmp_path, name="zoo", key="zoo/sound")
    result, events = run(tmp_path, jobs=jobs)
    (failure,) = result.failures
    assert not result.ok
    assert (failure.figure, failure.unit, failure.parameters["seeds"]) == ("toy/sample", "seed 1", [1])
    assert failure.error == "ArithmeticError: seed 1 has no answer"
    assert 'raise ArithmeticError("seed 1 has\\nno answer")' in failure.traceback
    assert "toy.py" in failure.traceback
    assert list(result.drawn) == ["zoo/sound"]
    assert result.computed == 5
    assert kinds(events).count("UnitFailed") == 1


def test_dying_worker_takes_no_other_unit_with_it(tmp_path):
    checkout(tmp_path, quick='P((0, 1, 2), fault="die")')
    result, events = run(tmp_path, jobs=2)
    assert [(failure.unit, failure.error) for failure in result.failures] == [
        ("seed 1", "the worker died: killed by the system (out of memory?), crashed, or past its time limit")
    ]
    assert result.computed == 2
    assert len(entries(tmp_path / "out")) == 2
    assert {event.unit for event in events if isinstance(event, UnitStarted)} == {"seed 0", "seed 1", "seed 2"}


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (
            "nan",
            "ValueError: data: array 'values' has 1 non-finite of 50 values, the first nan at (7,); if they have",
        ),
        ("exit", "SystemExit: out"),
        ("edit", "RuntimeError: figures.toy changed while the unit was computed; run again"),
    ],
)
def test_refused_unit(tmp_path, fault, error):
    result, _ = run(checkout(tmp_path, quick=f'P((0, 1), fault="{fault}")'))
    assert [failure.unit for failure in result.failures] == ["seed 1"]
    assert result.failures[0].error.startswith(error)
    assert len(entries(tmp_path / "out")) == 1


def test_nonfinite_values_where_they_have_a_meaning(tmp_path):
    checkout(tmp_path, quick='P((0, 1), fault="nan")')
    file = tmp_path / "figures" / "toy.py"
    file.write_text(file.read_text("utf-8").replace("data=data,", "data=data, allow_nonfinite=True,"), "utf-8")
    result, _ = run(tmp_path)
    with np.load(result.drawn["toy/sample"][2]) as drawn:
        assert np.flatnonzero(np.isnan(drawn["seed 1/values"])).tolist() == [7]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("draw", "ArithmeticError: no ink"),
        ("alter", "ValueError: assignment destination is read-only"),
        ("no figure", "TypeError: draw of toy/sample: must return a matplotlib Figure, got <Axes"),
        ("draw and edit", "RuntimeError: figures.toy changed while the figure was drawn; run again"),
    ],
)
def test_failing_drawing_keeps_the_units_and_closes_its_figure(tmp_path, fault, error):
    open_before = plt.get_fignums()
    result, events = run(checkout(tmp_path, quick=f'P((0,), fault="{fault}")'))
    (failure,) = result.failures
    assert failure.unit is None
    assert failure.error.startswith(error)
    assert kinds(events)[-1] == "FigureFailed"
    assert result.drawn == {}
    assert len(entries(tmp_path / "out")) == 1
    assert plt.get_fignums() == open_before


def test_a_drawing_that_kills_its_process_stops_nothing(tmp_path):
    checkout(tmp_path, quick='P((0,), fault="draw and die")')
    checkout(tmp_path, name="zoo", key="zoo/sound")
    result, _ = run(tmp_path, jobs=2)
    ((died, unit, error),) = ((f.figure, f.unit, f.error) for f in result.failures)
    assert (died, unit, error[:15]) == ("toy/sample", None, "the worker died")
    assert list(result.drawn) == ["zoo/sound"]
    assert len(entries(tmp_path / "out")) == 4


def test_several_processes_draw_what_is_cached_and_one_picture_is_drawn_here(tmp_path, monkeypatch):
    for name in ("toy", "zoo"):
        checkout(tmp_path, name=name, key=f"{name}/sample")
    first = drawn_bytes(run(tmp_path, jobs=2)[0])
    events = []
    figures = [collect_figures(tmp_path)["zoo/sample"]]
    with monkeypatch.context() as patched:
        patched.setattr("pctheory.processes.ProcessPoolExecutor", None)
        alone = run_figures(figures, "quick", tmp_path / "out", jobs=2, on_progress=events.append)
    assert kinds(events) == ["UnitCached"] * 3 + ["FigureDrawn"]
    again = run(tmp_path, jobs=2)[0]
    assert drawn_bytes(again) == first
    assert drawn_bytes(alone).items() <= first.items()
    assert (again.computed, again.cached) == (0, 6)


@pytest.mark.parametrize(
    ("quick", "error"),
    [
        ("P(())", "ValueError: units of toy/sample: got none for"),
        ("P((0,), pause=float('inf'))", "ValueError: parameters.pause: expected a finite number, got inf"),
        (
            "P((0,), fault=Path('x'))",
            "TypeError: parameters.fault: expected a number, text, tuple or dataclass, got Po",
        ),
    ],
)
def test_unusable_parameters_fail_their_figure_only(tmp_path, quick, error):
    checkout(tmp_path, quick=quick)
    checkout(tmp_path, name="zoo", key="zoo/sound", quick="P((0,))")
    result, _ = run(tmp_path)
    assert [failure.error[: len(error)] for failure in result.failures] == [error]
    assert list(result.drawn) == ["zoo/sound"]


def test_parameters_that_cannot_be_pickled(tmp_path):
    checkout(tmp_path)
    file = tmp_path / "figures" / "toy.py"
    file.write_text(file.read_text("utf-8") + "\nclass P:\n    pass\n", "utf-8")  # hides the class
    result, _ = run(tmp_path)
    assert [failure.unit for failure in result.failures] == ["seed 0", "seed 1", "seed 2"]
    assert "not the same object as figures.toy.P" in result.failures[0].error


@pytest.mark.parametrize("below", ["x", "x/y"])
def test_unwritable_output_folder_is_refused_before_computing(tmp_path, below):
    file = checkout(tmp_path) / "file"
    file.touch()
    with pytest.raises(
        ValueError, match=r"out: cannot write to .*/file/x(/y)?: Not a directory; choose another folder"
    ) as caught:
        run_figures(collect_figures(tmp_path).values(), "quick", file / below, data_dir=tmp_path)
    assert "\n" not in str(caught.value)
    assert started_units(tmp_path) == []


def test_full_disk_is_a_failure_of_the_unit(tmp_path, monkeypatch):
    checkout(tmp_path)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result, _ = run(tmp_path)
    for failure, unit in zip(result.failures, ("seed 0", "seed 1", "seed 2"), strict=True):
        assert failure.unit == unit
        assert failure.error.startswith(f"OSError: [Errno 28] No space left on device: '{tmp_path}/out/.cache/toy-")
    assert entries(tmp_path / "out") == []
    assert [path.name for path in (tmp_path / "out").glob("**/*.tmp")] == []


def test_any_executor_will_do(tmp_path):
    checkout(tmp_path)
    with ThreadPoolExecutor(2) as threads:
        result, _ = run(tmp_path, executor=threads, jobs=2)
        assert (result.ok, result.computed) == (True, 3)
        assert threads.submit(int).result() == 0, "it stays open"


def test_broken_executor_of_the_caller(tmp_path):
    checkout(tmp_path, quick='P((0, 1, 2, 3), fault="die", pause=0.2)')
    spawn = importlib.import_module("multiprocessing").get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as pool:
        result, events = run(tmp_path, executor=pool)
    assert result.computed == 1
    assert [failure.unit for failure in result.failures] == ["seed 1", "seed 2", "seed 3"]
    assert kinds(events).count("UnitStarted") == 3, "none is handed over once it is known to be broken"
