"""A proof as data: steps with computed remainders, and how it is printed."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from textwrap import fill
from typing import TypeAlias

from ..matrix_algebra import Blocks, Expression, Relation, plain

Side: TypeAlias = Expression | Blocks
WIDTH = 100


@dataclass(frozen=True)
class Step:
    """`left = right` under the given relations, and the reason for it in words (LaTeX between dollars)."""

    reason: str
    left: Side
    right: Side
    relations: tuple[Relation, ...] = ()

    @cached_property
    def _difference(self) -> tuple[Side, tuple[Relation, ...]]:
        return (self.left - self.right).reduced(self.relations)  # type: ignore[operator]  # raises unless both match

    @property
    def remainder(self) -> Side:
        """Left minus right in normal form."""
        return self._difference[0]

    @property
    def used(self) -> tuple[Relation, ...]:
        """The relations that the normal form took."""
        return self._difference[1]

    @property
    def holds(self) -> bool:
        """Whether the remainder is zero."""
        return self.remainder.is_zero


@dataclass(frozen=True)
class Section:
    """A titled part of a proof: what it says in words, and the steps that show it."""

    title: str
    steps: tuple[Step, ...] = ()
    prose: str = ""


@dataclass(frozen=True)
class Certificate:
    """A theorem with its proof. Whether it holds is computed from its steps.

    The theorem is the statement, the `definitions` that it leads up to (named formulas), and the conclusion after
    them. `lemmas` are named facts from outside the algebra; those with steps are proved too. `conditions` say why
    the relations may be used, for instance why an inverse exists. Prose is simple LaTeX, formulas between dollars.
    """

    title: str
    statement: str
    conclusion: str
    proof: tuple[Section, ...]
    definitions: tuple[Expression, ...] = ()
    lemmas: tuple[Section, ...] = ()
    conditions: tuple[str, ...] = ()

    @property
    def sections(self) -> tuple[tuple[str, Section], ...]:
        """Every section with its heading, in the order of printing."""
        lemmas = tuple((f"Lemma ({section.title})", section) for section in self.lemmas)
        return tuple((section.title, section) for section in self.proof) + lemmas

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every step, those of the lemmas last."""
        return tuple(step for _, section in self.sections for step in section.steps)

    @property
    def remainders(self) -> tuple[Side, ...]:
        """The remainder of every step."""
        return tuple(step.remainder for step in self.steps)

    @property
    def relations(self) -> tuple[Relation, ...]:
        """The relations that the steps used."""
        return tuple(dict.fromkeys(relation for step in self.steps for relation in step.used))

    @property
    def holds(self) -> bool:
        """Whether there are steps and all their remainders are zero."""
        return bool(self.steps) and all(step.holds for step in self.steps)

    @property
    def verdict(self) -> str:
        """The outcome in one sentence."""
        zeros = sum(step.holds for step in self.steps)
        outcome = "holds" if self.holds else "does NOT hold"
        return f"The certificate {outcome}: {zeros} of {len(self.steps)} remainders are zero."

    def text(self) -> str:
        """The proof as plain text."""
        return "\n".join(_text(self))

    def latex(self) -> str:
        """The proof as a LaTeX fragment (needs amsmath)."""
        return "\n".join(_latex(self))

    def __str__(self) -> str:
        return self.text()


def _text(certificate: Certificate) -> Iterator[str]:
    yield f"{certificate.title}\n{'=' * len(certificate.title)}"
    yield _wrapped(certificate.statement)
    yield from (f"    {named} = {named.meaning.text}" for named in certificate.definitions if named.meaning)
    yield _wrapped(certificate.conclusion)
    labels = _labels(certificate)
    if labels:
        yield "\nRelations used"
    yield from (f"  {label}  {relation!s:<44} {plain(relation.reason)}" for relation, label in labels.items())
    numbers = {id(step): number for number, step in enumerate(certificate.steps, 1)}
    for heading, section in certificate.sections:
        yield f"\n{plain(heading)}"
        if section.prose:
            yield _wrapped(section.prose, "  ")
        for step in section.steps:
            yield _wrapped(step.reason, f"{numbers[id(step)]:3}. ", "     ")
            yield from _text_of_step(step, labels)
    if certificate.conditions:
        yield "\nSide conditions"
    yield from (_wrapped(condition, "  - ", "    ") for condition in certificate.conditions)
    yield f"\n{certificate.verdict}"


def _text_of_step(step: Step, labels: dict[Relation, str]) -> Iterator[str]:
    left, right = str(step.left), str(step.right)
    separator = "\n         = " if len(left) + len(right) > WIDTH - 10 else " = "
    yield f"       {left}{separator}{right}"
    by = f" by {_cited(step, labels)}" if step.used else ""
    if step.holds:
        yield f"     left - right = 0{by}"
    else:
        yield f"     NOT ZERO: left - right = {step.remainder}{by}"


def _latex(certificate: Certificate) -> Iterator[str]:
    yield rf"\paragraph{{{certificate.title}.}} {_folded(certificate.statement)}"
    if certificate.definitions:
        yield _aligned(f"{d.notation.latex} &= {d.meaning.latex}" for d in certificate.definitions if d.meaning)
    yield _folded(certificate.conclusion)
    labels = _labels(certificate)
    if labels:
        yield r"\paragraph{Relations used.}"
        yield _aligned(
            rf"{relation.left.notation.latex} &= {relation.right.notation.latex}"
            rf" && \text{{({label}) {relation.reason}}}"
            for relation, label in labels.items()
        )
    numbers = {id(step): number for number, step in enumerate(certificate.steps, 1)}
    for heading, section in certificate.sections:
        yield rf"\paragraph{{{heading}.}} {_folded(section.prose)}".rstrip()
        for step in section.steps:
            yield rf"\par\noindent {numbers[id(step)]}. {_folded(step.reason)}"
            yield from _latex_of_step(step, labels)
    if certificate.conditions:
        yield rf"\paragraph{{Side conditions.}} {_folded(' '.join(certificate.conditions))}"
    yield rf"\par\noindent {certificate.verdict}"


def _latex_of_step(step: Step, labels: dict[Relation, str]) -> Iterator[str]:
    by = rf" && \text{{by {_cited(step, labels)}}}" if step.used else ""
    yield _aligned((f"& {step.left.notation.latex}", rf"&\quad = {step.right.notation.latex}{by}"))
    if not step.holds:
        yield rf"\textbf{{Not zero:}} left minus right is ${step.remainder.notation.latex}$."


def _labels(certificate: Certificate) -> dict[Relation, str]:
    return {relation: f"R{number}" for number, relation in enumerate(certificate.relations, 1)}


def _cited(step: Step, labels: dict[Relation, str]) -> str:
    return ", ".join(label for relation, label in labels.items() if relation in step.used)


def _aligned(lines: Iterator[str] | tuple[str, ...]) -> str:
    return "\\begin{align*}\n  " + " \\\\\n  ".join(lines) + "\n\\end{align*}"


def _folded(prose: str) -> str:
    return " ".join(prose.split())


def _wrapped(prose: str, first: str = "", rest: str | None = None) -> str:
    indent = first if rest is None else rest
    return fill(
        _folded(plain(prose)), WIDTH, initial_indent=first, subsequent_indent=indent, break_long_words=False
    )
