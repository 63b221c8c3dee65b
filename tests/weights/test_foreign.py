import argparse
import importlib
import os
import shlex
import subprocess
import sys
from collections import OrderedDict

import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tiny_models import tiny_vit
from torch import nn

from gkd.models import Encoder
from gkd.params import EncoderSpec
from gkd.qsd import Objective
from gkd.segmentation.decoders import ConvDecoder, LinearDecoder, Segmentor
from gkd.weights.checkpoints import CheckpointError, build_encoder, load
from gkd.weights.foreign import ALLOWED, fit, read_pickle, recognise

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
MASK = torch.arange(16).repeat(2, 1) % 2 == 0


def spec_of(path, name="vit_tiny_patch16_224", resample="timm", **options):
    return EncoderSpec(name=name, options={**VIT, **options}, weights=str(path), resample=resample)


def randomised(module, seed=1):
    """The module with random values in all its parameters, so that none is at a start value that hides an error."""
    with torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return module


def backbone_of(encoder, prefix=""):
    return {f"{prefix}{key}": value for key, value in encoder.backbone.state_dict().items()}


def same_tokens(a, b, mask=None):
    a, b = a.eval(), b.eval()
    with torch.no_grad():
        return all(torch.equal(x, y) for x, y in zip(a(IMAGES, mask), b(IMAGES, mask), strict=True))


def published(student, teacher, objective):
    """A distillation checkpoint as the authors' training script stores it."""
    model = OrderedDict(backbone_of(student, "student.backbone."))
    model["student.backbone.mask_token"] = student.mask_token.detach()
    model |= backbone_of(teacher, "teacher.backbone.")
    model["teacher.backbone.mask_token"] = teacher.mask_token.detach()
    model |= objective.state_dict()
    ema = {key: torch.zeros_like(value) for key, value in backbone_of(student).items()}
    return {
        "model": model,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4}]},
        "scheduler": {"base_values": [5e-4]},
        "epoch": 299,
        "model_ema": ema,
        "scaler": {"scale": 65536.0},
        "args": argparse.Namespace(lr=5e-4, student_path="", gpus=[0, 1]),
    }


@pytest.mark.parametrize("init_values", [None, 1.0], ids=["deit", "dino"])
def test_a_checkpoint_of_the_authors_gives_student_mask_token_and_heads(tmp_path, capsys, init_values):
    student, teacher = tiny_vit(seed=1, init_values=init_values), tiny_vit(40, seed=2, num_heads=4, init_values=1e-5)
    objective = randomised(Objective(24, 40))
    path = tmp_path / "checkpoint_300.pth"
    torch.save(published(student, teacher, objective), path)

    loaded = build_encoder(spec_of(path, init_values=init_values))
    assert same_tokens(loaded, student) and same_tokens(loaded, student, MASK)
    said = capsys.readouterr().out
    assert said.startswith(
        f"{path}: taken for a distillation checkpoint of the GKD authors; loaded: encoder; set aside:"
    )
    keys = len(teacher.backbone.state_dict()) + 1
    for part in (f"teacher.* ({keys} keys)", "objective (24 keys)", "model_ema", "args"):
        assert part in said
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


def test_layer_scale_of_a_distilled_student_is_never_dropped(tmp_path):
    student = tiny_vit(seed=1, init_values=1.0)
    torch.save(published(student, tiny_vit(40, num_heads=4), Objective(24, 40)), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"carries LayerScale .*blocks.0.ls1.gamma.*set `init_values: 1.0` in"):
        build_encoder(spec_of(tmp_path / "a.pth"))


def test_a_model_with_layer_scale_takes_weights_without_where_it_starts_without_effect(tmp_path):
    plain = tiny_vit(seed=1)
    torch.save({"model": backbone_of(plain)}, tmp_path / "dino.pth")
    loaded = build_encoder(spec_of(tmp_path / "dino.pth", init_values=1.0))
    assert "blocks.0.ls1.gamma" in loaded.backbone.state_dict()
    loaded.mask_token = plain.mask_token
    assert same_tokens(loaded, plain)
    with pytest.raises(CheckpointError, match="model has LayerScale .* the file has none"):
        build_encoder(spec_of(tmp_path / "dino.pth", init_values=1e-5))


