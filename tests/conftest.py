"""Every test runs in double precision, with the shapes in the annotations checked by beartype."""

import subprocess
import sys

import jaxtyping
import pytest

jaxtyping.install_import_hook("pctheory", "beartype.beartype")

import pctheory  # noqa: E402  (after the hook, so that it is checked)

pctheory.enable_x64()


@pytest.fixture
def run_python():
    """Run code in a fresh interpreter and return what it printed."""

    def run(code: str) -> str:
        return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout

    return run
