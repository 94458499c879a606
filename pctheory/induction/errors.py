"""Prediction errors and activities at equilibrium, and the gradient of the equilibrated energy, at every depth."""

from collections.abc import Callable
from typing import TypeAlias

import sympy

from ..matrix_algebra import Expression, Relation, identity, inverse, matrix, squared_norm, vector, zero
from .certificate import Certificate, Section, Step
from .layer import (
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
    to_output_below,
)

Error: TypeAlias = Callable[[Expression, sympy.Symbol, Expression], Expression]
Deviation: TypeAlias = Callable[[Expression, Expression, Expression], Expression]
Derivative: TypeAlias = Callable[[sympy.Symbol, Expression, Expression, Expression], Expression]


def equilibrium_error(to_output: Expression, precision: sympy.Symbol, pull: Expression) -> Expression:
    r"""`e_l = P_l^T S_L^{-1} r / \pi_l`, with `S_L^{-1} r` given as the pull."""
    return (to_output.T @ pull) / precision


def equilibrium_deviation(rescaling: Expression, to_output: Expression, pull: Expression) -> Expression:
    r"""`z_l - m_l = S_l P_l^T S_L^{-1} r`."""
    return rescaling @ to_output.T @ pull


def equilibrium_errors(
    dimensions: Dimensions = (BELOW, HERE, OUTPUT),
    *,
    first: Formula = first_rescaling,
    recursion: Formula = rescaling_recursion,
    below: Formula = to_output_below,
    error: Error = equilibrium_error,
    deviation: Deviation = equilibrium_deviation,
) -> Certificate:
    r"""`e_l = P_l^T S_L^{-1} r / \pi_l` and `z_l = m_l + sum_{k<=l} M_{l:k+1} e_k`, one forward sweep.

    The errors balance at every hidden layer, the sweep that adds them arrives at y, its activities are those of the
    elimination (`u*` of the rescaling theorem), and the energy of the errors is the equilibrated energy.
    Source: saddles-2024/equilibrium-errors (own).
    """
    one, layer = layers(dimensions)
    here = error(layer.to_output, layer.precision, layer.pull).named("e_l")
    lower = below(layer).named("P_{l-1}")
    under = error(lower, layer.precision_below, layer.pull).named("e_{l-1}")
    reached = deviation(layer.rescaling, layer.to_output, layer.pull).named("d_l")
    before = deviation(layer.rescaling_below, lower, layer.pull).named("d_{l-1}")
    definition = Relation(layer.rescaling, recursion(layer), "definition of $S_l$")
    balance = Step(
        "So the gradient vanishes: the errors balance at every hidden layer.",
        layer.precision_below * under,
        layer.map.T @ (layer.precision * here),
    )
    base = Step(
        "The first deviation is the first error.",
        error(one.to_output, one.precision, one.pull).named("e_1"),
        deviation(one.rescaling, one.to_output, one.pull).named("d_1"),
        (Relation(one.rescaling, first(one), "definition of $S_1$"),),
    )
    sweep = Step("The sweep $z_l = A_l z_{l-1} + c_l + e_l$.", layer.map @ before + here, reached, (definition,))
    elimination = Step(
        r"The same activities as from the elimination, $u^\star = S_{l-1} A_l^T S_l^{-1} d_l$.",
        before,
        layer.rescaling_below @ layer.map.T @ layer.rescaling_inverse @ reached,
        (*layer.inverses, definition),
    )
    return Certificate(
        title="Errors and activities at equilibrium",
        statement=r"""At the equilibrium of one sample, with $r = y - m_L$ and $P_L = I$, the prediction errors
            $e_l = z_l - A_l z_{l-1} - c_l$ and the deviations $d_l = z_l - m_l$ from the feedforward pass are""",
        definitions=(here, reached, lower),
        conclusion=rf"""and $d_l = \sum_{{k \le l}} M_{{l:k+1}} e_k$ with $M_{{l:k+1}} = A_l \dots A_{{k+1}}$.
            {described(dimensions)}""",
        proof=(
            Section("Stationarity at hidden layer l-1", (_gradient(layer), balance)),
            Section("Base, l = 1", (base,)),
            Section("Induction, from l-1 to l", (sweep, elimination, _unrolled(layer))),
            Section("End, l = L", _arrival(layer, error, deviation)),
        ),
        conditions=(
            r"Every precision is positive, so all $S_l \succ 0$ (rescaling theorem).",
            "The energy is strictly convex in the activities, so the stationary point is the equilibrium.",
        ),
    )


