import errno
from pathlib import Path

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import save_file
from tiny_models import tiny_vit
from torch import nn

from gkd.models import Encoder
from gkd.params import ROOT, EncoderSpec
from gkd.params import load as load_params
from gkd.qsd import Objective
from gkd.segmentation.decoders import Segmentor, build_decoder
from gkd.weights import checkpoints
from gkd.weights.checkpoints import CheckpointError, build_encoder, check_file, load, read, save

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}


def same_bits(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) and a[key].dtype == b[key].dtype for key in a)


def test_a_round_trip_is_bit_equal(tmp_path):
    encoder, objective = tiny_vit(seed=1), Objective(24, 16, diagonal_bias=6.0)
    about = {"method": "gkd", "seeds": [0, 1], "lr": 1e-4}
    path = save(tmp_path / "new" / "folder" / "model.safetensors", {"encoder": encoder, "objective": objective}, about)
    fresh, heads = tiny_vit(seed=2), Objective(24, 16, diagonal_bias=0.0)
    assert load(path, {"encoder": fresh, "objective": heads}) == about
    assert same_bits(fresh.state_dict(), encoder.state_dict()) and same_bits(heads.state_dict(), objective.state_dict())
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]


@settings(max_examples=15)
@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.lists(st.integers(0, 3), max_size=3), min_size=1),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float64, torch.int64]),
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=4),
)
def test_any_tensors_and_metadata_come_back(tmp_path_factory, shapes, dtype, about):
    module = nn.Module()
    for name, shape in shapes.items():
        module.register_buffer(name, torch.arange(64).sqrt()[: torch.Size(shape).numel()].reshape(shape).to(dtype))
    tensors, found = read(save(tmp_path_factory.mktemp("any") / "x.safetensors", {"m": module}, about))
    assert found == about
    assert same_bits({key.removeprefix("m."): value for key, value in tensors.items()}, module.state_dict())


def test_equal_content_gives_equal_bytes(tmp_path):
    encoder = tiny_vit()
    one = save(tmp_path / "one.safetensors", {"encoder": encoder}, {"a": 1, "b": [2], "c": "3"})
    two = save(tmp_path / "two.safetensors", {"encoder": encoder}, {"c": "3", "b": [2], "a": 1})
    first = one.read_bytes()
    assert first == two.read_bytes()
    assert save(one, {"encoder": encoder}, {"a": 1, "b": [2], "c": "3"}).read_bytes() == first


def test_other_prefixes_are_left_alone(tmp_path):
    path = save(tmp_path / "x.safetensors", {"encoder": nn.Linear(2, 3), "encoder2": nn.Linear(4, 5)}, {})
    fresh = nn.Linear(4, 5)
    load(path, {"encoder2": fresh})
    assert torch.equal(read(path)[0]["encoder2.weight"], fresh.weight)


def test_a_missing_prefix_names_file_and_module(tmp_path):
    path = save(tmp_path / "x.safetensors", {"decoder": nn.Linear(2, 3)}, {})
    with pytest.raises(CheckpointError, match=r"x.safetensors \(encoder\) does not fit.*\n  missing weight \(3, 2\)"):
        load(path, {"encoder": nn.Linear(2, 3)})


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_file_is_named(tmp_path, kept):
    path = save(tmp_path / "x.safetensors", {"encoder": nn.Linear(8, 8)}, {})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="x.safetensors is not a whole safetensors file.*delete it and rerun"):
        read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="checkpoint .*absent.safetensors is missing: run the stage"):
        read(tmp_path / "absent.safetensors")


@pytest.mark.parametrize(
    "failure",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("I/O error: No space left on device (os error 28)"),
    ],
    ids=["python", "safetensors"],
)
def test_a_full_disk_leaves_the_old_file_and_no_partial_one(tmp_path, monkeypatch, failure):
    path = save(tmp_path / "x.safetensors", {"m": nn.Linear(2, 2)}, {})
    before = path.read_bytes()

    def full(_tensors, partial, metadata):
        partial.write_bytes(b"half")
        raise failure

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(CheckpointError, match=r"no disk space to write .*x.safetensors \(1 MB\)"):
        save(path, {"m": nn.Linear(500, 500)}, {})
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"] and path.read_bytes() == before


