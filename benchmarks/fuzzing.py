"""Hostile input: how many inputs were tried, and how many were answered by anything but a documented error.

Each suite runs in a fresh process, as its test does: `python -m tests.test_fuzz_library EXAMPLES SEED`.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from .measure import Case, Goal, Row

ROOT = Path(__file__).parents[1]
SUITES = {"library": 1000, "files": 1500, "command_line": 1000}  # examples for each target of the long mode
SEED = 1


def cases(*, quick: bool) -> list[Case]:
    return [Case(answers, (number, 2 if quick else most)) for number, most in enumerate(SUITES.values())]


def answers(number: int, examples: int) -> list[Row]:
    """Of suite `number`, with so many examples for each of its targets."""
    suite = list(SUITES)[number]
    command = [sys.executable, "-m", f"tests.test_fuzz_{suite}", str(examples), str(SEED)]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    inputs = float(sum(found["inputs"].values()))
    details = {"inputs": inputs, "targets": float(len(found["inputs"])), "s": time.perf_counter() - start}
    wrong = float(sum(defect["count"] for defect in found["defects"]))
    name = f"hostile input, {suite.replace('_', ' ')}"
    return [Row(name, "undocumented errors", wrong, goal=Goal("at most", 0.0), details=details)]
