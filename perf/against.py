"""Distilled samples per CPU-second: from a pool, asking the teacher, an older checkout, lightly-train.

All sides have the teacher, the student, the proxy images, the image size and the batch of params.yaml, and one thread
on one core. They run as processes that take turns of a few steps, so that a machine that slows down slows all; the
first turn warms up. Ratios are of turns beside each other. What comes once before the first step (drawing and asking
about the pool's views, decoding the images into memory) is measured apart and counted in at `--samples`; starting up
and importing are not, nor is anything of lightly-train's that comes before its first step.

--before: a checkout of b75d584, which asks the teacher. --lightly: the interpreter of an environment with
lightly-train 0.18, whose `distillationv3` keeps its own augmentation, heads and loss: samples are equal in number, not
in what they teach. `--check` exits with 1 where distilling from a pool is under FASTER times as fast as either, or
FASTER_FILLED with the filling of the pool; where its peak memory is over the older checkout's and the pool; or where
either is not given.
"""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from table import arguments, finish, show

from gkd.methods import OF_DISTILLATION, OF_TASK_LEARNING
from gkd.params import ROOT, Params, load

POOL, ASKED, BEFORE, LIGHTLY = "from a pool", "teacher asked", "before, teacher asked", "lightly-train"
FASTER, FASTER_FILLED = 2.0, 1.5  # times as fast as BEFORE and LIGHTLY, without the filling of the pool and with it
Measured = dict[str, Any]  # of a side: seconds of its turns, once before them, peak memory in bytes


