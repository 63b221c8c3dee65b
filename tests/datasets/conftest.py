"""Fixtures of the dataset tests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from layout_files import CASES, SIZE, Case, image_array, save

from gkd.datasets import official, variable


@pytest.fixture(params=CASES, ids=lambda case: f"{case.name}-{case.split}-{case.label.split('/')[0]}")
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def vaihingen(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Writes `count` crops of Vaihingen val, returns the roots that lead to them."""

    def write(count: int = 2) -> dict[str, str]:
        for i in range(count):
            save(tmp_path / f"img_dir/val/area{i}_0_0_512_512.png", image_array(i))
            raw = np.full(SIZE, i % 7, dtype=np.uint8)
            save(tmp_path / f"ann_dir/val/area{i}_0_0_512_512.png", raw)
        return {"vaihingen": str(tmp_path)}

    return write


@pytest.fixture(autouse=True)
def no_roots_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for layout in official().layouts.values():
        monkeypatch.delenv(variable(layout.folder), raising=False)


@pytest.fixture(autouse=True)
def copies_of_tiles(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where uncompressed copies of tiles go, away from the checkout."""
    root = tmp_path_factory.mktemp("copies")
    monkeypatch.setattr("gkd.data.reading.ROOT", root)
    return root / ".scratch/tiles"
