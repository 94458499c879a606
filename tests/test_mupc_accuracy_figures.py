"""The pictures of accuracy and of the transfer of learning rates: what they show, and what is drawn of it."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest

import pctheory
from figures import mupc_accuracy, mupc_lr_transfer
from figures._training import PUBLISHED_RATES, minibatches, networks, widths_of
from pctheory.dynamics import Inference, accuracy, train
from pctheory.figures import COLOURS, paper_style
from pctheory.figures.figure import PRESETS

from .pictures import computed, drawn, stored_size
from .test_datasets import SmallFiles

MODULES = (mupc_accuracy, mupc_lr_transfer)
HIDDEN, SIZE = 3, (8, 2)
SMALL = {
    mupc_accuracy: replace(
        mupc_accuracy.DEFAULT,
        hidden_layers=(HIDDEN,),
        activations=("tanh",),
        width=8,
        seeds=2,
        batch=48,
        standard_rates=(0.01,),
        backpropagation_rates=(0.05, 1e200),
    ),
    mupc_lr_transfer: replace(
        mupc_lr_transfer.DEFAULT,
        widths=(SIZE,),
        depths=(SIZE,),
        seeds=3,
        batches=20,
        mupc_rates=(-5.0, -3.0, -1.0),
        standard_rates=(-9.0, -6.5, -4.0),
        activity_rates=(-7.0, -1.0, 900.0),
    ),
}


@pytest.fixture(scope="module")
def arrays():
    return {module: computed(module, SMALL[module]) for module in MODULES}


@pytest.fixture(scope="module")
def pictures(arrays):
    with drawn(arrays, SMALL) as made:
        yield made


# --- accuracy ---


def test_accuracies_are_those_of_single_runs(arrays):
    a, p, data = arrays[mupc_accuracy][f"tanh-{HIDDEN}"], SMALL[mupc_accuracy], pctheory.dataset("digits")
    xs, ys = minibatches(data, p.batch, range(2))
    assert xs.shape == (2, len(data.inputs) // p.batch, p.batch, 64)
    inference = Inference(PUBLISHED_RATES["tanh"], steps=HIDDEN)
    for kind, rate in (("mupc", 0.1), ("standard", 0.01)):
        net = networks(kind, widths_of(data, p.width, HIDDEN), "tanh", range(2))[1]
        run = train(net, (xs[1], ys[1]), rate=rate, inference=inference)
        assert a[f"{kind}_accuracy"][1, 0] == accuracy(run.net, data.test_inputs, data.test_targets)


def test_published_rates_are_of_the_mean_over_64_examples():
    assert PUBLISHED_RATES == {"relu": 1 / 128, "tanh": 1 / 64}


def test_a_diverged_rate_counts_as_chance_and_is_not_the_best(arrays):
    a = arrays[mupc_accuracy][f"tanh-{HIDDEN}"]
    assert a["chance"] == 0.1
    assert (a["backpropagation_diverged_at"][:, 1] == 1).all()
    np.testing.assert_array_equal(a["backpropagation_accuracy"][:, 1], 0.1)
    assert a["backpropagation_best_rate"] == 0.05
    assert not a["backpropagation_best_diverged"].any()
    assert a["backpropagation_mean"] > 0.2  # and it learns
    np.testing.assert_allclose(a["backpropagation_deviation"], a["backpropagation_best"].std(ddof=1))


def test_every_method_is_drawn_with_its_spread(arrays, pictures):
    a, axes = arrays[mupc_accuracy][f"tanh-{HIDDEN}"], pictures[mupc_accuracy].axes[0]
    drawn = {box.get_label(): box for box in axes.containers}
    assert list(drawn) == list(mupc_accuracy.LABELS.values())
    for method, label in mupc_accuracy.LABELS.items():
        line, _, (bars,) = drawn[label]
        assert line.get_ydata() == pytest.approx(100 * a[f"{method}_mean"])
        (low, high) = bars.get_segments()[0][:, 1]
        assert high - low == pytest.approx(200 * a[f"{method}_deviation"])
        assert line.get_color() == COLOURS[mupc_accuracy.LOOKS[method][0]]


def test_diverged_runs_are_crossed(arrays):
    a = {f"tanh-{HIDDEN}": dict(arrays[mupc_accuracy][f"tanh-{HIDDEN}"])}
    a[f"tanh-{HIDDEN}"]["mupc_best_diverged"] = np.array([True, False])
    with paper_style():
        picture = mupc_accuracy.draw(a, SMALL[mupc_accuracy])
    crosses = [line for line in picture.axes[0].lines if line.get_marker() == "x" and len(line.get_ydata())]
    plt.close(picture)
    (cross,) = crosses
    np.testing.assert_allclose(cross.get_ydata(), 100 * a[f"tanh-{HIDDEN}"]["mupc_best"][:1])


def test_trains_on_files_of_mnist(monkeypatch, tmp_path):
    """Small ones in the true format."""
    SmallFiles(monkeypatch, "mnist").write(tmp_path / "mnist")
    p = replace(SMALL[mupc_accuracy], data_set="mnist", batch=3)
    (unit,) = mupc_accuracy.FIGURE.unit_parameters(p).values()
    a = mupc_accuracy.data(unit, tmp_path)
    assert a["chance"] == 0.1
    assert (a["mupc_diverged_at"] == -1).all()
    assert set(np.round(3 * a["mupc_accuracy"].ravel()).astype(int)) <= {0, 1, 2, 3}


# --- transfer ---


def test_losses_are_those_of_single_runs(arrays):
    a, p, data = arrays[mupc_lr_transfer]["8x2"], SMALL[mupc_lr_transfer], pctheory.dataset("digits")
    xs, ys = minibatches(data, p.batch, [2], count=p.batches)
    net = networks("mupc", widths_of(data, *SIZE), "tanh", [2])[0]
    run = train(net, (xs[0], ys[0]), rate=2**-3.0, inference=Inference(0.5, steps=SIZE[1]))
    np.testing.assert_allclose(a["mupc_losses"][2, 1, 1], run.losses[-5:].mean(), rtol=1e-9)
    np.testing.assert_allclose(a["mupc_mean"], a["mupc_losses"].mean(axis=0))


def test_divergence_has_no_loss_and_no_circle(arrays, pictures):
    """Steps of 2^900 overflow; the rest of the sweep goes on."""
    a = arrays[mupc_lr_transfer]["8x2"]
    assert np.isnan(a["mupc_losses"][:, :, 2]).all()
    assert np.isfinite(a["mupc_losses"][:, :, :2]).all()
    circle = pictures[mupc_lr_transfer].axes[0].lines[0]
    weight, activity = np.unravel_index(np.nanargmin(a["mupc_mean"]), (3, 3))
    p = SMALL[mupc_lr_transfer]
    assert circle.get_xydata().tolist() == [[p.activity_rates[activity], p.mupc_rates[weight]]]


def test_best_rates_are_drawn_with_their_intervals(arrays, pictures):
    a, axes = arrays[mupc_lr_transfer]["8x2"], pictures[mupc_lr_transfer].axes[1]
    assert np.isfinite(a["mupc_best"]).all()
    for kind, box in zip(mupc_lr_transfer.LOOKS, axes.containers, strict=True):
        best = a[f"{kind}_best"]
        assert a[f"{kind}_best_margin"] == pytest.approx(4.302653 * best.std(ddof=1) / 3**0.5)  # t, two degrees
        assert box[0].get_ydata() == pytest.approx(best.mean())
    assert a["mupc_best_mean"] - a["standard_best_mean"] > 2  # octaves


# --- both ---


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.FIGURE.key)
@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_draws(pictures, module, suffix):
    assert stored_size(pictures[module], suffix) > 5_000


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.FIGURE.key)
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_described(module, preset):
    parameters = module.FIGURE.parameters(preset)
    assert module.FIGURE.unit_parameters(parameters)
    assert module.FIGURE.data_sets(parameters) == (("mnist" if preset == "paper" else "digits"),)
    assert "arXiv 2505.13124" in module.FIGURE.caption_text(parameters)
