import itertools

import pytest
import torch
import torch.nn.functional as F
from tiny_models import SWIN, tiny_vit
from tiny_params import mask2former
from torch import nn
from transformers.models.mask2former.modeling_mask2former import Mask2FormerPixelDecoderEncoderOnly

from gkd.data.labels import IGNORE
from gkd.models import Encoder
from gkd.segmentation.decoders import Segmentor
from gkd.segmentation.mask2former import (
    Mask2Former,
    Prediction,
    binary_masks,
    check_blocks,
    class_scores,
    default_blocks,
    reference_points,
)

CLASSES = 4
SMALL = {"dim": 32, "queries": 6, "encoder_layers": 1, "decoder_layers": 2, "points": 64, "stride": 2}
WEIGHTS = {"cls": 2.0, "mask": 5.0, "dice": 5.0}


def small(encoder, classes=CLASSES, blocks=(0, 1, 2, 3), **options):
    torch.manual_seed(0)
    return Mask2Former(encoder, classes, mask2former(**{**SMALL, **options}), blocks)


@pytest.fixture(scope="module")
def decoder():
    return small(tiny_vit(24, depth=4))


@pytest.fixture
def points_at_centres(monkeypatch):
    """Points of the loss fall on pixel centres of 8 x 8 maps: elsewhere they blend pixels, at the border with zeros."""
    torch.manual_seed(0)
    drawn = torch.rand
    monkeypatch.setattr(torch, "rand", lambda *size, **options: (drawn(*size, **options) * 8).floor() / 8 + 1 / 16)


def constant(classes, masks):
    """A prediction of one layer: class logits (B, Q, K + 1) and mask logits (B, Q) that hold everywhere."""
    return Prediction([classes], [masks[:, :, None, None].expand(-1, -1, 8, 8)])


# Table 1 of the paper, in millions.
@pytest.mark.parametrize(
    ("name", "published"),
    [("vit_small_patch16_224", 41.9), ("vit_base_patch16_224", 106.8), ("vit_large_patch16_224", 324.8)],
)
def test_encoder_and_decoder_have_the_published_number_of_parameters(name, published):
    with torch.device("meta"):
        encoder = Encoder.create(name, img_size=512)
        segmentor = Segmentor(encoder, Mask2Former(encoder, 19, mask2former()), frozen=True)
    millions = sum(parameter.numel() for parameter in segmentor.parameters()) / 1e6
    assert millions == pytest.approx(published, rel=0.005)


def test_the_published_shape_of_a_vit():
    with torch.device("meta"):
        encoder = Encoder.create("vit_small_patch16_224", img_size=512)
    decoder = Mask2Former(encoder, 19, mask2former())
    with torch.no_grad():
        found = decoder.predict([torch.zeros(1, 384, 8, 8)] * 4)
    assert decoder.blocks == (3, 5, 7, 11)
    assert [x.shape for x in found.classes] == [(1, 100, 20)] * 10
    assert [x.shape for x in found.masks] == [(1, 100, 32, 32)] * 10
    loss, matcher = decoder.criterion, decoder.criterion.matcher
    assert (loss.num_points, loss.oversample_ratio, loss.importance_sample_ratio) == (12544, 3, 0.75)
    assert (loss.eos_coef, matcher.cost_class, matcher.cost_mask, matcher.cost_dice) == (0.1, 2, 5, 5)
    layers = decoder.pixel_decoder.encoder.layers
    shapes = [(x.self_attn.n_levels, x.self_attn.n_heads, x.fc1.out_features) for x in layers]
    assert shapes == [(3, 8, 1024)] * 6
    assert [layer.fc1.out_features for layer in decoder.transformer.decoder.layers] == [2048] * 9


