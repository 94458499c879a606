"""Enclosures against fractions and mpmath: the value is inside, the radius is as small as was asked for."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import flint
import jax
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import pctheory
from pctheory import enclosures, saddles
from pctheory.enclosures import balls, contains, relative_radius

from . import oracles
from .cases import CASES, Case, case, rational_cases

EXACT = np.vectorize(Fraction, otypes=[object])


def exactly(given: Case) -> Case:
    """The case in fractions: its doubles as they are."""
    return given.converted(Fraction)


def is_zero(values: Any) -> bool:
    return not np.any(np.asarray(values))


def ends(ball: Any) -> tuple[Any, Any]:
    """The ball's ends as mpmath numbers, unrounded."""
    mid, rad = (mpmath.ldexp(int(m), int(e)) for m, e in (ball.mid().man_exp(), ball.rad().man_exp()))
    return mid - rad, mid + rad


def assert_around(ball: Any, value: Any, *, goal: float = balls.GOAL) -> None:
    """The ball holds mpmath's value, which is good to 60 digits, and is small."""
    lower, upper = ends(ball)
    blur = mpmath.mpf(10) ** -60 * abs(value)
    assert lower - blur <= value <= upper + blur
    assert relative_radius(ball) <= goal


@pytest.fixture(autouse=True)
def digits():
    with mpmath.workdps(80):
        yield


def assert_enclosed(made: Case) -> None:
    """Every enclosure of a case holds the value that fractions give, and so does the exact equilibrium."""
    true, net, data = exactly(made), made.net, (made.x, made.y)
    hidden = oracles.equilibrium(true)
    values = oracles.loss(true), oracles.energy(true, hidden), oracles.partial_weight_gradient(true, hidden)
    found = enclosures.exact_equilibrium(net, *data)
    assert (found.loss, found.energy) == values[:2]
    for parts, expected in (
        (found.activities, hidden),
        (found.errors, oracles.errors(true, hidden)),
        (found.gradient, values[2]),
    ):
        assert len(parts) == len(expected)
        assert all(np.array_equal(a, b) for a, b in zip(parts, expected, strict=True))
    assert contains(enclosures.enclosed_loss(net, *data), values[0])
    energy = enclosures.enclosed_equilibrated_energy(net, *data)
    assert contains(energy, values[1])
    assert relative_radius(energy) <= balls.GOAL
    assert contains(enclosures.enclosed_rescaling(net), oracles.rescaling(true))
    if not all(is_zero(g) for g in values[2]):  # a gradient of 0 has no relative radius unless it is exactly so
        gradient = enclosures.enclosed_equilibrated_gradient(net, *data)
        assert all(contains(a, b) for a, b in zip(gradient, values[2], strict=True))
        assert relative_radius(oracles.flat(gradient)) <= balls.GOAL


@pytest.mark.parametrize("made", CASES, ids=lambda made: made.name)
def test_enclosures_hold_the_values_in_fractions(made: Case):
    assert_enclosed(made)


@st.composite
def hostile_cases(draw: Any) -> Case:
    """Any widths, data and scales; scalings, skips, biases and precisions; zero layers and targets."""
    widths = draw(st.lists(st.integers(1, 3), min_size=2, max_size=5))
    made = case(
        "drawn",
        tuple(widths),
        seed=draw(st.integers(0, 10**6)),
        batch=draw(st.integers(1, 3)),
        **{name: draw(st.booleans()) for name in ("skips", "biases", "precisions", "scalings")},
        scale=draw(st.sampled_from([1e-150, 1e-8, 1.0, 1e8, 1e150])),
    )
    number = st.floats(-1e300, 1e300)
    for array in (made.x, made.y, *made.weights):
        if draw(st.integers(0, 3)) == 0:
            array[:] = draw(arrays(float, array.shape, elements=number | st.just(0.0)))
    return made


@settings(max_examples=40, deadline=None)
@given(hostile_cases())
def test_whatever_the_scales_the_value_is_inside(made: Case):
    assert_enclosed(made)


@pytest.mark.parametrize("goal", [1e-3, 2.0**-53, 2.0**-300, 2.0**-1000])
def test_the_radius_is_as_small_as_was_asked_for(goal: float):
    made = CASES[6]
    true = exactly(made)
    value = oracles.rescaled_loss(true, oracles.rescaling(true))
    ball = enclosures.enclosed_equilibrated_energy(made.net, made.x, made.y, goal=goal)
    assert contains(ball, value)
    assert relative_radius(ball) <= goal
    assert not contains(ball, value * (1 + Fraction(goal) * 2))
    low, high = enclosures.enclosed_extremes(np.array([[2.0, 1.0], [1.0, 5.0]]), goal=goal)
    with mpmath.workdps(700):
        root = mpmath.sqrt(13) / 2
        for ball, value in ((low, 3.5 - root), (high, 3.5 + root)):
            assert ends(ball)[0] <= value <= ends(ball)[1]
            assert relative_radius(ball) <= goal


