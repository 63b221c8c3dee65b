import shutil
import subprocess
import sys
from collections.abc import Callable
from graphlib import TopologicalSorter
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gkd.datasets import official
from gkd.methods.table import METHODS
from gkd.params import EXTRA_TEACHERS, ROOT, EncoderSpec, Params, load
from gkd.workspace.plan import FILLER, PICTURE_SLOTS, REPORT_SLOTS, STAGES, build, graph, write

PROFILES = list(yaml.safe_load((ROOT / "params.yaml").read_text())["profiles"])
COMMITTED = yaml.safe_load((ROOT / "plan.yaml").read_text())


def with_plan(profile: str = "mini", **changes: Any) -> Params:
    params = load(profile)
    return params.model_copy(update={"plan": params.plan.model_copy(update=changes)})


def members(plan: dict[str, Any]) -> int:
    """Members that `dvc repro` runs, the report among them."""
    return sum(len(plan[stage]) for stage in STAGES) + 1


def inputs(item: dict[str, Any]) -> list[str]:
    """Files that a member reads, but for its data."""
    values = [value for key, value in item.items() if key != "data"]
    return [value for value in values if isinstance(value, str) and "/" in value and value != FILLER]


def outputs(plan: dict[str, Any], profile: str) -> set[str]:
    """Files that members read from each other, by the stage that writes them (dvc.yaml, `outs`)."""
    files = {f"results/task_agnostic/{profile}/{name}/encoder.safetensors" for name in plan["task_agnostic"]}
    for name, item in plan["domain_agnostic"].items():
        folder = f"results/domain_agnostic/{profile}/{name}"
        files |= {f"{folder}/encoders/{source}.safetensors" for source in item["sources"].split(",")}
        files.add(f"{folder}/attention.npz")
    files |= {f"results/task_learning/{profile}/{name}/model.safetensors" for name in plan["task_learning"]}
    ends = ("scores.csv", "predictions.npz")
    return files | {f"results/evaluate/{profile}/{name}/{end}" for name in plan["evaluate"] for end in ends}


def test_the_committed_plan_is_that_of_the_table() -> None:
    assert build(load(), data=COMMITTED["data"]) == COMMITTED, "run `gkd plan` and commit plan.yaml"


def test_the_committed_plan_is_mini_on_the_embedded_suite() -> None:
    assert (load().profile, COMMITTED["data"]) == ("mini", "data"), "before a commit: `gkd plan --profile mini`"


@pytest.mark.parametrize(("profile", "most"), [("tiny", 8), ("mini", 30)])
def test_members_are_few(profile: str, most: int) -> None:
    assert 0 < members(build(load(profile))) <= most


def test_members_depend_on_the_dataset_that_they_read() -> None:
    params = load("mini")
    sources = ["gtav", "potsdam", "gtav-synthia"]
    params = params.model_copy(update={"plan": params.plan.model_copy(update={"sources": sources})})
    for data, expected in (
        ("data", ["data/proxy", "data/gtav", "data/potsdam", "data"]),
        ("manifests", ["manifests/proxy.csv", "manifests/gtav.csv", "manifests/potsdam.csv", "manifests"]),
    ):
        plan = build(params, data=data)
        tasks = [plan["task_learning"][f"f2l-none-{source}-0"]["data"] for source in sources]
        assert [plan["task_agnostic"]["f2l-gkd-0"]["data"], *tasks] == expected


@pytest.mark.parametrize("profile", PROFILES)
def test_every_input_is_written_by_a_member_or_committed(profile: str) -> None:
    params = load(profile)
    plan = build(params)
    models = params.models.encoders
    available = outputs(plan, profile) | {model.file for model in models}
    read = {file for stage in STAGES for item in plan[stage].values() for file in inputs(item)}
    report = plan["report"]
    read |= {file for file in (report["attention"], *report["predictions"], *report["scores"]) if file != FILLER}
    assert read <= available
    assert (len(report["predictions"]), len(report["scores"])) == (PICTURE_SLOTS, REPORT_SLOTS)


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
    score = plan["evaluate"]["f2l-gtav-0"]
    assert score["gkd"] == "results/task_learning/mini/f2l-gkd-gtav-0/model.safetensors"
    assert score["targets"] == "cityscapes,bdd100k,mapillary"


