import threading
import time

import pytest

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
    now, most, lock = 0, 0, threading.Lock()

    def start(_name):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        return 0

    assert run({str(i): () for i in range(8)}, 2, start) == 0
    assert most == 2


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
