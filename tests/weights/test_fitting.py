"""Files of others, told by their keys and fitted to timm's models: what is read, set aside and refused."""

import argparse
import re
from collections import OrderedDict

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg
from tiny_models import VIT, encoder_of, mmseg_file, official_eva02, randomised, state_of, tiny_vit
from torch import nn

from gkd.models import Encoder
from gkd.params import EncoderSpec
from gkd.qsd import Objective
from gkd.segmentation.decoders import ConvDecoder, LinearDecoder, Segmentor
from gkd.weights import CheckpointError, build_encoder, load
from gkd.weights.fitting import ALLOWED, fit, resample_bicubic
from gkd.weights.layouts import recognise

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
MASK = torch.arange(16).repeat(2, 1) % 2 == 0


def same_tokens(a, b, mask=None):
    a, b = a.eval(), b.eval()
    with torch.no_grad():
        return all(torch.equal(x, y) for x, y in zip(a(IMAGES, mask), b(IMAGES, mask), strict=True))


def published(student, teacher, objective):
    """A distillation checkpoint as the authors' training script stores it."""
    model = OrderedDict(state_of(student, "student.backbone."))
    model["student.backbone.mask_token"] = student.mask_token.detach()
    model |= state_of(teacher, "teacher.backbone.") | {"teacher.backbone.mask_token": teacher.mask_token.detach()}
    return {
        "model": model | objective.state_dict(),
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4}]},
        "epoch": 299,
        "model_ema": {key: torch.zeros_like(value) for key, value in state_of(student).items()},
        "args": argparse.Namespace(lr=5e-4, student_path="", gpus=[0, 1]),
    }


@pytest.mark.parametrize("init_values", [None, 1.0], ids=["deit", "dino"])
def test_a_checkpoint_of_the_authors_gives_student_mask_token_and_heads(tmp_path, capsys, init_values):
    student, teacher = tiny_vit(seed=1, init_values=init_values), tiny_vit(40, seed=2, num_heads=4, init_values=1e-5)
    objective = randomised(Objective(24, 40))
    path = tmp_path / "checkpoint_300.pth"
    torch.save(published(student, teacher, objective), path)

    loaded = encoder_of(path, init_values=init_values)
    assert same_tokens(loaded, student) and same_tokens(loaded, student, MASK)
    said = capsys.readouterr().out
    assert said.startswith(f"{path}: taken for a distillation checkpoint of the GKD authors; loaded: encoder; set as")
    keys = len(teacher.backbone.state_dict()) + 1
    assert all(part in said for part in (f"teacher.* ({keys} keys)", "objective (24 keys)", "model_ema", "args"))
    assert "mask token" not in said

    heads = Objective(24, 40)
    load(path, {"objective": heads})
    tokens = student(IMAGES).patches, teacher(IMAGES).patches
    for name in ("fea_head", "patch_head", "token_head"):
        assert torch.equal(getattr(heads, name)(*tokens), getattr(objective, name)(*tokens))
    with pytest.raises(CheckpointError, match=r"\(objective\), does not fit .*\n.*fea_head.proj_q"):
        load(path, {"objective": Objective(24, 16)})
    with pytest.raises(CheckpointError, match="which has no decoder"):
        load(path, {"decoder": LinearDecoder(24, 3)})
    if init_values is not None:  # a student's LayerScale is never dropped
        with pytest.raises(CheckpointError, match=r"carries LayerScale .*blocks.0.ls1.gamma.*set `init_values: 1.0`"):
            encoder_of(path)


def test_layer_scale_that_a_file_lacks_stays_where_it_has_no_effect(tmp_path):
    plain = tiny_vit(seed=1)
    torch.save({"model": state_of(plain)}, tmp_path / "dino.pth")
    loaded = encoder_of(tmp_path / "dino.pth", init_values=1.0)
    loaded.mask_token = plain.mask_token
    assert "blocks.0.ls1.gamma" in loaded.backbone.state_dict() and same_tokens(loaded, plain)
    with pytest.raises(CheckpointError, match="model has LayerScale .* the file has none"):
        encoder_of(tmp_path / "dino.pth", init_values=1e-5)


