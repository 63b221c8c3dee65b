import pytest
import torch
import torch.nn.functional as F
from tiny_models import Average, Normed, tiny_vit
from tiny_params import with_decoder

from gkd.data.labels import IGNORE
from gkd.models import Encoder
from gkd.segmentation.decoders import DECODERS, ConvDecoder, LinearDecoder, Segmentor, build_decoder

SMALL = {"dim": 32, "queries": 6, "encoder_layers": 1, "decoder_layers": 1}
BLOCKS = (0, 1, 2, 3)


@pytest.mark.parametrize(("name", "side"), [("linear", 4), ("conv", 16), ("mask2former", 32)])
def test_scores_come_at_the_decoders_size_and_it_learns_from_a_loss(name, side):
    encoder = tiny_vit(24, depth=4)
    model = Segmentor(encoder, build_decoder(with_decoder(name, **SMALL), encoder, 5, BLOCKS), frozen=True).train()
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 5, side, side)
    labels = torch.randint(5, (2, 32, 32))
    labels[:, :4] = IGNORE
    prediction = model.decoder.predict(model.features(torch.rand(2, 3, 32, 32)))
    loss, parts = model.decoder.loss(prediction, labels)
    assert loss.shape == () and torch.isclose(loss, sum(parts.values()))
    assert not any(part.requires_grad for part in parts.values())
    loss.backward()
    assert all(p.grad is not None for p in model.decoder.parameters()) and encoder.mask_token.grad is None
    found = model.decoder.log_scores(prediction)
    assert found.shape[:2] == (2, 5) and torch.isfinite(found).all()
    images = torch.rand(3, 3, 32, 32)  # a sample is scored alike in any batch
    torch.testing.assert_close(model.eval()(images)[1:], model(images[1:]), rtol=1e-4, atol=1e-5)


def test_bad_names_and_widths_are_named():
    encoder = tiny_vit(24)
    assert DECODERS == ("linear", "conv", "mask2former")
    with pytest.raises(ValueError, match="models.decoder: unknown decoder 'unet'; known: linear, conv, mask2former"):
        build_decoder(with_decoder("unet"), encoder, 5)
    with pytest.raises(ValueError, match="models.decoder_width.*multiples of 32, not 48"):
        build_decoder(with_decoder("conv", 48), encoder, 5)


def test_the_loss_of_a_map_of_logits_is_cross_entropy_at_the_labels_size():
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(2, 3, 2, 2, generator=generator), torch.randint(3, (2, 4, 4), generator=generator)
    labels[0, :2] = IGNORE
    loss, parts = LinearDecoder(3, 3).loss(logits, labels)
    full = F.interpolate(logits, (4, 4), mode="bilinear").log_softmax(1)
    nll = [-full[b, labels[b, y, x], y, x] for b in range(2) for y in range(4) for x in range(4) if labels[b, y, x] < 3]
    torch.testing.assert_close(loss, torch.stack(nll).mean())
    assert list(parts) == ["ce_loss"] and len(nll) == 24
    share = LinearDecoder(3, 3).loss(logits, labels, torch.tensor(48))[0]
    torch.testing.assert_close(share, loss / 2)
    assert LinearDecoder(3, 3).loss(logits, torch.full((2, 4, 4), IGNORE))[0] == 0
    assert LinearDecoder(3, 3).log_scores(logits) is logits


@pytest.mark.parametrize("decoder", [ConvDecoder(6, 4, 32), LinearDecoder(6, 4)], ids=["conv", "linear"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_logits_and_their_gradient_keep_channels_last(decoder, layout):
    features = torch.randn(2, 6, 2, 3).contiguous(memory_format=layout)
    logits, seen = decoder.predict(features), {}
    logits.register_hook(lambda gradient: seen.update(gradient=gradient))
    decoder.loss(logits, torch.randint(4, (2, 20, 30)))[0].backward()
    # torch 2.14 resizes maps with channels first far slower on a CPU.
    for name, found in {"logits": logits, **seen}.items():
        assert found.is_contiguous(memory_format=torch.channels_last), name
    assert seen


def test_biases_and_norms_of_a_map_decoder_do_not_decay():
    decoder = ConvDecoder(6, 4, 32)
    assert [p.ndim for p in decoder.undecayed()] == [1] * 14
    assert sum(p.ndim > 1 for p in decoder.parameters()) == 6


def test_the_conv_decoder_treats_samples_apart():
    decoder, features = ConvDecoder(6, 4, 32).train(), torch.randn(3, 6, 4, 4)
    torch.testing.assert_close(decoder(features)[1:2], decoder(features[1:2]))


def test_features_reach_the_decoder_in_their_places():
    segmentor = Segmentor(Encoder(Average(8)), LinearDecoder(3, 3), frozen=True).eval()
    with torch.no_grad():
        segmentor.decoder.layers[1].weight.copy_(torch.eye(3)[..., None, None])
        segmentor.decoder.layers[1].bias.zero_()
    images = torch.rand(2, 3, 16, 24)
    torch.testing.assert_close(segmentor(images), torch.nn.functional.avg_pool2d(images, 8), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_encoder_gets_no_gradient_and_stays_in_eval_mode(frozen):
    segmentor = Segmentor(Encoder(Normed(8)), LinearDecoder(3, 4), frozen).train()
    norm = segmentor.encoder.backbone.norm
    before = norm.running_mean.clone()
    segmentor(torch.rand(2, 3, 16, 16)).square().mean().backward()
    assert segmentor.decoder.training and segmentor.encoder.training is not frozen
    assert torch.equal(norm.running_mean, before) is frozen
    assert (norm.weight.grad is None) is frozen
    assert [p.requires_grad for p in segmentor.encoder.parameters()] == [not frozen] * 3
    assert segmentor.decoder.layers[1].weight.grad.any()
    assert not segmentor.eval().encoder.training
