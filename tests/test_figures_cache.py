"""The cache of figures: what is stored, no damage goes unnoticed, and what the key of a unit depends on."""

import importlib
import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from pctheory.figures import (
    Figure,
    UnitDamaged,
    collect_figures,
)
from pctheory.figures.cache import DamagedEntryError, UnitCache, decoded, encoded, storable
from pctheory.figures.plan import figure_plan, plain
from pctheory.figures.sources import SourceTree

from .toy_figures import (
    checkout,
    entries,
    run,
    unchecked,
)

# The cache


def test_damaged_entry_is_named_and_recomputed(tmp_path):
    run(checkout(tmp_path))
    good = {path: path.read_bytes() for path in entries(tmp_path / "out")}
    first, second, third = good
    first.write_bytes(good[first][:-100])
    second.write_bytes(good[third])
    result, events = run(tmp_path)
    damaged = [event for event in events if isinstance(event, UnitDamaged)]
    assert {event.path for event in damaged} == {first, second}
    assert (result.computed, result.cached, result.ok) == (2, 1, True)
    assert {path: path.read_bytes() for path in good} == good


def test_no_damage_goes_unnoticed(tmp_path):
    cache = UnitCache(tmp_path)
    cache.write("name", encoded({"a": np.arange(3.0)}))
    path = cache.path("name")
    good = path.read_bytes()
    bad = [good[:length] for length in range(len(good))]
    bad += [good[:i] + bytes([good[i] ^ 1 << i % 8]) + good[i + 1 :] for i in range(len(good))]
    bad += [good + b"\0", good + good, b"PK" + good, np.random.default_rng(0).bytes(500)]
    for content in bad:
        path.write_bytes(content)
        with pytest.raises(DamagedEntryError, match=r"name\.unit: "):
            cache.read("name")
    path.write_bytes(good)
    assert np.array_equal(cache.read("name")["a"], np.arange(3.0))


def with_byte(content: bytes, place: int, value: int) -> bytes:
    return content[:place] + bytes([value]) + content[place + 1 :]


def test_whatever_an_archive_says_it_is_an_archive_or_named_in_one_line():
    good = encoded({"a": np.arange(3.0), "b": np.ones(2)})
    kinds = set()
    for place in range(len(good)):
        for value in (0, 1, 0x85, 0xFF):
            try:
                decoded(with_byte(good, place, value))
            except ValueError as error:
                kinds.add(str(error))
    assert {line.partition(" (")[0] for line in kinds} == {"is no archive of arrays"}
    assert {"is no archive of arrays (NotImplementedError)", "is no archive of arrays (RuntimeError)"} < kinds
    with pytest.raises(ValueError, match=r"is no archive of arrays \(TokenError\)"):
        decoded(b"\x93NUMPY\x01\x00\x02\x00(\n")  # one array, whose header does not end


def test_entry_is_never_unpickled(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([{}], dtype=object))
    cache = UnitCache(tmp_path)
    for payload in (buffer.getvalue(), b"", b"no archive"):
        cache.write("name", payload)  # its digest is right
        with pytest.raises(DamagedEntryError, match="is no archive of arrays"):
            cache.read("name")


def test_arrays_come_back_as_they_were():
    arrays = storable(
        {
            "big endian": np.arange(6, dtype=">i4").reshape(2, 3),
            "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            "scalar": 3,
            "empty": np.zeros((0, 4), np.float32),
            "complex": np.array([1j]),
            "text": ["a", "bc"],
            "strided": np.arange(10)[::-2],
        },
        allow_nonfinite=False,
    )
    back = decoded(encoded(arrays))
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert np.array_equal(back[name], array)
        assert (back[name].dtype, back[name].shape) == (array.dtype, array.shape)
        assert not back[name].flags.writeable
    assert back["big endian"].dtype == np.dtype("<i4")


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ([1.0], TypeError, "data: must return a mapping from names to arrays, got list"),
        ({}, ValueError, "data: returned no arrays; return at least one"),
        ({"a/b": 1.0}, TypeError, "names of arrays must be non-empty strings without /, got 'a/b'"),
        ({3: 1.0}, TypeError, "names of arrays must be non-empty strings without /, got 3"),
        ({"a": np.array([{}])}, TypeError, "array 'a' has dtype object; return numbers, booleans or text"),
        ({"a": None}, TypeError, "array 'a' has dtype object"),
        ({"a": np.zeros(2, "f8,i4")}, TypeError, "array 'a' has dtype .*; return numbers"),
        ({"a": np.ma.masked_equal([1, 2], 2)}, TypeError, "array 'a' is masked and would lose its mask"),
        ({"a": [1.0, -np.inf]}, ValueError, r"array 'a' has 1 non-finite of 2 values, the first -inf at \(1,\)"),
        ({"a": np.nan}, ValueError, r"array 'a' has 1 non-finite of 1 values, the first nan at \(\)"),
        ({"a": [complex(0, np.nan)]}, ValueError, "array 'a' has 1 non-finite of 1 values"),
    ],
)
def test_arrays_that_cannot_be_stored(arrays, error, message):
    with unchecked(), pytest.raises(error, match=message):
        storable(arrays, allow_nonfinite=False)


# What the key of a unit depends on