class Side:
    """A process that distils when it may."""

    def __init__(self, name: str, request: dict[str, Any], python: str, checkout: Path | None, log: Path) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "GKD_WORKERS": "0"}
        environment.pop("PYTHONPATH", None)
        if checkout is not None:
            environment["PYTHONPATH"] = str(checkout)
        # -P: scripts here are named like other packages' modules.
        command = [python, "-P", str(Path(__file__).with_name("sides.py")), json.dumps(request)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.name, self.log = name, log
        with log.open("w") as file:
            self.process = subprocess.Popen(command, **pipes, stderr=file, env=environment, cwd=checkout or log.parent)

    def __enter__(self) -> "Side":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def answer(self) -> dict[str, float]:
        """What the process says of the steps since it last waited; SystemExit with its own words where it ended."""
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: ended before its turns did\n{self.log.read_text()[-3000:]}")
        return json.loads(line)

    def turn(self) -> dict[str, float]:
        """One turn."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self.answer()


def requests(params: Params, options: Any) -> dict[str, tuple[dict[str, Any], str, Path | None]]:
    """By side: what its process is asked for, its interpreter and its checkout."""
    section = params.task_agnostic.model_dump(exclude={"settings"})
    section |= {"steps": -(-options.samples // section["batch_size"]), "warmup_steps": 0, "pool": None}
    method, of_training = options.method or params.headline, {*OF_DISTILLATION, *OF_TASK_LEARNING}
    models = {"teacher": params.models.teacher, "student": params.models.students["f2l"]}
    common = {
        **{name: {**spec.model_dump(), "weights": str(ROOT / spec.file)} for name, spec in models.items()},
        "method": method,
        # What is of training costs no time here, and the older checkout does not know it.
        "heads": {key: value for key, value in params.heads.get(method, {}).items() if key not in of_training},
        "proxy": str(options.proxy.resolve()),
        "steps": options.steps,
        "core": options.core,
        "section": section,
    }
    pool = section | {"pool": options.pool or params.task_agnostic.pool}
    found = {
        POOL: ({**common, "side": "here", "section": pool}, sys.executable, ROOT),
        ASKED: ({**common, "side": "here"}, sys.executable, ROOT),
    }
    if options.before:
        found[BEFORE] = {**common, "side": "before"}, sys.executable, options.before.resolve()
    if options.lightly:
        found[LIGHTLY] = {**common, "side": "lightly"}, str(options.lightly.absolute()), None
    return found


def measure(asked: dict[str, tuple[dict[str, Any], str, Path | None]], turns: int) -> dict[str, Measured]:
    """Each side's turns but for the first, and what came before them."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        sides, found = [], {}
        for number, (name, (request, python, checkout)) in enumerate(asked.items()):
            request = {**request, "scratch": str(Path(folder, str(number)))}
            sides.append(running.enter_context(Side(name, request, python, checkout, Path(folder, f"{number}.log"))))
            once = sides[-1].answer()["seconds"]  # from here on it waits: one side at a time
            found[name] = {"once": 0.0 if name == LIGHTLY else once, "turns": []}
        for turn in range(turns + 1):
            for side in sides[:: 1 if turn % 2 else -1]:  # what grows steadily hits none more than another
                said = side.turn()
                found[side.name]["memory"] = said["memory"]
                found[side.name]["turns"] += [said["seconds"]] if turn else []
    return found


def rates(own: Measured, size: int, samples: int = 0) -> list[float]:
    """Samples per CPU-second of each turn of `size` samples; with `samples`, of so many and what came once before."""
    return [samples / (own["once"] + samples * s / size) if samples else size / s for s in own["turns"]]


def ratios(found: dict[str, Measured], name: str, size: int, samples: int = 0) -> list[float]:
    """How many times as fast the side from a pool is, turn by turn."""
    pairs = zip(rates(found[POOL], size, samples), rates(found[name], size, samples), strict=True)
    return [ours / theirs for ours, theirs in pairs]


def spread(values: list[float], digits: int) -> str:
    """Median and quartiles as printed."""
    low, middle, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def faults(found: dict[str, Measured], size: int, samples: int, pool: int) -> list[str]:
    """What falls short, in words; `pool` is its bytes."""
    missed = [f"{name}: not measured" for name in (BEFORE, LIGHTLY) if name not in found]
    for name in found.keys() & {BEFORE, LIGHTLY}:
        for wanted, count in ((FASTER, 0), (FASTER_FILLED, samples)):
            if (reached := median(ratios(found, name, size, count))) < wanted:
                what = f"with the filling of the pool at {count:,} samples" if count else "without that of the pool"
                missed.append(f"{name}: {reached:.2f} times as fast {what}, wanted {wanted}")
    if BEFORE in found and found[POOL]["memory"] > found[BEFORE]["memory"] + pool:
        missed.append(f"peak memory {found[POOL]['memory'] / 1e9:.2f} GB: over that before and the pool")
    return sorted(missed)


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--before", type=Path, help="a checkout of b75d584")
    parser.add_argument("--lightly", type=Path, help="the interpreter of an environment with lightly-train 0.18")
    parser.add_argument("--proxy", type=Path, default=ROOT / "data" / "proxy", help="the proxy images")
    parser.add_argument("--method", help="of params.yaml; the headline's by default")
    parser.add_argument("--pool", type=int, help="views; as many as params.yaml says by default")
    parser.add_argument("--samples", type=int, default=64_000, help="over which the filling of the pool is spread")
    parser.add_argument("--turns", type=int, default=7, help="of each side")
    parser.add_argument("--steps", type=int, default=20, help="of a turn")
    parser.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)))
    options = parser.parse_args()
    asked = requests(load(), options)
    request = asked[POOL][0]
    section, size = request["section"], options.steps * request["section"]["batch_size"]
    if (options.turns + 1) * size > options.samples or options.turns < 1:
        parser.error(f"--turns: 1 to {options.samples // size - 1} of {size} samples fit into --samples")
    found = measure(asked, options.turns)
    rows, columns = section["image_size"]
    patch, dim = (request["teacher"]["options"][key] for key in ("patch_size", "embed_dim"))
    view = 2 * (3 * rows * columns + (rows // patch * (columns // patch) + 1) * dim)  # image and tokens in fp16
    pool = view * min(section["pool"], section["steps"] * section["batch_size"])
    print(f"{request['method']}, batches of {section['batch_size']}, {rows} x {columns} px, {options.turns} turns")
    print(f"pool: {section['pool']} views, {pool / 1e9:.2f} GB; medians (quartiles); pool/side: of turns, pairwise")
    titles = ["side", "samples/CPU s", "pool/side", "CPU s before", f"samples/CPU s at {options.samples:,}"]
    show([*titles, "pool/side", "peak GB"], (cells(found, name, size, options.samples) for name in found))
    about = {"size": size, "samples": options.samples, "pool bytes": pool, "sides": found}
    return finish(options, about, faults(found, size, options.samples, pool))


def cells(found: dict[str, Measured], name: str, size: int, samples: int) -> list[str]:
    """A row of the table as printed."""
    own = found[name]
    shown = [name]
    for count in (0, samples):
        shown += [spread(rates(own, size, count), 1), spread(ratios(found, name, size, count), 2)]
    return [*shown[:3], f"{own['once']:.1f}", *shown[3:], f"{own['memory'] / 1e9:.2f}"]


if __name__ == "__main__":
    sys.exit(main())
