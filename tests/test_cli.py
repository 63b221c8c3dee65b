"""The command line: what each command says and leaves behind, and one boundary for mistakes."""

import hashlib
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dataset_names import written
from evaluations import write_evaluations
from PIL import Image
from typer.testing import CliRunner, Result

from gkd.cli import app
from gkd.datasets import official
from gkd.files import write_whole
from gkd.params import load
from gkd.report import build
from gkd.report.evaluations import members
from gkd.workspace import check, jobs, profiles


def gkd(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_check_tells_every_mistake_in_a_line_each_and_writes_nothing(checkout: Path) -> None:
    (checkout / "data" / "bdd100k").rename(checkout / "elsewhere")
    written(checkout, {"seeds": [-1], "models.teacher.name": "vit_tny"})
    result = gkd("check", "--write")
    assert (result.exit_code, result.stdout) == (1, "") and not (checkout / "manifests").exists()
    keys = [line.removeprefix("gkd check: params.yaml: ").split(": ")[0] for line in result.stderr.splitlines()]
    assert keys == ["seeds.0", "models.teacher.name", "targets.gtav"]


def test_check_writes_the_lists_when_it_is_told_to(checkout: Path) -> None:
    said = "params.yaml is sound: profile tiny, sources gtav, seeds 0\n"
    assert gkd("check").stdout == said and not (checkout / "manifests").exists()
    result = gkd("check", "--write")
    assert (result.exit_code, result.stdout, result.stderr) == (0, said, "")
    first = {file: file.read_bytes() for file in (checkout / "manifests").rglob("*.csv")}
    assert len(first) == 9 and gkd("check", "--write").exit_code == 0
    assert gkd("check").stderr == ""
    assert {file: file.read_bytes() for file in (checkout / "manifests").rglob("*.csv")} == first


def test_check_says_where_photos_are_smaller_than_crops(checkout: Path) -> None:
    """As those of the embedded suite under a profile of the paper."""
    for file in (checkout / "data/gtav/images").iterdir():
        Image.new("RGB", (24, 16)).save(file)
    written(checkout, {"task_learning.scale": [0.5, 2.0]})
    result = gkd("check")
    assert result.exit_code == 0, result.stderr
    assert "gtav: photos of 24x16 pixels, crops of 64x64; is " in result.stderr


def test_notebooks_are_copied(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # those of the checkout
    result = gkd("notebooks", str(checkout / "copies"))
    number = len(list((checkout / "copies").glob("*.ipynb")))
    assert result.stdout.split() == f"{number} notebooks written to {checkout / 'copies'}".split() and number > 6


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(28, "No space left\non device"), 1, "gkd check: [Errno 28] No space left on device\n"),
        (ValueError("a\n  b"), 1, "gkd check: a b\n"),
        (KeyboardInterrupt(), 130, "gkd check: stopped\n"),
        (TypeError("of ours"), 1, ""),
        (KeyError("of ours"), 1, ""),
    ],
)
def test_one_boundary_for_mistakes(monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(check, "check", fail)
    result = gkd("check")
    assert (result.exit_code, result.stderr) == (code, said)
    assert said or result.exception is error, "a fault of the program keeps its traceback"


def test_a_profile_that_was_killed_is_told_of(checkout: Path, processes: SimpleNamespace, monkeypatch) -> None:
    monkeypatch.setattr(profiles, "ROOT", checkout)
    before = checkout / ".scratch/before"
    before.mkdir(parents=True)
    (before / "profile.yaml").write_bytes((checkout / "params.yaml").read_bytes())
    (before / "params.yaml").write_text("the user's")
    for command in (["check"], ["repro"]):
        result = gkd(*command)
        assert result.exit_code == 0 and f"puts back what was there before ({before})" in result.stderr


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stands for `dvc`: records what is started, and exits with `codes` in turn."""
    seen = SimpleNamespace(started=[], jobs=[], codes=[])

    def start(command: tuple[str, ...], **options: Any) -> object:
        seen.started.append(command)
        seen.jobs.append(options["env"]["GKD_JOBS"])
        code = seen.codes.pop(0) if seen.codes else 0
        return type("Ended", (), {"wait": lambda self: code})()

    monkeypatch.setattr(jobs, "graph", lambda: {"report": {"a", "b"}, "b": {"a"}, "a": set()})
    monkeypatch.setattr(subprocess, "Popen", start)
    return seen


def test_repro_runs_every_member_and_then_checks_the_whole(checkout: Path, processes: SimpleNamespace) -> None:
    assert gkd("repro", "--jobs", "2").exit_code == 0
    *members, last = processes.started
    assert last == ("dvc", "--wait-for-lock", "repro")
    assert {command[:-1] for command in members} == {("dvc", "--wait-for-lock", "repro", "--single-item")}
    assert [command[-1] for command in members] == ["a", "b", "report"] and set(processes.jobs) == {"2"}
    assert gkd("check", "--write").exit_code == 0
    processes.started.clear()
    processes.codes = [255]  # a member that fails
    result = gkd("repro", "--jobs", "1")
    assert result.exit_code == 255 and len(processes.started) == 1 and result.stderr.startswith("failed: a;")


def test_repro_lists_images_anew_where_a_root_holds_others(
    checkout: Path, processes: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "graph", lambda: {"check": set(), "report": {"check"}})
    (checkout / "dvc.lock").write_text(hashlib.md5((checkout / "params.yaml").read_bytes()).hexdigest())
    for lists, forced in ((True, ()), (False, ("--force",))):
        assert gkd("check", *(["--write"] if lists else [])).exit_code == 0
        assert gkd("repro").exit_code == 0
        assert processes.started[-3:-1] == [
            ("dvc", "--wait-for-lock", "repro", *forced, "--single-item", "check"),
            ("dvc", "--wait-for-lock", "repro", "--single-item", "report"),
        ]
        (checkout / "data/gtav/images/00002.png").write_bytes(b"1")
    assert "manifests/train/gtav" in gkd("check").stderr


def test_a_profile_runs_in_the_place_of_params_and_is_kept(
    checkout: Path, processes: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores of an earlier run go; a failure publishes nothing."""
    for module in (build, profiles):
        monkeypatch.setattr(module, "ROOT", checkout)
    content = written(checkout, {"rows": ["none", "gkd"], "guided": [], "headline": "gkd"}).read_text()
    (checkout / "own.yaml").write_text(content)
    default = written(checkout).read_text()
    params = load(checkout / "own.yaml")
    write_evaluations(checkout / "results/evaluate/tiny", params, official())
    (checkout / "results/evaluate/tiny/f2l-kd-gtav-0").mkdir()  # of another run
    (checkout / "dvc.lock").write_text("lock")
    stale = checkout / "docs/own/scores/f2l-mse-gtav-0/scores.csv"
    write_whole(stale, "of an earlier run")
    other = checkout / "docs/own/scores/teacher-cityscapes-0/scores.csv"  # a source that is no longer in the profile
    write_whole(other, "of an earlier run")
    processes.codes = [255]
    assert gkd("profile", str(checkout / "own.yaml"), str(checkout / "docs/own"), "--jobs", "1").exit_code == 255
    assert stale.is_file() and not (checkout / "docs/own/tiny.lock").exists()
    assert (checkout / "params.yaml").read_text() == default
    lacking = checkout / "results/evaluate/tiny/f2l-gkd-gtav-0/images.npz"
    lacking.rename(checkout / "aside")
    assert gkd("profile", str(checkout / "own.yaml"), str(checkout / "docs/own")).exit_code == 1 and stale.is_file()
    (checkout / "aside").rename(lacking)
    assert (checkout / "params.yaml").read_text() == default
    done = gkd("profile", str(checkout / "own.yaml"), str(checkout / "docs/own"))
    assert done.exit_code == 0 and done.stdout.startswith("F2L")
    names = [*members(params), "tiny.lock"]
    assert sorted(names[:-1]) == sorted(folder.name for folder in (checkout / "docs/own/scores").iterdir())
    assert (checkout / "docs/own/tiny.lock").read_text() == "lock"
    for file in (other, checkout / "docs/own/scores/f2f-gkd-gtav-0/scores.csv"):
        write_whole(file, "of another setting, which keeps its teacher")
    build.keep(params, checkout / "docs/own")
    assert other.is_file()
    for file in (other, checkout / "docs/own/scores/f2f-gkd-gtav-0/scores.csv"):
        file.unlink()
    assert (checkout / "docs/own/summary-f2l.md").is_file() and not (checkout / "docs/profiles.md").exists()
    assert gkd("profile", str(checkout / "own.yaml"), str(checkout / "docs/own"), "--beside").stdout == ""
    assert (checkout / "docs/profiles.md").is_file() and (checkout / "params.yaml").read_text() == default


def test_repro_needs_a_job_and_sound_parameters(checkout: Path, processes: SimpleNamespace) -> None:
    assert gkd("repro", "--jobs", "0").exit_code == 2
    written(checkout, {"guided": []})
    result = gkd("repro")
    assert result.exit_code == 1 and result.stderr.startswith("gkd repro: params.yaml: rows: kd belongs to `guided`")
    assert not processes.started
