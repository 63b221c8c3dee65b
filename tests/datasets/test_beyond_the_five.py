"""Joined sources, GTAV to ACDC and Potsdam to RescueNet, from official layouts to scores, without DVC."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from layout_files import CASES, Case, image_array, save, write_case

from gkd.data.domains import BENCHMARKS, SOURCES, targets_of
from gkd.data.loading import Draw, loader
from gkd.datasets import DATASETS
from gkd.distillation import distil
from gkd.methods import objective, row
from gkd.models import Encoder
from gkd.params import Params, load
from gkd.segmentation.evaluation import scores
from gkd.segmentation.task_learning import EvaluationSet, build_segmentor, learn, measure
from gkd.train.run import Run
from gkd.workspace.check import check
from gkd.workspace.folders import open_domain, open_training
from gkd.workspace.plan import build, member, spec_of

NEW = ("gtav-synthia", "gtav-synthia-urbansyn", "potsdam-rescue", "potsdam-irrg-rescue")
GREY = {"gtav": 50, "synthia": 120, "urbansyn": 200}  # by which a batch shows what it holds
COPIES = 3
# A stored number that becomes another one in a copy, at the place where each layout keeps it.
NUMBERS = {"gtav": "00001", "synthia": "0000001", "urbansyn": "0001", "potsdam": "2_10"}


def case(name: str, split: str) -> Case:
    """The layout's first fixture case of a split."""
    return next(case for case in CASES if (case.name, case.split) == (name, split))


def write_copies(root: Path, first: Case, tiles: tuple[str, ...] = ()) -> None:
    """A case with its number replaced: by 1, 2, ..., or by the tiles."""
    number = NUMBERS[first.name.split("-")[0]]
    for other in tiles or [f"{i + 1:0{len(number)}}" for i in range(COPIES)]:
        copy = replace(first, image=first.image.replace(number, other), label=first.label.replace(number, other))
        write_case(root, copy, (64, 128))
        if first.name in GREY:
            save(root / copy.image, np.full((64, 128, 3), GREY[first.name], dtype=np.uint8))


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Params:
    """All sources of the new benchmarks, their datasets in official layouts, one step of training."""
    data = tmp_path_factory.mktemp("data")
    save(data / "proxy/train/a.png", image_array(0))
    for name in GREY:
        write_copies(data / name, case(name, "all"))
    for channels in ("rgb", "irrg"):
        write_copies(data / "potsdam", case(f"potsdam-{channels}-rescue", "fit"), ("2_10", "2_11", "3_11"))
    for name, split in (("cityscapes", "val"), ("bdd100k", "val"), ("mapillary", "val"), ("rescuenet", "test")):
        write_case(data / name, case(name, split), (64, 128))
    for weather in ("night", "snow", "fog", "rain"):
        write_case(data / "acdc", case("acdc", f"{weather}-val"), (64, 128))
    params = load("tiny")
    sources = ["gtav", *NEW]
    chosen = ["gtav-acdc", *(name for name, benchmark in BENCHMARKS.items() if benchmark.source in NEW)]
    plan = params.plan.model_copy(update={"sources": sources, "benchmarks": chosen})
    one_step = {
        "task_learning": params.task_learning.model_copy(update={"steps": 1, "batch_size": 4}),
        "domain_agnostic": params.domain_agnostic.model_copy(update={"steps": 1, "batch_size": 4}),
    }
    roots = {folder: str(data / folder) for folder in {layout.folder for layout in DATASETS.values()}}
    return params.model_copy(update={"plan": plan, "roots": roots, **one_step})


@pytest.fixture(autouse=True)
def no_worker_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GKD_WORKERS", "0")


