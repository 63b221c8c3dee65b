"""The Mask2Former head of mmdet 3 (mmsegmentation's Mask2FormerHead) in the names of gkd.segmentation.mask2former.

Both number the three levels of deformable attention from coarse to fine, lay heads, levels and points out alike, and
norm after each residual sum. So weights change their names alone, but for self-attention, whose query, key and value
projections are one tensor there and three here. docs/weights.md says which arithmetic was compared.
"""

import re
from collections.abc import Mapping

from torch import Tensor

# The beginning of a name there -> here, in this order. Norms are numbered as the forward pass goes through them: in the
# layers of the transformer, masked attention comes first.
_NAMES = {
    r"pixel_decoder\.level_encoding\.weight": "pixel_decoder.level_embed",
    r"pixel_decoder\.input_convs": "pixel_decoder.input_projections",  # from the coarsest level, in both
    r"pixel_decoder\.lateral_convs\.0": "pixel_decoder.adapter_1",  # the finest level, which is added on top
    r"pixel_decoder\.output_convs\.0": "pixel_decoder.layer_1",
    r"(pixel_decoder\.(?:input_projections\.\d|adapter_1|layer_1))\.conv": r"\1.0",
    r"(pixel_decoder\.(?:input_projections\.\d|adapter_1|layer_1))\.gn": r"\1.1",
    r"pixel_decoder\.mask_feature": "pixel_decoder.mask_projection",
    r"(pixel_decoder\.encoder\.layers\.\d+)\.norms\.0": r"\1.self_attn_layer_norm",
    r"(pixel_decoder\.encoder\.layers\.\d+)\.norms\.1": r"\1.final_layer_norm",
    r"transformer_decoder\.layers": "transformer.decoder.layers",
    r"(transformer\.decoder\.layers\.\d+)\.norms\.0": r"\1.cross_attn_layer_norm",
    r"(transformer\.decoder\.layers\.\d+)\.norms\.1": r"\1.self_attn_layer_norm",
    r"(transformer\.decoder\.layers\.\d+)\.norms\.2": r"\1.final_layer_norm",
    r"(transformer\.decoder\.layers\.\d+\.(?:cross|self)_attn)\.attn": r"\1",
    r"(.*\.layers\.\d+)\.ffn\.layers\.0\.0": r"\1.fc1",
    r"(.*\.layers\.\d+)\.ffn\.layers\.1": r"\1.fc2",
    r"transformer_decoder\.post_norm": "transformer.decoder.layernorm",
    r"query_embed": "transformer.queries_embedder",
    r"query_feat": "transformer.queries_features",
    r"level_embed": "transformer.level_embed",
    **{rf"mask_embed\.{2 * i}": f"transformer.decoder.mask_predictor.mask_embedder.{i}.0" for i in range(3)},
    r"cls_embed": "classifier",
}


def in_our_names(head: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights below `decode_head.` of a Mask2FormerHead -> a state of gkd.segmentation.mask2former.Mask2Former.

    Keys of other versions or options, such as projections between its two halves, keep their names, and strict
    loading reports them.
    """
    found: dict[str, Tensor] = {}
    for key, value in head.items():
        for theirs, ours in _NAMES.items():
            key = re.sub(rf"^{theirs}(?=\.|$)", ours, key)
        attention, together, leaf = key.partition(".self_attn.in_proj_")
        if together and len(value) % 3 == 0:
            names = (f"{attention}.self_attn.{name}_proj.{leaf}" for name in "qkv")
            found |= zip(names, value.chunk(3), strict=True)
        else:
            found[key] = value
    return found
