"""Mask2Former (Cheng et al., 2022) from transformers' parts, on maps of any timm encoder.

Four maps of the encoder are brought to strides 4, 8, 16 and 32, as Lv et al. (2026) publish it for ViTs. A set of
queries predicts one class and one mask each; training matches them with the classes of an image.

transformers' own segmentation model is not used: its encoder must be a model of transformers, and its loss is computed
inside of the forward pass.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerLoss,
    Mask2FormerPixelDecoder,
    Mask2FormerPixelDecoderEncoderOnly,
    Mask2FormerPreTrainedModel,
    Mask2FormerTransformerModule,
)

from gkd.data.labels import IGNORE
from gkd.models import Encoder
from gkd.params import Mask2FormerOptions

# By depth of the ViT, as in the configurations that Lv et al. (2026) publish.
PUBLISHED_BLOCKS = {12: (3, 5, 7, 11), 24: (7, 11, 15, 23)}
LEVELS = 4
# transformers' names of the terms of the loss, and ours.
TERMS = {"loss_cross_entropy": "cls_loss", "loss_mask": "mask_loss", "loss_dice": "dice_loss"}
# Scores below it count as this much where their logarithm is taken.
FLOOR = 1e-6


class Prediction(NamedTuple):
    """What the queries say before the first decoder layer and after each; the last entry counts, the rest train."""

    classes: list[Tensor]  # (B, Q, K + 1) logits; the last class is "no object"
    masks: list[Tensor]  # (B, Q, h, w) logits, at the finest stride


class Mask2Former(nn.Module):
    """Pixel decoder with multi-scale deformable attention, then queries with masked attention.

    Args:
        encoder: what the maps come from. It is asked for their sizes, not kept.
        classes: of the source.
        options: sizes and the number of points of the loss.
        blocks: of the encoder (stages where it is hierarchical), from fine to coarse; none = see `default_blocks`.
    """

    class_layer = "classifier"

    def __init__(self, encoder: Encoder, classes: int, options: Mask2FormerOptions, blocks: Sequence[int] = ()) -> None:
        super().__init__()
        if options.queries < classes:
            raise ValueError(
                f"models.mask2former.queries: {options.queries} queries are too few for {classes} classes, one each"
            )
        self.blocks, channels, self.reductions = check_blocks(encoder, blocks or default_blocks(encoder))
        self.classes, self.stride = classes, options.stride
        config = Mask2FormerConfig(
            num_labels=classes,
            feature_size=options.dim,
            mask_feature_size=options.dim,
            hidden_dim=options.dim,
            encoder_feedforward_dim=4 * options.dim,
            dim_feedforward=8 * options.dim,
            encoder_layers=options.encoder_layers,
            decoder_layers=options.decoder_layers + 1,  # transformers counts the prediction before the first layer
            num_queries=options.queries,
            train_num_points=options.points,
        )
        self.pixel_decoder = Mask2FormerPixelDecoder(config, channels)
        self.pixel_decoder.encoder.get_reference_points = reference_points  # what a graph of any size can hold
        self.transformer = Mask2FormerTransformerModule(options.dim, config)
        self.classifier = nn.Linear(options.dim, classes + 1)
        self.weights = dict(zip(TERMS, (config.class_weight, config.mask_weight, config.dice_weight), strict=True))
        self.criterion = Mask2FormerLoss(config, self.weights)
        # A constant of the loss, which has no place in checkpoints.
        self.criterion.register_buffer("empty_weight", self.criterion.empty_weight, persistent=False)
        self.apply(Mask2FormerPreTrainedModel(config)._init_weights)

    def predict(self, features: Sequence[Tensor]) -> Prediction:
        """Maps (B, C, rows, columns) of `blocks`, on their own grids -> the queries' classes and masks."""
        maps = [self._at_level(level, x) for level, x in enumerate(features)]
        pixels = self.pixel_decoder(maps, return_dict=True)
        found = self.transformer(list(pixels.multi_scale_features), pixels.mask_features)
        classes = [self.classifier(hidden.transpose(0, 1)) for hidden in found.intermediate_hidden_states]
        return Prediction([_full(x) for x in classes], [_full(x) for x in found.masks_queries_logits])

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Maps of `blocks` -> class scores (B, classes, H, W) at the image's size, each from 0 to `queries`.

        They are no logits and do not sum to one. The masks are enlarged before the sigmoid.
        """
        found = self.predict(features)
        masks = F.interpolate(found.masks[-1], scale_factor=self.stride, mode="bilinear", align_corners=False)
        return class_scores(found.classes[-1], masks)

    def log_scores(self, prediction: Prediction) -> Tensor:
        """Logarithm of the class scores (B, classes, h, w) at the finest stride: logits of the normalised scores.

        softmax(log_scores) = scores / sum of the scores, so that a KL between two of them compares what the class maps
        are made of. Scores under 1e-6 count as 1e-6: where no query claims a pixel, all classes are alike.
        """
        return class_scores(prediction.classes[-1], prediction.masks[-1]).clamp(min=FLOOR).log()

    def loss(
        self, prediction: Prediction, labels: Tensor, labelled: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Set loss of labels (B, H, W), summed over all layers: class 2, mask 5, dice 5, no-object 0.1.

        Each class of an image is one binary mask. Void makes no mask, but as published its pixels are among the
        points that are drawn, and lie outside of every mask. Points are drawn by torch's global generator. The means
        are over masks and queries, so `labelled` is of no use here: a share of a batch has a mean of its own.
        """
        masks, classes = zip(*(binary_masks(label) for label in labels), strict=True)
        layers = [
            {"masks_queries_logits": mask, "class_queries_logits": scores}
            for scores, mask in zip(prediction.classes[:-1], prediction.masks[:-1], strict=True)
        ]
        terms = self.criterion(prediction.masks[-1], prediction.classes[-1], masks, classes, layers)
        parts = {
            name: self.weights[key] * torch.stack([v for k, v in terms.items() if k.startswith(key)]).sum()
            for key, name in TERMS.items()
        }
        return torch.stack(list(parts.values())).sum(), {name: part.detach() for name, part in parts.items()}

    def undecayed(self) -> list[nn.Parameter]:
        """Parameters without weight decay: norms, queries and level embeddings, as published."""
        norms = [m for m in self.modules() if isinstance(m, nn.LayerNorm | nn.GroupNorm)]
        queries = self.transformer.queries_embedder, self.transformer.queries_features, self.transformer.level_embed
        found = [parameter for module in (*norms, *queries) for parameter in module.parameters()]
        return [*found, self.pixel_decoder.level_embed]

    def _at_level(self, level: int, x: Tensor) -> Tensor:
        """A map from its block's stride to that of its level, rounded up; x4, x2, x1, x0.5 for 16-pixel patches."""
        have, want = self.reductions[level], self.stride * 2**level
        if have == want:
            return x
        size = [-(-side * have // want) for side in x.shape[-2:]]
        return F.interpolate(x, size, mode="bilinear", align_corners=False)


def reference_points(
    spatial_shapes_list: Sequence[tuple[int, int]], valid_ratios: Tensor, device: torch.device
) -> Tensor:
    """Centres of the cells of all levels, in [0, 1]: ratios (B, levels, 2) -> (B, cells, levels, 2) of (x, y).

    transformers' own, but under an export: its `linspace` would be cut down to the number of steps that it is traced
    with, and `arange` keeps that open. Equal to the bit in fp32; in bf16 they part from 129 cells a side on.
    """
    if not torch.compiler.is_exporting():
        return Mask2FormerPixelDecoderEncoderOnly.get_reference_points(spatial_shapes_list, valid_ratios, device)
    levels = []
    for level, (height, width) in enumerate(spatial_shapes_list):
        y, x = (torch.arange(side, dtype=valid_ratios.dtype, device=device) + 0.5 for side in (height, width))
        y, x = torch.meshgrid(y, x, indexing="ij")
        y = y.reshape(-1)[None] / (valid_ratios[:, None, level, 1] * height)  # (B, cells of the level)
        x = x.reshape(-1)[None] / (valid_ratios[:, None, level, 0] * width)
        levels.append(torch.stack((x, y), -1))
    return torch.cat(levels, 1)[:, :, None] * valid_ratios[:, None]


def class_scores(classes: Tensor, masks: Tensor) -> Tensor:
    """Logits (B, Q, K + 1) and (B, Q, h, w) -> scores (B, K, h, w): each query's mask, shared out over its classes."""
    return torch.einsum("bqk,bqhw->bkhw", classes.softmax(-1)[..., :-1], masks.sigmoid())


def binary_masks(label: Tensor) -> tuple[Tensor, Tensor]:
    """Label (H, W) -> one float mask (n, H, W) for each of its n classes, and the classes (n,). Void is none."""
    found = label.unique()
    found = found[found != IGNORE]
    return (label == found[:, None, None]).float(), found


def default_blocks(encoder: Encoder) -> tuple[int, ...]:
    """The published blocks of a ViT of 12 or 24, the last four stages of a hierarchical encoder."""
    info = encoder.backbone.feature_info
    if len({entry["reduction"] for entry in info}) > 1:
        return tuple(range(len(info) - LEVELS, len(info)))
    if len(info) not in PUBLISHED_BLOCKS:
        raise ValueError(
            f"the mask2former decoder reads four blocks, and for an encoder of {len(info)} none are published: name "
            "them in its section of `models`, such as `blocks: [1, 3, 5, 7]`"
        )
    return PUBLISHED_BLOCKS[len(info)]


def check_blocks(encoder: Encoder, blocks: Sequence[int]) -> tuple[tuple[int, ...], list[int], list[int]]:
    """Blocks counted from 0, and the channels and the stride of each one's map."""
    count = len(encoder.backbone.feature_info)
    found = tuple(block + count if block < 0 else block for block in blocks)
    in_range = all(0 <= block < count for block in found)
    if len(found) != LEVELS or list(found) != sorted(set(found)) or not in_range:
        raise ValueError(
            f"blocks: the mask2former decoder reads four blocks of 0 to {count - 1}, in order; given {list(blocks)}"
        )
    channels, strides = zip(*encoder.intermediate_dims(found), strict=True)
    return found, list(channels), list(strides)


def _full(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
