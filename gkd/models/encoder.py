"""Encoders: any timm backbone behind one token interface.

teacher = Encoder.create("vit_large_patch14_dinov2.lvd142m", img_size=518, dynamic_img_size=True)
cls, patches = teacher(images)        # images (B, 3, H, W), un-normalised floats
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import NamedTuple

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gkd.models import backbones
from gkd.models.backbones import check_name
from gkd.models.masking import check_mask, hide_pixels, masked_embedding


class Tokens(NamedTuple):
    """What an encoder says of a batch: cls (B, C) and patches (B, N, C), after the final norm."""

    cls: Tensor
    patches: Tensor


class Encoder(nn.Module):
    """A timm module (`.backbone`) that normalises its own input and returns `Tokens`.

    Prefix tokens are set aside, the class token among them is cls; without one, the mean of the patches is. In models
    that return a map (convolutional, Swin), its cells are the patches, row by row. docs/encoders.md says more.

    Args:
        backbone: timm model with `forward_features`, `num_features` and `feature_info`.
        mean, std: pixel statistics of its pretraining, for images in [0, 1].
        enlarge: the backbone sees images that many times as large (bilinear), on as much finer a grid: for one that
            knows things larger than they are in small photos. It divides the stride of the backbone.
    """

    def __init__(
        self, backbone: nn.Module, mean: Sequence[float] = (0, 0, 0), std: Sequence[float] = (1, 1, 1), enlarge: int = 1
    ) -> None:
        super().__init__()
        stride = backbones.patch_size(backbone)
        if enlarge not in range(1, stride + 1) or stride % enlarge:
            raise ValueError(f"enlarge={enlarge}: expected a whole number that divides the stride of {stride} pixels")
        self.enlarge = int(enlarge)
        self.backbone = backbone
        self.dim: int = backbone.num_features
        config = getattr(backbone, "pretrained_cfg", None) or {}
        self.name: str = config.get("architecture") or type(backbone).__name__
        self.options: dict[str, object] | None = None  # of `create`, where they are known
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)
        embedding = getattr(backbone, "embed_dim", None)  # of the patches, where it differs from the output (SAM)
        # Zeros, as published: a masked patch starts as its position alone.
        self.mask_token = nn.Parameter(torch.zeros(1, embedding if isinstance(embedding, int) else self.dim))
        # Set for pretrained weights: batch norm then keeps its running statistics in training, too. Batches of a few
        # crops, half of them masked, would spoil them, and the frozen encoder is used with them afterwards.
        self.keep_statistics = False
        self._grids: dict[tuple[int, int], tuple[int, int]] = {}  # of the image sizes that were asked for

    @classmethod
    def create(cls, name: str, *, enlarge: int = 1, **options: object) -> Encoder:
        """Build an encoder by timm name, with that model's own pixel statistics and random weights.

        `options` are those of `timm.create_model`. Weights come through `gkd.weights`, which resamples them as
        published; timm would do it otherwise. Raises ValueError where timm has no such model, an option has timm read
        weights, or `enlarge` does not fit.
        """
        check_name(name)
        reading = sorted({"pretrained", "checkpoint_path"} & options.keys())
        if reading:
            raise ValueError(f"{name}: {reading[0]} is no option of an encoder: `weights` says where weights come from")
        backbone = timm.create_model(name, num_classes=0, **options)
        backbones.drop_conv_head(backbone)
        statistics = timm.data.resolve_data_config({}, model=backbone)
        encoder = cls(backbone, statistics["mean"], statistics["std"], enlarge)
        encoder.name, encoder.options = name, options if enlarge == 1 else {**options, "enlarge": enlarge}
        return encoder

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tokens:
        """Images (B, 3, H, W), un-normalised; mask (B, N) boolean on this encoder's grid, True = replaced.

        A token model gets the mask token in place of the patch embedding, before positions are added; the others get
        images whose masked cells have the mean colour.

        Raises:
            ValueError: the backbone cannot take that size, or the mask has another number of patches.
            TypeError: the images are no floats.
        """
        return self._tokens(self._features(images, mask))

    def final_map(self, images: Tensor) -> Tensor:
        """The patches of `forward` as a map (B, C, rows, columns), for decoders.

        Unlike `grid`, it works for sizes that are still open, as in an export, wherever the model returns a map.
        """
        features = self._features(images)
        if features.ndim == 4:
            return features.movedim(-1, 1) if backbones.channels_last(self.backbone) else features
        return self._tokens(features).patches.transpose(1, 2).unflatten(2, self.grid(images.shape[-2:]))

    def intermediate(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Outputs of some blocks (of stages, in hierarchical models), without the final norm and prefix tokens.

        One map (B, C, rows, columns) a block, in the order of `blocks` (from 0; negative ones count from the end), on
        that block's own grid; `intermediate_dims` says its C and stride.
        """
        wanted = self._block_numbers(blocks)
        numbers = sorted(set(wanted))  # timm returns each once, in the order of the model
        with self._explained(images):
            maps = self.backbone.forward_intermediates(
                self._prepared(images), indices=numbers, norm=False, output_fmt="NCHW", intermediates_only=True
            )
        return [maps[numbers.index(number)] for number in wanted]

    def intermediate_dims(self, blocks: Sequence[int]) -> list[tuple[int, int]]:
        """Channels and stride in pixels of the maps that `intermediate` returns for `blocks`."""
        levels = [self.backbone.feature_info[number] for number in self._block_numbers(blocks)]
        return [(int(level["num_chs"]), int(level["reduction"]) // self.enlarge) for level in levels]

    def forward_with_blocks(self, images: Tensor, blocks: Sequence[int]) -> tuple[Tokens, dict[int, Tensor]]:
        """The tokens and, from the same pass, outputs of some blocks as `intermediate` gives them, by number from 0."""
        wanted = sorted(set(self._block_numbers(blocks)))
        with self._explained(images):
            final, maps = self.backbone.forward_intermediates(
                self._prepared(images), indices=wanted, norm=False, output_fmt="NCHW"
            )
        return self._tokens(final), dict(zip(wanted, maps, strict=True))

    def train(self, mode: bool = True) -> Encoder:
        """As in torch, but batch norm stays in eval mode where `keep_statistics` is set."""
        super().train(mode)
        if self.keep_statistics:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def is_per_sample(self) -> bool:
        """Whether each sample's tokens depend on that sample alone and the forward pass draws no random numbers."""
        noisy = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, timm.layers.DropPath)
        return not any(m.training and isinstance(m, noisy) and getattr(m, "p", 1) != 0 for m in self.modules())

    def grid(self, size: Sequence[int]) -> tuple[int, int]:
        """Rows and columns of the patch grid for images of `size` = (H, W): always those of the forward pass.

        Raises ValueError where they are smaller than a patch, or the backbone cannot take them.
        """
        height, width = (length * self.enlarge for length in self._checked(size))
        embed = getattr(self.backbone, "patch_embed", None)
        if backbones.is_token_model(self.backbone) and hasattr(embed, "dynamic_feat_size"):
            # No int(): under torch.export sizes are symbols, and a conversion would fix them.
            return embed.dynamic_feat_size((height, width))
        if (height, width) not in self._grids:
            self._grids[height, width] = backbones.dry_grid(self.backbone, (height, width))
        return self._grids[height, width]

    @property
    def stride(self) -> int:
        """Pixels of the image per patch, along one axis."""
        return backbones.patch_size(self.backbone) // self.enlarge

    @cached_property
    def fixed_size(self) -> bool:
        """Whether it refuses some sizes of whole patches, or all but one, so that windows are padded to one size.

        By what timm's patch embedding says of itself, else by trying (Hiera, LeViT, MaxViT and more do not say so).
        """
        embed = getattr(self.backbone, "patch_embed", None)
        if hasattr(embed, "strict_img_size"):
            return embed.img_size is not None and bool(embed.strict_img_size)
        return self._refuses((3 * self.stride, 5 * self.stride)) or self._refuses((4 * self.stride, 6 * self.stride))

    def _prepared(self, images: Tensor) -> Tensor:
        """What the backbone sees: normalised, and enlarged."""
        if not images.is_floating_point():
            raise TypeError(f"images: expected floats from 0 to 1, found {images.dtype}; divide photos by 255")
        images = (images - self.mean.to(images.dtype)) / self.std.to(images.dtype)
        if self.enlarge == 1:
            return images
        return F.interpolate(images, scale_factor=self.enlarge, mode="bilinear", align_corners=False)

    def _features(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        x, masking = self._prepared(images), nullcontext()
        if mask is not None:
            grid = self.grid(images.shape[-2:])
            check_mask(mask, len(x), grid)
            if backbones.is_token_model(self.backbone):
                masking = masked_embedding(self.backbone.patch_embed, self.mask_token, mask)
            else:
                x = hide_pixels(x, mask, grid)
        with self._explained(images), masking:
            features = self.backbone.forward_features(x)
        backbones.check_features(self.backbone, features)
        return features

    @contextmanager
    def _explained(self, images: Tensor) -> Iterator[None]:
        size = self._checked(images.shape[-2:])
        try:
            yield
        except AssertionError as error:  # timm's word on sizes
            raise backbones.size_error(self.backbone, size, error) from error
        except RuntimeError as error:  # torch's word, where the model has none (Hiera, LeViT)
            if self._refuses(size):
                raise backbones.size_error(self.backbone, size, error) from error
            raise

    def _refuses(self, size: tuple[int, int]) -> bool:
        """Whether the backbone cannot take images of `size`, though it can of its own."""
        enlarged, own = (side * self.enlarge for side in size), backbones.own_size(self.backbone, self.options or {})
        return not backbones.takes(self.backbone, tuple(enlarged)) and backbones.takes(self.backbone, own)

    def _tokens(self, features: Tensor) -> Tokens:
        if features.ndim == 4:
            channels_last = backbones.channels_last(self.backbone)
            axes = (1, 2) if channels_last else (2, 3)
            patches = features.flatten(*axes)  # (B, N, C) or (B, C, N)
            patches = patches if channels_last else patches.transpose(1, 2)
            return Tokens(patches.mean(dim=1), patches)
        if isinstance(getattr(self.backbone, "norm", None), nn.Identity):
            # timm keeps the final norm here where it pools by the mean (EVA02, BEiT).
            features = getattr(self.backbone, "fc_norm", nn.Identity())(features)
        patches = features[:, backbones.prefix_tokens(self.backbone) :]  # (B, N, C)
        return Tokens(features[:, 0] if backbones.has_cls(self.backbone) else patches.mean(dim=1), patches)

    def _checked(self, size: Sequence[int]) -> tuple[int, int]:
        height, width = size
        if min(height, width) < self.stride:
            reason = f"a patch has {self.stride} x {self.stride} pixels."
            raise backbones.size_error(self.backbone, (height, width), reason)
        return height, width

    def _block_numbers(self, blocks: Sequence[int]) -> list[int]:
        count = len(self.backbone.feature_info)
        for block in blocks:
            if not -count <= block < count:
                raise ValueError(f"{type(self.backbone).__name__} has blocks 0 to {count - 1}, no block {block}")
        return [block % count for block in blocks]


def resample_patches(patches: Tensor, grid: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """Patches (B, N, C) on `grid` -> (B, M, C) on the `target` grid, by bilinear resampling."""
    if tuple(grid) == tuple(target):
        return patches
    maps = patches.transpose(1, 2).unflatten(2, tuple(grid))  # (B, C, rows, columns)
    coarser = target[0] < grid[0] or target[1] < grid[1]
    wide = maps.to(torch.promote_types(maps.dtype, torch.float32))  # torch 2.14 antialiases no bf16 on a CPU
    wide = F.interpolate(wide, target, mode="bilinear", align_corners=False, antialias=coarser)
    return wide.to(maps.dtype).flatten(2).transpose(1, 2)