def segmentor_file(segmentor, head):
    state = backbone_of(segmentor.encoder, "backbone.")
    state |= {f"decode_head.{key}": value for key, value in head.items()}
    return {"meta": {"epoch": 1, "classes": ("road", "car")}, "state_dict": state}


def as_mmseg(decoder):
    """A linear decoder in mmseg's names."""
    names = {"layers.0.": "bn.", "layers.1.": "conv_seg."}
    return {new + k.removeprefix(old): v for k, v in decoder.items() for old, new in names.items() if k.startswith(old)}


@pytest.mark.parametrize(("kind", "shape"), [(LinearDecoder, (24, 5)), (ConvDecoder, (24, 5, 32))])
def test_a_segmentor_of_mmseg_predicts_equally(tmp_path, capsys, kind, shape):
    encoder, decoder = tiny_vit(seed=1), randomised(kind(*shape))
    original = Segmentor(encoder, decoder, frozen=True)
    head = as_mmseg(decoder.state_dict()) if kind is LinearDecoder else decoder.state_dict()
    assert kind is ConvDecoder or "bn.running_mean" in head and "conv_seg.weight" in head
    content = segmentor_file(original, head)
    content["state_dict"]["auxiliary_head.conv_seg.weight"] = torch.zeros(5, 8, 1, 1)
    torch.save(content, tmp_path / "iter_40000.pth")

    fresh = Segmentor(build_encoder(spec_of(tmp_path / "iter_40000.pth")), kind(*shape), frozen=True)
    assert "decoder (" in capsys.readouterr().out
    load(tmp_path / "iter_40000.pth", {"encoder": fresh.encoder, "decoder": fresh.decoder})
    said = capsys.readouterr().out
    assert "an mmseg segmentor; loaded: encoder, decoder; set aside: auxiliary_head.* (1 keys), meta" in said
    with torch.no_grad():
        assert torch.equal(fresh.eval()(IMAGES), original.eval()(IMAGES))
    with pytest.raises(CheckpointError, match=r"iter_40000.pth, .*\(classes: 5 in the file, 19 in the model\)"):
        load(tmp_path / "iter_40000.pth", {"decoder": kind(24, 19, *shape[2:])})


def official_dinov2(encoder, chunks=1, registers=False):
    """State of a timm DINOv2 under the names of the official files."""
    state = dict(encoder.backbone.state_dict())
    if registers:  # timm adds the class token's position to the token itself; whole numbers make that exact
        state["register_tokens"] = state.pop("reg_token")
        position = torch.arange(24.0).view(1, 1, 24)
        state["cls_token"] = state["cls_token"] - position
        state["pos_embed"] = torch.cat([position, state["pos_embed"]], dim=1)
    state["mask_token"] = torch.full((1, 24), 7.0)
    depth = VIT["depth"]
    names = {
        f"blocks.{i}.": f"blocks.{i * chunks // depth}.{i}." if chunks > 1 else f"blocks.{i}." for i in range(depth)
    }
    return {
        next((new + k.removeprefix(old) for old, new in names.items() if k.startswith(old)), k): v
        for k, v in state.items()
    }


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
    loaded = build_encoder(spec_of(tmp_path / "dinov2_pretrain.pth", name))
    assert same_tokens(loaded, encoder)
    assert "names of DINOv2 or EVA; loaded: encoder; set aside: mask token (mask_token)" in capsys.readouterr().out
    assert torch.equal(loaded.mask_token, torch.zeros(1, 24)), "the mask token of distillation starts at zero"


def test_registers_are_known_without_a_mask_token():
    encoder = Encoder.create("vit_small_patch14_reg4_dinov2", **VIT)
    state = official_dinov2(encoder, registers=True)
    del state["mask_token"]
    fitted, aside = fit(state, encoder.backbone)
    assert fitted.keys() == encoder.backbone.state_dict().keys() and aside == {}


