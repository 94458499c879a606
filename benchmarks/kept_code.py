"""The store of compiled code: what it saves a process, and what it costs one to start with a full store."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pctheory.compiled_code import STORE

from .measure import Case, Goal, Row

# Prints the CPU seconds of starting with the store, and of first calls.
CODE = """
import time
import jax
import pctheory
from pctheory.compiled_code import share_compiled_code
pctheory.enable_x64()
before = time.process_time()
share_compiled_code()
started = time.process_time()
for depth in range(2, 8):
    net, x = pctheory.standard([8] * (depth + 1), seed=0), jax.numpy.ones((4, 8))
    pctheory.weight_hessian_dense(pctheory.loss, net, x, x).block_until_ready()
print(started - before, time.process_time() - started)
"""


def cases(*, quick: bool) -> list[Case]:
    return [Case(processes, (20 if quick else 10_000,))]


def processes(entries: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        _, compiling = _process(folder)
        _, finding = _process(folder)
        kept = sorted(Path(folder).glob("*/*-cache.*"))
        for number in range(entries - len(kept)):
            of = kept[number % len(kept)]
            (of.parent / f"jit_{number}-{of.name}").write_bytes(of.read_bytes())
        starting, _ = _process(folder)
        size = sum(file.stat().st_size for file in Path(folder).glob("*/*-cache.*")) / 1e6
    times = {"first process (s)": compiling, "second (s)": finding}
    name = "store of compiled code"
    return [
        Row(name, "CPU time of first calls / with a store", compiling / finding, details=times),
        Row(f"{name}, {size:,.0f} MB", "CPU time to start with it", starting, "s", goal=Goal("at most", 1.0)),
    ]


def _process(store: str) -> tuple[float, float]:
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"} | {STORE: store}
    command = [sys.executable, "-c", CODE]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    starting, calls = map(float, told.split())
    return starting, calls
