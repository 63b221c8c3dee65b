"""Typed parameters: params.yaml read once, checked, and one error that names every fault by its key.

params = load()                       # the active profile
params.task_agnostic.steps, params.models.teacher.name

The classes below are the schema, section by section. Names that other rooms know (methods, datasets, encoders) are
plain text here; `load` takes their check as a function (gkd.workspace.check.names) and reports all faults together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gkd import values
from gkd.files import write_whole

ROOT = Path(__file__).resolve().parents[1]
Setting = Literal["f2l", "f2f"]
Names = Annotated[list[str], values.Distinct]


class _Section(BaseModel):
    # Strict: the text "false", or a 1e-4 that YAML 1.1 reads as text, must not pass for a value.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Plan(_Section):
    """Which members exist: the product of these, as the methods have it."""

    settings: Annotated[list[Setting], Field(min_length=1), values.Distinct]
    methods: Names = Field(min_length=1)
    sources: Names = Field(min_length=1)
    benchmarks: Names = []  # those to score; none named: the usual ones of each source (gkd.data.domains)
    seeds: Annotated[list[values.Seed], Field(min_length=1), values.Distinct]
    label_divisor: values.Count  # task learning sees 1/divisor of the source's labels
    hold_out: bool  # keep the source's validation part out of training (GTAV: every tenth image)


class EncoderSpec(_Section):
    """One encoder: timm name, options of `timm.create_model`, and where its weights come from."""

    name: str = Field(min_length=1)
    options: values.Options = {}
    weights: values.Weights = "none"  # or "hub", "package:<name>", a file relative to the root (docs/weights.md)
    blocks: list[values.Index] = []  # of mask2former; [] = the published ones, or the last four stages

    @property
    def file(self) -> str | None:
        """Path of the weights, relative to the root, or None where they do not come from a file here."""
        return None if self.weights in ("none", "hub") or ":" in self.weights else self.weights


class Mask2FormerOptions(_Section):
    """Sizes of the mask2former decoder; the defaults are those of the paper's task learning."""

    dim: int = Field(256, gt=0, multiple_of=32)  # 4 and 8 times as wide in the feed-forward layers
    queries: values.Count = 100
    encoder_layers: values.Count = 6
    decoder_layers: values.Count = 9
    points: values.Count = 12544  # a mask, in the loss
    stride: values.Count = 4  # pixels of the image per cell of the masks; the other levels are 2, 4, 8 times it


class Models(_Section):
    """The teacher, the student of each setting, and the decoder on top of any of them."""

    teacher: EncoderSpec
    students: dict[Setting, EncoderSpec]
    decoder: Literal["linear", "conv", "mask2former"]
    decoder_width: int = Field(128, gt=0, multiple_of=32)  # of conv
    mask2former: Mask2FormerOptions = Mask2FormerOptions()


class Training(_Section):
    """What every training has."""

    steps: values.Count
    batch_size: values.Count  # over all processes
    micro_batch: values.MicroBatch = None  # samples that a process forwards at a time; None = all of its share
    weight_decay: values.NonNegative = 0.05


class Distillation(Training):
    """task_agnostic and domain_agnostic: AdamW under a cosine schedule by step, input, mask and augmentation."""

    lr: values.Positive
    min_lr: Annotated[values.NonNegative, values.against("lr", "at most", lambda low, high: low <= high)] = 0.0
    warmup_steps: Annotated[values.Index, values.against("steps", "fewer than", lambda part, whole: part < whole)] = 0
    image_size: values.Size  # rows, columns
    scale: values.AreaScale = [0.08, 1.0]
    mask_ratio: values.Share = 0.5
    mask_probability: values.Share = 0.5
    grad_checkpointing: bool = False  # the student's activations are computed again in the backward pass, not kept
    rand_augment: str = "rand-m9-mstd0.5-inc1"
    erase_probability: values.Share = 0.25
    repeats: values.Count = 1  # repeated augmentation: views of each drawn image in an epoch
    pool: values.Count | None = None  # views drawn and shown to the teacher once, then kept; null = anew each step


