"""Which figures there are, what a run of them leaves, and that the same inputs give the same bytes."""

import json
import os
import subprocess
import sys

import numpy as np
import pypdf
import pytest
from PIL import Image

import pctheory.figures
from pctheory.figures import (
    FigureDrawn,
    UnitDamaged,
    UnitDone,
    collect_figures,
    figure_index,
    run_figures,
    selected,
)

from .toy_figures import (
    TOY,
    checkout,
    entries,
    kinds,
    run,
    started,
    started_units,
    unchecked,
)

# Which figures there are


def test_public_names_exist():
    assert [name for name in dir(pctheory.figures) if not hasattr(pctheory.figures, name)] == []


def test_index_equals_collected_figures_and_skips_shared_files(tmp_path):
    checkout(tmp_path)
    checkout(tmp_path, name="another", key="another/sample")
    (tmp_path / "figures" / "_shared.py").write_text("SIZE = 3\n")
    figures = collect_figures(tmp_path)
    index = figure_index(tmp_path)
    assert [entry.key for entry in index] == list(figures) == ["another/sample", "toy/sample"]
    assert index[1].file == "figures/toy.py"
    for entry in index:
        figure = figures[entry.key]
        assert (
            (entry.title, entry.source) == (figure.title, figure.source) == ("A sample in two parts", "nobody-2020")
        )


def test_index_imports_nothing_heavy():
    code = "import sys; from pctheory.figures.index import figure_index; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"matplotlib", "numpy", "jax", "sympy"} & set(modules)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SIZE = 3", r"figures/toy.py: needs FIGURE = Figure\(...\), got None"),
        ("import nowhere", "figures/toy.py: cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        (TOY.replace('"toy/sample"', '"Toy"'), "cannot be imported: ValueError: key: expected paper/what-it-shows"),
        (TOY.replace('"paper"', '"papers"'), "presets of toy/sample: paper missing; give quick, default, paper"),
        (TOY.replace('"paper": P', '"paper": "P" or P'), "expected an instance of a frozen dataclass, got 'P'"),
        (TOY.replace("(frozen=True)", ""), r"presets\['quick'\] of toy/sample: expected an instance of a frozen"),
        (
            TOY.replace("data=data,", "data=os.stat,"),
            "figures/toy.py: data must be defined in this file, got one of",
        ),
    ],
)
def test_bad_figure_file_is_named(tmp_path, text, message):
    checkout(tmp_path)
    (tmp_path / "figures" / "toy.py").write_text(text, encoding="utf-8")
    with unchecked(), pytest.raises(ValueError, match=message) as caught:
        collect_figures(tmp_path)
    assert "\n" not in str(caught.value)


def test_unreadable_index_is_named(tmp_path):
    checkout(tmp_path)
    file = tmp_path / "figures" / "toy.py"
    for text, message in [
        ("FIGURE = (", "figures/toy.py: not a Python file: "),
        ("FIGURE = 3", r"figures/toy.py: has no FIGURE = Figure\(...\)"),
        (
            TOY.replace('title="A', 'title=str() + "A'),
            r"title must be written as a plain string .* got str\(\) \+ 'A",
        ),
        (TOY.replace('source="nobody-2020",', ""), r"source must be written as a plain string in .*, got nothing"),
    ]:
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            figure_index(tmp_path)


def test_no_figures_folder(tmp_path):
    for read in (collect_figures, figure_index):
        with pytest.raises(
            ValueError, match=r"no figures/ folder in .*; run inside a checkout of pctheory or pass --root"
        ):
            read(tmp_path)


@pytest.mark.parametrize("key", ["toy/sample", "toy-sample/x"])
def test_same_key_or_file_name_twice(tmp_path, key):
    checkout(tmp_path, key="toy/sample" if key == "toy/sample" else "toy/sample-x")
    checkout(tmp_path, name="zoo", key=key)
    with pytest.raises(ValueError, match=r"figures/zoo.py: key .* is taken by .* of figures/toy.py; rename one"):
        collect_figures(tmp_path)


def test_second_package_in_the_checkout(tmp_path):
    (checkout(tmp_path) / "pctheory").mkdir()
    with pytest.raises(ValueError, match=r"has its own pctheory, but .* is installed"):
        collect_figures(tmp_path)


