"""Kill stages at random moments, repeat them, and compare what they write with a run that was left alone.

python perf/resume.py [--kills 20] [--seed 0] [--json FILE] [--check]

Works in a fresh clone in a temporary folder, on profile tiny with more steps and a state after every step. A kill is
SIGKILL to `dvc repro` and its children. `--check` exits with 1 where an ending differs, or where no kill found a state
to continue from.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
MEMBERS = (
    "task_agnostic@f2l-gkd-0",
    "domain_agnostic@f2l-gkd-0",
    "task_learning@f2l-none-gtav-0",
    "evaluate@f2l-gtav-0",
)


def environment(clone: Path) -> dict[str, str]:
    """That of the clone's own gkd, with this interpreter's tools."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(clone), "JUPYTER_PREFER_ENV_PATH": "1"}


def run(clone: Path, *command: str) -> float:
    """Run a command to its end; returns its seconds."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=clone, env=environment(clone), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return time.perf_counter() - start


def make_clone(folder: Path, steps: int) -> Path:
    """A clone whose tiny profile has `steps` steps a stage, with its data and one whole run."""
    clone = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    file = clone / "params.yaml"
    content = yaml.safe_load(file.read_text())
    tiny = content["profiles"]["tiny"]
    tiny["resume_seconds"] = 0.0
    for stage in ("task_agnostic", "domain_agnostic", "task_learning"):
        tiny[stage]["steps"] = steps
    content["profile"] = "tiny"
    file.write_text(yaml.safe_dump(content))
    run(clone, "python", "-m", "gkd.mini", "--out", "data")
    run(clone, "dvc", "commit", "--quiet", "--force", "data.dvc")
    run(clone, "gkd", "plan")
    run(clone, "dvc", "repro")
    return clone


def outputs(clone: Path, member: str) -> dict[str, str]:
    """Hashes of what a member wrote, without the executed notebook, which holds times."""
    outs = yaml.safe_load((clone / "dvc.lock").read_text())["stages"][member]["outs"]
    return {out["path"]: out["md5"] for out in outs if not out["path"].endswith("notebook.ipynb")}


def kill(clone: Path, member: str, seconds: float) -> int:
    """Start a member, kill it after `seconds`; returns how many states it left."""
    shutil.rmtree(clone / ".scratch", ignore_errors=True)
    command = ("dvc", "repro", "--force", "--single-item", member)
    process = subprocess.Popen(
        command,
        cwd=clone,
        env=environment(clone),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(2)  # the kernel, in a session of its own, ends when it misses its parent
    return len(list((clone / ".scratch").rglob("*.pt")))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    rng, rows = random.Random(options.seed), []
    with tempfile.TemporaryDirectory() as folder:
        clone = make_clone(Path(folder), options.steps)
        alone = {member: outputs(clone, member) for member in MEMBERS}
        force = ("dvc", "repro", "--force", "--single-item")
        lengths = {member: run(clone, *force, member) for member in MEMBERS}
        print("member                         alone s   killed at   states left   ending")
        for number in range(options.kills):
            member = MEMBERS[number % len(MEMBERS)]
            seconds = rng.uniform(0, lengths[member])
            states = kill(clone, member, seconds)
            run(clone, *force, member)
            equal = outputs(clone, member) == alone[member]
            rows.append({"member": member, "killed_at": seconds, "states": states, "equal": equal})
            shown = "equal" if equal else "DIFFERS"
            print(f"{member:<30} {lengths[member]:7.1f} {seconds:11.1f} {states:13d}   {shown}", flush=True)
    equal, resumed = sum(row["equal"] for row in rows), sum(row["states"] > 0 for row in rows)
    print(f"{equal} of {len(rows)} endings equal; {resumed} kills left a state to continue from")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    return int(options.check and (equal < len(rows) or not resumed))


if __name__ == "__main__":
    sys.exit(main())