def test_official_eva02_files_load(tmp_path, capsys):
    options = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
    encoder = randomised(Encoder.create("eva02_base_patch14_224", **options))
    names = {
        "fc_norm.": "norm.",
        "fc1_g": "w1",
        "fc1_x": "w2",
        "fc2": "w3",
        "mlp.norm": "mlp.ffn_ln",
        "attn.norm": "attn.inner_attn_ln",
    }
    state = {"mask_token": torch.ones(1, 1, 24), "rope.freqs_cos": torch.ones(16, 12)}
    for key, value in encoder.backbone.state_dict().items():
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        state[key] = value
        state[f"blocks.{len(state) % 2}.attn.rope.freqs_sin"] = torch.ones(16, 12)
    assert {"norm.weight", "blocks.0.mlp.w1.weight", "blocks.0.mlp.ffn_ln.weight"} <= state.keys()
    torch.save({"module": state}, tmp_path / "eva02_B.pt")
    spec = EncoderSpec(name="eva02_base_patch14_224", options=options, weights=str(tmp_path / "eva02_B.pt"))
    assert same_tokens(build_encoder(spec), encoder)
    said = capsys.readouterr().out
    assert "rope buffers (" in said and "mask token (mask_token)" in said
    # The same in mmseg's prefix, without the mask token by which timm tells pretraining files.
    del state["mask_token"]
    fitted, _ = fit(state, encoder.backbone)
    assert fitted.keys() == encoder.backbone.state_dict().keys()


def test_a_distilled_deit_loses_the_distillation_token_and_its_position(tmp_path, capsys):
    encoder = tiny_vit(seed=1)
    state = backbone_of(encoder)
    row = torch.full((1, 1, 24), 9.0)
    state["pos_embed"] = torch.cat([state["pos_embed"][:, :1], row, state["pos_embed"][:, 1:]], dim=1)
    state |= {"dist_token": row, "head.weight": torch.ones(1000, 24), "head.bias": torch.ones(1000)}
    state |= {"head_dist.weight": torch.ones(1000, 24), "head_dist.bias": torch.ones(1000)}
    torch.save({"model": state}, tmp_path / "deit_distilled.pth")
    loaded = build_encoder(spec_of(tmp_path / "deit_distilled.pth"))
    assert same_tokens(loaded, encoder)
    said = capsys.readouterr().out
    assert (
        "distillation token (dist_token)" in said
        and "classifier (head.weight, head.bias, head_dist.weight and 1" in said
    )


def test_a_distilled_model_keeps_its_distillation_token(tmp_path):
    encoder = randomised(Encoder.create("deit_tiny_distilled_patch16_224", **VIT))
    torch.save({"model": backbone_of(encoder)}, tmp_path / "x.pth")
    assert same_tokens(build_encoder(spec_of(tmp_path / "x.pth", "deit_tiny_distilled_patch16_224")), encoder)
    torch.save({"model": backbone_of(tiny_vit())}, tmp_path / "plain.pth")
    with pytest.raises(CheckpointError, match=r"missing backbone.dist_token \(1, 1, 24\)"):
        build_encoder(spec_of(tmp_path / "plain.pth", "deit_tiny_distilled_patch16_224"))


def test_a_dino_pretraining_file_gives_the_teacher(tmp_path, capsys):
    encoder, other = tiny_vit(seed=1), tiny_vit(seed=2)
    head = {"module.head.mlp.0.weight": torch.ones(4, 24), "module.head.last_layer.weight_v": torch.ones(4, 4)}
    content = {
        "student": backbone_of(other, "module.backbone.") | head,
        "teacher": backbone_of(encoder, "module.backbone.") | head,
        "epoch": 100,
    }
    torch.save(content, tmp_path / "dino_full.pth")
    assert same_tokens(build_encoder(spec_of(tmp_path / "dino_full.pth")), encoder)
    said = capsys.readouterr().out
    assert "pretraining head, as DINO's; loaded: encoder; set aside: head.* (2 keys), student, epoch" in said


