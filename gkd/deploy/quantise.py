"""int8 graphs for CPUs, by onnxruntime's own quantisation, from an fp32 ONNX file.

Weights take 7 of the 8 bits (`reduce_range`): the 8-bit products of CPUs without VNNI saturate, and results would
depend on the machine. docs/deployment.md says which way is for what, and has measurements.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from gkd.deploy.config import ExportError, InferenceConfig
from gkd.segmentation.windows import view

try:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process
except ImportError as error:  # the extra `deploy`
    raise ExportError(f"{error.name} is not installed: pip install onnx onnxruntime onnxscript") from error

PRODUCTS = ["MatMul", "Gemm"]


def quantise(source: Path, target: Path, windows: Iterable[np.ndarray] | None = None) -> Path:
    """Write `target`, the int8 form of the fp32 ONNX file `source`.

    `windows` (3, H, W) float32 in [0, 1] calibrate static quantisation; None = dynamic.

    Raises ExportError where dynamic quantisation found nothing to do, as in purely convolutional models.
    """
    options = {"per_channel": True, "reduce_range": True, "weight_type": QuantType.QInt8}
    with TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"  # with shapes, and constants folded
        # onnx infers the shapes. onnxruntime's symbolic inference gives up ("Incomplete symbolic shape inference") on
        # convolutional encoders and mask2former, whose sides are divided and rounded.
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        if windows is None:
            quantize_dynamic(prepared, target, op_types_to_quantize=PRODUCTS, **options)
            if not any(node.op_type == "MatMulInteger" for node in onnx.load(target).graph.node):
                raise ExportError(
                    "dynamic int8 leaves convolutions in float, and this model has hardly anything else: give source "
                    "photos for static int8 (--calibration)"
                )
        else:
            kinds = [*PRODUCTS, "Conv"]
            quantize_static(prepared, target, _Reader(iter(windows)), op_types_to_quantize=kinds, **options)
    return target


class _Reader(CalibrationDataReader):
    def __init__(self, windows: Iterator[np.ndarray]) -> None:
        self.windows = windows

    def get_next(self) -> dict[str, np.ndarray] | None:
        window = next(self.windows, None)
        return None if window is None else {"images": window[None]}


def calibration_windows(
    photos: Iterable[np.ndarray], how: InferenceConfig, fill: Sequence[float] = (0, 0, 0)
) -> Iterator[np.ndarray]:
    """The first and the last window (3, h, w) of each photo (H, W, 3) uint8, resized as for prediction.

    Where the photo is smaller than the window, they are cut to the largest multiple of the patch that it holds, or, for
    graphs of one size, padded with the colour `fill` as for prediction. ExportError without any photo.
    """
    found = False
    for photo in photos:
        seen = view(photo, how).numpy()
        found, image = True, seen.transpose(2, 0, 1).astype(np.float32) / 255  # (3, H, W)
        if how.multiple == how.window:
            edges = [(0, max(how.window - side, 0)) for side in image.shape[1:]]
            image = np.stack([np.pad(x, edges, constant_values=c) for x, c in zip(image, fill, strict=True)])
        height, width = (min(how.window, side) // how.multiple * how.multiple for side in image.shape[1:])
        if not (width and height):
            raise ExportError(
                f"a calibration photo of {seen.shape[1]}x{seen.shape[0]} pixels is smaller than {how.multiple}"
            )
        yield np.ascontiguousarray(image[:, :height, :width])
        yield np.ascontiguousarray(image[:, -height:, -width:])
    if not found:
        raise ExportError("static int8 needs at least one calibration photo")
