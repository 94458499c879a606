"""What the claims on conditioning rest on: their own extreme eigenvalues, and judges that can fail."""

from dataclasses import replace

import numpy as np
import pytest

import pctheory
from paper_checks._conditioning import Ensemble, banded_extremes, condition, fitted, outside
from paper_checks.mupc_2025_conditioning import _chain_values
from pctheory.conditioning import LawFit
from tests import oracles
from tests.cases import FEW, at_unit_precision


@pytest.mark.parametrize("given", FEW, ids=lambda given: given.name)
def test_banded_extremes(given):
    given = at_unit_precision(given)
    values = np.linalg.eigvalsh(oracles.linear_system(given)[0])
    np.testing.assert_allclose(banded_extremes(given.maps), values[[0, -1]], rtol=1e-12)


@pytest.mark.parametrize(
    ("drawn", "constructor"),
    [
        (Ensemble(3, 4, 2, skips=True, mupc=True, inputs=5), pctheory.mupc),
        (Ensemble(3, 4, 2, skips=True, inputs=5), lambda *a, **k: pctheory.standard(*a, **k, skips=True)),
    ],
    ids=["muPC", "SP"],
)
def test_ensembles_are_those_of_the_library(drawn, constructor):
    net, ours = constructor(drawn.widths, seed=0), drawn.net(0)
    np.testing.assert_allclose(ours.scalings, net.scalings)
    np.testing.assert_allclose(ours.skips, net.skips)
    assert ours.widths == net.widths


def test_variance_of_the_weights():
    drawn = Ensemble(200, 1, 200, variance=1 / 3, inputs=200)
    weights, *_ = drawn.drawn(0)
    spread = [200 * (w**2).mean() for w in weights]
    np.testing.assert_allclose(spread, 1 / 3, rtol=4 * np.sqrt(2 / 200**2))  # four standard errors


def test_orthogonal_chain():
    drawn = Ensemble(4, 5, 2, orthogonal=True)
    ends = [4 * np.sin(np.pi / 22) ** 2, 4 * np.sin(5 * np.pi / 12) ** 2]
    ends[1] = max(ends[1], *_chain_values(5, free=True))
    np.testing.assert_allclose(banded_extremes(drawn.maps(0)), ends, rtol=1e-12)
    np.testing.assert_allclose(condition(drawn, 0), condition(replace(drawn, width=7), 0), rtol=1e-12)


def test_outside():
    law = LawFit(2.0, 0.0, (1.8, 2.2), 0.95)
    assert outside((1.5, 2.5), law) == 0
    np.testing.assert_allclose([outside((1.9, 2.5), law), outside((1.5, 2.0), law)], [0.1, 0.2])


def test_fitted_sees_a_known_law():
    """The largest eigenvalue of an orthogonal chain nears 4, its cond grows as H^2."""
    law = fitted(Ensemble(3, 1, 3, orthogonal=True), (20, 40, 80), seeds=2)
    assert law.keeps_to(1.85, 2.0)  # (H + 1)^2, fitted as a power of H
