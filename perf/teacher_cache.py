"""A training step with teacher tokens from the disk, against the step that asks the teacher and the published one.

python perf/teacher_cache.py [--json FILE] [--check] [--repeats N] [--warmup N] [--threads N] [--size PIXELS]
                             [--batch N] [--teacher NAME] [--student NAME] [--rows NAME ...] [--folder FOLDER]
                             [--precision fp32|bf16|auto]

The published step and the models are those of perf/step.py; the rows take turns as there. Reading a step's records
counts as part of the step, although the loader's workers do it in a run. Errors of bf16 and int8 are relative RMS
errors of tokens: of the teacher of random weights in the table, and of the trained miniature teacher on the images of
the embedded proxy set below it. `--check` exits with 1 where a cached row is less than three times as fast as the
published one, or where fp32 is not exact.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from step import LR, PUBLISHED, WEIGHT_DECAY, arguments, measure, models, resident, train_published, turns
from torch import Tensor
from torch.utils.data import default_collate

from gkd.cache import TeacherCache
from gkd.distillation import preview
from gkd.params import CacheOptions, Distillation, load
from gkd.qsd import distillation_step, teach
from gkd.token_store import FORMATS, TokenStore
from gkd.train.loop import fit, parameter_groups
from gkd.train.precision import autocast, frozen_copy, resolve
from gkd.weights import build_encoder
from gkd.workspace.availability import PROXY
from gkd.workspace.folders import open_domain

ASKED = "ours, teacher asked"
ROWS = {PUBLISHED: None, ASKED: None, **{f"ours, {store} from disk": store for store in FORMATS}}
FASTER, EQUAL = 3.0, 1e-4  # issue 5: times the published step; and how far losses may be off where tokens are exact
LOSSES = ["patch_loss", "fea_loss", "token_loss", "loss"]


def child(options: argparse.Namespace) -> None:
    """One row: `seconds` lines in turn with the parent, then one line of JSON."""
    student, teacher, objective, images, mask = models(options)
    count, groups = options.warmup + options.repeats, parameter_groups([student, objective], LR, WEIGHT_DECAY)
    dtype = resolve("fp32" if options.row == PUBLISHED else options.precision, images.device)
    teacher = frozen_copy(teacher, dtype)
    store, found = ROWS[options.row], {"weights": 0, "dtype": str(dtype), "parts": {}}
    cache, reading = None, []
    if store:
        shape = {"steps": count, "batch_size": options.batch, "lr": LR, "image_size": [options.size] * 2}
        section = Distillation(**shape, teacher_cache=CacheOptions(views=1, store=store))
        ask = lambda x: teach(teacher, objective, x)  # noqa: E731
        with autocast(images.device, dtype):  # as in the loop
            cache = TeacherCache(options.folder, section, 0, options.batch, ask, [teacher], images.device)
            cache.targets(images, *records(cache, images))  # the pass that fills it
        found["MB a view"] = cache.store.size / 1e6

    def batches(_start: int) -> Iterator[list[Tensor]]:
        for batch in turns([images, mask], count):
            start = time.perf_counter()
            stored = records(cache, images) if cache else []
            reading.append(time.perf_counter() - start)
            yield [*batch, *stored]

    def step(_number: int, batch: list[Tensor], _share: object) -> tuple[Tensor, dict[str, Tensor]]:
        views, hidden, *stored = batch
        targets, errors = cache.targets(views, *stored) if cache else (None, {})
        loss, metrics = distillation_step(student, teacher, objective, views, hidden, targets=targets)
        return loss, {**metrics, **errors}

    loaded = resident()
    print("ready", flush=True)
    if options.row == PUBLISHED:
        losses = train_published(student, teacher, objective, groups, turns([images, mask], count))
    else:
        run = groups, batches, count, lambda _: 1.0, "step"
        history = fit(step, [student, objective], *run, dtype=dtype, fused_adamw=True)  # as in the `paper` profiles
        losses = history[LOSSES].to_dict("records")
        found["token error"] = float(history.get("tokens_error", torch.zeros(1)).max())
        found["ms to read"] = 1000 * statistics.median(reading) / options.batch if cache else 0.0
        if cache:
            print(cache.summary(), flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdin.readline()  # one row after another
    print(json.dumps({**found, "losses": losses, "memory": peak - loaded}), flush=True)


def records(cache: TeacherCache, images: Tensor) -> list[Tensor]:
    """What a loader's worker adds to a batch of the first views of images 0, 1, ..."""
    return default_collate([cache.read((0, 0, index), image) for index, image in enumerate(images)])


