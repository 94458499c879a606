r"""Predictive coding as a second-order trust-region method.

Claims
    trust-region-2023/taylor            the quadratic model of the energy around the feedforward activities
    trust-region-2023/fisher            its curvature is the Fisher information of the generative model
    trust-region-2023/inference-step    the step to its minimum, and the energy there
    trust-region-2023/subproblem        the same step solves a trust-region problem

Notation: h = (h_1, .., h_H) the feedforward activities, r = y - output, J_l = df_l/dz_{l-1},
C = (0, .., 0, J_L), I = A^T Pi A, g = dF/dz at h, Delta = -I^-1 g. F(h) = (pi_L / 2)|r|^2, the loss at pi_L = 1.
Independent routes: the energy itself in fractions and floats; for nonlinear networks the Hessian by autodiff, and
the stationary point of Newton's method. An order is the slope of a straight line through log(error) against
log(size); what is bounded is its distance from the whole number plus the half-width of its 95 % confidence interval
over networks.

Reference: F. Innocenti, R. Singh, C. L. Buckley, arXiv 2305.18188 (expansion and step, for any network and
approximately; exactness and orders are ours).
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pctheory
from paper_checks._trust_region import (
    NARROW,
    NETWORKS,
    SMALL,
    SMOOTH,
    layers_of,
    order_distance,
    over_networks,
    pooled,
    random_network,
    random_step,
    rows_of,
    settled,
    start_energy,
    start_gradient,
    targets_off,
)
from pctheory import induction, trust_region
from pctheory.claims import Check, claim, judged, largest, scaled_error
from pctheory.matrix_algebra import zero
from pctheory.nonlinear import NonlinearPCN
from tests import oracles
from tests.cases import EQUAL_SIZES, FEW, SIZES, Case, Formula, random_cases, rational_cases

Sides = tuple[Any, Any]


def _expanded(given: Case, *, total: bool = False, half: Any = None, target: bool = False) -> Sides:
    """F(h + d) for a random d, and what the model says."""
    d, hessian = random_step(given), oracles.linear_system(given)[0]
    if target:
        hessian = hessian - _hidden_part(given)
    change = (start_gradient(given, total=total) * d).sum() + (d * (d @ hessian)).sum() / (half or 2)
    moved = [h + step for h, step in zip(oracles.feedforward(given), layers_of(given, d), strict=False)]
    return oracles.energy(given, moved), start_energy(given) + change / len(given.x)


def _hidden_part(given: Case) -> np.ndarray:
    """I without what the output layer adds to its last block."""
    a, n = given.maps[-1], given.widths[-2]
    part = oracles.linear_system(given)[0].copy()
    part[-n:, -n:] -= given.precisions[-1] * a.T @ a
    return part


def _inferred(given: Case, *, half: Any = None, metric: Formula = lambda g: oracles.linear_system(g)[0]) -> Sides:
    """F* and the step to it, and what the model says of both."""
    g = start_gradient(given)
    step = -oracles.solve(metric(given), g.T).T
    start = rows_of(oracles.feedforward(given)[:-1])
    energy = start_energy(given) + (g * step).sum() / (half or 2) / len(given.x)
    end = rows_of(oracles.equilibrium(given))
    rescaled = oracles.rescaled_loss(given, oracles.rescaling(given))
    return np.append((end - start).ravel(), rescaled), np.append(step.ravel(), energy)


def _difference(sides: Callable[[Case], Sides], given: Case) -> Any:
    left, right = sides(given)
    return left - right


def _expansion_error(sides: Callable[[Case], Sides], given: Case) -> float:
    """In the units of the squares that the energy is made of."""
    size = oracles.scale(given, layers_of(given, random_step(given))) * float(np.max(given.precisions))
    return scaled_error(*sides(given), scale=size)


def _inference_error(sides: Callable[[Case], Sides], given: Case) -> float:
    """The step has the size of activities, the energy that of their squares; a solve takes digits."""
    size = max(1.0, oracles.scale(given, oracles.equilibrium(given)) * float(np.max(given.precisions)))
    return scaled_error(*sides(given), scale=size, condition=oracles.condition(given))


def _identity_metric(given: Case) -> np.ndarray:
    return np.eye(sum(given.widths[1:-1]), dtype=int) + 0 * given.precisions[0]


def _taylor_remainders(
    net: NonlinearPCN, x: np.ndarray, offset: np.ndarray, *, curvature: Any = "hessian", with_residual: bool = False
) -> np.ndarray:
    """|F(h + d) - model(d)| for steps d of the sizes SMALL; `with_residual` makes r as small as d."""
    rng = np.random.default_rng(len(x))
    direction = trust_region.activities_of(net, rng.standard_normal((len(x), sum(net.widths[1:-1]))))
    found = []
    for size in SMALL:
        y = targets_off(net, x, offset, size if with_residual else 1.0)
        model = trust_region.taylor_model(net, x, y, curvature=curvature)
        step = jax.tree.map(lambda v, size=size: size * v, direction)
        moved = jax.tree.map(jnp.add, model.activities, step)
        found.append(pooled(trust_region.taylor_model(net, x, y, at=moved).value - model(step)))
    return np.array(found)


def _step_errors(net: NonlinearPCN, x: np.ndarray, offset: np.ndarray, *, energy: bool = False) -> np.ndarray:
    """|z* - h - Delta|, or |F* - (F(h) - (1/2) g^T I^-1 g)|, for residuals of the sizes SMALL."""
    found = []
    for size in SMALL:
        y = targets_off(net, x, offset, size)
        model = trust_region.taylor_model(net, x, y)
        step = trust_region.inference_step(net, x, y)
        end = settled(net, x, y)
        if energy:
            value = trust_region.taylor_model(net, x, y, at=end).value
            found.append(pooled(value - (model.value - step.predicted_reduction)))
        else:
            missed = jax.tree.map(lambda z, h, d: z - h - d, end, model.activities, step.step)
            found.append(pooled(trust_region.activity_vectors(missed)))
    return np.array(found)


def _within_one_piece(activation: str, seed: int) -> float:
    """With ReLU, for steps too short to reach a kink: what the model misses, relative to the energy."""
    net, x, offset = random_network(activation, seed)
    y = targets_off(net, x, offset, 1.0)
    model = trust_region.taylor_model(net, x, y, curvature="fisher")
    z = trust_region.activity_vectors(model.activities)
    step = 0.5 * jnp.abs(z) * np.random.default_rng(seed).uniform(-1, 1, z.shape)
    layers = trust_region.activities_of(net, step)
    moved = jax.tree.map(jnp.add, model.activities, layers)
    value = trust_region.taylor_model(net, x, y, at=moved).value
    return scaled_error(model(layers), value)


def _at_a_kink(net: NonlinearPCN, x: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """As `taylor_remainders` where every hidden unit of the first layer sits at 0."""
    biases = [0 * c for c in net.linear.biases]
    weights = [0 * net.weights[0], *net.weights[1:]]
    moved = pctheory.LinearPCN(weights, biases=biases, precisions=net.linear.precisions)
    return _taylor_remainders(NonlinearPCN(moved, net.activation), x, offset)


# what is measured, by name: the errors for each size in SMALL, and the order of these errors
ERRORS: dict[str, Callable[[NonlinearPCN, Any, Any], np.ndarray]] = {
    "hessian": _taylor_remainders,
    "fisher": partial(_taylor_remainders, curvature="fisher"),
    "fisher, r of the size of d": partial(_taylor_remainders, curvature="fisher", with_residual=True),
    "at a kink": _at_a_kink,
    "step": _step_errors,
    "energy": partial(_step_errors, energy=True),
}
ORDERS = {"hessian": 3, "fisher": 2, "fisher, r of the size of d": 3, "at a kink": 1, "step": 2, "energy": 3}


@cache
def _lines(name: str, activation: str) -> list[np.ndarray]:
    return over_networks(ERRORS[name], activation)


def _order_error(measured: tuple[str, str]) -> float:
    return order_distance(ORDERS[measured[0]], _lines(*measured))


def _false_order(order: int, name: str, measured: tuple[str, str]) -> float:
    return order_distance(order, _lines(name, measured[1]))


@claim(
    key="trust-region-2023/taylor",
    statement=r"""Around the feedforward activities $h$ of one example,
        $F(h + d) = \pi_L \mathcal{L} + g^T d + \frac{1}{2} d^T B d + O(|d|^3)$ with the partial derivative
        $g = (0, \dots, 0, -\pi_L J_L^T r)$, as the hidden errors vanish there, and $B$ the Hessian of $F$. In a
        linear network nothing remains, and $B = H_z = I$. Otherwise the Fisher information $I$ in the place of $B$
        leaves $O(|r| |d|^2) + O(|d|^3)$: third order in $d$ only if $r$ is as small as $d$.
        With ReLU nothing remains as long as no unit crosses 0; at a kink the remainder is of order 1.""",
    hypotheses=("at least one hidden layer", "positive precisions", "for the orders: smooth activations"),
    attribution="stated",
    source="trust-region-2023 (with the Fisher information for every network); exactness, and what r does, derived",
    uses=("mupc-2025/activity-hessian",),
)
def taylor(check: Check) -> None:
    check.proof(
        "the stacked energy is quadratic, and column l meets two errors",
        [induction.taylor_model(), induction.taylor_model(SIZES), induction.taylor_model(EQUAL_SIZES)],
        twins={
            "total instead of partial derivative": induction.taylor_model(
                gradient=lambda layer, last: -(layer.next.precision * (layer.next.map.T @ layer.residual))
            ),
            "gradient 0": induction.taylor_model(gradient=lambda layer, last: zero(layer.here, 1)),
        },
    )
    wrong: dict[str, Callable[[Case], Sides]] = {
        "total instead of partial derivative": partial(_expanded, total=True),
        "without the 1/2": partial(_expanded, half=1),
        "the Fisher information of the target alone": partial(_expanded, target=True),
    }
    check.exact(
        "the energy after steps in whole numbers, in fractions",
        rational_cases(60, seed=700, depths=(2, 4)),
        partial(_difference, _expanded),
        twins=judged(_difference, wrong),
    )
    check.property(
        "the energy after such steps, depth 2 to 6",
        random_cases(300, seed=701, depths=(2, 6)),
        partial(_expansion_error, _expanded),
        twins=judged(_expansion_error, wrong),
        seed=701,
    )
    check.property(
        "the library's model of linear networks",
        FEW,
        partial(_expansion_error, _library_expanded),
        twins=judged(_expansion_error, wrong),
    )
    check.property(
        "tanh and softplus, orders in d: 3 with the Hessian; with the Fisher information 2, and 3 if r is as small",
        product(("hessian", "fisher", "fisher, r of the size of d"), SMOOTH),
        _order_error,
        twins={
            "order 3 with the Fisher information at a fixed residual": partial(_false_order, 3, "fisher"),
            "order 4 with the Hessian": partial(_false_order, 4, "hessian"),
        },
        bound=NARROW,
    )
    check.property(
        "ReLU with every unit at its kink: order 1",
        [("at a kink", "relu")],
        _order_error,
        twins={"order 3": partial(_false_order, 3, "at a kink")},
        bound=NARROW,
    )
    check.property(
        "ReLU: nothing remains as long as no unit crosses 0",
        range(NETWORKS),
        partial(_within_one_piece, "relu"),
        twins={"nor with tanh": partial(_within_one_piece, "tanh")},
    )


def _library_expanded(given: Case) -> Sides:
    d = random_step(given)
    model = trust_region.taylor_model(given.net, given.x, given.y)
    predicted = model(layers_of(given, d))
    return _expanded(given)[0], float(np.mean(predicted))


def _second_differences(given: Case) -> np.ndarray:
    """Of F in the hidden activities of the first example, from its feedforward ones."""
    start = np.zeros(sum(given.widths[1:-1]), dtype=int) * given.precisions[0]
    one = replace(given, x=given.x[:1], y=given.y[:1])
    return oracles.second_differences(lambda z: oracles.energy(one, layers_of(one, z[None])), start)


def _information(given: Case, *, hidden: bool = True, unit: bool = False) -> np.ndarray:
    """A^T Pi A with A written block by block."""
    stops = np.cumsum([0, *given.widths[1:]])
    chain = np.eye(stops[-1], dtype=int)[:, : stops[-2]] + 0 * given.precisions[0]
    for l, a in enumerate(given.maps[1:], start=1):
        chain[stops[l] : stops[l + 1], stops[l - 1] : stops[l]] = -a
    weights = np.repeat(given.precisions**0 if unit else given.precisions, given.widths[1:])
    if not hidden:
        weights[: stops[-2]] = 0
    return (chain.T * weights) @ chain


def _information_remainder(formula: Formula, given: Case) -> np.ndarray:
    return formula(given) - _second_differences(given)


def _over_targets(case: tuple[str, int], *, targets: tuple[float, ...] = (-1.0, 1.0)) -> float:
    """The mean Hessian over targets spread about the output, against the metric."""
    net, x, offset = random_network(*case)
    metric = trust_region.fisher_metric(net, x).dense()
    hessians = [
        trust_region.taylor_model(net, x, targets_off(net, x, offset, size)).curvature.dense() for size in targets
    ]
    return scaled_error(np.mean(hessians, axis=0), metric)


def _output_curvature(case: tuple[str, int], *, sign: int = -1) -> float:
    """Hessian - metric, against -pi_L (r . f_L'') in the last hidden layer, differences taken for the curvature."""
    net, x, offset = random_network(*case)
    model = trust_region.taylor_model(net, x, targets_off(net, x, offset, 1.0))
    last = np.asarray(model.activities[-1])
    bend = np.asarray(jax.vmap(jax.vmap(jax.grad(jax.grad(net.activation))))(last))
    pull = net.linear.precisions[-1] * (offset @ net.weights[-1])
    expected = np.zeros((len(x), sum(net.widths[1:-1]), sum(net.widths[1:-1])))
    places = range(expected.shape[1] - last.shape[1], expected.shape[1])
    expected[:, places, places] = sign * pull * bend
    found = model.curvature.dense() - trust_region.fisher_metric(net, x).dense()
    return scaled_error(found, expected, scale=float(np.abs(model.curvature.dense()).max()))


@claim(
    key="trust-region-2023/fisher",
    statement=r"""Let $p(z, y | x)$ be the Gaussian chain with means $f_l(z_{l-1})$ and variances $1/\pi_l$. At the
        feedforward activities, minus the mean over $y$ given $z$ of the Hessian of $\log p$ in $z$ is $A^T \Pi A$,
        $A$ block bidiagonal with $I$ and $-J_l$. The Hessian of $F$ is that minus $\pi_L r \cdot f_L''$, which
        vanishes where the readout is linear in $z_H$; an activation before the last weights leaves
        $-\pi_L\,\mathrm{diag}(\phi''(z_H) \odot a_L W_L^T r)$. The information of the target alone, $p(y | z)$, is
        the part $\pi_L J_L^T J_L$ of rank at most $d_y$.""",
    hypotheses=("at least one hidden layer", "positive precisions", "a twice differentiable activation"),
    attribution="own",
    source="derived here",
    uses=("mupc-2025/activity-hessian",),
)
def fisher(check: Check) -> None:
    wrong: dict[str, Formula] = {
        "of the target alone": partial(_information, hidden=False),
        "noise of variance 1": partial(_information, unit=True),
    }
    check.exact(
        "linear networks: second differences of the energy, in fractions",
        rational_cases(40, seed=710, depths=(2, 4), precisions=True),
        partial(_information_remainder, _information),
        twins=judged(_information_remainder, wrong),
    )
    cases = [(activation, seed) for activation in SMOOTH for seed in range(NETWORKS)]
    check.property(
        "tanh and softplus: the mean of autodiff's Hessians over targets about the output",
        cases,
        _over_targets,
        twins={
            "at the one target given": partial(_over_targets, targets=(1.0,)),
            "over targets about another mean": partial(_over_targets, targets=(-1.0, 2.0)),
        },
    )
    check.property(
        "tanh and softplus: what the Hessian has besides",
        cases,
        _output_curvature,
        twins={"the other sign": partial(_output_curvature, sign=1), "nothing": partial(_output_curvature, sign=0)},
    )


@claim(
    key="trust-region-2023/inference-step",
    statement=r"""$\Delta = -I^{-1} g$ minimises the model with the Fisher information: a Gauss-Newton or
        natural-gradient step on the loss in activity space, damped by the hidden layers' part of $I$. In a linear
        network it is all of inference: $z^* = h + \Delta$ and
        $F^* = \pi_L \mathcal{L} - \frac{1}{2} g^T I^{-1} g$. With a smooth activation
        $z^* = h + \Delta + O(|r|^2)$ and $F^* = \pi_L \mathcal{L} - \frac{1}{2} g^T I^{-1} g + O(|r|^3)$.""",
    hypotheses=(
        "at least one hidden layer",
        "positive precisions",
        "for the orders: a smooth activation, small residuals, and the stationary point that inference finds",
    ),
    attribution="stated",
    source="trust-region-2023 (the step, to second order); exactness and orders derived",
    uses=("trust-region-2023/taylor", "saddles-2024/equilibrated-energy", "saddles-2024/equilibrium-errors"),
)
def inference_step(check: Check) -> None:
    check.proof(
        "row by row of the linear system, at every depth",
        [induction.taylor_model(), induction.taylor_model(SIZES), induction.taylor_model(EQUAL_SIZES)],
        twins={
            "factor 1 instead of 1/2": induction.taylor_model(reduction=lambda g, step: -(g.T @ step)),
            "noise of variance 1": induction.taylor_model(
                recursion=lambda l: l.identity + l.map @ l.rescaling_below @ l.map.T
            ),
        },
    )
    wrong: dict[str, Callable[[Case], Sides]] = {
        "factor 1 instead of 1/2": partial(_inferred, half=1),
        "the gradient for the step": partial(_inferred, metric=_identity_metric),
        "without the target's part of I": partial(_inferred, metric=_hidden_part),
    }
    check.exact(
        "step and energy in fractions",
        rational_cases(60, seed=720, depths=(2, 4)),
        partial(_difference, _inferred),
        twins=judged(_difference, wrong),
    )
    check.property(
        "step and energy, depth 2 to 6",
        random_cases(300, seed=721, depths=(2, 6)),
        partial(_inference_error, _inferred),
        twins=judged(_inference_error, wrong),
        seed=721,
    )
    check.property(
        "the library's step",
        FEW,
        partial(_inference_error, _library_inferred),
        twins=judged(_inference_error, wrong),
    )
    check.property(
        "tanh and softplus: order 2 of the step's error in r, order 3 of the energy's",
        product(("step", "energy"), SMOOTH),
        _order_error,
        twins={
            "order 3 of the step's error": partial(_false_order, 3, "step"),
            "order 2 of the energy's": partial(_false_order, 2, "energy"),
        },
        bound=NARROW,
    )


def _library_inferred(given: Case) -> Sides:
    found = trust_region.inference_step(given.net, given.x, given.y)
    energy = start_energy(given) - float(np.mean(found.predicted_reduction))
    step = np.asarray(trust_region.activity_vectors(found.step))
    return _inferred(given)[0], np.append(step.ravel(), energy)


def _ball_step(given: Case, *, euclidean: bool = False, squared: bool = True) -> float:
    """The library's minimiser of g^T d over the ball, for the first example, against -I^-1 g."""
    hessian, g = oracles.linear_system(given)[0], start_gradient(given)[0]
    expected = -np.linalg.solve(hessian, g)
    radius = float(-g @ expected)
    metric = None if euclidean else hessian
    step = trust_region.trust_region_step(g, 0 * hessian, radius**0.5 if squared else radius, metric=metric).step
    return scaled_error(step, expected, condition=oracles.condition(given))