def test_only_methods_that_distil_have_distillation_members() -> None:
    plan = build(with_plan(methods=list(METHODS)))
    for stage in STAGES[:2]:
        assert {item["method"] for item in plan[stage].values()} == {"mse", "gkd", "gkd-diag", "gkd-light"}
    assert {item["method"] for item in plan["task_learning"].values()} == set(METHODS)


def test_f2f_skips_task_agnostic_distillation() -> None:
    plan = build(with_plan(settings=["f2f"]))
    assert plan["task_agnostic"] == {}
    init = {item["init"] for item in plan["domain_agnostic"].values()}
    assert init == {"weights/mini/student_broad.safetensors"}


def test_the_teachers_segmentor_is_made_once_for_both_settings() -> None:
    plan = build(with_plan(settings=["f2l", "f2f"], sources=["gtav"]))
    names = [name for name, item in plan["task_learning"].items() if item["method"] == "teacher"]
    assert names == ["f2l-teacher-gtav-0"]
    teacher = "results/task_learning/mini/f2l-teacher-gtav-0/model.safetensors"
    assert {plan["task_learning"][f"{setting}-kd-gtav-0"]["guide"] for setting in ("f2l", "f2f")} == {teacher}
    assert {item["teacher"] for item in plan["evaluate"].values()} == {teacher}


def test_a_method_that_is_not_planned_is_filled_in() -> None:
    item = build(with_plan(methods=["none"]))["evaluate"]["f2l-gtav-0"]
    filled = {name for name in METHODS if item[name.replace("-", "_")] == FILLER}
    assert filled == set(METHODS) - {"none"}
    assert build(with_plan(methods=["none"]))["report"]["attention"] == FILLER


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_slot_in_the_evaluation_stage(method: str) -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert f"${{item.{method.replace('-', '_')}}}" in stages["evaluate"]["do"]["deps"]


def test_weights_of_further_teachers_are_inputs_of_distillation_alone() -> None:
    params = load("mini")
    specs = {
        "far": EncoderSpec(name="x", weights="hub"),
        "near": EncoderSpec(name="y", weights="weights/near.safetensors"),
    }
    models = params.models.model_copy(update={"extra_teachers": specs})
    plan, plain = build(params.model_copy(update={"models": models})), build(params)
    slots = ("teacher", "teacher2", "teacher3")
    for stage in STAGES[:2]:
        for name, item in plan[stage].items():
            assert [item[slot] for slot in slots] == [params.models.teacher.file, FILLER, "weights/near.safetensors"]
            assert [plain[stage][name][slot] for slot in slots] == [params.models.teacher.file, FILLER, FILLER]
    assert [plan[stage] for stage in STAGES[2:]] == [plain[stage] for stage in STAGES[2:]]


@pytest.mark.parametrize("stage", STAGES[:2])
def test_every_teacher_has_a_slot_in_the_distillation_stages(stage: str) -> None:
    deps = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["do"]["deps"]
    found = [dep for dep in deps if dep.startswith("${item.teacher")]
    assert found == ["${item.teacher}", *(f"${{item.teacher{number}}}" for number in range(2, EXTRA_TEACHERS + 2))]


def test_absent_sources_and_targets_are_left_out() -> None:
    plan = build(load("mini"), sources=["gtav"], missing=["bdd100k"], data="manifests")
    assert list(plan["evaluate"]) == ["f2l-gtav-0"]
    assert plan["evaluate"]["f2l-gtav-0"]["targets"] == "cityscapes,mapillary"
    assert {item["source"] for item in plan["task_learning"].values()} == {"gtav"}
    assert {item["sources"] for item in plan["domain_agnostic"].values()} == {"gtav"}
    assert plan["data"] == "manifests"


def test_chosen_benchmarks_are_the_targets_of_the_evaluation() -> None:
    sources = ["gtav", "potsdam-rescue"]
    plan = build(with_plan(sources=sources, benchmarks=["gtav-acdc", "gtav-cityscapes", "potsdam-rescuenet"]))
    targets = {item["source"]: item["targets"] for item in plan["evaluate"].values()}
    assert targets == {
        "gtav": "cityscapes,acdc-night,acdc-snow,acdc-fog,acdc-rain",
        "potsdam-rescue": "rescuenet",
    }


def test_naming_the_usual_benchmarks_changes_nothing() -> None:
    usual = [b.name for source in load("mini").plan.sources for b in official().benchmarks_of(source)]
    assert build(with_plan(benchmarks=usual)) == build(load("mini"))


