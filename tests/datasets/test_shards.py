import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gkd.data import shards
from gkd.data.loading import Draw, loader
from gkd.data.transforms import DistillationView
from gkd.datasets import DatasetError, open_split
from gkd.doctor import examine
from gkd.params import Distillation
from gkd.workspace import availability


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Indices go to a folder of the test."""
    monkeypatch.setattr("gkd.data.kept.ROOT", tmp_path / "root")
    shards._kept.cache_clear()
    return tmp_path / "root/.scratch/shards"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """The same images as files, and in two shards as plain `tar` writes them."""
    files, packed = tmp_path / "files", tmp_path / "packed/train"
    packed.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for shard in ("000.tar", "sub/001.tar"):
        for name in ("b/2.png", "a/1.jpg", "a/3.PNG", "._a.png", "a/1.cls"):
            path = files / "train" / shard / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("cls"):
                path.write_text("7")
            else:
                Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
        (packed / shard).parent.mkdir(exist_ok=True)
        with tarfile.open(packed / shard, "w") as tar:
            tar.add(files / "train" / shard, arcname=".")
    return files, packed.parent


def proxy(root: Path):
    return open_split("proxy", "train", {"proxy": str(root)})


def test_shards_hold_what_the_files_hold_in_the_same_order(folders) -> None:
    files, packed = (proxy(root) for root in folders)
    images = "a/1.jpg", "a/3.PNG", "b/2.png"
    names = [f"train/{shard}/{name}" for shard in ("000.tar", "sub/001.tar") for name in images]
    assert [sample.name for sample in packed.samples] == [sample.name for sample in files.samples] == names
    for a, b in zip(files, packed, strict=True):
        assert np.array_equal(a[0], b[0]) and a[1] is b[1] is None


@pytest.mark.parametrize("workers", ["0", "2"])
def test_training_draws_the_same_batches(folders, monkeypatch, workers) -> None:
    monkeypatch.setenv("GKD_WORKERS", workers)
    view = DistillationView(Distillation(steps=1, batch_size=4, lr=1.0, image_size=[16, 16]))
    batches = [list(loader(proxy(root), view, Draw(3, 4, 7, start=1), labelled=False)) for root in folders]
    assert len(batches[0]) == 2
    assert all((a == b).all() for a, b in zip(*batches, strict=True))


def test_a_shard_is_listed_once_and_anew_when_it_changes(folders, scratch, monkeypatch) -> None:
    _, packed = folders
    first = proxy(packed)
    kept = sorted(scratch.iterdir())
    assert len(kept) == 2 and {path.suffix for path in kept} == {".npy"}
    shards._kept.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(shards, "_table", lambda *_: pytest.fail("listed again"))
        assert proxy(packed).samples == first.samples
    kept[0].write_bytes(kept[0].read_bytes()[:-9])  # a torn index is made again
    shards._kept.cache_clear()
    assert proxy(packed).samples == first.samples
    shard = packed / "train/000.tar"
    with tarfile.open(shard, "a") as tar:
        tar.add(packed.parent / "files/train/000.tar/b/2.png", arcname="0.png")
    assert len(proxy(packed)) == 7 and len(list(scratch.iterdir())) == 2
    assert np.array_equal(proxy(packed)[0][0], first[2][0])


@pytest.mark.parametrize("cut", ["in an image", "between images", "no tar", "compressed"])
def test_a_torn_shard_is_named(folders, cut) -> None:
    _, packed = folders
    shard = packed / "train/000.tar"
    with tarfile.open(shard) as tar:
        last = [member for member in tar if member.isfile()][-1]
    data = shard.read_bytes()
    if cut == "in an image":
        data = data[: last.offset_data + last.size // 2]
    elif cut == "between images":
        data = data[: last.offset]
    elif cut == "no tar":
        data = b"<html>not found</html>" * 100
    else:
        with tarfile.open(shard, "w:gz") as tar:
            tar.add(packed.parent / "files/train/000.tar/b/2.png", arcname="0.png")
        data = shard.read_bytes()
    shard.write_bytes(data)
    with pytest.raises(DatasetError, match=r"000\.tar: expected .*torn.*; copy or download it again"):
        proxy(packed)


def test_two_members_of_one_name_are_refused(folders) -> None:
    _, packed = folders
    with tarfile.open(packed / "train/000.tar", "a") as tar:
        tar.add(packed.parent / "files/train/000.tar/b/2.png", arcname="./a/1.jpg")
    with pytest.raises(DatasetError, match=r"000\.tar: expected one member a name, found two of a/1\.jpg"):
        proxy(packed)


def test_shards_without_images_and_image_files_beside_shards(folders) -> None:
    files, packed = folders
    with tarfile.open(files / "train/more.tar", "w") as tar:
        tar.add(files / "train/000.tar/a/1.jpg", arcname="1.jpg")
    assert len(proxy(files)) == 6  # image files count, as ever
    for shard in packed.rglob("*.tar"):
        with tarfile.open(shard, "w"):
            pass
    with pytest.raises(DatasetError, match="expected images in its 2 tar shards, found none"):
        proxy(packed)


def test_an_image_that_left_the_shard_is_an_error(folders) -> None:
    _, packed = folders
    data = proxy(packed)
    with tarfile.open(packed / "train/000.tar", "w") as tar:
        tar.add(packed.parent / "files/train/000.tar/b/2.png", arcname="b/2.png")
    with pytest.raises(DatasetError, match=r"000\.tar/a/1\.jpg: expected this image in the shard"):
        data[0]


def test_the_doctor_names_a_damaged_image_in_a_shard(folders) -> None:
    _, packed = folders
    shard = packed / "train/000.tar"
    with tarfile.open(shard) as tar:
        member = tar.getmember("./b/2.png")
    content = bytearray(shard.read_bytes())
    content[member.offset_data + 60 : member.offset_data + 200] = bytes(140)
    shard.write_bytes(content)
    report = examine("proxy", {"proxy": str(packed)}, jobs=1)
    assert report.counts.loc["train", ["images", "examined", "faulty"]].tolist() == [6, 6, 1]
    assert [problem.path for problem in report.problems] == [str(shard / "b/2.png")]
    shard.write_bytes(content[:2000])
    assert [problem.path for problem in examine("proxy", {"proxy": str(packed)}, jobs=1).problems] == [str(shard)]


def test_the_manifest_lists_the_shards(folders, tmp_path, monkeypatch) -> None:
    _, packed = folders
    monkeypatch.setattr(availability, "ROOT", tmp_path)
    lines = availability.write_manifest("proxy", packed).read_text().splitlines()
    sizes = [(packed / "train" / name).stat().st_size for name in ("000.tar", "sub/001.tar")]
    assert lines == ["name,size", f"train/000.tar,{sizes[0]}", f"train/sub/001.tar,{sizes[1]}"]
