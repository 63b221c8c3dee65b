"""A segmentor comes back from its file, whatever stands in params.yaml by then."""

import pytest
import torch
from tiny_models import tiny_vit
from tiny_params import TINY, with_decoder

from gkd.datasets import official
from gkd.segmentation.decoders import Segmentor, build_decoder
from gkd.segmentation.stored import load_segmentor
from gkd.weights import CheckpointError, Record, save

SOURCE = official().sources["potsdam_rgb"]
BLOCKS = {"mask2former": (0, 1, 2, 4)}


@pytest.mark.parametrize("decoder", ["linear", "conv", "mask2former"])
def test_a_segmentor_comes_back_from_its_file_alone(tmp_path, monkeypatch, decoder):
    models = with_decoder(decoder, 64, dim=32, queries=8, encoder_layers=1, decoder_layers=1, stride=8)
    encoder = tiny_vit(depth=5, seed=1, pretrained_cfg_overlay={"mean": (0.4, 0.5, 0.6)})
    built = build_decoder(models, encoder, len(SOURCE.classes), BLOCKS.get(decoder, ()))
    model = Segmentor(encoder, built, frozen=False).eval()
    params = TINY.model_copy(update={"models": models})
    record = Record.of(params, {"stage": "task_learning", "method": "none"}, segments=SOURCE, lr=3e-3)
    path = save(tmp_path / "model.safetensors", {"encoder": encoder, "decoder": built}, record)
    monkeypatch.setattr("ruamel.yaml.YAML.load", lambda *_: pytest.fail("parameters were read"))
    found, said = load_segmentor(path)
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(found(images), model(images))
    assert found.frozen and not found.training and not any(p.requires_grad for p in found.encoder.parameters())
    assert (said.lr, said.classes, said.encoder.mean) == (3e-3, SOURCE.classes, pytest.approx((0.4, 0.5, 0.6)))


def test_a_file_that_is_absent_or_holds_no_segmentor_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="absent.safetensors is missing"):
        load_segmentor(tmp_path / "absent.safetensors")
    student = save(tmp_path / "encoder.safetensors", {"encoder": tiny_vit()}, Record(stage="domain_agnostic"))
    with pytest.raises(CheckpointError, match="encoder.safetensors: .*task learning, found no record of a segmentor"):
        load_segmentor(student)
