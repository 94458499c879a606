r"""The cache of computed units: one file each, never half-written, never believed when damaged.

An entry is `MAGIC`, the sha256 of (name of the entry, payload) in hexadecimal, a line end, and the payload:
the arrays as an uncompressed `.npz` whose bytes depend on the arrays alone. Truncation, flipped bits, foreign and
renamed files fail the digest.
"""

import hashlib
import io
import stat
import tokenize
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..files import write_atomically
from .figure import Arrays

MAGIC = b"pctheory unit 1\n"
# bool, integers, floats, complex, bytes, text: what a .npy file holds without pickling.
STORABLE_KINDS = "biufcSU"


class DamagedEntryError(ValueError):
    """A cache entry is not what was written there."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


@dataclass(frozen=True)
class UnitCache:
    """The entries in one folder, by name. Several processes may use it at once."""

    folder: Path

    def path(self, name: str) -> Path:
        """The file of an entry."""
        return self.folder / f"{name}.unit"

    def write(self, name: str, payload: bytes) -> None:
        """Store a payload under a name, in place of what was there; in a new folder if the old one has gone."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path(name), MAGIC + _digest(name, io.BytesIO(payload)) + payload)

    def __contains__(self, name: str) -> bool:
        """Whether there is an entry of this name, sound or not."""
        return self.path(name).exists()

    def read(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """The arrays stored under a name, not writeable.

        Raises: DamagedEntryError if they cannot be trusted, or are gone.
        """
        path = self.path(name)
        try:
            payload = _payload(path, name)
        except OSError as error:
            raise DamagedEntryError(path, f"cannot be read: {error.strerror}") from error
        try:
            return decoded(payload)
        except ValueError as error:
            raise DamagedEntryError(path, str(error)) from error


def _payload(path: Path, name: str) -> bytes:
    """What an entry holds, read once its digest fits: whatever lies there may be of any size."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise DamagedEntryError(path, "is no file")
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise DamagedEntryError(path, f"does not start with {MAGIC!r}")
        written = file.readline(100)
        start = file.tell()
        if written != _digest(name, file):
            raise DamagedEntryError(path, "its digest does not fit: truncated, altered or renamed")
        file.seek(start)
        return file.read()


def _digest(name: str, payload: io.BufferedReader | io.BytesIO) -> bytes:
    """The line with the digest of an entry."""
    return hashlib.file_digest(payload, lambda: hashlib.sha256(name.encode() + b"\n")).hexdigest().encode() + b"\n"


def storable(arrays: Mapping[str, object], allow_nonfinite: bool) -> dict[str, npt.NDArray[Any]]:
    """What `data` returned as arrays, in C order and little-endian.

    Raises: TypeError if it is no mapping from names to arrays of numbers or text, ValueError if it is empty or
    holds NaN or infinity and `allow_nonfinite` is not set.
    """
    if not isinstance(arrays, Mapping):
        raise TypeError(f"data: must return a mapping from names to arrays, got {type(arrays).__name__}")
    if not arrays:
        raise ValueError("data: returned no arrays; return at least one")
    return {name: _storable(name, value, allow_nonfinite) for name, value in arrays.items()}


def _storable(name: str, value: object, allow_nonfinite: bool) -> npt.NDArray[Any]:
    if not isinstance(name, str) or not name or "/" in name:
        raise TypeError(f"data: names of arrays must be non-empty strings without /, got {name!r}")
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"data: array {name!r} is masked and would lose its mask; return the mask as another array")
    array = np.asarray(value)
    if array.dtype.kind not in STORABLE_KINDS:
        raise TypeError(f"data: array {name!r} has dtype {array.dtype}; return numbers, booleans or text")
    if array.dtype.kind in "fc" and not allow_nonfinite:
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            where = tuple(int(i) for i in bad[0])
            raise ValueError(
                f"data: array {name!r} has {len(bad)} non-finite of {array.size} values, the first {array[where]} "
                f"at {where}; if they have a meaning, set allow_nonfinite=True"
            )
    return np.array(array, dtype=array.dtype.newbyteorder("<"), order="C")


def encoded(arrays: Arrays) -> bytes:
    """The arrays as an `.npz` file whose bytes depend on them alone: no dates, no compression."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            member.create_system, member.external_attr = 3, 0o600 << 16  # the same on every platform
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    return buffer.getvalue()


def decoded(payload: bytes, *names: str) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an `.npz` file, or those of them that are named, not writeable.

    Raises: ValueError, in one line, if it is no such file, damaged, or without one that is named.
    """
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in names or archive.files}
    except (
        ValueError,
        LookupError,
        TypeError,
        EOFError,
        OSError,
        MemoryError,
        RuntimeError,
        zipfile.BadZipFile,
        tokenize.TokenError,  # NumPy reads headers of old versions with it
    ) as error:
        raise ValueError(f"is no archive of arrays ({type(error).__name__})") from error
    for array in arrays.values():
        array.setflags(write=False)
    return arrays