@pytest.mark.parametrize(("kind", "shape"), [(LinearDecoder, (24, 5)), (ConvDecoder, (24, 5, 32))])
def test_a_segmentor_of_mmseg_predicts_equally(tmp_path, capsys, kind, shape):
    original, path = Segmentor(tiny_vit(seed=1), randomised(kind(*shape)), frozen=True), tmp_path / "iter_40000.pth"
    content = mmseg_file(original)
    content["state_dict"]["auxiliary_head.conv_seg.weight"] = torch.zeros(5, 8, 1, 1)
    torch.save(content, path)
    fresh = Segmentor(encoder_of(path), kind(*shape), frozen=True)
    assert "decoder (" in capsys.readouterr().out
    load(path, {"encoder": fresh.encoder, "decoder": fresh.decoder})
    said = capsys.readouterr().out
    assert "an mmseg segmentor; loaded: encoder, decoder; set aside: auxiliary_head.* (1 keys), meta" in said
    with torch.no_grad():
        assert torch.equal(fresh.eval()(IMAGES), original.eval()(IMAGES))
    with pytest.raises(CheckpointError, match=r"iter_40000.pth, .*\(classes: 5 in the file, 19 in the model\)"):
        load(path, {"decoder": kind(24, 19, *shape[2:])})
    content["state_dict"]["backbone.norm.weight"][3] = float("nan")
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="iter_40000.pth, .* holds NaN or infinite values in backbone.norm.wei"):
        encoder_of(path)


def official_dinov2(encoder, chunks=1, registers=False):
    """State of a timm DINOv2 under the names of the official files."""
    state = state_of(encoder)
    if registers:  # timm adds the class token's position to the token itself; whole numbers make that exact
        state["register_tokens"] = state.pop("reg_token")
        position = torch.arange(24.0).view(1, 1, 24)
        state["cls_token"] = state["cls_token"] - position
        state["pos_embed"] = torch.cat([position, state["pos_embed"]], dim=1)
    state["mask_token"] = torch.full((1, 24), 7.0)
    if chunks > 1:
        state = {re.sub(r"^blocks\.(\d)\.", r"blocks.\1.\1.", key): value for key, value in state.items()}
    return state


@pytest.mark.parametrize(
    ("name", "chunks", "registers"),
    [
        ("vit_small_patch14_dinov2", 1, False),
        ("vit_small_patch14_dinov2", 2, False),
        ("vit_small_patch14_reg4_dinov2", 1, True),
    ],
)
def test_official_dinov2_files_load(tmp_path, capsys, name, chunks, registers):
    encoder = randomised(Encoder.create(name, **VIT))
    if registers:
        with torch.no_grad():
            encoder.backbone.cls_token.round_()
    state = official_dinov2(encoder, chunks, registers)
    assert ("blocks.1.1.ls1.gamma" in state) == (chunks > 1) and ("register_tokens" in state) == registers
    torch.save(state, tmp_path / "dinov2_pretrain.pth")
    loaded = encoder_of(tmp_path / "dinov2_pretrain.pth", name)
    assert same_tokens(loaded, encoder)
    assert "names of DINOv2 or EVA; loaded: encoder; set aside: mask token (mask_token)" in capsys.readouterr().out
    assert torch.equal(loaded.mask_token, torch.zeros(1, 24)), "the mask token of distillation starts at zero"
    del state["mask_token"]  # registers are known without
    assert fit(recognise(state, "x").parts["backbone"], encoder.backbone)[0].keys() == state_of(encoder).keys()


def test_official_eva02_files_load(tmp_path, capsys):
    encoder = randomised(Encoder.create("eva02_base_patch14_224", **{**VIT, "num_heads": 2}))
    state = official_eva02(encoder) | {"mask_token": torch.ones(1, 1, 24)}
    assert {"norm.weight", "blocks.0.mlp.w1.weight", "blocks.0.mlp.ffn_ln.weight"} <= state.keys()
    torch.save({"module": state}, tmp_path / "eva02_B.pt")
    assert same_tokens(encoder_of(tmp_path / "eva02_B.pt", "eva02_base_patch14_224", num_heads=2), encoder)
    said = capsys.readouterr().out
    assert "rope buffers (" in said and "mask token (mask_token)" in said
    # The same in mmseg's prefix, without the mask token by which timm tells pretraining files.
    del state["mask_token"]
    assert fit(state, encoder.backbone)[0].keys() == state_of(encoder).keys()


