"""The command line: what each command says and leaves behind, and one boundary for mistakes."""

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dataset_names import touch
from typer.testing import CliRunner, Result

from gkd import params
from gkd.cli import app
from gkd.data import catalogue
from gkd.weights import origin
from gkd.workspace import folders, manifests, plan

ROOT = params.ROOT
SUITE = ("proxy", "gtav", "cityscapes", "bdd100k", "mapillary")


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of params.yaml and plan.yaml that the command takes for the checkout, with no datasets."""
    for name in ("params.yaml", "plan.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    for module in (params, plan, manifests, catalogue, folders):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(origin, "ROOT", ROOT)  # the committed weights are there
    return tmp_path


def gkd(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def contents(root: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in root.glob("*.yaml")}


def edit(root: Path, *changes: tuple[str, str]) -> None:
    text = (root / "params.yaml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (root / "params.yaml").write_text(text)


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ([("/mini/teacher.safetensors", "/hub/absent.pth")], ["the weights file weights/hub/absent.pth of "]),
        (
            [("seeds: [0]", "seeds: [-1]"), ("name: vit_tiny_patch16_224", "name: vit_tny"), ("gtav_val:", "gta:")],
            [
                "params.yaml: profiles.tiny.plan.seeds.0: expected ",
                "params.yaml: profiles.tiny.evaluate.bounds: unknown name 'gta'; known: ",
                *(f"params.yaml: profiles.tiny.models.{who}.name: timm has no model named 'vit_tny'. Nearest: "
                  for who in ("teacher", "students.f2l", "students.f2f")),
            ],
        ),
    ],
)  # fmt: skip
def test_mistakes_are_a_line_each_and_nothing_is_planned(root: Path, changes: list, lines: list) -> None:
    touch(root / "data", *SUITE)
    edit(root, *changes)
    before = contents(root)
    result = gkd("plan", "--profile", "tiny")
    assert (result.exit_code, result.stdout) == (1, "") and contents(root) == before
    for line, expected in zip(result.stderr.splitlines(), lines, strict=True):
        assert line.startswith(f"gkd plan: {expected}")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(28, "No space left\non device"), 1, "gkd plan: [Errno 28] No space left on device\n"),
        (ValueError("a\n  b"), 1, "gkd plan: a b\n"),
        (KeyboardInterrupt(), 130, "gkd plan: stopped\n"),
        (TypeError("of ours"), 1, ""),
        (KeyError("of ours"), 1, ""),
    ],
)
def test_one_boundary_for_mistakes(monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(plan, "make", fail)
    result = gkd("plan")
    assert (result.exit_code, result.stderr) == (code, said)
    assert said or result.exception is error, "a fault of the program keeps its traceback"


def test_plan_writes_the_members_and_the_profile_and_nothing_else(root: Path) -> None:
    touch(root / "data", *SUITE)
    gkd("plan", "--profile", "tiny")
    before = (root / "params.yaml").read_text()
    result = gkd("plan", "--profile", "tiny")
    members = "1 task_agnostic, 1 domain_agnostic, 4 task_learning, 1 evaluate, 1 report"
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"plan.yaml is up to date: profile tiny, {members}\n"
    assert plan.read() == plan.build(params.load("tiny"))
    assert (root / "params.yaml").read_text() == before

    result = gkd("plan", "--profile", "mini")
    assert result.exit_code == 0 and result.stdout.startswith("plan.yaml written: profile mini, ")
    after = (root / "params.yaml").read_text()
    assert after == before.replace("\nprofile: tiny\n", "\nprofile: mini\n")
    assert "source potsdam is left out" in result.stderr
    # The active profile is the default.
    assert gkd("plan").stdout.startswith("plan.yaml is up to date: profile mini, ")


@pytest.mark.parametrize("there", [(), ("proxy",)])
def test_without_data_there_is_no_plan(root: Path, there: tuple[str, ...]) -> None:
    touch(root / "data", *there)
    before = contents(root)
    result = gkd("plan", "--profile", "tiny")
    assert result.exit_code == 1 and contents(root) == before
    assert ("the proxy set of task-agnostic distillation is not usable" in result.stderr) == (not there)
    assert "`make data`" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("gkd plan: no source has its datasets (see above)")


def test_a_dataset_that_is_there_but_incomplete_stops_the_plan(root: Path) -> None:
    touch(root / "data", *SUITE)
    (root / "data/bdd100k/labels/sem_seg/masks/val/a-b.png").unlink()
    before = contents(root)
    result = gkd("plan", "--profile", "tiny")
    assert result.exit_code == 1 and contents(root) == before
    assert "a-b.jpg: expected its label" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("gkd plan: bdd100k: there, but not as expected")
    assert gkd("plan", "--profile", "tiny", "--skip-faulty").exit_code == 0
    assert plan.read()["evaluate"]["f2l-gtav-0"]["targets"] == "cityscapes,mapillary"


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stands for `dvc`: records what is started, and exits with `codes` in turn."""
    seen = SimpleNamespace(started=[], workers=[], codes=[])

    def start(command: tuple[str, ...], **options: Any) -> object:
        seen.started.append(command)
        seen.workers.append(options["env"].get("GKD_WORKERS"))
        code = seen.codes.pop(0) if seen.codes else 0
        return type("Ended", (), {"wait": lambda self: code})()

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.delenv("GKD_WORKERS", raising=False)
    return seen


def test_repro_runs_every_member_and_then_checks_the_whole(root: Path, processes: SimpleNamespace) -> None:
    assert gkd("repro", "--jobs", "2").exit_code == 0
    *members, last = processes.started
    assert last == ("dvc", "repro")
    assert {command[:-1] for command in members} == {("dvc", "--wait-for-lock", "repro", "--single-item")}
    names = [command[-1] for command in members]
    assert sorted(names) == sorted(plan.graph(plan.read())) and len(names) == 28
    assert set(processes.workers) == {"0"}
    processes.started.clear()
    processes.codes = [255]  # a member that fails
    assert gkd("repro", "--jobs", "1").exit_code == 255 and len(processes.started) == 1


def test_repro_needs_a_job_and_a_plan(root: Path, processes: SimpleNamespace) -> None:
    assert gkd("repro", "--jobs", "0").exit_code == 2
    (root / "plan.yaml").write_text("<<<<<<< HEAD\n")
    result = gkd("repro")
    assert result.exit_code == 1 and result.stderr.startswith("gkd repro: plan.yaml is missing or no plan: ")
    assert not processes.started
