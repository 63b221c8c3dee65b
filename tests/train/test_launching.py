"""One global batch gives one gradient, over however many processes and micro-batches it is spread."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gkd.params import ROOT
from gkd.train.processes import launch
from gkd.train.resume import Resume


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("states")
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": path, "GKD_WORKERS": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tests" / "several_processes.py"), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("run  step 1/1") == 10, "each run is told of once, by its first process"
    return folder


def state(folder: Path, case: str, part: str) -> dict:
    return torch.load(folder / case / "key" / f"{part}.pt", weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["2x4", "2x2x2", "1x4x2"])
@pytest.mark.parametrize("part", ["distil", "learn"])
def test_gradients_and_metrics_are_those_of_one_process_and_one_batch(states: Path, case: str, part: str) -> None:
    alone, shared = state(states, "1x8", part), state(states, case, part)
    moments, others = alone["optimizer"]["state"], shared["optimizer"]["state"]
    assert moments.keys() == others.keys() and len(moments) > 10
    largest = max(float(moment["exp_avg"].abs().max()) for moment in moments.values())
    assert largest > 1e-3  # after one step, a tenth of the gradient
    for key, moment in moments.items():
        torch.testing.assert_close(others[key]["exp_avg"], moment["exp_avg"], rtol=1e-4, atol=1e-6 * largest)
    assert [set(row) for row in shared["history"]] == [set(alone["history"][0])]
    for name, value in alone["history"][0].items():
        assert shared["history"][0][name] == pytest.approx(value, rel=1e-5), name


@pytest.mark.slow
@pytest.mark.parametrize("case", ["2x4", "2x2x2", "1x4x2"])
def test_counts_of_processes_add_up_exactly(states: Path, case: str) -> None:
    alone = np.load(states / "1x8.npy")
    assert alone.sum() > 0 and np.array_equal(np.load(states / f"{case}.npy"), alone)


@pytest.mark.slow
def test_a_sharded_teacher_gives_the_same_loss_and_gradients(states: Path) -> None:
    whole, sharded = state(states, "2x4", "distil"), state(states, "2x4 sharded", "distil")
    moments, others = whole["optimizer"]["state"], sharded["optimizer"]["state"]
    assert moments.keys() == others.keys() and len(moments) > 10
    for key, moment in moments.items():
        torch.testing.assert_close(others[key]["exp_avg"], moment["exp_avg"], rtol=1e-6, atol=1e-9)
    assert sharded["history"][0] == pytest.approx(whole["history"][0], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["vit", "resnet"])
def test_processes_hold_parts_of_a_sharded_encoder_and_see_its_tokens(states: Path, backbone: str) -> None:
    parts = [torch.load(states / f"{backbone}-{index}.pt", weights_only=True) for index in range(2)]
    whole = parts[0]["whole"]
    assert all(0.4 * whole < part["held"] < 0.6 * whole for part in parts), [part["held"] / whole for part in parts]
    assert sum(part["held"] for part in parts) == whole
    for part in parts:
        assert len(part["found"]) == 2
        for found in part["found"]:
            for tensor, expected in zip(found, part["expected"][0], strict=True):
                torch.testing.assert_close(tensor, expected, rtol=0, atol=0)


def test_processes_without_a_place_for_their_result_are_refused() -> None:
    with pytest.raises(ValueError, match="2 need a slot or Resume"):
        launch(2, None, print)


def test_a_process_among_several_starts_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="set it to 1"):
        launch(2, Resume(tmp_path, "key"), print)
