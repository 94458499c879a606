"""Files that are there whole or not at all, whenever the process that writes them is killed."""

import errno
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

# Seconds after which a temporary file that nobody wrote to was left behind by a process that was killed.
STALE = 600.0
_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{16}\.tmp")


def is_folder(path: Path) -> bool:
    """Whether there is a folder; not where the name is too long or a link leads to itself."""
    try:
        return path.is_dir()
    except OSError:
        return False


def content_of(path: Path) -> bytes:
    """What a file holds. Raises OSError for a folder, and for a pipe or a device, which could be read for ever."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "is no file", str(path))
    return path.read_bytes()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that its old or its new content is found there at any time, never a part."""
    try:
        _write(path, content)
    except FileNotFoundError:
        # A process stopped for long (SIGSTOP, a laptop asleep) finds its temporary file swept as stale.
        _write(path, content)


def _write(path: Path, content: bytes) -> None:
    made = temporary(path)
    try:
        with made.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        made.replace(path)
    except OSError as error:  # some name no file, others the temporary one
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        made.unlink(missing_ok=True)


def temporary(path: Path) -> Path:
    """Where to make what will be `path`: beside it, and swept by `writable_folder` if it is left behind."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def write_json(path: Path, content: Any) -> None:
    """The same with JSON, without NaN and infinity."""
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    write_atomically(path, text.encode())


def replace_folder(path: Path, made: Path) -> None:
    """Put the folder `made` in the place of `path`: for a moment none is there, but never a part of one."""
    aside = []
    while True:
        try:
            made.replace(path)
            break
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        aside.append(temporary(path))
        with suppress(FileNotFoundError):  # another process does the same
            path.replace(aside[-1])
    for old in aside:
        shutil.rmtree(old, ignore_errors=True)


def writable_folder(path: Path) -> Path:
    """The folder, made if need be, without what killed processes left half-written in it.

    Raises: ValueError if files cannot be written there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as probe:
            now = os.fstat(probe.fileno()).st_mtime  # by the clock of the disk
        for left in path.iterdir():
            if _TEMPORARY.fullmatch(left.name) and _age(left, now) > STALE:
                _remove(left)
    except OSError as error:
        raise ValueError(f"out: cannot write to {path}: {error.strerror}; choose another folder") from error
    return path


def _age(path: Path, now: float) -> float:
    """Seconds since it was last written to; 0 if it has gone."""
    try:
        return now - path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
