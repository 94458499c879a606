"""The command line: `pctheory list`, `check`, `derive`, `figure`, `audit`, `report` and `reproduce`.

Claims and figures are found by folder (`--root`, default: the current directory). Heavy imports stand inside the
commands, so that `--help` and `list` answer at once.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pctheory

from .compiled_code import STORE
from .files import is_folder, temporary, write_atomically
from .names import no_such
from .processes import cores, one_thread, refuse_limits, work_through
from .stopping import StoppedError, stoppable

if TYPE_CHECKING:
    from .checking import ClaimRun
    from .claims import Claim, Verdict
    from .figures import Failure, Figure, RunResult
    from .figures.run import FigureRun
    from .terminal import Bar

PRESETS = ("quick", "default", "paper")
DEFAULT_OUT = Path("figures/output")
LEDGER = "claims.json"
# What `derive` offers: the name on the command line and the function of pctheory.induction.
THEOREMS = {
    "rescaling": "rescaling_theorem",
    "rescaling-sum": "rescaling_sum",
    "errors": "equilibrium_errors",
    "envelope": "envelope",
    "activity-hessian": "activity_hessian_factorisation",
    "determinant": "determinant",
    "energy-below-loss": "energy_below_loss",
    "error-hessian": "error_hessian",
    "posterior": "posterior",
    "saddle-order": "ray_order",
    "loss-at-origin": "loss_at_origin",
    "zero-rank-saddles": "zero_rank_hessian",
    "minima": "minimum_hessian",
    "critical-points": "critical_points",
    "strict-saddles": "strict_saddles",
    "taylor": "taylor_model",
    "trust-region": "trust_region_ball",
    "weight-gradient": "weight_gradient_readings",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    0: all is well; 1: a claim or figure fails; 2: bad input; 130, 143, 129: ended by Ctrl-C, SIGTERM, SIGHUP.
    """
    given = _parser().parse_args(arguments)
    one_thread(os.environ)  # before NumPy and JAX start
    if hasattr(given, "jobs"):
        os.environ.setdefault(STORE, str(given.root.absolute() / ".jax_cache"))
    if getattr(given, "jobs", 0) is None and getattr(given, "scheduler", None) is None:
        given.jobs = cores()
    with stoppable():
        return _ended(given)


