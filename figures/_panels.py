"""How landscapes over a plane of weights are drawn. Nothing is computed here."""

from collections.abc import Sequence
from typing import Any

import matplotlib.patheffects as effects
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LightSource, ListedColormap, Normalize, PowerNorm
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d import Axes3D

from pctheory.figures import COLOURS

Values = npt.NDArray[np.float64]

# The square of the residual in units of that at the origin: |residual| = 0, 0.2, 0.4, ..
LEVELS: Values = np.linspace(0.0, 5.2, 27) ** 2
# From light valleys to dark hills, so that paths and arrows stand out where descent goes.
LANDSCAPE = ListedColormap(plt.get_cmap("YlGnBu")(np.linspace(0.0, 0.9, 512)), name="landscape")
RIM: dict[str, Any] = {"path_effects": [effects.Stroke(linewidth=2.8, foreground="white"), effects.Normal()]}
TEXT_RIM: dict[str, Any] = {"path_effects": [effects.withStroke(linewidth=2.2, foreground="white", alpha=0.8)]}
MINIMA: dict[str, Any] = {"color": COLOURS["minimum"], "linewidth": 1.6, "zorder": 3, **RIM}
SADDLE: dict[str, Any] = {
    "marker": "X",
    "markersize": 7,
    "color": COLOURS["saddle"],
    "markeredgecolor": "black",
    "markeredgewidth": 0.6,
    "linestyle": "none",
    "zorder": 8,
}


def page(width: float, height: float) -> Figure:
    """An empty figure, in inches, on which axes stay where `box` puts them."""
    picture = plt.figure(figsize=(width, height))
    picture.set_layout_engine("none")
    return picture


def box(
    picture: Figure, left: float, bottom: float, width: float, height: float
) -> tuple[float, float, float, float]:
    """A rectangle in inches as fractions of the figure."""
    across, up = picture.get_size_inches()
    return left / across, bottom / up, width / across, height / up


def landscape_colours(levels: Values) -> Normalize:
    """Values from 0 to the last level as colours of `LANDSCAPE`, more of them for the smaller values."""
    return PowerNorm(0.4, 0.0, levels[-1])


def filled_contours(axes: Axes, axis: Values, values: Values, levels: Values) -> QuadContourSet:
    """Filled contours over a square with thin lines between them, from the first level, 0, to the last."""
    filled = axes.contourf(axis, axis, values, levels=levels, norm=landscape_colours(levels), cmap=LANDSCAPE)
    axes.contour(axis, axis, values, levels=levels[1:], colors="black", linewidths=0.25, alpha=0.35)
    axes.set_aspect("equal")
    return filled


def critical_points(axes: Axes, minima: Values, saddle_size: float = 7.0) -> None:
    """The saddle at the origin, and both branches of the curve of minima, given one of them."""
    for branch in (minima, -minima):
        axes.plot(*branch, **MINIMA)
    axes.plot(0, 0, **SADDLE | {"markersize": saddle_size})


def descent_path(axes: Axes, points: Sequence[Values], dots: int, colour: str) -> None:
    """A line through all points, in two or three dimensions, with a dot on every `dots`-th of them."""
    axes.plot(*points, color=colour, zorder=6, **RIM)
    dotted = [coordinate[::dots] for coordinate in points]
    axes.plot(*dotted, "o", color=colour, markeredgecolor="white", markeredgewidth=0.5, zorder=7)


def surface_axes(picture: Figure, place: tuple[float, float, float, float], labels: Sequence[str]) -> Axes3D:
    """Axes for `surface` over [-1, 1]^2 or a little more, with labels of x, y and, if there is a third, z."""
    axes: Axes3D = picture.add_axes(place, projection="3d", computed_zorder=False)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((1.0, 1.0, 1.0, 0.0))
        axis.line.set_color("#999999")
    axes.zaxis.set_rotate_label(False)
    axes.view_init(elev=46, azim=-68)
    axes.set_box_aspect((1, 1, 0.7), zoom=0.94)
    axes.patch.set_alpha(0.0)
    axes.tick_params(pad=-2, labelsize=7)
    axes.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    for axis, label, pad in zip((axes.xaxis, axes.yaxis, axes.zaxis), labels, (-6, -5, -5), strict=False):
        axis.set_label_text(label)
        axis.labelpad = pad
    return axes


def surface(axes: Axes3D, axis: Values, heights: Values, levels: Values) -> None:
    """A lit surface in the colours of `LANDSCAPE` with its contours; what is drawn later lies on top of it."""
    first, second = np.meshgrid(axis, axis)
    flat = LANDSCAPE(landscape_colours(levels)(heights))[..., :3]
    step = axis[1] - axis[0]
    light = LightSource(azdeg=20, altdeg=60)
    lit = light.shade_rgb(flat, heights, fraction=0.7, blend_mode="soft", dx=step, dy=step)
    fine = {"rcount": len(axis), "ccount": len(axis), "linewidth": 0, "antialiased": False, "rasterized": True}
    axes.plot_surface(first, second, heights, facecolors=lit, shade=False, zorder=1, **fine)
    axes.contour(first, second, heights, levels[1:], colors="black", linewidths=0.25, alpha=0.4, zorder=2)
