"""The pictures of escape times and of training without end: what they show, and what is drawn of it."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad

from figures import saddles_escape_times as escapes
from figures import saddles_no_minimiser as noisy
from pctheory.figures import COLOURS
from pctheory.figures.figure import PRESETS

from .pictures import computed, drawn, stored_size

MODULES = (escapes, noisy)
DEPTH = 4
SMALL = {
    escapes: replace(escapes.DEFAULT, depths=(DEPTH,), starts=4, fitted=3, smallest=1e-4, longest=1e5),
    noisy: replace(noisy.DEFAULT, models=(noisy.CHAINS[1], noisy.WIDE), steps=20_000, shown=60),
}


@pytest.fixture(scope="module")
def arrays():
    return {module: computed(module, SMALL[module]) for module in MODULES}


@pytest.fixture(scope="module")
def pictures(arrays):
    with drawn(arrays, SMALL) as made:
        yield made


# --- escape times ---


def test_times_on_the_loss_are_the_integral(arrays):
    a = arrays[escapes][f"depth-{DEPTH}"]
    assert a["loss_starts"][-1] == pytest.approx(1e5**-0.5)  # where its law says 1e5 / 2
    for start, time in zip(a["loss_starts"], a["loss_times"], strict=True):
        end = (1 - (1 - start**DEPTH) / np.sqrt(2)) ** (1 / DEPTH)
        expected = quad(lambda w: 1 / (w ** (DEPTH - 1) * (1 - w**DEPTH)), start, end)[0]
        assert time == pytest.approx(expected, rel=1e-7)  # steps of tolerance 1e-9, some hundred of them


def test_times_on_the_energy_are_those_of_the_last_weight(arrays):
    """w_L alone: the integral of (1 + w^2)^2 / w from eps to 1, up to terms of order eps^2."""
    a = arrays[escapes][f"depth-{DEPTH}"]
    expected = np.log(1 / a["energy_starts"]) + 5 / 4
    assert (np.abs(a["energy_times"] - expected) < 10 * a["energy_starts"] ** 2 + 1e-6).all()
    np.testing.assert_allclose(a["energy_law"], expected, rtol=1e-14)
    assert (a["late_times"] > a["energy_times"]).all()
    assert (a["late_times"][1:] < a["loss_law"][1:]).all()


@pytest.mark.parametrize(
    ("name", "exponent", "tolerance"), [("loss", 2, 0.01), ("energy", 1, 0.01), ("late", 2, 0.3)]
)
def test_fits_come_with_their_intervals(arrays, name, exponent, tolerance):
    slope, width = arrays[escapes][f"depth-{DEPTH}"][f"{name}_fit"]
    assert abs(slope - exponent) < tolerance
    assert 0 <= width < tolerance


def test_confidence_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    x = np.arange(6.0)
    fits = np.array([escapes._slope(x, 2 * x + rng.standard_normal(6)) for _ in range(2000)])
    covered = np.mean(np.abs(fits[:, 0] - 2) < fits[:, 1])
    assert abs(covered - 0.95) < 5 * np.sqrt(0.95 * 0.05 / 2000)


@pytest.mark.parametrize(
    ("depth", "expected"),
    [(2, 10 / escapes.GOLDEN), (3, 30 ** (4 / 3) / 4), (4, 100.0), (5, 1e4 / 3), (6, 18e4)],
)
def test_law_of_recruitment_written_out(depth, expected):
    np.testing.assert_allclose(escapes.late_law(depth, np.array(10.0)), expected, rtol=1e-13)


def test_law_on_the_loss_written_out():
    size = np.log(100.0)
    found = [float(escapes.loss_law(depth, size)) for depth in (2, 3, 5)]
    np.testing.assert_allclose(found, [size, 100.0, 1e6 / 3], rtol=1e-13)


@pytest.mark.parametrize(
    ("width", "text"), [(0.0123, "0.013"), (5.1e-4, "0.001"), (2e-6, "10^{-5}"), (0.0, "10^{-15}")]
)
def test_half_widths_are_rounded_up(width, text):
    assert escapes._rounded_up(width) == text


def test_every_time_is_drawn_with_its_law_and_fit(arrays, pictures):
    a, axes = arrays[escapes][f"depth-{DEPTH}"], pictures[escapes].axes
    for panel, name in zip(axes[:3], escapes.ESCAPES, strict=True):
        times, law = panel.lines
        np.testing.assert_array_equal(
            times.get_xydata(), np.stack([1 / a[f"{name}_starts"], a[f"{name}_times"]], 1)
        )
        np.testing.assert_array_equal(law.get_ydata(), a[f"{name}_law"])
        (entry,) = panel.get_legend().get_texts()
        assert entry.get_text().startswith(f"{DEPTH}: ${a[f'{name}_fit'][0]:.3f}")
    drawn = {line.get_label(): line.get_ydata()[0] for line in axes[3].lines}
    assert sorted(drawn.values()) == sorted(a[f"{name}_times"][0] for name in escapes.ESCAPES)


# --- no minimiser ---


def test_training_of_the_chain_by_hand(arrays):
    p = SMALL[noisy]
    x, y = noisy._noisy_batch(noisy.CHAINS[1], p)
    xx, xy, yy = np.mean(x * x), np.mean(x * y), np.mean(y * y)
    w, a = np.full(3, 0.7), arrays[noisy]["chain-3"]
    visited = {0: w}
    for step in range(1, 201):
        product = np.prod(w)
        square = yy - 2 * xy * product + xx * product**2
        s = 1 + w[2] ** 2 + (w[1] * w[2]) ** 2
        d_square = 2 * (xx * product - xy) * product / w
        d_s = np.array([0.0, 2 * w[1] * w[2] ** 2, 2 * w[2] * (1 + w[1] ** 2)])
        w = w - p.rate * (d_square / (2 * s) - square * d_s / (2 * s**2))
        visited[step] = w
    steps = np.round(a["times"] / p.rate).astype(int)
    for step, norms in zip(steps[steps <= 200], a["norms"], strict=False):
        np.testing.assert_allclose(norms, np.abs(visited[step]), rtol=1e-9)
    assert a["least_loss"] == pytest.approx((yy - xy**2 / xx) / 2)
    assert a["critical_energy"] == pytest.approx(yy / 2)


@pytest.mark.parametrize("unit", ["chain-3", "wide"])
def test_loss_settles_and_energy_follows_the_law(arrays, unit):
    a = arrays[noisy][unit]
    assert a["losses"][-1] == pytest.approx(a["least_loss"], rel=1e-3)
    assert (np.diff(a["energies"]) < 0).all()
    assert a["energies"][-1] < 0.02 * a["least_loss"]
    ratio = a["losses"] / a["energies"] / a["law"]
    late = a["times"] > 500
    assert (np.abs(ratio[late] - 1) < 0.15).all()
    assert abs(ratio[-1] - 1) < abs(ratio[late][0] - 1)  # and it comes nearer


def test_law_solves_the_equation_of_one_growing_weight():
    """With w^2 = u in all layers but the first and s = u^(L-1): du/dt = 2 R / s."""
    for depth in (2, 3, 5):
        times = np.array([1.0, 1.0 + 1e-6]) * 50
        u = noisy.rescaling_law(times, np.array([0.3]), depth) ** (1 / (depth - 1))
        np.testing.assert_allclose((u[1] - u[0]) / 5e-5, 2 * 0.3 / u[0] ** (depth - 1), rtol=1e-5)


def test_every_network_is_drawn_with_its_law(arrays, pictures):
    left, middle, right = pictures[noisy].axes
    for k, a in enumerate(arrays[noisy].values()):
        np.testing.assert_array_equal(left.lines[2 * k].get_ydata(), a["losses"] / a["energies"])
        np.testing.assert_array_equal(left.lines[2 * k + 1].get_ydata(), a["law"])
    wide = arrays[noisy]["wide"]
    assert [line.get_color() for line in middle.lines[:2]] == [COLOURS["loss"], COLOURS["energy"]]
    np.testing.assert_array_equal(middle.lines[0].get_ydata(), wide["losses"])
    np.testing.assert_array_equal(middle.lines[1].get_ydata(), wide["energies"])
    drawn = np.stack([line.get_ydata() for line in right.lines], axis=1)
    np.testing.assert_array_equal(drawn, arrays[noisy]["chain-3"]["norms"])


# --- both ---


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.FIGURE.key)
@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_draws(pictures, module, suffix):
    assert stored_size(pictures[module], suffix) > 10_000


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.FIGURE.key)
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_described(module, preset):
    parameters = module.FIGURE.parameters(preset)
    assert module.FIGURE.unit_parameters(parameters)
    assert "Not in the papers" in module.FIGURE.caption_text(parameters)
