import re
import shutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gkd.datasets import catalogue
from gkd.methods import NAMES, row
from gkd.params import ROOT, Params, ParamsError, load
from gkd.workspace.plan import (
    FILLER,
    MODEL_SLOTS,
    PICTURE_SLOTS,
    REPORT_SLOTS,
    STAGES,
    build,
    graph,
    read,
    spec_of,
    write,
)

COMMITTED = yaml.safe_load((ROOT / "plan.yaml").read_text())


def with_plan(profile: str = "mini", **changes: Any) -> Params:
    params = load(profile)
    return params.model_copy(update={"plan": params.plan.model_copy(update=changes)})


def test_the_committed_plan_is_mini_on_the_embedded_suite() -> None:
    assert (load().profile, COMMITTED["data"]) == ("mini", "data"), "before a commit: `gkd plan --profile mini`"
    assert build(load()) == COMMITTED, "run `gkd plan` and commit plan.yaml"


def test_members_depend_on_the_dataset_that_they_read() -> None:
    sources = ["gtav", "potsdam", "gtav_synthia"]
    for data, end in (("data", ""), ("manifests", ".csv")):
        plan = build(with_plan(sources=sources), data=data)
        tasks = [plan["task_learning"][f"f2l-none-{source}-0"]["data"] for source in sources]
        expected = [*(f"{data}/{folder}{end}" for folder in ("proxy", "gtav", "potsdam")), data]
        assert [plan["task_agnostic"]["f2l-gkd-0"]["data"], *tasks] == expected


def test_names_are_checked_again() -> None:
    with pytest.raises(ParamsError, match="profiles.mini.plan.methods: unknown name 'gdk'"):
        build(with_plan(methods=["teacher", "gdk"]))
    with pytest.raises(ValueError, match="profiles.mini.models.students has no 'f2g' .only: f2l, f2f."):
        spec_of(load("mini"), "f2g", row("gkd"))


def test_names_and_inputs_of_a_chain() -> None:
    plan = build(load("mini"))
    start = plan["task_agnostic"]["f2l-gkd-0"]
    assert start["init"] == "weights/mini/student_narrow.safetensors"
    assert start["teacher"] == "weights/mini/teacher.safetensors"
    middle = plan["domain_agnostic"]["f2l-gkd-0"]
    assert middle["init"] == "results/task_agnostic/mini/f2l-gkd-0/encoder.safetensors"
    assert middle["sources"] == "gtav,cityscapes,potsdam"
    end = plan["task_learning"]["f2l-gkd-gtav-0"]
    assert end["init"] == "results/domain_agnostic/mini/f2l-gkd-0/encoders/gtav.safetensors"
    assert end["guide"] == FILLER
    assert plan["task_learning"]["f2l-none-gtav-0"]["init"] == start["init"]
    report = plan["report"]
    assert report["attention"] == "results/domain_agnostic/mini/f2l-gkd-0/attention.npz"
    assert report["scores"][0] == "results/evaluate/mini/f2l-gtav-0/scores.csv"
    assert report["predictions"][0] == "results/evaluate/mini/f2l-gtav-0/predictions.npz"
    assert (len(report["predictions"]), len(report["scores"])) == (PICTURE_SLOTS, REPORT_SLOTS)
    score = plan["evaluate"]["f2l-gtav-0"]
    models = dict(zip(score["methods"].split(","), score["models"], strict=False))
    assert models["gkd"] == "results/task_learning/mini/f2l-gkd-gtav-0/model.safetensors"
    assert score["targets"] == "cityscapes,bdd100k,mapillary"
    plan = build(with_plan(settings=["f2f"]))  # which skips task-agnostic distillation
    assert plan["task_agnostic"] == {}
    assert {item["init"] for item in plan["domain_agnostic"].values()} == {"weights/mini/student_broad.safetensors"}
    plan = build(with_plan(sources=["gtav"], benchmarks=["gtav-acdc", "gtav-cityscapes"]))
    assert plan["evaluate"]["f2l-gtav-0"]["targets"] == "cityscapes,acdc_night,acdc_snow,acdc_fog,acdc_rain"


def test_the_teachers_segmentor_is_made_once_for_both_settings() -> None:
    plan = build(with_plan(settings=["f2l", "f2f"], sources=["gtav"]))
    names = [name for name, item in plan["task_learning"].items() if item["method"] == "teacher"]
    assert names == ["f2l-teacher-gtav-0"]
    teacher = "results/task_learning/mini/f2l-teacher-gtav-0/model.safetensors"
    assert {plan["task_learning"][f"{setting}-kd-gtav-0"]["guide"] for setting in ("f2l", "f2f")} == {teacher}
    assert all(item["models"].count(teacher) == 1 for item in plan["evaluate"].values())


