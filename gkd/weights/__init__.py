"""The one door for weights: each file of them is read and written here, strictly, ours and others'.

record = Record.of(params, {"stage": "task_agnostic", "method": "gkd", ...}, data=[PROXY], teacher=teacher)
save(path, {"encoder": encoder, "objective": objective}, record)
record = load(path, {"encoder": encoder})                              # whatever wrote the file
encoder = build_encoder(params.models.students["f2l"])                 # wherever its weights come from

A file of `save` is safetensors with one metadata key, `gkd`: a Record as sorted JSON. docs/weights.md says what it
holds, and what `load` refuses.
"""

from gkd.weights.door import load, save
from gkd.weights.origin import build_encoder, check_file
from gkd.weights.record import Record, read_record
from gkd.weights.tensors import CheckpointError

__all__ = ["CheckpointError", "Record", "build_encoder", "check_file", "load", "read_record", "save"]
