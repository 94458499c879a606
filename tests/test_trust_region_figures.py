"""The pictures of training toy networks: runs against loops on formulas, statistics against SciPy, ink and data."""

from dataclasses import replace
from pathlib import Path

import matplotlib.colors
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize_scalar

from figures import _toy as toy
from figures import trust_region_chains as chains
from figures import trust_region_direction_alignment as alignment
from figures import trust_region_inference_reshapes as reshapes
from figures import trust_region_toy_landscape as landscape
from figures import trust_region_weight_noise as noise
from pctheory.claims import claim_index
from pctheory.datasets import toy_regression
from pctheory.figures import COLOURS
from pctheory.figures.figure import PRESETS

from .pictures import computed, drawn, stored_size

MODULES = (alignment, chains, noise)
DEPTHS = (chains.Depth(2, 30, 0.3), chains.Depth(3, 30))
SMALL = {
    alignment: alignment.Parameters(starts=40, std=0.3),
    chains: chains.Parameters(depths=DEPTHS, starts=6, rates=(0.3, 1.2), examples=3, inference="published"),
    noise: noise.Parameters(starts=9, noises=7, deviations=3, steps=300, examples=4),
}
PHI = {
    "linear": (lambda z: z, lambda z: np.ones_like(z)),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "relu": (lambda z: np.maximum(z, 0.0), lambda z: (z > 0).astype(float)),
}


@pytest.fixture(scope="module")
def arrays():
    return {module: computed(module, SMALL[module]) for module in MODULES}


@pytest.fixture(scope="module")
def pictures(arrays):
    with drawn(arrays, SMALL) as made:
        yield made


# --- twins: one network, one formula at a time ---


def loss_slope(w, m):
    return m * (1 + w[0] * w[1]) * np.array([w[1], w[0]])


def energy_slope(w, m):
    r, s = 1 + w[0] * w[1], 1 + w[1] ** 2
    return m * r / s * np.array([w[1], w[0] - r * w[1] / s])


def newton_slope(w, m):
    mixed = 1 + 2 * w[0] * w[1]
    hessian = m * np.array([[w[1] ** 2, mixed], [mixed, w[0] ** 2]])
    return np.linalg.inv(hessian + 2 * np.eye(2)) @ loss_slope(w, m)


SLOPES = {"newton": newton_slope, "energy": energy_slope, "loss": loss_slope}


