"""The certificates: they hold, they break where a formula is wrong, and exact instances agree with both."""

import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import jaxtyping
import pytest
import sympy
from matplotlib.mathtext import MathTextParser

from pctheory import induction
from pctheory.induction import Certificate, Step, SymbolicLayer, chain_rescaling, scalar_chain
from pctheory.matrix_algebra import Blocks, Expression, Relation, evaluated, identity, scalar, zero

THEOREMS: dict[str, Callable[..., Certificate]] = {
    name: getattr(induction, name)
    for name in (
        "rescaling_theorem",
        "rescaling_sum",
        "equilibrium_errors",
        "envelope",
        "activity_hessian_factorisation",
        "determinant",
        "error_hessian",
        "energy_below_loss",
        "posterior",
        "taylor_model",
        "weight_gradient_readings",
    )
}
Side = Expression | Blocks
HALF = sympy.Rational(1, 2)
SIZES = [(2, 3, 5), (5, 3, 2), (3, 1, 2), (1, 1, 1), (4, 4, 4)]


def recursion(layer: SymbolicLayer) -> Expression:
    return layer.identity / layer.precision + layer.map @ layer.rescaling_below @ layer.map.T


def lower(layer: SymbolicLayer) -> Expression:
    return -(layer.precision * layer.map)


