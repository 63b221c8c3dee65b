"""The methods, one file each; this index lists them without importing any.

NAMES                                                    # as in params.yaml
row("gkd").distils                                       # what a method does in each stage
heads = objective("gkd", student, teacher, params.heads.get("gkd"), seed=0)

gkd/methods/<name>.py has `ROW`; if the method distils, `objective(student_dim, teacher_dim, ...)`, which names its
options and returns a module that owns its heads and is called as gkd.qsd.distillation_loss says; if it guides task
learning, `guidance(student_logits, teacher_logits, temperature)`, a loss.
"""

from __future__ import annotations

import inspect
import json
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, PositiveFloat, PositiveInt, ValidationError, create_model

if TYPE_CHECKING:
    from torch import Tensor, nn

NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))
TEACHER = "teacher"  # whose segmentor guided methods follow; its row comes by itself
# Options beside those of the heads: of training, see gkd.train.budget.
OF_TASK_LEARNING = {"task_steps": (PositiveInt, 1), "task_pool": (PositiveInt | None, None)}
OF_DISTILLATION = {"lr_factor": (PositiveFloat, 1.0)}


@dataclass(frozen=True)
class Row:
    """A method as a row of the tables; `row` fills in the last three."""

    label: str  # as printed
    frozen: bool = True  # the encoder, in task learning
    long: bool = False  # task learning as long as `task_steps` of its options says, which must be there
    attention: bool = False  # the heads have maps for gkd.qsd.attention_maps
    name: str = ""
    distils: bool = False  # has an objective
    guided: bool = False  # has a guidance, so that task learning follows the teacher's segmentor


def row(name: str) -> Row:
    """The row of a method; a ValueError lists the known ones."""
    module = _module(name)
    return replace(module.ROW, name=name, distils=hasattr(module, "objective"), guided=hasattr(module, "guidance"))


def objective(
    name: str, student: nn.Module, teacher: nn.Module, options: Mapping[str, Any] | None = None, seed: int = 0
) -> nn.Module:
    """The heads of a method for this student and teacher (gkd.models.Encoder), initialised from `seed`.

    `options`, those of `heads.<name>` in params.yaml, go before the method's own; those of training are not for the
    heads. Raises ValueError where the method does not distil, has no such option, or an option does not fit the
    encoders.
    """
    import torch  # which the index does without

    options = dict(options or {})
    check_options(name, options)
    for key in (*OF_DISTILLATION, *OF_TASK_LEARNING):
        options.pop(key, None)
    if not row(name).distils:
        raise ValueError(f"{name} does not distil: its file has no objective")
    torch.manual_seed(seed)
    return _module(name).objective(student.dim, teacher.dim, **options)


def guidance(name: str) -> Callable[[Tensor, Tensor, float], Tensor]:
    """The loss of a guided method: (student_logits, teacher_logits, temperature) -> a scalar."""
    return _module(name).guidance


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError with a line for each of `option_faults`."""
    if faults := [f"{key}: {what}" for key, what in option_faults(name, options)]:
        raise ValueError("\n".join(faults))


def option_faults(name: str, options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Options that are unknown or of another type: their keys in params.yaml, and what is wrong.

    They are compared with the signature of the method's objective, and with those of training.
    """
    build = getattr(_module(name), "objective", None)
    _, _, *own = inspect.signature(build, eval_str=True).parameters.values() if build else (None, None)
    schema = {
        p.name: (Any if p.annotation is p.empty else p.annotation, ... if p.default is p.empty else p.default)
        for p in own
    }
    schema |= (OF_DISTILLATION if build else {}) | OF_TASK_LEARNING
    if row(name).long:
        schema["task_steps"] = PositiveInt, ...
    model = create_model(name, __config__=ConfigDict(extra="forbid", strict=True), **schema)
    try:
        model.model_validate_json(json.dumps(dict(options)))  # as JSON, where a list may stand for a tuple
    except ValidationError as error:
        unknown = f"unknown option; {name} has {', '.join(schema)}"
        for item in error.errors():
            what = unknown if item["type"] == "extra_forbidden" else item["msg"]
            yield ".".join(map(str, ("heads", name, *item["loc"]))), f"{what} (given: {item['input']!r})"


def _module(name: str) -> ModuleType:
    if name not in NAMES:
        raise ValueError(f"unknown method {name!r}; known: {', '.join(NAMES)}")
    return import_module(f"{__name__}.{name}")
