"""A throw-away checkout with small figures that can be told to fail, and ways to run and watch it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import jaxtyping

from pctheory.figures import (
    collect_figures,
    run_figures,
)

TOY = """
import os, signal, sys, time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pctheory.figures import Figure


@dataclass(frozen=True)
class P:
    seeds: tuple[int, ...]
    pause: float = 0.0
    fault: str = ""  # of seed 1


def units(p):
    return {f"seed {seed}": replace(p, seeds=(seed,)) for seed in p.seeds}


def data(p, data_dir):
    (seed,) = p.seeds
    if data_dir is not None:
        with (data_dir / "log").open("a") as log:
            log.write(f"{seed} {os.getpid()}\\n")
    time.sleep(p.pause)
    fault = p.fault if seed == 1 else ""
    if fault == "raise":
        raise ArithmeticError("seed 1 has\\nno answer")
    if fault == "exit":
        sys.exit("out")
    if fault == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "edit":
        with Path(__file__).open("a") as file:
            file.write("# edited\\n")
    values = np.random.default_rng(seed).standard_normal(50)
    if fault == "nan":
        values[7] = np.nan
    return {"values": values, "label": np.array("café"), "threads": np.array(os.environ.get("OMP_NUM_THREADS", ""))}


def draw(arrays, p):
    import matplotlib.pyplot as plt  # only where it draws

    picture, axes = plt.subplots()
    if p.fault == "draw":
        raise ArithmeticError("no ink")
    if p.fault == "draw and die":
        os.kill(os.getpid(), signal.SIGKILL)
    if p.fault == "draw and edit":
        with Path(__file__).open("a") as file:
            file.write("# edited\\n")
    if p.fault == "alter":
        arrays["seed 0"]["values"][0] = 0.0
    if p.fault == "no figure":
        return axes
    for unit, named in arrays.items():
        axes.plot(named["values"], label=unit)
    axes.set(xlabel=r"step $t$", ylabel=r"$\\mathcal{F}^*$")
    axes.legend()
    return picture


FIGURE = Figure(
    key="toy/sample",
    title="A sample" " in two parts",
    caption=lambda p: f"{len(p.seeds)} seeds, ∇ of a café.",
    source="nobody-2020",
    claims=("nobody-2020/nothing",),
    presets={"quick": P((0, 1, 2)), "default": P((0, 1, 2, 3)), "paper": P(tuple(range(9)))},
    units=units,
    data=data,
    draw=draw,
    data_sets=lambda p: ("digits",),
)
"""

DRIVER = """
import sys
from pathlib import Path
from pctheory.figures import collect_figures, run_figures

def tell(event):
    print(type(event).__name__, flush=True)

root, out, jobs = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
figures = collect_figures(root).values()
result = run_figures(figures, "quick", out, data_dir=root, jobs=jobs, on_progress=tell)
print([failure.error for failure in result.failures])
sys.exit(not result.ok)
"""


def checkout(root: Path, quick: str = "P((0, 1, 2))", name: str = "toy", key: str = "toy/sample") -> Path:
    """A checkout with one more figure, of these quick parameters."""
    (root / "figures").mkdir(exist_ok=True, parents=True)
    text = TOY.replace('"quick": P((0, 1, 2))', f'"quick": {quick}').replace("toy/sample", key)
    (root / "figures" / f"{name}.py").write_text(text, encoding="utf-8")
    return root


@contextmanager
def started(root: Path, out: Path, jobs: int, **environment: str):
    """A run of all figures in a fresh process and session, ended with the context at the latest."""
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(root), str(out), str(jobs)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def run(root: Path, **options):
    """A run in this process, its output in `root/out`; the result and the events."""
    events = []
    figures = collect_figures(root).values()
    result = run_figures(figures, "quick", root / "out", on_progress=events.append, **options)
    return result, events


def wait_until(condition, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def entries(out: Path) -> list[Path]:
    return sorted((out / ".cache").glob("*.unit"))


def started_units(root: Path) -> list[int]:
    log = root / "log"
    return [int(line.split()[0]) for line in log.read_text().splitlines()] if log.exists() else []


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def worker_pids(root: Path) -> set[int]:
    return {int(line.split()[1]) for line in (root / "log").read_text().splitlines()}


def drawn_bytes(result) -> dict[str, list[bytes]]:
    return {key: [file.read_bytes() for file in files] for key, files in result.drawn.items()}


def kinds(events) -> list[str]:
    return [type(event).__name__ for event in events]


@contextmanager
def unchecked():
    """Within it, our own messages rather than those of the check of annotations."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
