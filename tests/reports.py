"""Ledgers and sites for the tests of the report: real records of made-up verdicts."""

import functools
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from pctheory.__main__ import THEOREMS
from pctheory.claims import Check, Claim, Evidence, FalseTwin, Verdict, effective_statuses
from pctheory.ledger import ledger_of
from pctheory.report.checks import CheckedClaim, checked_claims
from pctheory.report.records import code_digests, record_of
from pctheory.report.site import build_site

ROOT = Path(__file__).parents[1]
# One recorded piece of evidence for each status; the words of the site for it.
EVIDENCE = {
    "proved": Evidence("proof", "at every depth", True, 2),
    "exact": Evidence("exact", "in fractions", True, 12),
    "enclosed": Evidence("enclosure", "at stated sizes", True, 3, radius=2.0**-80, detail="1.25 to 1.75"),
    "tested": Evidence("property", "on random cases", True, 400, worst=2e-13, bound=1e-12, seed=7),
    "differs": Evidence("difference", "a number", True, 1, detail="the source has 3, here it is 4"),
    "refuted": Evidence("counterexample", "a pair", True, 1, detail="x = (1, 2) & y < 0"),
    "open": Evidence("search", "starts", True, 900, detail="nothing below 1e-3"),
    "failed": Evidence("property", "on random cases", False, 400, worst=float("nan"), bound=1e-12, seed=7),
}
TWIN = FalseTwin("factor 2", True, 400, 0.5)


def _not_run(check: Check) -> None:
    raise AssertionError


def made_verdict(claim: CheckedClaim, status: str, *, twins: tuple[FalseTwin, ...] = (TWIN,)) -> Verdict:
    """A verdict with this own status, on a claim as it is written."""
    plain = Claim(
        claim.key, claim.statement, claim.hypotheses, claim.attribution, claim.source, claim.uses, _not_run
    )
    return Verdict(plain, (EVIDENCE[status],), twins, 1.5)


def made_ledger(root: Path, statuses: Mapping[str, str]) -> dict[str, Any]:
    """A ledger of the checkout in which these claims have these statuses, and no other claim is there."""
    claims = known_claims() if root == ROOT else checked_claims(root)
    verdicts = {key: made_verdict(claims[key], status) for key, status in statuses.items()}
    effective = effective_statuses({k: v.own for k, v in verdicts.items()}, {k: claims[k].uses for k in verdicts})
    modules = {claims[key].file.module for key in verdicts}
    digests = {module: _digest(module) for module in modules} if root == ROOT else code_digests(modules, root)
    records = [
        record_of(made, ROOT, digests[claims[key].file.module]) | {"effective": effective[key]}
        for key, made in verdicts.items()
    ]
    versions = {"python": "3.11", "numpy": "2.4"}
    return ledger_of(records, pctheory="0.1.0", versions=versions, started=1.8e9, seconds=75.0)


@functools.cache
def known_claims() -> dict[str, CheckedClaim]:
    """The claims of this checkout, read once."""
    return checked_claims(ROOT)


@functools.cache
def _digest(module: str) -> str:
    return code_digests([module], ROOT)[module]


def every_status() -> dict[str, str]:
    """Claims that rest on no other, one for each status; the rest of the code is not checked."""
    alone = [claim for claim in known_claims().values() if not claim.uses]
    alone.sort(key=lambda claim: claim.file.name != "paper_checks/mupc_2025.py")
    return {claim.key: status for claim, status in zip(alone, EVIDENCE, strict=False)}


def built(root: Path, ledger: Mapping[str, Any], figures: Path, out: Path, *, all_theorems: bool = False) -> Path:
    """The site, with all derivations or one."""
    theorems = THEOREMS if all_theorems else {"rescaling-sum": THEOREMS["rescaling-sum"]}
    return build_site(root, ledger, figures, out, theorems=theorems).parent


class Page(HTMLParser):
    """Links, sources, identifiers and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.text += " " if tag in ("td", "th", "li", "dd") else ""
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if tag == "a":
            self.links.append(str(given["href"]))
        elif found := given.get("src") or given.get("href"):
            self.loaded.append(found)

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def words(self) -> str:
        """The text on one line."""
        return re.sub(r"\s+", " ", self.text)


def planted_fault(name: str, **more: object) -> dict[str, object]:
    """What a ledger has of a fault that was planted, and that no one noticed."""
    nothing = {"equivalent": "", "tried": True, "claims": [], "tests": [], "reasons": ["", ""], "seconds": 2.0}
    return {"name": name, "module": "pctheory.energy", "old": "0.5", "new": "1"} | nothing | more
