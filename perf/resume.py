"""Kill stages at random moments, repeat them, and compare what they write with a run that was left alone.

Works in a fresh clone in a temporary folder, on profile tiny with more steps and a state after every step and photo. A
kill is SIGKILL to `dvc repro` and all that it started, the notebook's kernel first. A run that is left alone says how
long start-up takes and how many states a member writes. Of five kills of a member one falls into start-up, at a random
time; the others come a random moment after a random state, so while it trains or evaluates, sometimes in the middle of
writing one. A stage that ended before its kill is killed anew. `--check` exits with 1 where an ending differs, or where
a member was never killed with a state to continue from.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import yaml
from table import arguments, finish, show

ROOT = Path(__file__).resolve().parents[1]
MEMBERS = (
    "task_agnostic@f2l-gkd-0",
    "domain_agnostic@f2l-gkd-gtav-0",
    "undistilled@f2l-none-gtav-0",
    "evaluate@f2l-gkd-gtav-0",
)


def environment(clone: Path) -> dict[str, str]:
    """That of the clone's own gkd, with this interpreter's tools; compiled modules are kept."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    own = {"PATH": path, "PYTHONPATH": str(clone), "JUPYTER_PREFER_ENV_PATH": "1", "PYTHONDONTWRITEBYTECODE": ""}
    return os.environ | own


