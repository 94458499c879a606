"""Training at infinite width: closed recursions, hand calculation, wide networks, limits and bad input."""

from dataclasses import replace

import jaxtyping
import numpy as np
import pytest

from figures._wide_networks import Setting, ensemble, whitened_batch
from paper_checks import limits_2026_dmft as routes
from pctheory.mean_field import MeanFieldDescent, lazy_descent, mean_field_descent

X, Y = whitened_batch(4, seed=3)


@pytest.fixture
def no_shape_checks():
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def descent(given: Setting) -> MeanFieldDescent:
    return mean_field_descent(given.x, given.y, gamma=given.gamma, **given.options)


def assert_close(found, expected, scale):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * scale)


# --- twins ---


@pytest.mark.parametrize(
    ("depths", "twin", "steps"),
    [
        ([2], routes._by_gram_matrices, 20),
        ([3], routes._by_catalan_numbers, 6),
        ([2, 3, 4, 7], routes._at_all_times, 6),
    ],
    ids=["Gram matrices", "Catalan numbers", "all times"],
)
def test_predictions_against_another_route(depths, twin, steps):
    for given in routes._drawn(12, depths, seed=50, steps=steps):
        assert_close(descent(given).predictions, twin(given), np.abs(given.y).max())


def test_responses_are_seen_by_the_twins():
    (given,) = routes._drawn(1, [3], seed=51, steps=6)
    wrong = routes._at_all_times(given, responses=False)
    assert np.abs(wrong - routes._by_catalan_numbers(given)).max() > 1e-3 * np.abs(given.y).max()


def test_losses_are_those_of_the_predictions():
    found = mean_field_descent(X, Y, depth=3, rate=0.05, steps=10)
    expected = [np.mean(np.sum((Y - f) ** 2, axis=1)) / 2 for f in found.predictions]
    np.testing.assert_allclose(found.losses, expected, rtol=1e-14)
    assert (np.diff(found.losses) < 0).all()


# --- by hand ---


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_first_step_is_that_of_the_tangent_kernel(depth):
    found = mean_field_descent(X, Y, depth=depth, rate=0.03, steps=2, gamma=1.7)
    np.testing.assert_array_equal(found.predictions[0], 0 * Y)
    assert_close(found.predictions[1], 0.03 * depth / 4 * (X @ X.T / 4) @ Y, 1.0)


def test_second_step_of_two_layers_and_one_example():
    """One example, kernel k, target y:  with a = rate gamma y, h(1) = h + a k w and w(1) = w + a h."""
    k, y, rate, gamma = 1.5, 2.0, 0.1, 0.8
    found = mean_field_descent(np.array([[k**0.5]]), np.array([[y]]), depth=2, rate=rate, steps=3, gamma=gamma)
    a = rate * gamma * y
    f = 2 * a * k / gamma  # of h(1) w(1), with h w = 0
    hh, ww, hw = k + a**2 * k**2, 1 + a**2 * k, 2 * a * k
    b = rate * gamma * (y - f)
    second = (hw * (1 + b**2 * k) + b * hh + b * k * ww) / gamma
    np.testing.assert_allclose(found.predictions[:, 0, 0], [0, f, second], rtol=1e-14)
    np.testing.assert_allclose(found.feature_kernels[0, :2, 0, :2, 0], [[k, k], [k, hh]], rtol=1e-14)
    np.testing.assert_allclose(found.gradient_kernels[0, :2, 0, :2, 0], [[1, 1], [1, ww]], rtol=1e-14)


