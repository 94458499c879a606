"""Every notebook runs from start to end in silence, holds prose and calls only, and is stored without outputs."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import nbclient
import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from pctheory.compiled_code import STORE

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
# Kernels find what tests compiled before, as the workers of the command line do.
SHARED = "import pctheory.compiled_code as _\n_.share_compiled_code()\ndel _\n"
SETUP = "import pctheory\n\npctheory.enable_x64()"


@pytest.fixture(autouse=True)
def jupyter_folders(tmp_path, monkeypatch):
    """Kernels write into the test's own folder and ignore the user's settings."""
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")  # the folders that Jupyter is moving to, instead of a warning
    for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    monkeypatch.setenv(STORE, os.environ.get(STORE) or str(Path(__file__).parents[1] / ".jax_cache"))
    startup = tmp_path / "ipythondir" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "compiled.py").write_text(SHARED)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def executed(notebook: NotebookNode) -> NotebookNode:
    """The notebook with its outputs. Raises CellExecutionError for the first cell that fails."""
    client = nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3")
    return client.execute(cwd=str(FOLDER))


def complaints(notebook: NotebookNode) -> list[str]:
    """What an executed notebook printed to stderr: warnings, usually."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"]


def faults(notebook: NotebookNode) -> Iterator[str]:
    """What a stored notebook must not have."""
    cells = code_cells(notebook)
    trees = {cell.id: ast.parse(cell.source) for cell in cells}
    first = ast.unparse(trees[cells[0].id]).splitlines() if cells else []
    if first[:2] != ["import pctheory", "pctheory.enable_x64()"]:
        yield "the first code cell does not start with: import pctheory; pctheory.enable_x64()"
    if not any(isinstance(node, ast.Assert) for tree in trees.values() for node in ast.walk(tree)):
        yield "no cell asserts anything"
    for cell in cells:
        for node in ast.walk(trees[cell.id]):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield f"cell {cell.id} defines {node.name}; move it into the package"
        if cell.outputs or cell.execution_count is not None:
            yield f"cell {cell.id} has outputs; run: jupyter nbconvert --clear-output --inplace NOTEBOOK"


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert list(faults(notebook)) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path):
    notebook = executed(nbformat.read(path, as_version=4))
    assert complaints(notebook) == []
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs), "no cell draws anything"


@pytest.mark.parametrize(
    ("cells", "fault"),
    [
        ([new_code_cell("assert True")], "does not start with"),
        ([new_code_cell("import pctheory"), new_code_cell("pctheory.enable_x64()\nassert True")], "does not start"),
        ([new_code_cell(SETUP)], "no cell asserts anything"),
        ([new_code_cell(f"{SETUP}\nassert True\nif True:\n    def f(): ...", id="a")], "cell a defines f"),
        ([new_code_cell(f"{SETUP}\nassert True\nasync def f(): ...", id="a")], "cell a defines f"),
        ([new_code_cell(f"{SETUP}\nassert True\nclass C: ...", id="a")], "cell a defines C"),
        ([new_code_cell(f"{SETUP}\nassert True", id="a", execution_count=1)], "cell a has outputs"),
        ([new_code_cell(f"{SETUP}\nassert True", id="a", outputs=[new_output("stream")])], "cell a has outputs"),
    ],
)
def test_faults_are_seen(cells, fault):
    assert [fault in found for found in faults(new_notebook(cells=cells))] == [True]


def test_no_code_is_a_fault():
    assert len(list(faults(new_notebook(cells=[new_markdown_cell("prose")])))) == 2


def test_prose_is_no_fault():
    cells = [new_markdown_cell("def f(): ..."), new_code_cell(f"{SETUP}\nassert True")]
    assert list(faults(new_notebook(cells=cells))) == []


def test_a_failing_assertion_fails():
    with pytest.raises(CellExecutionError, match="AssertionError"):
        executed(new_notebook(cells=[new_code_cell("assert 1 + 1 == 3")]))


@pytest.mark.parametrize("kind", ["UserWarning", "DeprecationWarning"])
def test_a_warning_is_seen(kind):
    notebook = executed(new_notebook(cells=[new_code_cell(f"import warnings\nwarnings.warn('old', {kind})")]))
    assert [kind in text for text in complaints(notebook)] == [True]
