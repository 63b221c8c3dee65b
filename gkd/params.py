"""Typed parameters: params.yaml read once, checked, and one error that names every fault by its key.

params = load()
params.task_agnostic.steps, params.models.teacher.name

The classes below are the schema, section by section. What changes a result stands in the file, where DVC tracks it:
there are no defaults but null and empty, that is off. No stage depends on this file, so what follows from several
sections is formed elsewhere (gkd.train.budget). Names that other rooms know (methods, datasets, encoders) are plain
text here; `load` takes their check as a function (gkd.workspace.check.names) and reports all faults together.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from gkd import values

ROOT = Path(__file__).resolve().parents[1]
Setting = Literal["f2l", "f2f"]
Names = Annotated[list[str], values.Distinct]
GROUPS = ("distilled", "guided", "undistilled")  # each row but the teacher's is in one


class Section(BaseModel):
    # Strict: the text "false" must not pass for a value.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Compute(Section):
    """How training computes; results follow from it by their rounding."""

    threads: values.Index  # 0 = torch's own choice (not byte-equal between machines)
    precision: Literal["fp32", "bf16", "auto"]  # of distillation; auto = bf16 where the processor has it
    compile: bool  # the encoders' blocks by torch.compile, in distillation; other rounding
    fused_adamw: bool  # one pass over the weights instead of ten; other rounding


class Machine(Section):
    """What no result follows from."""

    processes: values.Count = 1  # started by a stage: one a GPU
    resume_seconds: values.NonNegative = 60.0  # between states that a killed stage continues from


class EncoderSpec(Section):
    """One encoder: timm name, options of `timm.create_model`, and where its weights come from."""

    name: str = Field(min_length=1)
    options: values.Options
    weights: values.Weights  # "none", "hub", "package:<name>", a file relative to the root (docs/weights.md)
    blocks: list[values.Index] = []  # of mask2former; [] = the published ones, or the last four stages

    @property
    def file(self) -> str | None:
        """Path of the weights, relative to the root, or None where they do not come from a file here."""
        if self.weights in ("none", "hub") or ":" in self.weights:
            return None
        return str(Path(self.weights).expanduser())


class Mask2FormerOptions(Section):
    """Sizes of the mask2former decoder."""

    dim: int = Field(gt=0, multiple_of=32)  # 4 and 8 times as wide in the feed-forward layers
    queries: values.Count
    encoder_layers: values.Count
    decoder_layers: values.Count
    points: values.Count  # a mask, in the loss
    stride: values.Count  # pixels of the image per cell of the masks; the other levels are 2, 4, 8 times it


class Models(Section):
    """The teacher, the student of each setting, and the decoder on top of any of them."""

    decoder: Literal["linear", "conv", "mask2former"]
    decoder_width: int = Field(gt=0, multiple_of=32)  # of conv
    mask2former: Annotated[  # null with other decoders
        Mask2FormerOptions | None,
        values.against(
            "decoder", "sizes, as in profiles/paper.yaml, for", lambda own, name: own or name != "mask2former"
        ),
    ]
    teacher: EncoderSpec
    students: dict[Setting, EncoderSpec]


class Training(Section):
    """What every training has."""

    steps: values.Index
    batch_size: values.Count  # over all processes
    micro_batch: values.MicroBatch = None  # samples that a process forwards at a time; null = all of its share
    weight_decay: values.NonNegative


class Distillation(Training):
    """AdamW under a cosine schedule by step, input, mask and augmentation."""

    lr: values.Positive
    min_lr: Annotated[values.NonNegative, values.against("lr", "at most", lambda low, high: low <= high)]
    warmup_steps: Annotated[
        values.Index, values.against("steps", "fewer than", lambda part, whole: part < whole or not part)
    ]
    image_size: values.Size  # rows, columns
    scale: values.AreaScale
    mask_ratio: values.Share
    mask_probability: values.Share
    grad_checkpointing: bool  # the student's activations are computed again in the backward pass, not kept
    rand_augment: values.Policy
    erase_probability: values.Share
    repeats: values.Count  # repeated augmentation: views of each drawn image in an epoch
    pool: values.Count | None = None  # views drawn and shown to the teacher once, then kept; null = anew each step


class TaskAgnostic(Distillation):
    """On the proxy set: `distillation:` with what `task_agnostic:` says otherwise."""

    settings: list[Setting]  # that distil here; the others hand the student on as it is


class DomainAgnostic(Distillation):
    """On a source: `distillation:` with what `domain_agnostic:` says otherwise."""

    source_steps: dict[str, values.Count] = {}  # in the place of `steps`


class TaskLearning(Training):
    """Decoder (and, for some methods, encoder) on source labels; the learning rate is chosen on the source."""

    steps: values.Count
    lrs: Annotated[list[values.Positive], Field(min_length=1), values.Distinct]
    encoder_lr_factor: values.NonNegative
    power: values.NonNegative  # of the polynomial schedule
    crop: values.Size  # rows, columns
    scale: values.Scale  # of the crop: sixteen short edges of a photo, 256 ... 1024 for 512
    max_long_edge: values.Count | None = None  # in pixels, goes before the short edge; 2048 in the paper's configs
    max_class_share: float = Field(gt=0, le=1)  # of a class in a crop
    rand_augment: values.Policy | None = None  # timm's, as in distillation, but for what moves pixels; null = none
    kd_weight: values.NonNegative
    kd_temperature: values.Positive
    undistilled_steps: values.Index  # more steps for methods that do not distil: equal budgets on the source
    pool: values.Count | None = None  # views drawn and shown to frozen models once, then kept; null = anew each step


class Inference(Section):
    """Sliding windows over validation parts and targets."""

    window: values.Count  # side, in pixels
    stride: Annotated[values.Count, values.against("window", "at most", lambda step, side: step <= side)]
    batch_size: values.Count  # windows at a time


class Evaluate(Section):
    """What is shown of each domain, and at which size its photos are seen."""

    pictures: values.Count  # of each domain, in the figures
    # Size [width, height] that photos are fitted into, by source: of its validation part (`validation`), its targets.
    bounds: dict[str, dict[str, values.Size | None]]

    def bound(self, source: str, domain: str = "validation") -> tuple[int, int] | None:
        """The bound of a target of a source, or of its validation part; None = the photos' own size."""
        found = self.bounds.get(source, {}).get(domain)
        return None if found is None else tuple(found)


