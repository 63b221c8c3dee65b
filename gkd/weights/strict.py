"""Strict loading: every key and shape must agree, and the error says which do not and what the file looks like.

load_state(encoder.backbone, state, "weights/dino.pth (a plain backbone)")
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

import timm
from torch import Tensor, nn

LAYER_SCALE = re.compile(r"(?:^|\.)(?:ls[12]\.gamma|gamma_[12])$")  # names of ViT and EVA

# The sign of a mask2former decoder.
_QUERIES = "transformer.queries_embedder.weight"

# timm's names of the common ViT sizes, by channels and blocks.
_SIZES = {
    (192, 12): "tiny",
    (384, 12): "small",
    (768, 12): "base",
    (1024, 24): "large",
    (1152, 27): "so400m",
    (1280, 32): "huge",
    (1408, 40): "giant",
    (1536, 40): "giant",
}


class CheckpointError(ValueError):
    """A checkpoint that is absent, torn, unsafe, or of another architecture."""


def load_state(
    module: nn.Module, state: Mapping[str, Tensor], where: str, source: Mapping[str, Tensor] | None = None
) -> None:
    """Load `state` into `module`, or raise a CheckpointError that names the first five mismatches with their shapes.

    Nothing is loaded unless everything fits. `where` names the file and part for the message; `source` holds the
    weights as the file has them, where `state` is what was made of them.
    """
    source = state if source is None else source
    own = module.state_dict()
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    shapes = [key for key in own if key in state and own[key].shape != state[key].shape]
    wrong = [f"missing {key} {tuple(own[key].shape)}" for key in missing]
    wrong += [f"unexpected {key} {tuple(state[key].shape)}" for key in unexpected]
    wrong += [
        f"{key}: {tuple(source.get(key, state[key]).shape)} in the file, {tuple(own[key].shape)} in the model"
        for key in shapes
    ]
    if wrong:
        lines = [f"{where} does not fit this model ({len(wrong)} mismatches):", *(f"  {line}" for line in wrong[:5])]
        if len(wrong) > 5:
            lines.append(f"  and {len(wrong) - 5} more")
        raise CheckpointError("\n".join(lines + _hints(own, state, source)))
    module.load_state_dict(dict(state))


class Classes(Protocol):
    """What a decoder says of its classes: how many, and the name of the layer that has an output for each."""

    classes: int
    class_layer: str

    def state_dict(self) -> dict[str, Tensor]: ...


def check_classes(decoder: Classes, state: Mapping[str, Tensor], where: str) -> None:
    """Raise one CheckpointError where a decoder's file differs from it in nothing but the number of classes."""
    own = decoder.state_dict()
    differ = [key for key in own if key in state and state[key].shape != own[key].shape]
    if (
        not differ
        or own.keys() != state.keys()
        or any(not key.startswith(f"{decoder.class_layer}.") for key in differ)
        or any(state[key].shape[1:] != own[key].shape[1:] for key in differ)
    ):
        return
    theirs = decoder.classes + len(state[differ[0]]) - len(own[differ[0]])  # mask2former has an output for no object
    raise CheckpointError(
        f"{where.rstrip(',')}: the decoder was trained with another number of classes (classes: {theirs} in the file, "
        f"{decoder.classes} in the model). Use it with the classes of its own source, or train a new decoder"
    )


def _hints(own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> list[str]:
    """What the mismatch points to, as lines of the message."""
    hints = []
    theirs, ours = ([key for key in keys if LAYER_SCALE.search(key)] for keys in (state, own))
    if theirs and not ours:
        hints.append(
            f"The file carries LayerScale ({theirs[0]}, ...) and the model has none: set `init_values: 1.0` in this "
            "model's `options` in params.yaml; the values of the file then take its place"
        )
    elif ours and not theirs and state:
        hints.append(
            f"The model has LayerScale ({ours[0]}, ...) and the file has none: set `init_values: 1.0` in this model's "
            "`options` in params.yaml (it then starts without effect), or a model without it"
        )
    looks, wanted = looks_like(source), looks_like(own)
    if looks is not None and looks != wanted:
        other = "no ViT" if looks.startswith("a ViT") else "none"
        hints.append(f"The file looks like {looks}; the model is {wanted or other}")
    return hints


def looks_like(state: Mapping[str, Tensor]) -> str | None:
    """What weights tell of their model, None where it is neither a ViT nor a mask2former decoder.

    A ViT: width, depth and patch, with up to three such timm models. A decoder: its sizes, as in params.yaml.
    """
    if _QUERIES in state:
        return _decoder_sizes(state)
    projection = next((v for k, v in state.items() if k.endswith("patch_embed.proj.weight") and v.ndim == 4), None)
    blocks = {match[1] for key in state if (match := re.match(r"(?:backbone\.)?blocks\.(\d+)\.[a-z]", key))}
    if projection is None or not blocks:
        return None
    width, patch, depth = projection.shape[0], projection.shape[-1], len(blocks)
    scaled = any(LAYER_SCALE.search(key) for key in state)
    text = f"a ViT of {width} channels, {depth} blocks, patch {patch}, {'with' if scaled else 'without'} LayerScale"
    names = _timm_names(state, _SIZES.get((width, depth)), patch, scaled)
    return f"{text} (such as {', '.join(names)})" if names else text


def _decoder_sizes(state: Mapping[str, Tensor]) -> str:
    def layers(prefix: str) -> int:
        return len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})

    queries, dim = state[_QUERIES].shape
    return (
        f"a mask2former decoder of dim: {dim}, queries: {queries}, "
        f"encoder_layers: {layers('pixel_decoder.encoder.layers.')}, "
        f"decoder_layers: {layers('transformer.decoder.layers.')}"
    )


def _timm_names(state: Mapping[str, Tensor], size: str | None, patch: int, scaled: bool) -> list[str]:
    if size is None:
        return []
    if any(key.endswith("attn.q_proj.weight") for key in state):
        family, trait = "eva", ""
    elif any(key.endswith(("register_tokens", "storage_tokens", "reg_token")) for key in state):
        family, trait = "vit", "reg"
    else:
        family, trait = ("vit", "dinov2") if scaled and patch == 14 else ("*it", "")
    names = timm.list_models(f"{family}*_{size}*_patch{patch}_*")
    return sorted((name for name in names if trait in name), key=len)[:3]