def test_unknown_names_list_what_exists(tmp_path):
    figures = collect_figures(checkout(tmp_path))
    assert selected(figures, []) == list(figures.values())
    with pytest.raises(ValueError, match="key: no figure 'toy/x'; there are toy/sample"):
        selected(figures, ["toy/sample", "toy/x"])
    with pytest.raises(ValueError, match="preset: toy/sample has no preset 'large'; it has quick, default, paper"):
        run_figures(figures.values(), "large", tmp_path / "out")
    with pytest.raises(ValueError, match="jobs: expected a number of processes, 1 or more, got 0"):
        run_figures(figures.values(), "quick", tmp_path / "out", jobs=0)
    with pytest.raises(ValueError, match="figures: got none"):
        run_figures([], "quick", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# A run and what it leaves


def test_run_writes_four_files_with_their_provenance(tmp_path):
    result, events = run(checkout(tmp_path))
    assert (result.ok, result.computed, result.cached) == (True, 3, 0)
    assert kinds(events) == ["UnitStarted", "UnitDone"] * 3 + ["FigureDrawn"]
    assert [(event.finished, event.total) for event in events if isinstance(event, UnitDone)] == [
        (1, 3),
        (2, 3),
        (3, 3),
    ]
    pdf, png, npz, text = result.drawn["toy/sample"]
    assert [file.name for file in (pdf, png, npz, text)] == [
        f"toy-sample.{s}" for s in ("pdf", "png", "npz", "json")
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [".cache", pdf.name, png.name, npz.name, text.name]
    )

    with np.load(npz, allow_pickle=False) as drawn:
        assert np.array_equal(drawn["seed 2/values"], np.random.default_rng(2).standard_normal(50))
        assert drawn["seed 0/label"] == "café"

    provenance = json.loads(text.read_text("utf-8"))
    assert provenance["caption"] == "3 seeds, ∇ of a café."
    assert provenance["parameters"] == {"seeds": [0, 1, 2], "pause": 0.0, "fault": ""}
    assert provenance["data_sets"] == ["digits"]
    assert {unit["cache_entry"] for unit in provenance["units"].values()} == {
        e.stem for e in entries(tmp_path / "out")
    }
    assert provenance["versions"]["numpy"] == np.__version__
    assert "figures.toy" in provenance["code"]["modules"]
    assert str(tmp_path) not in text.read_text("utf-8")
    assert b"STIXGeneral" in pdf.read_bytes(), "drawn in the style"
    assert json.loads(pypdf.PdfReader(pdf).metadata["/Keywords"]) == provenance
    with Image.open(png) as image:
        assert json.loads(image.info["Provenance"]) == provenance


def test_second_run_computes_nothing_unless_told_to(tmp_path):
    run(checkout(tmp_path), data_dir=tmp_path)
    result, events = run(tmp_path, data_dir=tmp_path)
    assert (result.computed, result.cached, result.ok) == (0, 3, True)
    assert kinds(events) == ["UnitCached"] * 3 + ["FigureDrawn"]
    result, _ = run(tmp_path, data_dir=tmp_path, recompute=True)
    assert (result.computed, result.cached) == (3, 0)
    assert started_units(tmp_path) == [0, 1, 2, 0, 1, 2]


def test_two_fresh_processes_give_the_same_bytes(tmp_path):
    checkout(tmp_path)
    outs = [tmp_path / "one", tmp_path / "two"]
    # The number of threads is a part of this figure's data: both runs see the same.
    with (
        started(tmp_path, outs[0], 1, PYTHONHASHSEED="1", OMP_NUM_THREADS="1", TZ="UTC") as one,
        started(tmp_path, outs[1], 2, PYTHONHASHSEED="2", OMP_NUM_THREADS="1", TZ="Asia/Tokyo") as two,
    ):
        for process in (one, two):
            told, complaints = process.communicate(timeout=300)
            assert process.returncode == 0, told + complaints
            assert complaints == ""
    for suffix in ("pdf", "png", "npz", "json"):
        first, second = ((out / f"toy-sample.{suffix}").read_bytes() for out in outs)
        assert first == second, suffix


def test_two_runs_share_a_cache(tmp_path):
    checkout(tmp_path, quick="P(tuple(range(8)), pause=0.1)")
    out = tmp_path / "out"
    with started(tmp_path, out, 1) as one, started(tmp_path, out, 1) as two:
        for process in (one, two):
            told, complaints = process.communicate(timeout=300)
            assert process.returncode == 0, told + complaints
    result, events = run(tmp_path)
    assert (result.computed, result.cached) == (0, 8)
    assert not any(isinstance(event, UnitDamaged) for event in events)
    assert [path.name for path in out.glob("**/*.tmp")] == []


def test_workers_use_one_thread_each_and_leave_the_environment_alone(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    result, _ = run(checkout(tmp_path), jobs=2)
    with np.load(result.drawn["toy/sample"][2]) as drawn:
        assert {str(drawn[f"seed {seed}/threads"]) for seed in range(3)} == {"1"}
    assert "OMP_NUM_THREADS" not in os.environ


def test_initializer_runs_before_each_unit(tmp_path):
    calls = []
    run(checkout(tmp_path), initializer=lambda: calls.append(1))
    assert len(calls) == 3


def test_drawn_event_lists_the_files(tmp_path):
    result, events = run(checkout(tmp_path))
    (drawn,) = [event for event in events if isinstance(event, FigureDrawn)]
    assert drawn.files == result.drawn["toy/sample"]
    assert all(file.stat().st_mode & 0o044 for file in drawn.files), "readable by others"
