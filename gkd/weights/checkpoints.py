"""Weights in and out: ours as safetensors, atomic and strict; others' as gkd.weights.foreign tells them.

save(path, {"encoder": encoder, "decoder": decoder}, {"method": "gkd"})
load(path, {"encoder": encoder})
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from gkd.models import Encoder, check_name
from gkd.params import ROOT, EncoderSpec
from gkd.weights import foreign
from gkd.weights.packages import load_in_order, package_weights
from gkd.weights.strict import CheckpointError, check_classes, load_state

_FINAL_NORM = re.compile(r"backbone\.(fc_)?norm\.(weight|bias)")


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
    """Tensors and metadata of a safetensors file; the metadata of files that `save` did not write is empty."""
    tensors, about = _read_safetensors(path)
    return tensors, about or {}


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Tensors, and the metadata of `save`, which is None in files of others."""
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} is missing: run the stage that writes it (`dvc repro`)")
    try:
        with safe_open(path, "pt") as file:
            about = (file.metadata() or {}).get("gkd")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, not a dict
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error}); delete it and rerun") from error
    return tensors, None if about is None else json.loads(about)


def load(path: Path, modules: Mapping[str, nn.Module], resample: str = "timm") -> dict[str, Any]:
    """Load `modules` strictly from a file; parts of it that are not asked for are left alone.

    A file of `save` holds each module below its name. Others are told by their keys (gkd.weights.foreign), and
    what they were taken for is printed; they may have an "encoder", a "decoder" and an "objective".

    Args:
        path: a .safetensors, .pth or .pt file.
        modules: by name.
        resample: how foreign patch and position embeddings are brought to the encoder's size (see `foreign.fit`).

    Returns:
        The metadata of a file of `save`, else nothing.

    Raises:
        CheckpointError: the file is missing, torn or unsafe, or does not fit.
    """
    if path.suffix in (".pth", ".pt"):
        if not path.is_file():
            raise CheckpointError(f"checkpoint {path} is missing")
        _load_foreign(path, foreign.read_pickle(path), modules, resample)
        return {}
    tensors, about = _read_safetensors(path)
    if about is None and not any(key.startswith("encoder.backbone.") for key in tensors):
        _load_foreign(path, tensors, modules, resample)
        return {}
    for name, module in modules.items():
        state = {key.removeprefix(f"{name}."): v for key, v in tensors.items() if key.startswith(f"{name}.")}
        _load_part(name, module, state, f"{path} ({name})")
    return about or {}


def _load_part(
    name: str,
    module: nn.Module,
    state: Mapping[str, Tensor],
    where: str,
    source: Mapping[str, Tensor] | None = None,
) -> None:
    if name == "decoder":
        check_classes(module, state, where)
    load_state(module, state, where, source)


def _load_foreign(path: Path, content: Any, modules: Mapping[str, nn.Module], resample: str) -> None:
    found = foreign.recognise(content, str(path))
    aside = list(found.aside)
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    notes = []
    for name, module in modules.items():
        where = f"{path}, {found.what} ({name}),"
        source = None
        if name == "encoder":
            fitted, dropped = foreign.fit(found.parts["backbone"], module.backbone, resample)
            source, state = (_prefixed(part) for part in (found.parts["backbone"], fitted))
            # A plain backbone has no mask token of distillation: the encoder's own stays.
            token = found.parts.get("encoder", {}).get("mask_token", module.mask_token)
            state["mask_token"] = token.detach().reshape(1, -1)
            if "encoder" in found.parts:
                dropped.pop("mask token", None)
            unread = _unread_norm(module, state, modules.get("decoder"))
            if unread:
                state |= unread
                notes.append(f"{shown}: the final norm is not in the file; the decoder does not read it")
            if "decoder" in found.parts:
                notes += [f"{shown}: {note}" for note in _statistics_note(module)]
            aside += [f"{kind} ({_some(keys)})" for kind, keys in dropped.items()]
        elif name in found.parts:
            state = found.parts[name]
        else:
            raise CheckpointError(f"{path} was taken for {found.what}, which has no {name}")
        _load_part(name, module, state, where, source)
    aside += [
        f"{part} ({len(found.parts[part])} keys)"
        for part in ("decoder", "objective")
        if part in found.parts and part not in modules
    ]
    print(f"{shown}: taken for {found.what}; loaded: {', '.join(modules)}; set aside: {', '.join(aside) or 'nothing'}")
    print("".join(f"{note}\n" for note in notes), end="")


