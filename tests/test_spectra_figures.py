"""The pictures of Hessians and saddles: what they show against independent numbers, what is drawn against it."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from figures import saddles_order_of_saddle as order
from figures import saddles_origin_hessian as origin
from figures import saddles_origin_hessian_chains as chains
from figures import saddles_origin_spectra_data as origin_data
from figures import saddles_toy_statistics as statistics
from figures import saddles_zero_rank_hessian as zero_rank
from figures import saddles_zero_rank_spectra_data as zero_rank_data
from figures._spectra import Panel, condensed, eigenvalues, zero_rank_saddle
from pctheory.datasets import dataset, toy_regression
from pctheory.figures import COLOURS, paper_style
from pctheory.figures.figure import PRESETS
from tests import oracles, series
from tests.cases import case

SMALL = {
    origin: replace(origin.DEFAULT, networks=(origin.Network(1, 3, 2), origin.Network(2, 2, 2, 1)), examples=8),
    chains: replace(chains.DEFAULT, hidden_units=(1, 3), examples=8),
    zero_rank: replace(zero_rank.DEFAULT, hidden_layers=(2, 3), width=2, features=2, examples=8),
    origin_data: origin_data.Parameters((Panel("digits", 1, 3), Panel("digits", 2, 3))),
    zero_rank_data: zero_rank_data.Parameters((Panel("mnist1d", 3, 3),)),
    order: replace(order.DEFAULT, hidden_layers=(1, 4), rays=2, points=25, examples=8),
    statistics: replace(statistics.DEFAULT, models=(replace(statistics.TWO_UNITS, steps=30),), runs=2, examples=8),
}
MATRICES = (origin, chains, zero_rank)
SPECTRA = (origin_data, zero_rank_data)
OBJECTIVES = {"loss": oracles.loss, "energy": series.least_energy}


def computed(module):
    """{unit: {name: array}} as `draw` gets it: what it cannot change."""
    arrays = {}
    for unit, own in module.FIGURE.unit_parameters(SMALL[module]).items():
        arrays[unit] = {name: np.array(array) for name, array in module.data(own, None).items()}
        for array in arrays[unit].values():
            array.setflags(write=False)
    return arrays


class OnDemand(dict):
    """A value for each module, made when it is first asked for."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def __missing__(self, module):
        self[module] = self.make(module)
        return self[module]


@pytest.fixture(scope="module")
def arrays():
    return OnDemand(computed)


@pytest.fixture(scope="module")
def pictures(arrays):
    drawn = OnDemand(lambda module: module.draw(arrays[module], SMALL[module]))
    with paper_style():
        yield drawn
    for picture in drawn.values():
        plt.close(picture)


def weights_and_data(module, unit):
    """The weights, x and y of a unit, made once more."""
    own = module.FIGURE.unit_parameters(SMALL[module])[unit]
    if module is origin:
        (n,) = own.networks
        x, y = toy_regression(8, seed=0, features=n.features, independent_target=n.independent_target)
        return [np.zeros((a, b)) for b, a in zip(n.widths, n.widths[1:], strict=False)], x, y
    if module is chains:
        return [np.zeros((1, 1))] * (own.hidden_units[0] + 1), *toy_regression(8, seed=0)
    widths = (2,) * (own.hidden_layers[0] + 2)
    return [np.asarray(w) for w in zero_rank_saddle(widths, seed=0).weights[:]], *toy_regression(
        8, seed=0, features=2
    )


def plain_case(weights, x, y):
    """Weights alone on these data, for the oracles."""
    widths = (x.shape[1], *(len(w) for w in weights))
    return replace(case("", widths, seed=0), weights=weights, x=x, y=y)


# --- Hessians and spectra ---


@pytest.mark.parametrize(
    ("module", "unit"),
    [(module, unit) for module in MATRICES for unit in module.FIGURE.unit_parameters(SMALL[module])],
)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_hessians_are_those_of_power_series(arrays, module, unit, name):
    """The loss and the energy at the solution of the dense linear system, expanded in the weights."""
    weights, x, y = weights_and_data(module, unit)
    given = plain_case(weights, x, y)
    expected, a = series.hessian(OBJECTIVES[name], given), arrays[module][unit]
    for source in (f"{name}_hessian", f"{name}_theory_hessian"):
        np.testing.assert_allclose(a[source], expected, rtol=0, atol=1e-13)
    for source in (name, f"{name}_theory"):
        np.testing.assert_allclose(a[source], np.linalg.eigvalsh(expected), rtol=0, atol=1e-13)
    np.testing.assert_array_equal(a["layer_ends"], np.cumsum([w.size for w in weights]))
    assert expected.any() or name == "loss"


