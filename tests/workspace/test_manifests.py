"""Lists of what stages read: they follow the files, and a stage notices where they are no longer true."""

import csv
import hashlib
from pathlib import Path

import pytest
from dataset_names import touch, written

from gkd.data.reading import DatasetError
from gkd.datasets import catalogue
from gkd.params import load
from gkd.workspace import manifests
from gkd.workspace.inputs import open_labelled, open_proxy, open_target, open_training, open_validation
from gkd.workspace.manifests import HEADER, outdated, verify_weights, write_all

COMMAND = "`dvc repro --force --single-item check`"


def write(folder: Path, name: str) -> list[dict[str, str]]:
    """The lines of a manifest that is made anew."""
    write_all(load())
    return list(csv.DictReader((folder / "manifests" / name).read_text().splitlines()))


def test_each_part_has_its_list_and_an_unused_one_is_a_header_alone(checkout: Path) -> None:
    def lengths() -> dict[str, int]:
        files = write_all(load())
        return {
            file.relative_to(checkout / "manifests").as_posix()[:-4]: file.read_text().count("\n") for file in files
        }

    targets = [f"targets/gtav/{name}" for name in ("cityscapes", "bdd100k", "mapillary")]
    fixed = {
        "train/gtav/train": 3,
        "train/gtav/validation": 3,
        "weights/teacher": 2,
        "weights/f2l": 2,
        "weights/f2f": 1,
    }
    assert lengths() == fixed | dict.fromkeys(["proxy/train", *targets], 3)
    written(checkout, {"distilled": [], "targets.gtav": ["bdd100k"]})
    assert lengths() == fixed | {"proxy/train": 1, targets[1]: 3}
    assert (checkout / "manifests/proxy/train.csv").read_text() == ",".join(HEADER) + "\n"


def test_a_list_says_how_each_file_is_read_and_its_own_root_does_not_matter(checkout: Path) -> None:
    head, image = write(checkout, "targets/gtav/bdd100k.csv")
    assert (head["domain"], head["image"], head["label"]) == ("bdd100k", "bdd100k/val", "cityscapes")
    assert image["image"] == "images/10k/val/a-b.jpg" and image["label"] == "labels/sem_seg/masks/val/a-b.png"
    assert (image["table"], image["bytes"]) == ("cityscapes_train_ids", "0") and len(image["digest"].split()) == 2
    (checkout / "data/bdd100k").rename(checkout / "elsewhere")
    written(checkout, {"roots.bdd100k": str(checkout / "elsewhere")})
    assert write(checkout, "targets/gtav/bdd100k.csv") == [head, image]


def test_a_line_separator_in_a_name_is_part_of_it(checkout: Path) -> None:
    file = checkout / "data/bdd100k/images/10k/val/a-b.jpg"
    label = checkout / "data/bdd100k/labels/sem_seg/masks/val/a-b.png"
    for old, name in ((file, "a\u2028b.jpg"), (label, "a\u2028b.png")):
        old.rename(old.with_name(name))
    write_all(load())
    data = open_target(load(), "gtav", catalogue(load()).domain("bdd100k"))
    assert [sample.image.name for sample in data.samples] == ["a\u2028b.jpg"]


@pytest.mark.parametrize("hashed", [True, False])
def test_contents_change_a_list_below_a_size(checkout: Path, monkeypatch: pytest.MonkeyPatch, hashed: bool) -> None:
    file = checkout / "data/bdd100k/images/10k/val/a-b.jpg"
    if not hashed:
        monkeypatch.setattr(manifests, "HASHED", 3)
    file.write_bytes(b"12345")
    first = write(checkout, "targets/gtav/bdd100k.csv")
    file.write_bytes(b"54321")
    assert (write(checkout, "targets/gtav/bdd100k.csv") != first) == hashed
    file.write_bytes(b"123456")
    assert write(checkout, "targets/gtav/bdd100k.csv") != first


