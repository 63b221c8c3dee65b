"""Another profile in the place of params.yaml for the time of a run: what `make grid` and its like stand on.

with in_place(Path("profiles/grid_f2l.yaml")):
    ...
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gkd.files import write_whole
from gkd.params import ROOT

FILES = ("params.yaml", "dvc.lock")


@contextmanager
def in_place(profile: Path) -> Iterator[None]:
    """While it lasts, params.yaml is `profile`; then params.yaml and dvc.lock are put back as they were.

    After a kill the next call puts them back, unless params.yaml was edited meanwhile: then it is left as it is. So it
    is where it was edited while this lasts.

    Raises:
        FileNotFoundError: there is no such profile.
        BlockingIOError: `gkd repro` runs in this checkout, or another profile.
    """
    content, before = profile.read_bytes(), ROOT / ".scratch" / "before"
    with _held(fcntl.LOCK_EX):
        _put_back(before)
        aside = before.with_suffix(".part")
        shutil.rmtree(aside, ignore_errors=True)
        for name in filter(lambda name: (ROOT / name).is_file(), FILES):
            write_whole(aside / name, (ROOT / name).read_bytes())
        write_whole(aside / "profile.yaml", content)
        os.replace(aside, before)  # whole, before anything is changed
        try:
            write_whole(ROOT / "params.yaml", content)
            yield
        finally:
            _put_back(before)


@contextmanager
def undisturbed() -> Iterator[None]:
    """While it lasts no profile is put in place: for a run of params.yaml as it is. Raises as `in_place`."""
    with _held(fcntl.LOCK_SH):
        yield


@contextmanager
def _held(kind: int) -> Iterator[None]:
    file = ROOT / ".scratch" / "before.lock"
    file.parent.mkdir(exist_ok=True)
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(f"another run goes on in {ROOT}: wait for it, or run this one in a clone") from None
        yield


def _put_back(before: Path) -> None:
    """End what a call began, where params.yaml is still the profile that it put in place."""
    if not before.is_dir():
        return
    if (ROOT / "params.yaml").read_bytes() == (before / "profile.yaml").read_bytes():
        for name in FILES:
            if (before / name).is_file():
                write_whole(ROOT / name, (before / name).read_bytes())
            else:
                (ROOT / name).unlink(missing_ok=True)
    shutil.rmtree(before)
