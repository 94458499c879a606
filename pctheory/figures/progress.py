"""What a run of figures tells while it goes on, and what it records when something fails."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Failure:
    """A figure, or one unit of it, that could not be made; `unit` is None where no single unit is to blame.

    `parameters` are those of the unit; `error` is one line, `traceback` that of the process where it was raised.
    """

    figure: str
    unit: str | None
    parameters: Mapping[str, Any] | None
    error: str
    traceback: str


@dataclass(frozen=True)
class UnitEvent:
    """Something happened to a unit: `finished` of the `total` units of the run are cached, done or failed."""

    figure: str
    unit: str
    finished: int
    total: int


@dataclass(frozen=True)
class UnitCached(UnitEvent):
    """The unit was found in the cache."""


@dataclass(frozen=True)
class UnitStarted(UnitEvent):
    """The unit was handed to a worker (which may have one other to finish first)."""


@dataclass(frozen=True)
class UnitDone(UnitEvent):
    """The unit was computed and stored."""

    seconds: float


@dataclass(frozen=True)
class UnitFailed(UnitEvent):
    """The unit raised, or its result was refused."""

    failure: Failure


@dataclass(frozen=True)
class UnitDamaged(UnitEvent):
    """The unit's cache entry `path` is not what was once written there; the unit is computed again."""

    path: Path
    reason: str


@dataclass(frozen=True)
class FigureDrawn:
    """The four files of a figure were written."""

    figure: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class FigureFailed:
    """The figure was not drawn, for another reason than a failed unit."""

    figure: str
    failure: Failure


Event = UnitEvent | FigureDrawn | FigureFailed
Progress = Callable[[Event], None]
