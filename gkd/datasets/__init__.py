"""The datasets, one file a layout, with the sources and targets that it is. Nothing registers a file.

known = catalogue(params)                        # with what params.yaml declares; official(roots) is without
data = known.open_split("cityscapes", "val")
image, label = data[0]                           # uint8 RGB (H, W, 3) and uint8 train ids (H, W)
"""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules

from gkd.data.catalogue import Catalogue
from gkd.data.declared import extend
from gkd.data.domains import Domain, Source
from gkd.data.layout import Layout
from gkd.params import Params, ParamsError


def catalogue(params: Params) -> Catalogue:
    """All that `params` may name: the official datasets, sources and domains, and those that they declare.

    Raises ParamsError that lists every fault of the declarations.
    """
    known, faults = extend(official(params.roots), params.datasets)
    if faults:
        raise ParamsError(*(f"params.yaml: datasets.{name}: {fault}" for name, fault in faults))
    return known


def official(roots: Mapping[str, str] | None = None) -> Catalogue:
    """Every `Layout`, `Source` and `Domain` that the files beside this one define, alone or in tuples, by name."""
    files = [import_module(f"{__name__}.{file.name}") for file in iter_modules(__path__)]
    values = [value for file in files for value in vars(file).values()]
    items = [item for v in values for item in (v if isinstance(v, tuple) and not isinstance(v, Domain) else (v,))]
    layouts, sources = ({item.name: item for item in items if isinstance(item, kind)} for kind in (Layout, Source))
    own = [domain for source in sources.values() for domain in source.domains]
    domains = {item.name: item for item in (*own, *items) if isinstance(item, Domain)}
    return Catalogue(layouts, sources, domains, roots or {})
