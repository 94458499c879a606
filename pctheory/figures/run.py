"""Running figures: compute the units that are not in the cache, draw each figure as soon as its units are there.

One failure stops nothing else. What is done is kept: after Ctrl-C, a full disk or `kill -9`, the next run computes
only what was in progress.
"""

import pickle
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib

from .cache import DamagedEntryError, UnitCache, writable_folder
from .figure import Figure
from .output import save_figure
from .plan import FigurePlan, Unit, figure_plan, plain, root_of
from .progress import (
    Event,
    Failure,
    FigureDrawn,
    FigureFailed,
    Progress,
    UnitCached,
    UnitDamaged,
    UnitDone,
    UnitFailed,
    UnitStarted,
)
from .work import Job, Order, Raised, outcomes, process_pool, workers

LOST = Raised("the worker died: killed by the system (out of memory?), or crashed", "")


@dataclass(frozen=True)
class RunResult:
    """What a run came to: the files of each figure drawn, and every failure. `ok`: there was none."""

    drawn: dict[str, tuple[Path, ...]]
    failures: tuple[Failure, ...]
    computed: int
    cached: int

    @property
    def ok(self) -> bool:
        """Whether every figure was drawn."""
        return not self.failures


def _silent(event: Event) -> None:
    """Report nothing."""


def run_figures(
    figures: Iterable[Figure[Any]],
    preset: str,
    out: Path,
    *,
    data_dir: Path | None = None,
    jobs: int = 1,
    recompute: bool = False,
    executor: Executor | None = None,
    initializer: Callable[[], object] | None = None,
    on_progress: Progress = _silent,
) -> RunResult:
    """Make the figures at a preset, into the folder `out`, with the cache of their units in `out/.cache`.

    data_dir: folder of the data files, given to each figure's `data`.
    jobs: processes that compute; 1 computes in this process. Of an `executor`: how many workers it has.
    recompute: compute every unit, and put it in the place of its entry.
    executor: any; its workers must have pctheory, and find the checkout, `out` and `data_dir` at the same paths.
    initializer: called before each unit where it is computed; importable, and harmless when called again.
    on_progress: called in this thread with each event.

    Switches matplotlib to its Agg backend for this process. What raises in a unit or a drawing is recorded; Ctrl-C
    kills the workers and passes on as KeyboardInterrupt.

    Raises: ValueError if `out` cannot be written, `preset` is unknown to a figure, or `jobs` is not positive.
    """
    chosen = {figure.key: figure for figure in figures}
    if not chosen:
        raise ValueError("figures: got none; give at least one")
    if jobs < 1:
        raise ValueError(f"jobs: expected a number of processes, 1 or more, got {jobs}")
    for figure in chosen.values():
        figure.parameters(preset)
    folder = writable_folder(out.resolve())
    run = _Run(out, UnitCache(writable_folder(folder / ".cache")), on_progress)
    matplotlib.use("agg")
    run.plan(chosen.values(), preset)
    waiting = run.jobs(run.missing(recompute), data_dir.resolve() if data_dir else None, initializer)
    if executor is not None:
        run.give_up([*run.compute(waiting, executor, 2 * jobs), *waiting])
        return run.result()
    while waiting:
        run.compute_here(waiting, jobs)
    return run.result()