def _ended(given: argparse.Namespace) -> int:
    """Run the command and say in a line what ended it."""
    try:
        return int(given.command(given))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that closing stdout does not complain
        return 1
    except (ValueError, TypeError, ArithmeticError, MemoryError, OSError, ImportError) as error:
        print(f"pctheory: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except StoppedError as stopped:
        print(
            f"pctheory: {stopped}: what is done is kept, and the same command goes on from there", file=sys.stderr
        )
        return stopped.status


def _path(name: str) -> Path:
    """Of a file or folder; not the current one where a variable of the shell was empty."""
    if not name:
        raise argparse.ArgumentTypeError("expected a name, got an empty one")
    return Path(name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pctheory", description="Theory of linear predictive-coding networks: claims checked, figures drawn."
    )
    parser.add_argument("--version", action="version", version=f"pctheory {pctheory.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        made.set_defaults(command=run)
        return made

    listing = command("list", _list, "list every claim and figure")
    check = command("check", _check, "check claims; exit 1 if one fails")
    check.add_argument("keys", nargs="*", metavar="KEY", help="claims to check, with all they use (default: all)")
    check.add_argument("--paper", metavar="P", help="only the claims of this paper, for example saddles-2024")
    check.add_argument("--json", type=_path, metavar="FILE", help="write the ledger, with all evidence, to FILE")
    check.add_argument("--compare", type=_path, metavar="OLD", help="say what changed since the ledger OLD")
    derive = command(
        "derive", _derive, "print proofs at every depth, and the explicit derivation for scalar chains"
    )
    derive.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(THEOREMS)}, chain (default: rescaling chain)"
    )
    derive.add_argument("--depth", type=int, default=3, help="weight layers of the scalar chain (default: 3)")
    derive.add_argument("--dimensions", type=int, nargs=3, metavar="N", help="concrete widths instead of symbols")
    derive.add_argument("--latex", action="store_true", help="LaTeX instead of text")
    figure = command("figure", _figure, "draw figures; exit 1 if one fails")
    figure.add_argument("keys", nargs="*", metavar="KEY", help="figures to draw (default: all)")
    audit = command("audit", _audit, "plant faults in the library; exit 1 if no claim or no test notices one")
    audit.add_argument("names", nargs="*", metavar="NAME", help="faults to plant (default: all)")
    audit.add_argument("--quick", action="store_true", help="only a handful of faults, checks taken as sound")
    audit.add_argument(
        "--ledger",
        type=_path,
        metavar="FILE",
        help="write what came of it into this ledger; claims that it shows to hold are not tried first",
    )
    audit.add_argument(
        "--record", action="store_true", help="keep what came of it in the package, for those with the same code"
    )
    audit.add_argument("--recompute", action="store_true", help="plant also what was planted before")
    audit.add_argument(
        "--out", type=_path, default=DEFAULT_OUT / "audit", metavar="DIR", help="where outcomes are kept"
    )
    report = command("report", _report, "build the site that shows what was verified, from recorded results")
    default = DEFAULT_OUT / LEDGER
    report.add_argument("--ledger", type=_path, default=default, metavar="FILE", help=f"(default: {default})")
    report.add_argument(
        "--figures", type=_path, default=DEFAULT_OUT, metavar="DIR", help=f"what was drawn (default: {DEFAULT_OUT})"
    )
    report.add_argument(
        "--out", type=_path, default=Path("report"), metavar="DIR", help="replaced (default: report)"
    )
    reproduce = command("reproduce", _reproduce, "check every claim, draw every figure and build the report")
    for made in (figure, reproduce):
        made.add_argument("--preset", default="default", help=f"{', '.join(PRESETS)} (default: default)")
        made.add_argument("--out", type=_path, default=DEFAULT_OUT, metavar="DIR", help=f"(default: {DEFAULT_OUT})")
        made.add_argument("--data-dir", type=_path, metavar="DIR", help="folder with MNIST and the like")
        made.add_argument("--recompute", action="store_true", help="ignore what is cached")
    for made in (check, figure, audit, reproduce):
        _add_limits(made)
    for made in (check, figure, reproduce):
        made.add_argument(
            "--scheduler", metavar="ADDRESS", help="compute on the Dask cluster at tcp://HOST:PORT instead of here"
        )
    for made in (listing, check, figure, audit, report, reproduce):
        made.add_argument("--root", type=_path, default=Path(), metavar="DIR", help="the checkout (default: here)")
    return parser


def _add_limits(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--jobs", type=int, metavar="N", help="processes (default: one per core, or what the cluster has)"
    )
    made.add_argument(
        "--time-limit",
        type=float,
        default=3600.0,
        metavar="S",
        help="seconds for one claim, one unit of a figure or one fault in a process of its own (default: 3600)",
    )


@contextmanager
def _executor(given: argparse.Namespace) -> Iterator[tuple[Executor | None, int]]:
    """The cluster asked for, or None for processes here; and how many work. Bad limits are refused before."""
    refuse_limits(1 if given.jobs is None else given.jobs, given.time_limit)
    if given.scheduler is None:
        yield None, given.jobs
        return
    from .cluster import cluster

    with cluster(given.scheduler) as (executor, threads):
        if not threads:
            print(f"pctheory: {given.scheduler} has no worker yet; waiting for one", file=sys.stderr, flush=True)
        yield executor, given.jobs or max(threads, 1)


@contextmanager
def _warm(given: argparse.Namespace, wanted: bool = True) -> Iterator[Executor | None]:
    """Processes that import all checks while this one does; None where a cluster works, or one process."""
    if not wanted or given.scheduler is not None or given.jobs <= 1:
        yield None
        return
    from .claims import collect_claims
    from .processes import process_pool

    with process_pool(given.jobs, warm_up=partial(collect_claims, given.root)) as pool:
        yield pool


def _list(given: argparse.Namespace) -> int:
    from .claims import claim_index
    from .figures.index import figure_index

    claims, figures = claim_index(given.root), figure_index(given.root)
    width = max((len(key) for key in [*(c["key"] for c in claims), *(f.key for f in figures)]), default=0)
    print(f"{len(claims)} claims")
    for claim in claims:
        print(f"  {claim['key']:{width}}  {claim['attribution']:13}  {claim['file']}")
    print(f"\n{len(figures)} figures")
    for figure in figures:
        print(f"  {figure.key:{width}}  {figure.source:13}  {figure.title}")
    return 0