@pytest.mark.parametrize("wrong", [1 + 2.0**-52, 1 - 2.0**-52, -1.0, 0.5])
def test_a_value_that_is_off_by_one_rounding_is_excluded(wrong: float):
    made = CASES[6]
    true, goal = exactly(made), 2.0**-60
    hidden = oracles.equilibrium(true)
    energy = enclosures.enclosed_equilibrated_energy(made.net, made.x, made.y, goal=goal)
    assert not contains(energy, oracles.energy(true, hidden) * Fraction(wrong))
    gradient = enclosures.enclosed_equilibrated_gradient(made.net, made.x, made.y, goal=2.0**-80)
    for found, exact in zip(gradient, oracles.partial_weight_gradient(true, hidden), strict=True):
        assert not any(
            contains(ball, value * Fraction(wrong)) for ball, value in zip(found.flat, exact.flat, strict=True)
        )


def test_an_exact_zero_is_found():
    made = next(made for made in CASES if made.name == "zero weights")
    assert enclosures.enclosed_loss(made.net, made.x, 0 * made.y) == 0
    assert enclosures.enclosed_equilibrated_energy(made.net, made.x, 0 * made.y) == 0
    interpolating = pctheory.LinearPCN([np.array([[0.1, 0.3]]), np.array([[0.7]])])
    x = np.array([[0.2, 0.4]])
    exact = Fraction(0.7) * (Fraction(0.1) * Fraction(0.2) + Fraction(0.3) * Fraction(0.4))
    loss = enclosures.exact_equilibrium(interpolating, x, np.array([[float(exact)]])).loss
    assert 0 < loss < 1e-30  # the target is rounded: the loss of floats is 0 or off by as much as it is
    assert contains(enclosures.enclosed_loss(interpolating, x, np.array([[float(exact)]])), loss)


# Eigenvalues


def test_path_graph():
    """Laplacian with clamped ends: 2 - 2 cos(k pi / (n + 1))."""
    n = 12
    low, high = enclosures.enclosed_extremes(2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1))
    step = mpmath.pi / (n + 1)
    assert_around(low, 2 - 2 * mpmath.cos(step))
    assert_around(high, 2 - 2 * mpmath.cos(n * step))


@pytest.mark.parametrize(("hidden", "width"), [(1, 1), (1, 4), (5, 3), (30, 4)])
def test_permutations_have_the_spectrum_of_the_path_with_repeated_extremes(hidden: int, width: int):
    turns = [np.eye(width)[np.random.default_rng(l).permutation(width)] for l in range(hidden + 1)]
    low, high = enclosures.enclosed_activity_hessian_extremes(pctheory.LinearPCN(turns))
    step = mpmath.pi / (hidden + 1)
    assert_around(low, 2 - 2 * mpmath.cos(step))
    assert_around(high, 2 - 2 * mpmath.cos(hidden * step))


def high_precision(matrix: Any) -> list[Any]:
    return sorted(
        mpmath.eigsy(
            mpmath.matrix(
                [[mpmath.mpf(int(v.numerator)) / int(v.denominator) for v in row] for row in EXACT(matrix)]
            ),
            eigvals_only=True,
        )
    )


@pytest.mark.parametrize("made", [c for c in CASES if c.depth > 1], ids=lambda made: made.name)
def test_activity_hessian_extremes(made: Case):
    values = high_precision(oracles.linear_system(exactly(made))[0])
    low, high = enclosures.enclosed_activity_hessian_extremes(made.net)
    assert_around(low, values[0])
    assert_around(high, values[-1])


def hilbert(n: int) -> np.ndarray:
    return np.array([[Fraction(1, i + j + 1) for j in range(n)] for i in range(n)], dtype=object)