def test_stages_have_the_methods_that_they_are_for_and_others_are_filled_in() -> None:
    plan = build(with_plan(methods=list(NAMES), label_divisor=16))
    for stage in STAGES[:2]:
        assert {item["method"] for item in plan[stage].values()} == {name for name in NAMES if row(name).distils}
    assert {item["method"] for item in plan["task_learning"].values()} == set(NAMES)
    for item in plan["task_learning"].values():  # alone reads labels
        assert item["subset"] == f"subsets/{item['source']}-16-{item['seed']}.txt"
    plan = build(with_plan(methods=["none"]))
    assert {item["subset"] for item in plan["task_learning"].values()} == {FILLER}
    models = plan["evaluate"]["f2l-gtav-0"]["models"]
    assert models[0].endswith("/f2l-none-gtav-0/model.safetensors") and set(models[1:]) == {FILLER}
    assert plan["report"]["attention"] == FILLER


def test_the_evaluation_stage_reads_every_model_of_the_plan() -> None:
    deps = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["evaluate"]["do"]["deps"]
    slots = [dep for dep in deps if dep.startswith("${item.models[")]
    assert slots == [f"${{item.models[{i}]}}" for i in range(MODEL_SLOTS)] and len(NAMES) <= MODEL_SLOTS


def test_absent_sources_and_targets_are_left_out() -> None:
    plan = build(load("mini"), sources=["gtav"], missing=["bdd100k"], data="manifests")
    assert list(plan["evaluate"]) == ["f2l-gtav-0"]
    assert plan["evaluate"]["f2l-gtav-0"]["targets"] == "cityscapes,mapillary"
    assert {item["source"] for item in plan["task_learning"].values()} == {"gtav"}
    assert {item["sources"] for item in plan["domain_agnostic"].values()} == {"gtav"}
    assert plan["data"] == "manifests"


def test_more_evaluations_than_the_report_reads_are_refused() -> None:
    assert len(build(with_plan(seeds=list(range(8))))["evaluate"]) == REPORT_SLOTS
    with pytest.raises(ValueError, match=f"the plan has 27 evaluations .* reads {REPORT_SLOTS}"):
        build(with_plan(seeds=list(range(9))))


@pytest.mark.parametrize("text", [None, "<<<<<<< HEAD\ndata: data\n=======\n", "data: data\n", ""])
def test_what_is_no_plan_is_told_with_the_remedy(text: str | None, tmp_path: Path) -> None:
    plan = build(load("tiny"))
    assert [write(plan, tmp_path / "plan.yaml") for _ in range(2)] == [True, False]  # whether the file changed
    assert read(tmp_path / "plan.yaml") == plan
    (tmp_path / "plan.yaml").unlink()
    if text is not None:
        (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(ValueError, match="plan.yaml is missing or no plan: `gkd plan` writes it anew"):
        read(tmp_path / "plan.yaml")


def sublist(values: list[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, unique=True)


@settings(max_examples=25)
@given(
    chosen=sublist(["f2l", "f2f"]),
    methods=sublist(list(NAMES)),
    sources=sublist(["gtav", "potsdam", "gtav_synthia"]),  # a name that is also the beginning of another
    seeds=sublist([0, 1, 2, 11]),
)
def test_the_graph_has_every_member_after_what_it_reads(chosen: Any, methods: Any, sources: Any, seeds: Any) -> None:
    methods = methods if "teacher" in methods else ["teacher", *methods]
    plan = build(with_plan(settings=chosen, methods=methods, sources=sources, seeds=seeds))
    rest = len(sources) * len(seeds)
    assert len(plan["task_learning"]) == (1 + len(chosen) * (len(methods) - 1)) * rest
    assert len(plan["evaluate"]) == len(chosen) * rest
    found = graph(plan)
    assert set(found) == {f"{stage}@{name}" for stage in STAGES for name in plan[stage]} | {"report"}
    for target, before in found.items():
        stage, _, name = target.partition("@")
        read = re.findall("results/([^/]+)/mini/([^/]+)/", str(plan[stage][name] if name else plan[stage]))
        assert before == {"@".join(path) for path in read} <= set(found)
    assert list(TopologicalSorter(found).static_order())[-1] == "report"


# Empty stages, the plan with most members, and every source.
@pytest.mark.parametrize(
    ("profile", "changes"),
    [("camvid", {}), ("grid", {}), ("mini", {"sources": list(catalogue(load()).sources), "methods": ["gkd"]})],
)
def test_dvc_reads_the_plan(profile: str, changes: dict[str, Any], tmp_path: Path) -> None:
    plan = build(with_plan(profile, **changes))
    write(plan, tmp_path / "plan.yaml")
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    text = (ROOT / "params.yaml").read_text().replace(f"\nprofile: {load().profile}\n", f"\nprofile: {profile}\n")
    (tmp_path / "params.yaml").write_text(text)
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True)
    listed = subprocess.run([*dvc, "stage", "list", "--name-only"], cwd=tmp_path, capture_output=True, text=True)
    expected = {f"{stage}@{name}" for stage in STAGES for name in plan[stage]} | {"report", "pretrain"}
    assert (set(listed.stdout.split()), listed.returncode) == (expected, 0), listed.stderr