def _gradient(layer: SymbolicLayer) -> Step:
    """The energy's derivative along a move v of one hidden activity, at any errors."""
    error, error_below = vector("e_l", layer.here), vector("e_{l-1}", layer.below)
    move = vector("v", layer.below)
    energy = layer.precision_below / 2 * squared_norm(error_below + NILPOTENT * move)
    energy_above = layer.precision / 2 * squared_norm(error - NILPOTENT * (layer.map @ move))
    return Step(
        "Moving $z_{l-1}$ by $t v$ moves two errors, and the energy to first order by a gradient times v.",
        (energy + energy_above).coefficient(NILPOTENT, 1),
        (layer.precision_below * error_below - layer.map.T @ (layer.precision * error)).T @ move,
    )


def _unrolled(layer: SymbolicLayer) -> Step:
    transport = matrix("M", layer.above, layer.here)
    error = vector("e_l", layer.here)
    return Step(
        r"Unrolling, with $M = M_{j:l+1}$ for any j $\ge$ l: one more error leaves, one more map enters.",
        transport @ layer.deviation,
        transport @ error + (transport @ layer.map) @ layer.deviation_below,
        (Relation(layer.deviation, layer.map @ layer.deviation_below + error, "the sweep"),),
    )


def _arrival(layer: SymbolicLayer, error: Error, deviation: Deviation) -> tuple[Step, ...]:
    last, inverses = layer.output_rescaling, inverse(layer.output_rescaling)[1]
    share = layer.to_output @ layer.to_output.T / layer.precision
    return (
        Step(
            "The sweep arrives at $z_L = y$, that is at $d_L = r$.",
            deviation(last, identity(layer.above), layer.pull),
            layer.residual,
            inverses,
        ),
        Step(
            "The energy of layer l is its share in the rescaling's sum.",
            layer.precision / 2 * squared_norm(error(layer.to_output, layer.precision, layer.pull).named("e_l")),
            HALF * (layer.pull.T @ share @ layer.pull),
        ),
        Step(
            "The shares add up to $S_L$ (rescaling as a sum), so the energies to the equilibrated energy.",
            HALF * (layer.pull.T @ last @ layer.pull),
            HALF * (layer.residual.T @ layer.pull),
            inverses,
        ),
    )


