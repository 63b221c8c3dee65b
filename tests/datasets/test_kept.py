from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gkd.data import kept as module
from gkd.data.kept import kept

Make = Callable[[], np.ndarray]


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path / ".scratch" / "kind"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "tile.tif"


def counted(value: int) -> tuple[Make, list[int]]:
    calls: list[int] = []

    def make() -> np.ndarray:
        calls.append(value)
        return np.full(1000, value)

    return make, calls


def test_an_array_is_made_once(folder: Path, source: Path) -> None:
    make, calls = counted(3)
    for _ in range(3):
        np.testing.assert_array_equal(kept("kind", source, 10, 20, make), np.full(1000, 3))
    assert calls == [3]
    assert [file.suffix for file in folder.iterdir()] == [".npy"]


@pytest.mark.parametrize(("size", "changed"), [(11, 20), (10, 21)])
def test_a_changed_file_is_made_anew_and_its_old_array_goes(
    folder: Path, source: Path, size: int, changed: int
) -> None:
    kept("kind", source, 10, 20, counted(3)[0])
    assert kept("kind", source, size, changed, counted(4)[0])[0] == 4
    assert len(list(folder.iterdir())) == 1


def test_files_of_one_name_do_not_meet(folder: Path, source: Path) -> None:
    kept("kind", source, 10, 20, counted(3)[0])
    assert kept("kind", source.parent / "other" / source.name, 10, 20, counted(4)[0])[0] == 4
    assert kept("kind", source, 10, 20, counted(5)[0])[0] == 3


def test_what_is_not_whole_is_made_anew(folder: Path, source: Path) -> None:
    kept("kind", source, 10, 20, counted(3)[0])
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    for mapped in (False, True):
        assert kept("kind", source, 10, 20, counted(4)[0], mapped=mapped)[-1] == 4


def test_a_failure_leaves_nothing(folder: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="no space left"):
        kept("kind", source, 10, 20, counted(3)[0])
    assert list(folder.iterdir()) == []


def test_a_mapped_array_is_read_only(folder: Path, source: Path) -> None:
    array = kept("kind", source, 10, 20, counted(3)[0], mapped=True)
    assert isinstance(array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


@pytest.mark.parametrize("mapped", [False, True])
def test_an_empty_array_is_kept_too(folder: Path, source: Path, mapped: bool) -> None:
    calls = []
    for _ in range(2):
        assert kept("kind", source, 1, 2, lambda: calls.append(1) or np.zeros(0), mapped=mapped).shape == (0,)
    assert len(calls) == 1
