"""Landscapes against loops over networks and gradients taken whole."""

from collections.abc import Callable, Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import pctheory
from pctheory import LinearPCN, landscape
from pctheory.curvature import net_at, weight_gradient, weight_vector
from pctheory.dynamics import inference_descent

from . import oracles
from .cases import CASES
from .test_dynamics import TanhNetwork, tanh_loss
from .test_weight_flow import at

GENERAL = next(case for case in CASES if case.name == "everything, depth 6")
SMALL = next(case for case in CASES if case.name == "one hidden layer")
NET, X, Y = SMALL.net, SMALL.x, SMALL.y
SIZE = 3 * 4 + 4 * 2
FIRST, SECOND = np.array([-0.5, 0.0, 0.3, 1.0]), np.array([-0.2, 0.4])
PLANE = np.random.default_rng(0).standard_normal((2, SIZE))
OBJECTIVES = {"loss": pctheory.loss, "energy": pctheory.equilibrated_energy}


@pytest.fixture
def no_shape_checks() -> Iterator[None]:
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("given", [SMALL, GENERAL], ids=lambda given: given.name)
def test_values_are_those_of_a_loop(given) -> None:
    size = sum(w.size for w in given.weights)
    plane = np.random.default_rng(1).standard_normal((2, size)) / 4
    found = landscape.landscape_values(
        pctheory.equilibrated_energy, given.net, given.x, given.y, directions=plane, axes=(FIRST, SECOND)
    )
    centre = oracles.flat(given.weights)
    points = [[at(given, centre + s * plane[0] + t * plane[1]) for s in FIRST] for t in SECOND]
    expected = [[oracles.energy(case, oracles.equilibrium(case)) for case in row] for row in points]
    np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_a_line_is_a_row_of_the_plane() -> None:
    plane = landscape.landscape_values(pctheory.loss, NET, X, Y, directions=PLANE, axes=(FIRST, [0.0]))
    line = landscape.landscape_values(pctheory.loss, NET, X, Y, directions=PLANE[:1], axes=(FIRST,))
    assert line.shape == FIRST.shape
    np.testing.assert_allclose(line, plane[0], rtol=1e-14)
    assert line[1] == pytest.approx(oracles.loss(SMALL), rel=1e-14)  # coordinate 0 is the network itself


def test_an_objective_may_return_several_numbers() -> None:
    def energies(net: LinearPCN, x: jax.Array, y: jax.Array) -> jax.Array:
        return inference_descent(net, x, y, rate=0.1, steps=2)[1]

    found = landscape.landscape_values(energies, NET, X, Y, directions=PLANE, axes=(FIRST, SECOND))
    assert found.shape == (2, 4, 3)
    expected = energies(net_at(NET, weight_vector(NET) + FIRST[3] * PLANE[0] + SECOND[1] * PLANE[1]), X, Y)
    np.testing.assert_allclose(found[1, 3], expected, rtol=1e-12)
    loss = landscape.landscape_values(pctheory.loss, NET, X, Y, directions=PLANE, axes=(FIRST, SECOND))
    np.testing.assert_allclose(found[..., 0], loss, rtol=1e-12)  # inference starts at the loss


@pytest.mark.parametrize("name", OBJECTIVES)
def test_field_is_the_projected_gradient(name: str) -> None:
    objective = OBJECTIVES[name]
    field = landscape.landscape_field(objective, NET, X, Y, directions=PLANE, axes=(FIRST, SECOND))
    line = landscape.landscape_field(objective, NET, X, Y, directions=PLANE[1:], axes=(SECOND,))
    assert field.shape == (2, 4, 2)
    assert line.shape == (2, 1)
    for i, t in enumerate(SECOND):
        for j, s in enumerate(FIRST):
            net = net_at(NET, weight_vector(NET) + s * PLANE[0] + t * PLANE[1])
            slope = -np.asarray(weight_gradient(objective, net, X, Y))
            np.testing.assert_allclose(field[i, j], np.linalg.lstsq(PLANE.T, slope)[0], rtol=1e-9)
            if s == 0:
                np.testing.assert_allclose(line[i], np.linalg.lstsq(PLANE[1:].T, slope)[0], rtol=1e-9)


def test_eigenvectors_make_a_quadratic_landscape() -> None:
    net = LinearPCN([0 * w for w in SMALL.weights])
    hessian = np.asarray(pctheory.weight_hessian_dense(pctheory.loss, net, X, Y))
    values, vectors = np.linalg.eigh(hessian)
    axis = np.array([-1e-3, 0.0, 1e-3])
    found = landscape.landscape_values(
        pctheory.loss, net, X, Y, directions=vectors[:, [0, -1]].T, axes=(axis, axis)
    )
    model = found[1, 1] + (values[0] * axis[None, :] ** 2 + values[-1] * axis[:, None] ** 2) / 2
    np.testing.assert_allclose(found, model, atol=1e-10)  # the next term is of order 4


def test_random_directions_are_units_of_every_layer() -> None:
    found = landscape.random_directions(NET, 3, seed=4)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-14)
    np.testing.assert_array_equal(found, landscape.random_directions(NET, 3, seed=4))
    assert not np.allclose(found, landscape.random_directions(NET, 3, seed=5))
    many = np.asarray(landscape.random_directions(NET, 4000, seed=0))
    # even in all directions: the mean of d d^T is I / size, to 5 standard deviations, about sqrt(2 / 4000) / size
    assert np.abs(many.T @ many / 4000 - np.eye(SIZE) / SIZE).max() < 5 * np.sqrt(2 / 4000) / SIZE


