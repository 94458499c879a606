"""The equilibrium of a chain at every depth: the rescaling theorem, and the rescaling as a sum."""

from collections.abc import Callable
from typing import TypeAlias

from ..matrix_algebra import Expression, Relation, identity, matrix, squared_norm, vector, zero
from .certificate import Certificate, Section, Step
from .layer import (
    BELOW,
    HALF,
    HERE,
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

Value: TypeAlias = Callable[[Expression, Expression], Expression]


def rescaling_theorem(
    dimensions: Dimensions = (BELOW, HERE, OUTPUT),
    *,
    first: Formula = first_rescaling,
    recursion: Formula = rescaling_recursion,
    minimiser: Formula = lambda layer: (
        layer.rescaling_below @ layer.map.T @ layer.rescaling_inverse @ layer.deviation
    ),
    value: Value = lambda deviation, inverse: HALF * (deviation.T @ inverse @ deviation),
) -> Certificate:
    r"""`min_z F = mean 1/2 r^T S_L^{-1} r`, by eliminating one layer after the other.

    Minimality is shown by completing the square, without calculus. The maps A_l are arbitrary: scalings and skips
    are inside. Biases only shift the means m_l.
    Source: saddles-2024/equilibrated-energy (there at unit precision and without biases).
    """
    one, layer = layers(dimensions)
    return Certificate(
        title="Rescaling theorem",
        statement=r"""Let $V_l(z_l)$ be the minimum over $z_1, \dots, z_{l-1}$ of the first l terms of the energy of
            one sample, $\sum_{k \le l} (\pi_k/2) |z_k - A_k z_{k-1} - c_k|^2$ with $z_0 = x$. Let
            $m_l = A_l m_{l-1} + c_l$ with $m_0 = x$ be the feedforward activities, and $d_l = z_l - m_l$. Then for
            every l""",
        definitions=(
            value(layer.deviation, layer.rescaling_inverse).named("V_l(z_l)"),
            recursion(layer).named("S_l"),
            first(one).named("S_1"),
        ),
        conclusion=rf"""At l = L with $z_L = y$: the equilibrated energy is the batch mean of $V_L(y)$, where
            $d_L = r = y - m_L$. {described(dimensions)}""",
        proof=(
            Section("Base, l = 1", _elimination_base(one, first, value)),
            Section("Induction, from l-1 to l", _elimination_step(layer, recursion, minimiser, value)),
        ),
        lemmas=(
            Section(
                "one layer at a time",
                prose="""$V_l(z_l)$ is the minimum over $z_{l-1}$ of $V_{l-1}(z_{l-1})$ plus the term of layer l,
                    because a joint minimum may be taken variable by variable.""",
            ),
            Section(
                "one sample at a time",
                prose="""The activities of different samples are different variables, so the minimum of the batch
                    mean is the mean of the minima.""",
            ),
        ),
        conditions=(
            r"Every precision is positive.",
            r"""$S_l \succ 0$ for every l, by steps 1 and 4; so the inverses exist, and as
                $S_{l-1}^{-1} + \pi_l A_l^T A_l$ is positive definite the minimiser is unique.""",
        ),
    )


def _elimination_base(one: SymbolicLayer, first: Formula, value: Value) -> tuple[Step, ...]:
    x = vector("x", one.below)
    mean = (one.map @ x + one.bias).named("m_1")
    inverted = Relation(one.rescaling_inverse, one.precision * one.identity, "step 1, inverses being unique")
    return (
        Step(
            r"$\pi_1 I$ is the inverse of $S_1$.",
            one.precision * one.rescaling,
            one.identity,
            (Relation(one.rescaling, first(one), "definition of $S_1$"),),
        ),
        Step(
            "There is no layer to eliminate: $V_1$ is the first term of the energy ($m_1 = A_1 x + c_1$).",
            one.precision / 2 * squared_norm(one.activity - one.map @ x - one.bias),
            value(one.activity - mean, one.rescaling_inverse),
            (inverted,),
        ),
    )


def _elimination_step(
    layer: SymbolicLayer, recursion: Formula, minimiser: Formula, value: Value
) -> tuple[Step, ...]:
    definition = Relation(layer.rescaling, recursion(layer), "definition of $S_l$")
    given = (*layer.inverses, definition)
    mean = (layer.map @ layer.mean_below + layer.bias).named("m_l")
    best = minimiser(layer).named(r"u^\star")
    remaining = value(layer.deviation, layer.rescaling_inverse)
    curvature = layer.rescaling_below_inverse + layer.precision * (layer.map.T @ layer.map)
    off = layer.deviation_below - best
    probe = vector("v", layer.here)
    pulled = layer.map.T @ probe

    def cost(below: Expression) -> Expression:
        miss = squared_norm(layer.deviation - layer.map @ below)
        return value(below, layer.rescaling_below_inverse) + layer.precision / 2 * miss

    return (
        Step(
            "Measured from the feedforward activities, the error of layer l has no bias.",
            layer.activity - layer.map @ layer.activity_below - layer.bias,
            (layer.activity - mean) - layer.map @ (layer.activity_below - layer.mean_below),
        ),
        Step(
            "$S_l$ is positive definite if $S_{l-1}$ is ($v$ is any vector), so it has an inverse.",
            probe.T @ layer.rescaling @ probe,
            squared_norm(probe) / layer.precision + pulled.T @ layer.rescaling_below @ pulled,
            (definition,),
        ),
        Step(
            rf"Let $u^\star = {minimiser(layer).notation.latex}$. It balances the pull of "
            "$V_{l-1}$ against that of layer l.",
            layer.rescaling_below_inverse @ best,
            layer.precision * (layer.map.T @ (layer.deviation - layer.map @ best)),
            given,
        ),
        Step(r"The cost at $u^\star$ is $V_l$.", cost(best), remaining, given),
        Step(
            "Completing the square: any other $d_{l-1}$ costs more, by a positive definite form.",
            cost(layer.deviation_below),
            remaining + HALF * (off.T @ curvature @ off),
            given,
        ),
    )


def rescaling_sum(
    dimensions: Dimensions = (BELOW, HERE, OUTPUT),
    *,
    first: Formula = first_rescaling,
    recursion: Formula = rescaling_recursion,
    below: Formula = to_output_below,
    term: Formula = lambda layer: (layer.to_output @ layer.to_output.T) / layer.precision,
    first_term: Formula | None = None,
) -> Certificate:
    r"""`S_L = sum_l P_l P_l^T / \pi_l` solves the recursion. `first_term` is the term l = 1, `term` unless given.

    Source: saddles-2024/equilibrated-energy.
    """
    one, layer = layers(dimensions)
    last = layer.output_rescaling
    tail, first_tail = (matrix(name, layer.above, layer.above, symmetric=True) for name in ("T_l", "T_1"))
    reached = tail + layer.to_output @ layer.rescaling @ layer.to_output.T
    lower = below(layer).named("P_{l-1}")
    unit = identity(layer.above)
    base = Step("$T_L = 0$ and $P_L = I$.", last, zero(layer.above, layer.above) + unit @ last @ unit.T)
    induction = Step(
        "One more term moves into the tail: $T_{l-1} = T_l + $ the term of layer l.",
        last,
        (tail + term(layer)) + lower @ layer.rescaling_below @ lower.T,
        (
            Relation(last, reached, "hypothesis at l"),
            Relation(layer.rescaling, recursion(layer), "definition of $S_l$"),
        ),
    )
    end = Step(
        "At l = 1 what is left is the first term.",
        first_tail + one.to_output @ one.rescaling @ one.to_output.T,
        first_tail + (first_term or term)(one),
        (Relation(one.rescaling, first(one), "definition of $S_1$"),),
    )
    return Certificate(
        title="The rescaling as a sum",
        statement="""The rescaling $S_L$ of the recursion is the sum over all layers of the terms below, with
            $P_L = I$. Downwards from l = L, with $T_l$ the sum of the terms above layer l:
            $S_L = T_l + P_l S_l P_l^T$. The terms and the recursion are""",
        definitions=(term(layer).named("T_{l-1} - T_l"), lower, recursion(layer).named("S_l")),
        conclusion=described(dimensions),
        proof=(
            Section("Base, l = L", (base,)),
            Section("Induction, from l to l-1", (induction,)),
            Section("End, l = 1", (end,)),
        ),
    )