@pytest.mark.parametrize(
    ("name", "options", "strides"),
    [
        ("resnet10t", {}, [4, 8, 16, 32]),
        ("convnext_atto", {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}, [4, 8, 16, 32]),
        ("swin_tiny_patch4_window7_224", SWIN, [4, 8, 16, 32]),
        ("mobilenetv3_small_050", {}, [4, 8, 16, 32]),
        ("tf_efficientnet_lite0", {"output_stride": 16}, [4, 8, 16, 16]),
    ],
)
def test_stages_of_hierarchical_encoders_are_what_the_decoder_expects(name, options, strides):
    encoder = Encoder.create(name, **options).eval()
    decoder = small(encoder, blocks=(), stride=4)
    assert decoder.reductions == strides
    maps = encoder.intermediate(torch.rand(1, 3, 64, 64), decoder.blocks)
    channels = check_blocks(encoder, decoder.blocks)[1]
    assert [x.shape for x in maps] == [(1, c, 64 // s, 64 // s) for c, s in zip(channels, strides, strict=True)]
    assert decoder(maps).shape == (1, CLASSES, 64, 64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reference_points_of_an_export_are_those_of_training(monkeypatch, dtype):
    arguments = [(1, 3), (17, 1), (64, 130)], torch.ones(2, 3, 2, dtype=dtype), torch.device("cpu")
    expected = reference_points(*arguments)
    assert torch.equal(expected, Mask2FormerPixelDecoderEncoderOnly.get_reference_points(*arguments))
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert expected.shape == (2, 3 + 17 + 64 * 130, 3, 2)
    assert torch.equal(reference_points(*arguments), expected)


def test_blocks_are_the_published_ones_or_must_be_named_and_queries_suffice():
    for depth, blocks in ((12, (3, 5, 7, 11)), (24, (7, 11, 15, 23))):
        assert default_blocks(tiny_vit(6, depth=depth)) == blocks
    encoder = tiny_vit(6, depth=4)
    with pytest.raises(ValueError, match="encoder of 4 none are published: name them .* `blocks: "):
        default_blocks(encoder)
    assert check_blocks(encoder, (0, 1, -2, -1)) == ((0, 1, 2, 3), [6] * 4, [8] * 4)
    for wrong in ((0, 1, 2), (0, 1, 2, 4), (0, 2, 1, 3), (0, 1, 1, 3), (-5, 1, 2, 3)):
        with pytest.raises(ValueError, match="reads four blocks of 0 to 3, in order; given"):
            check_blocks(encoder, wrong)
    with pytest.raises(ValueError, match="models.mask2former.queries: 3 queries are too few for 4 classes"):
        small(encoder, queries=3)


def test_scores_are_masks_shared_out_over_classes_and_log_scores_their_logits(decoder):
    generator = torch.Generator().manual_seed(0)
    classes, masks = torch.randn(2, 3, 5, generator=generator), torch.randn(2, 3, 2, 2, generator=generator)
    direct = class_scores(classes, masks)
    for b, k in itertools.product(range(2), range(4)):
        expected = sum(classes[b, q].softmax(0)[k] * masks[b, q].sigmoid() for q in range(3))
        torch.testing.assert_close(direct[b, k], expected)
    found = decoder.log_scores(Prediction([classes], [masks]))
    torch.testing.assert_close(found.softmax(1), direct / direct.sum(1, keepdim=True))
    nothing = constant(torch.tensor([[[0.0, 0, 0, 0, 90]]]), torch.tensor([[-90.0]]))
    torch.testing.assert_close(decoder.log_scores(nothing).softmax(1), torch.full((1, 4, 8, 8), 0.25))


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_is_its_formula_where_masks_are_constant(decoder, seed, points_at_centres):
    """All points of a constant mask are alike, so their choice does not matter."""
    generator = torch.Generator().manual_seed(seed)
    batch, queries, points = 2, SMALL["queries"], SMALL["points"]
    layers = 3
    classes = [2 * torch.randn(batch, queries, CLASSES + 1, generator=generator) for _ in range(layers)]
    masks = [3 * torch.randn(batch, queries, generator=generator) for _ in range(layers)]
    truth = torch.randint(CLASSES, (batch,), generator=generator)
    labels = truth[:, None, None].expand(-1, 8, 8)
    expected = {"cls": 0.0, "mask": 0.0, "dice": 0.0}
    for logits, mask in zip(classes, masks, strict=True):
        bce = F.softplus(-mask)
        dice = 1 - (2 * points * mask.sigmoid() + 1) / (points * mask.sigmoid() + points + 1)
        right = logits.softmax(-1)[range(batch), :, truth]  # (B, Q)
        chosen = (-2 * right + 5 * bce + 5 * dice).argmin(1)
        target = torch.full((batch, queries), CLASSES)
        target[range(batch), chosen] = truth
        weight = torch.where(target == CLASSES, 0.1, 1.0)
        nll = -logits.log_softmax(-1).gather(2, target[..., None])[..., 0]
        expected["cls"] += (weight * nll).sum() / weight.sum()
        expected["mask"] += bce[range(batch), chosen].mean()
        expected["dice"] += dice[range(batch), chosen].mean()
    prediction = Prediction(classes, [m[:, :, None, None].expand(-1, -1, 8, 8) for m in masks])
    loss, parts = decoder.loss(prediction, labels)
    assert list(parts) == ["cls_loss", "mask_loss", "dice_loss"]
    for name, value in expected.items():
        torch.testing.assert_close(parts[f"{name}_loss"], WEIGHTS[name] * value)
    torch.testing.assert_close(loss, sum(parts.values()))
    order = torch.randperm(queries, generator=generator)
    permuted = Prediction([x[:, order] for x in prediction.classes], [x[:, order] for x in prediction.masks])
    torch.testing.assert_close(decoder.loss(permuted, labels)[0], loss)


def blocks_label():
    """Classes 1, 3 and void in quarters of an 8 x 8 label."""
    quarters = torch.tensor([[1, 3], [IGNORE, 1]])
    return quarters.repeat_interleave(4, 0).repeat_interleave(4, 1)[None]  # (1, 8, 8)


def perfect(label, order):
    """Queries in `order` that say the label: 4 queries, of which those past the classes see nothing."""
    masks, found = binary_masks(label)
    logits, classes = torch.full((1, 4, 8, 8), -30.0), torch.full((1, 4, CLASSES + 1), -30.0)
    for query, (mask, k) in enumerate(zip(masks, found, strict=True)):
        logits[0, query] = 60 * mask - 30
        classes[0, query, k] = 30
    classes[0, len(found) :, CLASSES] = 30
    return Prediction([classes[:, order]], [logits[:, order]])


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0, 2]])
def test_a_perfect_prediction_costs_next_to_nothing_in_any_order_of_queries(decoder, order, points_at_centres):
    label = blocks_label()
    assert 0 <= decoder.loss(perfect(label[0], order), label)[0] < 1e-4
    moved = decoder.loss(perfect(label[0].roll(1, 1), order), label)[1]
    assert moved["cls_loss"] < 1e-4 and moved["mask_loss"] > 5 and moved["dice_loss"] > 0.3
    renamed = decoder.loss(perfect(torch.where(label == 1, 2, label)[0], order), label)[1]
    assert renamed["cls_loss"] > 20 and renamed["mask_loss"] + renamed["dice_loss"] < 1e-4