def test_kd_without_the_teacher_is_refused() -> None:
    with pytest.raises(ValueError, match="plan.methods: kd needs the row 'teacher'"):
        build(with_plan(methods=["none", "kd"]))


def test_more_evaluations_than_the_report_reads_are_refused() -> None:
    assert len(build(with_plan(seeds=list(range(8))))["evaluate"]) == REPORT_SLOTS
    with pytest.raises(ValueError, match=f"the plan has 27 evaluations .* reads {REPORT_SLOTS}"):
        build(with_plan(seeds=list(range(9))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: with_plan(methods=["teacher", "gdk"]), "mini.plan.methods: unknown name 'gdk'; known: teacher, none"),
        (lambda: with_plan(sources=["gta5"]), "mini.plan.sources: unknown name 'gta5'; known: camvid, cityscapes"),
        (
            lambda: with_plan(benchmarks=["gtav-acd"]),
            "mini.plan.benchmarks: unknown name 'gtav-acd'; known: camvid",
        ),
        (lambda: with_plan(settings=["f2g"]), "mini.models.students has no 'f2g' .only: f2l, f2f."),
        (lambda: load("mini").model_copy(update={"heads": {"gdk": {}}}), "mini.heads: unknown name 'gdk'"),
        (
            lambda: load("mini").model_copy(
                update={"evaluate": load("mini").evaluate.model_copy(update={"bounds": {"acdc": [2, 2]}})}
            ),
            "mini.evaluate.bounds: unknown name 'acdc'; known: .*acdc-night",
        ),
    ],
)
def test_an_unknown_name_is_refused(change: Callable[[], Params], message: str) -> None:
    with pytest.raises(ValueError, match=f"profiles.{message}"):
        build(change())


def test_writing_says_whether_the_file_changed(tmp_path: Path) -> None:
    file, plan = tmp_path / "plan.yaml", build(load("tiny"))
    assert write(plan, file) is True
    assert yaml.safe_load(file.read_text()) == plan
    assert write(plan, file) is False
    assert write(build(load("mini")), file) is True


def sublist(values: list[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, unique=True)


@settings(max_examples=25)
@given(
    chosen=sublist(["f2l", "f2f"]),
    methods=sublist(list(METHODS)),
    sources=sublist(["gtav", "potsdam", "gtav-synthia"]),  # a name that is also the beginning of another
    seeds=sublist([0, 1, 2, 11]),
)
def test_the_graph_has_every_member_after_what_it_reads(chosen: Any, methods: Any, sources: Any, seeds: Any) -> None:
    methods = methods if "teacher" in methods else ["teacher", *methods]
    plan = build(with_plan(settings=chosen, methods=methods, sources=sources, seeds=seeds))
    expected = sum(1 if m == "teacher" else len(chosen) for m in methods) * len(sources) * len(seeds)
    assert len(plan["task_learning"]) == expected
    assert len(plan["evaluate"]) == len(list(product(chosen, sources, seeds)))
    found = graph(plan)
    assert set(found) == {f"{stage}@{name}" for stage in STAGES for name in plan[stage]} | {"report"}
    for target, before in found.items():
        stage, _, name = target.partition("@")
        report = plan["report"]
        paths = [report["attention"], *report["predictions"], *report["scores"]]
        item = plan[stage][name] if name else dict(enumerate(paths))
        read = {path for path in inputs(item) if path.startswith("results/")}
        assert before == {"@".join(path.split("/")[i] for i in (1, 3)) for path in read}
        assert before <= set(found)
    order = list(TopologicalSorter(found).static_order())
    assert order[-1] == "report"


def test_label_fractions_restrict_task_learning_alone() -> None:
    whole, part = build(load("mini")), build(with_plan(label_divisor=16))
    assert {item["subset"] for item in whole["task_learning"].values()} == {FILLER}
    for item in part["task_learning"].values():
        assert item["subset"] == f"subsets/{item['source']}-16-{item['seed']}.txt"
    same = [{**plan, "task_learning": 0} for plan in (whole, part)]
    assert same[0] == same[1]


# Empty stages, the plan with most members, and every source.
@pytest.mark.parametrize(
    ("profile", "changes"),
    [("camvid", {}), ("grid", {}), ("mini", {"sources": list(official().sources), "methods": ["gkd"]})],
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
