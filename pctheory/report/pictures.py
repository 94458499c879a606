"""The figures of a checkout, and what was drawn of them: picture, data and provenance in a folder."""

import ast
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..figures.index import FigureEntry, figure_index
from ..figures.sources import SourceTree

KINDS = {"png": "picture", "pdf": "picture for print", "npz": "data, for numpy.load", "json": "provenance"}


@dataclass(frozen=True)
class Picture:
    """A figure of the code with its files, by suffix, and its provenance; both empty if it was not drawn."""

    entry: FigureEntry
    claims: tuple[str, ...]
    files: dict[str, Path]
    provenance: dict[str, Any]
    problem: str = ""
    changed: bool = False

    @property
    def key(self) -> str:
        """Paper and what it shows."""
        return self.entry.key

    @property
    def slug(self) -> str:
        """The key as the name of a file."""
        return self.key.replace("/", "-")

    @property
    def drawn(self) -> bool:
        """Whether there is a picture with its provenance."""
        return bool(self.provenance)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the PNG in pixels."""
        width, height = struct.unpack(">II", self.files["png"].read_bytes()[16:24])
        return width, height


def pictures(root: Path, folder: Path) -> dict[str, Picture]:
    """Every figure of the checkout `root` by key, with what `folder` has of it.

    Raises: ValueError as `figure_index`.
    """
    tree = SourceTree(root)
    return {entry.key: _picture(entry, tree, folder) for entry in figure_index(root)}


def _picture(entry: FigureEntry, tree: SourceTree, folder: Path) -> Picture:
    claims = _shown_claims((tree.root / entry.file).read_text(encoding="utf-8"))
    slug = entry.key.replace("/", "-")
    files = {kind: folder / f"{slug}.{kind}" for kind in KINDS if (folder / f"{slug}.{kind}").is_file()}
    if not files:
        return Picture(entry, claims, {}, {}, "It has not been drawn yet.")
    try:
        provenance = json.loads(files["json"].read_text(encoding="utf-8"))
        drawn_by = provenance["code"]["modules"]
        if provenance["key"] != entry.key or not files["png"].read_bytes().startswith(b"\x89PNG"):
            raise ValueError("the files are of something else")
        for name in ("caption", "preset", "parameters", "units", "versions", "claims"):
            provenance[name]
        claims = claims or tuple(map(str, provenance["claims"]))
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        return Picture(entry, claims, {}, {}, f"Its files are damaged ({reason}); draw it again.")
    module = entry.file.removesuffix(".py").replace("/", ".")
    changed = drawn_by != tree.sources(module).digests
    return Picture(entry, claims, files, provenance, "", changed)


def _shown_claims(text: str) -> tuple[str, ...]:
    """The claims that a figure names, where they are written as literals."""
    for node in _calls(ast.parse(text)):
        for keyword in node.keywords:
            if keyword.arg == "claims":
                try:
                    return tuple(ast.literal_eval(keyword.value))
                except ValueError:
                    return ()
    return ()


def _calls(tree: ast.Module) -> Iterator[ast.Call]:
    for node in tree.body:
        value = getattr(node, "value", None)
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(value, ast.Call):
            called = value.func
            if getattr(called, "id", getattr(called, "attr", "")) == "Figure":
                yield value
