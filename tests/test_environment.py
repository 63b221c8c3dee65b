"""pyproject.toml, environment.yml, requirements.lock, the Makefile and CITATION.cff say the same thing."""

import os
import shutil
import subprocess
import tomllib
from importlib.metadata import distribution, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from gkd.params import ROOT, load

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
# They follow from the torch wheel, and the CPU wheel has none of them.
LEFT_OUT = ("nvidia-", "cuda-", "triton")


def direct() -> dict[str, Requirement]:
    """Declared dependencies with all extras, by canonical name."""
    extras = PROJECT["optional-dependencies"].values()
    lines = PROJECT["dependencies"] + [line for extra in extras for line in extra]
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


def pins(lines: list[str]) -> dict[str, str]:
    """`name==version` lines as canonical name -> version; any other form fails, as does a repeated name."""
    pairs = [line.split("==") for line in lines]
    found = {canonicalize_name(name): str(Version(pinned)) and pinned for name, pinned in pairs}
    assert len(found) == len(pairs), "a name is pinned twice"
    return found


def lock() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return pins([line for line in lines if line and not line.startswith("#")])


def installed_closure() -> set[str]:
    """Names of all installed distributions that the declared dependencies need here, themselves included."""
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = list(direct().values())
    while todo:
        requirement = todo.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        for needed in map(Requirement, distribution(requirement.name).requires or []):
            extras = requirement.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(needed)
    return {name for name, _ in seen if not name.startswith(LEFT_OUT)}


def test_environment_yml_pins_the_direct_dependencies_as_the_lock_does_within_their_ranges():
    (pip,) = [entry["pip"] for entry in ENVIRONMENT["dependencies"] if isinstance(entry, dict)]
    locked = lock()
    assert pins(pip) == {name: locked[name] for name in direct()}
    assert not [name for name, requirement in direct().items() if locked[name] not in requirement.specifier]
    (python,) = [e for e in ENVIRONMENT["dependencies"] if isinstance(e, str) and e.startswith("python=")]
    assert python.removeprefix("python=") in SpecifierSet(PROJECT["requires-python"])


def test_lock_is_the_closure_of_the_declared_dependencies():
    locked = lock()
    assert [name for name in locked if name.startswith(LEFT_OUT)] == []
    other = sorted(name for name in direct() if Version(version(name)).public != locked[name])
    if other:
        pytest.skip(f"not installed from requirements.lock: {', '.join(other)} differ")
    assert installed_closure() == set(locked)


def test_files_keep_their_bytes_where_git_is_set_to_windows_line_ends(tmp_path):
    names = subprocess.check_output(["git", "ls-files", "gkd", "notebooks", "*.yaml", "*.lock"], cwd=ROOT, text=True)
    names = [name for name in names.splitlines() if (ROOT / name).is_file()]
    command = ["git", "-c", "core.autocrlf=true", "checkout-index", f"--prefix={tmp_path}/", "--", *names]
    subprocess.run(command, cwd=ROOT, check=True)
    changed = [name for name in names if b"\r\n" in (tmp_path / name).read_bytes()]
    assert len(names) > 100 and changed == ["gkd/report/paper_numbers.csv"]  # as it was handed to us


def test_citation_names_this_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"] == version("gkd")
    assert citation["license"] == PROJECT["license"]
    assert citation["preferred-citation"]["url"] == "https://arxiv.org/abs/2603.02554"