class DeclaredDataset(Section):
    """A dataset of the user's own; gkd.data.declared says how the keys are read."""

    images: str  # "images/{split}/*.jpg"
    labels: str | None = None
    table: str | None = None  # a label table, or the path of a CSV of one's own
    label_space: str | None = None  # the table that names the classes; None = that of `table`
    splits: values.Splits = []
    train: values.Several = []  # splits, of this dataset or "gtav/train"
    validation: str | None = None


class Params(Section):
    """The whole of params.yaml."""

    profile: values.ProfileName  # names the folders of results
    settings: Annotated[list[Setting], Field(min_length=1), values.Distinct]
    sources: Names = Field(min_length=1)
    targets: dict[str, Annotated[Names, Field(min_length=1)]]
    seeds: Annotated[list[values.Seed], Field(min_length=1), values.Distinct]
    rows: Names
    distilled: Names
    guided: Names
    undistilled: Names
    headline: str  # the row that the report compares with the others
    hold_out: bool  # keep the source's validation part out of training (GTAV: every tenth image)
    label_divisor: values.Count  # task learning sees 1/divisor of the source's labels
    roots: dict[str, str] = {}
    datasets: dict[values.Name, DeclaredDataset] = {}
    compute: Compute
    machine: Machine = Machine()
    models: Models
    # By method: what its file calls options, on top of the defaults there; `lr_factor`, times the rates of both
    # distillation stages; `task_steps` and `task_pool`, in the place of steps and pool of task learning.
    heads: dict[str, values.Options]
    task_agnostic: TaskAgnostic
    domain_agnostic: DomainAgnostic
    task_learning: TaskLearning
    inference: Inference
    evaluate: Evaluate

    def student(self, setting: str) -> EncoderSpec:
        """The student of a setting. Raises ParamsError where it has none."""
        if setting not in self.models.students:
            raise ParamsError(f"models.students has no {setting!r} (only: {', '.join(self.models.students)})")
        return self.models.students[setting]


# For pydantic's kinds of errors; the others have theirs.
WORDS = {"extra_forbidden": "unknown key; check its spelling", "model_type": "expected a mapping of parameters"}


class Fault(NamedTuple):
    """One thing that is wrong: the dotted key, and what is expected there and what is given."""

    key: str
    text: str


