"""The pictures of conditioning and spectra: what they show against dense eigenvalues, and what is drawn of it."""

from dataclasses import replace

import numpy as np
import pytest

from figures import mupc_activity_spectra as spectra
from figures import mupc_conditioning_map as conditioning
from figures import mupc_extreme_eigenvalues as extremes
from pctheory.figures.figure import PRESETS

from .pictures import computed, drawn, stored_size

MODULES = (conditioning, extremes, spectra)
SMALL = {module: module.FIGURE.parameters("quick") for module in MODULES}
SMALL[spectra] = replace(SMALL[spectra], depths=(2,), widths=(6,))


@pytest.fixture(scope="module")
def arrays():
    return {module: computed(module, SMALL[module]) for module in MODULES}


@pytest.fixture(scope="module")
def pictures(arrays):
    with drawn(arrays, SMALL) as made:
        yield made


def hessian(net):
    """H_z from the definition, in plain NumPy."""
    maps = [np.asarray(a) for a in net.maps]
    widths = [len(a) for a in maps[:-1]]
    stops = np.cumsum([0, *widths])
    found = np.eye(stops[-1])
    for l, a in enumerate(maps[1:]):
        own = slice(stops[l], stops[l + 1])
        found[own, own] += a.T @ a
        if l + 1 < len(widths):
            above = slice(stops[l + 1], stops[l + 2])
            found[above, own], found[own, above] = -a, -a.T
    return found


@pytest.mark.parametrize("name", conditioning.LINEAR)
def test_map_is_of_dense_condition_numbers(arrays, name):
    p = SMALL[conditioning]
    for power in p.powers:
        width = 2**power
        for k, depth in enumerate(p.powers):
            net = conditioning.LINEAR[name]((width,) * (2**depth + 2), seed=0)
            expected = np.linalg.cond(hessian(net))
            assert arrays[conditioning][f"linear-{power}"][name][k] == pytest.approx(expected, rel=1e-6)


def test_wide_networks_are_those_of_the_code(arrays):
    p = SMALL[conditioning]
    for width in p.wide:
        for row, name in conditioning.CODE.items():
            net = conditioning.LINEAR[name]((p.features, *(width,) * p.few[-1], p.classes), seed=0)
            found = arrays[conditioning][f"wide-{width}"][name]
            assert found[-1] == pytest.approx(np.linalg.cond(hessian(net)), rel=1e-6), row


def test_every_eigenvalue_of_the_maps_is_known_well(arrays):
    errors = [a for unit in arrays[conditioning].values() for name, a in unit.items() if name.endswith("error")]
    assert len(errors) >= 10
    assert max(errors) <= 1e-6


def test_curvature_of_the_activation_is_in_the_maps(arrays):
    p = SMALL[conditioning]
    for power in p.curved:
        curved, linear = (arrays[conditioning][f"{kind}-{power}"] for kind in ("curved", "linear"))
        for row, name in conditioning.CODE.items():
            for activation in conditioning.ACTIVATIONS:
                found = curved[f"{row}, {activation}"]
                assert (found > 0).all()
                assert curved[f"{row}, {activation}, indefinite"].dtype == bool
                assert not np.allclose(found, linear[name][: len(found)], rtol=1e-3)


@pytest.mark.parametrize("kind", extremes.KINDS)
def test_ends_are_of_the_dense_spectrum(arrays, kind):
    p, a = SMALL[extremes], arrays[extremes][kind]
    for sweep, sizes in {
        "depth": [(p.width, h) for h in p.depths],
        "width": [(n, p.hidden) for n in p.widths],
    }.items():
        for k, (width, hidden) in enumerate(sizes):
            net = extremes.KINDS[kind]((width,) * (hidden + 1) + (min(p.outputs, width),), seed=0)
            values = np.linalg.eigvalsh(hessian(net))
            assert a[f"{sweep}_smallest"][k, 0] == pytest.approx(values[0], rel=1e-6)
            assert a[f"{sweep}_largest"][k, 0] == pytest.approx(values[-1], rel=1e-6)


