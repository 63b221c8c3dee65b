"""The Mask2Former head of mmdet 3 (mmsegmentation's Mask2FormerHead) in the names of gkd.segmentation.mask2former.

Both number the three levels of deformable attention from coarse to fine, lay heads, levels and points out alike, and
norm after each residual sum. So weights change their names alone, but for self-attention, whose query, key and value
projections are one tensor there and three here. docs/weights.md says which arithmetic was compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_LAYER = re.compile(r"(pixel_decoder\.encoder|transformer_decoder)\.layers\.(\d+)\.(.+)\.([a-z_]+)")

_CONV = (("conv", 0), ("gn", 1))  # a convolution and its group norm
# Modules of a layer, in the order in which the forward pass goes through the norms.
_PIXEL_LAYER = {
    "norms.0": "self_attn_layer_norm",  # after deformable attention, whose names are the same
    "norms.1": "final_layer_norm",
    "ffn.layers.0.0": "fc1",
    "ffn.layers.1": "fc2",
}
_QUERY_LAYER = {
    "cross_attn.attn": "cross_attn",  # masked attention, which comes first
    "cross_attn.attn.out_proj": "cross_attn.out_proj",
    "norms.0": "cross_attn_layer_norm",
    "self_attn.attn.out_proj": "self_attn.out_proj",
    "norms.1": "self_attn_layer_norm",
    "norms.2": "final_layer_norm",
    "ffn.layers.0.0": "fc1",
    "ffn.layers.1": "fc2",
}
_OTHERS = {
    # From the coarsest level, in both.
    **{f"pixel_decoder.input_convs.{i}.conv": f"pixel_decoder.input_projections.{i}.0" for i in range(3)},
    **{f"pixel_decoder.input_convs.{i}.gn": f"pixel_decoder.input_projections.{i}.1" for i in range(3)},
    # The finest level, which is added on top.
    **{f"pixel_decoder.lateral_convs.0.{a}": f"pixel_decoder.adapter_1.{b}" for a, b in _CONV},
    **{f"pixel_decoder.output_convs.0.{a}": f"pixel_decoder.layer_1.{b}" for a, b in _CONV},
    "pixel_decoder.mask_feature": "pixel_decoder.mask_projection",
    "transformer_decoder.post_norm": "transformer.decoder.layernorm",
    "query_embed": "transformer.queries_embedder",
    "query_feat": "transformer.queries_features",
    "level_embed": "transformer.level_embed",
    **{f"mask_embed.{2 * i}": f"transformer.decoder.mask_predictor.mask_embedder.{i}.0" for i in range(3)},
    "cls_embed": "classifier",
}


def is_mask2former(head: Mapping[str, Tensor]) -> bool:
    """Whether the weights below `decode_head.` are those of a Mask2FormerHead."""
    return any(key.startswith("transformer_decoder.layers.") for key in head)


def in_our_names(head: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights below `decode_head.` of a Mask2FormerHead -> a state of gkd.segmentation.mask2former.Mask2Former.

    Keys of other versions or options, such as projections between its two halves, keep their names, and strict
    loading reports them.
    """
    found: dict[str, Tensor] = {}
    for key, value in head.items():
        match = _LAYER.fullmatch(key)
        if key == "pixel_decoder.level_encoding.weight":
            found["pixel_decoder.level_embed"] = value
        elif match is None:
            module, _, leaf = key.rpartition(".")
            found[f"{_OTHERS.get(module, module)}.{leaf}" if module else key] = value
        elif match[1] == "pixel_decoder.encoder":
            found[f"{match[1]}.layers.{match[2]}.{_PIXEL_LAYER.get(match[3], match[3])}.{match[4]}"] = value
        else:
            layer = f"transformer.decoder.layers.{match[2]}"
            if match[3] == "self_attn.attn" and match[4].startswith("in_proj_") and len(value) % 3 == 0:
                for name, part in zip("qkv", value.chunk(3), strict=True):
                    found[f"{layer}.self_attn.{name}_proj.{match[4].removeprefix('in_proj_')}"] = part
            else:
                found[f"{layer}.{_QUERY_LAYER.get(match[3], match[3])}.{match[4]}"] = value
    return found
