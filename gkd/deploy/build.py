"""A segmentor from its config, and the config of a checkpoint of task learning."""

from __future__ import annotations

import math
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from gkd.data.labels import palette
from gkd.datasets import catalogue
from gkd.deploy.config import Config, DecoderConfig, EncoderConfig, ExportError, InferenceConfig
from gkd.files import sha256
from gkd.methods import NAMES, row
from gkd.models import Encoder
from gkd.params import ROOT, EncoderSpec, Params, load
from gkd.segmentation.decoders import DecoderSizes, Segmentor, build_decoder
from gkd.weights.checkpoints import read
from gkd.workspace.plan import spec_of

WHO = ("setting", "method", "source", "profile")
FORM = "PROFILE/SETTING/METHOD/SOURCE"


def build(config: Config) -> Segmentor:
    """The segmentor of `config` in eval mode, with random weights: no weights are fetched or read."""
    encoder = Encoder.create(config.encoder.name, **config.encoder.options)
    for buffer, values in ((encoder.mean, config.encoder.mean), (encoder.std, config.encoder.std)):
        buffer.copy_(torch.tensor(values).view_as(buffer))
    decoder = build_decoder(config.decoder, encoder, len(config.classes), config.decoder.blocks)
    return Segmentor(encoder, decoder, frozen=True).eval()


def fixed_size(encoder: Encoder) -> bool:
    """Whether the encoder takes images of one size only, by what timm's patch embedding says of itself."""
    embed = getattr(encoder.backbone, "patch_embed", None)
    return getattr(embed, "img_size", None) is not None and bool(getattr(embed, "strict_img_size", False))


def multiple_of(encoder: Encoder, sizes: DecoderSizes) -> int:
    """What the sides of an image are multiples of, in pixels: of a patch, and of the decoder's coarsest cells.

    The coarsest of Mask2Former's four maps has cells of 8 strides, and a graph cannot hold part of a cell.
    """
    return math.lcm(encoder.stride, 8 * sizes.mask2former.stride if sizes.decoder == "mask2former" else 1)


def any_size(spec: EncoderSpec) -> tuple[Encoder, dict[str, Any]]:
    """The encoder of `spec` that takes any image size where the architecture can, and its timm options.

    At the size that it was trained at its position embedding is not resampled, so its tokens stay bit-equal.
    """
    encoder = Encoder.create(spec.name, **spec.options)
    if not (fixed_size(encoder) and hasattr(encoder.backbone, "dynamic_img_size")):
        return encoder, dict(spec.options)
    options = {**spec.options, "dynamic_img_size": True}
    return Encoder.create(spec.name, **options), options


def describe(checkpoint: Path, name: str | None = None, member: str | None = None) -> Config:
    """The config of a model.safetensors that task learning wrote; what it leaves open comes from params.yaml.

    `member`, as PROFILE/SETTING/METHOD/SOURCE, says it of a segmentor that others trained, whose file does not.
    """
    about = said = _metadata(checkpoint)
    if member is not None:
        about = _named(checkpoint, member, said)
    elif said.get("stage") not in ("task_learning", "foreign") or any(key not in said for key in WHO):
        raise ExportError(
            f"{checkpoint}: expected model.safetensors of a member of task_learning, whose metadata name "
            f"{', '.join(WHO)}; found {said or 'no metadata'}. Of a segmentor that others trained, say whose encoder "
            f"and classes it has: --as {FORM}"
        )
    params = load(about["profile"])
    sources = catalogue(params).sources
    if about["source"] not in sources or about["method"] not in NAMES:
        raise ExportError(f"{checkpoint}: unknown source {about['source']!r} or method {about['method']!r}")
    source = sources[about["source"]]
    encoder, options = any_size(spec := spec_of(params, about["setting"], row(about["method"])))
    protocol = params.evaluate
    bound = protocol.bounds.get(source.validation.name)
    return Config(
        name=name or (checkpoint.stem if foreign(about) else checkpoint.resolve().parent.name),
        encoder=EncoderConfig(
            name=spec.name,
            options=options,
            mean=tuple(encoder.mean.flatten().tolist()),
            std=tuple(encoder.std.flatten().tolist()),
        ),
        decoder=DecoderConfig(
            decoder=params.models.decoder,
            decoder_width=params.models.decoder_width,
            mask2former=params.models.mask2former,
            blocks=tuple(spec.blocks),
        ),
        classes=source.classes,
        palette=tuple(tuple(map(int, colour)) for colour in palette(source.label_space)),
        inference=InferenceConfig(
            window=protocol.window,
            stride=protocol.stride,
            bound=None if bound is None else tuple(bound),
            # Where only one size fits, slide() pads every window to it.
            multiple=protocol.window if fixed_size(encoder) else multiple_of(encoder, params.models),
            batch_size=protocol.batch_size,
        ),
        provenance=provenance(checkpoint, about, params),
    )


def foreign(about: dict[str, Any]) -> bool:
    """Whether metadata, as `describe` gives them in `provenance`, are of a segmentor that others trained."""
    return about["stage"] == "foreign"


def _metadata(checkpoint: Path) -> dict[str, Any]:
    if checkpoint.suffix not in (".pth", ".pt"):
        return read(checkpoint)[1]
    if not checkpoint.is_file():
        raise ExportError(f"checkpoint {checkpoint} is missing")
    return {}


def _named(checkpoint: Path, member: str, said: dict[str, Any]) -> dict[str, Any]:
    """Metadata of a foreign segmentor from what the user says of it."""
    if said:
        raise ExportError(f"{checkpoint} says itself what it is ({said}): leave out --as {member}")
    words = member.split("/")
    if len(words) != 4 or not all(words):
        raise ExportError(f"--as {member}: expected {FORM}, such as paper/f2l/gkd/gtav")
    profile, setting, method, source = words
    return {"stage": "foreign", "profile": profile, "setting": setting, "method": method, "source": source}


def provenance(checkpoint: Path, about: dict[str, Any], params: Params) -> dict[str, Any]:
    """Where a model comes from. Folders of this machine (`roots`, paths outside the checkout) are left out."""
    file = checkpoint.resolve()
    commit = _git("rev-parse", "HEAD")
    return {
        "checkpoint": file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else file.name,
        "checkpoint_sha256": sha256(file),
        "member": about,
        "git_commit": commit,
        "git_changed": None if commit is None else bool(_git("status", "--porcelain", "--untracked-files=no")),
        "dvc_lock_sha256": sha256(ROOT / "dvc.lock") if (ROOT / "dvc.lock").is_file() else None,
        "params": params.model_dump(mode="json", exclude={"roots"}),
        "versions": {package: version(package) for package in ("gkd", "torch", "timm")},
    }


def _git(*arguments: str) -> str | None:
    """Output of a git command in the checkout; None where it is no git checkout or git is not there."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