def test_a_hash_is_kept_until_the_file_changes(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write(checkout, "train/gtav/train.csv")
    read = []
    monkeypatch.setattr(manifests, "sha256", lambda path: read.append(path) or "0" * 64)
    assert write(checkout, "train/gtav/train.csv") == first
    assert not [path for path in read if "data" in path.parts]


def test_a_changed_added_or_removed_file_is_noticed_and_the_command_is_named(checkout: Path) -> None:
    touch(checkout / "data", "proxy")
    more = [checkout / f"data/cityscapes/{name}/val/ulm/ulm_000000_000020_{end}.png"
            for name, end in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelTrainIds"))]  # fmt: skip
    params = load()
    (target,) = catalogue(params).targets("gtav", ["cityscapes"])
    assert len(open_target(params, "gtav", target)) == 1  # by hand, before any list is there
    write_all(params)
    assert len(open_target(params, "gtav", target)) == len(open_training(params, "gtav")) == 1
    for file in more:
        file.touch()
    with pytest.raises(DatasetError, match=f"manifests/targets/gtav/cityscapes.csv lists 2 .*, there are 3 .*such as "
                                           f"cityscapes: .*_000020_.*root right.*{COMMAND}"):  # fmt: skip
        open_target(params, "gtav", target)
    write_all(params)
    written(checkout, {"distilled": []})
    write_all(load())
    assert len(open_proxy(load())) == 1  # by hand: no stage reads it
    written(checkout)
    write_all(params)
    for file in more:
        file.unlink()
    with pytest.raises(DatasetError, match=COMMAND):
        open_target(params, "gtav", target)
    (checkout / "data/proxy/train/n01/a.JPEG").write_bytes(b"1")
    (checkout / "data/gtav/images/00001.png").write_bytes(b"1")
    (checkout / "data/gtav/labels/00002.png").write_bytes(b"1")
    for opened in (open_proxy, lambda p: open_validation(p, "gtav"), lambda p: open_training(p, "gtav"),
                   lambda p: open_labelled(p, "gtav", seed=0)):  # fmt: skip
        with pytest.raises(DatasetError, match=f"there are 2 now and not the same, such as .*{COMMAND}"):
            opened(params)


def test_a_root_that_was_changed_after_the_check_is_noticed(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC hashes data/ alone, and would say that nothing changed."""
    params, lock = load(), checkout / "dvc.lock"
    lock.write_text(hashlib.md5((checkout / "params.yaml").read_bytes()).hexdigest())
    write_all(params)
    assert outdated(params) is None
    touch(checkout / "elsewhere", "bdd100k")
    monkeypatch.setenv("GKD_BDD100K_ROOT", str(checkout / "elsewhere/bdd100k"))
    assert outdated(params) is None  # the same names and sizes
    (checkout / "elsewhere/bdd100k/images/10k/val/a-b.jpg").write_bytes(b"1")
    assert "manifests/targets/gtav/bdd100k.csv lists 2 images, there are 2 now and not the same" in outdated(params)
    lock.write_text("of other parameters: `check` runs anyway")
    assert outdated(params) is None


def test_a_change_of_ones_own_label_table_changes_the_list(checkout: Path) -> None:
    table = checkout / "own.csv"
    declared = {"images": "images/*.png", "labels": "labels/*.png", "table": str(table), "label_space": "cityscapes"}
    changes = {"datasets.harbour": declared, "roots.harbour": "data/gtav", "targets.gtav": ["harbour/all"]}
    written(checkout, changes)

    def listed(text: str) -> list[dict[str, str]]:
        table.write_text(f"id,name,train_id,r,g,b\n{text}")
        manifests._table.cache_clear()  # which a process keeps
        return write(checkout, "targets/gtav/harbour_all.csv")

    first, second = listed("1,road,0,1,2,3\n"), listed("2,road,0,1,2,3\n")
    assert all(lines[1]["table"].startswith(f"{table} ") for lines in (first, second)) and first != second


def test_weights_other_than_those_that_were_found_are_noticed(checkout: Path) -> None:
    (checkout / "weights").unlink()
    (checkout / "weights/mini").mkdir(parents=True)
    names = {"teacher": "teacher", "f2l": "student_narrow", "f2f": "student_broad"}
    files = {name: checkout / f"weights/mini/{file}.safetensors" for name, file in names.items()}
    for name, file in files.items():
        file.write_text(name)
    written(checkout, {"settings": ["f2l"]})
    params = load()
    verify_weights("teacher", params.models.teacher)  # by hand, before any list is there
    write_all(params)
    verify_weights("f2f", params.models.students["f2f"])  # by hand, of a setting that is not listed
    verify_weights("f2l", params.models.students["f2l"])
    files["f2l"].write_text("changed")
    with pytest.raises(DatasetError, match=f"weights/mini/student_narrow.*{COMMAND}"):
        verify_weights("f2l", params.models.students["f2l"])
