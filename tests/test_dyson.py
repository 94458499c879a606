"""The matrix Dyson equation: against samples, counted pairings, its own derivative, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest

from paper_checks._sampled_spectra import counted_moment, histogram_distance, sampled_eigenvalues, sampled_hessian
from pctheory.random_matrix import (
    DysonEquation,
    NotConvergedError,
    RandomChain,
    activity_hessian_law,
    free_edges,
    marchenko_pastur,
)
from pctheory.random_matrix.bands import atoms
from tests import oracles
from tests.cases import case


def floats(values):
    return tuple(float(value) for value in values)


def chain(widths, t, skips=(), precisions=()):
    return RandomChain(widths, tuple(t / n for n in widths[:-1]), floats(skips), floats(precisions))


def square(hidden, t, width=100, skip=0.0):
    skips = (0.0, *(skip,) * (hidden - 1), 0.0)
    return chain((width,) * (hidden + 2), t, skips=skips)


MUPC = RandomChain((10, *(64,) * 9, 10), (0.1, *(1 / (10 * 64),) * 8, 1 / 64**2), floats((0, *(1,) * 8, 0)))
MIXED = chain((3, 90, 90, 60, 60, 40), 1.0, skips=(0, 0.7, 0, -0.5, 0), precisions=(1, 2, 0.5, 0.7, 3))
LAYERS = {"plain": square(3, 1.0), "mupc": MUPC, "mixed": MIXED, "outputs > width": chain((5, 40, 40, 200), 0.7)}


@pytest.fixture(scope="module")
def laws():
    return {name: activity_hessian_law(one, points=100) for name, one in LAYERS.items()}


def test_the_sampled_hessian_is_that_of_the_networks():
    given = case("sampled", (2, 3, 3, 2), seed=3, precisions=True, skips=True)
    one = RandomChain(tuple(given.widths), (0.0,) * given.depth, floats(given.skips), floats(given.precisions))
    still = replace(given, weights=[0 * w for w in given.weights])
    assert sampled_hessian(one, 0) == pytest.approx(oracles.linear_system(still)[0])


@pytest.mark.parametrize("name", LAYERS)
def test_law_holds_together(laws, name):
    law = laws[name]
    assert law.mass == pytest.approx(1.0, abs=2e-4)  # quadrature
    assert law.residual <= 1e-10
    assert law.moment(0) == pytest.approx(1.0, abs=1e-9)
    assert (law.densities >= 0).all()
    assert (np.diff(law.points) > 0).all()
    assert law.density(law.points[::7]) == pytest.approx(law.densities[::7], rel=1e-6)
    assert (np.diff(law.cdf(np.linspace(0, 1.1 * law.edges[1], 400))) > -1e-5).all()
    outside = [low * (1 - 1e-4) for low, _ in law.bands] + [high * (1 + 1e-4) for _, high in law.bands]
    assert (law.density(outside) == 0).all()
    inside = [low * (1 + 1e-3) for low, _ in law.bands] + [high * (1 - 1e-3) for _, high in law.bands]
    assert (law.density(inside) > 0).all()


@pytest.mark.parametrize("name", LAYERS)
def test_moments_are_counted_pairings(laws, name):
    expected = [counted_moment(LAYERS[name], k) for k in (1, 2, 3)]
    assert [laws[name].moment(k) for k in (1, 2, 3)] == pytest.approx(expected, rel=1e-8)
    by_density = [np.trapezoid(1 - laws[name].cdf(x), x) for x in [np.linspace(0, laws[name].edges[1] + 1, 20_000)]]
    assert by_density == pytest.approx(expected[:1], rel=1e-3)  # the mean, from the distribution


@pytest.mark.parametrize("name", LAYERS)
def test_law_is_that_of_samples(laws, name):
    one = LAYERS[name]
    factor = max(1, 600 // sum(one.widths[1:-1]))
    widths, variances = tuple(factor * n for n in one.widths), tuple(v / factor for v in one.variances)
    wide = replace(one, widths=widths, variances=variances)
    assert histogram_distance(laws[name], sampled_eigenvalues(wide, 5)) < 0.1  # some 500 eigenvalues in 40 bins
    shifted = sampled_eigenvalues(wide, 5) * 1.2
    assert histogram_distance(laws[name], shifted) > 0.1


def test_one_hidden_layer_is_marchenko_pastur():
    for below, above in ((50, 50), (50, 20), (20, 50)):
        law = activity_hessian_law(chain((3, below, above), 0.8), points=50)
        expected = marchenko_pastur(below / above, 0.8 * above / below).shifted(1.0)
        assert np.ravel(law.atoms) == pytest.approx(np.ravel(expected.atoms))
        assert np.ravel(law.bands) == pytest.approx(np.ravel(expected.bands), rel=1e-5)
        places = np.linspace(0.5, 6, 40)
        assert law.cdf(places) == pytest.approx(expected.cdf(places), abs=1e-4)


@pytest.mark.parametrize(
    "one",
    [
        chain((5, 40, 10, 40), 1.0, precisions=(1.0, 2.0, 1.0)),
        chain((5, 10, 40, 10, 5), 1.0, precisions=(1.0, 3.0, 1.0, 1.0)),
        RandomChain((5, 40, 40, 10), (1.0, 0.0, 0.1), (0.0, 1.0, 0.0)),  # two layers tied by an identity
        RandomChain((5, 40, 40, 40), (1.0, 0.1, 0.0)),  # nothing above the last hidden layer
        RandomChain((5, 30, 30, 30, 30), (1.0, 0.1, 0.0, 0.0), (0.0, 0.0, 1.0, 1.0)),
    ],
)
def test_atoms_are_repeated_eigenvalues_of_samples(one):
    law = activity_hessian_law(one, points=50)
    found = sampled_eigenvalues(one, 6)
    for place, mass in law.atoms:
        assert np.mean(np.abs(found - place) < 1e-9) == pytest.approx(mass)
    gaps = np.diff(found) < 1e-10
    repeated = sum(mass for _, mass in law.atoms) * len(found)
    assert gaps.sum() == max(repeated - len(law.atoms), 0)  # and no others repeat


def test_narrow_bands_lie_around_the_eigenvalues_of_the_mean():
    law = activity_hessian_law(square(4, 1e-6, skip=1.0), points=50)
    assert len(law.bands) == 4
    centres = 4 * np.sin(np.arange(1, 8, 2) * np.pi / 18) ** 2  # of the chain of identities
    assert np.mean(law.bands, axis=1) == pytest.approx(centres, rel=1e-3)


def test_edges_tend_to_the_free_ones_in_depth():
    gaps = [
        np.abs(np.array(activity_hessian_law(square(h, 1 / 3), points=1).edges) - free_edges(1 / 3))
        for h in (8, 32)
    ]
    assert (gaps[1] < gaps[0] / 30).all()  # as the fourth power of the depth, a third of it left to the offset


def test_rounding_beside_an_atom_is_no_failure():
    given = RandomChain((100, 100, 50, 100), (0.01, 0.02, 0.01), (0.0, 0.0, 0.0), (1.0, 2.0, 1.0))
    ((place, mass),) = atoms(given)
    equation = DysonEquation.of(given, tolerance=1e-10, max_iterations=200)
    points = place + 1e-8 * np.arange(-100, 100)
    solved = equation.near_axis(points, equation.ladder())[-1]
    assert equation.trace(solved) * (place - solved.places) == pytest.approx(mass, rel=1e-5)
    assert solved.residual > equation.tolerance  # what rounding leaves there
    far = equation.near_axis(np.array([0.5, 1.5, 3.0]), equation.ladder())[-1]
    assert far.residual <= equation.tolerance


def test_newton_steps_solve_the_linearised_equation():
    equation = DysonEquation.of(MIXED, tolerance=1e-10, max_iterations=100)
    random = np.random.default_rng(0)
    z = np.array([1 + 0.5j, 0.3 + 0.1j])
    m = random.standard_normal((2 * len(equation.links), 2)) + 1j
    step, image = equation._newton_step(z, m)
    for k in range(2):
        slopes = np.empty((len(m), len(m)), complex)
        for n in range(len(m)):
            up, down = m.copy(), m.copy()
            up[n] += 1e-6
            down[n] -= 1e-6
            slopes[:, n] = (up / equation._sweeps(z, up)[0][1:] - down / equation._sweeps(z, down)[0][1:])[
                :, k
            ] / 2e-6
        assert np.linalg.solve(slopes, (1 - m / image)[:, k]) == pytest.approx(step[:, k], rel=1e-6)


@pytest.mark.parametrize(
    "one",
    [
        chain((1, 1, 1), 1.0),
        square(2, 1e12),
        square(2, 1e-9),
        chain((1, 1, 300), 1.0),
        chain((7, 7, 7), 1.0, precisions=(1e-8, 1e8)),
        square(40, 4.0),
        RandomChain(
            (10, *(300,) * 17, 10), (0.1, *(1 / 300,) * 17), floats((0, *(1,) * 16, 0))
        ),  # standard, with skips
    ],
)
def test_extreme_chains(one):
    law = activity_hessian_law(one, points=30, tolerance=1e-7)  # what rounding leaves at the extremes
    assert law.mass == pytest.approx(1.0, abs=1e-3)  # quadrature
    assert law.moment(1) == pytest.approx(counted_moment(one, 1), rel=1e-6)


@pytest.mark.slow
def test_five_hundred_layers():
    law = activity_hessian_law(square(500, 1.0))
    assert law.mass == pytest.approx(1.0, abs=1e-4)
    assert law.edges[0] * 500**3 == pytest.approx(33.46, rel=0.1)
    assert law.edges[1] == pytest.approx(27 / 4, rel=1e-4)


def test_what_does_not_converge_is_reported():
    with pytest.raises(NotConvergedError, match=r"is off by .* after 2 iterations, .*no density is reported"):
        activity_hessian_law(square(3, 1.0), max_iterations=2)
    at_best = activity_hessian_law(square(3, 1.0), tolerance=1e-300)
    assert 0 < at_best.residual < 1e-11  # what rounding leaves


@pytest.mark.parametrize(
    ("widths", "variance"), [((4, 6, 2), 1e-4), ((4, 6, 2), 1e-8), ((4, 300_000, 1), 1e-6), ((4, 10**7, 1), 1e-10)]
)
def test_a_narrow_band_beside_an_atom_is_found(widths: tuple[int, int, int], variance: float):
    """Marchenko and Pastur's, of a few directions of many."""
    law = activity_hessian_law(RandomChain(widths, (1.0, variance)))
    expected = marchenko_pastur(widths[1] / widths[2], widths[2] * variance).shifted(1.0)
    assert np.ravel(law.atoms) == pytest.approx(np.ravel(expected.atoms))
    width = np.diff(expected.bands[0])
    assert np.ravel(law.bands) / width == pytest.approx(np.ravel(expected.bands) / width, abs=5e-3)
    places = np.linspace(*law.bands[0], 20)
    continuous = 1 - law.atoms[0][1]
    assert law.cdf(places) / continuous == pytest.approx(expected.cdf(places) / continuous, abs=2e-3)


