r"""Which source files a figure's numbers come from, read off the import statements without importing anything.

Followed, wherever they stand in a file: `import a.b`, `import a` with every `a.x.y` written later, `from a import
x`, relative imports, and names of a lazily loaded package, looked up in its `__init__.pyi`. A package used as a
whole (`from a import *`, or handed around as an object) counts with all the names of its `__init__.pyi`.
Not seen: modules imported by a computed name.

Only the package pctheory and modules of the checkout count; versions stand for everything else. `pctheory.figures`
does not count either: it runs, stores and draws, and computes no number.
"""

import ast
import functools
import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ..checkout import PACKAGE, Code, called, digest_of
from ..processes import ONE_THREAD, Job

W = TypeVar("W")
MACHINERY = f"{PACKAGE.name}.figures"
# What computes a unit and a claim besides the modules behind them.
WORKING = ("checkout", "processes", "claims", "figures.cache", "figures.figure", "figures.work")
# The distributions that numbers depend on.
COMPUTING = (
    "numpy",
    "scipy",
    "jax",
    "jaxlib",
    "sympy",
    "scikit-learn",
    "mnist1d",
    "diffrax",
    "optax",
    "equinox",
)


@dataclass(frozen=True)
class Sources:
    """The files behind a figure, by module name, with the sha256 of their text."""

    files: dict[str, Path]
    digests: dict[str, str]

    def changed(self) -> list[str]:
        """Names of the modules whose file is no longer what it was."""
        return [name for name, file in self.files.items() if digest_of(file) != self.digests[name]]

    def code(self, root: Path) -> Code:
        """The modules of the checkout `root` among these, to be sent to a worker that has none."""
        working = {f"{PACKAGE.name}.{name}": PACKAGE / f"{name.replace('.', '/')}.py" for name in WORKING}
        return Code.of(self.files | working, root, rests_on=COMPUTING, environment=ONE_THREAD)


def carrying(jobs: Iterable[Job[W]], code: Callable[[W], Code]) -> deque[Job[W]]:
    """The same jobs for workers that need not have the checkout: each carries its code."""
    return deque(Job(job.what, called, (code(job.what), pickle.dumps((job.call, job.arguments)))) for job in jobs)


@dataclass(frozen=True)
class SourceTree:
    """Where modules lie: pctheory in the folder `package`, all others in the checkout `root`.

    What is found is remembered: files must not change during its life. Cost: one parse of each file involved.
    """

    root: Path
    package: Path = PACKAGE
    _seen: dict[str, tuple[tuple[str, Path], ...]] = field(default_factory=dict, init=False, compare=False)
    _inside: dict[Path, tuple[frozenset[str], str]] = field(default_factory=dict, init=False, compare=False)

    def sources(self, module: str) -> Sources:
        """The modules that importing `module` runs, and those that they import."""
        found: dict[str, Path] = {}
        waiting = [module]
        while waiting:
            dotted = waiting.pop()
            if dotted not in self._seen:
                self._seen[dotted] = tuple(self.files(dotted))
            for name, file in self._seen[dotted]:
                if name not in found:
                    found[name] = file
                    waiting += self._read(name, file)[0]
        ordered = dict(sorted(found.items()))
        return Sources(ordered, {name: self._read(name, file)[1] for name, file in ordered.items()})

    def _read(self, name: str, file: Path) -> tuple[frozenset[str], str]:
        """What the file of a module imports, and its digest."""
        if file not in self._inside:
            names = _dotted_names(file.read_text("utf-8"), name, file.name == "__init__.py")
            self._inside[file] = names, digest_of(file)
        return self._inside[file]

    def files(self, dotted: str) -> Iterator[tuple[str, Path]]:
        """The (module, file) pairs that importing the dotted name runs: packages on the way, then its module."""
        first, *rest = dotted.split(".")
        place = self.package if first == self.package.name else self.root / first
        name = first
        while True:
            if f"{name}.".startswith(f"{MACHINERY}."):
                return
            if (place / "__init__.py").is_file():
                yield name, place / "__init__.py"
            elif place.with_suffix(".py").is_file():
                yield name, place.with_suffix(".py")
                return
            if not place.is_dir() or not rest:
                return
            part = rest.pop(0)
            if not (place / part).is_dir() and not (place / f"{part}.py").is_file():
                yield from self._stub_files(place / "__init__.pyi", name, part, rest)
                return
            name, place = f"{name}.{part}", place / part

    def _stub_files(self, stub: Path, package: str, name: str, rest: list[str]) -> Iterator[tuple[str, Path]]:
        """The same for `name` of a lazily loaded package, or for all its names if `name` is `*`."""
        for public, target in _stub_imports(stub.read_text("utf-8")) if stub.is_file() else ():
            if name in ("*", public) and target != name:
                yield from self.files(".".join((package, target, *rest)))


@functools.cache
def _stub_imports(text: str) -> tuple[tuple[str, str], ...]:
    """(public name, dotted name below the package) for every import of the `__init__.pyi` of a package."""
    imports = [node for node in ast.parse(text).body if isinstance(node, ast.ImportFrom)]
    return tuple(
        (alias.asname or alias.name, ".".join(filter(None, (node.module, alias.name))))
        for node in imports
        for alias in node.names
    )


@functools.cache
def _dotted_names(text: str, module: str, is_package: bool) -> frozenset[str]:
    """The full dotted names that the text of `module` imports or reaches through what it imported."""
    tree = ast.parse(text)
    package = module.split(".")[: None if is_package else -1]
    bound: dict[str, set[str]] = {}
    found: set[str] = set()
    for node in ast.walk(tree):
        for dotted, alias in _imports(node, package):
            found.add(dotted)
            bound.setdefault(alias, set()).add(dotted if alias != dotted.split(".")[0] else alias)
    for alias, rest in _uses(tree):
        found |= {f"{dotted}.{rest}" for dotted in bound.get(alias, ())}
    return frozenset(found)


def _imports(node: ast.AST, package: list[str]) -> Iterator[tuple[str, str]]:
    """(dotted name, the name it is bound to here) for each name of an import statement."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name, alias.asname or alias.name.split(".")[0]
    elif isinstance(node, ast.ImportFrom):
        above = package[: len(package) - node.level + 1] if node.level else []
        base = [*above, *filter(None, [node.module])]
        for alias in node.names:
            yield ".".join((*base, alias.name)), alias.asname or alias.name


def _uses(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(name, what follows it) for each use of a bare name: `x.y` follows in `a.x.y`, and `*` in a lone `a`."""
    inner: set[ast.AST] = set()
    for node in ast.walk(tree):  # from the outside in, so that a.x.y is met before a.x
        chain: list[str] = []
        base = node
        while isinstance(base, ast.Attribute) and base not in inner:
            inner.add(base)
            chain.insert(0, base.attr)
            base = base.value
        if isinstance(base, ast.Name) and base not in inner:
            inner.add(base)
            yield base.id, ".".join(chain) or "*"