def _unread_norm(encoder: nn.Module, state: Mapping[str, Tensor], decoder: nn.Module | None) -> dict[str, Tensor]:
    """The encoder's own final norm, where the file has none and the decoder beside it reads blocks before it.

    So are segmentors on mmsegmentation's EVA02, which builds no final norm.
    """
    if not getattr(decoder, "blocks", ()) or any(_FINAL_NORM.fullmatch(key) for key in state):
        return {}
    return {key: value for key, value in encoder.state_dict().items() if _FINAL_NORM.fullmatch(key)}


def _statistics_note(encoder: Encoder) -> list[str]:
    """A line where a segmentor's encoder has other pixel statistics than mmsegmentation's configs, which files lack."""
    own = [tuple(round(x, 4) for x in buffer.flatten().tolist()) for buffer in (encoder.mean, encoder.std)]
    if own == [IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD]:
        return []
    return [
        "the file does not say how images were normalised. mmsegmentation's configs take the statistics of ImageNet, "
        f"this encoder has mean {own[0]}, std {own[1]}; to change them, add to its `options` pretrained_cfg_overlay: "
        f"{{mean: {list(IMAGENET_DEFAULT_MEAN)}, std: {list(IMAGENET_DEFAULT_STD)}}}"
    ]


def _prefixed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"backbone.{key}": value for key, value in state.items()}


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def build_encoder(spec: EncoderSpec, init: Path | None = None, seed: int = 0) -> Encoder:
    """The encoder of `spec`, with its own weights, or with those of the checkpoint `init` if it is given.

    `seed` is of the random weights where `spec.weights` is "none". docs/weights.md lists what `spec.weights` may be.
    """
    torch.manual_seed(seed)
    own = None if spec.file is None else ROOT / spec.file
    if init is None or (own is not None and ROOT / init == own):
        check_file(spec)
    hub = spec.weights == "hub" and init is None
    encoder = _from_hub(spec) if hub else Encoder.create(spec.name, **spec.options)
    encoder.keep_statistics = init is not None or spec.weights != "none"
    if init is not None:
        load(init, {"encoder": encoder}, spec.resample)
    elif spec.weights.startswith("package:"):
        load_in_order(encoder.backbone, package_weights(spec.weights.removeprefix("package:")), spec.weights)
    elif own is not None:
        load(own, {"encoder": encoder}, spec.resample)
    return encoder


def check_file(spec: EncoderSpec) -> None:
    """Raises CheckpointError where `spec.weights` names a file that is not there: what to fetch, and to where."""
    if spec.file is not None and not (ROOT / spec.file).is_file():
        raise CheckpointError(
            f"the weights file {spec.file} of {spec.name} is missing. What a stage writes comes by `dvc repro`; "
            f"otherwise {_fetch(spec, spec.file)}"
        )


def _from_hub(spec: EncoderSpec) -> Encoder:
    check_name(spec.name)
    if not spec.name.startswith("hf-hub:") and not timm.is_model_pretrained(spec.name):
        variants = timm.list_pretrained(f"{spec.name.split('.')[0]}*")[:5]
        raise CheckpointError(
            f"weights: hub, but timm has none of {spec.name}; it has those of {', '.join(variants) or 'no variant'}"
        )
    try:
        if spec.resample == "timm":
            return Encoder.create(spec.name, pretrained=True, **spec.options)
        encoder = Encoder.create(spec.name, **spec.options)

        def fitted(state: dict[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
            state, _ = foreign.fit(state, backbone, spec.resample)
            load_state(backbone, state, f"{spec.name} of the hub")
            return state

        # timm finds and reads the file; no classes, so that it leaves a classifier to `fit`.
        timm.models.load_pretrained(encoder.backbone, num_classes=0, filter_fn=fitted)
        return encoder
    except OSError as error:
        raise CheckpointError(
            f"the hub weights of {spec.name} could not be fetched ({type(error.__cause__ or error).__name__}). "
            f"Without a network: {_fetch(spec, f'weights/hub/{spec.name}.safetensors')}"
        ) from error


def _fetch(spec: EncoderSpec, place: str) -> str:
    """What to fetch, where to put it, and which parameter names it."""
    config = timm.get_pretrained_cfg(spec.name) if timm.is_model_pretrained(spec.name) else None
    sources = []
    if config is not None and config.hf_hub_id:
        sources.append(f"https://huggingface.co/{config.hf_hub_id}/resolve/main/model.safetensors")
    if config is not None and (config.url or "").endswith((".pth", ".pt")):
        sources.append(config.url)
    return (
        f"fetch {' or '.join(sources) or 'the weights'} elsewhere, put the file at {place} (with its own suffix) and "
        "name it in params.yaml as profiles.<profile>.models.teacher.weights or "
        f"profiles.<profile>.models.students.<setting>.weights: {place}"
    )
