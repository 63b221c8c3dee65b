"""How a run computes: number formats (fp32, or bf16 where the processor computes in it) and compiled blocks.

dtype = resolve("auto", device)                  # prints what it chose
targets = frozen_copy(teacher, dtype)            # its weights in that format
model = Reduced(module, dtype)                   # runs in it, while the module's own weights stay fp32
with compiled([student, targets]):               # blocks by torch.compile, while it lasts
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from gkd.models.backbones import blocks_of

FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def has_bf16(device: torch.device) -> bool:
    """Whether the processor multiplies bf16 matrices itself; one that emulates them is slower than in fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Not public, but there since torch 2.6; `get_capabilities` is younger.
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def resolve(precision: str, device: torch.device) -> torch.dtype:
    """The format that `precision` means on `device`: fp32, bf16 or auto, which prints its choice; else a ValueError."""
    if precision in FORMATS:
        return FORMATS[precision]
    if precision != "auto":
        raise ValueError(f"precision: {precision!r} is unknown; expected auto, {' or '.join(FORMATS)}")
    chosen, why = ("bf16", "has") if has_bf16(device) else ("fp32", "has no")
    print(f"precision auto: {chosen}, this {device.type} {why} bf16 arithmetic", flush=True)
    return FORMATS[chosen]


def frozen_copy(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of `module` for use inside of `Reduced`, weights in `dtype`, buffers as they are; fp32 = itself."""
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
    well, for what meets fp32 anyway (images, rotary angles). In fp32 `module` is called as it is.
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
        with torch.autocast(device.type, self.dtype):
            return functional_call(self.module, weights, arguments)

    def backward(self, run: Callable[[], object]) -> None:
        """`run()`, the backward pass of the last call, while `module` has the weights of that call.

        Gradient checkpointing runs blocks again in it, and compares what they compute with what they did.
        """
        used, self._used = self._used, {}
        functional_call(_Held([self.module]), {f"0.{name}": weight for name, weight in used.items()}, (run,))


class _Held(nn.ModuleList):
    """Holds a module while something else is called."""

    def forward(self, run: Callable[[], object]) -> None:
        run()


def _cast(module: nn.Module, parameters: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Those of `parameters`, by name in `module`, that may be cast."""
    # Running statistics of batch norm are fp32 buffers, and kernels want weights of the same format beside them.
    norms = (m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    kept = {id(p) for norm in norms for p in norm.parameters(recurse=False)}
    return {name: p for name, p in parameters.items() if p.is_floating_point() and id(p) not in kept}


@contextmanager
def compiled(encoders: Sequence[nn.Module], wanted: bool = True) -> Iterator[None]:
    """While it lasts, the blocks of `encoders` run as torch.compile has them: other rounding, fewer passes over memory.

    Blocks of one shape share one graph, so that it costs a minute, not ten: the first call of each shape compiles,
    which on a CPU needs a C++ compiler on PATH. Raises ValueError where an encoder has no blocks.
    """
    every: list[nn.Module] = []
    for encoder in encoders if wanted else ():
        if not (blocks := blocks_of(encoder)):
            name = type(getattr(encoder, "backbone", encoder)).__name__
            raise ValueError(f"compile: {name} has no blocks to compile; set it to false")
        every += blocks
    for block in every:
        block.compile()
    try:
        yield
    finally:
        for block in every:
            block._compiled_call_impl = None  # torch has no public way back
