"""Activations that are computed again in the backward pass instead of being kept: less memory, the same bits.

with recomputing(student, "activations"):       # hidden activations of the MLPs: a third less memory, 1 % more time
    history = fit(...)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

from timm.layers import Mlp
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from gkd.models.backbones import blocks_of

Recompute = Literal["none", "activations", "blocks"]


@contextmanager
def recomputing(encoder: nn.Module, what: Recompute) -> Iterator[None]:
    """While it lasts, `encoder` keeps fewer activations for the backward pass.

    Args:
        encoder: an encoder, or its timm backbone.
        what: "none"; "activations": what follows the non-linearity in each MLP, which is as wide as its input, is
            computed again (no matrix product is); "blocks": each block keeps its input alone and runs again whole.

    Raises:
        ValueError: "blocks" and the backbone has none, or they hold batch statistics, which would count twice.
    """
    changed: dict[nn.Module, Callable[..., Any]] = {}
    if what == "activations":
        changed = {
            m: partial(_mlp, m) for m in encoder.modules() if isinstance(m, Mlp) and isinstance(m.fc2, nn.Linear)
        }
    elif what == "blocks":
        blocks = blocks_of(encoder)
        _check(blocks, encoder)
        changed = {block: partial(_again, _Own(block)) for block in blocks}
    for module, forward in changed.items():
        module.forward = forward
    try:
        yield
    finally:
        for module in changed:
            del module.forward  # the class's own again


class _Own(nn.Module):
    """Calls the forward method of the module's class: not the one that stands in for it here, and no hooks twice."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *arguments: Any, **options: Any) -> Any:
        return type(self.module).forward(self.module, *arguments, **options)


def _again(module: nn.Module, *arguments: Any, **options: Any) -> Any:
    """`module(*arguments)`, run again in the backward pass with the weights that it has now.

    In bf16 these are casts that `module` holds during the forward pass alone (gkd.train.compute.Reduced).
    """
    weights = dict(module.named_parameters())
    return checkpoint(functional_call, module, weights, arguments, options, use_reentrant=False)


def _mlp(mlp: Mlp, x: Tensor) -> Tensor:
    hidden = mlp.fc1(x)  # (B, N, h)
    # The checkpoint ends where the last tensor is back that the backward pass asks for: before the product of fc2.
    return _again(nn.Sequential(mlp.act, mlp.drop1, mlp.norm, mlp.fc2, mlp.drop2), hidden)


def _check(blocks: list[nn.Module], encoder: nn.Module) -> None:
    name = type(getattr(encoder, "backbone", encoder)).__name__
    if not blocks:
        raise ValueError(f"recompute: {name} has no blocks to run again; use activations, or micro_batch")
    inner = [module for block in blocks for module in block.modules()]
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training for m in inner):
        raise ValueError(f"recompute: the blocks of {name} hold batch statistics, which would count twice")
