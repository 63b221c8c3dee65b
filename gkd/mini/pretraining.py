"""Supervised pretraining of the miniature models on scenes drawn in memory: stand-ins for hub weights.

Broad models see wide ranges of style that leave out every target domain's own parameters, narrow ones a single style.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from gkd.data.labels import IGNORE, class_names
from gkd.mini.overhead import draw_overhead
from gkd.mini.street import draw_street
from gkd.mini.styles import Style
from gkd.params import EncoderSpec
from gkd.segmentation.decoders import ConvDecoder, Segmentor
from gkd.train.loop import Share, Training, fit
from gkd.train.run import Run
from gkd.train.schedules import cosine, parameter_groups
from gkd.values import Count, NonNegative, Positive
from gkd.weights import build_encoder

CROP = 64
STREET, OVERHEAD = len(class_names("cityscapes")), len(class_names("isprs"))
StyleOf = Callable[[np.random.Generator, str], Style]


class Pretrain(BaseModel):
    """How the miniature models are trained."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    steps: dict[str, Count]  # by model: teacher, student_broad, student_narrow
    batch_size: Count
    lr: dict[str, Positive]
    weight_decay: NonNegative
    pool: Count  # scenes drawn, per kind


def draw_pool(style_of: StyleOf, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops (2 count, 64, 64, 3) uint8 and labels (2 count, 64, 64) uint8: first street, then overhead.

    One label space for both kinds: 19 street classes, then 6 overhead classes; 255 is void.
    """
    images = np.empty((2 * count, CROP, CROP, 3), np.uint8)
    labels = np.empty((2 * count, CROP, CROP), np.uint8)
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        image, label = draw_street(rng, style_of(rng, "street"))
        left = int(rng.integers(0, image.shape[1] - CROP + 1))
        images[i], labels[i] = image[:, left : left + CROP], label[:, left : left + CROP]
        image, label = draw_overhead(rng, style_of(rng, "overhead"), CROP)
        images[count + i] = image
        labels[count + i] = np.where(label == IGNORE, IGNORE, label + STREET)
    return images, labels


def pretrain(
    spec: EncoderSpec, style_of: StyleOf, section: Pretrain, seed: int, name: str
) -> tuple[Segmentor, pd.DataFrame]:
    """Train an encoder of `spec` from scratch under a light decoder; returns the segmentor and its history.

    `name` is that of the model in `section.steps` and `section.lr`.
    """
    steps, lr = section.steps[name], section.lr[name]
    torch.manual_seed(seed)
    encoder = build_encoder(spec.model_copy(update={"weights": "none"}))
    model = Segmentor(encoder, ConvDecoder(encoder.dim, STREET + OVERHEAD, 64), frozen=False)
    images, labels = draw_pool(style_of, section.pool, seed)
    print(f"{name}: {len(images)} scenes drawn", flush=True)
    rng = np.random.default_rng([seed, 1])

    def batches(_start: int) -> object:  # always 0: this run keeps no states
        half = section.batch_size // 2
        for _ in range(steps):
            rows = np.concatenate(
                [rng.integers(0, section.pool, half), section.pool + rng.integers(0, section.pool, half)]
            )
            flip = rng.random() < 0.5
            x, y = images[rows], labels[rows]
            x, y = (x[:, :, ::-1], y[:, :, ::-1]) if flip else (x, y)
            yield [
                torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2).float() / 255,
                torch.from_numpy(np.ascontiguousarray(y)).long(),
            ]

    def step(_number: int, batch: list[Tensor], _share: Share) -> tuple[Tensor, dict[str, Tensor]]:
        full = F.interpolate(model(batch[0]), batch[1].shape[-2:], mode="bilinear", align_corners=False)
        loss = F.cross_entropy(full, batch[1], ignore_index=IGNORE)
        accuracy = (full.argmax(1) == batch[1])[batch[1] != IGNORE].float().mean()
        return loss, {"loss": loss.detach(), "accuracy": accuracy}

    training = Training(
        step=step,
        modules=[model],
        groups=parameter_groups([model], lr, section.weight_decay),
        batches=batches,
        steps=steps,
        schedule=cosine(steps, lr, minimum=1e-5, warmup=min(50, steps // 10)),
    )
    return model, fit(training, Run(name))