# Wrong formulas. Swapped transposes have the right shape for square matrices only, so they are planted there.
SQUARE = (3, 3, 3)
PLANTED = {
    "rescaling_theorem": [
        {"first": lambda l: zero(l.here, l.here)},  # the sum from l = 2 only
        {"first": lambda l: l.identity / l.precision + l.map @ l.map.T},  # W_1 in S
        {"first": lambda l: l.precision * l.identity},  # precision not inverted
        {"recursion": lambda l: l.identity / l.precision - l.map @ l.rescaling_below @ l.map.T},
        {"recursion": lambda l: l.identity / l.precision_below + l.map @ l.rescaling_below @ l.map.T},  # index
        {"recursion": lambda l: l.identity / l.precision + 2 * (l.map @ l.rescaling_below @ l.map.T)},
        {"recursion": lambda l: l.map @ l.rescaling_below @ l.map.T},  # a dropped term
        {"recursion": lambda l: l.identity / l.precision + l.map.T @ l.rescaling_below @ l.map},  # transposes
        {"minimiser": lambda l: -(l.rescaling_below @ l.map.T @ l.rescaling_inverse @ l.deviation)},
        {"minimiser": lambda l: l.precision * (l.rescaling_below @ l.map.T @ l.rescaling_inverse @ l.deviation)},
        {"minimiser": lambda l: l.rescaling_below @ l.map @ l.rescaling_inverse @ l.deviation},
        {"minimiser": lambda l: l.rescaling_below @ l.map.T @ l.deviation},
        {"value": lambda d, inverse: d.T @ inverse @ d},  # factor 1 instead of 1/2
        {"value": lambda d, inverse: -HALF * (d.T @ inverse @ d)},
        {"value": lambda d, inverse: HALF * (d.T @ d)},
    ],
    "rescaling_sum": [
        {"term": lambda l: l.precision * (l.to_output @ l.to_output.T)},
        {"term": lambda l: -(l.to_output @ l.to_output.T) / l.precision},
        {"term": lambda l: (l.to_output.T @ l.to_output) / l.precision},
        {"term": lambda l: (l.to_output @ l.to_output.T) / l.precision_below},
        {"first_term": lambda l: zero(l.above, l.above)},
        {"below": lambda l: l.map @ l.to_output},
        {"below": lambda l: l.to_output @ l.map.T},
        {"recursion": lambda l: l.identity / l.precision + l.map.T @ l.rescaling_below @ l.map},
        {"first": lambda l: l.precision * l.identity},
    ],
    "equilibrium_errors": [
        {"error": lambda to_output, precision, pull: precision * (to_output.T @ pull)},  # precision not inverted
        {"error": lambda to_output, precision, pull: -(to_output.T @ pull) / precision},
        {"error": lambda to_output, precision, pull: (to_output @ pull) / precision},
        {"deviation": lambda rescaling, to_output, pull: 2 * (rescaling @ to_output.T @ pull)},
        {"deviation": lambda rescaling, to_output, pull: to_output.T @ pull},
        {"below": lambda l: l.map @ l.to_output},
        {"recursion": lambda l: l.identity / l.precision - l.map @ l.rescaling_below @ l.map.T},
        {"first": lambda l: l.identity / l.precision**2},
    ],
    "envelope": [
        {"activity": lambda l: l.mean_below},  # the gradient at the feedforward activities
        {"activity": lambda l: l.rescaling_below @ l.map.T @ l.to_output.T @ l.pull - l.mean_below},
        {"activity": lambda l: l.mean_below + l.rescaling_below @ l.map @ l.to_output.T @ l.pull},
        {"derivative": lambda precision, e, move, z: precision * (e.T @ move @ z)},
        {"derivative": lambda precision, e, move, z: -HALF * precision * (e.T @ move @ z)},
        {"derivative": lambda precision, e, move, z: -(e.T @ move @ z)},
        {"derivative": lambda precision, e, move, z: -precision * (e.T @ move.T @ z)},
        {"error": lambda to_output, precision, pull: to_output.T @ pull},
        {"error": lambda to_output, precision, pull: (to_output @ pull) / precision},
    ],
    "activity_hessian_factorisation": [
        {"diagonal": lambda l: l.precision * l.identity + l.precision * (l.next.map.T @ l.next.map)},  # index
        {"diagonal": lambda l: l.precision * l.identity - l.next.precision * (l.next.map.T @ l.next.map)},
        {"diagonal": lambda l: l.precision * l.identity + l.next.precision * (l.next.map @ l.next.map.T)},
        {"diagonal": lambda l: l.precision * l.identity},
        {"lower": lambda l: l.precision * l.map},
        {"lower": lambda l: -(l.precision * l.map.T)},  # transposed block
        {"lower": lambda l: -(l.precision_below * l.map)},
        {"source": lambda l, own, after: l.precision * own + l.next.precision * (l.next.map.T @ after)},
        {"source": lambda l, own, after: own - l.next.map.T @ after},
        {"with_skip": lambda w, a: 2 * identity(w.rows) + a**2 * (w.T @ w)},  # missing a (W + W^T)
        {"with_skip": lambda w, a: identity(w.rows) + a**2 * (w.T @ w) + a * (w + w.T)},
        {"with_skip": lambda w, a: 2 * identity(w.rows) + a**2 * (w @ w.T) + a * (w + w.T)},
    ],
    "determinant": [
        {"precision_term": lambda _: scalar(0)},  # without the precision terms
        {"precision_term": lambda l: scalar(-l.here * sympy.log(l.precision))},
        {"precision_term": lambda l: scalar(sympy.log(l.precision))},
        {"precision_term": lambda l: scalar(l.here * sympy.log(l.precision_below))},  # index
        {"inverse_recursion": lambda l: l.precision * l.identity - l.precision**2 * (l.map @ l.map.T)},
        {"recursion": lambda l: l.identity / l.precision - l.map @ l.rescaling_below @ l.map.T},
        {"recursion": lambda l: l.precision * l.identity + l.map @ l.rescaling_below @ l.map.T},
    ],
    "error_hessian": [
        {"hessian": lambda j: identity(j.cols) - j.T @ j},
        {"hessian": lambda j: j.T @ j},
        {"hessian": lambda j: identity(j.cols) + j @ j.T},
        {"rescaling": lambda j: j @ j.T},
        {"rescaling": lambda j: identity(j.rows) + 2 * (j @ j.T)},
    ],
    "energy_below_loss": [
        {"gap": lambda j, g: HALF * (j.T @ g).T @ (j.T @ g)},
        {"gap": lambda j, g: (j @ j.T @ g).T @ (j @ j.T @ g) + (j.T @ g).T @ (j.T @ g)},
        {"gap": lambda j, g: HALF * (j.T @ j @ g).T @ (j.T @ j @ g) + HALF * (j.T @ g).T @ (j.T @ g)},
        {"rescaling": lambda j: identity(j.rows) - j @ j.T},
        {"rescaling": lambda j: 2 * identity(j.rows) + j @ j.T},  # output precision 1/2
    ],
    "posterior": [
        {"recursion": lambda l: l.precision * l.identity + l.map @ l.rescaling_below @ l.map.T},
        {"recursion": lambda l: l.identity / l.precision + l.map.T @ l.rescaling_below @ l.map},
        {"solution": lambda inverse, b: -(inverse @ b)},
        {"solution": lambda _, b: b},
        {"likelihood": lambda energy, _, constant: energy + constant},
        {"likelihood": lambda energy, log_det, constant: energy - HALF * log_det + constant},
        {"likelihood": lambda energy, log_det, _: energy + HALF * log_det},
    ],
    "taylor_model": [
        {"gradient": lambda l, last: -(l.next.precision * (l.next.map.T @ l.residual))},  # in every layer
        {"gradient": lambda l, last: -(l.next.map.T @ l.residual) if last else zero(l.here, 1)},
        {"gradient": lambda l, last: l.next.precision * (l.next.map.T @ l.residual) if last else zero(l.here, 1)},
        {"gradient": lambda l, last: -(l.next.precision * (l.next.map @ l.residual)) if last else zero(l.here, 1)},
        {"recursion": lambda l: l.identity + l.map @ l.rescaling_below @ l.map.T},
        {"first": lambda l: l.precision * l.identity},
        {"step": lambda s, p, r: -(s @ p.T @ r)},
        {"step": lambda s, p, r: s @ p @ r},
        {"reduction": lambda g, d: -(g.T @ d)},
        {"reduction": lambda g, d: HALF * (g.T @ d)},
    ],
    "weight_gradient_readings": [
        {"remainder": lambda l, move, steps: zero(1, 1)},
        {"remainder": lambda l, move, steps: -((steps[0] - l.map @ steps[1]).T @ move @ steps[1])},
        {
            "remainder": lambda l, move, steps: (
                -(l.precision * ((steps[0] - l.map @ steps[1]).T @ move.T @ steps[1]))
            )
        },
        {"remainder": lambda l, move, steps: -(l.precision * (steps[0].T @ move @ steps[1]))},
        {"propagated": lambda to_output, move, step: (move @ to_output.mean_below).T @ step},
        {"propagated": lambda to_output, move, step: -((move.T @ to_output.mean_below).T @ step)},
    ],
}
CASES = [(name, number) for name, planted in PLANTED.items() for number in range(len(planted))]


