"""Critical points: the families, their kinds in floats and in fractions, and the search for them."""

import pickle
from collections import Counter
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from multiprocessing import get_context

import jaxtyping
import numpy as np
import pytest

import pctheory
from pctheory import saddles
from pctheory.claims import TOLERANCE, scaled_error
from pctheory.saddles import exact
from tests import oracles
from tests.cases import exact as fraction
from tests.cases import rational_cases
from tests.critical_points import EXACT, critical_point, points

ENERGY = saddles.Derivatives(pctheory.equilibrated_energy, pctheory.weight_gradient, pctheory.weight_hessian_dense)
LOSS = replace(ENERGY, objective=pctheory.loss)
BOTH = pytest.mark.parametrize("derivatives", [ENERGY, LOSS], ids=["energy", "loss"])
RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 3)) @ RNG.standard_normal((3, 3))  # not white
Y = X @ RNG.standard_normal((3, 2))
NOISY = Y + RNG.standard_normal(Y.shape)
SHAPES = [(3, 4, 2), (3, 2, 4, 2, 2), (3, 1, 2)]


@pytest.fixture
def without_shape_checks():
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def gradient_size(derivatives, net, x, y) -> float:
    gradient = derivatives.gradient(derivatives.objective, net, x, y)
    return float(np.linalg.norm(gradient)) / float(derivatives.objective(net, x, y))


def whole_map(net: pctheory.LinearPCN) -> np.ndarray:
    product = np.eye(net.widths[0])
    for a in net.maps:
        product = np.asarray(a) @ product
    return product


def least_squares_directions() -> tuple[np.ndarray, np.ndarray]:
    """The least-squares map C of the noisy data, and eigenvectors of the second moments of C x, largest first."""
    fit = np.linalg.lstsq(X, NOISY, rcond=None)[0].T
    moments = fit @ X.T @ X @ fit.T
    return fit, np.linalg.eigh(moments)[1][:, ::-1]


# --- families ---


@pytest.mark.parametrize("widths", SHAPES)
@pytest.mark.parametrize("chosen", [(), (1,), (2,), (2, 1)])
def test_rank_k_points_project_the_least_squares_map(widths, chosen):
    if len(chosen) > min(widths):
        return
    net = saddles.rank_k_critical_point(widths, X, NOISY, chosen, seed=1, free=0.5)
    fit, directions = least_squares_directions()
    u = directions[:, [k - 1 for k in chosen]]
    assert scaled_error(whole_map(net), u @ u.T @ fit, scale=np.abs(fit).max()) < TOLERANCE
    assert gradient_size(LOSS, net, X, NOISY) < 1e-12
    assert saddles.classification(net, X, NOISY, LOSS).rank == len(chosen)
    if chosen and min(widths) >= len(chosen):  # noise along the fit: the last layer sees it
        assert saddles.classification(net, X, NOISY, ENERGY).kind == "not critical"


@pytest.mark.parametrize("widths", SHAPES)
def test_rank_k_points_are_critical_for_the_energy_where_y_is_linear_in_x(widths):
    for chosen in [(), (1,), (2,)]:
        net = saddles.rank_k_critical_point(widths, X, Y, chosen, seed=2, free=1.0)
        assert gradient_size(ENERGY, net, X, Y) < 1e-12
        energy, loss = (saddles.classification(net, X, Y, d).value for d in (ENERGY, LOSS))
        assert energy == pytest.approx(loss, rel=1e-12)


def test_shares_set_the_balance():
    equal = saddles.global_minimum((3, 4, 3, 2), X, Y)
    w = [np.asarray(w) for w in equal.weights]
    for below, above in pairwise(w):
        np.testing.assert_allclose(above.T @ above, below @ below.T, atol=1e-12)
    uneven = saddles.global_minimum((3, 4, 3, 2), X, Y, shares=(1.0, 0.0, 0.0), seed=0)
    np.testing.assert_allclose(np.linalg.svd(uneven.weights[2])[1], 1.0, rtol=1e-12)
    np.testing.assert_allclose(whole_map(uneven), whole_map(equal), atol=1e-12)
    for net in (equal, uneven):
        assert [saddles.classification(net, X, Y, d).kind for d in (ENERGY, LOSS)] == ["minimum", "minimum"]


