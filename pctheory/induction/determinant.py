"""The determinant of the activity Hessian at every depth, by block elimination."""

import sympy

from ..matrix_algebra import Blocks, Expression, Relation, identity, inverse, matrix, scalar, zero
from .activity_hessian import diagonal_block, lower_block
from .certificate import Certificate, Section, Step
from .layer import (
    ABOVE,
    BELOW,
    HERE,
    Dimensions,
    Formula,
    SymbolicLayer,
    described,
    layers,
    number,
    rescaling_recursion,
)


def determinant(
    dimensions: Dimensions = (BELOW, HERE, ABOVE),
    *,
    recursion: Formula = rescaling_recursion,
    inverse_recursion: Formula = lambda layer: (
        layer.precision * layer.identity
        - layer.precision**2 * (layer.map @ inverse(_pivot(layer))[0] @ layer.map.T)
    ),
    precision_term: Formula = lambda layer: scalar(layer.here * sympy.log(layer.precision)),
) -> Certificate:
    r"""`log det H_z = log det S_L + sum_{l=1}^L N_l log \pi_l`, where `N_L = d_y`.

    Block elimination meets the pivots `D_{l-1} = S_{l-1}^{-1} + \pi_l A_l^T A_l`, whose determinants telescope.
    Source: own/determinant.
    """
    one, layer = layers(dimensions)
    return Certificate(
        title="Determinant of the activity Hessian",
        statement=r"""Eliminating the hidden layers one by one from the first on leaves at layer l the pivot
            $D_l = S_l^{-1} + \pi_{l+1} A_{l+1}^T A_{l+1}$, and $\log \det H$ is the sum of all $\log \det D_l$,
            $l < L$. The sum over the layers below l is $\log \det S_l + \sum_{k \le l} p_k$ with""",
        definitions=(precision_term(layer).named("p_l"),),
        conclusion=rf"""At l = L: $\log \det H = \log \det S_L + \sum_{{l \le L}} p_l$. {described(dimensions)}""",
        proof=(
            Section("Base, l = 1", _determinant_base(one, precision_term)),
            Section("Induction: the pivot", _pivot_steps(layer, recursion, inverse_recursion)),
            Section("Induction: its determinant", _telescope(layer, recursion, precision_term)),
        ),
        lemmas=(_schur_lemma(layer), _sylvester_lemma(layer)),
        conditions=(
            r"Every precision is positive, so $S_l \succ 0$ and $D_l \succ 0$ for every l.",
            r"""The determinant of a product is the product, that of a block triangular matrix the product over its
                diagonal blocks, and $\log \det (c X) = N \log c + \log \det X$ for N x N matrices.""",
        ),
    )


def _pivot(layer: SymbolicLayer) -> Expression:
    return matrix("D_{l-1}", layer.below, layer.below, symmetric=True)


def _pivot_formula(layer: SymbolicLayer) -> Expression:
    return layer.rescaling_below_inverse + layer.precision * (layer.map.T @ layer.map)


def _determinant_base(one: SymbolicLayer, precision_term: Formula) -> tuple[Step, ...]:
    start = scalar(-one.here * sympy.log(one.precision)).named(r"\log \det S_1")
    return (
        Step(r"$S_1 = I/\pi_1$: the empty sum is $\log \det S_1 + p_1$.", scalar(0), start + precision_term(one)),
    )


def _pivot_steps(layer: SymbolicLayer, recursion: Formula, inverse_recursion: Formula) -> tuple[Step, ...]:
    after, pivot = layer.next, _pivot(layer)
    pivot_inverse, pivot_inverses = inverse(pivot)
    inverses = inverse(layer.rescaling_below)[1] + pivot_inverses
    below = Relation(pivot, _pivot_formula(layer), "hypothesis: the pivot at l-1")
    found = Relation(layer.rescaling_inverse, inverse_recursion(layer), "previous step")
    off = lower_block(layer)
    return (
        Step(
            "The inverse of $S_l$ in terms of the pivot below (Woodbury's identity).",
            recursion(layer) @ inverse_recursion(layer),
            layer.identity,
            (*inverses, below),
        ),
        Step(
            "The pivot of layer l is the diagonal block minus what its elimination takes away.",
            diagonal_block(layer) - off @ pivot_inverse @ off.T,
            layer.rescaling_inverse + after.precision * (after.map.T @ after.map),
            (found,),
        ),
    )


def _telescope(layer: SymbolicLayer, recursion: Formula, precision_term: Formula) -> tuple[Step, ...]:
    inner = layer.precision * (layer.rescaling_below @ layer.map.T @ layer.map)
    below, here, terms = (number(name) for name in (r"\log \det S_{l-1}", r"\log \det S_l", r"\sum_{k<l} p_k"))
    scale = scalar(layer.here * sympy.log(layer.precision))
    return (
        Step(
            "The pivot factors.",
            _pivot_formula(layer),
            layer.rescaling_below_inverse @ (identity(layer.below) + inner),
            inverse(layer.rescaling_below)[1],
        ),
        Step(
            r"With the factors exchanged (Sylvester, $X = \pi_l A_l$, $Y = S_{l-1} A_l^T$) $\pi_l S_l$ appears.",
            layer.identity + layer.precision * (layer.map @ layer.rescaling_below @ layer.map.T),
            layer.precision * layer.rescaling,
            (Relation(layer.rescaling, recursion(layer), "definition of $S_l$"),),
        ),
        Step(
            r"The sum up to l-1, plus $\log \det D_{l-1}$ as these two steps give it, is the sum up to l.",
            (below + terms) + (-below + (scale + here)),
            here + (terms + precision_term(layer)),
        ),
    )


def _schur_lemma(layer: SymbolicLayer) -> Section:
    pivot, off = matrix("D", layer.below, layer.below, symmetric=True), matrix("B", layer.here, layer.below)
    corner = matrix("C", layer.here, layer.here, symmetric=True)
    inverted, inverses = inverse(pivot)
    gap = zero(layer.below, layer.here)
    left = Blocks.of([[identity(layer.below), gap], [off @ inverted, layer.identity]])
    right = Blocks.of([[pivot, off.T], [gap.T, corner - off @ inverted @ off.T]])
    whole = Blocks.of([[pivot, off.T], [off, corner]])
    step = Step("One elimination is a factorisation into block triangular matrices.", whole, left @ right, inverses)
    return Section(
        "Schur complement", (step,), r"$\log \det$ of a block matrix is that of D plus that of $C - B D^{-1} B^T$."
    )


def _sylvester_lemma(layer: SymbolicLayer) -> Section:
    x, y = matrix("X", layer.here, layer.below), matrix("Y", layer.below, layer.here)
    one, two, gap = identity(layer.here), identity(layer.below), zero(layer.here, layer.below)
    whole = Blocks.of([[one, -x], [y, two]])
    return Section(
        "Sylvester's determinant identity",
        (
            Step(
                "One order.",
                whole,
                Blocks.of([[one, gap], [y, two]]) @ Blocks.of([[one, -x], [gap.T, two + y @ x]]),
            ),
            Step(
                "The other.",
                whole,
                Blocks.of([[one, -x], [gap.T, two]]) @ Blocks.of([[one + x @ y, gap], [y, two]]),
            ),
        ),
        r"$\det(I + X Y) = \det(I + Y X)$: both are the determinant of one block matrix, factorised in two orders.",
    )
