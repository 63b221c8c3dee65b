import hashlib
from pathlib import Path
from typing import Any

import pytest
from dataset_names import touch

from gkd.datasets import official, variable
from gkd.params import Params, load
from gkd.workspace import availability
from gkd.workspace.availability import check, dependency, write_manifest

SOURCES, DATASETS = official().sources, official().layouts
FOLDERS = sorted({layout.folder for layout in DATASETS.values()})


@pytest.fixture(autouse=True)
def no_roots_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in FOLDERS:
        monkeypatch.delenv(variable(folder), raising=False)


@pytest.fixture
def manifests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where manifests go, away from the checkout."""
    monkeypatch.setattr(availability, "ROOT", tmp_path)
    return tmp_path / "manifests"


def plan(data: Path, profile: str = "tiny", **changes: Any) -> Params:
    """A profile whose datasets all lie under `data`."""
    params = load(profile)
    roots = {folder: str(data / folder) for folder in FOLDERS}
    return params.model_copy(update={"plan": params.plan.model_copy(update=changes), "roots": roots})


def test_all_there(tmp_path: Path) -> None:
    touch(tmp_path, "proxy", "gtav", "cityscapes", "bdd100k", "mapillary")
    assert check(plan(tmp_path)) == (["gtav"], [], [], [])


def test_an_absent_target_is_named_with_the_remedy(tmp_path: Path) -> None:
    touch(tmp_path, "proxy", "gtav", "cityscapes", "mapillary")
    found = check(plan(tmp_path))
    assert (found.sources, found.missing, found.faults) == (["gtav"], ["bdd100k"], [])
    (message,) = found.messages
    about = DATASETS["bdd100k"].about
    for text in (
        "target bdd100k is left out",
        "missing",
        str(tmp_path / "bdd100k"),
        about.url,
        about.licence,
        about.size,
    ):
        assert text in message


def test_an_absent_source_is_left_out_with_a_hint_at_the_miniature(tmp_path: Path) -> None:
    touch(tmp_path, "proxy", "gtav", "cityscapes", "bdd100k", "mapillary")
    found = check(plan(tmp_path, sources=["potsdam", "gtav"]))
    assert (found.sources, found.missing) == (["gtav"], [])
    (message,) = found.messages
    assert message.startswith("source potsdam is left out") and message.endswith("`make data` draws it.")


def test_photos_have_no_miniature(tmp_path: Path) -> None:
    found = check(plan(tmp_path, "camvid"))
    assert found.sources == []
    assert "GKD_CAMVID_ROOT" in found.messages[0] and "make data" not in found.messages[0]


def test_a_source_without_any_target_has_nothing_to_evaluate(tmp_path: Path) -> None:
    touch(tmp_path, "proxy", "gtav")
    found = check(plan(tmp_path))
    assert (found.sources, found.missing) == ([], [])
    (message,) = found.messages
    assert message.startswith("source gtav is left out: none of its target domains is there")
    assert all(str(tmp_path / folder) in message for folder in ("cityscapes", "bdd100k", "mapillary"))


def test_the_proxy_set_is_needed_by_f2l_distillation_only(tmp_path: Path) -> None:
    touch(tmp_path, "gtav", "cityscapes", "bdd100k", "mapillary")
    with pytest.raises(ValueError, match="proxy set of task-agnostic distillation"):
        check(plan(tmp_path))
    assert check(plan(tmp_path, settings=["f2f"])).sources == ["gtav"]
    assert check(plan(tmp_path, methods=["teacher", "none"])).sources == ["gtav"]


def test_a_wrong_layout_is_a_fault(tmp_path: Path) -> None:
    touch(tmp_path, "proxy", "gtav", "cityscapes", "bdd100k", "mapillary")
    (tmp_path / "gtav" / "labels" / "00002.png").unlink()
    found = check(plan(tmp_path))
    assert (found.sources, found.faults) == ([], ["gtav-train", "gtav-val"])
    assert "00002.png: expected its label" in found.messages[0]


def test_a_target_that_lacks_files_is_a_fault_and_one_without_a_folder_is_not(tmp_path: Path) -> None:
    touch(tmp_path, "proxy", "gtav", "cityscapes", "bdd100k")
    (tmp_path / "bdd100k/labels/sem_seg/masks/val/a-b.png").unlink()
    found = check(plan(tmp_path))
    assert (found.missing, found.faults) == (["bdd100k", "mapillary"], ["bdd100k"])


@pytest.mark.parametrize("hold_out", [True, False])
def test_what_is_trained_on_follows_hold_out(hold_out: bool, tmp_path: Path) -> None:
    touch(tmp_path, "proxy", "gtav", "cityscapes", "bdd100k", "mapillary")
    for name in ("images", "labels"):
        (tmp_path / "gtav" / name / "00002.png").unlink()
    # One image is left: the held out one.
    sources = check(plan(tmp_path, hold_out=hold_out)).sources
    assert sources == ([] if hold_out else ["gtav"])


def test_an_unknown_source_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "proxy")
    with pytest.raises(ValueError, match=f"tiny.plan.sources: unknown name 'gta5'; known: {', '.join(SOURCES)}"):
        check(plan(tmp_path, sources=["gta5"]))


def test_an_unknown_benchmark_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "proxy")
    with pytest.raises(ValueError, match="tiny.plan.benchmarks: unknown name 'gtav-acd'; known: .*gtav-acdc"):
        check(plan(tmp_path, benchmarks=["gtav-acd"]))


DRIVING = ("cityscapes", "bdd100k", "mapillary")


def test_a_joined_source_needs_all_of_its_datasets(tmp_path: Path) -> None:
    touch(tmp_path, "proxy", "gtav", *DRIVING)
    sources = ["gtav", "gtav-synthia", "gtav-synthia-urbansyn"]
    found = check(plan(tmp_path, sources=sources))
    assert (found.sources, found.missing, found.faults) == (["gtav"], [], [])
    for message, name, lacking in zip(found.messages, sources[1:], (["synthia"], ["synthia", "urbansyn"]), strict=True):
        assert message.startswith(f"source {name} is left out.\n")
        for folder in ("gtav", "synthia", "urbansyn"):
            assert (DATASETS[folder].about.url in message) == (folder in lacking)
            assert (str(tmp_path / folder) in message) == (folder in lacking)
    touch(tmp_path, "synthia")
    assert check(plan(tmp_path, sources=sources)).sources == ["gtav", "gtav-synthia"]
    touch(tmp_path, "urbansyn")
    assert check(plan(tmp_path, sources=sources)) == (sources, [], [], [])


def test_a_target_that_sources_share_is_named_once(tmp_path: Path) -> None:
    touch(tmp_path, "proxy", "gtav", "synthia", "cityscapes", "mapillary")
    found = check(plan(tmp_path, sources=["gtav", "gtav-synthia"]))
    assert (found.sources, found.missing) == (["gtav", "gtav-synthia"], ["bdd100k"])
    assert len(found.messages) == 1


def test_only_the_chosen_benchmarks_are_looked_at(tmp_path: Path) -> None:
    touch(tmp_path, "proxy", "gtav", "acdc")
    assert check(plan(tmp_path, benchmarks=["gtav-acdc"])) == (["gtav"], [], [], [])
    assert check(plan(tmp_path)).sources == []
    found = check(plan(tmp_path, benchmarks=["gtav-acdc", "gtav-bdd100k"]))
    assert (found.sources, found.missing) == (["gtav"], ["bdd100k"])


def test_manifests_cover_every_dataset_of_a_joined_source(tmp_path: Path, manifests: Path) -> None:
    data = tmp_path / "elsewhere"
    folders = ("proxy", "gtav", "synthia", "urbansyn", *DRIVING)
    touch(data, *folders)
    assert dependency(plan(data, sources=["gtav-synthia-urbansyn"])) == "manifests"
    assert {file.stem for file in manifests.iterdir()} == set(folders)
    assert (manifests / "synthia.csv").read_text().splitlines()[1:] == ["GT/LABELS/0000000.png,0", "RGB/0000000.png,0"]


def test_data_of_the_repository_is_depended_on_as_a_whole() -> None:
    assert dependency(load("mini")) == "data"


def test_data_elsewhere_is_depended_on_through_manifests(tmp_path: Path, manifests: Path) -> None:
    data = tmp_path / "elsewhere"
    touch(data, "camvid")
    (data / "camvid/val/images/0016E5_1.jpg").write_bytes(b"12345")
    assert dependency(plan(data, "camvid")) == "manifests"
    assert [file.name for file in manifests.iterdir()] == ["camvid.csv"]
    lines = (manifests / "camvid.csv").read_text().splitlines()
    assert lines[0] == "name,size" and lines[1:] == sorted(lines[1:]) and len(lines) == 7
    assert "val/images/0016E5_1.jpg,5" in lines


def test_manifests_follow_the_files_and_nothing_else(tmp_path: Path, manifests: Path) -> None:
    data = tmp_path / "elsewhere"
    touch(data, "camvid")
    dependency(plan(data, "camvid"))
    before = (manifests / "camvid.csv").read_bytes()
    moved = data.rename(tmp_path / "moved")
    dependency(plan(moved, "camvid"))
    assert (manifests / "camvid.csv").read_bytes() == before
    (moved / "camvid/val/labels/0016E5_1.png").write_bytes(b"1")
    dependency(plan(moved, "camvid"))
    assert (manifests / "camvid.csv").read_bytes() != before


def test_manifests_of_other_datasets_do_not_stay(tmp_path: Path, manifests: Path) -> None:
    data = tmp_path / "elsewhere"
    touch(data, "camvid", "gtav")
    manifests.mkdir()
    (manifests / "gtav.csv").write_text("name,size\n")
    dependency(plan(data, "camvid"))
    assert [file.name for file in manifests.iterdir()] == ["camvid.csv"]


def test_content_hashes_once_asked_for_stay_and_tell_files_of_equal_size_apart(tmp_path: Path, manifests: Path) -> None:
    data = tmp_path / "elsewhere"
    touch(data, "camvid")
    file, params = data / "camvid/val/images/0016E5_1.jpg", plan(data, "camvid")

    def manifest() -> str:
        dependency(params)  # as `gkd plan` does
        return (manifests / "camvid.csv").read_text()

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