class Instance:
    """Exact rational matrices that satisfy the relations of a step: free symbols at random, others as defined."""

    def __init__(self, step: Step, seed: int) -> None:
        rng = random.Random(seed)
        expressions = [*entries(step.left), *entries(step.right)]
        expressions += [side for relation in step.relations for side in (relation.left, relation.right)]
        letters = {letter for e in expressions for word, _ in e.terms for letter in word}
        scalars = sorted({s for e in expressions for _, c in e.terms for s in c.free_symbols}, key=str)
        # Squares of rationals, as the square root of a precision occurs, and no two alike.
        squares = rng.sample([sympy.Rational(p, q) ** 2 for p in (2, 3, 5) for q in (1, 7, 11)], len(scalars))
        self.scalars = dict(zip(scalars, squares, strict=True))
        self.matrices: dict[str, sympy.Matrix] = {}
        for letter in sorted(letters, key=lambda letter: letter.name):
            upright = letter.T if letter.transposed else letter
            value = rational_matrix(rng, int(upright.rows), int(upright.cols))
            self.matrices[letter.name] = value * value.T + sympy.eye(value.rows) if letter.symmetric else value
        if "J" in self.matrices:
            self.matrices["J"][:, -1] = sympy.zeros(self.matrices["J"].rows, 1)  # so that it has a kernel
        for _ in step.relations:  # a definition may rest on a later one
            for relation in step.relations:
                self._impose(relation)

    def _impose(self, relation: Relation) -> None:
        """Make an inverse the inverse, a defined symbol what defines it, a vector one of the kernel."""
        product = re.fullmatch(r"(.+) \1\^-1|(.+)\^-1 \2", str(relation.left))
        if product:
            name = product[1] or product[2]
            self.matrices[f"{name}^{{-1}}"] = self.matrices[name].inv()
        elif str(relation.left) in ("J v", "J^T r"):
            jacobian = self.matrices["J"] if str(relation.left) == "J v" else self.matrices["J"].T
            self.matrices[str(relation.left)[-1]] = sum(jacobian.nullspace(), sympy.zeros(jacobian.cols, 1))
        else:
            symbol, formula = relation.left, relation.right
            if not symbol.is_letter:
                symbol, formula = formula, symbol
            self.matrices[symbol.terms[0][0][0].name] = evaluated(formula, self.matrices, self.scalars)

    def agree(self, left: Side, right: Side) -> bool:
        pairs = zip(entries(left), entries(right), strict=True)
        return all(self._value(a) == self._value(b) for a, b in pairs)

    def _value(self, expression: Expression) -> sympy.Matrix:
        return evaluated(expression, self.matrices, self.scalars).applyfunc(
            lambda c: sympy.expand_log(c, force=True)
        )