def _check(given: argparse.Namespace) -> int:
    from .claims import STRENGTH, collect_claims
    from .ledger import ledger_changes, read_ledger, write_ledger
    from .terminal import Bar

    with _warm(given, not given.keys and given.paper is None) as ready:
        claims = collect_claims(given.root)
        old = None if given.compare is None else read_ledger(given.compare)
        if given.json is not None:
            _require_writable(given.json)
        chosen = _chosen(claims, given.keys, given.paper)
        with _executor(given) as (executor, count), Bar("checking claims", len(chosen)) as bar:
            run = _claim_run(chosen, given, executor, bar)
            if executor is None:  # claims are long: what a worker waits for is not begun
                work_through([run], None, min(count, len(chosen)), ahead=1, ready=ready)
            else:
                work_through([run], executor, count)
    ledger, status = _ledger(run, given), _judgement(run.verdicts())
    if given.json is not None:
        write_ledger(given.json, _with_audit(ledger, given.root, DEFAULT_OUT / "audit"))
    if old is not None:
        changes = ledger_changes(old, ledger, STRENGTH, existing=claims)
        print(f"\nsince {given.compare}, of {old['started']}: {len(changes) or 'no'} changes")
        print("".join(f"  {change}\n" for change in changes), end="")
        for name, version in ledger["versions"].items():
            if old["versions"].get(name) != version:
                print(f"  other  version of {name}: was {old['versions'].get(name)}, is {version}")
    return status


def _claim_run(
    claims: Mapping[str, "Claim"],
    given: argparse.Namespace,
    executor: Executor | None,
    bar: "Bar",
    when_done: Callable[["ClaimRun"], object] = lambda run: None,
) -> "ClaimRun":
    from .checking import ClaimRun
    from .terminal import ClaimProgress

    return ClaimRun(
        claims,
        given.root,
        ClaimProgress(bar, len(claims)),
        limit=given.time_limit,
        initializer=pctheory.enable_x64,
        with_code=executor is not None,
        when_done=when_done,
    )


def _ledger(run: "ClaimRun", given: argparse.Namespace) -> dict[str, Any]:
    """What a run of checks came to, with all evidence."""
    from .checkout import versions
    from .figures.sources import COMPUTING
    from .ledger import ledger_of
    from .report.records import records_of

    return ledger_of(
        records_of(run.verdicts(), given.root),
        pctheory=pctheory.__version__,
        versions=versions(*COMPUTING),
        started=run.started_at,
        seconds=run.seconds,
    )


def _with_audit(ledger: dict[str, Any], root: Path, out: Path) -> dict[str, Any]:
    """The ledger, with what audits found as far as it still holds, if any did."""
    from .audit.catalogue import catalogue
    from .audit.run import Audit, audit_summary
    from .ledger import signed

    faults = catalogue().values()
    known = Audit(root, out).known(faults)
    return signed(ledger | {"audit": audit_summary(faults, known)}) if known else ledger


def _chosen(claims: Mapping[str, "Claim"], keys: Sequence[str], paper: str | None) -> dict[str, "Claim"]:
    """The claims with these keys, or of this paper, or all; and whatever they use."""
    papers = sorted({claim.paper for claim in claims.values()})
    if paper is not None and paper not in papers:
        raise ValueError(f"--paper: no claims of {paper!r}; there are {', '.join(papers)}")
    for key in keys:
        if key not in claims:
            raise no_such("KEY: no claim", key, claims, otherwise="`pctheory list` shows them all")
    wanted = [key for key in keys or claims if paper is None or claims[key].paper == paper]
    if not wanted:
        raise ValueError(f"KEY: none of the claims named is of {paper}")
    chosen: dict[str, Claim] = {}
    while wanted:
        key = wanted.pop()
        chosen[key] = claims[key]
        wanted += [used for used in claims[key].uses if used not in chosen]
    return dict(sorted(chosen.items()))


