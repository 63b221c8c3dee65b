"""What notebooks import is there, also in those that no stage runs; style and lack of outputs: `make lint`."""

import ast
import importlib
from pathlib import Path

import nbformat
import pytest

from gkd.params import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_what_is_imported_from_the_package_exists(file: Path) -> None:
    for cell in nbformat.read(file, 4).cells:
        for node in ast.walk(ast.parse(cell.source if cell.cell_type == "code" else "")):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("gkd"):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    if not hasattr(module, alias.name):
                        importlib.import_module(f"{node.module}.{alias.name}")
