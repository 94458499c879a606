"""Nothing is lost: runs that are killed, stopped, or in each other's way. Processes and signals are real."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.kills import session, storm, wait_until
from pctheory.figures.cache import UnitCache
from pctheory.ledger import read_ledger

from .commands import begun, checkout, drawn, log, ran, running

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found on Linux only"),
    pytest.mark.usefixtures("signals_of_a_terminal"),
]
ROOT = Path(__file__).parents[1]


# Killed


# A thousand in parts, for no test may take more than a quarter of an hour.
STORMS = [(8, 0), *(pytest.param(50, seed, marks=pytest.mark.slow) for seed in range(1, 21))]


@pytest.mark.parametrize(("number", "seed"), STORMS)
def test_random_kills_lose_nothing(tmp_path, number, seed):
    came = storm(tmp_path, number, seed)
    assert came.kills == number
    assert (came.lost, came.corrupt, came.different) == (0, 0, 0)
    assert came.in_flight <= 4, "twice as many units are handed over as there are workers"
    assert came.orphaned < 5
    assert came.temporaries <= came.of_parent


WRITER = """
import sys
from pathlib import Path
from pctheory.files import replace_folder, temporary, write_atomically
folder = Path(sys.argv[1])
print("ready", flush=True)
for n in range(10**9):
    write_atomically(folder / "file", b"%09d" % n * 50_000)
    made = temporary(folder / "site")
    made.mkdir()
    for name in range(20):
        (made / str(name)).write_text(str(n))
    replace_folder(folder / "site", made)
