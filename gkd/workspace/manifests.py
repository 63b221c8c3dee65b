"""What the stages read, as lists: `check` writes them, DVC hashes them in the place of the datasets, and a stage looks
at its start whether they are still true.

A manifest names photo, label, table and reader of each image, and its bytes. Contents are hashed in datasets below a
size: ImageNet is neither copied nor read. gkd/datasets is a dependency of `check` alone, since all that comes of a
layout stands here.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from gkd.data.catalogue import Catalogue
from gkd.data.domains import PROXY, Domain
from gkd.data.labels import table_file
from gkd.data.reading import DatasetError, check_sizes
from gkd.data.samples import Sample, SegmentationData
from gkd.data.tars import tar_of
from gkd.datasets import catalogue
from gkd.files import sha256, write_whole
from gkd.params import ROOT, EncoderSpec, Params, distilling

FOLDER = ROOT / "manifests"
HASHED = 2_000_000_000  # bytes of a dataset up to which contents are hashed
HEADER = ("domain", "image", "label", "window", "table", "reader", "bytes", "digest")


def write_all(params: Params) -> list[Path]:
    """Write the manifests of all that `params` name; an unused one is a header alone."""
    known = catalogue(params)
    hashes, paths = _Hashes(ROOT / ".scratch" / "hashes.json"), []
    for file, domains in _named(known, params).items():
        rows = [row for d in domains for row in _rows(known, d, known.open_split(d.dataset, d.split).samples, hashes)]
        paths.append(write_whole(FOLDER / file, _text(HEADER, rows)))
    hashes.keep()
    students = {setting: params.student(setting) for setting in params.settings}
    specs = {"teacher": params.models.teacher, "f2l": None, "f2f": None, **students}
    for name, spec in specs.items():
        rows = [] if spec is None else [_origin(spec)]
        paths.append(write_whole(FOLDER / f"weights/{name}.csv", _text(("origin", "digest"), rows)))
    return paths


def _named(known: Catalogue, params: Params) -> dict[str, list[Domain]]:
    """The manifests of `params`, and what each lists."""
    files = {"proxy/train.csv": [PROXY] if "task_agnostic" in distilling(params.model_dump()) else []}
    for name in params.sources:
        source = known.sources[name]
        files[f"train/{name}/train.csv"] = list(source.training(params.hold_out))
        files[f"train/{name}/validation.csv"] = [source.validation]
        files |= {f"targets/{name}/{d.name}.csv": [d] for d in known.targets(name, params.targets[name])}
    return files


def outdated(params: Params) -> str | None:
    """Why `check` must list the images anew where DVC sees no reason, since it knows no root outside of data/.

    None where all is as listed, or params.yaml is not that of dvc.lock: then `check` runs anyway.
    """
    lock = ROOT / "dvc.lock"
    digest = hashlib.md5((ROOT / "params.yaml").read_bytes(), usedforsecurity=False).hexdigest()  # DVC's
    if not lock.is_file() or digest not in lock.read_text():
        return None
    known = catalogue(params)
    for file, domains in _named(known, params).items():
        try:
            verify(known, file, {d: known.open_split(d.dataset, d.split) for d in domains})
        except DatasetError as error:
            return str(error)
    return None


def verify(known: Catalogue, file: str, opened: Mapping[Domain, SegmentationData]) -> None:
    """Raise DatasetError where the files of the domains, as they were opened, are no longer those of a manifest.

    Names, readers and sizes are compared, not contents.
    """
    written = [line[:-1] for line in _written(file)]
    if not written:
        return
    rows = (row for domain, data in opened.items() for row in _rows(known, domain, data.samples, None))
    found = [tuple(map(str, row[:-1])) for row in rows]
    if written != found:
        before, now = set(written), set(found)
        new = [row for row in found if row not in before] or [row for row in written if row not in now]
        first = f", such as {new[0][0]}: {new[0][1]}" if new else ", in another order"
        raise DatasetError(
            f"manifests/{file} lists {len(written)} images, there are {len(found)} now and not the same{first}; is the "
            "root right? If the data changed, `dvc repro --force --single-item check` lists them anew"
        )


def verify_weights(name: str, spec: EncoderSpec) -> None:
    """Raise DatasetError where the weights of an encoder are others than `check` found."""
    written = _written(f"weights/{name}.csv")
    if written and written != [_origin(spec)]:
        raise DatasetError(
            f"manifests/weights/{name}.csv is not of {spec.weights} as it is now; "
            "`dvc repro --force --single-item check` looks at it anew"
        )


def _written(file: str) -> list[tuple[str, ...]]:
    """The lines of a manifest below its header. None by hand, where there may be no manifest, or that of what
    params.yaml does not name: then there is nothing to compare with."""
    text = (FOLDER / file).read_text() if (FOLDER / file).is_file() else ""
    return [tuple(line) for line in csv.reader(io.StringIO(text))][1:]  # splitlines would cut names at U+2028


class _Hashes:
    """Digests of files by path, size and time of change, kept between runs: DVC deletes an out before it is made."""

    def __init__(self, file: Path) -> None:
        self.file, self.before = file, json.loads(file.read_text()) if file.is_file() else {}
        self.found: dict[str, str] = {}

    def of(self, path: Path) -> str:
        state = path.stat()
        key = f"{path} {state.st_size} {state.st_mtime_ns}"
        self.found[key] = self.found.get(key) or self.before.get(key) or sha256(path)[:32]
        return self.found[key]

    def keep(self) -> None:
        write_whole(self.file, json.dumps(self.found))


def _rows(known: Catalogue, domain: Domain, samples: Sequence[Sample], hashes: _Hashes | None) -> Iterator[tuple]:
    """The lines of a domain; without `hashes` the last column is empty."""
    layout, root = known.layout(domain.dataset), known.root_of(domain.dataset)
    if hashes:  # by `check` alone: others open no label here
        for image, label in dict.fromkeys(sample[1:3] for sample in samples if sample.window and sample.label):
            check_sizes(image, label)
    size = cache(lambda path: path.stat().st_size)  # tiles and tars hold many images
    files = [_files(sample) for sample in samples]
    total = sum(size(path) for path in {path for own in files for path in own})
    licence = layout.about.licence if layout.about else "unknown"
    yield domain.name, f"{domain.dataset}/{domain.split}", _table(layout.label_space), "", "", licence, total, ""
    for sample, own in zip(samples, files, strict=True):
        digest = " ".join(hashes.of(path) for path in own) if hashes and total <= HASHED else ""
        names = [path.relative_to(root).as_posix() for path in (sample.image, sample.label) if path is not None]
        image, label = (*names, "")[:2]
        window = " ".join(map(str, sample.window or ()))
        encoding, bands, half = sample.reader
        reader = f"{encoding} {bands[0]}{bands[1]}{bands[2]}{' half' if half else ''}"
        yield domain.name, image, label, window, _table(sample.table), reader, sum(map(size, own)), digest


def _files(sample: Sample) -> list[Path]:
    """The files that hold an image and its label: of a member of a tar, the tar."""
    return [tar_of(sample.image) or sample.image, *([] if sample.label is None else [sample.label])]


@cache
def _table(name: str) -> str:
    """A label table; of one's own the digest tells its content, that of gkd/data/tables is a dependency anyway."""
    file = table_file(name) if name else None
    return name if file is None else f"{name} {sha256(file)[:16]}"


def _origin(spec: EncoderSpec) -> tuple[str, str]:
    """Where weights come from, and the digest of their file; of the hub's the name alone."""
    if spec.file is not None:
        return spec.weights, sha256(ROOT / spec.file)
    kind, _, package = spec.weights.partition(":")
    if not package:
        return f"{kind} {spec.name}", ""
    from gkd.weights.origin import package_file  # with torch, which the other kinds do without

    return spec.weights, sha256(package_file(package))


def _text(header: Iterable[str], rows: Iterable[tuple]) -> str:
    content = io.StringIO()
    csv.writer(content, lineterminator="\n").writerows([header, *rows])
    return content.getvalue()
