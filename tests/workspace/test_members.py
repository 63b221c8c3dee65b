"""Members: their names, and what they depend on, which is what DVC itself makes of dvc.yaml."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from dvc.dependency import ParamsDependency
from dvc.repo import Repo
from ruamel.yaml import YAML

from gkd.params import ROOT, load
from gkd.workspace.jobs import graph
from gkd.workspace.members import TEACHER, dependencies, evaluated, member, stage_of, start_of, trained
from gkd.workspace.profiles import whole

PROFILES = sorted((ROOT / "profiles").glob("*.yaml"))
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


@pytest.fixture
def repo(checkout: Path) -> Repo:
    with Repo.init(str(checkout), no_scm=True) as found:
        yield found


def members(repo: Repo) -> Iterator[tuple[str, str, ParamsDependency, set[Path]]]:
    """Stage, key, tracked parameters and files of each member that has parameters, as DVC resolves them."""
    for stage in repo.index.stages:
        name, _, key = stage.name.partition("@")
        if STAGES[name].get("params"):
            (tracked,) = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
            yield name, key, tracked, {Path(dep.fs_path) for dep in stage.deps if dep is not tracked}


def test_dependencies_are_those_that_dvc_resolves(repo: Repo, checkout: Path) -> None:
    shutil.copy(ROOT / "params.yaml", checkout)
    params, seen = load(), set()
    for name, key, tracked, files in members(repo):
        matrix = STAGES[name].get("matrix", ())
        values, paths = dependencies(params, name, dict(zip(matrix, key.split("-"), strict=bool(matrix))))
        assert values == tracked.read_params() and set(paths) == files and len(paths) == len(files)
        seen.add(name)
    assert seen == {name for name, stage in STAGES.items() if "params" in stage}


@pytest.mark.parametrize("file", PROFILES, ids=lambda file: file.stem)
def test_every_tracked_key_stands_in_every_profile(file: Path, repo: Repo, checkout: Path) -> None:
    """A key that is missing stops DVC."""
    one = re.sub(r"^seeds: .*$", "seeds: [0]", whole(file).decode(), flags=re.M)  # the keys are the same for each
    (checkout / "params.yaml").write_text(one)
    lacking = {key for *_, tracked, _ in members(repo) for key in {*tracked.params} - {*tracked.read_params()}}
    assert not lacking


def test_a_pipeline_that_dvc_cannot_read_is_one_line(checkout: Path, repo: Repo) -> None:
    (checkout / "dvc.lock").write_text("<<<<<<< HEAD\nschema: '2.0'\n=======\n>>>>>>> theirs\n")
    with pytest.raises(ValueError, match="^DVC cannot read the pipeline: .*; resolve git's conflict in dvc.lock$"):
        graph()
    (checkout / "dvc.lock").unlink()  # as in a clone of one's own pipeline
    (checkout / "dvc.yaml").write_text("stages:\n  check: 5\n")
    with pytest.raises(ValueError, match="^DVC cannot read the pipeline: .*dvc.yaml"):
        graph()


def test_names_are_those_of_dvc_yaml(checkout: Path) -> None:
    params, who = load(), {"setting": "f2l", "source": "gtav", "seed": 0}
    assert member("f2l", "gkd_diag", "gtav", 0) == "f2l-gkd_diag-gtav-0"
    for method in (TEACHER, *params.rows):
        key = {"method": method, **who}
        learn, measure = (stage_of(params, notebook, method) for notebook in ("task_learning", "evaluate"))
        for stage, folder in ((learn, trained(params, **key)), (measure, f"results/evaluate/tiny/{evaluated(**key)}")):
            text = STAGES[stage]["cmd"] + " ".join(map(str, STAGES[stage]["outs"]))
            names = {f"item.{name}": str(value) for name, value in key.items()} | {"profile": "tiny"}
            names |= {"key": member(*(key[name] for name in STAGES[stage]["matrix"])), "papermill": ""}
            for name, value in names.items():
                text = text.replace(f"${{{name}}}", value)
            assert folder in text
            if stage == learn:
                assert f"-p start {start_of(params, **key)}" in text
    assert stage_of(params, "domain_agnostic", "gkd") == "domain_agnostic"


def test_the_graph_is_that_of_the_lists(repo: Repo, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "elsewhere").mkdir()
    monkeypatch.chdir(checkout / "elsewhere")  # where DVC would call a stage ../dvc.yaml:check
    found = graph()
    rows = {"none": "undistilled", "kd": "guided", "gkd": "task_learning"}
    learned = {f"evaluate@f2l-{method}-gtav-0": f"{stage}@f2l-{method}-gtav-0" for method, stage in rows.items()}
    learned["evaluate_teacher@gtav-0"] = "teacher@gtav-0"
    first = {"check", "notebooks"}
    expected = {name: {trains, *first} for name, trains in learned.items()} | {
        trains: first for trains in learned.values()
    }
    expected |= {
        "check": set(),
        "notebooks": set(),
        "report": {*learned, "notebooks"},
        "task_agnostic@f2l-gkd-0": first,
    }
    expected["guided@f2l-kd-gtav-0"] = {"teacher@gtav-0", *first}
    expected["domain_agnostic@f2l-gkd-gtav-0"] = {"task_agnostic@f2l-gkd-0", *first}
    expected["task_learning@f2l-gkd-gtav-0"] = {"domain_agnostic@f2l-gkd-gtav-0", *first}
    assert found == expected
