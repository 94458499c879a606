"""The four files of a figure: picture (PDF and PNG), data drawn (npz), provenance (JSON, and inside the picture).

The same data, code and versions give the same bytes: no dates, no names of machines, no paths.
"""

import importlib
import io
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib
import matplotlib.figure
import matplotlib.pyplot as plt

from ..processes import time_limit
from .cache import UnitCache, encoded
from .figure import Arrays, Figure
from .style import paper_style


@dataclass(frozen=True)
class Drawing:
    """All that a process of this machine needs to draw a figure: `entries` names those of its units in `cache`.

    `module`, `parameters` and `limit` as in `work.Order`.
    """

    module: str
    parameters: bytes
    provenance: Mapping[str, Any]
    entries: Mapping[str, str]
    cache: UnitCache
    limit: float | None


def draw_figure(order: Drawing) -> dict[str, bytes]:
    """The files of a figure by suffix. Switches matplotlib to its Agg backend for this process.

    Raises: DamagedEntryError; TypeError if `draw` returns anything but a matplotlib figure; whatever `draw` raises.
    """
    matplotlib.use("agg")
    figure, parameters = importlib.import_module(order.module).FIGURE, pickle.loads(order.parameters)
    with time_limit(order.limit):
        arrays = {unit: order.cache.read(entry) for unit, entry in order.entries.items()}
        drawn = {f"{unit}/{name}": array for unit, named in arrays.items() for name, array in named.items()}
        return _pictures(figure, parameters, arrays, order.provenance) | {
            "npz": encoded(drawn),
            "json": (json.dumps(order.provenance, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(),
        }


def _pictures(
    figure: Figure[Any], parameters: Any, arrays: Mapping[str, Arrays], provenance: Mapping[str, Any]
) -> dict[str, bytes]:
    """The picture as PDF and PNG, with the provenance in their metadata."""
    text = json.dumps(provenance, ensure_ascii=False, allow_nan=False)
    title, caption = provenance["title"], provenance["caption"]
    metadata = {
        "pdf": {"Title": title, "Subject": caption, "Keywords": text, "Creator": "pctheory", "CreationDate": None},
        "png": {"Title": title, "Description": caption, "Provenance": text},
    }
    open_before = set(plt.get_fignums())
    try:
        with paper_style():
            picture = figure.draw(arrays, parameters)
            if not isinstance(picture, matplotlib.figure.Figure):
                raise TypeError(f"draw of {figure.key}: must return a matplotlib Figure, got {picture!r}")
            contents = {}
            for suffix, entries in metadata.items():
                contents[suffix] = _saved(picture, suffix, entries)
                picture.set_layout_engine("none")  # it stays as it is: the same in both, and laid out once
            return contents
    finally:
        for number in set(plt.get_fignums()) - open_before:
            plt.close(number)


def _saved(picture: matplotlib.figure.Figure, suffix: str, metadata: Mapping[str, str | None]) -> bytes:
    buffer = io.BytesIO()
    picture.savefig(buffer, format=suffix, metadata=metadata)
    return buffer.getvalue()
