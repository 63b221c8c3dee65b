"""What every test shares: one thread a worker under xdist, repeatable hypothesis runs, a plain environment, slow tests
first."""

import os
import re
import signal
from pathlib import Path

import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:
    # `make test` runs one worker a core; torch reads this once, when it is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, and no deadline: a loaded machine must not fail a test.
settings.register_profile("gkd", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("gkd")


def pytest_configure() -> None:
    """Ctrl-C as in a terminal: a shell has what it starts in the background ignore it, and tests of signals need it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the slow tests first, so that one worker runs them while the other does the rest."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No roots of the user's, and photos are loaded by the process that asks for them."""
    for name in filter(re.compile("GKD_.*_ROOT").fullmatch, list(os.environ)):
        monkeypatch.delenv(name)
    monkeypatch.setenv("GKD_WORKERS", "0")


@pytest.fixture
def checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What the package takes for its checkout, for one test."""
    from dataset_names import make_checkout  # with much of the package, which few tests need

    return make_checkout(monkeypatch, tmp_path)