def test_least_loss_where_y_depends_on_x_along_one_direction_only():
    y = Y[:, :1] * np.array([1.0, -2.0])
    net = saddles.global_minimum((3, 3, 2), X, y)
    found = saddles.classification(net, X, y, LOSS)
    assert (found.kind, found.rank) == ("minimum", 1)


def test_the_free_part_is_free_and_a_depth_of_one_has_none():
    fixed, turned, free = (
        saddles.rank_k_critical_point((3, 3, 3, 2), X, Y, (1,), **options)
        for options in ({}, {"seed": 3}, {"seed": 3, "free": 1.0})
    )
    ranks = [np.linalg.matrix_rank(net.weights[1]) for net in (fixed, turned, free)]
    assert ranks == [1, 1, 3]
    np.testing.assert_allclose(whole_map(free), whole_map(fixed), atol=1e-12)
    single = saddles.rank_k_critical_point((3, 2), X, Y, (1, 2))
    np.testing.assert_allclose(np.asarray(single.weights[0]), np.linalg.lstsq(X, Y, rcond=None)[0].T, atol=1e-12)


@BOTH
def test_origin_and_zero_rank_saddles(derivatives):
    for net in (pctheory.mupc((3, 4, 4, 4, 2), seed=0), pctheory.standard((3, 5, 2, 4, 2), seed=1)):
        zero = saddles.origin(net)
        assert not any(np.any(w) for w in zero.weights)
        saddle = saddles.zero_rank_saddle(net)
        again = saddles.zero_rank_saddle(saddle)
        hidden = [np.asarray(w) for w in net.weights][1:-1]
        for l, w in enumerate(hidden, start=1):
            np.testing.assert_array_equal(saddle.weights[l], w)
        for point in (zero, saddle):
            assert not np.any(point.weights[-1])
            np.testing.assert_allclose(pctheory.feedforward(point, X)[-2], 0.0, atol=1e-12)
            assert gradient_size(derivatives, point, X, NOISY) < 1e-12
        for w, w_again in zip(saddle.weights, again.weights, strict=True):
            np.testing.assert_allclose(w_again, w, atol=1e-12)
    assert np.any(saddle.weights[0])  # below the bottleneck of 2 there is a kernel


# --- exact ---


@pytest.mark.parametrize("equilibrated", [True, False])
def test_exact_derivatives_against_taylor_coefficients_and_autodiff(equilibrated):
    plain = {"biases": False, "skips": False, "precisions": False, "scalings": False}
    derivatives = ENERGY if equilibrated else LOSS
    for i, given in enumerate(rational_cases(8, seed=900, depths=(1, 4), **plain)):
        found = saddles.exact_derivatives(given.weights, given.x, given.y, equilibrated=equilibrated)
        rng = np.random.default_rng(i)
        for _ in range(4):
            change = [EXACT(rng.integers(-3, 4, w.shape)) for w in given.weights]
            flat = oracles.flat(change)
            value, slope, bend = oracles.along(given, change, rescaled=equilibrated)
            assert (found.value, found.gradient @ flat) == (value, slope)
            assert flat @ found.hessian @ flat == 2 * bend
        if i < 2:
            rounded = given.converted(float)
            arguments = derivatives.objective, rounded.net, rounded.x, rounded.y
            assert scaled_error(derivatives.hessian(*arguments), found.hessian.astype(float)) < TOLERANCE


def test_exact_inertia_against_a_congruence():
    """Sylvester: B D B^T has the inertia of D, for any invertible B."""
    rng = np.random.default_rng(0)
    for size in range(1, 9):
        diagonal = EXACT(rng.integers(-2, 3, size))
        unit = EXACT(np.tril(rng.integers(-2, 3, (size, size)), -1) + np.eye(size, dtype=int))
        signs = [int((np.sign(diagonal.astype(int)) == s).sum()) for s in (-1, 0, 1)]
        assert list(saddles.exact_inertia(unit * diagonal @ unit.T)) == signs


