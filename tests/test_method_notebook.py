"""notebooks/method.ipynb runs from any folder on any photo, and its losses by hand are those of `gkd.qsd`."""

from pathlib import Path

import matplotlib
import nbformat
import numpy as np
import pytest
import torch
from PIL import Image

from gkd.params import ROOT
from gkd.qsd import distillation_loss

CELLS = [cell for cell in nbformat.read(ROOT / "notebooks" / "method.ipynb", 4).cells if cell.cell_type == "code"]


def run(cells: list, **parameters: object) -> dict[str, object]:
    """Run cells one after another as a kernel does, `parameters` after the first; returns their names."""
    names: dict[str, object] = {}
    with torch.enable_grad(), torch.random.fork_rng():  # the page turns gradients off and seeds
        for cell in cells:
            exec(compile(cell.source, cell.id, "exec"), names)
            if "parameters" in cell.metadata.get("tags", []):
                names.update(parameters)
    return names


def test_losses_by_hand_are_those_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "own.png")
    # A seed that no pipeline has: fresh heads, whatever lies in results/.
    found = run(CELLS, image=str(tmp_path / "own.png"), seed=987)
    plain, masked = found["plain"], found["masked"]
    assert not torch.equal(plain.patches[0], masked.patches[0]) and torch.equal(plain.patches[-1], masked.patches[-1])
    with torch.no_grad():
        _, metrics = distillation_loss(found["objective"], plain, masked, found["target"])
    losses = {name: float(value) for name, value in found["losses"].items()}
    assert losses == pytest.approx({name: float(value) for name, value in metrics.items()}, rel=1e-6, abs=1e-6)


def test_without_a_photo_says_what_to_run(tmp_path: Path) -> None:
    (opening,) = [number for number, cell in enumerate(CELLS) if "make data" in cell.source]
    names = run(CELLS[:opening])
    with pytest.raises(FileNotFoundError, match="run `make data`"):
        exec(CELLS[opening].source, {**names, "ROOT": tmp_path})
