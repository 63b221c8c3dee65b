"""Typed parameters: params.yaml read once, checked, and an error that names the key.

params = load()                       # the active profile
params.task_agnostic.steps, params.models.teacher.name
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

ROOT = Path(__file__).resolve().parents[1]


class ParamsError(ValueError):
    """params.yaml holds something that the code does not know or cannot use."""


class _Section(BaseModel):
    # Strict: a truthy string "false" or a "1e-4" that YAML 1.1 reads as text must not pass for a value.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Plan(_Section):
    """Which members exist: the product of these, shaped by the methods table."""

    settings: list[Literal["f2l", "f2f"]] = Field(min_length=1)
    methods: list[str] = Field(min_length=1)
    sources: list[str] = Field(min_length=1)
    benchmarks: list[str] = []  # those to score; none named: the usual ones of each source (gkd.data.domains)
    seeds: list[int] = Field(min_length=1)
    label_divisor: int = Field(1, gt=0)  # task learning sees 1/divisor of the source's labels
    hold_out: bool = True  # keep the source's validation part out of training (GTAV: every tenth image)

    @field_validator("settings", "methods", "sources", "benchmarks", "seeds")
    @classmethod
    def _without_repeats(cls, values: list) -> list:
        if len(set(values)) < len(values):
            raise ValueError("each value may stand there once")
        return values


class EncoderSpec(_Section):
    """One encoder: timm name, options of `timm.create_model`, and where its weights come from."""

    name: str
    options: dict[str, Any] = {}
    weights: str = "none"  # "none", "hub", "package:<name>" or a file, relative to the root (docs/weights.md)
    blocks: list[int] = []  # that the mask2former decoder reads; [] = the published ones, or the last four stages

    @field_validator("weights")
    @classmethod
    def _known_source(cls, weights: str) -> str:
        is_file = ":" not in weights and weights.endswith((".safetensors", ".pth", ".pt"))
        if weights not in ("none", "hub") and not weights.startswith("package:") and not is_file:
            raise ValueError("expected none, hub, package:<name>, or a .safetensors, .pth or .pt file")
        return weights

    @property
    def file(self) -> str | None:
        """Path of the weights, relative to the root, or None where they do not come from a file here."""
        return None if self.weights in ("none", "hub") or ":" in self.weights else self.weights


EXTRA_TEACHERS = 2  # dvc.yaml has a dependency slot for the weights of each

TeacherName = Annotated[str, Field(pattern=r"^[a-z]\w*$")]  # it becomes part of state-dict keys


class Mask2FormerOptions(_Section):
    """Sizes of the mask2former decoder; the defaults are the published ones (protocol section 3)."""

    dim: int = Field(256, gt=0, multiple_of=32)  # 4 and 8 times as wide in the feed-forward layers
    queries: int = Field(100, gt=0)
    encoder_layers: int = Field(6, gt=0)
    decoder_layers: int = Field(9, gt=0)
    points: int = Field(12544, gt=0)  # a mask, in the loss
    stride: int = Field(4, gt=0)  # pixels of the image per cell of the masks; the other levels are 2, 4, 8 times it


class Models(_Section):
    """The teacher, the student of each setting, and the decoder on top of any of them."""

    teacher: EncoderSpec
    extra_teachers: dict[TeacherName, EncoderSpec] = Field({}, max_length=EXTRA_TEACHERS)  # losses are added
    students: dict[str, EncoderSpec]
    decoder: str  # linear, conv or mask2former
    decoder_width: int = 128  # of conv
    mask2former: Mask2FormerOptions = Mask2FormerOptions()

    @property
    def encoders(self) -> list[EncoderSpec]:
        """All of them: the teachers, then the students."""
        return [self.teacher, *self.extra_teachers.values(), *self.students.values()]


class Blocks(_Section):
    """Distillation between two inner blocks: their numbers from 0, and the factor of that loss."""

    student: int = Field(ge=0)
    teacher: int = Field(ge=0)
    weight: float = Field(1.0, gt=0)


class Heads(_Section):
    """Distillation heads of a method (gkd.qsd); what params.yaml does not say stays as the methods table has it."""

    # None = not said, and not the default of gkd.qsd: a dump of the parameters must tell the two apart.
    num_heads: int | None = Field(None, gt=0)
    scaled: bool | None = None
    temperature: float | None = Field(None, gt=0)
    diagonal_bias: float | None = None  # here null turns a method's bias off
    pool: int | None = Field(None, gt=0)
    weights: list[float] | None = Field(None, min_length=3, max_length=3)  # patch, fea, token
    intermediate: Blocks | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The options that params.yaml states, but for `intermediate`."""
        said = self.model_dump(include=self.model_fields_set - {"intermediate"})
        return {key: value for key, value in said.items() if value is not None or key == "diagonal_bias"}


