"""What the command line shows on stderr while it works: a bar on a terminal, a line for each event elsewhere."""

import sys

from rich.console import Console
from rich.progress import Progress

from .claims import Claim
from .figures import Event, FigureDrawn, FigureFailed, UnitDamaged, UnitDone, UnitFailed, UnitStarted
from .processes import Job


class Bar:
    """A bar on a terminal, for as long as the context is open; else nothing."""

    def __init__(self, text: str, total: int | None = None) -> None:
        self.console = Console(stderr=True)
        self._bar = Progress(console=self.console, transient=True) if self.console.is_terminal else None
        self._text, self._total = text, total

    def __enter__(self) -> "Bar":
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self._text, total=self._total)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, line: str, *, always: bool = False) -> None:
        """A line, where there is no bar; above it, if it is to be seen `always`."""
        if self._bar is None:
            print(line, file=sys.stderr, flush=True)
        elif always:
            self.console.print(line, markup=False, highlight=False)

    def move(self, finished: int, total: int, text: str) -> None:
        """How far it has come."""
        if self._bar is not None:
            self._bar.update(self._task, completed=finished, total=total, description=text)


class ClaimProgress:
    """Progress of checking so many claims."""

    def __init__(self, bar: Bar, total: int) -> None:
        self._bar, self._total = bar, total
        self._places: dict[str, int] = {}
        self._finished = 0

    def started(self, job: Job[Claim]) -> None:
        """A claim was handed to a worker, for the first time or again."""
        key = job.what.key
        again = ", again" if key in self._places else ""
        place = self._places.setdefault(key, len(self._places) + 1)
        self._bar.show(f"[{place}/{self._total}] {key}{again}")

    def finished(self) -> None:
        """A claim was judged."""
        self._finished += 1
        self._bar.move(self._finished, self._total, "checking claims")


def show_event(bar: Bar, event: Event) -> None:
    """One event of a run of figures."""
    if isinstance(event, FigureDrawn | FigureFailed):
        failed = isinstance(event, FigureFailed)
        bar.show(f"{event.figure}: {'FAILED' if failed else 'drawn'}", always=failed)
        return
    line = f"[{event.finished}/{event.total}] {event.figure} {event.unit}"
    if isinstance(event, UnitDamaged):
        line += f": cache entry {event.path.name} is damaged ({event.reason}); computing it again"
    elif isinstance(event, UnitFailed):
        line += ": FAILED"
    elif isinstance(event, UnitDone):
        line += f": {event.seconds:.1f} s"
    else:
        line += ": started" if isinstance(event, UnitStarted) else ": cached"
    bar.move(event.finished, event.total, event.figure)
    bar.show(line, always=isinstance(event, UnitDamaged | UnitFailed))