def test_a_foreign_safetensors_file_is_told_by_its_keys_as_well(tmp_path):
    encoder = tiny_vit(seed=1)
    save_file(backbone_of(encoder, "backbone."), tmp_path / "x.safetensors")
    assert same_tokens(build_encoder(spec_of(tmp_path / "x.safetensors")), encoder)


def test_task_learning_may_start_from_a_foreign_file(tmp_path):
    encoder = tiny_vit(seed=1)
    torch.save({"model": backbone_of(encoder)}, tmp_path / "x.pth")
    spec = spec_of(tmp_path / "x.pth")
    assert same_tokens(build_encoder(spec, tmp_path / "x.pth"), encoder)


EXAMPLES = {
    "classifier": "head_dist.weight",
    "distillation token": "dist_token",
    "mask token": "mask_token",
    "rope buffers": "blocks.0.attn.rope.freqs_cos",
    "attention pooling": "attn_pool.q.weight",
    "MAE decoder": "decoder_blocks.0.norm1.weight",
}


def test_every_name_on_the_allow_list_has_an_example():
    assert EXAMPLES.keys() == ALLOWED.keys()


@pytest.mark.parametrize("kind", ALLOWED)
def test_keys_on_the_allow_list_are_set_aside_by_name(kind):
    encoder = tiny_vit()
    fitted, aside = fit(backbone_of(encoder) | {EXAMPLES[kind]: torch.ones(1, 24)}, encoder.backbone)
    assert aside == {kind: [EXAMPLES[kind]]}
    assert fitted.keys() == encoder.backbone.state_dict().keys()


@pytest.mark.parametrize(
    "key", ["blocks.2.norm1.weight", "head.extra", "ropes", "reins.scale", "ls1.gamma", "norm2.bias"]
)
def test_keys_off_the_list_are_refused(tmp_path, key):
    torch.save(backbone_of(tiny_vit()) | {key: torch.ones(3)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=rf"1 mismatches\):\n  unexpected backbone.{key} \(3,\)"):
        build_encoder(spec_of(tmp_path / "x.pth"))


@pytest.mark.parametrize(
    ("name", "classifier"), [("test_resnet", "fc"), ("test_convnext", "head.fc"), ("test_efficientnet", "classifier")]
)
def test_the_classifier_goes_by_the_name_that_timm_gives_it(tmp_path, name, classifier):
    theirs = randomised(timm.create_model(name, num_classes=3))
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "x.pt")
    encoder = build_encoder(EncoderSpec(name=name, weights=str(tmp_path / "x.pt")))
    own = encoder.backbone.state_dict()
    assert theirs.state_dict().keys() - own.keys() == {f"{classifier}.weight", f"{classifier}.bias"}
    assert all(torch.equal(theirs.state_dict()[key], value) for key, value in own.items())


def test_bicubic_resampling_is_the_published_one_and_not_timms(tmp_path):
    small = tiny_vit(seed=1)
    torch.save(backbone_of(small), tmp_path / "x.pth")
    built = {
        way: build_encoder(spec_of(tmp_path / "x.pth", resample=way, img_size=48, patch_size=6)).backbone
        for way in ("timm", "bicubic")
    }
    kernels = F.interpolate(small.backbone.patch_embed.proj.weight, (6, 6), mode="bicubic", align_corners=False)
    assert torch.equal(built["bicubic"].patch_embed.proj.weight, kernels)
    maps = small.backbone.pos_embed[:, 1:].reshape(1, 4, 4, 24).permute(0, 3, 1, 2)
    positions = F.interpolate(maps, (8, 8), mode="bicubic", align_corners=False).permute(0, 2, 3, 1).reshape(1, 64, 24)
    assert torch.equal(built["bicubic"].pos_embed[:, 1:], positions)
    assert torch.equal(built["bicubic"].pos_embed[:, :1], small.backbone.pos_embed[:, :1])
    assert not torch.allclose(built["timm"].patch_embed.proj.weight, kernels, atol=1e-3)


