"""The floors: a module imports from lower floors only, never from its own; imports stand at the top."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pctheory"
FLOORS = [
    {"compiled_code", "arguments"},
    {"processes", "checkout", "cluster", "arrays", "files", "names", "stopping"},
    {"initialisation"},
    {"network", "matrix_algebra", "random_matrix", "datasets", "claims", "figures", "ledger"},
    {"energy", "induction", "mean_field", "checking"},
    {"equilibrium", "nonlinear"},
    {"curvature", "saddles", "trust_region", "dynamics", "landscape", "conditioning"},
    {"enclosures"},
    {"report", "audit", "terminal"},
    {"__main__"},
]
MAY_IMPORT_LATE = {"__main__"}  # the command line must answer at once
FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(file: Path) -> set[str]:
    """The modules of pctheory that a file imports, by their top-level names."""
    depth = len(file.relative_to(PACKAGE).parts)
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            names = [node.module] if node.module else [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names = [node.module.removeprefix("pctheory.")] if node.module.startswith("pctheory.") else []
        elif isinstance(node, ast.Import):
            names = [a.name.removeprefix("pctheory.") for a in node.names if a.name.startswith("pctheory.")]
        else:
            names = []
        found |= {name.partition(".")[0] for name in names}
    return found


def test_every_module_has_a_floor():
    modules = {module_of(file) for file in FILES} - {"__init__"}
    assert modules == set().union(*FLOORS)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_down_the_stairs_only(file: Path):
    module = module_of(file)
    if module == "__init__":
        assert not imported(file)
        return
    floor = next(i for i, names in enumerate(FLOORS) if module in names)
    lower = set().union(*FLOORS[:floor])
    assert imported(file) - {module} <= lower


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_stand_at_the_top(file: Path):
    if module_of(file) in MAY_IMPORT_LATE:
        return
    functions = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.FunctionDef | ast.Lambda)]
    late = [n for f in functions for n in ast.walk(f) if isinstance(n, ast.Import | ast.ImportFrom)]
    assert not late


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_sizes(file: Path):
    """Beyond this, look for the missing object."""
    lines = file.read_text().splitlines()
    assert len(lines) <= 520
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.FunctionDef):
            assert len(node.args.args) + len(node.args.posonlyargs) - (node.args.args[:1] != []) <= 5
            assert node.end_lineno - node.lineno <= 75, node.name  # with the docstring


def test_public_functions_read_no_private_jax():
    for file in FILES:
        text = file.read_text()
        assert "jax._src" not in text, file
        assert "import jaxlib" not in text, file