def rational_matrix(rng: random.Random, rows: int, cols: int) -> sympy.Matrix:
    return sympy.Matrix(rows, cols, lambda *_: sympy.Rational(rng.randint(-4, 4), rng.randint(1, 3)))


def entries(side: Side) -> list[Expression]:
    return [block for row in side.grid for block in row] if isinstance(side, Blocks) else [side]


@pytest.mark.parametrize("name", THEOREMS)
def test_every_theorem_holds_at_every_width(name: str) -> None:
    certificate = THEOREMS[name]()
    assert certificate.holds, certificate.text()
    assert "Shown for every width" in " ".join(certificate.text().split())
    assert all(step.remainder.is_zero for step in certificate.steps)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("name", THEOREMS)
def test_every_theorem_holds_at_given_sizes(name: str, sizes: tuple[int, int, int]) -> None:
    certificate = THEOREMS[name](sizes)
    assert certificate.holds, certificate.text()
    assert f"sizes {', '.join(map(str, sizes))}" in " ".join(certificate.text().split())


@pytest.mark.parametrize("sizes", [(2, 3, 4), (4, 3, 2)])
@pytest.mark.parametrize("name", THEOREMS)
def test_exact_instances_satisfy_every_step_and_relation(name: str, sizes: tuple[int, int, int]) -> None:
    for step in THEOREMS[name](sizes).steps:
        instance = Instance(step, seed=1)
        for relation in step.relations:
            assert instance.agree(relation.left, relation.right), str(relation)
        assert instance.agree(step.left, step.right), step.reason


@pytest.mark.parametrize(("name", "number"), CASES)
def test_a_wrong_formula_leaves_a_remainder(name: str, number: int) -> None:
    planted = PLANTED[name][number]
    certificate = THEOREMS[name](SQUARE, **planted)
    assert not certificate.holds
    failing = [step for step in certificate.steps if not step.holds]
    assert failing
    for step in failing:
        assert str(step.remainder) not in ("", "0")
        assert f"left - right = {step.remainder}" in certificate.text()
        assert entries(step.remainder)[0].notation.latex in certificate.latex()
    assert "does NOT hold" in certificate.text()


@pytest.mark.parametrize(("name", "number"), CASES)
def test_a_wrong_formula_is_wrong_on_an_exact_instance(name: str, number: int) -> None:
    """The remainder is no failure of the rewriting: where the relations hold, the two sides differ."""
    for step in THEOREMS[name](SQUARE, **PLANTED[name][number]).steps:
        instance = Instance(step, seed=2)
        for relation in step.relations:
            assert instance.agree(relation.left, relation.right), str(relation)
        assert instance.agree(step.left, step.right) == step.holds, step.reason


SLIPS = [
    ("rescaling_theorem", {"recursion": lambda l: l.identity / l.precision + l.map.T @ l.rescaling_below @ l.map}),
    ("rescaling_theorem", {"minimiser": lambda l: l.rescaling_below @ l.map @ l.rescaling_inverse @ l.deviation}),
    ("rescaling_sum", {"term": lambda l: l.to_output.T @ l.to_output}),
    ("rescaling_sum", {"below": lambda l: l.map @ l.to_output}),
    ("equilibrium_errors", {"error": lambda to_output, precision, pull: to_output @ pull}),
    ("envelope", {"derivative": lambda precision, e, move, z: e.T @ move.T @ z}),
    ("activity_hessian_factorisation", {"lower": lambda l: l.map.T}),
    ("activity_hessian_factorisation", {"diagonal": lambda l: l.next.map @ l.next.map.T}),
    ("determinant", {"recursion": lambda l: l.map.T @ l.rescaling_below @ l.map}),
    ("error_hessian", {"hessian": lambda j: identity(j.cols) + j @ j.T}),
    ("energy_below_loss", {"gap": lambda j, g: (j @ g).T @ (j @ g)}),
    ("posterior", {"recursion": lambda l: l.map.T @ l.rescaling_below @ l.map}),
]


