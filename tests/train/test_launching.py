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
from gkd.train.run import Run


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


def test_processes_without_a_place_for_their_result_are_refused() -> None:
    with pytest.raises(ValueError, match="2 need `resume`"):
        launch(Run("run", processes=2), print)


def test_a_process_among_several_starts_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="set it to 1"):
        launch(Run("run", resume=Resume(tmp_path, "key"), processes=2), print)
