"""The cache in any order of computing, damaging, deleting, racing and resuming, against a dictionary."""

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from pctheory.figures.cache import DamagedEntryError, UnitCache, encoded
from pctheory.files import STALE, temporary, writable_folder

NAMES = st.sampled_from(["toy.a", "toy.b", "other.a", "ünïcode"])
VALUES = st.integers(0, 9)


def payload(value: int) -> bytes:
    return encoded({"values": np.full(value, value), "text": np.array("x" * value)})


class CacheStates(RuleBasedStateMachine):
    """`sound`: what was stored last, by name. `damaged`: names of entries that are not what was stored."""

    def __init__(self) -> None:
        super().__init__()
        self.owner = tempfile.TemporaryDirectory()
        self.cache = UnitCache(Path(self.owner.name) / "cache")
        self.sound: dict[str, int] = {}
        self.damaged: set[str] = set()

    def teardown(self) -> None:
        self.owner.cleanup()

    def _spoilt(self, name: str) -> None:
        self.sound.pop(name, None)
        self.damaged.add(name)

    def _stored(self, name: str) -> int:
        arrays = self.cache.read(name)
        value = len(arrays["values"])
        assert arrays["values"].tolist() == [value] * value
        assert str(arrays["text"]) == "x" * value
        return value

    @rule(name=NAMES, value=VALUES)
    def compute(self, name: str, value: int) -> None:
        self.cache.write(name, payload(value))
        self.sound[name] = value
        self.damaged.discard(name)

    @rule(name=NAMES, values=st.lists(VALUES, min_size=2, max_size=4, unique=True))
    def race(self, name: str, values: list[int]) -> None:
        """Several writers at once, and readers between them: one of the values stays, and only such are read."""
        may_be_read = {*values, self.sound[name]} if name in self.sound else set(values)
        one_reader = Lock()  # where threads parse at once, as np.load does, CPython 3.11 may raise SystemError

        def look(_: int) -> bool:
            try:
                with one_reader:
                    return self._stored(name) in may_be_read
            except DamagedEntryError:
                return name not in self.sound

        with ThreadPoolExecutor(2 * len(values)) as threads:
            writers = [threads.submit(self.cache.write, name, payload(value)) for value in values]
            assert all(threads.map(look, values))
            assert [writer.result() for writer in writers] == [None] * len(values)
        self.sound[name] = self._stored(name)
        assert self.sound[name] in values
        self.damaged.discard(name)

    @rule(name=NAMES, place=st.integers(0, 10**6), bit=st.integers(0, 7))
    def flip(self, name: str, place: int, bit: int) -> None:
        if name in self.sound:
            content = bytearray(self.cache.path(name).read_bytes())
            content[place % len(content)] ^= 1 << bit
            self.cache.path(name).write_bytes(content)
            self._spoilt(name)

    @rule(name=NAMES, length=st.integers(0, 10**6))
    def cut_off(self, name: str, length: int) -> None:
        if name in self.sound:
            content = self.cache.path(name).read_bytes()
            self.cache.path(name).write_bytes(content[: length % len(content)])
            self._spoilt(name)

    @rule(name=NAMES, more=st.binary(min_size=1, max_size=20))
    def append(self, name: str, more: bytes) -> None:
        if name in self.sound:
            with self.cache.path(name).open("ab") as file:
                file.write(more)
            self._spoilt(name)

    @rule(name=NAMES, content=st.binary(max_size=200))
    def put_something_else(self, name: str, content: bytes) -> None:
        self.cache.folder.mkdir(exist_ok=True)
        self.cache.path(name).write_bytes(content)
        self._spoilt(name)

    @rule(name=NAMES, other=NAMES)
    def rename(self, name: str, other: str) -> None:
        if name != other and name in self.sound:
            self.cache.path(name).replace(self.cache.path(other))
            del self.sound[name]
            self._spoilt(other)

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        self.cache.path(name).unlink(missing_ok=True)
        self.sound.pop(name, None)
        self.damaged.discard(name)

    @rule()
    def delete_all(self) -> None:
        for name in {*self.sound, *self.damaged}:
            self.delete(name)
        for left in self.cache.folder.glob("*") if self.cache.folder.exists() else ():
            left.unlink()
        if self.cache.folder.exists():
            self.cache.folder.rmdir()

    @rule(name=NAMES, value=VALUES, length=st.integers(0, 200), long_ago=st.booleans())
    def killed_while_writing(self, name: str, value: int, length: int, long_ago: bool) -> None:
        self.cache.folder.mkdir(exist_ok=True)
        left = temporary(self.cache.path(name))
        left.write_bytes(payload(value)[:length])
        if long_ago:
            os.utime(left, (time.time() - 2 * STALE,) * 2)

    @rule()
    def start_again(self) -> None:
        """What a run does first: it sweeps what was left long ago, and nothing else."""
        writable_folder(self.cache.folder)
        now = time.time()
        assert all(now - left.stat().st_mtime < STALE for left in self.cache.folder.glob(".*.tmp"))

    @rule(value=VALUES)
    def resume(self, value: int) -> None:
        """A run computes what is missing or damaged, and that alone."""
        computed = []
        for name in ("toy.a", "toy.b", "other.a", "ünïcode"):
            try:
                self.cache.read(name)
            except DamagedEntryError:
                computed.append(name)
        assert computed == [name for name in ("toy.a", "toy.b", "other.a", "ünïcode") if name not in self.sound]
        for name in computed:
            self.compute(name, value)

    @invariant()
    def what_is_read_is_what_was_stored(self) -> None:
        for name, value in self.sound.items():
            assert name in self.cache
            assert self._stored(name) == value
        for name in self.damaged:
            assert name in self.cache
            with pytest.raises(DamagedEntryError):
                self.cache.read(name)


@pytest.mark.parametrize("examples", [15, pytest.param(500, marks=pytest.mark.slow)])
def test_the_cache_is_a_dictionary_that_knows_its_damage(examples):
    chosen = settings(max_examples=examples, stateful_step_count=30, deadline=None)
    run_state_machine_as_test(CacheStates, settings=chosen)
