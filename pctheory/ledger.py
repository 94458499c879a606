r"""The ledger: what one run of the checks showed, as data that can be kept, trusted later and compared.

Defined here
    ledger_of                    a ledger of records of claims, with machine, time and digest
    read_ledger, write_ledger    a JSON file, read only if it is whole, unchanged and of this format
    ledger_changes, Change       what is different in another ledger
    margin                       how far an error stayed below its bound
    machine                      where it ran, without names and paths

A ledger is a JSON object. It has the fields of `_LEDGER`, and in "claims" those of `_CLAIM`, `_EVIDENCE` and
`_FALSE_TWIN`; more are kept as they are. NaN and infinity are the texts "NaN" and "Infinity". "digest" is the
sha256 of everything else, so that a change by hand does not pass for a result.
"""

import datetime
import hashlib
import json
import math
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from .files import content_of, write_json

Content: TypeAlias = dict[str, Any]

FORMAT = 2
# An error below one rounding counts as one, so that 1e-17 after an exact 0 is no news.
ROUNDING = sys.float_info.epsilon
# Margins repeat to the digit on one machine; other machines and versions round differently, by less than this.
SHRUNK = 2.0
AGAIN = "make it again with `pctheory check --json FILE`"

_Test: TypeAlias = tuple[str, Callable[[Any], bool]]


def _whole(value: Any) -> bool:
    return type(value) is int and value >= 0


def _size(value: Any) -> bool:
    return value in ("NaN", "Infinity") if isinstance(value, str) else type(value) in (int, float) and value >= 0


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


_TEXT: _Test = ("a text", lambda value: isinstance(value, str))
_TEXTS: _Test = ("a list of texts", _texts)
_BOOLEAN: _Test = ("true or false", lambda value: isinstance(value, bool))
_COUNT: _Test = ("a whole number of at least 0", _whole)
_SECONDS: _Test = ("a number of at least 0", lambda value: _size(value) and not isinstance(value, str))
_SIZE: _Test = ("a number of at least 0, or null", lambda value: value is None or _size(value))
_SEED: _Test = ("a whole number, or null", lambda value: value is None or _whole(value))
_OBJECT: _Test = ("an object", lambda value: isinstance(value, dict))
_LIST: _Test = (
    "a list of objects",
    lambda value: isinstance(value, list) and all(isinstance(v, dict) for v in value),
)

_LEDGER = {
    "pctheory": _TEXT,
    "versions": _OBJECT,
    "machine": _OBJECT,
    "started": _TEXT,
    "seconds": _SECONDS,
    "claims": _LIST,
}
_CLAIM = {
    "key": _TEXT,
    "statement": _TEXT,
    "hypotheses": _TEXTS,
    "attribution": _TEXT,
    "source": _TEXT,
    "uses": _TEXTS,
    "code": _TEXT,
    "own": _TEXT,
    "effective": _TEXT,
    "evidence": _LIST,
    "false_twins": _LIST,
    "error": _TEXT,
    "problems": _TEXTS,
    "seconds": _SECONDS,
}
_EVIDENCE = {
    "kind": _TEXT,
    "name": _TEXT,
    "holds": _BOOLEAN,
    "cases": _COUNT,
    "worst": _SIZE,
    "bound": _SIZE,
    "radius": _SIZE,
    "seed": _SEED,
    "detail": _TEXT,
    "seconds": _SECONDS,
}
_FALSE_TWIN = {"name": _TEXT, "rejected": _BOOLEAN, "cases": _COUNT, "worst": _SIZE}


