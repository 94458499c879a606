"""The benchmarks run, compare like with like, and report what they measured. No timing is asserted."""

import functools
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pctheory
from benchmarks import __main__ as command_line
from benchmarks import curvature
from benchmarks.dense_hessian import cholesky_solution, flat, inverse_solution, linear_term
from benchmarks.exact_step import problem, products_alone, scanned_backpropagation, unrolled_backpropagation
from benchmarks.load import Moment, growth
from benchmarks.measure import HEADINGS, Case, Goal, Row, alternating, quartiles
from benchmarks.memory import LEARNING_RATE, learning_step

ROOT = Path(__file__).parents[1]
SIZES = [(5, 3, 4, 2), (3, 2, 1, 3), (4, 7, 3, 6)]  # width, depth, batch, outputs


@pytest.mark.parametrize(
    "topics",
    [
        pytest.param(["compile-time", "curvature"], id="two topics"),
        pytest.param(list(command_line.TOPICS), id="every topic", marks=pytest.mark.slow),
    ],
)
def test_quick_run_measures_its_topics(tmp_path, topics):
    command = [sys.executable, "-m", "benchmarks", "--quick", "--out", str(tmp_path / "new" / "folder"), *topics]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    content = json.loads((tmp_path / "new/folder/benchmarks.json").read_text())
    table = (tmp_path / "new/folder/benchmarks.md").read_text()
    assert run.stdout.strip() == table.strip()
    assert content["failures"] == []
    for topic in topics:
        assert re.search(rf"^\d+/\d+ {topic} .*: \d", run.stderr, re.MULTILINE), topic
    assert len(content["rows"]) >= len(topics)
    for row in content["rows"]:
        assert row["name"]
        assert row["what"]
        assert math.isfinite(row["value"])
        assert row["goal"] is None  # tiny sizes are not judged
        assert row["met"] is None
        assert all(math.isfinite(number) for number in row["details"].values())
    described = {"processor", "cores", "memory (GiB)", "operating system", "python", "jax", "numpy", "device"}
    assert described <= set(content["machine"])
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(content["rows"])
    assert {line.count("|") for line in lines} == {len(HEADINGS) + 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["speed"], "NAME is 'speed', expected one of exact-step, dense-hessian"),
        (["memory", "--out", "FILE/below"], "cannot be written (Not a directory); choose another folder"),
    ],
)
def test_bad_arguments_are_refused(arguments, message, tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as stopped:
        command_line.main([part.replace("FILE", str(tmp_path / "file")) for part in arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_failed_case_leaves_the_others(tmp_path, monkeypatch, capsys):
    def broken():
        raise MemoryError("no room")

    def missed():
        return [Row("slow thing", "ratio", 1.5, goal=Goal("at most", 1.2))]

    monkeypatch.setattr(command_line, "TOPICS", {"a": lambda quick: [Case(broken, ()), Case(missed, ())]})
    monkeypatch.setattr(command_line, "_in_fresh_process", Case.rows)
    assert command_line.main(["a", "--out", str(tmp_path)]) == 1
    content = json.loads((tmp_path / "benchmarks.json").read_text())
    assert content["failures"] == ["test-benchmarks broken: MemoryError: no room"]
    assert "failed: test-benchmarks broken: MemoryError: no room" in capsys.readouterr().err
    assert [row["met"] for row in content["rows"]] == [False]
    assert "| at most 1.2 | **missed** |" in (tmp_path / "benchmarks.md").read_text()


def test_missed_goal_is_no_failure(tmp_path, monkeypatch):
    def missed():
        return [Row("slow thing", "ratio", 1.5, goal=Goal("at most", 1.2))]

    monkeypatch.setattr(command_line, "TOPICS", {"a": lambda quick: [Case(missed, ())]})
    monkeypatch.setattr(command_line, "_in_fresh_process", Case.rows)
    assert command_line.main(["a", "--out", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("goal", "value", "met"),
    [
        (Goal("at most", 1.2), 1.2, True),
        (Goal("at most", 1.2), 1.21, False),
        (Goal("at least", 1000), 1000, True),
        (Goal("at least", 1000), 999, False),
        (Goal("at most", 1.2), math.nan, False),
        (Goal("at least", 1000), math.nan, False),
        (None, 5.0, None),
    ],
)
def test_goal_is_judged_by_the_value(goal, value, met):
    assert Row("name", "what", value, goal=goal).met is met


def test_alternating_reverses_every_round():
    order = []
    times = alternating({name: lambda name=name: order.append(name) for name in "abc"}, rounds=3, at_least=0)
    warm_up = "aabbcc"  # one call compiles, the next says how often to repeat
    assert "".join(order) == warm_up + "cba" + "abc" + "cba"
    assert {name: samples.shape for name, samples in times.items()} == {"a": (3,), "b": (3,), "c": (3,)}
    assert quartiles(np.array([4.0, 1.0, 2.0, 3.0, 5.0])) == (2.0, 3.0, 4.0)


def test_alternating_repeats_short_calls():
    calls = []
    alternating({"short": lambda: calls.append(0)}, rounds=1, at_least=0.01)
    assert len(calls) > 50


@pytest.mark.parametrize("sizes", SIZES)
def test_both_backpropagations_give_the_gradient_of_the_loss(sizes):
    net, x, y = problem(*sizes)
    value, gradient = unrolled_backpropagation(net)(list(net.weights), x, y)
    scanned_value, scanned_gradient = jax.jit(scanned_backpropagation)(net, x, y)
    np.testing.assert_allclose([value, scanned_value], pctheory.loss(net, x, y), rtol=1e-13)
    expected = jax.grad(lambda weights: pctheory.loss(net.with_weights(weights), x, y))(net.weights)
    for ours, scanned, wanted in zip(gradient, scanned_gradient, expected, strict=True):
        np.testing.assert_allclose(ours, wanted, atol=1e-13 * float(jnp.abs(wanted).max()))
        np.testing.assert_allclose(scanned, wanted, atol=1e-13 * float(jnp.abs(wanted).max()))


@pytest.mark.parametrize("sizes", SIZES)
def test_products_alone_are_those_of_the_step(sizes):
    net, x, y = problem(*sizes)
    solved = pctheory.equilibrium(net, x, y)
    predictions = list(pctheory.feedforward(net, x))
    force = jnp.linalg.solve(pctheory.rescaling(net), (y - predictions[-1]).T).T
    *layers, (output, _) = products_alone(list(net.maps), x, force)
    assert len(layers) == net.depth
    np.testing.assert_allclose(output, predictions[-1], atol=1e-13)
    for error, below, (product, gradient) in zip(solved.errors, [x, *predictions], layers, strict=False):
        np.testing.assert_allclose(product, error, atol=1e-12)  # unit precision
        np.testing.assert_allclose(gradient, error.T @ below, atol=1e-12)  # nothing added to the predictions


@pytest.mark.parametrize("sizes", SIZES)
def test_products_alone_are_those_of_a_hessian_vector_product(sizes):
    net, x, y = problem(*sizes)
    maps, turns = list(net.maps), [jnp.cos(a) for a in net.maps]

    def half_squared_error(maps):
        return jnp.sum((functools.reduce(jnp.matmul, reversed(maps)) @ x.T - y.T) ** 2) / 2

    expected = jax.jvp(jax.grad(half_squared_error), (maps,), (turns,))[1]
    products = functools.partial(curvature.gradient_products, x=x, y=y)
    found = curvature.changed(jax.linearize(products, maps)[1], turns)
    for ours, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, wanted, atol=1e-12 * float(1 + jnp.abs(wanted).max()))


@pytest.mark.parametrize("dense_solution", [cholesky_solution, inverse_solution])
@pytest.mark.parametrize("sizes", SIZES)
def test_dense_route_solves_for_the_equilibrium(sizes, dense_solution):
    net, x, y = problem(*sizes)
    solution, parts = dense_solution(net, linear_term(net, x, y))
    np.testing.assert_allclose(solution, flat(pctheory.equilibrium(net, x, y).activities), atol=1e-12)
    assert len(parts) == 3


@pytest.mark.parametrize("sizes", [(5, 3, 4, 2), (3, 2, 1, 4), (4, 7, 3, 6)])
def test_learning_step_in_place_follows_the_gradient(sizes):
    net, x, y = problem(*sizes)
    solved, gradient = pctheory.equilibrium_and_gradient(net, x, y)
    expected = [np.asarray(w - LEARNING_RATE * g) for w, g in zip(net.weights, gradient, strict=True)]
    learned = learning_step(net, solved, x)
    assert net.weights.runs[0].is_deleted()
    for ours, wanted in zip(learned, expected, strict=True):
        np.testing.assert_allclose(ours, wanted, atol=1e-13)


def test_growth_is_what_stays():
    def readings(*memory):
        return [Moment(i, float(i), float(i), m) for i, m in enumerate(memory)]

    assert growth(readings(5, 45, 5, 25, 45, 5, 5, 45)) == 0  # comes and goes
    assert growth(readings(5, 6, 7, 8, 9, 10)) == 3  # half of the way of what stays
    assert growth(readings(5, 5)) == 0
