r"""The Hessian where the loss vanishes, at every depth: Gauss-Newton, weighted by the inverse rescaling."""

from collections.abc import Callable
from typing import TypeAlias

import sympy

from ..matrix_algebra import Expression, Relation, identity, inverse, matrix, squared_norm, vector, zero
from .certificate import Certificate, Section, Step
from .layer import BELOW, HALF, HERE, NILPOTENT, OUTPUT, Dimensions, SymbolicLayer, described, layers

t = NILPOTENT
Form: TypeAlias = Callable[[Expression, Expression], Expression]


def minimum_hessian(
    dimensions: Dimensions = (BELOW, HERE, OUTPUT),
    *,
    form: Form = lambda rate, inverse: HALF * (rate.T @ inverse @ rate),
    residual: Callable[[Expression], Expression] = lambda r: 0 * r,
    bound: Callable[[sympy.Symbol], sympy.Expr] = lambda least: 1 / least,
) -> Certificate:
    r"""At zero loss `Hess F* = mean J^T S_L^{-1} J`, between `mean J^T J` times the bounds of `S_L^{-1}`.

    `residual` is that of the example where the weights start, as a function of a symbol; `bound` the largest
    eigenvalue of `S_L^{-1}` as a function of the smallest one of S_L.
    Source: saddles-2024/flatter-minima.
    """
    layer = layers(dimensions)[1]
    rate, inverted = vector("p", layer.above), inverse(layer.output_rescaling)[0]
    return Certificate(
        title="Minima of the equilibrated energy are flatter",
        statement=r"""Let the residual of an example be 0, and move the weights by t D. Its prediction moves by
            $t p$ to first order, with p linear in D. Then neither loss nor equilibrated energy has a term in t, and
            their coefficients of $t^2$, half the Hessian along D, are $(1/2) |p|^2$ and""",
        definitions=(form(rate, inverted).named(r"[t^2] F^\star"),),
        conclusion=rf"""So with p = J D both Hessians are of Gauss-Newton form, mean $J^T J$ and
            mean $J^T S_L^{{-1}} J$. If $\lambda$ is at most, and $\mu$ at least, every eigenvalue of $S_L$, then
            Hess loss$/\mu \le$ Hess $F^\star \le$ Hess loss$/\lambda$, and $\lambda = 1/\pi_L$ will do. The
            eigenvalues are ordered in the same way. {described(dimensions)}""",
        proof=(
            Section("Second order", _second_order(layer, rate, form, residual)),
            Section("Bounds", _bounds(layer, rate, bound)),
        ),
        lemmas=(
            Section(
                "ordered matrices have ordered eigenvalues",
                prose=r"""If $v^T A v \le v^T B v$ for every v, then $\lambda_k(A) \le \lambda_k(B)$ for every k
                    (Courant and Fischer).""",
            ),
        ),
        conditions=(
            r"Every precision is positive, so $S_L(t) \succ 0$: its inverse exists and is smooth in t.",
            r"""$S_L - I/\pi_L$ is a sum of squares (rescaling as a sum), and so are $S_L - \lambda I$ and
                $\mu I - S_L$, being positive semidefinite.""",
        ),
    )


def _second_order(
    layer: SymbolicLayer, rate: Expression, form: Form, residual: Callable[[Expression], Expression]
) -> tuple[Step, ...]:
    inverted, rest = inverse(layer.output_rescaling)[0], matrix("T'", layer.above, layer.above, symmetric=True)
    further = matrix("T''", layer.above, layer.above, symmetric=True)
    moved = (residual(layer.residual) - t * rate - t**2 * vector("q", layer.above)).named("r(t)")
    energy = HALF * (moved.T @ (inverted + t * rest + t**2 * further).named("S_L(t)^{-1}") @ moved)
    return (
        Step("No term in t: a critical point.", energy.coefficient(t, 1), zero(1, 1)),
        Step("The energy's curvature.", energy.coefficient(t, 2), form(rate, inverted)),
        Step(
            "That of the loss.",
            (HALF * squared_norm(moved)).coefficient(t, 2),
            form(rate, identity(layer.above)),
        ),
    )


def _bounds(
    layer: SymbolicLayer, rate: Expression, bound: Callable[[sympy.Symbol], sympy.Expr]
) -> tuple[Step, ...]:
    least, most = (sympy.Symbol(name, positive=True) for name in ("lambda", "mu"))
    last, unit = layer.output_rescaling, identity(layer.above)
    (inverted, inverses), over = inverse(last), matrix("G", layer.above, layer.here)
    pull = (inverted @ rate).named("g")
    above = Relation(last, least * unit + over @ over.T, r"$S_L - \lambda I$ is a sum of squares")
    short = most * unit - last
    return (
        Step(
            r"Above, with $g = S_L^{-1} p$ and $S_L = \lambda I + G G^T$: what is missing is a sum of squares.",
            bound(least) * squared_norm(last @ pull) - (last @ pull).T @ pull,
            squared_norm(over @ over.T @ pull) / least + squared_norm(over.T @ pull),
            (*inverses, above),
        ),
        Step(
            r"""Below, with $V = \mu I - S_L$, which is positive semidefinite: what is left over is
                $(V p)^T S_L^{-1} (V p) + p^T V p$, divided by $\mu^2$.""",
            rate.T @ inverted @ rate - squared_norm(rate) / most,
            ((short @ rate).T @ inverted @ (short @ rate) + rate.T @ short @ rate) / most**2,
            inverses,
        ),
    )
