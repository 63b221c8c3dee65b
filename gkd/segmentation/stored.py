"""A trained segmentor from its file, which says of itself what it is: no params.yaml is needed."""

from pathlib import Path
from typing import Protocol

import torch

from gkd.models import Encoder
from gkd.segmentation.decoders import Segmentor, build_decoder
from gkd.weights import CheckpointError, Record, load, read_record
from gkd.weights.record import DecoderInfo, EncoderInfo


class Said(Protocol):
    """What a record, or the config of an exported model, says of a segmentor."""

    encoder: EncoderInfo
    decoder: DecoderInfo
    classes: tuple[str, ...]


def rebuild(said: Said) -> Segmentor:
    """The segmentor in eval mode, with random weights: no weights are fetched or read."""
    encoder = Encoder.create(said.encoder.name, **(said.encoder.options or {}))
    for buffer, values in ((encoder.mean, said.encoder.mean), (encoder.std, said.encoder.std)):
        buffer.copy_(torch.tensor(values).view_as(buffer))
    decoder = build_decoder(said.decoder, encoder, len(said.classes), said.decoder.blocks)
    return Segmentor(encoder, decoder, frozen=True).eval()


def load_segmentor(path: Path) -> tuple[Segmentor, Record]:
    """The segmentor of a file of task learning, frozen and in eval mode, and its record.

    Raises CheckpointError where the file is missing or does not fit, or says nothing of a segmentor.
    """
    record = read_record(path)
    if record.encoder is None or record.decoder is None:
        raise CheckpointError(f"{path}: expected model.safetensors of task learning, found no record of a segmentor")
    model = rebuild(record)
    return model, load(path, {"encoder": model.encoder, "decoder": model.decoder})
