import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import papermill
import pytest
from dataset_names import touch
from torch import nn

from gkd.datasets import DatasetError, SegmentationData, official
from gkd.params import load
from gkd.workspace import folders as workspace
from gkd.workspace.folders import SCRATCH_RESULTS, Workspace, open_domain, open_training, run_notebook

UPSTREAM = "{}/task_agnostic/tiny/f2l-gkd-0/encoder.safetensors"


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A repository root of the test's own."""
    monkeypatch.setattr(workspace, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, root: Path) -> list[tuple[str, dict[str, Any]]]:
    """Notebooks that are asked for; each "writes" the upstream file."""
    asked = []

    def run(stage: str, parameters: dict[str, Any]) -> None:
        asked.append((stage, parameters))
        file = root / UPSTREAM.format(SCRATCH_RESULTS)
        file.parent.mkdir(parents=True)
        file.touch()

    monkeypatch.setattr(workspace, "run_notebook", run)
    return asked


def test_a_members_folder_is_the_stage_the_profile_and_its_name(root: Path) -> None:
    space = Workspace("task_agnostic", "tiny", "f2l-gkd-0", "results")
    assert space.folder == root / "results/task_agnostic/tiny/f2l-gkd-0" and space.folder.is_dir()
    assert space.file("encoders/gtav.safetensors").parent.is_dir()
    assert Workspace("report", "tiny", "", "results").folder == root / "results/report/tiny"


def test_metrics_are_rounded_sorted_and_equal_in_bytes() -> None:
    space = Workspace("report", "tiny", "", "results")
    assert space.metrics({"b": 1 / 3, "a": 2}) == {"a": 2, "b": 0.3333}
    first = space.file("metrics.json").read_bytes()
    assert list(json.loads(first)) == ["a", "b"]
    space.metrics({"a": 2, "b": 1 / 3})
    assert space.file("metrics.json").read_bytes() == first


@pytest.mark.parametrize("results", ["results", SCRATCH_RESULTS])
def test_an_input_that_is_there_is_returned(root: Path, results: str, runs: list) -> None:
    space = Workspace("domain_agnostic", "tiny", "f2l-gkd-0", results)
    file = root / UPSTREAM.format(results)
    file.parent.mkdir(parents=True)
    file.touch()
    assert space.need(UPSTREAM.format(results)) == file
    assert space.need(None) is None
    assert not runs


def test_under_dvc_a_missing_input_is_an_error(runs: list) -> None:
    space = Workspace("domain_agnostic", "tiny", "f2l-gkd-0", "results")
    path = UPSTREAM.format("results")
    with pytest.raises(FileNotFoundError, match=f"{path} is missing: run `dvc repro`"):
        space.need(path, setting="f2l")
    assert not runs


def test_by_hand_the_stage_that_writes_it_runs_first(root: Path, runs: list) -> None:
    space = Workspace("domain_agnostic", "tiny", "f2l-gkd-0", SCRATCH_RESULTS)
    file = space.need(UPSTREAM.format(SCRATCH_RESULTS), setting="f2l", method="gkd", seed=0)
    assert runs == [("task_agnostic", {"profile": "tiny", "setting": "f2l", "method": "gkd", "seed": 0})]
    assert file == root / UPSTREAM.format(SCRATCH_RESULTS) and file.exists()


@pytest.mark.parametrize("results", ["results", SCRATCH_RESULTS])
def test_missing_weights_are_no_stages_to_run(results: str, runs: list) -> None:
    space = Workspace("task_learning", "tiny", "f2l-none-gtav-0", results)
    with pytest.raises(FileNotFoundError, match=r"weights/mini/teacher.safetensors is missing: .*git checkout"):
        space.need("weights/mini/teacher.safetensors")
    assert not runs


def test_a_notebook_that_does_not_write_its_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "run_notebook", lambda stage, parameters: None)
    space = Workspace("domain_agnostic", "tiny", "f2l-gkd-0", SCRATCH_RESULTS)
    with pytest.raises(
        FileNotFoundError, match="notebooks/task_agnostic.ipynb ran and did not write .scratch/results/"
    ):
        space.need(UPSTREAM.format(SCRATCH_RESULTS))


