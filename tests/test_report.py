"""The report without a browser: it holds what the code and the ledger hold, escaped, and nothing else."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pctheory.claims import claim_index
from pctheory.figures import collect_figures, figure_index, run_figures
from pctheory.ledger import signed, write_ledger
from pctheory.report import mathml
from pctheory.report.checks import checked_claims
from pctheory.report.graph import HEIGHT, WIDTH, drawing
from pctheory.report.records import record_of, verdicts_of
from pctheory.report.site import MARKER, STATUSES

from .reports import (
    EVIDENCE,
    ROOT,
    TWIN,
    Page,
    built,
    every_status,
    known_claims,
    made_ledger,
    made_verdict,
    planted_fault,
)
from .test_command_line import run
from .toy_figures import checkout as figure_checkout

CLAIM = '''
from pctheory.claims import claim
LIMIT = 1e-12

def _error(c):
    return 0.0 * LIMIT

def _not_needed(c):
    return 1

@claim(key="a/holds", statement=r"""{statement}""", hypotheses=(r"{hypothesis}",), attribution="own", source="-")
def holds(check):
    check.property("equal", [1.0], _error, twins={{"unequal": lambda c: 1.0}})

@claim(key="b/rests", statement="$2 = 2$", hypotheses=(), attribution="stated", source="-", uses=("a/holds",))
def rests(check):
    check.property("equal", [1.0], _error, twins={{"unequal": lambda c: 1.0}})
'''


def small(root: Path, statement: str = "$1 = 1$", hypothesis: str = "any N") -> Path:
    (root / "paper_checks").mkdir(exist_ok=True)
    (root / "figures").mkdir(exist_ok=True)
    (root / "paper_checks" / "small.py").write_text(CLAIM.format(statement=statement, hypothesis=hypothesis))
    return root


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site of this checkout, of a ledger with every status and without figures."""
    folder = tmp_path_factory.mktemp("report")
    return built(ROOT, made_ledger(ROOT, every_status()), folder / "none", folder / "site", all_theorems=True)


def pages(site: Path) -> dict[str, Page]:
    return {str(file.relative_to(site)): Page(file) for file in site.rglob("*.html")}


def test_every_claim_and_figure_of_the_code_and_nothing_else(site):
    claims = {row["key"].replace("/", "-") for row in claim_index(ROOT)}
    figures = {entry.key.replace("/", "-") for entry in figure_index(ROOT)}
    assert {file.stem for file in (site / "claims").iterdir()} == claims
    assert {file.stem for file in (site / "figures").iterdir()} == figures
    assert claims <= set(Page(site / "claims.html").ids)
    assert figures <= set(Page(site / "figures.html").ids)
    linked = {Path(link).stem for link in Page(site / "graph.html").links if link.startswith("claims/")}
    assert linked == claims
    assert not (site / "audit.html").exists()


def test_every_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(site):
    found = pages(site)
    for name, page in found.items():
        assert len(set(page.ids)) == len(page.ids), name
        for link in [*page.links, *page.loaded]:
            target, _, fragment = link.partition("#")
            if link in page.loaded and link.startswith("data:,"):
                continue
            file = (site / name).parent.joinpath(target).resolve() if target else (site / name).resolve()
            assert file.is_file(), f"{name} links to {link}"
            if fragment and "=" not in fragment:
                assert fragment in found[str(file.relative_to(site.resolve()))].ids, f"{name} links to {link}"


def test_a_claim_is_shown_with_all_that_is_known_of_it(site):
    claims = known_claims()
    for key, status in every_status().items():
        page, evidence = Page(site / "claims" / f"{claims[key].slug}.html"), EVIDENCE[status]
        for text in (STATUSES[status][0], evidence.name, evidence.detail, TWIN.name, claims[key].attribution):
            assert text in page.words, (key, text)
        assert (evidence.radius is not None) == ("relative radius at most 8.27 · 10⁻²⁵" in page.words)
        assert f"def {claims[key].function}(" in page.text
        assert all(text in page.words for text in claims[key].hypotheses if "$" not in text)
    unchecked = next(key for key in claims if key not in every_status())
    assert "Not checked" in Page(site / "claims" / f"{claims[unchecked].slug}.html").words


