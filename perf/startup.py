"""Where the start of a member goes: papermill, its kernel, the stage's imports, DVC.

Medians of processes that start one after the other, in turn. A row holds what the row that it builds on holds, so that
the differences are the parts; the row with seaborn is what a stage took when figures imported it. `dvc repro` has
nothing to do, and needs a workspace whose default plan was run (`make repro`). `--check` exits with 1 where
`import gkd` takes a second or more, or `dvc repro` ten.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from resume import ROOT, environment
from table import arguments, finish, show

IMPORT, IDLE = 1.0, 10.0  # seconds allowed
STAGE = "import gkd.segmentation.task_learning, gkd.report.figures, gkd.workspace.plan, gkd.workspace.folders"
PLAIN, PACKAGE, REPRO = "python", "import gkd", "dvc repro, nothing to do"
PAPERMILL, EMPTY, WHOLE = "import papermill", "papermill, empty notebook", "papermill, a stage's imports"
BEFORE = "import seaborn besides"


def notebook(folder: Path, code: str) -> list[str]:
    """The command of a stage for a notebook of one cell."""
    cell = nbformat.v4.new_code_cell(code)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    file = folder / f"{len(list(folder.iterdir()))}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), file)
    return ["papermill", "-k", "python3", "--log-output", "--no-progress-bar", str(file), str(folder / "out.ipynb")]


def commands(folder: Path) -> dict[str, list[str]]:
    """What is timed, by row."""
    python = sys.executable, "-c"
    return {
        PLAIN: [*python, "pass"],
        PACKAGE: [*python, PACKAGE],
        PAPERMILL: [*python, PAPERMILL],
        EMPTY: notebook(folder, "pass"),
        WHOLE: notebook(folder, STAGE),
        BEFORE: notebook(folder, f"{STAGE}, seaborn"),
        REPRO: ["dvc", "repro"],
    }


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command in the workspace, with this interpreter's tools and with compiled modules kept, as usual."""
    usual = environment(ROOT)
    usual.pop("PYTHONDONTWRITEBYTECODE", None)
    return subprocess.run(command, cwd=ROOT, env=usual, capture_output=True, text=True)


def seconds(command: list[str]) -> float:
    """Wall seconds of a command that must succeed."""
    start = time.perf_counter()
    done = run(command)
    taken = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return taken


def idle() -> bool:
    """Whether `dvc repro` would run nothing; it must not start the pipeline here."""
    done = run(["dvc", "repro", "--dry"])
    return done.returncode == 0 and "Running stage" not in done.stdout


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if not idle():
        parser.error("the default plan is not up to date here: run `make repro` first")
    with tempfile.TemporaryDirectory() as folder:
        rows = commands(Path(folder))
        times: dict[str, list[float]] = {name: [] for name in rows}
        for turn in range(options.repeats + 1):  # the first brings files into memory
            for name, command in rows.items():
                taken = seconds(command)
                if turn:
                    times[name].append(taken)
    table = {name: statistics.median(values) for name, values in times.items()}
    below = {PACKAGE: PLAIN, PAPERMILL: PLAIN, EMPTY: PAPERMILL, WHOLE: EMPTY, BEFORE: WHOLE}
    above = {name: f"{table[name] - table[base]:.2f} s above `{base}`" for name, base in below.items()}
    show(["process", "s", "above"], ([name, f"{taken:.2f}", above.get(name, "")] for name, taken in table.items()))
    own = table[PACKAGE] - table[PLAIN]
    slow = [f"import gkd: {own:.2f} s, allowed {IMPORT}"] if own >= IMPORT else []
    slow += [f"dvc repro with nothing to do: {table[REPRO]:.1f} s, allowed {IDLE}"] if table[REPRO] >= IDLE else []
    return finish(options, {"medians": table, "seconds": times}, slow)


if __name__ == "__main__":
    sys.exit(main())