def test_all_of_it_is_planned(params: Params) -> None:
    found = check(params)
    assert found == (params.plan.sources, [], [], [])
    plan = build(params, found.sources, found.missing)
    driving, acdc = "cityscapes,bdd100k,mapillary", "acdc-night,acdc-snow,acdc-fog,acdc-rain"
    assert {item["source"]: item["targets"] for item in plan["evaluate"].values()} == {
        "gtav": acdc,
        "gtav-synthia": driving,
        "gtav-synthia-urbansyn": driving,
        "potsdam-rescue": "rescuenet",
        "potsdam-irrg-rescue": "rescuenet",
    }
    for source in params.plan.sources:
        init = plan["task_learning"][member("f2l", "gkd", source, 0)]["init"]
        assert init.endswith(f"/f2l-gkd-0/encoders/{source}.safetensors")


@pytest.mark.parametrize("name", ("gtav", *NEW))
def test_every_domain_opens_in_the_label_space_of_its_source(params: Params, name: str) -> None:
    source = SOURCES[name]
    domains = [open_domain(params, d) for d in (source.validation, *targets_of(name, params.plan.benchmarks))]
    for data in (open_training(params, source), *domains):
        assert data.label_space == source.label_space and len(data) > 0
        for i in range(len(data)):
            image, label = data[i]
            assert image.shape[:2] == label.shape
            values = set(np.unique(label)) - {255}
            assert values and max(values) < len(source.classes)


@pytest.mark.parametrize("hold_out", [True, False])
def test_a_batch_holds_images_of_all_parts(params: Params, hold_out: bool) -> None:
    params = params.model_copy(update={"plan": params.plan.model_copy(update={"hold_out": hold_out})})
    data = open_training(params, SOURCES["gtav-synthia-urbansyn"])
    expected = {"gtav": COPIES - hold_out, "synthia": COPIES, "urbansyn": COPIES}

    def grey_and_label(image: np.ndarray, label: np.ndarray) -> tuple[int, torch.Tensor]:
        return int(image[0, 0, 0]), torch.from_numpy(label)

    ((greys, labels),) = loader(data, grey_and_label, Draw(1, len(data), seed=0), labelled=True)
    assert {name: greys.tolist().count(grey) for name, grey in GREY.items()} == expected
    # No terrain, truck and train in SYNTHIA, as its fixture's ids are those of the release.
    absent = [SOURCES["gtav"].classes.index(name) for name in ("terrain", "truck", "train")]
    assert not torch.isin(labels[greys == GREY["synthia"]], torch.tensor(absent)).any()


@pytest.mark.parametrize("name", ("gtav", *NEW))
def test_one_step_and_every_target_is_scored(params: Params, name: str) -> None:
    source, section = SOURCES[name], params.task_learning
    classes = len(source.classes)
    model = build_segmentor(params, spec_of(params, "f2l", row("none")), classes, False, seed=0)
    before = [parameter.clone() for parameter in model.parameters()]
    history = learn(model, open_training(params, source), section, section.lrs[0], Run("test"))
    assert len(history) == 1 and np.isfinite(history["loss"]).all()
    assert any((new != old).any() for new, old in zip(model.parameters(), before, strict=True))
    targets = targets_of(name, params.plan.benchmarks)
    assert targets
    for domain in (source.validation, *targets):
        data = open_domain(params, domain)
        confusion = measure(model, EvaluationSet(domain.name, data, classes, params.evaluate), Run("test"))
        assert confusion.shape == (classes, classes)
        assert confusion.sum() == sum((data[i][1] != 255).sum() for i in range(len(data)))
        assert 0 <= scores(confusion).miou <= 100


def test_distillation_runs_on_a_joined_source(params: Params) -> None:
    def encoder(dim: int) -> Encoder:
        options = {"img_size": 64, "patch_size": 8, "embed_dim": dim, "depth": 1, "num_heads": 2}
        return Encoder.create("vit_tiny_patch16_224", **options)

    torch.manual_seed(0)
    student, teacher = encoder(16), encoder(24)
    heads = objective("gkd", student, teacher)
    data = open_training(params, SOURCES["gtav-synthia"])
    history = distil(student, teacher, heads, data, params.domain_agnostic, Run("test"))
    assert len(history) == 1 and np.isfinite(history["loss"]).all()