def test_the_opening_page_counts(site):
    words = Page(site / "index.html").words
    total, checked = len(claim_index(ROOT)), every_status()
    assert f"{total} statements" in words
    assert "4 of them held as stated, 1 of these by a proof at every depth." in words
    rest = f"1 differs from its source, 1 is refuted, 1 is open, 1 failed its check and {total - len(checked)} were"
    assert rest in words
    for key, status in checked.items():
        assert (key in words.partition("By paper")[0]) == (status in ("differs", "refuted", "open", "failed"))


def test_the_margin_of_the_closest_check(site):
    key = next(key for key, status in every_status().items() if status == "tested")
    words = Page(site / "index.html").words
    assert re.search(rf"{key}\s*5\b", words)
    assert re.search(r"2 · 10⁻¹³ 10⁻¹² 5 7 ", Page(site / "claims" / f"{key.replace('/', '-')}.html").words)


def test_every_derivation_is_there_with_every_step(site):
    from pctheory import induction

    page = Page(site / "derivations" / "rescaling.html")
    certificate = induction.rescaling_theorem()
    assert [f"step-{n}" for n in range(1, len(certificate.steps) + 1)] == [i for i in page.ids if "step" in i]
    assert page.tags.count("math") > 2 * len(certificate.steps)
    assert certificate.verdict in page.words
    claim = Page(site / "claims" / "saddles-2024-equilibrated-energy.html")
    assert "../derivations/rescaling.html" in claim.links
    assert "../derivations/determinant.html" not in claim.links


HOSTILE = "<script>alert(1)</script> & <b>\"bold\"</b> 'x'"


def test_markup_in_any_text_is_shown_and_never_run(tmp_path):
    root = small(tmp_path, HOSTILE.replace('"', ""), HOSTILE.replace('"', ""))
    claims = checked_claims(root)
    made = made_verdict(claims["a/holds"], "differs", twins=(replace(TWIN, name=HOSTILE),))
    made = replace(made, evidence=(replace(made.evidence[0], name=HOSTILE, detail=HOSTILE),), effective="differs")
    ledger = made_ledger(root, {"a/holds": "differs"})
    ledger["claims"] = [record_of(made, ROOT, "") | {"effective": "differs"}]
    hostile = {"module": HOSTILE, "old": HOSTILE, "new": HOSTILE, "reasons": [HOSTILE, HOSTILE]}
    ledger["audit"] = {
        "seconds": 1.0,
        "faults": [planted_fault(HOSTILE, claims=[HOSTILE], tests=[HOSTILE], **hostile)],
    }
    ledger["versions"] = {HOSTILE: HOSTILE}
    site = built(root, signed(ledger), tmp_path / "none", tmp_path / "site")
    for name, page in pages(site).items():
        assert page.tags.count("script") == 1, name
        assert "b" not in page.tags or name == "index.html", name
    claim = Page(site / "claims" / "a-holds.html")
    assert claim.words.count("<script>alert(1)</script>") >= 5
    assert HOSTILE in Page(site / "audit.html").words
    assert HOSTILE in Page(site / "run.html").words


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (r"$\foo{x}$", "\\foo is unknown here"),
        (r"$\frac{1}{$", "its braces do not match"),
        (r"$a_b_c$", "DoubleSubscripts"),
        (r"$\left( x$", "ExtraLeft"),
        ("$x", "an odd number of dollars"),
        ("$$", "does not convert"),
        (r"\emph{x}", "\\emph stands outside a formula"),
        (r"$\text{<script>}$", "it holds <, > or & in a text"),
        (r"$\text{<script></script>}$", "it makes <script>"),
        (r"$a & b$", "does not convert"),
    ],
)
def test_latex_that_does_not_convert_is_an_error_that_names_the_claim(tmp_path, statement, reason):
    root = small(tmp_path, statement)
    ledger = made_ledger(root, {})
    with pytest.raises(ValueError, match=r"^claim a/holds: ") as caught:
        built(root, ledger, tmp_path / "none", tmp_path / "site")
    assert reason in str(caught.value)
    assert not (tmp_path / "site").exists()


