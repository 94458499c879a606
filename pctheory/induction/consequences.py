"""What the rescaling means, at every depth: energy and loss, curvature in error coordinates, likelihood."""

from collections.abc import Callable
from typing import TypeAlias

import sympy

from ..matrix_algebra import (
    Blocks,
    Expression,
    Relation,
    identity,
    inverse,
    matrix,
    scalar,
    squared_norm,
    vector,
    zero,
)
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
    layers,
    number,
    rescaling_recursion,
)

Gram: TypeAlias = Callable[[Expression], Expression]
Gap: TypeAlias = Callable[[Expression, Expression], Expression]
Likelihood: TypeAlias = Callable[[Expression, Expression, Expression], Expression]


def energy_below_loss(
    dimensions: Dimensions = (BELOW, HERE, OUTPUT),
    *,
    rescaling: Gram = lambda jacobian: identity(jacobian.rows) + jacobian @ jacobian.T,
    gap: Gap = lambda jacobian, pull: (
        HALF * squared_norm(jacobian @ jacobian.T @ pull) + HALF * squared_norm(jacobian.T @ pull)
    ),
) -> Certificate:
    r"""`loss - F* >= 0` at `\pi_L = 1`, as a sum of squares; zero iff `P_l^T r = 0` for all l < L.

    Source: saddles-2024/energy-below-loss. "Never equal" is false: the last step has equality.
    """
    layer = layers(dimensions)[1]
    jacobian, last = matrix("J", layer.above, layer.below), layer.output_rescaling
    pull, r = layer.pull.named("g"), layer.residual
    inverses = inverse(last)[1]
    spread = Relation(last, rescaling(jacobian), "rescaling as a sum")
    orthogonal = Relation(jacobian.T @ r, zero(layer.below, 1), "$P_l^T r = 0$ for all l < L")
    small = identity(layer.below) + jacobian.T @ jacobian
    return Certificate(
        title="The equilibrated energy is below the loss",
        statement=r"""At $\pi_L = 1$, with $J = [P_1/\pi_1^{1/2}, \dots, P_{L-1}/\pi_{L-1}^{1/2}]$, the rescaling
            and the gap between the loss $(1/2) |r|^2$ and the equilibrated energy $(1/2) r^T g$ of a sample are""",
        definitions=(rescaling(jacobian).named("S_L"), pull, gap(jacobian, pull).named(r"loss - F^\star")),
        conclusion=rf"""So $F^\star \le$ loss, with equality if and only if $P_l^T r = 0$ for all l < L. And
            $F^\star = 0$ if and only if the loss is 0. {described(dimensions)}""",
        proof=(
            Section(
                "The gap",
                (
                    Step(
                        "It is a sum of squares.",
                        HALF * squared_norm(r) - HALF * (r.T @ pull),
                        gap(jacobian, pull),
                        (*inverses, spread),
                    ),
                ),
            ),
            Section(
                "Equality",
                (
                    Step(
                        "$J^T g$ vanishes exactly where $J^T r$ does, for $I + J^T J$ is invertible.",
                        small @ (jacobian.T @ pull),
                        jacobian.T @ r,
                        (*inverses, spread),
                    ),
                    Step(
                        "Where $J^T r = 0$, $S_L r = r$, so $g = r$: energy and loss agree.",
                        rescaling(jacobian) @ r,
                        r,
                        (orthogonal,),
                    ),
                ),
            ),
        ),
        conditions=(
            r"""Every precision is positive, so $S_L \succ 0$ and $F^\star = (1/2) r^T S_L^{-1} r$ vanishes only
                with r.""",
        ),
    )


