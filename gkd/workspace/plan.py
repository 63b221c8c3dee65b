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

from gkd.data.domains import PROXY, Domain
from gkd.datasets import Catalogue, catalogue
from gkd.methods.table import METHODS, Method, method
from gkd.params import EXTRA_TEACHERS, ROOT, EncoderSpec, Params
from gkd.workspace.subsets import subset_file

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


def distilled(params: Params, results: str, setting: str, m: Method, source: str, seed: int) -> str:
    """The encoder that task learning starts from, for a method that distils."""
    name = member(setting, m.name, seed)
    return output(results, "domain_agnostic", params.profile, name, f"encoders/{source}.safetensors")


def teacher_segmentor(params: Params, results: str, source: str, seed: int) -> str:
    """The teacher's trained segmentor. It does not depend on the setting, so the first setting's serves all."""
    name = member(params.plan.settings[0], "teacher", source, seed)
    return output(results, "task_learning", params.profile, name, "model.safetensors")


def segmentor(params: Params, results: str, setting: str, name: str, source: str, seed: int) -> str:
    """The trained segmentor of a method."""
    if name == "teacher":
        return teacher_segmentor(params, results, source, seed)
    return output(results, "task_learning", params.profile, member(setting, name, source, seed), "model.safetensors")


def spec_of(params: Params, setting: str, m: Method) -> EncoderSpec:
    """The encoder of a method in a setting."""
    if m.encoder == "teacher":
        return params.models.teacher
    if setting not in params.models.students:
        known = ", ".join(params.models.students)
        raise ValueError(f"profiles.{params.profile}.models.students has no {setting!r} (only: {known})")
    return params.models.students[setting]


def task_init(params: Params, results: str, setting: str, m: Method, source: str, seed: int) -> str | None:
    """The encoder file that task learning starts from, or None where the weights do not come from a file here."""
    if m.distils:
        return distilled(params, results, setting, m, source, seed)
    return spec_of(params, setting, m).file


def domain_init(params: Params, results: str, setting: str, m: Method, seed: int) -> str | None:
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
    known = catalogue(params)
    _check_names(params, known)
    methods = [method(name) for name in params.plan.methods]
    if any(m.guided for m in methods) and "teacher" not in params.plan.methods:
        raise ValueError("plan.methods: kd needs the row 'teacher', whose segmentor it follows")
    plan: dict[str, Any] = {"data": data}
    plan |= {stage: {} for stage in STAGES}
    teachers = _teacher_files(params)
    for seed in params.plan.seeds:
        for setting in params.plan.settings:
            for m in methods:
                _add_training(plan, params, known, setting, m, sources, seed, teachers)
            for source in sources:
                models = {name.replace("-", "_"): FILLER for name in METHODS}
                for m in methods:
                    models[m.name.replace("-", "_")] = segmentor(params, RESULTS, setting, m.name, source, seed)
                name = member(setting, source, seed)
                unseen = known.targets_of(source, params.plan.benchmarks)
                targets = ",".join(domain.name for domain in unseen if domain.name not in missing)
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


def _teacher_files(params: Params) -> dict[str, str]:
    """Weights of the teachers, in the slots of dvc.yaml: teacher, teacher2, ..."""
    specs = [params.models.teacher, *params.models.extra_teachers.values()]
    files = [spec.file or FILLER for spec in specs] + [FILLER] * (1 + EXTRA_TEACHERS - len(specs))
    return {f"teacher{number}" if number > 1 else "teacher": file for number, file in enumerate(files, 1)}


def _check_names(params: Params, known: Catalogue) -> None:
    """Names that gkd.params cannot check, since it knows neither methods nor domains."""
    known.check_choice(params.plan.sources, params.plan.benchmarks, f"profiles.{params.profile}.plan")
    scored = [d for s in known.sources.values() for d in (s.validation, *known.targets_of(s.name, known.benchmarks))]
    checks = {
        "plan.methods": (params.plan.methods, METHODS),
        "heads": (params.heads, METHODS),
        "evaluate.bounds": (params.evaluate.bounds, [domain.name for domain in scored]),
    }
    for key, (names, allowed) in checks.items():
        for name in names:
            if name not in allowed:
                listing = ", ".join(allowed)
                raise ValueError(f"profiles.{params.profile}.{key}: unknown name {name!r}; known: {listing}")


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
    if "gkd" in params.plan.methods:
        attention = output(RESULTS, "domain_agnostic", params.profile, member(setting, "gkd", seed), "attention.npz")
    return {
        "attention": attention,
        "predictions": (pictures + [FILLER] * PICTURE_SLOTS)[:PICTURE_SLOTS],
        "scores": scores + [FILLER] * (REPORT_SLOTS - len(scores)),
    }


def _add_training(
    plan: dict[str, Any],
    params: Params,
    known: Catalogue,
    setting: str,
    m: Method,
    sources: list[str],
    seed: int,
    teachers: Mapping[str, str],
) -> None:
    who = {"setting": setting, "method": m.name, "seed": seed}
    if m.distils:
        name = member(setting, m.name, seed)
        if setting == "f2l":
            start = spec_of(params, setting, m).file or FILLER
            used = datasets_path(plan["data"], [PROXY], known)
            plan["task_agnostic"][name] = {**who, "data": used, "init": start, **teachers}
        start = domain_init(params, RESULTS, setting, m, seed) or FILLER
        joined = ",".join(sources)
        plan["domain_agnostic"][name] = {**who, "sources": joined, "init": start, **teachers}
    if m.encoder == "teacher" and setting != params.plan.settings[0]:
        return
    for source in sources:
        seen = known.sources[source].training(params.plan.hold_out), known.sources[source].validation
        plan["task_learning"][member(setting, m.name, source, seed)] = {
            **who,
            "source": source,
            "data": datasets_path(plan["data"], [*seen[0], seen[1]], known),
            "init": task_init(params, RESULTS, setting, m, source, seed) or FILLER,
            "guide": teacher_segmentor(params, RESULTS, source, seed) if m.guided else FILLER,
            "subset": subset_file(source, params.plan.label_divisor, seed) or FILLER,
        }


def datasets_path(data: str, domains: Collection[Domain], known: Catalogue) -> str:
    """What a member that reads `domains` depends on: the folder or the manifest of their dataset, or all of `data`.

    A dependency in dvc.yaml is one path, so several datasets cannot be named by themselves.
    """
    folders = {known.layouts[domain.dataset].folder for domain in domains}
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
