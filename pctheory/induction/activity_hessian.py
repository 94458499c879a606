"""The activity Hessian at every depth: its factorisation, its blocks, the linear system of the equilibrium."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import sympy

from ..matrix_algebra import Blocks, Expression, identity, matrix, vector, zero
from .certificate import Certificate, Section, Step
from .layer import (
    ABOVE,
    BELOW,
    HALF,
    HERE,
    NILPOTENT,
    Dimensions,
    Formula,
    SymbolicLayer,
    described,
    layers,
)

Source: TypeAlias = Callable[[SymbolicLayer, Expression, Expression], Expression]
Skip: TypeAlias = Callable[[Expression, sympy.Symbol], Expression]


class Position(NamedTuple):
    """Where a hidden layer stands: its index, and whether there are hidden layers below and above it."""

    title: str
    anchor: str
    offset: int
    has_below: bool
    has_above: bool

    def layer(self, dimensions: Dimensions) -> SymbolicLayer:
        """Its symbols."""
        return SymbolicLayer(self.anchor, self.offset, *dimensions)


POSITIONS = (
    Position("An inner hidden layer.", "l", 0, has_below=True, has_above=True),
    Position("The first hidden layer, above the clamped input.", "", 1, has_below=False, has_above=True),
    Position("The last hidden layer, below the clamped output.", "L", -1, has_below=True, has_above=False),
    Position("The only hidden layer.", "", 1, has_below=False, has_above=False),
)


def diagonal_block(layer: SymbolicLayer) -> Expression:
    r"""`\pi_l I + \pi_{l+1} A_{l+1}^T A_{l+1}`."""
    after = layer.next
    return layer.precision * layer.identity + after.precision * (after.map.T @ after.map)


def lower_block(layer: SymbolicLayer) -> Expression:
    r"""`-\pi_l A_l`, the block in row l and column l-1."""
    return -(layer.precision * layer.map)


def activity_hessian_factorisation(
    dimensions: Dimensions = (BELOW, HERE, ABOVE),
    *,
    diagonal: Formula = diagonal_block,
    lower: Formula = lower_block,
    source: Source = lambda layer, own, after: (
        layer.precision * own - layer.next.precision * (layer.next.map.T @ after)
    ),
    with_skip: Skip = lambda weight, scale: (
        2 * identity(weight.rows) + scale**2 * (weight.T @ weight) + scale * (weight + weight.T)
    ),
) -> Certificate:
    r"""`H_z = A^T \Pi A` and its blocks, `grad_z F = H_z z - b` and the blocks of b; H_z is positive definite.

    Source: mupc-2025/activity-hessian, mupc-2025/activity-solution, mupc-2025/inference-strictly-convex.
    """
    layer = layers(dimensions)[1]
    return Certificate(
        title="Activity Hessian",
        statement=r"""Stack the prediction errors of one sample as $A z - b_0$: z holds the hidden activities, A
            has $I$ in its blocks (l, l) and $-A_l$ in (l, l-1), and $b_0$ has the blocks $c_l$, plus $A_1 x$ in
            the first and minus y in the last. Then $F = (1/2) (A z - b_0)^T \Pi (A z - b_0)$ with the precisions
            in $\Pi$, and its Hessian $H = A^T \Pi A$ is block tridiagonal with the blocks""",
        definitions=(diagonal(layer).named("H_{l,l}"), lower(layer).named("H_{l,l-1}")),
        conclusion=rf"""The gradient is $H z - b$ with $b = A^T \Pi b_0$, so the equilibrium solves $H z = b$. At
            unit precision, without biases and with two or more hidden layers, $b = (A_1 x, 0, \dots, 0, A_L^T y)$.
            {described(dimensions)}""",
        proof=(
            Section("Energy", _quadratic(dimensions)),
            Section(
                "Column l of the Hessian",
                tuple(_hessian_column(position, dimensions, diagonal, lower) for position in POSITIONS),
                "Column l of A meets the errors of layers l and l+1 only. In order: blocks l-1, l and l+1.",
            ),
            Section("Block l of b", tuple(_source_block(position, dimensions, source) for position in POSITIONS)),
            Section("Skips", (_skip(layer, with_skip),)),
        ),
        conditions=(
            "Every precision is positive.",
            """$A v = 0$ only for $v = 0$, because A is block lower triangular with identities on its diagonal: so H
                is positive definite, and there is exactly one equilibrium.""",
        ),
    )


def _quadratic(dimensions: Dimensions) -> tuple[Step, ...]:
    """Gradient and Hessian of the stacked energy, for matrices of any size."""
    errors, hidden = sum(dimensions), sum(dimensions[:2])
    stacked, weights = matrix("A", errors, hidden), matrix(r"\Pi", errors, errors, symmetric=True)
    z, v, offset = vector("z", hidden), vector("v", hidden), vector("b_0", errors)
    hessian = (stacked.T @ weights @ stacked).named("H")
    source = (stacked.T @ weights @ offset).named("b")
    miss = (stacked @ (z + NILPOTENT * v) - offset).named("e(t)")
    energy = HALF * (miss.T @ weights @ miss)
    return (
        Step(
            r"Along $z + t v$ the errors are $e(t) = A (z + t v) - b_0$. The gradient is $H z - b$.",
            energy.coefficient(NILPOTENT, 1),
            v.T @ (hessian @ z - source),
        ),
        Step(r"The Hessian is $H = A^T \Pi A$.", energy.coefficient(NILPOTENT, 2), HALF * (v.T @ hessian @ v)),
        Step(
            "It is nonnegative: a sum of squares weighted by the precisions.",
            v.T @ hessian @ v,
            (stacked @ v).T @ weights @ (stacked @ v),
        ),
    )


def _weights(layer: SymbolicLayer) -> Blocks:
    after, off = layer.next, zero(layer.here, layer.above)
    return Blocks.of([[layer.precision * layer.identity, off], [off.T, after.precision * after.identity]])


def _column(layer: SymbolicLayer) -> Blocks:
    return Blocks.of([[layer.identity], [-layer.next.map]])


def _hessian_column(position: Position, dimensions: Dimensions, diagonal: Formula, lower: Formula) -> Step:
    """Rows l and l+1 of A against its column l: every block of column l of the Hessian that is not zero."""
    layer = position.layer(dimensions)
    after = layer.next
    columns = [(layer.identity, -after.map, diagonal(layer))]
    if position.has_below:
        columns.insert(0, (-layer.map, zero(layer.above, layer.below), lower(layer).T))
    if position.has_above:
        columns.append((zero(layer.here, layer.above), after.identity, lower(after)))
    upper_row, lower_row, expected = zip(*columns, strict=True)
    left = Blocks.of([upper_row, lower_row]).T @ _weights(layer) @ _column(layer)
    return Step(position.title, left, Blocks.of([[block] for block in expected]))


def _source_block(position: Position, dimensions: Dimensions, source: Source) -> Step:
    """Column l of A against the offsets of layers l and l+1."""
    layer = position.layer(dimensions)
    own, after = layer.bias, layer.next.bias
    if not position.has_below:
        own = layer.map @ vector("x", layer.below) + own
    if not position.has_above:
        after = after - vector("y", layer.above)
    left = _column(layer).T @ _weights(layer) @ Blocks.of([[own], [after]])
    return Step(position.title, left, Blocks.of([[source(layer, own, after)]]))


def _skip(layer: SymbolicLayer, with_skip: Skip) -> Step:
    weight, scale = matrix("W", layer.here, layer.here), sympy.Symbol("a")
    mapped = (scale * weight + layer.identity).named("A")
    return Step(
        "At unit precision, between square maps with a skip, $A = a W + I$.",
        layer.identity + mapped.T @ mapped,
        with_skip(weight, scale),
    )