def test_a_status_that_the_evidence_does_not_support_is_refused(tmp_path):
    root = small(tmp_path)
    ledger = made_ledger(root, {"a/holds": "tested", "b/rests": "proved"})
    assert [c["effective"] for c in ledger["claims"]] == ["tested", "tested"]
    for name, planted in (("own", "proved"), ("effective", "proved")):
        forged = json.loads(json.dumps(ledger))
        forged["claims"][0][name] = planted
        with pytest.raises(
            ValueError, match=rf"claim a/holds: {name} status is 'proved', but its evidence supports 'tes"
        ):
            built(root, signed(forged), tmp_path / "none", tmp_path / "site")


def test_evidence_of_an_unknown_kind_is_refused_and_unknown_fields_are_shown(tmp_path):
    root = small(tmp_path)
    ledger = made_ledger(root, {"a/holds": "tested"})
    ledger["claims"][0]["evidence"][0]["effort"] = 1e-40
    site = built(root, signed(ledger), tmp_path / "none", tmp_path / "site")
    assert "effort: 1e-40" in Page(site / "claims" / "a-holds.html").words
    ledger["claims"][0]["evidence"][0]["kind"] = "rumour"
    with pytest.raises(
        ValueError, match="claim a/holds: its evidence is of the kind 'rumour', expected one of proof"
    ):
        built(root, signed(ledger), tmp_path / "none", tmp_path / "site")


@pytest.mark.parametrize(
    ("key", "reason"),
    [("a-holds/", "claim a-holds/: its page would be"), ("a/ho?lds", "claim a/ho?lds: its key names a page")],
)
def test_two_claims_never_share_a_page(tmp_path, key, reason):
    root = small(tmp_path)
    file = root / "paper_checks" / "small.py"
    text = file.read_text().replace("a/holds", "a/holds-").replace("b/rests", key)
    file.write_text(text)
    with pytest.raises(ValueError, match="^" + re.escape(reason)):
        checked_claims(root)


def test_a_record_has_neither_paths_nor_tracebacks():
    made = made_verdict(known_claims()["own/determinant"], "tested")
    made = replace(made, error=f"OSError: {ROOT.resolve()}/figures/x is missing\nTraceback of {ROOT}")
    kept = record_of(made, ROOT, "")
    assert kept["error"] == "OSError: figures/x is missing"
    assert kept["own"] == "failed"
    assert str(ROOT) not in json.dumps(kept)


def test_verdicts_survive_the_ledger():
    ledger, claims = made_ledger(ROOT, every_status()), known_claims()
    for key, found in verdicts_of(json.loads(json.dumps(ledger))["claims"]).items():
        assert found.own == every_status()[key]
        assert repr(found.evidence) == repr(made_verdict(claims[key], found.own).evidence)  # NaN is not NaN
        assert found.false_twins == (TWIN,)


def test_what_is_stale_missing_or_gone_is_said(tmp_path):
    root = small(tmp_path)
    ledger = made_ledger(root, {"a/holds": "tested", "b/rests": "exact"})
    file = root / "paper_checks" / "small.py"
    file.write_text(file.read_text().replace("b/rests", "b/renamed").replace("LIMIT = 1e-12", "LIMIT = 1e-3"))
    words = Page(built(root, ledger, tmp_path / "none", tmp_path / "site") / "index.html").words
    assert "The code behind 1 has changed since they were checked." in words
    assert "no result for 1 of the claims" in words
    assert "results for b/rests, which the code no longer has" in words
    assert "The code has changed" in Page(tmp_path / "site" / "claims" / "a-holds.html").words
    assert "Not checked" in Page(tmp_path / "site" / "claims" / "b-renamed.html").words


