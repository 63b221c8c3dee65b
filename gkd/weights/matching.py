"""Strict loading: every key, shape and type must agree, and the error says which do not and what the file looks like.

check_state(encoder.backbone, state, "weights/dino.pth (a plain backbone)", types=False)      # nothing is loaded yet
"""

import re
from collections.abc import Mapping

from torch import Tensor, nn

from gkd.weights.tensors import CheckpointError, not_finite, some

LAYER_SCALE = re.compile(r"(?:^|\.)(?:ls[12]\.gamma|gamma_[12])$")  # names of ViT and EVA
_QUERIES = "transformer.queries_embedder.weight"  # the sign of a mask2former decoder


def check_state(
    module: nn.Module, state: Mapping[str, Tensor], where: str, types: bool, source: Mapping[str, Tensor] | None = None
) -> None:
    """Raise a CheckpointError that names the first five mismatches of `state` with `module`, with their shapes.

    Args:
        where: names the file and part in the message.
        types: whether number formats must be equal; else any floating-point format fits any other.
        source: the weights as the file has them, where `state` is what was made of them.
    """
    source = state if source is None else source
    own = module.state_dict()
    wrong = [f"missing {key} {tuple(own[key].shape)}" for key in own if key not in state]
    wrong += [f"unexpected {key} {tuple(state[key].shape)}" for key in state if key not in own]
    for key, a, b in [(key, state[key], own[key]) for key in own if key in state]:
        if a.shape != b.shape:
            wrong.append(f"{key}: {tuple(source.get(key, a).shape)} in the file, {tuple(b.shape)} in the model")
        elif a.dtype != b.dtype and (types or not (a.is_floating_point() and b.is_floating_point())):
            wrong.append(f"{key}: {a.dtype} in the file, {b.dtype} in the model")
    if wrong:
        more = [f"and {len(wrong) - 5} more"] if len(wrong) > 5 else []
        lines = "".join(f"\n  {line}" for line in wrong[:5] + more)
        hints = "".join(f"\n{hint}" for hint in _hints(own, state, source))
        raise CheckpointError(f"{where} does not fit this model ({len(wrong)} mismatches):{lines}{hints}")
    if bad := not_finite(state):
        raise CheckpointError(f"{where} holds NaN or infinite values in {some(bad, 1)}: take an earlier checkpoint")


def check_classes(decoder: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Raise a CheckpointError with both numbers where a decoder's file has another number of classes.

    `decoder` says how many (`classes`), and which layer has an output for each (`class_layer`).
    """
    key = f"{decoder.class_layer}.weight"
    theirs, ours = state.get(key), decoder.state_dict()[key]
    if theirs is None or len(theirs) == len(ours) or theirs.shape[1:] != ours.shape[1:]:
        return
    count = decoder.classes + len(theirs) - len(ours)  # mask2former has an output for no object
    raise CheckpointError(
        f"{where.rstrip(',')}: the decoder was trained with another number of classes (classes: {count} in the file, "
        f"{decoder.classes} in the model). Use it with the classes of its own source, or train a new decoder"
    )


def _hints(own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> list[str]:
    """What the mismatch points to, as lines of the message."""
    hints = []
    theirs, ours = ([key for key in keys if LAYER_SCALE.search(key)] for keys in (state, own))
    way_out = "set `init_values: 1.0` in this model's `options` in params.yaml"
    if theirs and not ours:
        hints.append(f"The file carries LayerScale ({theirs[0]}, ...) and the model has none: {way_out}")
    elif ours and not theirs and state:
        hints.append(
            f"The model has LayerScale ({ours[0]}, ...) and the file has none: {way_out}, or take another model"
        )
    looks, wanted = looks_like(source), looks_like(own)
    if looks is not None and looks != wanted:
        other = "no ViT" if looks.startswith("a ViT") else "none"
        hints.append(f"The file looks like {looks}; the model is {wanted or other}")
    return hints


def looks_like(state: Mapping[str, Tensor]) -> str | None:
    """What weights tell of their model, None where it is neither a ViT nor a mask2former decoder.

    A ViT: width, depth and patch. A decoder: its sizes, as in params.yaml.
    """
    if _QUERIES in state:
        queries, dim = state[_QUERIES].shape
        layers = {"encoder_layers": "pixel_decoder.encoder.layers.", "decoder_layers": "transformer.decoder.layers."}
        found = {k: len({key[len(p) :].split(".")[0] for key in state if key.startswith(p)}) for k, p in layers.items()}
        sizes = ", ".join(f"{key}: {count}" for key, count in found.items())
        return f"a mask2former decoder of dim: {dim}, queries: {queries}, {sizes}"
    projection = next((v for k, v in state.items() if k.endswith("patch_embed.proj.weight") and v.ndim == 4), None)
    blocks = {match[1] for key in state if (match := re.match(r"(?:backbone\.)?blocks\.(\d+)\.[a-z]", key))}
    if projection is None or not blocks:
        return None
    width, patch, depth = projection.shape[0], projection.shape[-1], len(blocks)
    scaled = any(LAYER_SCALE.search(key) for key in state)
    return f"a ViT of {width} channels, {depth} blocks, patch {patch}, {'with' if scaled else 'without'} LayerScale"
