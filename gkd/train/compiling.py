"""torch.compile, block by block: blocks of one shape share one compiled graph, so that it costs a minute, not ten."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from gkd.models.backbones import blocks_of


@contextmanager
def compiled(encoders: Sequence[nn.Module], wanted: bool = True) -> Iterator[None]:
    """While it lasts, the blocks of `encoders` run as torch.compile has them: other rounding, fewer passes over memory.

    The first call of each shape compiles, which on a CPU needs a C++ compiler on PATH (torch says so where it is
    missing). The rest of an encoder stays as it is, masks and position embeddings among it.

    Args:
        encoders: encoders, or their timm backbones.
        wanted: False = nothing is compiled.

    Raises:
        ValueError: an encoder has no blocks.
    """
    groups = [blocks_of(encoder) for encoder in encoders] if wanted else []
    for encoder, blocks in zip(encoders, groups, strict=False):
        if not blocks:
            name = type(getattr(encoder, "backbone", encoder)).__name__
            raise ValueError(f"compile: {name} has no blocks to compile; set it to false")
    every = [block for blocks in groups for block in blocks]
    for block in every:
        block.compile()
    try:
        yield
    finally:
        for block in every:
            block._compiled_call_impl = None  # torch has no public way back
