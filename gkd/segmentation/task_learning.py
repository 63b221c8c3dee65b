"""Task learning: a decoder on source labels, its learning rate chosen on the source's own validation part.

validation = EvaluationSet("gtav_val", images, classes=19, protocol=params.inference)
trained = choose(model, data, validation, section=params.task_learning, run=Run("my run"))
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gkd.data.labels import IGNORE
from gkd.data.loading import Draw, loader
from gkd.data.transforms import LabelledView
from gkd.params import EncoderSpec, Models, TaskLearning
from gkd.segmentation.decoders import Segmentor, build_decoder
from gkd.segmentation.evaluation import Samples
from gkd.segmentation.measure import EvaluationSet, measure_all
from gkd.segmentation.scores import scores
from gkd.train.guard import Diverged
from gkd.train.loop import Share, Training, engine, finished, fit
from gkd.train.pool import kept, opened, seen
from gkd.train.processes import launch
from gkd.train.run import Run
from gkd.train.schedules import Schedule, parameter_groups, poly
from gkd.weights import build_encoder

WATCHED = 100  # batches at the start, of which one must have a label


@dataclass(frozen=True)
class Guide:
    """What a guided method adds to the decoder's loss."""

    segmentor: Segmentor  # the teacher's, trained on the same source; it is frozen here
    loss: Callable[[Tensor, Tensor, float], Tensor]  # of log scores (B, K, h, w), student's and teacher's; temperature


@dataclass
class Trained:
    """The outcome of task learning: the chosen model and what the choice was made from."""

    model: Segmentor
    lr: float
    history: pd.DataFrame
    choice: pd.DataFrame  # columns lr, miou (of the source's validation part)
    confusion: np.ndarray  # of the chosen model on that part


def learn_side_by_side(
    models: Mapping[float, Segmentor], data: Samples, section: TaskLearning, run: Run, guide: Guide | None = None
) -> dict[float, pd.DataFrame]:
    """Train copies of one segmentor in place, each at its own learning rate; returns the history of each.

    The loss is that of the decoder, plus that of a guide where one is given.

    They see the same batches anyway, so a batch is read and augmented once, and frozen encoders and the guide run
    once for all. The bytes are those of one run after another (losses of separate models add up); memory holds the
    activations of all. With `section.pool`, that many views are drawn once, at the start, and each step takes of
    these (gkd.train.pool): features where the encoder is frozen, else the views themselves, and the guide's scores.

    Args:
        models: by learning rate. Where they are frozen they share their encoder.
        data: `data[i]` -> uint8 image (H, W, 3) and label (H, W).
        section: steps, batch, augmentation and optimiser; its `lrs` are not looked at.
        run: name, seed of data order, augmentation and losses that draw, states and processes.
        guide: the teacher's segmentor and its loss.

    Raises ValueError where no label of the first batches holds a class.
    """
    schedule = poly(section.steps, section.power)
    if run.processes > 1:
        launch(run, learn_side_by_side, models=models, data=data, section=section, guide=guide)
        return _histories(finished(run.slot, list(models.values())), models, schedule)
    accelerator = engine()
    if guide is not None:
        guide.segmentor.requires_grad_(False).eval().to(accelerator.device)
    frozen, void = _Frozen(next(iter(models.values())), guide), False
    last = min(section.steps, WATCHED) - 1

    def step(number: int, batch: dict[str, Tensor], share: Share) -> tuple[Tensor, dict[str, Tensor]]:
        nonlocal void
        batch = {**batch, **frozen.say(batch["images"])} if section.pool is None else opened(batch)
        labels, target = batch["labels"], batch.get("target")
        labelled = share.total((share.whole["labels"] != IGNORE).sum()) / share.parts
        void = void and number <= last and not labelled  # later a GPU need not be waited for
        if void and number == last:
            raise ValueError(f"{run.name}: no label in the first {last + 1} batches holds a class; see `gkd doctor`")
        losses, metrics = [], {}
        for lr, model in models.items():
            features = frozen.features(batch) if model.frozen else model.features(batch["images"])
            with _seeded(labels.device, run.seed, number):
                prediction = model.decoder.predict(features)
                loss, parts = model.decoder.loss(prediction, labels, labelled)
                if guide is not None:
                    guided = guide.loss(model.decoder.log_scores(prediction), target, section.kd_temperature)
                    loss = loss + section.kd_weight * guided
                    parts["kd_loss"] = guided.detach()
            losses.append(loss)
            metrics |= {f"{key} {lr}": value for key, value in {**parts, "loss": loss.detach()}.items()}
        return torch.stack(losses).sum(), metrics

    view = LabelledView(section)

    def views(draw: Draw) -> Iterable[dict[str, Tensor]]:
        return ({"images": images, "labels": labels} for images, labels in loader(data, view, draw))

    def ask(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        images, labels = (batch[name].to(accelerator.device) for name in ("images", "labels"))
        images = kept(images)
        said = {name: kept(part) for name, part in frozen.say(images.float()).items()}
        return {"labels": labels.byte(), **({} if frozen.model.frozen else {"images": images}), **said}

    def like(count: int) -> dict[str, Tensor]:
        labels = torch.zeros(count, *section.crop, dtype=torch.int64)
        return {"images": torch.zeros(count, 3, *section.crop), "labels": labels}

    def batches(start: int) -> Iterable[dict[str, Tensor]]:
        nonlocal void
        void = start == 0
        process = accelerator.process_index, accelerator.num_processes
        draw = Draw(section.steps, section.batch_size, run.seed, start=start, process=process)
        return seen(section, draw, views, ask, like, run.name)

    training = Training(
        step=step,
        modules=list(models.values()),
        labels=[str(lr) for lr in models],
        groups=[group for lr, model in models.items() for group in _groups(model, section, lr)],
        batches=batches,
        steps=section.steps,
        schedule=schedule,
        micro_batch=section.micro_batch,
    )
    return _histories(fit(training, run, accelerator), models, schedule)


@dataclass(frozen=True)
class _Frozen:
    """What models that do not learn say of a view: the same for all candidates, and at every step."""

    model: Segmentor  # any candidate; frozen ones share their encoder
    guide: Guide | None

    def say(self, images: Tensor) -> dict[str, Tensor]:
        """By name (B, ...): the guide's log scores, and a frozen encoder's maps."""
        said = {}
        with torch.no_grad():
            if self.guide is not None:
                said["target"] = self.guide.segmentor.log_scores(images)
            if self.model.frozen:
                maps = self.model.features(images)
                maps = maps if self.model.decoder.blocks else [maps]
                said |= {f"map {number}": part for number, part in enumerate(maps)}
        return said

    def features(self, said: Mapping[str, Tensor]) -> Tensor | list[Tensor]:
        """What a decoder reads, from those maps."""
        maps = [part for name, part in said.items() if name.startswith("map ")]
        return maps if self.model.decoder.blocks else maps[0]


def _histories(record: pd.DataFrame, models: Iterable[float], schedule: Schedule) -> dict[float, pd.DataFrame]:
    """The history of each learning rate, from the common one."""
    histories = {}
    for lr in models:
        own = [column for column in record if column.endswith(f" {lr}")]
        rates = [lr * schedule(number) for number in record["step"]]
        columns = record[own].rename(columns=lambda column: column.split(" ")[0])
        histories[lr] = pd.concat([record[["step"]].assign(lr=rates), columns], axis=1)
    return histories


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
    models: Models, spec: EncoderSpec, classes: int, frozen: bool, seed: int, init: Path | None = None
) -> Segmentor:
    """Encoder of `spec` (from the checkpoint `init` if given) under the decoder of `models`, both drawn by `seed`."""
    encoder = build_encoder(spec, init, seed)
    torch.manual_seed(seed)
    return Segmentor(encoder, build_decoder(models, encoder, classes, spec.blocks), frozen)