def test_kernels_at_the_start_and_their_shape():
    x, y = np.random.default_rng(0).standard_normal((2, 3, 2))
    found = mean_field_descent(x, y, depth=5, rate=0.02, steps=6, gamma=1.3)
    assert found.feature_kernels.shape == (4, 6, 3, 6, 3)
    assert found.gradient_kernels.shape == (4, 6, 2, 6, 2)
    for kernels, start in ((found.feature_kernels, x @ x.T / 2), (found.gradient_kernels, np.eye(2))):
        for kernel in kernels:
            np.testing.assert_allclose(kernel[0, :, 0], start, atol=1e-15)
            matrix = kernel.reshape(6 * len(start), -1)
            np.testing.assert_allclose(matrix, matrix.T, atol=1e-15)
            assert np.linalg.eigvalsh(matrix)[0] > -1e-13 * np.abs(matrix).max()


def test_shorter_run_is_the_start_of_a_longer_one():
    long, short = (mean_field_descent(X, Y, depth=4, rate=0.05, steps=t) for t in (9, 4))
    np.testing.assert_allclose(short.predictions, long.predictions[:4], rtol=1e-13)
    np.testing.assert_allclose(short.gradient_kernels, long.gradient_kernels[:, :4, :, :4], rtol=1e-13)


# --- limits ---


def test_small_gamma_is_lazy_to_second_order():
    lazy = lazy_descent(X, Y, depth=4, rate=0.05, steps=15)
    gammas = np.array([0.02, 0.04, 0.08])
    gaps = [
        np.abs(mean_field_descent(X, Y, depth=4, rate=0.05, steps=15, gamma=g).losses - lazy.losses).max()
        for g in gammas
    ]
    slopes = np.diff(np.log(gaps)) / np.diff(np.log(gammas))
    np.testing.assert_allclose(slopes, 2, atol=0.03)  # the next order is gamma^4
    tiny = mean_field_descent(X, Y, depth=4, rate=0.05, steps=15, gamma=1e-9)
    np.testing.assert_allclose(tiny.predictions, lazy.predictions, rtol=1e-12, atol=1e-14)


def test_lazy_descent_is_linear_regression():
    found = lazy_descent(X, Y, depth=3, rate=0.1, steps=8)
    powers = (1 - 0.1 * 3 / 4) ** np.arange(8)  # whitened: the kernel is the identity
    np.testing.assert_allclose(found.losses, powers**2 / 2, rtol=1e-13)
    np.testing.assert_array_equal(found.feature_kernels[1, 0, :, 7], found.feature_kernels[0, 3, :, 2])


def test_nothing_to_learn():
    assert not mean_field_descent(X, 0 * Y, depth=3, rate=0.1, steps=4).predictions.any()
    still = mean_field_descent(0 * X, Y, depth=3, rate=0.1, steps=4)
    assert not still.predictions.any()
    np.testing.assert_allclose(still.losses, 0.5)


def test_scale_of_data_moves_into_gamma():
    """y -> c y with gamma -> gamma / c is the same run in other units."""
    usual = mean_field_descent(X, Y, depth=3, rate=0.05, steps=8, gamma=1.5)
    large = mean_field_descent(X, 1e80 * Y, depth=3, rate=0.05, steps=8, gamma=1.5e-80)
    np.testing.assert_allclose(large.predictions, 1e80 * usual.predictions, rtol=1e-12)


def test_hundreds_of_layers():
    found = mean_field_descent(X, Y, depth=300, rate=1e-3, steps=4, gamma=0.1)
    assert (np.diff(found.losses) < 0).all()
    assert found.feature_kernels.shape[0] == 299


# --- wide networks ---


@pytest.mark.parametrize("method", ["loss", "energy"])
def test_wide_networks_approach_it(method):
    given = Setting(X, Y, 3, 0.08, 15, 1.2)
    theory = descent(given).losses
    distances = []
    for width in (16, 256):
        losses = ensemble(given, width, 24, seed=1)[method]
        distances.append(np.sqrt(np.mean((losses - theory) ** 2)))
    assert 1 / 8 < distances[1] / distances[0] < 1 / 2.5  # 1/4, with 24 networks
    wrong = descent(replace(given, gamma=2 * given.gamma)).losses
    assert np.sqrt(np.mean((losses - wrong) ** 2)) > 2 * distances[1]


