"""Write a model folder: whole, or not at all."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from torch import nn

from gkd.deploy.build import describe, record_of
from gkd.deploy.config import FILE, Config, ExportError, write_config
from gkd.deploy.folder import ENGINES, WEIGHTS
from gkd.files import sha256, write_whole
from gkd.segmentation.stored import rebuild
from gkd.weights import load, save


@dataclass(frozen=True)
class Graphs:
    """Which ONNX files are written.

    Attributes:
        onnx: model.onnx, whose logits must equal PyTorch's to `tolerance` on five sizes.
        int8: model.int8.onnx.
        photos: (H, W, 3) uint8, of the source's training images: calibrate int8 on them. None = dynamic quantisation.
        tolerance: the largest difference of ONNX and PyTorch, in logits.
        fixed_size: graphs of one size, the window, which windows are padded to: for models without open sides.
    """

    onnx: bool = False
    int8: bool = False
    photos: Iterable[np.ndarray] | None = None
    tolerance: float = 1e-4
    fixed_size: bool = False


def export(
    checkpoint: Path,
    folder: Path,
    graphs: Graphs = Graphs(),  # noqa: B008 - immutable
    *,
    name: str | None = None,
    member: str | None = None,
    force: bool = False,
) -> Config:
    """Write `folder` from a model.safetensors of task learning, or a segmentor of others; returns its config.

    Args:
        checkpoint: `results/task_learning/<profile>/<member>/model.safetensors`, or a file as in docs/weights.md.
        folder: to be made; the weights in it are the checkpoint's bytes, those of others in our names.
        name: of the model; the member's name by default, the file's for others' segmentors.
        member: of others' segmentors, see `gkd.deploy.build.record_of`.
        force: replace `folder` where it is a model folder, and nothing else is in it.

    Raises:
        ExportError: `folder` is there, the checkpoint is none of task learning, the model cannot be written as ONNX,
            or the ONNX file differs.
        CheckpointError: the weights do not fit what is said of them.
    """
    folder = folder.resolve()
    if folder.exists():
        _check_ours(folder, force)
    if graphs.photos is not None and not graphs.int8:
        raise ExportError("calibration photos are for int8: ask for it as well")
    if graphs.fixed_size and not (graphs.onnx or graphs.int8):
        raise ExportError("a fixed size is one of ONNX and int8 files: ask for them as well")
    record = record_of(checkpoint, member)
    config = describe(checkpoint, record, name)
    if graphs.fixed_size:
        one_size = config.inference.model_copy(update={"multiple": config.inference.window})
        config = config.model_copy(update={"inference": one_size})
    if graphs.int8:
        config = config.model_copy(update={"int8": "dynamic" if graphs.photos is None else "static"})
    model = rebuild(config)
    parts = {"encoder": model.encoder, "decoder": model.decoder}
    load(checkpoint, parts)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as aside:
        partial, old = Path(aside, "new"), Path(aside, "old")
        partial.mkdir()
        if member is not None:
            save(partial / WEIGHTS, parts, record)
        else:
            write_whole(partial / WEIGHTS, lambda aside: shutil.copyfile(checkpoint, aside))
        if graphs.onnx or graphs.int8:
            _write_graphs(model, config, partial, graphs)
            config = config.model_copy(update={"graphs": {f.name: sha256(f) for f in sorted(partial.glob("*.onnx"))}})
        write_config(config, partial)
        if folder.exists():
            folder.rename(old)
        try:
            partial.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    return config


def _check_ours(folder: Path, force: bool) -> None:
    """Raise ExportError where `folder` must not be replaced: it holds what no export wrote, or nobody asked for it."""
    if not force:
        raise ExportError(f"{folder} is there already: name another folder, or replace it by --force")
    text = (folder / FILE).read_text(errors="replace") if (folder / FILE).is_file() else ""
    if '"gkd-segmentor-' not in text:  # of any version, and damaged ones as well
        raise ExportError(f"{folder} is no model folder of ours, so --force does not replace it: remove it yourself")
    ours = {FILE, *ENGINES.values(), ".DS_Store", "Thumbs.db", "desktop.ini"}
    if others := sorted(file.name for file in folder.iterdir() if file.name not in ours):
        raise ExportError(f"{folder} holds {', '.join(others)} as well, which --force would delete: move them away")


def _write_graphs(model: nn.Module, config: Config, folder: Path, graphs: Graphs) -> None:
    from gkd.deploy.onnx_file import check, write_onnx  # the extra `deploy`

    file = write_onnx(model, folder / ENGINES["onnx"], config.inference)
    check(model, file, config.inference, graphs.tolerance)
    if graphs.int8:
        from gkd.deploy.quantise import calibration_windows, quantise

        photos, fill = graphs.photos, config.encoder.mean
        windows = None if photos is None else calibration_windows(photos, config.inference, fill)
        check(model, quantise(file, folder / ENGINES["int8"], windows), config.inference)
    if not graphs.onnx:
        file.unlink()
