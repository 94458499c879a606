"""The pictures of training with muPC: loss over F*, alignment of gradients, conditioning. What is drawn of it."""

from dataclasses import replace

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest

import pctheory
from figures import _learning as learning
from figures import mupc_conditioning_in_training as conditioning
from figures import mupc_energy_ratio_curves as curves
from figures import mupc_energy_ratio_map as ratio_map
from figures import mupc_gradient_alignment as alignment
from pctheory.figures import paper_style
from pctheory.figures.figure import PRESETS
from pctheory.random_matrix import RandomChain
from pctheory.random_matrix.expectations import rescaling_moments

from . import oracles
from .cases import Case
from .pictures import computed, drawn

MODULES = (ratio_map, curves, alignment, conditioning)
SMALL = {
    ratio_map: replace(ratio_map.DEFAULT, widths=(12,), hidden=(3,), times=(0, 4, 10)),
    curves: replace(curves.DEFAULT, widths=(12,), hidden=3, updates=10, smoothed=3),
    alignment: replace(alignment.DEFAULT, widths=(12,), depths=(4,), times=(0, 10), seeds=2),
    conditioning: replace(conditioning.DEFAULT, hidden=(3,), width=8, times=(0, 5)),
}
WIDTHS = (64, 12, 12, 12, 10)


@pytest.fixture(scope="module")
def arrays():
    found = {module: computed(module, SMALL[module]) for module in MODULES}
    found["diverging"] = computed(ratio_map, replace(SMALL[ratio_map], rates=(1e200, 1e-4)))
    return found


@pytest.fixture(scope="module")
def pictures(arrays):
    with drawn(arrays, SMALL) as made:
        yield made


def only(units):
    (found,) = units.values()
    return found


def as_case(net, x, y):
    weights = [np.asarray(w) for w in net.weights]
    biases = [np.zeros(len(w)) for w in weights]
    return Case("", weights, np.asarray(net.scalings), np.asarray(net.skips), biases, np.ones(len(weights)), x, y)


@pytest.fixture(scope="module")
def start():
    """The networks of seed 0 on the first batch."""
    xs, ys = learning.minibatches("digits", 1, 64, 0, None)
    return [as_case(net, np.asarray(xs[0]), np.asarray(ys[0])) for net in learning.initial(WIDTHS, 0)]


# --- the networks and batches ---


def test_kinds_of_networks_are_those_of_the_constructors():
    mupc, with_skips, plain, small = learning.initial(WIDTHS, 3, ("mupc", "standard", "plain", "small"))
    pairs = (
        (mupc, pctheory.mupc(WIDTHS, seed=3)),
        (with_skips, pctheory.standard(WIDTHS, seed=3, skips=True)),
        (plain, pctheory.standard(WIDTHS, seed=3)),
        (small, pctheory.standard(WIDTHS, seed=3, variance=1 / 3)),
    )
    for found, expected in pairs:
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-14)


def test_batches_go_through_the_data_before_they_repeat():
    xs, ys = learning.minibatches("digits", 23, 64, 0, None)
    rows = {tuple(row) for row in np.asarray(xs[:22]).reshape(-1, 64)}
    assert len(rows) == 22 * 64  # no image twice
    assert xs.shape == (23, 64, 64)
    np.testing.assert_array_equal(ys.sum(axis=2), 1)
    assert learning.hidden((xs, ys), 5, 2) == (64, 5, 5, 10)


def test_accuracy_counts_largest_outputs():
    net = pctheory.LinearPCN([np.eye(3)])
    outputs, targets = np.array([[0.0, 2.0, 1.0], [5.0, 1.0, 2.0]]), np.eye(3)[[1, 2]]
    assert learning.accuracy(net, outputs, targets) == 0.5


# --- loss over F* across widths and depths ---


def ensemble(width, hidden, kind):
    """muPC and SP with skips, written out."""
    depth = hidden + 1
    widths = (64, *(width,) * hidden, 10)
    variances = 1 / np.array(widths[:-1])
    if kind == "mupc":
        variances[1:-1] /= depth
        variances[-1] = 1 / width**2
    return RandomChain(widths, tuple(variances), skips=(0.0, *(1.0,) * (hidden - 1), 0.0))


def closed_form(width, hidden, kind):
    depth = hidden + 1
    grown = (1 + 1 / depth) ** hidden - 1
    return 1 + depth / width * grown if kind == "mupc" else 2.0**hidden


GRID = [(n, h, kind) for kind in learning.PARAMETERISATIONS for n in (1, 4, 16, 64) for h in (1, 4, 16)]
DEEPEST = [(n, 64, kind) for kind in learning.PARAMETERISATIONS for n in (1, 4, 16, 64)]


@pytest.mark.parametrize(("width", "hidden", "kind"), GRID)
def test_rescaling_at_the_start_agrees_with_the_closed_form_cell_by_cell(width, hidden, kind):
    agrees(width, hidden, kind)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "hidden", "kind"), DEEPEST)
def test_rescaling_at_the_start_agrees_with_the_closed_form_in_the_deepest_row(width, hidden, kind):
    agrees(width, hidden, kind)


