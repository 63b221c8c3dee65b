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
    expected = "help repro test test-pipeline lab data grid develop controls curves camvid weights lint clean"
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


SCORES = ("scores.csv", "images.npz")
# Stands for the environment's python and dvc: writes its arguments down, and what `gkd repro` of a profile would leave.
STUB = """#!/bin/sh
echo "$(basename $0) $*" >> log
test "$2 $3" = "gkd repro" || exit 0
cp params.yaml ran; echo lock of it > dvc.lock; cp -r made/. results/evaluate
exit $CODE
"""


@pytest.fixture
def stubbed(checkout: Path) -> Path:
    """The checkout with data, what camvid makes, an older member, and an installed environment of stubs."""
    for folder in ("env/bin", "data", "profiles", "made/camvid/f2f-kd", "results/evaluate/camvid/left-by-an-older-run"):
        (checkout / folder).mkdir(parents=True)
    (checkout / "env/.gkd-installed").touch()
    for name in ("dvc", "python"):
        (checkout / "env/bin" / name).write_text(STUB)
        (checkout / "env/bin" / name).chmod(0o755)
    for name in ("params.yaml", "dvc.lock"):
        (checkout / name).write_text("default")
    (checkout / "profiles/camvid.yaml").write_text("camvid")
    for name in SCORES:
        (checkout / "made/camvid/f2f-kd" / name).write_text("numbers")
    return checkout


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("code", ["0", "3", "no scores"])
def test_camvid_publishes_and_puts_the_default_back_also_after_a_failure_or_a_kill(stubbed, code, killed):
    if killed:  # in an earlier run: what it put aside is there, and the files are the profile's
        shutil.copytree(
            stubbed, stubbed / ".scratch/before", ignore=lambda _, names: {*names} - {"params.yaml", "dvc.lock"}
        )
        (stubbed / "params.yaml").write_text("camvid")
    if code == "no scores":
        (stubbed / "made/camvid/f2f-kd/scores.csv").unlink()
    run = make("camvid", "VENV=env", cwd=stubbed, CODE=code.removeprefix("no scores"))
    log = (stubbed / "log").read_text().splitlines()
    tables = ["python -m gkd tables docs/results/camvid"] if code == "0" else []
    assert log == ["dvc commit --quiet --force data.dvc", "python -m gkd repro --jobs 2", *tables]
    assert (stubbed / "ran").read_text() == "camvid" and (run.returncode != 0) == (code != "0")
    assert [(stubbed / name).read_text() for name in ("params.yaml", "dvc.lock")] == ["default", "default"]
    assert not (stubbed / ".scratch/before").exists()
    folder = stubbed / "docs/results/camvid"
    published = {str(f.relative_to(folder)): f.read_text().strip() for f in folder.rglob("*") if f.is_file()}
    expected = {"camvid.lock": "lock of it", **{f"scores/f2f-kd/{name}": "numbers" for name in SCORES}}
    assert code == "no scores" or published == (expected if code == "0" else {})


def test_a_control_is_published_beside_the_others(stubbed):
    (stubbed / "profiles/controls").mkdir()
    default = [f"f2l-kd-{source}-0" for source in ("cityscapes", "gtav", "potsdam_rgb")]
    for member in ("own/f2f-kd", "next/f2f-kd", *(f"mini/{name}" for name in default)):
        shutil.copytree(stubbed / "made/camvid/f2f-kd", stubbed / "made" / member)
    for name in ("own", "next"):
        (stubbed / f"profiles/controls/{name}.yaml").write_text(name)
    run = make("controls", "VENV=env", cwd=stubbed, CODE="0")
    assert run.returncode == 0, run.stderr
    folder = stubbed / "docs/results/controls"
    members = [*(f"default/scores/{name}" for name in default[1:]), "next/scores/f2f-kd", "own/scores/f2f-kd"]
    files = {f"{member}/{file}" for member in members for file in SCORES}
    files |= {"next/next.lock", "own/own.lock"}
    assert {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()} == files
    log = (stubbed / "log").read_text().splitlines()
    assert log.count("python -m gkd tables docs/results/controls") == 3
    assert (stubbed / "params.yaml").read_text() == "default"


def test_points_of_the_curve_are_the_profile_at_other_steps_each_in_its_folder(stubbed):
    shutil.copy(ROOT / "profiles/curves.yaml", stubbed / "profiles")
    (stubbed / "made/curves").mkdir()
    shutil.copytree(stubbed / "made/camvid/f2f-kd", stubbed / "made/curves/f2l-mse")
    profile, points = load(stubbed / "profiles/curves.yaml"), {"032": (1000, [0]), "064": (2000, [0, 1, 2])}
    for point, (steps, seeds) in points.items():
        run = make(f"curve-{point}", "VENV=env", cwd=stubbed, CODE="0")
        assert run.returncode == 0, run.stderr
        shutil.copy(stubbed / "ran", stubbed / "ran.yaml")
        proxy = profile.task_agnostic.model_copy(update={"steps": steps})
        assert load(stubbed / "ran.yaml") == profile.model_copy(update={"task_agnostic": proxy, "seeds": seeds})
        assert (stubbed / f"docs/results/curves/{point}k/scores/f2l-mse/scores.csv").is_file()
        assert (stubbed / f"docs/results/curves/{point}k/curves.lock").is_file()
    assert make("-n", "curves", "VENV=env", cwd=stubbed).stdout.count("-m gkd repro") == 6


def test_commands_of_the_environment_come_first_on_path(stubbed):
    (stubbed / "env/bin/dvc").write_text('#!/bin/sh\necho "$PATH" > log\n')
    make("data", "VENV=env", cwd=stubbed)
    assert (stubbed / "log").read_text().split(os.pathsep)[0] == str(stubbed / "env/bin")
