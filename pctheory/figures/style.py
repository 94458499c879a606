"""The look of every figure: one style sheet, and one colour per concept through all of them.

The colours are told apart with any common colour blindness (a test measures it); in grey print the kinds of line
and marker still differ. Fonts are matplotlib's own, so a figure looks the same on every machine.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
import matplotlib.colors
import matplotlib.style
import numpy as np
import numpy.typing as npt
from cycler import cycler

COLOURS = {
    "loss": "#D55E00",  # the loss, and backpropagation on it
    "energy": "#0072B2",  # the equilibrated energy, and predictive coding on it
    "theory": "#1A1A1A",
    "neutral": "#B4B4B4",
    "saddle": "#F0B400",
    "minimum": "#009E73",
    "other": "#AA3377",  # a third method beside loss and energy
}

COLOUR_MAPS = {"values": "cividis", "signed": "RdBu_r"}

# Dashes over the numerics: axes.plot(x, y, **THEORY_LINE).
THEORY_LINE: dict[str, Any] = {
    "color": COLOURS["theory"],
    "linestyle": (0, (4, 2)),
    "linewidth": 1.0,
    "zorder": 3,
}

# Inches, of a paper with two columns.
WIDTHS = {"column": 3.25, "text": 6.75}

_CYCLE = [COLOURS[name] for name in ("energy", "loss", "minimum", "other", "saddle", "neutral")]

STYLE: dict[str, Any] = {
    "figure.figsize": (WIDTHS["column"], 2.3),
    "figure.dpi": 150,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 300,
    "font.family": "serif",
    "font.serif": ["STIXGeneral"],
    "mathtext.fontset": "stix",
    "font.size": 9,
    "figure.titlesize": 10,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "axes.prop_cycle": cycler(color=_CYCLE),
    "axes.linewidth": 0.6,
    "axes.edgecolor": "#4D4D4D",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlepad": 5,
    "axes.titley": 1.0,
    "axes.labelpad": 3,
    "grid.color": "#E0E0E0",
    "grid.linewidth": 0.5,
    "xtick.color": "#4D4D4D",
    "ytick.color": "#4D4D4D",
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "xtick.direction": "out",
    "ytick.direction": "out",
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "lines.solid_capstyle": "round",
    "image.cmap": COLOUR_MAPS["values"],
    "contour.linewidth": 0.5,
    "pdf.fonttype": 42,  # TrueType outlines: text stays text, and selectable
    "ps.fonttype": 42,
}


@contextmanager
def paper_style() -> Iterator[None]:
    """Within it, figures are made and saved in the style of this project, whatever the user's own settings."""
    with matplotlib.style.context(["default", STYLE]):
        yield


def colour_sequence(count: int, concept: str | None = None) -> list[str]:
    """Colours for an ordered family (depths, widths, times), from dark to light; the lightest still shows on white.

    concept: shades of that concept's colour, one of `COLOURS`.

    Raises: ValueError if `count` is negative or the concept has no colour.
    """
    if count < 0:
        raise ValueError(f"count: expected a number of colours, 0 or more, got {count}")
    if concept is None:
        shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.85, count))
    elif concept in COLOURS:
        pure = np.array(matplotlib.colors.to_rgb(COLOURS[concept]))
        shades = _between([0.4 * pure, pure, 0.45 * pure + 0.55], count)
    else:
        raise ValueError(f"concept: no colour for {concept!r}; there are {', '.join(COLOURS)}")
    return [matplotlib.colors.to_hex(shade) for shade in shades]


def _between(colours: list[npt.NDArray[np.float64]], count: int) -> npt.NDArray[np.float64]:
    """`count` colours evenly spaced on the way through these."""
    stops = np.linspace(0.0, 1.0, len(colours))
    places = np.linspace(0.0, 1.0, count)
    return np.stack([np.interp(places, stops, channel) for channel in np.transpose(colours)], axis=-1)
