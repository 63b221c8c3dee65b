import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from dataset_names import touch
from typer.testing import CliRunner, Result

from gkd import datasets, params
from gkd.cli import app
from gkd.datasets import DATASETS, variable
from gkd.weights import origin
from gkd.workspace import availability, plan
from gkd.workspace import folders as workspace

ROOT = params.ROOT


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of params.yaml and plan.yaml that the command takes for the checkout, with no datasets."""
    for layout in DATASETS.values():
        monkeypatch.delenv(variable(layout.folder), raising=False)
    for name in ("params.yaml", "plan.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    for module in (params, plan, availability, datasets, workspace):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(origin, "ROOT", ROOT)  # the committed weights are there
    # Defaults of arguments are bound when the functions are made.
    monkeypatch.setattr(params.load, "__defaults__", (None, tmp_path / "params.yaml"))
    monkeypatch.setattr(plan.write, "__defaults__", (tmp_path / "plan.yaml",))
    return tmp_path


def gkd(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def contents(root: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in root.glob("*.yaml")}


def test_an_unknown_profile_is_one_message_and_changes_nothing(root: Path) -> None:
    before = contents(root)
    result = gkd("plan", "--profile", "nosuch")
    assert result.exit_code == 1 and result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("gkd plan: params.yaml: no profile 'nosuch'; there are tiny, mini")
    assert contents(root) == before


def test_absent_weights_stop_the_plan(root: Path) -> None:
    file = root / "params.yaml"
    file.write_text(file.read_text().replace("weights/mini/teacher.safetensors", "weights/hub/absent.pth"))
    before = contents(root)
    result = gkd("plan", "--profile", "tiny")
    assert result.exit_code == 1 and result.stdout == ""
    assert result.stderr.startswith(
        "gkd plan: the weights file weights/hub/absent.pth of vit_tiny_patch16_224 is missing"
    )
    assert contents(root) == before


def test_plan_writes_the_members_and_the_profile_and_nothing_else(root: Path) -> None:
    touch(root / "data", "proxy", "gtav", "cityscapes", "bdd100k", "mapillary")
    gkd("plan", "--profile", "tiny")
    before = (root / "params.yaml").read_text()
    result = gkd("plan", "--profile", "tiny")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "plan.yaml is up to date: profile tiny, "
        "1 task_agnostic, 1 domain_agnostic, 4 task_learning, 1 evaluate, 1 report\n"
    )
    assert yaml.safe_load((root / "plan.yaml").read_text()) == plan.build(params.load("tiny"))
    assert (root / "params.yaml").read_text() == before

    result = gkd("plan", "--profile", "mini")
    assert result.exit_code == 0 and result.stdout.startswith("plan.yaml written: profile mini, ")
    after = (root / "params.yaml").read_text()
    assert after == before.replace("\nprofile: tiny\n", "\nprofile: mini\n")
    # The active profile is the default.
    assert gkd("plan").stdout.startswith("plan.yaml is up to date: profile mini, ")


def test_what_is_absent_is_left_out_with_a_message(root: Path) -> None:
    touch(root / "data", "proxy", "gtav", "cityscapes", "mapillary")
    result = gkd("plan", "--profile", "mini")
    assert result.exit_code == 0
    assert "target bdd100k is left out" in result.stderr and "source potsdam is left out" in result.stderr
    written = yaml.safe_load((root / "plan.yaml").read_text())
    assert list(written["evaluate"]) == ["f2l-gtav-0"]
    assert written["evaluate"]["f2l-gtav-0"]["targets"] == "cityscapes,mapillary"


@pytest.mark.parametrize(
    ("there", "message"),
    [((), "the proxy set of task-agnostic distillation is not usable"), (("proxy",), "no source has its datasets")],
)
def test_without_data_there_is_no_plan(root: Path, there: tuple[str, ...], message: str) -> None:
    touch(root / "data", *there)
    before = contents(root)
    result = gkd("plan", "--profile", "tiny")
    assert result.exit_code == 1 and f"gkd plan: {message}" in result.stderr and "`make data`" in result.stderr
    assert contents(root) == before


def test_a_dataset_that_is_there_but_incomplete_stops_the_plan(root: Path) -> None:
    touch(root / "data", "proxy", "gtav", "cityscapes", "mapillary", "bdd100k")
    (root / "data/bdd100k/labels/sem_seg/masks/val/a-b.png").unlink()
    before = contents(root)
    result = gkd("plan", "--profile", "tiny")
    assert result.exit_code == 1 and contents(root) == before
    assert "a-b.jpg: expected its label" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("gkd plan: bdd100k: there, but not as expected")
    assert gkd("plan", "--profile", "tiny", "--skip-faulty").exit_code == 0
    evaluations = yaml.safe_load((root / "plan.yaml").read_text())["evaluate"]
    assert evaluations["f2l-gtav-0"]["targets"] == "cityscapes,mapillary"


@pytest.mark.parametrize("old", ["name: vit_tiny_patch16_224", "name: deit_small_patch16_224.fb_in1k"])
def test_an_unknown_timm_name_is_found_before_anything_runs(root: Path, old: str) -> None:
    file = root / "params.yaml"
    file.write_text(file.read_text().replace(old, "name: deit_smal_patch16_224"))
    before = contents(root)
    profile = "tiny" if "tiny" in old else "paper"
    touch(root / "data", "proxy", "gtav", "cityscapes", "mapillary", "bdd100k")
    result = gkd("plan", "--profile", profile)
    assert result.exit_code == 1 and contents(root) == before
    assert "timm has no model named 'deit_smal_patch16_224'. Nearest: deit_small_patch16_224" in result.stderr


def test_a_fault_in_the_parameters_is_the_message(root: Path) -> None:
    file = root / "params.yaml"
    file.write_text(file.read_text().replace("in_memory: true", 'in_memory: "false"', 1))
    result = gkd("plan", "--profile", "tiny")
    assert result.exit_code == 1 and "Traceback" not in result.stderr
    assert result.stderr.startswith("gkd plan: params.yaml: profiles.tiny.in_memory: ")


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stands for `dvc repro`: records what is started, and exits with `codes` in turn."""
    seen = SimpleNamespace(started=[], workers=[], codes=[])

    def start(command: list[str], **options) -> SimpleNamespace:
        seen.started.append(command)
        seen.workers.append(options.get("env", {}).get("GKD_WORKERS"))
        code = seen.codes.pop(0) if seen.codes else 0
        return SimpleNamespace(wait=lambda: code, returncode=code)

    monkeypatch.setattr(subprocess, "run", start)
    monkeypatch.delenv("GKD_WORKERS", raising=False)
    return seen