def test_a_distilled_deit_loses_the_distillation_token_and_its_position(tmp_path, capsys):
    encoder = tiny_vit(seed=1)
    state, row = state_of(encoder), torch.full((1, 1, 24), 9.0)
    state["pos_embed"] = torch.cat([state["pos_embed"][:, :1], row, state["pos_embed"][:, 1:]], dim=1)
    state |= {"dist_token": row} | {f"{head}.weight": torch.ones(1000, 24) for head in ("head", "head_dist")}
    torch.save({"model": state}, tmp_path / "x.pth")
    assert same_tokens(encoder_of(tmp_path / "x.pth"), encoder)
    said = capsys.readouterr().out
    assert "distillation token (dist_token)" in said and "classifier (head.weight, head_dist.weight)" in said

    encoder = randomised(Encoder.create("deit_tiny_distilled_patch16_224", **VIT))  # a distilled model keeps them
    torch.save({"model": state_of(encoder)}, tmp_path / "x.pth")
    assert same_tokens(encoder_of(tmp_path / "x.pth", "deit_tiny_distilled_patch16_224"), encoder)
    torch.save({"model": state_of(tiny_vit())}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"missing backbone.dist_token \(1, 1, 24\)"):
        encoder_of(tmp_path / "x.pth", "deit_tiny_distilled_patch16_224")


@pytest.mark.parametrize("heads", [["head"], ["dino_head", "ibot_head"]])
def test_a_dino_pretraining_file_gives_the_teacher(tmp_path, capsys, heads):
    encoder, other = tiny_vit(seed=1), tiny_vit(seed=2)
    head = {f"module.{name}.mlp.{layer}.weight": torch.ones(4, 24) for name in heads for layer in (0, 2)}
    both = {"student": other, "teacher": encoder}
    both = {name: state_of(model, "module.backbone.") | head for name, model in both.items()}
    torch.save(both | {"epoch": 100}, tmp_path / "dino_full.pth")
    assert same_tokens(encoder_of(tmp_path / "dino_full.pth"), encoder)
    said = capsys.readouterr().out
    aside = ", ".join(f"{name}.* (2 keys)" for name in heads)
    assert f"pretraining head, as DINO's; loaded: encoder; set aside: {aside}, student, epoch" in said


def test_an_encoder_that_torch_saved_loads_with_its_mask_token(tmp_path):
    encoder, other = tiny_vit(seed=1), tiny_vit(seed=2)
    torch.save(encoder.state_dict(), tmp_path / "a.pth")
    load(tmp_path / "a.pth", {"encoder": other})
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in encoder.state_dict().items())


def test_a_safetensors_file_of_others_is_told_by_its_keys_and_may_be_what_a_stage_starts_from(tmp_path):
    encoder, path = tiny_vit(seed=1), tmp_path / "x.safetensors"
    save_file(state_of(encoder, "backbone."), path)
    assert same_tokens(encoder_of(path), encoder)
    spec = EncoderSpec(name="vit_tiny_patch16_224", options=VIT, weights="none")
    assert same_tokens(build_encoder(spec, path), encoder)


def test_a_file_of_mae_is_told_by_its_decoder(tmp_path, capsys):
    encoder, extra = tiny_vit(seed=1), {"mask_token": torch.ones(1, 1, 24), "decoder_embed.weight": torch.ones(24, 24)}
    torch.save({"model": state_of(encoder) | extra}, tmp_path / "mae.pth")
    assert same_tokens(encoder_of(tmp_path / "mae.pth"), encoder)
    assert "names of MAE; loaded: encoder; set aside: " in capsys.readouterr().out


def test_keys_on_the_allow_list_are_set_aside_by_name():
    encoder, examples = tiny_vit(), {"classifier": ["head_dist.weight"], "distillation token": ["dist_token"]}
    examples |= {"mask token": ["mask_token"], "rope buffers": ["blocks.0.attn.rope.freqs_cos"]}
    examples |= {"attention pooling": ["attn_pool.q.weight"], "MAE decoder": ["decoder_blocks.0.norm1.weight"]}
    extra = {key: torch.ones(1, 24) for (key,) in examples.values()}
    fitted, aside = fit(state_of(encoder) | extra, encoder.backbone)
    assert aside == examples and examples.keys() == ALLOWED.keys() and fitted.keys() == state_of(encoder).keys()


