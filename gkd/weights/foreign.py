"""Weights that others wrote: .pth files read safely, recognised by their keys, and fitted to a timm model.

found = recognise(read_pickle(path), str(path))        # found.parts: backbone, decoder, objective
state, aside = fit(found.parts["backbone"], encoder.backbone)
"""

from __future__ import annotations

import argparse
import inspect
import pickle
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from timm.models import clean_state_dict
from torch import Tensor, nn

from gkd.weights import mmdet
from gkd.weights.resampling import resample_bicubic
from gkd.weights.strict import LAYER_SCALE, CheckpointError

# Where the weights lie in a file that holds more, best first: the paper's authors store an unused `model_ema` as well.
_WRAPPERS = ("model", "state_dict", "teacher", "module", "model_ema")

# What may be set aside where the model has no such weights; timm adds the names of the model's own classifier.
ALLOWED = {
    "classifier": r"(head|head_dist|fc)\.(weight|bias)",
    "distillation token": r"dist_token",
    "mask token": r"mask_token",
    "rope buffers": r"(.*\.)?rope\..*|rope_embed\.periods",
    "attention pooling": r"attn_pool\..*",
    "MAE decoder": r"decoder_.*",
}


class Layout(NamedTuple):
    """A kind of file: `sign` is the prefix that tells it, `parts` says which prefix is which part ("" = set aside)."""

    what: str
    sign: str
    parts: dict[str, str]


LAYOUTS = (
    Layout(
        "a distillation checkpoint of the GKD authors",
        "student.backbone.",
        {
            "student.backbone.": "backbone",
            "fea_head.": "objective",
            "patch_head.": "objective",
            "token_head.": "objective",
            "mask_token": "encoder",
            "teacher.": "",
        },
    ),
    Layout(
        "an mmseg segmentor",
        "decode_head.",
        {"backbone.": "backbone", "decode_head.": "decoder", "auxiliary_head.": "", "data_preprocessor.": ""},
    ),
    Layout("a backbone with its pretraining head, as DINO's", "backbone.", {"backbone.": "backbone", "head.": ""}),
)
# mmseg's linear head in the names of gkd.segmentation.decoders.LinearDecoder.
_LINEAR_HEAD = {"bn.": "layers.0.", "conv_seg.": "layers.1."}


class Foreign(NamedTuple):
    """What a file was taken for, its weights by part, and what was set aside, as text.

    Parts are backbone, decoder, objective (its keys whole, as `fea_head.proj_q.0.weight`), and encoder: the mask token.
    """

    what: str
    parts: dict[str, dict[str, Tensor]]
    aside: list[str]