def test_other_failures_of_writing_are_passed_on_and_leave_nothing(tmp_path, monkeypatch):
    def denied(_tensors, partial, metadata):
        partial.write_bytes(b"half")
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(checkpoints, "save_file", denied)
    with pytest.raises(PermissionError):
        save(tmp_path / "x.safetensors", {"m": nn.Linear(2, 2)}, {})
    assert list(tmp_path.iterdir()) == []


def test_build_encoder_takes_weights_from_a_file_or_from_an_earlier_stage(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "ROOT", tmp_path)
    own, earlier = tiny_vit(seed=1), tiny_vit(seed=2)
    save(tmp_path / "weights" / "own.safetensors", {"encoder": own, "decoder": nn.Linear(2, 2)}, {})
    init = save(tmp_path / "earlier.safetensors", {"encoder": earlier}, {})
    spec = EncoderSpec(name="vit_tiny_patch16_224", options=VIT, weights="weights/own.safetensors")
    assert same_bits(build_encoder(spec).state_dict(), own.state_dict())
    assert same_bits(build_encoder(spec, init).state_dict(), earlier.state_dict())
    narrower = spec.model_copy(update={"options": {**VIT, "embed_dim": 12}})
    with pytest.raises(CheckpointError, match=r"own.safetensors \(encoder\) does not fit"):
        build_encoder(narrower)


@pytest.mark.parametrize("decoder", ["linear", "conv"])
def test_save_load_predict_is_bit_equal(tmp_path, decoder):
    images = torch.rand(2, 3, 32, 32)
    models = load_params("tiny").models.model_copy(update={"decoder": decoder})
    encoders = tiny_vit(seed=1), tiny_vit(seed=2)
    model, fresh = (Segmentor(e, build_decoder(models, e, 5), frozen=True).eval() for e in encoders)
    path = save(tmp_path / "x.safetensors", {"encoder": model.encoder, "decoder": model.decoder}, {})
    with torch.no_grad():
        before = model(images)
        assert not torch.equal(fresh(images), before)
        load(path, {"encoder": fresh.encoder, "decoder": fresh.decoder})
        assert torch.equal(fresh(images), before)
    with pytest.raises(CheckpointError, match=r"x.safetensors \(decoder\): the decoder was .*classes: 5 .*, 7 in the"):
        load(path, {"decoder": build_decoder(models, encoders[0], 7)})


def test_our_files_say_nothing_and_keep_layer_scale(tmp_path, capsys):
    scaled = tiny_vit(seed=1, init_values=0.5)
    path = save(tmp_path / "x.safetensors", {"encoder": scaled}, {})
    spec = EncoderSpec(name="vit_tiny_patch16_224", options={**VIT, "init_values": 1.0}, weights=str(path))
    assert same_bits(build_encoder(spec).state_dict(), scaled.state_dict())
    with pytest.raises(CheckpointError, match="carries LayerScale .*set `init_values: 1.0`"):
        build_encoder(spec.model_copy(update={"options": VIT}))
    assert capsys.readouterr().out == ""


def test_a_copy_of_ours_without_metadata_is_still_ours(tmp_path):
    encoder = tiny_vit(seed=1)
    tensors, _ = read(save(tmp_path / "x.safetensors", {"encoder": encoder}, {"method": "gkd"}))
    save_file(tensors, tmp_path / "copy.safetensors")
    fresh = tiny_vit(seed=2)
    assert load(tmp_path / "copy.safetensors", {"encoder": fresh}) == {}
    assert same_bits(fresh.state_dict(), encoder.state_dict())


@pytest.mark.parametrize(
    ("name", "weights", "url"),
    [
        (
            "vit_base_patch14_dinov2",
            "weights/hub/dinov2.pth",
            "https://huggingface.co/timm/vit_base_patch14_dinov2.lvd142m/resolve/main/model.safetensors or "
            "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitb14/dinov2_vitb14_pretrain.pth",
        ),
        (
            "deit_small_patch16_224.fb_in1k",
            "weights/deit.safetensors",
            "https://huggingface.co/timm/deit_small_patch16_224.fb_in1k/resolve/main/model.safetensors",
        ),
    ],
)
def test_a_missing_weights_file_says_what_to_fetch_and_where_to_put_it(name, weights, url):
    spec = EncoderSpec(name=name, options=VIT, weights=weights)
    for call in (
        check_file,
        build_encoder,
        lambda s: build_encoder(s, Path(weights)),
        lambda s: build_encoder(s, ROOT / weights),
    ):
        with pytest.raises(CheckpointError) as error:
            call(spec)
        text = str(error.value)
        assert f"the weights file {weights} of {name} is missing" in text and url in text
        assert f"put the file at {weights}" in text and "profiles.<profile>.models.teacher.weights" in text
    with pytest.raises(CheckpointError, match="checkpoint results/x.safetensors is missing: run the stage"):
        build_encoder(spec, Path("results/x.safetensors"))


