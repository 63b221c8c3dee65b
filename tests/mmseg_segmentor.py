"""A segmentor of mmsegmentation (a ViT as DINOv2's, mmdet's Mask2Former head), written out on a dict of its weights.

The arithmetic is that of the published configs, from the description of each part, in plain torch and without any
module of transformers or timm: what gkd builds from such a file must compute the same numbers.
"""

import math

import torch
import torch.nn.functional as F

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of the data preprocessor, for images in [0, 255]
HEADS, LEVELS, POINTS = 8, 3, 4  # of attention in the head
PATCH, VIT_HEADS, BLOCKS = 16, 3, (3, 5, 7, 11)


def random_weights(classes=4, queries=6, size=(64, 96), width=24, dim=64):
    """`state_dict` with random values everywhere, so that no weight is without effect."""
    shapes = {"backbone.cls_token": (1, 1, width), "backbone.mask_token": (1, width)}
    shapes["backbone.pos_embed"] = (1, 1 + size[0] * size[1] // PATCH**2, width)

    def affine(parent, **modules):
        """Weight and bias of linear layers, convolutions and norms: their name and the weight's shape."""
        for name, shape in modules.items():
            key = parent + name.replace("__", ".")
            shapes.update({f"{key}.weight": shape, f"{key}.bias": shape[:1]})

    affine("backbone.", patch_embed__proj=(width, 3, PATCH, PATCH), norm=(width,))
    for block in (f"backbone.blocks.{i}." for i in range(max(BLOCKS) + 1)):
        affine(block, norm1=(width,), attn__qkv=(3 * width, width), attn__proj=(width, width))
        affine(block, norm2=(width,), mlp__fc1=(4 * width, width), mlp__fc2=(width, 4 * width))
        shapes |= {f"{block}ls1.gamma": (width,), f"{block}ls2.gamma": (width,)}

    pixel, query = "decode_head.pixel_decoder.", "decode_head.transformer_decoder."
    for i in range(LEVELS):
        affine(f"{pixel}input_convs.{i}.", conv=(dim, width, 1, 1), gn=(dim,))
    for conv, fan_in, kernel in (("lateral_convs.0.", width, 1), ("output_convs.0.", dim, 3)):
        affine(pixel + conv, conv=(dim, fan_in, kernel, kernel), gn=(dim,))
        del shapes[f"{pixel}{conv}conv.bias"]
    affine(pixel, mask_feature=(dim, dim, 1, 1))
    for layer in (f"{pixel}encoder.layers.{i}." for i in range(2)):
        points = HEADS * LEVELS * POINTS
        affine(f"{layer}self_attn.", sampling_offsets=(2 * points, dim), attention_weights=(points, dim))
        affine(f"{layer}self_attn.", value_proj=(dim, dim), output_proj=(dim, dim))
        affine(layer, norms__0=(dim,), norms__1=(dim,))
        affine(f"{layer}ffn.layers.", **{"0__0": (4 * dim, dim), "1": (dim, 4 * dim)})
    for layer in (f"{query}layers.{i}." for i in range(4)):
        for kind in ("self_attn", "cross_attn"):
            affine(f"{layer}{kind}.attn.", out_proj=(dim, dim))
            shapes |= {
                f"{layer}{kind}.attn.in_proj_{k}": s for k, s in (("weight", (3 * dim, dim)), ("bias", (3 * dim,)))
            }
        affine(layer, norms__0=(dim,), norms__1=(dim,), norms__2=(dim,))
        affine(f"{layer}ffn.layers.", **{"0__0": (8 * dim, dim), "1": (dim, 8 * dim)})
    affine(query, post_norm=(dim,))
    affine("decode_head.", cls_embed=(classes + 1, dim), **{f"mask_embed__{i}": (dim, dim) for i in (0, 2, 4)})

    generator = torch.Generator().manual_seed(0)
    state = {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    for key, value in state.items():
        if value.ndim == 1 or "." not in key.removeprefix("backbone."):  # norms, biases and tokens
            value *= 0.2
            value += 0.5 if key.endswith("gamma") else float(key.endswith("weight"))
        else:
            value /= math.sqrt(value[0].numel())
    tables = {
        "query_embed": queries,
        "query_feat": queries,
        "level_embed": LEVELS,
        "pixel_decoder.level_encoding": LEVELS,
    }
    return state | {f"decode_head.{k}.weight": torch.randn(n, dim, generator=generator) for k, n in tables.items()}


def predict(state, images):
    """RGB images (B, 3, H, W) in [0, 255] -> class logits and mask logits of each layer, and the class scores."""
    weights = {key: value.to(images.dtype) for key, value in state.items()}
    backbone, head = (
        {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        for prefix in ("backbone.", "decode_head.")
    )
    classes, masks = mask2former(head, vit(backbone, images))
    full = F.interpolate(masks[-1], images.shape[-2:], mode="bilinear", align_corners=False)
    scores = torch.einsum("bqc,bqhw->bchw", classes[-1].softmax(-1)[..., :-1], full.sigmoid())
    return classes, masks, scores


def _count(w, layers):
    return len({key.removeprefix(layers).split(".")[0] for key in w if key.startswith(layers)})


def _linear(w, name, x):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _norm(w, name, x, eps=1e-5):
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps)


def _conv_norm(w, name, x):
    kernel = w[f"{name}.conv.weight"]
    x = F.conv2d(x, kernel, w.get(f"{name}.conv.bias"), padding=kernel.shape[-1] // 2)
    return F.group_norm(x, 32, w[f"{name}.gn.weight"], w[f"{name}.gn.bias"], 1e-5)


def _feed_forward(w, name, x):
    return x + _linear(w, f"{name}.ffn.layers.1", _linear(w, f"{name}.ffn.layers.0.0", x).relu())


def _attend(q, k, v, heads, hidden=None):
    """Attention over (B, N, C), channels split over heads; pairs where `hidden` (B, N, M) is True are left out."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    shown = None if hidden is None else ~hidden[:, None]
    return F.scaled_dot_product_attention(q, k, v, shown).transpose(1, 2).flatten(2)


def vit(w, images):
    """Outputs of BLOCKS without the final norm and the class token, at strides 4, 8, 16 and 32."""
    mean, std = (torch.tensor(x, dtype=images.dtype).view(1, 3, 1, 1) for x in (MEAN, STD))
    x = F.conv2d((images - mean) / std, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=PATCH)
    grid = x.shape[-2:]
    x = torch.cat([w["cls_token"].expand(len(x), -1, -1), x.flatten(2).mT], 1) + w["pos_embed"]
    maps = []
    for i in range(max(BLOCKS) + 1):
        block = f"blocks.{i}"
        q, k, v = _linear(w, f"{block}.attn.qkv", _norm(w, f"{block}.norm1", x, 1e-6)).chunk(3, -1)
        x = x + w[f"{block}.ls1.gamma"] * _linear(w, f"{block}.attn.proj", _attend(q, k, v, VIT_HEADS))
        hidden = F.gelu(_linear(w, f"{block}.mlp.fc1", _norm(w, f"{block}.norm2", x, 1e-6)))
        x = x + w[f"{block}.ls2.gamma"] * _linear(w, f"{block}.mlp.fc2", hidden)
        if i in BLOCKS:
            maps.append(x[:, 1:].mT.unflatten(2, grid))
    levels = zip(maps, (4, 2, 1, 0.5), strict=True)
    return [F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False) for x, factor in levels]


def _positions(rows, columns, dim, like):
    """Sines and cosines (rows * columns, dim): the first half of the channels tells the row, the second the column."""
    half = dim // 2
    channel = torch.arange(half)
    rates = 10000.0 ** (2 * (channel // 2) / half).to(like.dtype)

    def waves(count):
        angles = (torch.arange(count) + 1).to(like.dtype)[:, None] / (count + 1e-6) * 2 * math.pi / rates
        return torch.where(channel % 2 == 0, angles.sin(), angles.cos())  # (count, half)

    both = (waves(rows)[:, None].expand(-1, columns, -1), waves(columns)[None].expand(rows, -1, -1))
    return torch.cat(both, -1).flatten(0, 1)


def _deformable(w, name, x, positions, shapes):
    """Each token looks at POINTS places on each level, found from its own place by offsets in cells of that level."""
    batch, count, dim = x.shape
    asked = x + positions
    split = (batch, count, HEADS, LEVELS, POINTS)
    offsets = _linear(w, f"{name}.sampling_offsets", asked).view(*split, 2)  # x, y
    shares = _linear(w, f"{name}.attention_weights", asked).view(batch, count, HEADS, -1).softmax(-1).view(split)
    values = _linear(w, f"{name}.value_proj", x).view(batch, count, HEADS, -1)
    places = torch.cat(
        [
            torch.stack([(torch.arange(c) + 0.5).repeat(r) / c, (torch.arange(r) + 0.5).repeat_interleave(c) / r], -1)
            for r, c in shapes
        ]
    ).to(x.dtype)  # (N, 2), centres of cells, in [0, 1]
    start, found = 0, torch.zeros_like(values)
    for level, (rows, columns) in enumerate(shapes):
        cell = torch.tensor([1 / columns, 1 / rows], dtype=x.dtype)
        for head in range(HEADS):
            level_map = values[:, start : start + rows * columns, head].mT.unflatten(2, (rows, columns))
            at = places[:, None] + offsets[:, :, head, level] * cell  # (B, N, P, 2)
            seen = F.grid_sample(level_map, 2 * at - 1, "bilinear", "zeros", align_corners=False)  # (B, d, N, P)
            found[:, :, head] += (seen * shares[:, None, :, head, level]).sum(-1).mT
        start += rows * columns
    return _linear(w, f"{name}.output_proj", found.flatten(2))


def pixel_decoder(w, features):
    """Maps from fine to coarse -> mask features, and three maps from coarse to fine."""
    name = "pixel_decoder"
    inputs = [_conv_norm(w, f"{name}.input_convs.{i}", features[3 - i]) for i in range(LEVELS)]
    shapes = [x.shape[-2:] for x in inputs]
    x = torch.cat([level.flatten(2).mT for level in inputs], 1)
    levels = w[f"{name}.level_encoding.weight"]
    positions = torch.cat([_positions(*shape, x.shape[-1], x) + levels[i] for i, shape in enumerate(shapes)])
    for i in range(_count(w, f"{name}.encoder.layers.")):
        layer = f"{name}.encoder.layers.{i}"
        x = _norm(w, f"{layer}.norms.0", x + _deformable(w, f"{layer}.self_attn", x, positions, shapes))
        x = _norm(w, f"{layer}.norms.1", _feed_forward(w, layer, x))
    parts = x.split([r * c for r, c in shapes], 1)
    maps = [part.mT.unflatten(2, shape) for part, shape in zip(parts, shapes, strict=True)]
    finest = _conv_norm(w, f"{name}.lateral_convs.0", features[0])
    finest = finest + F.interpolate(maps[-1], finest.shape[-2:], mode="bilinear", align_corners=False)
    finest = _conv_norm(w, f"{name}.output_convs.0", finest).relu()
    return F.conv2d(finest, w[f"{name}.mask_feature.weight"], w[f"{name}.mask_feature.bias"]), maps


def _multihead(w, name, query, key, value, hidden=None):
    weights, biases = (w[f"{name}.attn.in_proj_{leaf}"].chunk(3) for leaf in ("weight", "bias"))
    q, k, v = (x @ a.T + b for x, a, b in zip((query, key, value), weights, biases, strict=True))
    return _linear(w, f"{name}.attn.out_proj", _attend(q, k, v, HEADS, hidden))


def mask2former(w, features):
    """Maps of the backbone -> class logits (B, Q, K + 1) and mask logits (B, Q, h, w), before and after each layer."""
    mask_features, maps = pixel_decoder(w, features)
    levels = w["level_embed.weight"]
    memory = [x.flatten(2).mT + levels[i] for i, x in enumerate(maps)]
    places = [_positions(*x.shape[-2:], x.shape[1], x) for x in maps]
    x = w["query_feat.weight"].expand(len(mask_features), -1, -1)
    own = w["query_embed.weight"]
    classes, masks = [], []

    def look(x):
        normed = _norm(w, "transformer_decoder.post_norm", x)
        classes.append(_linear(w, "cls_embed", normed))
        embedding = _linear(w, "mask_embed.2", _linear(w, "mask_embed.0", normed).relu()).relu()
        masks.append(torch.einsum("bqc,bchw->bqhw", _linear(w, "mask_embed.4", embedding), mask_features))

    look(x)
    for i in range(_count(w, "transformer_decoder.layers.")):
        layer, level = f"transformer_decoder.layers.{i}", i % LEVELS
        small = F.interpolate(masks[-1], maps[level].shape[-2:], mode="bilinear", align_corners=False)
        hidden = small.sigmoid().flatten(2) < 0.5  # (B, Q, N): a query reads where its mask was
        hidden = hidden & ~hidden.all(-1, keepdim=True)  # or everywhere, where it was empty
        read = _multihead(w, f"{layer}.cross_attn", x + own, memory[level] + places[level], memory[level], hidden)
        x = _norm(w, f"{layer}.norms.0", x + read)
        x = _norm(w, f"{layer}.norms.1", x + _multihead(w, f"{layer}.self_attn", x + own, x + own, x))
        x = _norm(w, f"{layer}.norms.2", _feed_forward(w, layer, x))
        look(x)
    return classes, masks