def test_the_code_shown_is_what_the_check_needs_of_its_file(tmp_path):
    code = "\n".join(checked_claims(small(tmp_path))["a/holds"].code)
    assert code.index("def holds") < code.index("LIMIT = 1e-12") < code.index("def _error")
    assert "_not_needed" not in code
    assert "def rests" not in code


def test_figures_drawn_missing_damaged_and_changed(tmp_path):
    root = small(tmp_path)
    names = ("drawn", "missing", "damaged", "nested", "changed")
    for name in names:
        figure_checkout(root, name=name, key=f"toy/{name}", quick="P((1, 2))")
    out = tmp_path / "out"
    assert run_figures([f for k, f in collect_figures(root).items() if k != "toy/missing"], "quick", out).ok
    (out / "toy-damaged.json").write_text('{"key": "toy/dama')
    (out / "toy-nested.json").write_text("[" * 100_000)
    changed = root / "figures" / "changed.py"
    changed.write_text(changed.read_text() + "\n# now another\n")
    site = built(root, made_ledger(root, {}), out, tmp_path / "site")
    page = {name: Page(site / "figures" / f"toy-{name}.html") for name in names}
    assert "It has not been drawn yet." in page["missing"].words
    assert "Its files are damaged" in page["damaged"].words
    assert "Its files are damaged" in page["nested"].words
    assert "The code has changed" in page["changed"].words
    assert "The code has changed" not in page["drawn"].words
    for kind in ("png", "pdf", "npz", "json"):
        assert f"../files/toy-drawn.{kind}" in page["drawn"].links
        assert (site / "files" / f"toy-drawn.{kind}").read_bytes() == (out / f"toy-drawn.{kind}").read_bytes()
    assert "../files/toy-drawn.png" in page["drawn"].loaded
    assert not any("files/" in file for file in page["missing"].loaded)
    assert "3 of 5 figures are not drawn" in Page(site / "index.html").words


def test_a_new_site_replaces_the_old_one_and_nothing_else(tmp_path):
    root = small(tmp_path)
    ledger, out = made_ledger(root, {}), tmp_path / "site"
    built(root, ledger, tmp_path / "none", out)
    (out / "claims" / "stale.html").write_text("old")
    built(root, ledger, tmp_path / "none", out)
    assert not (out / "claims" / "stale.html").exists()
    assert not list(tmp_path.glob(".site*"))
    (out / MARKER).unlink()
    with pytest.raises(ValueError, match="exists and is no report; name a new or empty folder"):
        built(root, ledger, tmp_path / "none", out)
    assert (out / "index.html").exists()


def test_the_audit_is_there_if_the_ledger_has_one(tmp_path):
    root = small(tmp_path)
    half = planted_fault("half", claims=["a/holds"], tests=["t"], reasons=["it fails", "1 != 2"])
    faults = [half, planted_fault("kept", equivalent="no effect", tried=False)]
    escaped = planted_fault("escaped", claims=["a/holds"], reasons=["it fails", ""])
    for planted, sentence in (
        (faults, "Planted in the library, one at a time: 1 fault. Noticed by at least one claim and one test: 1."),
        (faults, "half caught 2.0 s - 0.5 + 1 claim a/holds it fails test t 1 != 2"),
        ([*faults, escaped], "1 got away: escaped (no test)"),
        ([*faults, planted_fault("later", tried=False)], "Not tried on this code: 1."),
    ):
        ledger = signed(made_ledger(root, {}) | {"audit": {"seconds": 3.0, "faults": planted}})
        site = built(root, ledger, tmp_path / "none", tmp_path / "site")
        assert sentence in Page(site / "audit.html").words
        assert "audit.html" in Page(site / "index.html").links
    with pytest.raises(ValueError, match="ledger: audit: 'faults' is missing"):
        built(root, signed(ledger | {"audit": {}}), tmp_path / "none", tmp_path / "site")


