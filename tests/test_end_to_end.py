"""A clean clone with profile tiny: from generated data to the summary table, then again, then with one change."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from gkd.datasets import official, variable
from gkd.methods import row
from gkd.params import ROOT, load

UP_TO_DATE = "Data and pipelines are up to date."
DISTILLATION = ("task_agnostic", "domain_agnostic")


def run(clone: Path, *command: str) -> str:
    """Run a command in the clone with this interpreter's tools and the clone's own gkd; returns what it printed."""
    # The folder of the interpreter as called, not of the file that a virtual environment links to.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {
        **os.environ,
        "PATH": path,
        "PYTHONPATH": str(clone),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "OMP_NUM_THREADS": "1",
    }
    for name in (variable(layout.folder) for layout in official().layouts.values()):
        environment.pop(name, None)  # the clone's own data/, wherever the user's datasets lie
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def stages_run(printed: str) -> set[str]:
    """Names of the members that `dvc repro` ran, or would run."""
    return set(re.findall(r"^Running stage '([^']+)':", printed, flags=re.M))


@pytest.mark.slow
def test_a_clean_clone_goes_from_data_to_tables_and_reruns_only_what_changed(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    assert run(clone, "python", "-c", "import gkd; print(gkd.__file__)").strip() == str(clone / "gkd" / "__init__.py")

    run(clone, "python", "-m", "gkd.mini", "--out", "data")
    # `dvc status` of an empty cache says "not in cache" and hides a changed hash; committing shows it to git.
    run(clone, "dvc", "commit", "--force", "data.dvc")
    assert run(clone, "git", "status", "--porcelain") == "", "gkd.mini draws other data than data.dvc says"
    run(clone, "gkd", "plan", "--profile", "tiny")
    plan = yaml.safe_load((clone / "plan.yaml").read_text())
    stages = (*DISTILLATION, "task_learning", "evaluate")
    members = {f"{stage}@{name}" for stage in stages for name in plan[stage]} | {"report"}
    assert len(members) <= 8

    assert stages_run(run(clone, "dvc", "repro")) == members
    versioned = ("data.dvc", "weights", "gkd", "notebooks", "dvc.yaml", "docs")
    assert run(clone, "git", "status", "--porcelain", *versioned) == "", "a stage writes to what git versions"

    params = load("tiny", clone / "params.yaml")
    table = pd.read_csv(clone / "results/report/tiny/tables/summary-f2l.csv")
    assert list(table["method"].unique()) == [row(name).label for name in params.plan.methods]
    assert np.isfinite(table["mean"]).all() and table["mean"].between(0, 100).all()
    for file in ("tables/summary-f2l.md", "tables/summary-f2l.tex", "figures/radar-f2l.pdf", "figures/radar-f2l.png"):
        assert (clone / "results/report/tiny" / file).stat().st_size > 0

    start = time.perf_counter()
    again = run(clone, "dvc", "repro")
    seconds = time.perf_counter() - start
    print(f"dvc repro with nothing to do: {seconds:.1f} s")
    assert UP_TO_DATE in again and not stages_run(again)
    assert seconds < 20

    file = clone / "params.yaml"
    file.write_text(re.sub(r"(\n  tiny:.*?lrs: \[)[^]]*", r"\g<1>2.0e-3", file.read_text(), count=1, flags=re.S))
    assert load("tiny", file).task_learning.lrs == [2.0e-3] != params.task_learning.lrs
    expected = {name for name in members if not name.startswith(DISTILLATION)}
    # A dry run cannot know that training changes a model, so it is told to follow the arrows.
    assert stages_run(run(clone, "dvc", "repro", "--dry", "--force-downstream")) == expected