MATRICES: dict[str, Any] = {
    "one number": np.array([[-3.0]]),
    "Hilbert, condition 1e18": hilbert(13),
    "Hilbert, negative": -hilbert(6),
    "indefinite": np.diag([-1e-40, 1.0, 2.0]) + np.eye(3, k=1) * 2.0**-80 + np.eye(3, k=-1) * 2.0**-80,
    "nearly repeated": np.diag([1.0, 1 + 2.0**-50, 5.0, 5 + 2.0**-48]),
    "repeated": np.diag([3, 3, 3, 7, 7]),
    "tiny": np.array([[2e-308, 1e-308], [1e-308, 3e-308]]),
    "huge": np.array([[2e300, 1e300], [1e300, -3e300]]),
    "whole numbers": np.array([[0, 1], [1, 0]]),
}  # fmt: skip


@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES.keys())
def test_extremes_of_symmetric_matrices(matrix: np.ndarray):
    values = high_precision(matrix)
    low, high = enclosures.enclosed_extremes(matrix)
    assert_around(low, values[0])
    assert_around(high, values[-1])
    with flint.ctx.workprec(400):
        wide = balls.balls().matrix(matrix)
    again = enclosures.enclosed_extremes(wide)
    assert all(a.overlaps(b) for a, b in zip(again, (low, high), strict=True))


def test_an_end_that_is_zero_is_found():
    ones = np.ones((4, 4))
    low, high = enclosures.enclosed_extremes(ones)
    assert low == 0
    assert contains(high, 4)
    assert enclosures.enclosed_extremes(-ones)[1] == 0
    assert enclosures.enclosed_extremes(0 * ones) == (0, 0)


def test_extremes_of_every_matrix_inside_the_balls():
    wide = np.array([[flint.arb(1, 0.125), flint.arb(0)], [flint.arb(0), flint.arb(2)]])
    low, high = enclosures.enclosed_extremes(wide, goal=0.5)
    for corner in (Fraction(7, 8), 1, Fraction(9, 8)):
        assert contains(low, corner)
    assert contains(high, 2)
    with pytest.raises(ArithmeticError, match="enclosed_extremes: not decided with 16384 bits"):
        enclosures.enclosed_extremes(wide, goal=0.1)


@pytest.mark.parametrize("seed", range(12))
def test_inertia_of_random_matrices(seed: int):
    """Of low rank too, with zeros on the diagonal."""
    random = np.random.default_rng(seed)
    n, rank = int(random.integers(1, 9)), int(random.integers(1, 9))
    factor = random.integers(-3, 4, (n, rank))
    matrix = factor @ np.diag(random.integers(-1, 2, rank)) @ factor.T
    np.fill_diagonal(matrix, np.diagonal(matrix) * random.integers(2))
    expected = saddles.exact_inertia(matrix)
    assert enclosures.decided_inertia(matrix) == expected
    assert enclosures.decided_inertia(matrix.astype(float) * 2.0**-660) == expected
    assert enclosures.decided_inertia(EXACT(matrix) / 3) == expected


@pytest.mark.parametrize(
    ("matrix", "inertia"),
    [
        (np.array([[1.0, 1.0], [1.0, 1 + 2.0**-52]]), (0, 0, 2)),
        (np.array([[1.0, 1.0], [1.0, 1 - 2.0**-53]]), (1, 0, 1)),
        (np.array([[1.0, 1.0], [1.0, 1.0]]), (0, 1, 1)),
        (np.diag([1.0, -5e-324, 0.0]), (1, 1, 1)),
        (hilbert(20), (0, 0, 20)),
    ],
)
def test_inertia_where_rounding_would_decide(matrix: np.ndarray, inertia: tuple[int, int, int]):
    assert enclosures.decided_inertia(matrix) == inertia


@pytest.mark.parametrize(
    "made", rational_cases(6, seed=5, depths=(2, 3), skips=False, biases=False, precisions=False)
)
def test_inertia_of_weight_hessians(made: Case):
    found = saddles.exact_derivatives(made.maps, made.x, made.y)
    assert enclosures.decided_inertia(found.hessian) == saddles.exact_inertia(found.hessian)


# The library's own floating-point numbers


@pytest.mark.parametrize("hidden", [64, 128])
def test_energy_in_floats_is_as_good_as_it_says(hidden: int):
    """Standard parameterisation with skips, N = 32, d_y = 10: eps sqrt(cond S), not eps cond S."""
    net = pctheory.standard((32, *(32,) * hidden, 10), seed=0, skips=True)
    random = np.random.default_rng(0)
    x, y = random.standard_normal((4, 32)), random.standard_normal((4, 10))
    true = enclosures.enclosed_equilibrated_energy(net, x, y)
    low, high = enclosures.enclosed_extremes(enclosures.enclosed_rescaling(net, goal=2.0**-200))
    error = abs(pctheory.equilibrated_energy(net, x, y) / float(true) - 1)
    assert error <= 4 * np.finfo(float).eps * float((high / low).sqrt())


