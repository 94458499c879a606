"""A Dask cluster on this machine, of real processes that know no checkout."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pctheory

PACKAGE = Path(pctheory.__file__).parent


@dataclass(frozen=True)
class LoopbackCluster:
    """Its address, the processes of scheduler and workers, and the folder of the workers, with a pctheory in it."""

    address: str
    scheduler: subprocess.Popen[str]
    workers: subprocess.Popen[str]
    folder: Path

    @property
    def package(self) -> Path:
        """The pctheory that the workers import."""
        return self.folder / "pctheory"

    def log(self) -> str:
        """What the workers wrote."""
        return (self.folder / "workers.log").read_text()


@contextmanager
def loopback_cluster(folder: Path, workers: int = 2, allowed_failures: int = 0) -> Iterator[LoopbackCluster]:
    """A scheduler and workers of one thread each, ended with the context."""
    shutil.copytree(PACKAGE, folder / "pctheory", ignore=shutil.ignore_patterns("__pycache__"))
    environment = os.environ | {
        "PYTHONPATH": str(folder),
        "TMPDIR": str(folder),
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(allowed_failures),
    }
    dask = [sys.executable, "-P", "-m", "dask"]
    options = {"cwd": folder, "env": environment, "text": True, "start_new_session": True}
    with (folder / "scheduler.log").open("w") as log:
        command = [
            *dask,
            "scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--dashboard-address",
            "127.0.0.1:0",
            "--no-dashboard",
        ]
        scheduler = subprocess.Popen(command, stdout=log, stderr=log, **options)
    processes = [scheduler]
    try:
        address = _address(scheduler, folder / "scheduler.log")
        command = [*dask, "worker", address, "--nworkers", str(workers), "--nthreads", "1", "--no-dashboard"]
        with (folder / "workers.log").open("w") as log:
            processes.append(subprocess.Popen([*command, "--host", "127.0.0.1"], stdout=log, stderr=log, **options))
        yield LoopbackCluster(address, *processes, folder)
    finally:
        for process in reversed(processes):
            end_session(process)


def _address(scheduler: subprocess.Popen[str], log: Path) -> str:
    end = time.monotonic() + 60
    while not (found := re.search(r"Scheduler at:\s+(tcp://\S+)", log.read_text())):
        assert scheduler.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)
    return found[1]


def end_session(process: subprocess.Popen[str]) -> None:
    """Kill a process and all that it started."""
    os.killpg(process.pid, 9)
    process.wait()