def test_without_a_network_hub_weights_say_the_same(monkeypatch):
    def offline(*_args, **_kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", offline)
    for way in ("timm", "bicubic"):
        spec = EncoderSpec(name="vit_small_patch16_224.dino", options=VIT, weights="hub", resample=way)
        with pytest.raises(CheckpointError) as error:
            build_encoder(spec)
        text = str(error.value)
        assert "hub weights of vit_small_patch16_224.dino could not be fetched (ConnectionError)" in text
        assert "https://huggingface.co/timm/vit_small_patch16_224.dino/resolve/main/model.safetensors" in text
        assert "models.students.<setting>.weights: weights/hub/vit_small_patch16_224.dino.safetensors" in text


@pytest.mark.parametrize("name", ["vit_small_patch16_18x2_224", "deit_small_patch16_224.no_such_tag"])
def test_hub_weights_that_do_not_exist_are_named_with_those_that_do(name):
    with pytest.raises(CheckpointError, match=rf"weights: hub, but timm has none of {name}; it has those of ") as error:
        build_encoder(EncoderSpec(name=name, weights="hub"))
    assert ("deit_small_patch16_224.fb_in1k" in str(error.value)) == name.startswith("deit")


def test_hub_weights_are_resampled_as_asked(tmp_path):
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=3, **VIT)
    save_file(theirs.state_dict(), tmp_path / "x.safetensors")
    # timm then takes this file for the hub's.
    hub = {"pretrained_cfg_overlay": {"file": str(tmp_path / "x.safetensors")}}
    options = {**VIT, "img_size": 48, "patch_size": 6}
    spec = EncoderSpec(name="vit_tiny_patch16_224", options={**options, **hub}, weights="hub", resample="bicubic")
    file = EncoderSpec(
        name="vit_tiny_patch16_224", options=options, weights=str(tmp_path / "x.safetensors"), resample="bicubic"
    )
    from_hub, from_file = build_encoder(spec), build_encoder(file)
    assert same_bits(from_hub.state_dict(), from_file.state_dict()) and from_hub.keep_statistics
    by_timm = build_encoder(spec.model_copy(update={"resample": "timm"}))
    assert not torch.equal(by_timm.backbone.patch_embed.proj.weight, from_hub.backbone.patch_embed.proj.weight)
    assert same_bits(by_timm.state_dict(), build_encoder(file.model_copy(update={"resample": "timm"})).state_dict())


def test_hub_weights_are_fetched_only_without_an_earlier_stage(tmp_path, monkeypatch):
    asked, create = [], Encoder.create

    def offline(name, pretrained=False, **options):
        asked.append(pretrained)
        return create(name, **options)

    monkeypatch.setattr(Encoder, "create", offline)
    init = save(tmp_path / "x.safetensors", {"encoder": create("vit_tiny_patch16_224", **VIT)}, {})
    spec = EncoderSpec(name="vit_tiny_patch16_224", options=VIT, weights="hub")
    build_encoder(spec)
    build_encoder(spec, init)
    build_encoder(spec.model_copy(update={"weights": "none"}))
    assert asked == [True, False, False]


def test_plain_timm_weights_are_fitted_by_timm(tmp_path):
    options = {"embed_dim": 16, "depth": 1, "num_heads": 2}
    theirs = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, num_classes=3, **options)
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    spec = EncoderSpec(
        name="vit_tiny_patch16_224",
        options={**options, "img_size": 64, "patch_size": 16},
        weights=str(tmp_path / "model.safetensors"),
    )
    encoder = build_encoder(spec)
    assert torch.equal(encoder.backbone.blocks[0].attn.qkv.weight, theirs.blocks[0].attn.qkv.weight)
    assert encoder.backbone.pos_embed.shape == (1, 17, 16)
    assert encoder.backbone.patch_embed.proj.weight.shape == (16, 3, 16, 16)


def test_random_weights_follow_the_seed():
    spec = EncoderSpec(
        name="vit_tiny_patch16_224", options={"img_size": 32, "embed_dim": 16, "depth": 1, "num_heads": 2}
    )
    first, again, other = (build_encoder(spec, seed=seed).backbone.pos_embed for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
