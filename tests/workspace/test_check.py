"""`gkd check`: every fault of parameters and data in one answer, each at its key and with what to do."""

import re
from pathlib import Path
from typing import Any

import pytest
from dataset_names import touch, written

from gkd.datasets import official
from gkd.mini.suite import WRITERS
from gkd.params import STAGES, ParamsError
from gkd.workspace.check import EMBEDDED, check

SIZES = {"dim": 32, "queries": 19, "encoder_layers": 1, "decoder_layers": 1, "points": 9, "stride": 4}
MASK2FORMER = {
    "models.decoder": "mask2former",
    "models.mask2former": SIZES,
    "models.teacher.blocks": [2, 3, 4, 5],
}
UNGROUPED = {"rows": ["none", "kd", "mse", "gkd"], "heads.mse": {}}
SHORT = {
    "distillation.warmup_steps": 9,
    "domain_agnostic.source_steps": {"gtav": 9},
    **dict.fromkeys((f"{s}.steps" for s in STAGES), 20),
}
AGAIN = {
    "datasets.mine": {"images": "images/*.png", "labels": "labels/*.png", "table": "cityscapes"},
    "roots.mine": "data/gtav",
    "targets.gtav": ["mine/all"],
}
LONG = {
    "rows": ["none", "none_long", "kd", "gkd"],
    "undistilled": ["none", "none_long"],
    "heads.none_long": {"task_pool": 9},
}


def faults(folder: Path, changes: dict[str, Any], profile: str = "tiny") -> dict[str, str]:
    """What `check` finds after a change of params.yaml, by key; a key that comes twice has two texts."""
    written(folder, changes, profile)
    try:
        check()
    except ParamsError as error:
        found: dict[str, str] = {}
        for line in error.faults:
            key, _, text = line.removeprefix("params.yaml: ").partition(": ")
            found[key] = f"{found[key]}\n\n{text}" if key in found else text
        return found
    return {}


