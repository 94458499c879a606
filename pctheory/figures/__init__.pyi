from .figure import Arrays, Figure, collect_figures, selected
from .index import FigureEntry, figure_index
from .progress import (
    Event,
    Failure,
    FigureDrawn,
    FigureFailed,
    Progress,
    UnitCached,
    UnitDamaged,
    UnitDone,
    UnitEvent,
    UnitFailed,
    UnitStarted,
)
from .run import RunResult, run_figures
from .style import COLOUR_MAPS, COLOURS, STYLE, THEORY_LINE, WIDTHS, colour_sequence, paper_style

__all__ = [  # noqa: RUF022 (grouped by meaning)
    # What a figure is, and which there are
    "Arrays",
    "Figure",
    "FigureEntry",
    "collect_figures",
    "figure_index",
    "selected",
    # Running them
    "RunResult",
    "run_figures",
    # What is told meanwhile
    "Event",
    "Failure",
    "FigureDrawn",
    "FigureFailed",
    "Progress",
    "UnitCached",
    "UnitDamaged",
    "UnitDone",
    "UnitEvent",
    "UnitFailed",
    "UnitStarted",
    # What they look like
    "COLOURS",
    "COLOUR_MAPS",
    "STYLE",
    "THEORY_LINE",
    "WIDTHS",
    "colour_sequence",
    "paper_style",
]
