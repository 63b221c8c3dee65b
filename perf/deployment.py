"""Latency and size of fp32, bf16, ONNX and int8 on this CPU; with --data, what int8 costs in mIoU.

python perf/deployment.py [--json FILE] [--check] [--repeats 5] [--threads N]
python perf/deployment.py --data DATA --checkpoints results/task_learning/grid/*/model.safetensors [--json FILE]

The first form times a ViT-S/16 with the conv decoder (random weights) and the miniature student (its own) on one
image, the whole image at once: medians, all in one run. The second scores checkpoints on the embedded suite
(`python -m gkd.mini --out DATA`) by the protocol of their profile, source validation and targets, with torch, ONNX,
and both ways of int8. `--check` exits with 1 where int8 is not smaller than fp32, or loses 1 point of mIoU or more in
the mean.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gkd.benchmarks import SOURCES, targets_of
from gkd.datasets import DATASETS, open_split
from gkd.decoders import Segmentor, build_decoder
from gkd.evaluation import evaluate, scores
from gkd.export import export, load_folder
from gkd.export.build import any_size
from gkd.export.config import DecoderConfig, InferenceConfig
from gkd.export.onnx_file import write_onnx
from gkd.export.onnx_runtime import OnnxModel
from gkd.export.quantise import calibration_windows, quantise
from gkd.params import EncoderSpec, load

SIZES = {"512x512": (512, 512), "1024x512": (512, 1024)}  # name width x height: (rows, columns)
MOST_LOST = 1.0  # points of mIoU
CLASSES = 19


@torch.inference_mode()
def median(call: Callable[[], object], repeats: int) -> float:
    """Milliseconds of one call, after one that warms up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def models() -> Iterator[tuple[str, Segmentor, InferenceConfig]]:
    """Name, model and window of the two models that are timed."""
    torch.manual_seed(0)
    small = EncoderSpec(name="vit_small_patch16_224", options={"img_size": 512})
    mini = load("mini").models.students["f2l"]
    for name, spec, width, window in (("mini student + conv", mini, 64, 64), ("ViT-S/16 + conv", small, 128, 512)):
        encoder, _ = any_size(spec)
        decoder = build_decoder(DecoderConfig(decoder="conv", decoder_width=width), encoder, CLASSES)
        how = InferenceConfig(window=window, stride=window, multiple=encoder.stride)
        yield name, Segmentor(encoder, decoder, frozen=True).eval(), how


def latency(repeats: int) -> list[dict[str, object]]:
    """A row for each model, engine and size: megabytes of its file, milliseconds an image."""
    timed: list[tuple[str, str, float, nn.Module]] = []
    for name, model, how in models():
        with tempfile.TemporaryDirectory() as folder:
            onnx = write_onnx(model, Path(folder) / "model.onnx", how)
            int8 = quantise(onnx, Path(folder) / "int8.onnx")
            photos = np.random.default_rng(0).integers(0, 256, (2, how.window, how.window, 3), dtype=np.uint8)
            static = quantise(onnx, Path(folder) / "static.onnx", calibration_windows(photos, how))
            timed.append((name, "torch fp32", 4 * weights(model), model))
            for engine, file in (("ONNX fp32", onnx), ("int8 dynamic", int8), ("int8 static", static)):
                timed.append((name, engine, file.stat().st_size / 1e6, OnnxModel(file)))
        timed.append((name, "torch bf16", 2 * weights(model), copy.deepcopy(model).bfloat16()))
    rows = []
    for name, engine, size, module in sorted(timed, key=lambda row: "bf16" in row[1]):  # slow where it is emulated
        row: dict[str, object] = {"model": name, "engine": engine, "MB": round(size, 1)}
        for title, (height, width) in SIZES.items():
            image = torch.rand(1, 3, height, width)
            image = image.bfloat16() if "bf16" in engine else image
            row[f"ms {title}"] = round(median(partial(module, image), repeats), 1)
        rows.append(row)
        print("  ".join(f"{value!s:<20}" for value in row.values()), flush=True)
    return rows


def weights(model: nn.Module) -> float:
    """Millions of values in the model's state."""
    return sum(tensor.numel() for tensor in model.state_dict().values()) / 1e6


def accuracy(checkpoints: list[Path], data: Path) -> list[dict[str, object]]:
    """A row for each checkpoint and domain: mIoU by engine."""
    roots = {
        layout.folder: str(data / layout.folder) for layout in DATASETS.values() if (data / layout.folder).is_dir()
    }
    rows = []
    for file in checkpoints:
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "model"
            config = export(file, folder, onnx=True, int8=True)
            member = config.provenance["member"]
            source, params = SOURCES[member["source"]], load(member["profile"])
            training = open_split(source.train.dataset, source.train.split, roots)
            spread = np.linspace(0, len(training) - 1, 32).round().astype(int)
            photos = (training[int(index)][0] for index in spread)
            static = quantise(
                folder / "model.onnx", folder / "static.onnx", calibration_windows(photos, config.inference)
            )
            exported = {engine: load_folder(folder, engine) for engine in ("torch", "onnx", "int8")}
            engines = {engine: item.model for engine, item in exported.items()} | {"int8 static": OnnxModel(static)}
            for domain in (source.validation, *targets_of(source.name)):
                bound = params.evaluate.bounds.get(domain.name)
                window = replace(exported["torch"].inference, bound=None if bound is None else tuple(bound))
                images = open_split(domain.dataset, domain.split, roots, in_memory=True)
                row: dict[str, object] = {"member": config.name, "domain": domain.name}
                for engine, model in engines.items():
                    row[engine] = scores(evaluate(model, images, len(config.classes), window)).miou
                rows.append(row)
                print("  ".join(f"{value!s:<24}" for value in row.values()), flush=True)
    return rows


def faults(rows: list[dict[str, object]]) -> list[str]:
    """What an issue asked for and the rows miss."""
    if "domain" in rows[0]:
        lost = float(np.mean([row["torch"] - row["int8"] for row in rows]))
        print(f"int8 loses {lost:.3f} points of mIoU in the mean of {len(rows)} rows", flush=True)
        return [f"int8 loses {lost:.2f} points of mIoU"] if lost >= MOST_LOST else []
    sizes = {(row["model"], row["engine"]): row["MB"] for row in rows}
    return [f"{m}: {e} is not smaller" for (m, e), mb in sizes.items() if "int8" in e and mb >= sizes[m, "ONNX fp32"]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls, of which the median is taken")
    parser.add_argument("--threads", type=int, help="of torch and onnxruntime; torch's choice by default")
    parser.add_argument("--data", type=Path, help="the embedded suite: measure mIoU instead of time")
    parser.add_argument("--checkpoints", type=Path, nargs="+", help="model.safetensors of task_learning, with --data")
    options = parser.parse_args()
    if (options.data is None) != (options.checkpoints is None):
        parser.error("--data and --checkpoints go together")
    if options.threads:
        torch.set_num_threads(options.threads)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}", flush=True)
    rows = latency(options.repeats) if options.data is None else accuracy(options.checkpoints, options.data.absolute())
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    missed = faults(rows)
    if options.check and missed:
        print("; ".join(missed), file=sys.stderr)
    return int(options.check and bool(missed))


if __name__ == "__main__":
    sys.exit(main())
