r"""The modules of a checkout, sent along with a call to where there is no checkout.

Figures and claims live in a checkout, of which a worker on another machine knows nothing; it has pctheory. So a
call goes there with the text of the modules behind it, and with the digests and versions of what they rest on: the
worker compares its own and refuses to compute with others, for a result would bear the wrong name.

Defined here
    Code        modules of a checkout, packed
    called      what a worker does with a call and its code
    versions    of what is installed
"""

import functools
import hashlib
import importlib
import importlib.metadata
import json
import os
import pickle
import platform
import secrets
import socket
import stat
import sys
import tempfile
import threading
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent
# This process. A fork of it has the same, and its modules.
HERE = secrets.token_hex(16)


@dataclass(frozen=True)
class Code:
    """Modules of a checkout, with what they rest on: `packed` has this sha256 and comes from the process `home`.

    environment: variables that a worker sets before it imports anything, unless it has them.
    """

    packed: bytes
    digest: str
    home: str
    environment: tuple[tuple[str, str], ...]

    @classmethod
    def of(
        cls, files: Mapping[str, Path], root: Path, *, rests_on: Iterable[str], environment: Mapping[str, str]
    ) -> "Code":
        """The modules in these files, by name; those of pctheory, and the distributions `rests_on`, by version."""
        ours = {name: file for name, file in files.items() if file.is_relative_to(PACKAGE)}
        texts = {
            file.relative_to(root).as_posix(): file.read_text("utf-8")
            for name, file in files.items()
            if name not in ours
        }
        contents = {
            "files": texts | _package_marks(texts),
            "modules": {name: digest_of(file) for name, file in ours.items()},
            "versions": versions("pctheory", *rests_on),
        }
        packed = zlib.compress(json.dumps(contents, sort_keys=True).encode(), 9)
        return cls(packed, hashlib.sha256(packed).hexdigest(), HERE, tuple(environment.items()))

    def contents(self) -> dict[str, dict[str, str]]:
        """Texts by file, digests of pctheory's modules, versions. Raises: ValueError for damaged ones."""
        if hashlib.sha256(self.packed).hexdigest() != self.digest:
            raise ValueError("the code of the call was damaged on its way: its sha256 does not fit; run again")
        contents: dict[str, dict[str, str]] = json.loads(zlib.decompress(self.packed))
        return contents


def _package_marks(files: Iterable[str]) -> dict[str, str]:
    """An empty `__init__.py` for each folder without: else a package of that name elsewhere would win."""
    inits = {f"{folder.as_posix()}/__init__.py" for file in files for folder in Path(file).parents if folder.name}
    return dict.fromkeys(inits - set(files), "")


def versions(*distributions: str) -> dict[str, str | None]:
    """The version of Python and of each distribution; None for one that is not installed."""
    return {"python": ".".join(platform.python_version_tuple()[:2])} | {
        name: _version(name) for name in distributions
    }


@functools.cache
def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def digest_of(file: Path) -> str:
    """The sha256 of a file's text, whatever its line ends; of nothing if the file is gone."""
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return hashlib.sha256(text.encode()).hexdigest()


def called(code: Code, pickled: bytes) -> Any:
    """The result of a call, pickled as (function, arguments), with the modules of `code` in place.

    In the process that packed them they are in place. Elsewhere one call at a time is made.
    Raises: ValueError if what is installed here is not what the code rests on, besides what the call raises.
    """
    if code.home == HERE:
        function, arguments = pickle.loads(pickled)
        return function(*arguments)
    with _PLACE.lock:
        try:
            _PLACE.take(code)
            function, arguments = pickle.loads(pickled)
            result = function(*arguments)
            _PLACE.refuse_changes()
        except Exception as error:
            error.add_note(f"at the worker on {socket.gethostname()}, process {os.getpid()}")
            raise
        return result


class _Place:
    """Where the modules of a checkout are in this process, and whose they are."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._digest, self._folder = "", ""
        self._tops: set[str] = set()
        self._modules: Iterable[str] = ()

    def take(self, code: Code) -> None:
        """Have modules of these names imported from `code` and from nowhere else."""
        if code.digest == self._digest:
            return
        self._digest = ""
        for name, value in code.environment:
            os.environ.setdefault(name, value)
        contents = code.contents()
        _refuse_differences(contents["modules"], contents["versions"])
        folder = _unpacked(code.digest, contents["files"])
        tops = {file.partition("/")[0].removesuffix(".py") for file in contents["files"]}
        for name in list(sys.modules):
            if name.partition(".")[0] in self._tops | tops:
                del sys.modules[name]
        sys.path[:] = [folder, *(entry for entry in sys.path if entry not in (folder, self._folder))]
        importlib.invalidate_caches()
        self._digest, self._folder, self._tops, self._modules = code.digest, folder, tops, contents["modules"]

    def refuse_changes(self) -> None:
        """Raises RuntimeError if pctheory was changed while this process has been using it."""
        changed = [name for name in self._modules if digest_of(_file_of(name)) != _at_start()[name]]
        if changed:
            raise RuntimeError(
                f"{', '.join(changed)} changed at the worker on {socket.gethostname()} after it started; restart it"
            )


_PLACE = _Place()


def _file_of(module: str) -> Path:
    place = PACKAGE.joinpath(*module.split(".")[1:])
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


@functools.cache
def _at_start() -> dict[str, str]:
    """The digests of pctheory's modules, as this process found them at first."""
    names = (file.relative_to(PACKAGE).with_suffix("").parts for file in PACKAGE.rglob("*.py"))
    modules = {".".join((PACKAGE.name, *parts)).removesuffix(".__init__") for parts in names}
    return {module: digest_of(_file_of(module)) for module in modules}


def _refuse_differences(modules: Mapping[str, str], installed: Mapping[str, str | None]) -> None:
    """Raises ValueError naming the modules and versions that are others here than where the call comes from."""
    own = versions(*(name for name in installed if name != "python"))
    differences = [
        f"{name} is {own[name] or 'missing'} there, {version or 'missing'} here"
        for name, version in installed.items()
        if own[name] != version
    ]
    differences += [
        f"{name} has sha256 {_at_start().get(name, 'missing')[:12]} there, {digest[:12]} here"
        for name, digest in modules.items()
        if _at_start().get(name) != digest
    ]
    if differences:
        raise ValueError(
            f"the worker on {socket.gethostname()} would compute something else: {'; '.join(differences)}; "
            "install the same there, and restart it"
        )


def _unpacked(digest: str, files: Mapping[str, str]) -> str:
    """A folder with these files, named by their digest; others, at the same time too, may be using it."""
    folder = _own_folder() / digest
    for name, text in files.items():
        file, content = folder / name, text.encode()
        if not (file.is_file() and file.read_bytes() == content):
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary = file.with_name(f".{file.name}.{secrets.token_hex(8)}.tmp")
            temporary.write_bytes(content)
            temporary.replace(file)
    return str(folder)


def _own_folder() -> Path:
    """A temporary folder that no one else can write. Raises: PermissionError if what is there is not."""
    owner = os.getuid() if hasattr(os, "getuid") else "code"
    folder = Path(tempfile.gettempdir()) / f"pctheory-{owner}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    others = hasattr(os, "getuid") and (found.st_uid != owner or found.st_mode & 0o022)
    if not stat.S_ISDIR(found.st_mode) or others:
        raise PermissionError(f"{folder} is not a folder that only its owner can write; remove it")
    return folder
