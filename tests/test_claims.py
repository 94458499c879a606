"""Claims about claims: what counts as evidence, what fails, how statuses follow."""

import ast
import math
import traceback
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flint
import gmpy2
import jaxtyping
import mpmath
import numpy as np
import pytest
import sympy

import pctheory
from pctheory.claims import (
    TOLERANCE,
    Check,
    Claim,
    Verdict,
    claim,
    claim_index,
    claims_of,
    collect_claims,
    effective_statuses,
    judged,
    largest,
    scaled_error,
    verdict,
)

from .cases import exact

INF, NAN = math.inf, math.nan


def made(run=None, *, key: str = "paper/claim", uses: tuple[str, ...] = (), **more: str) -> Claim:
    given = {"statement": "1 = 1", "attribution": "own", "source": "-"} | more
    return claim(key=key, hypotheses=(), uses=uses, **given)(run or (lambda check: None))


def judge(run) -> tuple[str, list[str]]:
    found = verdict(made(run))
    return found.own, found.problems


@pytest.fixture
def unhooked():
    """What users meet who pass a wrong type: the shape-checking hook of the tests steps aside."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@dataclass
class Certificate:
    holds: bool

    def text(self) -> str:
        return "proof"


# Scaled errors


@pytest.mark.parametrize(
    ("actual", "expected", "options", "error"),
    [
        (3.0, 2.0, {}, 0.5),
        (3.0, 2.0, {"scale": 4.0}, 0.25),
        (3.0, 2.0, {"scale": 4.0, "condition": 5.0}, 0.05),
        ([1.0, 5.0], [1.0, 4.0], {}, 0.25),
        (1.0, 0.0, {}, INF),
        (1.0, 2.0, {"scale": 0.0}, INF),
        (0.0, 0.0, {"scale": 0.0}, 0.0),
        (2.0, 2.0, {}, 0.0),
        ([], [], {}, 0.0),
        (Fraction(3, 2), Fraction(1), {}, 0.5),
        (1 + 1j, 1 - 1j, {"scale": 4.0}, 0.5),
    ],
)
def test_scaled_error(actual, expected, options, error):
    assert scaled_error(actual, expected, **options) == error


@pytest.mark.parametrize(
    ("actual", "expected", "options"),
    [
        (NAN, 1.0, {}),
        (1.0, NAN, {}),
        (NAN, NAN, {}),
        (INF, 1.0, {}),
        (1.0, INF, {}),
        (INF, INF, {}),
        ([NAN, 1.0], [0.0, 1.0], {"scale": 1.0}),
        (1.0, 2.0, {"scale": INF}),
        (1.0, 2.0, {"scale": NAN}),
        (1.0, 2.0, {"condition": INF}),
        (1.0, 1.0, {"condition": NAN}),
    ],
)
def test_scaled_error_of_what_is_not_finite_is_nan(actual, expected, options):
    """An infinite yardstick would make every error 0."""
    assert math.isnan(scaled_error(actual, expected, **options))


@pytest.mark.parametrize("place", range(3))
def test_largest_of_nan_is_nan(place: int):
    errors = [0.0, 1.0]
    errors.insert(place, math.nan)
    assert math.isnan(largest(*errors))
    assert largest(0.0, np.float32(3), 2) == 3


def test_no_judge_uses_the_max_that_passes_over_nan():
    """In what a function or a lambda of `paper_checks` returns: the error itself."""
    for file in sorted((Path(__file__).parents[1] / "paper_checks").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            value = (
                node.value if isinstance(node, ast.Return) else node.body if isinstance(node, ast.Lambda) else None
            )
            if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
                assert value.func.id != "max", f"{file.name}, line {value.lineno}: use pctheory.claims.largest"


def test_scaled_error_refuses():
    with pytest.raises(ValueError, match=r"actual has shape \(2,\), expected \(1, 2\)"):
        scaled_error([1.0, 2.0], [[1.0, 2.0]])
    with pytest.raises(ValueError, match=r"scale -1.0 times condition 2.0 is negative"):
        scaled_error(1.0, 2.0, scale=-1.0, condition=2.0)


def test_judged_puts_every_formula_through_the_same_judge():
    through = judged(
        lambda formula, case: formula(case) - case**2, {"right": lambda n: n * n, "wrong": lambda n: n}
    )
    assert [through["right"](3), through["wrong"](3)] == [0, -6]


# Evidence


def test_statuses_of_sound_evidence():
    twins = {"wrong": lambda c: 1}
    kinds = {
        "proved": lambda check: check.proof("", [Certificate(True)], twins={"wrong": Certificate(False)}),
        "exact": lambda check: check.exact("", [1], lambda c: 0, twins=twins),
        "tested": lambda check: check.property("", [1], lambda c: 0.0, twins=twins),
    }
    assert {name: judge(run) for name, run in kinds.items()} == {name: (name, []) for name in kinds}


def test_the_strongest_evidence_makes_the_status():
    def run(check: Check) -> None:
        check.property("", [1], lambda c: 0.0, twins={"wrong": lambda c: 1.0})
        check.exact("", [1], lambda c: 0, twins={})

    assert judge(run) == ("exact", [])


@pytest.mark.parametrize("kind", ["proof", "exact", "enclosure", "property"])
def test_no_case_is_a_failure(kind: str):
    def run(check: Check) -> None:
        check.false_twin("wrong", True)
        if kind == "proof":
            check.proof("n", [], twins={})
        elif kind == "enclosure":
            check.enclosure("n", [], lambda c: c, within=(0.0, 1.0), twins={})
        else:
            getattr(check, kind)("n", iter(()), lambda c: 0, twins={})

    assert judge(run) == ("failed", [f"{kind} 'n' fails: it checked no case"])


def test_a_search_of_nothing_is_a_failure():
    def run(check: Check) -> None:
        check.search("starts", 0, "none")
        check.false_twin("wrong", True)

    assert judge(run) == ("failed", ["search 'starts' fails: it checked no case"])


def test_a_twin_without_cases_is_accepted():
    def run(check: Check) -> None:
        check.property("", [], lambda c: 0.0, twins={"unseen": lambda c: 1.0})

    assert "false twin 'unseen' is accepted" in judge(run)[1]


def test_one_bad_case_among_many_fails():
    def run(check: Check) -> None:
        check.property("n", range(100), lambda c: 1e-3 * (c == 57), twins={"wrong": lambda c: 1.0})

    assert judge(run) == ("failed", ["property 'n' fails: worst scaled error 0.001, allowed 1e-12"])


def test_the_bound_itself_is_allowed():
    def run(check: Check) -> None:
        check.property("", [1], lambda c: TOLERANCE, twins={"at the bound": lambda c: TOLERANCE})

    assert judge(run) == ("failed", ["false twin 'at the bound' is accepted"])


def test_nan_fails_the_claim():
    def run(check: Check) -> None:
        check.property("n", [0.0, NAN, 0.0], lambda c: c, twins={"wrong": lambda c: 1.0})

    assert judge(run) == ("failed", ["property 'n' fails: worst scaled error nan, allowed 1e-12"])


def test_nan_does_not_reject_a_twin():
    """Not even beside a case that would have rejected it: a twin that is not a number says nothing."""

    def run(check: Check) -> None:
        check.property("n", [0.0, NAN, 1.0], lambda c: 0.0, twins={"broken": lambda c: c})

    assert judge(run) == ("failed", ["false twin 'broken' is accepted"])


def test_a_negative_error_is_refused():
    """A forgotten absolute value would pass any bound."""

    def run(check: Check) -> None:
        check.property("n", [1], lambda c: -1.0, twins={"wrong": lambda c: 1.0})

    own, problems = judge(run)
    assert own == "failed"
    assert problems[0].startswith("ValueError: an error is -1.0, expected a size of at least 0")


@pytest.mark.parametrize(
    ("remainder", "status"),
    [
        (0, "exact"),
        ([False, False], "exact"),
        (np.array([Fraction(0), Fraction(1, 10**30)]), "failed"),
        (sympy.sqrt(8) - 2 * sympy.sqrt(2), "exact"),
        ([0, True], "failed"),
        ([], "failed"),
    ],
)
def test_exact_remainders(remainder, status: str):
    def run(check: Check) -> None:
        check.exact("", [1], lambda c: remainder, twins={"wrong": lambda c: 1})

    assert judge(run)[0] == status


@pytest.mark.parametrize(
    "remainder",
    [
        *(0.0, np.zeros(2), 0j, np.float32(0), np.array([0, 0.0], dtype=object)),
        *(gmpy2.mpfr(0), sympy.Float(0), mpmath.mpf(0)),
    ],
    ids=lambda r: type(r).__name__,
)
def test_a_rounded_zero_is_no_exact_evidence(remainder):
    def run(check: Check) -> None:
        check.exact("", [1], lambda c: remainder, twins={"wrong": lambda c: 1})

    assert judge(run)[1][0].startswith("TypeError: a remainder holds floating-point numbers")


def test_sympy_reads_the_fractions_of_cases_exactly():
    assert sympy.sympify(exact(1, 3)) == sympy.Rational(1, 3)


# Balls: midpoint and radius
HALF, FINE, WIDE, ZERO = flint.arb(0.5), flint.arb(0.5, 2.0**-60), flint.arb(0.5, 0.75), flint.arb(0)


def enclosing(ball: Any, twin: Any = 2, *, within: tuple[float, float] = (0.0, 1.0)) -> Verdict:
    def run(check: Check) -> None:
        check.enclosure("n", [HALF, ball], lambda c: c, within=within, twins={"wrong": lambda c: flint.arb(twin)})

    return verdict(claim(key="p/k", statement="", hypotheses=(), attribution="own", source="")(run))


def test_enclosures_carry_their_radius_and_show_the_value():
    found = enclosing(FINE)
    assert (found.own, found.problems) == ("enclosed", [])
    (evidence,) = found.evidence
    assert (evidence.kind, evidence.cases, evidence.detail) == ("enclosure", 2, "0.500000000000")
    assert 2.0**-59 <= evidence.radius == found.radius <= 2.0**-57
    assert enclosing(flint.arb(0.25)).evidence[0].detail == "0.250000000000 to 0.500000000000"
    assert enclosing(flint.arb(0.25)).radius == 0


@pytest.mark.parametrize(
    ("ball", "radius"),
    [
        (WIDE, math.inf),
        (ZERO, 0.0),
        (flint.arb(1), 0.0),
        (flint.arb(0, 0.1), math.inf),
        (flint.arb.nan(), math.nan),
    ],
)
def test_what_a_ball_does_not_decide_fails(ball: Any, radius: float):
    """On an end, across it, or nowhere."""
    found = enclosing(ball)
    assert found.own == "failed"
    assert math.isnan(found.radius) if math.isnan(radius) else found.radius >= min(radius, 0.5)
    assert found.problems[0].startswith("enclosure 'n' fails: ")


@pytest.mark.parametrize(("twin", "rejected"), [(WIDE, False), (flint.arb.nan(), False), (HALF, False), (1, True)])
def test_a_false_twin_is_rejected_only_by_balls_beyond(twin: Any, rejected: bool):
    assert enclosing(FINE, twin).false_twins[0].rejected == rejected
    assert enclosing(FINE, twin).own == ("enclosed" if rejected else "failed")


def test_an_enclosure_that_is_refused_fails_the_claim():
    def run(check: Check) -> None:
        wide = [[flint.arb(0, 1)]]
        check.enclosure("n", [wide], pctheory.decided_inertia, within=(0.0, 1.0), twins={})

    assert judge(run)[1][0].startswith("ArithmeticError: decided_inertia: not decided")


def test_a_certificate_that_does_not_hold():
    def run(check: Check) -> None:
        certificates = [Certificate(True), Certificate(False)]
        check.proof("n", certificates, twins={"proves anything": Certificate(True)})

    assert judge(run) == (
        "failed",
        ["proof 'n' fails: a remainder is not zero", "false twin 'proves anything' is accepted"],
    )


def test_a_check_without_false_twin_fails():
    def run(check: Check) -> None:
        check.exact("", [1], lambda c: 0, twins={})

    assert judge(run) == ("failed", ["the check has no false twin, so nothing shows that it can fail"])


def test_a_check_without_evidence_fails():
    assert judge(lambda check: None)[0] == "failed"
    assert judge(lambda check: check.false_twin("wrong", True)) == ("failed", ["no evidence was recorded"])


def test_an_exception_is_a_failure_with_its_traceback():
    def run(check: Check) -> None:
        check.exact("", [1], lambda c: 0, twins={"wrong": lambda c: 1})
        raise ZeroDivisionError("by nothing")

    found = verdict(made(run))
    assert (found.own, found.problems) == ("failed", ["ZeroDivisionError: by nothing"])
    assert traceback.format_exc() == "NoneType: None\n"  # handled
    assert "in run" in found.error
    assert found.evidence[0].holds  # what was recorded before it is kept


@pytest.mark.parametrize(
    ("caught", "line"),
    [(ValueError("first\nsecond"), "ValueError: first"), (AssertionError(), "AssertionError: ")],
)
def test_an_exception_in_one_line(caught: Exception, line: str):
    def run(check: Check) -> None:
        raise caught

    assert judge(run)[1] == [line]


def test_an_exception_in_a_twin_is_a_failure():
    def run(check: Check) -> None:
        check.exact("", [1], lambda c: 0, twins={"wrong": lambda c: 1 // 0})

    own, problems = judge(run)
    assert (own, problems[0].partition(":")[0]) == ("failed", "ZeroDivisionError")


def test_an_interrupt_is_not_swallowed():
    def run(check: Check) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verdict(made(run))


@pytest.mark.parametrize(
    ("method", "status"), [("counterexample", "refuted"), ("difference", "differs"), ("search", "open")]
)
def test_results_that_are_no_confirmation(method: str, status: str):
    """They decide the status, whatever confirmation stands beside them."""

    def run(check: Check) -> None:
        check.exact("the cases that hold", [1], lambda c: 0, twins={"wrong": lambda c: 1})
        getattr(check, method)("n", 3 if method == "search" else True, "the numbers")

    found = verdict(made(run))
    assert (found.own, found.problems) == (status, [])
    assert found.evidence[-1].detail == "the numbers"


@pytest.mark.parametrize("method", ["counterexample", "difference"])
def test_a_counterexample_that_is_none_fails(method: str):
    def run(check: Check) -> None:
        getattr(check, method)("n", False, "the numbers")
        check.false_twin("wrong", True)

    assert judge(run) == ("failed", [f"{method} 'n' fails: the numbers"])


def test_a_refutation_outranks_a_difference_and_that_a_search():
    def run(check: Check) -> None:
        check.search("", 1, "")
        check.difference("", True, "")
        check.false_twin("wrong", True)

    assert judge(run)[0] == "differs"
    assert judge(lambda check: (run(check), check.counterexample("", True, "")))[0] == "refuted"


def test_what_a_verdict_sums_up():
    def run(check: Check) -> None:
        check.exact("", [1, 2], lambda c: 0, twins={"wrong": lambda c: 1})
        check.property("", range(300), lambda c: c * 1e-16, twins={"off": lambda c: 0.5}, seed=7)
        check.property("", [1], lambda c: 1e-15, twins={})

    found = verdict(made(run))
    assert (found.cases, found.worst) == (303, pytest.approx(299e-16))
    assert [(e.kind, e.cases, e.seed) for e in found.evidence[:2]] == [("exact", 2, None), ("property", 300, 7)]
    assert [(t.name, t.rejected, t.cases, t.worst) for t in found.false_twins] == [
        ("wrong", True, 2, None),
        ("off", True, 300, 0.5),
    ]
    assert 0 <= sum(e.seconds for e in found.evidence) <= found.seconds
    assert verdict(made(lambda check: None)).worst is None


# Effective statuses


def test_effective_status_is_the_weakest_underneath():
    own = {"a": "proved", "b": "exact", "c": "tested", "d": "proved"}
    uses = {"a": ("b",), "b": ("c",), "c": (), "d": ()}
    assert effective_statuses(own, uses) == {"a": "tested", "b": "tested", "c": "tested", "d": "proved"}


@pytest.mark.parametrize("weak", ["open", "differs", "refuted", "failed"])
def test_what_rests_on_nothing_firm(weak: str):
    uses = {"top": ("middle", "firm"), "middle": ("base",), "base": (), "firm": ()}
    own = {"top": "proved", "middle": "exact", "base": weak, "firm": "proved"}
    assert effective_statuses(own, uses) == {"top": weak, "middle": weak, "base": weak, "firm": "proved"}


def test_effective_status_does_not_flow_downwards():
    assert (
        effective_statuses({"top": "failed", "base": "proved"}, {"top": ("base",), "base": ()})["base"] == "proved"
    )


# Collecting


def modules(*claims: Claim) -> list[SimpleNamespace]:
    return [SimpleNamespace(**{f"claim_{i}": made}) for i, made in enumerate(claims)]


def test_claims_are_found_by_key():
    one, other = made(key="b/one", uses=("a/other",)), made(key="a/other")
    found = claims_of(modules(one, other))
    assert list(found.items()) == [("a/other", other), ("b/one", one)]
    assert found["b/one"].paper == "b"


def test_duplicate_key():
    with pytest.raises(ValueError, match=r"claim paper/claim is defined twice; keys are unique"):
        claims_of(modules(made(), made()))


def test_unknown_use():
    with pytest.raises(ValueError, match=r"claim a/b uses a/nothing, which does not exist"):
        claims_of(modules(made(key="a/b", uses=("a/nothing",))))


@pytest.mark.parametrize(
    ("uses", "circle"),
    [
        ({"a/a": ("a/a",)}, "a/a -> a/a"),
        ({"a/a": ("a/b",), "a/b": ("a/a",)}, "a/a -> a/b -> a/a"),
        ({"a/top": ("a/a",), "a/a": ("a/b",), "a/b": ("a/c",), "a/c": ("a/a",)}, "a/a -> a/b -> a/c -> a/a"),
    ],
)
def test_circles(uses: dict[str, tuple[str, ...]], circle: str):
    with pytest.raises(ValueError, match=f"claims use one another in a circle: {circle}$"):
        claims_of(modules(*(made(key=key, uses=used) for key, used in uses.items())))


def test_two_ways_to_the_same_claim_are_no_circle():
    uses = {"a/top": ("a/left", "a/right"), "a/left": ("a/base",), "a/right": ("a/base",), "a/base": ()}
    assert set(claims_of(modules(*(made(key=key, uses=used) for key, used in uses.items())))) == set(uses)


@pytest.mark.parametrize("key", ["claim", "a/b/c", "Paper/claim", " a/b", ""])
def test_malformed_key(key: str):
    with pytest.raises(ValueError, match=f"claim key is '{key}', expected 'paper/what-it-says' in lower case"):
        made(key=key)


def test_unknown_attribution(unhooked):
    with pytest.raises(ValueError, match=r"claim paper/claim: attribution is 'rumour', expected one of"):
        made(attribution="rumour")


SOURCE = '''
from pctheory.claims import claim

@claim(
    key="{paper}/one", statement=r"""two
        lines of $\\alpha$""", hypotheses=(), attribution="own", source="derived " "here",
)
def one(check):
    check.exact("", [1], lambda c: 0, twins={{"wrong": lambda c: 1}})
'''


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Two files of claims."""
    folder = tmp_path / "paper_checks"
    folder.mkdir()
    (folder / "z_2025.py").write_text(SOURCE.format(paper="z-2025"))
    (folder / "a_2025.py").write_text(SOURCE.format(paper="a-2025"))
    return tmp_path


