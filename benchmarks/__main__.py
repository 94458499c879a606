"""The command line: `python -m benchmarks [--quick] [--out DIR] [NAME...]`.

Each case runs in a fresh process of its own, so that no cache and no memory carries over. The table so far is
written after every case. A missed goal is a result and leaves the exit status 0; a case that fails makes it 1.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

import pctheory
from pctheory.processes import process_pool

from . import (
    compile_time,
    conditioning,
    curvature,
    dense_hessian,
    dyson,
    exact_step,
    exponents,
    fuzzing,
    kept_code,
    kills,
    load,
    memory,
    sweeps,
    trust_region,
)
from .measure import HEADINGS, Case, Row, machine

TOPICS = {
    "exact-step": exact_step.cases,
    "dense-hessian": dense_hessian.cases,
    "exponents": exponents.cases,
    "compile-time": compile_time.cases,
    "memory": memory.cases,
    "curvature": curvature.cases,
    "trust-region": trust_region.cases,
    "conditioning": conditioning.cases,
    "sweeps": sweeps.cases,
    "dyson": dyson.cases,
    "kept-code": kept_code.cases,
    "load": load.cases,
    "kills": kills.cases,
    "fuzzing": fuzzing.cases,
}
OUTPUT = Path(__file__).parent / "output"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the topics asked for and write `benchmarks.md` and `benchmarks.json`."""
    options = _parsed(arguments)
    cases = [case for name in options.names or TOPICS for case in TOPICS[name](quick=options.quick)]
    description = machine() | {"pctheory": pctheory.__version__, "quick": options.quick}
    console = Console(stderr=True)
    rows: list[Row] = []
    failures: list[str] = []
    for number, case in enumerate(cases, start=1):
        start = time.perf_counter()
        with console.status(f"{number}/{len(cases)} {case}"):
            try:
                rows += [replace(row, goal=None) if options.quick else row for row in _in_fresh_process(case)]
            except Exception as error:  # whatever a case dies of, the others are still worth having
                failures.append(f"{case}: {type(error).__name__}: {error}")
        console.print(
            f"{number}/{len(cases)} {case}: {time.perf_counter() - start:.1f} s", highlight=False, soft_wrap=True
        )
        _write(options.out, description, rows, failures)
    print(markdown(description, rows))
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[2])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"topics (default: all): {', '.join(TOPICS)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, goals not judged: does it run?")
    parser.add_argument("--out", type=Path, default=OUTPUT, metavar="DIR", help="default: benchmarks/output")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in TOPICS:
            parser.error(f"NAME is {name!r}, expected one of {', '.join(TOPICS)}")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "benchmarks.json").touch()
    except OSError as error:
        parser.error(f"--out {options.out} cannot be written ({error.strerror}); choose another folder")
    return options


def _in_fresh_process(case: Case) -> list[Row]:
    with process_pool(1) as executor:
        return executor.submit(case.rows_compiled_anew).result()


def _write(folder: Path, description: dict[str, Any], rows: Sequence[Row], failures: Sequence[str]) -> None:
    content = {"machine": description, "rows": [row.as_json() for row in rows], "failures": list(failures)}
    (folder / "benchmarks.json").write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    (folder / "benchmarks.md").write_text(markdown(description, rows))


def markdown(description: dict[str, Any], rows: Sequence[Row]) -> str:
    """The machine in a sentence, then the table."""
    lines = [
        f"{description['processor']}, {description['cores usable']} cores, {description['memory (GiB)']} GiB, "
        f"{description['operating system']}, Python {description['python']}, jax {description['jax']} on "
        f"{description['device']}, numpy {description['numpy']}; float64. "
        f"Load average before the run: {description['load average before'][0]:.1f}; "
        "on a busy machine threaded LAPACK stalls, which flatters whatever is compared with it.",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|" + "---|" * len(HEADINGS),
        *("| " + " | ".join(row.as_cells()) + " |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
