"""The one training loop, on accelerate: AdamW under a schedule, one gradient of the global batch, history, states."""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, find_batch_size, send_to_device, slice_tensors
from torch import Tensor, nn

from gkd.train.compute import Reduced
from gkd.train.guard import Guard
from gkd.train.progress import Progress
from gkd.train.resume import Slot, load_model_state, model_state
from gkd.train.run import Run
from gkd.train.schedules import Schedule

Batches = Callable[[int], Iterable[Any]]
Step = Callable[[int, Any, "Share"], tuple[Tensor, dict[str, Tensor]]]


def fix_threads(threads: int) -> None:
    """Pin torch's threads (0 = its own choice) and its deterministic kernels, so that a rerun gives equal bytes.

    Subnormal numbers count as zero, where the processor can and in threads that start afterwards: QSD as published
    makes many, for its logits have no scale, and they slow a CPU down (perf/subnormal.py).
    """
    if threads:
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_flush_denormal(True)


@dataclass(frozen=True)
class Share:
    """Which part of the global batch a call of the step sees; the global batch is `parts` shares of equal size."""

    rows: slice  # its samples in the global batch: every n-th of n processes
    parts: int  # shares of the global batch, over all processes
    whole: Any  # the batch of this process, of which the share is a slice
    total: Callable[[Tensor], Tensor]  # adds a tensor up over the processes


@dataclass(frozen=True)
class Training:
    """What is trained, on what, and how."""

    step: Step  # (step number, batch, share) -> (loss, metrics), both means over the samples; no backward pass
    modules: Sequence[nn.Module]  # in train mode by `fit`, and in eval mode afterwards
    groups: list[dict[str, Any]]  # parameter groups of AdamW
    batches: Batches  # from the number of the first step to do: this process's batches from there to the last
    steps: int
    schedule: Schedule  # factor of the learning rates at a step
    micro_batch: int | None = None  # samples forwarded at a time (gradient accumulation); None = a process's batch
    labels: Sequence[str] = ()  # of the modules, where they are trained beside each other: names of metrics end in them


def engine() -> Accelerator:
    """The engine of one process: it finds the others (torchrun, `accelerate launch`, notebook_launcher) by itself."""
    # Without `cpu`, accelerate takes processes on a machine without GPUs for single ones.
    cpu = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.accelerator.is_available()
    # Parameters may be without a gradient: the mask token of convolutional models. Views: gradients are held once.
    options = DistributedDataParallelKwargs(find_unused_parameters=True, gradient_as_bucket_view=True)
    return Accelerator(cpu=cpu, kwargs_handlers=[options])


def fit(
    training: Training, run: Run, accelerator: Accelerator | None = None, dtype: torch.dtype = torch.float32
) -> pd.DataFrame:
    """Train and return the history: one row a step, with the metrics and the first group's learning rate.

    With `run.resume`, a killed run continues from its last state and ends with the bytes of one that was left alone.
    The gradient of a step is that of the global batch, over however many processes and micro-batches it is spread.
    The step computes in `dtype` (gkd.train.compute); weights, gradients, optimiser and states stay fp32.

    Raises:
        Diverged: a loss, a gradient or a weight is not finite, after the last step too; it is not saved.
        ValueError: the micro-batch does not divide a process's batch.
    """
    accelerator = accelerator or engine()
    slot, trained = run.slot, nn.ModuleList(training.modules).to(accelerator.device).train()
    model = accelerator.prepare(Reduced(_Step(training.step, trained), dtype))
    fused = True if run.compute.fused_adamw or dtype != torch.float32 else None  # None = torch's choice
    optimizer = accelerator.prepare(torch.optim.AdamW(training.groups, betas=(0.9, 0.999), eps=1e-8, fused=fused))
    bases = [group["lr"] for group in optimizer.param_groups]
    history = _continue(run, trained, optimizer)
    guard = Guard(run.name, training.modules, max(bases), training.labels)
    progress = Progress(run.name, training.steps, quiet=not accelerator.is_main_process)
    for number, batch in enumerate(training.batches(len(history)), start=len(history)):
        factor = training.schedule(number)
        for group, base in zip(optimizer.param_groups, bases, strict=True):
            group["lr"] = base * factor
        optimizer.zero_grad()
        batch = send_to_device(batch, accelerator.device, non_blocking=True)
        metrics = guard.read(number, _backward(model, accelerator, number, batch, training.micro_batch))
        optimizer.step()
        progress(number + 1, find_batch_size(batch) * accelerator.num_processes, metrics.pop("_loss"))
        history.append({"step": number, "lr": bases[0] * factor, **metrics})
        if slot is not None and accelerator.is_main_process and (slot.due() or number + 1 == training.steps):
            guard.weights(len(history))
            slot.save(_state(trained, optimizer, history))
    guard.weights(len(history))
    accelerator.wait_for_everyone()
    trained.eval()
    return pd.DataFrame(history)


