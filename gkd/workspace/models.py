"""Whether the models of params.yaml can be built: encoders and heads, for images of the sizes that stages show them.

Nothing is computed and no weight is read: on torch's meta device tensors have shapes alone.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gkd.methods import NAMES, objective, option_faults, row
from gkd.params import EncoderSpec, Fault, Models, at, distilling, faults_of

if TYPE_CHECKING:  # torch comes with it
    from gkd.models import Encoder


def encoders(content: Mapping[str, Any], classes: int = 1) -> Iterator[Fault]:
    """Faults of the teacher and of the students of `settings`, in params.yaml as it is written.

    Encoders that timm does not have or cannot build, sizes of images that they refuse, weights that are not there, a
    decoder of so many classes that does not fit, and heads that do not fit between teacher and student.
    """
    import torch

    students = [f"models.students.{name}" for name in at(content, "settings", list)]
    built = {}
    with torch.device("meta"), torch.no_grad():
        for key in ("models.teacher", *students):
            spec = at(content, key, dict)
            if not any(faults_of(EncoderSpec, spec)):  # which are told of by themselves
                built[key] = yield from _encoder(key, EncoderSpec(**spec))
        for key in (key for key, encoder in built.items() if encoder is not None):
            yield from _sizes(key, built[key].eval(), content)
            yield from _decoder(key, built[key], content, classes)
        for student in students:
            pair = built.get(student), built.get("models.teacher")
            yield from () if None in pair else _heads(*pair, content)


def _encoder(key: str, spec: EncoderSpec) -> Generator[Fault, None, Encoder | None]:
    """Its faults; returns it, or None where it cannot be built, or only with what timm's hub says of it."""
    from gkd.models import Encoder, check_name
    from gkd.weights import CheckpointError, check_file

    try:
        check_name(spec.name)
    except ValueError as error:
        yield Fault(f"{key}.name", str(error))
        return None
    try:
        check_file(spec)
    except CheckpointError as error:
        yield Fault(f"{key}.weights", str(error))
    try:
        return None if spec.name.startswith("hf-hub:") else Encoder.create(spec.name, **spec.options)
    except Exception as error:  # whatever the models of timm make of options
        text = f"{type(error).__name__}: {error}"
        yield Fault(f"{key}.options", f"timm cannot build {spec.name} with them ({text})")
        return None


def _sizes(key: str, encoder: Encoder, content: Mapping[str, Any]) -> Iterator[Fault]:
    """Sizes [rows, columns] that it refuses: of views, of crops, and of what windows are padded to."""
    import torch

    own = [f"{stage}.image_size" for stage in distilling(content)]
    names = [name if at(content, name, list) else "distillation.image_size" for name in own]
    window = at(content, "inference.window", int)
    side = window if encoder.fixed_size else window + -window % encoder.stride
    sizes = {name: at(content, name, list) for name in (*names, "task_learning.crop")}
    for name, size in {**sizes, "inference.window": [side, side]}.items():
        if len(size) == 2 and all(isinstance(length, int) and length > 0 for length in size):
            try:
                encoder(torch.zeros(1, 3, *size))
            except NotImplementedError:  # an operation that shapes alone do not do: training will tell
                continue
            except (ValueError, RuntimeError) as error:
                yield Fault(name, f"{key}: {error}")


def _decoder(key: str, encoder: Encoder, content: Mapping[str, Any], classes: int) -> Iterator[Fault]:
    """Whether the decoder fits on it."""
    from gkd.segmentation.decoders import build_decoder

    models = at(content, "models", dict)
    if not any(faults_of(Models, models)):
        try:
            build_decoder(Models(**models), encoder, classes, at(content, f"{key}.blocks", list))
        except ValueError as error:
            yield Fault(key, str(error))


def _heads(student: Encoder, teacher: Encoder, content: Mapping[str, Any]) -> Iterator[Fault]:
    """Options of heads that do not fit between the two."""
    for name in at(content, "distilled", list):
        options = at(content, f"heads.{name}", dict)
        if name not in NAMES or not row(name).distils or any(option_faults(name, options)):  # told of by itself
            continue
        try:
            objective(name, student, teacher, options)
        except ValueError as error:
            yield Fault(f"heads.{name}", str(error))
