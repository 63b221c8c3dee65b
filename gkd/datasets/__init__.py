"""The datasets, one file a layout, with the sources and benchmarks that start from it. Nothing registers a file.

known = catalogue(params)                        # with what params.yaml declares; official(roots) is without
data = known.open_split("cityscapes", "val")
image, label = data[0]                           # uint8 RGB (H, W, 3) and uint8 train ids (H, W)
"""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules

from gkd.data.catalogue import Catalogue, variable
from gkd.data.declared import extend
from gkd.data.domains import Benchmark, Source
from gkd.data.layout import Layout, Sample
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
    """Every `Layout`, `Source` and `Benchmark` that the files beside this one define, alone or in tuples, by name."""
    files = [import_module(f"{__name__}.{file.name}") for file in iter_modules(__path__)]
    values = [value for file in files for value in vars(file).values()]
    items = [item for value in values for item in (value if isinstance(value, tuple) else (value,))]
    kinds = ({item.name: item for item in items if isinstance(item, kind)} for kind in (Layout, Source, Benchmark))
    return Catalogue(*kinds, roots or {})
