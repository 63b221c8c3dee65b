"""What a file of weights says of itself: the model, what it was trained with and on, and a digest of each part.

Nothing in it depends on the machine, the time or the commit: equal results have equal bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from torch import nn

from gkd.data.domains import Domain, Source
from gkd.data.labels import palette
from gkd.datasets import catalogue
from gkd.models import Encoder
from gkd.params import ROOT, Mask2FormerOptions, Params, Section
from gkd.weights.tensors import CheckpointError, digest, read_tensors

FORMAT = "gkd-weights-1"
# What a stage's result follows from beside its own section, as dvc.yaml tracks it: no other edit may change a file.
_FOLLOWED = {
    "task_agnostic": ("compute", "heads"),
    "domain_agnostic": ("compute", "heads"),
    "task_learning": ("threads", "label_divisor", "heads"),
}
# Options of timm without effect on the arithmetic of given weights, or seen in what a record holds beside them.
_FREE = re.compile(r"dynamic_img_(size|pad)|strict_img_size|.*drop.*|init_values|pretrained_cfg.*")


class EncoderInfo(Section):
    """timm name and options (None = not known), numbers of attention heads, pixel statistics for images in [0, 1]."""

    name: str
    options: dict[str, Any] | None = None
    heads: tuple[int, ...] = ()  # those that differ, from the first block on
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def of(cls, encoder: Encoder) -> EncoderInfo:
        """What `encoder` says of itself; options as JSON gives them back (tuples as lists, classes by their names)."""
        options = json.dumps(encoder.options, default=lambda v: getattr(v, "__qualname__", type(v).__name__))
        heads = dict.fromkeys(m.num_heads for m in encoder.modules() if isinstance(getattr(m, "num_heads", None), int))
        mean, std = (tuple(buffer.flatten().tolist()) for buffer in (encoder.mean, encoder.std))
        return cls(name=encoder.name, options=json.loads(options), heads=tuple(heads), mean=mean, std=std)


class DecoderInfo(Section):
    """Name and sizes of a decoder as under `models` of params.yaml, and the blocks that it reads."""

    decoder: str
    decoder_width: int = 128
    mask2former: Mask2FormerOptions | None = None
    blocks: tuple[int, ...] = ()


class InferenceInfo(Section):
    """`inference` of params.yaml, and the size bound of the source's validation part."""

    window: int = Field(gt=0)
    stride: int = Field(gt=0)
    bound: tuple[int, int] | None = None
    batch_size: int = Field(1, gt=0)


