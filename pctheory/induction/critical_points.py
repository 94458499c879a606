r"""Critical points of the equilibrated energy at every depth: where they are, and which way is down from them.

The last layer stands apart: S_L = I / \pi_L + A_L K A_L^T with K = S_{L-1}, the rescaling of the layers below it,
which does not depend on W_1 or W_L. Depth enters through K and the activity m_{L-1} alone.
"""

from collections.abc import Callable
from typing import TypeAlias

import sympy

from ..matrix_algebra import Expression, Relation, identity, inverse, matrix, scalar, squared_norm, vector, zero
from .certificate import Certificate, Section, Step
from .layer import BELOW, HALF, HERE, NILPOTENT, OUTPUT, Dimensions, described, three_sizes

t, s = NILPOTENT, sympy.Symbol("s")
PI = sympy.Symbol("pi_L", positive=True)
Rate: TypeAlias = Callable[[Expression, Expression], Expression]
Form: TypeAlias = Callable[["LastLayer"], Expression]


class LastLayer:
    """A_L, K, S_L and the vectors of one example at the last layer, of `below` inputs and `output` outputs."""

    def __init__(self, below: sympy.Expr | int, output: sympy.Expr | int):
        self.below, self.output = below, output
        self.map = matrix("A_L", output, below)
        self.spread = matrix("K", below, below, symmetric=True)
        self.rescaling = matrix("S_L", output, output, symmetric=True)
        self.inverse, self.inverses = inverse(self.rescaling)
        self.unit = identity(output)
        self.residual, self.mean = vector("r", output), vector("m_{L-1}", below)
        self.direction, self.probe = vector("u", output), vector("v", below)
        self.as_sum = self.unit / PI + self.map @ self.spread @ self.map.T  # S_L
        self.unseen = Relation(self.map.T @ self.residual, zero(below, 1), "$A_L^T r = 0$")

    @property
    def remaining(self) -> Expression:
        """G, the inverse of K^-1 + pi_L A_L^T A_L."""
        pulled = self.map @ self.spread
        return (self.spread - pulled.T @ self.inverse @ pulled).named("G")

    def at_critical_point(self) -> tuple[Relation, ...]:
        """What holds there of r, and of a unit vector u in the span of the residuals."""
        u, r = self.direction, self.residual
        return (
            self.unseen,
            Relation(self.map.T @ u, zero(self.below, 1), "u is in the span of residuals"),
            Relation(self.inverse @ r, PI * r, "step 1"),
            Relation(self.inverse @ u, PI * u, "step 2"),
            Relation(u.T @ u, scalar(1), "u has length 1"),
        )


def critical_points(
    dimensions: Dimensions = (BELOW, HERE, OUTPUT),
    *,
    rescaling_rate: Rate = lambda last_map, spread: 2 * (last_map @ spread @ last_map.T),
    second_condition: bool = True,
) -> Certificate:
    r"""`F*` is critical where the loss is and `A_L^T r = 0` for every example; there it is `\pi_L` times the loss.

    The argument: scale W_1 alone, and W_L alone. Without the second condition the converse is false.
    Source: own/critical-points.
    """
    under, below, output = three_sizes(dimensions)
    last = LastLayer(below, output)
    return Certificate(
        title="Critical points",
        statement=r"""Biases are 0, and the first and the last layer have no skip. With $g = S_L^{-1} r$, the
            equilibrated energy is critical if and only if the loss is critical and $A_L^T r = 0$ for every example.
            There $g = \pi_L r$.""",
        conclusion=rf"""It is then $\pi_L$ times the loss. {described(dimensions)}""",
        proof=(
            Section("Two scalings", _scalings(last, rescaling_rate)),
            Section("They balance only where the last layer sees nothing", _unseen(last, under)),
            Section("The converse", _converse(last, under, (last.unseen,) if second_condition else ())),
        ),
        lemmas=(
            Section(
                "vanishing mean",
                prose=r"""At a critical point the batch means of steps 1 and 3 are 0, so is that of their
                    difference, step 4. By step 5 each of its terms is at least
                    $|A_L^T g|^2 / \pi_{L-1}$: all are 0.""",
            ),
        ),
        conditions=(
            r"Every precision is positive, so $S_L \succ 0$, and $a_1$ and $a_L$ are not 0.",
            "There is a hidden layer, so that W_1 and W_L are two.",
        ),
    )