def _optimality_error(seed: int, *, away: float = 0.0, total: bool = False) -> float:
    """How far the library's step is from the conditions, for a B of random signs and every other time a metric.

    `away` moves the multiplier from the one returned; `total` takes the whole of g^T d + d^T B d for the fall.
    """
    rng = np.random.default_rng([731, seed])
    n = int(rng.integers(1, 9))
    g, b, factor = rng.standard_normal(n), rng.standard_normal((n, n)), rng.standard_normal((n, n))
    hessian, radius = b + b.T, float(10 ** rng.uniform(-1, 1))
    metric = np.eye(n) + (factor @ factor.T if seed % 2 else 0)
    found = trust_region.trust_region_step(g, hessian, radius, metric=metric if seed % 2 else None)
    d, multiplier = found.step, found.multiplier + away
    shifted, square = hessian + multiplier * metric, float(d @ metric @ d)
    size = float(np.abs(hessian).max() + multiplier * np.abs(metric).max())
    reduction = -(g @ d + d @ hessian @ d / (1 if total else 2))
    return largest(
        scaled_error(shifted @ d, -g, scale=size * float(np.abs(d).max()) + float(np.abs(g).max())),
        -float(np.linalg.eigvalsh(shifted)[0]) / size,
        -multiplier,
        square / radius**2 - 1,
        scaled_error(multiplier * square, multiplier * radius**2),
        scaled_error(found.predicted_reduction, reduction, scale=float(abs(g @ d) + abs(d @ hessian @ d))),
    )


