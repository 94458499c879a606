r"""The Hessian at zero-rank saddles, at every depth.

All maps move at once, A_l(t) = A_l + t D_l with D_l = a_l (move of W_l). The coefficient of t^2 of a function of
the weights is half its Hessian along that move. Residual, activity and rescaling are smooth in t, so that what
stands behind their leading terms may be any symbol.
"""

from collections.abc import Callable
from typing import TypeAlias

import sympy

from ..matrix_algebra import Expression, Relation, identity, matrix, squared_norm, vector, zero
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
)

t = NILPOTENT
Form: TypeAlias = Callable[["ZeroRank"], Expression]


class ZeroRank(SymbolicLayer):
    """Layer L-1 below an output map that vanishes, on examples whose activity m_{L-1} vanishes; r = y - c_L."""

    @property
    def move(self) -> Expression:
        """D_L."""
        return matrix("D_L", self.above, self.here)

    @property
    def rate(self) -> Expression:
        """m_{L-1}', by how much the activity moves to first order."""
        return vector("m_{L-1}'", self.here)

    @property
    def output_precision(self) -> sympy.Symbol:
        """pi_L."""
        return sympy.Symbol("pi_L", positive=True)


def zero_rank_form(top: ZeroRank) -> Expression:
    r"""`-\pi_L r^T D_L m_{L-1}' - 1/2 \pi_L^2 r^T D_L S_{L-1} D_L^T r`."""
    seen = top.move.T @ top.residual
    pi = top.output_precision
    return -pi * (seen.T @ top.rate) - pi**2 / 2 * (seen.T @ top.rescaling @ seen)


def zero_rank_hessian(
    dimensions: Dimensions = (BELOW, HERE, OUTPUT),
    *,
    form: Form = zero_rank_form,
    top_kernel: Formula = rescaling_recursion,
    second_rate: Formula = lambda two: two.map @ matrix("D_1", two.below, two.above) @ vector("x", two.above),
) -> Certificate:
    r"""Half the Hessian of F* along any move, where A_L = 0 and m_{L-1} = 0, and the block of W_L.

    Corollaries: the origin, and the saddles where only W_{L-1} is not 0. `top_kernel` is S_{L-1} there,
    `second_rate` is m_2' for two hidden layers.
    Source: saddles-2024/zero-rank-saddles-strict, saddles-2024/origin-strict (there at unit precision and scaling).
    """
    layer = layers(dimensions)[1]
    top = ZeroRank("L", -1, layer.below, layer.here, layer.above)
    return Certificate(
        title="Hessian at a zero-rank saddle",
        statement=r"""Let $A_L = 0$ and $m_{L-1} = 0$ for an example, and $r = y - c_L$. Move every map,
            $A_l(t) = A_l + t D_l$. Then the equilibrated energy of the example, $(1/2) r(t)^T S_L(t)^{-1} r(t)$,
            has no term in t (a critical point), and its coefficient of $t^2$ is""",
        definitions=(form(top).named(r"[t^2] F^\star"),),
        conclusion=rf"""That of the loss is $-r^T D_L m_{{L-1}}'$. So in the Hessian of $F^\star$ all blocks but
            that of $W_L$ are $\pi_L$ times those of the loss; the loss has none there, $F^\star$ has
            $D_L \to -\pi_L^2 \Sigma_{{rr}} D_L S_{{L-1}}$. {described(dimensions)}""",
        proof=(
            Section("What moves below the output, from l-1 to l", (_activity_rate(layer),)),
            Section("Second order", _second_order(top, form)),
            Section("The block of the output's weights", _output_block(top)),
            Section(
                "At the origin and where only W_{L-1} is not 0, without biases and skips",
                (
                    *_vanishing_below(layer, second_rate),
                    *_kernels(top, top_kernel),
                ),
            ),
        ),
        lemmas=(
            Section(
                "gradient of a bilinear form",
                prose="$v^T D w$ is the inner product of $D$ with $v w^T$, so $v w^T$ is its gradient in $D$.",
            ),
        ),
        conditions=(
            r"Every precision is positive, so $S_l(t) \succ 0$ for every l: its inverse exists and is smooth in t.",
            "A sum over examples with their mean gives the batch: the algebra speaks of one example.",
        ),
    )


def _activity_rate(layer: SymbolicLayer) -> Step:
    rate, rest = (vector(name, layer.below) for name in ("m_{l-1}'", "q"))
    move = matrix("D_l", layer.here, layer.below)
    moved = (layer.map + t * move) @ (layer.mean_below + t * rate + t**2 * rest) + layer.bias
    return Step(
        r"""To first order $m_l(t) = m_l + t m_l'$ with $m_l' = A_l m_{l-1}' + D_l m_{l-1}$ and $m_0' = 0$: no
            $m_l'$ depends on $D_L$ for l < L.""",
        moved.coefficient(t, 1),
        layer.map @ rate + move @ layer.mean_below,
    )