def test_a_band_of_one_direction_is_found():
    """Half a hundredth of the mass, far narrower than the grid, above a wide band."""
    one = RandomChain((5, 100, 100, 1, 4), (1.0, 0.01, 0.0, 1e-4), (0.0,) * 4, (1.0, 1.0, 8.0, 1.0))
    law = activity_hessian_law(one)
    expected = marchenko_pastur(1 / 4, 4e-4).shifted(8.0)
    assert np.array(law.bands[1:]) - 8 == pytest.approx(np.array(expected.bands) - 8, rel=1e-2)
    assert law.cdf(law.bands[1]) == pytest.approx([200 / 201, 1.0], abs=1e-5)


def test_a_peak_on_a_band_is_found():
    """Two halves that nothing links: the narrow band of the one lies within the wide one of the other."""
    wide = RandomChain((5, 40, 40, 2), (1.0, 1 / 40, 0.0))
    narrow = RandomChain((5, 2, 6), (1.0, 1e-6), (0.0, 0.0), (2.5, 1.0))
    both = RandomChain((5, 40, 40, 2, 6), (1.0, 1 / 40, 0.0, 1e-6), (0.0,) * 4, (1.0, 1.0, 2.5, 1.0))
    law, parts = activity_hessian_law(both), [activity_hessian_law(one) for one in (wide, narrow)]
    places = np.concatenate([np.linspace(0.2, 6.0, 30), np.linspace(*parts[1].bands[0], 30)])
    expected = (80 * parts[0].cdf(places) + 2 * parts[1].cdf(places)) / 82
    assert law.cdf(places) == pytest.approx(expected, abs=1e-3)
    assert law.mass == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("variance", "precision", "message"),
    [
        (1e-10, 1.0, r"chain: the quadrature of its density gives 0\.99"),
        (1e-300, 1.0, r"chain: the quadrature of its density gives 0\.8"),
        (1.0, 1e-285, "chain: the support reaches below 1e-280"),
    ],
)
def test_bands_that_are_too_narrow_are_refused(variance: float, precision: float, message: str):
    """Marchenko and Pastur's, of two of six directions, beside an atom."""
    with pytest.raises(NotConvergedError, match=message):
        activity_hessian_law(RandomChain((4, 6, 2), (1.0, variance), (0.0, 0.0), (precision, precision)))


