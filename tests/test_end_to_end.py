"""A clean clone with the profile tiny, from generated data to the summary table."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gkd.methods import row
from gkd.params import ROOT, load


def run(clone: Path, *command: str) -> str:
    """Run a command in the clone with this interpreter's tools and the clone's own gkd; returns what it printed."""
    # The folder of the interpreter as called, not of the file that a virtual environment links to.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(clone), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.mark.slow
def test_a_clean_clone_goes_from_data_to_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs after a change is seen by tests/pipeline."""
    monkeypatch.delenv("GKD_WORKERS")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    assert run(clone, "python", "-c", "import gkd; print(gkd.__file__)").strip() == str(clone / "gkd" / "__init__.py")

    run(clone, "python", "-m", "gkd.mini", "--out", "data")
    # `dvc status` of an empty cache says "not in cache" and hides a changed hash; committing shows it to git.
    run(clone, "dvc", "commit", "--force", "data.dvc")
    assert run(clone, "git", "status", "--porcelain") == "", "gkd.mini draws other data than data.dvc says"
    shutil.copy(clone / "profiles" / "tiny.yaml", clone / "params.yaml")
    run(clone, "dvc", "repro")
    versioned = ("data.dvc", "weights", "gkd", "notebooks", "dvc.yaml", "docs", "profiles")
    assert run(clone, "git", "status", "--porcelain", *versioned) == "", "a stage writes to what git versions"

    params, report = load(clone / "params.yaml"), clone / "results/report/tiny"
    table = pd.read_csv(report / "tables/summary-f2l.csv")
    assert list(table["method"].unique()) == [row(name).label for name in ("teacher", *params.rows)]
    assert np.isfinite(table["mean"]).all() and table["mean"].between(0, 100).all()
    for file in ("tables/summary-f2l.md", "tables/summary-f2l.tex", "figures/radar-f2l.pdf", "figures/radar-f2l.png"):
        assert (report / file).stat().st_size > 0
