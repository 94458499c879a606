"""Claims in the checkout of the current directory, one after the other until one notices that something is wrong.

`python -m pctheory.audit.watch [--twins] KEY..` prints a line of JSON with the place of the package, then one for
each claim.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ..claims import TOLERANCE, Certificate, Check, Claim, claim_index, verdict
from ..compiled_code import share_compiled_code
from ..processes import enable_x64

T = TypeVar("T")


class NoticedError(Exception):
    """Evidence that does not hold."""


class Alarm(Check):
    """A check that ends at the first case that does not hold, and leaves out the false twins.

    What it notices makes the claim fail; a claim may fail for more.
    """

    def proof(self, name: str, certificates: Sequence[Certificate], *, twins: Mapping[str, Certificate]) -> None:
        """As `Check.proof`."""
        super().proof(name, certificates, twins={})

    def exact(
        self,
        name: str,
        cases: Iterable[T],
        remainder: Callable[[T], Any],
        *,
        twins: Mapping[str, Callable[[T], Any]],
    ) -> None:
        """As `Check.exact`, case by case."""
        for some in _one_by_one(cases):
            super().exact(name, some, remainder, twins={})

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
        """As `Check.property`, case by case."""
        for some in _one_by_one(cases):
            super().property(name, some, error, twins={}, seed=seed, bound=bound)

    def _record(self, kind: Any, name: str, holds: bool, cases: int, **more: Any) -> None:
        super()._record(kind, name, holds, cases, **more)
        if not self.evidence[-1].holds:
            raise NoticedError(f"{kind} '{name}' fails")


def _one_by_one(cases: Iterable[T]) -> Iterable[list[T]]:
    """Each case in a list; the empty list where there is none, which no check accepts."""
    return [[case] for case in cases] or [[]]


def noticed(key: str, file: str, *, twins: bool = False) -> str:
    """Why the claim of this key, in that file, fails, in one line; empty if it does not.

    twins: whether its false twins are put to the test as well, by which a judge that accepts everything is known.
    """
    try:
        module = importlib.import_module(Path(file).with_suffix("").as_posix().replace("/", "."))
        claim = next(c for c in vars(module).values() if isinstance(c, Claim) and c.key == key)
        if twins:
            return next(iter(verdict(claim).problems), "")
        check = Alarm()
        claim.run(check)
    except Exception as error:
        message = str(error).partition("\n")[0]
        return message if isinstance(error, NoticedError) else f"{type(error).__name__}: {message}"
    return "" if check.evidence else "no evidence was recorded"


def main(arguments: Sequence[str]) -> None:
    """Watch the claims of these keys in the current directory."""
    print(json.dumps({"package": str(Path(__file__).parents[1])}), flush=True)
    share_compiled_code()
    enable_x64()
    sys.path.insert(0, str(Path.cwd()))
    files = {row["key"]: row["file"] for row in claim_index(Path())}
    twins = "--twins" in arguments
    for key in arguments[twins:]:
        start = time.perf_counter()
        reason = noticed(key, files[key], twins=twins)
        print(json.dumps({"key": key, "reason": reason, "seconds": time.perf_counter() - start}), flush=True)
        if reason:
            return


if __name__ == "__main__":
    main(sys.argv[1:])