def envelope(
    dimensions: Dimensions = (BELOW, HERE, OUTPUT),
    *,
    error: Error = equilibrium_error,
    activity: Formula = lambda layer: (
        layer.mean_below
        + equilibrium_deviation(layer.rescaling_below, to_output_below(layer).named("P_{l-1}"), layer.pull)
    ),
    derivative: Derivative = lambda precision, error, direction, activity: (
        -(precision * (error.T @ direction @ activity))
    ),
) -> Certificate:
    r"""`dF*/dW_l = -a_l \pi_l mean(e_l z_{l-1}^T)`: the local rule at equilibrium is the exact gradient.

    The derivative of `1/2 r^T S_L^{-1} r` along `A_l + t D` is computed with a nilpotent t, through S_L and r. It
    holds at l = 1 too, with S_0 = 0 and m_0 = x.
    Source: saddles-2024/envelope.
    """
    _, layer = layers(dimensions)
    direction = matrix("D", layer.here, layer.below)
    residual_rate = (-(layer.to_output @ direction @ layer.mean_below)).named("r'")
    spread = direction @ layer.rescaling_below @ layer.map.T
    rescaling_rate = (layer.to_output @ (spread + spread.T) @ layer.to_output.T).named("S_L'")
    inverted = inverse(layer.output_rescaling)[0]
    moved_residual = (layer.residual + NILPOTENT * residual_rate).named("r(t)")
    moved_inverse = (inverted - NILPOTENT * (inverted @ rescaling_rate @ inverted)).named("S_L(t)^{-1}")
    local_error = error(layer.to_output, layer.precision, layer.pull).named("e_l")
    presynaptic = activity(layer).named("z_{l-1}")
    local = Step(
        "To first order $r(t) = r + t r'$ and $S_L(t)^{-1}$ is that of step 3: the value moves by a local product.",
        (HALF * (moved_residual.T @ moved_inverse @ moved_residual)).coefficient(NILPOTENT, 1),
        derivative(layer.precision, local_error, direction, presynaptic),
    )
    return Certificate(
        title="Envelope theorem",
        statement=r"""Move one map, $A_l(t) = A_l + t D$. The derivative of the equilibrated energy of one sample,
            $(1/2) r^T S_L^{-1} r$, at t = 0 is a product of quantities local to layer l (the last step), where""",
        definitions=(
            local_error,
            presynaptic,
            to_output_below(layer).named("P_{l-1}"),
            residual_rate,
            rescaling_rate,
        ),
        conclusion=rf"""With $D = a_l \Delta W_l$: the gradient in $W_l$ is $-a_l \pi_l$ times the batch mean of
            $e_l z_{{l-1}}^T$. At l = 1, $S_0 = 0$ and $m_0 = x$. {described(dimensions)}""",
        proof=(
            Section("How residual and rescaling move", _rates(layer, direction, residual_rate, rescaling_rate)),
            Section("How the value moves", (local,)),
        ),
        lemmas=(
            Section(
                "gradient of a bilinear form",
                prose="$v^T D w$ is the inner product of $D$ with $v w^T$, so $v w^T$ is its gradient in $D$.",
            ),
        ),
        conditions=(r"Every precision is positive, so $S_L \succ 0$, and its inverse is smooth in t.",),
    )


def _rates(
    layer: SymbolicLayer, direction: Expression, residual_rate: Expression, rescaling_rate: Expression
) -> tuple[Step, ...]:
    offset, target = vector("b", layer.above), vector("y", layer.above)
    tail, rate = (matrix(name, layer.above, layer.above, symmetric=True) for name in ("T_l", "S_L'"))
    moved = (layer.map + NILPOTENT * direction).named("A_l(t)")
    mean = layer.to_output @ (moved @ layer.mean_below + layer.bias) + offset
    rescaling = layer.identity / layer.precision + moved @ layer.rescaling_below @ moved.T
    last = layer.output_rescaling
    inverted, inverses = inverse(last)
    return (
        Step(
            "The residual moves by r' (b holds the biases of later layers).",
            (target - mean).coefficient(NILPOTENT, 1),
            residual_rate,
        ),
        Step(
            "In $S_L = T_l + P_l S_l P_l^T$ (rescaling as a sum) only $S_l$ depends on $A_l$: it moves by $S_L'$.",
            (tail + layer.to_output @ rescaling @ layer.to_output.T).coefficient(NILPOTENT, 1),
            rescaling_rate,
        ),
        Step(
            "The inverse moves by $-S_L^{-1} S_L' S_L^{-1}$: its product with $S_L(t)$ is I to first order.",
            ((last + NILPOTENT * rate) @ (inverted - NILPOTENT * (inverted @ rate @ inverted))).coefficient(
                NILPOTENT, 1
            ),
            zero(layer.above, layer.above),
            inverses,
        ),
    )
