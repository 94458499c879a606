"""The figures of the inference step and of the decomposition's error: what they show; that they can be drawn."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from figures import trust_region_decomposition_error as readings
from figures import trust_region_step as step
from pctheory.figures import paper_style

CHAIN = replace(step.DEFAULT, resolution=9)


@pytest.fixture(scope="module")
def planes() -> dict[str, np.ndarray]:
    return {name: np.asarray(array) for name, array in step.data(CHAIN, None).items()}


def energy(z: np.ndarray, phi) -> np.ndarray:
    w_1, w_2, w_3 = CHAIN.weights
    errors = z[..., 0] - w_1 * CHAIN.x, z[..., 1] - w_2 * phi(z[..., 0]), CHAIN.y - w_3 * phi(z[..., 1])
    return sum(e**2 for e in errors) / 2


@pytest.mark.parametrize(("kind", "phi"), [("linear", lambda z: z), ("tanh", np.tanh)])
def test_activities(planes, kind, phi):
    """The energy written out, and its minimum; the ellipse through the step, in the metric written out."""
    a = {name.removeprefix(f"{kind}_"): array for name, array in planes.items()}
    grid = np.stack(np.meshgrid(*a["axes"]), axis=-1)
    np.testing.assert_allclose(a["energy"], energy(grid, phi), rtol=1e-12)
    _, w_2, w_3 = CHAIN.weights
    s_1, s_2 = (1.0, 1.0) if kind == "linear" else 1 - np.tanh(a["start"]) ** 2
    metric = np.array([[1 + (w_2 * s_1) ** 2, -w_2 * s_1], [-w_2 * s_1, 1 + (w_3 * s_2) ** 2]])
    gradient = np.array([0.0, -w_3 * s_2 * (CHAIN.y - w_3 * phi(a["start"][1]))])
    np.testing.assert_allclose(a["step"], -np.linalg.solve(metric, gradient), rtol=1e-10)
    around = a["ellipse"].T - a["start"]
    np.testing.assert_allclose(np.sum(around @ metric * around, axis=1), -gradient @ a["step"], rtol=1e-10)
    for nudge in 1e-3 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]]):
        assert energy(a["end"] + nudge, phi) > energy(a["end"], phi)
    if kind == "linear":
        np.testing.assert_allclose(a["model"], a["energy"], rtol=1e-12)
        np.testing.assert_allclose(a["end"], a["start"] + a["step"], rtol=1e-9)


def test_weights(planes):
    """The plane holds BP and PC; directions are unit vectors; PC lies between BP and the trust region."""
    bp, pc, region = (
        planes[f"weights_{name}"] for name in ("gradient descent", "predictive coding", "trust region")
    )
    np.testing.assert_allclose(bp, [1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(pc), 1.0, rtol=1e-12)
    assert np.linalg.norm(region) < 1
    assert 0 < pc[1] / pc[0] < region[1] / region[0]
    np.testing.assert_allclose(planes["weights_cosines"][0, 1], bp @ pc, rtol=1e-12)


def test_readings():
    arrays = readings.data(readings.FIGURE.presets["quick"], None)
    slopes = np.mean(arrays["tanh_slopes"], axis=0)
    np.testing.assert_allclose(slopes, [0, 0, 1, 1, 1], atol=0.1)
    assert np.max(arrays["linear"][..., 3:]) < 1e-10  # exact
    assert np.min(arrays["linear"][..., :2]) > 0.1


@pytest.mark.parametrize("module", [step, readings], ids=lambda module: module.__name__)
def test_quick_preset_is_drawn(module):
    parameters = module.FIGURE.presets["quick"]
    units = module.FIGURE.unit_parameters(parameters)
    arrays = {unit: {k: np.asarray(v) for k, v in module.data(own, None).items()} for unit, own in units.items()}
    with paper_style():
        picture = module.draw(arrays, parameters)
        picture.canvas.draw()
    assert len(picture.axes) == 3
    plt.close(picture)
    assert "Not in the paper." in module.caption(parameters)
