"""A throw-away checkout for the command line: a figure whose units do as their names say, and slow claims."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.kills import session, wait_until
from pctheory.compiled_code import STORE

FIGURE = """
import ctypes, os, sys, time
from dataclasses import dataclass

import numpy as np

from pctheory.figures import Figure


@dataclass(frozen=True)
class P:
    units: tuple[str, ...]


def data(p, data_dir):
    (unit,) = p.units
    with (data_dir / "log").open("a") as log:
        log.write(f"{unit} {os.getpid()}\\n")
    what, _, amount = unit.partition(" ")
    if what == "sleep":
        time.sleep(float(amount))
    if what == "raise":
        raise ArithmeticError("no\\nanswer")
    if what == "exit":
        sys.exit("out")
    if what == "end":
        os._exit(0)
    if what == "crash":
        ctypes.string_at(0)
    if what == "garbage":
        os.write(1, bytes(range(256)))
        os.write(2, bytes(range(256)))
        raise ValueError("\\udcff\\x00 \\x1b[31m" + "x" * 10)
    if what == "junk":
        return {"values": object()}
    if what == "big":
        return {"values": np.random.default_rng(0).bytes(int(amount))}
    return {"values": np.random.default_rng(len(unit)).standard_normal(20)}


def draw(arrays, p):
    import matplotlib.figure  # not in workers

    picture = matplotlib.figure.Figure()
    picture.subplots().plot(range(len(arrays)))
    return picture


FIGURE = Figure(
    key="toy/units",
    title="Units",
    caption="Some units.",
    source="nobody-2020",
    presets={name: P(UNITS) for name in ("quick", "default", "paper")},
    units=lambda p: {unit: P((unit,)) for unit in p.units},
    data=data,
    draw=draw,
)
"""
CLAIM = """
import time
from pathlib import Path
from pctheory.claims import claim

@claim(key="a/slow-{0}", statement="1 = 1", hypotheses=(), attribution="own", source="-")
def slow_{0}(check):
    with (Path(__file__).parents[1] / "log").open("a") as log:
        log.write("claim {0}\\n")
    time.sleep({1})
    check.property("equal", [1.0], lambda c: 0.0, twins={{"unequal": lambda c: 1.0}})
"""


def checkout(root: Path, *units: str, claims: tuple[float, ...] = ()) -> Path:
    """A checkout with these units, and with claims that take so many seconds."""
    for folder in ("figures", "paper_checks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "figures" / "units.py").write_text(f"UNITS = {units!r}\n{FIGURE}")
    for number, seconds in enumerate(claims):
        (root / "paper_checks" / f"slow_{number}.py").write_text(CLAIM.format(number, seconds))
    return root


def command(root: Path, name: str, *options: str) -> list[str]:
    """The words of a command in the checkout, with two workers; figures go to `root/out`."""
    words = [sys.executable, "-m", "pctheory", name, "--root", str(root), "--jobs", "2"]
    if name in ("figure", "reproduce"):
        words += ["--preset", "quick", "--data-dir", str(root)]
        words += [] if "--out" in options else ["--out", str(root / "out")]
    return [*words, *options]


def environment() -> dict[str, str]:
    """Nothing here compiles: workers need no store of compiled code, and so import no JAX."""
    return os.environ | {STORE: ""}


def ran(root: Path, name: str, *options: str) -> subprocess.CompletedProcess[str]:
    """The command, run to its end."""
    return subprocess.run(
        command(root, name, *options),
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=300,
        env=environment(),
    )


@contextmanager
def running(root: Path, name: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a session of its own, no process of which outlives the context."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "errors": "backslashreplace"}
    process = subprocess.Popen(command(root, name, *options), start_new_session=True, env=environment(), **pipes)
    try:
        yield process
    finally:
        for pid in session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def log(root: Path) -> list[str]:
    """What was started, in order."""
    file = root / "log"
    return [line.rpartition(" ")[0] if "claim" not in line else line for line in file.read_text().splitlines()]


def begun(process: subprocess.Popen[str], root: Path, number: int) -> None:
    """Wait until the process has started so many units or claims."""
    wait_until(lambda: process.poll() is not None or ((root / "log").exists() and len(log(root)) >= number))
    assert process.poll() is None, process.communicate()


def drawn(out: Path) -> dict[str, bytes]:
    """The files of the figure, by name."""
    return {file.name: file.read_bytes() for file in out.glob("toy-units.*")}
