"""The loss at the origin, at every depth: its order along rays, and its Hessian with one hidden layer."""

from collections.abc import Callable

import sympy

from ..matrix_algebra import Expression, Relation, matrix, squared_norm, vector
from .certificate import Certificate, Section, Step
from .layer import BELOW, HALF, HERE, NILPOTENT, OUTPUT, Dimensions, described, layers

t = NILPOTENT


def ray_order(
    dimensions: Dimensions = (BELOW, HERE, OUTPUT),
    *,
    power: Callable[[sympy.Expr], sympy.Expr] = lambda layers: layers,
) -> Certificate:
    r"""Along a ray from the origin the product of l maps is `t^l D_l ... D_1`: the loss first changes at order L.

    `power` is the power of t that a product of so many maps is said to have.
    Source: saddles-2024/saddle-order.
    """
    layer = layers(dimensions)[1]
    number, depth = (sympy.Symbol(name, positive=True, integer=True) for name in ("l", "L"))
    move, below = matrix("D_{l+1}", layer.here, layer.below), matrix("C_l", layer.below, layer.above)
    x, y, whole = vector("x", layer.above), vector("y", layer.here), matrix("C_L", layer.here, layer.above)
    first = matrix("D_1", layer.here, layer.above)
    loss = HALF * squared_norm(y - t ** power(depth) * (whole @ x))
    written_out = (
        HALF * squared_norm(y) - t**depth * (y.T @ whole @ x) + t ** (2 * depth) / 2 * squared_norm(whole @ x)
    )
    return Certificate(
        title="Order of the saddle of the loss at the origin",
        statement=r"""Along the ray $W_l(t) = t V_l$, without biases and skips, $A_l(t) = t D_l$ with
            $D_l = a_l V_l$. Let $C_1 = D_1$ and $C_{l+1} = D_{l+1} C_l$. The product of the first l maps is
            $t^l C_l$, so that the loss of an example is""",
        definitions=(written_out.named("loss(t)"),),
        conclusion=rf"""So along no ray does the loss change at an order below L, and at order L by the batch mean
            of $-y^T C_L x$. {described(dimensions)}""",
        proof=(
            Section("Base, l = 1", (Step("One map.", t * first, t ** power(sympy.S.One) * first),)),
            Section(
                "Induction, from l to l+1",
                (
                    Step(
                        "One map more, one power more.",
                        (t * move) @ (t ** power(number) * below),
                        t ** power(number + 1) * (move @ below),
                    ),
                ),
            ),
            Section("The loss, with the product of all L maps", (Step("Written out.", loss, written_out),)),
        ),
    )


def loss_at_origin(
    dimensions: Dimensions = (BELOW, HERE, OUTPUT),
    *,
    sign: Callable[[sympy.Symbol], sympy.Expr] = lambda side: -side,
) -> Certificate:
    r"""With one hidden layer the loss at the origin has eigenvalues `+- a_1 a_2 \sigma_k`, N_1 times each, and 0.

    `sign` is the sign of the eigenvalue that belongs to `(h v^T, s u h^T)`, as a function of s = 1 or -1.
    Source: saddles-2024/loss-hessian-origin (there with scalings 1).
    """
    layer = layers(dimensions)[1]
    d_x, n, d_y = layer.below, layer.here, layer.above
    first, last, probe, last_probe = (
        matrix(name, rows, cols)
        for name, rows, cols in (("W_1", n, d_x), ("W_2", d_y, n), ("E_1", n, d_x), ("E_2", d_y, n))
    )
    x, y, h, u, v = (
        vector(name, size) for name, size in (("x", d_x), ("y", d_y), ("h", n), ("u", d_y), ("v", d_x))
    )
    moment = matrix(r"\Sigma_{yx}", d_y, d_x)
    c, sigma = sympy.Symbol("c", positive=True), sympy.Symbol("sigma", positive=True)
    side = sympy.Symbol("s", real=True, nonzero=True)

    def form(one: Expression, two: Expression) -> Expression:
        return -c * (y.T @ two @ one @ x)

    triple = (
        Relation(moment @ v, sigma * u, "singular vectors"),
        Relation(moment.T @ u, sigma * v, "singular vectors"),
    )
    return Certificate(
        title="The loss at the origin, one hidden layer",
        statement=r"""Let $c = a_1 a_2$. Up to the constant $(1/2) |y|^2$ and terms of order 4, the loss of an
            example is $q = -c y^T W_2 W_1 x$, so that its Hessian maps $(W_1, W_2)$ to
            $(-c W_2^T \Sigma_{yx}, -c \Sigma_{yx} W_1^T)$. Let $\Sigma_{yx} v = \sigma u$ and
            $\Sigma_{yx}^T u = \sigma v$ with unit vectors u and v, h any vector, and $s^2 = 1$.""",
        conclusion=rf"""So $(h v^T, s u h^T)$ is an eigenvector with eigenvalue $-s c \sigma$: both signs for each
            of the singular values, as often as there are orthogonal h, which is the width; the rest is the kernel.
            {described(dimensions)}""",
        proof=(
            Section(
                "The Hessian",
                (
                    Step(
                        "The derivative of q in any direction; the gradient of $v^T E w$ in E is $v w^T$.",
                        form(first + t * probe, last + t * last_probe).coefficient(t, 1),
                        -c * ((last.T @ y).T @ probe @ x) - c * (y.T @ last_probe @ (first @ x)),
                    ),
                ),
            ),
            Section(
                "Its eigenvectors",
                (
                    Step(
                        r"The part of $W_1$; $1/s = s$.",
                        -c * (side * (u @ h.T)).T @ moment,
                        sign(side) * c * sigma * (h @ v.T),
                        triple,
                    ),
                    Step(
                        r"The part of $W_2$.",
                        -c * moment @ (h @ v.T).T,
                        sign(1 / side) * c * sigma * (side * (u @ h.T)),
                        triple,
                    ),
                ),
            ),
        ),
        conditions=("All weights and biases are 0, and there are no skips.",),
    )
