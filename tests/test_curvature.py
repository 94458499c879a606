"""Weight Hessians against autodiff of plain products, spectra against dense eigendecompositions, closed forms."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator

import pctheory
from pctheory.claims import TOLERANCE, scaled_error
from pctheory.curvature import hessian as hessian_module
from pctheory.saddles import rank_k_critical_point
from tests.cases import CASES, FEW, Case, case

# H = 1 .. 6 hidden layers, on every shape of the cases that has one
SHAPES = [*(made for made in CASES if made.depth > 1), case("six hidden layers", (2, 3, 2, 2, 3, 1, 2, 3), seed=20)]
ORIGIN = {
    "loss": (pctheory.loss, pctheory.loss_hessian_at_origin),
    "equilibrated": (pctheory.equilibrated_energy, pctheory.equilibrated_hessian_at_origin),
}
ZERO_RANK = {
    "loss": (pctheory.loss, pctheory.loss_hessian_at_zero_rank),
    "equilibrated": (pctheory.equilibrated_energy, pctheory.equilibrated_hessian_at_zero_rank),
}
names = pytest.mark.parametrize("made", FEW, ids=lambda made: made.name)
shapes = pytest.mark.parametrize("made", SHAPES, ids=lambda made: made.name)


def plain_hessian(name: str, made: Case, vector: jax.Array) -> np.ndarray:
    fields = made.scalings, made.skips, made.biases, made.precisions, made.x, made.y
    shapes = tuple(w.shape for w in made.weights)
    return np.asarray(_plain_hessian(name, shapes, vector, fields))


@partial(jax.jit, static_argnums=(0, 1))
def _plain_hessian(name: str, shapes: tuple[tuple[int, int], ...], vector: jax.Array, fields: Any) -> jax.Array:
    """Autodiff of the objective from its definition: forward products and the recursion for S."""
    scalings, skips, biases, precisions, x, y = fields
    stops = np.cumsum([0, *(n * m for n, m in shapes)])

    def value(vector: jax.Array) -> jax.Array:
        z, s = x, jnp.zeros((x.shape[1], x.shape[1]))
        for l, shape in enumerate(shapes):
            weight = vector[stops[l] : stops[l + 1]].reshape(shape)
            a = scalings[l] * weight + skips[l] * jnp.eye(*shape)
            z = z @ a.T + biases[l]
            s = jnp.eye(len(a)) / precisions[l] + a @ s @ a.T
        r = y - z
        pulled = r if name == "loss" else jnp.linalg.solve(s, r.T).T
        return jnp.sum(r * pulled) / (2 * len(x))

    return jax.hessian(value)(vector)


def bare(made: Case, weights: list[np.ndarray] | None = None) -> Case:
    """The case without skips and biases, its weights 0 unless given."""
    return Case(
        made.name,
        [0 * w for w in made.weights] if weights is None else weights,
        made.scalings,
        0 * made.skips,
        [0 * c for c in made.biases],
        made.precisions,
        made.x,
        made.y,
    )


def zero_rank(made: Case) -> Case:
    weights = [0 * w for w in made.weights]
    weights[-2] = made.weights[-2]
    return bare(made, weights)


def moments(made: Case) -> tuple[np.ndarray, np.ndarray]:
    return made.y.T @ made.y / len(made.y), made.y.T @ made.x / len(made.y)


# --- the Hessian of any objective ---


def test_weights_become_a_vector_layer_by_layer_and_row_by_row():
    for made in FEW[:3]:
        vector = pctheory.weight_vector(made.net)
        np.testing.assert_array_equal(vector, np.concatenate([w.ravel() for w in made.weights]))
        back = pctheory.net_at(pctheory.standard(made.widths, seed=1), vector)
        for ours, wanted in zip(back.weights, made.weights, strict=True):
            np.testing.assert_array_equal(ours, wanted)


def test_net_at_passes_through_transformations():
    made = FEW[2]
    vectors = np.random.default_rng(0).standard_normal((3, pctheory.weight_vector(made.net).size))
    value = lambda v: pctheory.equilibrated_energy(pctheory.net_at(made.net, v), made.x, made.y)  # noqa: E731
    batched = jax.jit(jax.vmap(value))(jnp.asarray(vectors))
    np.testing.assert_allclose(batched, [value(v) for v in vectors], rtol=1e-12)
    gradient = jax.grad(value)(jnp.asarray(vectors[0]))
    ours = pctheory.weight_gradient(
        pctheory.equilibrated_energy, pctheory.net_at(made.net, vectors[0]), made.x, made.y
    )
    assert scaled_error(ours, gradient) < TOLERANCE


@names
@pytest.mark.parametrize("name", ["loss", "equilibrated"])
def test_dense_operator_and_blocks_are_the_hessian_of_plain_products(made, name):
    objective = ORIGIN[name][0]
    arguments = objective, made.net, made.x, made.y
    expected = plain_hessian(name, made, pctheory.weight_vector(made.net))
    dense = np.asarray(pctheory.weight_hessian_dense(*arguments))
    assert scaled_error(dense, expected) < TOLERANCE
    operator = pctheory.weight_hessian_operator(*arguments)
    vectors = np.random.default_rng(0).standard_normal((len(expected), 3))
    assert scaled_error(operator @ vectors, expected @ vectors) < TOLERANCE
    assert scaled_error(operator.H @ vectors[:, 0], expected @ vectors[:, 0]) < TOLERANCE
    blocks = pctheory.weight_hessian_blocks(*arguments)
    sizes = [w.size for w in made.weights]
    assert [[block.shape for block in row] for row in blocks] == [[(n, m) for m in sizes] for n in sizes]
    np.testing.assert_array_equal(np.block([[np.asarray(block) for block in row] for row in blocks]), dense)


@pytest.mark.parametrize("numbers", [1, 50, 140, 10**6])
def test_dense_hessian_does_not_depend_on_the_chunks(monkeypatch, numbers):
    made = FEW[0]  # 20 weights: chunks of 1, of 2, of 7 with an overlap, and one of 20
    arguments = pctheory.loss, made.net, made.x, made.y
    expected = pctheory.weight_hessian_dense(*arguments)
    monkeypatch.setattr(hessian_module, "COLUMNS_AT_ONCE", numbers)
    assert scaled_error(pctheory.weight_hessian_dense(*arguments), expected) < TOLERANCE


def test_dense_hessian_under_vmap():
    made = FEW[0]
    vectors = jnp.asarray(np.random.default_rng(0).standard_normal((3, 20)))

    def at(vector: jax.Array) -> jax.Array:
        net = pctheory.net_at(made.net, vector)
        return pctheory.weight_hessian_dense(pctheory.equilibrated_energy, net, made.x, made.y)

    for ours, vector in zip(jax.vmap(at)(vectors), vectors, strict=True):
        assert scaled_error(ours, plain_hessian("equilibrated", made, vector)) < TOLERANCE


def test_own_objective():
    def quartic(net: pctheory.LinearPCN, x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.sum(pctheory.weight_vector(net) ** 4) + jnp.sum(x) * jnp.sum(y)

    made = FEW[2]
    w = np.asarray(pctheory.weight_vector(made.net))
    dense = pctheory.weight_hessian_dense(quartic, made.net, made.x, made.y)
    np.testing.assert_allclose(dense, np.diag(12 * w**2), rtol=1e-14)
    np.testing.assert_allclose(pctheory.weight_gradient(quartic, made.net, made.x, made.y), 4 * w**3, rtol=1e-14)


def test_toy_network_at_the_origin():
    """Eigenvalues +-xy of the loss and (-y^2 +- sqrt(y^4 + 4 x^2 y^2)) / 2 of F*."""
    x, y = 1.5, -0.7
    net = pctheory.LinearPCN([np.zeros((1, 1))] * 2)
    for objective, values in (
        (pctheory.loss, [-abs(x * y), abs(x * y)]),
        (pctheory.equilibrated_energy, (-(y**2) + np.array([-1, 1]) * np.sqrt(y**4 + 4 * x**2 * y**2)) / 2),
    ):
        dense = pctheory.weight_hessian_dense(objective, net, np.array([[x]]), np.array([[y]]))
        np.testing.assert_allclose(np.linalg.eigvalsh(dense), values, rtol=1e-14)


# --- closed forms ---


def agrees(structured: pctheory.StructuredHessian, expected: np.ndarray) -> None:
    assert structured.size == len(expected)
    assert scaled_error(structured.dense(), expected) < TOLERANCE
    rows = np.stack([structured.product(unit) for unit in np.eye(structured.size)])
    assert scaled_error(rows, expected) < TOLERANCE
    vector = np.arange(1.0, 1 + structured.size)
    np.testing.assert_array_equal(structured.operator @ vector, structured.product(vector))
    values, multiplicities = structured.eigenvalues()
    assert np.all(np.diff(values) > 0)
    assert np.all(multiplicities > 0)
    exact = np.linalg.eigvalsh(expected)
    assert scaled_error(np.repeat(values, multiplicities), exact) < TOLERANCE
    assert (
        scaled_error([structured.smallest, structured.largest], exact[[0, -1]], scale=abs(exact).max()) < TOLERANCE
    )


@shapes
@pytest.mark.parametrize("name", ORIGIN)
def test_hessian_at_origin(made, name):
    at = bare(made)
    _, closed = ORIGIN[name]
    expected = plain_hessian(name, at, pctheory.weight_vector(at.net))
    without_skips = bare(made, made.weights)  # the weights are not looked at
    agrees(closed(without_skips.net, at.x, at.y), expected)


@pytest.mark.parametrize("made", [made for made in SHAPES if made.depth > 2], ids=lambda made: made.name)
@pytest.mark.parametrize("name", ZERO_RANK)
def test_hessian_at_zero_rank(made, name):
    at = zero_rank(made)
    _, closed = ZERO_RANK[name]
    agrees(closed(at.net, at.x, at.y), plain_hessian(name, at, pctheory.weight_vector(at.net)))


@pytest.mark.parametrize("name", ORIGIN)
def test_origin_is_the_zero_rank_point_without_weights(name):
    at = bare(SHAPES[5])
    values, multiplicities = ORIGIN[name][1](at.net, at.x, at.y).eigenvalues()
    again, counts = ZERO_RANK[name][1](at.net, at.x, at.y).eigenvalues()
    np.testing.assert_array_equal(values, again)
    np.testing.assert_array_equal(multiplicities, counts)


def test_multiplicities_are_counted_not_guessed():
    """Few samples leave Sigma_yy singular; no eigenvalue that is 0 comes out as rounding."""
    made = case("", (4, 6, 3, 5, 7), seed=3, batch=2)
    values, multiplicities = pctheory.equilibrated_hessian_at_origin(made.net, made.x, made.y).eigenvalues()
    own = -np.linalg.eigvalsh(moments(made)[0])
    np.testing.assert_allclose(values, np.sort([*np.sort(own)[:2], 0]), rtol=1e-13)
    assert multiplicities.tolist() == [5, 5, 24 + 18 + 15 + 35 - 10]
    values, multiplicities = pctheory.loss_hessian_at_origin(made.net, made.x, made.y).eigenvalues()
    assert values.tolist() == [0.0]
    assert multiplicities.tolist() == [24 + 18 + 15 + 35]
    shallow = case("", (4, 6, 3), seed=3, batch=2)
    values, multiplicities = pctheory.loss_hessian_at_origin(shallow.net, shallow.x, shallow.y).eigenvalues()
    sigma = np.linalg.svd(moments(shallow)[1], compute_uv=False)[:2]
    np.testing.assert_allclose(values, [-sigma[0], -sigma[1], 0, sigma[1], sigma[0]], rtol=1e-13)
    assert multiplicities.tolist() == [6, 6, 42 - 24, 6, 6]


def test_no_signal_leaves_no_curvature():
    made = bare(SHAPES[2])
    for closed in (pctheory.loss_hessian_at_origin, pctheory.equilibrated_hessian_at_origin):
        structured = closed(made.net, made.x, 0 * made.y)
        values, multiplicities = structured.eigenvalues()
        assert values.tolist() == [0.0]
        assert multiplicities.tolist() == [structured.size]
        assert str(structured.smallest) == "0.0"


def test_zero_rank_spectrum_is_a_product_from_three_hidden_layers_on():
    """-lambda_i(Sigma_yy) lambda_j(K) is the whole spectrum only if H >= 3; with K = I it never is."""
    for hidden, holds in ((2, False), (3, True)):
        made = zero_rank(case("", (*(3, 4, 2, 3)[: hidden + 1], 2), seed=5))
        structured = pctheory.equilibrated_hessian_at_zero_rank(made.net, made.x, made.y)
        v = made.weights[-2]
        kernel = np.eye(len(v)) + v @ v.T
        own = np.linalg.eigvalsh(moments(made)[0])
        values = np.repeat(*structured.eigenvalues())
        for factor, right in ((np.linalg.eigvalsh(kernel), holds), (np.ones(len(v)), False)):
            products = np.outer(own, factor).ravel()
            guess = np.sort([*-products, *np.zeros(structured.size - len(products))])
            assert (scaled_error(guess, values) < TOLERANCE) == right
        assert structured.smallest <= -(own[-1] * np.linalg.eigvalsh(kernel)[-1]) * (1 - TOLERANCE)
        assert (structured.largest > 0.01) == (not holds)


def test_spectrum_of_a_million_weights():
    """A dense matrix of this size would take ten terabytes."""
    net = pctheory.standard((784, 500, 500, 500, 500, 10), seed=0)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((64, 784)), rng.standard_normal((64, 10))
    values, multiplicities = pctheory.equilibrated_hessian_at_origin(net, x, y).eigenvalues()
    np.testing.assert_allclose(values[:-1], np.sort(-np.linalg.eigvalsh(y.T @ y / 64)), rtol=1e-12)
    assert values[-1] == 0
    assert multiplicities.tolist() == [500] * 10 + [1_147_000 - 5000]


# --- extreme eigenpairs ---


def reflected(spectrum: np.ndarray) -> LinearOperator:
    """Q diag(spectrum) Q with a reflection Q: eigenvalues known, eigenvectors spread over all entries."""
    axis = np.random.default_rng(1).standard_normal(len(spectrum))
    axis /= np.linalg.norm(axis)

    def reflect(v: np.ndarray) -> np.ndarray:
        return v - 2 * axis * (axis @ v)

    shape = (len(spectrum), len(spectrum))
    return LinearOperator(shape, matvec=lambda v: reflect(spectrum * reflect(np.ravel(v))), dtype=float)


def mostly_zero(size: int) -> np.ndarray:
    spectrum = np.zeros(size)
    spectrum[:7] = [-2.0, -2.0, -1.5, 0.5, 3.0, 3.0, 3.0]
    return spectrum


SPECTRA: dict[str, Callable[[int], np.ndarray]] = {
    "zero": np.zeros,
    "identity": np.ones,
    "multiple of identity": lambda n: np.full(n, -2.5),
    "rank one": lambda n: np.eye(n)[0] * 4.0,
    "negative of rank one": lambda n: np.eye(n)[0] * -1e-3,
    "mostly zero, repeated ends": mostly_zero,
    "two values": lambda n: np.where(np.arange(n) % 2, 1.0, -1.0),
    "bulk and outliers": lambda n: np.r_[-2.0, -1.8, -1.5, np.linspace(-1, 1, n - 6), 1.5, 1.8, 3.0],
    "tiny": lambda n: 1e-200 * mostly_zero(n),
    "huge": lambda n: 1e200 * mostly_zero(n),
    "non-negative, thousands of zeros": lambda n: np.maximum(np.arange(n) - n + 50.0, 0.0),
}


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("size", [8, 5000])
@pytest.mark.parametrize("name", SPECTRA)
def test_extreme_eigenpairs(name, size, count):
    spectrum = SPECTRA[name](size)
    operator = reflected(spectrum)
    found = pctheory.extreme_eigenpairs(operator, count=count)
    assert found.converged
    scale = float(np.abs(spectrum).max())
    ordered = np.sort(spectrum)
    assert scaled_error(found.lowest, ordered[:count], scale=scale) < 1e-8  # the tolerance of the residuals
    assert scaled_error(found.highest, ordered[::-1][:count], scale=scale) < 1e-8
    assert (found.smallest, found.largest) == (found.lowest[0], found.highest[0])
    for i, (values, vectors) in enumerate(
        ((found.lowest, found.lowest_vectors), (found.highest, found.highest_vectors))
    ):
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(count), atol=1e-12)
        images = np.stack([operator @ v for v in vectors.T], axis=1)
        unit = scale or 1.0  # the squares of tiny and huge numbers leave the range
        residuals = np.linalg.norm((images - vectors * values) / unit, axis=0)
        np.testing.assert_allclose(found.residuals[i] / unit, residuals, atol=1e-14)
    np.testing.assert_array_equal(found.smallest_vector, found.lowest_vectors[:, 0])
    np.testing.assert_array_equal(found.largest_vector, found.highest_vectors[:, 0])


def test_extreme_eigenpairs_of_matrices():
    for size in (1, 2, 5):
        matrix = np.random.default_rng(size).standard_normal((size, size))
        matrix += matrix.T
        exact = np.linalg.eigvalsh(matrix)
        found = pctheory.extreme_eigenpairs(matrix, count=size)
        np.testing.assert_allclose(found.lowest, exact, atol=1e-13)
        np.testing.assert_array_equal(found.highest, found.lowest[::-1])


def test_extreme_eigenpairs_of_a_large_matrix():
    matrix = np.diag(mostly_zero(2100))
    matrix[0, 1] = matrix[1, 0] = 0.5  # splits the repeated eigenvalue -2
    found = pctheory.extreme_eigenpairs(matrix, count=3)
    np.testing.assert_allclose(found.lowest, [-2.5, -1.5, -1.5], atol=1e-7)
    np.testing.assert_allclose(found.highest, [3, 3, 3], atol=1e-7)
    assert found.converged


def test_extreme_eigenpairs_are_the_same_every_time():
    operator = reflected(SPECTRA["bulk and outliers"](3000))
    first, second = (pctheory.extreme_eigenpairs(operator) for _ in range(2))
    np.testing.assert_array_equal(first.lowest_vectors, second.lowest_vectors)
    np.testing.assert_array_equal(first.residuals, second.residuals)


FORMS = {"columns first": np.asfortranarray, "every other": lambda a: np.repeat(a, 2, axis=-1)[..., ::2]}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_numbers_do_not_depend_on_where_they_lie_in_memory(form):
    rng = np.random.default_rng(0)
    x, y, points = rng.standard_normal((40, 30)), rng.standard_normal((40, 15)), np.linspace(-2, 2, 9)
    matrix = rng.standard_normal((30, 30))
    matrix += matrix.T
    exact = pctheory.equilibrated_hessian_at_origin(pctheory.standard((30, 30, 15), seed=0), x, y)
    vector = rng.standard_normal(exact.size)
    for function, *arrays in (
        (lambda a: pctheory.extreme_eigenpairs(a).lowest_vectors, matrix),
        (lambda a, p: pctheory.spectral_density(a, points=p, width=0.5).density, matrix, points),
        (exact.product, vector),
        (lambda x, y: rank_k_critical_point((30, 30, 15), x, y, [1, 2], seed=0).weights[0], x, y),
    ):
        np.testing.assert_array_equal(function(*map(form, arrays)), function(*arrays))


def test_search_cut_short_says_so():
    found = pctheory.extreme_eigenpairs(reflected(np.linspace(-1, 2, 3000)), max_products=10)
    assert not found.converged
    assert found.residuals.max() > 1e-8 * 2
    assert -1 <= found.smallest <= 0 < found.largest <= 2  # Ritz values lie within the spectrum


def test_operator_that_is_not_symmetric_does_not_converge():
    skewed = reflected(np.linspace(1, 2, 3000))
    operator = LinearOperator((3000, 3000), matvec=lambda v: skewed @ v + np.roll(np.ravel(v), 1), dtype=float)
    assert not pctheory.extreme_eigenpairs(operator, max_products=200).converged


@names
def test_extreme_eigenpairs_of_a_network(made):
    arguments = pctheory.equilibrated_energy, made.net, made.x, made.y
    exact = np.linalg.eigvalsh(pctheory.weight_hessian_dense(*arguments))
    found = pctheory.extreme_eigenpairs(pctheory.weight_hessian_operator(*arguments))
    assert found.converged
    np.testing.assert_allclose([found.smallest, found.largest], exact[[0, -1]], atol=1e-12 * abs(exact).max())


def test_extreme_eigenpairs_of_a_large_network_at_its_saddle():
    net = pctheory.LinearPCN([np.zeros((40, 30)), np.zeros((40, 40)), np.zeros((3, 40))])  # 2,920 weights
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((10, 30)), rng.standard_normal((10, 3))
    found = pctheory.extreme_eigenpairs(
        pctheory.weight_hessian_operator(pctheory.equilibrated_energy, net, x, y), count=4
    )
    exact = np.linalg.eigvalsh(y.T @ y / 10)[-1]
    assert found.converged
    np.testing.assert_allclose(found.lowest, [-exact] * 4, rtol=1e-8)
    np.testing.assert_allclose(found.highest, np.zeros(4), atol=1e-8)


# --- spectral density ---


def widened(spectrum: np.ndarray, points: np.ndarray, width: float) -> np.ndarray:
    """The density of the eigenvalues, from its formula."""
    return np.exp(-(((points[:, None] - spectrum) / width) ** 2) / 2).mean(axis=1) / (width * np.sqrt(2 * np.pi))


@pytest.mark.parametrize("size", [1, 2, 60, 400])
def test_spectral_density_matches_the_exact_spectrum(size):
    spectrum = np.sort(np.random.default_rng(size).standard_normal(size) ** 3)
    width = 0.5
    points = np.linspace(spectrum[0] - 5, spectrum[-1] + 5, 400)
    found = pctheory.spectral_density(reflected(spectrum), points=points, width=width, probes=100, steps=60)
    exact = widened(spectrum, points, width)
    rounding = 1e-12 * exact.max()
    assert np.all(np.abs(found.density - exact) <= 5 * found.standard_error + rounding)
    assert np.mean(np.abs(found.density - exact) <= 2 * found.standard_error + rounding) > 0.6
    assert found.standard_error.max() < 0.3 * exact.max()
    assert abs(np.trapezoid(found.density, points) - 1) < 1e-6  # quadrature of a smooth function
    np.testing.assert_array_equal(found.points, points)


@pytest.mark.parametrize("value", [0.0, 1.0, -2.5])
def test_spectral_density_of_multiples_of_the_identity_is_exact(value):
    points = np.linspace(-4, 4, 30)
    found = pctheory.spectral_density(value * np.eye(50), points=points, width=0.3, probes=3, steps=20)
    np.testing.assert_allclose(found.density, widened(np.full(50, value), points, 0.3), rtol=1e-10)
    np.testing.assert_allclose(found.standard_error, 0, atol=1e-13)


def test_spectral_density_of_a_network():
    made = next(made for made in FEW if made.name == "everything, depth 6")
    arguments = pctheory.equilibrated_energy, made.net, made.x, made.y
    exact = np.linalg.eigvalsh(pctheory.weight_hessian_dense(*arguments))
    width = 0.05 * np.ptp(exact)
    points = np.linspace(exact[0] - width, exact[-1] + width, 50)
    operator = pctheory.weight_hessian_operator(*arguments)
    found = pctheory.spectral_density(operator, points=points, width=width, probes=50, steps=100)
    error = np.abs(found.density - widened(exact, points, width))
    assert np.all(error <= 5 * found.standard_error + 1e-12)


def test_spectral_density_depends_on_the_seed_alone():
    density = partial(
        pctheory.spectral_density, np.diag(np.arange(9.0)), points=np.arange(9.0), width=1.0, probes=2, steps=4
    )
    np.testing.assert_array_equal(density(seed=3).density, density(seed=3).density)
    assert np.any(density(seed=3).density != density(seed=4).density)


# --- bad input ---

NET = pctheory.LinearPCN([np.ones((3, 2)), np.ones((2, 3)), np.ones((1, 2))])
X, Y = np.ones((4, 2)), np.ones((4, 1))
AT_ORIGIN, AT_ZERO_RANK = pctheory.equilibrated_hessian_at_origin, pctheory.equilibrated_hessian_at_zero_rank
WIDE = pctheory.standard((1000, 1000), seed=0)


def shaped(net: Any, x: Any, y: Any) -> jax.Array:
    return y - pctheory.feedforward(net, x)[-1]


def infinite(net: Any, x: Any, y: Any) -> jax.Array:
    return pctheory.loss(net, x, y) / 0.0


def rising(net: Any, x: Any, y: Any) -> jax.Array:
    """Finite where its derivative is not."""
    return jnp.sqrt(jnp.sum((pctheory.weight_vector(net) - 1) ** 2))


BAD: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "vector of another length": (
        lambda: pctheory.net_at(NET, np.ones(3)),
        ValueError,
        "vector has shape (3,), expected (14,): one number per weight",
    ),
    "matrix for a vector": (
        lambda: pctheory.net_at(NET, np.ones((14, 1))),
        ValueError,
        "vector has shape (14, 1), expected 1 axes",
    ),
    "objective that is no number": (
        lambda: pctheory.weight_hessian_dense(shaped, NET, X, Y),
        ValueError,
        "objective returns shape (4, 1), expected a number; sum or average it",
    ),
    "infinite objective": (
        lambda: pctheory.weight_hessian_operator(infinite, NET, X, Y),
        FloatingPointError,
        "objective is inf at this network, expected a finite number",
    ),
    "overflowing objective": (
        lambda: pctheory.weight_gradient(pctheory.loss, pctheory.LinearPCN([1e200 * np.ones((1, 2))]), X, Y),
        FloatingPointError,
        "objective is inf at this network",
    ),
    "objective without derivative": (
        lambda: pctheory.weight_hessian_dense(rising, NET, X, Y),
        FloatingPointError,
        "weight_hessian_dense: the result holds nan at index (0, 0)",
    ),
    "product that is not finite": (
        lambda: pctheory.weight_hessian_operator(rising, NET, X, Y) @ np.ones(14),
        FloatingPointError,
        "weight_hessian_operator: the result holds nan",
    ),
    "product with a vector that is not finite": (
        lambda: pctheory.weight_hessian_operator(pctheory.loss, NET, X, Y) @ np.full(14, np.nan),
        ValueError,
        "vector holds nan at index (0,); every entry must be finite",
    ),
    "product with a vector of another length": (
        lambda: pctheory.weight_hessian_operator(pctheory.loss, NET, X, Y) @ np.ones(3),
        ValueError,
        "",
    ),
    "dense Hessian that does not fit": (
        lambda: pctheory.weight_hessian_dense(pctheory.loss, WIDE, np.ones((1, 1000)), np.ones((1, 1000))),
        MemoryError,
        "weight_hessian_dense: 1000000 x 1000000 numbers need 7450.6 GiB, more than this machine's",
    ),
    "batch of another width": (
        lambda: pctheory.weight_hessian_dense(pctheory.loss, NET, X[:, :1], Y),
        ValueError,
        "x has 1 columns, expected N_0 = 2",
    ),
    "weights at the zero-rank point": (
        lambda: AT_ZERO_RANK(NET, X, Y),
        ValueError,
        "net, layer 1 has a weight of size 1, expected 0: all weights but those of layer 2 vanish at this saddle",
    ),
    "last weights at the zero-rank point": (
        lambda: AT_ZERO_RANK(pctheory.LinearPCN([np.zeros((3, 2)), np.ones((2, 3)), np.full((1, 2), 0.25)]), X, Y),
        ValueError,
        "net, layer 3 has a weight of size 0.25, expected 0",
    ),
    "one hidden layer at the zero-rank point": (
        lambda: AT_ZERO_RANK(pctheory.standard((2, 3, 1), seed=0), X, Y),
        ValueError,
        "net has 1 hidden layers, expected at least 2: with one, use the Hessian at the origin",
    ),
    "no hidden layer at the origin": (
        lambda: AT_ORIGIN(pctheory.standard((2, 1), seed=0), X, Y),
        ValueError,
        "net has 0 hidden layers, expected at least 1: without any, the loss is quadratic",
    ),
    "skips at the origin": (
        lambda: AT_ORIGIN(pctheory.standard((2, 3, 3, 1), seed=0, skips=True), X, Y),
        ValueError,
        "net, layer 2 has a skip of size 1, expected 0; remove it",
    ),
    "biases at the origin": (
        lambda: AT_ORIGIN(
            pctheory.LinearPCN([np.ones((3, 2)), np.ones((1, 3))], biases=[np.ones(3), np.zeros(1)]), X, Y
        ),
        ValueError,
        "net, layer 1 has a bias of size 1, expected 0; remove it",
    ),
    "closed form with a vector of another length": (
        lambda: AT_ORIGIN(NET, X, Y).product(np.ones(3)),
        ValueError,
        "vector has shape (3,), expected (14,): one number per weight",
    ),
    "closed form that overflows": (
        lambda: AT_ORIGIN(NET, X, 1e200 * Y).eigenvalues(),
        FloatingPointError,
        "StructuredHessian.eigenvalues: the result holds",
    ),
    "product of a closed form that overflows": (
        lambda: AT_ORIGIN(NET, X, 1e200 * Y).product(np.ones(14)),
        FloatingPointError,
        "StructuredHessian.product: the result holds",
    ),
    "closed form that does not fit": (
        lambda: AT_ORIGIN(WIDE_HIDDEN, np.ones((1, 1000)), np.ones((1, 1))).dense(),
        MemoryError,
        "StructuredHessian.dense: 1001000 x 1001000 numbers need",
    ),
    "Lanczos basis that does not fit": (
        lambda: pctheory.extreme_eigenpairs(HUGE),
        MemoryError,
        "extreme_eigenpairs: 60 x 10000000000 numbers need 4470.3 GiB",
    ),
    "Lanczos vectors that do not fit": (
        lambda: pctheory.spectral_density(HUGE, points=[0.0], width=1.0, steps=20),
        MemoryError,
        "spectral_density: 20 x 10000000000 numbers need 1490.1 GiB",
    ),
    "rectangular matrix": (
        lambda: pctheory.extreme_eigenpairs(np.ones((2, 3))),
        ValueError,
        "matrix has shape (2, 3), expected a square one",
    ),
    "matrix that is not symmetric": (
        lambda: pctheory.extreme_eigenpairs(np.array([[1.0, 2.0], [0.0, 1.0]])),
        ValueError,
        "matrix differs from its transpose by 2, expected a symmetric one",
    ),
    "matrix with NaN": (
        lambda: pctheory.extreme_eigenpairs(np.array([[np.nan]])),
        ValueError,
        "matrix holds nan at index (0, 0)",
    ),
    "operator with NaN": (
        lambda: pctheory.extreme_eigenpairs(reflected(np.full(3000, np.nan))),
        FloatingPointError,
        "matrix: its product with a finite vector is not finite",
    ),
    "no eigenpairs": (
        lambda: pctheory.extreme_eigenpairs(np.eye(3), count=0),
        ValueError,
        "count is 0, expected a whole number from 1 to 3",
    ),
    "more eigenpairs than rows": (
        lambda: pctheory.extreme_eigenpairs(np.eye(3), count=4),
        ValueError,
        "count is 4, expected a whole number from 1 to 3",
    ),
    "no tolerance": (
        lambda: pctheory.extreme_eigenpairs(np.eye(3), tolerance=0.0),
        ValueError,
        "tolerance is 0.0, expected a positive finite number",
    ),
    "no products": (
        lambda: pctheory.extreme_eigenpairs(np.eye(3), max_products=0),
        ValueError,
        "max_products is 0, expected a whole number of at least 1",
    ),
    "one probe": (
        lambda: pctheory.spectral_density(np.eye(3), points=np.zeros(1), width=1.0, probes=1),
        ValueError,
        "probes is 1, expected a whole number of at least 2",
    ),
    "no width": (
        lambda: pctheory.spectral_density(np.eye(3), points=np.zeros(1), width=0.0),
        ValueError,
        "width is 0.0, expected a positive finite number",
    ),
    "points in a matrix": (
        lambda: pctheory.spectral_density(np.eye(3), points=np.zeros((1, 1)), width=1.0),
        ValueError,
        "points has shape (1, 1), expected 1 axes",
    ),
}
HUGE = LinearOperator((10**10, 10**10), matvec=lambda v: v, dtype=float)
WIDE_HIDDEN = pctheory.LinearPCN([np.zeros((1000, 1000)), np.zeros((1, 1000))])


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name):
    call, error, message = BAD[name]
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(error) as raised:
            call()
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
