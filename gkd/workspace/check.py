"""What a profile names and needs: whether the names are known, and which of its datasets and weights are there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from gkd.data.domains import PROXY, Domain, Source
from gkd.datasets import catalogue, official
from gkd.methods import NAMES, check_options, row
from gkd.params import DeclaredBenchmark, DeclaredDataset, Fault, Params, ParamsError, at, faults_of

TEACHER = "teacher"  # the row whose segmentor guided methods follow
# Folders of the embedded suite, which gkd.mini draws; only its command knows how.
EMBEDDED = ("proxy", "gtav", "cityscapes", "bdd100k", "mapillary", "acdc", "potsdam", "vaihingen")


class Found(NamedTuple):
    """What can be planned, and what to tell the user."""

    sources: list[str]  # those whose datasets are there
    missing: list[str]  # target domains whose dataset is absent
    messages: list[str]
    faults: list[str]  # domains whose root is there and whose files are not as expected: their owner counts on them


def names(content: Mapping[str, Any]) -> Iterator[Fault]:
    """Names in a profile, as it is written, that no room knows or that do not fit together: for `gkd.params.load`."""
    declared = {}
    for key, kind in (("datasets", DeclaredDataset), ("benchmarks", DeclaredBenchmark)):
        items = at(content, key, dict).items()
        declared[key] = {name: kind(**item) for name, item in items if not any(faults_of(kind, item))}
    try:
        known = catalogue(Params.model_construct(roots={}, **declared))
    except ParamsError as error:  # each line names params.yaml and the key
        yield from (Fault(*line.removeprefix("params.yaml: ").split(": ", 1)) for line in error.faults)
        known = official()
    methods, sources, chosen = (_texts(at(content, f"plan.{k}", list)) for k in ("methods", "sources", "benchmarks"))
    yield from _unknown("plan.methods", methods, NAMES)
    yield from _unknown("plan.sources", sources, known.sources)
    yield from _unknown("plan.benchmarks", chosen, known.benchmarks)
    for key, possible in (
        ("domain_agnostic.source_steps", known.sources),
        ("evaluate.bounds", known.domains),
        ("roots", dict.fromkeys(layout.folder for layout in known.layouts.values())),
        ("heads", NAMES),
    ):
        yield from _unknown(key, at(content, key, dict), possible)
    for name in filter(NAMES.__contains__, at(content, "heads", dict)):
        try:
            check_options(name, at(content, f"heads.{name}", dict))
        except ValueError as error:
            yield from (Fault(*line.split(": ", 1)) for line in str(error).split("\n"))  # one an option
    rows = [row(name) for name in methods if name in NAMES]
    for guided in (m.name for m in rows if m.guided and TEACHER not in methods):
        yield Fault("plan.methods", f"{guided} needs the row {TEACHER!r}, whose segmentor it follows")
    distilled = [m.name for m in rows if m.distils]
    if distilled and "f2l" in at(content, "plan.settings", list) and content.get("task_agnostic") is None:
        yield Fault("task_agnostic", f"missing: {distilled[0]} begins with it in the setting f2l")
    for name in chosen:
        if name in known.benchmarks and (source := known.benchmarks[name].source) not in sources:
            yield Fault("plan.benchmarks", f"{name} is trained on {source}, which plan.sources lacks: add it")
    lonely = [source for source in sources if source in known.sources and not known.benchmarks_of(source, chosen)]
    for source in lonely if set(chosen) <= set(known.benchmarks) else ():  # a misspelt one may be meant for it
        own = ", ".join(benchmark.name for benchmark in known.benchmarks_of(source, known.benchmarks))
        yield Fault("plan.benchmarks", f"none is trained on {source} of plan.sources: add one of {own}")


def names_and_encoders(content: Mapping[str, Any]) -> Iterator[Fault]:
    """As `names`, and names of encoders that timm does not have, for which timm is imported."""
    from gkd.models import check_name

    yield from names(content)
    students = at(content, "models.students", dict)
    for key in ("models.teacher", *(f"models.students.{setting}" for setting in students)):
        if isinstance(name := at(content, key, dict).get("name"), str):
            try:
                check_name(name)
            except ValueError as error:
                yield Fault(f"{key}.name", str(error))


def refuse(params: Params) -> None:
    """Raise ParamsError where parameters name what is not known: they may be others than those that were planned."""
    faults = [f"profiles.{params.profile}.{key}: {text}" for key, text in names(params.model_dump())]
    if faults:
        raise ParamsError(*faults)


def missing_weights(params: Params) -> list[str]:
    """A line for each encoder whose file of weights is not there: what to fetch, and to where."""
    from gkd.weights import CheckpointError, check_file  # imports torch

    lines = {}  # each once: encoders may share a file
    for spec in (params.models.teacher, *params.models.students.values()):
        try:
            check_file(spec)
        except CheckpointError as error:
            lines[str(error)] = spec
    return list(lines)


def check(params: Params) -> Found:
    """Look at every dataset that the profile's plan needs. Raises ParamsError on an unknown name."""
    refuse(params)
    known = catalogue(params)
    faults = []

    @cache
    def wrong(domain: Domain) -> str | None:
        text = known.problem(domain.dataset, domain.split)
        if text is not None and known.root_of(domain.dataset).is_dir():
            faults.append(domain.name)
        embedded = known.layout(domain.dataset).folder in EMBEDDED
        hint = f"\nThe embedded suite has a miniature {domain.dataset}: `make data` draws it." if embedded else ""
        return None if text is None else text + hint

    if needs_proxy(params) and (text := wrong(PROXY)):
        return Found([], [], [f"the proxy set of task-agnostic distillation is not usable.\n{text}"], faults)
    sources, missing, messages = [], {}, []
    for name in params.plan.sources:
        targets = known.targets_of(name, params.plan.benchmarks)
        lacking: dict[str, str] = {}  # the first fault of each of its datasets
        for domain in filter(wrong, trained_on(known.sources[name], params)):
            lacking.setdefault(domain.dataset, str(wrong(domain)))
        absent = {domain.name: wrong(domain) for domain in filter(wrong, targets)}
        if lacking:
            messages.append("\n".join([f"source {name} is left out.", *lacking.values()]))
        elif len(absent) == len(targets):
            nothing = "\n".join(absent.values())
            messages.append(f"source {name} is left out: none of its target domains is there.\n{nothing}")
        else:
            sources.append(name)
            missing |= absent  # sources may share targets: each is named once
    messages += [f"target {name} is left out; reports mark it as missing.\n{text}" for name, text in missing.items()]
    return Found(sources, list(missing), messages, faults)


def trained_on(source: Source, params: Params) -> list[Domain]:
    """The domains of a source that a profile reads: of all of its datasets, and the validation part."""
    return [*source.training(params.plan.hold_out), source.validation]


def needs_proxy(params: Params) -> bool:
    """Whether a method of the profile is distilled on the proxy set."""
    return "f2l" in params.plan.settings and any(row(name).distils for name in params.plan.methods)


def _texts(values: Iterable[Any]) -> list[str]:
    return [value for value in values if isinstance(value, str)]


def _unknown(key: str, given: Iterable[Any], known: Collection[str]) -> Iterator[Fault]:
    others = [name for name in _texts(given) if name not in known]
    if others:
        plural = "s" if len(others) > 1 else ""
        yield Fault(key, f"unknown name{plural} {', '.join(map(repr, others))}; known: {', '.join(known)}")
