"""Where a notebook reads and writes: results/ under DVC, .scratch/ when it is run by hand.

space = Workspace("task_agnostic", profile, member("f2l", "gkd", 0), results)
save(space.file("encoder.safetensors"), ...)
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gkd.data.domains import Domain, Source
from gkd.data.reading import DatasetError
from gkd.datasets import SegmentationData, catalogue, concatenate
from gkd.files import write_whole
from gkd.params import ROOT, Params
from gkd.workspace import plan

if TYPE_CHECKING:
    from torch import nn

    from gkd.train.resume import Resume

SCRATCH_RESULTS = ".scratch/results"


class Workspace:
    """The folder of one member of a stage, `<results>/<stage>/<profile>/<member>/`, made if it is absent.

    Where the notebook itself runs in several processes (torchrun), the others than the first write to .scratch/ranks/,
    so that each file has one writer.
    """

    def __init__(self, stage: str, profile: str, member: str, results: str) -> None:
        self.stage, self.profile, self.results = stage, profile, results
        self.name = Path(results) / stage / profile / member
        rank = os.environ.get("RANK", "0")
        self.folder = ROOT / self.name if rank == "0" else ROOT / ".scratch" / "ranks" / rank / self.name
        self.folder.mkdir(parents=True, exist_ok=True)

    def file(self, name: str) -> Path:
        """Path of a file of this member; folders in `name` are made."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def metrics(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Write metrics.json, keys sorted and numbers as they are, and return them."""
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

    def resume(self, params: Params, *modules: nn.Module) -> Resume:
        """States of this member while it runs, in .scratch/resume/: a killed stage that is repeated continues.

        They hold for the same parameters, code, notebook, versions, data (data.dvc, manifests, subsets) and `modules`
        in their state at this call: give all that the result follows from.
        """
        import torch  # only the stages that train or evaluate have use for it

        from gkd.train.resume import Resume, fingerprint

        settings = params.model_dump_json(exclude={"resume_seconds"})
        versions = f"torch {torch.__version__}, {torch.get_num_threads()} threads"
        files = "gkd", f"notebooks/{self.stage}.ipynb", "data.dvc", "manifests", "subsets"
        key = fingerprint(settings, versions, *(ROOT / name for name in files), *modules)
        return Resume(ROOT / ".scratch" / "resume" / self.name, key, params.resume_seconds)

    def need(self, path: str | None, **parameters: Any) -> Path | None:
        """An input, given relative to the root; None stays None. FileNotFoundError says how to get a missing one.

        By hand the stage that writes it may not have run: then its notebook is run first, with `parameters`.
        """
        if path is None:
            return None
        if not (file := ROOT / path).exists():
            if not path.startswith(self.results + "/"):
                raise FileNotFoundError(
                    f"{path} is missing: no stage makes it, `gkd plan` or `git checkout {path}` may"
                )
            if self.results != SCRATCH_RESULTS:
                raise FileNotFoundError(f"{path} is missing: run `dvc repro`, which makes it")
            stage = path.removeprefix(SCRATCH_RESULTS + "/").split("/")[0]
            run_notebook(stage, {"profile": self.profile, **parameters})
            if not file.exists():
                raise FileNotFoundError(f"notebooks/{stage}.ipynb ran and did not write {path}")
        return file


def run_notebook(stage: str, parameters: Mapping[str, Any]) -> None:
    """Run a stage's notebook by hand: tiny profile unless told, outputs in .scratch/."""
    import papermill  # only needed here, and slow to import

    given = ", ".join(f"{k}={v}" for k, v in parameters.items())
    print(f"its input is missing, so notebooks/{stage}.ipynb runs first ({given})", flush=True)
    executed = ROOT / ".scratch" / "notebooks" / f"{stage}.ipynb"
    executed.parent.mkdir(parents=True, exist_ok=True)
    options = {"cwd": str(ROOT), "kernel_name": "python3", "progress_bar": False}
    papermill.execute_notebook(ROOT / "notebooks" / f"{stage}.ipynb", executed, parameters=dict(parameters), **options)


def open_domain(params: Params, domain: Domain) -> SegmentationData:
    """Open a domain; where it is absent, the error says what to download and where to put it (or `make data`)."""
    known = catalogue(params)
    root = known.root_of(domain.dataset)
    # Under DVC, a root outside data/ must be one that the plan knows: else DVC would have hashed other files.
    if "DVC_STAGE" in os.environ and not root.is_relative_to(ROOT / "data") and plan.read()["data"] == "data":
        raise DatasetError(f"{domain.dataset} lies in {root}, but plan.yaml was written without it: run `gkd plan`")
    wrong = known.problem(domain.dataset, domain.split)
    if wrong is not None:
        raise DatasetError(f"{wrong}\nFor the embedded suite run `make data`.")
    return known.open_split(domain.dataset, domain.split, params.in_memory)


def open_training(params: Params, source: Source) -> SegmentationData:
    """The training images of a source, of all its datasets one after another; errors as of `open_domain`."""
    return concatenate([open_domain(params, domain) for domain in source.training(params.plan.hold_out)])
