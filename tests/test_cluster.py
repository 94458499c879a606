"""Units on workers that have pctheory and no checkout: a real cluster on this machine, real signals."""

import importlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.load import measured
from pctheory.checkout import Code, called
from pctheory.figures import UnitDone, UnitStarted, collect_figures, run_figures
from pctheory.figures.cache import UnitCache
from pctheory.figures.sources import WORKING, SourceTree
from pctheory.processes import BROKEN, InProcess

from .clusters import loopback_cluster
from .toy_figures import alive, checkout, drawn_bytes, entries, run, started_units, wait_until, worker_pids

distributed = pytest.importorskip("distributed")
cluster = importlib.import_module("pctheory.cluster").cluster

CLAIMS = """
import os
from pctheory.claims import claim
from tests.numbers import ONE

@claim(key="a/holds", statement="1 = 1", hypotheses=(), attribution="own", source="-")
def holds(check):
    check.property("equal", [1.0, 2.0], lambda c: ONE - 1.0, twins={"unequal": lambda c: ONE})

@claim(key="b/dies", statement="2 = 2", hypotheses=(), attribution="own", source="-", uses=("a/holds",))
def dies(check):
    os._exit(9)

@claim(key="b/raises", statement="3 = 3", hypotheses=(), attribution="own", source="-")
def raises(check):
    raise ArithmeticError("no answer")
"""


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
    """Two workers. A unit that kills its worker is given up by Dask at once, and tried again by us."""
    with loopback_cluster(tmp_path_factory.mktemp("workers")) as made:
        yield made


@pytest.fixture(scope="module")
def executor(dask):
    with cluster(dask.address) as (made, _):
        made._client.wait_for_workers(2, timeout=60)
        yield made


def values(result, unit: str = "seed 0") -> np.ndarray:
    with np.load(result.drawn["toy/sample"][2]) as drawn:
        return drawn[f"{unit}/values"]


# The same everywhere


