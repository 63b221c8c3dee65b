"""Read a model folder and run it: by PyTorch, or by onnxruntime on the fp32 or int8 graph."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gkd.deploy.config import FILE, Config, ExportError, read_config
from gkd.files import sha256
from gkd.segmentation.stored import rebuild
from gkd.segmentation.windows import Inference, keep_ratio_size, predict
from gkd.weights import CheckpointError, load

WEIGHTS = "model.safetensors"
ENGINES = {"torch": WEIGHTS, "onnx": "model.onnx", "int8": "model.int8.onnx"}


@dataclass(frozen=True)
class Exported:
    """A model of a folder, ready to run.

    Attributes:
        config: what config.json says.
        model: float images (B, 3, H, W) in [0, 1] -> logits (B, K, h, w), whatever the engine. It runs where it lies.
        inference: the sliding window that it is run by.
    """

    config: Config
    model: nn.Module
    inference: Inference

    def predict(self, photo: np.ndarray) -> np.ndarray:
        """Train ids (H, W) uint8 of one photo (H, W, 3) uint8, by the sliding window of `inference`.

        Windows are padded to multiples of the patch, so photos may have any size of at least one patch.
        """
        height, width = photo.shape[:2]
        patch, bound = self.inference.multiple, self.inference.bound
        resized = (width, height) if bound is None else keep_ratio_size(width, height, bound)
        for sides, where in (((width, height), ""), (resized, f" after fitting it into {bound}")):
            # Where one size fits, windows are padded to it.
            if min(sides) < patch != self.inference.window:
                raise ExportError(f"a photo of {sides[0]}x{sides[1]} pixels{where} is smaller than a patch ({patch})")
        weights = next(self.model.parameters(), None)  # a graph of ONNX has none
        device = torch.device("cpu") if weights is None else weights.device
        return predict(self.model, photo, (height, width), self.inference, device).astype(np.uint8)


def load_folder(folder: Path, engine: str = "torch") -> Exported:
    """Read a folder that `export` wrote, for the engine "torch", "onnx" or "int8".

    Raises ExportError where there is no such folder, engine or file, or files contradict config.json.
    """
    config = read_config(folder)
    if engine not in ENGINES:
        raise ExportError(f"unknown engine {engine!r}; known: {', '.join(ENGINES)}")
    file = folder / ENGINES[engine]
    if not file.is_file():
        option = "" if engine == "torch" else f" --{engine}"
        raise ExportError(f"{folder}: no {file.name} in it; export it again by `gkd export CHECKPOINT FOLDER{option}`")
    if engine == "torch":
        model = _torch(config, file)
    else:
        from gkd.deploy.onnx_runtime import OnnxModel  # onnxruntime is an extra

        if file.name in config.graphs and sha256(file) != config.graphs[file.name]:
            raise ExportError(f"{file} is damaged: it is not the graph that was written; copy it again")
        model = OnnxModel(file)
        if model.classes != len(config.classes):
            raise ExportError(f"{file} gives {model.classes} classes, config.json names {len(config.classes)}")
    return Exported(config, model, Inference(fill=config.encoder.mean, **config.inference.model_dump()))


def _torch(config: Config, file: Path) -> nn.Module:
    try:
        model = rebuild(config)
    except (ValueError, TypeError) as error:  # of timm's name or options
        raise ExportError(f"{file.with_name(FILE)}: {error}") from error
    try:
        load(file, {"encoder": model.encoder, "decoder": model.decoder})
    except CheckpointError as error:
        raise ExportError(f"config.json ({len(config.classes)} classes) and the weights disagree: {error}") from error
    return model
