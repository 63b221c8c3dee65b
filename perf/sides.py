"""The sides of against.py. Each distils in a process of its own, and waits for its turn every few steps.

python sides.py REQUEST    # JSON, see `against.requests`; a line of JSON a turn, and a line of stdin to go on

The interpreter may be another environment's and gkd another checkout's, so only a side's function imports from them. A
step begins where the heads, or lightly-train's teacher, are called; CPU seconds are those of the process, so what
others do on the machine is not in them.
"""

import json
import os
import sys
import time
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any, TextIO


class Turns:
    """A hook: at the first step, then after every `steps`, it says what went before and waits until it may go on."""

    def __init__(self, steps: int, answers: TextIO) -> None:
        self.steps, self.answers, self.left, self.start = steps, answers, 0, time.process_time()

    def __call__(self, *_: object) -> None:
        if self.left == 0:
            spent, peak = time.process_time() - self.start, getrusage(RUSAGE_SELF).ru_maxrss * 1024
            print(json.dumps({"seconds": spent, "memory": peak}), file=self.answers, flush=True)
            if not sys.stdin.readline():
                os._exit(0)  # within a training that has far to go
            self.left, self.start = self.steps, time.process_time()
        self.left -= 1


def here(request: dict[str, Any], answers: TextIO) -> None:
    """This checkout, from a pool of views or without one."""
    from gkd import methods
    from gkd.data.samples import SegmentationData
    from gkd.datasets.proxy import PROXY
    from gkd.distillation import distil
    from gkd.params import Distillation, EncoderSpec
    from gkd.train.loop import fix_threads
    from gkd.train.run import Run
    from gkd.weights import build_encoder

    fix_threads(1)
    teacher, student = (build_encoder(EncoderSpec(**request[name])) for name in ("teacher", "student"))
    objective = methods.objective(request["method"], student, teacher, request["heads"])
    data = SegmentationData(tuple(PROXY.find(Path(request["proxy"]), "train")))
    section = Distillation(**request["section"])
    turns = Turns(request["steps"], answers)
    if section.pool is None:
        data = list(data)  # decoded before the first step, as filling a pool does, and not in some steps
    objective.token_head.register_forward_pre_hook(turns)
    distil(student, teacher, objective, data, section, Run("here"))


def before(request: dict[str, Any], answers: TextIO) -> None:
    """A checkout as of b75d584: other modules, no pool, its cache of tokens off."""
    from gkd.checkpoints import build_encoder
    from gkd.datasets.segmentation import SegmentationData
    from gkd.training import fix_threads

    from gkd.datasets.proxy import PROXY
    from gkd.distillation import build_objective, distil
    from gkd.methods import METHODS
    from gkd.params import Distillation, EncoderSpec, Heads

    fix_threads(1)
    teacher, student = (build_encoder(EncoderSpec(**request[name])) for name in ("teacher", "student"))
    method = METHODS[request["method"].replace("_", "-")]
    objective = build_objective(method, student, teacher, Heads(**request["heads"]), seed=0)
    data = SegmentationData(PROXY, tuple(PROXY.find(Path(request["proxy"]), "train")), in_memory=True)
    known = {key: value for key, value in request["section"].items() if key in Distillation.model_fields}
    turns = Turns(request["steps"], answers)
    for index in range(len(data)):
        data[index]  # decoded, and kept
    objective.token_head.register_forward_pre_hook(turns)
    distil(student, teacher, objective, data, Distillation(**known), seed=0, name="before")


def lightly(request: dict[str, Any], answers: TextIO) -> None:
    """lightly-train's `distillationv3`: its own wrapper of timm models, augmentation, heads, loss, optimiser."""
    os.environ["LIGHTLY_TRAIN_EVENTS_DISABLED"] = "1"  # it would tell its makers of each run
    import lightly_train
    import timm
    import torch
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    models, prefix = {}, "encoder.backbone."
    for name in ("teacher", "student"):
        spec = request[name]
        models[name] = timm.create_model(spec["name"], num_classes=0, **spec["options"])
        state = load_file(spec["weights"]).items()
        models[name].load_state_dict({k.removeprefix(prefix): v for k, v in state if k.startswith(prefix)})
    section, statistics = request["section"], timm.data.resolve_data_config({}, model=models["teacher"])
    # Its wrapper calls methods of the model, past the model's own hooks.
    models["teacher"].patch_embed.register_forward_pre_hook(Turns(request["steps"], answers))
    lightly_train.pretrain(
        out=request["scratch"],
        data=request["proxy"],
        model=models["student"],
        method="distillationv3",
        method_args={"teacher": models["teacher"]},
        batch_size=section["batch_size"],
        epochs=section["steps"],  # more than it is let run
        num_workers=0,
        accelerator="cpu",
        devices=1,
        precision="32-true",
        optim_args={"lr": section["lr"]},
        transform_args={
            "image_size": tuple(section["image_size"]),
            "normalize": {"mean": tuple(statistics["mean"]), "std": tuple(statistics["std"])},
        },
    )


if __name__ == "__main__":
    own = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    asked = json.loads(sys.argv[1])
    os.sched_setaffinity(0, {asked["core"]})
    {"here": here, "before": before, "lightly": lightly}[asked["side"]](asked, own)
