"""The one training loop, on accelerate: optimiser, schedule, progress, history."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from gkd.resume import Slot, load_model_state, model_state

Batches = Callable[[int], Iterable[Any]]
Step = Callable[[int, Any], tuple[Tensor, dict[str, Tensor]]]
Schedule = Callable[[int], float]


def fix_threads(threads: int) -> None:
    """Pin torch's threads (0 = its own choice) and its deterministic kernels, so that a rerun gives equal bytes."""
    if threads:
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)


def cosine(steps: int, base: float, minimum: float = 0.0, warmup: int = 0) -> Schedule:
    """Factor of the learning rate at a step: linear warm-up, then cosine from 1 to minimum / base."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = (step - warmup) / max(1, steps - warmup)
        floor = minimum / base
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return factor


def poly(steps: int, power: float) -> Schedule:
    """Factor (1 - step / steps) ** power, as in task learning (protocol section 3)."""
    return lambda step: (1 - min(step, steps) / steps) ** power


def parameter_groups(modules: Iterable[nn.Module], lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """AdamW groups: no weight decay on biases, norms and other one-dimensional parameters (protocol section 2)."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    decay, plain = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [{**group, "lr": lr} for group in groups if group["params"]]


def fit(
    step: Step,
    modules: Sequence[nn.Module],
    groups: list[dict[str, Any]],
    batches: Batches,
    steps: int,
    schedule: Schedule,
    name: str,
    accelerator: Accelerator | None = None,
    slot: Slot | None = None,
) -> pd.DataFrame:
    """Train for `steps` steps and return the history: one row a step, with the metrics and the learning rate.

    With a slot, a killed run continues from its last state and ends with the bytes of one that was left alone.

    Args:
        step: (step number, batch) -> (loss, metrics), without the backward pass.
        modules: what is trained, in train mode here and in eval mode afterwards.
        groups: parameter groups of AdamW.
        batches: called with the number of the first step to do, gives the batches from there to the last step.
        schedule: factor of the learning rates at a step.
        name: shown in the progress lines.
        accelerator: the engine; a fresh one by default.
        slot: where states are kept while this runs; None = nowhere.

    Raises:
        FloatingPointError: the loss is no longer finite.
    """
    accelerator = accelerator or Accelerator()
    optimizer = accelerator.prepare(torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8))
    bases = [group["lr"] for group in optimizer.param_groups]
    for module in modules:
        module.to(accelerator.device).train()
    history = _continue(slot, modules, optimizer, name)
    progress = Progress(name, steps, done=len(history))
    for number, batch in enumerate(batches(len(history)), start=len(history)):
        factor = schedule(number)
        for group, base in zip(optimizer.param_groups, bases, strict=True):
            group["lr"] = base * factor
        loss, metrics = step(number, _to(batch, accelerator.device))
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"{name}: the loss is {float(loss.detach())} at step {number}; lower the learning rate ({max(bases):g})"
            )
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        history.append({"step": number, "lr": bases[0] * factor, **{k: float(v) for k, v in metrics.items()}})
        progress(number + 1, _batch_size(batch), float(loss.detach()))
        if slot is not None and (slot.due() or number + 1 == steps):
            slot.save(_state(modules, optimizer, history))
    for module in modules:
        module.eval()
    return pd.DataFrame(history)


def _state(modules: Sequence[nn.Module], optimizer: Any, history: list[dict[str, float]]) -> dict[str, Any]:
    return {
        "history": history,
        "modules": [model_state(module) for module in modules],
        "optimizer": optimizer.state_dict(),
        # For what draws while the model runs (drop path, sampled points); data and masks have seeds of their own.
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _continue(slot: Slot | None, modules: Sequence[nn.Module], optimizer: Any, name: str) -> list[dict[str, float]]:
    """Bring back the last state of `slot`; returns its history, which is empty where there is none."""
    state = None if slot is None else slot.load()
    if state is None:
        return []
    for module, own in zip(modules, state["modules"], strict=True):
        load_model_state(module, own)
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    if state["random_cuda"]:
        torch.cuda.set_rng_state_all(state["random_cuda"])
    print(f"{name}  continues after step {len(state['history'])}", flush=True)
    return state["history"]


class Progress:
    """Plain lines on the terminal while a stage runs: step of total, loss, images per second, time left."""

    def __init__(self, name: str, total: int, every: float = 5.0, done: int = 0) -> None:
        self.name, self.total, self.every, self.before = name, total, every, done
        self.start = self.last = time.monotonic()
        self.images = 0

    def __call__(self, done: int, images: int, loss: float | None = None) -> None:
        """Count one step; print at most every few seconds, and at the end."""
        self.images += images
        now = time.monotonic()
        if now - self.last < self.every and done < self.total:
            return
        self.last = now
        elapsed = max(now - self.start, 1e-9)
        shown = "" if loss is None else f"  loss {loss:.4f}"
        left = elapsed / (done - self.before) * (self.total - done)
        print(
            f"{self.name}  step {done}/{self.total}{shown}  {self.images / elapsed:.1f} images/s  "
            f"{int(left) // 60}:{int(left) % 60:02d} left",
            flush=True,
        )


def _to(batch: Any, device: torch.device) -> Any:
    return [t.to(device, non_blocking=True) for t in batch] if isinstance(batch, list | tuple) else batch.to(device)


def _batch_size(batch: Any) -> int:
    return len(batch[0]) if isinstance(batch, list | tuple) else len(batch)
