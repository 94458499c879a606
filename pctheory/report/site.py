"""The pages of the report, built from recorded results: no check is run and no figure drawn.

`build_site` writes a folder of plain files that needs no network and no server. The claims and figures are those of
the code; the ledger and the folder of figures say what is known about them. What they lack is shown as missing.

A ledger may have an "audit", as `audit_summary` makes it: {"seconds": ..., "faults": [{"name", "module", "old",
"new", "equivalent": "why no check can notice it, or nothing", "tried": whether it was planted in this code,
"claims": [keys], "tests": [names], "reasons": [what the claim said, and the test], "seconds"}]}.
"""

import datetime
import math
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from .. import induction
from ..claims import STRENGTH, Verdict
from ..files import replace_folder, temporary
from ..ledger import margin
from . import graph
from .checks import CheckedClaim, checked_claims
from .derivations import Derivation, derivation
from .mathml import prose
from .pictures import KINDS, Picture, pictures
from .records import code_digests, verdicts_of

# Short label and meaning of each status, strongest first, then of a claim of which the ledger says nothing.
STATUSES = {
    "proved": ("proved at every depth", "an induction certificate whose every step was checked by algebra"),
    "exact": ("exact at sizes", "no rounding: decided in exact arithmetic, for the sizes listed"),
    "enclosed": ("enclosed", "in arithmetic that bounds its own rounding, for the instances listed"),
    "tested": ("property-tested", "on many random cases, the worst error below a stated bound"),
    "shown": ("figure only", "a figure shows it, nothing decides it"),
    "open": ("open", "not settled; how much was searched is recorded"),
    "differs": ("differs from its source", "something comes out differently than the source has it"),
    "refuted": ("refuted", "a counterexample was verified"),
    "failed": ("failed", "the check did not pass, so nothing is known"),
    "unchecked": ("not checked", "the ledger holds no result for it"),
}
ATTRIBUTIONS = {
    "stated": "the source says it",
    "reconstructed": "the source is known to have it; its exact wording was not at hand",
    "own": "derived for this project",
}
# The statuses of a claim that held as stated; of the others, what is said of a number of them.
HOLDS = ("proved", "exact", "enclosed", "tested")
OTHERWISE = {
    "differs": ("differs from its source", "differ from their source"),
    "refuted": ("is refuted", "are refuted"),
    "open": ("is open", "are open"),
    "shown": ("is only shown by a figure", "are only shown by a figure"),
    "failed": ("failed its check", "failed their check"),
    "unchecked": ("was not checked", "were not checked"),
}
MARKER = ".pctheory-report"
CHAIN_DEPTH = 3


@dataclass(frozen=True)
class ClaimPage:
    """All that the site says about a claim."""

    claim: CheckedClaim
    record: Mapping[str, Any] | None
    verdict: Verdict | None
    changed: bool
    statement: Markup
    hypotheses: tuple[Markup, ...]
    source: Markup
    pictures: tuple[Picture, ...]
    derivations: tuple[Derivation, ...]
    used_by: tuple[str, ...]

    @property
    def own(self) -> str:
        """The status that the recorded evidence supports."""
        return self.verdict.own if self.verdict else "unchecked"

    @property
    def effective(self) -> str:
        """The weakest status among the claim and all it rests on."""
        return self.verdict.effective if self.verdict else "unchecked"

    @property
    def evidence(self) -> list[Mapping[str, Any]]:
        """The evidence as recorded, with margins as numbers."""
        return [{**e, "margin": margin(e)} for e in self.record["evidence"]] if self.record else []

    @property
    def closest(self) -> float | None:
        """The least margin of its evidence."""
        return min((e["margin"] for e in self.evidence if e["margin"] is not None), default=None)

    @property
    def findings(self) -> list[str]:
        """What was found to differ, to be refuted or open, in words."""
        told = ("counterexample", "difference", "search")
        return [e["detail"] for e in self.evidence if e["kind"] in told and e["detail"]]

    @property
    def code(self) -> Markup:
        """The check, highlighted."""
        return Markup("\n\n").join(map(_highlighted, self.claim.code))


@dataclass(frozen=True)
class Paper:
    """The claims of one paper, and what their files say about it."""

    key: str
    title: str
    reference: str
    claims: tuple[ClaimPage, ...]


def build_site(
    root: Path, ledger: Mapping[str, Any], figures: Path, out: Path, *, theorems: Mapping[str, str]
) -> Path:
    """Build the site of the checkout `root` in the folder `out` and return its opening page.

    figures: the folder with what was drawn; it may lack any or all figures.
    theorems: the derivations, by name, as functions of pctheory.induction.

    Raises: ValueError naming the claim, figure or derivation whose LaTeX does not convert; for a ledger whose
    statuses its evidence does not support; and if `out` holds something else than such a site.
    """
    _require_replaceable(out)
    context = _context(root, ledger, figures, theorems)
    made = temporary(out)
    try:
        made.mkdir(parents=True)
        _write(made, context)
        replace_folder(out, made)
    except OSError as error:
        raise ValueError(f"out: cannot write to {out}: {error.strerror}; choose another folder") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return out / "index.html"


