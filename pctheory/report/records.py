"""A verdict as a record of the ledger, and back: the statuses in a ledger are computed again from its evidence."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..claims import STATUS_OF, Check, Claim, Evidence, FalseTwin, Verdict, claim_index, effective_statuses
from ..figures.sources import SourceTree


def records_of(verdicts: Sequence[Verdict], root: Path) -> list[dict[str, Any]]:
    """The records of verdicts on claims of the checkout `root`; paths are written relative to it."""
    digests = code_digests([made.claim.run.__module__ for made in verdicts], root)
    return [record_of(made, root, digests[made.claim.run.__module__]) for made in verdicts]


def record_of(made: Verdict, root: Path, code: str) -> dict[str, Any]:
    """The record of one verdict; `code` is the digest of the code of its check."""
    claim = {f.name: getattr(made.claim, f.name) for f in dataclasses.fields(made.claim) if f.name != "run"}
    results = {
        name: [dataclasses.asdict(item) for item in getattr(made, name)] for name in ("evidence", "false_twins")
    }
    here = f"{root.resolve()}/"
    return claim | {
        "code": code,
        "own": made.own,
        "effective": made.effective,
        **results,
        "error": made.error.partition("\n")[0].replace(here, ""),
        "problems": [problem.replace(here, "") for problem in made.problems],
        "seconds": made.seconds,
    }


def code_digests(modules: Iterable[str], root: Path) -> dict[str, str]:
    """For each module with checks the sha256 of its file and of every module behind it."""
    tree = SourceTree(root)
    texts = {name: json.dumps(tree.sources(name).digests, sort_keys=True) for name in dict.fromkeys(modules)}
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}


def sound_claims(claims: Sequence[Mapping[str, Any]], root: Path) -> frozenset[str]:
    """The keys of those records of claims that hold, by checks whose code is that of the checkout `root`."""
    files = {row["key"]: row["file"].removesuffix(".py").replace("/", ".") for row in claim_index(root)}
    holding = [record for record in claims if record["own"] != "failed" and record["key"] in files]
    digests = code_digests((files[record["key"]] for record in holding), root)
    return frozenset(r["key"] for r in holding if r["code"] == digests[files[r["key"]]])


def verdicts_of(claims: Sequence[Mapping[str, Any]]) -> dict[str, Verdict]:
    """The verdicts of the records of a ledger, by key.

    Raises: ValueError naming the claim whose stated status is not the one that its evidence supports.
    """
    found = {record["key"]: _verdict_of(record) for record in claims}
    uses = {record["key"]: record["uses"] for record in claims}
    effective = effective_statuses({key: v.own for key, v in found.items()}, uses)
    for record in claims:
        key = record["key"]
        for name, computed in (("own", found[key].own), ("effective", effective[key])):
            if record[name] != computed:
                raise ValueError(
                    f"ledger: claim {key}: {name} status is {record[name]!r}, but its evidence supports "
                    f"{computed!r}; make it again with `pctheory check --json FILE`"
                )
    return {key: dataclasses.replace(v, effective=effective[key]) for key, v in found.items()}


def _verdict_of(record: Mapping[str, Any]) -> Verdict:
    claim = Claim(
        record["key"],
        record["statement"],
        tuple(record["hypotheses"]),
        record["attribution"],
        record["source"],
        tuple(record["uses"]),
        _recorded,
    )
    for item in record["evidence"]:
        if item["kind"] not in STATUS_OF:
            raise ValueError(
                f"ledger: claim {record['key']}: its evidence is of the kind {item['kind']!r}, expected one of "
                f"{', '.join(STATUS_OF)}; make it again with `pctheory check --json FILE`"
            )
    evidence = tuple(_item(Evidence, item) for item in record["evidence"])
    twins = tuple(_item(FalseTwin, item) for item in record["false_twins"])
    return Verdict(claim, evidence, twins, float(record["seconds"]), record["error"])


def _item(kind: Any, given: Mapping[str, Any]) -> Any:
    """The fields that the class has; NaN and infinity as numbers."""
    names = {f.name for f in dataclasses.fields(kind)}
    values = {name: value for name, value in given.items() if name in names}
    for name in ("worst", "bound", "radius"):
        if values.get(name) is not None:
            values[name] = float(values[name])
    return kind(**values)


def _recorded(check: Check) -> None:
    raise ValueError("a verdict read from a ledger cannot be checked; run `pctheory check`")