def test_laws_of_the_ends(arrays):
    a = arrays[extremes]
    for end in ("smallest", "largest"):
        np.testing.assert_allclose(a["orthogonal"][f"depth_{end}"][:, 0], a["orthogonal"][f"{end}_law"], rtol=1e-8)
    np.testing.assert_allclose(a["SP, table"]["largest_law"], 27 / 4)
    np.testing.assert_allclose(a["SP, code"]["largest_law"], 32 / 9)
    np.testing.assert_allclose(a["SP, code"]["smallest_law"], 1 / 12)
    assert "smallest_law" not in a["SP, table"]
    depth = np.array(SMALL[extremes].depths) + 1
    np.testing.assert_allclose(a["muPC with skips"]["largest_law"], 4 + 3 * (2 / depth) ** (2 / 3))


@pytest.mark.parametrize("kind", extremes.KINDS)
def test_decay_bounds_the_condition_number(arrays, kind):
    p, a = SMALL[extremes], arrays[extremes][kind]
    largest, smallest = a["depth_largest"][:, 0], a["depth_smallest"][:, 0]
    np.testing.assert_allclose(a["decayed"], (largest + p.decay) / (smallest + p.decay), rtol=1e-12)
    assert (a["decayed"] < a["condition"]).all()
    slope, low, high = a["exponent"]
    assert low <= slope <= high


@pytest.mark.parametrize("kind", spectra.KINDS)
def test_histograms_and_densities_hold_the_whole_spectrum(arrays, kind):
    p = SMALL[spectra]
    a = arrays[spectra][f"{kind}, N {p.width}, H {p.depths[0]}"]
    for part in spectra.PARTS:
        assert np.sum(a[f"{part}_heights"] * np.diff(a[f"{part}_edges"])) == pytest.approx(1)
    mass = np.trapezoid(a["all_density"], a["all_places"])
    assert mass == pytest.approx(1, abs=0.05)  # edges left out, where a density may be steep
    (hidden,) = p.depths
    nets = [
        spectra.KINDS[kind]((p.width,) * (hidden + 2), seed=s) for s in range(p.eigenvalues // (p.width * hidden))
    ]
    values = np.concatenate([np.linalg.eigvalsh(hessian(net)) for net in nets])
    heights, _ = np.histogram(values, bins=p.bins, density=True)
    np.testing.assert_allclose(a["all_heights"], heights, rtol=1e-6)
    moment = np.trapezoid(a["all_places"] * a["all_density"], a["all_places"])
    assert moment == pytest.approx(np.mean(values), rel=0.15)  # one small network beside its limit


def test_laws_of_the_parts_are_written_out(arrays):
    p = SMALL[spectra]
    a = arrays[spectra][f"SP, N {p.width}, H {p.depths[0]}"]
    x = a["diagonal_places"]
    np.testing.assert_allclose(a["diagonal_density"], np.sqrt((5 - x) / (x - 1)) / (2 * np.pi), rtol=1e-9)
    x = a["off-diagonal_places"]
    np.testing.assert_allclose(a["off-diagonal_density"], np.sqrt(8 - x**2) / (4 * np.pi), rtol=1e-9)


def test_what_is_drawn_is_what_was_computed(arrays, pictures):
    largest, smallest, *_ = pictures[extremes].axes
    for axes, end in ((largest, "largest"), (smallest, "smallest")):
        dots = [line for line in axes.lines if line.get_marker() == "o"]
        for line, a in zip(dots, arrays[extremes].values(), strict=True):
            np.testing.assert_array_equal(line.get_ydata(), a[f"depth_{end}"].mean(axis=1))
    p = SMALL[conditioning]
    first = pictures[conditioning].axes[0].collections[0]
    expected = np.stack([arrays[conditioning][f"linear-{k}"]["SP, table"] for k in p.powers]).T
    np.testing.assert_array_equal(np.asarray(first.get_array()).reshape(expected.shape), expected)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.FIGURE.key)
@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_draws(pictures, module, suffix):
    assert stored_size(pictures[module], suffix) > 10_000


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.FIGURE.key)
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_described(module, preset):
    parameters = module.FIGURE.parameters(preset)
    assert module.FIGURE.unit_parameters(parameters)
    assert "arXiv 2505.13124" in module.FIGURE.caption_text(parameters)
