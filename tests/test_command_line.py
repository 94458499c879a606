"""The command line as its users meet it: in a process of its own, but for what it refuses, here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pctheory.__main__ import main
from pctheory.claims import claim_index
from pctheory.compiled_code import STORE
from pctheory.figures import figure_index

from .commands import checkout as units
from .commands import command

ROOT = Path(__file__).parents[1]

CLAIMS = """
from pctheory.claims import claim

@claim(key="a/holds", statement="1 = 1", hypotheses=(), attribution="own", source="-")
def holds(check):
    check.property("equal", [1.0, 2.0], lambda c: 0.0, twins={"unequal": lambda c: 1.0})

@claim(key="b/rests-on-it", statement="2 = 2", hypotheses=(), attribution="own", source="-", uses=("a/holds",))
def rests(check):
    check.exact("equal", [1], lambda c: 0, twins={"unequal": lambda c: 1})
"""
FAILING = """
@claim(key="b/fails", statement="1 = 2", hypotheses=(), attribution="own", source="-")
def fails(check):
    check.property("equal", [1.0], lambda c: 0.5, twins={"unequal": lambda c: 1.0})

@claim(key="b/gullible", statement="1 = 1", hypotheses=(), attribution="own", source="-")
def gullible(check):
    check.property("equal", [1.0], lambda c: 0.0, twins={"also accepted": lambda c: 0.0})
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "paper_checks").mkdir()
    (tmp_path / "figures").mkdir()
    (tmp_path / "paper_checks" / "small.py").write_text(CLAIMS)
    return tmp_path


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pctheory", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_list_shows_every_claim_and_figure():
    result = run("list")
    assert result.returncode == 0
    for key in [c["key"] for c in claim_index(ROOT)] + [f.key for f in figure_index(ROOT)]:
        assert f"  {key} " in result.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["check", "--help"]])
def test_answers_without_heavy_imports(arguments: list[str]):
    code = (
        "import sys, pctheory.__main__ as door\n"
        f"try: door.main({arguments!r})\n"
        "except SystemExit: pass\n"
        "print([name for name in ('jax', 'sympy', 'matplotlib', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_who_hands_units_to_workers_imports_no_jax(tmp_path: Path, run_python):
    words = command(units(tmp_path, "a"), "figure")[3:]
    printed = run_python(
        f"import sys\nfrom pctheory.__main__ import main\nmain({words})\nprint('jax' in sys.modules)"
    )
    assert printed.splitlines()[-2:] == ["1 of 1 figures drawn, 1 units computed, 0 cached", "False"]


def test_check_follows_uses_and_writes_its_verdicts(checkout: Path):
    out = checkout / "verdicts.json"
    result = run("check", "b/rests-on-it", "--json", str(out), cwd=checkout)
    assert result.returncode == 0, result.stderr
    ledger = json.loads(out.read_text())
    statuses = {c["key"]: (c["own"], c["effective"]) for c in ledger["claims"]}
    assert statuses == {"a/holds": ("tested", "tested"), "b/rests-on-it": ("exact", "tested")}
    assert ledger["claims"][0]["evidence"][0]["cases"] == 2
    assert "2 claims: 1 exact, 1 tested" in result.stdout


def test_check_of_one_paper(checkout: Path):
    result = run("check", "--paper", "a", cwd=checkout)
    assert result.returncode == 0
    assert "1 claims: 1 tested" in result.stdout


def test_a_failing_claim_or_an_accepted_twin_is_an_error(checkout: Path):
    with (checkout / "paper_checks" / "small.py").open("a") as file:
        file.write(FAILING)
    result = run("check", cwd=checkout)
    assert result.returncode == 1
    assert "b/fails: property 'equal' fails: worst scaled error 0.5, allowed 1e-12" in result.stderr
    assert "b/gullible: false twin 'also accepted' is accepted" in result.stderr
    assert "4 claims: 1 exact, 2 failed, 1 tested" in result.stdout


@pytest.mark.parametrize("latex", [False, True])
def test_derive(latex: bool):
    result = run("derive", *(["--latex"] if latex else []))
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) > 30
    assert ("\\begin{" in result.stdout) == latex


def test_derive_with_concrete_dimensions():
    assert run("derive", "envelope", "--dimensions", "2", "3", "5").returncode == 0


