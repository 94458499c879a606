r"""Claims: statements with hypotheses, sources and evidence, and what becomes of them when checked.

Defined here
    claim            decorator: a check, with what it checks
    Check            what a check records its evidence in
    Evidence, FalseTwin, Verdict   what came out
    scaled_error, TOLERANCE        the one place where two numbers are compared
    largest          of several errors
    judged           claim and false twins put through the same judge
    collect_claims, claim_index    the claims of a checkout, with and without importing them

A status is computed from recorded evidence, never typed in. Own status: of a claim by itself; effective
status: the weakest among the claim and everything it uses.
"""

import ast
import importlib
import math
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from numbers import Number, Rational
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, get_args, runtime_checkable

import numpy as np

from .files import content_of, is_folder
from .processes import drop_compiled_code, time_limit

Attribution = Literal["stated", "reconstructed", "own"]
Kind = Literal["proof", "exact", "enclosure", "property", "figure", "search", "difference", "counterexample"]
Status = Literal["proved", "exact", "enclosed", "tested", "shown", "open", "differs", "refuted", "failed"]

STATUS_OF: dict[str, Status] = {
    "proof": "proved",
    "exact": "exact",
    "enclosure": "enclosed",
    "property": "tested",
    "figure": "shown",
    "search": "open",
    "difference": "differs",
    "counterexample": "refuted",
}
STRENGTH: tuple[Status, ...] = get_args(Status)  # strongest first

# Largest accepted scaled error: some 4500 units in the last place, the rounding of sums over a few hundred terms.
TOLERANCE = 1e-12
LARGEST_EXPONENT = 1000  # below that of the largest double

T = TypeVar("T")
F = TypeVar("F")


def scaled_error(actual: Any, expected: Any, *, scale: float | None = None, condition: float = 1.0) -> float:
    """Largest |actual - expected|, relative to `scale` (default: the largest |expected|) times `condition`.

    Both are numbers or arrays, exact or rounded.
    NaN where anything compared, or the yardstick, is not finite, so that it never passes; 0 where both are
    exactly equal, infinity where they differ although the yardstick is 0.
    Raises ValueError where the shapes differ or the yardstick is negative.
    """
    a, b = np.asarray(actual), np.asarray(expected)
    if a.shape != b.shape:
        raise ValueError(f"actual has shape {a.shape}, expected {b.shape}")
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, which is reported below
        difference = float(np.max(np.abs(a - b), initial=0.0))
    yardstick = condition * (float(np.max(np.abs(b), initial=0.0)) if scale is None else float(scale))
    if yardstick < 0:
        raise ValueError(f"scale {scale} times condition {condition} is negative, expected a size")
    if not (math.isfinite(difference) and math.isfinite(yardstick)):
        return math.nan
    if difference == 0:
        return difference
    return difference / yardstick if yardstick > 0 else math.inf


def largest(*errors: Any) -> float:
    """The largest of some errors, NaN if one is: Python's `max` may pass that over, and a check would hold."""
    return float(np.max([float(error) for error in errors]))


def judged(judge: Callable[[F, T], Any], formulas: Mapping[str, F]) -> dict[str, Callable[[T], Any]]:
    """Every formula put through the same judge: name to `judge(formula, case)` as a function of the case."""
    return {name: partial(judge, formula) for name, formula in formulas.items()}


@runtime_checkable
class Certificate(Protocol):
    """What counts as a proof: remainders that vanished, and a text to read."""

    @property
    def holds(self) -> bool:
        """Whether every remainder is zero."""
        ...

    def text(self) -> str:
        """The proof in readable steps."""
        ...


@dataclass(frozen=True)
class Evidence:
    """One recorded run of one check. `worst` is the largest scaled error, to be compared with `bound`.

    `radius` is the largest relative radius of an enclosure: by how much at most the value shown is rounded.
    """

    kind: Kind
    name: str
    holds: bool
    cases: int
    worst: float | None = None
    bound: float | None = None
    radius: float | None = None
    seed: int | None = None
    detail: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class FalseTwin:
    """A falsehood close to the claim, put through the same check. `worst` is by how much it missed."""

    name: str
    rejected: bool
    cases: int
    worst: float | None = None