def _judgement(verdicts: Sequence["Verdict"]) -> int:
    """Print the table and what failed; the exit status."""
    width = max(len(v.claim.key) for v in verdicts)
    print(f"{'claim':{width}}  status    effective  evidence                  cases  worst error  twins     time")
    for v in verdicts:
        kinds = ", ".join(dict.fromkeys(e.kind for e in v.evidence)) or "none"
        radius = "-" if v.radius is None else f"rad {v.radius:.1e}"
        worst = radius if v.worst is None else f"{v.worst:.1e}"
        twins = f"{sum(t.rejected for t in v.false_twins)}/{len(v.false_twins)}"
        print(
            f"{v.claim.key:{width}}  {v.own:8}  {v.effective:9}  {kinds:24}  {v.cases:5}  {worst:>11}  "
            f"{twins:>5}  {v.seconds:6.1f} s"
        )
    failed = [v for v in verdicts if v.own == "failed"]
    for v in failed:
        for problem in v.problems:
            print(f"{v.claim.key}: {problem}", file=sys.stderr)
        if v.error:
            print(v.error, file=sys.stderr)
    counts = ", ".join(
        f"{sum(v.own == s for v in verdicts)} {s}" for s in dict.fromkeys(sorted(v.own for v in verdicts))
    )
    print(f"{len(verdicts)} claims: {counts}; rad = relative radius of enclosures, twins = false twins rejected")
    return 1 if failed else 0


def _require_writable(path: Path) -> None:
    if is_folder(path):
        raise ValueError(f"--json: {path} is a folder; name a file")
    probe = temporary(path)
    try:
        probe.open("xb").close()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"--json: cannot write {path}: {error.strerror}; choose another file") from error


def _derive(given: argparse.Namespace) -> int:
    from . import induction

    for name in given.names:
        if name not in (*THEOREMS, "chain"):
            raise ValueError(f"NAME: no derivation {name!r}; there are {', '.join(THEOREMS)}, chain")
    if given.dimensions and (min(given.dimensions) < 1 or len(set(given.dimensions)) < 3):
        raise ValueError(f"--dimensions: got {given.dimensions}, expected three different positive widths")
    options = {"dimensions": tuple(given.dimensions)} if given.dimensions else {}
    for name in given.names or ("rescaling", "chain"):
        if name == "chain":
            certificate: Any = induction.scalar_chain(given.depth)
        else:
            certificate = getattr(induction, THEOREMS[name])(**options)
        print(certificate.latex() if given.latex else certificate.text())
        print()
    return 0


def _figure(given: argparse.Namespace) -> int:
    from .figures import collect_figures, selected
    from .terminal import Bar

    figures = selected(collect_figures(given.root), given.keys)
    with _executor(given) as (executor, count), Bar("figures") as bar:
        run = _figure_run(figures, given, executor, bar)
        work_through([run], executor, run.of_use(count))
    return _drawn(run.result(), len(figures), given.out)


def _figure_run(
    figures: Sequence["Figure[Any]"], given: argparse.Namespace, executor: Executor | None, bar: "Bar"
) -> "FigureRun":
    from .figures.run import FigureRun
    from .terminal import show_event

    return FigureRun.begun(
        figures,
        given.preset,
        given.out,
        data_dir=given.data_dir,
        recompute=given.recompute,
        time_limit=given.time_limit,
        initializer=pctheory.enable_x64,
        with_code=executor is not None,
        on_progress=partial(show_event, bar),
    )


def _drawn(result: "RunResult", count: int, out: Path) -> int:
    """Print what became of so many figures; the exit status."""
    _report_failures(result.failures, out / "failures.txt")
    for key, files in result.drawn.items():
        print(f"{key}: {files[0].parent / files[0].stem}.{{{','.join(sorted(f.suffix[1:] for f in files))}}}")
    print(f"{len(result.drawn)} of {count} figures drawn, {result.computed} units computed, {result.cached} cached")
    return 0 if result.ok else 1


