"""The audit: its catalogue fits the library, and it finds out who notices and who does not."""

import ast
import json
import os
import shutil
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from pctheory.audit.catalogue import Fault, catalogue, chosen
from pctheory.audit.copies import faulty_copy, plain_copy
from pctheory.audit.run import Audit, Caught, audit_summary
from pctheory.audit.watch import Alarm, NoticedError
from pctheory.claims import claim_index
from pctheory.ledger import ledger_of, read_ledger, write_ledger

ROOT = Path(__file__).parents[1]
FAULTS = catalogue()
KEYS = {row["key"] for row in claim_index(ROOT)}
# Files and folders of the library that state no theory, by why no fault of theirs belongs here.
WITHOUT_THEORY = {
    "__main__.py arguments.py arrays.py names.py dynamics/arguments.py": "what users may pass in",
    "checking.py checkout.py cluster.py compiled_code.py processes.py stopping.py terminal.py": "how work is run",
    "figures": "how figures are run, stored and drawn",
    "audit files.py ledger.py report": "how results are kept and shown",
    "datasets.py": "data",
    "dynamics/snapshots.py": "which networks on the way are kept; the way itself is learning.py",
    "matrix_algebra/evaluation.py matrix_algebra/notation.py": "how formulas are printed and put into numbers",
    "matrix_algebra/symbols.py": "the names of symbols",
}
HALF = "def half(number):\n    return number / 2\n"
CLAIM = """
from pctheory.claims import claim
from pctheory.half import half

@claim(key="small/half", statement="1", hypotheses=(), attribution="own", source="-")
def of_four(check):
    check.property("half of 4 and 6", [4, 6], lambda n: abs(half(n) - n * 0.5), twins={"1": lambda n: 1.0})

@claim(key="small/blind", statement="1", hypotheses=(), attribution="own", source="-")
def of_nought(check):
    check.property("half of 0", [0], lambda n: abs(half(n)), twins={"1": lambda n: 1.0})
"""
TEST = """
from pctheory.half import half

def test_of_four():
    assert half(4) == 2

def test_of_nought():
    assert half(0) == 0
"""
DOUBLED = Fault("doubled", "half.py", "/ 2", "* 2", ("small/half",), ("tests/test_small.py::test_of_four",))
BLIND = Fault("blind", "half.py", "/ 2", "* 2", ("small/blind",), ("tests/test_small.py::test_of_nought",))


def names_of_tests(file: Path) -> set[str]:
    """`function` and `Class::method` of every test in the file."""
    found = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return found


@pytest.mark.parametrize("fault", FAULTS.values(), ids=lambda f: f.name)
def test_the_fault_fits_the_library(fault: Fault):
    before = (ROOT / "pctheory" / fault.file).read_text()
    after = fault.planted(before)
    assert ast.dump(ast.parse(before)) != ast.dump(ast.parse(after))
    assert len(before.splitlines()) == len(after.splitlines())
    assert sum(a != b for a, b in zip(before.splitlines(), after.splitlines(), strict=True)) == 1
    assert bool(fault.claims and fault.tests) != bool(fault.equivalent)
    assert set(fault.claims) <= KEYS
    for test in fault.tests:
        file, _, name = test.partition("::")
        assert name.partition("[")[0] in names_of_tests(ROOT / file)


def test_faults_are_many_and_in_every_file_of_theory():
    planted = [fault for fault in FAULTS.values() if not fault.equivalent]
    assert len(planted) >= 120
    assert len({(fault.file, fault.old, fault.new) for fault in FAULTS.values()}) == len(FAULTS)
    package = ROOT / "pctheory"
    files = {str(file.relative_to(package)) for file in package.rglob("*.py") if file.name != "__init__.py"}
    without = [name for names in WITHOUT_THEORY for name in names.split()]
    assert all((package / name).exists() for name in without)
    left = {file for file in files if not any(file == name or file.startswith(f"{name}/") for name in without)}
    assert {fault.file for fault in planted} == left


