"""`save` and `load`: what gkd.weights is about."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from gkd.models import Encoder
from gkd.params import ROOT
from gkd.weights.fitting import fit
from gkd.weights.layouts import recognise
from gkd.weights.matching import check_classes, check_state
from gkd.weights.record import Record, parse
from gkd.weights.tensors import CheckpointError, digest, not_finite, read_pickle, read_tensors, some, write_tensors

_FINAL_NORM = re.compile(r"backbone\.(fc_)?norm\.(weight|bias)")


class _Part(NamedTuple):
    module: nn.Module
    state: Mapping[str, Tensor]  # to be loaded into it
    where: str
    source: Mapping[str, Tensor] | None = None  # what the file has, where it was changed


def save(path: Path | str, modules: Mapping[str, nn.Module], record: Record) -> Path:
    """Write the state of `modules`, each under its name as a prefix, and `record`, completed by what they say.

    The file appears whole or not at all, and equal content gives equal bytes.

    Raises CheckpointError where a weight is NaN or infinite, or the disk is full; what was there stays.
    """
    path = Path(path)
    states = {name: module.state_dict() for name, module in modules.items()}
    tensors = {f"{name}.{key}": value for name, state in states.items() for key, value in state.items()}
    if bad := not_finite(tensors):
        raise CheckpointError(f"{path} was not written: NaN or infinite values in {some(bad)}")
    digests = {name: digest(state) for name, state in states.items()}
    return write_tensors(path, tensors, record.completed(modules, digests).text())


def load(path: Path | str, modules: Mapping[str, nn.Module]) -> Record:
    """Load `modules` strictly from a .safetensors, .pth or .pt file; parts that are not asked for are left alone.

    A file of `save` holds each module below its name. Others are told by their keys (gkd.weights.layouts), and
    what they were taken for is printed; they may have an "encoder", a "decoder" and an "objective". Nothing is loaded
    into any module unless all fit. Returns what the file says of itself, empty where others wrote it.

    Raises CheckpointError where the file is missing, torn, damaged or unsafe, or does not fit.
    """
    path = Path(path)
    content, text = (read_pickle(path), None) if path.suffix in (".pth", ".pt") else read_tensors(path)
    notes, record = [], Record()
    if text is None and (path.suffix != ".safetensors" or not any(k.startswith("encoder.backbone.") for k in content)):
        parts, notes = _others(path, content, modules)
    else:
        record = parse(text, path)
        parts = _ours(path, content, modules, record)
    for part in parts:
        if hasattr(part.module, "class_layer"):
            check_classes(part.module, part.state, part.where)
    if differ := record.differences(modules):
        raise CheckpointError("\n  ".join([f"{path} does not fit this model:", *differ]))
    for module, state, where, source in parts:
        check_state(module, state, where, types=record.encoder is not None, source=source)
    for part in parts:
        part.module.load_state_dict(dict(part.state))
    print("".join(f"{note}\n" for note in notes), end="")
    return record


def _ours(path: Path, tensors: Mapping[str, Tensor], modules: Mapping[str, nn.Module], record: Record) -> list[_Part]:
    parts = []
    for name, module in modules.items():
        state = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        if record.digests and name not in record.digests:
            raise CheckpointError(f"{path} holds {', '.join(record.digests)}, no {name}")
        if record.digests and digest(state) != record.digests[name]:
            raise CheckpointError(
                f"{path} ({name}) is damaged: its weights are not those that were saved; copy it again"
            )
        kind = f"decoder {record.decoder.decoder}" if name == "decoder" and record.decoder else name
        parts.append(_Part(module, state, f"{path} ({kind})"))
    return parts


def _others(path: Path, content: Any, modules: Mapping[str, nn.Module]) -> tuple[list[_Part], list[str]]:
    """The parts of a file that others wrote, and what to tell of it."""
    found = recognise(content, str(path))
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    aside, notes, parts = list(found.aside), [], []
    for name, module in modules.items():
        source, where = None, f"{path}, {found.what} ({name}),"
        if name == "encoder":
            fitted, dropped = fit(found.parts["backbone"], module.backbone)
            source, state = ({f"backbone.{k}": v for k, v in s.items()} for s in (found.parts["backbone"], fitted))
            # A plain backbone has no mask token of distillation: the encoder's own stays.
            token = found.parts.get("encoder", {}).get("mask_token", module.mask_token)
            state["mask_token"] = token.detach().reshape(1, -1)
            if "encoder" in found.parts:
                dropped.pop("mask token", None)
            if getattr(modules.get("decoder"), "blocks", ()) and not any(map(_FINAL_NORM.fullmatch, state)):
                # The decoder reads blocks, and mmsegmentation's EVA02 builds no final norm behind them.
                state |= {key: value for key, value in module.state_dict().items() if _FINAL_NORM.fullmatch(key)}
                notes.append(f"{shown}: the final norm is not in the file; the decoder does not read it")
            if "decoder" in found.parts and (note := _statistics_note(module)):
                notes.append(f"{shown}: {note}")
            aside += [f"{kind} ({some(keys)})" for kind, keys in dropped.items()]
        elif name in found.parts:
            state = found.parts[name]
        else:
            raise CheckpointError(f"{path} was taken for {found.what}, which has no {name}")
        parts.append(_Part(module, state, where, source))
    left = [part for part in ("decoder", "objective") if part in found.parts and part not in modules]
    aside += [f"{part} ({len(found.parts[part])} keys)" for part in left]
    loaded = f"loaded: {', '.join(modules)}; set aside: {', '.join(aside) or 'nothing'}"
    return parts, [f"{shown}: taken for {found.what}; {loaded}", *notes]


def _statistics_note(encoder: Encoder) -> str | None:
    """What to say where a segmentor's encoder has other pixel statistics than mmsegmentation's configs."""
    mean, std = (tuple(round(x, 4) for x in buffer.flatten().tolist()) for buffer in (encoder.mean, encoder.std))
    if (mean, std) == (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD):
        return None
    return (
        "the file does not say how images were normalised. mmsegmentation's configs take the statistics of ImageNet, "
        f"this encoder has mean {mean}, std {std}; to change them, add to its `options` pretrained_cfg_overlay: "
        f"{{mean: {list(IMAGENET_DEFAULT_MEAN)}, std: {list(IMAGENET_DEFAULT_STD)}}}"
    )