class DomainDistillation(Distillation):
    """domain_agnostic: as many steps for each source, unless `source_steps` says otherwise."""

    source_steps: dict[str, values.Count] = {}

    def for_source(self, source: str) -> DomainDistillation:
        """The section with the steps of one source."""
        return self.model_copy(update={"steps": self.source_steps.get(source, self.steps)})


class TaskLearning(Training):
    """Decoder (and, for some methods, encoder) on source labels; the learning rate is chosen on the source."""

    lrs: Annotated[list[values.Positive], Field(min_length=1), values.Distinct]
    encoder_lr_factor: values.NonNegative = 0.1
    power: values.NonNegative = 0.9  # of the polynomial schedule
    crop: values.Size  # rows, columns
    scale: values.Scale = [0.5, 2.0]  # of the crop: sixteen short edges of a photo, 256 ... 1024 for 512
    max_long_edge: values.Count | None = None  # in pixels, goes before the short edge; 2048 in the paper's configs
    max_class_share: float = Field(0.75, gt=0, le=1)  # of a class in a crop
    kd_weight: values.NonNegative = 1.0
    kd_temperature: values.Positive = 1.0
    pool: values.Count | None = None  # views drawn and shown to frozen models once, then kept; null = anew each step
    undistilled_steps: values.Index = 0  # more steps for methods that do not distil: equal budgets on the source

    def for_method(self, distils: bool) -> TaskLearning:
        """The section with the steps of a method that distils or does not."""
        return self if distils else self.model_copy(update={"steps": self.steps + self.undistilled_steps})


class Evaluate(_Section):
    """Sliding window evaluation. `bounds`: image size bound [width, height] of a domain."""

    window: values.Count
    stride: Annotated[values.Count, values.against("window", "at most", lambda step, side: step <= side)]
    batch_size: values.Count = 16
    bounds: dict[str, values.Size] = {}


class Pretrain(_Section):
    """Supervised pretraining of the miniature models on scenes drawn in memory (stand-ins for hub weights)."""

    steps: dict[str, values.Count]  # by model: teacher, student_broad, student_narrow
    batch_size: values.Count
    lr: dict[str, values.Positive]
    weight_decay: values.NonNegative = 0.05
    pool: values.Count  # scenes drawn, per kind


class Report(_Section):
    """Tables and figures."""

    qualitative: values.Count  # images per domain in the qualitative grid


class Profile(_Section):
    """Everything under `profiles.<name>`. What dvc.yaml tracks has no default: DVC stops at a key that is absent."""

    processes: values.Count = 1  # started by a stage: one a GPU
    threads: values.Index  # 0 = torch's own choice (not byte-equal between machines)
    precision: Literal["fp32", "bf16", "auto"]  # of distillation; auto = bf16 where the processor has it
    compile: bool  # the encoders' blocks by torch.compile, in distillation; other rounding
    fused_adamw: bool  # one pass over the weights instead of ten; other rounding
    in_memory: bool = False  # keep decoded images in memory: for small datasets
    resume_seconds: values.NonNegative = 60.0  # between states that a killed stage continues from; no result follows
    plan: Plan
    models: Models
    pretrain: Pretrain | None = None
    task_agnostic: Distillation | None = None  # F2F alone does without
    domain_agnostic: DomainDistillation
    task_learning: TaskLearning
    evaluate: Evaluate
    report: Report
    heads: dict[str, values.Options]  # by method: what its file calls options, on top of the defaults there


class DeclaredDataset(_Section):
    """A dataset of the user's own; gkd.data.declared says how the keys are read."""

    images: str  # "images/{split}/*.jpg"
    labels: str | None = None
    table: str | None = None  # a label table, or the path of a CSV of one's own
    label_space: str | None = None  # the table that names the classes; None = that of `table`
    splits: list[str] | dict[str, str] = []


