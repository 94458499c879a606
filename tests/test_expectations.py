"""Closed forms for random chains, against enumeration, sampling and by hand."""

import math
from itertools import pairwise

import numpy as np
import pytest

import pctheory
from pctheory.random_matrix import RandomChain, standard_variances
from pctheory.random_matrix.expectations import (
    expected_forward_pass,
    expected_relu_forward_pass,
    expected_rescaling,
    forward_pass_variance,
    orthogonal_variances,
    rescaling_moments,
    typical_forward_pass,
)

CHAIN = RandomChain(
    (3, 4, 4, 5, 5, 2), (0.3, 0.2, 0.25, 0.3, 0.4), (0.0, 0.7, 0.0, 0.9, 0.0), (1.0, 2.0, 0.5, 1.0, 3.0)
)
COUNT = 40_000


@pytest.fixture(scope="module")
def sampled():
    """|z_l|^2 / N_l and S_l of networks of `CHAIN` with normal weights, from the input (1, -2, 0.5)."""
    rng = np.random.default_rng(0)
    z, s, squares, sums = np.tile([[1.0], [-2.0], [0.5]], (COUNT, 1, 1)), None, [], []
    layers = zip(CHAIN.variances, CHAIN.skips, CHAIN.precisions, CHAIN.widths, CHAIN.widths[1:], strict=False)
    for v, skip, precision, below, width in layers:
        a = np.sqrt(v) * rng.standard_normal((COUNT, width, below)) + skip * np.eye(width, below)
        own = np.eye(width) / precision
        z, s = a @ z, np.tile(own, (COUNT, 1, 1)) if s is None else own + a @ s @ a.transpose(0, 2, 1)
        squares.append((z**2).mean(axis=(1, 2)))
        sums.append(s)
    return squares, sums


def within(values, expected, errors=4.0):
    """The mean is as expected, up to standard errors: 4 for the dozens of comparisons made here."""
    assert abs(values.mean() - expected) <= errors * values.std() / np.sqrt(len(values)) + 1e-12 * abs(expected)


def test_forward_pass_of_sampled_networks(sampled):
    q0 = (1 + 4 + 0.25) / 3
    laws = expected_forward_pass(CHAIN, q0), forward_pass_variance(CHAIN), typical_forward_pass(CHAIN, q0)
    for squares, mean, variance, typical in zip(sampled[0], *laws, strict=True):
        within(squares, mean)
        within(np.log(squares), np.log(typical))
        within((squares / mean - 1) ** 2, variance)


def test_rescaling_of_sampled_networks(sampled):
    moments = rescaling_moments(CHAIN)
    np.testing.assert_array_equal(moments.mean, expected_rescaling(CHAIN))
    for l, s in enumerate(sampled[1]):
        mean, width = moments.mean[l], s.shape[1]
        trace = np.trace(s, axis1=1, axis2=2) / width
        within(trace, mean)
        within((trace - mean) ** 2, moments.variance[l])
        within(((s - mean * np.eye(width)) ** 2).sum(axis=(1, 2)) / width, moments.anisotropy[l])
        within(s[:, 0, 1], 0.0)


def test_library_networks_are_of_the_ensemble():
    widths = (3, 6, 6, 2)
    nets = {
        "mupc": (lambda seed: pctheory.mupc(widths, seed=seed, gamma=0.5, output_precision=2.0), 1.0),
        "standard": (lambda seed: pctheory.standard(widths, seed=seed), standard_variances(widths)),
    }
    for make, variances in nets.values():
        chain = RandomChain.of(make(0), variances)
        traces = np.array([np.trace(pctheory.rescaling(make(seed))) / 2 for seed in range(200)])
        within(traces, expected_rescaling(chain)[-1])
        x = np.ones((1, 3))
        outputs = np.array([np.mean(pctheory.feedforward(make(seed), x)[-1] ** 2) for seed in range(200)])
        within(outputs, expected_forward_pass(chain)[-1])


def test_orthogonal_weights():
    widths = (5, 3, 3, 7, 2)
    chain = RandomChain(widths, orthogonal_variances(widths, 0.5))
    rng, s, z = np.random.default_rng(1), [], []
    for _ in range(4000):
        found, activity = np.eye(3), np.ones(5)
        for l, (below, width) in enumerate(pairwise(widths)):
            q = np.linalg.qr(rng.standard_normal((max(below, width), min(below, width))))[0]
            q = q * rng.choice([-1, 1], q.shape[1])
            a = np.sqrt(0.5) * (q if width >= below else q.T)
            activity = a @ activity
            found = np.eye(width) + a @ found @ a.T if l else found
        s.append(np.trace(found) / 2)
        z.append(np.mean(activity**2))
    within(np.array(s), expected_rescaling(chain)[-1])
    within(np.array(z), expected_forward_pass(chain)[-1])
    wrong = RandomChain(widths, standard_variances(widths, 0.5))
    assert abs(expected_rescaling(wrong)[-1] - np.mean(s)) > 10 * np.std(s) / np.sqrt(4000)


