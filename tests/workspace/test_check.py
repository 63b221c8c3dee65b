import re
from pathlib import Path
from typing import Any

import pytest
from dataset_names import plan, touch

from gkd.datasets import official
from gkd.mini.suite import WRITERS
from gkd.params import ParamsError, load
from gkd.workspace.check import EMBEDDED, check, names_and_encoders

DRIVING = ("cityscapes", "bdd100k", "mapillary")


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("plan.methods", ["teacher", "gdk", "nome"], "unknown names 'gdk', 'nome'; known: .*gkd"),
        ("plan.methods", ["none", "kd"], "kd needs the row 'teacher', whose segmentor it follows"),
        ("plan.sources", ["gta5"], f"unknown name 'gta5'; known: {', '.join(official().sources)}"),
        ("plan.benchmarks", ["gtav-acd"], "unknown name 'gtav-acd'; known: .*gtav-acdc"),
        ("plan.benchmarks", ["camvid_dusk"], "camvid_dusk is trained on camvid, which plan.sources lacks: add it"),
        ("plan.benchmarks", ["gtav-acdc", "potsdam_rgb-isprs"], "none is trained on cityscapes .*add one of"),
        ("heads", {"gdk": {}}, "unknown name 'gdk'"),
        ("heads.gkd.num_head", {"gkd": {"num_head": 2}}, "unknown option"),
        ("evaluate.bounds", {"acdc": [2, 2]}, "unknown name 'acdc'; known: .*acdc_night"),
        ("domain_agnostic.source_steps", {"camvd": 5}, "unknown name 'camvd'; known: .*camvid"),
        ("roots", {"camvids": "/x"}, "unknown name 'camvids'; known: .*camvid"),
        ("task_agnostic", None, "missing: .* begins with it in the setting f2l"),
        ("models.teacher.name", "deit_smal_patch16_224", "timm has no model named .* Nearest: deit_small_patch16_224"),
    ],
)  # fmt: skip
def test_a_name_that_no_room_knows_is_a_fault_at_its_key(key: str, value: Any, text: str) -> None:
    content = place = load("mini").model_dump()
    *path, last = ["heads"] if key.startswith("heads") else key.split(".")
    for part in path:
        place = place[part]
    place[last] = value
    found = list(names_and_encoders(content))
    assert {fault.key for fault in found} == {key} and any(re.search(text, fault.text) for fault in found)


def test_the_embedded_suite_is_what_is_drawn() -> None:
    assert set(EMBEDDED) == set(WRITERS)


def test_an_absent_target_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="profiles.tiny.plan.sources: unknown name 'gta5'"):
        check(plan(tmp_path, sources=["gta5"]))
    touch(tmp_path, "proxy", "gtav", *DRIVING)
    assert check(plan(tmp_path)) == (["gtav"], [], [], [])
    (tmp_path / "bdd100k").rename(tmp_path / "elsewhere")
    found = check(plan(tmp_path))
    assert (found.sources, found.missing, found.faults) == (["gtav"], ["bdd100k"], [])
    (message,) = found.messages
    about = official().layouts["bdd100k"].about
    for text in ("target bdd100k is left out", str(tmp_path / "bdd100k"), about.url, about.licence, about.size):
        assert text in message


def test_an_absent_source_is_left_out_with_a_hint_at_the_miniature(tmp_path: Path) -> None:
    touch(tmp_path, "proxy", "gtav", *DRIVING)
    found = check(plan(tmp_path, sources=["potsdam", "gtav"]))
    assert (found.sources, found.missing) == (["gtav"], [])
    (message,) = found.messages
    assert message.startswith("source potsdam is left out") and message.endswith("`make data` draws it.")
    photos = check(plan(tmp_path, "camvid"))  # of which there is no miniature
    assert photos.sources == [] and "GKD_CAMVID_ROOT" in photos.messages[0] and "make data" not in photos.messages[0]


def test_a_source_without_any_target_has_nothing_to_evaluate(tmp_path: Path) -> None:
    touch(tmp_path, "proxy", "gtav")
    sources, missing, (message,), _ = check(plan(tmp_path))
    assert (sources, missing) == ([], [])
    assert message.startswith("source gtav is left out: none of its target domains is there")
    assert all(str(tmp_path / folder) in message for folder in DRIVING)


def test_the_proxy_set_is_needed_by_f2l_distillation_only(tmp_path: Path) -> None:
    touch(tmp_path, "gtav", *DRIVING)
    found = check(plan(tmp_path))
    assert found.sources == [] and "the proxy set of task-agnostic distillation is not usable" in found.messages[0]
    assert check(plan(tmp_path, settings=["f2f"])).sources == ["gtav"]
    assert check(plan(tmp_path, methods=["teacher", "none"])).sources == ["gtav"]


def test_a_dataset_that_is_there_and_lacks_files_is_a_fault_and_one_without_a_folder_is_not(tmp_path: Path) -> None:
    touch(tmp_path, "proxy", "gtav", "cityscapes", "bdd100k")
    (tmp_path / "bdd100k/labels/sem_seg/masks/val/a-b.png").unlink()
    found = check(plan(tmp_path))
    assert (found.missing, found.faults) == (["bdd100k", "mapillary"], ["bdd100k"])
    (tmp_path / "gtav" / "labels" / "00002.png").unlink()
    found = check(plan(tmp_path))
    assert (found.sources, found.faults) == ([], ["gtav_train", "gtav_val", "bdd100k"])
    assert "00002.png: expected its label" in found.messages[0]


@pytest.mark.parametrize("hold_out", [True, False])
def test_what_is_trained_on_follows_hold_out(hold_out: bool, tmp_path: Path) -> None:
    touch(tmp_path, "proxy", "gtav", *DRIVING)
    for name in ("images", "labels"):
        (tmp_path / "gtav" / name / "00002.png").unlink()
    # One image is left: the held out one.
    assert check(plan(tmp_path, hold_out=hold_out)).sources == ([] if hold_out else ["gtav"])


def test_a_joined_source_needs_all_of_its_datasets(tmp_path: Path) -> None:
    touch(tmp_path, "proxy", "gtav", *DRIVING)
    sources = ["gtav", "gtav_synthia", "gtav_synthia_urbansyn"]
    found = check(plan(tmp_path, sources=sources))
    assert (found.sources, found.missing, found.faults) == (["gtav"], [], [])
    for message, name, lacking in zip(found.messages, sources[1:], (["synthia"], ["synthia", "urbansyn"]), strict=True):
        assert message.startswith(f"source {name} is left out.\n")
        for folder in ("gtav", "synthia", "urbansyn"):
            assert (official().layouts[folder].about.url in message) == (folder in lacking)
    touch(tmp_path, "synthia", "urbansyn")
    (tmp_path / "bdd100k").rename(tmp_path / "elsewhere")  # a target that they share is named once
    found = check(plan(tmp_path, sources=sources))
    assert (found.sources, found.missing, len(found.messages)) == (sources, ["bdd100k"], 1)


def test_only_the_chosen_benchmarks_are_looked_at(tmp_path: Path) -> None:
    touch(tmp_path, "proxy", "gtav", "acdc")
    assert check(plan(tmp_path, benchmarks=["gtav-acdc"])) == (["gtav"], [], [], [])
    found = check(plan(tmp_path, benchmarks=["gtav-acdc", "gtav-bdd100k"]))
    assert (found.sources, found.missing) == (["gtav"], ["bdd100k"])
