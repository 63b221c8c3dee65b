"""Which datasets of a profile are there, and what the stages that read them depend on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from gkd.data.domains import PROXY, SOURCES, Domain, Source, check_choice, targets_of
from gkd.datasets import DATASETS, problem, root_of
from gkd.files import sha256
from gkd.methods.table import method
from gkd.mini.suite import WRITERS
from gkd.params import ROOT, Params


class Found(NamedTuple):
    """What can be planned: sources with their datasets, target domains without, and what to tell the user.

    A dataset that is absent is left out; one that is there and incomplete is a fault, since its owner counts on it.
    """

    sources: list[str]
    missing: list[str]
    messages: list[str]
    faults: list[str]  # datasets whose root is there and whose files are not as expected


def check(params: Params) -> Found:
    """Look at every dataset that the profile's plan needs.

    Raises:
        ValueError: the proxy set is absent although a method needs it; a source or benchmark is unknown.
    """
    check_choice(params.plan.sources, params.plan.benchmarks, f"profiles.{params.profile}.plan")
    messages, sources, missing, faults = [], [], [], []
    if _needs_proxy(params):
        wrong = problem(PROXY.dataset, PROXY.split, params.roots)
        if wrong is not None:
            raise ValueError(f"the proxy set of task-agnostic distillation is not usable.\n{wrong}{_hint(PROXY)}")
    for source in params.plan.sources:
        needed, unseen = _trained_on(SOURCES[source], params), targets_of(source, params.plan.benchmarks)
        domains = (*needed, *unseen)
        found = {domain.name: problem(domain.dataset, domain.split, params.roots) for domain in domains}
        faults += [d.name for d in domains if found[d.name] and root_of(d.dataset, params.roots).is_dir()]
        wrong: dict[str, str] = {}  # the first fault of each of its datasets
        for domain in needed:
            if found[domain.name] is not None:
                wrong.setdefault(domain.dataset, f"{found[domain.name]}{_hint(domain)}")
        if wrong:
            messages.append("\n".join([f"source {source} is left out.", *wrong.values()]))
            continue
        targets = {domain.name: found[domain.name] for domain in unseen}
        absent = {name: wrong for name, wrong in targets.items() if wrong is not None}
        if len(absent) == len(targets):
            nothing = "\n".join(absent.values())
            messages.append(f"source {source} is left out: none of its target domains is there.\n{nothing}")
            continue
        sources.append(source)
        missing += absent
        messages += [f"target {name} is left out; reports mark it as missing.\n{w}" for name, w in absent.items()]
    # Sources may share targets: each is named once.
    return Found(sources, *(list(dict.fromkeys(names)) for names in (missing, messages, faults)))


def dependency(params: Params) -> str:
    """The path that stages depend on for their data: data/, or manifests/ where a root lies elsewhere.

    Manifests list relative names and sizes, so that a large dataset is neither copied nor hashed at every run.
    """
    domains = [PROXY] if _needs_proxy(params) else []
    for source in params.plan.sources:
        domains += [*_trained_on(SOURCES[source], params), *targets_of(source, params.plan.benchmarks)]
    folders = {DATASETS[d.dataset].folder: root_of(d.dataset, params.roots) for d in domains}
    if all(root == ROOT / "data" / folder for folder, root in folders.items()):
        return "data"
    target = ROOT / "manifests"
    target.mkdir(exist_ok=True)
    for other in set(target.glob("*.csv")) - {target / f"{folder}.csv" for folder in folders}:
        other.unlink()  # of an earlier plan: it would count as a change of this one's data
    for folder, root in folders.items():
        if root.is_dir():
            write_manifest(folder, root)
    return "manifests"


def write_manifest(folder: str, root: Path, hashed: bool = False) -> Path:
    """List the files of a dataset folder, which lies in `root`, in manifests/<folder>.csv; returns that file.

    Names and sizes; with `hashed`, or where the manifest has them already, also the SHA-256 of each file, so that DVC
    notices a changed file of equal size. Then every file is read.
    """
    target = ROOT / "manifests" / f"{folder}.csv"
    target.parent.mkdir(exist_ok=True)
    hashed = hashed or _has_hashes(target)
    files = sorted(p for p in root.rglob("*") if p.is_file())
    lines = [f"{p.relative_to(root).as_posix()},{p.stat().st_size}" for p in files]
    if hashed:
        with ThreadPoolExecutor() as pool:  # hashlib and reading leave the interpreter free
            lines = [f"{line},{digest}" for line, digest in zip(lines, pool.map(sha256, files), strict=True)]
    target.write_text("\n".join(["name,size,sha256" if hashed else "name,size", *lines]) + "\n")
    return target


def _trained_on(source: Source, params: Params) -> list[Domain]:
    """The domains of a source: all of its datasets, and the validation part."""
    return [*source.training(params.plan.hold_out), source.validation]


def _has_hashes(manifest: Path) -> bool:
    """Looks at the first line alone: a manifest of ImageNet has a million."""
    if not manifest.is_file():
        return False
    with manifest.open() as file:
        return file.readline() == "name,size,sha256\n"


def _needs_proxy(params: Params) -> bool:
    return "f2l" in params.plan.settings and any(method(name).distils for name in params.plan.methods)


def _hint(domain: Domain) -> str:
    if DATASETS[domain.dataset].folder not in WRITERS:
        return ""
    return f"\nThe embedded suite has a miniature {domain.dataset}: `make data` draws it."
