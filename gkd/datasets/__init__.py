"""The datasets, one file a layout. A file lists what it brings: LAYOUTS, and SOURCES and BENCHMARKS if it has some.

known = catalogue(params)                        # with what params.yaml declares; official(roots) is without
data = known.open_split("cityscapes", "val")
image, label = data[0]                           # uint8 RGB (H, W, 3) and uint8 train ids (H, W)
"""

from collections.abc import Mapping
from importlib import import_module
from itertools import chain
from pkgutil import iter_modules

from gkd.data.catalogue import Catalogue, variable
from gkd.data.declared import extend
from gkd.data.pairing import Sample
from gkd.data.reading import DatasetError
from gkd.data.samples import SegmentationData, concatenate
from gkd.params import Params

__all__ = [
    "Catalogue",
    "DatasetError",
    "Sample",
    "SegmentationData",
    "catalogue",
    "concatenate",
    "official",
    "variable",
]


def catalogue(params: Params) -> Catalogue:
    """All that `params` may name: the official datasets, sources and benchmarks, and those that they declare.

    Raises ParamsError that lists every fault of the declarations.
    """
    return extend(official(params.roots), params)


def official(roots: Mapping[str, str] | None = None) -> Catalogue:
    """The official datasets, sources and benchmarks: those of the files beside this one."""
    files = [import_module(f"{__name__}.{file.name}") for file in iter_modules(__path__)]
    layouts, sources, benchmarks = (
        {item.name: item for item in chain.from_iterable(getattr(file, kind, ()) for file in files)}
        for kind in ("LAYOUTS", "SOURCES", "BENCHMARKS")
    )
    return Catalogue(layouts, sources, benchmarks, roots or {})
