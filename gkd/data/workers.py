"""How many processes load data, so that they and torch's threads do not contend for the cores."""

import os
import sys
import tempfile
from typing import Any

MOST = 8  # by default: each holds batches ready, and a GPU box has cores for other runs


def workers() -> int:
    """Loader processes: GKD_WORKERS where it is set, which changes no result, else what leaves torch a core a thread.

    Cores are those that this process may use, divided by the members that run side by side (GKD_JOBS, set by `gkd
    repro`) and by the processes of a run on this machine. Where an accelerator computes, one core is enough for this
    process. 0 = this process loads.
    """
    import torch  # here, for who only counts cores
    from accelerate.utils import patch_environment

    given = os.environ.get("GKD_WORKERS")
    if given is not None:
        if not given.isdecimal():
            raise ValueError(f"GKD_WORKERS={given}: expected the number of loader processes, 0 or more")
        return int(given)
    # torchrun tells how many processes this machine has; notebook_launcher, of one machine, how many there are.
    processes = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("WORLD_SIZE") or "1"
    with patch_environment(PYTORCH_NVML_BASED_CUDA_CHECK="1"):  # asked otherwise, CUDA is closed to forked processes
        accelerated = torch.accelerator.is_available()
    computing = 1 if accelerated else torch.get_num_threads()
    sharing = int(os.environ.get("GKD_JOBS", "1")) * int(processes)
    return min(max(cores() // sharing - computing, 0), MOST)


def cores() -> int:
    """Processor cores that this process may use; macOS knows no affinity."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_options(count: int, ahead: int = 2) -> dict[str, Any]:
    """Options of a DataLoader with `count` workers: forked, of one thread (by torch), each `ahead` batches ahead."""
    folder, most = tempfile.gettempdir(), 103 if sys.platform == "darwin" else 107  # bytes of the path of a socket
    if count and len(os.fsencode(folder)) + len("/pymp-12345678/listener-12345678") > most:
        raise ValueError(f"{folder}: too long for the sockets of loader processes; set TMPDIR to a shorter one")
    return {"prefetch_factor": ahead, "multiprocessing_context": "fork"} if count else {}
