"""The ledger as a file: what is read is what was written, and whatever else is refused in one line."""

import copy
import json
import math
import platform
from pathlib import Path

import pytest

from pctheory.claims import STRENGTH
from pctheory.ledger import (
    FORMAT,
    SHRUNK,
    digest,
    ledger_changes,
    ledger_of,
    machine,
    margin,
    read_ledger,
    signed,
    write_ledger,
)

from .test_command_line import CLAIMS, run

EVIDENCE = {
    "kind": "property",
    "name": "equal",
    "holds": True,
    "cases": 400,
    "worst": 1e-14,
    "bound": 1e-12,
    "radius": None,
    "seed": 3,
    "detail": "",
    "seconds": 0.5,
}
TWIN = {"name": "factor 2", "rejected": True, "cases": 400, "worst": 0.5}


def record(key: str = "a/holds", **more: object) -> dict:
    plain = {
        "key": key,
        "statement": "$1 = 1$",
        "hypotheses": ["any N"],
        "attribution": "own",
        "source": "-",
        "uses": [],
        "code": "00",
        "own": "tested",
        "effective": "tested",
        "evidence": [EVIDENCE],
        "false_twins": [TWIN],
        "error": "",
        "problems": [],
        "seconds": 0.5,
    }
    return copy.deepcopy(plain | more)


def made(*records: dict) -> dict:
    return ledger_of(records or [record()], pctheory="0.1", versions={"numpy": "2"}, started=1.7e9, seconds=2.0)


def test_what_is_read_is_what_was_written(tmp_path):
    content = made(record(), record("b/rests", uses=["a/holds"]))
    write_ledger(tmp_path / "l.json", content)
    assert read_ledger(tmp_path / "l.json") == content
    assert [file.name for file in tmp_path.iterdir()] == ["l.json"]
    assert content["started"] == "2023-11-14T22:13:20+00:00"
    assert content["claims"][0]["evidence"][0]["margin"] == pytest.approx(100)


def test_nan_and_infinity_are_kept(tmp_path):
    content = made(record(evidence=[EVIDENCE | {"worst": math.nan}], false_twins=[TWIN | {"worst": math.inf}]))
    write_ledger(tmp_path / "l.json", content)
    (claim,) = read_ledger(tmp_path / "l.json")["claims"]
    assert claim["evidence"][0]["worst"] == "NaN"
    assert claim["false_twins"][0]["worst"] == "Infinity"
    json.loads((tmp_path / "l.json").read_text(), parse_constant=pytest.fail)


def test_a_failed_write_keeps_the_old_ledger(tmp_path):
    write_ledger(tmp_path / "l.json", made())
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_ledger(tmp_path / "l.json", made() | {"seconds": math.nan})
    assert read_ledger(tmp_path / "l.json") == made()
    assert [file.name for file in tmp_path.iterdir()] == ["l.json"]


def test_the_digest_is_of_the_content_and_not_of_its_order():
    content = made()
    assert digest(dict(reversed(content.items()))) == content["digest"] == digest(content)
    assert signed(content) == content


def paths(value: object, path: tuple = ()) -> list[tuple]:
    """The path to every number, text and truth value of the content."""
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in paths(item, (*path, key))]
    if isinstance(value, list):
        return [found for place, item in enumerate(value) for found in paths(item, (*path, place))]
    return [path]


def planted(content: dict, path: tuple, value: object) -> dict:
    changed = copy.deepcopy(content)
    place = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return changed


def test_every_change_by_hand_is_noticed(tmp_path):
    content, file = made(), tmp_path / "l.json"
    for path in paths(content):
        changed = planted(content, path, "by hand")
        file.write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=f"^ledger {file}: ") as caught:
            read_ledger(file)
        assert ("changed after it was written" in str(caught.value)) == (path != ("format",))


def test_a_ledger_that_is_cut_off_is_refused_wherever_the_cut_is(tmp_path):
    content, file = json.dumps(made(), indent=1), tmp_path / "l.json"
    for length in range(0, len(content), 97):
        file.write_text(content[:length])
        with pytest.raises(ValueError, match="is cut off or no JSON") as caught:
            read_ledger(file)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity"])
def test_a_ledger_with_a_number_that_is_not_finite_is_refused(tmp_path, number):
    file = tmp_path / "l.json"
    file.write_text(json.dumps(made() | {"seconds": 12.5}).replace("12.5", number))
    with pytest.raises(ValueError, match=f"is cut off or no JSON [(]{number} is no finite number[)]"):
        read_ledger(file)


