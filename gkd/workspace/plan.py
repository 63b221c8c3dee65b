"""plan.yaml: the members of every stage with their inputs, written from the methods table and the parameters.

DVC's templates cannot express which member reads which file, so `gkd plan` spells it out and dvc.yaml runs over it.
Alternatives considered: one matrix per stage (no excludes, equal inputs only) and a generated dvc.yaml (hundreds of
lines that nobody reads). Inputs that a member does not have are filled with a file that it depends on anyway.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from gkd.data.domains import BENCHMARKS, PROXY, SOURCES, Domain, check_choice, targets_of
from gkd.data.subsets import subset_file
from gkd.datasets import DATASETS
from gkd.methods import NAMES, Row, check_options, row
from gkd.params import ROOT, EncoderSpec, Params

FILLER = "gkd/weights"  # a dependency of every stage that has optional inputs
REPORT_SLOTS = 24
PICTURE_SLOTS = 3
RESULTS = "results"
STAGES = ("task_agnostic", "domain_agnostic", "task_learning", "evaluate")


def member(*parts: object) -> str:
    """Name of a member: its parts joined by dashes, such as f2l-gkd-gtav-0."""
    return "-".join(str(part) for part in parts)


def output(results: str, stage: str, profile: str, name: str, file: str) -> str:
    """Path, relative to the root, of a file that a member writes."""
    return f"{results}/{stage}/{profile}/{name}/{file}"


def distilled(params: Params, results: str, setting: str, m: Row, source: str, seed: int) -> str:
    """The encoder that task learning starts from, for a method that distils."""
    name = member(setting, m.name, seed)
    return output(results, "domain_agnostic", params.profile, name, f"encoders/{source}.safetensors")


def teacher_segmentor(params: Params, results: str, source: str, seed: int) -> str:
    """The trained segmentor of the row with the teacher's encoder, which guided methods follow.

    Raises:
        ValueError: the plan has no such row.
    """
    name = next((name for name in params.plan.methods if row(name).encoder == "teacher"), None)
    if name is None:
        guided = next(name for name in params.plan.methods if row(name).guided)
        known = next(name for name in NAMES if row(name).encoder == "teacher")
        raise ValueError(f"plan.methods: {guided} needs the row {known!r}, whose segmentor it follows")
    return segmentor(params, results, params.plan.settings[0], name, source, seed)


def segmentor(params: Params, results: str, setting: str, name: str, source: str, seed: int) -> str:
    """The trained segmentor of a method. The teacher's does not depend on the setting: the first one's serves all."""
    if row(name).encoder == "teacher":
        setting = params.plan.settings[0]
    return output(results, "task_learning", params.profile, member(setting, name, source, seed), "model.safetensors")


def spec_of(params: Params, setting: str, m: Row) -> EncoderSpec:
    """The encoder of a method in a setting."""
    if m.encoder == "teacher":
        return params.models.teacher
    if setting not in params.models.students:
        known = ", ".join(params.models.students)
        raise ValueError(f"profiles.{params.profile}.models.students has no {setting!r} (only: {known})")
    return params.models.students[setting]


def task_init(params: Params, results: str, setting: str, m: Row, source: str, seed: int) -> str | None:
    """The encoder file that task learning starts from, or None where the weights do not come from a file here."""
    if m.distils:
        return distilled(params, results, setting, m, source, seed)
    return spec_of(params, setting, m).file


def domain_init(params: Params, results: str, setting: str, m: Row, seed: int) -> str | None:
    """The encoder file that domain-agnostic distillation starts from. F2F skips the task-agnostic stage."""
    if setting == "f2l":
        name = member(setting, m.name, seed)
        return output(results, "task_agnostic", params.profile, name, "encoder.safetensors")
    return spec_of(params, setting, m).file


def build(
    params: Params, sources: list[str] | None = None, missing: Collection[str] = (), data: str = "data"
) -> dict[str, Any]:
    """The plan of a profile.

    Args:
        params: the profile.
        sources: those of `params.plan.sources` whose datasets are there; None = all.
        missing: names of target domains whose datasets are not there.
        data: what the stages that read datasets depend on: the versioned folder, or the manifests.
    """
    sources = list(params.plan.sources) if sources is None else sources
    _check_names(params)
    methods = [row(name) for name in params.plan.methods]
    plan: dict[str, Any] = {"data": data}
    plan |= {stage: {} for stage in STAGES}
    for seed in params.plan.seeds:
        for setting in params.plan.settings:
            for m in methods:
                _add_training(plan, params, setting, m, sources, seed)
            for source in sources:
                models = {name.replace("-", "_"): FILLER for name in NAMES}
                for m in methods:
                    models[m.name.replace("-", "_")] = segmentor(params, RESULTS, setting, m.name, source, seed)
                name = member(setting, source, seed)
                targets = ",".join(d.name for d in targets_of(source, params.plan.benchmarks) if d.name not in missing)
                who = {
                    "setting": setting,
                    "source": source,
                    "seed": seed,
                    "targets": targets,
                    "methods": ",".join(params.plan.methods),
                }
                plan["evaluate"][name] = {**who, **models}
    plan["report"] = _report_inputs(params, list(plan["evaluate"]))
    return plan


def _check_names(params: Params) -> None:
    """Names that gkd.params cannot check, since it knows neither methods nor domains."""
    check_choice(params.plan.sources, params.plan.benchmarks, f"profiles.{params.profile}.plan")
    domains = [d for source in SOURCES.values() for d in (source.validation, *targets_of(source.name, BENCHMARKS))]
    checks = {
        "plan.methods": (params.plan.methods, NAMES),
        "heads": (params.heads, NAMES),
        "evaluate.bounds": (params.evaluate.bounds, dict.fromkeys(domain.name for domain in domains)),
    }
    for key, (names, known) in checks.items():
        for name in names:
            if name not in known:
                raise ValueError(f"profiles.{params.profile}.{key}: unknown name {name!r}; known: {', '.join(known)}")
    for name, options in params.heads.items():
        check_options(name, options)


def _report_inputs(params: Params, evaluations: list[str]) -> dict[str, Any]:
    scores = [output(RESULTS, "evaluate", params.profile, name, "scores.csv") for name in evaluations]
    if len(scores) > REPORT_SLOTS:
        raise ValueError(
            f"the plan has {len(scores)} evaluations and dvc.yaml's report stage reads {REPORT_SLOTS}: "
            "use fewer seeds, settings or sources, or add slots there and in gkd/workspace/plan.py"
        )
    # The pictures show the first setting and seed, for at most as many sources as there are slots.
    setting, seed = params.plan.settings[0], params.plan.seeds[0]
    first = [name for name in evaluations if name.startswith(f"{setting}-") and name.endswith(f"-{seed}")]
    pictures = [output(RESULTS, "evaluate", params.profile, name, "predictions.npz") for name in first]
    attention = FILLER
    for name in [name for name in params.plan.methods if row(name).attention][:1]:
        attention = output(RESULTS, "domain_agnostic", params.profile, member(setting, name, seed), "attention.npz")
    return {
        "attention": attention,
        "predictions": (pictures + [FILLER] * PICTURE_SLOTS)[:PICTURE_SLOTS],
        "scores": scores + [FILLER] * (REPORT_SLOTS - len(scores)),
    }


def _add_training(
    plan: dict[str, Any],
    params: Params,
    setting: str,
    m: Row,
    sources: list[str],
    seed: int,
) -> None:
    who = {"setting": setting, "method": m.name, "seed": seed}
    teacher = params.models.teacher.file or FILLER
    if m.distils:
        name = member(setting, m.name, seed)
        if setting == "f2l":
            start = spec_of(params, setting, m).file or FILLER
            used = datasets_path(plan["data"], [PROXY])
            plan["task_agnostic"][name] = {**who, "data": used, "init": start, "teacher": teacher}
        start = domain_init(params, RESULTS, setting, m, seed) or FILLER
        joined = ",".join(sources)
        plan["domain_agnostic"][name] = {**who, "sources": joined, "init": start, "teacher": teacher}
    if m.encoder == "teacher" and setting != params.plan.settings[0]:
        return
    for source in sources:
        seen = SOURCES[source].training(params.plan.hold_out), SOURCES[source].validation
        plan["task_learning"][member(setting, m.name, source, seed)] = {
            **who,
            "source": source,
            "data": datasets_path(plan["data"], [*seen[0], seen[1]]),
            "init": task_init(params, RESULTS, setting, m, source, seed) or FILLER,
            "guide": teacher_segmentor(params, RESULTS, source, seed) if m.guided else FILLER,
            "subset": subset_file(source, params.plan.label_divisor, seed) or FILLER,
        }


def datasets_path(data: str, domains: Collection[Domain]) -> str:
    """What a member that reads `domains` depends on: the folder or the manifest of their dataset, or all of `data`.

    A dependency in dvc.yaml is one path, so several datasets cannot be named by themselves.
    """
    folders = {DATASETS[domain.dataset].folder for domain in domains}
    if len(folders) > 1:
        return data
    return f"{data}/{folders.pop()}" + ("" if data == "data" else ".csv")


def write(plan: Mapping[str, Any], path: Path = ROOT / "plan.yaml") -> bool:
    """Write the plan; returns whether the file changed."""
    text = "# Written by `gkd plan`; dvc.yaml runs over it.\n" + yaml.safe_dump(dict(plan), sort_keys=False, width=200)
    if path.is_file() and path.read_text() == text:
        return False
    path.write_text(text)
    return True


def graph(plan: Mapping[str, Any]) -> dict[str, set[str]]:
    """The members of a plan by DVC's names (`task_learning@f2l-gkd-gtav-0`), each with those whose files it reads."""
    members = {f"{stage}@{name}": item for stage in STAGES for name, item in plan[stage].items()}
    return {name: _producers(item) for name, item in members.items()} | {"report": _producers(plan["report"])}


def _producers(item: Mapping[str, Any]) -> set[str]:
    values = [part for value in item.values() for part in (value if isinstance(value, list) else [value])]
    paths = [value.split("/") for value in values if isinstance(value, str) and value.startswith(f"{RESULTS}/")]
    return {f"{stage}@{name}" for _, stage, _, name, *_ in paths}