def test_exact_and_rounded_classification_agree():
    shapes = ((2, 2, 2), (2, 1, 2), (2, 3, 2, 2))
    kinds = Counter()
    for point in points(plain=True, shapes=shapes):
        given = point.case
        ours = saddles.exact_classification(given.weights, given.x, given.y)
        rounded = given.converted(float)
        close = saddles.classification(rounded.net, rounded.x, rounded.y, ENERGY)
        assert (ours.kind, ours.rank, ours.inertia) == (close.kind, close.rank, close.inertia), given.name
        assert ours.gradient_norm == 0
        hessian = ENERGY.hessian(ENERGY.objective, rounded.net, rounded.x, rounded.y)
        np.testing.assert_allclose(close.smallest, np.linalg.eigvalsh(hessian).min(), atol=1e-12)
        assert (close.smallest < -1e-9) == (ours.inertia[0] > 0)
        kinds[ours.kind] += 1
    assert kinds["strict saddle"] > 10
    assert kinds["non-strict"] > 0  # the best fit of rank one below a bottleneck, until `least` says so


def test_exact_derivatives_are_in_the_fractions_given():
    weights, x, y = [[[1, 2]], [[3]]], [[1, 1]], [[2]]
    plain, ours = (
        saddles.exact_derivatives([np.vectorize(kind, otypes=[object])(w) for w in weights], x, y)
        for kind in (Fraction, fraction)
    )
    for one, other in ((plain.hessian, ours.hessian), (plain.gradient, ours.gradient)):
        np.testing.assert_array_equal(one, other)
    assert plain.value == ours.value
    assert isinstance(plain.value, Fraction)
    assert isinstance(ours.value, type(fraction()))


def test_non_strict_saddle_and_what_moves_it():
    x, y = [[1], [1]], [[1], [-1]]
    for w_1, inertia, kind in (
        (1, (0, 2, 0), "non-strict"),
        (2, (0, 1, 1), "non-strict"),
        (0, (1, 1, 0), "strict saddle"),
    ):
        found = saddles.exact_classification([[[w_1]], [[0]]], x, y)
        assert (found.inertia, found.kind, found.value) == (inertia, kind, 0.5)
    assert saddles.exact_classification([[[1]], [[1]]], x, y).kind == "not critical"
    assert saddles.exact_classification([[[1]], [[0]]], x, y, least=Fraction(1, 2)).kind == "minimum"


def test_without_flint_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(exact, "flint", None)
    with pytest.raises(ImportError, match=r"need python-flint: pip install 'pctheory\[rigorous\]'"):
        saddles.exact_inertia([[1]])


# --- classification ---


def test_kinds_do_not_depend_on_the_units_of_the_data():
    for factor in (1e-4, 1e4):
        net = saddles.rank_k_critical_point((3, 3, 3, 2), factor * X, factor * Y, (1,))
        assert saddles.classification(net, factor * X, factor * Y, ENERGY).kind == "strict saddle"
        moved = pctheory.net_at(net, pctheory.weight_vector(net) + 1e-3)
        assert saddles.classification(moved, factor * X, factor * Y, ENERGY).kind == "not critical"


def test_a_minimum_is_one_whose_value_is_least_or_whose_curvature_is_positive():
    net = saddles.rank_k_critical_point((3, 1, 2), X, Y, (1,))
    found = saddles.classification(net, X, Y, LOSS)
    assert (found.kind, found.inertia[0]) == ("non-strict", 0)
    assert saddles.classification(net, X, Y, LOSS, least=found.value).kind == "minimum"
    single = saddles.rank_k_critical_point((3, 2), X, NOISY, (1, 2))
    assert saddles.classification(single, X, NOISY, LOSS).kind == "minimum"


# --- search ---

pctheory.enable_x64()
NET = pctheory.standard((2, 2, 2), seed=0)
XS = X[:, :2]
YS = XS @ np.diag([2.0, 1.0])


class Counting(Executor):
    """Runs units at once, and breaks before the unit of this number."""

    def __init__(self, broken=None):
        self.done, self.broken = 0, broken

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        if self.done == self.broken:
            future.set_exception(KeyboardInterrupt())
        else:
            future.set_result(fn(*args, **kwargs))
            self.done += 1
        return future


