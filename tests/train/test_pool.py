"""A pool of views: what is trained from it is what asking at every step for the same views would train."""

from functools import partial
from types import SimpleNamespace

import pytest
import tiny_params
import torch
from small_runs import Killed, Photos, assert_equal_runs, segmentor
from tiny_models import tiny_vit

from gkd import distillation
from gkd.qsd import Objective
from gkd.segmentation import task_learning
from gkd.segmentation.task_learning import Guide, learn_side_by_side
from gkd.train import pool
from gkd.train.resume import Resume
from gkd.train.run import FP32, Run

POOL = {"pool": 8, "steps": 6, "batch_size": 4}


@pytest.fixture
def exact(monkeypatch):
    """A pool that rounds nothing."""
    monkeypatch.setattr(pool, "KEPT", torch.float32)


def asking(monkeypatch, room, keep, only=None):
    """From now on a run without a pool sees the views of a pool of 8, in its order, and asks at every step."""

    def seen(section, draw, views, ask, like, name):
        found = pool.fill(8, draw, views, keep, like(4), name)
        return (batch[only] if only else batch for batch in map(pool.opened, pool.shuffled(found, draw)))

    monkeypatch.setattr(room, "seen", seen)


class Inner(Objective):
    """The heads of GKD and a term of the teacher's inner blocks."""

    teacher_blocks = (1, 0)

    def forward(self, unmasked, masked, teacher, grid=None):
        loss, metrics = super().forward(unmasked, masked, teacher, grid)
        inner = (teacher.maps[1].mean() - 2 * teacher.maps[0].mean() - unmasked.patches.mean()).square()
        return loss + inner, {**metrics, "inner": inner.detach()}


def distil(objective=Objective, run=Run("run"), **options):  # noqa: B008 - immutable
    student, teacher = (tiny_vit(dim, seed=dim, drop_path_rate=0.1 * (dim == 24)) for dim in (24, 48))
    torch.manual_seed(0)
    heads, photos = objective(24, 48), options.pop("photos", Photos())
    section = tiny_params.distillation(**{**POOL, **options})
    return student, heads, distillation.distil(student, teacher, heads, photos, section, run)


def assert_close_runs(one, other, **tolerance):
    torch.testing.assert_close(torch.tensor(one[-1].to_numpy()), torch.tensor(other[-1].to_numpy()), **tolerance)
    assert list(one[-1]) == list(other[-1])


@pytest.mark.parametrize(("objective", "options"), [(Objective, {}), (Inner, {"micro_batch": 2, "repeats": 3})])
def test_distillation_is_that_of_asking_the_teacher_for_the_same_views(monkeypatch, exact, objective, options):
    found = distil(objective, **options)
    with monkeypatch.context() as halves:
        halves.setattr(pool, "KEPT", torch.float16)
        rounded = distil(objective, **options)
    asking(monkeypatch, distillation, lambda images: {"images": images}, only="images")
    expected = distil(objective, pool=None, **options)
    assert_close_runs(found, expected, rtol=1e-5, atol=1e-6)
    assert_close_runs(rounded, expected, rtol=2e-2, atol=1e-3)
    assert not rounded[-1].equals(found[-1])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_killed_run_ends_with_the_same_bytes_and_its_state_holds_no_pool(tmp_path, monkeypatch, precision):
    compute, step, steps = (
        FP32.model_copy(update={"precision": precision}),
        distillation.distillation_step,
        iter(range(4)),
    )

    def killed_at_the_fourth(*arguments):
        if next(steps) == 3:
            raise Killed
        return step(*arguments)

    run, whole = Run("run", resume=Resume(tmp_path, "key", 0), compute=compute), distil(run=Run("run", compute=compute))
    with pytest.raises(Killed):
        distil(run=run, photos=Photos(left=5))  # while the pool is filled
    assert run.slot.load() is None
    with monkeypatch.context() as killing, pytest.raises(Killed):
        killing.setattr(distillation, "distillation_step", killed_at_the_fourth)
        distil(run=run)
    state = run.slot.load()
    assert len(state["history"]) == 3
    names = {*whole[0].state_dict(), *whole[1].state_dict()}
    assert {name.split(".", 1)[1] for name in state["modules"]} == names
    assert_equal_runs(distil(run=run), whole)
    again = Photos(left=0)
    assert_equal_runs(distil(run=run, photos=again), whole)  # done: nothing is drawn


def test_views_are_the_first_of_the_run_and_each_pass_has_an_order_of_its_own(monkeypatch, exact):
    seen, step, photos = [], distillation.distillation_step, Photos()
    monkeypatch.setattr(distillation, "distillation_step", lambda *a: seen.append(a[3]) or step(*a))
    distil(photos=photos)
    assert len(photos.reads) == 8  # once each, in three passes
    passes = torch.cat(seen).flatten(1).unflatten(0, (3, 8))
    seen.clear()
    distil(pool=None, steps=2)
    drawn = torch.cat(seen).flatten(1)
    orders = [[int((drawn == view).all(dim=1).nonzero()) for view in views] for views in passes]
    assert all(sorted(order) == list(range(8)) for order in orders) and len(set(map(tuple, orders))) == 3


def test_a_pool_that_does_not_fit_is_refused_before_a_view_is_drawn(monkeypatch, capsys):
    each = 2 * (3 * 32 * 32 + 17 * 48)  # the view; cls and 16 patches
    free = SimpleNamespace(available=8 * each - 1)
    monkeypatch.setattr(pool.psutil, "virtual_memory", lambda: free)
    with pytest.raises(ValueError, match=r"^pool: 8 views of 8 kB take 0.00 GB, .*: at most 7 fit; .*\(pool: null\)$"):
        distil(photos=Photos(left=0))
    distil(pool=7)
    free.available += 1
    distil(pool=9000, steps=2)  # a run of 8 views keeps 8
    assert "run  pool: 8 views of 8 kB take 0.00 GB" in capsys.readouterr().out


def test_numbers_beyond_half_precision_are_refused():
    with pytest.raises(ValueError, match="pool: a frozen model says more than torch.float16 can hold"):
        pool.kept(torch.tensor([7e4]))


def learn(make, guide=None, **options):
    section = tiny_params.learning(**{**POOL, "lrs": [1e-2, 1e-3], **options})
    model, photos = make(), Photos()
    models = {lr: task_learning._candidate(model) for lr in section.lrs}
    histories = learn_side_by_side(models, photos, section, Run("run"), guide)
    return *models.values(), histories[1e-2].join(histories[1e-3].add_prefix("slow ")), len(photos.reads)


@pytest.mark.parametrize(("decoder", "micro_batch"), [("conv", 2), ("mask2former", None)])
@pytest.mark.parametrize(("frozen", "guided"), [(True, False), (False, True)])
def test_task_learning_is_that_of_the_same_views(monkeypatch, exact, frozen, guided, decoder, micro_batch):
    make = partial(segmentor, frozen, decoder=decoder)
    guide = Guide(segmentor(decoder=decoder, seed=1), lambda a, b, _: (a - b).square().mean()) if guided else None
    *found, reads = learn(make, guide, micro_batch=micro_batch)
    assert reads == 8
    assert_equal_runs(found, learn(make, guide, micro_batch=micro_batch)[:-1])
    asking(monkeypatch, task_learning, lambda batch: batch)
    *expected, _ = learn(make, guide, pool=None, micro_batch=micro_batch)
    assert_close_runs(found, expected, rtol=1e-3, atol=1e-4)
