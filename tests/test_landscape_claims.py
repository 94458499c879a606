"""Power series against what is known otherwise; the certificates on the landscape; their formulas at numbers."""

from dataclasses import replace
from fractions import Fraction

import jaxtyping
import numpy as np
import pytest
import sympy

import pctheory
from paper_checks._curvature import few_weights, is_semidefinite
from pctheory import induction
from pctheory.matrix_algebra import evaluated
from tests import oracles, series
from tests.cases import CASES, case, rational, rational_cases

THEOREMS = [
    induction.ray_order,
    induction.loss_at_origin,
    induction.zero_rank_hessian,
    induction.minimum_hessian,
    induction.critical_points,
    induction.strict_saddles,
]


# --- power series ---


def test_series_is_arithmetic_of_polynomials():
    p, q = (series.Series(tuple(map(Fraction, c)), 3) for c in ((2, 1, 3), (1, -1)))
    assert (p * q).coefficients == (2, -1, 2, -3)
    assert (p * q / q).coefficients == (2, 1, 3, 0)
    assert (1 / q).coefficients == (1, 1, 1, 1)
    assert (p - q + 1).coefficients == (2, 2, 3)
    assert (1 - q).coefficients == (0, 1)
    assert (q**2).coefficients == (1, -2, 1)
    assert q[2] == 0


@pytest.mark.parametrize("name", ["loss", "equilibrated_energy"])
def test_hessian_of_series_is_that_of_automatic_differentiation(name):
    given = next(made for made in CASES if made.name == "all widths equal, skips")
    expected = pctheory.weight_hessian_dense(getattr(pctheory, name), given.net, given.x, given.y)
    function = {"loss": oracles.loss, "equilibrated_energy": series.least_energy}[name]
    np.testing.assert_allclose(series.hessian(function, given), expected, rtol=0, atol=1e-13)


def test_hessian_agrees_with_curvature_along_moves():
    for given in few_weights(rational_cases(12, seed=260, depths=(2, 3)), 8):
        rng = np.random.default_rng(given.depth)
        moves = [rng.integers(-3, 4, w.shape) for w in given.weights]
        vector = oracles.flat(moves)
        hessian = series.hessian(series.least_energy, given)
        assert vector @ hessian @ vector == series.curvature(series.least_energy, given, moves)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[0]], True),
        ([[-1]], False),
        ([[1, 1], [1, 1]], True),
        ([[1, 2], [2, 1]], False),
        ([[0, 1], [1, 5]], False),
        ([[0, 0], [0, -1]], False),
        ([[4, 2, 2], [2, 1, 1], [2, 1, 1]], True),
        ([[4, 2, 2], [2, 1, 0], [2, 0, 1]], False),
    ],
)
def test_semidefinite(rows, expected):
    matrix = np.array([[Fraction(v) for v in row] for row in rows])
    assert is_semidefinite(matrix) is expected
    assert is_semidefinite(matrix) == (np.linalg.eigvalsh(matrix.astype(float))[0] > -1e-9)


# --- certificates ---


@pytest.mark.parametrize("theorem", THEOREMS, ids=lambda theorem: theorem.__name__)
@pytest.mark.parametrize("sizes", [None, (1, 1, 1), (2, 3, 5), (4, 3, 2)])
def test_theorems_hold_and_print(theorem, sizes):
    certificate = theorem() if sizes is None else theorem(sizes)
    assert certificate.holds, certificate.text()
    text, latex = certificate.text(), certificate.latex()
    assert "\\" not in text
    assert "$" not in text
    assert latex.count("{") == latex.count("}")
    expected = "every width" if sizes is None else f"sizes {', '.join(map(str, sizes))}"
    assert expected in " ".join(text.split())


@pytest.mark.parametrize("sizes", [None, (2, 3, 5)])
def test_ball_of_the_trust_region(sizes):
    certificate = induction.trust_region_ball() if sizes is None else induction.trust_region_ball(sizes)
    assert certificate.holds, certificate.text()


@pytest.fixture
def unchecked():
    """Without the check of annotations, which would speak first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("theorem", THEOREMS, ids=lambda theorem: theorem.__name__)
def test_theorems_refuse_bad_sizes(theorem):
    with pytest.raises(ValueError, match="three sizes"):
        theorem((2, 3))


WRONG = {
    "power": induction.ray_order(power=lambda layers: 2 * layers),
    "sign": induction.loss_at_origin(sign=lambda side: side),
    "K": induction.zero_rank_hessian(top_kernel=lambda top: top.identity / top.precision),
    "second rate": induction.zero_rank_hessian(second_rate=lambda two: 0 * (two.map @ two.activity_below)),
    "form": induction.zero_rank_hessian(form=lambda top: 2 * induction.zero_rank_form(top)),
    "residual": induction.minimum_hessian(residual=lambda r: r),
    "bound": induction.minimum_hessian(bound=lambda least: least),
    "Gauss-Newton": induction.minimum_hessian(form=lambda rate, inverse: rate.T @ inverse @ rate),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_formula_leaves_a_remainder(name):
    certificate = WRONG[name]
    assert not certificate.holds
    assert "NOT ZERO" in certificate.text()


def test_zero_rank_form_is_the_curvature_of_the_energy():
    """The formula of the certificate at fractions, for one example and three layers, A_3 = 0 and A_2 A_1 = 0."""
    given = rational(case("", (2, 3, 4, 2), seed=5, batch=1, precisions=True, scalings=True))
    weights = [w.copy() for w in given.weights]
    weights[0][1:] *= 0
    weights[1][:, :1] *= 0
    weights[2] *= 0
    given = replace(given, weights=weights)
    moves = [np.random.default_rng(l).integers(-3, 4, w.shape) for l, w in enumerate(weights)]
    changes = [a * d for a, d in zip(given.scalings, moves, strict=True)]
    a_1, a_2, _ = given.maps
    kernel = np.eye(4, dtype=int) / given.precisions[1] + a_2 @ a_2.T / given.precisions[0]
    x = given.x.T
    values = {"D_L": changes[2], "m_{L-1}'": a_2 @ changes[0] @ x + changes[1] @ a_1 @ x, "S_{L-1}": kernel}
    values["r"] = given.y.T
    form = induction.zero_rank_form(induction.ZeroRank("L", -1, 3, 4, 2))
    exact = {name: sympy.Matrix(value.tolist()).applyfunc(sympy.nsimplify) for name, value in values.items()}
    precision = sympy.Symbol("pi_L", positive=True)
    (found,) = evaluated(form, exact, {precision: sympy.nsimplify(given.precisions[2])})
    assert 2 * found == sympy.nsimplify(series.curvature(series.least_energy, given, moves))
    assert found != 0