def test_notebooks_run_by_hand_run_in_the_root_and_are_kept_in_scratch(
    monkeypatch: pytest.MonkeyPatch, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []
    monkeypatch.setattr(papermill, "execute_notebook", lambda *args, **options: calls.append((args, options)))
    run_notebook("task_agnostic", {"method": "gkd", "seed": 0})
    ((source, executed), options) = calls[0]
    assert (source, executed) == (
        root / "notebooks/task_agnostic.ipynb",
        root / ".scratch/notebooks/task_agnostic.ipynb",
    )
    assert executed.parent.is_dir()
    assert (options["cwd"], options["parameters"]) == (str(root), {"method": "gkd", "seed": 0})
    assert "notebooks/task_agnostic.ipynb runs first (method=gkd, seed=0)" in capsys.readouterr().out


def test_equal_arrays_give_equal_bytes_at_any_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = Workspace("evaluate", "tiny", "f2l-gtav-0", "results")
    values = {"photo/0": np.arange(12, dtype=np.uint8).reshape(2, 2, 3), "grid": (4, 8), "query": 5}
    first = space.arrays("first.npz", values).read_bytes()
    later = time.time() + 10**6
    monkeypatch.setattr(time, "time", lambda: later)
    assert space.arrays("second.npz", values).read_bytes() == first
    with np.load(space.file("first.npz")) as read:
        assert {key: read[key].tolist() for key in read} == {k: np.asarray(v).tolist() for k, v in values.items()}
        assert read["photo/0"].dtype == np.uint8


def test_states_are_kept_for_equal_parameters_code_data_and_weights_alone(root: Path) -> None:
    (root / "gkd").mkdir()
    (root / "gkd" / "qsd.py").write_text("1")
    (root / "data.dvc").write_text("md5: 1")
    params, module = load("tiny"), nn.Linear(2, 2)
    space = Workspace("evaluate", "tiny", "f2l-gtav-0", "results")

    def key() -> str:
        return space.resume(params, module).key

    first = space.resume(params, module)
    assert first.folder == root / ".scratch/resume/results/evaluate/tiny/f2l-gtav-0" and first.seconds == 60
    assert key() == first.key
    params = params.model_copy(update={"resume_seconds": 0.0})
    assert key() == first.key  # how often changes no result
    keys = [key()]
    params = params.model_copy(update={"threads": 2})
    keys.append(key())
    (root / "gkd" / "qsd.py").write_text("2")
    keys.append(key())
    (root / "data.dvc").write_text("md5: 2")
    keys.append(key())
    nn.init.zeros_(module.bias)
    keys.append(key())
    assert len(set(keys)) == 5


def test_an_absent_domain_says_what_to_do(root: Path) -> None:
    params = load("tiny").model_copy(update={"roots": {"gtav": str(root / "gtav")}})
    with pytest.raises(DatasetError) as error:
        open_domain(params, official().sources["gtav"].train[0])
    assert str(root / "gtav") in str(error.value) and "`make data`" in str(error.value)


def test_a_domain_that_is_there_is_opened(root: Path) -> None:
    touch(root, "gtav")
    params = load("tiny").model_copy(update={"roots": {"gtav": str(root / "gtav")}})
    for domain in (*official().sources["gtav"].train, official().sources["gtav"].validation):
        assert len(open_domain(params, domain)) == 1


def test_training_images_are_those_of_all_datasets_of_a_source(root: Path) -> None:
    touch(root, "gtav", "synthia")
    params = load("tiny").model_copy(update={"roots": {name: str(root / name) for name in ("gtav", "synthia")}})
    alone = open_training(params, official().sources["gtav"])
    assert isinstance(alone, SegmentationData) and alone.in_memory and len(alone) == 1
    names = [sample.name for sample in open_training(params, official().sources["gtav-synthia"]).samples]
    assert names == ["gtav/images/00002.png", "synthia/RGB/0000000.png"]
    (root / "synthia/RGB/0000000.png").unlink()
    with pytest.raises(DatasetError, match="synthia/GT/LABELS/0000000.png: expected the image of this label"):
        open_training(params, official().sources["gtav-synthia"])


@pytest.mark.parametrize(("planned", "refused"), [("data", True), ("manifests", False)])
def test_under_dvc_a_root_elsewhere_must_be_planned(
    root: Path, monkeypatch: pytest.MonkeyPatch, planned: str, refused: bool
) -> None:
    """DVC would have hashed data/ and the stage would read other files."""
    touch(root, "gtav")
    (root / "plan.yaml").write_text(f"data: {planned}\n")
    params = load("tiny").model_copy(update={"roots": {"gtav": str(root / "gtav")}})
    monkeypatch.setenv("DVC_STAGE", "task_learning@f2l-none-gtav-0")
    if refused:
        with pytest.raises(DatasetError, match="plan.yaml was written without it: run `gkd plan`"):
            open_domain(params, official().sources["gtav"].train[0])
    else:
        assert len(open_domain(params, official().sources["gtav"].train[0])) == 1
    monkeypatch.delenv("DVC_STAGE")
    assert len(open_domain(params, official().sources["gtav"].train[0])) == 1
