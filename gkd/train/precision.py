"""Number formats of a training run: fp32, or bf16 where the processor computes in it.

dtype = resolve("auto", device)                  # prints what it chose
targets = frozen_copy(teacher, dtype)            # its weights in that format
model = Reduced(module, dtype)                   # runs in it, while the module's own weights stay fp32
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16}

# Their running statistics are fp32 buffers, and the kernels want weights of the same format beside them.
_KEPT = (nn.modules.batchnorm._BatchNorm,)


def has_bf16(device: torch.device) -> bool:
    """Whether the processor multiplies bf16 matrices itself; one that emulates them is slower than in fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    # Not public, but there since torch 2.6; `get_capabilities` is younger.
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def resolve(precision: str, device: torch.device) -> torch.dtype:
    """The format that `precision` of a profile (fp32, bf16 or auto) means on `device`; `auto` prints its choice.

    Raises:
        ValueError: the precision is none of the three.
    """
    if precision in FORMATS:
        return FORMATS[precision]
    if precision != "auto":
        raise ValueError(f"precision: {precision!r} is unknown; expected auto, {' or '.join(FORMATS)}")
    chosen = "bf16" if has_bf16(device) else "fp32"
    why = "has" if chosen == "bf16" else "has no"
    print(f"precision auto: {chosen}, this {device.type} {why} bf16 arithmetic", flush=True)
    return FORMATS[chosen]


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Operations in `dtype`; fp32 = nothing is changed."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype != torch.float32)


def frozen_copy(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of `module` with weights in `dtype`, for use under `autocast`; fp32 = `module` itself.

    Buffers (pixel statistics, running statistics) keep their format.
    """
    if dtype == torch.float32:
        return module
    module = copy.deepcopy(module)
    for parameter in _cast(module, dict(module.named_parameters())).values():
        parameter.data = parameter.data.to(dtype)
    return module


class Reduced(nn.Module):
    """Runs `module` in `dtype` while its weights, and so its gradients and its optimiser, stay fp32.

    Weights are cast once a call and activations never, since all of them are in `dtype`: what FSDP's mixed precision
    does. Plain autocast keeps the residual stream in fp32, and casts around every matrix product. It is on here as
    well, for what meets fp32 anyway (images, rotary angles).

    Args:
        module: what is trained; it sees its weights in `dtype` during the call.
        dtype: fp32 = `module` is called as it is.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module, self.dtype = module, dtype
        self._used: dict[str, torch.Tensor] = {}  # weights of the last call, as it had them

    def forward(self, *arguments: Any) -> Any:
        if self.dtype == torch.float32:
            return self.module(*arguments)
        weights = dict(self.module.named_parameters())
        device = next(iter(weights.values())).device
        weights |= {name: weight.to(self.dtype) for name, weight in _cast(self.module, weights).items()}
        self._used = weights
        with autocast(device, self.dtype):
            return functional_call(self.module, weights, arguments)

    def backward(self, run: Callable[[], object]) -> None:
        """`run()`, the backward pass of the last call, while `module` has the weights of that call.

        Gradient checkpointing runs blocks again in it, and compares what they compute with what they did.
        """
        used, self._used = self._used, {}
        functional_call(_Run(self.module), {f"module.{name}": weight for name, weight in used.items()}, (run,))


class _Run(nn.Module):
    """Holds a module while something else is called."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, run: Callable[[], object]) -> None:
        run()


def _cast(module: nn.Module, parameters: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Those of `parameters`, by name in `module`, that may be cast."""
    kept = {id(p) for m in module.modules() if isinstance(m, _KEPT) for p in m.parameters(recurse=False)}
    return {name: p for name, p in parameters.items() if p.is_floating_point() and id(p) not in kept}