def found(**options):
    settings = {"starts": 24, "seed": 0, "at_once": 8} | options
    return saddles.critical_point_search(NET, XS, YS, ENERGY, **settings)


@pytest.fixture(scope="module")
def all_found():
    return found()


def same(ours, others) -> bool:
    pairs = list(zip(ours, others, strict=True))
    return all(
        a.start == b.start and np.array_equal(pctheory.weight_vector(a.net), pctheory.weight_vector(b.net))
        for a, b in pairs
    )


def test_what_is_found_is_critical(all_found):
    assert len(all_found) > 12
    for point in all_found:
        assert point.classification.kind in ("strict saddle", "minimum")
        given = saddles.classification(point.net, XS, YS, ENERGY)
        assert given == point.classification
        assert given.gradient_norm < 1e-10
    assert {point.classification.rank for point in all_found} >= {0, 2}
    worst = saddles.least_strict(all_found)
    assert worst.classification.smallest == max(
        p.classification.smallest for p in all_found if p.classification.kind != "minimum"
    )


def test_neither_executor_nor_units_change_what_is_found(all_found):
    with ThreadPoolExecutor(2) as threads:
        assert same(all_found, found(executor=threads))
    assert same(all_found[:3], found(starts=all_found[3].start))


def test_an_interrupted_search_goes_on(all_found, tmp_path):
    state = tmp_path / "search.npz"
    with pytest.raises(KeyboardInterrupt):
        found(executor=Counting(broken=2), state=state)
    assert [file.name for file in tmp_path.iterdir()] == ["search.npz"]
    rest = Counting()
    assert same(all_found, found(executor=rest, state=state))
    assert rest.done == 1
    nothing = Counting()
    assert same(all_found, found(executor=nothing, state=state))
    assert nothing.done == 0
    with pytest.raises(ValueError, match=r"is of another search; give another file or remove it"):
        found(seed=1, state=state)


def test_units_are_small_and_can_be_sent(all_found):
    class Kept(Counting):
        def submit(self, fn, unit):
            sent = pickle.dumps(unit)
            assert len(sent) < 20_000
            return super().submit(fn, pickle.loads(sent))

    assert same(all_found, found(executor=Kept()))


@pytest.mark.slow
def test_processes_find_the_same(all_found):
    with ProcessPoolExecutor(2, get_context("spawn"), initializer=pctheory.enable_x64) as pool:
        assert same(all_found, found(executor=pool))


def test_a_run_to_infinity_is_no_critical_point():
    """Noisy data, depth 3: F* has no minimiser, and every critical point has W_L = 0."""
    net = pctheory.standard((2, 2, 2, 2), seed=0)
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((6, 2)), rng.standard_normal((6, 2))
    points = saddles.critical_point_search(net, x, y, ENERGY, starts=32, at_once=32, seed=0)
    assert 4 < len(points) < 32
    for point in points:
        assert np.abs(point.net.weights[-1]).max() < 1e-6
        assert point.classification.kind == "strict saddle"


def _below_a_bottleneck(widths, starts: int) -> Counter:
    """Kinds of the points found: with y linear in x, strict but for the best fit of rank N_{L-1}."""
    rng = np.random.default_rng(sum(widths))
    x = rng.standard_normal((6, widths[0]))
    y = x @ rng.standard_normal((widths[0], widths[-1]))
    missed = np.linalg.svd(y / np.sqrt(len(y)))[1][widths[-2] :]
    least = float((missed**2).sum()) / 2
    points = saddles.critical_point_search(
        pctheory.standard(widths, seed=0), x, y, ENERGY, starts=starts, seed=1, least=least
    )
    return Counter(point.classification.kind for point in points)


@pytest.mark.parametrize(
    ("widths", "starts"),
    [
        ((2, 1, 2), 64),
        *(
            pytest.param(widths, 256, marks=pytest.mark.slow)
            for widths in ((3, 2, 3), (3, 1, 3), (3, 3, 2, 3), (3, 2, 1, 3), (3, 1, 2, 3), (3, 3, 3, 2, 3))
        ),
    ],
)
def test_below_a_bottleneck_all_but_the_best_fit_are_strict(widths, starts):
    kinds = _below_a_bottleneck(widths, starts)
    assert kinds["strict saddle"] > 0
    assert kinds["minimum"] > 0 or min(widths) < widths[-2]  # narrower below: the energy has no minimiser
    assert set(kinds) <= {"strict saddle", "minimum"}


