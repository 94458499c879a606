"""Every command and option with hostile values: status 0, 1 or 2, no traceback, no hang, no stray file.

The process that tries them is `python -m tests.test_fuzz_command_line EXAMPLES [SEED] [COMMAND...]`. It calls
`main`, in a small checkout made anew for each input, with workers that are this process; a few go to a real one.
"""

import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

import pctheory
from pctheory import processes
from pctheory.__main__ import THEOREMS, main
from pctheory.ledger import ledger_of, write_ledger
from pctheory.processes import InProcess, one_thread

from .hostile import Fuzz, driven, run_suite
from .reports import ROOT
from .test_command_line import CLAIMS
from .test_fuzz_library import only_documented_errors
from .test_ledger import record

FIGURE = """
from dataclasses import dataclass
import matplotlib.figure
import numpy as np
from pctheory.figures import Figure

@dataclass(frozen=True)
class P:
    n: int = 2

def data(p, data_dir):
    return {"a": np.arange(p.n)}

def draw(units, p):
    return matplotlib.figure.Figure()

FIGURE = Figure(key="a/b", title="T", caption="C", source="-", data=data, draw=draw,
                presets={"quick": P(), "default": P(), "paper": P()})
"""
WORDS = (
    *("", " ", "-", "--", "-x", "--nothing", "a/holds", "a/b", "a", "b/rests-on-it", "nothing", "A/HOLDS", "a/"),
    *("two\nlines", "tab\there", "\x00", "\x1b[31m", "\u202e", "\u00e9", "\U0001f600", "\udcff", "x" * 5000),
    *("{}", "$(id)", "`id`", "~", "..", "../..", "../../../../etc/passwd", "nan", "1e999", "[", "(", "\\", "%s"),
)
# Inside the small checkout: nothing here names a place outside it that could be written to.
PATHS = (
    *("", ".", "new", "new/deeper/still", "file", "file/below", "folder", "pipe", "null", "zero", "loop", "gone"),
    *("claims.json", "damaged.json", "\udcff", "two\nlines", "\u00e9", "x" * 300, "x/" * 3000, "\x00", "-x"),
    *("figures", "paper_checks", "/proc/self/nothing", "/dev/null/below", "link-out"),
)
NUMBERS = (
    *("0", "1", "2", "-1", "3", "1.5", "nan", "inf", "-inf", "1e300", "1e-300", "-0", "10**3", "9" * 30),
    *("9" * 5000, "", " 1", "1 ", "0x10", "1_0", "\u0661", "one", "None", "1e999"),
)
ADDRESSES = (
    *("", "nothing", "tcp://", "tcp://:0", "tcp://127.0.0.1:99999", "http://127.0.0.1", "\x00", "two\nlines"),
    *("\udcff", "x" * 300),
)
LIMITS: dict[str, Sequence[str]] = {"--jobs": NUMBERS, "--time-limit": NUMBERS, "--root": PATHS}
FIGURES = LIMITS | {
    "--preset": WORDS,
    "--out": PATHS,
    "--data-dir": PATHS,
    "--recompute": (),
    "--scheduler": ADDRESSES,
}
OPTIONS: dict[str, dict[str, Sequence[str]]] = {
    "list": {"--root": PATHS},
    "check": LIMITS | {"--paper": WORDS, "--json": PATHS, "--compare": PATHS, "--scheduler": ADDRESSES},
    "derive": {"--depth": NUMBERS, "--dimensions": NUMBERS, "--latex": ()},
    "figure": FIGURES,
    "audit": LIMITS | {"--quick": (), "--recompute": (), "--ledger": PATHS, "--out": PATHS},
    "report": {"--ledger": PATHS, "--figures": PATHS, "--out": PATHS, "--root": PATHS},
    "reproduce": FIGURES,
    "": {"--version": (), "--help": (), "-h": ()},
}
POSITIONAL = {"check": WORDS, "figure": WORDS, "derive": (*WORDS, *THEOREMS, "chain"), "": WORDS}
NOT_TRIED = {("audit", "--record")}  # writes into the package itself
DEFAULTS = ("figures/output", "report")  # where commands write unless told otherwise