def choose(
    model: Segmentor,
    data: Samples,
    validation: EvaluationSet,
    section: TaskLearning,
    run: Run,
    guide: Guide | None = None,
) -> Trained:
    """Train once for each learning rate of `section.lrs`, from the same start; keep the best on `validation`.

    The same set and the same rule for every method; no target domain is looked at. The best is that of the highest
    mIoU, unrounded; of equals, the first. A rate that diverges has none (NaN in `choice`), and is no candidate: the
    others begin anew without it. With `run.resume`, a killed choice continues where it was.

    Raises Diverged where every rate diverges. In several processes one of them ends the run.
    """
    histories, candidates = _learn(model, data, section, run, guide)
    found = measure_all({f"lr {lr}": candidate for lr, candidate in candidates.items()}, validation, run)
    confusions = dict(zip(candidates, found.values(), strict=True))
    miou = {lr: scores(confusion).miou for lr, confusion in confusions.items()}
    for lr, score in miou.items():
        print(f"{run.name} lr {lr}  source validation mIoU {score:.2f}", flush=True)
    best = max(miou, key=miou.__getitem__)
    choice = pd.DataFrame({"lr": section.lrs, "miou": [miou.get(lr, np.nan) for lr in section.lrs]})
    return Trained(candidates[best], best, histories[best], choice, confusions[best])


def _learn(
    model: Segmentor, data: Samples, section: TaskLearning, run: Run, guide: Guide | None
) -> tuple[dict[float, pd.DataFrame], dict[float, Segmentor]]:
    """Histories and models of those learning rates that do not diverge."""
    lrs = section.lrs
    while True:
        candidates = {lr: _candidate(model) for lr in lrs}
        named = run.part(f"lr {', '.join(map(str, lrs))}{' (losses summed)' if len(lrs) > 1 else ''}")
        try:
            return learn_side_by_side(candidates, data, section, named, guide), candidates
        except Diverged as error:
            lrs = [lr for lr in lrs if str(lr) not in error.labels]
            # Of several processes one alone may have found it: before it saves a state.
            if not lrs or len(lrs) == len(candidates) or engine().num_processes > 1:
                raise
            print(f"{error}. Left out; the others begin anew", flush=True)


def _candidate(model: Segmentor) -> Segmentor:
    """A copy to train; a frozen encoder, which nothing changes, is shared."""
    if not model.frozen:
        return copy.deepcopy(model)
    return Segmentor(model.encoder, copy.deepcopy(model.decoder), frozen=True)
