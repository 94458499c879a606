"""Ten thousand tiny units through the pool of this machine and through a cluster of two workers on loopback.

A unit computes next to nothing, so what is measured is what running it costs: handing it over, its answer, its
cache entry. The parent's memory is read as units come in, from a tenth of them to the last. Results on their way
come and go; what grows with the number of units shows between the two halves of these readings.
"""

import os
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import Client, LocalCluster

from pctheory.figures import Event, UnitDone, collect_figures, run_figures

from .measure import Case, Goal, Row
from .memory import peak

MEBIBYTE = 2**20
WORKERS = 2
FIGURE = """
from dataclasses import dataclass, replace

import numpy as np

from pctheory.figures import Figure


@dataclass(frozen=True)
class P:
    seeds: tuple[int, ...]
    size: int


def units(p):
    return {f"seed {seed}": replace(p, seeds=(seed,)) for seed in p.seeds}


def data(p, data_dir):
    return {"values": np.random.default_rng(p.seeds).standard_normal(p.size)}


def draw(arrays, p):
    import matplotlib.figure  # not in workers

    picture = matplotlib.figure.Figure()
    picture.subplots().plot([named["values"][0] for named in arrays.values()])
    return picture


FIGURE = Figure(
    key="load/units",
    title="Tiny units",
    caption="",
    source="none",
    presets=dict.fromkeys(("quick", "default", "paper"), P(tuple(range(COUNT)), SIZE)),
    units=units,
    data=data,
    draw=draw,
)
"""


def cases(*, quick: bool) -> list[Case]:
    if quick:
        return [Case(pool, (40, 10)), Case(cluster, (40, 10))]
    return [Case(way, sizes) for sizes in ((10_000, 10), (200, 10**6)) for way in (pool, cluster)]


def pool(count: int, size: int) -> list[Row]:
    """Through spawned processes."""
    return measured(f"pool of {WORKERS}", None, count, size)


def cluster(count: int, size: int) -> list[Row]:
    """Through Dask."""
    with loopback_cluster() as executor:
        return measured(f"Dask cluster of {WORKERS}", executor, count, size)


@contextmanager
def loopback_cluster() -> Iterator[Executor]:
    options = {"n_workers": WORKERS, "threads_per_worker": 1, "dashboard_address": ":0", "host": "127.0.0.1"}
    started: Any = LocalCluster  # has no types
    connected: Any = Client
    with started(**options) as local, connected(local) as client:
        yield client.get_executor(pure=False)


def measured(name: str, executor: Executor | None, count: int, size: int) -> list[Row]:
    """Throughput, cost of a unit, and growth of this process."""
    watch = Watch(count)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "figures").mkdir()
        text = FIGURE.replace("COUNT", str(count)).replace("SIZE", str(size))
        (root / "figures" / "load_units.py").write_text(text)
        figures = list(collect_figures(root).values())
        run = run_figures(figures, "quick", root / "out", jobs=WORKERS, executor=executor, on_progress=watch.told)
    if run.failures or run.computed != count:
        raise RuntimeError(f"{run.computed} of {count} units computed, {len(run.failures)} failures")
    first, last = watch.seen[0], watch.seen[-1]
    units, seconds = last.units - first.units, last.time - first.time
    more = growth(watch.seen) / MEBIBYTE
    busy, load = 1e3 * (last.busy - first.busy) / units, os.getloadavg()[0]
    what = f"{count:,} units of {8 * size:,} bytes, {name}"
    held = {"at a tenth (MiB)": first.memory / MEBIBYTE, "peak (MiB)": 1024 * peak()}
    return [
        Row(what, "throughput", units / seconds, "units/s", details={"load average": load}),
        Row(what, "wall time per unit", 1e3 * seconds / units, "ms", details={"parent's CPU (ms)": busy}),
        Row(what, "growth of the parent", more, "MiB", goal=Goal("at most", 8.0), details=held),
    ]


@dataclass(frozen=True)
class Moment:
    """So many units were in, at this time; CPU seconds and bytes of memory of this process."""

    units: int
    time: float
    busy: float
    memory: int


def growth(seen: Sequence[Moment]) -> int:
    """By how many bytes the most that was held in the second half exceeds the most in the first."""
    half = len(seen) // 2
    earlier, later = (max(moment.memory for moment in part) for part in (seen[:half], seen[half:]))
    return later - earlier


class Watch:
    """Moments of a run of so many units, from a tenth of them on, a hundred or so."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.seen: list[Moment] = []

    def told(self, event: Event) -> None:
        """One event of the run."""
        done = event.finished if isinstance(event, UnitDone) else 0
        if done >= max(self._count // 10, 1) and done % max(self._count // 100, 1) == 0:
            held = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
            self.seen.append(Moment(done, time.perf_counter(), time.process_time(), held))