def _scalings(last: LastLayer, rescaling_rate: Rate) -> tuple[Step, ...]:
    r, pull, prediction = last.residual, (last.inverse @ last.residual).named("g"), last.map @ last.mean
    rate = rescaling_rate(last.map, last.spread).named("S_L'")
    moved = r - t * prediction
    moved_inverse = last.inverse - t * (last.inverse @ rate @ last.inverse)
    seen = (last.map.T @ pull).named("(A_L^T g)")
    first, both = -(pull.T @ prediction), -(pull.T @ prediction) - seen.T @ last.spread @ seen
    return (
        Step(
            "$(1 + t) W_1$ scales $m_{L-1}$ and leaves $S_L$: the derivative of the value.",
            (HALF * (moved.T @ last.inverse @ moved)).coefficient(t, 1),
            first,
        ),
        Step(
            "$(1 + t) W_L$ scales $A_L$, so it moves $S_L$ too: by $S_L'$.",
            (last.unit / PI + (1 + t) ** 2 * (last.map @ last.spread @ last.map.T)).coefficient(t, 1),
            rate,
        ),
        Step(
            "To first order its inverse moves by $-S_L^{-1} S_L' S_L^{-1}$, and the value by more than in step 1.",
            (HALF * (moved.T @ moved_inverse @ moved)).coefficient(t, 1),
            both,
        ),
        Step("The difference.", first - both, seen.T @ last.spread @ seen),
    )


def _unseen(last: LastLayer, under: sympy.Expr | int) -> tuple[Step, ...]:
    below_map, below_spread = matrix("A_{L-1}", last.below, under), matrix("S_{L-2}", under, under, symmetric=True)
    pi_below, v = sympy.Symbol("pi_{L-1}", positive=True), last.probe
    recursion = Relation(
        last.spread, identity(last.below) / pi_below + below_map @ below_spread @ below_map.T, "definition of $K$"
    )
    pulled, g = below_map.T @ v, vector("g", last.output)
    return (
        Step(
            "K is at least $I / \\pi_{L-1}$ ($v$ is any vector).",
            v.T @ last.spread @ v,
            squared_norm(v) / pi_below + pulled.T @ below_spread @ pulled,
            (recursion,),
        ),
        Step(
            r"So $A_L^T g = 0$, and $r = S_L g$ is $g / \pi_L$.",
            last.as_sum @ g,
            g / PI,
            (Relation(last.map.T @ g, zero(last.below, 1), "lemma"),),
        ),
    )


def _converse(last: LastLayer, under: sympy.Expr | int, given: tuple[Relation, ...]) -> tuple[Step, ...]:
    r, move = last.residual, matrix("D", last.output, last.below)
    transport, change = matrix("M_{L-1:l+1}", last.below, under), vector("d", under)
    pull = PI * r
    moved = r - t * (move @ last.mean)
    hidden = r - t * (last.map @ transport @ change)
    return (
        Step("$\\pi_L r$ solves $S_L g = r$.", last.as_sum @ pull, r, given),
        Step(
            "No error reaches a hidden layer, $P_l = A_L M_{L-1:l+1}$: the gradient in $W_l$ vanishes (envelope).",
            (last.map @ transport).T @ pull,
            zero(under, 1),
            given,
        ),
        Step(
            "Nor does the loss move along any move $d$ of $m_l$, l < L.",
            (HALF * squared_norm(hidden)).coefficient(t, 1),
            zero(1, 1),
            given,
        ),
        Step(
            r"Along $A_L + t D$ the loss moves by $-r^T D m_{L-1}$; the energy by $\pi_L$ times that (envelope).",
            PI * (HALF * squared_norm(moved)).coefficient(t, 1),
            -(pull.T @ move @ last.mean),
        ),
        Step("The value.", HALF * (r.T @ pull), PI * (HALF * squared_norm(r))),
    )


def last_layer_curvature(last: LastLayer, inner: Expression | None = None) -> Expression:
    r"""`\pi_L (v^T m_{L-1})^2 - \pi_L^2 (u^T r)^2 v^T G v`, of one example; `inner` is G unless given."""
    inner = last.remaining if inner is None else inner
    v, m, u, r = last.probe, last.mean, last.direction, last.residual
    return PI * ((m.T @ v) @ (v.T @ m)) - PI**2 * ((r.T @ u) @ (v.T @ inner @ v) @ (u.T @ r))


def mixed_derivative(last: LastLayer) -> Expression:
    r"""`-\pi_L (u^T r) (v^T a') (b^T m_{k-1})`, of one example; `a' = M_{L-1:k+1} a`."""
    seen, b, m = vector("a'", last.below), *(vector(name, UNDER) for name in ("b", "m_{k-1}"))
    return -(PI * ((m.T @ b) @ (seen.T @ last.probe) @ (last.direction.T @ last.residual)))


