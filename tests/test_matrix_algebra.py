"""The algebra against plain matrix arithmetic in exact rational numbers, and what it must refuse."""

import random
import re
from collections.abc import Iterator

import jaxtyping
import numpy as np
import pytest
import sympy

from pctheory.matrix_algebra import (
    Blocks,
    Expression,
    Relation,
    evaluated,
    identity,
    inverse,
    matrix,
    plain,
    scalar,
    squared_norm,
    vector,
    zero,
)

N, M = sympy.symbols("N M", positive=True, integer=True)
PI, T = sympy.Symbol("pi_l", positive=True), sympy.Symbol("t")
SIZES = (1, 2, 3)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Bad input reaches the code's own checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def rational_matrix(rng: random.Random, rows: int, cols: int, *, symmetric: bool = False) -> sympy.Matrix:
    entries = sympy.Matrix(rows, cols, lambda *_: sympy.Rational(rng.randint(-5, 5), rng.randint(1, 4)))
    return entries + entries.T if symmetric else entries


class Pool:
    """Symbols of every shape with their values, and random formulas in them, twice: here and in sympy matrices."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.symbols: dict[tuple[int, int], list[tuple[Expression, sympy.Matrix]]] = {}
        self.values: dict[str, sympy.Matrix] = {}
        names = iter("ABCDEFGHJKLMNOPQRSUVWXYZ")
        for rows in SIZES:
            for cols in SIZES:
                self._declare(next(names), rows, cols, symmetric=False)
            self._declare(next(names), rows, rows, symmetric=True)

    def _declare(self, name: str, rows: int, cols: int, *, symmetric: bool) -> None:
        self.values[name] = rational_matrix(self.rng, rows, cols, symmetric=symmetric)
        pair = (matrix(name, rows, cols, symmetric=symmetric), self.values[name])
        self.symbols.setdefault((rows, cols), []).append(pair)

    def formula(self, rows: int, cols: int, depth: int) -> tuple[Expression, sympy.Matrix]:
        choice = self.rng.choice(("letter", "+", "-", "@", "T", "*", "/", "neg", "I")) if depth else "letter"
        if choice in "+-":
            (a, x), (b, y) = self.formula(rows, cols, depth - 1), self.formula(rows, cols, depth - 1)
            return (a + b, x + y) if choice == "+" else (a - b, x - y)
        if choice == "@":
            inner = self.rng.choice(SIZES)
            (a, x), (b, y) = self.formula(rows, inner, depth - 1), self.formula(inner, cols, depth - 1)
            return a @ b, x * y
        if choice == "T":
            a, x = self.formula(cols, rows, depth - 1)
            return a.T, x.T
        if choice in ("*", "/", "neg"):
            a, x = self.formula(rows, cols, depth - 1)
            factor = sympy.Rational(self.rng.choice((-3, -1, 2, 5)), self.rng.choice((1, 2, 3)))
            return {"*": (factor * a, factor * x), "/": (a / factor, x / factor), "neg": (-a, -x)}[choice]
        if choice == "I":
            return (
                (identity(rows), sympy.eye(rows)) if rows == cols else (zero(rows, cols), sympy.zeros(rows, cols))
            )
        return self.rng.choice(self.symbols[rows, cols])


def read(text: str, values: dict[str, sympy.Matrix], size: int) -> sympy.Matrix:
    """The value of a printed formula of square matrices of one size, by a parser of its own."""
    tokens = re.findall(r"\(\d+/\d+\)|[A-Z]|\d+|\^T|[()+\-/]", text)

    def sums() -> sympy.Matrix:
        total = -product() if take("-") else product()
        while tokens and tokens[0] in "+-":
            sign = 1 if tokens.pop(0) == "+" else -1
            total = total + sign * product()
        return total

    def product() -> sympy.Matrix:
        value = sympy.eye(size)
        while tokens and tokens[0] not in "+-)":
            value = value * factor()
        return value

    def factor() -> sympy.Matrix:
        token = tokens.pop(0)
        if token == "(":
            value = sums()
            assert tokens.pop(0) == ")"
        elif token[0] == "(" or token.isdigit():
            value = sympy.Rational(token.strip("()")) * sympy.eye(size)
        else:
            value = sympy.eye(size) if token == "I" else values[token]
        while take("^T"):
            value = value.T
        return value / int(tokens.pop(0)) if take("/") else value

    def take(token: str) -> bool:
        return bool(tokens and tokens[0] == token and tokens.pop(0))

    result = sums()
    assert not tokens
    return result


@pytest.mark.parametrize("seed", range(60))
def test_formulas_agree_with_exact_matrix_arithmetic(seed: int) -> None:
    pool = Pool(random.Random(seed))
    for _ in range(5):
        rows, cols = pool.rng.choice(SIZES), pool.rng.choice(SIZES)
        formula, expected = pool.formula(rows, cols, depth=4)
        assert evaluated(formula, pool.values) == expected
        normal, used = formula.reduced(())
        assert evaluated(normal, pool.values) == expected
        assert used == ()
        numeric = {name: np.array(value, dtype=float) for name, value in pool.values.items()}
        largest = max([abs(entry) for entry in expected], default=0)
        np.testing.assert_allclose(
            evaluated(formula, numeric), np.array(expected, float), rtol=0, atol=1e-9 * float(1 + largest)
        )


@pytest.mark.parametrize("seed", range(60))
def test_what_is_printed_is_what_is_meant(seed: int) -> None:
    rng = random.Random(seed)
    values = {name: rational_matrix(rng, 2, 2, symmetric=name == "S") for name in "ABCS"}
    letters = [matrix(name, 2, 2, symmetric=name == "S") for name in "ABCS"]
    for _ in range(4):
        formula = rng.choice(letters)
        for _ in range(6):
            other = rng.choice((*letters, identity(2)))
            if rng.random() < 0.5:
                other = other - rng.choice(letters)
            factor = sympy.Rational(rng.choice((-3, -1, 2)), rng.choice((1, 2)))
            grown = (formula + other, formula - other, other - formula, formula @ other, other @ formula, formula.T)
            formula = rng.choice((*grown, -formula, factor * formula, formula / 2))
        assert read(str(formula), values, 2) == evaluated(formula, values)
        normal, _ = formula.reduced(())
        assert normal.is_zero or read(str(normal), values, 2) == evaluated(normal, values)


@pytest.mark.parametrize("seed", range(40))
def test_rewriting_keeps_the_value(seed: int) -> None:
    """Random words in symbols that satisfy relations have the value of their normal form, which is no longer."""
    rng = random.Random(seed)
    precision = sympy.Rational(rng.randint(1, 5), rng.randint(1, 5))
    before, layer_map = rational_matrix(rng, 2, 2, symmetric=True) + 50 * sympy.eye(2), rational_matrix(rng, 3, 2)
    after = sympy.eye(3) / precision + layer_map * before * layer_map.T
    values = {"S": before, "S^{-1}": before.inv(), "A": layer_map, "R": after, "R^{-1}": after.inv()}
    s, r, a = matrix("S", 2, 2, symmetric=True), matrix("R", 3, 3, symmetric=True), matrix("A", 3, 2)
    (s_inverse, s_rules), (r_inverse, r_rules) = inverse(s), inverse(r)
    relations = (*s_rules, *r_rules, Relation(r, identity(3) / PI + a @ s @ a.T, "recursion"))
    arrows = {2: (s, s_inverse, a.T), 3: (r, r_inverse, a)}
    shortened = 0
    for _ in range(10):
        word, here = identity(3), 3
        for _ in range(8):
            step = rng.choice(arrows[here])
            word, here = word @ step, int(step.cols)
        normal, used = word.reduced(relations)
        assert evaluated(normal, values, {PI: precision}) == evaluated(word, values, {PI: precision})
        lengths = [len(letters) for letters, _ in normal.terms]
        assert max(lengths, default=0) <= 8
        assert bool(used) == (max(lengths, default=0) < 8)
        shortened += bool(used)
        again, _ = normal.reduced(relations)
        assert again == normal
    assert shortened


def test_transpose_reverses_products_and_symmetric_symbols_keep_themselves() -> None:
    a, s = matrix("A", N, M), matrix("S", M, M, symmetric=True)
    assert s @ a.T == (a @ s).T
    assert s == s.T
    assert a == a.T.T
    assert a != a.T
    assert str((a @ s).T) == "(A S)^T"
    assert str(s.T) == "S"


def test_a_number_equals_its_transpose() -> None:
    a, u, v = matrix("A", N, M), vector("u", N), vector("v", M)
    difference, _ = (u.T @ a @ v - v.T @ a.T @ u).reduced(())
    assert difference.is_zero
    skew, _ = (a @ a.T @ u - a @ a.T @ u.T.T).reduced(())
    assert skew.is_zero
    square = matrix("B", N, N)
    kept, _ = (square - square.T).reduced(())
    assert not kept.is_zero


def test_coefficients_are_rational_functions_and_cancel() -> None:
    a = matrix("A", N, M)
    p, q = sympy.symbols("p q")
    assert ((p**2 - q**2) / (p - q) * a - p * a - q * a).is_zero
    assert (PI * (a / PI) - a).is_zero
    assert sympy.sqrt(PI) * (sympy.sqrt(PI) * a) == PI * a
    assert not (a / PI - a).is_zero


def test_inverse_cancels_on_both_sides() -> None:
    s = matrix("S", N, N)
    inverted, relations = inverse(s)
    for product in (s @ inverted, inverted @ s, (s @ inverted).T, (inverted @ s).T):
        normal, used = product.reduced(relations)
        assert normal == identity(N)
        assert len(used) == 1
    assert not (s @ s - identity(N)).reduced(relations)[0].is_zero


def test_a_relation_rewrites_its_longest_word_and_the_transpose() -> None:
    a, b, c = matrix("A", N, N), matrix("B", N, N), matrix("C", N, N)
    relation = Relation(2 * c, identity(N) - 3 * (a @ b), "given")
    normal, used = (b.T @ a.T).reduced((relation,))
    assert normal == (identity(N) - 2 * c.T) / 3
    assert used == (relation,)
    assert str(relation) == "2 C = I - 3 A B"


def test_rewriting_that_is_not_confluent_fails_to_prove_and_no_more() -> None:
    """A^T A = K and A S A^T = R give K S A^T = A^T R, which no rule shows: it stays, although it vanishes."""
    a, s = matrix("A", 3, 2), matrix("S", 2, 2, symmetric=True)
    k, r = matrix("K", 2, 2, symmetric=True), matrix("R", 3, 3, symmetric=True)
    relations = (Relation(k, a.T @ a, "given"), Relation(r, a @ s @ a.T, "given"))
    remainder, _ = (k @ s @ a.T - a.T @ r).reduced(relations)
    assert not remainder.is_zero
    rng = random.Random(1)
    value, middle = rational_matrix(rng, 3, 2), rational_matrix(rng, 2, 2, symmetric=True)
    values = {"A": value, "S": middle, "K": value.T * value, "R": value * middle * value.T}
    assert evaluated(remainder, values) == sympy.zeros(2, 3)


def test_nilpotent_parameter_gives_the_derivative() -> None:
    a, d, v = matrix("A", N, M), matrix("D", N, M), vector("v", M)
    moved = (a + T * d) @ v
    square = squared_norm(moved)
    derivative = square.coefficient(T, 1)
    assert (derivative - 2 * (v.T @ d.T @ a @ v)).reduced(())[0].is_zero
    assert (square.coefficient(T, 2) - squared_norm(d @ v)).is_zero
    assert square.coefficient(T, 0) == squared_norm(a @ v)
    assert square.coefficient(T, 3).is_zero
    with pytest.raises(ValueError, match=r"coefficient 1/t in .* is no polynomial in t"):
        (a / T).coefficient(T, 1)


def test_blocks_multiply_transpose_and_reduce_like_the_whole() -> None:
    rng = random.Random(3)
    values = {
        name: rational_matrix(rng, *shape)
        for name, shape in {"A": (2, 3), "B": (1, 3), "C": (2, 1), "D": (1, 1)}.items()
    }
    grid = [[matrix("A", 2, 3), matrix("C", 2, 1)], [matrix("B", 1, 3), matrix("D", 1, 1)]]
    whole = sympy.Matrix(sympy.BlockMatrix([[values["A"], values["C"]], [values["B"], values["D"]]]))
    blocks = Blocks.of(grid)
    product = blocks @ blocks.T
    shown = sympy.Matrix.vstack(
        *(sympy.Matrix.hstack(*(evaluated(e, values) for e in row)) for row in product.grid)
    )
    assert shown == whole * whole.T
    assert str(product) == "[A, C; B, D] [A, C; B, D]^T"
    assert (product - product).reduced(())[0].is_zero
    assert (
        not (product - Blocks.of([list(row) for row in blocks.T.T.grid]) @ blocks.T).reduced(())[0].grid[0][0].terms
    )
    relation = Relation(grid[0][0] @ grid[0][0].T, zero(2, 2), "given")
    remainder, used = product.reduced((relation,))
    assert used == (relation,)
    assert remainder.grid[0][0] == grid[0][1] @ grid[0][1].T


def test_notation_in_text_and_latex() -> None:
    a, s, u = matrix("A_l", N, M), matrix("S_{l-1}", M, M, symmetric=True), vector(r"u^\star", M)
    inverted, _ = inverse(s)
    cases = {
        (a @ (s + inverted)): ("A_l (S_{l-1} + S_{l-1}^-1)", r"A_l \left(S_{l-1} + S_{l-1}^{-1}\right)"),
        (a @ u).T: ("(A_l u*)^T", r"\left(A_l u^\star\right)^{\top}"),
        (u.T @ u): ("u*^T u*", r"{u^\star}^{\top} u^\star"),
        (PI / 2 * squared_norm(u)): ("(pi_l/2) |u*|^2", r"\frac{\pi_{l}}{2} \, \lVert u^\star \rVert^2"),
        (s - (s - identity(M))): ("S_{l-1} - (S_{l-1} - I)", r"S_{l-1} - \left(S_{l-1} - I\right)"),
        (identity(M) / PI): ("I/pi_l", r"I/\pi_{l}"),
        (-2 * (a @ s)): ("-2 A_l S_{l-1}", r"-2 \, A_l S_{l-1}"),
        scalar(2 * PI**2): ("2 pi_l^2", r"2 \pi_{l}^{2}"),
    }
    for expression, (text, latex) in cases.items():
        assert str(expression) == text
        assert expression.notation.latex == latex
        assert expression._repr_latex_() == rf"$\displaystyle {latex}$"
    remainder, _ = (PI * (a @ s) - 3 * (a @ s) - a).reduced(())
    assert str(remainder) == "-A_l + (pi_l - 3) A_l S_{l-1}"
    assert str((a - a).reduced(())[0]) == "0"
    assert plain(r"$S_l \succ 0$ for $k \le l$ and $x^{1/2}$") == "S_l > 0 for k <= l and x^(1/2)"


def test_named_expressions_keep_their_meaning() -> None:
    a, u = matrix("A", N, M), vector("u", M)
    product = (a @ u).named("v")
    assert product == a @ u
    assert str(product.T @ product) == "v^T v"
    assert product.meaning is not None
    assert product.meaning.text == "A u"


A, B, S = matrix("A", N, M), matrix("B", N, M), matrix("S", M, M, symmetric=True)
REFUSALS = {
    "sum of different shapes": (lambda: A + S, r"A \[N x M\] \+ S \[M x M\]: sizes differ"),
    "difference of different shapes": (lambda: A - B.T, r"A \[N x M\] - B\^T \[M x N\]: sizes differ"),
    "product": (lambda: A @ B, r"A \[N x M\] @ B \[N x M\]: M columns meet N rows"),
    "number size": (lambda: matrix("A", 2, 3) @ matrix("B", 4, 1), "3 columns meet 4 rows"),
    "division by zero": (lambda: A / 0, "divisor of A is 0"),
    "infinite": (lambda: sympy.oo * A, "expected a finite real commutative scalar"),
    "not a number": (lambda: A * sympy.nan, "expected a finite real commutative scalar"),
    "imaginary": (lambda: A * sympy.I, "expected a finite real commutative scalar"),
    "noncommutative": (
        lambda: A * sympy.Symbol("x", commutative=False),
        "expected a finite real commutative scalar",
    ),
    "empty name": (lambda: matrix(" ", 2, 2), "the name of a matrix symbol is empty"),
    "size zero": (lambda: matrix("A", 0, 2), "size of A is 0, expected a positive integer"),
    "negative size": (lambda: identity(-1), "size of I is -1, expected a positive integer"),
    "fractional size": (
        lambda: matrix("A", sympy.Rational(1, 2), 2),
        "size of A is 1/2, expected a positive integer",
    ),
    "oblong symmetric": (lambda: matrix("A", N, M, symmetric=True), "A is declared symmetric but is N x M"),
    "inverse of oblong": (lambda: inverse(A), r"inverse of A \[N x M\]: expected a square symbol"),
    "inverse of product": (lambda: inverse(S @ S), r"inverse of S S \[M x M\]: expected a square symbol"),
    "inverse of transpose": (lambda: inverse(matrix("C", 2, 2).T), "expected a square symbol"),
    "norm of a matrix": (lambda: squared_norm(A), r"squared norm of A \[N x M\]: expected one column"),
    "trivial relation": (lambda: Relation(A, A, "x"), "expected exactly one longest word"),
    "relation of constants": (
        lambda: Relation(identity(N), 2 * identity(N), "x"),
        "expected exactly one longest word",
    ),
    "relation of equal lengths": (lambda: Relation(A, B, "x"), "expected exactly one longest word"),
    "ragged blocks": (lambda: Blocks.of([[A, B], [A]]), r"block rows have \[2, 1\] blocks"),
    "no blocks": (lambda: Blocks.of([]), r"block rows have \[\] blocks"),
    "misaligned blocks": (lambda: Blocks.of([[A, S]]), r"block \(1, 2\) S \[M x M\] does not line up with A"),
    "block product": (lambda: Blocks.of([[A, B]]) @ Blocks.of([[S]]), "2 block columns meet 1 block rows"),
    "block difference": (lambda: Blocks.of([[A, B]]) - Blocks.of([[A]]), "different numbers of blocks"),
    "missing matrix": (lambda: evaluated(A @ S, {"A": sympy.eye(2)}), "no matrix for S"),
    "missing scalar": (lambda: evaluated(PI * A, {"A": sympy.eye(2)}), r"no value for \['pi_l'\]"),
    "unknown size": (lambda: evaluated(identity(N), {}), r"no value for \['N'\]"),
    "wrong shape": (
        lambda: evaluated(A @ S, {"A": sympy.eye(2), "S": sympy.eye(3)}),
        r"S has shape \(3, 3\), expected M x M",
    ),
    "vector value": (lambda: evaluated(A, {"A": np.ones(3)}), r"A has shape \(3,\), expected two axes"),
    "unsymmetric value": (
        lambda: evaluated(S, {"S": sympy.Matrix([[1, 2], [3, 4]])}),
        "S is declared symmetric but its value is not",
    ),
    "unsymmetric array": (lambda: evaluated(S, {"S": np.arange(4.0).reshape(2, 2)}), "but its value is not"),
    "NaN": (lambda: evaluated(A, {"A": np.full((2, 2), np.nan)}), "complex or not finite"),
    "complex": (lambda: evaluated(A, {"A": np.full((2, 2), 1j)}), "complex or not finite"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case: str) -> None:
    act, message = REFUSALS[case]
    with pytest.raises(ValueError, match=message):
        act()


WRONG_TYPES = {
    "float": (lambda: 0.5 * A, r"factor of A is 0\.5, expected an exact number"),
    "float inside": (lambda: A * (sympy.Float(0.1) * PI), "expected an exact number"),
    "boolean": (lambda: A * True, "factor of A is True, expected an exact number"),
    "float scalar": (lambda: scalar(0.5), r"scalar is 0\.5, expected an exact number"),
    "text size": (lambda: matrix("A", "n", 2), "size of A is 'n', expected a positive integer"),
    "float size": (lambda: matrix("A", 2.0, 2), r"size of A is 2\.0, expected a positive integer"),
    "boolean size": (lambda: matrix("A", True, 2), "size of A is True, expected a positive integer"),
    "mixed values": (
        lambda: evaluated(A @ S, {"A": np.eye(2), "S": sympy.eye(2)}),
        "matrices mix NumPy arrays and sympy matrices",
    ),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("case", WRONG_TYPES)
def test_wrong_types(case: str) -> None:
    act, message = WRONG_TYPES[case]
    with pytest.raises(TypeError, match=message):
        act()


def test_sizes_compare_as_polynomials() -> None:
    a, b = matrix("A", N + M, 2), matrix("B", M + N, 2)
    assert (a + b).rows == N + M
    assert (matrix("C", 2, (N + 1) ** 2) @ matrix("D", N**2 + 2 * N + 1, 2)).rows == 2