OLD = made()
REFUSED = {
    "no file": (None, "cannot be read: No such file or directory"),
    "no ledger": ([1, 2], "has no claims, so it is no ledger"),
    "older": ({k: v for k, v in OLD.items() if k not in ("format", "digest")}, "expected 2: it is of an older"),
    "newer": (OLD | {"format": FORMAT + 1}, "expected 2: it is of a newer"),
    "no digest": ({k: v for k, v in OLD.items() if k != "digest"}, "was changed after it was written"),
    "no machine": (signed({k: v for k, v in OLD.items() if k != "machine"}), "machine is missing, expected"),
    "seconds": (signed(OLD | {"seconds": -1}), "seconds is -1, expected a number of at least 0"),
    "claim": (signed(OLD | {"claims": [1]}), "claims is [1], expected a list of objects"),
    "key": (signed(planted(OLD, ("claims", 0, "key"), 3)), "claim 3: key is 3, expected a text"),
    "cases": (
        signed(planted(OLD, ("claims", 0, "evidence", 0, "cases"), True)),
        "claim a/holds: evidence 1: cases is True, expected a whole number of at least 0",
    ),
    "worst": (
        signed(planted(OLD, ("claims", 0, "evidence", 0, "worst"), "tiny")),
        "claim a/holds: evidence 1: worst is 'tiny', expected a number of at least 0, or null",
    ),
    "radius": (
        signed(planted(OLD, ("claims", 0, "evidence", 0, "radius"), -1.0)),
        "claim a/holds: evidence 1: radius is -1.0, expected a number of at least 0, or null",
    ),
    "no radius": (
        signed(OLD | {"claims": [record(evidence=[{k: v for k, v in EVIDENCE.items() if k != "radius"}])]}),
        "claim a/holds: evidence 1: radius is missing, expected a number of at least 0, or null",
    ),
    "rejected": (
        signed(planted(OLD, ("claims", 0, "false_twins", 0, "rejected"), 1)),
        "claim a/holds: false_twins 1: rejected is 1, expected true or false",
    ),
    "uses": (signed(planted(OLD, ("claims", 0, "uses"), ["b/no"])), "claim a/holds: uses b/no, which is not there"),
    "uses, in two lines": (signed(planted(OLD, ("claims", 0, "uses"), ["b\nno"])), "uses b no, which is not there"),
    "twice": (signed(OLD | {"claims": OLD["claims"] * 2}), "claim a/holds: is there twice"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_ledger_is_refused_in_one_line(tmp_path, content, reason):
    file = tmp_path / "l.json"
    if content is not None:
        file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"^ledger {file}") as caught:
        read_ledger(file)
    assert reason in str(caught.value)
    assert "make it again with `pctheory check --json FILE`" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_margins():
    assert margin(EVIDENCE) == pytest.approx(100)
    assert (
        margin(EVIDENCE | {"worst": 0.0}) == margin(EVIDENCE | {"worst": 1e-17}) == pytest.approx(4503.6, rel=1e-4)
    )
    assert margin(EVIDENCE | {"worst": None}) is None
    assert math.isnan(margin(EVIDENCE | {"worst": "NaN"}))
    assert margin(EVIDENCE | {"worst": "Infinity"}) == 0


def test_the_machine_has_no_name_and_no_path():
    text = json.dumps(machine())
    assert platform.node() not in text
    assert str(Path.home()) not in text
    assert "/" not in text
    assert {"operating system", "processor", "cores", "memory (GiB)"} <= set(machine())


# What changed


def one_change(new: dict, old: dict | None = None) -> tuple[str, bool]:
    (change,) = ledger_changes(made(old or record()), made(new), STRENGTH)
    assert change.key == "a/holds"
    return change.what, change.worse


def evidence(**more: object) -> dict:
    return record(evidence=[EVIDENCE | more])


@pytest.mark.parametrize(
    ("new", "what", "worse"),
    [
        (record(own="failed"), "own status was tested, is failed", True),
        (record(effective="proved"), "effective status was tested, is proved", False),
        (record(statement="2"), "statement was '$1 = 1$', is '2'", False),
        (evidence(cases=399), "evidence 'property equal': cases were 400, are 399", True),
        (evidence(cases=401), "evidence 'property equal': cases were 400, are 401", False),
        (evidence(holds=False), "evidence 'property equal': no longer holds", True),
        (evidence(worst=2.1e-14), "evidence 'property equal': margin was 100, is 47.6: it shrank", True),
        (evidence(worst=math.nan), "evidence 'property equal': margin was 100, is nan: it shrank", True),
        (evidence(bound=1e-11, worst=1e-13), "evidence 'property equal': bound was 1e-12, is 1e-11", True),
        (evidence(bound=9e-13), "evidence 'property equal': bound was 1e-12, is 9e-13", False),
        (evidence(detail="3"), "evidence 'property equal': said '', says '3'", False),
        (record(evidence=[]), "evidence 'property equal' is gone", True),
        (record(evidence=[EVIDENCE, EVIDENCE]), "evidence 'property equal' is new", False),
        (record(false_twins=[]), "false twin 'factor 2' is gone", True),
        (record(false_twins=[TWIN | {"rejected": False}]), "false twin 'factor 2': is no longer rejected", True),
        (record(false_twins=[TWIN | {"worst": 0.2}]), "false twin 'factor 2': missed by 0.5, misses by 0.2", True),
    ],
)  # fmt: skip
def test_what_changed_is_said(new, what, worse):
    said, got_worse = one_change(new)
    assert said.startswith(what)
    assert got_worse == worse


@pytest.mark.parametrize(
    "new",
    [
        record(seconds=100.0),
        evidence(worst=1e-14 * SHRUNK * 0.99),
        evidence(worst=1e-15),
        record(false_twins=[TWIN | {"worst": 0.5 / SHRUNK * 1.01}]),
        record(false_twins=[TWIN | {"worst": 50.0}]),
    ],
)
def test_what_is_no_news_is_not_said(new):
    assert ledger_changes(made(), made(new), STRENGTH) == []


def test_a_rounding_where_there_was_none_is_no_news():
    exact, rounded = evidence(worst=0.0), evidence(worst=2e-16)
    assert ledger_changes(made(exact), made(rounded), STRENGTH) == []


def test_claims_that_are_new_gone_or_not_checked_again():
    old, new = made(record("a/old"), record("a/kept")), made(record("a/kept"), record("a/new"))
    said = [str(change) for change in ledger_changes(old, new, STRENGTH)]
    assert said == ["other  a/new: new claim, tested", "worse  a/old: is gone"]
    assert [c.key for c in ledger_changes(old, new, STRENGTH, existing=["a/old"])] == ["a/new"]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (1e-9, 3e-9, "evidence 'property equal': radius was 1e-09, is 3e-09: it grew by more than a factor 2"),
        (1e-9, math.nan, "evidence 'property equal': radius was 1e-09, is nan: it grew by more than a factor 2"),
        (0.0, math.inf, "evidence 'property equal': radius was 2.22e-16, is inf: it grew by more than a factor 2"),
        (1e-9, 1.9e-9, None),
        (3e-9, 1e-9, None),
        (math.nan, 1.0, None),
        (1e-60, 1e-30, None),  # both below a rounding
        (None, 1e-9, None),
    ],
)
def test_a_radius_that_grew_is_said(before, after, said):
    changes = ledger_changes(made(evidence(radius=before)), made(evidence(radius=after)), STRENGTH)
    assert [(change.what, change.worse) for change in changes] == ([(said, True)] if said else [])