@pytest.mark.slow
def test_kernels_of_a_wide_network():
    width, given = 1500, Setting(X, Y, 4, 0.05, 15, 2.0)
    found, rng = descent(given), np.random.default_rng(0)
    lazy = lazy_descent(X, Y, **given.options)
    weights = [rng.standard_normal(shape) for shape in ((width, 4), (width, width), (width, width), (1, width))]
    scalings = [0.5, width**-0.5, width**-0.5, 1 / (given.gamma * width)]
    features, gradients = [], []
    for _ in range(given.steps):
        z, g = [X], [weights[-1].copy()]
        for a, w in zip(scalings, weights, strict=True):
            z.append(a * z[-1] @ w.T)
        for a, w in zip(scalings[2:0:-1], weights[2:0:-1], strict=True):
            g.insert(0, a * g[0] @ w)
        features.append(z[1:4])
        gradients.append(g)
        forces = [a * (Y - z[-1]) @ g_l / (given.gamma * width) for a, g_l in zip(scalings, g, strict=False)]
        forces.append(scalings[-1] * (Y - z[-1]))
        for w, force, below in zip(weights, forces, z, strict=False):
            w += given.rate * given.gamma**2 * width * force.T @ below / 4
    for l in range(3):
        h = np.array([step[l] for step in features])
        g = np.array([step[l] for step in gradients])
        kernels = (np.einsum("tmi,sni->tmsn", h, h) / width, np.einsum("tci,sdi->tcsd", g, g) / width)
        theories = zip((found, lazy), (np.less, np.greater), strict=True)
        for theory, holds in theories:
            for kernel, limit in zip(kernels, (theory.feature_kernels[l], theory.gradient_kernels[l]), strict=True):
                bound = 5 * np.sqrt(2 * 3 / width) * np.abs(kernel).max()  # fluctuations of three layers
                assert holds(np.abs(kernel - limit).max(), bound)


# --- bad input ---


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"depth": 1}, ValueError, "depth is 1, expected a whole number of at least 2: without hidden layer"),
        ({"depth": 2.0}, ValueError, "depth is 2.0, expected a whole number"),
        ({"steps": 0}, ValueError, "steps is 0, expected a whole number of at least 1"),
        ({"steps": True}, ValueError, "steps is True"),
        ({"rate": 0.0}, ValueError, "rate is 0.0, expected a positive finite number"),
        ({"rate": np.nan}, ValueError, "rate is nan"),
        ({"x": X[:2]}, ValueError, "x has 2 rows and y has 4"),
        ({"x": X[0]}, ValueError, r"x has shape \(4,\), expected 2 axes"),
        ({"y": np.full_like(Y, np.inf)}, ValueError, "y holds inf"),
        ({"x": X.astype(np.float32)}, TypeError, "x has dtype float32, expected float64"),
        (
            {"rate": 1e3, "steps": 60},
            FloatingPointError,
            r"_descent: the loss is (inf|nan) at step \d+: the descent diverges at rate 1000; take",
        ),
    ],
)
@pytest.mark.parametrize("function", [mean_field_descent, lazy_descent])
def test_refuses(function, options, error, message):
    usual = {"x": X, "y": Y, "depth": 3, "rate": 0.1, "steps": 200}
    with pytest.raises(error, match=message):
        function(**{**usual, **options})


@pytest.mark.usefixtures("no_shape_checks")
def test_refuses_a_gamma_and_what_does_not_fit():
    for gamma in (0.0, -1.0, np.inf):
        with pytest.raises(ValueError, match=f"gamma is {gamma}, expected a positive finite number"):
            mean_field_descent(X, Y, depth=3, rate=0.1, steps=2, gamma=gamma)
    with pytest.raises(MemoryError, match=r"mean_field_descent: .* take fewer steps or examples"):
        mean_field_descent(X, Y, depth=100, rate=0.1, steps=10**5)
