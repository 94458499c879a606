"""The faults that the audit plants: one line of the library each, kept as data in `catalogue.toml`."""

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..files import content_of
from ..names import no_such

CATALOGUE = Path(__file__).with_name("catalogue.toml")


@dataclass(frozen=True)
class Fault:
    """One wrong line, and who should notice.

    file: below pctheory/. old, new: what stands there, once in the file, and what is put in its place. claims,
    tests: keys of claims and names of tests, in the order in which they are tried. equivalent: why nothing can
    notice, if nothing can. quick: whether it is among the few of a quick audit. twins: whether the false twins of
    claims are tried as well: a judge that accepts everything is noticed by them only.
    """

    name: str
    file: str
    old: str
    new: str
    claims: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    equivalent: str = ""
    quick: bool = False
    twins: bool = False

    @property
    def module(self) -> str:
        """The file's module, `pctheory.x.y`."""
        return ".".join(("pctheory", *Path(self.file).with_suffix("").parts))

    @property
    def digest(self) -> str:
        """The sha256 of all of it."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()

    def planted(self, text: str) -> str:
        """The text of the file with the fault in it. Raises ValueError unless `old` stands there exactly once."""
        if (count := text.count(self.old)) != 1:
            raise ValueError(
                f"fault {self.name}: {self.old!r} stands {count} times in {self.file}, expected once; correct "
                f"{CATALOGUE.name}"
            )
        return text.replace(self.old, self.new)


def catalogue(file: Path = CATALOGUE) -> dict[str, Fault]:
    """All faults by name. Raises ValueError for a name that is there twice, TypeError for an unknown field."""
    try:
        entries: list[dict[str, Any]] = tomllib.loads(content_of(file).decode("utf-8"))["fault"]
        lists = ("claims", "tests")
        faults = [Fault(**(entry | {name: tuple(entry.get(name, ())) for name in lists})) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{file.name}: no catalogue of faults ({error}); correct it") from error
    names = [fault.name for fault in faults]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{file.name}: fault {twice} is there twice; names are unique")
    return dict(zip(names, faults, strict=True))


def chosen(faults: Mapping[str, Fault], names: Sequence[str], *, quick: bool) -> list[Fault]:
    """The faults of these names, or the quick ones, or all. Raises ValueError for a name that is none."""
    for name in names:
        if name not in faults:
            raise no_such("NAME: no fault", name, faults, otherwise=f"there are {', '.join(faults)}")
    return [fault for name, fault in faults.items() if (name in names if names else fault.quick or not quick)]