@pytest.mark.parametrize("sizes", [None, (2, 3, 5)])
@pytest.mark.parametrize(("name", "planted"), SLIPS)
def test_a_shape_slip_raises(
    name: str, planted: dict[str, Callable[..., Expression]], sizes: tuple[int, int, int] | None
) -> None:
    arguments = () if sizes is None else (sizes,)
    with pytest.raises(ValueError, match=r"columns meet|sizes differ|does not line up|expected a square"):
        _ = THEOREMS[name](*arguments, **planted).holds


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_formulas_of_the_theorems_on_a_whole_chain(depth: int) -> None:
    """Stationary energy, errors, gradient, determinant by dense exact algebra, with none of the recursions."""
    chain = Chain(depth, seed=depth)
    energy, activities = chain.minimum()
    s = chain.rescaling()
    r = chain.y - chain.forward(chain.x)
    assert energy == (r.T * s.inv() * r)[0] / 2
    assert s == chain.rescaling_as_sum()
    for l in range(1, depth + 1):
        error = activities[l] - chain.maps[l] * activities[l - 1] - chain.biases[l]
        assert error == chain.to_output(l).T * s.inv() * r / chain.precisions[l]
    product = sympy.prod(chain.precisions[l] ** chain.widths[l] for l in range(1, depth + 1))
    assert chain.hessian().det() == s.det() * product
    covariance = chain.marginal_covariance()
    assert covariance == s


class Chain:
    """A random rational chain, solved densely."""

    def __init__(self, depth: int, seed: int) -> None:
        rng = random.Random(seed)
        entry = lambda *_: sympy.Rational(rng.randint(-3, 3), rng.randint(1, 2))  # noqa: E731
        self.depth, self.widths = depth, [rng.randint(1, 3) for _ in range(depth + 1)]
        self.maps = {l: sympy.Matrix(self.widths[l], self.widths[l - 1], entry) for l in range(1, depth + 1)}
        self.biases = {l: sympy.Matrix(self.widths[l], 1, entry) for l in range(1, depth + 1)}
        self.precisions = {l: sympy.Rational(rng.randint(1, 4), rng.randint(1, 4)) for l in range(1, depth + 1)}
        self.x, self.y = sympy.Matrix(self.widths[0], 1, entry), sympy.Matrix(self.widths[-1], 1, entry)

    def forward(self, z: sympy.Matrix) -> sympy.Matrix:
        for l in self.maps:
            z = self.maps[l] * z + self.biases[l]
        return z

    def to_output(self, l: int) -> sympy.Matrix:
        result = sympy.eye(self.widths[-1])
        for k in range(self.depth, l, -1):
            result = result * self.maps[k]
        return result

    def rescaling_as_sum(self) -> sympy.Matrix:
        terms = (self.to_output(l) * self.to_output(l).T / self.precisions[l] for l in self.maps)
        return sum(terms, sympy.zeros(self.widths[-1]))

    def rescaling(self) -> sympy.Matrix:
        """By the formulas that the certificates assert, layer by layer."""
        value = sympy.eye(self.widths[1]) / self.precisions[1]
        for l in range(2, self.depth + 1):
            layer = SymbolicLayer("l", 0, self.widths[l - 1], self.widths[l], self.widths[-1])
            values = {"A_l": self.maps[l], "S_{l-1}": value}
            value = evaluated(recursion(layer), values, {layer.precision: self.precisions[l]})
        return value

    def _quadratic(self) -> tuple[sympy.Expr, list[sympy.Matrix]]:
        z = [
            self.x,
            *(sympy.Matrix(n, 1, sympy.symbols(f"z_{l}_:{n}")) for l, n in enumerate(self.widths[1:-1], 1)),
            self.y,
        ]
        errors = {l: z[l] - self.maps[l] * z[l - 1] - self.biases[l] for l in self.maps}
        return sum(self.precisions[l] * (e.T * e)[0] / 2 for l, e in errors.items()), z

    def hessian(self) -> sympy.Matrix:
        energy, z = self._quadratic()
        return sympy.hessian(energy, [v for layer in z[1:-1] for v in layer])

    def minimum(self) -> tuple[sympy.Expr, list[sympy.Matrix]]:
        energy, z = self._quadratic()
        unknowns = [v for layer in z[1:-1] for v in layer]
        solution = sympy.solve([sympy.diff(energy, v) for v in unknowns], unknowns, dict=True)[0]
        return energy.subs(solution), [layer.subs(solution) for layer in z]

    def marginal_covariance(self) -> sympy.Matrix:
        """Of the output, through the joint covariance of all layers."""
        total = sum(self.widths[1:])
        weights = sympy.diag(*(sympy.eye(self.widths[l]) * self.precisions[l] for l in self.maps))
        stacked = sympy.eye(total)
        starts = [sum(self.widths[1:l]) for l in range(1, self.depth + 1)]
        for l in range(2, self.depth + 1):
            stacked[starts[l - 1] : starts[l - 1] + self.widths[l], starts[l - 2] : starts[l - 1]] = -self.maps[l]
        return (stacked.T * weights * stacked).inv()[starts[-1] :, starts[-1] :]


