"""Every file that pctheory reads, damaged: documented errors in one line, or what an undamaged file would give.

The process that tries them is `python -m tests.test_fuzz_files EXAMPLES [SEED] [TARGET...]`. `KINDS` are things
that are no file at all.
"""

import contextlib
import copy
import gzip
import hashlib
import io
import json
import os
import pickle
import resource
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import strategies as st

import pctheory
from pctheory.audit.catalogue import CATALOGUE, catalogue
from pctheory.claims import claim_index
from pctheory.datasets import FILE_SETS, DataFile, cifar_records, dataset, idx_array
from pctheory.figures import figure_index
from pctheory.figures.cache import MAGIC, DamagedEntryError, UnitCache, encoded
from pctheory.ledger import ledger_of, read_ledger, signed
from pctheory.report.pictures import pictures

from .hostile import FOLDER, Fuzz, driven, run_suite
from .reports import ROOT
from .test_command_line import CLAIMS
from .test_fuzz_library import only_documented_errors
from .test_ledger import record

MEMORY = 2 * 2**30  # more than there is at the start: what a small file may make a reader ask for is far less
VALUES = (None, True, -1, 0, 10**30, 1e308, "", "\ud800", "a\nb", [], {}, [[]], {"a": None}, "NaN", -0.5)
FIGURE = """
from pctheory.figures import Figure
FIGURE = Figure(key="a/b", title="T", caption="C", source="-", presets={}, data=None, draw=None)
"""


@dataclass(frozen=True)
class Target:
    """The content of a true file, how it is damaged and how it is read; `names`: what an error must name."""

    content: Callable[[], Any]
    read: Callable[[Path, Any], Any]
    damaged: Callable[[st.DrawFn, Any], tuple[str, Any]]
    names: tuple[str, ...]
    also: tuple[type[BaseException], ...] = ()
    file: str = "content"


def bytes_damaged(draw: st.DrawFn, content: bytes) -> tuple[str, bytes]:
    """Cut, flipped, inserted, doubled, or with a length that is a lie."""
    what = draw(st.sampled_from(("cut", "flip", "insert", "leave out", "double", "lie", "begin", "other", "none")))
    at = draw(st.integers(0, len(content)))
    end = min(len(content), at + draw(st.integers(1, 16)))
    made: dict[str, Callable[[], bytes]] = {
        "cut": lambda: content[:at],
        "flip": lambda: content[:at] + bytes(b ^ (1 << (at % 8)) for b in content[at:end]) + content[end:],
        "insert": lambda: content[:at] + draw(st.binary(max_size=20)) + content[at:],
        "leave out": lambda: content[:at] + content[end:],
        "double": lambda: content[:end] + content[at:end] * 3 + content[end:],
        "lie": lambda: content[:at] + draw(st.sampled_from(LIES)) + content[end:],
        "begin": lambda: draw(st.sampled_from(BEGINNINGS)) + content[at:],
        "other": lambda: draw(st.sampled_from(BEGINNINGS)) + draw(st.binary(max_size=60)),
        "none": lambda: content,
    }
    damaged = made[what]()
    return f"{what} at {at}: {damaged[:30]!r}.. of {len(damaged)} bytes", damaged


