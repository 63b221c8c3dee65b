"""Members of the plan side by side, each as soon as what it reads is there.

DVC runs one stage at a time, but several `dvc repro` processes may share a workspace. Two other ways were tried: one
process with a share of the members (walking upstream it asks to write data/ while another reads it, and fails; its
start takes half a second a target, under DVC's lock), and DVC's queue of experiments (a copy of the workspace each).
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from graphlib import TopologicalSorter
from pathlib import Path
from types import FrameType

from gkd.params import ROOT

SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
PATIENCE = 10.0  # seconds from an interrupt to the kill


def repro(graph: Mapping[str, Iterable[str]], jobs: int, forced: Collection[str] = ()) -> int:
    """`dvc repro` of every member of `graph`, up to `jobs` at a time, and then of the whole; returns the exit code.

    Those of `forced` run though DVC sees no change. Ctrl-C, SIGTERM or SIGHUP ends what is running, with all that it
    started, and nothing new is started: SystemExit carries the shell's code of it (130 of Ctrl-C).
    """
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    environment["GKD_JOBS"] = str(jobs)  # members have the cores among them, see gkd.data.workers
    running, ended = set[subprocess.Popen](), threading.Event()

    def call(*command: str) -> int:
        if ended.is_set():
            return 1
        # A group of its own, all of which is interrupted: DVC does not pass a signal on to what it runs.
        process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
        running.add(process)
        code = process.wait()
        running.discard(process)  # not where the wait was broken off
        return code

    def stop(number: int, frame: FrameType | None) -> None:
        ended.set()
        raise SystemExit(128 + number)

    # What is ignored stays so: SIGHUP under nohup.
    before = {n: signal.signal(n, stop) for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN}
    whole = "dvc", "--wait-for-lock", "repro"  # an editor's DVC may hold the lock for a while
    alone = (*whole, "--single-item"), (*whole, "--force", "--single-item")
    try:
        return run(graph, jobs, lambda name: call(*alone[name in forced], name)) or call(*whole)
    except SystemExit:
        for number in before:
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C changes nothing
        print("stopped: what was running is ended now, and continues when it is run again", file=sys.stderr)
        _end(running)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def graph() -> dict[str, set[str]]:
    """The members of dvc.yaml by DVC's names (`task_learning@f2l-gkd-gtav-0`), each with those whose outs it reads.

    Raises ValueError where DVC cannot read the pipeline, such as git's conflict marks in dvc.lock.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo  # a second, which nothing else needs

    try:
        with Repo(str(ROOT)) as repo:
            edges = repo.index.graph  # from a stage to those that it depends on
            own = [stage for stage in repo.index.stages if stage.path_in_repo == "dvc.yaml"]  # in its order
            return {stage.name: {other.name for other in edges.successors(stage) if other in own} for stage in own}
    except DvcException as error:
        files = (file for file in (ROOT / "dvc.yaml", ROOT / "dvc.lock") if file.is_file())
        torn = [file.name for file in files if "<<<<<<<" in file.read_text()]
        remedy = f"; resolve git's conflict in {torn[0]}" if torn else ""
        raise ValueError(f"DVC cannot read the pipeline: {error}{remedy}") from error


def _end(running: Iterable[subprocess.Popen]) -> None:
    """Interrupt the groups of processes, and kill those that go on."""
    for number in (signal.SIGINT, signal.SIGKILL):
        left = [process for process in list(running) if process.poll() is None]
        for process in left:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        for process in left:
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)


def run(graph: Mapping[str, Iterable[str]], jobs: int, start: Callable[[str], int]) -> int:
    """Call `start` for every node of `graph`, up to `jobs` at a time, after the nodes that it names.

    `start` runs a node to its end and returns its exit code. Returns 0, or the first other exit code: then nothing new
    is started, what is running is left to end, and the node is named on stderr. Of those that could start, members of
    the first seed come first, so that a long run that is broken off has whole seeds. Raises ValueError on a circle.
    """
    order = TopologicalSorter(graph)
    order.prepare()
    ready: list[str] = []
    running: dict[Future[int], str] = {}
    pool = ThreadPoolExecutor(jobs)
    try:
        while order.is_active():
            ready = sorted([*ready, *order.get_ready()], key=_seed)
            running |= {pool.submit(start, node): node for node in ready[: jobs - len(running)]}
            ready = [node for node in ready if node not in running.values()]
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                node = running.pop(future)
                if future.result():
                    pool.shutdown(wait=True, cancel_futures=True)
                    print(f"failed: {node}; its output is above, perhaps before that of others", file=sys.stderr)
                    return future.result()
                order.done(node)
        return 0
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _seed(node: str) -> int:
    """The seed of a member, which ends its name; of what serves all seeds, and of a user's own stage, 0."""
    last = node.partition("@")[2].rpartition("-")[2]
    return int(last) if last.isdecimal() else 0