# The command


def test_check_says_what_changed(tmp_path):
    (tmp_path / "paper_checks").mkdir()
    file, old = tmp_path / "paper_checks" / "small.py", tmp_path / "old.json"
    file.write_text(CLAIMS)
    assert run("check", "--json", "old.json", cwd=tmp_path).returncode == 0
    assert read_ledger(old)["machine"] == machine()
    same = run("check", "--compare", "old.json", cwd=tmp_path)
    assert "no changes" in same.stdout
    file.write_text(CLAIMS.replace("[1.0, 2.0], lambda c: 0.0", "[1.0], lambda c: 1e-13"))
    changed = run("check", "--compare", "old.json", "--json", "old.json", cwd=tmp_path)
    assert "worse  a/holds: evidence 'property equal': cases were 2, are 1" in changed.stdout
    assert "worse  a/holds: evidence 'property equal': margin was 4.5e+03, is 10" in changed.stdout
    assert read_ledger(old)["claims"][0]["evidence"][0]["cases"] == 1
    one = run("check", "a/holds", "--compare", "old.json", cwd=tmp_path)
    assert "no changes" in one.stdout
    old.write_text(old.read_text().replace('"cases": 1', '"cases": 9'))
    refused = run("check", "--compare", "old.json", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith("pctheory: ledger old.json: was changed after it was written")
    assert not refused.stdout
