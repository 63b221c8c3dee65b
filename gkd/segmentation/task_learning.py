"""Task learning: a decoder on source labels, its learning rate chosen on the source's own validation part."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gkd.data.domains import Source
from gkd.data.labels import IGNORE
from gkd.data.loading import loader
from gkd.data.transforms import LabelledView
from gkd.methods.baselines import pixel_kl
from gkd.params import EncoderSpec, Evaluate, Params, TaskLearning
from gkd.segmentation.decoders import Decoder, Segmentor, build_decoder
from gkd.segmentation.evaluation import evaluate_all, scores
from gkd.segmentation.windows import Inference, predict
from gkd.train.loop import Progress, Schedule, Share, engine, finished, fit, parameter_groups, poly
from gkd.train.processes import launch
from gkd.train.resume import Resume, Slot
from gkd.weights import build_encoder


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
    """Train `model` in place with its decoder's loss, plus the KL term to `guide` where one is given."""
    return learn_side_by_side({lr: model}, data, section, seed, name, guide)[lr]


def learn_side_by_side(
    models: Mapping[float, Segmentor],
    data: Any,
    section: TaskLearning,
    seed: int,
    name: str,
    guide: Segmentor | None = None,
    slot: Slot | None = None,
    processes: int = 1,
) -> dict[float, pd.DataFrame]:
    """Train copies of one segmentor in place, each at its own learning rate; returns the history of each.

    They see the same batches anyway, so a batch is read and augmented once, and frozen encoders and the guide run
    once for all. The bytes are those of one run after another (losses of separate models add up); memory holds the
    activations of all.

    Args:
        models: by learning rate. Where they are frozen they share their encoder.
        data: `data[i]` -> uint8 image (H, W, 3) and label (H, W).
        section: steps, batch, augmentation and optimiser; its `lrs` are not looked at.
        seed: of data order and augmentation.
        name: shown in the progress lines.
        guide: the teacher's segmentor, for the KL term.
        slot: where states are kept while this runs, so that a killed run can continue.
        processes: started for the run, one a GPU where there are GPUs; more than one need a slot.
    """
    schedule = poly(section.steps, section.power)
    if processes > 1:
        launch(processes, slot, learn_side_by_side, models, data, section, seed, name, guide, slot)
        return _histories(finished(slot, list(models.values())), models, schedule)
    accelerator = engine()
    if guide is not None:
        guide.requires_grad_(False).eval().to(accelerator.device)
    first = next(iter(models.values()))

    def step(number: int, batch: list[Tensor], share: Share) -> tuple[Tensor, dict[str, Tensor]]:
        images, labels = batch
        labelled = share.total((share.whole[1] != IGNORE).sum()) / share.parts
        target = None
        if guide is not None:
            with torch.no_grad():
                target = guide.log_scores(images)
        shared = first.features(images) if first.frozen else None
        losses, metrics = [], {}
        for lr, model in models.items():
            features = model.features(images) if shared is None else shared
            with _seeded(images.device, seed, number):
                loss, parts = task_loss(model.decoder, features, labels, section, target, labelled)
            losses.append(loss)
            metrics |= {f"{key} {lr}": value for key, value in parts.items()}
        return torch.stack(losses).sum(), metrics

    view = LabelledView(section)

    def batches(start: int) -> Iterable[list[Tensor]]:
        process = accelerator.process_index, accelerator.num_processes
        shape = section.steps, section.batch_size, seed
        return loader(data, view, *shape, labelled=True, start=start, process=process)

    groups = [group for lr, model in models.items() for group in _groups(model, section, lr)]
    run = section.steps, schedule, name, accelerator, slot, section.micro_batch
    return _histories(fit(step, list(models.values()), groups, batches, *run), models, schedule)


