"""Runs of figures killed with SIGKILL at random moments, parent or worker, and started again until all is drawn.

`storm` counts what that costs: results lost, entries and pictures that are not what was written, units done again,
temporary files and processes left behind. Processes and signals are real, and the command is that of the user.
"""

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pctheory.figures.cache import DamagedEntryError, UnitCache

from .measure import Case, Goal, Row

FIGURES, UNITS, PAUSE, JOBS = 2, 60, 0.03, 2
FIGURE = """
import os
import time
from dataclasses import dataclass

import numpy as np

from pctheory.figures import Figure


@dataclass(frozen=True)
class P:
    seeds: tuple[int, ...]


def data(p, data_dir):
    log = os.open(data_dir / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(log, f"{KEY} seed {p.seeds[0]}\\n".encode())
    os.close(log)
    time.sleep(PAUSE)
    return {"values": np.random.default_rng(p.seeds).standard_normal(200)}


def draw(arrays, p):
    import matplotlib.figure  # only where it draws

    picture = matplotlib.figure.Figure()
    picture.subplots().imshow([named["values"] for named in arrays.values()])
    return picture


FIGURE = Figure(
    key=KEY,
    title="Seeds",
    caption="A line for each seed.",
    source="nobody-2020",
    presets={name: P(tuple(range(UNITS))) for name in ("quick", "default", "paper")},
    units=lambda p: {f"seed {seed}": P((seed,)) for seed in p.seeds},
    data=data,
    draw=draw,
)
"""


def cases(*, quick: bool) -> list[Case]:
    return [Case(kills, (3 if quick else 1000, 1))]