def nearest(w):
    """By Brent's method from the best points of both branches of w1 w2 = -1."""
    found = []
    for sign in (1, -1):
        grid = np.geomspace(1e-3, 1e3, 2001)

        def distance(log_t, sign=sign):
            t = sign * np.exp(log_t)
            return (t - w[0]) ** 2 + (-1 / t - w[1]) ** 2

        i = np.argmin([distance(np.log(t)) for t in grid])
        bounds = np.log(grid[max(i - 1, 0)]), np.log(grid[min(i + 1, 2000)])
        log_t = minimize_scalar(distance, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
        found.append((distance(log_t), sign * np.exp(log_t)))
    t = min(found)[1]
    return np.array([t, -1 / t])


def descent(start, slope, xs, rate):
    """Weights before each step."""
    w, path = start, []
    for x in xs:
        path.append(w)
        w = w - rate * slope(w, np.mean(x**2))
    return np.array(path)


def cosine(a, b):
    return a @ b / np.sqrt((a @ a) * (b @ b))


# --- directions ---


def test_nearest_minimum():
    points = np.random.default_rng(0).normal(0.0, 1.5, (60, 2))
    found = toy.nearest_minima(points)
    np.testing.assert_allclose(found.prod(axis=1), -1, rtol=1e-12)
    for point, minimum in zip(points, found, strict=True):
        # the distance is flat at its minimum, which is why the point has half the digits
        other = nearest(point)
        np.testing.assert_allclose(np.sum((point - minimum) ** 2), np.sum((point - other) ** 2), rtol=1e-10)
        np.testing.assert_allclose(minimum, other, atol=1e-5)


@pytest.mark.parametrize("name", SLOPES)
@pytest.mark.parametrize("rate", [0, 1])
def test_cosines_are_those_along_the_own_path(arrays, name, rate):
    p = SMALL[alignment]
    starts = np.random.default_rng(p.seed).normal(0.0, p.std, (p.starts, 2))
    x, _ = toy_regression(p.batches * p.examples, seed=p.seed + 1)
    xs = x.reshape(p.batches, p.examples)
    found = arrays[alignment]["all"][f"{name}_cosines"][rate]
    for start, row in zip(starts[:6], found[:6], strict=True):
        path = descent(start, SLOPES[name], xs, p.rates[rate])
        expected = [cosine(-SLOPES[name](w, np.mean(x**2)), nearest(w) - w) for w, x in zip(path, xs, strict=True)]
        np.testing.assert_allclose(row, expected, atol=1e-6)


def test_limits_of_small_starts():
    angles = np.linspace(-1.5, 1.5, 31)
    c, s = np.cos(angles), np.sin(angles)
    found = alignment._limits(angles, 1.0, 2.0)
    np.testing.assert_allclose(found["loss"], c, rtol=1e-13)
    np.testing.assert_allclose(found["newton"], 3 * c / np.sqrt(8 * c**2 + 1), rtol=1e-13)
    np.testing.assert_allclose(found["energy"], (3 * c - s) / np.sqrt(10 * c**2 - 4 * c * s + 2 * s**2), atol=1e-14)
    crossing = alignment._limits(np.arctan([2 - np.sqrt(5), 1.0]), 1.0, 2.0)
    np.testing.assert_allclose(crossing["energy"], crossing["loss"], rtol=1e-12)


def test_first_steps_follow_the_limits_of_small_starts():
    parameters = replace(SMALL[alignment], std=1e-6, rates=(0.1,))
    a = alignment.data(parameters, None)
    for name in SLOPES:
        limits = np.interp(a["angles"], a["grid"], a[f"{name}_limits"])
        np.testing.assert_allclose(a[f"{name}_cosines"][0, :, 0], limits, atol=1e-4)  # of interpolation


@pytest.mark.parametrize("name", SLOPES)
def test_statistics(arrays, name):
    a = arrays[alignment]["all"]
    found = a[f"{name}_cosines"]
    interval = stats.t.interval(0.95, found.shape[1] - 1, loc=found.mean(axis=1), scale=stats.sem(found, axis=1))
    np.testing.assert_allclose(a[f"{name}_means"] - a[f"{name}_margins"], interval[0], rtol=1e-12)
    np.testing.assert_allclose(a[f"{name}_means"] + a[f"{name}_margins"], interval[1], rtol=1e-12)
    for share, quartile in zip((0.25, 0.75), a[f"{name}_quartiles"], strict=True):
        below = (found <= quartile[:, None]).mean(axis=1)
        np.testing.assert_allclose(below, share, atol=1 / found.shape[1])


# --- chains ---


def forward(w, x, phi):
    z = [w[0] * x]
    for weight in w[1:]:
        z.append(weight * phi(z[-1]))
    return z


def backpropagated(w, x, y, activation):
    phi, slope = PHI[activation]
    z = forward(w, x, phi)
    force, gradient = z[-1] - y, np.zeros(len(w))
    for k in range(len(w) - 1, -1, -1):
        gradient[k] = np.mean(force * (phi(z[k - 1]) if k else x))
        force = force * w[k] * slope(z[k - 1]) if k else force
    return gradient


def inferred(w, x, y, activation):
    """Fifty steps of 0.1, halved whenever the energy has not fallen, until it is 0.025."""
    phi, slope = PHI[activation]
    z = forward(w, x, phi)[:-1]

    def errors():
        seen = [x, *(phi(v) for v in z)]
        return [v - weight * s for v, weight, s in zip([*z, y], w, seen, strict=True)]

    before, rate = np.inf, 0.1
    for _ in range(50):
        e = errors()
        energy = sum(np.sum(v**2) for v in e) / 2
        if not energy < before:
            rate /= 2
        if rate <= 0.025:
            break
        before = energy
        z = [v - rate * (e[k] - slope(v) * w[k + 1] * e[k + 1]) for k, v in enumerate(z)]
    return z, errors()


def coded(w, x, y, activation):
    """PC's local rule: at the exact equilibrium of a linear chain, else after inference."""
    if activation == "linear":
        n = len(w) - 1
        hessian = np.eye(n) + np.diag(w[1:] ** 2) - np.diag(w[1:-1], 1) - np.diag(w[1:-1], -1)
        b = np.zeros((n, len(x)))
        b[0] += w[0] * x
        b[-1] += w[-1] * y
        z = list(np.linalg.solve(hessian, b))
        e = [v - weight * s for v, weight, s in zip([*z, y], w, [x, *z], strict=True)]
    else:
        z, e = inferred(w, x, y, activation)
    seen = [x, *(PHI[activation][0](v) for v in z)]
    return -np.array([np.mean(error * s) for error, s in zip(e, seen, strict=True)])


RULES = {"loss": backpropagated, "energy": coded}


def looped(method, activation, depth, rate):
    p = SMALL[chains]
    rng = np.random.default_rng(p.seed)
    shape = (p.starts, depth.hidden + 1)
    starts = rng.uniform(-1.0, 1.0, shape) if depth.std is None else rng.normal(0.0, depth.std, shape)
    x, _ = toy_regression(depth.steps * p.examples, seed=p.seed + 1)
    losses = []
    for w in starts:
        row = []
        for batch in x.reshape(depth.steps, p.examples):
            row.append(np.mean((-batch - forward(w, batch, PHI[activation][0])[-1]) ** 2) / 2)
            w = w - rate * RULES[method](w, batch, -batch, activation)
        losses.append(row)
    return np.array(losses)


@pytest.mark.parametrize("depth", DEPTHS, ids=lambda depth: f"H = {depth.hidden}")
@pytest.mark.parametrize("activation", PHI)
@pytest.mark.parametrize("method", RULES)
def test_chains_train_as_loops_do(arrays, depth, activation, method):
    p, a = SMALL[chains], arrays[chains][f"{activation}-{depth.hidden}"]
    with np.errstate(over="ignore", invalid="ignore"):
        runs = [looped(method, activation, depth, rate) for rate in p.rates]
        means = np.array([run.mean() for run in runs])
    chosen = int(np.nanargmin(np.where(np.isfinite(means), means, np.nan)))
    assert a[f"{method}_rate"] == p.rates[chosen]
    # rounding differs, and descent at large rates magnifies it
    np.testing.assert_allclose(a[f"{method}_runs"], runs[chosen], atol=1e-7)
    np.testing.assert_allclose(a[f"{method}_means"], means, rtol=1e-6)
    np.testing.assert_allclose(a[f"{method}_mean"], runs[chosen].mean(axis=0), atol=1e-7)


def test_dead_chains_do_not_move(arrays):
    p, depth = SMALL[chains], DEPTHS[1]
    starts = np.random.default_rng(p.seed).uniform(-1.0, 1.0, (p.starts, 4))
    dead = (starts[:, :-1] < 0).any(axis=1)
    assert dead.any()
    x, _ = toy_regression(depth.steps * p.examples, seed=p.seed + 1)
    at_saddle = np.mean(x.reshape(depth.steps, p.examples) ** 2, axis=1) / 2
    for method in RULES:
        losses = arrays[chains]["relu-3"][f"{method}_runs"]
        np.testing.assert_allclose(losses[dead], np.tile(at_saddle, (dead.sum(), 1)), rtol=1e-14)


def test_a_rate_at_which_a_run_diverges_is_not_best():
    losses = np.ones((3, 2, 4))
    losses[1] = 0.5
    losses[2, 0, 1:] = [1e200, np.inf, np.nan]
    assert toy.best(losses) == 1
    with pytest.raises(ValueError, match="diverge at each of 1 rates"):
        toy.best(losses[2:])


# --- noise ---


@pytest.mark.parametrize("kind", noise.STARTS)
@pytest.mark.parametrize("method", ["loss", "energy"])
def test_ends_are_those_of_descent(arrays, kind, method):
    p = SMALL[noise]
    near = np.random.default_rng(p.seed + 1).normal(0.0, p.std, (p.starts, 2))
    uniform = np.random.default_rng(p.seed + 2).uniform(-1.0, 1.0, (p.starts, 2))
    x, _ = toy_regression(p.steps * p.examples, seed=p.seed + 3)
    found = arrays[noise]["all"][f"{kind}_{method}_ends"]
    for start, end in zip({"near": near, "uniform": uniform}[kind], found, strict=True):
        expected = descent(start, SLOPES[method], x.reshape(p.steps, p.examples), p.rate)[-1]
        np.testing.assert_allclose(end, np.sign(expected[0]) * expected, atol=1e-9)
    np.testing.assert_allclose(found.prod(axis=1), -1, rtol=1e-8)
    np.testing.assert_allclose(arrays[noise]["all"][f"{kind}_{method}_middle"], found.mean(axis=0))


def test_pc_ends_off_balance(arrays):
    a = arrays[noise]["all"]
    imbalances = {m: np.diff(a[f"near_{m}_ends"] ** 2, axis=1)[:, 0] for m in ("loss", "energy")}
    assert np.abs(imbalances["loss"]).max() < 0.05 < 0.3 < imbalances["energy"].min()


@pytest.mark.parametrize("kind", noise.STARTS)
def test_rises_are_means_over_noise(arrays, kind):
    p, a = SMALL[noise], arrays[noise]["all"]
    drawn = np.random.default_rng(p.seed).standard_normal((p.noises, 2))
    drawn /= np.sqrt((drawn**2).mean(axis=0))
    x, _ = toy_regression(p.examples, seed=p.seed)
    m, signs = np.mean(x**2), [(1, 1), (1, -1), (-1, 1), (-1, -1)]
    own: dict[str, list] = {"loss": [], "energy": [], "own": []}
    for deviation in a["deviations"]:
        for name, method in (("loss", "loss"), ("energy", "energy"), ("own", "energy")):
            moved = [a[f"{kind}_{method}_ends"] + deviation * e * s for e in drawn for s in signs]
            values = [
                m / 2 * (1 + w[:, 0] * w[:, 1]) ** 2 / (1 + w[:, 1] ** 2 if name == "own" else 1) for w in moved
            ]
            own[name].append(np.mean(values, axis=0))
    rises = {name: np.array(values) for name, values in own.items()}
    for name, found in rises.items():
        np.testing.assert_allclose(a[f"{kind}_{name}_rise"], found.mean(axis=1), rtol=1e-9)
    difference = rises["energy"] - rises["loss"]
    half = stats.sem(difference, axis=1) * stats.t.ppf(0.975, p.starts - 1)
    base = rises["loss"].mean(axis=1)
    np.testing.assert_allclose(a[f"{kind}_excess"], 100 * difference.mean(axis=1) / base, rtol=1e-7)
    np.testing.assert_allclose(a[f"{kind}_margin"], 100 * half / base, rtol=1e-7)


@pytest.mark.parametrize("kind", noise.STARTS)
@pytest.mark.parametrize("method", ["loss", "energy"])
def test_law_is_the_mean_over_all_noise(arrays, kind, method):
    """By Gauss-Hermite quadrature, exact for the loss, a polynomial of degree 4."""
    p, a = SMALL[noise], arrays[noise]["all"]
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    weights = weights / weights.sum()
    x, _ = toy_regression(p.examples, seed=p.seed)
    for deviation, law in zip(a["deviations"], a[f"{kind}_{method}_law"], strict=True):
        expected = []
        for first, last in a[f"{kind}_{method}_ends"]:
            residuals = 1 + np.outer(first + deviation * nodes, last + deviation * nodes)
            expected.append(np.mean(x**2) / 2 * weights @ residuals**2 @ weights)
        np.testing.assert_allclose(law, np.mean(expected), rtol=1e-7)


# --- what is drawn ---


def drawn_in(axes, colour):
    wanted = matplotlib.colors.to_rgba(COLOURS[colour])
    return [line for line in axes.lines if matplotlib.colors.to_rgba(line.get_color()) == wanted]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.FIGURE.key)
