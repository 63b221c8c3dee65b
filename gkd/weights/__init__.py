"""The one door for weights: each file of them is read and written here, strictly, ours and others'.

record = Record.of(params, {"stage": "task_agnostic", "method": "gkd", ...}, data=[PROXY], teacher=teacher)
save(path, {"encoder": encoder, "objective": objective}, record)
record = load(path, {"encoder": encoder})                              # whatever wrote the file
encoder = build_encoder(params.models.students["f2l"])                 # wherever its weights come from

A file of `save` is safetensors with one metadata key, `gkd`: a Record as sorted JSON, whose docstring says what it
holds. `load` refuses a file by name: a key, shape or number format that differs, values that are not finite, bytes that
are not those that were saved (a digest a part), and where no shape tells, options and pixel statistics of the encoder,
blocks and stride of the decoder. Files of earlier versions have no such record, and load as well.
"""

from gkd.weights.door import load, save
from gkd.weights.origin import build_encoder, check_file
from gkd.weights.record import Record, read_record
from gkd.weights.tensors import CheckpointError

__all__ = ["CheckpointError", "Record", "build_encoder", "check_file", "load", "read_record", "save"]