@pytest.mark.parametrize("depth", [1, 2, 3, 64, 500])
def test_closed_forms_of_mupc(depth):
    n, grown = 32, (1 + 1 / depth) ** (depth - 1)
    widths = (n,) * (depth + 1)
    inner = max(depth - 2, 0)
    last = [1 / n**2] if depth > 1 else []
    chain = RandomChain(
        widths, (1 / n, *[1 / (n * depth)] * inner, *last), (0.0, *[1.0] * inner, *[0.0] * len(last))
    )
    sigma, q = expected_rescaling(chain), expected_forward_pass(chain)
    assert sigma[-1] == pytest.approx(1 + depth / n * (grown - 1), rel=1e-12)
    assert q[max(depth - 2, 0)] == pytest.approx((1 + 1 / depth) ** max(depth - 2, 0), rel=1e-12)
    assert len(sigma) == len(q) == depth


def test_depth_one_is_the_precision():
    chain = RandomChain((3, 2), (0.5,), (), (4.0,))
    moments = rescaling_moments(chain)
    assert moments.mean.tolist() == [0.25]
    assert moments.variance.tolist() == moments.anisotropy.tolist() == [0.0]


def test_without_skips_single_networks_fall_short():
    chain = RandomChain((128,) * 513, (1 / 128,) * 512)
    assert expected_forward_pass(chain)[-1] == pytest.approx(1.0)
    assert forward_pass_variance(chain)[-1] == pytest.approx((1 + 2 / 128) ** 512 - 1)
    # E log(chi^2_N / N) is -1/N - 1/(3 N^2) + O(N^-4)
    assert np.log(typical_forward_pass(chain)[-1]) == pytest.approx(-512 * (1 / 128 + 1 / (3 * 128**2)), rel=1e-5)


def test_typical_of_a_strong_skip_and_of_no_randomness():
    weak = RandomChain((16, 16), (1e-9,), (1.0,))
    assert typical_forward_pass(weak)[-1] == pytest.approx(1 + (16 - 2) * 1e-9, abs=1e-13)
    fixed = RandomChain((4, 4), (0.0,), (0.5,))
    assert typical_forward_pass(fixed).tolist() == pytest.approx([0.25])
    assert forward_pass_variance(fixed).tolist() == [0.0]


def test_scalar_chain_by_hand():
    """Width 1, two layers: S = 1 + w^2, E S = 1 + v, Var S = 2 v^2."""
    moments = rescaling_moments(RandomChain((1, 1, 1), (1.0, 0.3)))
    np.testing.assert_allclose([moments.mean[-1], moments.variance[-1], moments.anisotropy[-1]], [1.3, 0.18, 0.18])


def test_relu_halves_and_says_where_it_is_exact():
    sp = RandomChain((8, 8, 8, 8), (1 / 8,) * 3)
    np.testing.assert_allclose(expected_relu_forward_pass(sp), [1, 1 / 2, 1 / 4])
    skips = RandomChain((8, 8, 8, 8), (1 / 8,) * 3, (0.0, 1.0, 0.0))
    np.testing.assert_allclose(expected_relu_forward_pass(skips), [1, 3 / 2, 3 / 4])


def test_output_wider_than_hidden_layers():
    chain = RandomChain((2, 1, 5), (1.0, 1.0))
    assert expected_rescaling(chain)[-1] == 2.0
    assert rescaling_moments(chain).anisotropy[-1] == pytest.approx(5 + 1)  # (S - 2I) = w w^T - I: (n+1) at N = 1


# --- bad input ---


def test_refuses_bad_arguments():
    with pytest.raises(ValueError, match=r"mean_square_input is -1.*at least 0"):
        expected_forward_pass(CHAIN, -1.0)
    with pytest.raises(ValueError, match=r"mean_square_input is nan"):
        typical_forward_pass(CHAIN, math.nan)
    with pytest.raises(ValueError, match=r"skips, layer 1 is 1.0, expected 0"):
        expected_relu_forward_pass(RandomChain((2, 2), (1.0,), (1.0,)))
    with pytest.raises(ValueError, match=r"layer 2 has variance 0 and no skip"):
        forward_pass_variance(RandomChain((2, 2, 2), (1.0, 0.0)))


@pytest.mark.parametrize("function", [expected_rescaling, expected_forward_pass, rescaling_moments])
def test_overflow_is_reported_with_its_layer(function):
    chain = RandomChain((4,) * 1201, (0.25,) * 1200, (0.0, *[1.0] * 1199))
    with pytest.raises(FloatingPointError, match=r"layer \d+ is (inf|nan), beyond double precision"):
        function(chain)


@pytest.mark.parametrize(
    "function",
    [
        expected_rescaling,
        rescaling_moments,
        expected_forward_pass,
        expected_relu_forward_pass,
        typical_forward_pass,
    ],
)
@pytest.mark.parametrize("skip", [0.0, 1e300])
def test_overflow_within_a_layer_is_reported_without_a_warning(function, skip):
    chain = RandomChain((2, 10**18, 10**18, 10**18), (1.0, 1e300, 1e300), (0.0, skip, skip), (1.0, 1e-300, 1.0))
    with pytest.raises(FloatingPointError, match=r"layer \d is (inf|nan), beyond double precision"):
        function(chain)


def test_variance_of_the_forward_pass_has_no_size():
    for variance in (5e-324, 1e-300, 1.0, 1e300):
        assert forward_pass_variance(RandomChain((3, 4), (variance,))) == pytest.approx(2 / 4)
        assert forward_pass_variance(RandomChain((4, 4), (variance,), (1e-200,)))[0] <= 2 / 4


def test_zero_input_stays_zero():
    assert not expected_forward_pass(CHAIN, 0.0).any()
    assert not typical_forward_pass(CHAIN, 0.0).any()
