import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gkd.workspace import jobs
from gkd.workspace.jobs import run

GRAPH = {"report": {"a", "b"}, "b": {"teacher"}, "a": {"teacher"}, "teacher": set(), "alone": ()}


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_every_node_starts_once_after_what_it_needs(jobs):
    ended, started = [], []

    def start(name):
        started.append(name)
        assert set(GRAPH[name]) <= set(ended)
        ended.append(name)
        return 0

    assert run(GRAPH, jobs, start) == 0
    assert sorted(started) == sorted(GRAPH)


def test_no_more_than_jobs_run_at_a_time():
    running, counts = set(), []

    def start(name):
        running.add(name)
        counts.append(len(running))
        time.sleep(0.02)
        running.remove(name)
        return 0

    assert run({str(i): () for i in range(8)}, 2, start) == 0
    assert max(counts) == 2


def test_a_seed_is_whole_before_the_next_begins():
    chain = {f"{stage}@gkd-{seed}": {f"{before}@gkd-{seed}"} for seed in (3, 10) for before, stage in ("ab", "bc")}
    started = []
    assert (
        run(chain | {f"a@gkd-{seed}": {"check"} for seed in (10, 3)}, 1, lambda name: bool(started.append(name))) == 0
    )
    assert started == ["check", *(f"{stage}@gkd-{seed}" for seed in (3, 10) for stage in "abc")]


def test_a_stage_of_the_users_own_need_not_end_in_a_seed():
    assert run({"ablate@gtav": (), "ablate@x-y": (), "a@gkd-1": ()}, 1, lambda name: 0) == 0


def test_a_failure_is_returned_and_nothing_new_starts():
    started = []

    def start(name):
        started.append(name)
        return 3 if name == "teacher" else 0

    assert run(GRAPH, 1, start) == 3
    assert not {"a", "b", "report"} & set(started)


def test_a_circle_is_an_error():
    with pytest.raises(ValueError, match="cycle"):
        run({"a": {"b"}, "b": {"a"}}, 1, lambda _: 0)


def test_a_signal_that_is_ignored_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As SIGHUP under nohup."""
    seen = []
    monkeypatch.setattr(jobs, "run", lambda *_: seen.extend(map(signal.getsignal, jobs.SIGNALS)) or 3)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert jobs.repro({}, 1) == 3 and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert [handler is signal.SIG_IGN for handler in seen] == [number == signal.SIGHUP for number in jobs.SIGNALS]


# Stands for `dvc`: notes itself and what it runs, waits for that whatever signal comes, as dvc does.
DVC = """#!{python}
import os, signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
wait = "import os, signal, sys, time; signal.signal(signal.SIGINT, signal.{handler}); " \\
    "open(sys.argv[1], 'a').write(f'{{os.getpid()}}\\\\n'); time.sleep(50)"
subprocess.run([sys.executable, "-c", wait, "{log}"])
"""


@pytest.mark.parametrize(("number", "handler"), [(signal.SIGINT, "SIG_DFL"), (signal.SIGTERM, "SIG_IGN")])
def test_a_signal_ends_all_and_starts_nothing(number: signal.Signals, handler: str, tmp_path: Path) -> None:
    """Sent to the command alone, so that it has to reach what members run; who ignores it is killed."""
    log = tmp_path / "log"
    log.touch()
    script = tmp_path / "bin/dvc"
    script.parent.mkdir()
    script.write_text(DVC.format(python=sys.executable, handler=handler, log=log))
    script.chmod(0o755)
    code = (
        "import sys; from gkd.workspace import jobs; jobs.PATIENCE = 2; sys.executable = sys.argv[1]; "
        "sys.exit(jobs.repro({str(i): () for i in range(6)}, 2))"
    )
    job = subprocess.Popen([sys.executable, "-c", code, str(script)], stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while log.read_text().count("\n") < 2 and time.monotonic() < end:
        time.sleep(0.05)
    job.send_signal(number)
    _, said = job.communicate(timeout=60)
    pids = [int(line) for line in log.read_text().splitlines()]
    assert (job.returncode, len(pids)) == (128 + number, 2)
    assert "Traceback" not in said and "continues when it is run again" in said
    end = time.monotonic() + 10
    while any(alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in pids)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
