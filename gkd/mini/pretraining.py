"""Supervised pretraining of the miniature models on scenes drawn in memory: stand-ins for hub weights.

Broad models see wide ranges of style that leave out every domain's own, narrow ones a single style. Their recipes stand
in weights/mini/params.yaml, apart from the parameters of the pipeline, which takes the weights as they are.

recipe = recipes()["teacher"]
model, history = pretrain(recipe, "teacher", resume_of("teacher", recipe))
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from pydantic import Field
from ruamel.yaml import YAML
from torch import Tensor

from gkd import values
from gkd.data.labels import IGNORE, class_names
from gkd.mini.overhead import draw_overhead
from gkd.mini.street import draw_street
from gkd.mini.styles import Style, broad_style, narrow_style
from gkd.params import ROOT, EncoderSpec, ParamsError, Section, faults_of
from gkd.segmentation.decoders import ConvDecoder, Segmentor
from gkd.train.loop import Share, Training, fit
from gkd.train.resume import Resume, fingerprint, versions
from gkd.train.run import Run
from gkd.train.schedules import cosine, parameter_groups
from gkd.weights import Record, build_encoder
from gkd.workspace.folders import NotThere

HOME = ROOT / "weights" / "mini"
CROP = 64
CLASSES = (*class_names("cityscapes"), *class_names("isprs"))  # of one label space for both kinds of scenes
STREET = len(class_names("cityscapes"))
StyleOf = Callable[[np.random.Generator, str], Style]
STYLES: dict[str, StyleOf] = {"broad": broad_style, "narrow": narrow_style}


class Recipe(Section):
    """How one stand-in is made: a section of weights/mini/params.yaml."""

    name: str = Field(min_length=1)  # timm's
    options: values.Options
    style: Literal["broad", "narrow"]
    seed: values.Seed
    pool: values.Count  # scenes drawn, of each kind
    scale: values.AreaScale  # of the views of a scene, shares of its area
    steps: values.Count
    batch_size: int = Field(gt=0, multiple_of=2)  # half of it street, half overhead
    lr: values.Positive
    min_lr: Annotated[values.NonNegative, values.against("lr", "at most", lambda low, high: low <= high)]
    warmup_steps: Annotated[values.Index, values.against("steps", "fewer than", lambda part, whole: part < whole)]
    weight_decay: values.NonNegative
    threads: values.Index  # 0 = torch's own choice
    withheld: list[Literal[CLASSES]] = []  # classes that it sees without ever being told what they are

    @property
    def hash(self) -> str:
        """Of all values: what the record of a file made by it says. An empty `withheld` is as none, for older files."""
        return fingerprint(self.model_dump_json(exclude_defaults=True))


class Recipes(Section):
    """The whole of weights/mini/params.yaml."""

    teacher: Recipe
    student_broad: Recipe
    student_narrow: Recipe
    withheld: Recipe  # teacher of a control


def recipes(path: Path = HOME / "params.yaml") -> dict[str, Recipe]:
    """The recipes by model. Raises ParamsError with a line for each fault, by its key."""
    content = YAML(typ="safe").load(path)
    if faults := list(faults_of(Recipes, content)):
        raise ParamsError(*(": ".join(filter(None, (path.name, *fault))) for fault in faults))
    return dict(Recipes.model_validate(content))


def record_of(recipe: Recipe) -> Record:
    """What a file made by `recipe` says of itself."""
    said = {"params": recipe.model_dump(mode="json"), "recipe": recipe.hash, "made_by": "notebooks/pretrain.ipynb"}
    return Record(stage="pretrain", seed=recipe.seed, lr=recipe.lr, start="none", **said)


def folder_of(name: str, train: bool, results: str) -> Path:
    """Where the run of a model leaves its weights and curve; to look at, what DVC made goes before what a hand made.

    Raises NotThere with what to run.
    """
    places = [ROOT / place / "pretrain" / name for place in ([results] if train else ["results", results])]
    if train:
        places[0].mkdir(parents=True, exist_ok=True)
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        how = "`make weights` makes it, or this notebook with `train = True`; the pipeline needs neither"
        raise NotThere(f"results/pretrain/{name} is not there: {how}")
    return found


def resume_of(name: str, recipe: Recipe) -> Resume:
    """States of a run, so that a killed one continues; another recipe, code or version of torch starts clean."""
    stage = YAML(typ="safe").load(HOME / "dvc.yaml")["stages"]["pretrain"]
    key = fingerprint(recipe.hash, versions(), *(ROOT / path for path in stage["deps"]))
    return Resume(ROOT / ".scratch" / "resume" / "pretrain" / name, key)


def draw_pool(style_of: StyleOf, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops (2 count, 64, 64, 3) uint8 and labels (2 count, 64, 64) uint8: first street, then overhead.

    Labels count CLASSES, 19 of streets, then 6 overhead; 255 is void.
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


def taught(labels: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Labels as the recipe's model is told them: what is withheld is void."""
    numbers = [number for number, name in enumerate(CLASSES) if name in recipe.withheld]
    return np.where(np.isin(labels, numbers), np.uint8(IGNORE), labels)


