"""dvc.yaml and params.yaml against the notebooks and the package: names, parameters, and what each stage depends on."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_package import IMPORTS, imported, room

from gkd.params import GROUPS, ROOT, load

DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES: dict[str, dict[str, Any]] = DVC["stages"]
COMMANDS = {name: stage["cmd"].replace("${papermill}", DVC["vars"][0]["papermill"]) for name, stage in STAGES.items()}
NOTEBOOK = {name: re.findall(r"results/notebooks/(\w+)\.ipynb", text) for name, text in COMMANDS.items()}
RUNS = {name: found[0] for name, found in NOTEBOOK.items() if found}
# Rooms that a stage does not list: params says what is tracked key by key, workspace where things lie, datasets what
# `check` writes down in manifests, the method's own file is listed for the index of methods, and report draws, which
# must not retrain anything; files writes what it is given, values are kinds of params.
UNTRACKED = {"datasets", "files", "methods", "params", "report", "values", "workspace"}
FREE = {
    "machine",
    "roots",
    "datasets",
    "profile",
    *GROUPS,
}  # what no result follows from, or what manifests and members say
PROFILES = [ROOT / "params.yaml", *sorted((ROOT / "profiles").glob("*.yaml"))]


def cells(notebook: str) -> list[dict[str, Any]]:
    """The code cells of a notebook."""
    content = json.loads((ROOT / "notebooks" / f"{notebook}.ipynb").read_text())
    return [cell for cell in content["cells"] if cell["cell_type"] == "code"]


def parameters(notebook: str) -> dict[str, Any]:
    """Names and defaults of the `parameters` cell."""
    (cell,) = [cell for cell in cells(notebook) if "parameters" in cell["metadata"].get("tags", [])]
    assignments = ast.parse("".join(cell["source"])).body
    return {node.targets[0].id: ast.literal_eval(node.value) for node in assignments}  # type: ignore[attr-defined]


def written(stage: str) -> dict[str, dict[str, Any]]:
    """What a stage writes, with its options."""
    outs = [out for kind in ("outs", "metrics", "plots") for out in STAGES[stage].get(kind, [])]
    return {path: options for out in outs for path, options in (out if isinstance(out, dict) else {out: {}}).items()}


def used(stage: str) -> set[str]:
    """Rooms of what a stage's notebook imports, directly or through others, without those that are not tracked."""
    text = "\n".join("".join(cell["source"]) for cell in cells(RUNS[stage]))
    untracked = UNTRACKED - {"report", "methods"} if stage == "report" else UNTRACKED
    found, todo = set[str](), imported(text)
    while todo := {name for name in todo - found if name != "gkd" and room(name) not in untracked}:
        found |= todo
        todo = set().union(*(IMPORTS[name] for name in todo))
    return {room(name) for name in found}


@pytest.mark.parametrize("stage", RUNS)
def test_a_stage_depends_on_the_rooms_that_it_uses(stage: str) -> None:
    deps = STAGES[stage]["deps"]
    methods = [dep for dep in deps if dep.startswith("gkd/methods/")]
    rooms = {Path(dep).stem for dep in deps if dep.startswith("gkd/")} - {Path(dep).stem for dep in methods}
    assert (used(stage) - rooms, rooms - used(stage)) == (set(), set()), "(lacking, too much)"
    assert len(rooms) <= 8 and deps == sorted(set(deps))
    assert f"results/notebooks/{RUNS[stage]}.ipynb" in deps
    # The times of an executed notebook change its hash, so nobody may depend on its folder.
    assert not [dep for dep in deps if dep.startswith("results/executed")]
    own = {"teacher": ["gkd/methods/teacher.py"], "report": [], "evaluate": [], "evaluate_teacher": []}
    assert methods == own.get(stage, ["gkd/methods/${item.method}.py"])


