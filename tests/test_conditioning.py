"""Conditioning of inference against dense matrices, exact inertia in many digits, and Hessians by JAX."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import pctheory
from pctheory import conditioning, nonlinear
from pctheory.conditioning import extremes, lanczos, nonlinear_extremes
from tests import oracles
from tests.cases import CASES, FEW, case

DEEP = [given for given in CASES if given.depth > 1]
# An eigenvalue of a float64 dense solver is off by some eps times the largest; the cases have cond below 1e4.
DENSE = 1e-11


def dense_extremes(given):
    values = np.linalg.eigvalsh(oracles.linear_system(given)[0])
    return values[0], values[-1]


def growing(width, hidden, outputs, *, seed=3):
    """SP with skips: products of its maps grow exponentially with depth."""
    return pctheory.standard((width,) * (hidden + 1) + (outputs,), seed=seed, skips=True)


def is_positive(net, shift):
    """Whether H_z - shift I is positive definite, by elimination within the band, in 80 digits."""
    with mpmath.workdps(80):
        maps = [np.vectorize(mpmath.mpf, otypes=[object])(np.asarray(m).astype(object)) for m in net.maps][1:]
        pi = [mpmath.mpf(float(p)) for p in net.precisions]
        stops = np.cumsum([0, *net.widths[1:-1]])
        h = np.zeros((stops[-1], stops[-1]), dtype=object)
        for l, (i, j) in enumerate(pairwise(stops)):
            h[i:j, i:j] = pi[l + 1] * maps[l].T @ maps[l] + np.eye(j - i, dtype=int) * (pi[l] - shift)
            if l:
                below = stops[l - 1]
                h[i:j, below:i] = -pi[l] * maps[l - 1]
                h[below:i, i:j] = h[i:j, below:i].T
        band = 2 * max(net.widths)
        for k in range(len(h)):
            if h[k, k] <= 0:
                return False
            end = min(len(h), k + band)
            for i in range(k + 1, end):
                h[i, k:end] = h[i, k:end] - h[i, k] / h[k, k] * h[k, k:end]
        return True


class TestFits:
    def test_exact_laws(self):
        x = np.array([1.0, 2.0, 4.0, 7.0])
        power = conditioning.log_log_fit(x, 3 * x**-2.5)
        np.testing.assert_allclose([power.slope, *power.interval, np.exp(power.intercept)], [-2.5, -2.5, -2.5, 3])
        rate = conditioning.exponential_fit(x - 3, 2 * np.exp(0.7 * (x - 3)))
        np.testing.assert_allclose([rate.slope, np.exp(rate.intercept)], [0.7, 2])
        assert power.keeps_to(-2.6, -2.4)
        assert not power.keeps_to(-2.4, 0.0)

    def test_interval_covers_as_often_as_it_says(self):
        rng = np.random.default_rng(0)
        x = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
        hits = 0
        for _ in range(400):
            fit = conditioning.log_log_fit(x, x**1.5 * np.exp(0.3 * rng.standard_normal(5)), level=0.8)
            hits += fit.interval[0] <= 1.5 <= fit.interval[1]
        assert abs(hits / 400 - 0.8) < 4 * np.sqrt(0.8 * 0.2 / 400)  # four standard deviations of the count

    @pytest.mark.parametrize(
        ("x", "y", "level", "message"),
        [
            ([1, 2], [1, 2], 0.95, "x has 2 points, expected at least 3"),
            ([1, 2, 3], [1, 2], 0.95, r"x has shape \(3,\) and y \(2,\)"),
            ([1, 2, 3], [1, 0, 2], 0.95, "y is 0.0 at index 1, expected a positive"),
            ([1, np.nan, 3], [1, 1, 2], 0.95, "x is nan at index 1"),
            ([-1, 2, 3], [1, 1, 2], 0.95, "x is -1.0 at index 0, expected a positive"),
            ([1, 2, 3], [1, np.inf, 2], 0.95, "y is inf at index 1"),
            ([2, 2, 2], [1, 2, 3], 0.95, "x is the same at every point"),
            ([1, 2, 3], [1, 2, 4], 1.0, "level is 1.0"),
        ],
    )
    def test_bad_input(self, x, y, level, message):
        with pytest.raises(ValueError, match=message):
            conditioning.log_log_fit(x, y, level)


class TestExtremes:
    @pytest.mark.parametrize("given", DEEP, ids=lambda given: given.name)
    def test_dense_twin(self, given):
        found = conditioning.activity_hessian_extremes(given.net)
        low, high = dense_extremes(given)
        np.testing.assert_allclose([found.smallest, found.largest], [low, high], rtol=DENSE)
        np.testing.assert_allclose(found.condition_number, high / low, rtol=2 * DENSE)
        assert found.converged
        assert found.method == "dense"

    @pytest.mark.parametrize("given", [FEW[0], FEW[3], FEW[4]], ids=lambda given: given.name)
    def test_every_route_to_the_smallest(self, given, monkeypatch):
        monkeypatch.setattr(extremes, "DENSE_BELOW", 0)
        low, high = dense_extremes(given)
        found = conditioning.activity_hessian_extremes(given.net, tolerance=1e-10)
        assert found.method == "sweeps"
        assert found.converged
        np.testing.assert_allclose([found.smallest, found.largest], [low, high], rtol=DENSE)
        monkeypatch.setattr(extremes, "_by_sweeps", lambda *_: None)
        found = conditioning.activity_hessian_extremes(given.net, tolerance=1e-10)
        assert found.method == "triangles"
        np.testing.assert_allclose([found.smallest, found.largest], [low, high], rtol=DENSE)

    @pytest.mark.parametrize("outputs", [1, 4])
    def test_ill_conditioned_in_eighty_digits(self, outputs, monkeypatch):
        """Where products of the maps grow: the sweeps keep tiny eigenvalues, the triangles what the sweeps lose."""
        net = growing(4, 60, outputs)
        one_way = {1: "sweeps", 4: "triangles"}[outputs]
        for threshold in (600, 0):
            monkeypatch.setattr(extremes, "DENSE_BELOW", threshold)
            found = conditioning.activity_hessian_extremes(net)
            assert found.method == ("dense" if threshold else one_way)
            assert found.converged
            off = 4 * max(found.errors[0], 1e-14)  # the bound on the error, and what rounding adds to the bracket
            assert is_positive(net, found.smallest * (1 - off))
            assert not is_positive(net, found.smallest * (1 + off))
        assert found.condition_number > {1: 1e11, 4: 1e4}[outputs]

    def test_rounding_in_the_sweeps_is_seen(self):
        """A square growing chain: without the check the sweeps would return a wrong number."""
        net = growing(8, 100, 8)
        start = np.random.default_rng(0).standard_normal(800)
        assert extremes._by_sweeps(net, start, 1e-6, 100) is None
        factor = pctheory.rescaling_factor(net)
        wrong = lanczos.largest_eigenpair(lambda v: np.asarray(extremes._swept(net, factor, v)), start, 1e-6, 100)
        right = conditioning.activity_hessian_extremes(net)
        assert abs(1 / wrong.value / right.smallest - 1) > 1e-6

    def test_restarts(self, monkeypatch):
        """More products than the basis holds, against a dense matrix of known spectrum."""
        monkeypatch.setattr(lanczos, "ROOM", 24)
        monkeypatch.setattr(lanczos, "KEPT", 8)
        values = np.append(np.linspace(1, 2, 299), 2.01)
        found = lanczos.largest_eigenpair(lambda v: values * v, np.ones(300), 1e-9, 1000)
        assert found.applied > 48
        assert abs(found.value / 2.01 - 1) <= found.error <= 1e-9
        assert found.residual < 1e-3

    @pytest.mark.parametrize("copies", [1, 5])
    def test_invariant_subspace(self, copies):
        values = np.repeat([1.0, 3.0], [4, copies])
        found = lanczos.largest_eigenpair(lambda v: values * v, np.ones(4 + copies), 1e-10, 100)
        assert found.applied <= 4
        np.testing.assert_allclose(found.value, 3, rtol=1e-14)

    def test_unfinished_is_reported(self, monkeypatch):
        monkeypatch.setattr(extremes, "DENSE_BELOW", 0)
        net = growing(4, 60, 1)
        found = conditioning.activity_hessian_extremes(net, max_products=3)
        assert not found.converged
        assert max(found.errors) > 1e-6
        true = conditioning.activity_hessian_extremes(net)
        assert abs(found.largest / true.largest - 1) <= found.errors[1]
        assert found.products == 4  # one more to measure the residual

    def test_decay_shifts_the_extremes(self):
        net = FEW[0].net
        plain, decayed = (conditioning.activity_hessian_extremes(net, decay=d) for d in (0.0, 0.5))
        assert decayed.smallest == plain.smallest + 0.5
        assert decayed.largest == plain.largest + 0.5
        dense = np.linalg.eigvalsh(np.asarray(pctheory.activity_hessian_dense(net)) + 0.5 * np.eye(4))
        np.testing.assert_allclose([decayed.smallest, decayed.largest], dense[[0, -1]], rtol=DENSE)

    @pytest.mark.parametrize("precision", [1e-8, 1e8])
    def test_scales_of_precision(self, precision):
        given = case("scaled", (3, 4, 4, 2), seed=1, skips=True)
        given.precisions[:] = [1.0, precision, 1.0]
        found = conditioning.activity_hessian_extremes(given.net)
        low, high = dense_extremes(given)
        np.testing.assert_allclose([found.smallest, found.largest], [low, high], rtol=1e-7)  # the twin: eps cond

    def test_500_layers_of_width_1(self):
        """A discrete Laplacian, fixed at both ends: 4 sin(k pi / (2 L))^2."""
        net = pctheory.LinearPCN([np.ones((1, 1))] * 500)
        found = conditioning.activity_hessian_extremes(net)
        exact = 4 * np.sin(np.pi * np.array([1, 499]) / 1000) ** 2
        np.testing.assert_allclose([found.smallest, found.largest], exact, rtol=1e-12)  # eps sqrt(cond) = 7e-14

    @pytest.mark.slow
    def test_depth_700_by_lanczos(self):
        """The same beyond the dense threshold, where neighbouring eigenvalues differ by 1e-5."""
        net = pctheory.LinearPCN([np.ones((1, 1))] * 700)
        found = conditioning.activity_hessian_extremes(net)
        exact = 4 * np.sin(np.pi * np.array([1, 699]) / 1400) ** 2
        assert found.method == "sweeps"
        assert found.converged
        assert (np.abs([found.smallest, found.largest] / exact - 1) <= np.array(found.errors)).all()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"decay": -0.1}, "decay is -0.1, expected a finite number of at least 0"),
            ({"decay": np.nan}, "decay is nan"),
            ({"tolerance": 0.0}, "tolerance is 0.0"),
            ({"max_products": 0}, "max_products is 0"),
            ({"max_products": True}, "max_products is True"),
        ],
    )
    def test_bad_input(self, options, message):
        with pytest.raises(ValueError, match=message):
            conditioning.activity_hessian_extremes(FEW[0].net, **options)

    def test_no_hidden_layer(self):
        with pytest.raises(ValueError, match="depth 1 has no hidden layers"):
            conditioning.activity_hessian_extremes(CASES[0].net)

    def test_overflow_is_reported(self):
        net = pctheory.LinearPCN([np.full((2, 2), 1e200)] * 3)
        with pytest.raises(FloatingPointError, match="is not finite"):
            conditioning.activity_hessian_extremes(net)


def test_orthogonal_spectrum_is_exact():
    hidden, width, outputs = 5, 4, 2
    net = pctheory.standard((3, *(width,) * hidden, outputs), seed=0, initialisation="orthogonal")
    k = np.arange(1, hidden + 1)
    free, clamped = 2 - 2 * np.cos((2 * k - 1) * np.pi / (2 * hidden + 1)), 2 - 2 * np.cos(k * np.pi / (hidden + 1))
    exact = np.sort(np.concatenate([np.repeat(free, width - outputs), np.repeat(clamped, outputs)]))
    np.testing.assert_allclose(conditioning.activity_hessian_spectrum(net), exact, rtol=1e-12)


class TestSpectrum:
    @pytest.mark.parametrize("given", FEW, ids=lambda given: given.name)
    def test_parts(self, given):
        dense = oracles.linear_system(given)[0]
        stops = np.cumsum([0, *given.widths[1:-1]])
        own = np.zeros_like(dense)
        for i, j in pairwise(stops):
            own[i:j, i:j] = dense[i:j, i:j]
        parts = conditioning.activity_hessian_split(given.net)
        np.testing.assert_allclose(parts[0], own, rtol=0, atol=1e-13 * abs(dense).max())
        np.testing.assert_allclose(parts[1], dense - own, rtol=0, atol=1e-13 * abs(dense).max())
        for part, matrix in (("all", dense), ("diagonal", own), ("off-diagonal", dense - own)):
            found = conditioning.activity_hessian_spectrum(given.net, part, decay=0.25)
            expected = np.linalg.eigvalsh(matrix) + (0 if part == "off-diagonal" else 0.25)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13 * abs(dense).max())

    def test_bad_input(self):
        with pytest.raises(ValueError, match="part is 'upper', expected one of all, diagonal, off-diagonal"):
            conditioning.activity_hessian_spectrum(FEW[0].net, "upper")
        with pytest.raises(ValueError, match="decay is -1"):
            conditioning.activity_hessian_spectrum(FEW[0].net, decay=-1.0)
        for part in ("all", "diagonal", "off-diagonal"):
            with pytest.raises(ValueError, match="no hidden layers"):
                conditioning.activity_hessian_spectrum(CASES[0].net, part)

    def test_memory_is_refused_before_allocating(self):
        net = pctheory.LinearPCN(pctheory.Layers((jnp.ones((300_000, 1, 1)),)))
        with pytest.raises(MemoryError, match="activity_hessian_spectrum"):
            conditioning.activity_hessian_spectrum(net)
        with pytest.raises(MemoryError, match="activity_hessian_split"):
            conditioning.activity_hessian_split(net)


class TestNonlinearExtremes:
    @staticmethod
    def hessian(net, hidden, x, y):
        stops = np.cumsum(net.widths[1:-2])

        def energy(z):
            layers = pctheory.Layers.of([part[None] for part in jnp.split(z, stops)])
            hidden = layers.restacked(net.linear.hidden_lengths)
            return nonlinear._energies(net, nonlinear._linearised(net, hidden, (x, y))).sum()

        return np.asarray(jax.hessian(energy)(jnp.concatenate([np.ravel(z) for z in hidden])))

    @pytest.mark.parametrize("activation", [jnp.tanh, jax.nn.relu], ids=["tanh", "relu"])
    @pytest.mark.parametrize("name", ["unequal widths", "everything, depth 6"])
    def test_hessian_by_jax(self, name, activation, monkeypatch):
        given = next(made for made in FEW if made.name == name)
        net = nonlinear.NonlinearPCN(given.net, activation)
        rng = np.random.default_rng(0)
        x, y = given.x[:1], given.y[:1]
        methods = set()
        for scale, target in ((0.05, 0.05), (0.5, 20.0)):  # where errors are small the Hessian is positive definite
            z = [scale * rng.standard_normal((1, n)) for n in given.widths[1:-1]]
            values = np.linalg.eigvalsh(self.hessian(net, z, x, target * y))
            for threshold in (1000, 0):
                monkeypatch.setattr(nonlinear_extremes, "DENSE_UP_TO", threshold)
                found = conditioning.activity_hessian_extremes_nonlinear(net, z, x, target * y, tolerance=1e-9)
                np.testing.assert_allclose([found.smallest, found.largest], values[[0, -1]], rtol=1e-8)
                assert found.converged
                methods.add(found.method)
        assert methods == ({"dense"} if activation is jax.nn.relu else {"dense", "cholesky", "products"})

    def test_identity_is_the_linear_chain(self):
        given = FEW[0]
        net = nonlinear.NonlinearPCN(given.net, lambda z: z)
        z = [np.ones((1, n)) for n in given.widths[1:-1]]
        found = conditioning.activity_hessian_extremes_nonlinear(net, z, given.x[:1], given.y[:1], decay=0.5)
        assert found == conditioning.activity_hessian_extremes(given.net, decay=0.5)

    def test_one_example_only(self):
        given = FEW[0]
        net = nonlinear.NonlinearPCN(given.net, jnp.tanh)
        z = [np.ones((len(given.x), n)) for n in given.widths[1:-1]]
        with pytest.raises(ValueError, match="x has 4 rows, expected 1"):
            conditioning.activity_hessian_extremes_nonlinear(net, z, given.x, given.y)
