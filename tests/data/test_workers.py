import tempfile

import pytest
import torch

from gkd.data import workers as module
from gkd.data.workers import MOST, worker_options, workers


@pytest.fixture
def machine(monkeypatch):
    """Sets cores, torch's threads, and whether there is a GPU."""
    for name in ("GKD_WORKERS", "GKD_JOBS", "LOCAL_WORLD_SIZE", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)

    def become(cores, threads, gpu=False):
        monkeypatch.setattr(module, "cores", lambda: cores)
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: gpu)

    return become


@pytest.mark.parametrize(
    ("cores", "threads", "gpu", "expected"),
    [(1, 1, False, 0), (2, 1, False, 1), (4, 2, False, 2), (4, 16, False, 0), (4, 2, True, 3), (64, 16, False, MOST)],
)
def test_workers_and_threads_have_a_core_each(machine, cores, threads, gpu, expected):
    machine(cores, threads, gpu)
    assert workers() == expected


def test_what_runs_beside_each_other_shares_the_cores_and_the_environment_decides(machine, monkeypatch):
    machine(16, 1)
    monkeypatch.setenv("GKD_JOBS", "2")  # of `gkd repro`
    assert workers() == 7
    monkeypatch.delenv("GKD_JOBS")
    monkeypatch.setenv("WORLD_SIZE", "8")  # notebook_launcher
    assert workers() == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")  # torchrun on two machines
    assert workers() == 3
    monkeypatch.setenv("GKD_WORKERS", "5")
    assert workers() == 5


@pytest.mark.parametrize("given", ["two", "-1", ""])
def test_a_number_that_is_none_is_refused(monkeypatch, given):
    monkeypatch.setenv("GKD_WORKERS", given)
    with pytest.raises(ValueError, match=f"GKD_WORKERS={given}: expected the number of loader processes"):
        workers()


def test_sockets_of_workers_need_a_short_folder(monkeypatch, tmp_path):
    """multiprocessing (Python 3.11) hangs where the path of its socket is too long, on a cluster's TMPDIR."""
    monkeypatch.setattr(tempfile, "tempdir", f"{tmp_path}/{'x' * 80}")
    assert worker_options(0) == {}
    with pytest.raises(ValueError, match="xx: too long for the sockets of loader processes; set TMPDIR to a shorter"):
        worker_options(1)


def test_no_workers_need_no_options():
    assert worker_options(0) == {} and worker_options(1, ahead=3)["prefetch_factor"] == 3
