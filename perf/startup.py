"""Where the start and the end of a member go: DVC, papermill, its kernel, the stage's imports, the kernel's exit.

A notebook of the import lines of `--stage` runs as the stage does. With `--against PATH` another checkout's package and
notebook take turns with this one's, with this interpreter, so that both are measured in one run. Medians. A row with
`dvc repro` is there where it has nothing to do, so where the pipeline was run. `--check` exits with 1 where a member
takes over 5 s from its command to the end of its imports, `import gkd` 1 s or more, or an idle `dvc repro` 10.
"""

import ast
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median

import nbformat
from resume import ROOT, environment, run
from table import arguments, finish, show

PACKAGE, IDLE, DVC = "`import gkd`", "`dvc repro`, nothing to do", "DVC reads the pipeline"
KERNEL, IMPORTS, START = "papermill and its kernel start", "imports", "start: both"
EXIT, IMPORTS_CPU, CPU = "exit: from the last cell to the end", "imports, CPU", "start to exit, CPU"
LIMITS = {START: 5.0, PACKAGE: 1.0, IDLE: 10.0}  # seconds


def notebook(checkout: Path, stage: str, file: Path) -> list[str]:
    """The stage's command for a notebook of its import lines, between two cells that say the time."""
    cells = nbformat.read(checkout / "notebooks" / f"{stage}.ipynb", as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    lines = [ast.unparse(node) for node in ast.parse(code).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    clock = "import time; print(time.time(), time.process_time())"
    new = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in (clock, "\n".join(lines), clock)])
    nbformat.write(new, file)
    options = ["-k", "python3", "--log-output", "--no-progress-bar"]
    return [sys.executable, "-m", "papermill", *options, str(file), str(file.with_suffix(".out.ipynb"))]


def member(checkout: Path, command: list[str]) -> dict[str, float]:
    """Seconds of the parts of a stage that only imports."""
    used, start = getrusage(RUSAGE_CHILDREN), time.time()
    run(checkout, *command)
    end, after = time.time(), getrusage(RUSAGE_CHILDREN)
    cells = nbformat.read(command[-1], as_version=4).cells
    (first, before), (last, behind) = (map(float, cells[i].outputs[0].text.split()) for i in (0, -1))
    wall = {KERNEL: first - start, IMPORTS: last - first, START: last - start, EXIT: end - last}
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    return wall | {IMPORTS_CPU: behind - before, CPU: cpu}  # CPU seconds hold also where others use the machine


def idle(checkout: Path) -> bool:
    """Whether `dvc repro` would run nothing; it must not start the pipeline here."""
    command = [sys.executable, "-m", "dvc", "repro", "--dry"]
    done = subprocess.run(command, cwd=checkout, env=environment(checkout), capture_output=True, text=True)
    return done.returncode == 0 and "Running stage" not in done.stdout


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--stage", default="task_learning", help="a notebook's name")
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    here, other = {"here": ROOT}, {"against": options.against.resolve()} if options.against else {}
    checkouts, python = other | here, [sys.executable, "-c"]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory() as folder:
        commands = {
            name: notebook(path, options.stage, Path(folder, f"{name}.ipynb")) for name, path in checkouts.items()
        }
        repro = {name: [sys.executable, "-m", "dvc", "repro"] for name, path in checkouts.items() if idle(path)}
        for turn in range(options.repeats + 1):  # the first brings files into memory, and compiles them
            for name, path in checkouts.items():
                row = {PACKAGE: run(path, *python, "import gkd") - run(path, *python, "pass")}
                row[DVC] = run(path, sys.executable, "-m", "dvc", "stage", "list", "--name-only")
                row |= member(path, commands[name])
                row |= {IDLE: run(path, *repro[name])} if name in repro else {}
                runs[name] += [row] if turn else []
    found = {name: {part: median(row[part] for row in rows) for part in rows[0]} for name, rows in runs.items()}
    parts = list(dict.fromkeys(part for medians in found.values() for part in medians))
    cell = "{:.2f}".format
    show([f"{options.stage}, s", *found], ([p, *(cell(m[p]) if p in m else "" for m in found.values())] for p in parts))
    missed = [
        f"{part}: {taken:.2f} s, allowed {LIMITS[part]:g}"
        for part, taken in found["here"].items()
        if taken > LIMITS.get(part, taken)
    ]
    return finish(options, {"medians": found, "runs": runs}, missed)


if __name__ == "__main__":
    sys.exit(main())
