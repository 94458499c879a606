"""The pictures of inference: what they show against theory, and what is drawn of it."""

from dataclasses import replace

import numpy as np
import pytest

import pctheory
from figures import jpc_time_to_equilibrium as settling
from figures import mupc_inference_reach as reach
from figures import mupc_toy_inference as toy
from paper_checks._inference import ResidualNet, chain_share
from pctheory.figures.figure import PRESETS

from .pictures import computed, drawn, stored_size

MODULES = (toy, reach, settling)
SMALL = {module: module.FIGURE.parameters("quick") for module in MODULES}
SMALL[settling] = replace(SMALL[settling], updates=4, stride=2)


@pytest.fixture(scope="module")
def arrays():
    found = {module: computed(module, SMALL[module], leave=("tanh",)) for module in MODULES}
    found[reach]["tanh"] = found[reach]["ReLU"]  # to be drawn; its own data are in a slow test
    return found


@pytest.fixture(scope="module")
def pictures(arrays):
    with drawn(arrays, SMALL) as made:
        yield made


# --- toy networks ---


def examples():
    x, _ = pctheory.toy_regression(SMALL[toy].examples, seed=SMALL[toy].seed)
    return x[:, 0]


@pytest.mark.parametrize("place", [0, 1])
def test_slices_are_the_parabolas_of_one_hidden_unit(arrays, place):
    a, x = arrays[toy]["slices"], examples()
    name = ("first", "last")[place]
    for k, weight in enumerate(SMALL[toy].weights):
        w = [1.0, 1.0]
        w[place] = weight
        z = a["axis"][:, None]
        expected = np.mean((z - w[0] * x) ** 2 + (x - w[1] * z) ** 2, axis=1) / 2
        np.testing.assert_allclose(a[f"{name}_energies"][k], expected, rtol=1e-12)
        least = (w[0] + w[1]) * x.mean() / (1 + w[1] ** 2)
        assert a[f"{name}_settled"][k] == pytest.approx(least)
        assert a[f"{name}_least"][k] <= expected.min() + 1e-12


@pytest.mark.parametrize("name", toy.CONTOURS)
def test_planes_have_their_minimum_at_the_star(arrays, name):
    a, (_, second, third) = arrays[toy]["planes"], toy.CONTOURS[name]
    hessian = np.array([[1 + second**2, -second], [-second, 1 + third**2]])
    expected = np.linalg.solve(hessian, [1.0, third]) * examples().mean()
    np.testing.assert_allclose(a[f"{name}_settled"], expected, rtol=1e-10)
    assert a[f"{name}_condition"] == pytest.approx(np.linalg.cond(hessian))
    row, column = np.unravel_index(a[f"{name}_energies"].argmin(), a[f"{name}_energies"].shape)
    step = 2 * (a["axis"][1] - a["axis"][0])  # the least on the grid may lie along the valley
    assert abs(a["axis"][column] - expected[0]) <= step
    assert abs(a["axis"][row] - expected[1]) <= step


def test_paths_start_at_the_feedforward_pass_and_descend(arrays):
    a, mean = arrays[toy]["paths"], examples().mean()
    w1, w2, w3 = toy.STEEP
    hessian = np.array([[1 + w2**2, -w2], [-w2, 1 + w3**2]])
    start, settled = np.array([w1, w1 * w2]) * mean, a["settled"]
    np.testing.assert_allclose(settled, np.linalg.solve(hessian, [w1, w3]) * mean, rtol=1e-10)
    p = SMALL[toy]
    values, vectors = np.linalg.eigh(hessian)

    def after(time):
        return settled + vectors @ (np.exp(-values * time / p.examples) * (vectors.T @ (start - settled)))

    for name in ("Euler", "Heun", "Dopri5", "GD", "Adam"):
        np.testing.assert_allclose(a[f"{name}_path"][0], start, rtol=1e-12)
    for name in ("Heun", "Dopri5"):
        np.testing.assert_allclose(a[f"{name}_path"][-1], after(p.rate * p.steps), atol=50 * p.tolerance)
    np.testing.assert_allclose(a["Euler_path"], a["GD_path"], atol=1e-10)
    eta = p.rate / p.examples
    stepped = start
    for row in a["GD_path"]:
        np.testing.assert_allclose(row, stepped, atol=1e-10)
        stepped = stepped - eta * hessian @ (stepped - settled)
    assert len(a["Adam_path"]) == p.adam_steps + 1


