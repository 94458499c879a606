"""Figures made small: their arrays, the pictures drawn of them, and whether these can be stored."""

import io
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np

from pctheory.figures import paper_style


def computed(module: ModuleType, parameters: Any, leave: Collection[str] = ()) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of each unit but those left out."""
    units = module.FIGURE.unit_parameters(parameters)
    return {
        unit: {name: np.array(a) for name, a in module.data(own, None).items()}
        for unit, own in units.items()
        if unit not in leave
    }


@contextmanager
def drawn(
    arrays: Mapping[Any, Mapping[str, Any]], parameters: Mapping[ModuleType, Any]
) -> Iterator[dict[ModuleType, matplotlib.figure.Figure]]:
    """The picture of each module."""
    with paper_style():
        pictures = {module: module.draw(arrays[module], own) for module, own in parameters.items()}
        yield pictures
    for picture in pictures.values():
        plt.close(picture)


def stored_size(picture: matplotlib.figure.Figure, suffix: str) -> int:
    """Bytes of the picture in a file of this kind, coarse."""
    buffer = io.BytesIO()
    picture.savefig(buffer, format=suffix, dpi=60)
    picture.set_layout_engine("none")  # laid out once, as `pctheory.figures` does
    return len(buffer.getvalue())