"""


def test_a_killed_writer_leaves_the_old_or_the_new(tmp_path):
    chance = random.Random(1)
    for _ in range(12):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0.0, 0.15))
        writer.kill()
        writer.communicate()
        file, site = tmp_path / "file", tmp_path / "site"
        if file.exists():
            content = file.read_bytes()
            assert content == content[:9] * 50_000
        if site.exists():
            assert len({page.read_text() for page in site.iterdir()}) == 1
            assert len(list(site.iterdir())) == 20
        else:
            left = [one for one in tmp_path.iterdir() if one.is_dir()]
            assert not left or any(len(list(one.iterdir())) == 20 for one in left), "none for a moment, not gone"
    assert file.exists()


def test_what_killed_runs_leave_behind_is_swept(tmp_path):
    root = checkout(tmp_path, "a")
    cache = root / "out" / ".cache"
    cache.mkdir(parents=True)
    old, young = f".x.unit.{'0' * 16}.tmp", f".x.unit.{'1' * 16}.tmp"
    of_user = (".note.tmp", "x.unit.tmp", f"{'0' * 16}.tmp")
    for folder in (root / "out", cache):
        for name in (old, young, *of_user):
            (folder / name).write_text("half of a")
            if name != young:
                os.utime(folder / name, (time.time() - 3600,) * 2)
    site = root / "out" / f".report.{'2' * 16}.tmp"
    (site / "claims").mkdir(parents=True)
    os.utime(site, (time.time() - 3600,) * 2)
    assert ran(root, "figure").returncode == 0
    assert not site.exists()
    for folder in (root / "out", cache):
        assert not (folder / old).exists()
        assert all((folder / name).exists() for name in (young, *of_user)), "perhaps of a run that is alive"


# Stopped


def none_left(leader: int) -> None:
    """What tidies up behind the workers ends a moment after them."""
    wait_until(lambda: not session(leader), seconds=10)


@pytest.mark.parametrize(
    ("signals", "to_all", "status"),
    [
        ([signal.SIGINT], True, 130),  # Ctrl-C in a terminal
        ([signal.SIGINT, signal.SIGINT], True, 130),
        ([signal.SIGINT], False, 130),
        ([signal.SIGTERM], False, 143),
        ([signal.SIGTERM, signal.SIGINT], True, 143),  # as systemd and batch systems do
        ([signal.SIGHUP], True, 129),  # a terminal that closes
    ],
)
def test_stopped_figures_keep_what_is_done(tmp_path, signals, to_all, status):
    root = checkout(tmp_path, "a", "bb", "ccc", "sleep 50", "sleep 51")
    cache = UnitCache(root / "out" / ".cache")
    with running(root, "figure") as process:
        begun(process, root, 5)
        wait_until(lambda: len(list(cache.folder.glob("*.unit"))) == 3)
        at = time.monotonic()
        for number in signals:
            os.killpg(process.pid, number) if to_all else process.send_signal(number)
            time.sleep(0.05)
        _, complaints = process.communicate(timeout=30)
        assert time.monotonic() - at < 10, "at once, where the machine is free"
        assert process.returncode == status or (len(signals) > 1 and process.returncode == -signals[-1])
        none_left(process.pid)
    name = signal.Signals(signals[0]).name
    assert complaints.splitlines()[-1] == (
        f"pctheory: {name}: what is done is kept, and the same command goes on from there"
    )
    assert "Traceback" not in complaints
    for file in cache.folder.glob("*.unit"):
        assert set(cache.read(file.stem)) == {"values"}
    assert list((root / "out").glob("**/*.tmp")) == []


@pytest.mark.parametrize("name", ["check", "reproduce"])
def test_stopped_checks(tmp_path, name):
    root = checkout(tmp_path, "a", claims=(0.0, 60.0, 60.0))
    with running(root, name) as process:
        begun(process, root, 3)
        at = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        _told, complaints = process.communicate(timeout=30)
        assert time.monotonic() - at < 10
        assert process.returncode == 130
        none_left(process.pid)
    assert "Traceback" not in complaints
    assert "pctheory: SIGINT: what is done is kept" in complaints
    assert not (root / "out" / "claims.json").exists()


def test_stopped_audit(tmp_path):
    with running(ROOT, "audit", "variance-by-fan-out", "--recompute", "--out", str(tmp_path)) as process:
        for line in process.stderr:
            if line.startswith("started:"):
                break
        wait_until(lambda: len(session(process.pid)) > 1 or process.poll() is not None)
        time.sleep(1.0)
        os.killpg(process.pid, signal.SIGINT)
        _, complaints = process.communicate(timeout=60)
        assert process.returncode == 130
        none_left(process.pid)
    assert "Traceback" not in complaints


def test_a_run_told_to_ignore_the_terminal_goes_on(tmp_path):
    root = checkout(tmp_path, "a", "sleep 3")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what nohup does, and children inherit
    try:
        with running(root, "figure") as process:
            begun(process, root, 2)
            os.killpg(process.pid, signal.SIGHUP)
            process.communicate(timeout=120)
            assert process.returncode == 0
    finally:
        signal.signal(signal.SIGHUP, before)


# In each other's way


def test_runs_at_once_share_a_cache_and_a_folder(tmp_path):
    units = ("a", "bb", "sleep 0.2", "ccc", "sleep 0.30")
    alone = checkout(tmp_path / "alone", *units)
    assert ran(alone, "figure").returncode == 0
    root = checkout(tmp_path / "shared", *units)
    with running(root, "figure") as one, running(root, "figure") as two, running(root, "figure") as three:
        came = [process.communicate(timeout=200) for process in (one, two, three)]
        assert [process.returncode for process in (one, two, three)] == [0, 0, 0], came
    assert drawn(root / "out") == drawn(alone / "out")
    assert len(drawn(root / "out")) == 4
    assert list((root / "out").glob("**/*.tmp")) == []


def test_a_cache_removed_during_a_run_is_told_and_made_again(tmp_path):
    root = checkout(tmp_path, "a", "bb", "sleep 2")
    cache = root / "out" / ".cache"
    with running(root, "figure") as process:
        begun(process, root, 3)
        wait_until(lambda: len(list(cache.glob("*.unit"))) == 2)
        shutil.rmtree(root / "out")
        told, complaints = process.communicate(timeout=100)
        assert process.returncode == 1
    assert "toy/units (drawing): DamagedEntryError: " in complaints
    assert ".unit: cannot be read: No such file or directory" in complaints
    assert "Traceback" not in complaints
    assert "0 of 1 figures drawn" in told
    again = ran(root, "figure")
    assert again.returncode == 0
    assert sorted(log(root)[3:]) == ["a", "bb"], "the third was kept"


def test_a_killed_reproduction_leaves_a_whole_ledger_or_none(tmp_path):
    root = checkout(tmp_path, "a", "sleep 20", claims=(0.0,))
    ledger = root / "out" / "claims.json"
    with running(root, "reproduce") as process:
        begun(process, root, 3)
        wait_until(ledger.exists)  # it is made while the units go on
        process.kill()
        process.wait(timeout=30)
        none_left(process.pid)
    assert [claim["own"] for claim in read_ledger(ledger)["claims"]] == ["tested"]
    assert not (root / "out" / "report").exists()