@pytest.mark.parametrize("given", [SMALL, GENERAL], ids=lambda given: given.name)
def test_filters_have_the_norms_of_the_rows(given) -> None:
    found = np.asarray(landscape.filter_normalised_directions(given.net, 2, seed=3))
    for direction in found:
        for rows, weights in zip(at(given, direction).weights, given.weights, strict=True):
            np.testing.assert_allclose(np.linalg.norm(rows, axis=1), np.linalg.norm(weights, axis=1), rtol=1e-13)
    assert np.linalg.matrix_rank(found) == 2


def test_filters_of_a_unit_without_weights_are_zero() -> None:
    weights = [w.copy() for w in SMALL.weights]
    weights[0][2] = 0
    (direction,) = np.asarray(landscape.filter_normalised_directions(LinearPCN(weights), 1, seed=3))
    first = direction[:12].reshape(4, 3)
    assert not first[2].any()
    assert first[[0, 1, 3]].all()


def test_any_network_with_weights_has_a_landscape() -> None:
    net = TanhNetwork(tuple(jnp.asarray(w) for w in SMALL.weights), (3, 4, 2))
    directions = landscape.filter_normalised_directions(net, 1, seed=0)
    found = landscape.landscape_values(tanh_loss, net, X, Y, directions=directions, axes=([0.0, 1.0],))
    moved = oracles.flat(SMALL.weights) + np.asarray(directions[0])
    first, last = at(SMALL, moved).weights
    expected = [tanh_loss(net, X, Y), np.mean((Y - np.tanh(X @ first.T) @ last.T) ** 2)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_landscapes_compile_once() -> None:
    traces = []

    def objective(net: LinearPCN, x: jax.Array, y: jax.Array) -> jax.Array:
        traces.append(net)
        return pctheory.loss(net, x, y)

    for scale in (1.0, 2.0, 3.0):
        landscape.landscape_values(objective, NET, X, Y, directions=scale * PLANE, axes=(FIRST, scale * SECOND))
    assert len(traces) == 2  # the first for the shape of what the objective returns


class Weighted(eqx.Module):
    """An objective with arrays of its own, which cannot be hashed."""

    factor: jax.Array

    def __call__(self, net: LinearPCN, x: jax.Array, y: jax.Array) -> jax.Array:
        return self.factor.sum() * pctheory.loss(net, x, y)


@pytest.mark.parametrize("function", [landscape.landscape_values, landscape.landscape_field])
def test_an_objective_may_hold_arrays(function) -> None:
    plain, weighted = (
        function(objective, NET, X, Y, directions=PLANE, axes=(FIRST, SECOND))
        for objective in (pctheory.loss, Weighted(jnp.ones(2)))
    )
    np.testing.assert_allclose(weighted, 2 * plain, rtol=1e-12)


# --- bad input ---


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize("function", [landscape.landscape_values, landscape.landscape_field])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"directions": PLANE[:, 1:]}, ValueError, r"directions has shape \(2, 19\), expected \(1 or 2, 20\)"),
        ({"directions": PLANE[0]}, ValueError, r"directions has shape \(20,\), expected 2 axes"),
        (
            {"directions": np.ones((3, SIZE))},
            ValueError,
            r"directions has shape \(3, 20\), expected \(1 or 2",
        ),
        ({"directions": np.nan * PLANE}, ValueError, "directions holds nan"),
        ({"directions": PLANE[:1]}, ValueError, "axes has 2 entries, expected 1: one for each direction"),
        ({"axes": (FIRST,)}, ValueError, "axes has 1 entries, expected 2: one for each direction"),
        ({"axes": (FIRST, PLANE)}, ValueError, r"axes, direction 2 has shape \(2, 20\), expected 1 axes"),
        ({"axes": (FIRST, [])}, ValueError, "axes, direction 2 is empty"),
        ({"axes": (FIRST, [0.0, np.inf])}, ValueError, "axes, direction 2 holds inf"),
        (
            {"axes": ([0.0, 1e200], [0.0, 0.5])},
            FloatingPointError,
            r"objective is \S+ at coordinates \(1e\+200, 0\)",
        ),
        ({"x": X[:3]}, ValueError, "x has 3 rows and y has 4"),
    ],
)
def test_landscapes_refuse(function: Callable, options: dict, error: type[Exception], message: str) -> None:
    usual = {"x": X, "y": Y, "directions": PLANE, "axes": (FIRST, SECOND)}
    with pytest.raises(error, match=message):
        function(pctheory.loss, NET, **{**usual, **options})


def test_field_refuses_a_plane_that_is_a_line_and_what_is_no_number() -> None:
    with pytest.raises(ValueError, match="directions are linearly dependent, expected a plane; change one of them"):
        landscape.landscape_field(pctheory.loss, NET, X, Y, directions=PLANE[[0, 0]], axes=(FIRST, SECOND))
    with pytest.raises(ValueError, match=r"objective returns shape \(3,\), expected a number; sum or average it"):
        landscape.landscape_field(lambda net, x, y: x[0], NET, X, Y, directions=PLANE, axes=(FIRST, SECOND))


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize("count", [0, 1.0, True])
def test_directions_refuse_a_number_of_none(count: object) -> None:
    with pytest.raises(ValueError, match=r"count is .*, expected a whole number of directions, at least 1"):
        landscape.random_directions(NET, count, seed=0)


def test_filters_refuse_a_network_at_the_origin() -> None:
    with pytest.raises(ValueError, match=r"the weights of net are all 0.*; use random_directions"):
        landscape.filter_normalised_directions(LinearPCN([0 * w for w in SMALL.weights]), 1, seed=0)
