"""The domain-generalisation benchmarks as data: sources and unseen targets."""

from collections.abc import Collection
from dataclasses import dataclass

from gkd.data.labels import class_names


@dataclass(frozen=True)
class Domain:
    """A split of a dataset, under the name that tables use."""

    name: str
    dataset: str
    split: str


@dataclass(frozen=True)
class Source:
    """What a student is trained on, and the part of the same domain on which learning rates are chosen.

    A source may join several datasets, whose images are simply put together (protocol section 3).
    """

    name: str
    train: tuple[Domain, ...]
    validation: Domain
    label_space: str
    full: tuple[Domain, ...] = ()  # what the paper trains on, where that leaves no validation part; () = `train`

    def training(self, hold_out: bool) -> tuple[Domain, ...]:
        """The training images: without the validation part, or all that the paper trains on."""
        return self.train if hold_out or not self.full else self.full

    @property
    def classes(self) -> tuple[str, ...]:
        return class_names(self.label_space)


@dataclass(frozen=True)
class Benchmark:
    """Training on one source (a key of SOURCES), scored on targets that training never saw.

    An `on_request` benchmark is scored only where `plan.benchmarks` names it: the paper's own set of targets stays as
    it is. Titles, and the averages that benchmarks enter, are in gkd.report.benchmarks.
    """

    name: str
    source: str
    targets: tuple[Domain, ...]
    on_request: bool = False


_CITYSCAPES = Domain("cityscapes", "cityscapes", "val")
_BDD100K = Domain("bdd100k", "bdd100k", "val")
_MAPILLARY = Domain("mapillary", "mapillary", "val")
_DRIVING = (_CITYSCAPES, _BDD100K, _MAPILLARY)
_ACDC = tuple(Domain(f"acdc-{weather}", "acdc", f"{weather}-val") for weather in ("night", "snow", "fog", "rain"))
_ISPRS = (Domain("potsdam-irrg", "potsdam-irrg", "val"), Domain("vaihingen-irrg", "vaihingen", "val"))

_GTAV = Domain("gtav-train", "gtav", "train")
_GTAV_ALL = Domain("gtav-all", "gtav", "all")
_GTAV_VAL = Domain("gtav-val", "gtav", "val")
_SYNTHIA = Domain("synthia", "synthia", "all")
_URBANSYN = Domain("urbansyn", "urbansyn", "all")


def _joined(name: str, *others: Domain) -> Source:
    """GTAV and other rendered streets.

    Learning rates are chosen on GTAV's validation part, so that all GTAV sources are judged on the same photos and
    nothing is held out of the others. SYNTHIA has no terrain, truck and train: its labels simply lack them.
    """
    return Source(name, (_GTAV, *others), _GTAV_VAL, "cityscapes", full=(_GTAV_ALL, *others))


def _potsdam(name: str, dataset: str, label_space: str) -> Source:
    """A Potsdam dataset: three of its train tiles are held out for validation (gkd.datasets.potsdam)."""
    fit, hold_out, full = (Domain(f"{dataset}-{split}", dataset, split) for split in ("fit", "hold-out", "train"))
    return Source(name, (fit,), hold_out, label_space, full=(full,))


SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source("gtav", (_GTAV,), _GTAV_VAL, "cityscapes", full=(_GTAV_ALL,)),
        Source("cityscapes", (Domain("cityscapes-train", "cityscapes", "train"),), _CITYSCAPES, "cityscapes"),
        _potsdam("potsdam", "potsdam-rgb", "isprs"),
        Source("camvid", (Domain("camvid-day", "camvid", "day"),), Domain("camvid-val", "camvid", "val"), "camvid"),
        _joined("gtav-synthia", _SYNTHIA),
        _joined("gtav-synthia-urbansyn", _SYNTHIA, _URBANSYN),
        _potsdam("potsdam-rescue", "potsdam-rgb-rescue", "rescue"),
        _potsdam("potsdam-irrg-rescue", "potsdam-irrg-rescue", "rescue"),
    )
}

_RESCUENET = (Domain("rescuenet", "rescuenet", "test"),)

# What task-agnostic distillation sees: unlabelled images of anything.
PROXY = Domain("proxy", "proxy", "train")

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark("gtav-cityscapes", "gtav", (_CITYSCAPES,)),
        Benchmark("gtav-bdd100k", "gtav", (_BDD100K,)),
        Benchmark("gtav-mapillary", "gtav", (_MAPILLARY,)),
        Benchmark("gtav-acdc", "gtav", _ACDC, on_request=True),
        Benchmark("cityscapes-acdc", "cityscapes", _ACDC),
        Benchmark("potsdam-isprs", "potsdam", _ISPRS),
        Benchmark("camvid-dusk", "camvid", (Domain("camvid-dusk", "camvid", "dusk"),)),
        Benchmark("gtav-synthia-driving", "gtav-synthia", _DRIVING),
        Benchmark("gtav-synthia-urbansyn-driving", "gtav-synthia-urbansyn", _DRIVING),
        Benchmark("potsdam-rescuenet", "potsdam-rescue", _RESCUENET),
        Benchmark("potsdam-irrg-rescuenet", "potsdam-irrg-rescue", _RESCUENET),
    )
}


def benchmarks_of(source: str, chosen: Collection[str] = ()) -> tuple[Benchmark, ...]:
    """The benchmarks of a source, by its name: of those in `chosen`, or where that is empty, all but `on_request`.

    Raises ValueError on an unknown source.
    """
    if source not in SOURCES:
        raise ValueError(f"unknown source {source!r}, expected one of {', '.join(SOURCES)}")
    own = (benchmark for benchmark in BENCHMARKS.values() if benchmark.source == source)
    return tuple(b for b in own if (b.name in chosen if chosen else not b.on_request))


def targets_of(source: str, chosen: Collection[str] = ()) -> tuple[Domain, ...]:
    """The target domains of a source over its benchmarks (see `benchmarks_of`), in their order."""
    return tuple(target for benchmark in benchmarks_of(source, chosen) for target in benchmark.targets)


def check_choice(sources: Collection[str], chosen: Collection[str], where: str) -> None:
    """Raises ValueError unless `sources` and `benchmarks` of the section `where` are known and fit together."""
    for key, names, known in (("sources", sources, SOURCES), ("benchmarks", chosen, BENCHMARKS)):
        for name in names:
            if name not in known:
                raise ValueError(f"{where}.{key}: unknown name {name!r}; known: {', '.join(known)}")
    for name in chosen:
        if BENCHMARKS[name].source not in sources:
            needed = BENCHMARKS[name].source
            raise ValueError(f"{where}.benchmarks: {name} is trained on {needed}, which {where}.sources lacks: add it")
    for source in sources:
        if not benchmarks_of(source, chosen):
            own = ", ".join(b.name for b in benchmarks_of(source, BENCHMARKS))
            raise ValueError(f"{where}.benchmarks: none is trained on {source} of {where}.sources: add one of {own}")
