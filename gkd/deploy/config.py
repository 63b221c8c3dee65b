"""config.json: all that is needed to rebuild a segmentor and to run it, without params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from gkd.files import write_whole
from gkd.params import Section
from gkd.weights.record import DecoderInfo, EncoderInfo, InferenceInfo

FILE = "config.json"


class ExportError(ValueError):
    """A model folder that cannot be written or read, or photos that it cannot take: a line for each fault."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class InferenceConfig(InferenceInfo):
    """The fields of `gkd.segmentation.windows.Inference`, which says what they mean."""

    multiple: int = Field(gt=0)


class Config(Section):
    """The whole of config.json.

    Attributes:
        format: of this file; readers refuse others.
        name: of the model, for people.
        classes: names in the order of the train ids.
        palette: colour (r, g, b) of each class.
        int8: how the int8 file was made, None where there is none.
        graphs: SHA-256 of the ONNX files, by their names; the weights have digests of their own.
        provenance: of the weights: checkpoint and its record, git commit, dvc.lock, versions.
    """

    format: Literal["gkd-segmentor-1"] = "gkd-segmentor-1"
    name: str
    encoder: EncoderInfo
    decoder: DecoderInfo
    classes: tuple[str, ...] = Field(min_length=1, max_length=255)
    palette: tuple[tuple[int, int, int], ...]
    inference: InferenceConfig
    int8: Literal["dynamic", "static"] | None = None
    graphs: dict[str, str] = {}
    provenance: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_colour_a_class(self) -> Config:
        if len(self.palette) != len(self.classes):
            raise ValueError(f"{len(self.classes)} classes and {len(self.palette)} colours in the palette")
        return self


def write_config(config: Config, folder: Path) -> None:
    """Write config.json into `folder`; equal content gives equal bytes."""
    write_whole(folder / FILE, config.model_dump_json(indent=2) + "\n")


def read_config(folder: Path) -> Config:
    """Read and check config.json of `folder`. Raises ExportError, which names the file and the key."""
    file = folder / FILE
    if not folder.is_dir():
        raise ExportError(f"{folder}: expected a model folder, found {'a file' if folder.exists() else 'nothing'}")
    if not file.is_file():
        raise ExportError(
            f"{folder}: no {FILE} in it, so it is no model folder: `gkd export CHECKPOINT FOLDER` makes one"
        )
    try:
        return Config.model_validate_json(file.read_text())
    except UnicodeDecodeError as error:
        raise ExportError(f"{file}: not a text file ({error}); export the model again") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise ExportError(f"{file}: {key}: {first['msg']}{more}; export the model again") from error
