"""The scalar chain written out: every formula of its equilibrium, at a given depth."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import sympy
from sympy.polys.rings import ring

from ..matrix_algebra import scalar
from .certificate import Certificate, Section, Step
from .layer import indexed

Weights: TypeAlias = Sequence[sympy.Expr]
Numbers: TypeAlias = Sequence[
    Any
]  # sympy expressions, or elements of a polynomial ring: the arithmetic is the same


DEEPEST = 16  # weights: two seconds


def chain_rescaling(weights: Weights) -> sympy.Expr:
    """`s = 1 + sum_{l=2}^L prod_{k=l}^L w_k^2`."""
    return sum((sympy.prod(w**2 for w in weights[l:]) for l in range(1, len(weights))), sympy.S.One)


def scalar_chain(depth: int, *, rescaling: Callable[[Weights], sympy.Expr] = chain_rescaling) -> Certificate:
    """`F* = loss / s` for the chain `x -> w_1 x -> w_2 w_1 x -> ... -> y` of `depth` weights.

    The equilibrium is found by elimination without fractions, which knows nothing of s.
    Raises ValueError unless the depth is a positive integer.
    Source: saddles-2024/scalar-chain.
    Cost: about a second at depth 8 to 10.
    """
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise ValueError(f"depth is {depth!r}, expected a positive integer: the number of weights")
    if depth > DEEPEST:
        raise ValueError(f"depth is beyond {DEEPEST}, where writing out the chain takes long; take a smaller one")
    weights, (x, y) = sympy.symbols(f"w_1:{depth + 1}"), sympy.symbols("x y")
    activities = [x, *sympy.symbols(f"z_1:{depth}"), y]
    elements = ring([*weights, x, y], sympy.QQ)[1:]
    minors, numerators = _elimination(elements[:-2], elements[-2], elements[-1])
    solved = [n.as_expr() / minors[-1].as_expr() for n in numerators]
    energy = _energy(activities, weights)
    loss = (y - sympy.prod(weights) * x) ** 2 / 2
    value = _energy(numerators, elements[:-2]).exquo(minors[-1]).as_expr() / minors[-1].as_expr()
    gradient = tuple(_gradient(energy, activities, weights, l) for l in range(1, depth))
    equilibrium = tuple(_stationary(numerators, elements[:-2], l) for l in range(1, depth))
    minimum = tuple(_minor(minors, weights, l) for l in range(1, depth))
    quotient = Step(
        "The energy at the equilibrium.", scalar(value).named(r"F(z^\star)"), scalar(loss / rescaling(weights))
    )
    sections = (
        Section("The gradient", gradient),
        Section("It vanishes at the equilibrium", equilibrium),
        Section(
            "The equilibrium is a minimum", minimum, r"The leading minors $\Delta_l$ of the Hessian are positive."
        ),
        Section("The equilibrated energy", (quotient,)),
    )
    return Certificate(
        title=f"Scalar chain with {depth} weight{'s' if depth > 1 else ''}",
        statement=r"""The energy of one sample, its equilibrium $z^\star$ and the rescaling are""",
        definitions=(
            scalar(energy).named("F"),
            *(scalar(z).named(rf"{indexed('z', l)}^\star") for l, z in enumerate(solved[1:-1], 1)),
            scalar(rescaling(weights)).named("s"),
        ),
        conclusion=r"and the equilibrated energy is the loss $(1/2) (y - w_L \dots w_1 x)^2$ divided by s.",
        proof=tuple(section for section in sections if section.steps),
    )


def _energy(activities: Numbers, weights: Numbers) -> Any:
    pairs = zip(activities[1:], activities[:-1], weights, strict=True)
    return sum((z - w * below) ** 2 for z, below, w in pairs) / 2


def _elimination(weights: Numbers, x: Any, y: Any) -> tuple[list[Any], list[Any]]:
    r"""Leading minors D_0..D_H of the Hessian, and D_H times the activities z_0..z_L.

    Row l of the system is `-w_l z_{l-1} + (1 + w_{l+1}^2) z_l - w_{l+1} z_{l+1} = 0`. Times `D_{l-1}`, with `w_l`
    times the row before it, it becomes `D_l z_l - w_{l+1} D_{l-1} z_{l+1} = w_1 \cdots w_l x`, where
    `D_l = (1 + w_{l+1}^2) D_{l-1} - w_l^2 D_{l-2}`.
    """
    one, hidden = x.ring.one, len(weights) - 1
    minors, carried = [one], [x]
    for l in range(1, hidden + 1):
        before = weights[l - 1] ** 2 * minors[l - 2] if l > 1 else 0
        minors.append((1 + weights[l] ** 2) * minors[-1] - before)
        carried.append(weights[l - 1] * carried[-1])
    numerators = [y * minors[-1]]
    for l in range(hidden, 0, -1):
        right = carried[l] * minors[-1] + weights[l] * minors[l - 1] * numerators[0]
        numerators.insert(0, right.exquo(minors[l]))
    return minors, [x * minors[-1], *numerators]


def _gradient(energy: sympy.Expr, activities: Numbers, weights: Weights, l: int) -> Step:
    derivative = scalar(sympy.diff(energy, activities[l])).named(f"dF/d{indexed('z', l)}")
    return Step(f"By differentiation in ${indexed('z', l)}$.", derivative, scalar(_row(activities, weights, l)))


def _stationary(numerators: Numbers, weights: Numbers, l: int) -> Step:
    hidden = len(weights) - 1
    last_minor, derivative = indexed(r"\Delta", hidden), f"dF/d{indexed('z', l)}"
    value = scalar(_row(numerators, weights, l).as_expr()).named(rf"{last_minor}\, {derivative}(z^\star)")
    return Step(f"Equation {l} of {hidden}.", value, scalar(0))


def _row(activities: Numbers, weights: Numbers, l: int) -> Any:
    """The derivative of the energy in z_l."""
    z = activities
    return (1 + weights[l] ** 2) * z[l] - weights[l - 1] * z[l - 1] - weights[l] * z[l + 1]


def _minor(minors: Numbers, weights: Weights, l: int) -> Step:
    determinant = scalar(minors[l].as_expr()).named(indexed(r"\Delta", l))
    return Step(f"Minor {l} is one plus squares.", determinant, scalar(chain_rescaling(weights[: l + 1])))