def agrees(width, hidden, kind):
    """tr S / d_y drawn from the output down, within four standard errors, which are exact."""
    chain, draws = ensemble(width, hidden, kind), 100
    moments = rescaling_moments(chain)
    expected, error = closed_form(width, hidden, kind), np.sqrt(moments.variance[-1] / draws)
    np.testing.assert_allclose(moments.mean[-1], expected, rtol=1e-12)
    drawn = ratio_map.drawn_rescalings(chain, draws).mean()
    assert abs(drawn - expected) < 4 * error
    if (
        error < 0.02 * expected and width != hidden + 1
    ):  # a slip of width for depth shows where draws are many enough
        wrong = closed_form(hidden + 1, width - 1, kind) if width > 1 else 1.0
        assert abs(drawn - wrong) > 4 * error


@pytest.mark.parametrize("kind", [0, 1])
def test_a_cell_is_what_its_networks_say(arrays, start, kind):
    a = only(arrays[ratio_map])
    name = learning.PARAMETERISATIONS[kind]
    np.testing.assert_allclose(a["expected"][kind], closed_form(12, 3, name), rtol=1e-12)
    moments = rescaling_moments(ensemble(12, 3, name))
    np.testing.assert_allclose(a["standard_error"][kind], np.sqrt(moments.variance[-1] / 100), rtol=1e-12)
    assert abs(a["drawn"][kind] - a["expected"][kind]) < 4 * a["standard_error"][kind]
    assert (a["drawn"][1 - kind] - a["expected"][kind]) ** 2 > (4 * a["standard_error"][kind]) ** 2
    hidden = oracles.equilibrium(start[kind])
    ratio = oracles.loss(start[kind]) / oracles.energy(start[kind], hidden)
    np.testing.assert_allclose(a["ratios"][kind, 0, 0], ratio, rtol=1e-9)
    np.testing.assert_allclose(a["losses"][kind, 0, 0], oracles.loss(start[kind]), rtol=1e-12)
    eigenvalues = np.linalg.eigvalsh(oracles.rescaling(start[kind]))
    assert eigenvalues[0] < ratio < eigenvalues[-1]


def test_geometric_means_over_seeds(arrays):
    a = only(arrays[ratio_map])
    np.testing.assert_allclose(a["ratio"] ** 2, a["ratios"][:, 0] * a["ratios"][:, 1], rtol=1e-12)
    assert a["ratios"].shape == (2, 2, 3)
    assert (a["ratios"] >= 1).all()
    assert np.isinf(a["diverged"]).all()


def test_ratio_in_training_follows_an_update_by_hand(arrays, start):
    """The first update of Adam moves each weight by rate times the sign of its gradient."""
    xs, ys = (np.asarray(part) for part in learning.minibatches("digits", 2, 64, 0, None))
    (begin, _), rate = start, ratio_map.DEFAULT.rates[0]
    slopes = oracles.partial_weight_gradient(begin, oracles.equilibrium(begin))
    moved = replace(
        begin, weights=[w - rate * np.sign(g) for w, g in zip(begin.weights, slopes, strict=True)], x=xs[1], y=ys[1]
    )
    ratio = oracles.loss(moved) / oracles.energy(moved, oracles.equilibrium(moved))
    found = only(arrays[curves])  # averaged: of the first two batches of both seeds
    both = np.array([oracles.loss(begin) / oracles.energy(begin, oracles.equilibrium(begin)), ratio])
    batched = learning.minibatches("digits", 11, 64, 0, None)
    rates = curves.DEFAULT.rates
    run = learning.trained(WIDTHS, batched, rates, seeds=2, rule=learning.energies_rule)
    losses, energies = (np.asarray(part) for part in run.records)
    np.testing.assert_allclose((losses / energies)[0, 0, :2], both, rtol=1e-6)  # Adam's epsilon is 1e-8
    np.testing.assert_allclose(found["ratios"][0, 1] ** 4, (losses / energies)[0, :, :2].prod(), rtol=1e-12)


def test_a_run_that_diverges_is_recorded_and_the_rest_goes_on(arrays):
    a, whole = only(arrays["diverging"]), only(arrays[ratio_map])
    assert np.isfinite(a["diverged"][0]).all()
    assert (a["diverged"][0] >= 1).all()
    assert np.isinf(a["diverged"][1]).all()
    np.testing.assert_array_equal(a["ratio"][1], whole["ratio"][1])
    assert np.isnan(a["ratio"][0, -1])
    with paper_style():
        picture = ratio_map.draw(arrays["diverging"], SMALL[ratio_map])
    written = [text.get_text() for axes in picture.axes for text in axes.texts]
    plt.close(picture)
    assert "diverged" in written


# --- curves ---


def test_curves_are_smoothed_over_what_came_before():
    values = np.random.default_rng(0).normal(size=(2, 9))
    found = curves._smoothed(values, 4)
    for t in range(9):
        np.testing.assert_allclose(found[:, t], values[:, max(0, t - 3) : t + 1].mean(axis=1), rtol=1e-12)