@dataclass
class _Run:
    """The state of a run."""

    out: Path
    cache: UnitCache
    report: Progress
    plans: dict[str, FigurePlan] = field(default_factory=dict)
    unfinished: dict[str, int] = field(default_factory=dict)  # units, by figure
    drawn: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    finished: int = 0
    computed: int = 0

    def plan(self, figures: Iterable[Figure[Any]], preset: str) -> None:
        """Lay out the units of each figure."""
        for figure in figures:
            try:
                plan = figure_plan(figure, preset)
            except Exception as error:
                self._figure_failed(figure, error)
            else:
                self.plans[figure.key] = plan
                self.unfinished[figure.key] = len(plan.units)

    def missing(self, recompute: bool) -> list[Unit]:
        """The units to compute. The others are counted as finished, and figures that have all of theirs drawn."""
        units = [unit for plan in self.plans.values() for unit in plan.units]
        return [unit for unit in units if recompute or not self._cached(unit)]

    def _cached(self, unit: Unit) -> bool:
        if unit.entry not in self.cache:
            return False
        try:
            self.cache.read(unit.entry)
        except DamagedEntryError as damage:
            self.report(UnitDamaged(*self._where(unit), damage.path, damage.reason))
            return False
        self.report(UnitCached(*self._counted(unit)))
        self._draw_when_complete(unit.figure)
        return True

    def jobs(
        self, units: Iterable[Unit], data_dir: Path | None, initializer: Callable[[], object] | None
    ) -> deque[Job]:
        """The orders to compute these units, less those whose parameters cannot be sent to a worker."""
        jobs: deque[Job] = deque()
        for unit in units:
            try:
                parameters = pickle.dumps(unit.parameters)
            except Exception as error:  # pickle raises what it likes
                self._unit_failed(unit, Raised.by(error))
            else:
                root, module = str(root_of(unit.figure)), unit.figure.module
                order = Order(root, module, parameters, data_dir, initializer, self.cache, unit.entry, unit.sources)
                jobs.append(Job(unit, order))
        return jobs

    def compute(self, jobs: deque[Job], executor: Executor, at_once: int) -> list[Job]:
        """Compute and store these, taking them from `jobs`; returns those that were lost with their worker."""
        lost = []
        with closing(outcomes(jobs, executor, at_once, self._started)) as stream:
            for job, outcome in stream:
                if outcome is None:
                    lost.append(job)
                elif isinstance(outcome, Raised):
                    self._unit_failed(job.unit, outcome)
                else:
                    self.computed += 1
                    self.report(UnitDone(*self._counted(job.unit), outcome.seconds))
                    self._draw_when_complete(job.unit.figure)
        return lost

    def compute_here(self, jobs: deque[Job], count: int) -> None:
        """Compute and store these with `count` processes of this machine, until all are done or one has died."""
        with workers(count) as pool:
            lost = self.compute(jobs, pool, 1 if count == 1 else 2 * count)
        for job in lost:  # one of them brought the workers down: each alone, it can harm only itself
            with process_pool(1) as pool:
                self.give_up(self.compute(deque([job]), pool, 1))

    def give_up(self, lost: Iterable[Job]) -> None:
        """Record these as failed."""
        for job in lost:
            self._unit_failed(job.unit, LOST)

    def result(self) -> RunResult:
        """What the run came to."""
        cached = self.finished - self.computed - sum(failure.unit is not None for failure in self.failures)
        return RunResult(dict(sorted(self.drawn.items())), tuple(self.failures), self.computed, cached)

    def _started(self, job: Job) -> None:
        self.report(UnitStarted(*self._where(job.unit)))

    def _where(self, unit: Unit) -> tuple[str, str, int, int]:
        total = sum(len(plan.units) for plan in self.plans.values())
        return unit.figure.key, unit.name, self.finished, total

    def _counted(self, unit: Unit) -> tuple[str, str, int, int]:
        self.finished += 1
        self.unfinished[unit.figure.key] -= 1
        return self._where(unit)

    def _unit_failed(self, unit: Unit, raised: Raised) -> None:
        failure = Failure(unit.figure.key, unit.name, plain(unit.parameters), raised.error, raised.traceback)
        self.failures.append(failure)
        self.report(UnitFailed(*self._counted(unit), failure))

    def _figure_failed(self, figure: Figure[Any], error: Exception) -> None:
        raised = Raised.by(error)
        failure = Failure(figure.key, None, None, raised.error, raised.traceback)
        self.failures.append(failure)
        self.report(FigureFailed(figure.key, failure))

    def _draw_when_complete(self, figure: Figure[Any]) -> None:
        """Draw a figure once all its units are in the cache: what is drawn is what is stored."""
        failed = {failure.figure for failure in self.failures}
        if self.unfinished[figure.key] or figure.key in failed:
            return
        plan = self.plans[figure.key]
        try:
            arrays = {unit.name: self.cache.read(unit.entry) for unit in plan.units}
            files = save_figure(plan, arrays, self.out)
        except Exception as error:
            self._figure_failed(figure, error)
        else:
            self.drawn[figure.key] = files
            self.report(FigureDrawn(figure.key, files))
