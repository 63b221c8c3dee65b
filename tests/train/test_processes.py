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
    for name in ("distil", "learn", "distil pooled", "learn pooled"):  # each run is told of once, by its first process
        assert done.stdout.count(f"{name}  step 1/1") == 2
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("part", ["distil", "learn", "distil pooled", "learn pooled"])
def test_gradients_and_metrics_are_those_of_one_process_and_one_batch(states: Path, part: str) -> None:
    alone, shared = (
        torch.load(states / case / "key" / f"{part}.pt", weights_only=True) for case in ("1 x 8", "2 x 2 x 2")
    )
    moments, others = alone["optimizer"]["state"], shared["optimizer"]["state"]
    assert moments.keys() == others.keys() and len(moments) > 10
    largest = max(float(moment["exp_avg"].abs().max()) for moment in moments.values())
    assert largest > 1e-3  # after one step, a tenth of the gradient
    for key, moment in moments.items():
        torch.testing.assert_close(others[key]["exp_avg"], moment["exp_avg"], rtol=1e-4, atol=1e-6 * largest)
    assert shared["history"] == [pytest.approx(alone["history"][0], rel=1e-5)]


@pytest.mark.slow
def test_counts_of_processes_add_up_exactly(states: Path) -> None:
    alone = np.load(states / "1 x 8.npy")
    assert alone.sum() > 0 and np.array_equal(np.load(states / "2 x 2 x 2.npy"), alone)


def test_a_run_that_keeps_no_states_and_one_of_several_processes_start_none(tmp_path, monkeypatch) -> None:
    with pytest.raises(ValueError, match="processes: 2 need a Run with `resume`"):
        launch(Run("run", processes=2), print)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="set it to 1"):
        launch(Run("run", resume=Resume(tmp_path, "key"), processes=2), print)
