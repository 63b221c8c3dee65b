"""States of a running stage, so that a killed one continues where it was and ends with the same bytes.

A state is one file that appears whole or not at all. The data loader needs none: every draw follows from seed, epoch
and sample. DVC's `persist: true` would resume a finished state after a change of parameters.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gkd.files import write_whole
from gkd.weights.tensors import digest

LONGEST = 150  # letters of a name in a file name, of which systems take 255 bytes
IGNORED = {"__pycache__", ".ipynb_checkpoints", ".DS_Store", "Thumbs.db"}  # as in .dvcignore


class Resume:
    """The states of one member of a stage, below `folder`, with at least `seconds` between two saves of a slot.

    `key` is a fingerprint of all that the result follows from: another one removes the states and starts clean.
    """

    def __init__(self, folder: Path, key: str, seconds: float = 60.0) -> None:
        self.folder, self.key, self.seconds = folder, key, seconds
        for old in folder.iterdir() if folder.is_dir() else ():
            if old.name != key:
                shutil.rmtree(old, ignore_errors=True)  # another process of this run may do the same

    def slot(self, name: str) -> Slot:
        """The state of one part, such as a method on a domain."""
        file = name.replace("/", "-")
        if len(file) > LONGEST:
            file = f"{file[:LONGEST]} {fingerprint(file)}"
        return Slot(self.folder / self.key / f"{file}.pt", self.seconds)

    def clear(self) -> None:
        """Remove all states: the stage is done. Of several processes the first does so, which writes the results."""
        if os.environ.get("RANK", "0") == "0":
            shutil.rmtree(self.folder, ignore_errors=True)


class Slot:
    """One file with the state of a training run or an evaluation: tensors, numbers and text in dicts and lists."""

    def __init__(self, file: Path, seconds: float) -> None:
        self.file, self.seconds, self.last = file, seconds, time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The last state, or None where there is none. A torn file is told of and removed."""
        if not self.file.is_file():
            return None
        try:
            return torch.load(self.file, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            print(f"{self.file} is torn ({type(error).__name__}): this part starts from its beginning", flush=True)
            self.file.unlink(missing_ok=True)  # each of several processes sees it
            return None

    def due(self) -> bool:
        """Whether the last save is long enough ago."""
        return time.monotonic() - self.last >= self.seconds

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the state; a kill at any moment leaves the old one or this one."""
        write_whole(self.file, lambda aside: torch.save(dict(state), aside))
        self.last = time.monotonic()


def versions() -> str:
    """What equal bytes hang on beside parameters, code, data and weights: libraries, torch's build, and threads."""
    names = ", ".join(f"{name} {version(name)}" for name in ("torchvision", "timm", "transformers", "numpy", "pillow"))
    return f"torch {torch.__version__}, {names}, {torch.get_num_threads()} threads"


def fingerprint(*parts: str | Path | nn.Module) -> str:
    """A short hash of texts, of files (of folders: all files below, with their names) and of the state of modules."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, nn.Module):
            found.update(digest(part.state_dict()).encode())
        elif isinstance(part, Path):
            below = sorted(f for f in part.rglob("*") if f.is_file() and IGNORED.isdisjoint(f.parts))
            for file in below if part.is_dir() else [part]:
                content = file.read_bytes() if file.is_file() else b"absent"
                found.update(f"{file.relative_to(part.parent).as_posix()} {len(content)}\n".encode() + content)
        else:
            found.update(f"{len(part)} {part}\n".encode())
    return found.hexdigest()[:16]


def model_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """The state of `module` without its frozen parameters, which training does not change."""
    # Candidates share their frozen encoder, which then has several names.
    frozen = {name for name, p in module.named_parameters(remove_duplicate=False) if not p.requires_grad}
    return {name: tensor for name, tensor in module.state_dict().items() if name not in frozen}


def load_model_state(module: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Load what `model_state` gave; raises ValueError where names differ."""
    expected = model_state(module).keys()
    if expected != state.keys():
        raise ValueError(f"the resume checkpoint holds other tensors: {sorted(expected ^ state.keys())[:5]}")
    module.load_state_dict(dict(state), strict=False)
