"""The pictures of activities and of F* against the loss at initialisation: data against theory and the library."""

from dataclasses import replace

import jax
import numpy as np
import pytest

import pctheory
from figures import mupc_forward_pass as forward
from figures import mupc_limits as limits
from figures._random_chains import Kind, compared, energy_gradients, orthogonal
from pctheory.figures.figure import PRESETS

from .pictures import computed, drawn, stored_size

MODULES = (limits, forward)
SMALL = {
    limits: replace(limits.DEFAULT, widths=(32, 64, 128), depths=(4, 8), networks=3, fitted=0.25),
    forward: replace(forward.DEFAULT, depths=(8, 16), width=64, widths=(16, 64), depth=8, trained=4),
}
WIDTHS = (3, 6, 6, 6, 2)


@pytest.fixture(scope="module")
def arrays():
    return {module: computed(module, SMALL[module]) for module in MODULES}


@pytest.fixture(scope="module")
def pictures(arrays):
    with drawn(arrays, SMALL) as made:
        yield made


# --- the networks ---


@pytest.mark.parametrize("kind", [*limits.KINDS.values(), forward.KINDS["orthogonal"]], ids=lambda kind: kind.name)
def test_kinds_are_those_of_the_library(kind):
    constructor = {"SP": pctheory.standard, "NTP": pctheory.ntp, "muPC": pctheory.mupc}[kind.family]
    net = constructor(WIDTHS, seed=0, skips=kind.skips)
    np.testing.assert_allclose(kind.scalings(WIDTHS), net.scalings)
    np.testing.assert_allclose(kind.chain(WIDTHS).skips, net.skips)
    rng = np.random.default_rng(0)
    many = [list(kind.maps(WIDTHS, rng)) for _ in range(400)]
    for l, (factor, skip) in enumerate(zip(kind.factors(WIDTHS), kind.chain(WIDTHS).skips, strict=True)):
        entries = np.array([maps[l] for maps in many])
        entries = entries - skip * np.eye(*entries.shape[1:])
        assert np.std(entries) == pytest.approx(factor, rel=0.05)  # of 4800 entries or more
        assert abs(entries.mean()) < 0.05 * factor


def test_sweeps_are_those_of_the_library():
    kind, rng = Kind("", "muPC", skips=True), np.random.default_rng(1)
    maps, scalings = list(kind.maps(WIDTHS, rng)), kind.scalings(WIDTHS)
    x, y = rng.standard_normal((5, 3)), rng.standard_normal((5, 2))
    weights = [a / scaling for a, scaling in zip(maps, scalings, strict=True)]
    net = pctheory.LinearPCN(weights, scalings=scalings)  # its skips are within the weights
    of_energy = [np.asarray(g) for g in pctheory.equilibrated_gradient(net, x, y)]
    for found, expected in zip(energy_gradients(maps, scalings, x, y), of_energy, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-13)
    of_loss = list(jax.grad(lambda w: pctheory.loss(net.with_weights(w), x, y))(net.weights))
    a, b = (np.concatenate([np.ravel(g) for g in grads]) for grads in (of_energy, of_loss))
    ratio = float(pctheory.loss(net, x, y) / pctheory.equilibrated_energy(net, x, y))
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    expected = [ratio, 1 - cosine, np.linalg.norm(a - b) / np.linalg.norm(b)]
    np.testing.assert_allclose(compared(maps, scalings, x, y, 1.0), expected, rtol=1e-10)


@pytest.mark.parametrize("shape", [(4, 4), (5, 2), (2, 5), (1, 1)])
def test_orthogonal_weights(shape):
    q = orthogonal(np.random.default_rng(0), *shape) / max(shape) ** 0.5
    gram = q @ q.T if shape[0] < shape[1] else q.T @ q
    np.testing.assert_allclose(gram, np.eye(min(shape)), atol=1e-14)


# --- limits ---


