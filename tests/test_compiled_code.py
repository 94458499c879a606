"""Compiled code that processes share: found again, never believed when damaged, and no process in another's way."""

import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pctheory import LinearPCN, NonlinearPCN, compiled_code, initialisation, standard
from pctheory.compiled_code import STORE, optimised
from pctheory.dynamics import training_sweep, weight_descent_by_rule, weight_descent_snapshots

ROOT = Path(__file__).parents[1]
# Prints the result, the entries found, and those compiled. A warning of JAX is an error.
CODE = """
import sys, warnings
warnings.simplefilter("error")
import pctheory
from pctheory import compiled_code
pctheory.enable_x64()
{before}
compiled_code.share_compiled_code()
import jax, jax.monitoring, jax.numpy as jnp
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
seen = []
jax.monitoring.register_event_listener(lambda event, **more: seen.append(event.rpartition("/")[2]))
x = jnp.arange(16.0).reshape(4, 4)
total = 0.0
for number in range(12):
    total += float(jax.jit(lambda x: jnp.linalg.eigh(x @ x.T + {shift} + number)[0].sum())(x))
print(total.hex(), seen.count("cache_hits"), seen.count("cache_misses"), flush=True)
{after}
"""
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing is kept on Windows")


def process(store: Path, before: str = "", after: str = "", shift: int = 0) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    environment |= {STORE: str(store), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # compiles in half of the time
    code = CODE.format(before=before, after=after, shift=shift)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, **pipes)


def ended(running: subprocess.Popen[str]) -> tuple[str, int, int, str]:
    """The result, the entries found, those compiled, and what it complained of."""
    told, complaints = running.communicate(timeout=300)
    assert running.returncode == 0, complaints
    result, found, compiled = told.split()
    return result, int(found), int(compiled), complaints


def entries(store: Path) -> list[Path]:
    return sorted(store.glob("*/*-cache.*"))


def folders_of_processes(store: Path) -> list[Path]:
    return list(store.glob("*/.process-*"))


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> tuple[Path, str]:
    """A store with entries, and the result."""
    store = tmp_path_factory.mktemp("filled")
    result, found, compiled, complaints = ended(process(store))
    assert (found, complaints) == (0, "")
    assert compiled >= 12
    assert len(entries(store)) == compiled
    assert folders_of_processes(store) == []
    return store, result


def copy_of(store: Path, folder: Path) -> list[Path]:
    """The entries of a copy of the store."""
    for file in entries(store):
        copy = folder / file.relative_to(store)
        copy.parent.mkdir(exist_ok=True, parents=True)
        copy.write_bytes(file.read_bytes())
    return entries(folder)


def test_a_later_process_finds_all_that_was_compiled(filled):
    store, result = filled
    before = entries(store)
    assert ended(process(store)) == (result, len(before), 0, "")
    assert entries(store) == before


