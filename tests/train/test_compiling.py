"""Compiled blocks compute what plain ones do, and are plain again afterwards."""

import shutil

import pytest
from killing import Photos
from tiny_models import tiny_vit

from gkd.distillation import distil
from gkd.methods import objective
from gkd.models import Encoder
from gkd.params import Compute, Distillation
from gkd.train.compiling import compiled
from gkd.train.run import Run


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.parametrize(("precision", "again"), [("fp32", False), ("bf16", True)])
def test_a_compiled_run_learns_what_a_plain_one_does(monkeypatch, precision, again):
    monkeypatch.setenv("GKD_WORKERS", "0")
    section = Distillation(steps=2, batch_size=2, lr=1e-3, image_size=[32, 32], grad_checkpointing=again)
    histories, students = [], []
    for compile_ in (False, True):
        student, teacher = tiny_vit(dim=24), tiny_vit(dim=36, seed=1)
        run = Run("test", compute=Compute(precision, compile=compile_, fused_adamw=True))
        heads = objective("gkd", student, teacher)
        histories.append(distil(student, teacher, heads, Photos(4), section, run))
        students.append(student)
    plain, ours = (history["loss"].to_numpy() for history in histories)
    assert plain == pytest.approx(ours, rel=1e-5 if precision == "fp32" else 2e-2)
    assert all(block._compiled_call_impl is None for block in students[1].backbone.blocks)


def test_blocks_are_compiled_while_it_lasts_and_only_where_it_is_wanted():
    encoder = tiny_vit()
    with compiled([encoder]):
        assert all(block._compiled_call_impl is not None for block in encoder.backbone.blocks)
    with compiled([encoder], wanted=False):
        assert all(block._compiled_call_impl is None for block in encoder.backbone.blocks)


def test_an_encoder_without_blocks_is_refused():
    with pytest.raises(ValueError, match="compile: ResNet has no blocks to compile; set it to false"):
        with compiled([Encoder.create("resnet18")]):
            pass