def test_bicubic_keeps_a_grid_with_as_many_tokens_as_the_native_one():
    source = tiny_vit(size=192, patch=16, seed=1)  # 12 x 12
    target = tiny_vit(size=(112, 448), patch=16)  # 7 x 28 = 196 tokens, as timm's native 14 x 14 of this model
    fitted, _ = fit(backbone_of(source), target.backbone, "bicubic")
    maps = source.backbone.pos_embed[:, 1:].reshape(1, 12, 12, 24).permute(0, 3, 1, 2)
    wanted = F.interpolate(maps, (7, 28), mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
    assert torch.equal(fitted["pos_embed"][:, 1:], wanted)


def test_bicubic_wants_a_square_grid(tmp_path):
    torch.save(backbone_of(tiny_vit(size=(16, 392))), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="resample: bicubic: pos_embed has 99 rows"):
        build_encoder(spec_of(tmp_path / "x.pth", resample="bicubic"))


@settings(max_examples=25)
@given(st.integers(1, 6), st.integers(2, 12), st.sampled_from(["", "student.backbone.", "backbone.", "module."]))
def test_chunked_blocks_get_their_numbers_under_any_prefix(chunks, depth, prefix):
    keys = [f"blocks.{i * chunks // depth}.{i}.norm1.weight" for i in range(depth)] + ["cls_token"]
    state = {f"{prefix}{key}": torch.tensor(float(i)) for i, key in enumerate(keys)}
    found = recognise({"model": state, "epoch": 1}, "x").parts["backbone"]
    assert list(found) == [*(f"blocks.{i}.norm1.weight" for i in range(depth)), "cls_token"]
    assert [int(value) for value in found.values()] == list(range(depth + 1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "x.pth holds no weights .*found list"),
        (torch.ones(3), "holds no weights .*found Tensor"),
        ({}, "it holds nothing"),
        ({"epoch": 3, "net": {"w": torch.ones(1)}}, "under none of model, state_dict, .*; it holds epoch, net"),
        ({"model": {"lr": 0.1}}, "holds no weights"),
        ({"student.backbone.norm.weight": torch.ones(2), "fea_haed.w": torch.ones(1)}, "no part of one: fea_haed.w"),
        ({"decode_head.conv_seg.weight": torch.ones(2)}, "looks like an mmseg segmentor, but has no backbone"),
    ],
)
def test_files_without_known_weights_are_named(content, message):
    with pytest.raises(CheckpointError, match=message):
        recognise(content, "x.pth")


class Command:
    """A pickle of it runs a command when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, zipped):
    path = tmp_path / "evil.pth"
    content = {"model": {"w": torch.ones(1)}, "args": Command(tmp_path / "ran")}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError) as error:
        build_encoder(spec_of(path))
    assert not (tmp_path / "ran").exists()
    for part in (str(path), "was refused", "posix.system", "can run code", "trust its maker", "torch.save("):
        assert part in str(error.value)


def test_namespaces_are_read_and_other_objects_are_not(tmp_path):
    torch.save({"args": argparse.Namespace(lr=1.0), "model": {"w": torch.ones(1)}}, tmp_path / "a.pth")
    assert read_pickle(tmp_path / "a.pth")["args"].lr == 1.0
    torch.save({"args": argparse.Namespace(path=tmp_path)}, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match="b.pth was refused: besides weights it holds pathlib.PosixPath"):
        read_pickle(tmp_path / "b.pth")


HISTORY_BUFFER = """
import numpy

class HistoryBuffer:
    def __init__(self, values):
        self._log_history, self._count_history = numpy.array(values), numpy.ones(len(values))
        self._statistics_methods = {"mean": numpy.mean}
