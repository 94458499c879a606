"""The Taylor model of a linear network's energy in activity space, and what it says of the weights' gradient."""

from collections.abc import Callable
from typing import TypeAlias

import sympy

from ..matrix_algebra import Blocks, Expression, Relation, inverse, matrix, squared_norm, vector, zero
from .activity_hessian import POSITIONS, Position, _column, _weights
from .certificate import Certificate, Section, Step
from .errors import Deviation, equilibrium_deviation, equilibrium_error
from .layer import (
    ABOVE,
    BELOW,
    HALF,
    HERE,
    NILPOTENT,
    OUTPUT,
    Dimensions,
    Formula,
    SymbolicLayer,
    described,
    first_rescaling,
    layers,
    rescaling_recursion,
    three_sizes,
)

Gradient: TypeAlias = Callable[[SymbolicLayer, bool], Expression]
Reduction: TypeAlias = Callable[[Expression, Expression], Expression]
Ball: TypeAlias = Callable[[Expression, Expression], Expression]
Length: TypeAlias = Callable[[Expression, Expression], Expression]
STEP = sympy.Symbol("s")  # how far along the inference step


def start_gradient(layer: SymbolicLayer, last: bool) -> Expression:
    r"""Block l of g: `-\pi_L A_L^T r` in the last hidden layer, 0 below it."""
    pull = layer.next.precision * (layer.next.map.T @ layer.residual)
    return -pull if last else zero(layer.here, 1)


def taylor_model(
    dimensions: Dimensions = (BELOW, HERE, OUTPUT),
    *,
    gradient: Gradient = start_gradient,
    first: Formula = first_rescaling,
    recursion: Formula = rescaling_recursion,
    step: Deviation = equilibrium_deviation,
    reduction: Reduction = lambda gradient, step: -(HALF * (gradient.T @ step)),
) -> Certificate:
    r"""`F(m + d) = F(m) + g^T d + (1/2) d^T H d`, its minimum at `-H^{-1} g`, `F* = F(m) - (1/2) g^T H^{-1} g`.

    Source: trust-region-2023/taylor, trust-region-2023/inference-step (there approximate; exact here).
    """
    one, layer = layers(dimensions)
    below, here, above = three_sizes(dimensions)
    return Certificate(
        title="Taylor model at the feedforward activities",
        statement=r"""Let m be the feedforward activities of one sample and $r = y - m_L$. Stack the prediction
            errors at $z = m + d$ as $A d + \epsilon$ with the hidden columns of A: $\epsilon$ holds the errors at
            m, which are 0 in the hidden layers and r in layer L. Then the energy is
            $F(m) + g^T d + (1/2) d^T H d$ without remainder, with $H = A^T \Pi A$ and the blocks of g 0 but for
            the last hidden layer's""",
        definitions=(
            gradient(SymbolicLayer("L", -1, below, here, above), True).named("g_{L-1}"),
            step(layer.rescaling, layer.to_output, layer.pull).named(r"\Delta_l"),
            recursion(layer).named("S_l"),
        ),
        conclusion=rf"""The step $\Delta$ solves $H \Delta = -g$, and the energy there is
            $F(m) - (1/2) g^T H^{{-1}} g = (1/2) r^T S_L^{{-1}} r$, the equilibrated energy.
            {described(dimensions)}""",
        proof=(
            Section("Expansion", _expansion(dimensions)),
            Section(
                "Block l of g",
                tuple(_gradient_block(position, dimensions, gradient) for position in POSITIONS),
                r"Column l of A meets the errors of layers l and l+1 only.",
            ),
            Section("Errors after the step", _errors_after(one, layer, (first, recursion), step)),
            Section(
                r"$H \Delta = -g$, row by row, and the value", _solution(layer, gradient, recursion, reduction)
            ),
        ),
        conditions=(
            r"""Every precision is positive, so all $S_l \succ 0$ (rescaling theorem), and $H \succ 0$ (activity
                Hessian).""",
        ),
    )


def _expansion(dimensions: Dimensions) -> tuple[Step, ...]:
    """Of the stacked energy, for matrices of any size."""
    errors, hidden = sum(dimensions), sum(dimensions[:2])
    stacked, weights = matrix("A", errors, hidden), matrix(r"\Pi", errors, errors, symmetric=True)
    d, start = vector("d", hidden), vector(r"\epsilon", errors)
    miss = stacked @ d + start
    g, hessian = (stacked.T @ weights @ start).named("g"), (stacked.T @ weights @ stacked).named("H")
    return (
        Step(
            r"Nothing is left beyond second order, and $g = A^T \Pi \epsilon$, $H = A^T \Pi A$.",
            HALF * (miss.T @ weights @ miss),
            HALF * (start.T @ weights @ start) + g.T @ d + HALF * (d.T @ hessian @ d),
        ),
    )


