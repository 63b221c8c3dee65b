"""Decoders on the final-norm tokens, and the segmentor that joins one with an encoder."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from gkd.models import Encoder


class LinearDecoder(nn.Module):
    """BatchNorm + 1x1 convolution: what the features say by themselves."""

    def __init__(self, dim: int, classes: int, width: int = 0) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm2d(dim), nn.Conv2d(dim, classes, 1))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, rows, columns) -> logits (B, classes, rows, columns)."""
        return self.layers(features)


class ConvDecoder(nn.Module):
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

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, rows, columns) -> logits (B, classes, 4 rows, 4 columns)."""
        return self.layers(features)


def _double(dim: int, out: int) -> tuple[nn.Module, ...]:
    return (
        nn.ConvTranspose2d(dim, out, 2, stride=2),
        nn.GroupNorm(8, out),
        nn.GELU(),
        nn.Conv2d(out, out, 3, padding=1),
        nn.GroupNorm(8, out),
        nn.GELU(),
    )


DECODERS: dict[str, type[nn.Module]] = {"linear": LinearDecoder, "conv": ConvDecoder}


def build_decoder(name: str, dim: int, classes: int, width: int) -> nn.Module:
    """A decoder by its name in params.yaml; a ValueError lists the known ones."""
    if name not in DECODERS:
        raise ValueError(f"models.decoder: unknown decoder {name!r}; known: {', '.join(DECODERS)}")
    return DECODERS[name](dim, classes, width)


class Segmentor(nn.Module):
    """Encoder + decoder: un-normalised images (B, 3, H, W) -> logits (B, classes, h, w), at the decoder's size."""

    def __init__(self, encoder: Encoder, decoder: nn.Module, frozen: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.frozen = frozen
        encoder.requires_grad_(not frozen)

    def features(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> what the decoder reads (B, C, rows, columns)."""
        with torch.no_grad() if self.frozen else nullcontext():
            return self.encoder.final_map(images)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        return self.decoder(self.features(images))

    def train(self, mode: bool = True) -> Segmentor:
        """A frozen encoder stays in eval mode (no drop path, no running statistics), as published."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self
