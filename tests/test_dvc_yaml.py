"""dvc.yaml against the notebooks and the package: names, parameters, and what each stage depends on."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_package import IMPORTS, imported, room

from gkd.params import ROOT, load
from gkd.workspace.plan import FILLER

DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES: dict[str, dict[str, Any]] = {name: stage.get("do", stage) for name, stage in DVC["stages"].items()}
# A room that a stage lists is any of these: params says what is tracked key by key, workspace where things lie, and
# report draws, which must not retrain anything; files writes what it is given, values are kinds of params.
UNTRACKED = {"files", "params", "values", "workspace"}
# What functions of gkd.workspace.folders, itself not tracked, lead to.
LEADS_TO = {"open_domain": "datasets", "open_training": "datasets"}


def cells(stage: str) -> list[dict[str, Any]]:
    """The code cells of a stage's notebook."""
    content = json.loads((ROOT / "notebooks" / f"{stage}.ipynb").read_text())
    return [cell for cell in content["cells"] if cell["cell_type"] == "code"]


def parameters(stage: str) -> dict[str, Any]:
    """Names and defaults of the `parameters` cell."""
    (cell,) = [cell for cell in cells(stage) if "parameters" in cell["metadata"].get("tags", [])]
    assignments = ast.parse("".join(cell["source"])).body
    return {node.targets[0].id: ast.literal_eval(node.value) for node in assignments}  # type: ignore[attr-defined]


def command(stage: str) -> str:
    return " ".join(STAGES[stage]["cmd"])


def paths(stage: str, kind: str) -> list[str]:
    return [next(iter(out)) if isinstance(out, dict) else out for out in STAGES[stage].get(kind, [])]


def used(stage: str) -> set[str]:
    """Rooms of what a stage's notebook imports, directly or through others, without those that are not tracked."""
    text = "\n".join("".join(cell["source"]) for cell in cells(stage))
    untracked = UNTRACKED if stage == "report" else UNTRACKED | {"report"}
    found: set[str] = set()
    todo = imported(text) | {f"gkd.{lead}" for name, lead in LEADS_TO.items() if f"{name}(" in text}
    while todo := {name for name in todo - found if name != "gkd" and room(name) not in untracked}:
        found |= todo
        todo = set().union(*(IMPORTS[name] for name in todo))
    return {room(name) for name in found}


def test_stages_are_those_of_the_plan_and_have_a_notebook() -> None:
    assert list(STAGES) == ["pretrain", "task_agnostic", "domain_agnostic", "task_learning", "evaluate", "report"]
    notebooks = {file.stem for file in (ROOT / "notebooks").glob("*.ipynb") if not file.stem.startswith("explore_")}
    assert notebooks == {*STAGES, "predict", "method"}  # no stage runs these two
    members = {name: stage["foreach"] for name, stage in DVC["stages"].items() if "foreach" in stage}
    assert members == {name: f"${{{name}}}" for name in list(STAGES)[1:5]}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_its_notebook_and_writes_its_own_folder(stage: str) -> None:
    text = command(stage)
    assert re.findall(r"notebooks/(\w+)\.ipynb", text) == [stage]
    assert f"notebooks/{stage}.ipynb" in STAGES[stage]["deps"]
    profile = "mini" if stage == "pretrain" else "${profile}"
    folder = f"results/{stage}/{profile}" + ("/${key}" if "foreach" in DVC["stages"][stage] else "")
    assert f" {folder}/notebook.ipynb -p " in text and f"mkdir -p {folder} " in text
    assert "papermill -k python3 --log-output --no-progress-bar " in text
    written = [path for kind in ("outs", "metrics", "plots") for path in paths(stage, kind)]
    assert all(path.startswith((f"{folder}/", "weights/mini/")) for path in written)
    assert f"{folder}/metrics.json" in written
    # Nobody may depend on it, since its time stamps change its hash.
    assert not [dep for other in STAGES.values() for dep in other["deps"] if dep.endswith("/notebook.ipynb")]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_rooms_that_it_uses(stage: str) -> None:
    listed = {Path(dep).stem for dep in STAGES[stage]["deps"] if dep.startswith("gkd/")}
    assert len(listed) <= 8
    assert (used(stage) - listed, listed - used(stage)) == (set(), set()), "(lacking, too much)"


@pytest.mark.parametrize("stage", STAGES)
def test_parameters_of_a_notebook_are_those_that_are_passed_and_small_by_default(stage: str) -> None:
    names = re.findall(r"-p (\w+) ", command(stage))
    defaults, plan = parameters(stage), load("tiny").plan
    assert sorted(names) == sorted(defaults), "papermill adds an unknown name and leaves the default as it is"
    # Opened by hand it writes to .scratch/.
    assert (defaults.pop("profile"), defaults.pop("results")) == ("tiny", ".scratch/results")
    assert defaults.pop("weights", ".scratch/weights") == ".scratch/weights"
    lists = {"sources": plan.sources, "methods": plan.methods, "targets": ["cityscapes", "bdd100k", "mapillary"]}
    one = {"setting": plan.settings, "method": plan.methods, "source": plan.sources, "seed": plan.seeds}
    assert all(
        value in one[name] if name in one else value == ",".join(lists[name]) for name, value in defaults.items()
    )


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_depends_on_exists_and_what_it_writes_is_kept(stage: str) -> None:
    fixed = [dep for dep in STAGES[stage]["deps"] if "${" not in dep]
    assert [dep for dep in fixed if not (ROOT / dep).exists()] == [] and len(set(fixed)) == len(fixed)
    # What stands in for an absent input is a dependency anyway, so it adds none.
    assert FILLER in fixed or not any("${item" in dep for dep in STAGES[stage]["deps"])
    tracked, profile = [key.split(".")[2:] for key in STAGES[stage]["params"]], load("mini").model_dump()
    for first, *rest in tracked:
        assert first in profile and (not rest or rest[0] in profile[first])
    assert stage not in profile or stage in {key[0] for key in tracked}
    assert all(list(metric.values()) == [{"cache": False}] for metric in STAGES[stage]["metrics"])
    for out in STAGES[stage].get("outs", []):
        options = next(iter(out.values())) if isinstance(out, dict) else {}
        assert "persist" not in options
        # An uncached executed notebook would turn off the run cache for its stage.
        assert not (options.get("cache") is False and "notebook.ipynb" in str(out))


def test_pretraining_is_frozen_and_its_weights_are_committed() -> None:
    assert DVC["stages"]["pretrain"]["frozen"] is True
    models = load("mini").models
    wanted = {spec.file for spec in (models.teacher, *models.students.values())}
    assert set(paths("pretrain", "outs")) == wanted
    assert all(list(out.values()) == [{"cache": False}] for out in STAGES["pretrain"]["outs"])
