"""What a disk, a damaged cache or a unit may do to a run: each is named, and nothing of it is believed."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pctheory.figures.cache import DamagedEntryError, UnitCache
from pctheory.files import write_atomically

from .commands import checkout, drawn, log, ran

# Units


def test_units_that_misbehave_are_recorded_and_the_rest_goes_on(tmp_path):
    root = checkout(tmp_path, "a", "raise", "exit", "end", "crash", "garbage", "junk", "sleep 600", "bb")
    came = ran(root, "figure", "--time-limit", "4")
    assert came.returncode == 1
    assert came.stdout.endswith("0 of 1 figures drawn, 2 units computed, 0 cached\n")
    lines = came.stderr.splitlines()
    lost = "the worker died: killed by the system (out of memory?), crashed, or past its time limit"
    for line in (
        "pctheory: toy/units (raise): ArithmeticError: no answer",
        "pctheory: toy/units (exit): SystemExit: out",
        f"pctheory: toy/units (garbage): ValueError: \\udcff\\x00 \\x1b[31m{'x' * 10}",
        "pctheory: toy/units (junk): TypeError: data: array 'values' has dtype object; return numbers, booleans or "
        "text",
    ):
        assert line in lines
    (of_lost,) = [line for line in lines if line.endswith(lost)]
    assert {"end", "crash", "sleep 600"} == set(of_lost.partition("(")[2].partition(")")[0].split("; "))
    assert lines[-1] == f"pctheory: parameters and tracebacks are in {root / 'out' / 'failures.txt'}"
    record = (root / "out" / "failures.txt").read_text()
    for unit in ("raise", "exit", "end", "crash", "garbage", "junk", "sleep 600"):
        assert f"toy/units ({unit}) {{'units': ['{unit}']}}\n" in record
    assert 'raise ArithmeticError("no\\nanswer")' in record
    assert "Segmentation fault" in record.partition("(crash)")[2]
    assert "Timeout" in record.partition("(sleep 600)")[2]
    assert record.count("units.py") >= 5, "where it was raised, crashed or hung"
    assert not drawn(root / "out")
    assert len(list((root / "out" / ".cache").iterdir())) == 2
    checkout(root, "a", "bb")
    assert ran(root, "figure").returncode == 0
    assert not (root / "out" / "failures.txt").exists()


# Entries


def test_whatever_lies_in_the_place_of_an_entry_is_named_and_not_believed(tmp_path):
    units = [chr(97 + n) * (n + 1) for n in range(12)]
    root = checkout(tmp_path, *units)
    assert ran(root, "figure").returncode == 0
    whole, files = drawn(root / "out"), sorted((root / "out" / ".cache").glob("*.unit"))
    good = [file.read_bytes() for file in files]
    bad = files[:11]
    bad[0].write_bytes(good[0][:-1])
    bad[1].write_bytes(good[1][:-1] + bytes([good[1][-1] ^ 1]))
    bad[2].write_bytes(good[3])
    bad[3].write_bytes(b"")
    bad[4].write_bytes(b"of someone else")
    bad[5].write_bytes(good[5] + b"\0" * 1000)
    for file in bad[6:]:
        file.unlink()
    os.mkfifo(bad[6])
    bad[7].symlink_to("/dev/zero")
    bad[8].symlink_to(bad[8])
    bad[9].symlink_to(bad[9].with_name("nowhere"))
    bad[10].mkdir()
    came = ran(root, "figure")
    assert came.returncode == 1, "a folder cannot be replaced by a file"
    told = [file for file in bad if f"{file.name} is damaged" in came.stderr]
    assert told == [*bad[:8], bad[10]], "loops and links to nowhere are as if nothing were there"
    assert f"IsADirectoryError: [Errno 21] Is a directory: '{bad[10]}'" in came.stderr
    assert "Traceback" not in came.stderr
    assert [file.read_bytes() for file in files if file != bad[10]] == [*good[:10], good[11]]
    bad[10].rmdir()
    assert ran(root, "figure").returncode == 0
    assert len(log(root)) == 12 + 11 + 1
    assert drawn(root / "out") == whole


def test_an_entry_of_any_size_is_refused_without_being_held(tmp_path):
    cache = UnitCache(tmp_path)
    cache.write("name", b"payload")
    with cache.path("name").open("ab") as file:
        file.truncate(3 * 2**29)
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from pctheory.figures.cache import DamagedEntryError, UnitCache\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\n"
        "try: UnitCache(Path(sys.argv[1])).read('name')\n"
        "except DamagedEntryError as error: print(error.reason)\n"
    )
    found = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert found.stdout == "its digest does not fit: truncated, altered or renamed\n", found.stderr


# Disks


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("disks are mounted by root only; see the test with an injected error")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_disk_that_fills_up(tmp_path, small_disk):
    root = checkout(tmp_path / "root", "a", "big 300000", "big 3000000", "bb")
    came = ran(root, "figure", "--out", str(small_disk))
    assert came.returncode == 1
    assert "toy/units (big 3000000): OSError: [Errno 28] No space left on device: '" in came.stderr
    assert came.stdout.splitlines()[-1] == "0 of 1 figures drawn, 3 units computed, 0 cached"
    assert len(list((small_disk / ".cache").iterdir())) == 3, "and nothing half-written"
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    again = ran(root, "figure", "--out", str(small_disk))
    assert again.returncode == 0
    assert "1 units computed, 3 cached" in again.stdout


def test_a_full_disk(tmp_path, small_disk):
    root = checkout(tmp_path / "root", "a", claims=(0.0,))
    (small_disk / "full").write_bytes(bytes(2**20 - 4096))  # its folder takes the rest
    for name, options in (
        ("figure", ["--out", str(small_disk)]),
        ("check", ["--json", str(small_disk / "l.json")]),
    ):
        came = ran(root, name, *options)
        assert came.returncode in (1, 2)
        assert "No space left on device" in came.stderr
        assert str(small_disk) in came.stderr
        assert "Traceback" not in came.stderr
        assert not list(small_disk.glob("**/*.tmp"))
        assert not (small_disk / "l.json").exists()


def test_a_disk_that_cannot_be_written(tmp_path, small_disk):
    root = checkout(tmp_path / "root", "a", claims=(0.0,))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for name in ("figure", "reproduce"):
        came = ran(root, name, "--out", str(small_disk))
        assert (came.returncode, came.stdout) == (2, "")
        assert came.stderr == (
            f"pctheory: out: cannot write to {small_disk}: Read-only file system; choose another folder\n"
        )
    came = ran(root, "check", "--json", str(small_disk / "ledger.json"))
    assert came.returncode == 2
    assert f"--json: cannot write {small_disk / 'ledger.json'}: Read-only file system" in came.stderr


@pytest.mark.parametrize("place", [".cache", ""])
def test_a_file_in_the_place_of_a_folder(tmp_path, place):
    root = checkout(tmp_path, "a")
    (root / "out" / place).parent.mkdir(exist_ok=True)
    (root / "out" / place).write_text("of the user")
    came = ran(root, "figure")
    assert (came.returncode, came.stdout) == (2, "")
    assert (
        came.stderr
        == f"pctheory: out: cannot write to {root / 'out' / place}: File exists; choose another folder\n"
    )
    assert not (root / "log").exists()


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_injected_error_of_the_disk_names_the_file_and_leaves_the_old_one(tmp_path, monkeypatch, step):
    cache = UnitCache(tmp_path)
    cache.write("name", b"old")
    before = cache.path("name").read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/name\.unit'"):
        cache.write("name", b"new")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [before]


def test_a_temporary_file_swept_by_another_run_is_written_again(tmp_path, monkeypatch):
    """A process that was stopped for long in the middle of it."""
    synchronised = os.fsync
    removed = []

    def sweep(descriptor: int) -> None:
        synchronised(descriptor)
        if not removed:
            removed.extend(tmp_path.iterdir())
            removed[0].unlink()

    monkeypatch.setattr(os, "fsync", sweep)
    write_atomically(tmp_path / "file", b"content")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"content"


def test_a_folder_that_has_gone_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone/file"):
        write_atomically(tmp_path / "gone" / "file", b"content")
    with pytest.raises(DamagedEntryError, match="cannot be read: No such file or directory"):
        UnitCache(tmp_path / "gone").read("name")
