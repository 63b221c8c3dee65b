"""A backbone's weights brought into the names and sizes of a timm model.

state, aside = fit(found.parts["backbone"], encoder.backbone)
"""

import inspect
import math
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gkd.models.backbones import lacks_conv_head
from gkd.weights.matching import LAYER_SCALE
from gkd.weights.tensors import CheckpointError

# What may be set aside where the model has no such weights; timm adds the names of the model's own classifier.
ALLOWED = {
    "classifier": r"(head|head_dist|fc)\.(weight|bias)",
    "distillation token": r"dist_token",
    "mask token": r"mask_token",
    "rope buffers": r"(.*\.)?rope\..*|rope_embed\.periods",
    "attention pooling": r"attn_pool\..*",
    "MAE decoder": r"decoder_.*",
}
RESAMPLED = ("pos_embed", "patch_embed.proj.weight")
MOST_PREFIXES = 16  # class, distillation and register tokens that may have a position of their own


def fit(state: Mapping[str, Tensor], backbone: nn.Module) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """Bring a backbone's weights under their maker's names into those and the sizes of a timm model.

    Patch and position embeddings are resampled as published; timm's `checkpoint_filter_fn` of the model's module
    changes the names, and tables of relative positions. Beyond that: the row of a distillation token that the model
    lacks leaves the position embedding; LayerScale that the file lacks stays at one, where the model starts it there
    (as the paper's DINO students do).

    Returns:
        The state, and the keys that were set aside, by their name in ALLOWED. Keys that do not fit otherwise are left
        in, for `check_state` to name.
    """
    own = backbone.state_dict()
    given = dict(state)
    if "dist_token" in given and "dist_token" not in own and "pos_embed" in given:
        rows = given["pos_embed"]  # (1, 2 + N, C): class token, distillation token, patches
        given["pos_embed"] = torch.cat([rows[:, :1], rows[:, 2:]], dim=1)
    given = resample_bicubic(given, backbone)
    # Kept from timm, which takes a grid with the native number of tokens for the native grid.
    fits = "pos_embed" in given and "pos_embed" in own and given["pos_embed"].shape == own["pos_embed"].shape
    held = {"pos_embed": given.pop("pos_embed")} if fits else {}
    if "register_tokens" in given and "mask_token" not in given:
        given["mask_token"] = given["register_tokens"][:, 0]  # by which timm knows DINOv2's names; it drops it
    fitted = _through_timm(given, backbone) | held
    fitted |= _lost_biases(given, fitted)
    if "fc_norm.weight" in own and "norm.weight" not in own and "fc_norm.weight" not in fitted:
        # The same layer: timm keeps the final norm under this name where it pools by the mean (EVA02, BEiT).
        fitted = {re.sub(r"^norm\.", "fc_norm.", key): value for key, value in fitted.items()}
    aside = _set_aside([*state, *fitted], own, backbone)
    dropped = {key for keys in aside.values() for key in keys}
    fitted = {key: value for key, value in fitted.items() if key not in dropped}
    if not any(LAYER_SCALE.search(key) for key in fitted):
        fitted |= {key: value for key, value in own.items() if LAYER_SCALE.search(key) and bool((value == 1).all())}
    return fitted, aside