def test_bands_that_rounding_hides_are_refused():
    """Marchenko and Pastur's, of one direction in ten million, as near to the atom as 1e-7."""
    with pytest.raises(NotConvergedError, match=r"chain: the bands that hold the mass near 1 were not found"):
        activity_hessian_law(RandomChain((4, 10**7, 1), (1.0, 1e-14)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: activity_hessian_law(chain((4, 4), 1.0)), r"widths are \(4, 4\): no hidden layer"),
        (
            lambda: activity_hessian_law(RandomChain((4, 4, 4), (1.0, 1e200), (0.0, 0.0), (1.0, 1e200))),
            "chain: precisions times widths, variances or skips are beyond double precision",
        ),
        (lambda: activity_hessian_law(square(2, 0.0)), r"no map of layers 2\.\.3 is random"),
        (lambda: activity_hessian_law(RandomChain((4, 4, 4), (1.0, 0.0))), r"no map of layers 2\.\.2 is random"),
        (lambda: activity_hessian_law(square(2, 1.0), points=0), "points is 0, expected a whole"),
        (lambda: activity_hessian_law(square(2, 1.0), points=True), "points is True, expected a whole"),
        (lambda: activity_hessian_law(square(2, 1.0), tolerance=0.0), "tolerance is 0.0, expected"),
        (lambda: activity_hessian_law(square(2, 1.0), max_iterations=0), "max_iterations is 0, expected"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