LIES = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff\xff\xff\xff\xff", b"\x00", b"1e999", b"9" * 5000, b"[" * 100_000)
BEGINNINGS = (b"", b"PK\x03\x04", b"\x80\x04\x95", b"\x1f\x8b\x08", b"\x93NUMPY\x01\x00", b"\xef\xbb\xbf", MAGIC)


def json_damaged(draw: st.DrawFn, content: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """One value of it replaced, left out or doubled."""
    damaged = copy.deepcopy(content)
    place: Any = damaged
    path = []
    while isinstance(place, dict | list) and place:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        path.append(key)
        if not isinstance(place[key], dict | list) or not place[key] or draw(st.booleans()):
            break
        place = place[key]
    what = draw(st.sampled_from(("value", "value", "value", "left out", "double")))
    if what == "value":
        place[path[-1]] = value = copy.deepcopy(draw(st.sampled_from(VALUES)))
        what = f"{value!r}"
    elif what == "left out":
        del place[path[-1]]
    elif isinstance(place, list):
        place.append(place[path[-1]])
    return f"{'/'.join(map(str, path))}: {what}", damaged


def idx_bytes(array: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()


@cache
def small_set(name: str) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    if name == "mnist":
        arrays = [rng.integers(0, 10, shape, dtype=np.uint8) for shape in ((4, 3, 2), (4,), (2, 3, 2), (2,))]
        contents = [idx_bytes(array) for array in arrays]
    else:
        rows = [np.hstack([[[i]], rng.integers(0, 256, (1, 3072))]).astype(np.uint8) for i in range(6)]
        contents = [row.tobytes() for row in rows]
    return {file.name: content for file, content in zip(FILE_SETS[name].files, contents, strict=True)}


def described(name: str, contents: dict[str, bytes], archive: bytes = b"") -> None:
    """Make these contents the originals of a data set, in this process."""

    def file(key: str, content: bytes) -> DataFile:
        return DataFile(key, len(content), hashlib.sha256(content).hexdigest())

    source = FILE_SETS[name]
    files = {key: file(key, content) for key, content in contents.items()}
    FILE_SETS[name] = replace(
        source,
        train=tuple(files[one.name] for one in source.train),
        test=tuple(files[one.name] for one in source.test),
        archive=source.archive and file(source.archive.name, archive),
    )


def read_mnist(path: Path, damaged: bytes, *, suffix: str = "", accepted: bool = False) -> Any:
    """The data set, the first of its files being this one; `accepted`: as if it were the original."""
    contents = dict(small_set("mnist"))
    first = next(iter(contents))
    described("mnist", contents | {first: damaged} if accepted else contents)
    folder = path.parent / "mnist"
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        if name != first:
            (folder / name).write_bytes(content)
    (folder / f"{first}{suffix}").write_bytes(damaged)
    with contextlib.ExitStack() as stack:
        stack.callback((folder / f"{first}{suffix}").unlink)
        return dataset("mnist", data_dir=path.parent)


@cache
def archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in small_set("cifar10").items():
            info = tarfile.TarInfo(f"{FILE_SETS['cifar10'].inner}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def read_cifar(path: Path, damaged: bytes, *, accepted: bool) -> Any:
    described("cifar10", small_set("cifar10"), damaged if accepted else archive())
    folder = path.parent / "cifar10"
    folder.mkdir(exist_ok=True)
    (folder / FILE_SETS["cifar10"].archive.name).write_bytes(damaged)
    return dataset("cifar10", data_dir=path.parent)


@cache
def ledger() -> dict[str, Any]:
    """A sound one, of two claims."""
    claims = [record(), record("b/rests-on-it", uses=["a/holds"])]
    return ledger_of(claims, pctheory="0.1.0", versions={"numpy": "2.0"}, started=1.8e9, seconds=1.5)


def read_bytes_with(read: Callable[[Path], Any]) -> Callable[[Path, bytes], Any]:
    def written(path: Path, damaged: bytes) -> Any:
        path.write_bytes(damaged)
        return read(path)

    return written


def read_signed_ledger(path: Path, damaged: dict[str, Any]) -> Any:
    try:
        text = json.dumps(signed(damaged), allow_nan=False)
    except (ValueError, UnicodeError):
        text = json.dumps(damaged)
    path.write_text(text, encoding="utf-8")
    return read_ledger(path)


@cache
def entry() -> bytes:
    return encoded({"a": np.arange(6.0).reshape(2, 3), "b": np.array(["x", "yz"]), "c": np.array(True)})


def read_entry(path: Path, damaged: bytes, *, digested: bool) -> Any:
    """An entry of the cache; `digested`: with a digest that fits."""
    stored = UnitCache(path.parent)
    stored.write("entry", damaged if digested else entry())
    if not digested:
        stored.path("entry").write_bytes(damaged)
    return stored.read("entry")


@cache
def entry_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        stored = UnitCache(Path(folder))
        stored.write("entry", entry())
        return stored.path("entry").read_bytes()


@cache
def search() -> tuple[pctheory.LinearPCN, np.ndarray, np.ndarray, pctheory.Derivatives]:
    net = pctheory.LinearPCN([np.ones((1, 1)), np.ones((1, 1))])
    derivatives = pctheory.Derivatives(pctheory.loss, pctheory.weight_gradient, pctheory.weight_hessian_dense)
    return net, np.ones((2, 1)), np.ones((2, 1)), derivatives


def searched(state: Path) -> list[Any]:
    found = pctheory.critical_point_search(*search(), starts=1, seed=0, iterations=2, at_once=1, state=state)
    return [np.asarray(point.net.weights.runs[0]) for point in found]


@cache
def state_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        searched(Path(folder) / "state.npz")
        return (Path(folder) / "state.npz").read_bytes()


@cache
def provenance() -> dict[str, Any]:
    return {
        "key": "a/b",
        "caption": "C",
        "preset": "quick",
        "parameters": {"n": 1},
        "units": {"all": {"parameters": {}, "cache_entry": "x"}},
        "versions": {"numpy": "2.0"},
        "claims": ["a/holds"],
        "code": {"sha256": "0", "modules": {"figures.one": "0"}},
    }


def read_pictures(path: Path, damaged: Any) -> Any:
    root = path.parent
    (root / "figures").mkdir(exist_ok=True)
    (root / "figures" / "one.py").write_text(FIGURE)
    for kind, content in (("png", b"\x89PNG" + bytes(40)), ("pdf", b""), ("npz", b"")):
        (root / f"a-b.{kind}").write_bytes(content)
    content = damaged if isinstance(damaged, bytes) else json.dumps(damaged).encode()
    (root / "a-b.json").write_bytes(content)
    return [(picture.problem, picture.drawn) for picture in pictures(root, root).values()]


def read_source(path: Path, damaged: bytes, *, folder: str, read: Callable[[Path], Any]) -> Any:
    (path.parent / folder).mkdir(exist_ok=True)
    (path.parent / folder / "one.py").write_bytes(damaged)
    return read(path.parent)


FILE_NAMES = (*(file.name for file in FILE_SETS["mnist"].files), "mnist", "train-images-idx3-ubyte.gz")
TARGETS: dict[str, Target] = {
    "IDX": Target(
        lambda: idx_bytes(np.arange(24, dtype=np.uint8).reshape(4, 3, 2)),
        lambda path, damaged: idx_array(damaged, axes=3, name=path.name),
        bytes_damaged,
        ("content",),
    ),
    "CIFAR records": Target(
        lambda: bytes(2 * 3073),
        lambda path, damaged: cifar_records(damaged, name=path.name),
        bytes_damaged,
        ("content",),
    ),
    "data set": Target(
        lambda: next(iter(small_set("mnist").values())), read_mnist, bytes_damaged, FILE_NAMES, (FileNotFoundError,)
    ),
    "data set, taken for the original": Target(
        lambda: next(iter(small_set("mnist").values())),
        partial(read_mnist, accepted=True),
        bytes_damaged,
        FILE_NAMES,
        (FileNotFoundError,),
    ),
    "data set, gzipped": Target(
        lambda: gzip.compress(next(iter(small_set("mnist").values())), mtime=0),
        partial(read_mnist, suffix=".gz"),
        bytes_damaged,
        FILE_NAMES,
        (FileNotFoundError,),
    ),
    "data set, archive": Target(archive, partial(read_cifar, accepted=False), bytes_damaged, ("cifar10",)),
    "data set, archive taken for the original": Target(
        archive, partial(read_cifar, accepted=True), bytes_damaged, ("cifar10",)
    ),
    "ledger": Target(
        lambda: json.dumps(ledger()).encode(), read_bytes_with(read_ledger), bytes_damaged, ("ledger",)
    ),
    "ledger, signed": Target(ledger, read_signed_ledger, json_damaged, ("ledger",)),
    "catalogue of faults": Target(
        lambda: CATALOGUE.read_bytes()[:1500], read_bytes_with(catalogue), bytes_damaged, ("content",)
    ),
    "cache entry": Target(
        entry_file, partial(read_entry, digested=False), bytes_damaged, ("entry.unit",), (DamagedEntryError,)
    ),
    "cache entry, digest fits": Target(
        entry, partial(read_entry, digested=True), bytes_damaged, ("entry.unit",), (DamagedEntryError,)
    ),
    "state of a search": Target(state_file, read_bytes_with(searched), bytes_damaged, ("state",)),
    "provenance": Target(provenance, read_pictures, json_damaged, ()),
    "provenance, bytes": Target(
        lambda: json.dumps(provenance()).encode(), read_pictures, bytes_damaged, ()
    ),
    "file of claims": Target(
        lambda: CLAIMS.encode(),
        partial(read_source, folder="paper_checks", read=claim_index),
        bytes_damaged,
        ("paper_checks/one.py", "one.py"),
    ),
    "file of a figure": Target(
        lambda: FIGURE.encode(),
        partial(read_source, folder="figures", read=figure_index),
        bytes_damaged,
        ("figures/one.py", "one.py"),
    ),
}  # fmt: skip


def tried(fuzz: Fuzz, name: str, data: st.DataObject) -> None:
    """One damaged file, in a folder of its own. Nothing is written beside it, and nothing is left open."""
    target = TARGETS[name]
    content = target.content()
    said, damaged = target.damaged(data.draw, content)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / target.file
        call = partial(target.read, path, damaged)
        result = fuzz.call(name, call, said, names=target.names, also=target.also)
    if not isinstance(result, BaseException) and damaged == content and not target.content:
        fuzz.note(name, "read nothing", "", said)


# What may lie where a file is expected, and how it is put there.
KINDS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: None,
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "link to nothing": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to a pipe": lambda path: (os.mkfifo(path.with_name("pipe")), path.symlink_to("pipe")),
    "link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "link to /dev/null": lambda path: path.symlink_to("/dev/null"),
    "empty": Path.touch,
    "pickle": lambda path: path.write_bytes(pickle.dumps(print)),
    "pickled array": lambda path: np.save(path.open("wb"), np.array([print], dtype=object), allow_pickle=True),
    "zip of pickles": lambda path: np.savez(path.open("wb"), key=np.array([print], dtype=object)),
    "zip bomb": lambda path: path.write_bytes(zip_bomb()),
    "gzip bomb": lambda path: path.write_bytes(gzip_bomb()),
    "giant array": lambda path: path.write_bytes(giant_array()),
}
READERS: dict[str, tuple[Callable[[Path], Any], str, tuple[str, ...], tuple[type[BaseException], ...]]] = {
    "ledger": (read_ledger, "claims.json", ("ledger",), ()),
    "catalogue of faults": (catalogue, "catalogue.toml", ("catalogue.toml",), ()),
    "cache entry": (
        lambda path: UnitCache(path.parent).read("entry"), "entry.unit", ("entry.unit",), (DamagedEntryError,)
    ),
    "state of a search": (searched, "state.npz", ("state",), ()),
    "data set": (
        lambda path: dataset("mnist", data_dir=path.parent.parent),
        "mnist/train-images-idx3-ubyte",
        ("mnist",),
        (FileNotFoundError,),
    ),
    "data set, gzipped": (
        lambda path: dataset("mnist", data_dir=path.parent.parent),
        "mnist/train-images-idx3-ubyte.gz",
        ("mnist",),
        (FileNotFoundError,),
    ),
    "data set, archive": (
        lambda path: dataset("cifar10", data_dir=path.parent.parent),
        "cifar10/cifar-10-binary.tar.gz",
        ("cifar10",),
        (FileNotFoundError,),
    ),
    "file of claims": (lambda path: claim_index(path.parents[1]), "paper_checks/one.py", ("one.py",), ()),
    "file of a figure": (lambda path: figure_index(path.parents[1]), "figures/one.py", ("one.py",), ()),
}  # fmt: skip


@cache
def zip_bomb() -> bytes:
    """A quarter of a gigabyte of zeros that is said to be an array."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (2**25,)})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("key.npy", header.getvalue() + bytes(2**28))
    return buffer.getvalue()


@cache
def gzip_bomb() -> bytes:
    """A quarter of a gigabyte of zeros."""
    return gzip.compress(bytes(2**28))


@cache
def giant_array() -> bytes:
    """A few bytes that are said to be an array of 8 exabytes."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (2**60,)})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("key.npy", header.getvalue() + bytes(64))
    return buffer.getvalue()


def kinds(fuzz: Fuzz) -> None:
    """Every reader with every thing that is no file of its kind, under a name that is no UTF-8 among them."""
    for reader, (read, name, names, also) in READERS.items():
        for kind, put in KINDS.items():
            for parent in ("plain", "\udcff\udcfe", FOLDER):
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / parent / name
                    path.parent.mkdir(parents=True)
                    put(path)
                    said = f"{kind} in {parent!r}"
                    fuzz.call(reader, partial(read, path), said, names=names, also=also)


def limit_memory() -> None:
    """Linux: no more addresses than now and `MEMORY`."""
    used = Path("/proc/self/statm")
    if used.exists() and resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        most = int(used.read_text().split()[0]) * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def suite(fuzz: Fuzz, examples: int, seed: int | None, only: Sequence[str]) -> None:
    """One round; the first in a process tries the things that are no files, too."""
    pctheory.enable_x64()
    jax.config.update("jax_traceback_filtering", "off")
    limit_memory()
    originals, seen = dict(FILE_SETS), set(fuzz.inputs)
    for name in TARGETS:
        if not only or name in only:
            driven(partial(tried, fuzz, name), examples, seed)
    FILE_SETS.update(originals)
    if not only and "file of a figure" not in seen:
        kinds(fuzz)


def sources() -> Iterator[Path]:
    return (ROOT / "pctheory").rglob("*.py")


def test_nothing_is_ever_unpickled_from_a_file():
    for file in sources():
        text = file.read_text("utf-8")
        assert "allow_pickle=True" not in text, file
        assert "pickle.load(" not in text, file


def test_damaged_files():
    only_documented_errors("test_fuzz_files", 60, least=1000)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_in_long_mode(seed: int):
    """In parts, as a test that takes a quarter of an hour is taken to hang."""
    only_documented_errors("test_fuzz_files", 150, seed=seed, least=2_000)


if __name__ == "__main__":
    run_suite(suite, sys.argv[1:])