@pytest.mark.parametrize("stage", RUNS)
def test_what_a_stage_reads_and_writes(stage: str) -> None:
    text, outs = COMMANDS[stage], written(stage)
    folder = (
        "task_learning" if RUNS[stage] == "task_learning" and stage != "teacher" else stage.removesuffix("_teacher")
    )
    executed = [out for out in outs if out.startswith(f"results/executed/{stage}/${{profile}}")]
    own = [out for out in outs if out.startswith(f"results/{folder}/${{profile}}/")]
    assert len(executed) == 1 and {*executed, *own} == {*outs} and own and executed[0] in text
    # A plain out without cache turns off the run cache of its stage, and what persists makes a rerun train no step.
    assert not [
        out
        for out, options in outs.items()
        if options.keys() & {"persist"} or ("cache" in options and stage != "report")
    ]
    # What is passed to be read is a dependency.
    key = "-".join(f"${{item.{name}}}" for name in STAGES[stage].get("matrix", ()))
    deps = {dep.replace("${key}", key) for dep in STAGES[stage]["deps"]}
    assert {path.replace("${key}", key) for path in re.findall(r"-p \w+ ((?:results|manifests)/\S+)", text)} <= deps


@pytest.mark.parametrize("stage", RUNS)
def test_parameters_of_a_notebook_are_those_that_are_passed_and_small_by_default(stage: str) -> None:
    names, defaults, params = re.findall(r"-p (\w+) ", COMMANDS[stage]), parameters(RUNS[stage]), load()
    assert len({*names}) == len(names), "a name is passed twice"
    assert {*names} <= {*defaults}, "papermill adds an unknown name and leaves the default as it is"
    assert {*defaults} - {*names} <= {"guide"}
    # Opened by hand it trains nothing and writes to .scratch/.
    assert (defaults.pop("train"), defaults.pop("results")) == (False, ".scratch/results")
    one = {"setting": params.settings, "method": params.rows, "source": params.sources, "seed": params.seeds}
    assert all(value in one[name] if name in one else value == "" for name, value in defaults.items())


def leaves(content: Any, key: str = "") -> Iterator[str]:
    if isinstance(content, dict) and content:
        for name, value in content.items():
            yield from leaves(value, f"{key}.{name}".lstrip("."))
    else:
        yield key


def test_every_parameter_that_changes_a_result_is_tracked() -> None:
    tracked = [re.escape(key) for stage in RUNS for key in STAGES[stage]["params"]]
    pattern = "|".join(re.sub(r"\\\$\\\{item.*?\\\}", "[^.]+", key) for key in tracked)
    for file in PROFILES:
        found = {leaf for leaf in leaves(load(file).model_dump()) if not re.match(rf"({pattern})(\.|$)", leaf)}
        assert {leaf.split(".")[0] for leaf in found} <= FREE, found
    assert "params.yaml" in STAGES["check"]["deps"]  # the rest


@pytest.mark.parametrize("file", PROFILES, ids=lambda file: file.stem)
def test_params_yaml_is_block_mappings_with_flow_lists(file: Path) -> None:
    """`dvc exp run -S` rewrites the file and loses quotes in flow mappings, and overrides of what has an alias."""
    text = file.read_text()
    for event in yaml.parse(text):
        assert not getattr(event, "anchor", None), f"line {event.start_mark.line + 1}: an anchor or alias"
        if isinstance(event, yaml.ScalarEvent):
            assert event.style is None, f"line {event.start_mark.line + 1}: a quoted text"
        if isinstance(event, yaml.SequenceStartEvent):
            assert event.flow_style
        if isinstance(event, yaml.MappingStartEvent):
            assert not event.flow_style or text[event.start_mark.index :].startswith("{}")
    # Numbers are numbers for readers of YAML 1.1, too.
    assert all(
        isinstance(yaml.safe_load(n), float)
        for n in re.findall(r"(?<![\w.])\d[\d.]*e[-+]?\d+", re.sub("#.*", "", text))
    )