def test_void_is_no_class_lies_outside_of_every_mask_and_alone_asks_for_no_object(decoder):
    masks, found = binary_masks(blocks_label()[0])
    assert found.tolist() == [1, 3] and [mask.sum().item() for mask in masks] == [32, 16]
    assert not masks[:, 4:, :4].any()
    void = torch.full((1, 8, 8), IGNORE)
    generator = torch.Generator().manual_seed(0)
    prediction = Prediction(
        [torch.randn(2, 6, CLASSES + 1, generator=generator) for _ in range(2)],
        [torch.randn(2, 6, 8, 8, generator=generator) for _ in range(2)],
    )
    loss, parts = decoder.loss(prediction, void.repeat(2, 1, 1))
    expected = 2 * sum(-x.log_softmax(-1)[..., CLASSES].mean() for x in prediction.classes)
    torch.testing.assert_close(loss, expected)
    assert parts["mask_loss"] == parts["dice_loss"] == 0
    mixed, parts = decoder.loss(prediction, torch.cat([void, blocks_label()]))
    assert torch.isfinite(mixed) and parts["mask_loss"] > 0


def test_half_types_are_scored_and_compared_in_float32(decoder):
    with torch.autocast("cpu", torch.bfloat16):
        prediction = decoder.predict([torch.randn(1, 24, 4, 4) for _ in range(4)])
    assert {x.dtype for x in (*prediction.classes, *prediction.masks)} == {torch.float32}
    assert decoder.loss(prediction, blocks_label())[0].dtype == torch.float32


def test_norms_and_embeddings_do_not_decay_and_biases_do(decoder):
    undecayed = {id(parameter) for parameter in decoder.undecayed()}
    names = {name for name, parameter in decoder.named_parameters() if id(parameter) in undecayed}
    norms = {n for n, m in decoder.named_modules() if isinstance(m, nn.LayerNorm | nn.GroupNorm)}
    embeddings = {f"transformer.{name}.weight" for name in ("queries_embedder", "queries_features", "level_embed")}
    expected = {f"{norm}.{kind}" for norm in norms for kind in ("weight", "bias")}
    assert names == expected | embeddings | {"pixel_decoder.level_embed"} and len(decoder.undecayed()) == len(names)
    assert not [key for key in decoder.state_dict() if key.startswith("criterion")]