class ParamsError(ValueError):
    """params.yaml holds something that the code does not know or cannot use: a line for each fault."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def at(content: Any, key: str, kind: type) -> Any:
    """What stands at a dotted key; an empty one where it is absent or of another kind, which is told of by itself."""
    for part in key.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    return content if isinstance(content, kind) else kind()


def read(path: Path) -> Any:
    """The content of a parameter file as it is written: where its key `over` names a file, put over that one's content.

    Mappings are put over mappings, anything else takes the place of what was there; the path is relative to the file.

    Raises ParamsError where a file is absent or not YAML, or none to be put over.
    """
    content = written(path)
    if not isinstance(content, dict) or "over" not in content:
        return content
    if path == ROOT / "params.yaml":
        raise ParamsError(
            f"{path.name}: over: DVC reads this file as it stands: use `gkd profile`, or copy a whole one"
        )
    base = path.parent / str(content.pop("over"))
    if not base.is_file():
        raise ParamsError(f"{path.name}: over: expected a parameter file, relative to this one, found no {base}")
    below = written(base)
    if not isinstance(below, dict) or "over" in below:
        raise ParamsError(f"{path.name}: over: expected a parameter file that is whole, {base} is not")
    return _put_over(below, content)


def load(path: Path | None = None, names: Callable[[dict[str, Any]], Iterable[Fault]] = lambda content: ()) -> Params:
    """Read and check a parameter file.

    Args:
        path: the file, see `read`; None = params.yaml of the checkout.
        names: what only other rooms can tell of it. It is told with the faults found here, so it sees the content as it
            is written, sound or not.

    Raises ParamsError where the file is absent or not YAML, keys are unknown or missing, or values cannot be used.
    """
    path = path or ROOT / "params.yaml"
    content = read(path)
    whole = _merged(content)
    faults = [Fault(_written(fault.key, content), fault.text) for fault in faults_of(Params, whole)]
    faults += [*_across(content), *names(content)] if isinstance(content, dict) else []
    if faults:
        raise ParamsError(*dict.fromkeys(": ".join(filter(None, (path.name, *fault))) for fault in faults))
    return Params.model_validate(whole)


def written(path: Path) -> Any:
    """What a parameter file holds, as it stands. Raises ParamsError where it is absent or not YAML."""
    if not path.is_file():
        raise ParamsError(f"{path} is missing: `git checkout params.yaml`, or copy one of profiles/ to it")
    try:
        return YAML(typ="safe").load(path)  # the reader of DVC: YAML 1.2, where 1e-06 is a number
    except (YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path.name} is not valid YAML: {' '.join(str(error).split())}") from error


def _put_over(below: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    both = {
        k: _put_over(below[k], v) for k, v in content.items() if isinstance(v, dict) and isinstance(below.get(k), dict)
    }
    return below | content | both


STAGES = ("task_agnostic", "domain_agnostic")  # sections that say what is other than in `distillation`


def distilling(content: Mapping[str, Any]) -> tuple[str, ...]:
    """The stages that distil a method, by the content of params.yaml."""
    there = [name for name in at(content, "settings", list) if name in at(content, "task_agnostic.settings", list)]
    return () if not at(content, "distilled", list) else STAGES if there else STAGES[1:]


def _merged(content: Any) -> Any:
    """The content with `distillation` put into the sections of the two stages."""
    if not isinstance(content, dict):
        return content
    shared = at(content, "distillation", dict)
    own = {stage: {**shared, **at(content, stage, dict)} for stage in STAGES}
    return {key: value for key, value in content.items() if key != "distillation"} | own


def _written(key: str, content: Any) -> str:
    """Where a key of the merged content stands in the file, or is best written."""
    stage, _, rest = key.partition(".")
    name = rest.split(".")[0]
    if stage not in STAGES or name not in Distillation.model_fields or name in at(content, stage, dict):
        return key
    elsewhere = any(name in at(content, other, dict) for other in STAGES)
    return key if elsewhere and name not in at(content, "distillation", dict) else f"distillation.{rest}"


def _across(content: Mapping[str, Any]) -> Iterator[Fault]:
    """Contradictions between sections."""
    if content.get("hold_out") is False and len(at(content, "task_learning.lrs", list)) > 1:
        yield Fault("task_learning.lrs", "a choice needs hold_out: true, else it is made on training images")
    students = at(content, "models.students", dict)
    for setting in ("f2l", "f2f"):
        if setting in at(content, "settings", list) and students and setting not in students:
            yield Fault("models.students", f"expected a student for each of settings; {setting} has none")
    warmup = at(_merged(content), "domain_agnostic.warmup_steps", int)
    for source, steps in at(content, "domain_agnostic.source_steps", dict).items():
        if isinstance(steps, int) and 0 < steps <= warmup:
            yield Fault(f"domain_agnostic.source_steps.{source}", f"expected more than warmup_steps, {warmup}")


def faults_of(section: type[BaseModel], content: Any) -> Iterator[Fault]:
    """What pydantic finds in a section as it is written, in our words."""
    try:
        section.model_validate(content)
    except ValidationError as error:
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"] if part != "[key]")
            given = repr(item["input"]) if len(repr(item["input"])) < 100 else f"{repr(item['input'])[:97]}..."
            told = re.sub(r"^(Value error, expected|Input should be|\w+ should have) ", "", item["msg"])
            text = f"{WORDS.get(item['type'], f'expected {told}')} (given: {given})"
            yield Fault(key, "missing" if item["type"] == "missing" else text)