class Record(Section):
    """What a file of `gkd.weights.save` says of itself; of others' files nothing is known."""

    format: Literal["gkd-weights-1"] = FORMAT  # readers refuse others
    stage: str | None = None
    profile: str | None = None
    setting: str | None = None
    method: str | None = None
    source: str | None = None
    seed: int | None = None
    lr: float | None = None  # that was chosen
    start: str | None = None  # what its encoder began with: `weights` of params.yaml, or the file of an earlier stage
    teacher: str | None = None  # timm name of what the encoder followed
    teacher_digest: str | None = None
    data: dict[str, str] = {}  # dataset/split -> licence as its layout says it; of this stage and those before
    params: dict[str, Any] = {}  # that the stage's result follows from
    recipe: str | None = None  # of a miniature model: hash of its section of weights/mini/params.yaml
    made_by: str | None = None  # of a miniature model: what followed the recipe
    encoder: EncoderInfo | None = None  # of what is in the file, as decoder and digests; `save` fills them in
    decoder: DecoderInfo | None = None
    label_space: str | None = None  # of a segmentor, as what follows; in the order of the train ids
    classes: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int], ...] = ()
    inference: InferenceInfo | None = None
    digests: dict[str, str] = {}

    @classmethod
    def of(
        cls,
        params: Params,
        who: Mapping[str, Any],
        data: Sequence[Domain] = (),
        *,
        segments: Source | None = None,
        start: str | Path | None = None,
        teacher: Encoder | None = None,
        lr: float | None = None,
    ) -> Record:
        """The record of a stage; of `params` it keeps what the stage follows from.

        Args:
            who: stage, setting, method, source and seed, as far as there are.
            data: what it was trained on, now; what `start` was trained on comes from its own record.
            segments: the source whose classes a segmentor has.
        """
        earlier, start = _start(start)
        known = catalogue(params).layouts.items()
        licences = {name: layout.about.licence for name, layout in known if layout.about is not None}
        return cls(
            **who,
            profile=params.profile,
            lr=lr,
            start=start,
            teacher=None if teacher is None else teacher.name,
            teacher_digest=None if teacher is None else digest(teacher.state_dict()),
            data=earlier | {f"{d.dataset}/{d.split}": licences.get(d.dataset, "unknown") for d in data},
            params=_followed(params.model_dump(mode="json"), who),
            **_segmentor(params, segments),
        )

    def completed(self, modules: Mapping[str, nn.Module], digests: dict[str, str]) -> Record:
        """The record of a file with the parts `modules`."""
        encoder, decoder = modules.get("encoder"), None
        if self.decoder is not None and "decoder" in modules:
            decoder = self.decoder.model_copy(update={"blocks": tuple(getattr(modules["decoder"], "blocks", ()))})
        info = EncoderInfo.of(encoder) if isinstance(encoder, Encoder) else None
        return self.model_copy(update={"encoder": info, "decoder": decoder, "digests": digests})

    def differences(self, modules: Mapping[str, nn.Module]) -> list[str]:
        """What of `modules` is another model than the file's, a line each, as far as the record tells."""
        pairs = {}
        if self.encoder is not None and isinstance(modules.get("encoder"), Encoder):
            theirs, ours = self.encoder, EncoderInfo.of(modules["encoder"])
            # Behind the dot stands whose weights it was that a model of that name began with.
            pairs["name"] = theirs.name.split(".")[0], ours.name.split(".")[0]
            if theirs.options is not None and ours.options is not None:
                keys = sorted(key for key in theirs.options.keys() | ours.options.keys() if not _FREE.fullmatch(key))
                pairs |= {f"options.{key}": (theirs.options.get(key), ours.options.get(key)) for key in keys}
            pairs |= {key: (getattr(theirs, key), getattr(ours, key)) for key in ("heads", "mean", "std")}
            pairs = {f"encoder.{key}": pair for key, pair in pairs.items()}
        if self.decoder is not None and (decoder := modules.get("decoder")) is not None:
            pairs["decoder.blocks"] = self.decoder.blocks, tuple(getattr(decoder, "blocks", ()))
            if self.decoder.decoder == "mask2former" and hasattr(decoder, "stride"):
                pairs["decoder.mask2former.stride"] = self.decoder.mask2former.stride, decoder.stride
        return [f"{key}: {a} in the file, {b} in the model" for key, (a, b) in pairs.items() if a != b]

    def text(self) -> str:
        """As sorted JSON."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)


def read_record(path: Path) -> Record:
    """The record of a safetensors file, without its weights; empty where the file has none."""
    return parse(read_tensors(path, parts=())[1], path)


def parse(text: str | None, path: Path) -> Record:
    """The record of `path`, whose metadata are `text`; empty where they name no format, as in earlier versions."""
    try:
        said = json.loads(text or "{}")
        if said.get("format", FORMAT) != FORMAT:
            raise CheckpointError(f"{path} has the format {said['format']!r}, known is {FORMAT!r}: update gkd")
        return Record.model_validate_json(text) if "format" in said else Record()
    except (json.JSONDecodeError, AttributeError, ValidationError) as error:
        raise CheckpointError(f"{path}: its record is damaged; copy or write the file again ({error})") from error


def _followed(dump: dict[str, Any], who: Mapping[str, Any]) -> dict[str, Any]:
    flat = dump | {"threads": dump["compute"]["threads"], "heads": dump["heads"].get(who.get("method"), {})}
    keys = (who["stage"], *_FOLLOWED.get(who["stage"], ()))
    return {key: flat[key] for key in keys if key in flat}


def _start(start: str | Path | None) -> tuple[dict[str, str], str | None]:
    """What a file to start from was trained on, and its name without folders of this machine."""
    if Path(start or "").suffix not in (".safetensors", ".pth", ".pt"):
        return {}, start
    file = ROOT / Path(start).expanduser()
    data = read_record(file).data if file.suffix == ".safetensors" else {}
    return data, file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else file.name


def _segmentor(params: Params, source: Source | None) -> dict[str, Any]:
    if source is None:
        return {}
    return {
        "label_space": source.label_space,
        "classes": tuple(source.classes),
        "palette": tuple(map(tuple, palette(source.label_space).tolist())),
        "decoder": DecoderInfo(
            **{key: getattr(params.models, key) for key in DecoderInfo.model_fields if key != "blocks"}
        ),
        "inference": InferenceInfo(**params.inference.model_dump(), bound=params.evaluate.bound(source.name)),
    }
