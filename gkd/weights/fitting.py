"""A backbone's weights brought into the names and sizes of a timm model.

state, aside = fit(found.parts["backbone"], encoder.backbone)
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from gkd.weights.matching import LAYER_SCALE
from gkd.weights.resampling import RESAMPLED, resample_bicubic
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


def fit(state: Mapping[str, Tensor], backbone: nn.Module) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """Bring a backbone's weights into the names and sizes of a timm model, for strict loading.

    Patch and position embeddings are resampled as published (gkd.weights.resampling); timm's `checkpoint_filter_fn` of
    the model's module changes the names, and tables of relative positions. Beyond that: the row of a distillation token
    that the model lacks leaves the position embedding; LayerScale that the file lacks stays at one, where the model
    starts it there (as the paper's DINO students do).

    Args:
        state: weights under their maker's names.
        backbone: the timm model.

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


def _set_aside(keys: Iterable[str], own: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, list[str]]:
    classifier = (getattr(backbone, "pretrained_cfg", None) or {}).get("classifier") or ()
    names = (classifier,) if isinstance(classifier, str) else classifier
    patterns = dict(ALLOWED)
    patterns["classifier"] = "|".join([ALLOWED["classifier"], *(rf"{re.escape(n)}\.(weight|bias)" for n in names)])
    found: dict[str, list[str]] = {}
    for key in dict.fromkeys(keys):
        name = next((name for name, pattern in patterns.items() if re.fullmatch(pattern, key)), None)
        if name is not None and key not in own:
            found.setdefault(name, []).append(key)
    return found