def arguments(draw: st.DrawFn, command: str) -> list[str]:
    """Options and words, about one of them hostile."""
    given = [command] if command else []
    for option in draw(st.lists(st.sampled_from(sorted(OPTIONS[command])), max_size=2, unique=True)):
        values = OPTIONS[command][option]
        given.append(option)
        for _ in range(3 if option == "--dimensions" else 1 if values else 0):
            given.append(draw(st.sampled_from(values)))
    words = draw(st.lists(st.sampled_from(POSITIONAL.get(command, WORDS)), max_size=2))
    if command == "audit":
        words = ["no-such-fault", *words]  # a fault that is known would take minutes
    return [*given, *words]


def made_checkout(folder: Path) -> None:
    """A checkout of two claims and a figure, a ledger, and things that are no files."""
    for name in ("paper_checks", "figures", "folder"):
        (folder / name).mkdir()
    (folder / "paper_checks" / "small.py").write_text(CLAIMS)
    (folder / "figures" / "small.py").write_text(FIGURE)
    (folder / "file").write_text("a file")
    (folder / "damaged.json").write_text("{")
    os.mkfifo(folder / "pipe")
    for name, to in {"null": "/dev/null", "zero": "/dev/zero", "loop": "loop", "gone": "nowhere"}.items():
        (folder / name).symlink_to(to)
    (folder / "link-out").symlink_to("../outside")
    claims = [record("a/holds"), record("b/rests-on-it", uses=["a/holds"])]
    content = ledger_of(claims, pctheory="0.1.0", versions={"numpy": "2.0"}, started=1.8e9, seconds=1.5)
    write_ledger(folder / "claims.json", content)


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below, with size and time of its last change."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            state = os.lstat(path := os.path.join(place, name))  # noqa: PTH118 (names that are no text)
            found[os.path.relpath(path, folder)] = (0 if name in folders else state.st_size, state.st_mode)
    return found


@contextlib.contextmanager
def workers_here() -> Iterator[None]:
    """Workers are this process, so that a claim takes milliseconds; what is given to them is the same."""

    @contextlib.contextmanager
    def pool(*given: Any) -> Iterator[InProcess]:
        yield InProcess()

    before = processes.workers, processes.process_pool
    processes.workers, processes.process_pool = pool, pool  # type: ignore[assignment]
    try:
        yield
    finally:
        processes.workers, processes.process_pool = before


@contextlib.contextmanager
def streams() -> Iterator[tuple[io.BytesIO, io.BytesIO]]:
    """Standard output and error as a terminal of UTF-8 has them."""
    out, err = io.BytesIO(), io.BytesIO()
    text_out = io.TextIOWrapper(out, encoding="utf-8", errors="strict", write_through=True)
    text_err = io.TextIOWrapper(err, encoding="utf-8", errors="backslashreplace", write_through=True)
    with contextlib.redirect_stdout(text_out), contextlib.redirect_stderr(text_err):
        yield out, err
    text_out.detach()
    text_err.detach()


def run_here(given: list[str], folder: Path) -> tuple[Any, str]:
    """Status, or the traceback of what was raised; and standard error."""
    before = Path.cwd(), list(sys.path), set(sys.modules)
    os.chdir(folder)
    try:
        with streams() as (_, err), workers_here():
            try:
                status: Any = main(given)
            except SystemExit as ended:
                status = ended.code
            except Exception as error:
                frames = traceback.extract_tb(error.__traceback__)
                ours = [f"{Path(f.filename).name}:{f.lineno}" for f in frames if "pctheory" in f.filename]
                status = f"{type(error).__name__}: {error} at {ours[-1] if ours else ''}"
        return status, err.getvalue().decode()
    finally:
        os.chdir(before[0])
        sys.path[:] = before[1]
        for name in set(sys.modules) - before[2]:
            if name.startswith(("figures.", "paper_checks.")):
                del sys.modules[name]


def problem(given: list[str], status: Any, err: str) -> str | None:
    """What is wrong with the way a command ended."""
    if status not in (0, 1, 2, None):
        return f"ended with {status!r}"[:300]
    if "Traceback" in err:
        return f"a traceback: {err[-200:]!r}"
    lines = err.splitlines()
    own = [line for line in lines if line.startswith("pctheory: ")]
    if status == 2 and not lines:
        return "status 2 without a word"
    usage = lines and lines[0].startswith("usage: ")
    if status == 2 and not usage and (len(own) != 1 or lines[-1] != own[0]):
        return f"status 2 with {len(lines)} lines: {err[-200:]!r}"
    if status == 2 and own and len(own[0]) > 12_000:
        return f"an error of {len(own[0])} characters"
    if status == 2 and own and re.search(r"^pctheory: (\S+Error|\[Errno|not enough values|'\w+')", own[0]):
        return f"an error that only Python understands: {own[0][:200]!r}"
    return None