UNDER = sympy.Symbol("N_{k-1}", positive=True, integer=True)
LEMMAS = (
    Section("signal", prose=r"$u = \Sigma_{rx} b_0 / \sigma$ is in the span of the residuals, so $\rho > 0$."),
    Section("onto", prose=r"If $\Sigma_{zz} \succ 0$, $M_{L-1:1}$ is onto, and so is every $M_{L-1:k+1}$."),
    Section(
        "counting",
        prose=r"""If $M_{L-1:1}$ is onto and $A_L$ injective, $N_{L-1} \le \min(d_x, d_y)$. If it
            equals $d_y$, $A_L$ is invertible, so r = 0; if it equals $d_x$, $M_{L-1:1}$ is, and
            criticality in $W_L$, $\Sigma_{rx} M_{L-1:1}^T = 0$, gives $\Sigma_{rx} = 0$.""",
    ),
    Section(
        "indefinite",
        prose="A form that is 0 on one vector but not on its pair with another takes both signs.",
    ),
)


def strict_saddles(
    dimensions: Dimensions = (BELOW, HERE, OUTPUT),
    *,
    curvature: Form = last_layer_curvature,
    mixed: Form = mixed_derivative,
) -> Certificate:
    r"""At a critical point with `\Sigma_rx != 0` there is a way down, wherever the layers allow it.

    Sizes: N_k, N_{L-1}, d_y. Source: own/saddles-strict-with-signal.
    """
    here, below, output = three_sizes(dimensions)
    last = LastLayer(below, output)
    inner = InnerLayer(last, here)
    return Certificate(
        title="Negative curvature where there is signal",
        statement=r"""At a critical point of the equilibrated energy take a singular triple
            $(u, \sigma > 0, b_0)$ of $\Sigma_{rx}$. With $\Sigma_{zz}$ the second moments of $m_{L-1}$ and
            $\rho = u^T R u > 0$, the curvature along $\Delta_L = u v^T$ is the batch mean of the form below,
            $\pi_L v^T \Sigma_{zz} v - \pi_L^2 \rho v^T G v$. Along $\Delta_k = a b^T$ with $A_L a' = 0$ for
            $a' = M_{L-1:k+1} a$ nothing moves, and the mixed derivative with $\Delta_L$ is the second form.""",
        definitions=(last.remaining, curvature(last).named("q"), mixed(last).named("q'")),
        conclusion=rf"""So the point is a strict saddle unless $\Sigma_{{zz}} \succ 0$ and $A_L$ is injective:
            where $\Sigma_{{zz}} v = 0$, by q. Otherwise $M_{{L-1:1}}$ is onto, and where $A_L a' = 0$ with
            $a' \ne 0$, by $q'$ with k = 1, $b = b_0$, $v = a'$: its mean is $-\pi_L \sigma |a'|^2 |b_0|^2$.
            If $N_{{L-1}} \ge \min(d_x, d_y)$ nothing is left (counting). {described(dimensions)}""",
        proof=(
            Section("The residual and u at a critical point", _fixed_by_rescaling(last)),
            Section(r"Along $\Delta_L$", _along_last(last, curvature)),
            Section(r"Along $\Delta_k$", _along_inner(last, inner)),
            Section("Along both", _along_both(last, inner, mixed)),
        ),
        lemmas=LEMMAS,
        conditions=(
            "Biases are 0, and the first and the last layer have no skip (critical points).",
            r"Every precision is positive, so $K \succ 0$ and $G \succ 0$.",
        ),
    )


def _fixed_by_rescaling(last: LastLayer) -> tuple[Step, ...]:
    r, u = last.residual, last.direction
    unseen = last.at_critical_point()[:2]
    spread_inverse, inverses = inverse(last.spread)
    sum_of_inverses = spread_inverse + PI * (last.map.T @ last.map)
    carried = Relation(last.map @ last.spread @ last.map.T, last.rescaling - last.unit / PI, "definition of $S_L$")
    return (
        Step(r"$S_L^{-1} r = \pi_L r$.", last.as_sum @ (PI * r), r, unseen),
        Step(r"$S_L^{-1} u = \pi_L u$.", last.as_sum @ (PI * u), u, unseen),
        Step(
            r"G is the inverse of $K^{-1} + \pi_L A_L^T A_L$, so it is positive definite.",
            sum_of_inverses @ last.remaining,
            identity(last.below),
            (*inverses, *last.inverses, carried),
        ),
    )


