"""The claims of a checkout and the code that checks them, read from the text of paper_checks: nothing runs."""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..claims import claim_index


@dataclass(frozen=True)
class Source:
    """A file of paper_checks: its text and what stands at its top level."""

    name: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed file."""
        return ast.parse(self.text)

    @property
    def module(self) -> str:
        """The dotted name under which it is imported."""
        return self.name.removesuffix(".py").replace("/", ".")

    @property
    def title(self) -> str:
        """The first line of the docstring."""
        return (ast.get_docstring(self.tree) or self.name).partition("\n")[0]

    @property
    def reference(self) -> str:
        """The paper that the docstring refers to; empty if it names none."""
        _, found, rest = (ast.get_docstring(self.tree) or "").partition("Reference: ")
        return " ".join(rest.split("\n\n")[0].split()) if found else ""

    @cached_property
    def definitions(self) -> dict[str, ast.stmt]:
        """What each name of the top level is: a function, a class or a constant."""
        found: dict[str, ast.stmt] = {}
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found[node.name] = node
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found |= {target.id: node for target in targets if isinstance(target, ast.Name)}
        return found

    def needed(self, name: str) -> list[ast.stmt]:
        """The definition with this name, then every other one of this file that it needs, in the file's order."""
        reached, waiting = {name}, [name]
        while waiting:
            for node in ast.walk(self.definitions[waiting.pop()]):
                if isinstance(node, ast.Name) and node.id in self.definitions and node.id not in reached:
                    reached.add(node.id)
                    waiting.append(node.id)
        nodes = {id(node): node for other, node in self.definitions.items() if other in reached}
        first = nodes.pop(id(self.definitions[name]))
        return [first, *sorted(nodes.values(), key=lambda node: node.lineno)]

    @cached_property
    def lines(self) -> list[str]:
        """The text, line by line."""
        return self.text.splitlines()

    def written(self, node: ast.stmt) -> str:
        """The text of a definition, with its decorators."""
        decorators = getattr(node, "decorator_list", [])
        start = min([node.lineno, *(decorator.lineno for decorator in decorators)])
        return "\n".join(self.lines[start - 1 : node.end_lineno])


@dataclass(frozen=True)
class CheckedClaim:
    """A claim as it is written in the code."""

    key: str
    statement: str
    hypotheses: tuple[str, ...]
    attribution: str
    source: str
    uses: tuple[str, ...]
    file: Source
    function: str

    @property
    def paper(self) -> str:
        """The citation key before the slash."""
        return self.key.partition("/")[0]

    @property
    def name(self) -> str:
        """What it says, in a few words: the key after the slash."""
        return self.key.partition("/")[2]

    @property
    def slug(self) -> str:
        """The key as the name of a file."""
        return self.key.replace("/", "-")

    @property
    def line(self) -> int:
        """Where its check begins."""
        return self.file.definitions[self.function].lineno

    @cached_property
    def _needed(self) -> list[ast.stmt]:
        return self.file.needed(self.function)

    @property
    def code(self) -> list[str]:
        """The check and what it needs of its own file, each definition by itself."""
        return [self.file.written(node) for node in self._needed]

    @cached_property
    def theorems(self) -> set[str]:
        """The functions of pctheory.induction that the check calls."""
        return {
            node.attr
            for top in self._needed
            for node in ast.walk(top)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "induction"
        }


def checked_claims(root: Path) -> dict[str, CheckedClaim]:
    """Every claim of the checkout `root` by key, sorted.

    Raises: ValueError as `claim_index`, and for a claim whose arguments cannot be read without running it.
    """
    found: dict[str, CheckedClaim] = {}
    listed = claim_index(root)
    for name in sorted({row["file"] for row in listed}):
        source = Source(name, (root / name).read_text(encoding="utf-8"))
        found |= {made.key: made for made in _claims(source)}
    for row in listed:
        if row["key"] not in found:
            raise ValueError(
                f"{row['file']}: claim {row['key']} is no decorator of a function; the report needs one"
            )
    _require_page_names(found.values())
    return dict(sorted(found.items()))


def _require_page_names(claims: Iterable[CheckedClaim]) -> None:
    taken: dict[str, str] = {}
    for made in claims:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", made.slug):
            raise ValueError(
                f"claim {made.key}: its key names a page, so use letters, digits, '.', '_' and '-' only"
            )
        if made.slug in taken:
            raise ValueError(f"claim {made.key}: its page would be that of {taken[made.slug]}; rename one of them")
        taken[made.slug] = made.key


def _claims(source: Source) -> Iterator[CheckedClaim]:
    for node in source.tree.body:
        for call in getattr(node, "decorator_list", []):
            called = getattr(call, "func", None)
            if isinstance(node, ast.FunctionDef) and getattr(called, "id", getattr(called, "attr", "")) == "claim":
                given = {keyword.arg: keyword.value for keyword in call.keywords}
                key, statement, attribution, stated = (
                    _literal(source, given, name) for name in ("key", "statement", "attribution", "source")
                )
                hypotheses, uses = (tuple(_literal(source, given, name) or ()) for name in ("hypotheses", "uses"))
                yield CheckedClaim(
                    key, " ".join(statement.split()), hypotheses, attribution, stated, uses, source, node.name
                )


def _literal(source: Source, given: dict[str | None, ast.expr], name: str) -> Any:
    try:
        return ast.literal_eval(given[name]) if name in given else None
    except ValueError as error:
        line = given[name].lineno
        raise ValueError(f"{source.name}, line {line}: a claim's {name} is not written as literals") from error