@pytest.mark.parametrize(
    ("changes", "key", "text"),
    [
        ({"rows": ["none", "kd", "gkd", "gdk"]}, "rows", "unknown name 'gdk'; known: .*gkd"),
        ({"rows": ["teacher", "none", "kd", "gkd"]}, "rows", "unknown name 'teacher'"),
        (UNGROUPED, "rows", "mse belongs to `distilled`.*; it is in none of"),
        ({"guided": ["kd", "gkd"]}, "rows", "gkd belongs to `distilled`.*; it stands in distilled and guided"),
        ({"guided": [], "undistilled": ["none", "kd"]}, "rows", "kd belongs to `guided`.*; it stands in undistilled"),
        ({"headline": "mse"}, "headline", "unknown name 'mse'; known: none, kd, gkd"),
        ({"rows": ["kd", "gkd"]}, "undistilled", "none is not in `rows`: add it there"),
        ({"sources": ["gta5"]}, "sources", f"unknown name 'gta5'; known: {', '.join(official().sources)}"),
        ({"targets.gtav": ["bdd", "bdd100k"]}, "targets.gtav", "'bdd': expected DATASET/SPLIT, or one of .*bdd100k"),
        ({"targets.gtav": ["gtav_val"]}, "targets.gtav", "gtav_val is a part of the source gtav"),
        (AGAIN, "targets.gtav", r"mine_all holds \d+ images of gtav: name what it never saw"),
        ({"targets.gtav": ["bdd100k", "bdd100k/val"]}, "targets.gtav", r"each domain once \(given: bdd100k, bdd100k\)"),
        ({"label_divisor": 1000}, "label_divisor", r"expected at most \d+, the images of gtav_train \(given: 1000\)"),
        ({"targets": {}}, "targets.gtav", "missing: the domains"),
        ({"heads.gdk": {}}, "heads", "unknown name 'gdk'"),
        ({"heads": {"none": {}, "kd": {}}}, "heads.gkd", "missing: its options, {} for none"),
        ({"heads": {"kd": {}, "gkd": {}}}, "heads.none", "missing: its options, {} for none"),
        ({"heads.teacher": {}}, "heads", "unknown name 'teacher'"),
        (LONG, "heads.none_long.task_steps", "Field required"),
        ({"heads.gkd.num_head": 2}, "heads.gkd.num_head", "unknown option"),
        ({"evaluate.bounds": {}}, "evaluate.bounds.gtav.validation", "missing: a size .*, or null"),
        ({"evaluate.bounds.gtav.acdc_fog": None}, "evaluate.bounds.gtav", "unknown name 'acdc_fog'; known: validation"),
        ({"domain_agnostic.source_steps": {"camvd": 5}}, "domain_agnostic.source_steps", "unknown name 'camvd'"),
        (SHORT, "domain_agnostic.source_steps.gtav", "expected more than warmup_steps, 9"),
        ({"roots.camvids": "/x"}, "roots", "unknown name 'camvids'; known: .*camvid"),
        ({"datasets.gtav": {"images": "*.png"}}, "datasets.gtav", "an official one has this name"),
        ({"models.teacher.name": "deit_smal_patch16_224"}, "models.teacher.name", "Nearest: deit_small_patch16_224"),
        ({"models.teacher.weights": "weights/a.pth"}, "models.teacher.weights", "the weights file weights/a.pth of "),
        ({"models.decoder": "mask2former"}, "models.mask2former", "expected sizes, as in profiles/paper.yaml"),
        ({"models.teacher.weights": "package:no_such"}, "models.teacher.weights", "no-such is not installed: pip"),
        ({"models.teacher.options.num_heads": 0}, "models.teacher.options", "vit_tiny_patch16_224 .*ZeroDivisionError"),
        (MASK2FORMER, "models.students.f2l", "four blocks, and for an encoder of 4 none are published: name them"),
        ({"models.teacher.options.embed_dims": 8}, "models.teacher.options", "vit_tiny_patch16_224 .*'embed_dims'"),
        ({"models.teacher.options.num_heads": 5}, "models.teacher.options", ".*divisible by num_heads"),
        ({"task_agnostic.image_size": [72, 64]}, "task_agnostic.image_size", "models.teacher: .*72 x 64 pixels"),
        ({"task_learning.crop": [64, 72]}, "task_learning.crop", "models.students.f2l: VisionTransformer cannot take"),
        ({"inference.window": 72}, "inference.window", "models.teacher: .*72 x 72 pixels: .*img_size"),
        ({"distillation.rand_augment": "rand_m9"}, "distillation.rand_augment", "timm's RandAugment, such as rand-m9"),
        ({"distillation.rand_augment": "rand-tweihgts"}, "distillation.rand_augment", "timm's RandAugment"),
        ({"settings": [["f2l"]]}, "settings.0", "'f2l' or 'f2f'"),
        ({"heads.gkd.num_heads": 7}, "heads.gkd", "num_heads=7 does not divide the teacher's 192 channels"),
    ],
)  # fmt: skip
def test_what_no_room_knows_or_does_not_fit_is_a_fault_at_its_key(checkout: Path, changes: dict, key: str, text: str):
    found = faults(checkout, changes)
    assert re.search(text, found.pop(key)) and not found


def test_a_sound_profile_has_no_fault_and_a_misspelt_root_of_the_environment_is_one(
    checkout: Path, monkeypatch
) -> None:
    monkeypatch.setenv("GKD_BDD100K_ROOT", str(checkout / "data" / "bdd100k"))
    assert faults(checkout, {}) == faults(checkout, {"models.students.f2f.name": "of no setting here"}) == {}
    sizes = {"distillation.image_size": [72, 72], **dict.fromkeys((f"{s}.image_size" for s in STAGES), [64, 64])}
    assert faults(checkout, sizes) == {}  # one that no stage uses
    monkeypatch.setenv("GKD_BDD_ROOT", "/x")
    assert "unknown name 'GKD_BDD_ROOT' in the environment; known: GKD_" in faults(checkout, {})["roots"]


def test_all_faults_of_parameters_and_data_come_at_once(checkout: Path) -> None:
    (checkout / "data" / "bdd100k").rename(checkout / "elsewhere")
    wrong = {
        "seeds": [-1],
        "rows": ["none", "kd", "gkd", "gdk"],
        "roots.camvids": "/x",
        "models.teacher.name": "deit_smal",
    }
    changes = {**wrong, "models.students.f2l.weights": "weights/a.pth", "sources": ["gtav", "gtva"], "profil": "tiny"}
    keys = {"seeds.0", "rows", "roots", "models.teacher.name", "models.students.f2l.weights", "sources", "profil"}
    assert set(faults(checkout, changes)) == keys | {"targets.gtav"}
    assert set(faults(checkout, {"label_divisor": 1000})) == {"targets.gtav", "label_divisor"}


