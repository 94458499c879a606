r"""How large activities are, layer by layer: at initialisation against depth and width, and in two steps."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from figures._random_chains import Kind, energy_gradients
from pctheory.figures import THEORY_LINE, Arrays, Figure, colour_sequence
from pctheory.random_matrix.expectations import expected_forward_pass, typical_forward_pass

Values = npt.NDArray[np.float64]
KINDS = {
    "sp": Kind("SP", "SP", skips=False),
    "orthogonal": Kind("orthogonal", "SP", skips=False, orthogonal=True),
    "sp-skips": Kind("SP, skips", "SP", skips=True),
    "mupc": Kind("muPC, skips", "muPC", skips=True),
}
TITLES = {"sp": "SP", "orthogonal": "orthogonal", "sp-skips": "SP, skips", "mupc": r"$\mu$PC, skips"}
LAYERS = ("1", "L/4", "L/2", "3L/4", "L")


@dataclass(frozen=True)
class Parameters:
    """Networks against depth at `width`, against width at `depth`, and trained for two steps at `trained` layers.

    `rate`: of gradient descent on F*; `mupc_rate` times N for muPC, whose steps are then alike at every width.
    """

    depths: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    width: int = 128
    widths: tuple[int, ...] = (32, 64, 128, 256, 512)
    depth: int = 32
    trained: int = 8
    rate: float = 0.05
    mupc_rate: float = 0.5
    networks: int = 8
    ends: int = 10
    examples: int = 16
    seed: int = 0


def units(parameters: Parameters) -> Mapping[str, Parameters]:
    """One unit per shape, and one per width for training."""
    p = parameters
    made = {f"depth-{depth}": replace(p, depths=(depth,), widths=()) for depth in p.depths}
    return made | {f"width-{width}": replace(p, widths=(width,), depths=()) for width in p.widths}


def data(parameters: Parameters, data_dir: Path | None) -> Mapping[str, npt.ArrayLike]:
    """Root mean squares at `LAYERS`, geometric means over networks, with the laws; a width is trained as well."""
    p = parameters
    width, depth = (p.width, p.depths[0]) if p.depths else (p.widths[0], p.depth)
    widths = [p.ends, *[width] * (depth - 1), p.ends]
    at = places(depth)
    arrays: dict[str, npt.ArrayLike] = {}
    for key, kind in KINDS.items():
        seeds = [[p.seed, network, depth, width] for network in range(p.networks)]
        networks = [_sizes(kind.maps(widths, np.random.default_rng(seed)), _inputs(p)) for seed in seeds]
        chain = kind.chain(widths)
        logs = np.log(np.array(networks)[:, at])
        spread = np.exp(logs.std(axis=0, ddof=1) / p.networks**0.5)  # a factor: one standard error
        arrays |= {key: np.exp(logs.mean(axis=0)), f"{key}_spread": spread}
        arrays |= {f"{key}_mean": np.sqrt(expected_forward_pass(chain)[at])}
        if not kind.orthogonal:
            arrays[f"{key}_typical"] = np.sqrt(typical_forward_pass(chain)[at])
        if p.widths:
            arrays[f"{key}_steps"] = _trained(kind, p)
    return arrays


def places(depth: int) -> list[int]:
    """Where the layers 1, L/4, L/2, 3L/4 and L stand, counted from 0."""
    return [0, *(depth * quarter // 4 - 1 for quarter in (1, 2, 3)), depth - 1]


def _inputs(p: Parameters) -> Values:
    """Examples with |x|^2 = N_0."""
    x = np.random.default_rng(p.seed).standard_normal((p.examples, p.ends))
    return np.asarray(x * (p.ends**0.5 / np.linalg.norm(x, axis=1, keepdims=True)))


def _trained(kind: Kind, p: Parameters) -> Values:
    """Root mean squares at `LAYERS` (columns) before and after one and two steps of gradient descent on F*."""
    (width,) = p.widths
    widths = [p.ends, *[width] * (p.trained - 1), p.ends]
    x, y = _inputs(p), np.random.default_rng(p.seed + 1).standard_normal((p.examples, p.ends))
    scalings, rate = kind.scalings(widths), p.mupc_rate * width if kind.family == "muPC" else p.rate
    maps, found = list(kind.maps(widths, np.random.default_rng([p.seed, width]))), []
    for step in range(len(STEPS)):
        if step:
            gradients = energy_gradients(maps, scalings, x, y)
            maps = [a - rate * factor * g for a, factor, g in zip(maps, scalings, gradients, strict=True)]
        found.append(_sizes(maps, x)[places(p.trained)])
    return np.array(found)


def _sizes(maps: Iterable[Values], z: Values) -> Values:
    """The root mean square activity of every layer, geometric mean over the inputs."""
    found = []
    for a in maps:
        z = z @ a.T
        found.append(np.exp(np.mean(np.log(np.mean(z**2, axis=1))) / 2))
    return np.array(found)


STEPS: tuple[tuple[str, Any], ...] = (
    ("o", "-"),
    ("^", "--"),
    ("s", ":"),
)  # markers and lines before and after one and two steps
SHOWN = (2, 4)  # layers of the last row: L/2 and L


def draw(arrays: Mapping[str, Arrays], parameters: Parameters) -> matplotlib.figure.Figure:
    """A column for each kind: against depth, against width, and in training."""
    p = parameters
    picture, panels = plt.subplots(3, len(KINDS), figsize=(6.75, 5.8), sharex="row")
    shades = colour_sequence(len(LAYERS))
    deep, wide = (
        [arrays[f"{name}-{n}"] for n in sizes] for name, sizes in (("depth", p.depths), ("width", p.widths))
    )
    for column, key in enumerate(KINDS):
        depth, width, steps = panels[:, column]
        _curves(depth, p.depths, deep, key)
        _curves(width, p.widths, wide, key)
        for step, (marker, line) in enumerate(STEPS):
            for layer in SHOWN:
                values = [a[f"{key}_steps"][step, layer] for a in wide]
                look: dict[str, Any] = {"markersize": 3.0, "linewidth": 0.8, "color": shades[layer]}
                steps.plot(p.widths, values, marker=marker, linestyle=line, **look)
        depth.set(title=TITLES[key], xlabel="depth $L$")
        width.set_xlabel("width $N$")
        steps.set_xlabel("width $N$")
        for axes in panels[:, column]:
            _doubling(axes)
    rows = (f"$N = {p.width}$", f"$L = {p.depth}$", f"$L = {p.trained}$, trained")
    for axes, what in zip(panels[:, 0], rows, strict=True):
        axes.set_ylabel(f"{what}\nrms activity")
    _legend(picture, shades)
    return picture


def _curves(axes: Axes, sizes: Sequence[int], shapes: list[Arrays], key: str) -> None:
    """Geometric means over networks, the law of the mean square dashed and that of its logarithm dotted."""
    for place, shade in enumerate(colour_sequence(len(LAYERS))):
        axes.plot(sizes, [a[key][place] for a in shapes], "o", color=shade, markersize=3.2)
        low, high = [[a[key][place] * a[f"{key}_spread"][place] ** sign for a in shapes] for sign in (-1, 1)]
        axes.vlines(sizes, low, high, color=shade, linewidth=0.8)
        axes.plot(sizes, [a[f"{key}_mean"][place] for a in shapes], **THEORY_LINE | {"linewidth": 0.7})
        if f"{key}_typical" in shapes[0]:
            law = THEORY_LINE | {"linewidth": 0.9, "linestyle": ":"}
            axes.plot(sizes, [a[f"{key}_typical"][place] for a in shapes], **law)


def _doubling(axes: Axes) -> None:
    """Logarithmic axes; sizes as they are, and at least the decade around 1."""
    axes.set(xscale="log", yscale="log")
    axes.xaxis.set_major_locator(FixedLocator([8, 32, 128, 512, 2048]))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.05), max(high, 5.0))


def _legend(picture: matplotlib.figure.Figure, shades: list[str]) -> None:
    dots = [Line2D([], [], color=shade, marker="o", linestyle="", markersize=3.5) for shade in shades]
    lines = [Line2D([], [], **THEORY_LINE), Line2D([], [], **THEORY_LINE | {"linestyle": ":"})]
    steps = [Line2D([], [], color="black", marker=m, linestyle=l, markersize=3.0, linewidth=0.8) for m, l in STEPS]
    labels = [f"$l = {layer}$" for layer in LAYERS]
    names = [*labels, r"$\sqrt{E\,z^2}$", r"$\exp\, E \log |z|$", "start", "step 1", "step 2"]
    picture.legend([*dots, *lines, *steps], names, loc="outside lower center", ncols=5, columnspacing=1.4)


def caption(parameters: Parameters) -> str:
    p = parameters
    return (
        f"Root mean square activity of linear networks on {p.examples} inputs of mean square 1, d_x = d_y = "
        f"{p.ends}, in layers 1, L/4, L/2, 3L/4 and L, the output. Top: at initialisation against depth, "
        f"N = {p.width}; middle: against width, L = {p.depth}. Dots: geometric means over inputs and {p.networks} "
        "networks, with standard errors. Dashed: square root of the expected mean square, which without skips is "
        "the same in all layers (1 for SP, (N_0 / N)^(1/2) for orthogonal weights), 2^((l-1)/2) for SP with skips, "
        "and (1 + 1/L)^((l-1)/2) <= 1.65 for muPC, whose output is smaller by N^-1/2. Dotted: exp of the expected "
        "logarithm, what single networks of normal weights show: without skips below the mean by about "
        f"exp(-l / 2N). Bottom: layers L/2 and L of one network of {p.trained} layers before and after one and two "
        f"steps of gradient descent on F* with exact inference, rate {p.rate:g}, and {p.mupc_rate:g} N for muPC, "
        "which makes its steps alike at every width. After figures of arXiv 2505.13124; N and L are scaled down, "
        "laws, orthogonal weights and the rates of training are ours."
    )


DEFAULT = Parameters()
FIGURE = Figure(
    key="mupc/forward-pass",
    title="Activities of the forward pass",
    caption=caption,
    source="mupc-2025",
    claims=("mupc-2025/forward-pass",),
    presets={
        "quick": replace(DEFAULT, depths=(16, 32), width=32, widths=(16, 32), depth=8, trained=4, networks=2),
        "default": DEFAULT,
        "paper": replace(DEFAULT, widths=(128, 256, 512, 1024), depth=64, trained=16),
    },
    units=units,
    data=data,
    draw=draw,
)