def test_a_fault_that_no_longer_fits_is_named():
    with pytest.raises(ValueError, match=r"fault doubled: '/ 2' stands 0 times in half.py, expected once"):
        DOUBLED.planted("def half(number):\n    return 0.5 * number\n")
    with pytest.raises(ValueError, match="stands 2 times"):
        DOUBLED.planted(HALF + HALF)


def test_a_name_that_is_none_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean loss-without-half"):
        chosen(FAULTS, ["loss-without-haf"], quick=False)
    assert [fault.name for fault in chosen(FAULTS, ["loss-without-half"], quick=True)] == ["loss-without-half"]
    assert len(chosen(FAULTS, [], quick=False)) == len(FAULTS)


def test_a_name_given_twice_is_refused(tmp_path: Path):
    entry = '[[fault]]\nname = "a"\nfile = "energy.py"\nold = "1"\nnew = "2"\n'
    (tmp_path / "catalogue.toml").write_text(entry + entry)
    with pytest.raises(ValueError, match=r"catalogue.toml: fault a is there twice"):
        catalogue(tmp_path / "catalogue.toml")


def test_an_alarm_goes_off_at_the_first_case_that_fails():
    seen = []

    def error(case: int) -> float:
        seen.append(case)
        return float(case > 1)

    check = Alarm()
    with pytest.raises(NoticedError, match="property 'growing' fails"):
        check.property("growing", [0, 1, 2, 3], error, twins={})
    assert seen == [0, 1, 2]
    with pytest.raises(NoticedError, match="exact 'nothing' fails"):
        check.exact("nothing", [], lambda case: 0, twins={})
    with pytest.raises(NoticedError, match="difference 'gone' fails"):
        check.difference("gone", False, "")
    assert not check.false_twins


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A checkout whose library halves numbers."""
    root = tmp_path / "small"
    left_out = shutil.ignore_patterns("__pycache__", "audit.html", "assets")
    shutil.copytree(ROOT / "pctheory", root / "pctheory", ignore=left_out)
    for folder in ("paper_checks", "figures", "tests"):
        (root / folder).mkdir()
    (root / "pyproject.toml").write_text(
        "[tool.pytest.ini_options]\nmarkers = ['slow: long']\npythonpath = ['.']\n"
    )
    (root / "pctheory" / "half.py").write_text(HALF)
    (root / "paper_checks" / "small.py").write_text(CLAIM)
    (root / "tests" / "test_small.py").write_text(TEST)
    return root


def came_of(root: Path, *faults: Fault) -> list[Caught]:
    return list(Audit(root, root / "out").outcomes(faults, 1))


def test_who_noticed_is_kept_until_something_changes(small: Path):
    (caught,) = came_of(small, DOUBLED)
    assert caught.is_caught
    assert caught.claims == ("small/half",)
    assert caught.tests == ("tests/test_small.py::test_of_four",)
    assert caught.reasons[0] == "property 'half of 4 and 6' fails"
    assert (small / "pctheory" / "half.py").read_text() == HALF
    (again,) = came_of(small, DOUBLED)
    assert again.kept
    assert again.claims == caught.claims
    (small / "paper_checks" / "small.py").write_text(CLAIM.replace("[4, 6]", "[4, 8]"))
    assert Audit(small, small / "out")._kept(DOUBLED) is None
    (small / "paper_checks" / "small.py").write_text(CLAIM.replace("small/half", "small/halves"))
    with pytest.raises(ValueError, match="fault doubled: there is no claim small/half"):
        came_of(small, DOUBLED)


@pytest.mark.slow
def test_others_are_tried_where_the_first_ones_are_blind(small: Path):
    (caught,) = came_of(small, BLIND)
    assert caught.claims == ("small/half",)
    assert caught.tests == ("tests/test_small.py::test_of_four",)


@pytest.mark.slow
def test_what_no_one_notices_got_away(small: Path):
    harmless = Fault(**{**vars(BLIND), "new": "/ 2.0"})
    (away,) = came_of(small, harmless)
    assert not away.is_caught
    assert away.claims == away.tests == ()
    summary = audit_summary([harmless], {away.name: away})
    assert summary["faults"][0] == {
        "name": "blind",
        "module": "pctheory.half",
        "old": "/ 2",
        "new": "/ 2.0",
        "equivalent": "",
        "tried": True,
        "claims": [],
        "tests": [],
        "reasons": ["", ""],
        "seconds": away.seconds,
    }


def test_an_audit_that_ended_goes_on_where_it_was(small: Path):
    halved = Fault(**{**vars(DOUBLED), "name": "halved", "new": "/ 4"})
    audit = Audit(small, small / "out")
    with closing(audit.outcomes([DOUBLED, halved], 1)) as stream:
        first = next(stream)
    (small / "out" / "halved.json").write_text('{"claims": ["small/ha')  # as a full disk may leave it
    assert list(audit.known([DOUBLED, halved])) == ["doubled"]
    again = came_of(small, DOUBLED, halved)
    assert [(caught.name, caught.kept, caught.is_caught) for caught in again] == [
        ("doubled", True, True),
        ("halved", False, True),
    ]
    assert again[0].claims == first.claims


@pytest.mark.slow
def test_an_audit_that_was_killed_goes_on_where_it_was(small: Path):
    table = '[[fault]]\nname = "{}"\nfile = "half.py"\nold = "/ 2"\nnew = "{}"\nclaims = ["small/half"]\n{}\n'
    named = 'tests = ["tests/test_small.py::test_of_four"]'
    faults = table.format("doubled", "* 2", named) + table.format("halved", "/ 4", named)
    (small / "pctheory" / "audit" / "catalogue.toml").write_text(faults)
    arguments = [sys.executable, "-P", "-m", "pctheory", "audit", "--jobs", "1", "--out", "out"]
    environment = os.environ | {"PYTHONPATH": str(small)}
    with subprocess.Popen(
        arguments, cwd=small, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("doubled: caught")
        process.kill()
    done = subprocess.run(arguments, cwd=small, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "found before" in lines[0]
    assert lines[1].startswith("halved: caught")
    assert "found before" not in lines[1]


def test_outcomes_recorded_with_the_checkout_are_believed_as_long_as_they_fit(small: Path, monkeypatch, tmp_path):
    (caught,) = came_of(small, DOUBLED)
    recorded = tmp_path / "outcomes.json"
    Audit(small, small / "out").record([DOUBLED], recorded)
    monkeypatch.setattr("pctheory.audit.run.RECORDED", recorded)
    elsewhere = Audit(small, small / "elsewhere")
    found = elsewhere.known([DOUBLED, BLIND])
    assert found == {"doubled": replace(caught, kept=True)}
    assert elsewhere.known([Fault(**{**vars(DOUBLED), "new": "* 3"})]) == {}
    (small / "pctheory" / "half.py").write_text(HALF.replace("number / 2", "(number) / 2"))
    assert Audit(small, small / "elsewhere").known([DOUBLED]) == {}


def test_a_ledger_of_check_tells_what_audits_found(small: Path):
    catalogued = "".join(
        f"{name} = {json.dumps(getattr(DOUBLED, name))}\n" for name in ("name", "file", "old", "new")
    )
    catalogued += f"claims = {json.dumps(DOUBLED.claims)}\ntests = {json.dumps(DOUBLED.tests)}\n"
    (small / "pctheory" / "audit" / "catalogue.toml").write_text(f"[[fault]]\n{catalogued}")
    environment = os.environ | {"PYTHONPATH": str(small)}
    for arguments in (["audit", "--jobs", "1"], ["check", "--jobs", "1", "--json", "ledger.json"]):
        command = [sys.executable, "-P", "-m", "pctheory", *arguments]
        done = subprocess.run(command, cwd=small, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    (fault,) = read_ledger(small / "ledger.json")["audit"]["faults"]
    assert (fault["name"], fault["tried"], fault["claims"]) == ("doubled", True, ["small/half"])


def test_a_judge_that_accepts_everything_is_noticed_by_false_twins(small: Path):
    fault = catalogue()["judged-without-judging"]
    judge = replace(fault, old="missed > bound", new="False", claims=("small/half",), tests=DOUBLED.tests)
    copy = faulty_copy(small, small.parent / "faulty", judge)
    audit = Audit(small, small / "out")
    assert audit.watched(copy, ["small/half"]) is None
    assert audit.watched(copy, ["small/half"], twins=True) == ("small/half", "false twin '1' is accepted")


def test_sound_claims_are_not_tried_first(small: Path):
    (small / "paper_checks" / "small.py").write_text(CLAIM.replace("n * 0.5", "n * 0.25"))
    (away,) = Audit(small, small / "out", sound=frozenset({"small/half"})).outcomes([DOUBLED], 1)
    assert away.claims == ("small/half",)  # blamed on the fault, as the ledger said that it holds


def test_a_check_that_fails_without_a_fault_ends_the_audit(small: Path):
    (small / "tests" / "test_small.py").write_text(TEST.replace("== 2", "== 3"))
    with pytest.raises(ValueError, match=r"test_small.py::test_of_four fails without any fault"):
        came_of(small, DOUBLED)


def test_too_slow_is_not_noticed(small: Path):
    audit = Audit(small, small / "out", limit=0.2)
    with pytest.raises(TimeoutError, match=r"pctheory.audit.watch small/half: not done after 0.2 s"):
        audit.watched(small, ["small/half"])


def test_a_copy_holds_the_fault_and_the_checkout_does_not(tmp_path: Path):
    fault = FAULTS["loss-without-half"]
    plain = plain_copy(ROOT, tmp_path / "plain")
    faulty = faulty_copy(plain, tmp_path / "faulty", fault)
    text = (ROOT / "pctheory" / fault.file).read_text()
    assert (plain / "pctheory" / fault.file).read_text() == text
    assert (faulty / "pctheory" / fault.file).read_text() == fault.planted(text)


@pytest.mark.parametrize(
    ("jobs", "limit", "message"), [(0, 1.0, "jobs: expected"), (1, 0.0, "time_limit: expected")]
)
def test_bad_numbers_are_refused(tmp_path: Path, jobs: int, limit: float, message: str):
    with pytest.raises(ValueError, match=message):
        list(Audit(ROOT, tmp_path, limit=limit).outcomes([], jobs))


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pctheory", "audit", *arguments], cwd=ROOT, capture_output=True, text=True
    )


def test_quick_audit_catches_all_and_tells_the_ledger(tmp_path: Path):
    ledger = tmp_path / "claims.json"
    write_ledger(ledger, ledger_of([], pctheory="0", versions={}, started=0.0, seconds=0.0))
    options = ["--quick", "--out", str(tmp_path / "audit"), "--ledger", str(ledger), "--jobs", "1"]
    done = command(*options, "--recompute")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "found before" not in done.stdout
    faults = chosen(FAULTS, [], quick=True)
    assert f"{len(faults)} faults planted, {len(faults)} caught" in done.stdout
    kept = {fault["name"]: fault for fault in read_ledger(ledger)["audit"]["faults"]}
    assert list(kept) == list(FAULTS)
    assert {fault.name for fault in faults} <= {name for name, fault in kept.items() if fault["tried"]}
    assert all(kept[fault.name]["claims"] and kept[fault.name]["tests"] for fault in faults)
    again = command(*options)
    assert again.stdout.count("found before") == len(faults)
    assert json.loads((tmp_path / "audit" / f"{faults[0].name}.json").read_text())["claims"]


def test_a_fault_that_is_none_is_refused_on_the_command_line():
    refused = command("loss-without-haf")
    assert refused.returncode == 2
    assert refused.stderr == "pctheory: NAME: no fault 'loss-without-haf'; did you mean loss-without-half?\n"


@pytest.mark.slow
@pytest.mark.parametrize("part", range(6))
def test_every_fault_is_caught_by_a_claim_and_a_test(tmp_path: Path, part: int):
    """In parts, as a test that takes a quarter of an hour is taken to hang."""
    audit = Audit(ROOT, tmp_path, control=False, recompute=True)
    away = [caught.name for caught in audit.outcomes(list(FAULTS.values())[part::6], 2) if not caught.is_caught]
    assert not away
