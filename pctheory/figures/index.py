"""Which figures a checkout has, read from the text of their files: nothing is imported or run.

A figure is one file `figures/<name>.py` of the checkout with a constant `FIGURE = Figure(key="...", ...)`.
Files whose name starts with an underscore hold what several figures share.
"""

import ast
from dataclasses import dataclass
from pathlib import Path

from ..files import content_of, is_folder


@dataclass(frozen=True)
class FigureEntry:
    """One line of the list of figures; `file` is relative to the checkout."""

    key: str
    title: str
    source: str
    file: str


def figure_files(root: Path) -> list[Path]:
    """The files of the checkout `root` that define a figure, sorted by name.

    Raises: ValueError if `root` has no folder `figures`.
    """
    folder = root / "figures"
    if not is_folder(folder):
        raise ValueError(f"no figures/ folder in {root}; run inside a checkout of pctheory or pass --root")
    return sorted(file for file in folder.glob("*.py") if not file.name.startswith("_"))


def figure_index(root: Path) -> tuple[FigureEntry, ...]:
    """Key, title, source and file of every figure of the checkout `root`, sorted by key.

    Raises: ValueError naming the file that is not Python, has no `FIGURE = Figure(...)`, or writes one of the
    three as anything but a string.
    """
    return tuple(sorted((_entry(file) for file in figure_files(root)), key=lambda entry: entry.key))


def _entry(file: Path) -> FigureEntry:
    name = f"figures/{file.name}"
    try:
        tree = ast.parse(content_of(file).decode("utf-8"), name)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{name}: not a Python file: {error}") from error
    call = next((call for node in tree.body if (call := _figure_call(node))), None)
    if call is None:
        raise ValueError(f"{name}: has no FIGURE = Figure(...); every file of figures/ needs one")
    written = {keyword.arg: keyword.value for keyword in call.keywords}
    key, title, source = (_string(name, field, written.get(field)) for field in ("key", "title", "source"))
    return FigureEntry(key, title, source, name)


def _figure_call(node: ast.stmt) -> ast.Call | None:
    """The right-hand side of `FIGURE = ...` or `FIGURE: type = ...`."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    named = any(isinstance(target, ast.Name) and target.id == "FIGURE" for target in targets)
    value = getattr(node, "value", None)
    return value if named and isinstance(value, ast.Call) else None


def _string(file: str, field: str, node: ast.expr | None) -> str:
    if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        got = "nothing" if node is None else ast.unparse(node)
        raise ValueError(f"{file}: {field} must be written as a plain string in FIGURE = Figure(...), got {got}")
    return node.value
