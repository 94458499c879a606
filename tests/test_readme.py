"""The README is true: its example runs, its commands exist, its result map names what there is."""

import re
import shlex
from pathlib import Path

import pytest

import pctheory
from pctheory.__main__ import THEOREMS, _parser
from pctheory.claims import claim_index
from pctheory.figures import figure_index

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ROWS = [
    [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
    for line in README.partition("## Result map")[2].partition("\n## ")[0].splitlines()
    if line.startswith("|")
][2:]
CLAIMS = {row["key"] for row in claim_index(ROOT)}
FIGURES = {row.key for row in figure_index(ROOT)}


def test_the_example_prints_two_numbers(run_python):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code.splitlines()) == 5
    loss, energy = map(float, run_python(code).split())
    assert 0 < energy < loss


def test_commands_parse():
    commands = re.findall(r"^    \.venv/bin/pctheory (.*)$", README, re.MULTILINE)
    assert commands
    for command in commands:
        _parser().parse_args(shlex.split(command, comments=True))


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+)[a-z ]*:(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = set(re.findall(r"make ([a-z]+)", README)) - {"test"}
    assert {"reproduce", "bench"} <= used
    assert used <= targets | {"lint", "types", "soak"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_result_map_row(row: list[str]):
    _, derivation, function, test, claim, figure = row
    assert derivation in (*THEOREMS, "chain", "-")
    for name in function.split(", "):
        assert name == "-" or hasattr(pctheory, name)
    file, _, name = test.partition("::")
    assert re.search(rf"^def {name}\(", (ROOT / "tests" / file).read_text(), re.MULTILINE)
    assert claim == "-" or claim in CLAIMS
    for key in figure.split(", "):
        assert key == "-" or key in FIGURES


def test_result_map_is_complete():
    assert {row[4] for row in ROWS} >= CLAIMS
    assert {key for row in ROWS for key in row[5].split(", ")} >= FIGURES