@dataclass(frozen=True)
class Claim:
    """A statement, the conditions it needs, who made it, the claims it rests on and the check that judges it."""

    key: str
    statement: str
    hypotheses: tuple[str, ...]
    attribution: Attribution
    source: str
    uses: tuple[str, ...]
    run: Callable[["Check"], None]

    @property
    def paper(self) -> str:
        """The citation key before the slash."""
        return self.key.partition("/")[0]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by the name under which its module has it: another process imports it."""
        return _claim_named, (self.run.__module__, self.run.__qualname__)


def _claim_named(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


@dataclass
class Check:
    """Records evidence. Every method runs its check at once, whatever the outcome of the ones before."""

    evidence: list[Evidence] = field(default_factory=list)
    false_twins: list[FalseTwin] = field(default_factory=list)
    _clock: float = field(default_factory=time.perf_counter)

    def proof(self, name: str, certificates: Sequence[Certificate], *, twins: Mapping[str, Certificate]) -> None:
        """Certificates at every depth (symbolic and concrete dimensions); each twin must leave a remainder."""
        self._record("proof", name, all(c.holds for c in certificates), len(certificates))
        for twin, certificate in twins.items():
            self.false_twins.append(FalseTwin(twin, not certificate.holds, 1))

    def exact(
        self,
        name: str,
        cases: Iterable[T],
        remainder: Callable[[T], Any],
        *,
        twins: Mapping[str, Callable[[T], Any]],
    ) -> None:
        """Exact arithmetic: every remainder (a number or an array of exact numbers) is identically zero."""
        listed = list(cases)
        self._record("exact", name, all(_is_zero(remainder(case)) for case in listed), len(listed))
        for twin, wrong in twins.items():
            self.false_twins.append(FalseTwin(twin, any(not _is_zero(wrong(c)) for c in listed), len(listed)))

    def property(
        self,
        name: str,
        cases: Iterable[T],
        error: Callable[[T], float],
        *,
        twins: Mapping[str, Callable[[T], float]],
        seed: int | None = None,
        bound: float = TOLERANCE,
    ) -> None:
        """Scaled errors of many cases, none above `bound`; each twin's worst must be above it.

        NaN counts as a failure on either side: the claim fails, the twin is not rejected.
        """
        listed = list(cases)
        worst = _worst(error(case) for case in listed)
        self._record("property", name, worst <= bound, len(listed), worst=worst, bound=bound, seed=seed)
        for twin, wrong in twins.items():
            missed = _worst(wrong(case) for case in listed)
            self.false_twins.append(FalseTwin(twin, missed > bound, len(listed), missed))

    def enclosure(
        self,
        name: str,
        cases: Iterable[T],
        ball: Callable[[T], Any],
        *,
        within: tuple[float, float],
        twins: Mapping[str, Callable[[T], Any]],
    ) -> None:
        """Rigorous arithmetic: every ball (a `flint.arb`) lies between the two numbers `within`, neither included.

        A twin is rejected if one of its balls lies beyond them. A ball that holds one of the two numbers decides
        nothing: the claim fails, the twin is not rejected.
        """
        lower, upper = within
        listed = list(cases)
        balls = [ball(case) for case in listed]
        holds = all(lower < found and found < upper for found in balls)
        radius = float(np.max([_relative_radius(found) for found in balls], initial=0.0))
        self._record("enclosure", name, holds, len(listed), radius=radius, detail=_enclosed(balls))
        for twin, wrong in twins.items():
            beyond = any(found <= lower or found >= upper for found in map(wrong, listed))
            self.false_twins.append(FalseTwin(twin, beyond, len(listed)))

    def counterexample(self, name: str, holds: bool, detail: str) -> None:
        """The claim is refuted: `holds` says that the counterexample was verified, `detail` shows it."""
        self._record("counterexample", name, holds, 1, detail=detail)

    def difference(self, name: str, holds: bool, detail: str) -> None:
        """A number or sentence of the source that comes out differently; `detail` gives both."""
        self._record("difference", name, holds, 1, detail=detail)

    def search(self, name: str, cases: int, detail: str) -> None:
        """An open question: how much was searched, and the most telling thing found."""
        self._record("search", name, True, cases, detail=detail)

    def false_twin(self, name: str, rejected: bool) -> None:
        """A twin judged outside the methods above."""
        self.false_twins.append(FalseTwin(name, rejected, 1))

    def _record(self, kind: Kind, name: str, holds: bool, cases: int, **more: Any) -> None:
        now = time.perf_counter()
        holds = bool(holds) and cases > 0
        self.evidence.append(Evidence(kind, name, holds, cases, seconds=now - self._clock, **more))
        self._clock = now


def _worst(errors: Iterable[float]) -> float:
    """NaN if any is. Raises ValueError for a negative error, which no bound would ever catch."""
    sizes = np.array(list(errors), dtype=float)
    if (sizes < 0).any():
        raise ValueError(f"an error is {sizes.min()}, expected a size of at least 0; take the absolute value")
    return float(np.max(sizes, initial=0.0))


def _relative_radius(ball: Any) -> float:
    """A power of 2 not below radius over midpoint; infinity where that is 0, NaN where nothing is known."""
    if not ball.is_finite():
        return math.nan
    bits = int(ball.rel_accuracy_bits())
    if ball.is_exact():
        return 0.0
    return math.inf if bits < -LARGEST_EXPONENT else max(2.0**-bits, math.ulp(0.0))


def _enclosed(balls: Sequence[Any]) -> str:
    """The midpoints of the outermost balls to twelve digits, or to those that are known."""
    ends = sorted(balls, key=lambda ball: float(ball.mid()))
    texts = [ball.str(12, radius=False) for ball in ends[:1] + ends[1:][-1:]]
    return " to ".join(dict.fromkeys(texts))


def _is_zero(remainder: Any) -> bool:
    """An empty remainder is not zero, as nothing was compared. Raises TypeError for numbers that were rounded."""
    entries = np.asarray(remainder)
    if any(isinstance(v, Number) and not isinstance(v, Rational) for v in entries.ravel()):
        raise TypeError("a remainder holds floating-point numbers, expected exact ones; convert the case")
    return entries.size > 0 and bool(np.all(entries == 0))


@dataclass(frozen=True)
class Verdict:
    """What one run of a claim's check showed. `effective` is that of `effective_statuses`."""

    claim: Claim
    evidence: tuple[Evidence, ...]
    false_twins: tuple[FalseTwin, ...]
    seconds: float
    error: str = ""
    effective: Status = "failed"

    @property
    def own(self) -> Status:
        """The status that the claim's own evidence supports."""
        sound = (
            not self.error
            and self.evidence
            and all(e.holds for e in self.evidence)
            and self.false_twins
            and all(t.rejected for t in self.false_twins)
        )
        if not sound:
            return "failed"
        kinds = {e.kind for e in self.evidence}
        for decisive in ("counterexample", "difference", "search"):
            if decisive in kinds:
                return STATUS_OF[decisive]
        return min((STATUS_OF[k] for k in kinds), key=STRENGTH.index)

    @property
    def problems(self) -> list[str]:
        """Why the claim failed, one line each; empty if it did not."""
        found = [self.error.splitlines()[0]] if self.error else []
        found += [f"{e.kind} '{e.name}' fails: {_outcome(e)}" for e in self.evidence if not e.holds]
        found += [f"false twin '{t.name}' is accepted" for t in self.false_twins if not t.rejected]
        if not self.evidence and not self.error:
            found.append("no evidence was recorded")
        if not self.false_twins and not self.error:
            found.append("the check has no false twin, so nothing shows that it can fail")
        return found

    @property
    def worst(self) -> float | None:
        """The largest scaled error of the claim's property evidence."""
        errors = [e.worst for e in self.evidence if e.worst is not None]
        return float(np.max(errors)) if errors else None

    @property
    def radius(self) -> float | None:
        """The largest relative radius of the claim's enclosures."""
        radii = [e.radius for e in self.evidence if e.radius is not None]
        return float(np.max(radii)) if radii else None

    @property
    def cases(self) -> int:
        """How many cases were checked, over all evidence."""
        return sum(e.cases for e in self.evidence)


