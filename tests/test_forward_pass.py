"""How large activities are: moments against closed forms, coordinate checks that must pass and that must fail."""

import jax
import numpy as np
import optax
import pytest

import pctheory
from pctheory import conditioning
from pctheory.nonlinear import NonlinearPCN

X = np.random.default_rng(0).standard_normal((4, 6))
Y = np.random.default_rng(1).standard_normal((4, 2))
UNIT = X / np.sqrt((X**2).mean(axis=1, keepdims=True))


def moments(skips=False, variance=1.0, activation=None, networks=60):
    nets = (pctheory.standard((6, 8, 8, 8, 8, 2), seed=s, skips=skips, variance=variance) for s in range(networks))
    if activation is not None:
        nets = (NonlinearPCN(net, activation) for net in nets)
    return conditioning.forward_pass_moments(nets, UNIT)


@pytest.mark.parametrize(
    ("options", "exact"),
    [
        ({}, [1, 1, 1, 1, 1]),
        ({"skips": True}, [1, 2, 4, 8, 8]),
        ({"variance": 1 / 3}, [3.0**-l for l in range(1, 6)]),
        ({"activation": jax.nn.relu}, [2.0**-l for l in range(5)]),
    ],
    ids=["SP", "SP with skips", "SP, variance 1/3", "ReLU"],
)
def test_moments_at_initialisation(options, exact):
    found = moments(**options)
    assert (np.abs(found.mean - exact) <= 4 * found.standard_error).all()  # heavy tails in depth: a little above 3
    others = np.array(exact) * 2.0 ** np.arange(5)
    assert (np.abs(found.mean - others) > 4 * found.standard_error)[1:].all()


def test_moments_of_each_layer_by_hand():
    nets = [pctheory.standard((6, 3, 5, 2), seed=s) for s in range(2)]
    found = conditioning.forward_pass_moments(nets, X)
    by_hand = []
    for net in nets:
        z, row = X, []
        for w in net.weights:
            z = z @ np.asarray(w).T
            row.append((z**2).mean())
        by_hand.append(row)
    np.testing.assert_allclose(found.mean, np.mean(by_hand, axis=0), rtol=1e-13)
    np.testing.assert_allclose(found.standard_error, np.abs(np.diff(by_hand, axis=0))[0] / 2, rtol=1e-12)


def test_moments_need_networks_alike():
    net, other = pctheory.standard((6, 3, 2), seed=0), pctheory.standard((6, 3, 3, 2), seed=0)
    with pytest.raises(ValueError, match="networks holds 1, expected at least 2"):
        conditioning.forward_pass_moments([net], X)
    with pytest.raises(ValueError, match=r"networks have depths \[2, 3\]"):
        conditioning.forward_pass_moments([net, other], X)


def widths(constructor):
    return lambda n, seed: constructor((6, n, n, n, 2), seed=seed)


@jax.jit
def loss_gradient(net, x, y):
    return jax.grad(lambda weights: pctheory.loss(net.with_weights(weights), x, y))(net.weights)


def verdicts(networks, sizes, **options):
    found = conditioning.coordinate_check(
        networks, sizes, (X, Y), seeds=range(10), places=(0.5, 1.0, "output"), **options
    )
    return {(c.step, c.where): c for c in found}


def test_mupc_is_stable_in_width():
    """Gradient descent on the loss at a rate in proportion to N, as the output scaling 1/N asks for."""
    found = verdicts(
        widths(pctheory.mupc),
        (32, 64, 128),
        optimiser=lambda n: optax.sgd(0.1 * n),
        gradient=loss_gradient,
        steps=1,
    )
    assert len(found) == 6
    assert all(line.passes for line in found.values()), [line.text for line in found.values()]
    assert -0.75 < found[0, "output"].fit.slope < -0.25  # 1/sqrt N by design


def test_standard_parameterisation_is_not():
    """The first step of SP at one rate moves the output in proportion to N."""
    found = verdicts(
        widths(pctheory.standard),
        (16, 32, 64),
        optimiser=lambda n: optax.sgd(1e-3),
        gradient=loss_gradient,
        steps=1,
    )
    assert found[0, 0.5].passes
    assert not found[1, "output"].passes
    assert found[1, "output"].fit.interval[0] > 0.25


@pytest.mark.slow
def test_a_fixed_rate_for_mupc_is_seen():
    found = verdicts(widths(pctheory.mupc), (16, 32, 64), optimiser=lambda n: optax.sgd(0.1), steps=1)
    assert not found[1, 1.0].passes
    assert found[1, 1.0].fit.interval[1] < 0


def test_depth():
    deep = {
        "mupc": lambda h, seed: pctheory.mupc((6, *(32,) * h, 2), seed=seed),
        "skips": lambda h, seed: pctheory.standard((6, *(32,) * h, 2), seed=seed, skips=True),
    }
    sizes = (4, 16)
    assert verdicts(deep["mupc"], sizes)[0, 1.0].passes
    exploding = verdicts(deep["skips"], sizes)[0, 1.0]
    assert not exploding.passes
    assert "fails" in exploding.text


def test_what_overflows_or_stands_still_fails():
    def overflowing(h, seed):
        return pctheory.LinearPCN([np.full((6, 6), 1e60 + seed)] * h)

    found = conditioning.coordinate_check(overflowing, (3, 8), (X, X), seeds=(0, 1), places=("output",))
    assert found[0].fit is None
    assert not found[0].passes
    assert "no law" in found[0].text
    still = verdicts(
        widths(pctheory.mupc), (16, 64), optimiser=lambda n: optax.sgd(0.0), gradient=loss_gradient, steps=1
    )
    assert not still[1, 1.0].passes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": (8,)}, r"sizes is \(8,\), expected at least two"),
        ({"seeds": (1, 1)}, r"seeds is \(1, 1\)"),
        ({"places": (1.5,)}, "places holds 1.5"),
        ({"places": ("input",)}, "places holds 'input'"),
        ({"band": (0.1, -0.1)}, "band is"),
    ],
)
def test_bad_plans(options, message):
    plan = {"sizes": (8, 16), "batch": (X, Y)} | options
    with pytest.raises(ValueError, match=message):
        conditioning.coordinate_check(widths(pctheory.mupc), **plan)