def trained(samples: int = 64) -> dict[str, float]:
    """Token errors of the committed miniature teacher on augmented images of the proxy set, by store."""
    params = load("mini")
    teacher, section = build_encoder(params.models.teacher).eval(), params.task_agnostic
    section = section.model_copy(update={"batch_size": samples})
    images, _ = preview(open_domain(params, PROXY), section, teacher, 0)
    with torch.no_grad():
        targets = {"": (teacher(images), None)}
    stores = {kind: TokenStore(kind, targets) for kind in FORMATS if kind != "fp32"}
    return {kind: store.decode(store.encode(targets))[1]["tokens_error"].item() for kind, store in stores.items()}


def missed(table: dict[str, dict]) -> list[str]:
    """What falls short of issue 5, in words."""
    cached = {name: row for name, row in table.items() if ROWS[name]}
    slow = [f"{n}: {r['faster']:.2f} times faster, wanted {FASTER}" for n, r in cached.items() if r["faster"] < FASTER]
    full = str(torch.float32)  # in bf16, losses differ from the published ones without a cache as well
    exact = {name: row for name, row in table.items() if ROWS[name] == "fp32" and row["dtype"] == full}
    wrong = [f"{n}: losses differ by {r['off']:.1e}, allowed {EQUAL}" for n, r in exact.items() if r["off"] > EQUAL]
    return slow + wrong


def show(table: dict[str, dict], options: argparse.Namespace) -> None:
    """The rows as a Markdown table."""
    asked = table[ASKED]["losses"][0]["loss"] if ASKED in table else None
    size = f"{options.size} px, batch {options.batch}, {options.threads} threads, precision {options.precision}"
    print(f"{options.teacher} to {options.student}, {size}")
    print("| step | s | faster | CPU s | faster | MB a view | ms to read a view | token error | loss of step 1 off |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, row in table.items():
        speed = (
            f"{row['seconds']:.2f} | {row['faster']:.2f} | {row['cpu seconds']:.2f} | {row['faster in CPU time']:.2f}"
        )
        disk = f"{row['MB a view']:.2f} | {row['ms to read']:.1f}" if ROWS[name] else "- | -"
        off = "-" if asked is None else f"{abs(row['losses'][0]['loss'] / asked - 1):.1e}"
        print(f"| {name} | {speed} | {disk} | {row.get('token error', 0):.1e} | {off} |")


def main() -> int:
    parser = arguments(__doc__, ROWS)
    parser.add_argument(
        "--precision", default="fp32", choices=("fp32", "bf16", "auto"), help="of all rows but the first"
    )
    parser.add_argument("--folder", type=Path, help="of the cache; by default a temporary one")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.row:
        child(options)
        return 0
    if options.check and (options.rows[0] != PUBLISHED or not {*ROWS} <= set(options.rows)):
        parser.error("--check needs all rows, the published one first")
    errors = trained()
    with tempfile.TemporaryDirectory() as temporary:
        if options.folder is None:
            sys.argv += ["--folder", temporary]  # the rows are started with these
        table = measure(options, __file__)
    show(table, options)
    print("miniature teacher, trained: " + ", ".join(f"{store} {error:.1e}" for store, error in errors.items()))
    if options.json:
        options.json.write_text(json.dumps({"rows": table, "trained": errors}, indent=2) + "\n")
    short = missed(table) if options.check else []
    for line in short:
        print(f"missed: {line}", file=sys.stderr)
    return int(bool(short))


if __name__ == "__main__":
    sys.exit(main())
