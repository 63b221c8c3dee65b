"""A segmentor from its config, and the config of a file of weights, from what the file says of itself."""

import math
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gkd.datasets import catalogue
from gkd.deploy.config import Config, ExportError, InferenceConfig
from gkd.files import sha256
from gkd.methods import NAMES
from gkd.models import Encoder
from gkd.params import ROOT, load
from gkd.segmentation.decoders import DecoderSizes
from gkd.weights import Record, read_record
from gkd.weights.record import EncoderInfo

FORM = "SETTING/METHOD/SOURCE"


def multiple_of(encoder: Encoder, sizes: DecoderSizes) -> int:
    """What the sides of an image are multiples of, in pixels: of a patch, and of the decoder's coarsest cells.

    The coarsest of Mask2Former's four maps has cells of 8 strides, and a graph cannot hold part of a cell.
    """
    return math.lcm(encoder.stride, 8 * sizes.mask2former.stride if sizes.decoder == "mask2former" else 1)


def any_size(name: str, options: Mapping[str, Any]) -> Encoder:
    """The encoder of these timm options, of any image size where it can be; at its own size tokens stay bit-equal."""
    encoder = Encoder.create(name, **options)
    if encoder.fixed_size and hasattr(encoder.backbone, "dynamic_img_size"):
        return Encoder.create(name, **{**options, "dynamic_img_size": True})
    return encoder


def record_of(checkpoint: Path, member: str | None = None) -> Record:
    """What is known of a segmentor: its own record, or for files without one what `member` says.

    `member` is SETTING/METHOD/SOURCE: the encoder, decoder and classes of params.yaml that the file is of.
    """
    if not checkpoint.is_file():
        found = "is a folder: name the file in it, model.safetensors" if checkpoint.is_dir() else "is missing"
        raise ExportError(f"checkpoint {checkpoint} {found}")
    record = Record() if checkpoint.suffix in (".pth", ".pt") else read_record(checkpoint)
    found = " ".join(filter(None, (record.stage, record.setting, record.method, record.source)))
    if member is not None and found:
        raise ExportError(f"{checkpoint} says itself what it is ({found}): leave out --as {member}")
    if member is not None:
        return _named(checkpoint, member)
    if record.encoder is None or record.decoder is None or record.inference is None:
        raise ExportError(
            f"{checkpoint}: expected model.safetensors of a member of task_learning, whose record names encoder, "
            f"decoder and classes; found {found or 'no record'}. Of a segmentor that others trained, say whose encoder "
            f"and classes it has: --as {FORM}"
        )
    return record


def _named(checkpoint: Path, member: str) -> Record:
    words = member.split("/")
    if len(words) != 3 or not all(words):
        raise ExportError(f"--as {member}: expected {FORM}, such as f2l/gkd/gtav")
    setting, method, source = words
    params = load()
    sources = catalogue(params).sources
    if source not in sources or method not in NAMES:
        raise ExportError(f"{checkpoint}: unknown source {source!r} or method {method!r}")
    spec = params.models.teacher if method == "teacher" else params.student(setting)
    who = {"stage": "foreign", "setting": setting, "method": method, "source": source}
    record = Record.of(params, who, segments=sources[source])
    decoder = record.decoder.model_copy(update={"blocks": tuple(spec.blocks)})
    encoder = EncoderInfo.of(Encoder.create(spec.name, **spec.options))
    return record.model_copy(update={"encoder": encoder, "decoder": decoder})


def describe(checkpoint: Path, record: Record, name: str | None = None) -> Config:
    """The config of a segmentor in `checkpoint`, of which `record` says what it is."""
    if record.encoder.options is None:
        raise ExportError(f"{checkpoint}: the timm options of its encoder are not known: Encoder.create keeps them")
    encoder, how = any_size(record.encoder.name, record.encoder.options), record.inference
    # Where only one size fits, slide() pads every window to it.
    multiple = how.window if encoder.fixed_size else multiple_of(encoder, record.decoder)
    return Config(
        name=name or (checkpoint.stem if record.stage == "foreign" else _own(checkpoint).parent.name),
        encoder=record.encoder.model_copy(update={"options": EncoderInfo.of(encoder).options}),
        decoder=record.decoder,
        classes=record.classes,
        palette=record.palette,
        inference=InferenceConfig(**how.model_dump(), multiple=multiple),
        provenance=provenance(checkpoint, record),
    )


def _own(checkpoint: Path) -> Path:
    """Where it lies; of a link into DVC's cache, whose files have a hash for a name and no ending, where that is."""
    real = checkpoint.resolve()
    return real if real.suffix else checkpoint.parent.resolve() / checkpoint.name


def provenance(checkpoint: Path, record: Record) -> dict[str, Any]:
    """Where a model comes from. Paths outside the checkout are left out."""
    file = _own(checkpoint)
    commit = _git("rev-parse", "HEAD")
    return {
        "checkpoint": file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else file.name,
        "checkpoint_sha256": sha256(file),
        "record": record.model_dump(mode="json"),
        "git_commit": commit,
        "git_changed": None if commit is None else bool(_git("status", "--porcelain", "--untracked-files=no")),
        "dvc_lock_sha256": sha256(ROOT / "dvc.lock") if (ROOT / "dvc.lock").is_file() else None,
        "versions": {package: version(package) for package in ("gkd", "torch", "timm")},
    }


def _git(*arguments: str) -> str | None:
    """Output of a git command in the checkout; None where it is no git checkout or git is not there."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