# --- bad input ---

BAD = {
    "biases": (
        lambda: saddles.origin(pctheory.LinearPCN([np.ones((2, 2))] * 2, biases=[np.ones(2)] * 2)),
        "origin: the net has biases, with which it is not critical; set them to 0",
    ),
    "no hidden layer": (
        lambda: saddles.zero_rank_saddle(pctheory.LinearPCN([np.ones((2, 2))])),
        "zero_rank_saddle: a network of depth 1 has no such saddle; give it a hidden layer",
    ),
    "skip at the end": (
        lambda: saddles.origin(pctheory.LinearPCN([np.ones((2, 2))] * 2, skips=[0.0, 1.0])),
        "origin: skips, layer 2 is 1.0, expected 0 in the first and last layer",
    ),
    "a rank too large": (
        lambda: saddles.rank_k_critical_point((3, 1, 2), X, Y, (1, 2)),
        "directions has 2 entries, more than the narrowest layer holds; take 1 at most",
    ),
    "a rank that is no whole number": (
        lambda: saddles.rank_k_critical_point((3, 2, 2), X, Y, (1.5,)),
        r"directions holds 1.5, expected whole numbers from 1 to min\(d_x, d_y\) = 2",
    ),
    "a direction twice": (
        lambda: saddles.rank_k_critical_point((3, 2, 2), X, Y, (1, 1)),
        r"directions is \[1, 1\], expected each at most once",
    ),
    "a direction without signal": (
        lambda: saddles.rank_k_critical_point((3, 2, 2), X, Y[:, :1] * [1.0, 1.0], (2,)),
        "directions holds 2, but y depends on x along 1 only; leave it out",
    ),
    "shares": (
        lambda: saddles.global_minimum((3, 2, 2), X, Y, shares=(1.0, 1.0)),
        r"shares is \(1.0, 1.0\), expected 2 numbers, one per layer, that add up to 1",
    ),
    "free without seed": (
        lambda: saddles.rank_k_critical_point((3, 2, 2), X, Y, (1,), free=1.0),
        "free is 1.0 without a seed; give one",
    ),
    "no starts": (lambda: found(starts=0), "starts is 0, expected a whole number of at least 1"),
    "no saddle": (lambda: saddles.least_strict([]), "points holds no saddle; search from more starts"),
    "a tolerance of 0": (
        lambda: saddles.classification(NET, XS, YS, ENERGY, tolerance=0.0),
        "tolerance is 0.0, expected a number between 0 and 1",
    ),
    "rounded numbers": (
        lambda: saddles.exact_derivatives([[[0.5]]], [[1]], [[1]]),
        "weights, layer 1 holds 0.5, expected whole numbers or fractions; convert it to Fraction",
    ),
    "shapes": (
        lambda: saddles.exact_derivatives([[[1]], [[1, 1]]], [[1]], [[1]]),
        r"weights, layer 2 has shape \(1, 2\), expected \(any, 1\)",
    ),
    "not symmetric": (lambda: saddles.exact_inertia([[1, 2], [3, 4]]), "must equal its transpose"),
    "an infinite objective": (
        lambda: saddles.critical_point_search(NET, XS, YS, INFINITE, starts=1, seed=0),
        "objective is inf at this network, expected a finite number; rescale weights",
    ),
}
INFINITE = replace(ENERGY, objective=lambda net, x, y: np.inf)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, message = BAD[name]
    with pytest.raises((ValueError, TypeError, FloatingPointError), match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_points_of_the_constructor_are_critical():
    """What the claims rest on, by the library: gradients of float networks with skips, scalings and precisions."""
    for seed, widths in enumerate([(3, 3, 2), (2, 3, 3, 2)]):
        given = critical_point(seed, widths, (0,), noise=1).case.converted(float)
        for derivatives in (ENERGY, LOSS):
            assert gradient_size(derivatives, given.net, given.x, given.y) < 1e-10
