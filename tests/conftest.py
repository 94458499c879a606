"""Every test runs in double precision, with the shapes in the annotations checked by beartype."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jaxtyping
import pytest

# Before JAX is imported, as it is by the hook: with these it compiles in a quarter of the time. Loops of many steps
# are optimised all the same, as far as XLA_FLAGS allow (see pctheory.compiled_code.optimised). `make soak` compiles
# as it does for users. A newer XLA that does not know one of these flags says so and stops.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
)
jaxtyping.install_import_hook("pctheory", "beartype.beartype")

import pctheory  # noqa: E402  (after the hook, so that it is checked)
from pctheory.compiled_code import STORE, exchange_compiled_code, share_compiled_code  # noqa: E402
from pctheory.processes import drop_compiled_code, one_thread  # noqa: E402

one_thread(os.environ)
pctheory.enable_x64()
# JAX's traces fill the heap: with the usual numbers looking it all through takes 9 per cent of the time.
gc.set_threshold(50_000, 20, 1000)
share_compiled_code(Path(os.environ.get(STORE) or Path(__file__).parents[1] / ".jax_cache"))


# A third of the time, with the longest tests in front: two workers then end together, one with these and one with
# the rest, and while processes of tests wait for something the other computes.
FIRST = (
    "test_fuzz_library.py",
    "test_fuzz_files.py",
    "test_fuzz_command_line.py",
    "test_nothing_lost.py",
    "test_faults.py",
    "test_cluster.py",
    "test_audit.py",
    "test_paper_checks.py",
)


def pytest_collection_modifyitems(items):
    """Files of `FIRST` in front, the others as they come."""
    order = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(item.path.name, len(FIRST)))


@pytest.fixture(autouse=True)
def few_compiled_functions(request):
    """Thousands of tests in one process would compile more functions than Linux has memory maps for."""
    start = time.perf_counter()
    yield
    worked = getattr(request.config, "worked_since_look", 0.0) + time.perf_counter() - start
    if worked > 3:  # compiling takes seconds, looking milliseconds
        drop_compiled_code(above=40_000)
        exchange_compiled_code()
        worked = 0.0
    request.config.worked_since_look = worked


@pytest.fixture
def run_python():
    """Run code in a fresh interpreter and return what it printed."""

    def run(code: str) -> str:
        return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout

    return run


@pytest.fixture
def signals_of_a_terminal():
    """Also where the tests were started by nohup or in the background: children inherit what is ignored."""
    usual = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
