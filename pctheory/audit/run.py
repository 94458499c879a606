r"""The audit: every fault planted in a copy of the checkout, and who notices.

Of each fault the claims and tests of the catalogue are tried, in order, until a claim and a test have noticed; then
others that depend on the faulty file, the cheapest claims first. All run in fresh processes with the copy first on
the path. Without a fault every one of them must pass: those that no fault may blame are found out before. Outcomes
are kept, one JSON file for each fault, and hold as long as the sources behind all that was tried are unchanged; so
do those in `outcomes.json` beside this file, which come with the checkout.
"""

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..claims import claim_index
from ..compiled_code import STORE
from ..figures.sources import SourceTree
from ..files import writable_folder, write_json
from ..processes import Job, Raised, one_thread, outcomes, refuse_limits
from .catalogue import Fault
from .copies import faulty_copy, plain_copy

Noticed = tuple[str, str]  # who noticed, and what
Watcher = Callable[..., Noticed | None]
PYTEST_FAILED, PYTEST_BROKEN = 1, 2
# What is left to be tried once the catalogue's own have not noticed.
MOST_OTHER_CLAIMS, MOST_OTHER_TESTS = 6, 4
RECORDED = Path(__file__).with_name("outcomes.json")


@dataclass(frozen=True)
class Caught:
    """What came of a fault: the claims and the tests that noticed, why, and how long it took.

    tried: claims and tests whose sources the outcome rests on. kept: whether it is that of an earlier run.
    """

    name: str
    claims: tuple[str, ...]
    tests: tuple[str, ...]
    reasons: tuple[str, ...]
    seconds: float
    tried: tuple[str, ...] = ()
    kept: bool = False

    @property
    def is_caught(self) -> bool:
        """By a claim and a test."""
        return bool(self.claims and self.tests)