def test_one_hidden_unit_has_golden_eigenvalues(arrays):
    x, _ = toy_regression(8, seed=0)
    expected = np.mean(x**2) * np.array([-1 - np.sqrt(5), -1 + np.sqrt(5)]) / 2
    np.testing.assert_allclose(arrays[chains]["H = 1"]["energy"], expected, rtol=1e-13)


def test_eigenvalues_of_a_matrix_that_falls_apart():
    rng = np.random.default_rng(0)
    blocks = [rng.standard_normal((n, n)) for n in (1, 4, 3)]
    matrix = np.zeros((10, 10))  # two rows of zeros at the end
    for block, start in zip(blocks, (0, 1, 5), strict=True):
        matrix[start : start + len(block), start : start + len(block)] = block + block.T
    shuffled = rng.permutation(10)
    matrix = matrix[np.ix_(shuffled, shuffled)]
    np.testing.assert_allclose(eigenvalues(matrix), np.linalg.eigvalsh(matrix), atol=1e-14)


def test_condensed_examples_have_the_moments_of_all():
    examples = dataset("mnist1d")
    x, y = condensed(examples)
    assert len(x) == len(y) == 50
    for own, all_of_them in ((x, examples.inputs), (y, examples.targets)):
        expected = examples.targets.T @ all_of_them / len(all_of_them)
        np.testing.assert_allclose(y.T @ own / len(own), expected, rtol=0, atol=1e-13)


def test_spectra_at_the_origin_come_from_the_moments_of_the_data(arrays):
    digits = dataset("digits")
    x, y = digits.inputs, digits.targets
    cross, own = x.T @ y / len(x), y.T @ y / len(y)
    one, two = (arrays[origin_data][unit] for unit in units(origin_data))
    loss_block = np.block([[np.zeros((64, 64)), -cross], [-cross.T, np.zeros((10, 10))]])
    energy_block = loss_block - np.pad(own, ((64, 0), (64, 0)))
    for name, block in (("loss", loss_block), ("energy", energy_block)):
        expected = np.sort(np.repeat(np.linalg.eigvalsh(block), 3))
        np.testing.assert_allclose(one[name], expected, rtol=0, atol=1e-13)
        np.testing.assert_allclose(one[f"{name}_theory"], expected, rtol=0, atol=1e-13)
    frequencies = np.bincount(y.argmax(axis=1)) / len(y)
    expected = np.concatenate([np.sort(np.repeat(-frequencies, 3)), np.zeros(64 * 3 + 9)])
    np.testing.assert_allclose(two["energy"], expected, rtol=0, atol=1e-14)
    assert not two["loss"].any()


def test_spectra_at_the_zero_rank_saddle_are_products(arrays):
    (unit,) = units(zero_rank_data)
    y = dataset("mnist1d").targets
    weight = np.asarray(zero_rank_saddle((40, 3, 3, 3, 10), seed=0).weights[2])
    assert weight.any()
    frequencies, kernel = y.mean(axis=0), np.linalg.eigvalsh(np.eye(3) + weight @ weight.T)
    expected = np.concatenate([np.sort(-np.outer(frequencies, kernel).ravel()), np.zeros(40 * 3 + 18)])
    for name in ("energy", "energy_theory"):
        np.testing.assert_allclose(arrays[zero_rank_data][unit][name], expected, rtol=0, atol=1e-13)


def units(module):
    return list(module.FIGURE.unit_parameters(SMALL[module]))


# --- the order of the saddle ---


@pytest.mark.parametrize("hidden", SMALL[order].hidden_layers)
def test_changes_along_rays_are_those_of_the_definition(arrays, hidden):
    own = replace(SMALL[order], hidden_layers=(hidden,))
    x, y = toy_regression(8, seed=0, features=3)
    moves = order._moves(own)
    coefficients = order._leading_coefficients(moves, x, y)
    a = arrays[order][f"H = {hidden}"]
    far, start = np.argmin(np.abs(a["times"] - 0.5)), np.sum(y**2) / (2 * len(y))
    for ray in range(own.rays):
        given = plain_case([a["times"][far] * d[ray] for d in moves], x, y)
        for name, function in OBJECTIVES.items():
            actual = a[name][ray, far] * coefficients[name][ray]
            np.testing.assert_allclose(actual, function(given) - start, rtol=0, atol=1e-14)


@pytest.mark.parametrize("hidden", SMALL[order].hidden_layers)
def test_slopes_are_the_orders(arrays, hidden):
    a = arrays[order][f"H = {hidden}"]
    for name, expected in (("loss", hidden + 1), ("energy", 2)):
        np.testing.assert_allclose(a[f"{name}_slopes"], expected, rtol=0.01)
        np.testing.assert_allclose(a[name][:, 0], a[f"{name}_theory"][0], rtol=0.05)


# --- training ---