def _histories(record: pd.DataFrame, models: Iterable[float], schedule: Schedule) -> dict[float, pd.DataFrame]:
    """The history of each learning rate, from the common one."""
    histories = {}
    for lr in models:
        own = [column for column in record if column.endswith(f" {lr}")]
        rates = [lr * schedule(number) for number in record["step"]]
        columns = record[own].rename(columns=lambda column: column.split(" ")[0])
        histories[lr] = pd.concat([record[["step"]].assign(lr=rates), columns], axis=1)
    return histories


def task_loss(
    decoder: Decoder,
    features: Tensor | list[Tensor],
    labels: Tensor,
    section: TaskLearning,
    target: Tensor | None = None,
    labelled: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The decoder's loss for labels (B, H, W), plus the weighted KL to the guide's log scores `target` (B, K, h, w).

    A cross-entropy is the mean over `labelled` pixels: those of `labels`, unless they are a share of a batch.
    """
    prediction = decoder.predict(features)
    loss, metrics = decoder.loss(prediction, labels, labelled)
    if target is not None:
        kl = pixel_kl(decoder.log_scores(prediction), target, section.kd_temperature)
        loss = loss + section.kd_weight * kl
        metrics["kd_loss"] = kl.detach()
    return loss, {**metrics, "loss": loss.detach()}


@contextmanager
def _seeded(device: torch.device, *key: int) -> Iterator[None]:
    """Draws of a loss, such as Mask2Former's points, follow `key` alone: equal for reruns and for all candidates."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
        yield


def _groups(model: Segmentor, section: TaskLearning, lr: float) -> list[dict[str, Any]]:
    undecayed = model.decoder.undecayed()
    kept = {id(parameter) for parameter in undecayed}
    decayed = [parameter for parameter in model.decoder.parameters() if id(parameter) not in kept]
    groups = [
        {"params": decayed, "weight_decay": section.weight_decay, "lr": lr},
        {"params": undecayed, "weight_decay": 0.0, "lr": lr},
    ]
    if not model.frozen:
        groups += parameter_groups([model.encoder], lr * section.encoder_lr_factor, section.weight_decay)
    return groups


def build_segmentor(
    params: Params, spec: EncoderSpec, classes: int, frozen: bool, seed: int, init: Path | None = None
) -> Segmentor:
    """Encoder of `spec` (from the checkpoint `init` if given) under a decoder initialised from `seed`."""
    encoder = build_encoder(spec, init, seed)
    torch.manual_seed(seed)
    return Segmentor(encoder, build_decoder(params.models, encoder, classes, spec.blocks), frozen)


def inference(model: Segmentor, protocol: Evaluate, domain: str) -> Inference:
    """How `model` is evaluated on a domain by the protocol of the profile."""
    bound = protocol.bounds.get(domain)
    return Inference(
        window=protocol.window,
        stride=protocol.stride,
        bound=None if bound is None else tuple(bound),
        multiple=model.encoder.stride,
        batch_size=protocol.batch_size,
        fill=tuple(model.encoder.mean.flatten().tolist()),
        flip=protocol.flip,
        scales=tuple(protocol.scales),
    )


def measure(
    model: Segmentor,
    data: Any,
    classes: int,
    protocol: Evaluate,
    domain: str,
    name: str,
    resume: Resume | None = None,
    processes: int = 1,
) -> np.ndarray:
    """Confusion matrix (K, K) of one model on one domain, see `measure_all`."""
    return measure_all({"": model}, data, classes, protocol, domain, name, resume, processes)[""]


def measure_all(
    models: Mapping[str, Segmentor],
    data: Any,
    classes: int,
    protocol: Evaluate,
    domain: str,
    name: str,
    resume: Resume | None = None,
    processes: int = 1,
) -> dict[str, np.ndarray]:
    """Confusion matrix (K, K) of each model on one domain by the evaluation protocol of the profile.

    The domain is read once for all. `name` is shown in the progress lines. `resume` lets a killed evaluation continue;
    more than one process need it. Processes take every n-th photo, and their counts add up exactly.
    """
    whole = None if resume is None else resume.slot(f"{name} on {domain}")
    if processes > 1:
        launch(processes, resume, measure_all, models, data, classes, protocol, domain, name, resume)
    if whole is not None and (done := whole.load()) is not None:
        return {model: confusion.numpy() for model, confusion in done.items()}
    accelerator = engine()
    process = accelerator.process_index, accelerator.num_processes
    own = None if resume is None else resume.slot(f"{name} on {domain} {process[0]} of {process[1]}")
    progress = Progress(f"{name} on {domain}", len(data), quiet=not accelerator.is_main_process)
    ways = {key: (model, inference(model, protocol, domain)) for key, model in models.items()}
    counts = evaluate_all(ways, data, classes, accelerator.device, progress, own, process)
    totals = {
        key: accelerator.reduce(torch.from_numpy(part).to(accelerator.device), "sum").cpu()
        for key, part in counts.items()
    }
    if whole is not None and accelerator.is_main_process:
        whole.save(totals)
    return {key: total.numpy() for key, total in totals.items()}


def show(
    model: Segmentor, data: Any, protocol: Evaluate, domain: str, count: int
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Photos, labels and predicted class maps of one model, see `show_all`."""
    photos, labels, maps = show_all({"": model}, data, protocol, domain, count)
    return photos, labels, maps[""]


def show_all(
    models: Mapping[str, Segmentor], data: Any, protocol: Evaluate, domain: str, count: int
) -> tuple[list[np.ndarray], list[np.ndarray], dict[str, list[np.ndarray]]]:
    """Photos, labels and each model's class maps of `count` samples, spread evenly over the domain and read once."""
    rows = np.linspace(0, len(data) - 1, min(count, len(data))).round().astype(int)
    samples = [data[int(row)] for row in rows]
    device, maps = engine().device, {}
    for name, model in models.items():
        how = inference(model, protocol, domain)
        model.to(device).eval()
        maps[name] = [predict(model, photo, label.shape, how, device) for photo, label in samples]
    return [photo for photo, _ in samples], [label for _, label in samples], maps


def score_row(who: dict[str, Any], domain: str, confusion: np.ndarray, lr: float) -> dict[str, Any]:
    """One row of scores.csv (gkd.report.tables): `who` has setting, method, source and seed; `lr` is the chosen one."""
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
    resume: Resume | None = None,
    processes: int = 1,
) -> Trained:
    """Train once for each learning rate of `section.lrs`, from the same start; keep the best on `validation`.

    The same set and the same rule for every method; no target domain is looked at. A tie goes to the first. With
    `resume`, a killed choice continues where it was; `processes` share the work, and need it.
    """
    candidates = {lr: _candidate(model) for lr in section.lrs}
    rates = ", ".join(f"{lr:g}" for lr in candidates) + (" (losses summed)" if len(candidates) > 1 else "")
    training = None if resume is None else resume.slot("training")
    run = seed, f"{name} lr {rates}", guide, training, processes
    histories = learn_side_by_side(candidates, data, section, *run)
    runs = []
    for lr, candidate in candidates.items():
        own = f"{name} lr {lr:g}"
        part = source.validation.name
        confusion = measure(candidate, validation, len(source.classes), protocol, part, own, resume, processes)
        runs.append((scores(confusion).miou, lr, confusion))
        print(f"{name} lr {lr:g}  source validation mIoU {runs[-1][0]:.2f}", flush=True)
    _, lr, confusion = max(runs, key=lambda run: run[0])
    choice = pd.DataFrame([{"lr": run[1], "miou": run[0]} for run in runs])
    return Trained(candidates[lr], lr, histories[lr], choice, confusion)


def _candidate(model: Segmentor) -> Segmentor:
    """A copy to train; a frozen encoder, which nothing changes, is shared."""
    if not model.frozen:
        return copy.deepcopy(model)
    return Segmentor(model.encoder, copy.deepcopy(model.decoder), frozen=True)
