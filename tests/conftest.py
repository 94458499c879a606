"""Every test runs in double precision, with the shapes in the annotations checked by beartype."""

import os
import subprocess
import sys
import time

import jaxtyping
import pytest

jaxtyping.install_import_hook("pctheory", "beartype.beartype")

import pctheory  # noqa: E402  (after the hook, so that it is checked)
from pctheory.processes import drop_compiled_code, one_thread  # noqa: E402

one_thread(os.environ)
pctheory.enable_x64()


@pytest.fixture(autouse=True)
def few_compiled_functions(request):
    """Thousands of tests in one process would compile more functions than Linux has memory maps for."""
    start = time.perf_counter()
    yield
    worked = getattr(request.config, "worked_since_look", 0.0) + time.perf_counter() - start
    if worked > 3:  # compiling takes seconds, looking milliseconds
        drop_compiled_code()
        worked = 0.0
    request.config.worked_since_look = worked


@pytest.fixture
def run_python():
    """Run code in a fresh interpreter and return what it printed."""

    def run(code: str) -> str:
        return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout

    return run