def _require_replaceable(out: Path) -> None:
    if out.exists() and not (out / MARKER).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"out: {out} exists and is no report; name a new or empty folder")


def _context(root: Path, ledger: Mapping[str, Any], figures: Path, theorems: Mapping[str, str]) -> dict[str, Any]:
    """Everything that the templates read."""
    drawn = pictures(root, figures)
    derivations = {name: derivation(name, getattr(induction, made)()) for name, made in theorems.items()}
    derivations["chain"] = derivation("chain", induction.scalar_chain(CHAIN_DEPTH))
    by_function = {made: derivations[name] for name, made in theorems.items()} | {
        "scalar_chain": derivations["chain"]
    }
    claims = _claim_pages(root, ledger, drawn, by_function)
    counts = _counts(page.own for page in claims.values())
    return {
        "ledger": ledger,
        "started": _date(ledger["started"]),
        "claims": claims,
        "papers": _papers(claims.values()),
        "pictures": drawn,
        "derivations": derivations,
        "statuses": STATUSES,
        "attributions": ATTRIBUTIONS,
        "kinds": KINDS,
        "own_counts": counts,
        "holding": sum(counts.get(status, 0) for status in HOLDS),
        "rest": [f"{counts[s]} {words[counts[s] > 1]}" for s, words in OTHERWISE.items() if s in counts],
        "effective_counts": _counts(page.effective for page in claims.values()),
        "closest": sorted((p for p in claims.values() if p.closest is not None), key=_closeness)[:8],
        "twins": [twin for page in claims.values() if page.verdict for twin in page.verdict.false_twins],
        "cases": sum(page.verdict.cases for page in claims.values() if page.verdict),
        "gone": sorted({record["key"] for record in ledger["claims"]} - set(claims)),
        "captions": {key: _named(f"figure {key}", picture.provenance["caption"])
                     for key, picture in drawn.items() if picture.drawn},
        "drawing": graph.drawing({key: page.claim.uses for key, page in claims.items()}),
        "node": (graph.WIDTH, graph.HEIGHT),
        "audit": _audit(ledger.get("audit")),
    }  # fmt: skip


def _claim_pages(
    root: Path, ledger: Mapping[str, Any], drawn: Mapping[str, Picture], derivations: Mapping[str, Derivation]
) -> dict[str, ClaimPage]:
    claims = checked_claims(root)
    for claim in claims.values():
        for used in claim.uses:
            if used not in claims:
                raise ValueError(f"claim {claim.key} uses {used}, which does not exist")
    records, verdicts = {record["key"]: record for record in ledger["claims"]}, verdicts_of(ledger["claims"])
    digests = code_digests([claim.file.module for claim in claims.values() if claim.key in records], root)
    return {
        key: ClaimPage(
            claim,
            records.get(key),
            verdicts.get(key),
            key in records and records[key]["code"] != digests[claim.file.module],
            _named(f"claim {key}", claim.statement),
            tuple(_named(f"claim {key}", text) for text in claim.hypotheses),
            _named(f"claim {key}", claim.source),
            tuple(picture for picture in drawn.values() if key in picture.claims),
            tuple({made.name: made for name, made in derivations.items() if name in claim.theorems}.values()),
            tuple(other for other, made in claims.items() if key in made.uses),
        )
        for key, claim in claims.items()
    }


@cache
def _highlighted(code: str) -> Markup:
    """A definition, which several checks of its file may need."""
    return Markup(highlight(code, PythonLexer(), HtmlFormatter(nowrap=True)))


def _named(what: str, text: str) -> Markup:
    try:
        return prose(text)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error


def _papers(pages: Iterable[ClaimPage]) -> list[Paper]:
    """By paper; what a paper is stands in the file named after it, or else in its first one."""
    grouped: dict[str, list[ClaimPage]] = {}
    for page in pages:
        grouped.setdefault(page.claim.paper, []).append(page)
    papers = []
    for key, claims in grouped.items():
        files = sorted({page.claim.file.name: page.claim.file for page in claims}.values(), key=lambda f: f.name)
        named = f"paper_checks/{key.replace('-', '_')}.py"
        main = next((file for file in files if file.name == named), files[0])
        papers.append(Paper(key, main.title, main.reference, tuple(claims)))
    return papers


def _counts(statuses: Iterable[str]) -> dict[str, int]:
    counted = Counter(statuses)
    return {status: counted[status] for status in (*STRENGTH, "unchecked") if counted[status]}