@pytest.mark.parametrize(
    "key", ["blocks.2.norm1.weight", "head.extra", "conv_head.weight", "ropes", "ls1.gamma", "norm2.bias"]
)
def test_keys_off_the_list_are_refused(tmp_path, key):
    torch.save(state_of(tiny_vit()) | {key: torch.ones(3)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=rf"1 mismatches\):\n  unexpected backbone.{key} \(3,\)"):
        encoder_of(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("name", "classifier"),
    [
        ("test_resnet", r"fc\.(weight|bias)"),
        ("test_convnext", r"head\.fc\.(weight|bias)"),
        ("test_efficientnet", r"classifier\.(weight|bias)|conv_head\.weight|bn2\.\w+"),  # it ends at its last stage
    ],
)
def test_the_classifier_goes_by_the_name_that_timm_gives_it(tmp_path, name, classifier):
    theirs = randomised(timm.create_model(name, num_classes=3)).state_dict()
    torch.save({"state_dict": theirs}, tmp_path / "x.pt")
    own = build_encoder(EncoderSpec(name=name, options={}, weights=str(tmp_path / "x.pt"))).backbone.state_dict()
    assert theirs.keys() - own.keys() == {key for key in theirs if re.fullmatch(classifier, key)}
    assert all(torch.equal(theirs[key], value) for key, value in own.items())


def test_another_size_is_resampled_as_published_and_not_as_timm_does(tmp_path):
    small = tiny_vit(seed=1)
    torch.save(state_of(small), tmp_path / "x.pth")
    built = encoder_of(tmp_path / "x.pth", img_size=48, patch_size=6).backbone
    for key, value in resample_bicubic(state_of(small), built).items():
        assert torch.equal(built.state_dict()[key], value)
    torch.save(state_of(tiny_vit(size=(16, 392))), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="pos_embed has 99 rows: no square grid"):
        encoder_of(tmp_path / "x.pth")
    clip = {"visual.trunk.pos_embed": torch.zeros(1, 50, 24), "visual.trunk.blocks.0.norm1.weight": torch.ones(24)}
    with pytest.raises(CheckpointError, match="pos_embed has another name in the file and another size"):
        fit(clip, small.backbone)


@pytest.mark.parametrize("side", [12, 14])
def test_a_square_grid_becomes_a_wide_one_though_it_has_as_many_tokens(side):
    source = tiny_vit(size=16 * side, patch=16, seed=1)
    target = tiny_vit(size=(112, 448), patch=16)  # 7 x 28 = 196 tokens, as timm's native 14 x 14 of this model
    fitted, _ = fit(state_of(source), target.backbone)
    maps = source.backbone.pos_embed[:, 1:].reshape(1, side, side, 24).permute(0, 3, 1, 2)
    wanted = F.interpolate(maps, (7, 28), mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
    assert torch.equal(fitted["pos_embed"][:, 1:], wanted)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "x.pth holds no weights .*found list"),
        (torch.ones(3), "holds no weights .*found Tensor"),
        ({}, "it holds nothing"),
        ({"epoch": 3, "net": {"w": torch.ones(1)}}, "under none of model, state_dict_ema, .*; it holds epoch, net"),
        ({"model": {"lr": 0.1}}, "holds no weights"),
        ({"student.backbone.norm.weight": torch.ones(2), "fea_haed.w": torch.ones(1)}, "no part of one: fea_haed.w"),
        (
            {
                "embeddings.patch_embeddings.projection.weight": torch.ones(2),
                "encoder.layer.0.norm1.weight": torch.ones(1),
            },
            r"x.pth has the names of transformers \(embeddings.patch_embeddings.projection.weight\); take timm's file",
        ),
        ({"decode_head.conv_seg.weight": torch.ones(2)}, "looks like an mmseg segmentor, but has no backbone"),
    ],
)
def test_files_without_known_weights_are_named(content, message):
    with pytest.raises(CheckpointError, match=message):
        recognise(content, "x.pth")