def test_index_without_importing(checkout: Path):
    (checkout / "paper_checks" / "a_2025.py").write_text("raise SystemExit\n" + SOURCE.format(paper="a-2025"))
    expected = {"statement": r"two lines of $\alpha$", "attribution": "own", "source": "derived here"}
    assert claim_index(checkout) == [
        {"key": "a-2025/one", **expected, "file": "paper_checks/a_2025.py"},
        {"key": "z-2025/one", **expected, "file": "paper_checks/z_2025.py"},
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def broken(:", r"paper_checks/a_2025.py, line 1: .*; correct it"),
        ("KEY = 'a/b'\nclaim(key=KEY)", r"paper_checks/a_2025.py, line 2: a claim's key is no literal string"),
        ("claim(key='a/b', statement='')", r"paper_checks/a_2025.py, line 1: a claim's attribution is no literal"),
    ],
)
def test_index_of_a_damaged_file(checkout: Path, text: str, message: str):
    (checkout / "paper_checks" / "a_2025.py").write_text(text)
    with pytest.raises(ValueError, match=message):
        claim_index(checkout)


@pytest.mark.parametrize("collect", [claim_index, collect_claims])
def test_no_checkout(collect, tmp_path: Path):
    with pytest.raises(
        ValueError, match=r"no paper_checks/ folder in .*; run inside a checkout of pctheory or pass"
    ):
        collect(tmp_path)
