"""Another profile in the place of params.yaml for the time of a run: what `make grid` and its like stand on.

with in_place(Path("profiles/grid_f2l.yaml")):
    ...
"""

import fcntl
import io
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ruamel.yaml import YAML

from gkd.files import write_whole
from gkd.params import ROOT, read, written

FILES = ("dvc.lock", "params.yaml")  # put back in this order: by the last is seen whether it was done


@contextmanager
def in_place(profile: Path) -> Iterator[None]:
    """While it lasts, params.yaml is `profile` (as `gkd.params.read` has it); then it and dvc.lock are put back.

    After a kill the next call puts them back first, so that `profile` may be params.yaml. Where that was edited
    meanwhile, or while this lasts, it is left as it is, and what was there before is kept; where, is printed.

    Raises:
        FileNotFoundError: there is no such profile.
        ParamsError: it cannot be read.
        BlockingIOError: `gkd repro` runs in this checkout, or another profile.
    """
    before = ROOT / ".scratch" / "before"
    with _held(fcntl.LOCK_EX):
        _put_back(before)
        content = whole(profile)
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


def left() -> str | None:
    """What to say where a call that was killed left its profile in the place of params.yaml."""
    before = ROOT / ".scratch" / "before"
    try:
        with _held(fcntl.LOCK_SH):
            if not before.is_dir() or not _is_params(before / "profile.yaml"):
                return None
    except BlockingIOError:  # it runs
        return None
    return (
        "params.yaml is the profile of a `gkd profile` that was killed; the next `gkd profile` puts back what was "
        f"there before ({before})"
    )


def whole(profile: Path) -> bytes:
    """A profile as DVC can read it: as it stands, or put over the file that it names."""
    text, content = profile.read_bytes(), written(profile)
    if not isinstance(content, dict) or "over" not in content:
        return text
    stream = io.BytesIO()
    YAML().dump(read(profile), stream)
    return stream.getvalue()


def _is_params(file: Path) -> bool:
    return (ROOT / "params.yaml").read_bytes() == file.read_bytes()


def _put_back(before: Path) -> None:
    """End what a call began, where params.yaml is still the profile that it put in place. A kill at any moment leaves
    what the next call understands."""
    if not before.is_dir():
        return
    if _is_params(before / "profile.yaml"):
        for name in FILES:
            if (before / name).is_file():
                write_whole(ROOT / name, (before / name).read_bytes())
            else:
                (ROOT / name).unlink(missing_ok=True)
    elif not _is_params(before / "params.yaml"):
        kept = before.with_name(f"before-{time.time_ns()}")
        before.rename(kept)
        print(f"params.yaml was edited in a profile's place and stays; what was there is in {kept}", file=sys.stderr)
        return
    aside = before.with_suffix(".part")
    shutil.rmtree(aside, ignore_errors=True)
    before.rename(aside)  # it is whole or not there
    shutil.rmtree(aside)
