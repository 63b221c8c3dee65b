"""Trained segmentors as folders that describe themselves: config.json, model.safetensors, and ONNX files if asked.

export(Path("results/task_learning/mini/f2l-gkd-gtav-0/model.safetensors"), Path("street"), Graphs(onnx=True))
load_folder(Path("street"), "onnx").predict(photo)     # (H, W, 3) uint8 -> train ids (H, W) uint8
"""

from gkd.deploy.config import Config, ExportError
from gkd.deploy.folder import Exported, load_folder
from gkd.deploy.write import Graphs, export

__all__ = ["Config", "ExportError", "Exported", "Graphs", "export", "load_folder"]