def test_repro_runs_every_member_and_then_checks_the_whole(root: Path, processes: SimpleNamespace) -> None:
    plan.write(plan.build(params.load("mini")))
    assert gkd("repro", "--jobs", "2").exit_code == 0
    *members, last = processes.started
    assert last == ["dvc", "repro"]
    assert {tuple(command[:-1]) for command in members} == {("dvc", "--wait-for-lock", "repro", "--single-item")}
    names = [command[-1] for command in members]
    assert sorted(names) == sorted(plan.graph(yaml.safe_load((root / "plan.yaml").read_text()))) and len(names) == 28
    assert set(processes.workers[:-1]) == {"0"}


def test_repro_stops_where_a_member_fails(root: Path, processes: SimpleNamespace) -> None:
    plan.write(plan.build(params.load("mini")))
    processes.codes = [255]
    assert gkd("repro", "--jobs", "1").exit_code == 255
    assert len(processes.started) == 1


def test_repro_needs_a_job(root: Path, processes: SimpleNamespace) -> None:
    assert gkd("repro", "--jobs", "0").exit_code == 2
    assert not processes.started


def test_help_lists_the_commands() -> None:
    result = gkd("--help")
    assert result.exit_code == 0 and {"plan", "repro"} <= set(result.stdout.split())
