"""Running figures: compute the units that are not in the cache, draw each figure as soon as its units are there.

One failure stops nothing else. What is done is kept: after Ctrl-C, a full disk or `kill -9`, the next run computes
only what was in progress. Workers compute and draw, and answer with arrays and pictures; this process stores them.
"""

import functools
import pickle
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..files import writable_folder, write_atomically
from ..processes import Job, Raised, Sealed, refuse_limits, work_through
from .cache import DamagedEntryError, UnitCache
from .figure import Figure
from .output import Drawing, draw_figure
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
from .sources import Sources, SourceTree, carrying
from .work import Computed, Order, compute_unit


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
    time_limit: float | None = None,
    executor: Executor | None = None,
    initializer: Callable[[], object] | None = None,
    on_progress: Progress = _silent,
) -> RunResult:
    """Make the figures at a preset, into the folder `out`, with the cache of their units in `out/.cache`.

    data_dir: folder of the data files, given to each figure's `data`.
    jobs: processes that compute; 1 computes in this process. Of an `executor`: how many workers it has.
    recompute: compute every unit, and put it in the place of its entry.
    time_limit: seconds that a unit or a drawing may take in a worker process; past it the worker ends itself, with
    the traceback of every thread on its stderr, and the unit or figure counts as lost with it.
    executor: any, on this machine or others. Its workers need this version of pctheory, and `data_dir` at the same
    path; not the checkout nor `out`: code goes with each unit, the arrays come back with its result, and this
    process draws.
    initializer: called before each unit where it is computed; importable, and harmless when called again.
    on_progress: called in this thread with each event.

    Switches matplotlib to its Agg backend where it draws. What raises in a unit or a drawing is recorded; Ctrl-C
    kills the workers and passes on as KeyboardInterrupt.

    Raises: ValueError if `out` cannot be written, `preset` is unknown to a figure, or `jobs` or `time_limit` is not
    positive.
    """
    refuse_limits(jobs, time_limit)
    run = FigureRun.begun(
        figures,
        preset,
        out,
        data_dir=data_dir,
        recompute=recompute,
        time_limit=time_limit,
        initializer=initializer,
        with_code=executor is not None,
        on_progress=on_progress,
    )
    work_through([run], executor, run.of_use(jobs))
    return run.result()