def test_any_executor_gives_the_same_bytes(tmp_path, executor, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # a part of the data of this figure
    checkout(tmp_path)
    figures = list(collect_figures(tmp_path).values())
    spawn = importlib.import_module("multiprocessing").get_context("spawn")
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(1, spawn) as processes:
        ways = {"here": None, "loop": InProcess(), "threads": threads, "pool": processes, "cluster": executor}
        results = {
            name: run_figures(figures, "quick", tmp_path / name, executor=way, jobs=2) for name, way in ways.items()
        }
    assert {name: (result.failures, result.computed) for name, result in results.items()} == dict.fromkeys(
        ways, ((), 3)
    )
    expected = drawn_bytes(results["here"])
    assert [name for name, result in results.items() if drawn_bytes(result) != expected] == []


def test_the_command_line_gives_the_bytes_of_the_pool(tmp_path, dask):
    """A figure with shared modules and double precision, of this checkout."""
    key, files = "mupc/limits", []
    for name, how in {"pool": ["--jobs", "2"], "cluster": ["--scheduler", dask.address]}.items():
        out = tmp_path / name
        command = [sys.executable, "-m", "pctheory", "figure", key, "--preset", "quick", "--out", str(out), *how]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        files.append({file.name: file.read_bytes() for file in out.glob("mupc-*")})
    assert len(files[0]) == 4
    assert files[0] == files[1]


def test_workers_have_no_checkout_and_compute_each_unit_once(tmp_path, executor):
    result, events = run(checkout(tmp_path), executor=executor, data_dir=tmp_path)
    assert result.ok
    assert sum(isinstance(event, UnitStarted) for event in events) == 3
    assert sorted(started_units(tmp_path)) == [0, 1, 2]
    assert os.getpid() not in worker_pids(tmp_path)
    assert run(tmp_path, executor=executor)[0].cached == 3


def test_changed_code_is_used_by_the_same_workers(tmp_path, executor):
    file = checkout(tmp_path) / "figures" / "toy.py"
    shared = file.with_name("_shared.py")
    shared.write_text("FACTOR = 1.0\n")
    text = file.read_text("utf-8").replace(
        "import numpy as np", "import numpy as np\nfrom figures._shared import FACTOR"
    )
    file.write_text(text.replace("standard_normal(50)", "standard_normal(50) * FACTOR"), "utf-8")
    first = values(run(tmp_path, executor=executor)[0])
    shared.write_text("FACTOR = 2.0\n")
    sys.modules.pop("figures._shared", None)
    second = values(run(tmp_path, executor=executor)[0])
    file.write_text(file.read_text("utf-8").replace("* FACTOR", "+ FACTOR"), "utf-8")
    third = values(run(tmp_path, executor=executor)[0])
    assert np.array_equal(second, 2 * first)
    assert np.array_equal(third, first + 2)


def test_claims_by_the_command_line(tmp_path, dask):
    for folder, name, text in (("paper_checks", "small", CLAIMS), ("tests", "numbers", "ONE = 1.0\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
        (tmp_path / folder / f"{name}.py").write_text(text)
    ledgers = []
    for how in (["--jobs", "2"], ["--scheduler", dask.address]):
        command = [sys.executable, "-P", "-m", "pctheory", "check", "--json", str(tmp_path / "ledger.json"), *how]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 1, done.stderr
        assert "b/raises: ArithmeticError: no answer" in done.stderr
        assert "b/dies: the worker died" in done.stderr
        assert "3 claims: 2 failed, 1 tested" in done.stdout
        assert {line.partition(" ")[0] for line in done.stderr.splitlines()} >= {"[1/3]", "[2/3]", "[3/3]"}
        assert "[4/3]" not in done.stderr
        ledgers.append(json.loads((tmp_path / "ledger.json").read_text())["claims"])
    statuses = [{claim["key"]: (claim["own"], claim["effective"]) for claim in ledger} for ledger in ledgers]
    assert statuses[0] == statuses[1]
    assert statuses[0]["a/holds"] == ("tested", "tested")


@pytest.mark.parametrize("way", ["pool", "cluster"])
def test_memory_of_the_parent_stays_flat(way, executor):
    """Results of 60 MB pass through it; the whole is `python -m benchmarks load`."""
    rows = measured(way, executor if way == "cluster" else None, 150, 50_000)
    assert {row.what: row for row in rows}["growth of the parent"].value < 20


# What goes wrong


def test_what_a_unit_raises_comes_back_with_its_traceback_and_its_worker(tmp_path, executor):
    result, _ = run(checkout(tmp_path, quick='P((0, 1, 2), fault="raise")'), executor=executor)
    (failure,) = result.failures
    assert failure.error == "ArithmeticError: seed 1 has no answer"
    assert 'raise ArithmeticError("seed 1 has\\nno answer")' in failure.traceback
    assert f"at the worker on {socket.gethostname()}, process " in failure.traceback
    assert result.computed == 2


def test_a_folder_of_data_that_the_worker_lacks_is_named(tmp_path, executor):
    result, _ = run(checkout(tmp_path, quick="P((0,))"), executor=executor, data_dir=tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in result.failures[0].error


def test_killed_worker_loses_nothing(tmp_path, executor):
    checkout(tmp_path, quick="P(tuple(range(8)), pause=0.3)")

    def kill_one():
        wait_until(lambda: len(entries(tmp_path / "out")) >= 2)
        os.kill(int((tmp_path / "log").read_text().split()[-1]), signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    result, events = run(tmp_path, executor=executor, jobs=2, data_dir=tmp_path)
    killer.join()
    assert (result.ok, result.computed) == (True, 8)
    assert sum(isinstance(event, UnitDone) for event in events) == 8
    # Again: what the killed worker was doing or had been given, and nothing that was done.
    assert 9 <= len(started_units(tmp_path)) <= 11


def test_unit_past_its_time_limit_ends_its_worker_and_is_lost_alone(tmp_path, executor, dask):
    checkout(tmp_path, quick="P((0, 1, 2))")
    checkout(tmp_path, name="zoo", key="zoo/slow", quick="P((3,), pause=60.0)")
    result, _ = run(tmp_path, executor=executor, jobs=2, data_dir=tmp_path, time_limit=1.0)
    assert [(failure.figure, failure.unit) for failure in result.failures] == [("zoo/slow", "seed 3")]
    assert "past its time limit" in result.failures[0].error
    assert result.computed == 3
    assert started_units(tmp_path).count(3) == 2, "tried once more, then given up"
    assert "Timeout (0:00:01)!" in dask.log()
    assert "in data" in dask.log(), "where it hung"


@pytest.mark.parametrize("stage", ["result", "code"])
def test_damage_on_the_way_is_refused(tmp_path, stage):
    def damaged(content: bytes) -> bytes:
        at = len(content) // 2
        return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]

    class Noisy(Executor):
        def submit(self, fn, /, mark, call, code, *rest):
            if stage == "code":
                code = replace(code, packed=damaged(code.packed), home="elsewhere")
            future: Future = Future()
            sealed = fn(mark, call, code, *rest)
            future.set_result(sealed if stage == "code" else replace(sealed, content=damaged(sealed.content)))
            return future

    result, _ = run(checkout(tmp_path), executor=Noisy())
    thing = "the result" if stage == "result" else "the code of the call"
    expected = f"ValueError: {thing} was damaged on its way: its sha256 does not fit; run again"
    assert [failure.error for failure in result.failures] == [expected] * 3
    assert entries(tmp_path / "out") == []


def test_what_can_be_no_result_is_refused(tmp_path):
    class Liar(Executor):
        def submit(self, fn, /, *arguments):
            future: Future = Future()
            future.set_result("done")
            return future

    result, _ = run(checkout(tmp_path), executor=Liar())
    assert len(result.failures) == 3
    assert entries(tmp_path / "out") == []


def test_another_version_at_the_worker_is_refused(tmp_path):
    """Both are named, and nothing is imported."""
    sources = SourceTree(checkout(tmp_path)).sources("figures.toy")
    code = replace(sources.code(tmp_path), home="elsewhere")
    contents = code.contents()
    assert {f"pctheory.{name}" for name in WORKING} <= contents["modules"].keys()
    assert contents["files"].keys() == {"figures/toy.py", "figures/__init__.py"}
    contents["versions"]["numpy"] = "1.0"
    contents["modules"]["pctheory.processes"] = "f" * 64
    del contents["versions"]["scipy"]
    before = list(sys.path)
    with pytest.raises(ValueError, match="would compute something else") as caught:
        called(packed(contents), pickle.dumps((print, ())))
    message = str(caught.value)
    assert f"numpy is {np.__version__} there, 1.0 here; pctheory.processes has sha256 " in message
    assert "there, ffffffffffff here; install the same there, and restart it" in message
    assert sys.path == before


def packed(contents) -> Code:
    """The code with these contents, as from another process."""
    import_zlib = importlib.import_module("zlib")
    content = import_zlib.compress(json.dumps(contents).encode())
    digest = importlib.import_module("hashlib").sha256(content).hexdigest()
    return Code(content, digest, "elsewhere", ())


UNPACKING = """
import sys
from pathlib import Path
from pctheory.checkout import _unpacked
files = {f"part/m{i}.py": f"x = {i}\\n" * 500 for i in range(40)}
print("ready", flush=True)
sys.stdin.readline()
for turn in range(20):
    folder = Path(_unpacked("digest", files))
    assert all((folder / name).read_text() == text for name, text in files.items())
"""


def test_workers_unpack_the_same_code_at_once(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    workers = [subprocess.Popen([sys.executable, "-c", UNPACKING], env=environment, **pipes) for _ in range(4)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    assert [worker.communicate()[1] for worker in workers] == [""] * 4
    (folder,) = tmp_path.glob("pctheory-*/digest/part")
    assert sorted(file.name for file in folder.iterdir()) == sorted(f"m{i}.py" for i in range(40))


def test_pctheory_changed_under_a_running_worker_is_refused(tmp_path):
    """And a worker started afterwards is another version."""
    with loopback_cluster(tmp_path / "workers", workers=1) as made, cluster(made.address) as (one, _):
        assert run(checkout(tmp_path), executor=one)[0].ok
        with (made.package / "processes.py").open("a") as file:
            file.write("# changed\n")
        changed, _ = run(tmp_path, executor=one, recompute=True)
        one._client.restart()
        other, _ = run(tmp_path, executor=one, recompute=True)
    assert {failure.error.partition(" changed at the worker")[0] for failure in changed.failures} == {
        "RuntimeError: pctheory.processes"
    }
    assert len(other.failures) == 3
    assert "pctheory.processes has sha256" in other.failures[0].error


def test_scheduler_that_dies_leaves_what_is_done(tmp_path):
    checkout(tmp_path, quick="P(tuple(range(6)), pause=0.3)")
    with loopback_cluster(tmp_path / "workers") as made:
        client = distributed.Client(made.address, set_as_default=False, timeout=20)

        def kill():
            wait_until(lambda: len(entries(tmp_path / "out")) >= 2)
            made.scheduler.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        result, _ = run(tmp_path, executor=client.get_executor(), data_dir=tmp_path)
        killer.join()
        client.close(timeout=1)
    assert result.computed >= 2
    assert len(entries(tmp_path / "out")) == result.computed
    assert {failure.error for failure in result.failures} == {BROKEN.error}
    assert run(tmp_path)[0].ok


def test_a_call_cancelled_while_its_result_is_on_the_way_is_no_error(executor, caplog):
    """Ctrl-C may come then; any other error in Dask's thread is told as before."""
    future = executor.submit(time.sleep, 0.2)
    theirs = list(executor._futures)
    future._done_callbacks.clear()  # Dask does not hear of it in time
    assert future.cancel()
    wait_until(lambda: all(future.done() for future in theirs))
    executor._client.loop.add_callback(lambda: [][0])
    assert executor.submit(int).result(timeout=20) == 0
    wait_until(lambda: "IndexError" in caplog.text)
    assert "InvalidStateError" not in caplog.text


@pytest.mark.usefixtures("signals_of_a_terminal")
def test_ctrl_c_drops_what_is_not_begun_and_keeps_what_is_done(tmp_path, dask):
    checkout(tmp_path, quick="P(tuple(range(40)), pause=0.3)")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "pctheory", "figure", "--root", str(tmp_path), "--preset", "quick"]
    command += ["--out", str(out), "--scheduler", dask.address, "--data-dir", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        wait_until(lambda: len(entries(out)) >= 3)
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=20)
    assert process.returncode == 130, complaints
    assert "what is done is kept" in complaints.splitlines()[-1]
    assert "Traceback" not in complaints
    kept = len(entries(out))
    assert kept >= 3
    assert len(started_units(tmp_path)) <= kept + 4
    assert all(UnitCache(out / ".cache").read(entry.stem) for entry in entries(out))
    assert all(alive(pid) for pid in worker_pids(tmp_path)), "the cluster is not ours to end"


# Bad input


def addresses() -> dict[str, tuple[str, str]]:
    form = "scheduler: expected an address as tcp://HOST:PORT, got "
    return {
        "no port": ("tcp://127.0.0.1", form),
        "no protocol": ("127.0.0.1:8786", form),
        "another protocol": ("http://127.0.0.1:8786", form),
        "port of words": ("tcp://127.0.0.1:x", form),
        "port too large": ("tcp://127.0.0.1:99999", form),
        "nothing": ("", form),
        "no one there": (
            "tcp://127.0.0.1:9",
            "scheduler: no Dask scheduler answers at tcp://127.0.0.1:9 within 5 s",
        ),
    }


def figure_command(*arguments: str, root: Path, code: str = "") -> subprocess.CompletedProcess[str]:
    run_door = f"{code}\nimport sys\nfrom pctheory.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", run_door, "figure", "--root", str(root), "--out", str(root / "out")]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("address", "text"), addresses().values(), ids=addresses().keys())
def test_bad_address_is_one_line(tmp_path, address, text):
    done = figure_command("--scheduler", address, root=checkout(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"pctheory: {text}")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_what_is_no_scheduler_is_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        done = figure_command("--scheduler", f"tcp://127.0.0.1:{port}", root=checkout(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith(f"pctheory: scheduler: no Dask scheduler answers at tcp://127.0.0.1:{port}")
    assert len(done.stderr.splitlines()) == 1


def test_address_of_a_worker_is_told(tmp_path, executor):
    worker = next(iter(executor._client.nthreads()))
    done = figure_command("--scheduler", worker, root=checkout(tmp_path))
    assert done.stderr == f"pctheory: scheduler: {worker} is the address of a Worker; give that of its scheduler\n"


def test_missing_extra_is_named(tmp_path):
    without = "import sys; sys.modules['distributed'] = None"
    done = figure_command("--scheduler", "tcp://127.0.0.1:9", root=checkout(tmp_path), code=without)
    assert done.returncode == 2
    assert "pip install 'pctheory[cluster]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_bad_limits_are_refused_before_the_cluster_is_asked(tmp_path):
    done = figure_command("--scheduler", "tcp://127.0.0.1:9", "--jobs", "0", root=checkout(tmp_path))
    assert done.stderr == "pctheory: jobs: expected a number of processes, 1 or more, got 0\n"