def test_statistics_are_those_of_gradient_descent(arrays):
    (model,), p = SMALL[statistics].models, SMALL[statistics]
    a = arrays[statistics][model.name]
    test_x, test_y = toy_regression(8, seed=0)
    for run in range(p.runs):
        x, y = (part.reshape(30, 8) for part in toy_regression(30 * 8, seed=1 + run))
        for name in ("loss", "energy"):
            w = np.random.default_rng([0, run]).normal(0.0, p.std, (3, 1, 1)).ravel()
            for step in range(30):
                value, test = chain_loss(w, x[step], y[step]), chain_loss(w, test_x, test_y)
                gradient = chain_gradient(name, w, x[step], y[step])
                np.testing.assert_allclose(a[f"{name}_training"][run, step], value, rtol=1e-10)
                np.testing.assert_allclose(a[f"{name}_test"][run, step], test, rtol=1e-10)
                np.testing.assert_allclose(a[f"{name}_gradient"][run, step], np.linalg.norm(gradient), rtol=1e-9)
                w = w - model.rate * gradient


def chain_loss(w, x, y):
    return np.mean((y - w[0] * w[1] * w[2] * x) ** 2) / 2


def chain_gradient(name, w, x, y):
    """By complex steps through loss / s with s = 1 + w_3^2 + (w_3 w_2)^2, or the loss itself."""
    found = np.zeros(3)
    for l in range(3):
        v = w.astype(complex)
        v[l] += 1e-30j
        s = 1 + v[2] ** 2 + (v[2] * v[1]) ** 2 if name == "energy" else 1.0
        found[l] = (np.mean((y - v[0] * v[1] * v[2] * x) ** 2) / 2 / s).imag / 1e-30
    return found


# --- drawing ---


def curves(axes, concept):
    """The step lines of a concept."""
    return [p for p in axes.patches if matplotlib_colour(p.get_edgecolor()) == COLOURS[concept].lower()]


def matplotlib_colour(colour):
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in colour[:3])


@pytest.mark.parametrize("module", [*MATRICES, *SPECTRA], ids=lambda module: module.FIGURE.key)
def test_spectra_are_drawn_as_computed(arrays, pictures, module):
    rows, a = units(module), arrays[module]
    drawn = pictures[module].axes
    panels = drawn[3 : 4 * len(rows) : 4] if module in MATRICES else drawn[: len(rows)]
    for unit, axes in zip(rows, panels, strict=True):
        for name in ("loss", "energy"):
            (stairs,) = curves(axes, name)
            np.testing.assert_array_equal(stairs.get_data().values, a[unit][name])
        theory = [stairs.get_data().values for stairs in curves(axes, "theory")]
        shown = [a[unit][name] for name in ("energy_theory", "loss_theory") if a[unit][name].any()]
        np.testing.assert_array_equal(theory, shown)
        (note,) = axes.texts
        assert note.get_text().startswith("difference ")


@pytest.mark.parametrize("module", MATRICES, ids=lambda module: module.FIGURE.key)
def test_matrices_are_drawn_as_computed(arrays, pictures, module):
    limits = set()
    for row, unit in enumerate(units(module)):
        for column, name in enumerate(("loss_hessian", "energy_hessian", "energy_theory_hessian")):
            (image,) = pictures[module].axes[4 * row + column].images
            np.testing.assert_array_equal(image.get_array(), arrays[module][unit][name])
            limits.add(image.get_clim())
    ((low, high),) = limits  # one scale of colours, white at 0
    assert low == -high
    assert high == max(np.abs(a[name]).max() for a in arrays[module].values() for name in a if "hessian" in name)


def test_order_and_statistics_are_drawn_as_computed(arrays, pictures):
    for axes, name in zip(pictures[order].axes, ("loss", "energy"), strict=True):
        lines = [line for line in axes.lines if len(line.get_xdata())]
        expected = [row for a in arrays[order].values() for row in (*a[name], a[f"{name}_theory"])]
        np.testing.assert_array_equal([line.get_ydata() for line in lines], expected)
    (a,) = arrays[statistics].values()
    for axes, row in zip(pictures[statistics].axes, statistics.ROWS, strict=True):
        for line, name in zip(axes.lines, ("loss", "energy"), strict=True):
            np.testing.assert_array_equal(line.get_ydata(), a[f"{name}_{row}"].mean(axis=0))


@pytest.mark.parametrize("module", SMALL, ids=lambda module: module.FIGURE.key)
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_described(module, preset):
    figure = module.FIGURE
    parameters = figure.parameters(preset)
    assert figure.unit_parameters(parameters)
    caption = figure.caption_text(parameters)
    assert "arXiv 2408.11979" in caption or module is order
    if module in SPECTRA:
        assert ("mnist" in figure.data_sets(parameters)) == (preset == "paper")
        assert ("8 x 8 digits" in caption) == (preset != "paper")