def cut(images: Tensor, labels: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Views of scenes, as large as they are: images in [0, 1], and labels.

    Args:
        images: uint8 (B, 3, H, W); labels: uint8 (B, H, W).
        boxes: (B, 4): side as a share of the scene's, middle (x, y) in [-1, 1], and -1 where it is mirrored, else 1.
    """
    side, x, y, flip = boxes.unbind(1)
    zero = torch.zeros_like(side)
    theta = torch.stack([side * flip, zero, x, zero, side, y], 1).view(-1, 2, 3)
    grid = F.affine_grid(theta, [len(images), 1, *images.shape[-2:]], align_corners=False)
    options = {"padding_mode": "border", "align_corners": False}
    photos = F.grid_sample(images.float() / 255, grid, mode="bilinear", **options)
    classes = F.grid_sample(labels[:, None].float(), grid, mode="nearest", **options)
    return photos, classes[:, 0].long()


def _batches(pool: tuple[np.ndarray, np.ndarray], recipe: Recipe, start: int) -> Iterator[list[Tensor]]:
    """Scenes, their labels and the boxes of their views, from step `start` on; each step has draws of its own."""
    (images, labels), half = pool, recipe.batch_size // 2
    for number in range(start, recipe.steps):
        rng = np.random.default_rng([recipe.seed, 1, number])
        rows = np.concatenate([rng.integers(0, recipe.pool, half), recipe.pool + rng.integers(0, recipe.pool, half)])
        side = np.sqrt(rng.uniform(*recipe.scale, len(rows)))
        middle = rng.uniform(-1, 1, (2, len(rows))) * (1 - side)
        boxes = np.stack([side, *middle, rng.choice((-1.0, 1.0), len(rows))], 1).astype(np.float32)
        yield [
            torch.from_numpy(images[rows]).permute(0, 3, 1, 2),
            torch.from_numpy(labels[rows]),
            torch.from_numpy(boxes),
        ]


def pretrain(recipe: Recipe, name: str, resume: Resume | None = None) -> tuple[Segmentor, pd.DataFrame]:
    """Train an encoder from scratch under a light decoder; returns the segmentor and its history.

    With `resume` a killed run continues, and ends with the bytes of one that was left alone.
    """
    torch.manual_seed(recipe.seed)
    encoder = build_encoder(EncoderSpec(name=recipe.name, options=recipe.options, weights="none"), seed=recipe.seed)
    model = Segmentor(encoder, ConvDecoder(encoder.dim, len(CLASSES), 64), frozen=False)
    scenes, labels = draw_pool(STYLES[recipe.style], recipe.pool, recipe.seed)
    pool = scenes, taught(labels, recipe)
    print(f"{name}: {len(scenes)} scenes drawn", flush=True)

    def step(_number: int, batch: list[Tensor], _share: Share) -> tuple[Tensor, dict[str, Tensor]]:
        images, labels = cut(*batch)
        full = F.interpolate(model(images), labels.shape[-2:], mode="bilinear", align_corners=False)
        loss = F.cross_entropy(full, labels, ignore_index=IGNORE)
        accuracy = (full.argmax(1) == labels)[labels != IGNORE].float().mean()
        return loss, {"loss": loss.detach(), "accuracy": accuracy}

    training = Training(
        step=step,
        modules=[model],
        groups=parameter_groups([model], recipe.lr, recipe.weight_decay),
        batches=lambda start: _batches(pool, recipe, start),
        steps=recipe.steps,
        schedule=cosine(recipe.steps, recipe.lr, minimum=recipe.min_lr, warmup=recipe.warmup_steps),
    )
    return model, fit(training, Run(name, recipe.seed, resume))


@torch.no_grad()
def accuracy(model: Segmentor, recipe: Recipe, count: int = 200, seed: int = 1_000_000) -> tuple[float, float]:
    """Share of taught pixels that are right on `count` scenes that no recipe has drawn: of street, and of overhead."""
    images, labels = draw_pool(STYLES[recipe.style], count, seed)
    labels = taught(labels, recipe)
    device, right = next(model.parameters()).device, []
    for photos, classes in zip(np.split(images, 2), np.split(labels, 2), strict=True):
        logits = model(torch.from_numpy(photos).permute(0, 3, 1, 2).float().to(device) / 255)
        found = F.interpolate(logits, labels.shape[-2:], mode="bilinear", align_corners=False).argmax(1).cpu().numpy()
        right.append(float((found == classes)[classes != IGNORE].mean()))
    return right[0], right[1]