def _outcome(evidence: Evidence) -> str:
    if evidence.cases == 0:
        return "it checked no case"
    if evidence.worst is not None:
        return f"worst scaled error {evidence.worst:.2g}, allowed {evidence.bound:.2g}"
    if evidence.radius is not None:
        return f"{evidence.detail}, of relative radius up to {evidence.radius:.2g}"
    return evidence.detail or "a remainder is not zero"


def claim(
    *,
    key: str,
    statement: str,
    hypotheses: Sequence[str],
    attribution: Attribution,
    source: str,
    uses: Sequence[str] = (),
) -> Callable[[Callable[[Check], None]], Claim]:
    """Make a claim of a check. Arguments are literals, so that `claim_index` can read them without importing."""
    if key.count("/") != 1 or key != key.strip().lower():
        raise ValueError(f"claim key is {key!r}, expected 'paper/what-it-says' in lower case")
    if attribution not in get_args(Attribution):
        raise ValueError(f"claim {key}: attribution is {attribution!r}, expected one of {get_args(Attribution)}")
    return lambda run: Claim(key, _folded(statement), tuple(hypotheses), attribution, source, tuple(uses), run)


def _folded(text: str) -> str:
    """One line: a statement in the source may run over several, indented."""
    return " ".join(text.split())


def verdict(claim: Claim, limit: float | None = None, initializer: Callable[[], object] = lambda: None) -> Verdict:
    """Run the check of `claim`. An exception in it is a failure, kept as one line and its traceback below.

    A worker process that takes more than `limit` seconds ends itself; it calls `initializer` first.
    """
    initializer()
    check, start, error = Check(), time.perf_counter(), ""
    try:
        with time_limit(limit):
            claim.run(check)
    except Exception as caught:
        first_line = str(caught).partition("\n")[0]
        error = f"{type(caught).__name__}: {first_line}\n{traceback.format_exc()}"
    seconds = time.perf_counter() - start
    drop_compiled_code()
    return Verdict(claim, tuple(check.evidence), tuple(check.false_twins), seconds, error)