def _pulled_cases(count: int, *, seed: int) -> Iterator[Case]:
    """Random cases in whose first example the last hidden layer feels a pull: else there is no ball."""
    return (made for made in random_cases(count, seed=seed, depths=(2, 5)) if start_gradient(made)[0].any())


@claim(
    key="trust-region-2023/subproblem",
    statement=r"""The step $-I^{-1} g$ also minimises the linear model $g^T d$ within the ellipsoid
        $d^T I d \le \rho$, for $\rho = g^T I^{-1} g$, and nothing else does. In general $d$ minimises
        $g^T d + \frac{1}{2} d^T B d$ over $d^T M d \le \rho$, whatever the signs of $B$, exactly if a
        $\lambda \ge 0$ makes $(B + \lambda M) d = -g$, $B + \lambda M \succeq 0$ and
        $\lambda (\rho - d^T M d) = 0$; the model then falls by $\frac{1}{2}(\lambda d^T M d - g^T d)$.""",
    hypotheses=("I and M positive definite", "g not 0 for the first sentence"),
    attribution="stated",
    source="trust-region-2023 (the form of the problem); the radius derived; in general Moré and Sorensen 1983",
    uses=("trust-region-2023/inference-step",),
)
def subproblem(check: Check) -> None:
    check.proof(
        "completing the square, for every metric",
        [induction.trust_region_ball(), induction.trust_region_ball(SIZES)],
        twins={
            "Euclidean ball": induction.trust_region_ball(ball=lambda metric, d: d.T @ d),
            "half the radius": induction.trust_region_ball(length=lambda g, solved: (g.T @ solved) / 2),
        },
    )
    check.property(
        "the exact solver in the metric of linear networks",
        _pulled_cases(300, seed=730),
        _ball_step,
        twins={
            "Euclidean ball": partial(_ball_step, euclidean=True),
            "the radius for its square": partial(_ball_step, squared=False),
        },
        seed=730,
    )
    check.property(
        "the exact solver meets the conditions, curvature of any sign",
        range(300),
        _optimality_error,
        twins={
            "another multiplier": partial(_optimality_error, away=0.1),
            "the model without its 1/2": partial(_optimality_error, total=True),
        },
        seed=731,
    )