"""


def test_a_file_straight_from_mmengine_is_refused_and_the_line_of_the_message_strips_it(tmp_path, monkeypatch):
    """A stand-in for mmengine's class: its training files keep the loss curves as objects."""
    package = tmp_path / "elsewhere" / "mmengine" / "logging"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "history_buffer.py").write_text(HISTORY_BUFFER)
    encoder, decoder = tiny_vit(seed=1), randomised(LinearDecoder(24, 5))
    content = segmentor_file(Segmentor(encoder, decoder, frozen=True), as_mmseg(decoder.state_dict()))
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path / "elsewhere")
        buffer = importlib.import_module("mmengine.logging.history_buffer").HistoryBuffer([0.5, 0.25])
        content["message_hub"] = {"log_scalars": OrderedDict({"train/loss": buffer}), "runtime_info": {"iter": 2}}
        content["optimizer"] = {"state": {}, "param_groups": [{"lr": 1e-4}]}
        torch.save(content, tmp_path / "iter_40000.pth")
        for name in [name for name in sys.modules if name.split(".")[0] == "mmengine"]:
            del sys.modules[name]
    with pytest.raises(CheckpointError) as error:
        build_encoder(spec_of(tmp_path / "iter_40000.pth"))
    message, line = str(error.value).splitlines()
    assert "besides weights it holds mmengine.logging.history_buffer.HistoryBuffer, and" in message
    assert message.endswith("write one where such code may run and mmengine is installed:")

    _, *arguments = shlex.split(line)
    elsewhere = {**os.environ, "PYTHONPATH": str(tmp_path / "elsewhere")}
    subprocess.run([sys.executable, *arguments], cwd=tmp_path, env=elsewhere, check=True)
    fresh = LinearDecoder(24, 5)
    loaded = build_encoder(spec_of(tmp_path / "weights_only.pth"))
    load(tmp_path / "weights_only.pth", {"decoder": fresh})
    assert same_tokens(loaded, encoder)
    assert all(torch.equal(value, fresh.state_dict()[key]) for key, value in decoder.state_dict().items())


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_named(tmp_path, kept, zipped):
    path = tmp_path / "x.pth"
    torch.save({"w": torch.ones(500)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(
        CheckpointError, match=r"x.pth is not a whole file of torch.save \(.+\); fetch or write it again"
    ):
        read_pickle(path)


def test_a_web_page_under_the_name_of_weights_is_named(tmp_path):
    (tmp_path / "x.pth").write_text("<html>404 Not Found</html>")
    with pytest.raises(CheckpointError, match="not a whole file of torch.save"):
        read_pickle(tmp_path / "x.pth")


def test_another_architecture_is_named_with_five_keys_and_what_it_looks_like(tmp_path):
    with torch.random.fork_rng():
        wide = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, depth=3, embed_dim=48, num_heads=3)
    torch.save({"model": wide.state_dict()}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError) as error:
        build_encoder(spec_of(tmp_path / "x.pth"))
    lines = str(error.value).splitlines()
    assert lines[0].startswith(
        f"{tmp_path / 'x.pth'}, a backbone in the names of timm (encoder), does not fit this model"
    )
    assert len(lines) == 8 and "(48," in "".join(lines[1:6])
    assert (
        "looks like a ViT of 48 channels, 3 blocks, patch" in lines[7] and "24 channels, 2 blocks, patch 8" in lines[7]
    )
    for name in ("test_resnet", "test_convnext", "test_efficientnet"):
        with pytest.raises(CheckpointError, match="looks like a ViT of 48 channels.* the model is no ViT"):
            build_encoder(EncoderSpec(name=name, weights=str(tmp_path / "x.pth")))


def test_half_precision_weights_become_the_models_precision(tmp_path):
    encoder = tiny_vit(seed=1)
    torch.save({k: v.half() for k, v in backbone_of(encoder).items()}, tmp_path / "x.pth")
    loaded = build_encoder(spec_of(tmp_path / "x.pth")).backbone.state_dict()
    assert all(v.dtype == torch.float32 for v in loaded.values())
    assert all(torch.equal(v, encoder.backbone.state_dict()[k].half().float()) for k, v in loaded.items())


def test_modules_of_other_names_are_not_in_foreign_files(tmp_path):
    torch.save(backbone_of(tiny_vit()), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="has no objective"):
        load(tmp_path / "x.pth", {"objective": nn.Linear(2, 2)})
