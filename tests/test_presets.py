"""Every profile in profiles/ can be run; `paper` has the published hyper-parameters, and models that timm has."""

import re
import shutil
from pathlib import Path

import pytest
import timm
import torch
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from gkd.methods import objective
from gkd.models import Encoder
from gkd.params import ROOT, EncoderSpec, at, load
from gkd.train.budget import domain_agnostic
from gkd.weights import origin
from gkd.workspace.check import names
from gkd.workspace.models import encoders

PROFILES = sorted((ROOT / "profiles").rglob("*.yaml"))
# Of Table 1 and of the F2F results, and what the published scripts have besides: teacher, student (docs/methods.md).
ROWS = """
vit_base_patch14_dinov2.lvd142m deit_small_patch16_224.fb_in1k
vit_large_patch14_dinov2.lvd142m deit_base_patch16_224.fb_in1k
vit_base_patch14_dinov2.lvd142m vit_small_patch16_224.dino
vit_large_patch14_dinov2.lvd142m vit_base_patch16_224.dino
vit_base_patch14_dinov2.lvd142m vit_small_patch14_dinov2.lvd142m
vit_large_patch14_dinov2.lvd142m vit_base_patch14_dinov2.lvd142m
eva02_base_patch14_224.mim_in22k eva02_small_patch14_224.mim_in22k
eva02_large_patch14_224.mim_m38m eva02_base_patch14_224.mim_in22k
"""
WIDTH = {"small": 384, "base": 768, "large": 1024}


@pytest.fixture(scope="module")
def paper():
    return load(ROOT / "profiles" / "paper.yaml")


@pytest.mark.parametrize("file", [*PROFILES, ROOT / "params.yaml"], ids=lambda file: file.stem)
def test_every_profile_is_sound(file: Path) -> None:
    elsewhere = file.stem in ("photos", "withheld")  # weights: the user brings them, `make control-withheld` makes them
    params = load(file, lambda content: (*names(content), *(() if elsewhere else encoders(content))))
    # grid_f2l and grid_long share members, and so do grid_f2f and grid_f2f_proxy, camvid and camvid_eighth.
    name = re.sub("(?<=f2f)_proxy|(?<=camvid)_eighth", "", file.stem).replace("grid_long", "grid_f2l")
    assert params.profile == (name if file in PROFILES else "mini")
    gpu = params.profile in ("paper", "photos")  # which give up equal bytes
    compute = {"threads": 0 if gpu else params.compute.threads or 1, "precision": "auto" if gpu else "fp32"}
    assert params.compute.model_dump() == {**compute, "compile": False, "fused_adamw": gpu}
    assert params.task_agnostic.grad_checkpointing == (params.profile == "paper")


@pytest.mark.parametrize("file", [*PROFILES, ROOT / "params.yaml"], ids=lambda file: file.stem)
def test_no_comment_stands_behind_a_list(file: Path) -> None:
    assert not re.search(r"(?m)^[^#\n]*\].*#", file.read_text()), "see the next test"


@pytest.mark.parametrize("file", ["params.yaml", "profiles/camvid.yaml"])
def test_lists_can_be_emptied_and_filled_by_experiments_again_and_again(file: str, tmp_path: Path) -> None:
    """ruamel.yaml 0.19.1 writes `[]` for a commented list, and then the next mapping on the line of its key."""
    own, keys = tmp_path / "params.yaml", ("distilled", "guided", "undistilled", "rows", "task_agnostic.settings")
    shutil.copy(ROOT / file, own)
    content = YAML(typ="safe").load(own)
    for key in (*keys, *keys[::-1]):
        before = at(content, key, list)
        for values in ([], before):
            apply_overrides(str(own), [f"{key}=[{','.join(values)}]"])  # what `-S` calls
            assert at(YAML(typ="safe").load(own), key, list) == values
    assert YAML(typ="safe").load(own) == content