@pytest.mark.parametrize("name", toy.WIDE)
def test_wide_energies_are_those_of_the_two_eigenvalues(arrays, name):
    a = arrays[toy][name]
    low, high = a["ends"]
    expected = (high * a["fast"][None, :] ** 2 + low * a["slow"][:, None] ** 2) / 2
    np.testing.assert_allclose(a["energies"], expected, atol=1e-9 * expected.max())
    assert not np.allclose(a["energies"], expected.T, rtol=0.1)  # axes exchanged would be seen


# --- reach ---


def test_kernel_is_the_chain_in_plain_numpy(arrays):
    p = SMALL[reach]
    for name, rate in zip(("linear", "ReLU"), p.rates, strict=False):
        expected = chain_share(p.hidden, rate=rate / p.examples, steps=p.hidden)
        np.testing.assert_allclose(arrays[reach][name]["kernel"], expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["linear", "ReLU"])
def test_errors_after_inference_in_plain_numpy(arrays, name):
    errors_after_inference(name, arrays[reach][name])


@pytest.mark.slow  # each activation compiles the search for its equilibrium anew
def test_errors_after_inference_with_tanh():
    leave = [unit for unit in reach.FIGURE.unit_parameters(SMALL[reach]) if unit != "tanh"]
    errors_after_inference("tanh", computed(reach, SMALL[reach], leave)["tanh"])


def errors_after_inference(name, a):
    p = SMALL[reach]
    x, y = (
        np.asarray(v) for v in next(iter(pctheory.batches(pctheory.dataset("digits"), p.examples, seed=p.seed)))
    )
    widths = (x.shape[1], *(p.width,) * p.hidden, y.shape[1])
    net = ResidualNet.of(pctheory.mupc(widths, seed=p.seed), name)
    rate = p.rates[list(reach.ACTIVATIONS).index(name)] / p.examples
    errors, _ = net.errors(net.descended(x, y, rate=rate, steps=p.hidden), x, y)
    expected = np.linalg.norm(errors, axis=(1, 2)) / np.linalg.norm(net.pulls(x, y), axis=(1, 2))
    near = expected > 1e-8
    assert near.sum() >= 3
    np.testing.assert_allclose(a["mean_shares"][near], expected[near], rtol=1e-5)  # 1e-8 against rounding at 1e-16
    assert (np.abs(expected[near] / a["kernel"][near] - 1) < 0.2).all()  # disorder at L = 25
    assert (np.abs(a["front"][near] / a["kernel"][near] - 1) > 0.2).any()  # the first arrival alone would be seen


@pytest.mark.parametrize("name", ["linear", "ReLU"])
def test_layers_far_from_the_output_have_learned_nothing(arrays, name):
    a = arrays[reach][name]
    far = slice(0, -10)
    np.testing.assert_allclose(a["mean_missing"][far], 1.0, atol=1e-4)
    assert (a["mean_gradients"][far] < 1e-4 * a["exact_gradients"][far]).all()
    assert a["mean_cosines"][-2] > 0.98  # the direction of backpropagation, where anything has arrived
    assert a["mean_gradients"][-1] > 0.1 * a["exact_gradients"][-1]


def test_no_rounding_is_in_view():
    quick = reach.FIGURE.presets["quick"]
    leave = [unit for unit in reach.FIGURE.unit_parameters(quick) if unit != "ReLU"]
    a = computed(reach, quick, leave)["ReLU"]
    seen = a["mean_shares"] > reach.SHARE_FLOOR
    np.testing.assert_array_equal(seen, a["kernel"] > reach.SHARE_FLOOR)
    np.testing.assert_allclose(a["mean_shares"][seen], a["kernel"][seen], rtol=0.05)
    assert (a["mean_gradients"][:-1][~seen] < reach.GRADIENT_FLOOR).all()


