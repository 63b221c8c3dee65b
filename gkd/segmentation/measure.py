"""Segmentors measured on a domain, as its protocol and their encoders ask for, and shown on some of its photos.

on = EvaluationSet("gtav_val", images, classes=19, protocol=params.inference)
measure_all({"gkd": model}, on, Run("my run"))["gkd"]           # (K, K)
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gkd import params
from gkd.segmentation.decoders import Segmentor
from gkd.segmentation.evaluation import Samples, evaluate_images
from gkd.segmentation.windows import Inference, predict
from gkd.train.loop import engine
from gkd.train.run import Run


@dataclass(frozen=True)
class EvaluationSet:
    """A domain on which models are measured."""

    name: str  # as in the tables
    data: Samples
    classes: int  # of the source
    protocol: params.Inference
    bound: tuple[int, int] | None = None  # see gkd.segmentation.windows.Inference

    def inference(self, model: Segmentor) -> Inference:
        """How `model` sees the photos."""
        return Inference.of(self.protocol, self.bound, model.encoder)


def measure_all(models: Mapping[str, Segmentor], on: EvaluationSet, run: Run) -> dict[str, np.ndarray]:
    """Confusion matrix (K, K) of each model on a domain, which is read once for all; see `evaluate_images`."""
    return {name: own.sum(axis=0) for name, own in measure_images(models, on, run).items()}


def measure_images(models: Mapping[str, Segmentor], on: EvaluationSet, run: Run) -> dict[str, np.ndarray]:
    """The same of each photo apart, (N, K, K). Raises ValueError where no label of the domain holds a class."""
    ways = {name: (model, on.inference(model)) for name, model in models.items()}
    found = evaluate_images(ways, on.data, on.classes, run.part(f"on {on.name}"))
    if not any(confusions.any() for confusions in found.values()):
        raise ValueError(f"{on.name}: every pixel of its labels is ignored; see `gkd doctor`, or leave {on.name} out")
    return found


def show(
    models: Mapping[str, Segmentor], on: EvaluationSet, count: int
) -> tuple[list[np.ndarray], list[np.ndarray], dict[str, list[np.ndarray]]]:
    """Photos, labels and each model's class maps of `count` samples, spread evenly over a domain and read once."""
    rows = np.linspace(0, len(on.data) - 1, min(count, len(on.data))).round().astype(int)
    samples = [on.data[int(row)] for row in rows]
    device, maps = engine().device, {}
    for name, model in models.items():
        how, _ = on.inference(model), model.to(device).eval()
        maps[name] = [predict(model, photo, label.shape, how, device) for photo, label in samples]
    return [photo for photo, _ in samples], [label for _, label in samples], maps
