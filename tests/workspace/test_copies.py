"""The copies of notebooks that stages run: what an editor leaves behind when it saves changes nothing in them."""

import json
from pathlib import Path
from uuid import uuid4

import nbformat
import pytest

from gkd.params import ROOT
from gkd.workspace.notebooks import write_copies

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def copies(folder: Path, out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in write_copies(folder, out)}


def test_saving_with_outputs_and_other_metadata_gives_equal_copies(tmp_path: Path) -> None:
    first = copies(ROOT / "notebooks", tmp_path / "first")
    assert set(first) == {file.name for file in NOTEBOOKS}
    for file in NOTEBOOKS:
        notebook = nbformat.read(file, 4)
        notebook.metadata = {
            "kernelspec": {"name": "mine", "display_name": "Mine"},
            "language_info": {"name": "python"},
        }
        for cell in notebook.cells:
            cell.metadata |= {"collapsed": False, "vscode": {"languageId": "python"}, "editable": True}
            if cell.cell_type == "code":
                cell.execution_count, cell.outputs = 3, [nbformat.v4.new_output("stream", text=str(uuid4()))]
        content = nbformat.v4.writes(notebook)
        other = json.loads(content)  # an editor that keeps a cell's lines as one text, and another minor version
        for cell in other["cells"]:
            cell["source"] = "".join(cell["source"])
        (tmp_path / file.name).write_text(json.dumps(other | {"nbformat_minor": 6}))
    assert copies(tmp_path, tmp_path / "second") == first


def test_a_change_of_a_cell_changes_its_copy_alone(tmp_path: Path) -> None:
    first = copies(ROOT / "notebooks", tmp_path / "first")
    for file in NOTEBOOKS:
        notebook = nbformat.read(file, 4)
        if file.stem == "report":
            notebook.cells[-1].source += "\nprint()"
        nbformat.write(notebook, tmp_path / file.name)
    second = copies(tmp_path, tmp_path / "second")
    assert {name for name in first if first[name] != second[name]} == {"report.ipynb"}


def test_the_copies_are_notebooks_for_any_python3_with_their_parameters(tmp_path: Path) -> None:
    for file in write_copies(ROOT / "notebooks", tmp_path):
        notebook = nbformat.read(file, 4)
        nbformat.validate(notebook)
        assert notebook.metadata.kernelspec.name == "python3"
        assert [cell.metadata.get("tags") for cell in notebook.cells].count(["parameters"]) == 1


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_what_is_no_notebook_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.ipynb").write_text(text)
    with pytest.raises(ValueError, match="a.ipynb: expected a notebook .*git checkout"):
        write_copies(tmp_path, tmp_path / "out")