def test_equilibrium_of_the_linear_net_is_exact(arrays):
    assert arrays[reach]["linear"]["stationarity"] < 1e-10


def test_reach_follows_diffusion(arrays):
    a, p = arrays[reach]["time"], SMALL[reach]
    np.testing.assert_allclose(a["law"], np.sqrt(2 * p.slow_rate * np.array(p.times)))
    assert (np.abs(a["reaches"] / a["law"] - 1) < 0.1).all()
    assert abs(a["exponent"][0] - 0.5) < 0.06


# --- time to equilibrium ---


def test_energy_comes_nearer_with_time(arrays):
    short, long = arrays[settling].values()
    assert (short["excess"] > long["excess"]).all()
    assert (long["excess"] > -1e-3).all()  # tolerance of the solver
    assert short["least"][0] == pytest.approx(long["least"][0])  # the same weights and batch


def test_first_energy_is_that_of_the_exact_flow(arrays):
    p = SMALL[settling]
    x, y = next(iter(pctheory.batches(pctheory.dataset(p.data_set), p.examples, seed=p.seed)))
    widths = (x.shape[1], *(p.width,) * p.hidden, y.shape[1])
    net = pctheory.standard(widths, seed=p.seed, initialisation="uniform", variance=1 / 3)
    values, vectors = np.linalg.eigh(np.asarray(pctheory.activity_hessian_dense(net)))
    solved = pctheory.equilibrium(net, x, y)
    settled = np.concatenate([np.asarray(z) for z in solved.activities][: p.hidden], axis=1)
    forward = np.concatenate([np.asarray(z) for z in pctheory.feedforward(net, x)][: p.hidden], axis=1)
    modes = (forward - settled) @ vectors
    for time, a in zip(p.times, arrays[settling].values(), strict=True):
        left = modes * np.exp(-values * 2 * time / p.examples)
        excess = np.sum(values * left**2) / (2 * len(x))
        # 1e-3 per step of the solver, and twice or half the time is far off
        assert a["reached"][0] - a["least"][0] == pytest.approx(excess, rel=0.05, abs=1e-4)
        assert a["least"][0] == pytest.approx(float(solved.energy))


# --- all ---


def test_what_is_drawn_is_what_was_computed(arrays, pictures):
    shares, missing, gradients, _ = pictures[reach].axes
    for k, name in enumerate(reach.LOOKS):
        a = arrays[reach][name]
        np.testing.assert_array_equal(shares.lines[3 * k].get_ydata(), a["mean_shares"])
        np.testing.assert_array_equal(shares.lines[3 * k + 1].get_ydata(), a["kernel"])
        np.testing.assert_array_equal(missing.lines[2 * k].get_ydata(), a["mean_missing"])
        np.testing.assert_array_equal(gradients.lines[2 * k].get_ydata(), a["exact_gradients"])
        np.testing.assert_array_equal(gradients.lines[2 * k + 1].get_ydata(), a["mean_gradients"])
    energies, excess, accuracies = pictures[settling].axes
    for k, a in enumerate(arrays[settling].values()):
        np.testing.assert_array_equal(energies.lines[k].get_ydata(), a["reached"])
        np.testing.assert_array_equal(excess.lines[k].get_ydata(), a["excess"])
        np.testing.assert_array_equal(accuracies.lines[k].get_ydata(), 100 * a["accuracies"])


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.FIGURE.key)
@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_draws(pictures, module, suffix):
    assert stored_size(pictures[module], suffix) > 10_000


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.FIGURE.key)
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_described(module, preset):
    parameters = module.FIGURE.parameters(preset)
    assert module.FIGURE.unit_parameters(parameters)
    text = module.FIGURE.caption_text(parameters)
    assert "arXiv" in text or "Not in the papers" in text
