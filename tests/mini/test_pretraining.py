"""Pretraining of the stand-ins: recipes, views, resuming, the stage, and whether the committed files are of it."""

import ast
import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from test_package import IMPORTS, imported, room

from gkd.data.labels import IGNORE
from gkd.mini.pretraining import (
    CLASSES,
    HOME,
    STREET,
    Recipe,
    accuracy,
    cut,
    draw_pool,
    pretrain,
    recipes,
    record_of,
    taught,
)
from gkd.mini.style import Style
from gkd.params import ROOT, ParamsError, load
from gkd.train.resume import Resume
from gkd.weights import read_record, save

OPTIONS = {"img_size": 64, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 3}
RECIPE = Recipe(
    name="vit_tiny_patch16_224", options=OPTIONS, style="narrow", seed=0, pool=4, scale=[0.5, 1.0], steps=4,
    batch_size=4, lr=3e-3, min_lr=1e-5, warmup_steps=1, weight_decay=0.05, threads=1,
)  # fmt: skip
STAGE = YAML(typ="safe").load(HOME / "dvc.yaml")["stages"]["pretrain"]
CELLS = ["".join(c["source"]) for c in json.loads((ROOT / "notebooks/pretrain.ipynb").read_text())["cells"]]


def test_a_pool_holds_street_then_overhead_scenes_in_one_label_space():
    def plain(_rng, kind):
        return Style(kind=kind)

    images, labels = draw_pool(plain, 3, seed=0)
    assert images.shape == (6, 64, 64, 3) and labels.shape == (6, 64, 64)
    assert images.dtype == labels.dtype == np.uint8 and all(image.std() > 1 for image in images)
    street, overhead = (set(np.unique(part)) - {IGNORE} for part in (labels[:3], labels[3:]))
    assert street and max(street) < STREET == 19
    assert overhead and min(overhead) >= STREET and max(overhead) < len(CLASSES) == 25
    (few, fewer), (other, _) = draw_pool(plain, 2, 0), draw_pool(plain, 2, 1)
    for two, three in ((few, images), (fewer, labels)):  # scene i follows the seed and i alone
        assert np.array_equal(two[:2], three[:2]) and np.array_equal(two[2:], three[3:5])
    assert not np.array_equal(few, other)


@given(side=st.sampled_from([1.0, 0.5]), left=st.integers(0, 4), top=st.integers(0, 4), flip=st.sampled_from([1, -1]))
def test_a_view_is_its_box_of_the_scene(side, left, top, flip):
    image = torch.arange(3 * 64).view(1, 3, 8, 8).to(torch.uint8)
    label = torch.arange(64).view(1, 8, 8).to(torch.uint8)
    size = round(8 * side)
    left, top = min(left, 8 - size), min(top, 8 - size)
    x, y = ((2 * start + size) / 8 - 1 for start in (left, top))
    photo, classes = cut(image, label, torch.tensor([[side, x, y, flip]]))
    part = (
        label[:, top : top + size, left : left + size].repeat_interleave(8 // size, 1).repeat_interleave(8 // size, 2)
    )
    assert torch.equal(classes, (part.flip(2) if flip < 0 else part).long())
    if side == 1:
        expected = image.float() / 255
        torch.testing.assert_close(photo, expected.flip(3) if flip < 0 else expected)


def test_pretraining_starts_from_scratch_and_returns_the_whole_segmentor(capsys):
    model, history = pretrain(RECIPE.model_copy(update={"steps": 10}), "student")
    assert list(history) == ["step", "lr", "loss", "accuracy"] and len(history) == 10
    assert history["loss"].tail(3).mean() < history["loss"].head(3).mean()
    assert history["accuracy"].between(0, 1).all()
    assert history["lr"].iloc[0] == pytest.approx(1.5e-3) and history["lr"].iloc[1] == pytest.approx(3e-3)  # warm-up
    assert not model.training and not model.frozen
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, len(CLASSES), 32, 32)
    assert capsys.readouterr().out.startswith("student: 8 scenes drawn\n")


def test_a_withheld_class_is_void_in_both_kinds_of_scenes_and_every_other_label_stays():
    labels = np.arange(len(CLASSES) + 1, dtype=np.uint8)[None]
    labels[0, -1] = IGNORE
    assert np.array_equal(taught(labels, RECIPE), labels)
    told = taught(labels, RECIPE.model_copy(update={"withheld": ["sidewalk", "car"]}))
    assert [CLASSES[i] for i in np.flatnonzero(told[0] != labels[0])] == ["sidewalk", "car", "car"]
    assert told.dtype == np.uint8 and set(told[told != labels]) == {IGNORE}


