"""Augmentation and masking. Images come as uint8 arrays (H, W, 3) and leave as floats (3, h, w) in about [0, 1]."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.auto_augment import RandAugment, rand_augment_transform
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from gkd.data.labels import IGNORE
from gkd.params import Distillation, TaskLearning


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seed python, numpy and torch from `key` (such as seed, epoch, sample index); restore their states after.

    Every augmentation draws inside one, so that results do not depend on the number of workers.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    a, b, c = np.random.SeedSequence(key).generate_state(3)
    random.seed(int(a))
    np.random.seed(int(b))
    torch.default_generator.manual_seed(int(c))  # torch.manual_seed also visits the devices: 0.4 ms a sample
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


class DistillationView:
    """timm's training augmentation as published: crop, flip, RandAugment, erasing (of the paper's distillation).

    Built from timm's parts: `create_transform(normalize=False)` would return uint8 and drop the erasing. The erased
    noise is standard normal in ImageNet-normalised space, mapped back, so it may leave [0, 1].
    """

    def __init__(self, section: Distillation) -> None:
        size = tuple(section.image_size)
        self.crop = RandomResizedCropAndInterpolation(size, scale=tuple(section.scale), interpolation="bicubic")
        self.augment = _rand_augment(section.rand_augment, int(min(size) * 0.45)) if section.rand_augment else None
        self.erase = RandomErasing(section.erase_probability, mode="pixel", device="cpu")

    def __call__(self, image: np.ndarray, label: object = None) -> Tensor:
        """uint8 (H, W, 3) -> float32 (3, rows, columns), un-normalised. A label is not looked at."""
        view = self.crop(Image.fromarray(image))
        if random.random() < 0.5:
            view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.augment is not None:
            view = self.augment(view)
        x = torch.from_numpy(np.array(view)).permute(2, 0, 1).float() / 255
        before = x
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
        x = self.erase((x - mean) / std) * std + mean
        return torch.where((x - before).abs() < 1e-5, before, x)  # untouched pixels keep their exact values


def _rand_augment(policy: str, shift: int | None = None) -> RandAugment:
    """timm's RandAugment, which translates by up to `shift` pixels (None: of which nothing moves, but colours change),
    with at least one bit left by posterising.

    At its largest magnitude, about one view in 650, timm asks for zero bits: a black image with the Pillow of the
    published code, an error with Pillow 13.
    """
    hints = {"translate_const": shift, "img_mean": (124, 116, 104), "interpolation": Image.Resampling.BICUBIC}
    augment = rand_augment_transform(policy, hints)
    if shift is None:
        kept = [i for i, op in enumerate(augment.ops) if not op.name.startswith(("Rotate", "Shear", "Translate"))]
        augment.ops = [augment.ops[i] for i in kept]
        if augment.choice_weights is not None:
            weights = np.asarray(augment.choice_weights)[kept]
            augment.choice_weights = weights / weights.sum()
    for op in augment.ops:
        if op.name.startswith("Posterize"):
            op.level_fn = lambda level, hints, bits=op.level_fn: (max(1, bits(level, hints)[0]),)
    return augment


def draw_mask(batch: int, patches: int, ratio: float, probability: float, generator: torch.Generator) -> Tensor:
    """Boolean (B, N): the first int(B p) samples lose int(ratio N) random patches each, as published."""
    rows, hidden = int(batch * probability), int(ratio * patches)
    mask = torch.zeros(batch, patches, dtype=torch.bool)
    order = torch.rand(rows, patches, generator=generator).argsort(dim=1)  # (rows, N)
    mask[:rows].scatter_(1, order[:, :hidden], True)
    return mask


class LabelledView:
    """Task-learning augmentation: short-edge choice, crop with a class cap, flip, photometric distortion; not as
    published: before the last, the colours of RandAugment, where `rand_augment` is set.

    The short edge is one of 16 even steps between `scale` times the crop's (256 ... 1024 for 512), less where the long
    edge would exceed `max_long_edge`; a crop in which one class holds more than `max_class_share` of the labelled
    pixels is redrawn up to ten times, as in mmsegmentation.
    """

    def __init__(self, section: TaskLearning) -> None:
        self.crop = tuple(section.crop)
        low, high = section.scale
        self.short_edges = [int(self.crop[0] * (low + (high - low) * i / 15)) for i in range(16)]
        self.max_long_edge, self.max_share = section.max_long_edge, section.max_class_share
        self.augment = _rand_augment(section.rand_augment) if section.rand_augment else None
        # v2.RandomPhotometricDistort would also permute the channels, which the published pipeline does not.
        jitter = {"contrast": (0.5, 1.5)}, {"saturation": (0.5, 1.5)}, {"hue": 0.1}
        self.distort = v2.Compose([v2.RandomApply([v2.ColorJitter(**options)], p=0.5) for options in jitter])

    def __call__(self, image: np.ndarray, label: np.ndarray) -> tuple[Tensor, Tensor]:
        """uint8 (H, W, 3) and (H, W) -> float32 (3, h, w) and int64 (h, w)."""
        x = torch.from_numpy(image).permute(2, 0, 1)  # (3, H, W)
        y = torch.from_numpy(label).unsqueeze(0)  # (1, H, W)
        size = self._size(x.shape[-2:])
        x = TF.resize(x, size, antialias=True)
        y = TF.resize(y, size, interpolation=v2.InterpolationMode.NEAREST_EXACT)
        top, left = self._place(y)
        x, y = (t[:, top : top + self.crop[0], left : left + self.crop[1]] for t in (x, y))
        if random.random() < 0.5:
            x, y = x.flip(-1), y.flip(-1)
        if self.augment is not None:
            x = TF.pil_to_tensor(self.augment(TF.to_pil_image(x)))
        x = x.float() / 255
        if random.random() < 0.5:
            x = (x + random.uniform(-32, 32) / 255).clamp(0, 1)
        x = self.distort(x)
        edges = [0, 0, self.crop[1] - x.shape[2], self.crop[0] - x.shape[1]]  # to the crop, right and below
        if any(edges):  # the mean colour is zero once normalised
            x, y = TF.pad(x, edges, fill=list(IMAGENET_DEFAULT_MEAN)), TF.pad(y, edges, fill=IGNORE)
        return x, y[0].long()

    def _size(self, shape: Sequence[int]) -> list[int]:
        factor = random.choice(self.short_edges) / min(shape)
        if self.max_long_edge is not None:
            factor = min(factor, self.max_long_edge / max(shape))
        return [max(1, round(side * factor)) for side in shape]

    def _place(self, label: Tensor) -> tuple[int, int]:
        for _ in range(10):
            top = random.randint(0, max(0, label.shape[1] - self.crop[0]))
            left = random.randint(0, max(0, label.shape[2] - self.crop[1]))
            window = label[:, top : top + self.crop[0], left : left + self.crop[1]]
            counts = window[window != IGNORE].bincount()
            if (counts > 0).sum() > 1 and counts.max() < self.max_share * counts.sum():
                break
        return top, left
