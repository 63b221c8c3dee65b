"""plan.yaml: the members of every stage with their inputs, written from the methods table and the parameters.

DVC's templates cannot express which member reads which file, so `gkd plan` spells it out and dvc.yaml runs over it: a
matrix per stage has no excludes and equal inputs only, and nobody would read a generated dvc.yaml.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from gkd.data.domains import PROXY, Domain
from gkd.datasets import catalogue
from gkd.files import write_whole
from gkd.methods import Row, row
from gkd.params import ROOT, EncoderSpec, Params, ParamsError, activate, load
from gkd.workspace import check, manifests
from gkd.workspace.subsets import subset_file, write_subsets

FILLER = "gkd/weights"  # in the place of an input that a member lacks: what it depends on anyway
MODEL_SLOTS = 12
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
    """The trained segmentor of the row with the teacher's encoder, which guided methods follow."""
    return segmentor(params, results, params.plan.settings[0], check.TEACHER, source, seed)


def segmentor(params: Params, results: str, setting: str, name: str, source: str, seed: int) -> str:
    """The trained segmentor of a method. The teacher's does not depend on the setting: the first one's serves all."""
    if row(name).encoder == "teacher":
        setting = params.plan.settings[0]
    return output(results, "task_learning", params.profile, member(setting, name, source, seed), "model.safetensors")


def spec_of(params: Params, setting: str, m: Row) -> EncoderSpec:
    """The encoder of a method in a setting."""
    if m.encoder == "teacher":
        return params.models.teacher
    students = params.models.students
    if setting not in students:
        raise ValueError(f"profiles.{params.profile}.models.students has no {setting!r} (only: {', '.join(students)})")
    return students[setting]


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
    """The plan of a profile, on those `sources` whose datasets are there (None = all), without the targets `missing`.

    `data` is what the stages that read datasets depend on: the versioned folder, or the manifests.
    """
    check.refuse(params)
    sources = params.plan.sources if sources is None else sources
    methods, known = params.plan.methods, catalogue(params)
    plan: dict[str, Any] = {"data": data, **{stage: {} for stage in STAGES}}
    for seed, setting in product(params.plan.seeds, params.plan.settings):
        for name in methods:
            _add_training(plan, params, setting, row(name), sources, seed)
        for source in sources:
            models = [segmentor(params, RESULTS, setting, name, source, seed) for name in methods]
            unseen = known.targets_of(source, params.plan.benchmarks)
            plan["evaluate"][member(setting, source, seed)] = {
                "setting": setting,
                "source": source,
                "seed": seed,
                "targets": ",".join(domain.name for domain in unseen if domain.name not in missing),
                "methods": ",".join(methods),
                "models": _filled(models, MODEL_SLOTS, "methods"),
            }
    plan["report"] = _report_inputs(params, list(plan["evaluate"]))
    return plan


def _report_inputs(params: Params, evaluations: list[str]) -> dict[str, Any]:
    scores = [output(RESULTS, "evaluate", params.profile, name, "scores.csv") for name in evaluations]
    # The pictures show the first setting and seed, for at most as many sources as there are slots.
    setting, seed = params.plan.settings[0], params.plan.seeds[0]
    first = [name for name in evaluations if name.startswith(f"{setting}-") and name.endswith(f"-{seed}")]
    pictures = [output(RESULTS, "evaluate", params.profile, name, "predictions.npz") for name in first]
    drawn = (member(setting, name, seed) for name in params.plan.methods if row(name).attention)
    maps = (output(RESULTS, "domain_agnostic", params.profile, name, "attention.npz") for name in drawn)
    return {
        "attention": next(maps, FILLER),
        "predictions": (pictures + [FILLER] * PICTURE_SLOTS)[:PICTURE_SLOTS],
        "scores": _filled(scores, REPORT_SLOTS, "evaluations (seeds, settings, sources)"),
    }


def _filled(files: list[str], slots: int, what: str) -> list[str]:
    """As many files as a stage of dvc.yaml reads; raises ValueError where there are more."""
    if len(files) > slots:
        raise ValueError(
            f"the plan has {len(files)} {what} and dvc.yaml reads {slots}: use fewer, or add slots there and here"
        )
    return files + [FILLER] * (slots - len(files))