def _gradient_block(position: Position, dimensions: Dimensions, gradient: Gradient) -> Step:
    layer, last = position.layer(dimensions), not position.has_above
    above = layer.residual if last else zero(layer.above, 1)
    left = _column(layer).T @ _weights(layer) @ Blocks.of([[zero(layer.here, 1)], [above]])
    return Step(position.title, left, Blocks.of([[gradient(layer, last)]]))


def _errors_after(
    one: SymbolicLayer, layer: SymbolicLayer, rescalings: tuple[Formula, Formula], step: Deviation
) -> tuple[Step, ...]:
    first, recursion = rescalings
    moved = step(layer.rescaling, layer.to_output, layer.pull).named(r"\Delta_l")
    moved_below = step(layer.rescaling_below, layer.to_output @ layer.map, layer.pull).named(r"\Delta_{l-1}")
    return (
        Step(
            r"In layer 1: $\Delta_1 = P_1^T S_L^{-1} r / \pi_1$.",
            step(one.rescaling, one.to_output, one.pull).named(r"\Delta_1"),
            equilibrium_error(one.to_output, one.precision, one.pull),
            (Relation(one.rescaling, first(one), "definition of $S_1$"),),
        ),
        Step(
            r"In layer l: $\Delta_l - A_l \Delta_{l-1} = P_l^T S_L^{-1} r / \pi_l$.",
            moved - layer.map @ moved_below,
            equilibrium_error(layer.to_output, layer.precision, layer.pull),
            (Relation(layer.rescaling, recursion(layer), "definition of $S_l$"),),
        ),
    )


def _solution(
    layer: SymbolicLayer, gradient: Gradient, recursion: Formula, reduction: Reduction
) -> tuple[Step, ...]:
    last = SymbolicLayer("L", 0, layer.below, layer.above, layer.above)
    given = (*inverse(last.rescaling)[1], Relation(last.rescaling, recursion(last), "definition of $S_L$"))
    under = equilibrium_error(layer.to_output @ layer.map, layer.precision_below, layer.pull).named("e_{l-1}")
    here = equilibrium_error(layer.to_output, layer.precision, layer.pull).named("e_l")
    end = equilibrium_deviation(last.rescaling_below, last.map, last.pull).named(r"\Delta_{L-1}")
    g = gradient(SymbolicLayer("L", -1, layer.below, layer.below, layer.above), True)
    start = last.precision / 2 * squared_norm(last.residual)
    return (
        Step(
            "Row l - 1 for l < L: what layer l pulls balances what holds layer l - 1.",
            layer.precision_below * under - layer.map.T @ (layer.precision * here),
            zero(layer.below, 1),
        ),
        Step(
            r"""Row L - 1, where $\pi_{L-1} e_{L-1} = A_L^T S_L^{-1} r$, and the error of layer L has moved by
                $-A_L \Delta_{L-1}$.""",
            last.map.T @ last.pull + last.precision * (last.map.T @ last.map @ end),
            -g,
            given,
        ),
        Step(
            r"As g vanishes but for $g_{L-1}$, the value at $\Delta$ is $F(m) + (1/2) g_{L-1}^T \Delta_{L-1}$.",
            start - reduction(g, end),
            HALF * (last.residual.T @ last.pull),
            given,
        ),
    )


def trust_region_ball(
    dimensions: Dimensions = (BELOW, HERE, OUTPUT),
    *,
    ball: Ball = lambda metric, d: d.T @ metric @ d,
    length: Length = lambda gradient, solved: gradient.T @ solved,
) -> Certificate:
    r"""`-H^{-1} g` minimises `g^T d` over `d^T H d <= g^T H^{-1} g`, all of the second of the three sizes.

    Source: trust-region-2023/subproblem.
    """
    size = dimensions[1]
    metric, g, d = matrix("H", size, size, symmetric=True), vector("g", size), vector("d", size)
    inverted, inverses = inverse(metric)
    solved = (inverted @ g).named("H^{-1} g")
    radius = length(g, solved).named(r"\rho")
    off = d + solved
    return Certificate(
        title="The step as a trust-region step",
        statement=r"""Let H be positive definite. Over the d in the ball below, $g^T d$ is least at
            $d = -H^{-1} g$, and there only. The ball and its radius are""",
        definitions=(ball(metric, d).named("b(d)"), radius),
        conclusion=r"with $b(d) \le \rho$.",
        proof=(
            Section(
                "Completing the square",
                (
                    Step(
                        r"In the ball no term on the right is negative; the first vanishes at $-H^{-1} g$ only.",
                        g.T @ d + radius,
                        HALF * (off.T @ metric @ off) + HALF * (radius - ball(metric, d)),
                        inverses,
                    ),
                    Step(
                        r"$-H^{-1} g$ lies in the ball, on its boundary.",
                        ball(metric, -solved),
                        radius,
                        inverses,
                    ),
                ),
            ),
        ),
        conditions=(r"$H \succ 0$, so that its inverse exists and a vanishing square has a vanishing vector.",),
    )


