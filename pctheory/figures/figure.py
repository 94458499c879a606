"""A figure: parameters, `data` that computes, `draw` that draws.

    FIGURE = Figure(
        key="saddles/toy-models",
        title="Toy models",
        caption="Loss and equilibrated energy ...",
        source="saddles-2024",
        presets={"quick": P(...), "default": P(...), "paper": P(...)},
        data=data,
        draw=draw,
    )

`data` and `draw` stand in the same file, `figures/<name>.py` of the checkout.
"""

import dataclasses
import importlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy.typing as npt

from ..checkout import PACKAGE
from .index import figure_files

if TYPE_CHECKING:
    import matplotlib.figure

PRESETS = ("quick", "default", "paper")

P = TypeVar("P")
Arrays = Mapping[str, npt.NDArray[Any]]


def _one_unit(parameters: P) -> Mapping[str, P]:
    return {"all": parameters}


def _no_data_sets(parameters: object) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Figure(Generic[P]):
    r"""One figure, of parameters `P` (a frozen dataclass of numbers, strings, tuples and further dataclasses).

    presets: the parameters of `quick` (seconds), `default` (minutes) and `paper` (the sizes of the source).
    units: named, smaller parameters (a seed, a width), each computed and cached on its own.
    data: the arrays of one unit, given its parameters and the folder with data files (None: not given).
    draw: the picture, given {unit: {name: array}} and the parameters of the whole. Computes nothing.
    data_sets: names of the data sets that these parameters read.
    caption: text, or text that depends on the parameters.
    source: key of the paper; `claims`: keys of the claims that the figure shows.
    allow_nonfinite: NaN and infinity have a meaning here (a run that diverged) and are not an error.

    Raises: ValueError, TypeError for a malformed key, a missing preset, or parameters not a frozen dataclass.
    """

    key: str
    title: str
    caption: str | Callable[[P], str]
    source: str
    presets: Mapping[str, P]
    data: Callable[[P, Path | None], Mapping[str, npt.ArrayLike]]
    draw: Callable[[Mapping[str, Arrays], P], "matplotlib.figure.Figure"]
    claims: tuple[str, ...] = ()
    units: Callable[[P], Mapping[str, P]] = _one_unit
    data_sets: Callable[[P], tuple[str, ...]] = _no_data_sets
    allow_nonfinite: bool = False

    def __post_init__(self) -> None:
        """Refuse what could only fail later, in the middle of a run."""
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*/[a-z0-9]+(-[a-z0-9]+)*", self.key):
            raise ValueError(f"key: expected paper/what-it-shows in small letters, digits and -, got {self.key!r}")
        missing = [preset for preset in PRESETS if preset not in self.presets]
        if missing:
            raise ValueError(f"presets of {self.key}: {', '.join(missing)} missing; give {', '.join(PRESETS)}")
        for preset, parameters in self.presets.items():
            _require_frozen(f"presets[{preset!r}] of {self.key}", parameters)

    @property
    def slug(self) -> str:
        """The key as the name of a file."""
        return self.key.replace("/", "-")

    @property
    def module(self) -> str:
        """The module that defines the figure: the one in which `data` stands."""
        return self.data.__module__

    def parameters(self, preset: str) -> P:
        """The parameters of a preset. Raises: ValueError listing the presets there are."""
        if preset not in self.presets:
            known = ", ".join(self.presets)
            raise ValueError(f"preset: {self.key} has no preset {preset!r}; it has {known}")
        return self.presets[preset]

    def caption_text(self, parameters: P) -> str:
        """The caption for these parameters."""
        return self.caption(parameters) if callable(self.caption) else self.caption

    def unit_parameters(self, parameters: P) -> dict[str, P]:
        """The units of these parameters, in order. Raises: ValueError, TypeError if they are not such."""
        units = dict(self.units(parameters))
        if not units:
            raise ValueError(f"units of {self.key}: got none for {parameters}; return at least one")
        for name, unit in units.items():
            if not isinstance(name, str) or not name:
                raise TypeError(f"units of {self.key}: names must be non-empty strings, got {name!r}")
            if type(unit) is not type(parameters):
                expected = type(parameters).__name__
                raise TypeError(f"units of {self.key}: unit {name!r} must be a {expected}, got {unit!r}")
        return units


def _require_frozen(where: str, parameters: object) -> None:
    is_instance = dataclasses.is_dataclass(parameters) and not isinstance(parameters, type)
    if not (is_instance and getattr(parameters, "__dataclass_params__").frozen):  # noqa: B009 (not in the types)
        raise TypeError(f"{where}: expected an instance of a frozen dataclass, got {parameters!r}")


def collect_figures(root: Path) -> dict[str, Figure[Any]]:
    """Every figure of the checkout `root` by key, sorted; puts `root` first on `sys.path` and imports its files.

    Raises: ValueError if there is no folder `figures`, a file fails to import or defines no figure, or two
    figures have the same key or file name.
    """
    files = figure_files(root)  # before the root is resolved: a link to itself is no folder
    root = root.resolve()
    if (root / PACKAGE.name).is_dir() and root / PACKAGE.name != PACKAGE:
        raise ValueError(
            f"{root} has its own {PACKAGE.name}, but {PACKAGE} is installed: run `pip install -e {root}`"
        )
    _put_on_path(root)
    figures: dict[str, Figure[Any]] = {}
    for file in files:
        figure = _imported(file)
        rival = next((other for other in figures.values() if other.slug == figure.slug), None)
        if rival:
            other_file = rival.module.replace(".", "/") + ".py"
            raise ValueError(
                f"figures/{file.name}: key {figure.key} is taken by {rival.key} of {other_file}; rename one"
            )
        figures[figure.key] = figure
    return dict(sorted(figures.items()))


def _put_on_path(root: Path) -> None:
    """Make `import figures.<name>` find the files of this checkout and of no other."""
    if str(root) in sys.path:
        sys.path.remove(str(root))
    sys.path.insert(0, str(root))
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.startswith("figures.") and not (file and Path(file).is_relative_to(root / "figures")):
            del sys.modules[name]
    importlib.invalidate_caches()


def _imported(file: Path) -> Figure[Any]:
    name = f"figures.{file.stem}"
    try:
        module = importlib.import_module(name)
    except Exception as error:
        raise ValueError(f"figures/{file.name}: cannot be imported: {type(error).__name__}: {error}") from error
    figure = getattr(module, "FIGURE", None)
    if not isinstance(figure, Figure):
        raise ValueError(f"figures/{file.name}: needs FIGURE = Figure(...), got {figure!r}")
    if figure.module != name:
        raise ValueError(f"figures/{file.name}: data must be defined in this file, got one of {figure.module}")
    return figure


def selected(figures: Mapping[str, Figure[Any]], keys: Iterable[str]) -> list[Figure[Any]]:
    """The figures with these keys, or all of them if `keys` is empty. Raises: ValueError listing what exists."""
    keys = list(dict.fromkeys(keys)) or list(figures)
    for key in keys:
        if key not in figures:
            raise ValueError(f"key: no figure {key!r}; there are {', '.join(figures) or 'none'}")
    return [figures[key] for key in keys]
