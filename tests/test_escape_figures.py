"""The figures of escapes: their training against a NumPy loop, their normalisations, what is drawn."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest

from figures import _escape as escape
from figures import saddles_escape, saddles_escape_other
from figures import saddles_matrix_completion as completion
from pctheory.datasets import batches, dataset
from pctheory.figures import COLOURS, paper_style
from pctheory.figures.figure import PRESETS

from . import oracles
from .cases import Case

MODULES = (saddles_escape, saddles_escape_other, completion)
IMAGES = replace(saddles_escape.QUICK, iterations=6, batches=4, std=0.2)
COMPLETION = completion.Parameters(
    completion.planned((600, 0, 0), (200, 0, 0), ranks=2, masked=1)
    + completion.planned((600, 0, 0), (200, 0, 0), 0.01, ranks=1, masked=1),
    thresholds=(("linear", 3.0, 1.0),),
    width=12,
    std=0.1,
)
SMALL = {saddles_escape: IMAGES, saddles_escape_other: replace(IMAGES, usual_layer=True), completion: COMPLETION}


@cache
def computed(module):
    units = module.FIGURE.unit_parameters(SMALL[module])
    return {
        name: {key: np.asarray(a) for key, a in module.data(unit, None).items()} for name, unit in units.items()
    }


def as_case(weights, x, y) -> Case:
    depth = len(weights)
    zeros = [np.zeros(len(w)) for w in weights]
    return Case("", weights, np.ones(depth), np.zeros(depth), zeros, np.ones(depth), x, y)


def loss_gradient(given: Case, seen=1.0) -> list[np.ndarray]:
    """Backpropagation, of the squared errors that are seen."""
    force = -seen * oracles.residual(given) / len(given.x)
    below, gradient = [given.x, *oracles.feedforward(given)[:-1]], []
    for w, z in zip(reversed(given.weights), reversed(below), strict=True):
        gradient.insert(0, force.T @ z)
        force = force @ w
    return gradient


def coding_gradient(given: Case) -> list[np.ndarray]:
    return oracles.partial_weight_gradient(given, oracles.equilibrium(given))


@pytest.mark.parametrize("module", [saddles_escape, saddles_escape_other])
@pytest.mark.parametrize("method", ["BP", "PC"])
def test_linear_training_is_plain_descent(module, method):
    """Each record comes before its update; the batches are those of the data set, in turn."""
    p = SMALL[module]
    run = next(run for run in p.runs if run.method == method and run.activation == "linear")
    kept = [next(stream) for stream in [batches(dataset("digits"), 64, seed=0)] for _ in range(4)]
    rng = np.random.default_rng(0)
    widths = (64, *[p.width] * 4, 10)
    weights = [rng.normal(0, p.std, (m, n)) for n, m in pairwise(widths)]
    if p.usual_layer:
        weights[-2] = rng.uniform(-1, 1, (p.width, p.width)) / np.sqrt(p.width)
        assert np.abs(weights[-2]).max() > 0.9 / np.sqrt(p.width)
    expected = []
    for x, y in (kept[i % 4] for i in range(p.iterations)):
        given = as_case(weights, x, y)
        gradient = loss_gradient(given) if method == "BP" else coding_gradient(given)
        expected.append((oracles.loss(given), np.sqrt(sum((g**2).sum() for g in gradient))))
        weights = [w - run.step * g for w, g in zip(weights, gradient, strict=True)]
    found = computed(module)[run.name]
    np.testing.assert_allclose(found["loss"], [loss for loss, _ in expected], rtol=1e-11)
    np.testing.assert_allclose(found["gradient_norm"], [norm for _, norm in expected], rtol=1e-9)
    assert found["gradient_norm"].max() > 1e-5


def test_iterative_training_is_after_inference():
    """With ReLU the first gradient is that of the published rule, which is neither BP's nor the linear one."""
    arrays = computed(saddles_escape)
    norms = {run.name: arrays[run.name]["gradient_norm"][0] for run in IMAGES.runs if run.step == 0.064}
    assert len(set(norms.values())) == len(norms) == 4


@pytest.mark.parametrize(("batch", "outputs", "factor"), [(64, 10, 320), (10, 10, 50)])
def test_published_steps_differ_by_the_claimed_factor(batch, outputs, factor):
    steps = [escape.published_step(method, 1e-3, batch, outputs) for method in ("PC", "BP")]
    np.testing.assert_allclose(steps[0] / steps[1], factor, rtol=1e-14)
    np.testing.assert_allclose(steps[0], 1e-3 * batch, rtol=1e-14)