BAD_INPUT = {
    "unknown claim": (["check", "saddles-2024/envelop"], "KEY: no claim 'saddles-2024/envelop'; did you mean saddles-2024/envelope?"),
    "unknown paper": (["check", "--paper", "einstein-1905"], "--paper: no claims of 'einstein-1905'; there are alonso-2022"),
    "unknown figure": (["figure", "nothing"], "key: no figure 'nothing'; there are "),
    "unknown preset": (["figure", "--preset", "huge"], "has no preset 'huge'; it has quick, default, paper"),
    "unknown preset, reproduce": (["reproduce", "--preset", "huge"], "has no preset 'huge'; it has quick, default, paper"),
    "unknown derivation": (["derive", "magic"], "NAME: no derivation 'magic'; there are rescaling"),
    "equal dimensions": (["derive", "--dimensions", "2", "2", "3"], "--dimensions: got [2, 2, 3], expected three different positive widths"),
    "depth of nothing": (["derive", "chain", "--depth", "0"], "depth"),
    "no jobs": (["figure", "--jobs", "0"], "jobs: expected a number of processes, 1 or more, got 0"),
    "no jobs to check": (["check", "saddles-2024/envelope", "--jobs", "-1"], "jobs: expected a number of processes, 1 or more, got -1"),
    "no time": (["check", "saddles-2024/envelope", "--time-limit", "nan"], "time_limit: expected a positive number of seconds, got nan"),
    "outside a checkout": (["check", "--root", "/"], "no paper_checks/ folder in /; run inside a checkout of pctheory or pass --root"),
    "figures outside a checkout": (["figure", "--root", "/"], "no figures/ folder in /; run inside a checkout of pctheory or pass --root"),
    "unwritable out": (["reproduce", "--preset", "quick", "--out", "/dev/null/here"], "out: cannot write to /dev/null/here"),
    "unwritable json": (["check", "--json", "/no/such/folder/out.json"], "--json: cannot write /no/such/folder/out.json: No such file or directory"),
    "json of a name that is too long": (["check", "--json", "x/" * 3000], "--json: cannot write x/x/"),
    "json of a file name that is too long": (["check", "--json", "x" * 300], "File name too long; choose another file"),
    "json is a folder": (["check", "--json", "/tmp"], "--json: /tmp is a folder; name a file"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "text"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_is_one_line(
    arguments: list[str], text: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv(STORE, "")  # the command line would set it, for all tests after this one
    monkeypatch.chdir(ROOT)
    assert main(arguments) == 2
    written = capfd.readouterr()
    assert text in written.err
    assert written.err.startswith("pctheory: ")
    assert len(written.err.splitlines()) == 1
    assert not written.out


@pytest.mark.parametrize("words", [["figure", "--out", ""], ["check", "--json", ""], ["report", "--root", ""]])
def test_an_empty_name_is_not_the_current_folder(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert f"argument {words[1]}: expected a name, got an empty one" in capsys.readouterr().err


def test_a_process_of_bad_input_ends_with_2():
    result = run("figure", "nothing")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1


def test_missing_data_files_are_named(tmp_path: Path):
    """The figure fails, the command says which file it missed and exits with 1; nothing else is lost."""
    result = run(
        "figure",
        "saddles/energy-theory",
        "--preset",
        "paper",
        "--data-dir",
        str(tmp_path),
        "--out",
        str(tmp_path),
        "--jobs",
        "1",
    )
    assert result.returncode == 1
    assert "train-images-idx3-ubyte" in result.stderr
    assert "Traceback" not in result.stderr
    assert "Traceback" in (tmp_path / "failures.txt").read_text()
    assert "0 of 1 figures drawn" in result.stdout


def test_damaged_claims_file(checkout: Path):
    (checkout / "paper_checks" / "broken.py").write_text("import nothing_of_the_kind")
    result = run("check", cwd=checkout)
    assert result.returncode == 2
    assert "paper_checks/broken.py: cannot be imported: ModuleNotFoundError" in result.stderr


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="memory maps are counted on Linux only")
def test_compiled_code_is_dropped(run_python):
    code = (
        "import numpy as np, pctheory; pctheory.enable_x64()\n"
        "from pathlib import Path\n"
        "from pctheory.processes import drop_compiled_code\n"
        "x = np.ones((1, 1))\n"
        "for n in range(2, 10):\n"
        "    pctheory.weight_hessian_dense(pctheory.loss, pctheory.standard([1, n, 1], seed=0), x, x)\n"
        "for above in (10**6, 0):\n"
        "    drop_compiled_code(above=above)\n"
        "    print(Path('/proc/self/maps').read_bytes().count(b'\\n'))\n"
    )
    kept, dropped = map(int, run_python(code).split())
    assert dropped < kept - 100