def error_hessian(
    dimensions: Dimensions = (BELOW, HERE, OUTPUT),
    *,
    hessian: Gram = lambda jacobian: identity(jacobian.cols) + jacobian.T @ jacobian,
    rescaling: Gram = lambda jacobian: identity(jacobian.rows) + jacobian @ jacobian.T,
) -> Certificate:
    r"""The Hessian in errors is `I + J^T J` with `J = [P_1 ... P_{L-1}]`, and `S_L = I + J J^T`; unit precision.

    Their eigenvalues other than 1 agree. Hence `cond(I + J^T J) <= lambda_max(S_L)`, with equality where J has a
    kernel. It may exceed `cond(S_L)`, as the smallest eigenvalue of S_L may be above 1: in a scalar chain with two
    hidden layers `cond(S_L)` is 1.
    Source: goemaere-2025/error-hessian.
    """
    layer = layers(dimensions)[1]
    jacobian = matrix("J", layer.above, layer.below)
    return Certificate(
        title="Hessian in error coordinates",
        statement=r"""At unit precision take the hidden errors $e = (e_1, \dots, e_{L-1})$ as coordinates. The sweep
            makes the output error $r - J e$ with $J = [P_1 \dots P_{L-1}]$, so that
            $F = (1/2) |e|^2 + (1/2) |r - J e|^2$. Its Hessian and the rescaling are""",
        definitions=(hessian(jacobian).named("H_e"), rescaling(jacobian).named("S_L")),
        conclusion=rf"""They have the same eigenvalues with the same multiplicities, but for the eigenvalue 1. The
            condition number of $H_e$ is at most the largest eigenvalue of $S_L$. {described(dimensions)}""",
        proof=(
            Section("The two matrices", _both_grams(layer, jacobian, hessian)),
            Section("Their spectra", _spectra(layer, jacobian, hessian, rescaling)),
        ),
        lemmas=(
            Section(
                "common spectrum",
                prose="""For each eigenvalue other than 1, $J^T$ maps the eigenspace of $S_L$ into that of $H_e$
                    and J maps it back, both injectively: the multiplicities agree.""",
            ),
        ),
        conditions=("Every precision is 1.",),
    )


def _both_grams(layer: SymbolicLayer, jacobian: Expression, hessian: Gram) -> tuple[Step, ...]:
    below = matrix("J_{l-1}", layer.above, layer.below)
    row = Blocks.of([[below, layer.to_output]])
    errors, move = vector("e", layer.below), vector("v", layer.below)
    moved = errors + NILPOTENT * move
    energy = HALF * squared_norm(moved) + HALF * squared_norm(layer.residual - jacobian @ moved)
    return (
        Step(
            r"""Appending $P_l$ to $J_{l-1} = [P_1 \dots P_{l-1}]$ adds one term of the rescaling's sum: at last
                all but $P_L P_L^T = I$.""",
            row @ row.T,
            Blocks.of([[below @ below.T + layer.to_output @ layer.to_output.T]]),
        ),
        Step("The Hessian.", energy.coefficient(NILPOTENT, 2), HALF * (move.T @ hessian(jacobian) @ move)),
    )


def _spectra(layer: SymbolicLayer, jacobian: Expression, hessian: Gram, rescaling: Gram) -> tuple[Step, ...]:
    curvature, last = hessian(jacobian), layer.output_rescaling
    v, w = vector("v", layer.below), vector("w", layer.above)
    spread = Relation(last, rescaling(jacobian), "rescaling as a sum")
    kernel = Relation(jacobian @ v, zero(layer.above, 1), "v in the kernel of J")
    forth, back = jacobian.T @ w, jacobian @ v
    return (
        Step(
            "$J^T$ carries eigenvectors of $S_L$ to the Hessian,",
            curvature @ jacobian.T,
            jacobian.T @ last,
            (spread,),
        ),
        Step("and J carries them back.", jacobian @ curvature, last @ jacobian, (spread,)),
        Step(
            r"None is lost: where $S_L w = \lambda w$, $|J^T w|^2 = (\lambda - 1) |w|^2$,",
            squared_norm(forth),
            w.T @ last @ w - squared_norm(w),
            (spread,),
        ),
        Step("and likewise backwards.", squared_norm(back), v.T @ curvature @ v - squared_norm(v)),
        Step("On the kernel of J the Hessian is the identity.", curvature @ v, v, (kernel,)),
    )


