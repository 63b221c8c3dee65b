"""A frozen encoder too large for one process: its weights are spread over all of them (FSDP).

teacher = sharded_copy(teacher, accelerator.device)      # in every process; each holds its part of each tensor
targets = teacher(images)                                # a block's weights are gathered while it runs, not longer
"""

from __future__ import annotations

import copy

import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from gkd.models import Encoder
from gkd.models.backbones import blocks_of


def sharded_copy(encoder: Encoder, device: str) -> Encoder:
    """A copy of a frozen encoder of which each process keeps 1/n of the weights; n = 1: the encoder itself.

    The copy is made where the encoder lies (leave it on the CPU), then goes to the devices block by block, so that no
    device ever holds the whole. Tokens are bit for bit those of the encoder: the gathered weights are its own. All
    processes must call it equally often. Buffers are not spread.

    Args:
        encoder: frozen; `grid` of the image size must have been asked for, since the copy can no longer try it out.
        device: type of the device that computes, `cuda` or `cpu`.

    Raises:
        ValueError: a parameter of the encoder is trained.
    """
    trained = [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]
    if trained:
        raise ValueError(f"only frozen encoders are spread over processes, and {trained[0]} is trained")
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return encoder
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    encoder = copy.deepcopy(encoder)
    for block in blocks_of(encoder):
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    # What lies outside the blocks. A root of its own would keep it whole after the first pass, hence `True`.
    fully_shard(encoder, mesh=mesh, reshard_after_forward=True)
    register_fsdp_forward_method(encoder, "forward_with_blocks")
    return encoder


def held_bytes(module: nn.Module) -> int:
    """Bytes of the parameters that this process holds."""
    own = (p.to_local() if hasattr(p, "to_local") else p for p in module.parameters())
    return sum(tensor.numel() * tensor.element_size() for tensor in own)
