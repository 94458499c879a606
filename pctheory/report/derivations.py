"""The proofs at every depth as the report shows them: what `pctheory derive --latex` prints, cut into steps."""

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from ..induction import Certificate, Section, Step
from .mathml import formula, prose


@dataclass(frozen=True)
class Line:
    """A step of a proof: its number, the reason, both sides of the identity, the relations used, what is left."""

    number: int
    reason: Markup
    left: Markup
    right: Markup
    by: tuple[str, ...]
    remainder: Markup | None


@dataclass(frozen=True)
class Part:
    """A titled part of a proof."""

    title: Markup
    prose: Markup
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Derivation:
    """A theorem with its proof, ready to be shown."""

    name: str
    certificate: Certificate
    statement: Markup
    definitions: tuple[Markup, ...]
    conclusion: Markup
    relations: tuple[tuple[str, Markup, Markup], ...]
    parts: tuple[Part, ...]
    conditions: tuple[Markup, ...]

    @property
    def slug(self) -> str:
        """The name as the name of a file."""
        return self.name


def derivation(name: str, certificate: Certificate) -> Derivation:
    """The proof of a certificate. Raises: ValueError naming it for a formula that does not convert."""
    try:
        return _derivation(name, certificate)
    except ValueError as error:
        raise ValueError(f"derivation {name}: {error}") from error


def _derivation(name: str, certificate: Certificate) -> Derivation:
    labels = {relation: f"R{number}" for number, relation in enumerate(certificate.relations, 1)}
    numbers = {id(step): number for number, step in enumerate(certificate.steps, 1)}

    def line(step: Step) -> Line:
        remainder = None if step.holds else formula(step.remainder.notation.latex)
        by = tuple(label for relation, label in labels.items() if relation in step.used)
        left, right = formula(step.left.notation.latex), formula(f"= {step.right.notation.latex}")
        return Line(numbers[id(step)], prose(_folded(step.reason)), left, right, by, remainder)

    def part(title: str, section: Section) -> Part:
        return Part(prose(title), prose(_folded(section.prose)), tuple(line(step) for step in section.steps))

    return Derivation(
        name,
        certificate,
        prose(_folded(certificate.statement)),
        tuple(_definitions(certificate)),
        prose(_folded(certificate.conclusion)),
        tuple(
            (label, formula(f"{r.left.notation.latex} = {r.right.notation.latex}"), prose(_folded(r.reason)))
            for r, label in labels.items()
        ),
        tuple(part(title, section) for title, section in certificate.sections),
        tuple(prose(_folded(condition)) for condition in certificate.conditions),
    )


def _definitions(certificate: Certificate) -> Iterator[Markup]:
    for named in certificate.definitions:
        if named.meaning:
            yield formula(f"{named.notation.latex} = {named.meaning.latex}")


def _folded(text: str) -> str:
    return " ".join(text.split())
