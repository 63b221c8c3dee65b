"""What the report calls benchmarks, columns and rows, and which averages it forms."""

from typing import NamedTuple

from gkd.data.catalogue import Catalogue
from gkd.data.domains import Benchmark
from gkd.params import Plan


class Names(NamedTuple):
    """A benchmark's title, and the mean over its source's targets that it enters: as the paper prints it, or ours."""

    title: str
    average: str | None = None


_DRIVING, _ACDC = "Avg(Citys,BDD,Map)", "Avg(ACDC 4)"
NAMES = {
    "gtav-cityscapes": Names("GTAV to Cityscapes", _DRIVING),
    "gtav-bdd100k": Names("GTAV to BDD100K", _DRIVING),
    "gtav-mapillary": Names("GTAV to Mapillary", _DRIVING),
    # The paper prints one number for ACDC here (Table 6) and does not say how it joins the four conditions.
    "gtav-acdc": Names("GTAV to ACDC", f"{_ACDC} (ours)"),
    "cityscapes-acdc": Names("Cityscapes to ACDC", _ACDC),
    "potsdam_rgb-isprs": Names("Potsdam-RGB to Potsdam-IRRG and Vaihingen-IRRG", "Avg(P-I,V-I)"),
    "camvid-dusk": Names("CamVid day to dusk"),
    "gtav_synthia-driving": Names("GTAV and SYNTHIA to Cityscapes, BDD100K and Mapillary", f"{_DRIVING} (ours)"),
    "gtav_synthia_urbansyn-driving": Names(
        "GTAV, SYNTHIA and UrbanSyn to Cityscapes, BDD100K and Mapillary", f"{_DRIVING} (ours)"
    ),
    "potsdam_rescue-rescuenet": Names("Potsdam-RGB to RescueNet (five classes, our grouping)"),
    "potsdam_irrg_rescue-rescuenet": Names("Potsdam-IRRG to RescueNet (five classes, our grouping)"),
}
AVERAGES = {names.average for names in NAMES.values()} - {None}


def names(benchmark: Benchmark) -> Names:
    """Title and average of a benchmark; one of your own is named after its source and targets."""
    own = f"{benchmark.source} to {', '.join(target.name for target in benchmark.targets)}"
    return NAMES.get(benchmark.name, Names(own))


def columns(source: str, plan: Plan, known: Catalogue) -> tuple[list[str], dict[str, list[str]]]:
    """The planned target domains of a source, and the averages, with their members, that they make up in full."""
    domains = [domain.name for domain in known.targets_of(source, plan.benchmarks)]
    averages: dict[str, list[str]] = {}
    for benchmark in known.benchmarks.values():
        if benchmark.source == source and (average := names(benchmark).average):
            averages.setdefault(average, []).extend(target.name for target in benchmark.targets)
    planned = {names(benchmark).average for benchmark in known.benchmarks_of(source, plan.benchmarks)}
    return domains, {k: members for k, members in averages.items() if k in planned and {*members} <= {*domains}}


def heading(column: str, source: str, plan: Plan, known: Catalogue) -> str:
    """A column over several sources: "gtav: cityscapes" where another planned source has that column too."""
    sharing = [name for name in plan.sources if any(column in found for found in columns(name, plan, known))]
    return f"{source}: {column}" if len(sharing) > 1 else column