@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_draws(pictures, module, suffix):
    assert stored_size(pictures[module], suffix) > 10_000


def test_alignment_shows_means_and_starts(arrays, pictures):
    a, (first, *steps) = arrays[alignment]["all"], pictures[alignment].axes
    for name, look in alignment.LOOKS.items():
        (dots,) = [line for line in first.lines if line.get_color() == look["color"]]
        np.testing.assert_array_equal(dots.get_xdata(), a["angles"])
        np.testing.assert_array_equal(dots.get_ydata(), a[f"{name}_cosines"][0, :, 0])
        for rate, axes in enumerate(steps):
            shown = {container.get_label(): container for container in axes.containers}
            np.testing.assert_array_equal(
                shown[alignment.LABELS[name]].lines[0].get_ydata(), a[f"{name}_means"][rate]
            )


def test_chains_show_runs_means_and_rates(arrays, pictures):
    units = [f"{activation}-{depth.hidden}" for activation in PHI for depth in DEPTHS]
    for unit, axes in zip(units, pictures[chains].axes, strict=True):
        for method in RULES:
            *runs, mean = drawn_in(axes, method)
            np.testing.assert_array_equal(
                [line.get_ydata() for line in runs], arrays[chains][unit][f"{method}_runs"]
            )
            np.testing.assert_array_equal(mean.get_ydata(), arrays[chains][unit][f"{method}_mean"])
        rates = {text.get_color(): text.get_text() for text in axes.texts}
        assert rates == {COLOURS[method]: f"rate {arrays[chains][unit][f'{method}_rate']:g}" for method in RULES}