def ledger_of(
    claims: Sequence[Mapping[str, Any]],
    *,
    pctheory: str,
    versions: Mapping[str, str | None],
    started: float,
    seconds: float,
) -> Content:
    """The ledger of these records of claims (fields of `_CLAIM`), with margins, machine and digest.

    pctheory, versions: the version of the package, and of what computes.
    started, seconds: when the run began, in seconds since 1970, and how long it took.
    """
    content = {
        "format": FORMAT,
        "pctheory": pctheory,
        "versions": dict(versions),
        "machine": machine(),
        "started": datetime.datetime.fromtimestamp(started, datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "claims": [
            {**claim, "evidence": [{**e, "margin": margin(e)} for e in claim["evidence"]]} for claim in claims
        ],
    }
    return signed(content)


def signed(content: Mapping[str, Any]) -> Content:
    """The content as JSON has it, with its digest in place of an earlier one."""
    plain = json.loads(json.dumps({k: v for k, v in content.items() if k != "digest"}), parse_constant=str)
    return plain | {"digest": digest(plain)}


def digest(content: Mapping[str, Any]) -> str:
    """The sha256 of the canonical JSON text of everything but the digest."""
    rest = {key: value for key, value in content.items() if key != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def margin(evidence: Mapping[str, Any]) -> float | None:
    """The bound over the worst error, which counts for at least one rounding: 1 or more where the check holds.

    None where nothing was measured, NaN if the worst error is.
    """
    worst, bound = evidence["worst"], evidence["bound"]
    if worst is None or bound is None:
        return None
    return float(bound) / max(float(worst), ROUNDING) if not math.isnan(float(worst)) else math.nan


def machine() -> dict[str, Any]:
    """Operating system, processor, cores and memory; neither a name of the machine nor a path."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found: dict[str, Any] = {
        "operating system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "architecture": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "cores usable": usable,
    }
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        found["memory (GiB)"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    return found


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def write_ledger(path: Path, content: Mapping[str, Any]) -> None:
    """Write a ledger, so that the old or the new one is found there at any time and never a part."""
    write_json(path, content)


def read_ledger(path: Path) -> Content:
    """The ledger in a file.

    Raises: ValueError in one line if there is none, or it is cut off, of another format, changed since it was
    written, or not in shape.
    """
    try:
        text = content_of(path).decode("utf-8")
        content = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except OSError as error:
        raise ValueError(f"ledger {path}: cannot be read: {error.strerror}; {AGAIN}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"ledger {path}: is cut off or no JSON ({error}); {AGAIN}") from error
    if not isinstance(content, dict) or "claims" not in content:
        raise ValueError(f"ledger {path}: has no claims, so it is no ledger; {AGAIN}")
    made = content.get("format", 0)
    if made != FORMAT:
        by = "a newer version of pctheory" if _whole(made) and made > FORMAT else "an older version of pctheory"
        raise ValueError(f"ledger {path}: has format {made!r}, expected {FORMAT}: it is of {by}; {AGAIN}")
    if content.get("digest") != (found := digest(content)):
        raise ValueError(
            f"ledger {path}: was changed after it was written: its digest is {str(content.get('digest'))[:12]}, "
            f"that of its content {found[:12]}; {AGAIN}"
        )
    problem = next(_misshapen(content), None)
    if problem:
        raise ValueError(f"ledger {path}: {' '.join(problem.split())}; {AGAIN}")  # a key may hold anything
    return content


def _finite(number: str) -> float:
    if not math.isfinite(value := float(number)):
        raise ValueError(f"{number[:20]} is no finite number")
    return value


def _misshapen(content: Content) -> Iterator[str]:
    yield from _unlike(_LEDGER, content, "")
    for number, claim in enumerate(content["claims"], 1):
        yield from _unlike(_CLAIM, claim, f"claim {claim.get('key', number)}: ")
        for part, shape in (("evidence", _EVIDENCE), ("false_twins", _FALSE_TWIN)):
            for place, item in enumerate(claim[part], 1):
                yield from _unlike(shape, item, f"claim {claim['key']}: {part} {place}: ")
    keys = [claim["key"] for claim in content["claims"]]
    if len(set(keys)) < len(keys):
        yield f"claim {next(key for key in keys if keys.count(key) > 1)}: is there twice"
    for claim in content["claims"]:
        for used in set(claim["uses"]).difference(keys):
            yield f"claim {claim['key']}: uses {used}, which is not there"


def _unlike(shape: Mapping[str, _Test], given: Mapping[str, Any], where: str) -> Iterator[str]:
    for name, (expected, fits) in shape.items():
        if name not in given:
            yield f"{where}{name} is missing, expected {expected}"
        elif not fits(given[name]):
            yield f"{where}{name} is {given[name]!r}, expected {expected}"


@dataclass(frozen=True)
class Change:
    """One difference between two ledgers; `worse`: the later one shows less."""

    key: str
    what: str
    worse: bool

    def __str__(self) -> str:
        return f"{'worse' if self.worse else 'other'}  {self.key}: {self.what}"


def ledger_changes(
    old: Content, new: Content, strength: Sequence[str], *, existing: Iterable[str] = (), shrunk: float = SHRUNK
) -> list[Change]:
    """What is different in `new`, in the order of the keys.

    strength: the statuses, strongest first.
    existing: keys that exist but need not have been checked again; these are not gone.
    shrunk: the factor beyond which a smaller margin, a larger radius, or a false twin that missed by less, is a
    change.
    """
    before, after = ({claim["key"]: claim for claim in ledger["claims"]} for ledger in (old, new))
    found = [Change(key, f"new claim, {after[key]['own']}", False) for key in after if key not in before]
    found += [Change(key, "is gone", True) for key in before if key not in after and key not in set(existing)]
    for key in before:
        if key in after:
            differences = _claim_changes(before[key], after[key], strength, shrunk)
            found += [Change(key, what, worse) for what, worse in differences]
    return sorted(found, key=lambda change: change.key)


_Differences: TypeAlias = Iterator[tuple[str, bool]]


def _claim_changes(old: Content, new: Content, strength: Sequence[str], shrunk: float) -> _Differences:
    for name in ("own", "effective"):
        if old[name] != new[name]:
            weaker = _rank(new[name], strength) > _rank(old[name], strength)
            yield f"{name} status was {old[name]}, is {new[name]}", weaker
    for name in ("statement", "hypotheses", "attribution", "source", "uses"):
        if old[name] != new[name]:
            yield f"{name} was {old[name]!r}, is {new[name]!r}", False
    yield from _part_changes(old, new, "evidence", lambda a, b: _evidence_changes(a, b, shrunk))
    yield from _part_changes(old, new, "false_twins", lambda a, b: _twin_changes(a, b, shrunk))


def _rank(status: str, strength: Sequence[str]) -> int:
    return strength.index(status) if status in strength else len(strength)


def _part_changes(
    old: Content, new: Content, part: str, compared: Callable[[Content, Content], _Differences]
) -> _Differences:
    """The same for the items of a list; of several with one name, the first ones belong together, and so on."""
    label = "false twin" if part == "false_twins" else "evidence"
    before, after = (_numbered(claim[part]) for claim in (old, new))
    for name in [*before, *(name for name in after if name not in before)]:
        where = f"{label} '{name[0]}'"
        if name not in after:
            yield f"{where} is gone", True
        elif name not in before:
            yield f"{where} is new", False
        else:
            yield from ((f"{where}: {what}", worse) for what, worse in compared(before[name], after[name]))


def _numbered(items: Iterable[Content]) -> dict[tuple[str, int], Content]:
    found: dict[tuple[str, int], Content] = {}
    for item in items:
        name = f"{item['kind']} {item['name']}" if "kind" in item else item["name"]
        found[name, sum(other == name for other, _ in found)] = item
    return found


def _evidence_changes(old: Content, new: Content, shrunk: float) -> _Differences:
    if old["holds"] != new["holds"]:
        yield ("holds again", False) if new["holds"] else ("no longer holds", True)
    if old["cases"] != new["cases"]:
        yield f"cases were {old['cases']}, are {new['cases']}", new["cases"] < old["cases"]
    if old["bound"] != new["bound"]:
        looser = new["bound"] is None or (old["bound"] is not None and float(new["bound"]) > float(old["bound"]))
        yield f"bound was {old['bound']}, is {new['bound']}", looser
    if old["detail"] != new["detail"]:
        yield f"said {old['detail']!r}, says {new['detail']!r}", False
    before, after = margin(old), margin(new)
    if before is not None and after is not None and _shrank(before, after, shrunk):
        yield f"margin was {before:.3g}, is {after:.3g}: it shrank by more than a factor {shrunk:g}", True
    if old["radius"] is not None and new["radius"] is not None:
        before, after = (max(float(radius), ROUNDING) for radius in (old["radius"], new["radius"]))
        if not math.isnan(before) and not after <= before * shrunk:
            yield f"radius was {before:.3g}, is {after:.3g}: it grew by more than a factor {shrunk:g}", True


def _twin_changes(old: Content, new: Content, shrunk: float) -> _Differences:
    if old["rejected"] != new["rejected"]:
        yield ("is rejected again", False) if new["rejected"] else ("is no longer rejected", True)
    if old["worst"] is not None and new["worst"] is not None:
        before, after = float(old["worst"]), float(new["worst"])
        if _shrank(before, after, shrunk):
            yield f"missed by {before:.3g}, misses by {after:.3g}: less by more than a factor {shrunk:g}", True


def _shrank(before: float, after: float, factor: float) -> bool:
    """NaN is less than any number, and nothing is less than NaN."""
    return not math.isnan(before) and not after * factor >= before