def first_order_remainder(
    layer: SymbolicLayer, direction: Expression, steps: tuple[Expression, Expression]
) -> Expression:
    r"""`-\pi_l (\Delta_l - A_l \Delta_{l-1})^T D \Delta_{l-1}`, from the steps of layers l and l-1."""
    here, below = steps
    return -(layer.precision * ((here - layer.map @ below).T @ direction @ below))


def weight_gradient_readings(
    dimensions: Dimensions = (BELOW, HERE, ABOVE),
    *,
    remainder: Callable[
        [SymbolicLayer, Expression, tuple[Expression, Expression]], Expression
    ] = first_order_remainder,
    propagated: Callable[[SymbolicLayer, Expression, Expression], Expression] = lambda one, direction, step: (
        -((direction @ one.mean_below).T @ step)
    ),
) -> Certificate:
    r"""The first-order reading of the weight gradient's decomposition, with its exact remainder.

    And that with the partial gradient in the one place where it is exact: W_1, one hidden layer, `\pi_1 = 1`.
    Source: trust-region-2023/weight-gradient (the sentence; readings and remainders are own).
    """
    one, layer = layers(dimensions)
    direction = matrix("D", layer.here, layer.below)
    here, below = vector(r"\Delta_l", layer.here), vector(r"\Delta_{l-1}", layer.below)
    mean = vector("m_l", layer.here)
    offset = vector("e_l", layer.here)  # the error at the feedforward activities
    feedforward = Relation(mean, layer.map @ layer.mean_below + layer.bias + offset, "the error at m is $e_l$")
    moved = (layer.map + NILPOTENT * direction).named("A_l(t)")
    below_moved = (layer.mean_below + STEP * below).named("z_{l-1}")
    miss = mean + STEP * here - moved @ below_moved - layer.bias
    local = (layer.precision / 2 * squared_norm(miss)).coefficient(NILPOTENT, 1)
    first_direction, step = matrix("D", one.here, one.below), vector(r"\Delta_1", one.here)
    gone = (one.map + NILPOTENT * first_direction) @ one.mean_below
    first_miss = step + one.map @ one.mean_below - gone
    return Certificate(
        title="Readings of the weight gradient's decomposition",
        statement=r"""In a linear network the equilibrium of one sample is $m + \Delta$, and by the envelope theorem
            the derivative of the equilibrated energy along $A_l + t D$ is the local rule there. Along
            $m + s \Delta$ the local rule is quadratic in s; its terms of order 0 and 1 are the partial gradient at
            m and $(d_z d_\theta F) \Delta$, and that of order 2 is""",
        definitions=(remainder(layer, direction, (here, below)).named("R"),),
        conclusion=rf"""At $s = 1$: gradient = partial gradient + $(d_z d_\theta F) \Delta$ + R.
            {described(dimensions)}""",
        proof=(
            Section(
                "Layer l",
                (
                    Step(
                        "Order 0: the local rule at m, which vanishes where the error there does.",
                        local.coefficient(STEP, 0),
                        -(layer.precision * (offset.T @ direction @ layer.mean_below)),
                        (feedforward,),
                    ),
                    Step("Order 2.", local.coefficient(STEP, 2), remainder(layer, direction, (here, below))),
                    Step("There is no order 3.", local.coefficient(STEP, 3), zero(1, 1)),
                ),
            ),
            Section(
                "Layer 1 below a single hidden layer",
                (
                    Step(
                        r"""At $\pi_1 = 1$ the local rule after the step is $-(d m / d A_1)^T \Delta$, as $m_1$
                            moves by $D m_0$.""",
                        (HALF * squared_norm(first_miss)).coefficient(NILPOTENT, 1),
                        propagated(one, first_direction, step),
                    ),
                ),
            ),
        ),
    )