def test_damage_is_named_removed_and_compiled_again(filled, tmp_path):
    store, result = filled
    files = copy_of(store, tmp_path)
    whole = [file.read_bytes() for file in files]
    bad = [b"", whole[0][:-1], whole[0][: len(whole[0]) // 2], b"no code", whole[0] + b"\0", whole[1]]
    bad += [whole[0][:n] + bytes([whole[0][n] ^ 1 << n % 8]) + whole[0][n + 1 :] for n in (0, 1, 100, 1000)]
    for file, content in zip(files, bad, strict=False):
        file.write_bytes(content)
    damaged = files[: len(bad)]
    again, found, compiled, complaints = ended(process(tmp_path))
    assert (again, found, compiled) == (result, len(files) - len(bad), len(bad))
    named = re.findall(r"pctheory: (.*): its digest does not fit; it is compiled again", complaints)
    assert sorted(named) == sorted(map(str, damaged))
    assert len(complaints.splitlines()) == len(bad)
    assert ended(process(tmp_path)) == (result, len(files), 0, ""), "what was removed is there again"


def test_things_in_the_place_of_entries_are_left_alone(filled, tmp_path):
    store, result = filled
    files = copy_of(store, tmp_path)
    for file in files[:3]:
        file.unlink()
    files[0].mkdir()
    files[1].symlink_to(files[1])
    (files[2].parent / "notes.txt").write_text("of the user")
    (files[2].parent / "x-cache.zip").write_text("of the user")
    again, found, compiled, complaints = ended(process(tmp_path))
    assert (again, found, compiled, complaints) == (result, len(files) - 3, 3, "")
    assert (files[2].parent / "notes.txt").exists()
    assert (files[2].parent / "x-cache.zip").exists()


def test_what_was_cut_off_is_never_given_to_others(filled, tmp_path):
    """JAX writes in place: a disk that fills, or `kill -9`, leaves a part in the folder of that process."""
    store, result = filled
    number = len(copy_of(store, tmp_path))
    cut = (
        "from pathlib import Path\n"
        "folder = Path(jax.config.jax_compilation_cache_dir)\n"
        "whole = next(folder.glob('*-cache')).read_bytes()\n"
        "for n in (0, 1, 2, 100, len(whole) - 1):\n"
        "    (folder / f'jit_cut-{n}-cache').write_bytes(whole[:n])\n"
        "compiled_code.exchange_compiled_code()\n"
    )
    assert ended(process(tmp_path, after=cut))[3] == ""
    assert len(entries(tmp_path)) == number
    killed = process(tmp_path, after=f"{cut}print(flush=True)\nsys.stdin.read()\n")
    assert killed.stdout.readline()
    assert killed.stdout.readline() == "\n"
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    assert len(folders_of_processes(tmp_path)) == 1
    assert ended(process(tmp_path)) == (result, number, 0, "")
    assert folders_of_processes(tmp_path) == [], "swept"


def test_processes_at_once_do_not_disturb_each_other(filled, tmp_path):
    _, result = filled
    running = [process(tmp_path) for _ in range(3)]
    came = [ended(one) for one in running]
    assert {(one[0], one[3]) for one in came} == {(result, "")}
    assert folders_of_processes(tmp_path) == []
    number = len({file.name.rpartition(".")[0] for file in entries(tmp_path)})
    assert ended(process(tmp_path)) == (result, number, 0, "")


def test_what_others_compile_meanwhile_is_taken(filled, tmp_path):
    _, result = filled
    wait = "print('ready', flush=True); sys.stdin.readline(); compiled_code.exchange_compiled_code()\n"
    look = "from pathlib import Path; print(len(list(Path(jax.config.jax_compilation_cache_dir).glob('*-cache'))))"
    first = process(tmp_path, after=wait + look)
    of_first = first.stdout.readline().split()
    assert of_first[0] == result
    assert first.stdout.readline() == "ready\n"
    assert entries(tmp_path) == [], "given when a unit is done, or at the end"
    other = ended(process(tmp_path, shift=100))
    told, _ = first.communicate("go on\n", timeout=60)
    assert int(told) == len({file.name.rpartition(".")[0] for file in entries(tmp_path)}) > other[2]


def test_the_oldest_entries_go_when_there_are_too_many(filled, tmp_path):
    store, result = filled
    files = copy_of(store, tmp_path)
    for age, file in enumerate(files):
        os.utime(file, (1e9 - age, 1e9 - age))
    kept = files[: len(files) // 2]
    limit = sum(file.stat().st_size for file in kept)
    again, found, _, _ = ended(process(tmp_path, before=f"compiled_code.LIMIT = {limit}"))
    assert (again, found) == (result, len(kept))
    assert len(entries(tmp_path)) == len(files)


def test_where_nothing_can_be_kept_all_goes_on(filled, tmp_path):
    _, result = filled
    (tmp_path / "file").write_text("not a folder")
    again, found, compiled, complaints = ended(process(tmp_path / "file"))
    assert (again, found, complaints) == (result, 0, "")
    assert compiled == 0, "JAX was given no folder"


def test_the_users_own_cache_of_jax_is_left_to_jax(filled, tmp_path):
    store, result = filled
    before = f"import os; os.environ['JAX_COMPILATION_CACHE_DIR'] = {str(tmp_path)!r}"
    assert ended(process(store, before=before))[0] == result
    assert folders_of_processes(store) == []


def test_a_removed_store_is_made_again(filled, tmp_path):
    _, result = filled
    before = "import shutil; from pathlib import Path"
    after = f"shutil.rmtree({str(tmp_path)!r}); compiled_code.exchange_compiled_code()"
    assert ended(process(tmp_path / "store", before, after))[0] == result
    again, found, compiled, complaints = ended(process(tmp_path / "store"))
    assert (again, found, complaints) == (result, 0, "")
    assert compiled >= 12


@pytest.fixture(params=[True, False], ids=["quickly compiled", "optimised"])
def hasty(request):
    """JAX told to disable most optimisations, or not."""
    flag = "jax_disable_most_optimizations"
    before = jax.config.read(flag)
    jax.config.update(flag, request.param)
    yield lambda: jax.config.read(flag)
    assert jax.config.read(flag) == request.param
    jax.config.update(flag, before)


def test_loops_of_many_products_are_optimised_whatever_the_rest_is(hasty, monkeypatch):
    seen = []

    def rule(name, net, x, y):
        seen.append((name, hasty()))
        return net.weights, jnp.sum(x)

    def activation(v):
        seen.append(("sweep", hasty()))
        return jnp.tanh(v)

    net = LinearPCN([np.ones((1, 1))] * 2)
    bent = NonlinearPCN(net, activation)
    batches = (np.ones((1, 1, 1)),) * 2
    for worth_it, wanted in ((2, False), (3, hasty())):  # one step, one example, two weights
        monkeypatch.setattr(compiled_code, "WORTH_IT", worth_it)
        jax.clear_caches()
        seen.clear()
        weight_descent_by_rule(partial(rule, "descent"), net, batches, optax.sgd(0.1))
        weight_descent_snapshots(partial(rule, "snapshots"), net, batches, optax.sgd(0.1), at=[1])
        training_sweep([bent], (np.ones((1, 1, 1, 1)),) * 2, rates=[0.1])
        assert set(seen) == {("descent", wanted), ("snapshots", wanted), ("sweep", wanted)}


@pytest.mark.parametrize("classes", [{0: 1}, {4: 2}], ids=["large layers", "small layers"])
def test_random_weights_are_drawn_by_optimised_code(hasty, monkeypatch, classes):
    seen = []

    def zeros(key, shape):
        seen.append(hasty())
        return jnp.zeros(shape)

    monkeypatch.setitem(initialisation.DRAWS, "gaussian", zeros)
    monkeypatch.setattr(initialisation, "ENTRIES_CLASSES", classes)
    jax.clear_caches()
    standard((2, 2), seed=0)
    jax.clear_caches()
    assert set(seen) == {False}


def test_after_an_error_jax_compiles_as_before(hasty):
    before = hasty()

    def fail():
        assert not hasty()
        raise ArithmeticError

    with pytest.raises(ArithmeticError), optimised():
        fail()
    assert hasty() == before