class DeclaredBenchmark(_Section):
    """A source, by its name or by what trains and validates, and the domains on which it is scored."""

    source: str | None = None
    train: values.Several = []  # "harbour/train": dataset and split
    validation: str | None = None
    targets: list[str] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_source(self) -> DeclaredBenchmark:
        own = bool(self.train) + (self.validation is not None)
        if own != (0 if self.source is not None else 2):
            raise ValueError("expected `source`, or `train` and `validation`")
        return self


class Shared(_Section):
    """What all profiles share: where datasets lie, and those of the user's own."""

    profile: values.ProfileName
    roots: dict[str, str] = {}
    datasets: dict[values.Name, DeclaredDataset] = {}
    benchmarks: dict[values.Name, DeclaredBenchmark] = {}


class File(Shared):
    """The whole of params.yaml."""

    profiles: dict[values.ProfileName, Any]


class Compute(NamedTuple):
    """How distillation computes, and what no result but its rounding follows from."""

    precision: str = "fp32"
    compile: bool = False
    fused_adamw: bool = False


class Params(Profile, Shared):
    """The active profile, with its name and what all profiles share."""

    @property
    def compute(self) -> Compute:
        """The profile's keys of that name."""
        return Compute(self.precision, self.compile, self.fused_adamw)


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


def load(
    profile: str | None = None,
    path: Path | None = None,
    names: Callable[[dict[str, Any]], Iterable[Fault]] = lambda content: (),
) -> Params:
    """Read and check one profile of params.yaml.

    Args:
        profile: its name; None = the file's own `profile:`.
        path: the file; None = params.yaml of the checkout.
        names: what only other rooms can tell of the profile, with the keys that all profiles share. It is told with
            the faults found here, so it sees the content as it is written, sound or not.

    Raises:
        ParamsError: the file is absent or not YAML; keys are unknown or missing, or values cannot be used.
    """
    path = path or ROOT / "params.yaml"
    if not path.is_file():
        raise ParamsError(f"{path} is missing: run from a checkout of the workspace")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path.name} is not valid YAML: {' '.join(str(error).split())}") from error
    faults = list(faults_of(File, content))
    name, profiles = profile or at(content, "profile", str), at(content, "profiles", dict)
    if name in profiles:
        section = profiles[name]
        own = [*faults_of(Profile, section), *_across(section)]
        for fault in names({**content, **section} if isinstance(section, dict) else content):
            (faults if fault.key.split(".")[0] in File.model_fields else own).append(fault)
        faults += [Fault(f"profiles.{name}.{key}".rstrip("."), text) for key, text in own]
    elif not faults:
        faults = [Fault("profile", f"expected one of {', '.join(profiles)} (given: {name!r})")]
    if faults:
        raise ParamsError(*dict.fromkeys(": ".join(filter(None, (path.name, *fault))) for fault in faults))
    return Params(**{**content.pop("profiles")[name], **content, "profile": name})


def activate(profile: str, path: Path | None = None) -> None:
    """Make `profile` the active one of params.yaml, of which nothing else changes."""
    path = path or ROOT / "params.yaml"
    text = path.read_bytes().decode()
    changed = re.sub(r"^profile:[^\S\r\n]*[^\s#]+", f"profile: {profile}", text, count=1, flags=re.M)
    if changed != text:
        write_whole(path, changed)


def _across(profile: Any) -> Iterator[Fault]:
    """Contradictions between sections."""
    if at(profile, "plan", dict).get("hold_out") is False and len(at(profile, "task_learning.lrs", list)) > 1:
        yield Fault("task_learning.lrs", "a choice needs plan.hold_out: true, else it is made on training images")
    plan, students = at(profile, "plan.settings", list), at(profile, "models.students", dict)
    for setting in ("f2l", "f2f"):
        if setting in plan and students and setting not in students:
            yield Fault("models.students", f"expected a student for each of plan.settings; {setting} has none")


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
