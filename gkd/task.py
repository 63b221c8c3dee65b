"""Task learning: a decoder on source labels, its learning rate chosen on the source's own validation part."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from gkd.baselines import pixel_kl
from gkd.benchmarks import Source
from gkd.checkpoints import build_encoder
from gkd.decoders import Segmentor, build_decoder
from gkd.evaluation import evaluate, predict, scores
from gkd.labels import IGNORE
from gkd.loading import loader
from gkd.params import EncoderSpec, Evaluate, Params, TaskLearning
from gkd.training import Progress, fit, parameter_groups, poly
from gkd.transforms import LabelledView


@dataclass
class Trained:
    """The outcome of task learning: the chosen model and what the choice was made from."""

    model: Segmentor
    lr: float
    history: pd.DataFrame
    choice: pd.DataFrame  # columns lr, miou (of the source's validation part)
    confusion: np.ndarray  # of the chosen model on that part


def learn(
    model: Segmentor,
    data: Any,
    section: TaskLearning,
    lr: float,
    seed: int,
    name: str,
    guide: Segmentor | None = None,
) -> pd.DataFrame:
    """Train `model` in place with cross-entropy, plus the KL term to `guide` where one is given."""
    accelerator = Accelerator()
    if guide is not None:
        guide.requires_grad_(False).eval().to(accelerator.device)

    def step(_number: int, batch: list[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        images, labels = batch
        logits = model(images)  # (B, K, h, w)
        full = F.interpolate(logits, labels.shape[-2:], mode="bilinear", align_corners=False)
        labelled = (labels != IGNORE).sum().clamp(min=1)  # a batch may be all void
        loss = F.cross_entropy(full, labels, ignore_index=IGNORE, reduction="sum") / labelled
        metrics = {"ce_loss": loss.detach()}
        if guide is not None:
            with torch.no_grad():
                target = guide(images)
            kl = pixel_kl(logits, target, section.kd_temperature)
            loss = loss + section.kd_weight * kl
            metrics["kd_loss"] = kl.detach()
        return loss, {**metrics, "loss": loss.detach()}

    batches = loader(data, LabelledView(section), section.steps, section.batch_size, seed, labelled=True)
    groups = parameter_groups([model.decoder], lr, section.weight_decay)
    if not model.frozen:
        groups += parameter_groups([model.encoder], lr * section.encoder_lr_factor, section.weight_decay)
    return fit(step, [model], groups, batches, section.steps, poly(section.steps, section.power), name, accelerator)


def build_segmentor(
    params: Params, spec: EncoderSpec, classes: int, frozen: bool, seed: int, init: Path | None = None
) -> Segmentor:
    """Encoder of `spec` (from the checkpoint `init` if given) under a decoder initialised from `seed`."""
    encoder = build_encoder(spec, init, seed)
    torch.manual_seed(seed)
    decoder = build_decoder(params.models.decoder, encoder.dim, classes, params.models.decoder_width)
    return Segmentor(encoder, decoder, frozen)


def _protocol(model: Segmentor, protocol: Evaluate, domain: str) -> dict[str, Any]:
    bound = protocol.bounds.get(domain)
    return {
        "bound": None if bound is None else tuple(bound),
        "window": protocol.window,
        "stride": protocol.stride,
        "multiple": model.encoder.stride,
        "batch_size": protocol.batch_size,
        "device": Accelerator().device,
        "fill": model.encoder.mean.flatten().tolist(),
    }


def measure(model: Segmentor, data: Any, classes: int, protocol: Evaluate, domain: str, name: str) -> np.ndarray:
    """Confusion matrix (K, K) of `model` on one domain by the evaluation protocol of the profile.

    `name` is shown in the progress lines.
    """
    progress = Progress(f"{name} on {domain}", len(data))
    return evaluate(model, data, classes, **_protocol(model, protocol, domain), progress=progress)


def show(
    model: Segmentor, data: Any, protocol: Evaluate, domain: str, count: int
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Photos, labels and predicted class maps of `count` samples, spread evenly over the domain."""
    rows = np.linspace(0, len(data) - 1, min(count, len(data))).round().astype(int)
    samples = [data[int(row)] for row in rows]
    options = _protocol(model, protocol, domain)
    model.to(options["device"]).eval()
    with torch.inference_mode():
        maps = [predict(model, photo, label.shape, **options) for photo, label in samples]
    return [photo for photo, _ in samples], [label for _, label in samples], maps


def score_row(who: dict[str, Any], domain: str, confusion: np.ndarray, lr: float) -> dict[str, Any]:
    """One row of scores.csv (see gkd.tables): `who` has setting, method, source and seed; `lr` is the chosen one."""
    result = scores(confusion)
    return {**who, "domain": domain, "miou": result.miou, "macc": result.macc, "aacc": result.aacc, "lr": lr}


def choose(
    model: Segmentor,
    data: Any,
    validation: Any,
    source: Source,
    section: TaskLearning,
    protocol: Evaluate,
    seed: int,
    name: str,
    guide: Segmentor | None = None,
) -> Trained:
    """Train once for each learning rate of `section.lrs`, from the same start; keep the best on `validation`.

    The same set and the same rule for every method; no target domain is looked at. A tie goes to the first.
    """
    runs = []
    for lr in section.lrs:
        candidate = copy.deepcopy(model)
        history = learn(candidate, data, section, lr, seed, f"{name} lr {lr:g}", guide)
        confusion = measure(candidate, validation, len(source.classes), protocol, source.validation.name, name)
        runs.append((scores(confusion).miou, lr, candidate, history, confusion))
        print(f"{name} lr {lr:g}  source validation mIoU {runs[-1][0]:.2f}", flush=True)
    _, lr, best, history, confusion = max(runs, key=lambda run: run[0])
    choice = pd.DataFrame([{"lr": run[1], "miou": run[0]} for run in runs])
    return Trained(best, lr, history, choice, confusion)
