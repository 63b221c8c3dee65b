import hashlib
from pathlib import Path

import pytest
from dataset_names import plan, touch

from gkd.params import load
from gkd.workspace import manifests
from gkd.workspace.manifests import dependency, write_manifest


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where manifests go, away from the checkout."""
    monkeypatch.setattr(manifests, "ROOT", tmp_path)
    return tmp_path / "manifests"


def test_data_of_the_repository_is_depended_on_as_a_whole() -> None:
    assert dependency(load("mini")) == "data"


def test_manifests_cover_every_dataset_of_a_joined_source_and_no_other(tmp_path: Path, listed: Path) -> None:
    data = tmp_path / "elsewhere"
    folders = ("proxy", "gtav", "synthia", "urbansyn", "cityscapes", "bdd100k", "mapillary")
    touch(data, *folders, "camvid")
    write_manifest("camvid", data / "camvid")  # of an earlier plan
    assert dependency(plan(data, "tiny", sources=["gtav_synthia_urbansyn"])) == "manifests"
    assert {file.stem for file in listed.iterdir()} == set(folders)
    assert (listed / "synthia.csv").read_text().splitlines()[1:] == ["GT/LABELS/0000000.png,0", "RGB/0000000.png,0"]


def test_manifests_follow_the_files_and_nothing_else(tmp_path: Path, listed: Path) -> None:
    data = tmp_path / "elsewhere"
    touch(data, "camvid")
    (data / "camvid/val/images/0016E5_1.jpg").write_bytes(b"12345")
    dependency(plan(data, "camvid"))
    before = (listed / "camvid.csv").read_bytes()
    lines = before.decode().splitlines()
    assert lines[0] == "name,size" and lines[1:] == sorted(lines[1:]) and len(lines) == 7
    assert "val/images/0016E5_1.jpg,5" in lines
    moved = data.rename(tmp_path / "moved")
    dependency(plan(moved, "camvid"))
    assert (listed / "camvid.csv").read_bytes() == before
    (moved / "camvid/val/labels/0016E5_1.png").write_bytes(b"1")
    dependency(plan(moved, "camvid"))
    assert (listed / "camvid.csv").read_bytes() != before


def test_content_hashes_once_asked_for_stay_and_tell_files_of_equal_size_apart(tmp_path: Path, listed: Path) -> None:
    data = tmp_path / "elsewhere"
    touch(data, "camvid")
    file, params = data / "camvid/val/images/0016E5_1.jpg", plan(data, "camvid")

    def manifest() -> str:
        dependency(params)  # as `gkd plan` does
        return (listed / "camvid.csv").read_text()

    file.write_bytes(b"12345")
    sizes = manifest()
    file.write_bytes(b"54321")
    assert manifest() == sizes  # what names and sizes cannot tell
    write_manifest("camvid", data / "camvid", hashed=True)
    first = manifest()
    assert first.startswith("name,size,sha256\n")
    assert f"val/images/0016E5_1.jpg,5,{hashlib.sha256(b'54321').hexdigest()}\n" in first
    file.write_bytes(b"12345")
    second = manifest()
    assert second != first and len(second) == len(first)