def kills(number: int, seed: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        came = storm(Path(folder), number, seed)
    name, none = f"{came.kills} kills, {JOBS} workers", Goal("at most", 0)
    counts = {"of the parent": came.of_parent, "runs": came.runs, "drawn whole": came.rounds}
    return [
        Row(name, "units computed again though they were done", came.lost, goal=none, details=counts),
        Row(name, "entries that are not sound", came.corrupt, goal=none),
        Row(name, "files of a figure unlike those of an uninterrupted run", came.different, goal=none),
        Row(name, "units in flight per kill, at most", came.in_flight, goal=Goal("at most", 2 * JOBS)),
        Row(name, "temporary files left behind, at most", came.temporaries),
        Row(name, "last worker gone after its parent, at most", came.orphaned, "s", goal=Goal("at most", 2.0)),
    ]


@dataclass
class Storm:
    """What came of all the kills."""

    kills: int = 0
    of_parent: int = 0
    runs: int = 0
    rounds: int = 0  # from an empty folder to figures drawn whole
    lost: int = 0
    corrupt: int = 0
    different: int = 0
    in_flight: int = 0
    temporaries: int = 0
    orphaned: float = 0.0


def storm(folder: Path, number: int, seed: int) -> Storm:
    """Kill `number` processes of runs in `folder`. Linux only."""
    chance, came = random.Random(seed), Storm()
    whole = Round(checkout(folder / "checkout"), folder / "whole")
    if whole.started().wait(timeout=300) or len(whole.drawn()) != 4 * FIGURES:
        raise RuntimeError("the run without kills failed")
    while came.kills < number:
        one = Round(whole.root, folder / f"out-{came.rounds}")
        while one.run(came, chance, number, whole):
            pass
        came.different += one.drawn() != whole.drawn()
        came.rounds += 1
        shutil.rmtree(one.out)
    return came


@dataclass(frozen=True)
class Round:
    """Runs of the figures of the checkout `root`, into one folder, until they are drawn."""

    root: Path
    out: Path

    def started(self, jobs: int = JOBS) -> subprocess.Popen[bytes]:
        """`pctheory figure` in a session of its own."""
        command = [sys.executable, "-m", "pctheory", "figure", "--preset", "quick", "--jobs", str(jobs)]
        command += ["--root", str(self.root), "--data-dir", str(self.root), "--out", str(self.out)]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)

    def run(self, came: Storm, chance: random.Random, number: int, whole: "Round") -> int:
        """One run, some of its processes killed, and what it left compared with what was there. Its exit status."""
        log = self.log()
        done, killed = self.entries(), came.kills
        process = self.started(chance.choice([1, 1, JOBS]))
        if chance.random() < 0.85:  # else also while it starts
            wait_until(lambda: len(self.log()) > len(log) or process.poll() is not None)
        while process.poll() is None and came.kills < number and chance.random() < 0.8:
            time.sleep(chance.uniform(0.0, 1.2))
            _kill(process, came, chance)
        status = process.wait(timeout=300)
        ended = time.perf_counter()
        wait_until(lambda: not session(process.pid))
        came.orphaned = max(came.orphaned, time.perf_counter() - ended)
        came.runs += 1
        self._compare(done, self.log()[len(log) :], came, came.kills - killed, whole)
        return status

    def _compare(self, done: set[str], starts: list[str], came: Storm, killed: int, whole: "Round") -> None:
        now = self.entries()
        names = whole.entry_names()
        came.lost += len(done - now) + sum(names[line] in done for line in starts)
        came.corrupt += len(list(self.cache.folder.glob("*.unit"))) - len(now)
        again = len(starts) - len(now - done)
        came.in_flight = max(came.in_flight, math.ceil(again / max(killed, 1)))
        drawn = whole.drawn()
        came.different += sum(content != drawn[name] for name, content in self.drawn().items())
        came.temporaries = max(came.temporaries, len(list(self.out.glob("**/*.tmp"))))

    @property
    def cache(self) -> UnitCache:
        """The cache of these runs."""
        return UnitCache(self.out / ".cache")

    def entries(self) -> set[str]:
        """Names of the entries that are sound."""
        return {file.stem for file in self.cache.folder.glob("*.unit") if self._is_sound(file.stem)}

    def _is_sound(self, name: str) -> bool:
        try:
            return set(self.cache.read(name)) == {"values"}
        except DamagedEntryError:
            return False

    def log(self) -> list[str]:
        """A line for each time that a unit was started."""
        log = self.root / "log"
        return log.read_text().splitlines() if log.exists() else []

    def drawn(self) -> dict[str, bytes]:
        """What lies there for the user, by name."""
        return {file.name: file.read_bytes() for file in self.out.glob("storm-*")}

    def entry_names(self) -> dict[str, str]:
        """The name of the entry of each unit, by its line in the log; of drawn figures."""
        found = [json.loads(file.read_text()) for file in self.out.glob("storm-*.json")]
        return {f"{f['key']} {name}": unit["cache_entry"] for f in found for name, unit in f["units"].items()}


def _kill(process: subprocess.Popen[bytes], came: Storm, chance: random.Random) -> None:
    """SIGKILL for the parent or for one of the processes that it started."""
    below = [pid for pid in session(process.pid) if pid != process.pid]
    parent = not below or chance.random() < 0.5
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid if parent else chance.choice(below), signal.SIGKILL)
            came.kills += 1
            came.of_parent += parent


def session(leader: int) -> list[int]:
    """The processes of the session of this process that have not ended. Linux only."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, owner = stat.read_text().rpartition(")")[2].split()[:4]
            if int(owner) == leader and state != "Z":
                found.append(int(stat.parent.name))
    return found


def wait_until(condition: Callable[[], object], seconds: float = 300.0) -> None:
    """Raises: TimeoutError if the condition has not come true by then."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("waited in vain")
        time.sleep(0.01)


def checkout(root: Path) -> Path:
    """A checkout with figures of many short units, each of which says in `root/log` that it was started."""
    (root / "figures").mkdir(parents=True)
    for number in range(FIGURES):
        constants = f'KEY, UNITS, PAUSE = "storm/number-{number}", {UNITS}, {PAUSE}\n'
        (root / "figures" / f"number_{number}.py").write_text(constants + FIGURE)
    return root
