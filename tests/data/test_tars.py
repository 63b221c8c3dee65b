"""A proxy set in tar files: the same images as from files, in any order, and torn tars named."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from layout_files import image_array, open_split, refused, save

from gkd.datasets import official
from gkd.doctor import examine


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """The same images as files, and in two tars as plain `tar` writes them."""
    files, packed = tmp_path / "files", tmp_path / "packed"
    for tar in ("000.tar", "sub/001.tar"):
        for seed, name in enumerate(("b/2.png", "a/1.jpg", "a/3.PNG", "._a.png", "a/1.cls")):
            if name.endswith("cls"):
                (files / "train" / tar / name).write_text("7")
            else:
                save(files / "train" / tar / name, image_array(seed, (20, 24)))
        (packed / "train" / tar).parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(packed / "train" / tar, "w") as opened:
            opened.add(files / "train" / tar, arcname=".")
    return files, packed


def add(tar: Path, image: Path, name: str) -> None:
    with tarfile.open(tar, "a") as opened:
        opened.add(image, arcname=name)


def test_tars_hold_what_the_files_hold_in_the_same_order(folders: tuple[Path, Path]) -> None:
    files, packed = (open_split("proxy", "train", root) for root in folders)
    images = "a/1.jpg", "a/3.PNG", "b/2.png"
    names = [f"train/{tar}/{name}" for tar in ("000.tar", "sub/001.tar") for name in images]
    assert [sample.name for sample in packed.samples] == [sample.name for sample in files.samples] == names
    for i in (3, 0, 5, 1, 4, 2):
        assert np.array_equal(files[i][0], packed[i][0]) and files[i][1] is packed[i][1] is None


def test_a_changed_tar_is_listed_anew(folders: tuple[Path, Path]) -> None:
    files, packed = folders
    data = open_split("proxy", "train", packed)
    add(packed / "train/000.tar", files / "train/000.tar/b/2.png", "0.png")
    again = open_split("proxy", "train", packed)
    assert len(again) == 7 and np.array_equal(again[0][0], data[2][0])
    with tarfile.open(packed / "train/000.tar", "w") as opened:
        opened.add(files / "train/000.tar/b/2.png", arcname="b/2.png")
    with refused("000.tar/a/1.jpg: expected this image in the tar"):
        data[0]
    (packed / "train/000.tar").unlink()
    with refused("000.tar/b/2.png: expected an image, found no such file"):
        data[2]


@pytest.mark.parametrize("cut", ["in an image", "between images", "no tar", "compressed"])
def test_a_torn_tar_is_named(folders: tuple[Path, Path], cut: str) -> None:
    files, packed = folders
    tar = packed / "train/000.tar"
    with tarfile.open(tar) as opened:
        last = [member for member in opened if member.isfile()][-1]
    data = tar.read_bytes()
    if cut == "in an image":
        data = data[: last.offset_data + last.size // 2]
    elif cut == "between images":
        data = data[: last.offset]
    elif cut == "no tar":
        data = b"<html>not found</html>" * 100
    else:
        with tarfile.open(tar, "w:gz") as opened:
            opened.add(files / "train/000.tar/b/2.png", arcname="0.png")
        data = tar.read_bytes()
    tar.write_bytes(data)
    with refused("000.tar: expected ", "torn", "; copy or download it again"):
        open_split("proxy", "train", packed)


def test_tars_that_are_of_no_use_and_image_files_beside_tars_are_refused(folders: tuple[Path, Path]) -> None:
    files, packed = folders
    add(packed / "train/000.tar", files / "train/000.tar/b/2.png", "./a/1.jpg")
    with refused("000.tar: expected one member a name, found two of a/1.jpg"):
        open_split("proxy", "train", packed)
    for tar in packed.rglob("*.tar"):
        with tarfile.open(tar, "w") as opened:  # as ImageNet is downloaded: an archive of archives
            opened.add(files / "train/000.tar/a/1.cls", arcname="n01.tar")
    with refused("expected images in its 2 tar files, found none; ", "unpack"):
        open_split("proxy", "train", packed)
    add(files / "train/more.tar", files / "train/000.tar/a/1.jpg", "1.jpg")
    with refused(files / "train", "found both; unpack all tar files, or move one kind away"):
        open_split("proxy", "train", files)  # half of an ImageNet that is being unpacked


def test_the_doctor_names_a_damaged_image_and_a_torn_tar(folders: tuple[Path, Path]) -> None:
    _, packed = folders
    tar = packed / "train/000.tar"
    with tarfile.open(tar) as opened:
        member = opened.getmember("./b/2.png")
    content = bytearray(tar.read_bytes())
    content[member.offset_data + 60 : member.offset_data + 200] = bytes(140)
    tar.write_bytes(content)
    known = official({"proxy": str(packed)})
    report = examine("proxy", known, jobs=1)
    assert report.counts.loc["train", ["images", "examined", "faulty"]].tolist() == [6, 6, 1]
    assert [problem.path for problem in report.problems] == [str(tar / "b/2.png")]
    tar.write_bytes(content[:2000])
    assert [problem.path for problem in examine("proxy", known, jobs=1).problems] == [str(tar)]
