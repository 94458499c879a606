"""How formulas are written: plain text and LaTeX side by side, with parentheses only where they are needed."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import sympy

SUM, SCALED, PRODUCT, ATOM = range(4)  # how tightly a written formula binds, loosest first
PLAIN = {
    "top": "T",
    "star": "*",
    "le": "<=",
    "ge": ">=",
    "ne": "!=",
    "succ": ">",
    "dots": "...",
    "left": "",
    "right": "",
}


@dataclass(frozen=True)
class Notation:
    """A formula as written, and how tightly its outermost operation binds."""

    text: str
    latex: str
    binding: int = ATOM

    def within(self, binding: int) -> "Notation":
        """The same, in parentheses if its outermost operation binds less tightly than `binding`."""
        if self.binding >= binding:
            return self
        return Notation(f"({self.text})", rf"\left({self.latex}\right)")


def plain(latex: str) -> str:
    """Prose or a name in simple LaTeX (commands without arguments) as plain text: `$S_l^{-1}$` becomes `S_l^-1`."""
    text = re.sub(r"\\([A-Za-z]+)", lambda command: PLAIN.get(command[1], command[1]), latex)
    text = re.sub(r"\^\{(-?\w+)\}", r"^\1", text)
    text = re.sub(r"\^\{([^{}]*)\}", r"^(\1)", text)
    return text.replace("$", "").replace("^*", "*").replace(r"\,", "")


def _latex(value: sympy.Expr) -> str:
    """As sympy, which reads Greek letters with a plain index only: not in pi_{l-1}."""
    return str(sympy.latex(value, symbol_names={s: rf"\{s.name}" for s in value.free_symbols if "pi_{" in s.name}))


def name(latex: str) -> Notation:
    """A name, given in LaTeX without dollars."""
    return Notation(plain(latex), latex)


def number(value: sympy.Expr) -> Notation:
    """A commutative scalar, as sympy writes it but for the signs of multiplication and power."""
    text = str(value).replace("**", "^").replace("*", " ")
    signed = value.is_Add or text.startswith("-")
    return Notation(text, _latex(value), SUM if signed else ATOM if value.is_Atom else SCALED)


def added(terms: Iterable[Notation]) -> Notation:
    """`a + b`, or `a - b` where the second starts with a minus sign; 0 where there is nothing to add."""
    total = None
    for term in terms:
        if total is None:
            total = term
        elif term.text.startswith("-"):
            total = Notation(f"{total.text} - {term.text[1:]}", f"{total.latex} - {term.latex[1:]}", SUM)
        else:
            total = Notation(f"{total.text} + {term.text}", f"{total.latex} + {term.latex}", SUM)
    return total or Notation("0", "0")


def negated(operand: Notation) -> Notation:
    """`-a`."""
    inner = operand.within(SCALED)
    return Notation(f"-{inner.text}", f"-{inner.latex}", SUM)


def scaled(factor: sympy.Expr, operand: Notation) -> Notation:
    """`c a`, with the factors 1 and -1 left out."""
    if factor == 1:
        return operand
    if not factor.is_Add and number(factor).text.startswith("-"):
        return negated(scaled(-factor, operand))
    inner = operand.within(PRODUCT)
    coefficient = number(factor).within(SCALED)
    text = f"({coefficient.text})" if "/" in coefficient.text else coefficient.text
    return Notation(f"{text} {inner.text}", rf"{coefficient.latex} \, {inner.latex}", SCALED)


def divided(operand: Notation, divisor: sympy.Expr) -> Notation:
    """`a/c` for a single symbol a and divisor c, otherwise `1/c a`."""
    if operand.binding < ATOM or not divisor.is_Atom:
        return scaled(1 / divisor, operand)
    return Notation(f"{operand.text}/{divisor}", f"{operand.latex}/{_latex(divisor)}", SCALED)


def multiplied(left: Notation, right: Notation) -> Notation:
    """`a b`."""
    a, b = left.within(SCALED), right.within(PRODUCT)
    return Notation(f"{a.text} {b.text}", f"{a.latex} {b.latex}", min(a.binding, PRODUCT))


def transposed(operand: Notation) -> Notation:
    """`a^T`."""
    inner = operand.within(ATOM)
    base = f"{{{inner.latex}}}" if "^" in inner.latex and operand.binding == ATOM else inner.latex
    return Notation(f"{inner.text}^T", rf"{base}^{{\top}}")


def equated(left: Notation, right: Notation) -> Notation:
    """`a = b`."""
    return Notation(f"{left.text} = {right.text}", f"{left.latex} = {right.latex}", SUM)