def test_curves_hold_loss_energy_and_their_ratio(arrays):
    a = only(arrays[curves])
    np.testing.assert_allclose(a["ratios"], a["losses"] / a["energies"], rtol=1e-14)
    assert a["losses"].shape == (2, 11)
    assert (a["losses"] > a["energies"]).all()
    np.testing.assert_allclose(
        a["expected"], [closed_form(12, 3, k) for k in learning.PARAMETERISATIONS], rtol=1e-12
    )
    np.testing.assert_allclose(a["ratios"][:, 0], only(arrays[ratio_map])["ratio"][:, 0], rtol=1e-12)


# --- alignment ---


def test_cosines_at_the_start_are_those_of_the_oracles(arrays, start):
    a = only(arrays[alignment])
    for kind, given in enumerate(start):
        of_energy = oracles.flat(oracles.partial_weight_gradient(given, oracles.equilibrium(given)))
        r, below = oracles.residual(given), [given.x, *oracles.feedforward(given)]
        maps = zip(given.scalings, oracles.output_maps(given), below[:-1], strict=True)
        of_loss = oracles.flat([-s * (r @ p).T @ z for s, p, z in maps])
        cosine = of_energy @ of_loss / np.linalg.norm(of_energy) / np.linalg.norm(of_loss)
        np.testing.assert_allclose(a["cosines"][kind, 0, 0], cosine, rtol=1e-9)
    np.testing.assert_allclose(a["mean"], a["cosines"].mean(axis=1), rtol=1e-14)
    short = 1 - a["cosines"]
    np.testing.assert_allclose(a["short"] ** 2, short.prod(axis=1), rtol=1e-12)
    np.testing.assert_allclose(a["short"] + a["range"][..., 1], short.max(axis=1), rtol=1e-12)
    np.testing.assert_allclose(a["short"] - a["range"][..., 0], short.min(axis=1), rtol=1e-12)


# --- conditioning ---


def test_condition_numbers_are_those_of_the_dense_hessian(arrays):
    a = only(arrays[conditioning])
    widths = (64, 8, 8, 8, 10)
    nets = learning.initial(widths, 0, tuple(conditioning.TITLES))
    for k, net in enumerate(nets):
        eigenvalues = np.linalg.eigvalsh(oracles.linear_system(as_case(net, np.ones((1, 64)), np.ones((1, 10))))[0])
        np.testing.assert_allclose(a["smallest"][k, 0], eigenvalues[0], rtol=1e-6)
        np.testing.assert_allclose(a["condition_number"][k, 0], eigenvalues[-1] / eigenvalues[0], rtol=1e-6)
    assert (a["error"] < 1e-6).all()
    np.testing.assert_allclose(a["condition_number"], a["largest"] / a["smallest"], rtol=1e-14)
    assert ((a["accuracy"] >= 0) & (a["accuracy"] <= 1)).all()
    assert a["accuracy"][0, 1] > 0.3  # muPC, after five updates; chance is 0.1


# --- what is drawn ---


def test_map_draws_its_arrays(arrays, pictures):
    a = only(arrays[ratio_map])
    images = [axes.images[0].get_array() for axes in pictures[ratio_map].axes if axes.images]
    expected = [row for k in range(2) for row in (a["expected"][k], a["drawn"][k], *a["ratio"][k])]
    np.testing.assert_array_equal(np.array([image[0, 0] for image in images]), expected)


def test_curves_draw_their_arrays(arrays, pictures):
    a = only(arrays[curves])
    for k in range(2):
        values, ratios = pictures[curves].axes[2 * k : 2 * k + 2]
        np.testing.assert_array_equal(values.lines[0].get_ydata(), a["losses"][k])
        np.testing.assert_array_equal(values.lines[1].get_ydata(), a["energies"][k])
        np.testing.assert_array_equal(ratios.lines[0].get_ydata(), a["ratios"][k] - 1)


def test_alignment_draws_its_arrays(arrays, pictures):
    a = only(arrays[alignment])
    maps, drawn = pictures[alignment].axes[:2], pictures[alignment].axes[2:4]
    np.testing.assert_array_equal([axes.images[0].get_array()[0, 0] for axes in maps], a["mean"][0])
    np.testing.assert_array_equal([axes.lines[0].get_ydata()[0] for axes in drawn], a["short"][0])


def test_conditioning_draws_its_arrays(arrays, pictures):
    a, axes = only(arrays[conditioning]), pictures[conditioning].axes
    for k in range(len(conditioning.TITLES)):
        np.testing.assert_array_equal(axes[k].lines[0].get_ydata(), a["condition_number"][k])
        np.testing.assert_array_equal(axes[4 + k].lines[0].get_ydata(), 100 * a["accuracy"][k])


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("preset", PRESETS)
def test_captions_name_the_source_and_what_was_scaled(module, preset):
    text = module.FIGURE.caption_text(module.FIGURE.presets[preset])
    assert "arXiv" in text
    assert module.FIGURE.presets[preset].data_set in text
