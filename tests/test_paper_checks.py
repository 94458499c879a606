"""Every claim is checked; the ledger of section "equilibrium" keeps its promises."""

import importlib
from pathlib import Path

import pytest

from pctheory.claims import TOLERANCE, claim_index, claims_of, verdict

ROOT = Path(__file__).parents[1]
MODULES = {
    file.stem: importlib.import_module(f"paper_checks.{file.stem}")
    for file in sorted((ROOT / "paper_checks").glob("*.py"))
}
CLAIMS = claims_of(MODULES.values())

# What the evidence of each claim about the equilibrium amounts to; a weaker one would be a loss.
EQUILIBRIUM = {
    "saddles-2024/equilibrated-energy": "proved",
    "saddles-2024/scalar-chain": "proved",
    "saddles-2024/energy-below-loss": "proved",
    "saddles-2024/equilibrium-errors": "proved",
    "saddles-2024/envelope": "proved",
    "thesis-2025/energy-split-only-at-start": "exact",
    "mupc-2025/activity-solution": "proved",
    "mupc-2025/activity-hessian": "proved",
    "mupc-2025/inference-strictly-convex": "proved",
    "own/determinant": "proved",
    "own/likelihood": "proved",
    "goemaere-2025/error-hessian": "proved",
    "goemaere-2025/first-arrival": "exact",
}


@pytest.mark.parametrize("key", CLAIMS)
def test_claim(key: str):
    found = verdict(CLAIMS[key])
    assert found.problems == [], found.error
    assert found.own != "failed"
    assert found.own == EQUILIBRIUM.get(key, found.own)
    for twin in found.false_twins:  # rejected by much more than rounding
        assert twin.worst is None or twin.worst > 1e6 * TOLERANCE, twin.name
    if key in EQUILIBRIUM:
        tried = [e for e in found.evidence if e.kind == "property"]
        assert sum(e.cases for e in tried if e.seed is not None) >= 300
        assert all(e.bound == TOLERANCE for e in tried)


def test_every_claim_about_the_equilibrium_is_there():
    assert EQUILIBRIUM.keys() <= CLAIMS.keys()


def test_index_agrees_with_the_imported_claims():
    imported = [
        {
            "key": made.key,
            "statement": made.statement,
            "attribution": made.attribution,
            "source": made.source,
            "file": f"paper_checks/{made.run.__module__.rpartition('.')[2]}.py",
        }
        for made in CLAIMS.values()
    ]
    assert claim_index(ROOT) == imported


@pytest.mark.parametrize("name", MODULES)
def test_header_lists_the_claims(name: str):
    listed = [line.split()[0] for line in MODULES[name].__doc__.splitlines() if line.startswith("    ")]
    written = [made.key for made in CLAIMS.values() if made.run.__module__ == MODULES[name].__name__]
    assert sorted(listed) == sorted(written)


@pytest.mark.parametrize("key", CLAIMS)
def test_statement_is_readable(key: str):
    """Whole formulas between dollars, on one line."""
    made = CLAIMS[key]
    for text in (made.statement, *made.hypotheses):
        assert text.count("$") % 2 == 0
        assert "\n" not in text
    for formula in made.statement.split("$")[1::2]:
        assert formula.count("{") == formula.count("}")
