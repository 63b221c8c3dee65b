"""An ONNX file as a torch module, so that sliding window and evaluation run it like any model."""

from pathlib import Path

import torch
from torch import Tensor, nn

from gkd.deploy.config import ExportError

try:
    import onnxruntime
except ImportError as error:  # the extra `deploy`
    raise ExportError(f"{error.name} is not installed: pip install onnx onnxruntime onnxscript") from error


class OnnxModel(nn.Module):
    """onnxruntime on the CPU, with as many threads as torch has.

    `classes` is the number of logits a pixel.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # its warnings concern graph clean-up, its errors come as exceptions too
        try:
            self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has one class an error code and no common one
            raise ExportError(f"{file}: onnxruntime cannot load it ({error}); export it again") from error
        self.file = file
        self.classes: int = self.session.get_outputs()[0].shape[1]

    def forward(self, images: Tensor) -> Tensor:
        """Float images (B, 3, H, W) in [0, 1] -> logits (B, K, h, w). ExportError where the graph cannot take them."""
        try:
            (logits,) = self.session.run(["logits"], {"images": images.float().cpu().numpy()})
        except Exception as error:  # as above
            takes = self.session.get_inputs()[0].shape
            raise ExportError(f"{self.file.name} takes {takes}, not {list(images.shape)}: {error}") from error
        return torch.from_numpy(logits).to(images.device)