@dataclass
class Audit:
    """A checkout to be audited.

    seconds: how long each claim takes, as far as that is known. limit: seconds for one process. out: where outcomes
    and compiled code are kept. control: whether all that the catalogue names must first pass without a fault; but
    for the `sound` claims, known to hold. recompute: whether faults are planted that were before.
    """

    root: Path
    out: Path
    seconds: Mapping[str, float] = field(default_factory=dict)
    sound: frozenset[str] = frozenset()
    limit: float = 300.0
    control: bool = True
    recompute: bool = False

    def __post_init__(self) -> None:
        refuse_limits(1, self.limit)
        self._claim_files = {row["key"]: row["file"] for row in claim_index(self.root)}
        self._running: set[subprocess.Popen[str]] = set()
        self._lock, self._over = threading.Lock(), False
        self._digests: dict[str, dict[str, str]] = {}
        self._tree = SourceTree(self.root, self.root / "pctheory")

    def outcomes(
        self, faults: Sequence[Fault], jobs: int, started: Callable[[str], None] = lambda name: None
    ) -> Generator[Caught, None, None]:
        """What comes of each fault that is not equivalent, as they are done, `jobs` at a time.

        Raises ValueError for a claim or a test that fails without any fault, or does not exist.
        """
        refuse_limits(jobs, self.limit)
        waiting = []
        for fault in faults:
            self._check(fault)
            if not fault.equivalent:
                if self.recompute or (found := self._kept(fault)) is None:
                    waiting.append(fault)
                else:
                    yield found
        if not waiting:
            return
        writable_folder(self.out)
        with tempfile.TemporaryDirectory(prefix="pctheory-audit-") as folder:
            plain = plain_copy(self.root, Path(folder) / "plain")
            with ThreadPoolExecutor(jobs) as pool, self._processes_ended():
                for part in self._units(waiting, plain, jobs):
                    with closing(outcomes(deque(part), pool, jobs, lambda job: started(job.what))) as done:
                        for _, made in done:
                            if isinstance(made, Raised):
                                raise ValueError(made.error.partition(": ")[2] or made.error)
                            if isinstance(made, Caught):
                                yield made

    def known(self, faults: Iterable[Fault]) -> dict[str, Caught]:
        """What earlier runs, here or recorded with the checkout, found of these faults, if it still holds."""
        found = ((fault.name, self._kept(fault)) for fault in faults if not fault.equivalent)
        return {name: caught for name, caught in found if caught is not None}

    def record(self, faults: Iterable[Fault], file: Path = RECORDED) -> None:
        """Write what is known of these faults into `file`, which comes with the checkout."""
        by_name = {fault.name: fault for fault in faults}
        known = self.known(by_name.values())
        write_json(file, {name: self._content(by_name[name], caught) for name, caught in known.items()})

    def _units(self, faults: Sequence[Fault], plain: Path, jobs: int) -> Iterator[list[Job[str]]]:
        """First everything without a fault, then each fault."""
        claims = list(dict.fromkeys(key for fault in faults for key in fault.claims if key not in self.sound))
        tests = sorted({test for fault in faults for test in fault.tests})
        controls: list[tuple[str, Watcher, list[str]]] = []
        for i in range(jobs):
            controls += [("claims", self.watched, claims[i::jobs]), ("tests", self.tested, tests[i::jobs])]
        if self.control:
            yield [Job(f"no fault: {n}", self._control, (plain, run, items)) for n, run, items in controls if items]
        yield [Job(fault.name, self._outcome, (fault, plain)) for fault in faults]

    def _check(self, fault: Fault) -> None:
        """Raises ValueError for a fault that does not fit, and for claims and tests that do not exist."""
        file = self.root / "pctheory" / fault.file
        if not file.is_file():
            raise ValueError(
                f"fault {fault.name}: there is no file {fault.file} in pctheory/; correct the catalogue"
            )
        fault.planted(file.read_text("utf-8"))
        for key in fault.claims:
            if key not in self._claim_files:
                raise ValueError(f"fault {fault.name}: there is no claim {key}; correct the catalogue")
        for test in fault.tests:
            if not (self.root / test.partition("::")[0]).is_file():
                raise ValueError(f"fault {fault.name}: there is no test {test}; correct the catalogue")

    def _control(self, plain: Path, run: Watcher, items: Sequence[str]) -> bool:
        """True; raises ValueError if one of these fails without a fault."""
        marks = {item: self.out / f"control-{_digest(item)[:16]}.json" for item in items}
        left = [item for item in items if _read(marks[item]) != self._digest([item])]
        if left and (found := run(plain, left, 10 * self.limit)):
            raise ValueError(f"{found[0]} fails without any fault ({found[1]}); correct it before the audit")
        for item in left:
            write_json(marks[item], self._digest([item]))
        return True

    def _outcome(self, fault: Fault, plain: Path) -> Caught:
        start, tried = time.perf_counter(), [*fault.claims, *fault.tests]
        with tempfile.TemporaryDirectory(prefix="faulty-", dir=plain.parent) as folder:
            copy = faulty_copy(plain, Path(folder) / "checkout", fault)
            watched = partial(self.watched, twins=fault.twins)
            claim = _in_time(watched, copy, fault.claims)
            if claim is None:
                claim = self._by_others(watched, self._other_claims(fault), (copy, plain), tried)
            test = _in_time(self.tested, copy, fault.tests)
            if test is None:
                test = self._by_others(self.tested, self._other_tests(fault), (copy, plain), tried)
        names = [(found[0],) if found else () for found in (claim, test)]
        reasons = tuple(found[1] if found else "" for found in (claim, test))
        seconds = round(time.perf_counter() - start, 2)
        caught = Caught(fault.name, names[0], names[1], reasons, seconds, tuple(tried))
        write_json(self.out / f"{fault.name}.json", self._content(fault, caught))
        return caught

    def _content(self, fault: Fault, caught: Caught) -> dict[str, Any]:
        """What is kept of an outcome."""
        rests_on = {"fault": fault.digest, "sources": self._digest([fault.module, *caught.tried])}
        return {name: value for name, value in asdict(caught).items() if name not in ("name", "kept")} | rests_on

    def _by_others(
        self, run: Watcher, others: Sequence[str], copies: tuple[Path, Path], tried: list[str]
    ) -> Noticed | None:
        """The first of others that notices, and does not without the fault."""
        faulty, plain = copies
        for other in others:
            tried.append(other)
            if (found := _in_time(run, faulty, [other])) and not run(plain, [other], 10 * self.limit):
                return found
        return None

    def _kept(self, fault: Fault) -> Caught | None:
        """The outcome of an earlier run, if fault and sources are those of then."""
        for content in (_read(self.out / f"{fault.name}.json"), (_read(RECORDED) or {}).get(fault.name)):
            if content is None or content.get("fault") != fault.digest:
                continue
            if content["sources"] == self._digest([fault.module, *content["tried"]]):
                lists = {name: tuple(content[name]) for name in ("claims", "tests", "reasons", "tried")}
                return Caught(fault.name, **lists, seconds=float(content["seconds"]), kept=True)
        return None

    def _digest(self, items: Iterable[str]) -> str:
        """The sha256 of the sources behind claims, tests and modules."""
        return _digest(json.dumps(self._sources(items)))

    def _sources(self, items: Iterable[str]) -> dict[str, str]:
        """File and digest of everything behind claims, tests and modules."""
        found: dict[str, str] = {}
        for item in items:
            found |= self._sources_of(self._module(item))
        return dict(sorted(found.items()))

    def _module(self, item: str) -> str:
        """The module of a claim or a test."""
        file = self._claim_files.get(item, item.partition("::")[0])
        return file.removesuffix(".py").replace("/", ".")

    def _sources_of(self, module: str) -> dict[str, str]:
        with self._lock:
            if module not in self._digests:
                found = self._tree.sources(module)
                self._digests[module] = {
                    str(file.relative_to(self.root)): found.digests[name] for name, file in found.files.items()
                }
            return self._digests[module]

    def _other_claims(self, fault: Fault) -> list[str]:
        """Claims that depend on the file, the cheapest first; those of unknown cost last."""
        mine = f"pctheory/{fault.file}"
        keys = [key for key in self._claim_files if key not in fault.claims and mine in self._sources([key])]
        return sorted(keys, key=lambda key: self.seconds.get(key, float("inf")))[:MOST_OTHER_CLAIMS]

    def _other_tests(self, fault: Fault) -> list[str]:
        """Files of tests that depend on the file, those of its name first."""
        mine, stem = f"pctheory/{fault.file}", Path(fault.file).parts[0].removesuffix(".py")
        files = [f"tests/{file.name}" for file in (self.root / "tests").glob("test_*.py")]
        quick = [file for file in files if not re.search("figures|fuzz|cluster|lost", file)]
        tests = [file for file in quick if mine in self._sources([file])]
        return sorted(tests, key=lambda file: (stem not in file, file))[:MOST_OTHER_TESTS]

    def watched(
        self, copy: Path, keys: Sequence[str], limit: float | None = None, *, twins: bool = False
    ) -> Noticed | None:
        """The first of the claims that notices, and why; `twins`: false ones are tried too. Raises TimeoutError."""
        if not keys:
            return None
        status, output = self._run(copy, ["pctheory.audit.watch", *(["--twins"] if twins else []), *keys], limit)
        lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        if lines and Path(lines[0]["package"]) != (copy / "pctheory").resolve():
            raise ValueError(f"the package at {lines[0]['package']} was run, expected the copy in {copy}")
        for line in lines[1:]:
            if line["reason"]:
                return line["key"], line["reason"]
        if status:  # the package cannot be imported, or the process died
            return keys[max(len(lines) - 1, 0)], _last_line(output)
        return None

    def tested(self, copy: Path, tests: Sequence[str], limit: float | None = None) -> Noticed | None:
        """The first of the tests that fails, and how. Raises TimeoutError."""
        if not tests:
            return None
        options = ["-x", "-q", "-rfE", "--tb=no", "-m", "not slow", "-p", "no:cacheprovider"]
        status, output = self._run(copy, ["pytest", *options, *tests], limit)
        if status not in (0, PYTEST_FAILED, PYTEST_BROKEN) and status > 0:
            raise ValueError(f"pytest ended with status {status} on {' '.join(tests)}: {_last_line(output)}")
        for line in output.splitlines():
            word, _, rest = line.partition(" ")
            if word in ("FAILED", "ERROR") and rest.startswith("tests/"):
                name, _, reason = rest.partition(" - ")
                return name, reason or word.lower()
        return (tests[0], _last_line(output)) if status else None  # it cannot be imported, or the process died

    def _run(self, copy: Path, module: Sequence[str], limit: float | None) -> tuple[int, str]:
        """Exit status and output of `python -m module` in the copy. Raises TimeoutError."""
        command = [sys.executable, "-P", "-m", *module]
        environment = os.environ | {
            "PYTHONPATH": str(copy),
            STORE: str((self.out / "compiled").resolve()),
            "COLUMNS": "400",  # pytest cuts what it says of a failure to the width of the terminal
        }
        one_thread(environment)
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        seconds = self.limit if limit is None else limit
        self._go_on()
        with subprocess.Popen(command, cwd=copy, env=environment, **pipes) as process:
            self._running.add(process)
            try:
                output, _ = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                raise TimeoutError(f"{' '.join(module)}: not done after {seconds:g} s") from None
            finally:
                self._running.discard(process)
        self._go_on()
        return process.returncode, output

    def _go_on(self) -> None:
        """Raises RuntimeError once the audit is over: a process that was ended says nothing."""
        if self._over:
            raise RuntimeError("the audit is over")

    @contextlib.contextmanager
    def _processes_ended(self) -> Iterator[None]:
        """However this is left, no process is left behind."""
        self._over = False
        try:
            yield
        finally:
            self._over = True
            for process in list(self._running):
                process.kill()