def test_another_architecture_is_named_with_five_keys_and_what_it_looks_like(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"model": state_of(tiny_vit(48, patch=16, depth=3))}, path)
    with pytest.raises(CheckpointError) as error:
        encoder_of(path)
    lines = str(error.value).splitlines()
    assert lines[0].startswith(f"{path}, a backbone in the names of timm (encoder), does not fit this model")
    assert len(lines) == 8 and "(48," in "".join(lines[1:6])
    assert "looks like a ViT of 48 channels, 3 blocks, patch 16" in lines[7]
    assert "24 channels, 2 blocks, patch 8" in lines[7]
    with pytest.raises(CheckpointError, match="looks like a ViT of 48 channels.* the model is no ViT"):
        build_encoder(EncoderSpec(name="test_resnet", options={}, weights=str(path)))
    with pytest.raises(CheckpointError, match="has no objective"):
        load(path, {"objective": nn.Linear(2, 2)})


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict"])
def test_tensors_beside_the_weights_are_set_aside(tmp_path, wrapper):
    """The ImageNet example of PyTorch stores its best accuracy as a tensor."""
    encoder = tiny_vit(seed=1)
    state = {f"module.{key}": value for key, value in state_of(encoder).items()}
    torch.save({"epoch": 1, wrapper: state, "best_acc1": torch.tensor(71.2), "optimizer": {}}, tmp_path / "x.pth")
    assert same_tokens(encoder_of(tmp_path / "x.pth"), encoder)


def test_the_average_that_timm_stores_beside_the_weights_is_taken_as_timm_does(tmp_path, capsys):
    plain, average = tiny_vit(seed=1), tiny_vit(seed=2)
    content = {"epoch": 9, "state_dict": state_of(plain), "state_dict_ema": state_of(average), "metric": 0.7}
    torch.save(content, tmp_path / "x.pth")
    assert same_tokens(encoder_of(tmp_path / "x.pth"), average)
    assert "set aside: epoch, state_dict (in favour of state_dict_ema), metric" in capsys.readouterr().out


@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_biases_of_attention_that_the_model_lacks_are_named_unless_they_are_zero(tmp_path, capsys, bias):
    """timm 1.0.31 drops those of a DINOv3 without a word but a printed line a block."""
    sizes = {"img_size": 32, "embed_dim": 24, "depth": 2, "num_heads": 2}
    encoder = randomised(Encoder.create("vit_small_patch16_dinov3", **sizes))
    state = {re.sub(r"\.gamma_([12])$", r".ls\1.gamma", key): value for key, value in state_of(encoder).items()}
    state = {key.replace("reg_token", "storage_tokens"): value for key, value in state.items()}
    state |= {"mask_token": torch.zeros(1, 24), "rope_embed.periods": torch.ones(3)}
    torch.save(state | {f"blocks.{i}.attn.qkv.bias": torch.full((72,), bias) for i in range(2)}, tmp_path / "x.pth")
    loaded = Encoder.create("vit_small_patch16_dinov3", **sizes)
    if bias:
        with pytest.raises(CheckpointError, match=r"blocks.0.attn.qkv.bias"):
            load(tmp_path / "x.pth", {"encoder": loaded})
    else:
        load(tmp_path / "x.pth", {"encoder": loaded})
        assert same_tokens(loaded, encoder)
    assert "q_bias" not in capsys.readouterr().out


def test_blocks_that_timm_numbers_anew_keep_their_biases(tmp_path):
    """MViT v2 in the names of its authors: one row of blocks, not one a stage."""
    sizes = MultiScaleVitCfg(depths=(1, 1, 1, 1), embed_dim=8, num_heads=1)
    encoder, loaded = (randomised(Encoder(MultiScaleVit(sizes, img_size=64, num_classes=0)), s) for s in (1, 2))
    state = {re.sub(r"^stages\.(\d)\.blocks\.0\.", r"blocks.\1.", key): v for key, v in state_of(encoder).items()}
    state = {key.replace("shortcut_proj_attn", "proj"): value for key, value in state.items()}
    torch.save({"model": state}, tmp_path / "x.pth")
    load(tmp_path / "x.pth", {"encoder": loaded})
    assert all(torch.equal(value, state_of(loaded)[key]) for key, value in state_of(encoder).items())


def test_half_precision_becomes_the_models_and_whole_numbers_do_not(tmp_path):
    encoder = tiny_vit(seed=1)
    torch.save({k: v.half() for k, v in state_of(encoder).items()}, tmp_path / "x.pth")
    loaded = encoder_of(tmp_path / "x.pth").backbone.state_dict()
    assert all(v.dtype == torch.float32 for v in loaded.values())
    assert all(torch.equal(v, state_of(encoder)[k].half().float()) for k, v in loaded.items())
    torch.save(state_of(encoder) | {"norm.bias": torch.ones(24, dtype=torch.int8)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="backbone.norm.bias: torch.int8 in the file, torch.float32 in the model"):
        encoder_of(tmp_path / "x.pth")
