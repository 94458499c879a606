"""Checkouts in which a fault can be planted without touching the real one."""

import shutil
from pathlib import Path

from .catalogue import Fault

FOLDERS = ("pctheory", "paper_checks", "figures", "tests")
LEFT_OUT = shutil.ignore_patterns("node_modules", "output", "__pycache__", ".*")


def plain_copy(root: Path, folder: Path) -> Path:
    """A copy of what claims and tests need of the checkout `root`.

    Raises ValueError where there is no checkout.
    """
    for name in FOLDERS:
        if not (root / name).is_dir():
            raise ValueError(f"no {name}/ folder in {root}; run inside a checkout of pctheory or pass --root")
        shutil.copytree(root / name, folder / name, ignore=LEFT_OUT)
    shutil.copy2(root / "pyproject.toml", folder)
    return folder


def faulty_copy(plain: Path, folder: Path, fault: Fault) -> Path:
    """A copy of a plain copy, its compiled files included, with the fault in it."""
    shutil.copytree(plain, folder, ignore=shutil.ignore_patterns(".hypothesis"))
    file = folder / "pctheory" / fault.file
    for compiled in file.parent.glob(f"__pycache__/{file.stem}.*"):
        compiled.unlink()
    file.write_text(fault.planted(file.read_text("utf-8")), encoding="utf-8")
    return folder