class Optim(_Section):
    """AdamW under a cosine schedule by step, from `lr` to `min_lr` (protocol section 2)."""

    steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)  # over all processes
    micro_batch: int | None = Field(None, gt=0)  # samples that a process forwards at a time; None = all of its share
    lr: float = Field(gt=0)
    min_lr: float = 0.0
    warmup_steps: int = 0
    weight_decay: float = 0.05


class CacheOptions(_Section):
    """A fixed pool of views of each image, whose teacher tokens may be stored (gkd.cache)."""

    views: int = Field(gt=0)  # of an image, over the whole run; then they are replayed
    store: Literal["none", "fp32", "bf16", "int8"] = "fp32"  # none: the teacher is asked each time


class Distillation(Optim):
    """task_agnostic and domain_agnostic: input, mask and augmentation (protocol section 2)."""

    image_size: list[int] = Field(min_length=2, max_length=2)  # rows, columns
    scale: list[float] = [0.08, 1.0]
    mask_ratio: float = Field(0.5, ge=0, le=1)
    mask_probability: float = Field(0.5, ge=0, le=1)
    recompute: Literal["none", "activations", "blocks"] = "none"  # in the backward pass, instead of keeping them
    rand_augment: str = "rand-m9-mstd0.5-inc1"
    erase_probability: float = Field(0.25, ge=0, le=1)
    repeats: int = Field(1, gt=0)  # repeated augmentation: views of each drawn image in an epoch
    teacher_cache: CacheOptions | None = None  # None: every view is new


class DomainDistillation(Distillation):
    """domain_agnostic: as many steps for each source, unless `source_steps` says otherwise."""

    source_steps: dict[str, int] = {}

    def for_source(self, source: str) -> DomainDistillation:
        """The section with the steps of one source."""
        return self.model_copy(update={"steps": self.source_steps.get(source, self.steps)})


class TaskLearning(_Section):
    """Decoder (and, for some methods, encoder) on source labels; the learning rate is chosen on the source."""

    steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)  # over all processes
    micro_batch: int | None = Field(None, gt=0)  # samples that a process forwards at a time; None = all of its share
    lrs: list[float] = Field(min_length=1)
    encoder_lr_factor: float = 0.1
    weight_decay: float = 0.05
    power: float = 0.9
    crop: list[int] = Field(min_length=2, max_length=2)
    scale: list[float] = [0.5, 2.0]  # of the crop: sixteen short edges of a photo, 256 ... 1024 for 512
    max_long_edge: int | None = Field(None, gt=0)  # in pixels, goes before the short edge; 2048 in the protocol
    max_class_share: float = 0.75
    kd_weight: float = 1.0
    kd_temperature: float = 1.0
    undistilled_steps: int = Field(0, ge=0)  # more steps for methods that do not distil: equal budgets on the source

    def for_method(self, distils: bool) -> TaskLearning:
        """The section with the steps of a method that distils or does not."""
        return self if distils else self.model_copy(update={"steps": self.steps + self.undistilled_steps})


class Evaluate(_Section):
    """Sliding window evaluation (protocol section 4). `bounds`: image size bound [width, height] of a domain."""

    window: int = Field(gt=0)
    stride: int = Field(gt=0)
    batch_size: int = Field(16, gt=0)
    bounds: dict[str, list[int]] = {}
    flip: bool = False
    scales: list[float] = Field([1.0], min_length=1)