def _through_timm(state: dict[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    convert = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
    if convert is None:  # timm's names are the only ones for this model
        return state
    deit3 = "adapt_layer_scale" in inspect.signature(convert).parameters
    try:
        with redirect_stdout(None):  # timm prints a line for each block without a bias
            found = convert(dict(state), backbone, **({"adapt_layer_scale": True} if deit3 else {}))
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError, AssertionError):
        return state  # another architecture's weights: strict loading names what differs
    sizes = {value.numel() for value in state.values()}
    for key in RESAMPLED:
        if key in found and key not in state and found[key].numel() not in sizes:
            raise CheckpointError(
                f"{key} has another name in the file and another size than the model's, where timm resamples otherwise "
                "than published: build the encoder at the file's own size (`img_size`, `patch_size`)"
            )
    return found


def _lost_biases(given: Mapping[str, Tensor], fitted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Biases of attention that timm 1.0.31 drops where an EVA or DINOv3 has none, for `check_state` to name; of zeros,
    which say nothing, none is."""
    lost = {}
    for key, value in given.items():
        if key.endswith("attn.qkv.bias") and bool(value.any()):
            block = key[key.rfind("blocks.") :].removesuffix("qkv.bias")  # without a prefix that timm takes off
            weight, *biases = (block + name for name in ("qkv.weight", "qkv.bias", "q_bias", "q_proj.bias"))
            there = any(found.endswith(weight) for found in fitted)  # else timm numbers the blocks anew (MViT v2)
            if there and not any(found.endswith(tuple(biases)) for found in fitted):
                lost[key] = value
    return lost


def _set_aside(keys: Iterable[str], own: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, list[str]]:
    classifier = (getattr(backbone, "pretrained_cfg", None) or {}).get("classifier") or ()
    names = (classifier,) if isinstance(classifier, str) else classifier
    of_timm = "|".join(rf"{re.escape(name)}\.(weight|bias)" for name in names)
    patterns = ALLOWED | {"classifier": f"{ALLOWED['classifier']}|{of_timm}"}
    if lacks_conv_head(backbone):
        patterns["convolution before the classifier"] = r"conv_head\.weight|bn2\.\w+"
    found: dict[str, list[str]] = {}
    for key in dict.fromkeys(keys):
        name = next((name for name, pattern in patterns.items() if re.fullmatch(pattern, key)), None)
        if name is not None and key not in own:
            found.setdefault(name, []).append(key)
    return found


def resample_bicubic(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """A copy of `state` whose `pos_embed` and `patch_embed.proj.weight` fit the grid and patch size of `model`.

    Plain bicubic interpolation (a = -0.75, half-pixel centres), without antialiasing and without a correction of the
    kernels' scale, for both. timm's own loading antialiases positions and fits kernels by pseudo-inverse (FlexiViT).
    Other tensors, and what fits already, pass as they are. Rows of prefix tokens (class, distillation) are kept as many
    as `state` has: strict loading then names a surplus. `model` is a timm model.

    Raises CheckpointError where the grid of a position embedding is not square, so its rows and columns are unknown.
    """
    own = model.state_dict()
    result = dict(state)
    for key, value in state.items():
        if key not in RESAMPLED or key not in own or value.ndim != own[key].ndim:
            continue
        if key == "pos_embed" and value.ndim == 3:
            grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
            if grid is not None:
                result[key] = _positions(value, tuple(grid), own[key].shape[1], key)
        elif value.shape == own[key].shape:
            continue
        elif key == "pos_embed":  # (1, rows, columns, C)
            result[key] = _bicubic(value.permute(0, 3, 1, 2), own[key].shape[1:3]).permute(0, 2, 3, 1)
        elif value.ndim == 4:  # (C, 3, p, p)
            result[key] = _bicubic(value, own[key].shape[2:])
    return result


def _positions(positions: Tensor, grid: tuple[int, int], wanted: int, key: str) -> Tensor:
    """(1, prefix + side * side, C) -> (1, prefix + rows * columns, C), where the model has `wanted` rows in all.

    A file says no more than its number of rows. Published grids are square, so as many rows as a wide grid has, where
    they make a square one, are taken for a square one.
    """
    side = math.isqrt(positions.shape[1])
    prefix = positions.shape[1] - side * side
    fits = positions.shape[1] == wanted and prefix != wanted - math.prod(grid)
    if fits or grid == (side, side):
        return positions
    if prefix > MOST_PREFIXES:
        raise CheckpointError(
            f"{key} has {positions.shape[1]} rows: no square grid with up to {MOST_PREFIXES} prefix tokens, so its "
            "rows and columns are unknown; resample it before"
        )
    maps = _bicubic(positions[:, prefix:].unflatten(1, (side, side)).permute(0, 3, 1, 2), grid)  # (1, C, *grid)
    return torch.cat([positions[:, :prefix], maps.flatten(2).transpose(1, 2)], dim=1)


def _bicubic(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, h, w) -> (B, C, *size) in at least fp32, in the type that came in."""
    wide = maps.to(torch.promote_types(maps.dtype, torch.float32))
    return F.interpolate(wide, tuple(size), mode="bicubic", align_corners=False, antialias=False).to(maps.dtype)
