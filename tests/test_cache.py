"""A run that reads the teacher's tokens from the disk is the run that asks the teacher."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import torch
from killing import Killed, Photos
from tiny_models import Normed, tiny_vit

from gkd import cache as module
from gkd.cache import TeacherCache
from gkd.data.loading import EpochBatches
from gkd.distillation import build_objective, distil, preview
from gkd.methods.table import METHODS
from gkd.models import Encoder
from gkd.params import ROOT, Blocks, CacheOptions, Compute, Distillation, Heads
from gkd.qsd import teach
from gkd.train.resume import Resume


@pytest.fixture(autouse=True)
def no_workers(monkeypatch):
    monkeypatch.setenv("GKD_WORKERS", "0")


def section(store="fp32", views=2, **options):
    pool = {"teacher_cache": CacheOptions(views=views, store=store)}
    return Distillation(**{"steps": 6, "batch_size": 4, "lr": 1e-2, "image_size": [32, 32], **pool, **options})


class Counted(Encoder):
    """An encoder that counts the images that it sees."""

    seen = 0

    def _normalise(self, images):
        Counted.seen += len(images)
        return super()._normalise(images)


def counted(encoder):
    encoder.__class__, Counted.seen = Counted, 0
    return encoder


def run(folder, options, photos=None, slot=None, teacher=None, heads=None, others=None, precision="fp32"):
    """Student, heads, history of a run, and how many images the first teacher saw in it (with the probe)."""
    student, teacher = tiny_vit(24, depth=1, seed=1), counted(teacher or tiny_vit(48, seed=2))
    objective = build_objective(METHODS["gkd-diag"], student, teacher, heads, 0, others)
    photos = photos or Photos()
    history = distil(
        student, teacher, objective, photos, options, 0, "run", slot, 1, others, Compute(precision), cache=folder
    )
    return {**student.state_dict(), **objective.state_dict()}, history, Counted.seen


def assert_equal(one, other):
    assert one[0].keys() == other[0].keys()
    assert all(torch.equal(value, other[0][key]) for key, value in one[0].items())
    pd.testing.assert_frame_equal(one[1], other[1], check_exact=True)


CASES = {
    "one batch": {},
    "micro-batches": {"options": {"micro_batch": 2}},
    "repeated augmentation": {"options": {"repeats": 3, "views": 4}},
    "one view, thrice in a row": {"options": {"repeats": 3, "views": 1}},
    "a block": {"heads": Heads(intermediate=Blocks(student=0, teacher=1))},
    "a convolutional teacher": {"teacher": lambda: Encoder(Normed(8))},
    "two teachers": {"others": lambda: {"coarse": tiny_vit(36, patch=16, depth=1, seed=3)}},
    "bf16": {"precision": "bf16"},
}


@pytest.mark.parametrize("case", CASES)
def test_a_cached_run_has_the_bytes_of_one_without_whether_it_fills_or_reads(tmp_path, case):
    given = {**CASES[case]}
    options = given.pop("options", {})
    build = lambda: {k: v() if callable(v) else v for k, v in given.items()}  # noqa: E731
    plain = run(None, section("none", **options), **build())
    filling = run(tmp_path, section(**options), **build())
    reading = run(tmp_path, section(**options), **build())
    assert_equal(plain, filling)
    assert_equal(plain, reading)
    # 6 steps of 4 samples are over twice the pool of 5 photos; the last count is the probe alone.
    assert plain[2] == 24 > filling[2] > reading[2] == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(tmp_path, monkeypatch, workers):
    plain = run(None, section("none"))
    monkeypatch.setenv("GKD_WORKERS", str(workers))
    assert_equal(plain, run(tmp_path, section()))
    reading = run(tmp_path, section())
    assert_equal(plain, reading)
    assert reading[2] == 1


@pytest.mark.parametrize("store", ["fp32", "int8"])
@pytest.mark.parametrize("left", [3, 9, 22])
def test_a_killed_run_ends_with_the_same_bytes(tmp_path, store, left):
    slot = Resume(tmp_path / "resume", "key", 0).slot("a")
    with pytest.raises(Killed):
        run(tmp_path, section(store), Photos(left=left), slot)
    resumed = run(tmp_path, section(store), slot=slot)
    assert_equal(resumed, run(tmp_path / "other", section(store)))


@pytest.mark.parametrize(("store", "bound"), [("bf16", 0.004), ("int8", 0.012)])
def test_the_error_of_rounding_is_in_the_history_and_a_run_does_not_depend_on_what_it_found(tmp_path, store, bound):
    exact = run(None, section("none"))[1]
    filling, reading = (run(tmp_path, section(store)) for _ in range(2))
    assert_equal(filling, reading)
    errors = reading[1]["tokens_error"]
    assert errors.between(1e-4, bound).all()
    torch.testing.assert_close(torch.tensor(reading[1]["loss"][0]), torch.tensor(exact["loss"][0]), rtol=bound, atol=0)
    assert reading[1]["loss"][0] != exact["loss"][0] and "tokens_error" not in exact


def test_a_pool_replays_the_first_views_of_a_run_without_one():
    def keys(pool, repeats):
        return [key for batch in EpochBatches(7, 2, 40, 3, repeats, pool=pool) for key in batch]

    for repeats in (1, 3):
        free = keys(None, repeats)
        assert keys(1000, repeats) == free
        for pool in (1, 2, 4):
            views = [epoch * repeats + view for epoch, view, _ in keys(pool, repeats)]
            assert set(views) == set(range(pool))
            assert [index for *_, index in keys(pool, repeats)] == [index for *_, index in free]
    late = list(EpochBatches(7, 2, 40, 3, start=30, pool=2))
    assert late == list(EpochBatches(7, 2, 40, 3, pool=2))[30:]


def test_the_preview_is_that_of_the_pool():
    student = tiny_vit(24, depth=1)
    options = section("none", views=1, repeats=3)
    (views, _), (free, _) = (preview(Photos(), o, student, 0) for o in (options, section(views=9, repeats=3)))
    assert torch.equal(views[0], views[1]) and torch.equal(views[0], free[0]) and not torch.equal(free[0], free[1])


def flip(file, at):
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damage", ["bit", "cut", "zeros", "lost", "noise"])
def test_a_damaged_cache_is_found_and_made_again(tmp_path, capsys, damage):
    whole = run(tmp_path, section())
    (file,) = tmp_path.rglob("*.records")
    content = file.read_bytes()
    {
        "bit": lambda: flip(file, 100),
        "cut": lambda: file.write_bytes(content[: len(content) // 2]),  # between two records
        "zeros": lambda: file.write_bytes(content[:30] + bytes(len(content) - 30)),
        "lost": file.unlink,
        "noise": lambda: file.write_bytes(b"x" * len(content)),
    }[damage]()
    capsys.readouterr()
    assert_equal(whole, run(tmp_path, section()))
    told = capsys.readouterr().out
    assert ("a record is torn and is made again" in told) == (damage not in ("lost", "cut"))
    again = run(tmp_path, section())
    assert_equal(whole, again)
    assert again[2] == 1


def test_other_photos_under_the_same_name_are_found_by_their_pixels(tmp_path, capsys):
    run(tmp_path, section())
    photos = Photos()
    photos.images = 255 - photos.images
    capsys.readouterr()
    wrong = run(tmp_path, section(), photos)
    assert "a record is of another image and is made again" in capsys.readouterr().out
    assert len(list(tmp_path.iterdir())) == 1
    photos.left = 10**6
    assert_equal(wrong, run(None, section("none"), photos))


def key(tmp_path, options=None, seed=0, images=5, teacher=None, heads=None):
    student, teacher = tiny_vit(24, depth=1), teacher or tiny_vit(48, seed=2)
    teacher.eval()
    objective = build_objective(METHODS["gkd"], student, teacher, heads, 0)
    ask = lambda x: teach(teacher, objective, x)  # noqa: E731
    made = TeacherCache(tmp_path, options or section(), seed, images, ask, [teacher], torch.device("cpu"))
    return made.records.folder.name


def test_the_key_follows_what_tokens_follow_from_and_nothing_else(tmp_path):
    bright = tiny_vit(48, seed=2)
    bright.mean += 0.1  # neither in the weights ...
    heads = tiny_vit(48, seed=2, num_heads=4)  # ... nor this
    moved = tiny_vit(48, seed=2)
    with torch.no_grad():
        moved.backbone.blocks[1].mlp.fc2.bias[3] += 1e-4
    first = key(tmp_path)
    others = [
        key(tmp_path, seed=1),
        key(tmp_path, images=6),
        key(tmp_path, teacher=bright),
        key(tmp_path, teacher=heads),
        key(tmp_path, teacher=moved),
        key(tmp_path, heads=Heads(intermediate=Blocks(student=0, teacher=1))),
        key(tmp_path, section("int8")),
        key(tmp_path, section(views=3)),
        key(tmp_path, section(rand_augment="")),
        key(tmp_path, section(scale=[0.5, 1.0])),
        key(tmp_path, section(repeats=2)),
    ]
    assert len({first, *others}) == 1 + len(others)
    assert key(tmp_path, section(steps=3, batch_size=2, lr=1.0, micro_batch=1, mask_ratio=0.1)) == first
    about = json.loads((tmp_path / first / "about.json").read_text())
    assert about["views"] == 2 and about["layout"] == ["tokens: 17 x 48 torch.float32 as fp32"]


def test_disk_use_is_foretold_and_what_does_not_fit_stops_before_the_first_step(tmp_path, capsys, monkeypatch):
    run(tmp_path, section())
    told = capsys.readouterr().out
    assert "teacher cache: at most 10 views x 0.004 MB (fp32) = 0.000 GB in " in told
    assert "run  teacher cache: 14 views read, 10 made (0 torn, 0 of another image)" in told
    taken = sum(512 * file.stat().st_blocks for file in tmp_path.rglob("*.records"))
    assert taken <= 10 * 4096
    key(tmp_path / "few", section(steps=1))
    assert "at most 4 views" in capsys.readouterr().out  # one step sees no more
    usage = module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=30_000))
    photos = Photos()
    with pytest.raises(OSError, match=r"needs 0.0 GB more .* 0.0 GB are free: lower teacher_cache.views"):
        run(tmp_path / "new", section(), photos)
    assert photos.left == 10**6
    run(tmp_path, section())  # what is there needs no room


def test_a_store_without_a_folder_is_refused():
    with pytest.raises(ValueError, match="teacher_cache: a folder for the teacher's tokens is needed"):
        run(None, section())


PROCESSES = """
import sys
from pathlib import Path
from killing import Photos
from tiny_models import tiny_vit
from gkd.distillation import build_objective, distil
from gkd.methods.table import METHODS
from gkd.params import CacheOptions, Distillation
from gkd.train.resume import Resume

folder = Path(sys.argv[1])
for name, store in (("plain", "none"), ("filling", "fp32"), ("reading", "fp32")):
    student, teacher = tiny_vit(24, depth=1, seed=1), tiny_vit(48, seed=2)
    objective = build_objective(METHODS["gkd"], student, teacher, None, 0)
    options = {"steps": 4, "batch_size": 4, "lr": 1e-2, "image_size": [32, 32]}
    section = Distillation(**options, teacher_cache=CacheOptions(views=1, store=store))
    slot = Resume(folder / name, "key", 0).slot("a")
    distil(student, teacher, objective, Photos(), section, 0, name, slot, 2, cache=folder / "cache")
"""


@pytest.mark.slow
def test_several_processes_share_a_cache(tmp_path):
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": path, "GKD_WORKERS": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROCESSES, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("reading  teacher cache: 8 views read, 0 made") == 2
    plain, *cached = (
        torch.load(tmp_path / name / "key" / "a.pt", weights_only=True) for name in ("plain", "filling", "reading")
    )
    for state in cached:
        assert state["history"] == plain["history"]
        for own, other in zip(state["modules"], plain["modules"], strict=True):
            assert all(torch.equal(value, other[key]) for key, value in own.items())