def finished(slot: Slot, modules: Sequence[nn.Module]) -> pd.DataFrame:
    """Bring the end of a run that other processes did back into `modules`; returns its history."""
    state = slot.load()
    if state is None:
        raise RuntimeError(f"the processes ended without writing {slot.file}: see what they printed above")
    load_model_state(nn.ModuleList(modules).eval(), state["modules"])
    return pd.DataFrame(state["history"])


class _Step(nn.Module):
    """The step as a module that holds what it trains, so that DDP sees one forward pass and all gradients."""

    def __init__(self, step: Step, trained: nn.ModuleList) -> None:
        super().__init__()
        self.step, self.trained = step, trained

    def forward(self, number: int, batch: Any, share: Share) -> tuple[Tensor, dict[str, Tensor]]:
        return self.step(number, batch, share)


def _backward(
    model: nn.Module, accelerator: Accelerator, number: int, batch: Any, micro_batch: int | None
) -> dict[str, Tensor]:
    """Gradients of one global batch; returns its metrics, and its loss as `_loss`."""
    size, processes = find_batch_size(batch), accelerator.num_processes
    length = min(micro_batch or size, size)
    if size % length:
        raise ValueError(f"micro_batch: {length} does not divide the {size} samples of a process")
    chunks = range(0, size, length)
    sums: dict[str, Tensor] = {}
    for start in chunks:
        rows = slice(accelerator.process_index + start * processes, (start + length) * processes, processes)
        share = Share(rows, processes * len(chunks), batch, partial(accelerator.reduce, reduction="sum"))
        last = start == chunks[-1]
        with nullcontext() if last else accelerator.no_sync(model):
            loss, metrics = model(number, slice_tensors(batch, slice(start, start + length)), share)
            accelerator.unwrap_model(model).backward(partial(accelerator.backward, loss / len(chunks)))
        for key, value in {"_loss": loss.detach(), **metrics}.items():
            sums[key] = sums[key] + value if key in sums else value
    if processes > 1:
        means = accelerator.reduce(torch.stack(list(sums.values())), reduction="mean")
        sums = dict(zip(sums, means.unbind(), strict=True))
    return {key: value / len(chunks) for key, value in sums.items()}


def _state(trained: nn.Module, optimizer: Any, history: list[dict[str, float]]) -> dict[str, Any]:
    return {
        "history": history,
        "modules": model_state(trained),
        "optimizer": optimizer.state_dict(),
        # For what draws while the model runs (drop path, sampled points); data and masks have seeds of their own.
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _continue(run: Run, trained: nn.Module, optimizer: Any) -> list[dict[str, float]]:
    """Bring back the last state of a run; returns its history, which is empty where there is none."""
    state = None if run.slot is None else run.slot.load()
    if state is None:
        return []
    load_model_state(trained, state["modules"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    if state["random_cuda"]:
        torch.cuda.set_rng_state_all(state["random_cuda"])
    print(f"{run.name}  continues after step {len(state['history'])}", flush=True)
    return state["history"]