def posterior(
    dimensions: Dimensions = (BELOW, HERE, OUTPUT),
    *,
    recursion: Formula = rescaling_recursion,
    solution: Gap = lambda hessian_inverse, source: hessian_inverse @ source,
    likelihood: Likelihood = lambda energy, log_det, constant: energy + HALF * log_det + constant,
) -> Certificate:
    r"""`F* + 1/2 log det S_L + (d_y/2) log 2 pi` is the negative log-likelihood of y given x.

    And z*, H_z^-1 are the posterior mean and covariance of the hidden activities.
    Model: `z_l = A_l z_{l-1} + c_l + noise` with covariance `I/\pi_l`, per sample.
    Source: own/likelihood.
    """
    layer = layers(dimensions)[1]
    return Certificate(
        title="Posterior and likelihood",
        statement=r"""Let $z_l$ be $A_l z_{l-1} + c_l$ plus Gaussian noise of covariance $I/\pi_l$, with $z_0 = x$
            and $z_L = y$ observed. Given x, $z_l$ has mean $m_l$ and covariance $S_l$ of the recursion below; so
            the rescaling $S_L$ is the covariance of y. Given x and y, the hidden activities have mean $z^\star$ and
            covariance $H^{-1}$. And $-\log p(y|x)$ is the right-hand side of the last step.""",
        definitions=(recursion(layer).named("S_l"),),
        conclusion=described(dimensions),
        proof=(
            Section("Marginals, from l-1 to l (from $S_0 = 0$ on)", (_covariance(layer, recursion),)),
            Section("Posterior", _completed_square(dimensions, solution)),
            Section("Likelihood", (_likelihood(layer, likelihood),)),
        ),
        lemmas=(
            Section("linear images", prose=r"$B \xi$ has covariance $B B^T$ for standard normal $\xi$."),
            Section(
                "Gaussian integral",
                prose=r"$\exp(-(1/2) v^T H v)$ over N variables integrates to $(2 \pi)^{N/2} \det(H)^{-1/2}$.",
            ),
            Section(
                "determinant",
                prose=r"$\log \det H = \log \det S_L + \sum_l p_l$ with $p_l = N_l \log \pi_l$, a certificate.",
            ),
        ),
        conditions=(r"Every precision is positive, so $H \succ 0$ and $S_L \succ 0$.",),
    )


def _covariance(layer: SymbolicLayer, recursion: Formula) -> Step:
    root = matrix("G", layer.below, layer.below)
    sources = Blocks.of([[layer.map @ root, layer.identity / sympy.sqrt(layer.precision)]])
    return Step(
        r"""With $S_{l-1} = G G^T$, $z_l - m_l$ is the image of independent standard normal variables under
            $B = [A_l G, I/\pi_l^{1/2}]$, and $B B^T$ is $S_l$.""",
        sources @ sources.T,
        Blocks.of([[recursion(layer)]]),
        (Relation(root @ root.T, layer.rescaling_below, "a square root of $S_{l-1}$"),),
    )


def _completed_square(dimensions: Dimensions, solution: Gap) -> tuple[Step, ...]:
    hidden = sum(dimensions[:2])
    hessian, constant = matrix("H", hidden, hidden, symmetric=True), number("k")
    inverted, inverses = inverse(hessian)
    z, source = vector("z", hidden), vector("b", hidden)
    mean = solution(inverted, source).named(r"z^\star")

    def energy(activities: Expression) -> Expression:
        return HALF * (activities.T @ hessian @ activities) - source.T @ activities + constant

    return (
        Step(r"The equilibrium $z^\star = H^{-1} b$ solves $H z = b$.", hessian @ mean, source, inverses),
        Step(
            r"""$-\log p(z, y|x)$ is the energy $F(z)$ up to a constant. Its quadratic form about $z^\star$ is
                that of a Gaussian with mean $z^\star$ and covariance $H^{-1}$.""",
            energy(z),
            energy(mean) + HALF * ((z - mean).T @ hessian @ (z - mean)),
            inverses,
        ),
    )


def _likelihood(layer: SymbolicLayer, likelihood: Likelihood) -> Step:
    energy, log_det, terms = number(r"F^\star"), number(r"\log \det S_L"), number(r"\sum_l p_l")
    units, log_turn = sympy.Symbol("N_z"), sympy.log(2 * sympy.pi)
    normaliser = scalar((units + layer.above) * log_turn / 2) - HALF * terms
    integral = HALF * (log_det + terms) - scalar(units * log_turn / 2)
    return Step(
        r"""Integrating the hidden activities out: $F^\star$, the normaliser of $p(z, y|x)$, and the integral over
            the $N_z$ hidden units, with $\log \det H$ from the determinant.""",
        energy + normaliser + integral,
        likelihood(energy, log_det, scalar(layer.above * log_turn / 2)),
    )
