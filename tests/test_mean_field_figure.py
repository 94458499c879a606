"""The picture of the limit of infinite width: its networks against the library, its limit, and what is drawn."""

from dataclasses import replace

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest

import pctheory
from figures import _wide_networks as wide
from figures import mupc_mean_field as figure
from pctheory.figures import paper_style
from pctheory.figures.figure import PRESETS

from .pictures import stored_size

SMALL = replace(figure.DEFAULT, widths=(8, 16, 32, 64, 128), shown=(8, 64), fitted=4, networks=48, steps=20)
OBJECTIVES = {"loss": pctheory.loss, "energy": pctheory.equilibrated_energy}


@pytest.fixture(scope="module")
def arrays():
    units = figure.FIGURE.unit_parameters(SMALL)
    return {unit: {name: np.array(a) for name, a in figure.data(p, None).items()} for unit, p in units.items()}


@pytest.fixture(scope="module")
def picture(arrays):
    with paper_style():
        drawn = figure.draw(arrays, SMALL)
        yield drawn
    plt.close(drawn)


# --- the networks ---


def by_library(net, given, method):
    optimiser = optax.sgd(given.rate * given.gamma**2 * net.widths[1])
    batches = jnp.asarray(given.x)[None], jnp.asarray(given.y)[None]
    options = {"record": pctheory.loss, "steps": given.steps}
    return pctheory.weight_descent(OBJECTIVES[method], net, batches, optimiser, **options)[1]


@pytest.mark.parametrize("method", wide.METHODS)
def test_loops_are_the_training_of_the_library(method):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((3, 2)), rng.standard_normal((3, 4))
    given = wide.Setting(x, y, 4, 0.02, 12, 0.7)
    nets = [pctheory.mupc((2, 3, 3, 3, 4), seed=seed, skips=False, gamma=0.7) for seed in range(2)]
    start = [np.stack([np.asarray(net.weights[l]) for net in nets]) for l in range(4)]
    losses = wide.trained(given, method, start)
    expected = [by_library(net, given, method) for net in nets]
    np.testing.assert_allclose(losses, expected, rtol=1e-10)
    assert (losses[:, -1] < losses[:, 0]).all()


def test_start_is_kept_and_blocks_are_all_networks():
    given = wide.Setting(*wide.whitened_batch(3, seed=1), 3, 0.02, 4, 1.0)
    start = [np.ones((2, 5, 3)), np.ones((2, 5, 5)), np.ones((2, 1, 5))]
    wide.trained(given, "energy", start)
    assert all((w == 1).all() for w in start)
    assert wide.ensemble(given, 300, 3, seed=0)["loss"].shape == (3, 4)
    assert list(wide._blocks(7, 3)) == [3, 3, 1]


def test_batch_is_whitened():
    x, y = wide.whitened_batch(5, seed=2)
    np.testing.assert_allclose(x @ x.T / 5, np.eye(5), atol=1e-14)
    assert np.mean(y**2) == pytest.approx(1)


def test_one_layer_of_hidden_units_by_hand():
    """z = w_2 w_1 x / gamma, one unit: a step on the loss, and on F* = loss / s, s = 1 + w_2^2 / gamma^2."""
    given = wide.Setting(np.ones((1, 1)), np.ones((1, 1)), 2, 0.1, 2, 2.0)
    v, w, k = 0.5, 0.8, 0.1 * 4
    r, s = 1 - w * v / 2, 1 + w**2 / 4
    start = [np.full((1, 1, 1), v), np.full((1, 1, 1), w)]
    moved = {
        "loss": (v + k * r * w / 2, w + k * r * v / 2),
        "energy": (v + k * r * w / 2 / s, w + k * (r * v / 2 / s + r**2 * w / 4 / s**2)),
    }
    for method, (v_next, w_next) in moved.items():
        expected = [r**2 / 2, (1 - w_next * v_next / 2) ** 2 / 2]
        np.testing.assert_allclose(wide.trained(given, method, start)[0], expected, rtol=1e-13)


# --- the data ---


def test_mean_loss_at_the_start_by_theory(arrays):
    """E f^2 = H_0 / (gamma^2 N), so that the mean loss starts at 1/2 + 1 / (2 gamma^2 N)."""
    for gamma in SMALL.gammas:
        for width in (8, 64):
            start = arrays[f"gamma-{gamma:g}"][f"loss_{width}"][:, 0]
            error = start.std(ddof=1) / np.sqrt(len(start))
            assert abs(start.mean() - 0.5 - 1 / (2 * gamma**2 * width)) < 4 * error


@pytest.mark.parametrize("gamma", SMALL.gammas)
def test_networks_approach_the_theory_at_its_rate(arrays, gamma):
    a = arrays[f"gamma-{gamma:g}"]
    for kind in ("loss", "energy"):
        assert -0.9 < a[f"{kind}_fit"][0] < -0.4  # -1/2, and the next order at small widths
        assert (np.diff(a[f"{kind}_distances"]) < 0).all()
        widest = a[f"{kind}_{SMALL.widths[-1]}"]
        assert wide.mean_distance(widest, a["theory"]) == a[f"{kind}_distances"][-1]
    assert -1.4 < a["between_fit"][0] < -0.9
    slope, low, high = a["between_fit"]
    assert low < slope < high


def test_lazy_limit_is_another_curve(arrays):
    """A theory with frozen kernels would be found out where features are learned."""
    a = arrays["gamma-2"]
    assert wide.mean_distance(a["loss_128"], a["lazy"]) > 3 * wide.mean_distance(a["loss_128"], a["theory"])
    lazy = 0.5 * (1 - SMALL.rate * SMALL.depth / SMALL.examples) ** (2 * np.arange(SMALL.steps))
    np.testing.assert_allclose(a["lazy"], lazy, rtol=1e-13)


def test_energy_is_slower_where_its_rescaling_is_large(arrays):
    a = arrays["gamma-0.5"]
    assert a["energy_8"][:, -1].mean() > 1.5 * a["loss_8"][:, -1].mean()


# --- the picture ---


def test_every_curve_is_drawn(arrays, picture):
    for axes, gamma in zip(picture.axes, SMALL.gammas, strict=False):
        a, lines = arrays[f"gamma-{gamma:g}"], {line.get_label(): line.get_ydata() for line in axes.lines}
        np.testing.assert_array_equal(lines["theory"], a["theory"])
        np.testing.assert_array_equal(lines["lazy limit"], a["lazy"])
        for method, name in wide.METHODS.items():
            np.testing.assert_array_equal(lines[f"{name}, $N = 64$"], a[f"{method}_64"].mean(axis=0))


def test_every_distance_is_drawn_with_its_exponent(arrays, picture):
    lines = iter(picture.axes[-1].lines)
    for gamma in SMALL.gammas:
        for kind in figure.LOOKS:
            a, line = arrays[f"gamma-{gamma:g}"], next(lines)
            np.testing.assert_array_equal(line.get_ydata(), a[f"{kind}_distances"])
            assert f"${a[f'{kind}_fit'][0]:.2f}$" in line.get_label()


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_draws(picture, suffix):
    assert stored_size(picture, suffix) > 10_000


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_described(preset):
    parameters = figure.FIGURE.parameters(preset)
    assert figure.FIGURE.unit_parameters(parameters)
    assert set(parameters.shown) <= set(parameters.widths)
    assert "mean-field" in figure.FIGURE.caption_text(parameters)
