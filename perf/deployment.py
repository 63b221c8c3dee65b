"""Latency and size of fp32, bf16, ONNX and int8 on this CPU; with --data, what int8 costs in mIoU.

python perf/deployment.py [--json FILE] [--check] [--repeats 5] [--seconds 5] [--threads N]
python perf/deployment.py --data DATA --checkpoints results/task_learning/grid_f2l/*/model.safetensors [--json FILE]

The first form times the miniature student and a ViT-S/16 with the conv decoder, and a ViT-S/16 with the mask2former
decoder (all of random weights) on one image, the whole image at once, all in one run: one warm-up, then the median of
`--repeats` calls, fewer where they take longer than `--seconds`, which keeps slow engines (emulated bf16) in the table.
The column `calls` says how many; "1 cold" is a call whose warm-up alone took that long, and is timed itself.

The second scores checkpoints on the embedded suite (`python -m gkd.mini --out DATA`) by the protocol of `--params`,
source validation and targets, with torch, ONNX, and both ways of int8. Both print the Markdown rows of
docs/deployment.md. `--check` exits with 1 where an engine or a size is missing, int8 is not smaller than fp32, or loses
1 point of mIoU or more in the mean.
"""

import copy
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
from table import arguments, finish, line, show
from torch import nn

from gkd.datasets import official
from gkd.deploy import ExportError, Graphs, export, load_folder
from gkd.deploy.build import any_size, multiple_of
from gkd.deploy.config import InferenceConfig
from gkd.deploy.onnx_file import write_onnx
from gkd.deploy.onnx_runtime import OnnxModel
from gkd.deploy.quantise import calibration_windows, quantise
from gkd.params import ROOT, EncoderSpec, Params, load
from gkd.segmentation.decoders import Segmentor, build_decoder
from gkd.segmentation.evaluation import evaluate
from gkd.segmentation.scores import scores
from gkd.weights.record import DecoderInfo

SIZES = {"512x512": (512, 512), "1024x512": (512, 1024)}  # name width x height: (rows, columns)
MOST_LOST = 1.0  # points of mIoU
CLASSES = 19
SCORED, KEYS = ("PyTorch", "ONNX", "int8 dynamic", "int8 static"), ("torch", "onnx", "int8", "int8 static")
CONV_ENGINES = ("torch fp32", "torch bf16", "ONNX fp32", "int8 dynamic", "int8 static")
M2F_ENGINES = ("torch fp32", "ONNX fp32", "int8 dynamic")  # its convolutions are few, and bf16 is emulated here
EXPECTED = {"mini student + conv": CONV_ENGINES, "ViT-S/16 + conv": CONV_ENGINES, "ViT-S/16 + mask2former": M2F_ENGINES}