@pytest.fixture
def package(tmp_path):
    """A small package in place of pctheory: lazy names, a folder, a chain of imports, a module nobody uses."""
    files = {
        "__init__.py": "# lazy\n",
        "__init__.pyi": "from . import energy, gone\nfrom .curvature import hessian\nfrom .network import Net",
        "network.py": "import numpy as np\n",
        "energy.py": "from .network import Net\n",
        "curvature/__init__.py": "# lazy too\n",
        "curvature/__init__.pyi": "from .dense import hessian\nfrom .free import operator\n",
        "curvature/dense.py": "def hessian():\n    from .. import energy\n    return energy.loss\n",
        "curvature/free.py": "",
        "figures/__init__.py": "",
        "figures/style.py": "",
        "unused.py": "",
    }
    for name, text in files.items():
        file = tmp_path / "pctheory" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "pctheory"


NETWORK = {"pctheory", "pctheory.network"}
ENERGY = NETWORK | {"pctheory.energy"}
DENSE = ENERGY | {"pctheory.curvature", "pctheory.curvature.dense"}


@pytest.mark.parametrize(
    ("text", "modules"),
    [
        ("import numpy", set()),
        ("import pctheory", {"pctheory"}),
        ("from pctheory import Net", NETWORK),
        ("from pctheory import Net as N, energy", ENERGY),
        ("import pctheory as pc\nnet = pc.Net(3)", NETWORK),
        ("import pctheory\ndef f():\n    return pctheory.network.Net.standard(3)", NETWORK),
        ("import pctheory.network as n", NETWORK),
        ("def f():\n    import pctheory.energy", ENERGY),
        ("import pctheory.network\nf = pctheory.energy.loss", ENERGY),
        ("from pctheory import energy", ENERGY),
        ("from pctheory import hessian", DENSE),
        ("from pctheory.curvature import hessian", DENSE),
        ("from pctheory import curvature\ncurvature.hessian()", DENSE),
        ("from pctheory import *", DENSE),
        ("import pctheory\nf = getattr(pctheory, 'Net')", DENSE),
        ("from pctheory.curvature import *", DENSE | {"pctheory.curvature.free"}),
        (
            "from pctheory.curvature.free import operator",
            {"pctheory", "pctheory.curvature", "pctheory.curvature.free"},
        ),
        ("from pctheory.figures import style\nfrom pctheory.figures.style import x", {"pctheory"}),
        ("from figures._shared import size", {"figures._shared", *NETWORK}),
        ("from . import _shared", {"figures._shared", *NETWORK}),
        ("from pctheory import nothing_of_the_kind", {"pctheory"}),
        ("from pctheory import gone", {"pctheory"}),
    ],
)
def test_sources_are_the_modules_behind_a_figure(tmp_path, package, text, modules):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "_shared.py").write_text("from pctheory import Net\n")
    (tmp_path / "figures" / "toy.py").write_text(text)
    sources = SourceTree(tmp_path, package).sources("figures.toy")
    assert set(sources.files) == modules | {"figures.toy"}


def test_key_changes_with_what_the_numbers_depend_on_and_with_nothing_else(tmp_path, package, monkeypatch):
    figure = collect_figures_beside(tmp_path / "checkout")
    file = tmp_path / "checkout" / "figures" / "toy.py"
    file.write_text(file.read_text("utf-8") + "from pctheory import energy\n", "utf-8")

    def entry(preset: str = "quick") -> str:
        return figure_plan(figure, preset, SourceTree(tmp_path / "checkout", package)).units[0].entry

    before = entry()
    assert entry("default") == before, "the same unit in another preset"
    for unrelated in ("unused.py", "curvature/free.py", "figures/style.py", "__init__.pyi"):
        (package / unrelated).write_text((package / unrelated).read_text() + "# a comment\n")
        assert entry() == before, unrelated
    seen = {before}
    for related in (package / "network.py", package / "energy.py", package / "__init__.py", file):
        related.write_text(related.read_text("utf-8") + "# a comment\n", "utf-8")
        assert entry() not in seen, related
        seen.add(entry())
    file.write_bytes(file.read_text("utf-8").replace("\n", "\r\n").encode())
    assert entry() in seen, "line ends do not matter"
    monkeypatch.setattr(importlib.import_module("pctheory.checkout"), "_version", lambda name: "0.0")
    assert entry() not in seen


def collect_figures_beside(root: Path) -> Figure:
    return collect_figures(checkout(root))["toy/sample"]


def test_key_changes_with_each_parameter_and_with_the_figure(tmp_path):
    figure = collect_figures_beside(tmp_path)
    module = importlib.import_module("figures.toy")
    variants = [((0,), 0.0, ""), ((1,), 0.0, ""), ((0,), 1e-300, ""), ((0,), 0, ""), ((0,), 0.0, "x")]
    plan = importlib.import_module("pctheory.figures.plan")
    sources = figure_plan(figure, "quick").sources
    keys = [plan.unit_key(figure, module.P(*values), sources) for values in variants]
    for change in ({"key": "toy/other"}, {"data_sets": lambda p: ("mnist",)}, {"allow_nonfinite": True}):
        keys.append(plan.unit_key(replace(figure, **change), module.P(*variants[0]), sources))
    assert len(set(keys)) == len(variants) + 3


def test_plain_parameters():
    @dataclass(frozen=True)
    class Inner:
        rate: float

    @dataclass(frozen=True)
    class Outer:
        inner: Inner
        names: dict[str, object]

    value = Outer(Inner(0.1), {"b": (1, None), "a": [True]})
    assert plain(value) == {"inner": {"rate": 0.1}, "names": {"b": [1, None], "a": [True]}}
    with pytest.raises(ValueError, match=r"parameters.inner.rate: expected a finite number, got nan; use None"):
        plain(Outer(Inner(np.nan), {}))
    with pytest.raises(TypeError, match=r"parameters.names\['a'\]\[1\]: expected a number, .* got float64"):
        plain(Outer(Inner(0.0), {"a": (1, np.float64(1.0))}))
