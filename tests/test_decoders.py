import pytest
import torch
from tiny_models import Average, Normed, tiny_vit

from gkd.decoders import DECODERS, ConvDecoder, LinearDecoder, Segmentor, build_decoder
from gkd.models import Encoder


@pytest.mark.parametrize(("name", "times"), [("linear", 1), ("conv", 4)])
def test_logits_come_at_a_multiple_of_the_grid(name, times):
    decoder = build_decoder(name, 24, 5, 32)
    assert decoder(torch.randn(2, 24, 3, 4)).shape == (2, 5, 3 * times, 4 * times)


def test_bad_names_and_widths_are_named():
    assert set(DECODERS) == {"linear", "conv"}
    with pytest.raises(ValueError, match="models.decoder: unknown decoder 'unet'; known: linear, conv"):
        build_decoder("unet", 24, 5, 32)
    with pytest.raises(ValueError, match="models.decoder_width.*multiples of 32, not 48"):
        build_decoder("conv", 24, 5, 48)


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


def test_a_vit_segmentor_learns_end_to_end():
    segmentor = Segmentor(tiny_vit(24), ConvDecoder(24, 4, 32), frozen=False)
    logits = segmentor(torch.rand(2, 3, 32, 32))
    assert logits.shape == (2, 4, 16, 16)
    logits.square().mean().backward()
    assert segmentor.encoder.backbone.patch_embed.proj.weight.grad.any()