def test_error_hessian_is_better_conditioned_than_the_largest_eigenvalue_says_but_not_than_the_rescaling() -> None:
    """Two hidden units in a scalar chain: S is a number, so of condition 1; the error Hessian has 1 and S."""
    jacobian = sympy.Matrix([[6, 2]])
    s = 1 + (jacobian * jacobian.T)[0]
    assert (sympy.eye(2) + jacobian.T * jacobian).eigenvals() == {1: 1, s: 1}


@pytest.mark.parametrize("depth", range(1, 9))
def test_scalar_chain_is_derived(depth: int) -> None:
    certificate = scalar_chain(depth)
    assert certificate.holds
    assert len(certificate.steps) == 3 * (depth - 1) + 1


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_scalar_chain_agrees_with_numbers(depth: int) -> None:
    rng = random.Random(depth)
    values = [sympy.Rational(rng.randint(-5, 5), rng.randint(1, 4)) for _ in range(depth)]
    chain = Chain(depth, seed=depth)
    chain.widths, chain.x, chain.y = [1] * (depth + 1), sympy.Matrix([3]), sympy.Matrix([2])
    chain.maps = {l: sympy.Matrix([[w]]) for l, w in enumerate(values, 1)}
    chain.biases, chain.precisions = {l: sympy.zeros(1, 1) for l in chain.maps}, dict.fromkeys(chain.maps, 1)
    loss = sympy.Rational(1, 2) * (2 - 3 * sympy.prod(values)) ** 2
    energy = chain.minimum()[0] if depth > 1 else loss
    assert energy == loss / chain_rescaling(values)


WRONG_CHAINS = {
    "without the 1": lambda w: chain_rescaling(w) - 1,
    "from l = 1": lambda w: chain_rescaling(w) + sympy.prod(w) ** 2,
    "not squared": lambda w: 1 + sum(sympy.prod(w[l:]) for l in range(1, len(w))),
    "one layer short": lambda w: 1 + sum(sympy.prod(v**2 for v in w[l:]) for l in range(2, len(w))),
    "products from the front": lambda w: 1 + sum(sympy.prod(v**2 for v in w[:l]) for l in range(1, len(w))),
}


@pytest.mark.parametrize("depth", [2, 3, 6])
@pytest.mark.parametrize("wrong", WRONG_CHAINS)
def test_a_wrong_rescaling_of_the_scalar_chain_leaves_a_remainder(wrong: str, depth: int) -> None:
    certificate = scalar_chain(depth, rescaling=WRONG_CHAINS[wrong])
    assert [step.holds for step in certificate.steps] == [True] * (len(certificate.steps) - 1) + [False]
    assert "NOT ZERO" in certificate.text()


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Bad input reaches the code's own checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("depth", [0, -1, 2.0, True, "3"])
def test_scalar_chain_refuses_other_depths(depth: object) -> None:
    with pytest.raises(ValueError, match=f"depth is {re.escape(repr(depth))}, expected a positive integer"):
        scalar_chain(depth)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", THEOREMS)
