"""Every claim is checked; none becomes weaker unnoticed."""

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

# What the evidence of each claim amounts to; a weaker one would be a loss.
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
LANDSCAPE = {
    "own/bottleneck": "exact",
    "own/critical-points": "proved",
    "own/escape-normalisation": "differs",
    "own/escape-times": "tested",
    "own/exact-learning": "exact",
    "own/hessian-products": "tested",
    "own/imbalance": "proved",
    "own/landscape-planes": "tested",
    "own/noisy-data": "exact",
    "own/saddles-strict-with-signal": "proved",
    "own/spectral-density": "exact",
    "saddles-2024/conjecture-unrestricted": "refuted",
    "saddles-2024/flatter-minima": "proved",
    "saddles-2024/loss-hessian-origin": "proved",
    "saddles-2024/matrix-completion": "tested",
    "saddles-2024/origin-strict": "proved",
    "saddles-2024/saddle-order": "proved",
    "saddles-2024/zero-rank-saddles-strict": "proved",
    "saddles-2024/zero-rank-spectrum": "differs",
    "thesis-2025/when-faster": "differs",
}
TRUST_REGION = {
    "alonso-2022/proximal": "exact",
    "own/truncated-steps": "exact",
    "own/weight-directions": "exact",
    "trust-region-2023/chains": "tested",
    "trust-region-2023/direction-alignment": "tested",
    "trust-region-2023/fisher": "exact",
    "trust-region-2023/inference-step": "proved",
    "trust-region-2023/subproblem": "proved",
    "trust-region-2023/taylor": "proved",
    "trust-region-2023/toy-equilibrium": "proved",
    "trust-region-2023/toy-faster-escape": "proved",
    "trust-region-2023/toy-flatter-minima": "proved",
    "trust-region-2023/weight-gradient": "proved",
    "trust-region-2023/weight-noise": "differs",
}
INFERENCE = {
    "ishikawa-2025/precision-interpolates": "proved",
    "limits-2026/alignment": "tested",
    "limits-2026/dmft": "tested",
    "limits-2026/output-precision": "exact",
    "limits-2026/rescaling-line": "differs",
    "mupc-2025/activity-decay": "exact",
    "mupc-2025/conditioning": "differs",
    "mupc-2025/coordinate-check": "tested",
    "mupc-2025/forward-pass": "exact",
    "mupc-2025/limit-in-training": "differs",
    "mupc-2025/limit-to-loss": "exact",
    "mupc-2025/lr-transfer": "tested",
    "mupc-2025/orthogonal": "exact",
    "mupc-2025/spectra": "exact",
    "own/activity-rate-transfer": "tested",
    "own/bent-activity-hessian": "exact",
    "own/conditioning-beyond-doubles": "enclosed",
    "own/conditioning-depends-on-init": "exact",
    "own/conditioning-with-skips": "tested",
    "own/dyson-spectrum": "tested",
    "own/hessian-parts": "exact",
    "own/inference-reach": "tested",
    "own/step-stability": "proved",
}
STATUS = EQUILIBRIUM | LANDSCAPE | TRUST_REGION | INFERENCE


@pytest.mark.parametrize("key", CLAIMS)
def test_claim(key: str):
    found = verdict(CLAIMS[key])
    assert found.problems == [], found.error
    assert found.own != "failed"
    assert found.own == STATUS[key]
    for twin in found.false_twins:  # rejected by much more than rounding
        assert twin.worst is None or twin.worst > 1e6 * TOLERANCE, twin.name
    if key in EQUILIBRIUM:
        tried = [e for e in found.evidence if e.kind == "property"]
        assert sum(e.cases for e in tried if e.seed is not None) >= 300
        assert all(e.bound == TOLERANCE for e in tried)


def test_no_claim_is_lost():
    assert STATUS.keys() == CLAIMS.keys()


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
