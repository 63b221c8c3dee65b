"""Decoders, and the segmentor that joins one with an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gkd.data.labels import IGNORE
from gkd.models import Encoder
from gkd.params import Mask2FormerOptions

DECODERS = ("linear", "conv", "mask2former")


class Decoder(Protocol):
    """What task learning asks of a decoder, a torch module besides.

    `features` are the final-norm tokens as one map (B, C, rows, columns), or a map of each of `blocks` where the
    decoder names some. A prediction is whatever the decoder needs to compute the other things from, once a batch.
    `class_layer` names the layer that has an output for each class, for `gkd.weights.matching.check_classes`.
    """

    blocks: tuple[int, ...]
    classes: int
    class_layer: str

    def __call__(self, features: Any) -> Tensor:
        """Class scores (B, K, h, w), of which windows are averaged and the argmax is the class map."""

    def predict(self, features: Any) -> Any:
        """The prediction of a batch."""

    def loss(self, prediction: Any, labels: Tensor, labelled: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Training loss for labels (B, H, W) int64, 255 = void, and its parts.

        `labelled` is the number of pixels that a mean over pixels divides by, where the labels are a share of a batch.
        """

    def log_scores(self, prediction: Any) -> Tensor:
        """(B, K, h, w) whose softmax over classes is the class distribution of a pixel: what KD compares."""

    def undecayed(self) -> list[nn.Parameter]:
        """Parameters without weight decay."""


class PixelDecoder(nn.Module):
    """A decoder whose prediction is one map of logits, trained by cross-entropy."""

    blocks: tuple[int, ...] = ()
    layers: nn.Sequential

    @property
    def classes(self) -> int:
        return self.layers[-1].out_channels

    @property
    def class_layer(self) -> str:
        return f"layers.{len(self.layers) - 1}"

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, rows, columns) -> logits (B, classes, h, w).

        On a CPU channels lie last in memory, up to the loss: torch 2.14 convolves and resizes such maps faster there.
        """
        return self.layers(features.contiguous(memory_format=torch.channels_last))

    predict = forward

    def loss(
        self, prediction: Tensor, labels: Tensor, labelled: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy of logits (B, K, h, w), resized bilinearly to the labels (B, H, W).

        The mean over `labelled` pixels: those of `labels`, unless they are a share of a batch.
        """
        full = F.interpolate(prediction, labels.shape[-2:], mode="bilinear", align_corners=False)
        labelled = (labels != IGNORE).sum() if labelled is None else labelled
        labelled = labelled.clamp(min=1)  # a batch may be all void
        if full.is_contiguous(memory_format=torch.channels_last):  # a row a pixel: else its gradient loses the layout
            full, labels = full.permute(0, 2, 3, 1).flatten(0, 2), labels.flatten()
        loss = F.cross_entropy(full, labels, ignore_index=IGNORE, reduction="sum") / labelled
        return loss, {"ce_loss": loss.detach()}

    def log_scores(self, prediction: Tensor) -> Tensor:
        """The logits themselves."""
        return prediction

    def undecayed(self) -> list[nn.Parameter]:
        """Biases, norms and other one-dimensional parameters."""
        return [parameter for parameter in self.parameters() if parameter.ndim <= 1]


class LinearDecoder(PixelDecoder):
    """BatchNorm + 1x1 convolution, logits on the grid: what the features say by themselves."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm2d(dim), nn.Conv2d(dim, classes, 1))


class ConvDecoder(PixelDecoder):
    """Light convolutional decoder: two doublings by transposed convolution, logits at four times the grid.

    Group norm, so that a sample's logits do not depend on its batch.
    """

    def __init__(self, dim: int, classes: int, width: int = 128) -> None:
        super().__init__()
        if width <= 0 or width % 32:
            raise ValueError(f"models.decoder_width: the conv decoder takes multiples of 32, not {width}")
        self.layers = nn.Sequential(
            nn.Conv2d(dim, width, 1),
            *_double(width, width // 2),
            *_double(width // 2, width // 4),
            nn.Conv2d(width // 4, classes, 1),
        )


def _double(dim: int, out: int) -> tuple[nn.Module, ...]:
    return (
        nn.ConvTranspose2d(dim, out, 2, stride=2),
        nn.GroupNorm(8, out),
        nn.GELU(),
        nn.Conv2d(out, out, 3, padding=1),
        nn.GroupNorm(8, out),
        nn.GELU(),
    )


class DecoderSizes(Protocol):
    """Name and sizes of a decoder: `models` of params.yaml, or the config of an exported model."""

    decoder: str
    decoder_width: int
    mask2former: Mask2FormerOptions


def build_decoder(models: DecoderSizes, encoder: Encoder, classes: int, blocks: Sequence[int] = ()) -> Decoder:
    """The decoder that `models` names, for the maps of `encoder`; a ValueError lists the known ones.

    `blocks` of the encoder are for decoders that read several; none = the decoder's own choice.
    """
    match models.decoder:
        case "linear":
            return LinearDecoder(encoder.dim, classes)
        case "conv":
            return ConvDecoder(encoder.dim, classes, models.decoder_width)
        case "mask2former":
            from gkd.segmentation.mask2former import Mask2Former  # here, as transformers takes two seconds to import

            return Mask2Former(encoder, classes, models.mask2former, blocks)
        case name:
            raise ValueError(f"models.decoder: unknown decoder {name!r}; known: {', '.join(DECODERS)}")


class Segmentor(nn.Module):
    """Encoder + decoder: un-normalised images (B, 3, H, W) -> class scores (B, K, h, w), at the decoder's size."""

    def __init__(self, encoder: Encoder, decoder: Decoder, frozen: bool) -> None:
        super().__init__()
        self.encoder, self.decoder, self.frozen = encoder, decoder, frozen
        encoder.requires_grad_(not frozen)

    def features(self, images: Tensor) -> Tensor | list[Tensor]:
        """Images (B, 3, H, W) -> what the decoder reads: a map (B, C, rows, columns), or one a block."""
        with torch.no_grad() if self.frozen else nullcontext():
            if self.decoder.blocks:
                return self.encoder.intermediate(images, self.decoder.blocks)
            return self.encoder.final_map(images)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        return self.decoder(self.features(images))

    def log_scores(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> (B, classes, h, w) whose softmax is the class distribution of each pixel."""
        return self.decoder.log_scores(self.decoder.predict(self.features(images)))

    def train(self, mode: bool = True) -> Segmentor:
        """A frozen encoder stays in eval mode (no drop path, no running statistics), as published."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self