def test_a_withheld_class_is_neither_learnt_nor_scored():
    rest = sorted({*CLASSES} - {"sky", "impervious_surface"})  # one of each kind is left, and learnt at once
    recipe = RECIPE.model_copy(update={"withheld": rest, "steps": 30})
    model, history = pretrain(recipe, "student")
    assert history["accuracy"].tail(5).mean() > 0.9
    assert min(accuracy(model, recipe, count=2)) > 0.9 > 0.5 > max(accuracy(model, RECIPE, count=2))


def bits(model):
    return [tensor.numpy().tobytes() for tensor in model.state_dict().values()]


def test_a_killed_run_ends_with_the_bits_of_one_that_was_left_alone(tmp_path):
    alone, history = pretrain(RECIPE, "student")
    resume, other = Resume(tmp_path, "key", seconds=0), RECIPE.model_copy(update={"seed": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gkd.mini.pretraining.cut", killed_at(2))
        with pytest.raises(KeyboardInterrupt):
            pretrain(RECIPE, "student", resume)
    assert len(resume.slot("student").load()["history"]) == 2
    again, same = pretrain(RECIPE, "student", resume)
    assert bits(again) == bits(alone) != bits(pretrain(other, "student")[0])
    assert same["loss"].tolist() == history["loss"].tolist()


def killed_at(number):
    calls = iter(range(number))

    def view(*batch):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return cut(*batch)

    return view


def test_recipes_are_checked_by_key(tmp_path):
    content = YAML(typ="safe").load(HOME / "params.yaml")
    content["teacher"]["batch_size"], content["student_broad"]["rate"] = 3, 1.0
    (file := tmp_path / "params.yaml").write_text(json.dumps(content))
    with pytest.raises(ParamsError) as error:
        recipes(file)
    assert [line.split(" (")[0] for line in error.value.faults] == [
        "params.yaml: teacher.batch_size: expected a multiple of 2",
        "params.yaml: student_broad.rate: unknown key; check its spelling",
    ]


def test_a_file_says_its_recipe_and_any_other_value_is_another_recipe(tmp_path):
    model, _ = pretrain(RECIPE, "student")
    record = read_record(save(tmp_path / "a.safetensors", {"encoder": model.encoder}, record_of(RECIPE)))
    assert (record.recipe, record.made_by) == (RECIPE.hash, "notebooks/pretrain.ipynb")
    assert Recipe(**record.params) == RECIPE
    assert RECIPE.hash not in {RECIPE.model_copy(update={key: None}).hash for key in Recipe.model_fields}


@pytest.mark.parametrize("name", [name for name, recipe in recipes().items() if not recipe.withheld])
def test_the_committed_file_is_of_the_recipe_that_stands_beside_it(name):
    recipe, record, models = recipes()[name], read_record(HOME / f"{name}.safetensors"), load().models
    assert record.recipe == recipe.hash, f"weights/mini/params.yaml was changed after {name}: `make weights`"
    assert record.made_by and record.digests.keys() == {"encoder"}
    spec = {"teacher": models.teacher, "student_narrow": models.students["f2l"]}.get(name)
    assert spec is None or (spec.name, spec.options) == (recipe.name, recipe.options)


def test_the_stage_passes_what_its_notebook_takes_and_depends_on_what_it_uses():
    names = {target.id for node in ast.parse(CELLS[1]).body for target in node.targets}
    text = STAGE["cmd"].replace("${papermill}", YAML(typ="safe").load(HOME / "dvc.yaml")["vars"][0]["papermill"])
    assert set(re.findall(r"-p (\w+) ", text)) == names
    assert STAGE["matrix"]["model"] == list(recipes())
    found, todo = set(), imported("\n".join(CELLS[i] for i in (2, 3, 5, 7, 9)))
    apart = {"files", "params", "values", "workspace", "report", "datasets", "methods"}  # as in the root's pipeline
    while todo := {name for name in todo - found if name != "gkd" and room(name) not in apart}:
        found |= todo
        todo = set().union(*(IMPORTS[name] for name in todo))
    assert {dep.removeprefix("gkd/") for dep in STAGE["deps"] if dep.startswith("gkd/")} == {room(n) for n in found}
