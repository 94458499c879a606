"""What JAX has compiled, kept on disk for later processes, and shared by processes that run at the same time.

JAX's own cache believes what it finds: an entry that was cut off by `kill -9` or a full disk, or is read while
another process writes it, warns at every use and is never replaced; a flipped bit in one without a checksum (those
of zstd) crashes the process. So each process gives JAX a folder of its own. Finished entries are linked from there
into a store, under a name with their sha256, and from the store into the folders of others once that digest fits.
"""

import atexit
import hashlib
import importlib
import os
import platform
import re
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing is kept
    fcntl = None  # type: ignore[assignment]

# The environment variable with the folder of the store; unset or empty: nothing is kept.
STORE = "PCTHEORY_COMPILED_CODE"
# Bytes in the store beyond which the oldest entries go: some ten thousand of them, which half a second checks.
LIMIT = 2**28
# So many products take a third of a second without optimisation, as long as optimising does.
WORTH_IT = 50_000_000
_ENTRY = re.compile(r"(.+-cache)\.([0-9a-f]{64})")
_PROCESS = ".process-"


@dataclass
class _Shared:
    """The folder of this process, and the names of those of its entries that need no more looking at."""

    store: Path
    folder: Path
    known: set[str] = field(default_factory=set)
    looked: tuple[int, ...] = ()

    def exchange(self) -> None:
        """Take, then give what no other process gave, if anything has changed in either folder."""
        if self._times() != self.looked:
            self.take()
            all_given = self.give()
            self.looked = self._times() if all_given else ()

    def _times(self) -> tuple[int, ...]:
        self.folder.mkdir(parents=True, exist_ok=True)  # someone may tidy up while this process runs
        return self.store.stat().st_mtime_ns, self.folder.stat().st_mtime_ns

    def give(self) -> bool:
        """Link what is new in the folder into the store, if JAX has written all of it."""
        new = [file for file in self.folder.glob("*-cache") if file.name not in self.known]
        for file in new:
            content = file.read_bytes()
            if _is_whole(content, file):
                self.known.add(file.name)
                with suppress(OSError):  # there already, a full disk, a name too long: only this process has it
                    os.link(file, self.store / f"{file.name}.{hashlib.sha256(content).hexdigest()}")
        return self.known.issuperset(file.name for file in new)

    def take(self) -> None:
        """Link what is new in the store into the folder, where its digest fits; remove it where it does not."""
        for file, name, digest in _entries(self.store):
            if name in self.known:
                continue
            with suppress(OSError):  # gone meanwhile, a folder, unreadable: as if it were not there
                if hashlib.sha256(file.read_bytes()).hexdigest() == digest:
                    self.known.add(name)
                    os.link(file, self.folder / name)
                else:
                    file.unlink()
                    print(f"pctheory: {file}: its digest does not fit; it is compiled again", file=sys.stderr)


def _entries(store: Path) -> list[tuple[Path, str, str]]:
    """The entries of a store: the file, its name for JAX, and its digest."""
    named = ((file, _ENTRY.fullmatch(file.name)) for file in store.iterdir())
    return [(file, found[1], found[2]) for file, found in named if found]


_shared: _Shared | None = None


def share_compiled_code(store: Path | None = None) -> None:
    """From now on let JAX find what the store has, and keep there what it compiles in this process.

    store: default: the folder that the environment variable `STORE` names. Without one, on Windows, where it cannot
    be written, and where the user has named a cache for JAX, nothing happens.

    Imports JAX. Cost: reading the store once.
    """
    global _shared
    named = os.environ.get(STORE) if store is None else str(store)
    if _shared is not None or not named or "JAX_COMPILATION_CACHE_DIR" in os.environ or fcntl is None:
        return
    try:
        folder = Path(named).resolve() / _machine()
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        _shared = _Shared(folder, _own_folder(folder))
    except OSError:
        return
    jax = importlib.import_module("jax")  # not before it is needed: the command line must answer at once
    jax.config.update("jax_compilation_cache_dir", str(_shared.folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")  # else the folder is part of every key
    exchange_compiled_code()


def exchange_compiled_code() -> None:
    """Give to the store what this process compiled, and take what others did. Cost: looking at two folders."""
    if _shared is not None:
        with suppress(OSError):  # what is not exchanged is compiled again
            _shared.exchange()


@contextmanager
def optimised(products: int | None = None) -> Iterator[None]:
    """Within it JAX optimises what it compiles, even where `JAX_DISABLE_MOST_OPTIMIZATIONS` tells it not to.

    For loops of at least `WORTH_IT` products, that is steps x examples x weights; None: of very many, and for what
    every process runs often. What runs for milliseconds, as most of a check does, is done sooner without.
    """
    config = importlib.import_module("jax").config
    before = config.read("jax_disable_most_optimizations")
    config.update("jax_disable_most_optimizations", before and products is not None and products < WORTH_IT)
    try:
        yield
    finally:
        config.update("jax_disable_most_optimizations", before)


def _own_folder(store: Path) -> Path:
    """A new folder, locked as long as this process lives, and removed when it ends unless it is killed."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PROCESS, dir=store))
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():  # no other process has swept it before it was locked
            atexit.register(stop_sharing)
            return folder
        os.close(lock)


def stop_sharing() -> None:
    """Give what is left and remove the folder of this process: it ends."""
    exchange_compiled_code()
    if _shared is not None:
        shutil.rmtree(_shared.folder, ignore_errors=True)


def _sweep(store: Path) -> None:
    """Remove the folders of processes that were killed, and the oldest entries beyond `LIMIT`."""
    for folder in store.glob(f"{_PROCESS}*"):
        with suppress(OSError):  # locked: its process lives; gone: swept by another
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
    with suppress(FileNotFoundError):  # another process does the same
        stats = [(file.lstat(), file) for file, _, _ in _entries(store)]
        size = sum(stat.st_size for stat, _ in stats)
        for stat, file in sorted(stats, key=lambda pair: pair[0].st_mtime):
            if size <= LIMIT:
                break
            file.unlink()
            size -= stat.st_size


def _is_whole(content: bytes, file: Path) -> bool:
    """Whether JAX has finished writing: the stream of zlib ends, or nothing was written for a second."""
    if content[:1] != b"\x78":
        return time.time() - file.stat().st_mtime > 1.0
    stream = zlib.decompressobj()
    try:
        stream.decompress(content)
    except zlib.error:
        return False
    return stream.eof


def _machine() -> str:
    """The kind of processor, for compiled code uses what it has."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else [platform.processor()]
    kinds = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))} or lines
    text = "\n".join([platform.machine(), platform.system(), *sorted(kinds)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
