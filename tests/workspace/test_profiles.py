"""params.yaml and dvc.lock while another profile runs: as they were afterwards, whatever ends it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from gkd.workspace import profiles
from gkd.workspace.profiles import in_place, left, undisturbed


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(profiles, "ROOT", tmp_path)
    for name in ("params.yaml", "dvc.lock"):
        (tmp_path / name).write_text("default")
    (tmp_path / "grid.yaml").write_text("grid")
    return tmp_path


def contents(root: Path) -> list[str]:
    return [(root / name).read_text() for name in ("params.yaml", "dvc.lock")]


@pytest.mark.parametrize("error", [None, ValueError(), SystemExit(130), KeyboardInterrupt()])
def test_both_are_put_back_after_whatever_ends_it(root: Path, error: BaseException | None) -> None:
    try:
        with in_place(root / "grid.yaml"):
            assert contents(root) == ["grid", "default"]
            (root / "dvc.lock").write_text("of the run")
            if error is not None:
                raise error
    except (ValueError, SystemExit, KeyboardInterrupt) as raised:
        assert raised is error
    assert contents(root) == ["default", "default"] and not (root / ".scratch/before").exists()


def test_a_profile_over_another_file_is_whole_where_dvc_reads_it(root: Path) -> None:
    (root / "params.yaml").write_text("rows: [a, b]\nheads:\n  a: {}\nsteps: 1.0e-3\n")
    (root / "grid.yaml").write_text("over: params.yaml\nrows: [b]\nheads:\n  b: {c: 1}\n")
    with in_place(root / "grid.yaml"):
        put = YAML(typ="safe").load(root / "params.yaml")
        assert put == {"rows": ["b"], "heads": {"a": {}, "b": {"c": 1}}, "steps": 1e-3} and [*put][0] == "rows"
        assert left() is None
    assert contents(root)[0].startswith("rows: [a, b]")


def test_a_lock_that_was_not_there_goes(root: Path) -> None:
    (root / "dvc.lock").unlink()
    with in_place(root / "grid.yaml"):
        (root / "dvc.lock").write_text("of the run")
    assert not (root / "dvc.lock").exists()


def test_after_a_kill_the_next_one_puts_them_back_but_leaves_an_edited_file_alone(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for edited, expected in (("grid", ["default", "default"]), ("edited", ["edited", "of the run"])):
        with in_place(root / "grid.yaml"):
            shutil.copytree(root / ".scratch/before", root / "killed")
        (root / "killed").rename(root / ".scratch/before")
        (root / "params.yaml").write_text(edited)
        (root / "dvc.lock").write_text("of the run")
        assert (left() is not None) == (edited == "grid")
        with in_place(root / "grid.yaml"):
            assert left() is None  # which is as it should be
        assert contents(root) == expected and left() is None
    (kept,) = root.glob(".scratch/before-*")
    assert (kept / "params.yaml").read_text() == "default"
    assert f"edited in a profile's place and stays; what was there is in {kept}\n" in capsys.readouterr().err


@pytest.mark.parametrize("before_it_was_put_in_place", [True, False])
def test_a_kill_while_files_are_changed_is_understood(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], before_it_was_put_in_place: bool
) -> None:
    """Between what was there being kept and the profile standing there, and in the middle of putting back."""
    count = 0

    def stop(path: Path, content: bytes) -> None:
        nonlocal count
        if path.parent == root and (count := count + 1) == (1 if before_it_was_put_in_place else 3):
            raise SystemExit
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    with monkeypatch.context() as killed:
        killed.setattr(profiles, "write_whole", stop)
        if before_it_was_put_in_place:  # a kill leaves no time for it
            killed.setattr(profiles, "_put_back", lambda before: None)
        with pytest.raises(SystemExit), in_place(root / "grid.yaml"):
            (root / "dvc.lock").write_text("of the run")
    assert (left() is None) == before_it_was_put_in_place
    with in_place(root / "grid.yaml"):
        pass
    assert contents(root) == ["default", "default"] and not list(root.glob(".scratch/before*/"))
    assert capsys.readouterr().err == ""


def test_after_a_kill_params_as_the_next_profile_is_what_stood_there_before(root: Path) -> None:
    """As `make controls` begins."""
    with in_place(root / "grid.yaml"):
        shutil.copytree(root / ".scratch/before", root / "killed")
    (root / "killed").rename(root / ".scratch/before")
    (root / "params.yaml").write_text("grid")
    with in_place(root / "params.yaml"):
        assert contents(root) == ["default", "default"]


def test_two_at_once_are_refused_and_a_profile_that_is_not_there_changes_nothing(root: Path) -> None:
    other = f"""
from pathlib import Path
from gkd.workspace import profiles
profiles.ROOT = Path({str(root)!r})
with profiles.in_place(profiles.ROOT / "grid.yaml"):
    print("in place")
"""
    with in_place(root / "grid.yaml"):
        done = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True)
        assert f"another run goes on in {root}: wait for it" in done.stderr and not done.stdout
        assert contents(root) == ["grid", "default"]
    with undisturbed(), undisturbed():  # runs of params.yaml as it is: DVC has locks of its own among these
        done = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True)
        assert f"another run goes on in {root}" in done.stderr and not done.stdout
    with in_place(root / "grid.yaml"), pytest.raises(BlockingIOError, match="another run goes on"), undisturbed():
        pass
    assert subprocess.run([sys.executable, "-c", other], capture_output=True, text=True).stdout == "in place\n"
    with pytest.raises(FileNotFoundError), in_place(root / "gird.yaml"):
        pass
    assert contents(root) == ["default", "default"]
