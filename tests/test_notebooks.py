"""The notebooks as files: stored without outputs, short cells, one shape. What they do is tested end to end."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from gkd.params import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

each = pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)


def code(file: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(file, 4).cells if cell.cell_type == "code"]


def test_stored_without_outputs() -> None:
    options = ["--verify", "--extra-keys", "metadata.language_info", *map(str, NOTEBOOKS)]
    done = subprocess.run([sys.executable, "-m", "nbstripout", *options], capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}: see docs/development.md, Notebooks"


@each
def test_valid_and_run_by_any_python3_kernel(file: Path) -> None:
    notebook = nbformat.read(file, 4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


@each
def test_begins_with_a_title_and_its_parameters(file: Path) -> None:
    cells = nbformat.read(file, 4).cells
    assert cells[0].cell_type == "markdown"
    title, _, text = cells[0].source.partition("\n")
    assert title.startswith("# ") and text.strip(), "a title and what the page does"
    assert [i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])] == [1]


@each
def test_cells_are_short(file: Path) -> None:
    # Imports and the set-up of the page may take more lines; a cell that computes may not.
    long = [cell for cell in code(file) if len(statements(cell)) > 15]
    assert not long, f"{len(long)} cells of more than 15 lines, first:\n{long[0]}"


def statements(cell: str) -> list[str]:
    """Lines of a cell without its imports and empty lines."""
    imports = {
        line
        for node in ast.walk(ast.parse(cell))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    return [line for i, line in enumerate(cell.splitlines(), 1) if i not in imports and line.strip()]


@each
def test_what_is_imported_from_the_package_exists(file: Path) -> None:
    for cell in code(file):
        for node in ast.walk(ast.parse(cell)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("gkd"):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    if not hasattr(module, alias.name):
                        importlib.import_module(f"{node.module}.{alias.name}")


@each
def test_stays_in_the_root(file: Path) -> None:
    text = "\n".join(code(file))
    assert "chdir" not in text and "%cd" not in text and "sys.path" not in text