@dataclass
class FigureRun:
    """A run of figures: the jobs that are left of it, and what became of the others (`processes.Work`)."""

    out: Path
    cache: UnitCache
    report: Progress
    limit: float | None
    elsewhere: bool
    jobs: deque[Job[Any]] = field(default_factory=deque)  # of a Unit to compute, a FigurePlan to draw
    plans: dict[str, FigurePlan] = field(default_factory=dict)
    unfinished: dict[str, int] = field(default_factory=dict)  # units, by figure
    drawn: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    counted: int = 0
    computed: int = 0

    @classmethod
    def begun(
        cls,
        figures: Iterable[Figure[Any]],
        preset: str,
        out: Path,
        *,
        data_dir: Path | None,
        recompute: bool,
        time_limit: float | None,
        initializer: Callable[[], object] | None,
        with_code: bool,
        on_progress: Progress,
    ) -> "FigureRun":
        """A run that knows what there is to do. Arguments and errors of `run_figures`.

        with_code: the code of its figure goes with each unit, for workers that need not have the checkout, and
        this process draws.
        """
        chosen = {figure.key: figure for figure in figures}
        if not chosen:
            raise ValueError("figures: got none; give at least one")
        for figure in chosen.values():
            figure.parameters(preset)
        folder = writable_folder(out.absolute())
        cache = UnitCache(writable_folder(folder / ".cache"))
        run = cls(out, cache, on_progress, time_limit, elsewhere=with_code)
        run._plan(chosen.values(), preset)
        order = functools.partial(
            Order, data_dir=data_dir.absolute() if data_dir else None, initializer=initializer, limit=time_limit
        )
        units = run._jobs(run._missing(recompute), order)
        if with_code:
            codes = {key: plan.sources.code(root_of(plan.figure)) for key, plan in run.plans.items()}
            units = carrying(units, lambda unit: codes[unit.figure.key])
        run.jobs += units
        return run

    def of_use(self, processes: int) -> int:
        """How many of so many processes are of use: only this one where there is but one figure to draw."""
        only_one = len(self.jobs) < 2 and all(isinstance(job.what, FigurePlan) for job in self.jobs)
        return 1 if only_one else processes

    def _plan(self, figures: Iterable[Figure[Any]], preset: str) -> None:
        """Lay out the units of each figure."""
        tree = functools.cache(SourceTree)
        for figure in figures:
            try:
                plan = figure_plan(figure, preset, tree(root_of(figure)))
            except Exception as error:
                self._figure_failed(figure, Raised.by(error))
            else:
                self.plans[figure.key] = plan
                self.unfinished[figure.key] = len(plan.units)

    def _missing(self, recompute: bool) -> list[Unit]:
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

    def _jobs(self, units: Iterable[Unit], order: Callable[..., Order]) -> deque[Job[Unit]]:
        """The orders to compute these units, less those whose parameters cannot be sent to a worker."""
        jobs: deque[Job[Unit]] = deque()
        for unit in units:
            try:
                parameters = pickle.dumps(unit.parameters)
            except Exception as error:  # pickle raises what it likes
                self._unit_failed(unit, Raised.by(error))
            else:
                jobs.append(Job(unit, compute_unit, (order(unit.figure.module, parameters),)))
        return jobs

    def finished(self, job: Job[Any], outcome: Any) -> None:
        """What came of a unit: stored, and its figure to be drawn once it has all of its. What came of a figure."""
        if isinstance(job.what, FigurePlan):
            self._keep(job.what, outcome)
        elif isinstance(outcome, Computed):
            self._store(job.what, outcome)
        else:
            self._unit_failed(job.what, outcome)

    def _store(self, unit: Unit, computed: Computed) -> None:
        """Put the arrays into the cache, unless the name of the entry no longer says what they came from."""
        try:
            _require_unchanged(unit.sources, "the unit was computed")
            self.cache.write(unit.entry, computed.payload)
        except (OSError, RuntimeError) as error:
            self._unit_failed(unit, Raised.by(error))
        else:
            self.computed += 1
            self.report(UnitDone(*self._counted(unit), computed.seconds))
            self._draw_when_complete(unit.figure)

    def started(self, job: Job[Any]) -> None:
        """A unit was handed over, or a figure to draw."""
        if isinstance(job.what, Unit):
            self.report(UnitStarted(*self._where(job.what)))

    def result(self) -> RunResult:
        """What the run came to."""
        cached = self.counted - self.computed - sum(failure.unit is not None for failure in self.failures)
        return RunResult(dict(sorted(self.drawn.items())), tuple(self.failures), self.computed, cached)

    def _where(self, unit: Unit) -> tuple[str, str, int, int]:
        total = sum(len(plan.units) for plan in self.plans.values())
        return unit.figure.key, unit.name, self.counted, total

    def _counted(self, unit: Unit) -> tuple[str, str, int, int]:
        self.counted += 1
        self.unfinished[unit.figure.key] -= 1
        return self._where(unit)

    def _unit_failed(self, unit: Unit, raised: Raised) -> None:
        failure = Failure(unit.figure.key, unit.name, plain(unit.parameters), raised.error, raised.traceback)
        self.failures.append(failure)
        self.report(UnitFailed(*self._counted(unit), failure))

    def _figure_failed(self, figure: Figure[Any], raised: Raised) -> None:
        failure = Failure(figure.key, None, None, raised.error, raised.traceback)
        self.failures.append(failure)
        self.report(FigureFailed(figure.key, failure))

    def _draw_when_complete(self, figure: Figure[Any]) -> None:
        """Have a figure drawn once all its units are in the cache: what is drawn is what is stored."""
        if self.unfinished[figure.key] or figure.key in {failure.figure for failure in self.failures}:
            return
        plan = self.plans[figure.key]
        try:
            parameters, entries = pickle.dumps(plan.parameters), {unit.name: unit.entry for unit in plan.units}
            order = Drawing(figure.module, parameters, plan.provenance(), entries, self.cache, self.limit)
        except Exception as error:
            self._figure_failed(figure, Raised.by(error))
            return
        if self.elsewhere:
            self._keep(plan, Sealed.of("", draw_figure, order).opened())
        else:
            self.jobs.append(Job(plan, draw_figure, (order,)))

    def _keep(self, plan: FigurePlan, outcome: Any) -> None:
        """Write the files of a figure, unless they no longer show what their provenance says."""
        if isinstance(outcome, Raised):
            self._figure_failed(plan.figure, outcome)
            return
        try:
            _require_unchanged(plan.sources, "the figure was drawn")
            files = {self.out / f"{plan.figure.slug}.{suffix}": content for suffix, content in outcome.items()}
            for file, content in files.items():
                write_atomically(file, content)
        except (OSError, RuntimeError) as error:
            self._figure_failed(plan.figure, Raised.by(error))
        else:
            self.drawn[plan.figure.key] = tuple(files)
            self.report(FigureDrawn(plan.figure.key, tuple(files)))


def _require_unchanged(sources: Sources, meanwhile: str) -> None:
    if changed := sources.changed():
        raise RuntimeError(f"{', '.join(changed)} changed while {meanwhile}; run again")
