"""Words, expressions and relations: the algebra itself. Its rules are stated in the package's docstring."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property

import sympy

from . import notation as written
from .notation import Notation


@dataclass(frozen=True)
class Letter:
    """A matrix symbol or its transpose. Letters are equal when name, size and symmetry are."""

    name: str
    rows: sympy.Expr
    cols: sympy.Expr
    symmetric: bool
    transposed: bool = False

    @property
    def T(self) -> "Letter":  # noqa: N802
        """The transpose; a symmetric symbol is its own."""
        if self.symmetric:
            return self
        return replace(self, rows=self.cols, cols=self.rows, transposed=not self.transposed)

    @property
    def notation(self) -> Notation:
        """The name, with a T if transposed."""
        return written.transposed(written.name(self.name)) if self.transposed else written.name(self.name)


Word = tuple[Letter, ...]
Terms = tuple[tuple[Word, sympy.Expr], ...]


@dataclass(frozen=True)
class Expression:
    r"""A matrix formula: `sum_i c_i w_i` with words w_i. Equality compares sizes and terms, not how it was written.

    `+ - @ .T` are the matrix operations, `*` and `/` take a commutative scalar.
    Raises ValueError, naming both operands, where sizes do not fit, and TypeError for a scalar that is not exact.
    """

    rows: sympy.Expr
    cols: sympy.Expr
    terms: Terms
    notation: Notation = field(compare=False)
    meaning: Notation | None = field(default=None, compare=False)  # what a named expression abbreviates

    def __add__(self, other: "Expression") -> "Expression":
        self._check_same_size(other, "+")
        notation = written.added((self.notation, other.notation))
        return gathered(self.rows, self.cols, self.terms + other.terms, notation)

    def __neg__(self) -> "Expression":
        terms = ((word, -c) for word, c in self.terms)
        return gathered(self.rows, self.cols, terms, written.negated(self.notation))

    def __sub__(self, other: "Expression") -> "Expression":
        self._check_same_size(other, "-")
        return self + (-other)

    def __matmul__(self, other: "Expression") -> "Expression":
        if not equal_sizes(self.cols, other.rows):
            raise ValueError(
                f"{self.described} @ {other.described}: {self.cols} columns meet {other.rows} rows; "
                "transpose one of them or correct its size"
            )
        terms = ((v + w, c * k) for v, c in self.terms for w, k in other.terms)
        return gathered(self.rows, other.cols, terms, written.multiplied(self.notation, other.notation))

    def __mul__(self, factor: int | sympy.Expr) -> "Expression":
        exact = exact_scalar(factor, f"factor of {self}")
        terms = ((word, exact * c) for word, c in self.terms)
        return gathered(self.rows, self.cols, terms, written.scaled(exact, self.notation))

    __rmul__ = __mul__

    def __truediv__(self, divisor: int | sympy.Expr) -> "Expression":
        exact = exact_scalar(divisor, f"divisor of {self}")
        if exact == 0:
            raise ValueError(f"divisor of {self} is 0, expected a scalar that does not vanish")
        return replace(self * (1 / exact), notation=written.divided(self.notation, exact))

    @property
    def T(self) -> "Expression":  # noqa: N802
        """The transpose: it reverses products, and a symmetric symbol is its own transpose."""
        terms = ((reversed_word(word), c) for word, c in self.terms)
        flipped = gathered(self.cols, self.rows, terms, written.transposed(self.notation))
        own = flipped.terms == self.terms and self.notation.binding == written.ATOM
        return replace(flipped, notation=self.notation) if own else flipped

    def named(self, name: str) -> "Expression":
        """The same expression, from here on written `name` (LaTeX, without dollars)."""
        return replace(self, notation=written.name(name), meaning=self.notation)

    def coefficient(self, parameter: sympy.Symbol, power: int) -> "Expression":
        """The coefficient of `parameter**power`. Power 1 is the derivative at 0, as with a nilpotent parameter.

        Raises ValueError if a coefficient is no polynomial in the parameter.
        """
        for _, c in self.terms:
            if not c.is_polynomial(parameter):
                raise ValueError(f"coefficient {c} in {self} is no polynomial in {parameter}; expand it first")
        terms = ((word, sympy.Poly(c, parameter).coeff_monomial(parameter**power)) for word, c in self.terms)
        inner = self.notation.within(written.ATOM)
        monomial = written.number(parameter**power)
        notation = Notation(
            f"[{monomial.text}] {inner.text}", rf"[{monomial.latex}]\, {inner.latex}", written.SCALED
        )
        return gathered(self.rows, self.cols, terms, notation)

    def reduced(self, relations: Iterable["Relation"]) -> tuple["Expression", tuple["Relation", ...]]:
        """The normal form under the relations, and those of them that were used.

        A 1 x 1 word equals its transpose; of the two the alphabetically first is kept.
        """
        given = tuple(relations)
        pending, irreducible, used = list(self.terms), [], set()
        while pending:
            word, c = pending.pop()
            match = _first_match(word, given)
            if match is None:
                irreducible.append((min(word, reversed_word(word), key=_order) if self.is_number else word, c))
            else:
                index, shorter_words = match
                used.add(index)
                pending.extend((shorter, c * k) for shorter, k in shorter_words)
        return gathered(self.rows, self.cols, irreducible), tuple(given[i] for i in sorted(used))

    @property
    def is_zero(self) -> bool:
        """Whether no term is left."""
        return not self.terms

    @property
    def is_number(self) -> bool:
        """Whether the size is 1 x 1."""
        return bool(self.rows == 1 and self.cols == 1)

    @property
    def is_letter(self) -> bool:
        """Whether this is a single symbol, possibly transposed, with coefficient one."""
        return len(self.terms) == 1 and len(self.terms[0][0]) == 1 and self.terms[0][1] == 1

    @property
    def described(self) -> str:
        """The formula and its size, for error messages."""
        return f"{self.notation.within(written.SCALED).text} [{self.rows} x {self.cols}]"

    def _check_same_size(self, other: "Expression", sign: str) -> None:
        if not (equal_sizes(self.rows, other.rows) and equal_sizes(self.cols, other.cols)):
            raise ValueError(
                f"{self.described} {sign} {other.described}: sizes differ; transpose or correct one of them"
            )

    def __str__(self) -> str:
        return self.notation.text

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.notation.latex}$"


@dataclass(frozen=True)
class Relation:
    """An equation `left = right` of the symbols, with the reason why it holds, as a rule for its longest word.

    Raises ValueError where the equation says nothing or has no single longest word.
    """

    left: Expression
    right: Expression
    reason: str

    def __post_init__(self) -> None:
        self.rules  # noqa: B018  (an equation that is no rule is refused here)

    @cached_property
    def rules(self) -> tuple[tuple[Word, Terms], ...]:
        """The longest word and what replaces it; and the same of the transposed equation."""
        terms = (self.left - self.right).terms
        lengths = [len(word) for word, _ in terms]
        if not terms or max(lengths) == 0 or lengths.count(max(lengths)) > 1:
            raise ValueError(
                f"relation {self}: expected exactly one longest word, to be replaced by shorter ones; "
                "give a product a symbol of its own"
            )
        longest, c = terms[-1]
        words = tuple((word, sympy.cancel(-k / c)) for word, k in terms[:-1])
        mirrored = (reversed_word(longest), tuple((reversed_word(word), k) for word, k in words))
        return ((longest, words),) if mirrored[0] == longest else ((longest, words), mirrored)

    @property
    def notation(self) -> Notation:
        """The equation as written."""
        return written.equated(self.left.notation, self.right.notation)

    def __str__(self) -> str:
        return self.notation.text


def gathered(
    rows: sympy.Expr, cols: sympy.Expr, terms: Iterable[tuple[Word, sympy.Expr]], notation: Notation | None = None
) -> Expression:
    """The expression with like words gathered; written term by term if no notation is given."""
    sums: dict[Word, sympy.Expr] = {}
    for word, c in terms:
        sums[word] = sums[word] + c if word in sums else c
    cancelled = ((word, _cancelled(c)) for word, c in sums.items())
    ordered = tuple(sorted(((word, c) for word, c in cancelled if c != 0), key=lambda term: _order(term[0])))
    unit = sympy.S.One if rows == cols == 1 else None
    return Expression(rows, cols, ordered, notation or written.added(_written(w, c, unit) for w, c in ordered))


def exact_scalar(value: int | sympy.Expr, where: str) -> sympy.Expr:
    """The value as an exact real commutative scalar. Raises TypeError or ValueError if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | sympy.Expr) or sympy.sympify(value).has(sympy.Float):
        raise TypeError(f"{where} is {value!r}, expected an exact number; write it as sympy.Rational")
    exact = sympy.sympify(value)
    if not exact.is_commutative or exact.has(sympy.I, sympy.nan, sympy.oo, -sympy.oo, sympy.zoo):
        raise ValueError(f"{where} is {exact}, expected a finite real commutative scalar")
    return exact


