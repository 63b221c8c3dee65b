"""Recomputed activations: the same bits from less memory, and an encoder that is left as it was."""

import pytest
import torch
from tiny_models import tiny_vit

from gkd.models import Encoder
from gkd.models.recompute import recomputing
from gkd.train.compute import Reduced

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
MASK = torch.arange(16).repeat(2, 1) % 3 == 0
SWIN = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 4), "window_size": 2, "img_size": 64}


def gradients(encoder, what, images=IMAGES, mask=MASK, dtype=torch.float32):
    """Gradients of a pass, and the bytes that were kept for it, without weights."""
    encoder.zero_grad()
    torch.manual_seed(0)  # for drop path and dropout
    weights = {p.untyped_storage().data_ptr() for p in encoder.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes(), tensor  # held, so that no address is used twice
        return tensor

    with recomputing(encoder, what):
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            cls, patches = Reduced(encoder.train(), dtype)(images, mask)
        (cls.float().square().mean() + patches.float().square().mean()).backward()
    found = {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}
    return found, sum(size for size, _ in kept.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("what", ["activations", "blocks"])
def test_gradients_have_the_same_bits_and_less_is_kept(what, dtype):
    encoder = tiny_vit(depth=3)
    plain, whole = gradients(encoder, "none", dtype=dtype)
    again, less = gradients(encoder, what, dtype=dtype)
    assert plain.keys() == again.keys() and "mask_token" in plain
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    assert less < (0.85 if what == "activations" else 0.4) * whole


@pytest.mark.parametrize(
    ("name", "options"),
    [("swin_tiny_patch4_window7_224", SWIN), ("convnext_atto", {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)})],
)
@pytest.mark.parametrize("what", ["activations", "blocks"])
def test_hierarchical_models_too(name, options, what):
    encoder = Encoder.create(name, **options)
    images = torch.rand(2, 3, 64, 64)
    plain, again = (gradients(encoder, how, images, None)[0] for how in ("none", what))
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_dropout_in_the_mlp_draws_the_same_numbers_again():
    encoder = tiny_vit(proj_drop_rate=0.5)
    found = [gradients(encoder, what)[0] for what in ("none", "activations", "blocks")]
    assert all(torch.equal(found[0][name], other[name]) for other in found[1:] for name in found[0])


def test_the_encoder_is_left_as_it_was_also_after_an_error():
    encoder = tiny_vit()
    with pytest.raises(RuntimeError, match="stop"), recomputing(encoder, "blocks"):
        raise RuntimeError("stop")
    assert not any("forward" in vars(module) for module in encoder.modules())


def test_models_without_blocks_and_batch_statistics_are_refused():
    with (
        pytest.raises(ValueError, match="recompute: ResNet has no blocks to run again; use activations"),
        recomputing(Encoder.create("resnet18"), "blocks"),
    ):
        pass
    encoder = tiny_vit()
    encoder.backbone.blocks[0].norm1 = torch.nn.BatchNorm1d(17)
    with pytest.raises(ValueError, match="batch statistics"), recomputing(encoder.train(), "blocks"):
        pass
    with recomputing(encoder.eval(), "blocks"):
        pass
