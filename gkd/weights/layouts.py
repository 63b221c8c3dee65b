"""Files that others wrote, told by their keys: which layout it is, and which of its weights belong to which part.

found = recognise(read_pickle(path), str(path))        # found.parts: backbone, decoder, objective
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from timm.models import clean_state_dict
from torch import Tensor

from gkd.weights import mmdet
from gkd.weights.tensors import WRAPPERS, CheckpointError, some


class Layout(NamedTuple):
    """A kind of file: `sign` is the prefix that tells it, `parts` says which prefix is which part ("" = set aside)."""

    what: str
    sign: str
    parts: dict[str, str]


_HEADS = dict.fromkeys(("fea_head.", "patch_head.", "token_head."), "objective")
_AUTHORS = {"student.backbone.": "backbone", "mask_token": "encoder", "teacher.": ""} | _HEADS
_MMSEG = {"backbone.": "backbone", "decode_head.": "decoder", "auxiliary_head.": "", "data_preprocessor.": ""}
LAYOUTS = (
    Layout("a distillation checkpoint of the GKD authors", "student.backbone.", _AUTHORS),
    Layout("an mmseg segmentor", "decode_head.", _MMSEG),
    Layout(
        "an encoder of ours, or a backbone with its pretraining head, as DINO's",
        "backbone.",
        {"backbone.": "backbone", "mask_token": "encoder"} | dict.fromkeys(("head.", "dino_head.", "ibot_head."), ""),
    ),
)


class Found(NamedTuple):
    """What a file was taken for, its weights by part, and what was set aside, as text.

    Parts are backbone, decoder, objective (its keys whole, as `fea_head.proj_q.0.weight`), and encoder: the mask token.
    """

    what: str
    parts: dict[str, dict[str, Tensor]]
    aside: list[str]


def recognise(content: Any, where: str) -> Found:
    """Tell a file of others by its content: one of LAYOUTS, or a bare backbone. `where` names it in messages.

    Raises CheckpointError where there are no weights in it, or keys that belong to no known part.
    """
    state, aside = _unwrap(content, where)
    layout = next((item for item in LAYOUTS if any(key.startswith(item.sign) for key in state)), None)
    if layout is None:
        if foreign := next((key for key in state if ".patch_embeddings." in f".{key}"), None):
            raise CheckpointError(f"{where} has the names of transformers ({foreign}); take timm's file of the model")
        whose = "DINOv2 or EVA" if "mask_token" in state else "timm"
        whose = "MAE" if any(key.startswith("decoder_") for key in state) else whose
        return Found(f"a backbone in the names of {whose}", {"backbone": _flat_blocks(state)}, aside)
    parts: dict[str, dict[str, Tensor]] = {}
    left: Counter[str] = Counter()
    unknown = []
    for key, value in state.items():
        prefix = next((p for p in layout.parts if key.startswith(p)), None)
        if prefix is None:
            unknown.append(key)
        elif part := layout.parts[prefix]:
            whole = part in ("objective", "encoder")
            parts.setdefault(part, {})[key if whole else key.removeprefix(prefix)] = value
        else:
            left[prefix] += 1
    if unknown or "backbone" not in parts:
        fault = f"these keys belong to no part of one: {some(unknown, 5)}" if unknown else "has no backbone.*"
        raise CheckpointError(f"{where} looks like {layout.what}, but {fault}")
    what = layout.what
    if layout.parts is _AUTHORS and "mask_token" in parts["backbone"]:
        parts["encoder"] = {"mask_token": parts["backbone"]["mask_token"]}  # trained in distillation, so part of it
    parts["backbone"] = _flat_blocks(parts["backbone"])
    head = parts.get("decoder", {})
    if any(key.startswith("transformer_decoder.layers.") for key in head):
        what, parts["decoder"] = f"{what} with mmdet's Mask2Former head", mmdet.in_our_names(head)
    elif head:  # in the names of gkd.segmentation.decoders.LinearDecoder
        ours = {key: re.sub(r"^conv_seg\.", "layers.1.", re.sub(r"^bn\.", "layers.0.", key)) for key in head}
        parts["decoder"] = {ours[key]: value for key, value in head.items()}
    return Found(what, parts, [f"{prefix}* ({n} keys)" for prefix, n in left.items()] + aside)


def _unwrap(content: Any, where: str) -> tuple[dict[str, Tensor], list[str]]:
    aside = []
    if isinstance(content, Mapping):
        inner = next((key for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is not None:  # beside which a training loop may store a loss or an accuracy as a tensor
            aside = [f"{k} (in favour of {inner})" if k in WRAPPERS else k for k in content if k != inner]
            content = content[inner]
        elif not any(isinstance(value, Tensor) for value in content.values()):
            held = ", ".join(map(str, list(content)[:5])) or "nothing"
            raise CheckpointError(f"{where} has its weights under none of {', '.join(WRAPPERS)}; it holds {held}")
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
