"""The images of a stage, opened once their manifest is found to be true: `gkd check` lists what there is."""

from gkd.data.domains import PROXY, Domain
from gkd.data.reading import DatasetError
from gkd.data.samples import SegmentationData, concatenate
from gkd.data.subsets import fraction
from gkd.datasets import catalogue
from gkd.params import Params
from gkd.workspace.check import miniature
from gkd.workspace.manifests import verify


def open_proxy(params: Params) -> SegmentationData:
    """The images of task-agnostic distillation."""
    return _open(params, "proxy/train.csv", PROXY)


def open_training(params: Params, source: str) -> SegmentationData:
    """The training images of a source, of all its datasets one after another."""
    return _open(params, f"train/{source}/train.csv", *catalogue(params).source(source).training(params.hold_out))


def open_labelled(params: Params, source: str, seed: int) -> SegmentationData:
    """The training images whose labels task learning sees: 1/label_divisor of each dataset, drawn by the seed."""
    domains = catalogue(params).source(source).training(params.hold_out)
    return _open(params, f"train/{source}/train.csv", *domains, part=(params.label_divisor, seed))


def open_validation(params: Params, source: str) -> SegmentationData:
    """The part of a source on which learning rates are chosen."""
    return _open(params, f"train/{source}/validation.csv", catalogue(params).source(source).validation)


def open_target(params: Params, source: str, domain: Domain) -> SegmentationData:
    """A domain that training on the source never saw."""
    return _open(params, f"targets/{source}/{domain.name}.csv", domain)


def open_domain(params: Params, domain: Domain) -> SegmentationData:
    """Any domain, for looking at it. An absent one is an error that says what to download and where to put it."""
    known = catalogue(params)
    try:
        return known.open_split(domain.dataset, domain.split)
    except DatasetError:
        raise DatasetError(f"{known.problem(domain.dataset, domain.split)}{miniature(known, domain)}") from None


def _open(params: Params, manifest: str, *domains: Domain, part: tuple[int, int] = (1, 0)) -> SegmentationData:
    """`part` is the divisor and the seed of a fraction of each domain; the manifest holds the whole."""
    opened = {domain: open_domain(params, domain) for domain in domains}
    verify(catalogue(params), manifest, opened)
    parts = [fraction(data, *part) for data in opened.values()]
    return concatenate(parts, [domain.dataset for domain in domains])
