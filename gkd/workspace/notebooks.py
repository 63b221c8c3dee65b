"""The copies of notebooks that stages run: what an editor leaves behind when it saves changes nothing in them."""

import json
from pathlib import Path

from gkd.files import write_whole

KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


def write_copies(folder: Path, out: Path) -> list[Path]:
    """Write every notebook of `folder` to `out` with source, type, id and tags of its cells alone; returns the paths.

    Raises ValueError where a file is no notebook.
    """
    paths = []
    for file in sorted(folder.glob("*.ipynb")):
        try:
            cells = [_cell(cell) for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{file}: expected a notebook ({error!r}); `git checkout {file}` may bring it") from error
        content = {"cells": cells, "metadata": KERNEL, "nbformat": 4, "nbformat_minor": 5}
        text = json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True)
        paths.append(write_whole(out / file.name, text + "\n"))
    return paths


def _cell(cell: dict) -> dict:
    tags = cell.get("metadata", {}).get("tags")
    kept = {"cell_type": cell["cell_type"], "id": cell["id"], "metadata": {"tags": tags} if tags else {}}
    kept["source"] = "".join(cell["source"])  # a list of lines and one text are the same
    return kept | ({"execution_count": None, "outputs": []} if cell["cell_type"] == "code" else {})
