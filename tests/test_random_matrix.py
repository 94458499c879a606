"""Closed laws of random matrices: against quadrature, against samples in NumPy, and what they refuse."""

import numpy as np
import pytest
from scipy.integrate import quad

from pctheory.random_matrix import (
    free_edges,
    marchenko_pastur,
    mixture,
    orthogonal_spectrum,
    semicircle,
)

LAWS = {
    "tall": marchenko_pastur(0.3),
    "square": marchenko_pastur(1.0, 2.0),
    "wide": marchenko_pastur(2.5, 0.7),
    "semicircle": semicircle(1.5),
    "shifted": marchenko_pastur(0.5).shifted(2.0),
    "mixture": mixture((semicircle(1.0), marchenko_pastur(4.0, 0.2).shifted(-2.0)), (0.25, 0.75)),
}


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_distribution_and_moments_are_integrals_of_the_density(law):
    atoms = sum(mass for _, mass in law.atoms)
    for band in law.bands:
        assert law.density(np.array([band[0] - 1e-9, band[1] + 1e-9])) == pytest.approx([0.0, 0.0], abs=1e-3)
    places = [low + share * (high - low) for low, high in law.bands for share in (0.2, 0.5, 0.9)]

    def integral(k, below):
        parts = [(low, min(high, below)) for low, high in law.bands if low < below]
        continuous = sum(quad(lambda x: x**k * float(law.density(x)), *part, limit=200)[0] for part in parts)
        return continuous + sum(mass * place**k for place, mass in law.atoms if place <= below)

    for place in places:
        assert law.cdf(place) == pytest.approx(integral(0, place), abs=1e-6)  # quad at a steep edge
    for k in range(5):
        assert law.moment(k) == pytest.approx(integral(k, np.inf), abs=1e-6)
    assert law.cdf(law.edges[1] + 1) == pytest.approx(1.0)
    assert 0 <= atoms < 1


@pytest.mark.parametrize(("rows", "columns"), [(400, 200), (200, 400), (300, 300)])
def test_marchenko_pastur_is_that_of_a_sample(rows, columns):
    x = np.random.default_rng(0).standard_normal((rows, columns)) * np.sqrt(2.0)
    found = np.linalg.eigvalsh(x.T @ x / rows)
    law = marchenko_pastur(columns / rows, 2.0)
    steps = (np.arange(columns) + 0.5) / columns
    assert np.abs(law.cdf(found[found > 1e-9]) - steps[found > 1e-9]).max() < 0.02  # rigid: units of 1/columns
    wrong = marchenko_pastur(rows / columns, 2.0) if rows != columns else marchenko_pastur(0.8, 2.0)
    assert np.abs(wrong.cdf(found) - steps).max() > 0.05


def test_semicircle_is_that_of_a_sample():
    x = np.random.default_rng(1).standard_normal((400, 400))
    found = np.linalg.eigvalsh((x + x.T) / np.sqrt(800))  # variance 1/400 beside the diagonal: radius 2
    assert np.abs(semicircle(2.0).cdf(found) - (np.arange(400) + 0.5) / 400).max() < 0.01


@pytest.mark.parametrize(("width", "hidden", "outputs"), [(6, 1, 2), (5, 4, 3), (7, 3, 7), (1, 6, 1), (4, 5, 1)])
def test_orthogonal_spectrum_is_that_of_orthogonal_maps(width, hidden, outputs):
    random = np.random.default_rng(2)

    def orthogonal():
        return np.linalg.qr(random.standard_normal((width, width)))[0]

    errors = np.eye((hidden + 1) * width, hidden * width)
    for l in range(1, hidden + 1):
        rows = slice(l * width, (l + 1) * width)
        errors[rows, (l - 1) * width : l * width] -= orthogonal()
    errors = errors[: hidden * width + outputs]
    spectrum = orthogonal_spectrum(width, hidden, outputs)
    assert np.linalg.eigvalsh(errors.T @ errors) == pytest.approx(spectrum.repeated, abs=1e-12)
    assert spectrum.multiplicities.sum() == width * hidden
    assert (np.diff(spectrum.eigenvalues) >= 0).all()


def test_the_condition_number_of_orthogonal_maps_grows_as_the_square_of_depth():
    conditions = [orthogonal_spectrum(8, hidden, 2).condition_number / hidden**2 for hidden in (200, 2000)]
    assert conditions == pytest.approx([16 / np.pi**2] * 2, rel=0.01)  # off by 1/H
    assert orthogonal_spectrum(8, 2000, 8).condition_number / 2000**2 == pytest.approx(4 / np.pi**2, rel=0.01)


def test_free_edges():
    assert free_edges(1.0) == pytest.approx((0.0, 27 / 4))
    assert free_edges(1 / 3) == pytest.approx((1 / 12, 32 / 9))
    assert free_edges(4.0)[0] == 0.0
    assert free_edges(1e-8) == pytest.approx((1.0, 1.0), abs=1e-3)  # 1 -+ sqrt(8 t): a semicircle around 1
    assert np.diff(free_edges(1e-8)) == pytest.approx(2 * np.sqrt(8e-8), rel=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: marchenko_pastur(0.0), r"ratio is 0\.0, expected a positive"),
        (lambda: marchenko_pastur(1.0, np.inf), r"variance is inf, expected a positive"),
        (lambda: semicircle(np.nan), "radius is nan, expected a positive"),
        (lambda: free_edges(-1.0), r"variance is -1\.0, expected a positive"),
        (lambda: orthogonal_spectrum(4, 0, 1), "hidden_layers is 0, expected a whole"),
        (lambda: orthogonal_spectrum(4, 2, 5), "outputs is 5, expected at most the width 4"),
        (lambda: orthogonal_spectrum(True, 2, 1), "width is True, expected a whole"),
        (lambda: semicircle(1.0).moment(-1), "k is -1, expected a whole"),
        (lambda: mixture((semicircle(1.0),), (0.5,)), r"shares are \(0\.5,\), expected positive numbers of sum 1"),
        (lambda: mixture((), ()), "shares has 0 entries, expected 0: one per law, at least one"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