@torch.inference_mode()
def median(call: Callable[[], object], repeats: int, seconds: float) -> tuple[float, str]:
    """Seconds of one call after one that warms up, and how many calls that is the median of; see the module."""
    times: list[float] = []
    while len(times) <= repeats and (len(times) < 2 or sum(times) < seconds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
        if times[0] > seconds:
            return times[0], "1 cold"
    return statistics.median(times[1:]), str(len(times) - 1)


def models() -> Iterator[tuple[str, Segmentor, InferenceConfig]]:
    """Name, model and window of the models that are timed."""
    torch.manual_seed(0)
    small = EncoderSpec(name="vit_small_patch16_224", options={"img_size": 512}, weights="none")
    mini, paper = load().student("f2l"), load(ROOT / "profiles" / "paper.yaml").models
    conv = [DecoderInfo(decoder="conv", decoder_width=width) for width in (64, 128)]
    m2f = DecoderInfo(decoder="mask2former", mask2former=paper.mask2former)
    parts = ((mini, conv[0], 64), (small, conv[1], 512), (small, m2f, 512))
    for name, (spec, sizes, window) in zip(EXPECTED, parts, strict=True):
        encoder = any_size(spec.name, spec.options)
        decoder = build_decoder(sizes, encoder, CLASSES)
        how = InferenceConfig(window=window, stride=window, multiple=multiple_of(encoder, sizes))
        yield name, Segmentor(encoder, decoder, frozen=True).eval(), how


def engines(
    name: str, model: Segmentor, how: InferenceConfig, folder: Path
) -> Iterator[tuple[str, float, Callable[[torch.Tensor], object]]]:
    """Engine, megabytes of its weights or file, and what to call, as far as `model` can be exported."""
    yield "torch fp32", 4 * weights(model), model
    onnx = write_onnx(model, folder / "model.onnx", how)
    files = {"ONNX fp32": onnx, "int8 dynamic": quantise(onnx, folder / "int8.onnx")}
    if "int8 static" in EXPECTED[name]:
        photos = np.random.default_rng(0).integers(0, 256, (2, how.window, how.window, 3), dtype=np.uint8)
        files["int8 static"] = quantise(onnx, folder / "static.onnx", calibration_windows(photos, how))
    for engine, file in files.items():
        yield engine, file.stat().st_size / 1e6, OnnxModel(file)
    if "torch bf16" in EXPECTED[name]:
        half = copy.deepcopy(model).bfloat16()
        yield "torch bf16", 2 * weights(model), lambda image: half(image.bfloat16())


def latency(repeats: int, seconds: float) -> list[dict[str, object]]:
    """A row for each model and engine: megabytes, and seconds an image and calls by size."""
    rows: list[dict[str, object]] = []
    titles = ["model", "engine", "MB", *(f"s {size}" for size in SIZES), "calls"]
    show(titles)
    for name, model, how in models():
        with tempfile.TemporaryDirectory() as folder:
            try:
                for engine, size, call in engines(name, model, how, Path(folder)):
                    timed = [
                        median(partial(call, torch.rand(1, 3, *sides)), repeats, seconds) for sides in SIZES.values()
                    ]
                    row: dict[str, object] = {"model": name, "engine": engine, "MB": round(size, 1)}
                    row |= {f"s {title}": round(found, 3) for title, (found, _) in zip(SIZES, timed, strict=True)}
                    rows.append(row | {"calls": ", ".join(calls for _, calls in timed)})
                    line(rows[-1].values())
            except ExportError as error:  # --check names what is missing
                print(f"{name}: {error}", file=sys.stderr, flush=True)
    return rows


def weights(model: nn.Module) -> float:
    """Millions of values in the model's state."""
    return sum(tensor.numel() for tensor in model.state_dict().values()) / 1e6


def accuracy(checkpoints: list[Path], data: Path, params: Params) -> list[dict[str, object]]:
    """A row for each checkpoint and domain: mIoU by engine."""
    roots = {
        layout.folder: str(data / layout.folder)
        for layout in official().layouts.values()
        if (data / layout.folder).is_dir()
    }
    rows, known = list[dict[str, object]](), official(roots)
    titles = ["checkpoint", "domain", *SCORED]
    show(titles)
    for file in checkpoints:
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "model"
            config = export(file, folder, Graphs(onnx=True, int8=True))
            member = config.provenance["record"]
            source = known.source(member["source"])
            training = known.open_split(source.train[0].dataset, source.train[0].split)
            spread = np.linspace(0, len(training) - 1, 32).round().astype(int)
            photos = (training[int(index)][0] for index in spread)
            static = quantise(
                folder / "model.onnx",
                folder / "static.onnx",
                calibration_windows(photos, config.inference, config.encoder.mean),
            )
            exported = {engine: load_folder(folder, engine) for engine in ("torch", "onnx", "int8")}
            engines = {engine: item.model for engine, item in exported.items()} | {"int8 static": OnnxModel(static)}
            for domain in (source.validation, *known.targets(source.name, params.targets[source.name])):
                part = "validation" if domain == source.validation else domain.name
                window = replace(exported["torch"].inference, bound=params.evaluate.bound(source.name, part))
                images = known.open_split(domain.dataset, domain.split)
                row: dict[str, object] = {"member": config.name, "domain": domain.name}
                for engine, model in engines.items():
                    row[engine] = scores(evaluate(model, images, len(config.classes), window)).miou
                rows.append(row)
                line([row["member"], row["domain"], *(f"{row[key]:.2f}" for key in KEYS)])
    means = (f"{np.mean([row[key] for row in rows]):.3f}" for key in KEYS)
    line([f"mean of {len(rows)} rows", "", *means])
    return rows


def faults(rows: list[dict[str, object]], latencies: bool) -> list[str]:
    """What the rows miss."""
    if not latencies:
        lost = float(np.mean([row["torch"] - row["int8"] for row in rows]))
        print(f"int8 loses {lost:.3f} points of mIoU in the mean of {len(rows)} rows", flush=True)
        return [f"int8 loses {lost:.2f} points of mIoU"] if lost >= MOST_LOST else []
    sizes = {(row["model"], row["engine"]): row["MB"] for row in rows}
    wanted = [(model, engine) for model, names in EXPECTED.items() for engine in names]
    missing = [f"{model}: {engine} is missing" for model, engine in wanted if (model, engine) not in sizes]
    large = [f"{m}: {e} is not smaller" for (m, e), mb in sizes.items() if "int8" in e and mb >= sizes[m, "ONNX fp32"]]
    return missing + large


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="timed calls, of which the median is taken")
    parser.add_argument("--seconds", type=float, default=5, help="after which no further call of a cell is begun")
    parser.add_argument("--threads", type=int, help="of torch and onnxruntime; torch's choice by default")
    parser.add_argument("--data", type=Path, help="the embedded suite: measure mIoU instead of time")
    parser.add_argument("--params", type=Path, default=ROOT / "params.yaml", help="with targets and bounds, for --data")
    parser.add_argument("--checkpoints", type=Path, nargs="+", help="model.safetensors of task_learning, with --data")
    options = parser.parse_args()
    if (options.data is None) != (options.checkpoints is None):
        parser.error("--data and --checkpoints go together")
    if options.threads:
        torch.set_num_threads(options.threads)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}", flush=True)
    if latencies := options.data is None:
        rows = latency(options.repeats, options.seconds)
    else:
        rows = accuracy(options.checkpoints, options.data.absolute(), load(options.params))
    return finish(options, rows, faults(rows, latencies))


if __name__ == "__main__":
    sys.exit(main())