def read_pickle(path: Path) -> Any:
    """Content of a .pth or .pt file: tensors, plain values and argparse.Namespace; nothing that could run code.

    Raises:
        CheckpointError: the file is torn, or its pickle asks for other objects.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        name = re.search(r"GLOBAL ([\w.]+)", str(error))
        if name is None:
            raise CheckpointError(_torn(path, "it cannot be read as one")) from error
        held = name[1].rstrip(".")
        package = held.split(".")[0]
        needs = "" if package in sys.stdlib_module_names else f" and {package} is installed"
        raise CheckpointError(
            f"{path} was refused: besides weights it holds {held}, and a pickle with objects can run "
            "code as soon as it is read. Get a file with weights alone; or, if you trust its maker, write one where "
            f"such code may run{needs}:\n"
            f"  python -c \"import torch; c = torch.load('{path.name}', map_location='cpu', weights_only=False); "
            "torch.save({k: c[k] for k in ('model', 'state_dict', 'teacher') if k in c}, 'weights_only.pth')\""
        ) from error
    except PermissionError:
        raise
    except (RuntimeError, EOFError, OSError) as error:
        # Seeking beyond the end of a torn zip is an OSError without any more to say.
        why = str(error).split(". ")[0] if isinstance(error, RuntimeError) else "it ends early"
        raise CheckpointError(_torn(path, why)) from error


def _torn(path: Path, why: str) -> str:
    return f"{path} is not a whole file of torch.save ({why}); fetch or write it again"


def recognise(content: Any, where: str) -> Foreign:
    """Tell a foreign file by its keys: one of LAYOUTS, or a bare backbone.

    Args:
        content: of the file; the weights may lie under `model`, `state_dict`, `teacher`, `module` or `model_ema`.
        where: its name, for messages.

    Raises:
        CheckpointError: there are no weights in it, or keys that belong to no known part.
    """
    state, aside = _unwrap(content, where)
    layout = next((item for item in LAYOUTS if any(key.startswith(item.sign) for key in state)), None)
    if layout is None:
        what = "a backbone in the names of " + ("DINOv2 or EVA" if "mask_token" in state else "timm")
        return Foreign(what, {"backbone": _flat_blocks(state)}, aside)
    parts: dict[str, dict[str, Tensor]] = {}
    counts: dict[str, int] = {}
    unknown = []
    for key, value in state.items():
        prefix = next((p for p in layout.parts if key.startswith(p)), None)
        if prefix is None:
            unknown.append(key)
        elif part := layout.parts[prefix]:
            whole = part in ("objective", "encoder")
            parts.setdefault(part, {})[key if whole else key.removeprefix(prefix)] = value
        else:
            counts[prefix] = counts.get(prefix, 0) + 1
    if unknown or "backbone" not in parts:
        raise CheckpointError(
            f"{where} looks like {layout.what}, but "
            + (f"these keys belong to no part of one: {', '.join(unknown[:5])}" if unknown else "has no backbone.*")
            + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        )
    what = layout.what
    if layout is LAYOUTS[0] and "mask_token" in parts["backbone"]:
        parts["encoder"] = {"mask_token": parts["backbone"]["mask_token"]}  # trained in distillation, so part of it
    parts["backbone"] = _flat_blocks(parts["backbone"])
    if "decoder" in parts:
        what, parts["decoder"] = _decode_head(parts["decoder"], what)
    return Foreign(what, parts, [f"{prefix}* ({n} keys)" for prefix, n in counts.items()] + aside)


def _unwrap(content: Any, where: str) -> tuple[dict[str, Tensor], list[str]]:
    aside = []
    if isinstance(content, Mapping) and not any(isinstance(value, Tensor) for value in content.values()):
        inner = next((key for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            held = ", ".join(map(str, list(content)[:5])) or "nothing"
            raise CheckpointError(f"{where} has its weights under none of {', '.join(_WRAPPERS)}; it holds {held}")
        aside = [key for key in content if key != inner]
        content = content[inner]
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise CheckpointError(f"{where} holds no weights (expected a state dict, found {type(content).__name__})")
    # Without the `module.` and `_orig_mod.` of data parallel and compiled models.
    return clean_state_dict(tensors), aside + [key for key in content if key not in tensors]


def _flat_blocks(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """DINOv2 in chunks (blocks.1.6.*: chunk 1, block 6) under the names that it has without (blocks.6.*)."""
    chunked = {key: match for key in state if (match := re.match(r"blocks\.(\d+)\.(\d+)\.(.+)", key))}
    blocks = {(match[1], match[2]) for match in chunked.values()}
    # The blocks of a convolutional model are numbered anew in each stage, and there is no class token.
    if "cls_token" not in state or len({block for _, block in blocks}) < len(blocks):
        return dict(state)
    return {f"blocks.{chunked[k][2]}.{chunked[k][3]}" if k in chunked else k: v for k, v in state.items()}


def _decode_head(head: Mapping[str, Tensor], what: str) -> tuple[str, dict[str, Tensor]]:
    """What the file is, said more closely, and the weights below `decode_head.` in the names of our decoders."""
    if mmdet.is_mask2former(head):
        return f"{what} with mmdet's Mask2Former head", mmdet.in_our_names(head)
    names = _LINEAR_HEAD.items()
    return what, {
        next((ours + key.removeprefix(theirs) for theirs, ours in names if key.startswith(theirs)), key): value
        for key, value in head.items()
    }


def fit(
    state: Mapping[str, Tensor], backbone: nn.Module, resample: str = "timm"
) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """Bring a backbone's weights into the names and sizes of a timm model, for strict loading.

    Renaming and the resampling of patch and position embeddings are timm's own (`checkpoint_filter_fn` of the model's
    module). Beyond that: the row of a distillation token that the model lacks leaves the position embedding; LayerScale
    that the file lacks stays at one, where the model starts it there (as the paper's DINO students do).

    Args:
        state: weights under their maker's names.
        backbone: the timm model.
        resample: "timm", or "bicubic" for the published code's plain bicubic.

    Returns:
        The state, and the keys that were set aside, by their name in ALLOWED. Keys that do not fit otherwise are left
        in, for `load_state` to name.
    """
    own = backbone.state_dict()
    given = dict(state)
    if "dist_token" in given and "dist_token" not in own and "pos_embed" in given:
        rows = given["pos_embed"]  # (1, 2 + N, C): class token, distillation token, patches
        given["pos_embed"] = torch.cat([rows[:, :1], rows[:, 2:]], dim=1)
    held = {}
    if resample == "bicubic":
        before, given = given, _bicubic(given, backbone)
        position = given.get("pos_embed")
        if position is not before.get("pos_embed") and position.shape == own["pos_embed"].shape:
            # Kept from timm, which would take a grid with the native number of tokens for the native grid.
            held = {"pos_embed": given.pop("pos_embed")}
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


def _bicubic(state: dict[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    try:
        return resample_bicubic(state, backbone)
    except ValueError as error:
        raise CheckpointError(f"resample: bicubic: {error}") from error


def _through_timm(state: dict[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    convert = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
    if convert is None:  # timm's names are the only ones for this model
        return state
    deit3 = "adapt_layer_scale" in inspect.signature(convert).parameters
    try:
        return convert(dict(state), backbone, **({"adapt_layer_scale": True} if deit3 else {}))
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError, AssertionError):
        return state  # another architecture's weights: strict loading names what differs


def _set_aside(keys: list[str], own: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, list[str]]:
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