def _add_training(plan: dict[str, Any], params: Params, setting: str, m: Row, sources: list[str], seed: int) -> None:
    teacher = params.models.teacher.file or FILLER
    who = {"setting": setting, "method": m.name, "seed": seed}
    if m.distils:
        name = member(setting, m.name, seed)
        if setting == "f2l":
            start = spec_of(params, setting, m).file or FILLER
            used = datasets_path(params, plan["data"], [PROXY])
            plan["task_agnostic"][name] = {**who, "data": used, "init": start, "teacher": teacher}
        start = domain_init(params, RESULTS, setting, m, seed) or FILLER
        plan["domain_agnostic"][name] = {**who, "sources": ",".join(sources), "init": start, "teacher": teacher}
    if m.encoder == "teacher" and setting != params.plan.settings[0]:
        return
    for source in sources:
        seen = check.trained_on(catalogue(params).sources[source], params)
        plan["task_learning"][member(setting, m.name, source, seed)] = {
            **who,
            "source": source,
            "data": datasets_path(params, plan["data"], seen),
            "init": task_init(params, RESULTS, setting, m, source, seed) or FILLER,
            "guide": teacher_segmentor(params, RESULTS, source, seed) if m.guided else FILLER,
            "subset": subset_file(source, params.plan.label_divisor, seed) or FILLER,
        }


def datasets_path(params: Params, data: str, domains: Collection[Domain]) -> str:
    """What a member that reads `domains` depends on, which is one path in dvc.yaml: of one dataset its folder or
    manifest, of several all of `data`."""
    folder, *others = {catalogue(params).layout(domain.dataset).folder for domain in domains}
    return data if others else f"{data}/{folder}" if data == "data" else f"{data}/{folder}.csv"


def write(plan: Mapping[str, Any], path: Path | None = None) -> bool:
    """Write plan.yaml; returns whether the file changed."""
    path = path or ROOT / "plan.yaml"
    text = "# Written by `gkd plan`; dvc.yaml runs over it.\n" + yaml.safe_dump(dict(plan), sort_keys=False, width=200)
    changed = not path.is_file() or path.read_text() != text
    if changed:
        write_whole(path, text)
    return changed


def read(path: Path | None = None) -> dict[str, Any]:
    """The plan as it is written. Raises ValueError where it is absent or no plan (such as git's conflict marks)."""
    path = path or ROOT / "plan.yaml"
    with suppress(FileNotFoundError, yaml.YAMLError):
        plan = yaml.safe_load(path.read_text())
        if isinstance(plan, dict) and {"data", "report", *STAGES} <= set(plan):
            return plan
    raise ValueError(f"{path.name} is missing or no plan: `gkd plan` writes it anew")


def make(profile: str | None, skip_faulty: bool, say: Callable[[str], None]) -> str:
    """Check parameters and data, then write the subsets, plan.yaml and the active profile of params.yaml.

    Args:
        profile: its name; None = the active one.
        skip_faulty: leave out datasets that are there but incomplete, too.
        say: is told what is left out, and why.

    Returns what was done, in a line. Raises ValueError, with a line for each reason, where nothing was planned.
    """
    params = load(profile, names=check.names_and_encoders)
    found = check.check(params)
    for message in found.messages:
        say(message)
    reasons = check.missing_weights(params)
    if found.faults and not skip_faulty:
        reasons.append(
            f"{', '.join(found.faults)}: there, but not as expected (see above). Nothing was planned: mend the "
            "files, or plan without them by `gkd plan --skip-faulty`"
        )
    elif not found.sources:
        reasons.append("no source has its datasets (see above), so there is nothing to plan")
    if reasons:
        raise ParamsError(*reasons)
    plan = build(params, found.sources, found.missing, manifests.dependency(params))
    write_subsets(params, found.sources, ROOT)
    changed = write(plan)
    activate(params.profile)
    listing = ", ".join(f"{len(plan[stage])} {stage}" for stage in STAGES) + ", 1 report"
    return f"plan.yaml {'written' if changed else 'is up to date'}: profile {params.profile}, {listing}"


def graph(plan: Mapping[str, Any]) -> dict[str, set[str]]:
    """The members of a plan by DVC's names (`task_learning@f2l-gkd-gtav-0`), each with those whose files it reads."""
    members = {f"{stage}@{name}": item for stage in STAGES for name, item in plan[stage].items()}
    return {name: _producers(item) for name, item in (*members.items(), ("report", plan["report"]))}


def _producers(item: Mapping[str, Any]) -> set[str]:
    values = [part for value in item.values() for part in (value if isinstance(value, list) else [value])]
    paths = [value.split("/") for value in values if isinstance(value, str) and value.startswith(f"{RESULTS}/")]
    return {f"{stage}@{name}" for _, stage, _, name, *_ in paths}