class Pretrain(_Section):
    """Supervised pretraining of the miniature models on scenes drawn in memory (stand-ins for hub weights)."""

    steps: dict[str, int]  # by model: teacher, student_broad, student_narrow
    batch_size: int
    lr: dict[str, float]
    weight_decay: float = 0.05
    pool: int  # scenes drawn, per kind


class Report(_Section):
    """Tables and figures."""

    qualitative: int = Field(3, gt=0)  # images per domain in the qualitative grid


class Profile(_Section):
    """Everything under `profiles.<name>`."""

    processes: int = Field(1, gt=0)  # started by a stage: one a GPU
    sharding: Literal["none", "teacher"] = "none"  # teacher: its weights are spread over the processes
    threads: int = Field(1, ge=0)  # 0 = torch's own choice (not byte-equal between machines)
    precision: Literal["fp32", "bf16", "auto"] = "fp32"  # of distillation; auto = bf16 where the processor has it
    compile: bool = False  # the encoders' blocks by torch.compile, in distillation; other rounding
    fused_adamw: bool = False  # one pass over the weights instead of ten; other rounding
    in_memory: bool = False  # keep decoded images in memory: for small datasets
    resume_seconds: float = Field(
        60.0, ge=0
    )  # between the states that a killed stage continues from; no result follows
    plan: Plan
    models: Models
    pretrain: Pretrain | None = None
    task_agnostic: Distillation | None = None  # F2F alone does without
    domain_agnostic: DomainDistillation
    task_learning: TaskLearning
    evaluate: Evaluate
    report: Report = Report()
    heads: dict[str, Heads] = {}  # by method

    @model_validator(mode="after")
    def _choice_needs_a_hold_out(self) -> Profile:
        if not self.plan.hold_out and len(self.task_learning.lrs) > 1:
            raise ValueError(
                "task_learning.lrs: a choice needs plan.hold_out: true, else it is made on training images"
            )
        return self


class File(_Section):
    """The whole of params.yaml."""

    profile: str
    roots: dict[str, str] = {}
    profiles: dict[str, dict[str, Any]]


class Compute(NamedTuple):
    """How distillation computes, and what no result but its rounding follows from."""

    precision: str = "fp32"
    compile: bool = False
    fused_adamw: bool = False
    sharding: str = "none"


class Params(Profile):
    """The active profile with its name and the dataset roots."""

    profile: str
    roots: dict[str, str]

    @property
    def compute(self) -> Compute:
        """The profile's keys of that name."""
        return Compute(self.precision, self.compile, self.fused_adamw, self.sharding)


def load(profile: str | None = None, path: Path = ROOT / "params.yaml") -> Params:
    """Read and check one profile of params.yaml.

    Args:
        profile: its name; None = the file's own `profile:`.
        path: the file.

    Raises:
        ParamsError: the file is absent or not YAML, a key is unknown, missing or of the wrong type.
    """
    if not path.is_file():
        raise ParamsError(f"{path} is missing: run from a checkout of the workspace")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ParamsError(f"{path.name} is not valid YAML: {error}") from error
    file = _check(File, content, path.name, ())
    name = file.profile if profile is None else profile
    if name not in file.profiles:
        raise ParamsError(f"{path.name}: no profile {name!r}; there are {', '.join(file.profiles)}")
    where = ("profiles", name)
    section = _check(Profile, file.profiles[name], path.name, where)
    return Params(**dict(section), profile=name, roots=file.roots)


def _check(kind: type[BaseModel], content: Any, file: str, where: tuple[str, ...]) -> Any:
    if not isinstance(content, dict):
        raise ParamsError(f"{file}: expected a mapping of parameters (given: {content!r})")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            key = ".".join(str(part) for part in (*where, *item["loc"]))
            given = "" if item["type"] == "missing" else f" (given: {item['input']!r})"
            hint = "unknown key; check its spelling" if item["type"] == "extra_forbidden" else item["msg"]
            lines.append(f"{file}: {key}: {hint}{given}")
        raise ParamsError("\n".join(lines)) from None