def _along_last(last: LastLayer, curvature: Form) -> tuple[Step, ...]:
    u, v, moved_map = last.direction, last.probe, last.map + t * (last.direction @ last.probe.T)
    rescaling = last.unit / PI + moved_map @ last.spread @ moved_map.T
    crossed = u @ v.T @ last.spread @ last.map.T
    rate, bend = (crossed + crossed.T).named("S_L'"), (u @ v.T @ last.spread @ v @ u.T).named("S_L''")
    residual = (last.residual - t * (u @ v.T @ last.mean)).named("r(t)")
    value = HALF * (residual.T @ _second_order_inverse(last, rate, bend).named("S_L(t)^{-1}") @ residual)
    one, two = (matrix(name, last.output, last.output, symmetric=True) for name in ("S_L'", "S_L''"))
    product = (last.rescaling + t * one + t**2 * two) @ _second_order_inverse(last, one, two)
    return (
        Step("The rescaling to first order,", rescaling.coefficient(t, 1), rate),
        Step("and to second.", rescaling.coefficient(t, 2), bend),
        *(
            Step(
                f"Its inverse to second order: the product is I, order {order}.",
                product.coefficient(t, order),
                zero(last.output, last.output),
                last.inverses,
            )
            for order in (1, 2)
        ),
        Step(
            "Half the curvature of one example's value.",
            value.coefficient(t, 2),
            HALF * curvature(last),
            last.at_critical_point(),
        ),
    )


def _second_order_inverse(last: LastLayer, rate: Expression, bend: Expression) -> Expression:
    one = last.inverse @ rate @ last.inverse
    two = last.inverse @ rate @ last.inverse @ rate @ last.inverse - last.inverse @ bend @ last.inverse
    return last.inverse - t * one + t**2 * two


class InnerLayer:
    """Layer k < L of `here` units, and a direction a b^T of A_k that the last layer does not see."""

    def __init__(self, last: LastLayer, here: sympy.Expr | int):
        self.a, self.b, self.mean = vector("a", here), vector("b", UNDER), vector("m_{k-1}", UNDER)
        self.seen = vector("a'", last.below)  # M_{L-1:k+1} a
        self.to_top = matrix("M_{L-1:k+1}", last.below, here)
        self.moved = matrix("A_k", here, UNDER) + s * (self.a @ self.b.T)
        noise = identity(here) / sympy.Symbol("pi_k", positive=True)
        below = matrix("S_{k-1}", UNDER, UNDER, symmetric=True)
        tail = matrix("T", last.below, last.below, symmetric=True)
        self.spread = tail + self.to_top @ (noise + self.moved @ below @ self.moved.T) @ self.to_top.T  # K
        self.kernel = (
            Relation(self.to_top @ self.a, self.seen, "definition of a'"),
            Relation(last.map @ self.seen, zero(last.output, 1), "a' in the kernel of $A_L$"),
        )

    def rescaling(self, last_map: Expression) -> Expression:
        """S_L."""
        return identity(last_map.rows) / PI + last_map @ self.spread @ last_map.T

    def prediction(self, last_map: Expression) -> Expression:
        """What arrives at the output."""
        return last_map @ self.to_top @ self.moved @ self.mean


def _along_inner(last: LastLayer, inner: InnerLayer) -> tuple[Step, ...]:
    still = (
        Step(
            "nor does the rescaling ($K = T + M_{L-1:k+1} S_k M_{L-1:k+1}^T$, rescaling as a sum).",
            inner.rescaling(last.map).coefficient(s, order),
            zero(last.output, last.output),
            inner.kernel,
        )
        for order in (1, 2)
    )
    prediction = Step(
        "Along $\\Delta_k$ alone the prediction does not move,",
        inner.prediction(last.map).coefficient(s, 1),
        zero(last.output, 1),
        inner.kernel,
    )
    return prediction, *still


def _along_both(last: LastLayer, inner: InnerLayer, mixed: Form) -> tuple[Step, ...]:
    u, v, pull = last.direction, last.probe, last.inverse @ last.residual
    moved_map = last.map + t * (u @ v.T)
    residual_rate = -(u @ v.T @ inner.seen @ (inner.b.T @ inner.mean))
    rescaling_rate = inner.rescaling(moved_map).coefficient(s, 1).coefficient(t, 1).named("S_L^{st}")
    return (
        Step(
            "Along both the residual moves by its mixed derivative,",
            -inner.prediction(moved_map).coefficient(s, 1).coefficient(t, 1),
            residual_rate,
            inner.kernel,
        ),
        Step(
            "and so does the value: all else in s t has a factor that vanishes by steps 9 to 11.",
            residual_rate.T @ pull - HALF * (pull.T @ rescaling_rate @ pull),
            mixed(last),
            (*inner.kernel, *last.at_critical_point()),
        ),
    )