def test_extremes_in_floats_are_as_good_as_they_say():
    """At a condition number of 1e10."""
    net = pctheory.standard((16, *(16,) * 40, 4), seed=0, skips=True)
    found = pctheory.activity_hessian_extremes(net)
    balls_of_ends = enclosures.enclosed_activity_hessian_extremes(net)
    for value, error, ball in zip((found.smallest, found.largest), found.errors, balls_of_ends, strict=True):
        assert abs(value / float(ball) - 1) <= error


# Bad input

NET = pctheory.LinearPCN([np.ones((3, 2)), np.ones((1, 3))])
X, Y = np.ones((4, 2)), np.ones((4, 1))
ENERGY = enclosures.enclosed_equilibrated_energy
REFUSED: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "not a number": (
        lambda: ENERGY(NET, X * np.nan, Y),
        ValueError,
        "x holds nan at index (0, 0); every entry must be finite",
    ),
    "no data": (
        lambda: enclosures.exact_equilibrium(NET, X[:0], Y[:0]),
        ValueError,
        "x is empty (shape (0, 2)); every axis needs at least one entry",
    ),
    "rows that do not fit": (
        lambda: enclosures.enclosed_loss(NET, X, Y[:2]),
        ValueError,
        "x has 4 rows and y has 2",
    ),
    "an activation": (
        lambda: ENERGY(pctheory.NonlinearPCN(NET, jax.numpy.tanh), X, Y),
        TypeError,
        "net is a NonlinearPCN, expected a LinearPCN",
    ),
    "inside jit": (
        lambda: jax.jit(lambda x: ENERGY(NET, x, Y) or x)(X),
        TypeError,
        "enclosed_equilibrated_energy: its numbers are not known inside jit, vmap and grad; call it outside",
    ),
    "a goal that is no goal": (
        lambda: ENERGY(NET, X, Y, goal=0.0),
        ValueError,
        "enclosed_equilibrated_energy: goal is 0.0, expected a positive relative radius, such as 2.0**-53",
    ),
    "no hidden layer": (
        lambda: enclosures.enclosed_activity_hessian_extremes(pctheory.LinearPCN([np.ones((1, 2))])),
        ValueError,
        "enclosed_activity_hessian_extremes: a network of depth 1 has no hidden layers; add one",
    ),
    "not symmetric": (
        lambda: enclosures.enclosed_extremes(np.array([[1.0, 2.0], [2.5, 1.0]])),
        ValueError,
        "enclosed_extremes: matrix has 2.5 at (1, 0) and 2.0 at (0, 1); symmetrise it",
    ),
    "not square": (
        lambda: enclosures.decided_inertia(np.ones((2, 3))),
        ValueError,
        "decided_inertia: matrix has shape (2, 3), expected n x n with n of at least 1",
    ),
    "empty": (
        lambda: enclosures.decided_inertia(np.ones((0, 0))),
        ValueError,
        "decided_inertia: matrix has shape (0, 0), expected n x n with n of at least 1",
    ),
    "an infinite entry": (
        lambda: enclosures.decided_inertia(np.array([[np.inf]])),
        ValueError,
        "decided_inertia: matrix holds inf at (0, 0), expected finite numbers",
    ),
    "text": (
        lambda: enclosures.enclosed_extremes([[None]]),
        TypeError,
        "enclosed_extremes: matrix holds None at (0, 0), expected doubles, whole numbers and fractions, or balls",
    ),
    "a ball that holds 0": (
        lambda: enclosures.decided_inertia([[flint.arb(0, 1)]]),
        ArithmeticError,
        "decided_inertia: not decided with 16384 bits",
    ),
    "too large": (
        lambda: enclosures.enclosed_extremes(np.broadcast_to(1.0, (10**5, 10**5))),
        MemoryError,
        "enclosed_extremes: 40000000000 x 24 numbers need",
    ),
}


@pytest.mark.parametrize(("call", "kind", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused(call: Callable[[], object], kind: type[Exception], message: str):
    with pytest.raises(kind) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_flint_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(balls, "flint", None)
    for call in (lambda: ENERGY(NET, X, Y), lambda: enclosures.decided_inertia(np.eye(2)), lambda: contains(1, 1)):
        with pytest.raises(ImportError, match=r"enclosures need python-flint: pip install 'pctheory\[rigorous\]'"):
            call()