def audit_summary(faults: Iterable[Fault], found: Mapping[str, Caught]) -> dict[str, Any]:
    """What a ledger keeps of an audit: every fault, and what came of those that were tried."""
    return {
        "seconds": round(sum(caught.seconds for caught in found.values()), 1),
        "faults": [_summary(fault, found.get(fault.name)) for fault in faults],
    }


def _summary(fault: Fault, caught: Caught | None) -> dict[str, Any]:
    return {
        "name": fault.name,
        "module": fault.module,
        "old": fault.old,
        "new": fault.new,
        "equivalent": fault.equivalent,
        "tried": caught is not None,
        "claims": list(caught.claims) if caught else [],
        "tests": list(caught.tests) if caught else [],
        "reasons": list(caught.reasons) if caught else [],
        "seconds": caught.seconds if caught else 0.0,
    }


def _in_time(run: Watcher, copy: Path, items: Sequence[str]) -> Noticed | None:
    """Who noticed; no one, if that takes longer than it may."""
    try:
        return run(copy, items)
    except TimeoutError:
        return None


def _last_line(output: str) -> str:
    lines = output.strip().splitlines()
    return lines[-1] if lines else "it printed nothing"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read(file: Path) -> Any:
    """The JSON in the file; None where there is none that is whole."""
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
