"""Where a notebook reads and writes: results/ under DVC, .scratch/ when it trains by hand.

space = Workspace("task_agnostic", member("f2l", "gkd", 0), params, train, results)
space.file("encoder.safetensors")
"""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gkd.files import write_whole
from gkd.params import ROOT, EncoderSpec, Params, load
from gkd.workspace.manifests import verify_weights
from gkd.workspace.members import dependencies, stage_of

if TYPE_CHECKING:
    from torch import nn

    from gkd.train.resume import Resume

SCRATCH = ".scratch/results"


class NotThere(FileNotFoundError):
    """What a notebook reads was not made yet. Jupyter shows its one line, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class Workspace:
    """The folder of one member, `results/<stage>/<profile>/<member>/`.

    To train, it is made below `results`. To look at it, it must be there: what DVC made goes before what was made by
    hand. Where the notebook itself runs in several processes (torchrun), the others than the first write to
    .scratch/ranks/, so that each file has one writer.
    """

    def __init__(self, stage: str, member: str, params: Params, train: bool = False, results: str = SCRATCH) -> None:
        self.stage, self.member, self.params, self.by_hand = stage, member, params, results == SCRATCH
        self._began: tuple[Mapping[str, Any], str] | None = None  # what `resume` was asked for, and what it read then
        if "DVC_STAGE" in os.environ and not self.by_hand and Path.cwd() != ROOT:  # an experiment in a copy
            raise ValueError(f"this stage runs in {Path.cwd()}, but gkd is that of {ROOT}: unset PYTHONPATH")
        name, rank = Path(stage) / params.profile / member, os.environ.get("RANK", "0")
        self.states = ROOT / ".scratch" / "resume" / results / name  # one folder for all processes
        if train:
            self.folder = ROOT / results / name if rank == "0" else ROOT / ".scratch/ranks" / rank / results / name
            self.folder.mkdir(parents=True, exist_ok=True)
        else:
            self.folder = self.need(f"results/{name.as_posix()}")

    def need(self, path: str) -> Path:
        """An input, given relative to the root. By hand one in .scratch/ serves as well.

        Raises NotThere with what to run.
        """
        places = [ROOT / path, ROOT / ".scratch" / path] if self.by_hand else [ROOT / path]
        # A stage that failed leaves folders without a file.
        there = (place for place in places if place.is_file() or any(file.is_file() for file in place.rglob("*")))
        found = next(there, None)
        if found is None:
            made = path.startswith("results/")
            how = "`dvc repro` makes it, or its notebook with `train = True` in the parameters cell"
            raise NotThere(f"{path} is not there: {how if made else f'`git checkout {path}` may bring it'}")
        return found

    def file(self, name: str) -> Path:
        """Path of a file of this member; folders in `name` are made."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def start(self, path: str, setting: str) -> tuple[EncoderSpec, Path | None]:
        """The encoder that `path` names, and its file: of a list of weights (manifests/weights/*.csv) the encoder of
        params.yaml, whose own weights it has (None); of a folder the student that a stage left there."""
        if not path.endswith(".csv"):
            return self.params.student(setting), self.need(path) / "encoder.safetensors"
        name = Path(path).stem
        spec = self.params.models.teacher if name == "teacher" else self.params.student(name)
        verify_weights(name, spec)
        return spec, None

    def hand_on(self, folder: Path) -> None:
        """Take over what an earlier stage says of a model: everything but its weights and its metrics."""
        for file in sorted(folder.rglob("*")):
            if file.is_file() and file.suffix in (".csv", ".npz", ".txt"):
                shutil.copyfile(file, self.file(file.relative_to(folder).as_posix()))

    def metrics(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Write metrics.json, keys sorted and numbers as they are, and return them.

        Raises ValueError where what a stage of DVC depends on has changed since `resume`: DVC (3.67) notes what files
        and parameters are at the end, and would take the new ones for those that made the results.
        """
        if self._began is not None and not self.by_hand and self._read(self._began[0]) != self._began[1]:
            raise ValueError(
                "params.yaml, code or data changed while this stage ran, and results/ would pass for those of the new: "
                "put the change back and run again (it continues), or run again with it"
            )
        write_whole(self.file("metrics.json"), json.dumps(dict(values), indent=2, sort_keys=True) + "\n")
        return dict(values)

    def arrays(self, name: str, values: Mapping[str, Any]) -> Path:
        """Write arrays as a compressed .npz that `np.load` reads; returns its path.

        Equal arrays give equal bytes: `np.savez` would stamp its entries with the time of day.
        """
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for key, value in values.items():
                entry = zipfile.ZipInfo(f"{key}.npy")  # dated 1980
                entry.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(entry, "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.asanyarray(value), allow_pickle=False)
        return write_whole(self.file(name), content.getvalue())

    def resume(self, item: Mapping[str, Any], *modules: nn.Module) -> Resume:
        """States of this member while it runs, in .scratch/resume/: a killed stage that is repeated continues.

        They hold for what dvc.yaml says that the member depends on, versions and threads, and for `modules` in their
        state at this call. `item` has the fields of the member by name, as the matrix of its stage.

        Raises ValueError where params.yaml was changed since the notebook read it.
        """
        from gkd.train.resume import Resume, fingerprint, versions  # with torch, which only some stages need

        if not self.by_hand and load() != self.params:
            raise ValueError("params.yaml changed since this stage began: run it again")
        self._began = item, self._read(item)
        key = fingerprint(self._began[1], versions(), *modules)
        return Resume(self.states, key, self.params.machine.resume_seconds)

    def _read(self, item: Mapping[str, Any]) -> str:
        """A digest of all that dvc.yaml says that the member depends on, as it is now."""
        from gkd.train.resume import fingerprint

        values, files = dependencies(self.params, stage_of(self.params, self.stage, item.get("method", "")), item)
        return fingerprint(json.dumps(values, sort_keys=True), *files)
