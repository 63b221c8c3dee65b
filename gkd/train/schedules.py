"""Learning rates by step, and the parameter groups of AdamW."""

import math
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

Schedule = Callable[[int], float]


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
    """Factor (1 - step / steps) ** power, the usual one of segmentation."""
    return lambda step: (1 - min(step, steps) / steps) ** power


def parameter_groups(modules: Iterable[nn.Module], lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """AdamW groups: no weight decay on biases, norms and other one-dimensional parameters."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    decay, plain = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [{**group, "lr": lr} for group in groups if group["params"]]
