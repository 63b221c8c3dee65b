"""What a timm backbone says of itself: its patches, prefix tokens, levels and grid. Nothing here asks for its name.

is_token_model(backbone), prefix_tokens(backbone), patch_size(backbone)
dry_grid(backbone, (height, width))      # rows and columns of its final map, found without computing anything
"""

import copy
import difflib
from collections.abc import Mapping

import timm
import torch
from torch import Tensor, nn


def check_name(name: str) -> None:
    """Raises ValueError, with the nearest names, where timm has no model of that name."""
    base = name.removeprefix("hf-hub:").split(".")[0]
    if name.startswith("hf-hub:") or timm.is_model(base):
        return
    near = difflib.get_close_matches(base, timm.list_models(), n=5, cutoff=0.5)
    raise ValueError(f"timm has no model named {name!r}. Nearest: {', '.join(near) or 'none'}")


def is_token_model(backbone: nn.Module) -> bool:
    """Whether each final patch is one token of the patch embedding, so that a learned token can stand in for it.

    A hierarchical model with a patch embedding (Swin, Hiera, PVT, MViT) merges several of its tokens into a patch.
    """
    reductions = {level["reduction"] for level in getattr(backbone, "feature_info", [])}
    return hasattr(backbone, "patch_embed") and len(reductions) < 2


def drop_conv_head(backbone: nn.Module) -> None:
    """Take from an EfficientNet the convolution behind its last stage, which widens it for the classifier.

    What is left is what timm builds for `num_features=0`, which its named models do not pass on (timm 1.0.31); the
    features of MobileNetV3 and V4 end before theirs already. Of lite0's 1280 channels 320 are left, on which decoders
    and QSD cost less.
    """
    head = getattr(backbone, "conv_head", None)
    if isinstance(head, nn.Conv2d) and hasattr(backbone, "bn2") and backbone.num_features == head.out_channels:
        backbone.num_features = backbone.head_hidden_size = head.in_channels
        backbone.conv_head, backbone.bn2 = nn.Identity(), nn.Identity()


def lacks_conv_head(backbone: nn.Module) -> bool:
    """Whether it is an EfficientNet without the layers behind its last stage."""
    return isinstance(getattr(backbone, "conv_head", None), nn.Identity)


def has_cls(backbone: nn.Module) -> bool:
    """Whether the first token is a class token (registers or a distillation token may follow it)."""
    return getattr(backbone, "cls_token", None) is not None


def prefix_tokens(backbone: nn.Module) -> int:
    """How many tokens (class, distillation, registers) stand before the patches."""
    return getattr(backbone, "num_prefix_tokens", int(has_cls(backbone)))


def patch_size(backbone: nn.Module) -> int:
    """Pixels of the image per patch, along one axis."""
    embed = getattr(backbone, "patch_embed", None)
    if is_token_model(backbone) and hasattr(embed, "feat_ratio"):
        return int(embed.feat_ratio())
    return int(backbone.feature_info[-1]["reduction"])


def dry_grid(backbone: nn.Module, size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the final map for images of `size` = (H, W), by a forward pass on torch's meta device.

    The meta device computes shapes and no values, so this costs some tenths of a second at any size, draws no random
    number and leaves the backbone alone. It sees how each model pads or cuts, which `feature_info` does not say.

    Raises ValueError where the model cannot take that size, or has no single grid of patches (CoaT, CrossViT, PiT).
    """
    try:
        with torch.no_grad():
            skeleton, images, features = _dry_run(backbone, size)
            check_features(backbone, features)
            if features.ndim == 4:
                rows, columns = features.shape[1:3] if channels_last(backbone) else features.shape[2:]
            else:  # the tokens do not say how they lie; the map of the last stage does
                (last,) = skeleton.forward_intermediates(
                    images, indices=[-1], norm=False, output_fmt="NCHW", intermediates_only=True
                )
                rows, columns = last.shape[2:]
    except (RuntimeError, AssertionError) as error:
        raise size_error(backbone, size, error) from error
    if features.ndim == 3 and features.shape[1] - prefix_tokens(backbone) != rows * columns:
        found = features.shape[1] - prefix_tokens(backbone)
        raise ValueError(f"{type(backbone).__name__} returns {found} patches for a grid of {rows} x {columns}")
    return rows, columns


def _dry_run(backbone: nn.Module, size: tuple[int, int]) -> tuple[nn.Module, Tensor, object]:
    """A copy on the meta device, an image of `size` there, and what `forward_features` makes of it."""
    tensors = [*backbone.parameters(), *backbone.buffers()]
    shapes = {id(tensor): torch.empty_like(tensor, device="meta") for tensor in tensors}
    skeleton = copy.deepcopy(backbone, shapes).eval()  # deepcopy takes the meta tensors in place of the real ones
    dtype = next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)
    images = torch.zeros(1, 3, *size, dtype=dtype, device="meta")
    # The class's own method: what stands in for it in an instance (compiled, say) holds the real tensors.
    return skeleton, images, type(skeleton).forward_features(skeleton, images)


def own_size(backbone: nn.Module, options: Mapping[str, object]) -> tuple[int, int]:
    """(H, W) of the images that a model was built for, with these options of `timm.create_model`."""
    config = getattr(backbone, "pretrained_cfg", None) or {}
    size = options.get("img_size") or config.get("input_size", (3, 224, 224))[-2:]
    return (size, size) if isinstance(size, int) else tuple(size)


@torch.no_grad()
def takes(backbone: nn.Module, size: tuple[int, int]) -> bool:
    """Whether the forward pass runs on images of `size` = (H, W), as far as the meta device can tell."""
    try:
        _dry_run(backbone, size)
    except Exception:  # whatever a model, or the meta device, raises
        return False
    return True


def channels_last(backbone: nn.Module) -> bool:
    """Whether maps come as (B, rows, columns, C)."""
    return getattr(backbone, "output_fmt", "NCHW") == "NHWC"


def check_features(backbone: nn.Module, features: object) -> None:
    """Raises ValueError where `forward_features` returned no patches, or several grids of them."""
    name = type(backbone).__name__
    if not isinstance(features, Tensor):
        raise ValueError(f"{name} returns several token grids, not one; choose a model with a single final grid")
    if features.ndim == 3 and features.shape[1] <= prefix_tokens(backbone):
        raise ValueError(f"{name} returns its class token alone, without patches; choose another model")


def size_error(backbone: nn.Module, size: tuple[int, int], reason: object) -> ValueError:
    """The error for images of `size` = (H, W) that a backbone refuses."""
    return ValueError(
        f"{type(backbone).__name__} cannot take images of {size[0]} x {size[1]} pixels: {reason} Resize or pad them "
        "to whole patches, or build the encoder for them (options `img_size`, or `dynamic_img_size: true` for a ViT)"
    )


def blocks_of(module: nn.Module) -> list[nn.Module]:
    """The blocks of a timm model, in the order of their names: the members of what it calls `blocks`, in any stage.

    Empty where there are none (ResNet, EfficientNet, whose `blocks` are stages of mixed layers).
    """
    lists = (m for name, m in module.named_modules() if name.rpartition(".")[2] == "blocks")
    members = [member for group in lists for member in group.children()]
    return [member for member in members if not isinstance(member, nn.Sequential | nn.ModuleList)]