def test_theorems_refuse_bad_sizes(name: str) -> None:
    for sizes in ((2, 3), (2, 3, 4, 5), ()):
        with pytest.raises(ValueError, match=r"expected three sizes"):
            _ = THEOREMS[name](sizes).holds
    with pytest.raises(ValueError, match=r"is 0, expected a positive integer"):
        _ = THEOREMS[name]((0, 0, 0)).holds


def test_a_wrong_block_shows_in_every_column_that_holds_it() -> None:
    certificate = THEOREMS["activity_hessian_factorisation"](lower=lambda l: l.precision * l.map)
    columns = certificate.proof[1].steps
    assert [step.holds for step in columns] == [False, False, False, True]  # an only hidden layer has no such block


def test_the_theorem_states_what_was_asserted() -> None:
    text = THEOREMS["rescaling_sum"]().text()
    assert "    T_{l-1} - T_l = (1/pi_l) P_l P_l^T\n    P_{l-1} = P_l A_l\n    S_l = I/pi_l + A_l" in text
    wrong = THEOREMS["rescaling_theorem"](recursion=lambda l: l.identity - l.map @ l.rescaling_below @ l.map.T)
    assert "    S_l = I - A_l S_{l-1} A_l^T" in wrong.text().splitlines()
    assert r"S_l &= I - A_l S_{l-1} A_l^{\top}" in wrong.latex()
    assert "    s = w_2^2\n" in scalar_chain(2, rescaling=WRONG_CHAINS["without the 1"]).text()


def test_a_certificate_without_steps_does_not_hold() -> None:
    certificate = THEOREMS["rescaling_sum"]()
    assert not replace(certificate, proof=()).holds
    assert "0 of 0" in replace(certificate, proof=()).text()


def test_lemmas_count() -> None:
    """A proved lemma that fails takes the certificate with it."""
    certificate = THEOREMS["determinant"]()
    lemma = certificate.lemmas[-1]
    step = lemma.steps[0]
    assert isinstance(step.right, Blocks)
    broken = replace(step, right=step.right @ step.right)
    assert not replace(certificate, lemmas=(replace(lemma, steps=(broken,)),)).holds


@pytest.mark.parametrize("name", [*THEOREMS, "scalar_chain"])
def test_what_is_printed(name: str) -> None:
    certificate = scalar_chain(3) if name == "scalar_chain" else THEOREMS[name]()
    text, latex = certificate.text(), certificate.latex()
    assert "\\" not in text
    assert "$" not in text
    for number, step in enumerate(certificate.steps, 1):
        assert f"{number:3}. " in text
        assert step.reason.split()[0] in latex
        assert str(step.left) in text
        assert step.left.notation.latex in latex
        for expression in (*entries(step.left), *entries(step.right)):
            MathTextParser("path").parse(
                f"${expression.notation.latex.replace('Vert', 'Vert').replace('lV', 'V').replace('rV', 'V')}$"
            )
    assert max(map(len, text.splitlines())) <= 140
    assert latex.count("{") == latex.count("}")
    assert latex.count(r"\begin{align*}") == latex.count(r"\end{align*}") >= len(certificate.steps)
    prose = re.sub(r"\\begin\{align\*\}.*?\\end\{align\*\}|\$[^$]*\$", "", latex, flags=re.DOTALL)
    assert not re.search(r"[_^&#%]", prose)
    assert set(re.findall(r"\\\w+", prose)) <= {r"\paragraph", r"\par", r"\noindent"}
    assert text.count("left - right = 0") == len(certificate.steps)


def test_the_rescaling_theorem_reads_as_a_proof() -> None:
    text = THEOREMS["rescaling_theorem"]().text()
    for line in (
        "    S_l = I/pi_l + A_l S_{l-1} A_l^T",
        "    V_l(z_l) = (1/2) d_l^T S_l^-1 d_l",
        "         = (1/2) d_l^T S_l^-1 d_l + (1/2) (d_{l-1} - u*)^T (S_{l-1}^-1 + pi_l A_l^T A_l) (d_{l-1} - u*)",
        "The certificate holds: 7 of 7 remainders are zero.",
    ):
        assert line in text.splitlines()


def test_the_symbolic_modules_load_no_jax() -> None:
    code = "import sys, pctheory.induction; sys.exit(any(name.partition('.')[0] == 'jax' for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