# Mathematics


def text_of(markup: str) -> str:
    return re.sub(r"<[^>]*>", "", markup)


def test_a_long_formula_is_cut_before_relations_and_loses_nothing():
    latex = r"\min_z F = F^* = \mathrm{mean}\, \frac{1}{2} r^T S^{-1} r \le (a = b, c) + d, \lambda"
    cut, whole = mathml.prose(f"${latex}$"), mathml.formula(latex)
    assert text_of(cut) == text_of(whole)
    assert cut.count("<math") == 5
    assert cut.count("alttext") == 1
    assert mathml.prose("$a = b$").count("<math") == 1


def test_words_are_read_as_words_and_scripts_stand_close():
    assert "<mi>mean</mi>" in mathml.formula(r"\mathrm{mean}(x)")
    assert 'lspace="0"' in mathml.formula("x_{l-1}")
    assert 'lspace="0"' not in mathml.formula("l - 1")
    assert '<mo form="prefix"' in mathml.formula(r"H = -\pi")
    assert "prefix" not in mathml.formula("(a) - b")
    assert "<msup><mrow><mo" in mathml.formula(r"\begin{pmatrix} A \\ B \end{pmatrix}^T")


def test_prose_is_escaped_and_its_comparisons_are_mathematics():
    made = mathml.prose("a < b & $x < 3$")
    assert made.startswith("a &lt; b &amp; <math")
    assert "<mo>&lt;</mo>" in made


# The graph


def test_graph_stands_on_its_foundations_and_nothing_overlaps():
    claims = known_claims()
    uses = {key: made.uses for key, made in claims.items()}
    made = drawing(uses)
    assert set(made.places) == set(uses)
    for key, used in ((above, below) for above in uses for below in uses[above]):
        assert made.places[used][0] + WIDTH < made.places[key][0]
    corners = sorted(made.places.values())
    for n, (x, y) in enumerate(corners):
        assert 0 <= x <= made.width - WIDTH
        assert 0 <= y <= made.height - HEIGHT
        assert all(abs(a - x) >= WIDTH or abs(b - y) >= HEIGHT for a, b in corners[:n])


def test_graph_leaves_out_what_other_edges_imply():
    made = drawing({"a": (), "b": ("a",), "c": ("a", "b"), "alone": ()})
    assert set(made.paths) == {("a", "b"), ("b", "c")}
    assert drawing({}).places == {}
    assert set(drawing({"x": ()}).places) == {"x"}


# The command


def test_report_from_the_command_line(tmp_path):
    root = small(tmp_path)
    missing = run("report", cwd=root)
    assert missing.returncode == 2
    assert "ledger figures/output/claims.json: cannot be read: No such file or directory" in missing.stderr
    assert len(missing.stderr.splitlines()) == 1
    write_ledger(root / "l.json", made_ledger(root, {"a/holds": "failed"}))
    made = run("report", "--ledger", "l.json", "--figures", "none", cwd=root)
    assert made.returncode == 0, made.stderr
    assert made.stdout == "report/index.html\n"
    assert "1 failed its check" in Page(root / "report" / "index.html").words
    assert run("report", "--ledger", "l.json", "--out", "paper_checks", cwd=root).returncode == 2


def test_reproduce_ends_with_the_report(tmp_path):
    root = small(tmp_path)
    figure_checkout(root, name="drawn", key="toy/drawn", quick="P((1,))")
    made = run("reproduce", "--preset", "quick", "--jobs", "1", "--out", "out", cwd=root)
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines()[-1] == "report: out/report/index.html"
    assert "property-tested" in Page(root / "out" / "report" / "claims" / "a-holds.html").words
    assert Page(root / "out" / "report" / "figures" / "toy-drawn.html").loaded[-1] == "../files/toy-drawn.png"
    shutil.rmtree(root / "out" / "report")
    assert run("report", "--ledger", "out/claims.json", "--figures", "out", cwd=root).returncode == 0
