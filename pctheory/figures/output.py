"""The four files of a figure: picture (PDF and PNG), data drawn (npz), provenance (JSON, and inside the picture).

The same data, code and versions give the same bytes: no dates, no names of machines, no paths.
"""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.figure
import matplotlib.pyplot as plt

from ..files import write_atomically
from .cache import encoded
from .figure import Arrays
from .plan import FigurePlan
from .style import paper_style


def save_figure(plan: FigurePlan, arrays: Mapping[str, Arrays], out: Path) -> tuple[Path, ...]:
    """Draw a figure from its units' arrays and write its files into the folder `out`.

    Raises: TypeError if `draw` returns anything but a matplotlib figure; whatever `draw` raises.
    """
    provenance = plan.provenance()
    drawn = {f"{unit}/{name}": array for unit, named in arrays.items() for name, array in named.items()}
    contents = _pictures(plan, arrays, provenance) | {
        "npz": encoded(drawn),
        "json": (json.dumps(provenance, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(),
    }
    files = {out / f"{plan.figure.slug}.{suffix}": content for suffix, content in contents.items()}
    for file, content in files.items():
        write_atomically(file, content)
    return tuple(files)


def _pictures(plan: FigurePlan, arrays: Mapping[str, Arrays], provenance: Mapping[str, Any]) -> dict[str, bytes]:
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
            picture = plan.figure.draw(arrays, plan.parameters)
            if not isinstance(picture, matplotlib.figure.Figure):
                raise TypeError(f"draw of {plan.figure.key}: must return a matplotlib Figure, got {picture!r}")
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
