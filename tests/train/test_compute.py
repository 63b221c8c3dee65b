"""What a precision means on a processor; bf16 and compiled blocks learn what fp32 and plain ones do."""

import copy
import shutil

import numpy as np
import pytest
import torch
from small_runs import distilled
from tiny_models import tiny_vit
from torch import nn

from gkd.models import Encoder
from gkd.train.compute import Reduced, compiled, frozen_copy, has_bf16, resolve
from gkd.train.run import FP32, Run

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
BF16 = torch.bfloat16


@pytest.mark.parametrize("device", [CPU, CUDA, torch.device("mps")])
@pytest.mark.parametrize("says", ["", "amx", "avx", "cuda"])
def test_auto_is_bf16_where_the_processor_has_it_and_says_so(monkeypatch, capsys, device, says):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: says == "amx")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: says == "avx")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: says == "cuda")
    expected = says in {"cpu": ("amx", "avx"), "cuda": ("cuda",), "mps": ()}[device.type]
    assert has_bf16(device) is expected
    assert resolve("auto", device) is (BF16 if expected else torch.float32)
    word = "bf16, this {} has bf16" if expected else "fp32, this {} has no bf16"
    assert capsys.readouterr().out == f"precision auto: {word.format(device.type)} arithmetic\n"


def test_a_named_format_is_taken_at_its_word(capsys):
    assert (resolve("fp32", CPU), resolve("bf16", CPU)) == (torch.float32, BF16)
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match="precision: 'fp16' is unknown; expected auto, fp32 or bf16"):
        resolve("fp16", CPU)


def test_the_copy_has_half_the_bytes_and_the_original_its_own():
    teacher = tiny_vit(24, depth=1)
    before = copy.deepcopy(teacher.state_dict())
    half = frozen_copy(teacher, BF16)
    assert {p.dtype for p in half.parameters()} == {BF16}
    assert half.mean.dtype == half.std.dtype == torch.float32  # 0.485 in bf16 is off by 0.1 %
    assert all(torch.equal(v, before[k]) and v.dtype == before[k].dtype for k, v in teacher.state_dict().items())
    assert frozen_copy(teacher, torch.float32) is teacher


def test_batch_norm_keeps_its_format():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    seen = []
    model[1].register_forward_hook(lambda norm, x, _: seen.append((norm.weight.dtype, norm.running_mean.dtype)))
    Reduced(model, BF16)(torch.randn(2, 3, 4, 4)).float().mean().backward()
    assert seen == [(torch.float32, torch.float32)] and model[1].running_mean.abs().sum() > 0
    assert {p.dtype for p in frozen_copy(model, BF16)[1].parameters()} == {torch.float32}


def test_activations_are_bf16_and_gradients_fp32():
    model, seen = tiny_vit(24, depth=2), []
    for module in (model.backbone.patch_embed, *model.backbone.blocks, model.backbone.norm):
        module.register_forward_hook(lambda _m, x, y: seen.append((x[0].dtype, y.dtype)))
    tokens = Reduced(model, BF16)(torch.rand(2, 3, 32, 32), torch.ones(2, 16, dtype=torch.bool))
    assert seen[0][1] is BF16 and set(seen[1:]) == {(BF16, BF16)}
    (tokens.patches.float().square().mean() + tokens.cls.float().mean()).backward()
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32} == {p.dtype for p in model.parameters()}


@pytest.mark.parametrize("head", [{}, {"scaled": True, "diagonal_bias": 6.0}])
@pytest.mark.parametrize("micro_batch", [None, 1])
def test_a_run_in_bf16_stays_close_to_fp32(head, micro_batch):
    run = Run("run", compute=FP32.model_copy(update={"precision": "bf16"}))
    (*_, plain), (student, objective, reduced) = (
        distilled(head=head),
        distilled(run, head=head, micro_batch=micro_batch),
    )
    for name in ("patch_loss", "fea_loss", "token_loss", "loss"):
        np.testing.assert_allclose(reduced[name], plain[name], rtol=0.02, err_msg=name)
    assert not np.array_equal(reduced["loss"], plain["loss"])
    assert {p.dtype for m in (student, objective) for p in m.parameters()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_run_learns_what_a_plain_one_does():
    ways = [{"compile": wanted, "fused_adamw": True} for wanted in (False, True)]
    contexts = [Run("run", compute=FP32.model_copy(update=way)) for way in ways]
    runs = [distilled(run, steps=2, batch_size=2) for run in contexts]
    plain, ours = (history["loss"].to_numpy() for *_, history in runs)
    assert plain == pytest.approx(ours, rel=1e-5)
    assert all(block._compiled_call_impl is None for block in runs[1][0].backbone.blocks)


def test_blocks_are_compiled_while_it_lasts_and_only_where_it_is_wanted():
    encoder = tiny_vit()
    for wanted in (True, False):
        with compiled([encoder], wanted):
            assert all((block._compiled_call_impl is not None) is wanted for block in encoder.backbone.blocks)
    with pytest.raises(ValueError, match="compile: ResNet has no blocks to compile; set it to false"):
        with compiled([Encoder.create("resnet18")]):
            pass
