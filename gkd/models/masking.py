"""How a mask (B, N) on a backbone's patch grid, True = replaced, reaches the backbone: as tokens or as pixels.

with masked_embedding(backbone.patch_embed, token, mask): backbone.forward_features(x)      # token models
backbone.forward_features(hide_pixels(x, mask, grid))                                       # the others
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def check_mask(mask: Tensor, batch: int, grid: tuple[int, int]) -> None:
    """Raises ValueError where `mask` is not (B, N) for `batch` images and N = rows x columns of `grid`."""
    rows, columns = grid
    if mask.shape != (batch, rows * columns):
        raise ValueError(
            f"a mask of shape {tuple(mask.shape)} does not fit {batch} images on this encoder's grid of "
            f"{rows} x {columns}: expected {(batch, rows * columns)}"
        )


@contextmanager
def masked_embedding(patch_embed: nn.Module, token: Tensor, mask: Tensor) -> Iterator[None]:
    """While it lasts, `patch_embed` returns `token` (1, C) in place of the masked patches, before positions are added.

    A hook, since timm's `forward_features` takes no mask in most families.
    """

    def replace(_module: nn.Module, _images: object, embedded: Tensor | tuple[Tensor, ...]) -> object:
        if isinstance(embedded, tuple):  # tokens and their grid (XCiT)
            return replace(_module, _images, embedded[0]), *embedded[1:]
        shape = embedded.shape[:-1]  # (B, N), or (B, rows, columns) where the model keeps the grid
        return torch.where(mask.reshape(shape).unsqueeze(-1), token.to(embedded.dtype), embedded)

    handle = patch_embed.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def hide_pixels(x: Tensor, mask: Tensor, grid: tuple[int, int]) -> Tensor:
    """Normalised images (B, 3, H, W) whose masked cells are zero: the mean colour."""
    cells = mask.view(-1, 1, *grid).to(x.dtype)
    hidden = F.interpolate(cells, x.shape[-2:], mode="nearest")  # (B, 1, H, W)
    return x * (1 - hidden)