def effective_statuses(own: Mapping[str, Status], uses: Mapping[str, Sequence[str]]) -> dict[str, Status]:
    """For each key the weakest status among its own and those of everything it uses, directly or not."""

    def reached(key: str, seen: set[str]) -> set[str]:
        if key not in seen:
            seen.add(key)
            for other in uses[key]:
                reached(other, seen)
        return seen

    return {key: max((own[k] for k in reached(key, set())), key=STRENGTH.index) for key in own}


def claims_of(modules: Iterable[Any]) -> dict[str, Claim]:
    """All claims defined in `modules`, by key.

    Raises ValueError for a duplicate key, a use of an unknown claim, or claims that use one another in a circle.
    """
    found: dict[str, Claim] = {}
    for module in modules:
        for made in vars(module).values():
            if isinstance(made, Claim):
                if made.key in found:
                    raise ValueError(f"claim {made.key} is defined twice; keys are unique")
                found[made.key] = made
    for made in found.values():
        for used in made.uses:
            if used not in found:
                raise ValueError(f"claim {made.key} uses {used}, which does not exist")
    _refuse_circles(found)
    return dict(sorted(found.items()))


def _refuse_circles(claims: Mapping[str, Claim]) -> None:
    settled: set[str] = set()

    def visit(key: str, path: tuple[str, ...]) -> None:
        if key in path:
            raise ValueError(f"claims use one another in a circle: {' -> '.join((*path[path.index(key) :], key))}")
        if key not in settled:
            for used in claims[key].uses:
                visit(used, (*path, key))
            settled.add(key)

    for key in claims:
        visit(key, ())


def collect_claims(root: Path) -> dict[str, Claim]:
    """All claims of the checkout `root` by key; puts `root` first on `sys.path` and imports its paper_checks.

    Raises ValueError as `claims_of`, and if there is no folder paper_checks or one of its files fails to import.
    """
    files = _claim_files(root)
    sys.path.insert(0, str(root.resolve()))
    modules = []
    for file in files:
        try:
            modules.append(importlib.import_module(f"paper_checks.{file.stem}"))
        except Exception as error:
            message = f"paper_checks/{file.name}: cannot be imported: {type(error).__name__}: {error}"
            raise ValueError(message) from error
    return claims_of(modules)


def claim_index(root: Path) -> list[dict[str, str]]:
    """Key, statement, attribution, source and file of every claim of `root`, read without importing anything.

    Raises ValueError if there is no folder paper_checks, and for a file or a claim that cannot be read.
    """
    rows = []
    for file in _claim_files(root):
        where = f"paper_checks/{file.name}"
        try:
            tree = ast.parse(content_of(file).decode("utf-8"))
        except SyntaxError as error:
            raise ValueError(f"{where}, line {error.lineno}: {error.msg}; correct it") from error
        except (OSError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(f"{where}: not a Python file: {error}; correct it") from error
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "claim":
                given = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
                if missing := [name for name in _INDEXED if not isinstance(given.get(name), str)]:
                    raise ValueError(f"{where}, line {node.lineno}: a claim's {missing[0]} is no literal string")
                rows.append({name: _folded(str(given[name])) for name in _INDEXED} | {"file": where})
    return sorted(rows, key=lambda row: row["key"])


_INDEXED = ("key", "statement", "attribution", "source")


def _claim_files(root: Path) -> list[Path]:
    folder = root / "paper_checks"
    if not is_folder(folder):
        raise ValueError(f"no paper_checks/ folder in {root}; run inside a checkout of pctheory or pass --root")
    return sorted(file for file in folder.glob("*.py") if not file.name.startswith("_"))
