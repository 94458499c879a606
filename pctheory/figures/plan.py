"""What a run will do: the units of each figure with the keys of their cache entries, and the provenance.

The key of a unit is a sha256 over the figure's key, the unit's parameters, the text of the figure's file and of
every module of pctheory behind it, the names of its data sets, and the versions of what computes. The same
anywhere: no path, date or name of a machine goes in.
"""

import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkout import versions
from .figure import Figure
from .sources import COMPUTING, Sources, SourceTree

# A change in how units are computed and stored that no other part of the key would tell.
FORMAT = 1
# What the picture depends on besides.
DRAWING = ("matplotlib",)


@dataclass(frozen=True)
class Unit:
    """A unit of a figure and the name of its cache entry."""

    figure: Figure[Any]
    name: str
    parameters: Any
    entry: str
    sources: Sources

    @property
    def plain_parameters(self) -> dict[str, Any]:
        """The parameters as JSON has them."""
        return plain(self.parameters)


@dataclass(frozen=True)
class FigurePlan:
    """A figure at the parameters of one preset."""

    figure: Figure[Any]
    preset: str
    parameters: Any
    units: tuple[Unit, ...]
    sources: Sources

    def provenance(self) -> dict[str, Any]:
        """Everything that the drawn figure came from, as JSON has it."""
        figure = self.figure
        return {
            "key": figure.key,
            "title": figure.title,
            "caption": figure.caption_text(self.parameters),
            "source": figure.source,
            "claims": list(figure.claims),
            "preset": self.preset,
            "parameters": plain(self.parameters),
            "data_sets": list(figure.data_sets(self.parameters)),
            "units": {
                unit.name: {"parameters": unit.plain_parameters, "cache_entry": unit.entry} for unit in self.units
            },
            "code": {"sha256": _sha256(self.sources.digests), "modules": self.sources.digests},
            "versions": versions(*COMPUTING, *DRAWING),
        }


def figure_plan(figure: Figure[Any], preset: str, tree: SourceTree | None = None) -> FigurePlan:
    """The plan of a figure at a preset. `tree`: where its sources lie, if that of its checkout is known already.

    Raises: ValueError, TypeError if its units or their parameters cannot be used.
    """
    parameters = figure.parameters(preset)
    sources = (tree or SourceTree(root_of(figure))).sources(figure.module)
    units = tuple(
        Unit(figure, name, unit, f"{figure.slug}.{unit_key(figure, unit, sources)}", sources)
        for name, unit in figure.unit_parameters(parameters).items()
    )
    return FigurePlan(figure, preset, parameters, units, sources)


def root_of(figure: Figure[Any]) -> Path:
    """The checkout that a figure belongs to."""
    file = getattr(sys.modules.get(figure.module), "__file__", None)
    if file is None or not figure.module.startswith("figures."):
        raise ValueError(f"data of {figure.key}: must be defined in figures/<name>.py, got module {figure.module}")
    return Path(file).resolve().parents[1]


def unit_key(figure: Figure[Any], parameters: Any, sources: Sources) -> str:
    """The sha256 of everything that the numbers of a unit depend on."""
    return _sha256(
        {
            "format": FORMAT,
            "figure": figure.key,
            "allow_nonfinite": figure.allow_nonfinite,
            "class": type(parameters).__qualname__,
            "parameters": plain(parameters),
            "data_sets": list(figure.data_sets(parameters)),
            "modules": sources.digests,
            "versions": versions(*COMPUTING),
        }
    )


def _sha256(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def plain(value: Any, where: str = "parameters") -> Any:
    """Parameters as JSON has them: dataclasses and mappings as objects, tuples and lists as lists.

    Raises: TypeError naming the field that is nothing of the kind, ValueError if it is NaN or infinite.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: expected a finite number, got {value}; use None for 'no limit'")
    if value is None or type(value) in (bool, int, float, str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name), f"{where}.{f.name}") for f in dataclasses.fields(value)}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise TypeError(f"{where}: expected a number, text, tuple or dataclass, got {type(value).__name__} {value!r}")