def _report_failures(failures: Sequence["Failure"], log: Path) -> None:
    """One line on stderr for each error of a figure, however many units met it; the tracebacks go into `log`."""
    log.unlink(missing_ok=True)
    if not failures:
        return
    units: dict[tuple[str, str], list[str]] = {}
    for failure in failures:
        units.setdefault((failure.figure, failure.error), []).append(failure.unit or "drawing")
    for (figure, error), names in units.items():
        print(f"pctheory: {figure} ({'; '.join(names)}): {error}", file=sys.stderr)
    text = "\n".join(f"{f.figure} ({f.unit}) {f.parameters}\n{f.error}\n{f.traceback}" for f in failures)
    try:
        write_atomically(log, text.encode(errors="backslashreplace"))
    except OSError as error:
        print(f"pctheory: tracebacks are not kept: cannot write {log}: {error.strerror}", file=sys.stderr)
    else:
        print(f"pctheory: parameters and tracebacks are in {log}", file=sys.stderr)


def _audit(given: argparse.Namespace) -> int:
    from .audit.catalogue import catalogue, chosen
    from .audit.run import Audit
    from .ledger import read_ledger, write_ledger
    from .report.records import sound_claims

    faults = chosen(catalogue(), given.names, quick=given.quick)
    ledger = None if given.ledger is None else read_ledger(given.ledger)
    claims = [] if ledger is None else ledger["claims"]
    seconds, sound = {claim["key"]: claim["seconds"] for claim in claims}, sound_claims(claims, given.root)
    found = {}
    limits = {"control": not given.quick, "recompute": given.recompute}
    audit = Audit(given.root, given.out, seconds, sound, given.time_limit, **limits)
    started = partial(print, "started:", file=sys.stderr, flush=True)
    with closing(audit.outcomes(faults, given.jobs, started)) as stream:
        for caught in stream:
            found[caught.name] = caught
            verdict = "caught" if caught.is_caught else "GOT AWAY"
            by = ", ".join([*caught.claims, *caught.tests]) or "no one"
            kept = ", found before" if caught.kept else ""
            print(f"{caught.name}: {verdict}, noticed by {by} ({caught.seconds:.1f} s{kept})", flush=True)
    if ledger is not None:
        write_ledger(given.ledger, _with_audit(ledger, given.root, given.out))
    if given.record:
        audit.record(catalogue().values())
    equivalent = [fault for fault in faults if fault.equivalent]
    for fault in equivalent:
        print(f"{fault.name}: equivalent, {fault.equivalent}")
    away = [caught for caught in found.values() if not caught.is_caught]
    for caught in away:
        missing = " and ".join(kind for kind, by in (("claim", caught.claims), ("test", caught.tests)) if not by)
        print(f"pctheory: {caught.name}: no {missing} notices", file=sys.stderr)
    minutes = sum(os.times()[2:4]) / 60
    print(
        f"{len(found)} faults planted, {len(found) - len(away)} caught; {len(equivalent)} equivalent changes; "
        f"{minutes:.1f} minutes of processor time"
    )
    return 1 if away else 0


def _report(given: argparse.Namespace) -> int:
    from .ledger import read_ledger
    from .report.site import build_site

    ledger = read_ledger(given.ledger)
    print(build_site(given.root, ledger, given.figures, given.out, theorems=THEOREMS))
    return 0


def _reproduce(given: argparse.Namespace) -> int:
    from .claims import collect_claims
    from .figures import collect_figures
    from .files import writable_folder
    from .ledger import read_ledger, write_ledger
    from .report.site import build_site
    from .terminal import Bar

    def kept(run: "ClaimRun") -> None:
        write_ledger(file, _with_audit(_ledger(run, given), given.root, given.out / "audit"))

    with _warm(given) as ready:
        claims, figures = collect_claims(given.root), list(collect_figures(given.root).values())
        file = writable_folder(given.out) / LEDGER
        with _executor(given) as (executor, count), Bar("checking claims", len(claims)) as bar:
            drawing = _figure_run(figures, given, executor, bar)
            checking = _claim_run(claims, given, executor, bar, kept)
            work_through([checking, drawing], executor, count, ready=ready)
    claims_status = _judgement(checking.verdicts())
    print()
    figures_status = _drawn(drawing.result(), len(figures), given.out)
    print(f"ledger, with all evidence: {file}")
    site = build_site(given.root, read_ledger(file), given.out, given.out / "report", theorems=THEOREMS)
    print(f"report: {site}")
    return max(claims_status, figures_status)


if __name__ == "__main__":
    sys.exit(main())
