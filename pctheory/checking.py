"""Checking claims: a run of them as jobs for workers, and the verdicts that come of it."""

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from .claims import Claim, Verdict, effective_statuses, verdict
from .figures.sources import SourceTree, carrying
from .processes import Job, Raised


@runtime_checkable
class Progress(Protocol):
    """What hears how the checks go."""

    def started(self, job: Job[Claim]) -> None:
        """A claim was handed to a worker, for the first time or again."""
        ...

    def finished(self) -> None:
        """A claim was judged."""
        ...


class ClaimRun:
    """A run of checks (`processes.Work`). A claim whose process dies or takes too long has failed.

    limit: seconds that a check may take in a process of its own.
    initializer: called before each check where it is made; importable, and harmless when called again.
    with_code: the code of the checkout `root` goes with each job, for workers that need not have it.
    when_done: called with the run as soon as every claim is judged.

    Afterwards `started_at` and `seconds` say when its first check was handed over, and how long all took.
    """

    def __init__(
        self,
        claims: Mapping[str, Claim],
        root: Path,
        progress: Progress,
        *,
        limit: float | None,
        initializer: Callable[[], object],
        with_code: bool,
        when_done: Callable[["ClaimRun"], object] = lambda run: None,
    ):
        self.jobs = deque(Job(claim, verdict, (claim, limit, initializer)) for claim in claims.values())
        if with_code:
            tree = SourceTree(root.resolve())
            modules = {claim.run.__module__ for claim in claims.values()}
            codes = {module: tree.sources(module).code(tree.root) for module in modules}
            self.jobs = carrying(self.jobs, lambda claim: codes[claim.run.__module__])
        self.started_at = self.seconds = 0.0
        self._claims, self._progress, self._when_done = claims, progress, when_done
        self._found: dict[str, Verdict] = {}

    def started(self, job: Job[Claim]) -> None:
        """A claim was handed to a worker, for the first time or again."""
        if not self.started_at:
            self.started_at, self._clock = time.time(), time.perf_counter()
        self._progress.started(job)

    def finished(self, job: Job[Claim], outcome: Any) -> None:
        """A claim was judged, or its worker was lost."""
        if isinstance(outcome, Raised):
            outcome = Verdict(job.what, (), (), 0.0, f"{outcome.error}\n{outcome.traceback}")
        self._found[job.what.key] = outcome
        self.seconds = time.perf_counter() - self._clock
        self._progress.finished()
        if len(self._found) == len(self._claims):
            self._when_done(self)

    def verdicts(self) -> list[Verdict]:
        """In the order of the claims, each with its effective status, once all jobs are finished."""
        own = {key: made.own for key, made in self._found.items()}
        effective = effective_statuses(own, {key: claim.uses for key, claim in self._claims.items()})
        return [dataclasses.replace(self._found[key], effective=effective[key]) for key in self._claims]
