import time
from pathlib import Path
from typing import Any

import numpy as np
import papermill
import pytest
from dataset_names import touch
from torch import nn

from gkd.datasets import DatasetError, SegmentationData, official
from gkd.files import write_whole
from gkd.params import load
from gkd.workspace import folders
from gkd.workspace.folders import SCRATCH_RESULTS, Workspace, open_domain, open_training, run_notebook

UPSTREAM = "{}/task_agnostic/tiny/f2l-gkd-0/encoder.safetensors"


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A repository root of the test's own."""
    monkeypatch.setattr(folders, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, root: Path) -> list[tuple[str, dict[str, Any]]]:
    """Notebooks that are asked for; each "writes" the upstream file."""
    asked = []

    def run(stage: str, parameters: dict[str, Any]) -> None:
        asked.append((stage, parameters))
        file = root / UPSTREAM.format(SCRATCH_RESULTS)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()

    monkeypatch.setattr(folders, "run_notebook", run)
    return asked


def test_a_members_folder_is_the_stage_the_profile_and_its_name(root: Path) -> None:
    space = Workspace("task_agnostic", "tiny", "f2l-gkd-0", "results")
    assert space.folder == root / "results/task_agnostic/tiny/f2l-gkd-0" and space.folder.is_dir()
    assert space.file("encoders/gtav.safetensors").parent.is_dir()
    assert Workspace("report", "tiny", "", "results").folder == root / "results/report/tiny"


def test_metrics_are_sorted_keep_every_digit_and_survive_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    space = Workspace("report", "tiny", "", "results")
    values, text = {"b": 1 / 3, "a": 2, "c": 31.2515}, '{\n  "a": 2,\n  "b": 0.3333333333333333,\n  "c": 31.2515\n}\n'
    assert space.metrics(values) == values and space.file("metrics.json").read_text() == text

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        space.metrics({"a": 2.0})
    assert space.file("metrics.json").read_text() == text


def test_under_dvc_a_missing_input_is_an_error(runs: list) -> None:
    space = Workspace("domain_agnostic", "tiny", "f2l-gkd-0", "results")
    path = UPSTREAM.format("results")
    with pytest.raises(FileNotFoundError, match=r"weights/mini/a.safetensors is missing: .*git checkout"):
        space.need("weights/mini/a.safetensors")  # which no stage makes
    with pytest.raises(FileNotFoundError, match=f"{path} is missing: run `dvc repro`"):
        space.need(path, setting="f2l")
    assert not runs


def test_by_hand_the_stage_that_writes_it_runs_first(root: Path, runs: list) -> None:
    space = Workspace("domain_agnostic", "tiny", "f2l-gkd-0", SCRATCH_RESULTS)
    file = space.need(UPSTREAM.format(SCRATCH_RESULTS), setting="f2l", method="gkd", seed=0)
    assert runs == [("task_agnostic", {"profile": "tiny", "setting": "f2l", "method": "gkd", "seed": 0})]
    assert file == root / UPSTREAM.format(SCRATCH_RESULTS) and file.exists()
    assert space.need(UPSTREAM.format(SCRATCH_RESULTS)) == file and space.need(None) is None and len(runs) == 1
    path = ".scratch/results/evaluate/tiny/f2l-gtav-0/scores.csv"
    with pytest.raises(FileNotFoundError, match=f"notebooks/evaluate.ipynb ran and did not write {path}"):
        space.need(path)


def test_notebooks_run_by_hand_run_in_the_root_and_are_kept_in_scratch(
    monkeypatch: pytest.MonkeyPatch, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []
    monkeypatch.setattr(papermill, "execute_notebook", lambda *args, **options: calls.append((args, options)))
    run_notebook("task_agnostic", {"method": "gkd", "seed": 0})
    ((source, executed), options) = calls[0]
    assert source == root / "notebooks/task_agnostic.ipynb"
    assert executed == root / ".scratch/notebooks/task_agnostic.ipynb" and executed.parent.is_dir()
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
    names = "gkd/qsd.py", "notebooks/evaluate.ipynb", "data.dvc", "subsets/gtav-2-0.txt"
    files = [write_whole(root / name, "1") for name in names]
    params, module = load("tiny"), nn.Linear(2, 2)
    space = Workspace("evaluate", "tiny", "f2l-gtav-0", "results")

    def key() -> str:
        return space.resume(params, module).key

    first = space.resume(params, module)
    assert first.folder == root / ".scratch/resume/results/evaluate/tiny/f2l-gtav-0" and first.seconds == 60
    params = params.model_copy(update={"resume_seconds": 0.0})  # how often changes no result
    keys = [key()]
    assert keys == [first.key]
    params = params.model_copy(update={"threads": 2})
    keys.append(key())
    for file in files:
        file.write_text("2")
        keys.append(key())
    (root / "notebooks/report.ipynb").write_text("another stage's")
    assert key() == keys[-1]
    nn.init.zeros_(module.bias)
    keys.append(key())
    assert len(set(keys)) == 7


def test_training_images_are_those_of_all_datasets_of_a_source(root: Path) -> None:
    touch(root, "gtav", "synthia")
    names = ("gtav", "synthia", "camvid")
    params = load("tiny").model_copy(update={"roots": {name: str(root / name) for name in names}})
    with pytest.raises(DatasetError, match=f"(?s){root / 'camvid'}.*`make data`"):
        open_domain(params, official().sources["camvid"].validation)
    assert len(open_domain(params, official().sources["gtav"].validation)) == 1
    alone = open_training(params, official().sources["gtav"])
    assert isinstance(alone, SegmentationData) and alone.in_memory and len(alone) == 1
    names = [sample.name for sample in open_training(params, official().sources["gtav_synthia"]).samples]
    assert names == ["gtav/images/00002.png", "synthia/RGB/0000000.png"]
    (root / "synthia/RGB/0000000.png").unlink()
    with pytest.raises(DatasetError, match="synthia/GT/LABELS/0000000.png: expected the image of this label"):
        open_training(params, official().sources["gtav_synthia"])


def test_under_dvc_a_root_elsewhere_must_be_planned(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC would have hashed data/ and the stage would read other files."""
    touch(root, "gtav")
    params = load("tiny").model_copy(update={"roots": {"gtav": str(root / "gtav")}})
    (domain,) = official().sources["gtav"].train
    assert len(open_domain(params, domain)) == 1
    monkeypatch.setenv("DVC_STAGE", "task_learning@f2l-none-gtav-0")
    monkeypatch.setattr("gkd.workspace.plan.read", lambda: {"data": "manifests"})
    assert len(open_domain(params, domain)) == 1
    monkeypatch.setattr("gkd.workspace.plan.read", lambda: {"data": "data"})
    with pytest.raises(DatasetError, match="plan.yaml was written without it: run `gkd plan`"):
        open_domain(params, domain)
