"""Members of the plan side by side, each as soon as what it reads is there.

DVC runs one stage at a time, but several `dvc repro` processes may share a workspace. Two other ways were tried: one
process with a share of the members (walking upstream it asks to write data/ while another reads it, and fails; its
start takes half a second a target, under DVC's lock), and DVC's queue of experiments (a copy of the workspace each).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter


def run(graph: Mapping[str, Iterable[str]], jobs: int, start: Callable[[str], int]) -> int:
    """Call `start` for every node of `graph`, up to `jobs` at a time, after the nodes that it names.

    Args:
        graph: node -> nodes that come before it.
        jobs: how many at a time.
        start: runs a node to its end and returns its exit code.

    Returns:
        0, or the first other exit code; then nothing new is started, and what is running is left to end.
    """
    order = TopologicalSorter(graph)
    order.prepare()
    running: dict[Future[int], str] = {}
    with ThreadPoolExecutor(jobs) as pool:
        while order.is_active():
            running |= {pool.submit(start, node): node for node in order.get_ready()}
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                if future.result():
                    pool.shutdown(wait=True, cancel_futures=True)
                    return future.result()
                order.done(running.pop(future))
    return 0
