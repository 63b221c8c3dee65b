"""Lists of the files of datasets that lie outside data/: stages depend on these, so that DVC neither copies nor hashes
a large dataset at every run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gkd.data.domains import PROXY
from gkd.datasets import catalogue
from gkd.files import sha256, write_whole
from gkd.params import ROOT, Params
from gkd.workspace.check import needs_proxy, trained_on


def dependency(params: Params) -> str:
    """The path that stages depend on for their data: data/, or manifests/, written now, where a root lies elsewhere."""
    known = catalogue(params)
    domains = [PROXY] if needs_proxy(params) else []
    for source in params.plan.sources:
        domains += [*trained_on(known.sources[source], params), *known.targets_of(source, params.plan.benchmarks)]
    folders = {known.layout(d.dataset).folder: known.root_of(d.dataset) for d in domains}
    if all(root == ROOT / "data" / folder for folder, root in folders.items()):
        return "data"
    target = ROOT / "manifests"
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
    if not hashed and target.is_file():
        with target.open() as file:
            hashed = file.readline() == "name,size,sha256\n"  # it alone: a manifest of ImageNet has a million
    files = sorted(p for p in root.rglob("*") if p.is_file())
    lines = [f"{p.relative_to(root).as_posix()},{p.stat().st_size}" for p in files]
    if hashed:
        with ThreadPoolExecutor() as pool:  # hashlib and reading leave the interpreter free
            lines = [f"{line},{digest}" for line, digest in zip(lines, pool.map(sha256, files), strict=True)]
    return write_whole(target, "\n".join(["name,size,sha256" if hashed else "name,size", *lines]) + "\n")
