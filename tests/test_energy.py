"""Feedforward pass, loss, energy and its partial gradients against NumPy, autodiff and each other."""

import jax
import numpy as np
import pytest

import pctheory
from pctheory.claims import TOLERANCE, scaled_error

from . import oracles
from .cases import CASES, Case


@pytest.fixture(params=CASES, ids=lambda c: c.name)
def given(request) -> Case:
    return request.param


@pytest.fixture
def hidden(given: Case) -> list[np.ndarray]:
    rng = np.random.default_rng(99)
    return [rng.standard_normal((len(given.x), n)) for n in given.widths[1:-1]]


def close(actual, expected, scale: float) -> bool:
    pairs = list(zip(actual, expected, strict=True))
    return all(scaled_error(a, b, scale=scale) <= TOLERANCE for a, b in pairs)


def test_feedforward_and_loss(given: Case):
    expected = oracles.feedforward(given)
    size = oracles.scale(given, expected)
    assert close(pctheory.feedforward(given.net, given.x), expected, size**0.5)
    assert close([pctheory.loss(given.net, given.x, given.y)], [oracles.loss(given)], size)


def test_energy_and_errors(given: Case, hidden: list[np.ndarray]):
    size = oracles.scale(given, hidden)
    batch = hidden, given.x, given.y
    assert close(pctheory.prediction_errors(given.net, *batch), oracles.errors(given, hidden), size**0.5)
    assert close(pctheory.layer_energies(given.net, *batch), oracles.layer_energies(given, hidden), size)
    assert close([pctheory.energy(given.net, *batch)], [oracles.energy(given, hidden)], size)


def test_partial_gradients(given: Case, hidden: list[np.ndarray]):
    """Against autodiff of the energy: with respect to the activities, and to the weights at fixed activities."""
    size = oracles.scale(given, hidden)
    stacked = given.net.hidden(hidden, len(given.x))
    by_activity = jax.jit(jax.grad(pctheory.energy, argnums=1))(given.net, stacked, given.x, given.y)
    assert close(pctheory.activity_gradient(given.net, hidden, given.x, given.y), by_activity, size)
    by_weight = jax.jit(jax.grad(pctheory.energy))(given.net, stacked, given.x, given.y).weights
    found = pctheory.partial_weight_gradient(given.net, hidden, given.x, given.y)
    assert close(found, by_weight, size)
    assert close(found, oracles.partial_weight_gradient(given, hidden), size)


def test_activities_may_come_in_any_stacks():
    given = next(c for c in CASES if c.name == "all widths equal, skips")
    zs = [np.ones((4, 3)), np.zeros((4, 3))]
    expected = pctheory.energy(given.net, zs, given.x, given.y)
    one_by_one = pctheory.Layers(tuple(pctheory.Layers.of([z]).runs[0] for z in zs))
    assert pctheory.energy(given.net, one_by_one, given.x, given.y) == expected
