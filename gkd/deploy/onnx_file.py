"""Segmentors as ONNX files of any batch, height and width, checked against PyTorch.

docs/deployment.md says what goes in and comes out. timm resamples the position embedding in the graph
(`dynamic_img_size`).
"""

from math import inf
from pathlib import Path

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from torch import nn
from torch.onnx import OnnxExporterError

from gkd.deploy.config import ExportError, InferenceConfig
from gkd.deploy.onnx_runtime import OnnxModel

_SAME = (Conv2dSame, AvgPool2dSame, MaxPool2dSame)


def write_onnx(model: nn.Module, file: Path, how: InferenceConfig) -> Path:
    """Write `model` (eval mode) as an ONNX file; where only one size fits, height and width are fixed.

    Raises ExportError where onnxscript is not there, or torch cannot trace the model or has no ONNX operators for it.
    """
    try:
        import onnxscript  # noqa: F401, what torch.onnx writes with
    except ImportError as error:
        raise ExportError(f"{error.name} is not installed: pip install onnx onnxruntime onnxscript") from error
    batch, multiple = torch.export.Dim("batch", max=1024), how.multiple
    if multiple == how.window:
        sides, sizes = (multiple, multiple), {0: batch}
    else:
        if any(isinstance(module, _SAME) for module in model.modules()):
            raise ExportError(
                f"{_refusal(how)} It was not tried: padding as in TensorFlow follows from height and width in every "
                "layer, and tracing it does not end."
            )
        # Differing sides of more than one patch: equal ones or ones would be taken for constants.
        sides = 3 * multiple, 5 * multiple
        rows, columns = (torch.export.Dim(name, max=1024) for name in ("rows", "columns"))
        sizes = {0: batch, 2: multiple * rows, 3: multiple * columns}
    try:
        images, names = (torch.zeros(2, 3, *sides),), {"input_names": ["images"], "output_names": ["logits"]}
        program = torch.onnx.export(model, images, **names, dynamic_shapes=(sizes,), dynamo=True, verbose=False)
    except OnnxExporterError as error:
        raise ExportError(f"{_refusal(how)} Torch says: {_reason(error)}") from error
    program.save(file)
    return file


def _refusal(how: InferenceConfig) -> str:
    if how.multiple == how.window:
        return (
            f"torch {torch.__version__} cannot write this model as ONNX. Export it without ONNX and int8 and run it by "
            "the engine torch, or choose another encoder or decoder."
        )
    return (
        "this model cannot be written as ONNX for any height and width. Try --fixed-size, which writes a graph of the "
        f"window ({how.window} x {how.window}) that windows are padded to, or export it without ONNX and int8 and run "
        "it by the engine torch."
    )


def _reason(error: BaseException) -> str:
    """First line of what was raised first: torch wraps it in pages of advice for its developers."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')[:300]}"


def check_sizes(how: InferenceConfig) -> list[tuple[int, int]]:
    """Five (height, width) that an ONNX file is checked at: the window, smaller, wide, tall, and larger."""
    m = how.multiple
    if m == how.window:
        return [(m, m)] * 5
    side = max(how.window // m, 1)
    grids = [(side, side), (max(side // 2, 1), side), (side, max(side // 3, 1)), (side + 1, 2 * side), (1, 3)]
    grids += [(2, 1), (3, 2)]  # of few cells some of the above are alike
    return [(rows * m, columns * m) for rows, columns in list(dict.fromkeys(grids))[:5]]


@torch.inference_mode()
def check(model: nn.Module, file: Path, how: InferenceConfig, tolerance: float = inf) -> None:
    """Raise an ExportError where logits of an ONNX file differ from those of `model` by more than `tolerance`.

    Compared on a random photo of each of five sizes. How near a rounded graph comes has no bound that fits all models
    (docs/deployment.md has measurements), but logits that are no numbers are refused always.
    """
    onnx, generator, worst = OnnxModel(file), torch.Generator().manual_seed(0), 0.0
    for height, width in check_sizes(how):
        photo = torch.rand(1, 3, height, width, generator=generator)
        expected, found = model(photo), onnx(photo)
        if expected.shape != found.shape:
            shapes = f"{tuple(found.shape)}, PyTorch's {tuple(expected.shape)}"
            raise ExportError(f"{file.name}: at {height}x{width} its logits have the shape {shapes}")
        worst = max(worst, (expected - found).abs().nan_to_num(nan=inf, posinf=inf).max().item())
    if worst == inf:
        raise ExportError(f"{file.name} gives logits that are no numbers: leave out int8, or calibrate on other photos")
    if worst > tolerance:
        raise ExportError(f"{file.name} differs from PyTorch by {worst:.1e} in logits, allowed are {tolerance:.0e}")
