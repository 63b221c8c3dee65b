"""The domain-generalisation benchmarks as data: sources, unseen targets, and the averages over them."""

from dataclasses import dataclass

from gkd.labels import class_names


@dataclass(frozen=True)
class Domain:
    """A split of a dataset, under the name that tables use."""

    name: str
    dataset: str
    split: str


@dataclass(frozen=True)
class Source:
    """What a student is trained on, and the part of the same domain on which learning rates are chosen."""

    name: str
    train: Domain
    validation: Domain
    label_space: str
    full_split: str = ""  # what the paper trains on, where that leaves no validation part; "" = that of `train`

    def training(self, hold_out: bool) -> Domain:
        """The training images: without the validation part, or all that the paper trains on."""
        if hold_out or not self.full_split:
            return self.train
        return Domain(self.train.name, self.train.dataset, self.full_split)

    @property
    def classes(self) -> tuple[str, ...]:
        return class_names(self.label_space)


@dataclass(frozen=True)
class Benchmark:
    """Training on one source (a key of SOURCES), scored on targets that training never saw.

    `average` is the mean, a key of AVERAGES, that the benchmark enters; None where no mean is printed.
    """

    name: str
    title: str
    source: str
    targets: tuple[Domain, ...]
    average: str | None


_CITYSCAPES = Domain("cityscapes", "cityscapes", "val")
_ACDC = tuple(Domain(f"acdc-{weather}", "acdc", f"{weather}-val") for weather in ("night", "snow", "fog", "rain"))
_ISPRS = (Domain("potsdam-irrg", "potsdam-irrg", "val"), Domain("vaihingen-irrg", "vaihingen", "val"))

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source(
            "gtav",
            Domain("gtav-train", "gtav", "train"),
            Domain("gtav-val", "gtav", "val"),
            "cityscapes",
            full_split="all",
        ),
        Source("cityscapes", Domain("cityscapes-train", "cityscapes", "train"), _CITYSCAPES, "cityscapes"),
        Source(
            "potsdam",
            Domain("potsdam-rgb-fit", "potsdam-rgb", "fit"),
            Domain("potsdam-rgb-hold-out", "potsdam-rgb", "hold-out"),
            "isprs",
            full_split="train",
        ),
        Source("camvid", Domain("camvid-day", "camvid", "day"), Domain("camvid-val", "camvid", "val"), "camvid"),
    )
}

# Names as the paper prints them, see spec/paper_numbers.csv.
AVERAGES: dict[str, tuple[str, ...]] = {
    "Avg(Citys,BDD,Map)": ("cityscapes", "bdd100k", "mapillary"),
    "Avg(ACDC 4)": tuple(domain.name for domain in _ACDC),
    "Avg(P-I,V-I)": tuple(domain.name for domain in _ISPRS),
}

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark("gtav-cityscapes", "GTAV to Cityscapes", "gtav", (_CITYSCAPES,), "Avg(Citys,BDD,Map)"),
        Benchmark(
            "gtav-bdd100k",
            "GTAV to BDD100K",
            "gtav",
            (Domain("bdd100k", "bdd100k", "val"),),
            "Avg(Citys,BDD,Map)",
        ),
        Benchmark(
            "gtav-mapillary",
            "GTAV to Mapillary",
            "gtav",
            (Domain("mapillary", "mapillary", "val"),),
            "Avg(Citys,BDD,Map)",
        ),
        Benchmark("cityscapes-acdc", "Cityscapes to ACDC", "cityscapes", _ACDC, "Avg(ACDC 4)"),
        Benchmark(
            "potsdam-isprs",
            "Potsdam-RGB to Potsdam-IRRG and Vaihingen-IRRG",
            "potsdam",
            _ISPRS,
            "Avg(P-I,V-I)",
        ),
        Benchmark(
            "camvid-dusk",
            "CamVid day to dusk",
            "camvid",
            (Domain("camvid-dusk", "camvid", "dusk"),),
            average=None,
        ),
    )
}


def benchmarks_of(source: str) -> tuple[Benchmark, ...]:
    """The benchmarks of a source, by its name. Raises ValueError on an unknown source."""
    if source not in SOURCES:
        raise ValueError(f"unknown source {source!r}, expected one of {', '.join(SOURCES)}")
    return tuple(benchmark for benchmark in BENCHMARKS.values() if benchmark.source == source)


def targets_of(source: str) -> tuple[Domain, ...]:
    """The target domains of a source over all its benchmarks, in their order."""
    return tuple(target for benchmark in benchmarks_of(source) for target in benchmark.targets)
