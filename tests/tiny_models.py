"""Encoders small enough for a test, and a few images for them."""

import numpy as np
import torch
from torch import nn

from gkd.models import Encoder

SWIN = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 4), "window_size": 2, "img_size": 64}


def photos(count=5):
    """Images of noise without labels, as datasets give them."""
    rng = np.random.default_rng(0)
    return [(image, None) for image in rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)]


def tiny_vit(dim=24, patch=8, size=32, depth=2, seed=0, **options):
    """A ViT of `seed` with random values in all parameters, so that biases and the mask token count as well."""
    options = {"img_size": size, "patch_size": patch, "embed_dim": dim, "depth": depth, "num_heads": 3, **options}
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        encoder = Encoder.create("vit_tiny_patch16_224", **options)
        for parameter in encoder.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return encoder


class Average(nn.Module):
    """A convolutional backbone without weights: its map is the mean colour of each cell."""

    num_features = 3

    def __init__(self, stride):
        super().__init__()
        self.pool = nn.AvgPool2d(stride)
        self.feature_info = [{"reduction": stride}]

    def forward_features(self, x):
        return self.pool(x)


class Normed(Average):
    """The same with batch statistics."""

    def __init__(self, stride):
        super().__init__(stride)
        self.norm = nn.BatchNorm2d(3)

    def forward_features(self, x):
        return self.norm(self.pool(x))


class Spy(nn.Module):
    """A head that keeps what it was given."""

    def __init__(self, student_dim, teacher_dim):
        super().__init__()

    def forward(self, student_tokens, teacher_tokens):
        self.seen = student_tokens
        return student_tokens
