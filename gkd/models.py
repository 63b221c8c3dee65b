"""Encoders: any timm backbone behind one token interface.

teacher = Encoder.create("vit_large_patch14_dinov2.lvd142m", img_size=518, dynamic_img_size=True)
cls, patches = teacher(images)        # images (B, 3, H, W), un-normalised floats
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import NamedTuple

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Tokens(NamedTuple):
    """What an encoder says of a batch: cls (B, C) and patches (B, N, C), after the final norm."""

    cls: Tensor
    patches: Tensor


class Encoder(nn.Module):
    """A timm module (`.backbone`) that normalises its own input and returns `Tokens`.

    Token models (ViT-like): prefix tokens are set aside, the class token among them is cls; without one, the mean of
    the patches is. Convolutional models: the cells of the final map are the patches, their mean is cls.

    Args:
        backbone: timm model with `forward_features` and `num_features`.
        mean, std: pixel statistics of its pretraining, for images in [0, 1].
    """

    def __init__(
        self, backbone: nn.Module, mean: Sequence[float] = (0, 0, 0), std: Sequence[float] = (1, 1, 1)
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.dim: int = backbone.num_features
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)
        # Zeros, as published: a masked patch starts as its position alone.
        self.mask_token = nn.Parameter(torch.zeros(1, _embedding_dim(backbone)))
        # Set for pretrained weights: batch norm then keeps its running statistics in training, too. Batches of a few
        # crops, half of them masked, would spoil them, and the frozen encoder is used with them afterwards.
        self.keep_statistics = False

    @classmethod
    def create(cls, name: str, pretrained: bool = False, **options: object) -> Encoder:
        """Build an encoder by timm name, with that model's own pixel statistics.

        Args:
            name: timm model name, such as "deit_small_patch16_224.fb_in1k".
            pretrained: load the hub weights of that name (needs the network once).
            options: passed to `timm.create_model` (`img_size`, `patch_size`, `embed_dim`, ...).
        """
        check_name(name)
        try:
            backbone = timm.create_model(name, pretrained=pretrained, num_classes=0, **options)
        except OSError as error:
            raise OSError(
                f"the weights of {name} could not be fetched ({type(error).__name__}). Without a network, download "
                f"model.safetensors of https://huggingface.co/timm/{name} elsewhere and name the file as `weights`"
            ) from error
        statistics = timm.data.resolve_data_config({}, model=backbone)
        return cls(backbone, statistics["mean"], statistics["std"])

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tokens:
        """Images (B, 3, H, W), un-normalised; mask (B, N) boolean on this encoder's grid, True = replaced."""
        x = self._normalise(images)
        if mask is None:
            return self._tokens(self.backbone.forward_features(x))
        if not self.is_token_model:
            return self._tokens(self.backbone.forward_features(self._mask_pixels(x, mask)))
        handle = self.backbone.patch_embed.register_forward_hook(lambda _m, _i, out: self._mask_tokens(out, mask))
        try:
            return self._tokens(self.backbone.forward_features(x))
        finally:
            handle.remove()

    def intermediate(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Outputs of some blocks (of stages, in convolutional models), without the final norm.

        Args:
            images: (B, 3, H, W), un-normalised.
            blocks: their numbers, from 0; negative ones count from the end.

        Returns:
            One map (B, C, rows, columns) a block, on that block's own grid.
        """
        return self.backbone.forward_intermediates(
            self._normalise(images), indices=list(blocks), norm=False, output_fmt="NCHW", intermediates_only=True
        )

    def train(self, mode: bool = True) -> Encoder:
        """As in torch, but batch norm stays in eval mode where `keep_statistics` is set."""
        super().train(mode)
        if self.keep_statistics:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    @property
    def is_token_model(self) -> bool:
        """Whether patches enter as a token sequence that a learned mask token can replace."""
        return hasattr(self.backbone, "patch_embed") and hasattr(self.backbone, "num_prefix_tokens")

    def is_per_sample(self) -> bool:
        """Whether each sample's tokens depend on that sample alone and the forward pass draws no random numbers."""
        noisy = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, timm.layers.DropPath)
        return not any(m.training and isinstance(m, noisy) and getattr(m, "p", 1) != 0 for m in self.modules())

    def grid(self, size: Sequence[int]) -> tuple[int, int]:
        """Rows and columns of the patch grid for images of `size` = (H, W)."""
        height, width = size
        if self.is_token_model:
            # No int(): under torch.export sizes are symbols, and a conversion would fix them.
            return self.backbone.patch_embed.dynamic_feat_size((height, width))
        stride = self.stride
        return -(-height // stride), -(-width // stride)  # timm's convolutions pad: sizes round up

    @property
    def stride(self) -> int:
        """Pixels of the image per patch, along one axis."""
        if self.is_token_model:
            return int(self.backbone.patch_embed.patch_size[0])
        return int(self.backbone.feature_info[-1]["reduction"])

    def _normalise(self, images: Tensor) -> Tensor:
        return (images - self.mean.to(images.dtype)) / self.std.to(images.dtype)

    def _tokens(self, features: Tensor) -> Tokens:
        if features.ndim == 4:
            channels_last = getattr(self.backbone, "output_fmt", "NCHW") == "NHWC"
            axes = (1, 2) if channels_last else (2, 3)
            patches = features.flatten(*axes)  # (B, N, C) or (B, C, N)
            patches = patches if channels_last else patches.transpose(1, 2)
            return Tokens(patches.mean(dim=1), patches)
        if isinstance(getattr(self.backbone, "norm", None), nn.Identity):
            # timm keeps the final norm here where it pools by the mean (EVA02, BEiT).
            features = getattr(self.backbone, "fc_norm", nn.Identity())(features)
        patches = features[:, self.backbone.num_prefix_tokens :]  # (B, N, C)
        has_cls = getattr(self.backbone, "cls_token", None) is not None  # else the prefix is empty, or registers alone
        return Tokens(features[:, 0] if has_cls else patches.mean(dim=1), patches)

    def _mask_tokens(self, embedded: Tensor, mask: Tensor) -> Tensor:
        shape = embedded.shape[:-1]  # (B, N), or (B, rows, columns) where the model keeps the grid
        return torch.where(mask.reshape(shape).unsqueeze(-1), self.mask_token.to(embedded.dtype), embedded)

    def _mask_pixels(self, x: Tensor, mask: Tensor) -> Tensor:
        rows, columns = self.grid(x.shape[-2:])
        cells = mask.view(-1, 1, rows, columns).to(x.dtype)
        hidden = F.interpolate(cells, x.shape[-2:], mode="nearest")  # (B, 1, H, W)
        return x * (1 - hidden)  # zero after normalisation: the mean colour


def resample_tokens(tokens: Tokens, grid: tuple[int, int], target: tuple[int, int]) -> Tokens:
    """Bring patches (B, N, C) from `grid` onto the `target` grid by bilinear resampling; cls stays."""
    if tuple(grid) == tuple(target):
        return tokens
    maps = tokens.patches.transpose(1, 2).unflatten(2, tuple(grid))  # (B, C, rows, columns)
    maps = F.interpolate(maps, target, mode="bilinear", align_corners=False, antialias=target[0] < grid[0])
    return Tokens(tokens.cls, maps.flatten(2).transpose(1, 2))


def _embedding_dim(backbone: nn.Module) -> int:
    embedding = getattr(backbone, "embed_dim", None)
    return embedding if isinstance(embedding, int) else backbone.num_features


def check_name(name: str) -> None:
    """Raises ValueError, with the nearest names, where timm has no model of that name."""
    base = name.removeprefix("hf-hub:").split(".")[0]
    if name.startswith("hf-hub:") or timm.is_model(base):
        return
    near = difflib.get_close_matches(base, timm.list_models(), n=5, cutoff=0.5)
    raise ValueError(f"timm has no model named {name!r}. Nearest: {', '.join(near) or 'none'}")