def reversed_word(word: Word) -> Word:
    """The transpose of a word."""
    return tuple(letter.T for letter in reversed(word))


@cache
def equal_sizes(a: sympy.Expr, b: sympy.Expr) -> bool:
    """Whether two sizes agree, as polynomials where they are symbolic."""
    return bool(a == b or sympy.expand(a - b) == 0)


@cache
def _cancelled(c: sympy.Expr) -> sympy.Expr:
    return c if c.is_Atom else sympy.cancel(c)


def _order(word: Word) -> tuple[int, list[tuple[str, bool, str]]]:
    """Words by length, then alphabetically."""
    return len(word), [(a.name, a.transposed, f"{a.rows} {a.cols} {a.symmetric}") for a in word]


def _first_match(word: Word, relations: Sequence[Relation]) -> tuple[int, Terms] | None:
    """The first relation that applies to the word, and what the word then becomes."""
    for index, relation in enumerate(relations):
        for pattern, replacement in relation.rules:
            for i in range(len(word) - len(pattern) + 1):
                if word[i : i + len(pattern)] == pattern:
                    head, tail = word[:i], word[i + len(pattern) :]
                    return index, tuple((head + words + tail, c) for words, c in replacement)
    return None


def _written(word: Word, c: sympy.Expr, unit: sympy.Expr | None) -> Notation:
    """A coefficient times a word; the empty word is written I, or not at all where it is the number one."""
    if not word:
        return written.number(c) if unit else written.scaled(c, Notation("I", "I"))
    first, *rest = (letter.notation for letter in word)
    for letter in rest:
        first = written.multiplied(first, letter)
    return written.scaled(c, first)