def strangers(given: list[str], before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Files that were made, changed or removed where the command was not told to write."""
    told = [given[i + 1] for i, a in enumerate(given[:-1]) if a in ("--out", "--json", "--ledger")]
    told = [a.partition("=")[2] for a in given if a.startswith(("--out=", "--json="))] + told
    places = [os.path.normpath(place) for place in (*told, *DEFAULTS) if place]
    changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    return [
        name
        for name in changed
        if "__pycache__" not in name
        and not any(
            name == place or name.startswith(f"{place}/") or place.startswith(f"{name}/") or place == "."
            for place in places
        )
    ]


def tried(fuzz: Fuzz, command: str, data: st.DataObject) -> None:
    given = arguments(data.draw, command)
    with tempfile.TemporaryDirectory() as around:
        (Path(around) / "outside").mkdir()
        folder = Path(around) / "checkout"
        folder.mkdir()
        made_checkout(folder)
        before, outside = listing(folder), listing(Path(around) / "outside")
        result = fuzz.call(command or "pctheory", partial(run_here, given, folder), repr(given), names=(), state=())
        if isinstance(result, BaseException):
            return
        status, err = result
        said = repr([word if len(word) < 60 else f"{word[:20]}.. of {len(word)}" for word in given])
        if wrong := problem(given, status, err):
            fuzz.note(command or "pctheory", wrong, "", said)
        if odd := strangers(given, before, listing(folder)):
            fuzz.note(command or "pctheory", f"touched {odd[0]!r}", "", said)
        if listing(Path(around) / "outside") != outside and "link-out" not in " ".join(given):
            fuzz.note(command or "pctheory", "touched a file outside the checkout", "", said)


def suite(fuzz: Fuzz, examples: int, seed: int | None, only: Sequence[str]) -> None:
    sys.dont_write_bytecode = True
    one_thread(os.environ)
    pctheory.enable_x64()
    os.environ["COLUMNS"] = "100"
    for command in OPTIONS:
        if not only or command in only:
            count = max(examples // 5, 5) if command == "derive" else examples
            driven(partial(tried, fuzz, command), count, seed)


# The same as a user's shell gives them to a process of its own, where Python starts and ends.
REAL = (
    [b"check", b"\xff\xfe"],
    [b"check", b"a/holds", b"--json", b"\xff/x.json"],
    [b"list", b"--root", b"\xff"],
    [b"report", b"--ledger", b"pipe"],
    [b"check", b"--compare", b"zero"],
    [b"figure", b"two\nlines", b"--out", b"x" * 300],
)


@pytest.mark.parametrize("given", REAL, ids=repr)
def test_in_a_process_of_its_own(given: list[bytes], tmp_path: Path):
    made_checkout(tmp_path)
    before = listing(tmp_path)
    command = [sys.executable, "-B", "-m", "pctheory", *map(os.fsdecode, given)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=300, env=environment)
    words = [os.fsdecode(word) for word in given]
    assert problem(words, done.returncode, done.stderr.decode("utf-8", "replace")) is None
    assert done.returncode == 2
    assert not strangers(words, before, listing(tmp_path))


def test_every_option_is_tried():
    text = subprocess.run(
        [sys.executable, "-c", "import pctheory.__main__ as m; [print(n, *a.option_strings) for n, p in "
         "m._parser()._subparsers._group_actions[0].choices.items() for a in p._actions]"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    there = {(name, option) for name, *options in map(str.split, text.splitlines()) for option in options}
    tried_here = {(command, option) for command, options in OPTIONS.items() for option in options if command}
    assert {pair for pair in there if pair[1] not in ("-h", "--help")} == tried_here | NOT_TRIED


def test_hostile_values():
    only_documented_errors("test_fuzz_command_line", 60, least=350)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_in_long_mode(seed: int):
    """In parts, as a test that takes a quarter of an hour is taken to hang."""
    only_documented_errors("test_fuzz_command_line", 100, seed=seed, least=600)


if __name__ == "__main__":
    run_suite(suite, sys.argv[1:])
