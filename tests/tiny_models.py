"""Models small enough for a test, and files of their weights as others write them."""

import numpy as np
import torch
from torch import nn

from gkd.models import Encoder
from gkd.params import EncoderSpec
from gkd.weights import build_encoder

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
SWIN = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 4), "window_size": 2, "img_size": 64}


def photos(count=5):
    """Images of noise without labels, as datasets give them."""
    rng = np.random.default_rng(0)
    return [(image, None) for image in rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)]


def randomised(module, seed=1):
    """The module with random values in all its parameters, so that none is at a start value that hides an error."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return module


def tiny_vit(dim=24, patch=8, size=32, depth=2, seed=0, **options):
    """A ViT of `seed` with random values in all parameters, so that biases and the mask token count as well."""
    options = {"img_size": size, "patch_size": patch, "embed_dim": dim, "depth": depth, "num_heads": 3, **options}
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        encoder = Encoder.create("vit_tiny_patch16_224", **options)
        for parameter in encoder.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return encoder


def state_of(encoder, prefix=""):
    """The weights of an encoder's timm model, with a prefix to their names."""
    return {f"{prefix}{key}": value for key, value in encoder.backbone.state_dict().items()}


def encoder_of(file, name="vit_tiny_patch16_224", **options):
    """The encoder that params.yaml asks for by `weights: file`, as small as `tiny_vit`."""
    return build_encoder(EncoderSpec(name=name, options={**VIT, **options}, weights=str(file)))


def official_eva02(encoder):
    """The weights of timm's EVA02 under the names of the official files, with their rotary buffers."""
    names = {"fc_norm.": "norm.", "fc1_g": "w1", "fc1_x": "w2", "fc2": "w3"}
    names |= {"mlp.norm": "mlp.ffn_ln", "attn.norm": "attn.inner_attn_ln"}
    buffers = ["rope.freqs_cos", *(f"blocks.{i}.attn.rope.freqs_sin" for i in range(len(encoder.backbone.blocks)))]
    state = {key: torch.ones(16, 12) for key in buffers}
    for key, value in state_of(encoder).items():
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        state[key] = value
    return state


def mmseg_file(segmentor):
    """What mmseg saves of a segmentor: its head under mmseg's own names where it is a linear one."""
    names = {"layers.0.": "bn.", "layers.1.": "conv_seg."} if len(segmentor.decoder.layers) == 2 else {"": ""}
    state = state_of(segmentor.encoder, "backbone.")
    for key, value in segmentor.decoder.state_dict().items():
        ours, theirs = next(pair for pair in names.items() if key.startswith(pair[0]))
        state[f"decode_head.{theirs}{key.removeprefix(ours)}"] = value
    return {"meta": {"epoch": 1, "classes": ("road", "car")}, "state_dict": state}


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