def test_photos_lacks_two_files_and_says_where_they_are_to_be_had(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(origin, "ROOT", tmp_path)
    faults = list(encoders(load(ROOT / "profiles" / "photos.yaml").model_dump()))
    assert [fault.key for fault in faults] == ["models.teacher.weights", "models.students.f2l.weights"]
    models = {"vit_small_patch14_dinov2.lvd142m": 88, "deit_tiny_patch16_224.fb_in1k": 23}
    for fault, (name, size) in zip(faults, models.items(), strict=True):
        assert f"https://huggingface.co/timm/{name}/resolve/main/model.safetensors" in fault.text
        assert f"(about {size} MB) elsewhere, put the file at weights/hub/{name}.safetensors" in fault.text


CONTROLS = sorted((ROOT / "profiles/controls").glob("*.yaml"))


@pytest.mark.parametrize("file", CONTROLS, ids=lambda file: file.stem)
def test_a_control_is_the_default_but_for_one_thing_on_two_sources(file: Path) -> None:
    written, own = YAML(typ="safe").load(file), load(file)
    assert (written.pop("over"), written.pop("sources")) == ("../../params.yaml", ["gtav", "potsdam_rgb"])
    assert own.rows == [*own.undistilled, *own.guided, *own.distilled]
    lists = {"profile", "rows", "headline", "distilled", "guided", "undistilled"}
    assert len(written.keys() - lists) == 1


def test_what_a_control_shares_with_the_default_is_the_same() -> None:
    default, own = load(), {file.stem: load(file) for file in CONTROLS}
    narrow, broad = (default.models.students[setting] for setting in ("f2l", "f2f"))
    for name in ("own_teacher", "small_teacher", "withheld"):
        assert own[name].models.teacher.options == default.models.teacher.options | narrow.options
    weights = own["own_teacher"].models.teacher.weights, own["small_teacher"].models.teacher.weights
    assert weights == (narrow.weights, broad.weights)
    assert own["augmented_none"].task_learning.rand_augment == default.task_agnostic.rand_augment
    ours = default.heads["gkd_diag"]
    assert own["fine_tuned"].heads["gkd_diag_tuned"] == own["mse"].heads["mse"] == ours
    assert own["mse_hidden"].heads["mse"] == {**ours, "hidden": 129}


def test_the_grids_have_one_recipe_so_that_their_teachers_are_the_same() -> None:
    apart = {"profile", "settings", "seeds", "rows", "distilled", "guided", "heads"}
    f2l, f2f, proxy = (load(ROOT / f"profiles/grid_{name}.yaml") for name in ("f2l", "f2f", "f2f_proxy"))
    recipe = f2l.model_dump(exclude=apart)
    recipe["domain_agnostic"]["steps"] = 1000  # of F2F's only stage
    assert recipe == f2f.model_dump(exclude=apart)
    recipe["domain_agnostic"]["steps"] = f2l.domain_agnostic.steps
    recipe["task_agnostic"]["settings"] = ["f2f"]
    assert recipe == proxy.model_dump(exclude=apart)
    assert f2l.heads == f2f.heads and f2l.rows == f2f.rows and proxy.heads.items() <= f2l.heads.items()


def test_the_long_rows_come_to_the_grid_with_the_samples_of_distilled_ones() -> None:
    grid, both = (load(ROOT / f"profiles/grid_{name}.yaml") for name in ("f2l", "long"))
    lists = {"rows", "guided", "undistilled", "heads"}
    assert both.model_dump(exclude=lists) == grid.model_dump(exclude=lists)
    assert [row for row in both.rows if row not in grid.rows] == ["none_long", "kd_long"]
    long, learning = both.heads["none_long"], grid.task_learning
    assert both.heads == {**grid.heads, "none_long": long, "kd_long": long}
    distilling = sum(s.steps * s.batch_size for s in (grid.task_agnostic, grid.domain_agnostic))
    rates = len(learning.lrs) * learning.batch_size
    assert long["task_steps"] * rates == distilling + learning.steps * rates


def test_camvid_with_an_eighth_of_the_labels_is_camvid_so_that_students_are_distilled_once() -> None:
    every, eighth = (load(ROOT / f"profiles/{name}.yaml") for name in ("camvid", "camvid_eighth"))
    apart = {"rows", "distilled", "undistilled", "heads", "label_divisor"}
    assert every.model_dump(exclude=apart) == eighth.model_dump(exclude=apart)
    assert (every.label_divisor, eighth.label_divisor) == (1, 8) and eighth.heads.items() <= every.heads.items()
    assert {*eighth.undistilled} < {*every.undistilled} and {*eighth.distilled} < {*every.distilled}


def test_the_hidden_layer_of_its_control_makes_the_parameters_those_of_qsd() -> None:
    models = load().models
    student, teacher = (Encoder.create(s.name, **s.options) for s in (models.students["f2l"], models.teacher))
    count = {
        name: sum(p.numel() for p in objective(name, student, teacher, options).parameters())
        for name, options in {"gkd_diag": {}, "mse": {"hidden": 129}}.items()
    }
    assert count["mse"] == pytest.approx(count["gkd_diag"], rel=0.001)


def shallow(spec: EncoderSpec) -> Encoder:
    """The encoder at two blocks and full width, without memory behind it."""
    assert spec.name in timm.list_pretrained() and spec.weights == "hub"
    assert timm.get_pretrained_cfg(spec.name).hf_hub_id
    return Encoder.create(spec.name, depth=2, **spec.options)


@pytest.mark.parametrize("row", ROWS.strip().splitlines())
def test_models_have_weights_and_patches_of_16_pixels_and_methods_have_heads_for_them(paper, row: str) -> None:
    specs = (paper.models.teacher, paper.models.students["f2l"])
    # A patch of 14 pixels is resampled; models of 16 need no option.
    specs = [
        spec.model_copy(update={"name": name, "options": spec.options | ({"patch_size": 16} if "14_" in name else {})})
        for spec, name in zip(specs, row.split(), strict=True)
    ]
    with torch.device("meta"):
        teacher, student = map(shallow, specs)
        for encoder, spec in ((teacher, specs[0]), (student, specs[1])):
            for section, side in ((paper.task_agnostic, 16), (paper.domain_agnostic, 32)):
                cls, patches = encoder(torch.rand(1, 3, *section.image_size))
                (width,) = [width for size, width in WIDTH.items() if f"_{size}_" in spec.name]
                assert (patches.shape, cls.shape) == ((1, side * side, width), (1, width)) and encoder.stride == 16
        for method in paper.distilled:
            objective(method, student, teacher, paper.heads[method])


def test_the_models_and_hyper_parameters_are_the_published_ones(paper) -> None:
    assert [paper.models.teacher.name, paper.models.students["f2l"].name] == ROWS.split()[:2]
    for section, batch in ((paper.task_agnostic, 512), (paper.domain_agnostic, 128)):
        assert section.batch_size == batch and section.lr == pytest.approx(5e-4 * batch / 512)
        assert (section.min_lr, section.warmup_steps, section.weight_decay) == (1e-5, 0, 0.05)
        assert (section.mask_ratio, section.mask_probability, section.repeats) == (0.5, 0.5, 3)
    # 1,281,167 images and 100 epochs, then 300 epochs; an epoch is floor(N // 256 * 256 / batch) steps.
    assert paper.task_agnostic.steps == 1281167 // 256 * 256 // 512 * 100
    sizes = {"gtav": 24966, "cityscapes": 2975, "potsdam_rgb": 3456}
    epochs = {source: count // 256 * 256 // 128 * 300 for source, count in sizes.items()}
    assert {source: domain_agnostic(paper, source, "gkd").steps for source in sizes} == epochs
    assert (paper.task_learning.steps, paper.task_learning.batch_size, paper.task_learning.lrs) == (40000, 4, [1e-4])
    assert paper.task_learning.crop == [512, 512] and (paper.inference.window, paper.inference.stride) == (512, 341)