def test_rescaling_follows_its_law(arrays):
    for depth, a in arrays[limits].items():
        l = int(depth.removeprefix("depth-"))
        n = l / a["ratios"]
        np.testing.assert_allclose(a["mupc-skips_law"], l / n * ((1 + 1 / l) ** (l - 1) - 1))
        np.testing.assert_allclose(a["mupc_law"], (l - 1) / n)
        np.testing.assert_allclose(a["sp-skips_law"], np.full(3, 2.0 ** (l - 1) - 1))
        for key in limits.KINDS:
            errors = np.abs(a[f"{key}_excess"] - a[f"{key}_law"]) / a[f"{key}_law"]
            assert errors.max() < 0.5, (depth, key)  # 3 networks of width 32: 20 % each for SP with skips
        assert np.abs(a["mupc-skips_excess"] / a["sp-skips_law"] - 1).min() > 0.5  # a wrong law would be seen


def test_exponents(arrays):
    a = arrays[limits]["depth-4"]
    assert a["mupc-skips_excess_fit"][0] == pytest.approx(1.0, abs=0.2)
    assert a["ntp-skips_excess_fit"][0] == pytest.approx(0.0, abs=0.2)
    assert a["mupc-skips_apart_fit"][0] > a["ntp-skips_apart_fit"][0] + 0.3
    slope, low, high = a["mupc-skips_excess_fit"]
    assert low < slope < high


def test_every_kind_is_drawn_with_its_law(arrays, pictures):
    left, middle, right = pictures[limits].axes
    drawn = [tuple(line.get_ydata()) for line in left.lines]
    for a in arrays[limits].values():
        for key in ("mupc-skips", "mupc"):
            assert tuple(a[f"{key}_excess"]) in drawn
            assert tuple(a[f"{key}_law"]) in drawn
    slope = left.lines[-1].get_ydata() / left.lines[-1].get_xdata()
    np.testing.assert_allclose(slope, np.e - 1)
    assert len(middle.lines) == 2 * 3 * 2  # depths, kinds, with laws
    assert len(right.lines) == 2 * 2
    assert (
        f"{arrays[limits]['depth-4']['mupc-skips_excess_fit'][0]:.2f}"
        in left.get_legend().get_texts()[0].get_text()
    )


# --- forward pass ---


def test_activities_follow_their_laws(arrays):
    for unit, a in arrays[forward].items():
        for key, kind in forward.KINDS.items():
            if kind.orthogonal:  # lengths are kept up to the output
                np.testing.assert_allclose(a[key][:4], a[f"{key}_mean"][:4])
                continue
            off = np.abs(np.log(a[key] / a[f"{key}_typical"]))
            # five standard errors, themselves known from 8 networks only
            assert (off < 5 * np.log(a[f"{key}_spread"]) + 0.01).all(), (unit, key)
        assert np.abs(np.log(a["sp"] / a["sp-skips_mean"])).max() > 1  # the law of another kind would be seen


def test_laws_written_out(arrays):
    a = arrays[forward]["depth-16"]
    at = np.array([1, 4, 8, 12])
    np.testing.assert_allclose(a["sp-skips_mean"][:4], 2.0 ** ((at - 1) / 2))
    np.testing.assert_allclose(a["mupc_mean"][:4], (1 + 1 / 16) ** ((at - 1) / 2))
    np.testing.assert_allclose(a["mupc_mean"][4], (1 + 1 / 16) ** 7 / 8)  # a_L = 1/64
    np.testing.assert_allclose(a["orthogonal_mean"], np.full(5, (10 / 64) ** 0.5))


def test_training_starts_from_the_forward_pass_and_moves(arrays):
    for a in (arrays[forward]["width-16"], arrays[forward]["width-64"]):
        for key in forward.KINDS:
            steps = a[f"{key}_steps"]
            assert steps.shape == (3, 5)
            assert (np.abs(steps[1:] / steps[0] - 1).max(axis=1) > 1e-4).all(), key


def test_places_of_the_layers():
    assert forward.places(16) == [0, 3, 7, 11, 15]
    assert forward.places(4) == [0, 0, 1, 2, 3]


def test_every_layer_is_drawn(arrays, pictures):
    panels = np.array(pictures[forward].axes).reshape(3, 4)
    for column, key in enumerate(forward.KINDS):
        drawn = [tuple(line.get_ydata()) for line in panels[0, column].lines]
        for place in range(5):
            for name in (key, f"{key}_mean"):
                assert tuple(arrays[forward][f"depth-{depth}"][name][place] for depth in (8, 16)) in drawn
        assert len(panels[2, column].lines) == 6  # three steps, two layers


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
    assert "N" in module.FIGURE.caption_text(parameters)