def run(clone: Path, *command: str) -> float:
    """Run a command to its end; returns its seconds."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=clone, env=environment(clone), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return time.perf_counter() - start


def make_clone(folder: Path, steps: int) -> Path:
    """A clone on profile tiny with `steps` steps a stage, with its data and one whole run."""
    clone = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    tiny = yaml.safe_load((clone / "profiles" / "tiny.yaml").read_text())
    tiny["machine"]["resume_seconds"] = 0.0
    for stage in ("task_agnostic", "domain_agnostic", "task_learning"):
        tiny[stage]["steps"] = steps
    (clone / "params.yaml").write_text(yaml.safe_dump(tiny))
    run(clone, "python", "-m", "gkd.mini", "--out", "data")
    run(clone, "dvc", "commit", "--quiet", "--force", "data.dvc")
    run(clone, "dvc", "repro", *MEMBERS)
    return clone


def outputs(clone: Path, member: str) -> dict[str, str]:
    """Hashes of what a member wrote, without the executed notebook, which holds times."""
    outs = yaml.safe_load((clone / "dvc.lock").read_text())["stages"][member]["outs"]
    return {out["path"]: out["md5"] for out in outs if not out["path"].endswith(".ipynb")}


class Watched:
    """A member that runs, and the states that it was seen to write."""

    def __init__(self, clone: Path, member: str) -> None:
        self.scratch = clone / ".scratch"
        shutil.rmtree(self.scratch, ignore_errors=True)
        command = ("dvc", "repro", "--force", "--single-item", member)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.start, self.first, self.states = time.monotonic(), None, 0
        self.process = psutil.Popen(command, cwd=clone, env=environment(clone), **quiet)
        self.seen: dict[Path, int] = {}

    def running(self) -> bool:
        """Look once: count states that are new or written anew since; whether the member still runs."""
        for file in self.scratch.rglob("*.pt"):
            try:
                written = file.stat().st_mtime_ns
            except FileNotFoundError:  # the stage ended and cleared its states
                continue
            if self.seen.get(file) != written:
                self.seen[file] = written
                self.states += 1
                self.first = self.first or time.monotonic() - self.start
        return self.process.poll() is None

    def wait(self, states: int | None = None, seconds: float | None = None) -> bool:
        """Until it wrote so many states or so many seconds after its start; False where it ended before."""
        while self.running():
            if states is not None and self.states >= states:
                return True
            if seconds is not None and time.monotonic() - self.start >= seconds:
                return True
            time.sleep(0.002)
        return False

    def kill(self) -> None:
        """SIGKILL to all processes, the youngest first: a kernel that misses its parent would end more gently."""
        family = [self.process]
        with suppress(psutil.NoSuchProcess):  # it ended meanwhile
            family += self.process.children(recursive=True)
        for process in reversed(family):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=30)


@dataclass
class Alone:
    """A member left alone: seconds, seconds to its first state, states that were seen, hashes of what it wrote."""

    seconds: float
    first: float
    states: int
    outputs: dict[str, str]


def leave_alone(clone: Path, member: str) -> Alone:
    """Run a member to its end and watch it; its second run must write what the first one wrote."""
    before, watched = outputs(clone, member), Watched(clone, member)
    watched.wait()
    seconds = time.monotonic() - watched.start
    if watched.process.returncode or watched.first is None:
        raise RuntimeError(f"{member}: exit code {watched.process.returncode}, {watched.states} states seen")
    found = outputs(clone, member)
    if found != before:
        raise RuntimeError(f"{member}: two runs that were left alone differ, so no ending can be compared")
    return Alone(seconds, watched.first, watched.states, found)


def kill(clone: Path, member: str, alone: Alone, early: bool, rng: random.Random) -> dict:
    """Start a member and kill it; says when, and what was there then."""
    while True:
        watched = Watched(clone, member)
        if early:
            there = watched.wait(seconds=rng.uniform(0, alone.first))
        else:
            there = watched.wait(states=rng.randint(1, max(1, alone.states - 1)))
            between = (alone.seconds - alone.first) / alone.states
            there = there and watched.wait(seconds=time.monotonic() - watched.start + rng.uniform(0, between))
        seconds = time.monotonic() - watched.start
        watched.kill()
        if there:
            break
        print(f"{member} ended before its kill: once more", flush=True)
    left = len(list(watched.scratch.rglob("*.pt"))), len(list(watched.scratch.rglob(".*.part")))
    row = {"member": member, "kind": "start-up" if early else "work", "killed_at": seconds}
    return row | {"states_seen": watched.states, "states": left[0], "while_writing": left[1] > 0}


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    rng, rows, start = random.Random(options.seed), [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        clone = make_clone(Path(folder), options.steps)
        alone = {member: leave_alone(clone, member) for member in MEMBERS}
        times = ([m, f"{found.seconds:.1f}", f"{found.first:.1f}", found.states] for m, found in alone.items())
        show(["member", "alone, s", "first state, s", "states alone"], times)

        def kills() -> Iterator[list[object]]:
            for number in range(options.kills):
                turn, member = number // len(MEMBERS), MEMBERS[number % len(MEMBERS)]
                row = kill(clone, member, alone[member], turn % 5 == 4, rng)
                run(clone, "dvc", "repro", "--force", "--single-item", member)
                row["equal"] = outputs(clone, member) == alone[member].outputs
                rows.append(row)
                written = f"{row['states_seen']} of {alone[member].states}", row["states"]
                ending = "yes" if row["while_writing"] else "no", "equal" if row["equal"] else "DIFFERS"
                yield [member, row["kind"], f"{row['killed_at']:.1f}", *written, *ending]

        show(["killed", "in", "at, s", "states written", "states left", "writing one", "ending"], kills())
    equal, resumed = sum(row["equal"] for row in rows), {row["member"] for row in rows if row["states"]}
    with_states, writing = (sum(bool(row[key]) for row in rows) for key in ("states", "while_writing"))
    print(f"{equal} of {len(rows)} endings equal; {with_states} kills left states to continue from")
    print(f"{writing} kills came while a state was written; {time.monotonic() - start:.0f} s in all")
    missed = [f"{row['member']}: the ending differs" for row in rows if not row["equal"]]
    missed += [f"{member}: never killed with a state to continue from" for member in MEMBERS if member not in resumed]
    return finish(options, {"alone": {member: asdict(found) for member, found in alone.items()}, "kills": rows}, missed)


if __name__ == "__main__":
    sys.exit(main())
