"""The pictures of toy networks: what they show against closed forms, what is drawn against what was computed."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np
import pytest

from figures import saddles_toy_models as models
from figures import trust_region_inference_reshapes as reshapes
from figures import trust_region_toy_landscape as landscape
from figures._planes import OBJECTIVES, chain
from pctheory.datasets import toy_regression
from pctheory.figures import COLOURS, paper_style
from pctheory.figures.figure import PRESETS

from .pictures import stored_size

MODULES = (landscape, reshapes, models)
UNITS = ("one-unit", "two-units", "wide")
# of sums of 64 squares of size up to 13: rounding only
CLOSE = {"rtol": 1e-12, "atol": 1e-14}


def computed(module, parameters):
    """{unit: {name: array}} as `draw` gets it: what it cannot change."""
    arrays = {}
    for unit, own in module.FIGURE.unit_parameters(parameters).items():
        arrays[unit] = {name: np.array(array) for name, array in module.data(own, None).items()}
        for array in arrays[unit].values():
            array.setflags(write=False)
    return arrays


SMALL = {
    landscape: replace(landscape.DEFAULT, resolution=(21, 13)),
    reshapes: replace(reshapes.DEFAULT, resolution=21),
    models: replace(models.DEFAULT, resolution=11, runs=2),
}


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
    return OnDemand(lambda module: computed(module, SMALL[module]))


@pytest.fixture(scope="module")
def pictures(arrays):
    drawn = OnDemand(lambda module: module.draw(arrays[module], SMALL[module]))
    with paper_style():
        yield drawn
    for picture in drawn.values():
        plt.close(picture)


def mean_square(parameters) -> float:
    x, _ = toy_regression(parameters.examples, seed=parameters.seed)
    return float(np.mean(x**2))


def closed_loss(w1, w2, m):
    return m * (1 + w1 * w2) ** 2 / 2


def closed_energy(w1, w2, m):
    return closed_loss(w1, w2, m) / (1 + w2**2)


CLOSED = {"loss": closed_loss, "energy": closed_energy}


def slopes(function, w1, w2, m, h=1e-5):
    """Central differences of fourth order: error about h^4 and eps / h."""
    weights = ((1, 8 / 12), (-1, -8 / 12), (2, -1 / 12), (-2, 1 / 12))
    return np.stack(
        [
            sum(c * function(w1 + k * h, w2, m) for k, c in weights) / h,
            sum(c * function(w1, w2 + k * h, m) for k, c in weights) / h,
        ],
        axis=-1,
    )


# --- the landscape of w2 w1 x ---


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize(("axis", "values"), [("axis", "values"), ("near", "near")])
def test_landscape_is_the_closed_form(arrays, name, axis, values):
    a = arrays[landscape]["all"]
    w1, w2 = np.meshgrid(a[axis], a[axis])
    expected = CLOSED[name](w1, w2, mean_square(SMALL[landscape]))
    np.testing.assert_allclose(a[f"{name}_{values}"], expected, **CLOSE)
    assert not np.allclose(expected, expected.T) or name == "loss"  # the energy tells w1 from w2


@pytest.mark.parametrize("name", CLOSED)
def test_arrows_are_the_negative_gradient(arrays, name):
    a = arrays[landscape]["all"]
    w1, w2 = np.meshgrid(a["arrows"], a["arrows"])
    field = a[f"{name}_field"]
    length = np.linalg.norm(field, axis=-1, keepdims=True)
    assert (length < 1).all()
    gradient = -field / np.sqrt(1 - length**2)
    np.testing.assert_allclose(gradient, slopes(CLOSED[name], w1, w2, mean_square(SMALL[landscape])), atol=1e-8)


@pytest.mark.parametrize(
    ("name", "curvatures"),
    [("loss", (-1, 1)), ("energy", (-(1 + np.sqrt(5)) / 2, (np.sqrt(5) - 1) / 2))],
)
def test_minima_are_minima_and_the_origin_is_a_saddle(arrays, name, curvatures):
    a, p = arrays[landscape]["all"], SMALL[landscape]
    x, y = toy_regression(p.examples, seed=p.seed)
    m = mean_square(p)

    def value(w):
        return OBJECTIVES[name](chain(w), x, y)

    on_curve = jnp.concatenate([a["minima"], -a["minima"]], axis=1).T
    assert jax.jit(jax.vmap(value))(on_curve).max() < 1e-30  # squares of eps
    gradient, hessian = jax.jit(lambda w: (jax.grad(value)(w), jax.hessian(value)(w)))(jnp.zeros(2))
    np.testing.assert_array_equal(gradient, 0)
    np.testing.assert_allclose(np.linalg.eigvalsh(hessian), m * np.array(curvatures), rtol=1e-12)
    np.testing.assert_allclose(a[f"{name}_saddle"], m / 2, rtol=1e-14)


@pytest.mark.parametrize("name", CLOSED)
def test_path_is_gradient_descent(arrays, name):
    a, p = arrays[landscape]["all"], SMALL[landscape]
    m = mean_square(p)
    point = np.array(p.start)
    path = [point]
    for _ in range(p.steps):
        w1, w2 = point
        residual = 1 + w1 * w2
        if name == "loss":
            gradient = m * residual * np.array([w2, w1])
        else:
            s = 1 + w2**2
            gradient = m * residual / s * np.array([w2, w1 - residual * w2 / s])
        point = point - p.rate * gradient
        path.append(point)
    np.testing.assert_allclose(a[f"{name}_path"], path, atol=1e-12)
    w1, w2 = np.array(path).T
    np.testing.assert_allclose(a[f"{name}_path_heights"], CLOSED[name](w1, w2, m), atol=1e-12)
    assert a[f"{name}_steps_above_half"] == np.flatnonzero(closed_loss(w1, w2, m) < m / 4)[0]


def test_pc_evades_the_saddle(arrays):
    a = arrays[landscape]["all"]
    nearest = {name: np.linalg.norm(a[f"{name}_path"], axis=1).min() for name in CLOSED}
    assert nearest["loss"] < 0.3 < 0.7 < nearest["energy"]
    assert 1.5 * a["energy_steps_above_half"] < a["loss_steps_above_half"] < SMALL[landscape].steps


def test_published_start_is_escaped_by_both():
    parameters = replace(landscape.FIGURE.parameters("paper"), resolution=(3, 3))
    a = computed(landscape, parameters)["all"]
    assert a["energy_steps_above_half"] < a["loss_steps_above_half"] < parameters.steps


# --- inference reshapes it ---


def test_energy_during_inference_is_the_closed_recursion(arrays):
    a, p = arrays[reshapes]["all"], SMALL[reshapes]
    x, y = toy_regression(p.examples, seed=p.seed)
    w1, w2 = (grid[..., None] for grid in np.meshgrid(a["axis"], a["axis"]))
    end = (w1 * x[:, 0] + w2 * y[:, 0]) / (1 + w2**2)
    for steps, energy in zip(p.shown, a["energies"], strict=True):
        z = end + (1 - p.rate * (1 + w2**2)) ** steps * (w1 * x[:, 0] - end)
        expected = np.mean((z - w1 * x[:, 0]) ** 2 + (y[:, 0] - w2 * z) ** 2, axis=-1) / 2
        np.testing.assert_allclose(energy, expected, **CLOSE)


def test_it_starts_at_the_loss_and_converges_to_the_equilibrated_energy(arrays):
    a, p = arrays[reshapes]["all"], SMALL[reshapes]
    m = mean_square(p)
    w1, w2 = np.meshgrid(a["axis"], a["axis"])
    assert p.shown[0] == 0
    np.testing.assert_allclose(a["energies"][0], closed_loss(w1, w2, m), **CLOSE)
    np.testing.assert_allclose(a["equilibrium"], closed_energy(w1, w2, m), **CLOSE)
    gap = closed_loss(w1, w2, m) - closed_energy(w1, w2, m)
    for steps, deviation in zip(p.shown, a["deviations"], strict=True):
        left = np.max(gap * (1 - p.rate * (1 + w2**2)) ** (2 * steps))
        np.testing.assert_allclose(deviation, left, rtol=1e-12, atol=1e-14)
    assert (np.diff(a["deviations"]) < 0).all()
    assert a["deviations"][-1] < 1e-10


@pytest.mark.parametrize(
    ("number", "text"),
    [(10.13, "10"), (0.2493, "0.25"), (0.0391, r"$3.9 \times 10^{-2}$"), (1.24e-11, r"$1.2 \times 10^{-11}$")],
)
def test_deviations_are_rounded(number, text):
    assert reshapes._rounded(number) == text


# --- the origin of three networks ---


def moments(model):
    p = SMALL[models]
    x, y = toy_regression(p.examples, seed=p.seed, features=model.widths[0])
    return x.T @ y / len(x), y.T @ y / len(x)


MODELS = {model.name: model for model in models.DEFAULT.models}


@pytest.mark.parametrize("unit", UNITS)
def test_plane_is_that_of_the_rank_one_chain(arrays, unit):
    a, hidden = arrays[models][unit], len(MODELS[unit].widths) - 2
    _, yy = moments(MODELS[unit])
    leading = np.linalg.eigvalsh(yy)[-1]
    first, last = np.meshgrid(a["axis"], a["axis"])
    rest = np.trace(yy) - leading
    product = 1 + last * first**hidden
    s = 1 + last**2 * sum(first ** (2 * k) for k in range(hidden))
    np.testing.assert_allclose(a["loss_values"], (leading * product**2 + rest) / np.trace(yy), **CLOSE)
    np.testing.assert_allclose(a["energy_values"], (leading * product**2 / s + rest) / np.trace(yy), **CLOSE)


@pytest.mark.parametrize("unit", UNITS)
def test_hessians_at_the_origin_are_those_of_theory(arrays, unit):
    a, widths = arrays[models][unit], MODELS[unit].widths
    xy, yy = moments(MODELS[unit])
    size, last = len(a["loss_hessian"]), widths[-2] * widths[-1]
    loss, energy = np.zeros((size, size)), np.zeros((size, size))
    energy[-last:, -last:] = -np.kron(yy, np.eye(widths[-2]))
    if len(widths) == 3:  # one unit in each layer
        loss[0, 1] = loss[1, 0] = energy[0, 1] = energy[1, 0] = -xy[0, 0]
    np.testing.assert_allclose(a["loss_hessian"], loss, atol=1e-14)
    np.testing.assert_allclose(a["energy_hessian"], energy, atol=1e-14)


@pytest.mark.parametrize("unit", UNITS)
def test_eigenvectors_are_extreme_and_span_the_plane(arrays, unit):
    a = arrays[models][unit]
    hessian, plane = a["energy_hessian"], a["plane"]
    spectrum = np.linalg.eigvalsh(hessian)
    for eigenvector, extreme in zip(a["eigenvectors"], spectrum[[0, -1]], strict=True):
        np.testing.assert_allclose(np.linalg.norm(eigenvector), 1, rtol=1e-14)
        np.testing.assert_allclose(hessian @ eigenvector, extreme * eigenvector, atol=1e-13)
        in_plane = plane.T @ np.linalg.solve(plane @ plane.T, plane @ eigenvector)
        np.testing.assert_allclose(in_plane, eigenvector, atol=1e-13)
    assert np.linalg.matrix_rank(a["eigenvectors"]) == 2


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("name", CLOSED)
def test_curvature_is_that_of_the_line(arrays, unit, name):
    a = arrays[models][unit]
    _, yy = moments(MODELS[unit])
    line, heights = a["line"] @ a["plane"], a[f"{name}_line"] * np.trace(yy) / 2
    step, middle = np.linalg.norm(line[1] - line[0]), len(line) // 2
    np.testing.assert_array_equal(line[middle], 0)
    np.testing.assert_allclose(np.abs(line @ a["eigenvectors"][0]), np.linalg.norm(line, axis=1), atol=1e-13)
    second = (heights[middle + 1] - 2 * heights[middle] + heights[middle - 1]) / step**2
    np.testing.assert_allclose(second, a[f"{name}_curvature"], atol=2e-3)  # differences of step 0.02
    if name == "energy":
        np.testing.assert_allclose(a["energy_curvature"], np.linalg.eigvalsh(a["energy_hessian"])[0], rtol=1e-12)
    elif unit != "one-unit":
        assert a["loss_curvature"] == 0
        np.testing.assert_allclose(heights, heights[middle], rtol=1e-14)


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("run", [0, 1])
def test_training_is_descent_on_fresh_batches(arrays, name, run):
    p, model = SMALL[models], MODELS["one-unit"]
    rng = np.random.default_rng([p.seed, run])
    w1, w2 = (rng.normal(0.0, p.std) for _ in range(2))
    x, _ = toy_regression(model.steps * p.examples, seed=1 + p.seed + run)
    losses = []
    for m in np.mean(x.reshape(model.steps, p.examples) ** 2, axis=1):
        losses.append(closed_loss(w1, w2, m))
        g1, g2 = slopes(CLOSED[name], w1, w2, m)
        w1, w2 = w1 - model.rate * g1, w2 - model.rate * g2
    found = arrays[models]["one-unit"][f"{name}_training"][run]
    np.testing.assert_allclose(found, losses, atol=1e-8)  # the twin's gradients are differences


@pytest.mark.parametrize("unit", UNITS)
def test_both_start_alike_and_pc_escapes_sooner_in_depth(arrays, unit):
    bp, pc = (arrays[models][unit][f"{name}_training"] for name in ("loss", "energy"))
    assert bp.shape == pc.shape == (SMALL[models].runs, MODELS[unit].steps)
    np.testing.assert_array_equal(bp[:, 0], pc[:, 0])
    np.testing.assert_allclose(bp[:, 0], np.trace(moments(MODELS[unit])[1]) / 2, rtol=0.1)  # near the saddle
    until_half = [np.argmax(losses < losses[:, :1] / 2, axis=1) for losses in (bp, pc)]
    assert (until_half[1] > 0).all()
    assert (pc[:, -1] < 0.05 * pc[:, 0]).all()
    if unit != "one-unit":
        assert (3 * until_half[1] < until_half[0]).all()


# --- what is drawn ---


def lines(axes, colour):
    wanted = matplotlib.colors.to_rgba(COLOURS[colour])
    return [line for line in axes.lines if matplotlib.colors.to_rgba(line.get_color()) == wanted]


def texts(picture):
    return [text.get_text() for axes in picture.axes for text in (*axes.texts, axes.title)]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.FIGURE.key)
@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_draws(pictures, module, suffix):
    assert stored_size(pictures[module], suffix) > 10_000


@pytest.mark.parametrize("name", CLOSED)
def test_landscape_shows_paths_and_values(arrays, pictures, name):
    a, axes = arrays[landscape]["all"], pictures[landscape].axes
    flat, solid = axes[2 * list(CLOSED).index(name) :][:2]
    path, dots = lines(flat, name)
    np.testing.assert_array_equal(path.get_xydata(), a[f"{name}_path"])
    np.testing.assert_array_equal(dots.get_xydata(), a[f"{name}_path"][:: SMALL[landscape].dots])
    space, _ = lines(solid, name)
    np.testing.assert_array_equal(np.array(space.get_data_3d()).T[:, :2], a[f"{name}_path"])
    np.testing.assert_array_equal(space.get_data_3d()[2], a[f"{name}_path_heights"])
    assert [axis.get_label_text() for axis in (flat.xaxis, flat.yaxis)] == ["$w_1$", "$w_2$"]
    assert any(text.startswith(f"{a[f'{name}_steps_above_half']} steps") for text in texts(pictures[landscape]))


def test_both_landscapes_have_one_scale_of_colours(pictures):
    limits = {
        (shown.norm.vmin, shown.norm.vmax)
        for module in (landscape, reshapes)
        for axes in pictures[module].axes
        for shown in axes.collections
        if getattr(shown, "filled", False)
    }
    assert len(limits) == 1
    (_, top), m = limits.pop(), mean_square(SMALL[landscape])
    assert closed_loss(2, 2, m) < top  # no value is left without a colour


def test_reshapes_shows_every_step_with_its_deviation(arrays, pictures):
    a, (*panels, _) = arrays[reshapes]["all"], pictures[reshapes].axes
    for axes, steps, deviation in zip(panels[:-1], SMALL[reshapes].shown, a["deviations"], strict=True):
        assert axes.get_title().startswith(f"$t = {steps}$")
        (note,) = axes.texts
        assert note.get_text().startswith(f"within {reshapes._rounded(deviation)} of")
    assert panels[-1].get_title().startswith("equilibrium")


@pytest.mark.parametrize("count", [2, 9])
def test_reshapes_has_a_panel_for_each_number_of_steps(count):
    parameters = replace(reshapes.DEFAULT, resolution=5, shown=tuple(range(count)))
    with paper_style():
        picture = reshapes.draw(computed(reshapes, parameters), parameters)
    plt.close(picture)
    assert sum(text.startswith("$t = ") for text in texts(picture)) == count
    assert any(text.startswith("equilibrium") for text in texts(picture))
    assert len(picture.axes) == count + 2  # no panel is empty; one is the scale of colours


@pytest.mark.parametrize("unit", UNITS)
def test_models_shows_training_and_lines(arrays, pictures, unit):
    a, axes = arrays[models][unit], pictures[models].axes
    *solids, training = axes[3 * UNITS.index(unit) :][:3]
    for name, solid in zip(CLOSED, solids, strict=True):
        (line,) = lines(solid, name)
        np.testing.assert_array_equal(line.get_data_3d()[2], a[f"{name}_line"])
        assert solid.get_zlim()[1] >= a[f"{name}_values"].max()
        drawn = np.stack([curve.get_ydata() for curve in lines(training, name)])
        np.testing.assert_array_equal(drawn, a[f"{name}_training"])


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.FIGURE.key)
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_described(module, preset):
    parameters = module.FIGURE.parameters(preset)
    assert module.FIGURE.unit_parameters(parameters)
    caption = module.FIGURE.caption_text(parameters)
    assert f"{parameters.examples} samples" in caption
    assert "arXiv" in caption
