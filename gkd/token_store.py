"""Teacher tokens as bytes of one length a sample, and back: fp32, bf16, or int8 with the error that it makes.

store = TokenStore("int8", teach(images))        # the layout follows from an example
payloads = store.encode(targets)                 # (B, store.size) of uint8
targets, errors = store.decode(payloads)         # {"tokens_error": ...}: relative RMS over the batch

int8 is symmetric with one scale a token: whole numbers from -127 to 127 times a 127th of the token's largest channel.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gkd.models import Tokens
from gkd.qsd import Targets

FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}
TINY = torch.finfo(torch.float32).tiny


class Part(NamedTuple):
    """Tokens that are stored together: a teacher's final ones, cls first, or the map of its block, with its grid."""

    teacher: str  # key of Targets
    rows: int
    channels: int
    dtype: torch.dtype
    by_channel: bool  # in memory; the order decides which matrix product runs, and so the last bits
    grid: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """In metrics, before `_error`."""
        return f"{self.teacher}{'block' if self.grid else 'tokens'}"


class TokenStore:
    """How targets like `example` are stored.

    Args:
        kind: fp32, bf16 or int8.
        example: targets of a batch of any size; others have its teachers, shapes and number formats.

    Attributes:
        size: bytes a sample.
    """

    def __init__(self, kind: str, example: Targets) -> None:
        self.kind = kind
        self.parts = [part for name, (tokens, block) in example.items() for part in _parts(name, tokens, block)]
        self.size = self.encode(example).shape[1]

    @property
    def layout(self) -> list[str]:
        """The parts in words."""
        return [f"{part.name}: {part.rows} x {part.channels} {part.dtype} as {self.kind}" for part in self.parts]

    def encode(self, targets: Targets) -> Tensor:
        """Payloads (B, size) of uint8: of each part what is stored, then its squared error and its squared norm."""
        pieces = []
        for values in flat(targets):
            exact = values.float()  # (B, rows, C)
            stored = self._pack(exact)
            error = (exact - _unpack(stored)).square().sum((1, 2))
            pieces += [*stored, torch.stack([error, exact.square().sum((1, 2))], dim=1)]
        return torch.cat([piece.contiguous().flatten(1).view(torch.uint8) for piece in pieces], dim=1)

    def decode(self, payloads: Tensor) -> tuple[Targets, dict[str, Tensor]]:
        """Targets of payloads (B, size), and the relative RMS error of each part over the batch; none in fp32."""
        position, found, errors = 0, {}, {}

        def take(dtype: torch.dtype, *shape: int) -> Tensor:
            nonlocal position
            start, position = position, position + math.prod(shape) * dtype.itemsize
            return payloads[:, start:position].contiguous().view(dtype).unflatten(1, shape)

        for part in self.parts:
            stored = [take(FORMATS[self.kind], part.rows, part.channels)]
            if self.kind == "int8":
                stored.append(take(torch.float32, part.rows, 1))
            values = _unpack(stored).to(part.dtype)
            if part.by_channel:
                values = values.mT.contiguous().mT
            error, norm = take(torch.float32, 2).sum(dim=0)
            if self.kind != "fp32":
                errors[f"{part.name}_error"] = (error / norm.clamp_min(TINY)).sqrt()
            if part.grid is None:
                found[part.teacher] = Tokens(values[:, 0], values[:, 1:]), None
            else:
                tokens, _ = found[part.teacher]
                found[part.teacher] = tokens, values.transpose(1, 2).unflatten(2, part.grid)
        return found, errors

    def _pack(self, values: Tensor) -> list[Tensor]:
        """What is stored of tokens (B, rows, C)."""
        if self.kind != "int8":
            return [values.to(FORMATS[self.kind])]
        scale = values.abs().amax(dim=-1, keepdim=True) / 127  # (B, rows, 1)
        return [(values / scale.clamp_min(TINY)).round().to(torch.int8), scale]


def _unpack(stored: list[Tensor]) -> Tensor:
    values, *scale = (part.float() for part in stored)
    return values * scale[0] if scale else values


def flat(targets: Targets) -> list[Tensor]:
    """The tokens (B, rows, C) of each part, in the order of the parts."""
    found = []
    for tokens, block in targets.values():
        found.append(torch.cat([tokens.cls.unsqueeze(1), tokens.patches], dim=1))  # (B, 1 + N, C)
        if block is not None:
            found.append(block.flatten(2).transpose(1, 2))  # (B, N, C)
    return found


def _parts(name: str, tokens: Tokens, block: Tensor | None) -> list[Part]:
    _, count, channels = tokens.patches.shape
    parts = [Part(name, 1 + count, channels, tokens.patches.dtype, tokens.patches.stride(2) != 1)]
    if block is not None:
        _, channels, rows, columns = block.shape
        parts.append(Part(name, rows * columns, channels, block.dtype, block.stride(1) != 1, (rows, columns)))
    return parts
