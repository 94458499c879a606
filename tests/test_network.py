"""The network object: construction, stacks, parameterisations, and behaviour under JAX transformations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pctheory

from .cases import CASES, Case, case


@pytest.mark.parametrize("given", CASES, ids=lambda c: c.name)
def test_maps_and_widths(given: Case):
    assert list(given.net.widths) == given.widths
    assert given.net.depth == len(given.net.maps) == given.depth
    for made, expected in zip(given.net.maps, given.maps, strict=True):
        np.testing.assert_allclose(made, expected, rtol=1e-15, atol=0)


def test_maps_beyond_double_precision_are_infinite_without_a_word():
    big = pctheory.LinearPCN([np.full((2, 2), 1e200)] * 2, scalings=[1e200, 1.0], skips=[1.0, 0.0])
    assert np.isposinf(big.maps[0]).all()
    assert np.isfinite(big.maps[1]).all()


def test_layers_read_like_a_tuple():
    arrays = [np.full(n, float(i)) for i, n in enumerate((2, 3, 3, 3, 2))]
    layers = pctheory.Layers.of(arrays)
    assert layers.lengths == (1, 3, 1)
    assert len(layers) == 5
    for i in range(-5, 5):
        np.testing.assert_array_equal(layers[i], arrays[i])
    assert [a.shape for a in layers[1:3]] == [(3,), (3,)]
    with pytest.raises(IndexError):
        layers[5]


@pytest.mark.parametrize("lengths", [(5,), (2, 3), (1, 1, 3), (4, 1)])
def test_restacking_keeps_the_layers(lengths: tuple[int, ...]):
    arrays = [np.full(3, float(i)) for i in range(5)]
    layers = pctheory.Layers.of(arrays).restacked((2, 2, 1)).restacked(lengths)
    assert layers.lengths == lengths
    np.testing.assert_array_equal(np.stack(list(layers)), arrays)


def test_validation_runs_at_construction_only():
    """JAX rebuilds the tree with placeholders; that must not raise."""
    net = CASES[0].net
    assert jax.tree.map(lambda leaf: None, net).scalings is None
    doubled = jax.tree.map(lambda leaf: 2 * leaf, net)
    np.testing.assert_array_equal(doubled.weights[0], 2 * net.weights[0])


def test_construction_inside_jit_and_vmap():
    def built(w):
        return pctheory.loss(
            pctheory.LinearPCN([w[None, None], jnp.ones((1, 1))]), jnp.ones((1, 1)), jnp.zeros((1, 1))
        )

    ws = jnp.array([1.0, 2.0, -3.0])
    np.testing.assert_allclose(jax.jit(jax.vmap(built))(ws), ws**2 / 2)


def test_ensemble_under_vmap():
    seeds = jnp.arange(3)
    x, y = np.ones((2, 3)), np.ones((2, 1))
    energies = jax.vmap(lambda s: pctheory.equilibrated_energy(pctheory.mupc((3, 4, 4, 1), seed=s), x, y))(seeds)
    singly = [pctheory.equilibrated_energy(pctheory.mupc((3, 4, 4, 1), seed=s), x, y) for s in range(3)]
    np.testing.assert_allclose(energies, singly, rtol=1e-13)


WIDTHS = (5, 40, 40, 40, 3)
N0, N, L = 5, 40, 4
# a_1, hidden with skips, hidden without, a_L, and the variance of layer l's entries: the table of mupc-2025
TABLE = {
    "standard": (1, 1, 1, 1, lambda n: 1 / n),
    "ntp": (N0**-0.5, (N * L) ** -0.5, N**-0.5, N**-0.5, lambda n: 1.0),
    "mupc": (N0**-0.5, (N * L) ** -0.5, N**-0.5, 1 / N, lambda n: 1.0),
}


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("name", TABLE)
def test_parameterisation_table(name: str, skips: bool):
    first, with_skips, without, last, variance = TABLE[name]
    net = getattr(pctheory, name)(WIDTHS, seed=0, skips=skips, gamma=4.0, output_precision=7.0)
    hidden = with_skips if skips else without
    np.testing.assert_allclose(net.scalings, [first, hidden, hidden, last / 4], rtol=1e-15)
    np.testing.assert_array_equal(net.skips, [0, skips, skips, 0])
    np.testing.assert_array_equal(net.precisions, [1, 1, 1, 7])
    for w in net.weights:
        entries = np.asarray(w).ravel()
        spread = np.sqrt(2 / entries.size)  # standard deviation of a sample variance, relative
        assert abs(entries.var() / variance(w.shape[1]) - 1) < 4 * spread


@pytest.mark.parametrize("initialisation", ["gaussian", "uniform"])
def test_variance_of_the_standard_parameterisation(initialisation: str):
    w = pctheory.standard((300, 200), seed=1, initialisation=initialisation, variance=1 / 3).weights[0]
    assert abs(np.var(w) * 3 * 300 - 1) < 4 * np.sqrt(2 / w.size)
    if initialisation == "uniform":
        bound = 1 / np.sqrt(300)
        assert np.max(np.abs(w)) < bound
        assert np.max(np.abs(w)) > 0.99 * bound


@pytest.mark.parametrize("widths", [(4, 4), (6, 3), (3, 6)])
def test_orthogonal_initialisation(widths: tuple[int, int]):
    w = np.asarray(pctheory.standard(widths, seed=2, initialisation="orthogonal", variance=4.0).weights[0])
    gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(gram, 4 * np.eye(min(w.shape)), atol=1e-14)


def test_weights_do_not_depend_on_depth():
    short, long = (pctheory.mupc((3, *(4,) * depth, 2), seed=5) for depth in (2, 6))
    for l in range(2):
        np.testing.assert_array_equal(short.weights[l], long.weights[l])
    assert not np.array_equal(long.weights[1], long.weights[2])


@pytest.mark.parametrize("initialisation", ["gaussian", "uniform"])
def test_small_layers_are_drawn_as_large_ones(monkeypatch, initialisation):
    def weights(widths: tuple[int, ...], seed: int) -> pctheory.Layers:
        return pctheory.standard(widths, seed=seed, initialisation=initialisation).weights

    drawn = [((5, 7, 7, 3), 0), ((1, 1, 1), 2**40), ((20, 30, 5), -3), ((2,) * 19, 7)]
    expected = [weights(*which) for which in drawn]
    traced = jax.jit(lambda t: weights((5, 7, 7, 3), 0)[1] * t)(1.0)
    np.testing.assert_array_equal(traced, expected[0][1])
    monkeypatch.setattr("pctheory.initialisation.ENTRIES_CLASSES", {0: 1})
    for which, small in zip(drawn, expected, strict=True):
        for one, other in zip(small, weights(*which), strict=True):
            np.testing.assert_array_equal(one, other)


def test_depth_one_has_the_input_scaling():
    assert pctheory.mupc((9, 2), seed=0).scalings == pytest.approx(1 / 3)
    assert pctheory.ntp((9, 2), seed=0).scalings == pytest.approx(1 / 3)


def test_importing_changes_no_global_setting(run_python):
    printed = run_python("import pctheory, jax; pctheory.LinearPCN; print(jax.config.jax_enable_x64)")
    assert printed.strip() == "False"


def test_a_network_does_not_share_its_arrays_with_the_caller():
    weights, biases, numbers = [np.ones((64, 64))], [np.ones(64)], {k: np.ones(1) for k in ("scalings", "skips")}
    net = pctheory.LinearPCN(weights, biases=biases, precisions=np.ones(1), **numbers)
    before = contents(net)
    for array in (*weights, *biases, *numbers.values()):
        array[:] = 7.0
    assert contents(net) == before


def contents(net: pctheory.LinearPCN) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(net)]


def test_new_widths_compile_nothing(run_python):
    """JAX compiles a program for each shape in which arrays of NumPy come in, are stacked or taken apart."""
    code = (
        "import jax, numpy as np, pctheory; from pctheory import trust_region; pctheory.enable_x64()\n"
        "pctheory.mupc((2, 2), seed=0)  # draws entries\n"
        "made = []\n"
        "jax.monitoring.register_event_duration_secs_listener(lambda event, seconds, **more: made.append(event))\n"
        "net = pctheory.mupc((3, 5, 5, 5, 4), seed=0, gamma=2.0, output_precision=3.0)\n"
        "net = pctheory.LinearPCN(list(net.weights), biases=[np.ones(n) for n in net.widths[1:]])\n"
        "net.batch(np.ones((6, 3)), np.ones((6, 4))), net.weights[1], net.runs, net.maps\n"
        "pctheory.weight_vector(net)\n"
        "vectors = trust_region.activity_vectors(net.hidden([np.ones((6, 5))] * 3, 6))\n"
        "trust_region.activities_of(net, np.asarray(vectors))\n"
        "print(len(made))\n"
        "pctheory.rescaling_factor(net)\n"
        "print(len(made))\n"
    )
    known, compiled = map(int, run_python(code).split())
    assert known == 0
    assert compiled > 0, "the count counts"


def test_weights_stay_on_the_device_they_were_put_on(run_python):
    code = (
        "import os; os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=2'\n"
        "import jax, numpy as np, pctheory; pctheory.enable_x64()\n"
        "second = jax.devices()[1]\n"
        "net = pctheory.LinearPCN([jax.device_put(np.ones(shape), second) for shape in ((3, 2), (3, 3), (3, 3))])\n"
        "print({d for a in (*net.weights.runs, *net.weights, *net.maps) for d in a.devices()} == {second})\n"
    )
    assert run_python(code).split() == ["True"]


def test_five_hundred_layers():
    net = pctheory.mupc((3, *(4,) * 499, 2), seed=0)
    x, y = np.ones((1, 3)), np.ones((1, 2))
    found = pctheory.equilibrium(net, x, y)
    np.testing.assert_allclose(pctheory.energy(net, found.activities, x, y), found.energy, rtol=1e-12)


def test_gradient_reaches_every_field():
    given = case("", (3, 4, 4, 2), seed=0, skips=True, biases=True, precisions=True)
    gradient = jax.grad(pctheory.equilibrated_energy)(given.net, given.x, given.y)
    assert all(np.isfinite(leaf).all() and np.any(leaf) for leaf in jax.tree.leaves(gradient))