def _second_order(top: ZeroRank, form: Form) -> tuple[Step, ...]:
    pi, r, unit = top.output_precision, top.residual, identity(top.above)
    moved, stiffness = vector("q", top.here), matrix("K'", top.here, top.here, symmetric=True)
    inverted, spread, rest = (matrix(name, top.above, top.above, symmetric=True) for name in ("T", "X", "Y"))
    defining = Relation(inverted @ spread, (unit - inverted / pi) / t**2, r"$T (I/\pi_L + t^2 X) = I$")
    activity = (t * top.rate + t**2 * moved).named("m_{L-1}(t)")
    residual = (r - (t * top.move) @ activity).named("r(t)")
    spread_moved = top.move @ (top.rescaling + t * stiffness) @ top.move.T
    inverse_moved = (pi * unit - pi**2 * t**2 * spread_moved + t**4 * rest).named("S_L(t)^{-1}")
    energy = HALF * (residual.T @ inverse_moved @ residual)
    return (
        Step(
            r"""The rescaling is $S_L(t) = I/\pi_L + t^2 X$ with $X = D_L S_{L-1}(t) D_L^T$. Its inverse T is known
                to third order, as T stays bounded.""",
            inverted,
            pi * unit - pi**2 * t**2 * spread + pi**2 * t**4 * (inverted @ spread @ spread),
            (defining,),
        ),
        Step("No term in t: a critical point.", energy.coefficient(t, 1), zero(1, 1)),
        Step("The energy's curvature.", energy.coefficient(t, 2), form(top)),
        Step(
            "That of the loss.",
            (HALF * squared_norm(residual)).coefficient(t, 2),
            -(r.T @ top.move @ top.rate),
        ),
    )


def _output_block(top: ZeroRank) -> tuple[Step, ...]:
    moment = matrix(r"\Sigma_{rr}", top.above, top.above, symmetric=True)
    stiffness, r, direction = top.rescaling, top.residual, matrix("E", top.above, top.here)
    u, v = vector("u", top.above), vector("v", top.here)
    strength, kernel = (sympy.Symbol(name, real=True) for name in ("lambda", "mu"))
    seen = (top.move + t * direction).T @ r
    probe = top.map.T @ v
    return (
        Step(
            r"""The gradient of $(1/2) r^T D_L K D_L^T r$ in $D_L$ is $r r^T D_L K$, with $K = S_{L-1}$: the block
                maps $D_L$ to $-\pi_L^2 \Sigma_{rr} D_L K$.""",
            (HALF * (seen.T @ stiffness @ seen)).coefficient(t, 1),
            r.T @ direction @ stiffness @ top.move.T @ r,
        ),
        Step(
            r"Its eigenvectors are $u v^T$, its eigenvalues products.",
            moment @ (u @ v.T) @ stiffness,
            strength * kernel * (u @ v.T),
            (
                Relation(moment @ u, strength * u, r"u an eigenvector of $\Sigma_{rr}$"),
                Relation(stiffness @ v, kernel * v, "v an eigenvector of K"),
            ),
        ),
        Step(
            r"No eigenvalue of K is below $1/\pi_{L-1}$.",
            v.T @ stiffness @ v,
            squared_norm(v) / top.precision + probe.T @ top.rescaling_below @ probe,
            (Relation(stiffness, rescaling_recursion(top), "definition of $S_{L-1}$"),),
        ),
    )


def _vanishing_below(layer: SymbolicLayer, second_rate: Formula) -> tuple[Step, ...]:
    """Where m_l' vanishes. Layer 2 is drawn with its input's size in the place of the next layer's."""
    two = SymbolicLayer("", 2, layer.below, layer.here, layer.above)
    rate, move, x = vector("m_{l-1}'", layer.below), matrix("D_l", layer.here, layer.below), vector("x", two.above)
    first_rate = matrix("D_1", two.below, two.above) @ x
    still = Relation(layer.mean_below, zero(layer.below, 1), "$m_{l-1} = 0$, a lower map being 0")
    below = Relation(rate, zero(layer.below, 1), "induction")
    empty = Relation(layer.map, zero(layer.here, layer.below), "$A_l = 0$")
    return (
        Step(
            "Where $A_l = 0$ and l > 1 with all lower maps 0, $m_l' = 0$; and $m_1' = D_1 x$.",
            layer.map @ rate + move @ layer.mean_below,
            zero(layer.here, 1),
            (still, empty),
        ),
        Step(
            "One layer higher, with any $A_l$: $m_l' = 0$ from l = 3 on, as $m_{l-1}' = 0$ from l - 1 = 2 on.",
            layer.map @ rate + move @ layer.mean_below,
            zero(layer.here, 1),
            (still, below),
        ),
        Step(
            "But with two hidden layers $m_2' = A_2 D_1 x$, which does not vanish.",
            two.map @ vector("m_1'", two.below),
            second_rate(two),
            (Relation(vector("m_1'", two.below), first_rate, "layer 1"),),
        ),
    )


def _kernels(top: SymbolicLayer, top_kernel: Formula) -> tuple[Step, ...]:
    empty = Relation(top.map, zero(top.here, top.below), "$A_{L-1} = 0$")
    alone = Relation(top.rescaling_below, top.precision_below**-1 * identity(top.below), "$A_{L-2} = 0$")
    return (
        Step(
            r"At the origin $K = I/\pi_{L-1}$.",
            rescaling_recursion(top),
            first_rescaling(top),
            (empty,),
        ),
        Step(
            r"Where only $W_{L-1}$ is not 0, $K = I/\pi_{L-1} + A_{L-1} A_{L-1}^T/\pi_{L-2}$.",
            top_kernel(top),
            top.identity / top.precision + top.map @ top.map.T / top.precision_below,
            (alone,),
        ),
    )