def _closeness(page: ClaimPage) -> float:
    """NaN first: it fails."""
    return -1.0 if page.closest is None or math.isnan(page.closest) else page.closest


def _date(started: str) -> str:
    try:
        moment = datetime.datetime.fromisoformat(started)
    except ValueError as error:
        raise ValueError(f"ledger: started is {started!r}, expected a date and time in ISO form") from error
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def _audit(audit: Any) -> dict[str, Any] | None:
    """The audit with its counts, if the ledger has one. Raises: ValueError if it is none."""
    if audit is None:
        return None
    try:
        faults = [_fault(given) for given in audit["faults"]]
        seconds = float(audit["seconds"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"ledger: audit: {error} is missing or misshapen; run the audit again") from error
    modules: dict[str, list[dict[str, Any]]] = {}
    for fault in faults:
        modules.setdefault(fault["module"], []).append(fault)
    counted = Counter(fault["verdict"] for fault in faults)
    return {
        "modules": modules,
        "planted": len(faults) - counted["equivalent"],
        "equivalent": counted["equivalent"],
        "caught": counted["caught"],
        "away": [fault for fault in faults if fault["verdict"] == "got away"],
        "untried": [fault for fault in faults if fault["verdict"] == "not tried"],
        "seconds": seconds,
    }


def _fault(given: Mapping[str, Any]) -> dict[str, Any]:
    """A fault with what came of it, and what each that noticed said."""
    fault: dict[str, Any] = {name: str(given[name]) for name in ("name", "module", "old", "new", "equivalent")}
    noticed = {kind: [str(name) for name in given[f"{kind}s"]] for kind in ("claim", "test")}
    said = zip(noticed.items(), [*map(str, given["reasons"]), "", ""], strict=False)
    caught = "caught" if all(noticed.values()) else "got away"
    verdict = "equivalent" if fault["equivalent"] else caught if given["tried"] else "not tried"
    return fault | {
        "tried": bool(given["tried"]),
        "seconds": float(given["seconds"]),
        "verdict": verdict,
        "status": {"caught": "proved", "got away": "failed"}.get(verdict, "unchecked"),
        "noticed": [kind for kind, names in noticed.items() if names],
        "said": [(kind, ", ".join(names), reason) for (kind, names), reason in said],
    }


def _write(out: Path, context: Mapping[str, Any]) -> None:
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("pctheory.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"number": _number, "counted": _counted, "duration": _duration, "sentence": _sentence}

    def page(file: str, template: str, **more: object) -> None:
        path = out / file
        path.parent.mkdir(exist_ok=True)
        text = templates.get_template(template).render(context, file=file, up="../" * file.count("/"), **more)
        path.write_text(text, encoding="utf-8")

    plain = ["index", "claims", "graph", "derivations", "figures", "run", *(["audit"] if context["audit"] else [])]
    for name in plain:
        page(f"{name}.html", f"{name}.html")
    for claim in context["claims"].values():
        page(f"claims/{claim.claim.slug}.html", "claim.html", page=claim)
    for proof in context["derivations"].values():
        page(f"derivations/{proof.slug}.html", "derivation.html", proof=proof)
    for picture in context["pictures"].values():
        page(f"figures/{picture.slug}.html", "figure.html", picture=picture)
    _copy(out, context["pictures"].values())
    (out / MARKER).write_text("Built by pctheory report; replaced by the next one.\n", encoding="utf-8")


def _copy(out: Path, drawn: Iterable[Picture]) -> None:
    assets = Path(__file__).with_name("assets")
    shutil.copytree(assets, out / "assets")
    (out / "files").mkdir()
    for picture in drawn:
        for file in picture.files.values():
            shutil.copyfile(file, out / "files" / file.name)


def _number(value: Any) -> str:
    """A number of a table: three digits, powers of ten beyond a thousandth and a million; a dash for none."""
    if value is None:
        return "–"
    value = float(value) if isinstance(value, str) else value  # NaN and infinity are texts in a ledger
    size = abs(value)
    if size == 0 or 1e-3 <= size < 1000 or not math.isfinite(size):
        return f"{value:.3g}"
    if 1000 <= size < 1e6:
        rounded = value if isinstance(value, int) else int(float(f"{value:.3g}"))
        return f"{rounded:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    digits, _, power = f"{value:.2e}".partition("e")
    digits = digits.rstrip("0").rstrip(".")
    exponent = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{exponent}" if digits == "1" else f"{digits} · 10{exponent}"


def _counted(count: int, noun: str) -> str:
    """A number of things."""
    return f"{_number(count)} {noun}{'s' if count != 1 else ''}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _sentence(items: Iterable[str]) -> str:
    """A list in words."""
    *most, last = list(items) or ["none"]
    return f"{', '.join(most)} and {last}" if most else last