def test_a_faulty_declared_dataset_hides_no_other(checkout: Path) -> None:
    own = {
        "images": "{split}/*.jpg",
        "labels": "{split}/*.png",
        "table": "cityscapes_train_ids",
        "splits": ["val", "train"],
    }
    for split in own["splits"]:
        for end in ("jpg", "png"):
            (file := checkout / f"data/harbour/{split}/a.{end}").parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    declared = {"harbour": own, "port": {**own, "splits": []}, 2024: own}
    found = faults(checkout, {"datasets": declared, "roots.port": "/x", "targets.gtav": ["harbour/val"]})
    assert "expected {split} in images and labels" in found.pop("datasets.port")
    assert [key for key in found if "2024" in key] == [*found]  # no name


def test_the_embedded_suite_is_what_is_drawn() -> None:
    assert set(EMBEDDED) == set(WRITERS)


def test_what_is_absent_is_named_with_what_to_get_and_which_entries_to_remove(checkout: Path) -> None:
    data = checkout / "data"
    data.rename(checkout / "elsewhere")
    sources = {"sources": ["gtav", "cityscapes"], "evaluate.bounds.cityscapes.validation": None}
    targets = {"targets.cityscapes": ["acdc_night", "acdc_snow", "bdd100k"]}
    found = faults(checkout, sources | targets)
    assert set(found) == {"task_agnostic.settings", "sources", "targets.gtav", "targets.cityscapes"}
    assert found["task_agnostic.settings"].startswith("proxy not usable; set `task_agnostic.settings: []` to go on")
    first, second = found["sources"].split("\n\n")
    assert first.startswith("gtav_train, gtav_val not usable; remove gtav to go on without.")
    assert second.startswith("cityscapes_train, cityscapes not usable; remove cityscapes to go on without.")
    acdc, bdd = found["targets.cityscapes"].split("\n\n")
    assert acdc.startswith("acdc_night, acdc_snow not usable; remove acdc_night, acdc_snow to go on without.")
    about = official().layouts["bdd100k"].about
    for text in ("remove bdd100k", str(data / "bdd100k"), "GKD_BDD100K_ROOT", about.url, about.licence, about.size):
        assert text in bdd
    assert bdd.endswith("`make data` draws it.")
    assert (
        "make data" not in faults(checkout, {"roots.proxy": "/photos"})["task_agnostic.settings"]
    )  # which draws data/ alone
    photos = faults(checkout, {}, "camvid")  # of which there is no miniature
    assert "GKD_CAMVID_ROOT" in photos["sources"] and "make data" not in photos["sources"]


@pytest.mark.parametrize(
    "changes",
    [
        {"task_agnostic.settings": []},
        {"settings": ["f2f"]},
        {"rows": ["none", "kd"], "distilled": [], "headline": "kd"},
    ],
)
def test_the_proxy_set_is_needed_where_a_method_is_distilled_on_it_only(checkout: Path, changes: dict) -> None:
    (checkout / "data" / "proxy").rename(checkout / "elsewhere")
    assert set(faults(checkout, {})) == {"task_agnostic.settings"} and not faults(checkout, changes)


def test_a_file_that_is_lacking_is_named(checkout: Path) -> None:
    (checkout / "data/bdd100k/labels/sem_seg/masks/val/a-b.png").unlink()
    (checkout / "data/gtav/labels/00002.png").unlink()
    found = faults(checkout, {})
    assert "a-b.jpg: expected its label" in found["targets.gtav"]
    assert "00002.png: expected its label" in found["sources"]


@pytest.mark.parametrize("hold_out", [True, False])
def test_what_is_trained_on_follows_hold_out(checkout: Path, hold_out: bool) -> None:
    for name in ("images", "labels"):
        (checkout / "data" / "gtav" / name / "00002.png").unlink()
    # One image is left: the held out one.
    assert ("sources" in faults(checkout, {"hold_out": hold_out})) == hold_out


def test_a_joined_source_needs_all_of_its_datasets(checkout: Path) -> None:
    joined = ["gtav_synthia", "gtav_synthia_urbansyn"]
    changes = {"sources": ["gtav", *joined]}
    for name in joined:
        changes |= {f"targets.{name}": ["bdd100k"], f"evaluate.bounds.{name}.validation": None}
    synthia, urbansyn = faults(checkout, changes)["sources"].split("\n\n")
    assert synthia.startswith("synthia not usable; remove gtav_synthia, gtav_synthia_urbansyn to go on without")
    assert urbansyn.startswith("urbansyn not usable; remove gtav_synthia_urbansyn to go on without")
    touch(checkout / "data", "synthia", "urbansyn")
    assert faults(checkout, changes) == {}
