"""The benchmarks of the tables: which targets of a source stand together, under which title, and their averages."""

from collections.abc import Sequence
from typing import NamedTuple

from gkd.data.catalogue import Catalogue
from gkd.params import Params


class Benchmark(NamedTuple):
    """Training on one source, scored on targets that training never saw."""

    source: str
    name: str  # of its targets
    title: str
    targets: tuple[str, ...]
    average: str | None = None  # the mean over the source's targets that it enters, as the paper prints it, or ours


_DRIVING, _ACDC = "Avg(Citys,BDD,Map)", "Avg(ACDC 4)"
_STREETS = ("cityscapes", "bdd100k", "mapillary")
_CONDITIONS = ("acdc_night", "acdc_snow", "acdc_fog", "acdc_rain")
BENCHMARKS = (
    Benchmark("gtav", "cityscapes", "GTAV to Cityscapes", ("cityscapes",), _DRIVING),
    Benchmark("gtav", "bdd100k", "GTAV to BDD100K", ("bdd100k",), _DRIVING),
    Benchmark("gtav", "mapillary", "GTAV to Mapillary", ("mapillary",), _DRIVING),
    # The paper prints one number for ACDC here (Table 6) and does not say how it joins the four conditions.
    Benchmark("gtav", "acdc", "GTAV to ACDC", _CONDITIONS, f"{_ACDC} (ours)"),
    Benchmark("cityscapes", "acdc", "Cityscapes to ACDC", _CONDITIONS, _ACDC),
    Benchmark(
        "potsdam_rgb",
        "isprs",
        "Potsdam-RGB to Potsdam-IRRG and Vaihingen-IRRG",
        ("potsdam_irrg", "vaihingen_irrg"),
        "Avg(P-I,V-I)",
    ),
    Benchmark("camvid", "dusk", "CamVid day to dusk", ("camvid_dusk",)),
    Benchmark(
        "gtav_synthia",
        "driving",
        "GTAV and SYNTHIA to Cityscapes, BDD100K and Mapillary",
        _STREETS,
        f"{_DRIVING} (ours)",
    ),
    Benchmark(
        "gtav_synthia_urbansyn",
        "driving",
        "GTAV, SYNTHIA and UrbanSyn to Cityscapes, BDD100K and Mapillary",
        _STREETS,
        f"{_DRIVING} (ours)",
    ),
    Benchmark("potsdam_rescue", "rescuenet", "Potsdam-RGB to RescueNet (five classes, our grouping)", ("rescuenet",)),
    Benchmark(
        "potsdam_irrg_rescue", "rescuenet", "Potsdam-IRRG to RescueNet (five classes, our grouping)", ("rescuenet",)
    ),
)
AVERAGES = {benchmark.average for benchmark in BENCHMARKS} - {None}


def targets(source: str, params: Params, known: Catalogue) -> list[str]:
    """Names of the target domains of a source, as in score rows."""
    return [domain.name for domain in known.targets(source, params.targets[source])]


def benchmarks_of(source: str, params: Params, known: Catalogue) -> list[Benchmark]:
    """The benchmarks that the targets of a source make up; a target in none of them is one of its own."""
    left, found = targets(source, params, known), []
    for benchmark in BENCHMARKS:
        own = tuple(target for target in benchmark.targets if target in left)
        if benchmark.source == source and own:
            found.append(benchmark._replace(targets=own))
            left = [target for target in left if target not in own]
    return found + [Benchmark(source, target, f"{source} to {target}", (target,)) for target in left]


def averages(source: str, domains: Sequence[str]) -> dict[str, list[str]]:
    """The averages, with their members, that the `domains` of a source make up in full."""
    members: dict[str, list[str]] = {}
    for benchmark in BENCHMARKS:
        if benchmark.source == source and benchmark.average:
            members.setdefault(benchmark.average, []).extend(benchmark.targets)
    return {name: own for name, own in members.items() if {*own} <= {*domains}}


def heading(column: str, source: str, params: Params, known: Catalogue) -> str:
    """A column over several sources: "gtav: cityscapes" where another source has that column too."""
    columns = {name: targets(name, params, known) for name in params.sources}
    sharing = [name for name, own in columns.items() if column in own or column in averages(name, own)]
    return f"{source}: {column}" if len(sharing) > 1 else column