def test_noise_shows_ends_rises_and_laws(arrays, pictures):
    a, (plane, rise, excess) = arrays[noise]["all"], pictures[noise].axes
    for method in ("loss", "energy"):
        shown = [line.get_xydata() for line in drawn_in(plane, method)]
        np.testing.assert_array_equal(shown, [a[f"{kind}_{method}_ends"] for kind in ("uniform", "near")])
        assert drawn_in(rise, method)[0].get_ydata().tolist() == a[f"near_{method}_rise"].tolist()
    assert drawn_in(rise, "energy")[1].get_ydata().tolist() == a["near_own_rise"].tolist()
    for kind, colour in (("near", "saddle"), ("uniform", "neutral")):
        assert drawn_in(excess, colour)[0].get_ydata().tolist() == a[f"{kind}_excess"].tolist()


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.FIGURE.key)
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_described(module, preset):
    parameters = module.FIGURE.parameters(preset)
    assert module.FIGURE.unit_parameters(parameters)
    caption = module.FIGURE.caption_text(parameters)
    assert f"{parameters.starts} starts" in caption
    assert f"{parameters.examples} samples" in caption.replace("\n", " ")
    assert "arXiv 2305.18188" in caption


@pytest.mark.parametrize("module", [*MODULES, landscape, reshapes], ids=lambda module: module.FIGURE.key)
def test_claims_exist(module):
    known = {row["key"] for row in claim_index(Path(__file__).parents[1])}
    assert set(module.FIGURE.claims) <= known