def make(*arguments: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    """`make` as typed in a fresh shell, though these tests may themselves run under `make test`."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS")) and k != "VENV"}
    command = [shutil.which("make"), *arguments]
    return subprocess.run(command, cwd=cwd, env=clean | env, capture_output=True, text=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what make reads, as a git clone would have it, and nothing installed."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").touch()
    return tmp_path


def test_make_alone_lists_every_target():
    listed = {line.split()[1] for line in make().stdout.splitlines()}
    expected = "help repro test test-pipeline lab data grid grid_long develop controls curves camvid weights lint clean"
    assert listed == set(expected.split())


def test_repro_installs_makes_data_and_runs_in_this_order(checkout):
    run = make("-n", "repro", "PYTHON=py", "PIP_ARGS=--cpu", cwd=checkout)
    steps = ["py -m venv .venv", "install --cpu -r requirements.lock", "-m gkd.mini", "-m gkd repro"]
    places = [run.stdout.index(step) for step in steps]
    assert places == sorted(places)
    (checkout / "env").mkdir()
    (checkout / "env/.gkd-installed").touch()  # an installed environment is left alone
    run = make("-n", "repro", "VENV=env", cwd=checkout)
    assert run.returncode == 0 and "env/bin/python -m gkd repro" in run.stdout and "pip install" not in run.stdout


def test_make_says_what_is_lacking(checkout):
    runs = [make("repro", cwd=checkout, PATH=str(checkout)), make("lint", "PYTHON=", cwd=checkout)]
    (checkout / ".dvc/config").unlink()
    runs.append(make("repro", cwd=checkout))
    for run, words in zip(runs, ("install git", "No Python 3.11", "git clone"), strict=True):
        assert run.returncode != 0 and words in run.stderr and not (checkout / ".venv").exists()


@pytest.fixture
def stubbed(checkout: Path) -> Path:
    """The checkout with data, and an installed environment of stubs that write down how they are called."""
    for folder in ("env/bin", "data", "profiles/controls"):
        (checkout / folder).mkdir(parents=True)
    (checkout / "env/.gkd-installed").touch()
    for name in ("dvc", "python"):
        (checkout / "env/bin" / name).write_text('#!/bin/sh\necho "$(basename $0) $*" >> log\nexit $CODE\n')
        (checkout / "env/bin" / name).chmod(0o755)
    for name in ("curves", "controls/mse", "controls/own_teacher"):
        shutil.copy(ROOT / f"profiles/{name}.yaml", checkout / f"profiles/{name}.yaml")
    return checkout


@pytest.mark.parametrize(
    ("target", "profiles"),
    {
        "camvid": [
            "profiles/camvid.yaml docs/results/camvid",
            "profiles/camvid_eighth.yaml docs/results/camvid_eighth",
        ],
        "grid": [
            "profiles/grid_f2l.yaml docs/results/grid",
            "profiles/grid_f2f.yaml docs/results/grid",
            "profiles/grid_f2f_proxy.yaml docs/results/grid_proxy",
        ],
        "controls": [
            "params.yaml docs/results/controls/default --beside",
            "profiles/controls/mse.yaml docs/results/controls/mse --beside",
            "profiles/controls/own_teacher.yaml docs/results/controls/own_teacher --beside",
        ],
    }.items(),
)
def test_targets_run_profiles_that_are_there(stubbed: Path, target: str, profiles: list[str]) -> None:
    assert make(target, "VENV=env", "JOBS=3", cwd=stubbed, CODE="0").returncode == 0
    log = (stubbed / "log").read_text().splitlines()
    assert log[0] == "dvc commit --quiet --force data.dvc"
    assert [line for line in log if "gkd" in line] == [f"python -m gkd profile --jobs 3 {name}" for name in profiles]
    assert all((ROOT / name.split()[0]).is_file() for name in profiles)


def test_weights_makes_what_is_committed_and_a_control_its_own_teacher_first(stubbed: Path) -> None:
    assert make("control-withheld", "VENV=env", cwd=stubbed, CODE="0").returncode == 0
    *_, before, last = (stubbed / "log").read_text().splitlines()
    assert before == "dvc repro weights/mini/dvc.yaml:pretrain@withheld"
    assert last.endswith("profiles/controls/withheld.yaml docs/results/controls/withheld --beside")
    recipe = make("-n", "weights", "VENV=env", cwd=stubbed).stdout
    for name, committed in {"teacher": True, "student_broad": True, "student_narrow": True, "withheld": False}.items():
        assert (f"dvc.yaml:pretrain@{name}" in recipe) is committed
        assert (f"results/pretrain/{name}/{name}.safetensors" in recipe) is committed


def test_points_of_the_curve_are_the_profile_at_other_steps_each_in_its_folder(stubbed: Path) -> None:
    profile, points = load(stubbed / "profiles/curves.yaml"), {"032": (1000, [0]), "064": (2000, [0, 1, 2])}
    for point, (steps, seeds) in points.items():
        assert make(f"curve-{point}", "VENV=env", cwd=stubbed, CODE="0").returncode == 0
        proxy = profile.task_agnostic.model_copy(update={"steps": steps})
        assert load(stubbed / ".scratch/curves.yaml") == profile.model_copy(
            update={"task_agnostic": proxy, "seeds": seeds}
        )
        *_, last = (stubbed / "log").read_text().splitlines()
        assert last == f"python -m gkd profile --jobs 2 .scratch/curves.yaml docs/results/curves/{point}k --beside"
    assert make("-n", "curves", "VENV=env", cwd=stubbed).stdout.count("-m gkd profile") == 6


def test_commands_of_the_environment_come_first_on_path(stubbed):
    (stubbed / "env/bin/dvc").write_text('#!/bin/sh\necho "$PATH" > log\n')
    make("data", "VENV=env", cwd=stubbed)
    assert (stubbed / "log").read_text().split(os.pathsep)[0] == str(stubbed / "env/bin")