@pytest.mark.parametrize("method", ["BP", "PC"])
def test_matrix_completion_is_plain_descent(method):
    """Against the loop, with the published loss: of observed entries, whatever PC's output is clamped to."""
    p = COMPLETION
    target, mask = completion.matrix(p.seed)
    runs = [run for run in p.runs if run.method == method and run.rank == 0 and run.step == p.equal_step]
    assert len(runs) == {"BP": 1, "PC": 2}[method]
    for run in runs:
        rng = np.random.default_rng([p.seed, 1])
        weights = [rng.normal(0, p.std, shape) for shape in ((12, 10), (12, 12), (12, 12), (10, 12))]
        losses = []
        for _ in range(5):
            given = as_case(weights, mask * target, mask * target if run.clamp == "masked" else target)
            losses.append(np.mean((mask * (oracles.feedforward(given)[-1] - target)) ** 2))
            gradient = loss_gradient(given, mask) if method == "BP" else coding_gradient(given)
            weights = [w - run.step * g for w, g in zip(weights, gradient, strict=True)]
        found = computed(completion)[run.name]
        np.testing.assert_array_equal(found["iteration"][:5], [1, 2, 3, 4, 5])
        np.testing.assert_allclose(found["loss"][:5], losses, rtol=1e-12)


def test_predictive_coding_takes_over_just_below_the_threshold():
    arrays = computed(completion)
    run = next(run for run in COMPLETION.runs if run.rank == 1)
    bp = arrays[next(r.name for r in COMPLETION.runs if r.method == "BP" and r.step == 0.002)]
    taken = arrays[run.name]["loss"][0]
    after = bp["iteration"][bp["loss"] < 3.0][0]
    assert taken < 3.0 < bp["loss"][0]
    assert taken > bp["loss"][bp["iteration"] >= after + 2][0]  # no later than the step after


def test_a_threshold_that_is_not_reached_is_reported(monkeypatch):
    monkeypatch.setattr(completion, "MOST", 200)
    run = next(run for run in COMPLETION.runs if run.rank == 1)
    unreachable = replace(COMPLETION, runs=(run,), thresholds=(("linear", 1e-9, 1e-9),))
    with pytest.raises(RuntimeError, match=r"rank 1: BP's loss is .* after 200 iterations"):
        completion.data(unreachable, None)


def test_best_fit_of_a_full_matrix_is_that_of_its_singular_values():
    target, mask = completion.matrix(5)
    singular = np.linalg.svd(target, compute_uv=False)
    for rank in range(3):
        expected = (singular[rank:] ** 2).sum() / target.size
        np.testing.assert_allclose(completion.best_fit(target, np.ones_like(mask), rank), expected, rtol=1e-9)
    assert np.linalg.matrix_rank(target) == 3
    fits = [completion.best_fit(target, mask, rank) for rank in range(3)]
    assert fits == sorted(fits, reverse=True)
    np.testing.assert_allclose(fits[0], np.mean((mask * target) ** 2))


def test_the_target_is_like_the_published_one():
    """The numbers that the caption gives."""
    target, mask = completion.matrix(completion.DEFAULT.seed)
    levels = [completion.best_fit(target, mask, rank) for rank in range(3)]
    np.testing.assert_allclose(levels, [3.38, 1.07, 0.125], rtol=5e-3)
    np.testing.assert_allclose(levels, [3.446, 1.095, 0.1255], rtol=0.025)


@pytest.mark.parametrize("module", MODULES)
def test_what_is_drawn_is_what_was_computed(module):
    """As published gradients are scaled by the published factor; in the rows of equal steps nothing is."""
    p, arrays = SMALL[module], computed(module)
    with paper_style():
        picture = module.draw(arrays, p)
        picture.canvas.draw()
    drawn = {COLOURS["loss"]: "BP", COLOURS["energy"]: "PC"}
    common = p.equal_step if module is completion else 0.064
    rate = completion.RATE if module is completion else p.rate
    axes = np.array(picture.axes).reshape(4, -1)
    for row in range(4):
        lines = [line for ax in axes[row] for line in ax.get_lines() if line.get_color() in drawn]
        assert lines
        for line in lines:
            method = drawn[line.get_color()]
            runs = [r for r in p.runs if r.method == method and (row < 2 or r.step == common)]
            quantity = ("loss", "gradient_norm")[row % 2]
            scaled = [arrays[r.name][quantity] * (r.step / rate if row == 1 else 1.0) for r in runs]
            assert any(np.array_equal(line.get_ydata(), values) for values in scaled)
    plt.close(picture)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_and_captions(module, preset):
    parameters = module.FIGURE.parameters(preset)
    assert len(module.FIGURE.unit_parameters(parameters)) == len(parameters.runs)  # no two of one name
    text = module.FIGURE.caption_text(parameters)
    assert "B d_y / 2" in text
    assert ("scaled down" in text or "Scaled" in text) == (preset != "paper")
