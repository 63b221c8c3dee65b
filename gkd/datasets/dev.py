"""Development domains of the embedded suite, one for each source: all tuning is done on these, never on a benchmark.

`python -m gkd.mini` draws them; no published dataset lies behind them.
"""

from gkd.data.domains import Domain
from gkd.data.layout import About, Layout, Place


def _layout(name: str, table: str, size: str) -> Layout:
    return Layout(
        name=f"dev_{name}",
        folder="dev",
        places=(Place(f"{name}/images/*.png", f"{name}/labels/*.png", table),),
        splits={"val": ""},
        published={"val": 200},
        about=About(
            url="drawn by `python -m gkd.mini`",
            licence="that of this repository",
            size=f"200 images of {size}, with labels",
        ),
    )


LAYOUTS = (
    _layout("street", "cityscapes_train_ids", "128x64"),
    _layout("weather", "cityscapes_train_ids", "128x64"),
    _layout("overhead", "isprs", "64x64"),
)
TARGETS = tuple(Domain(layout.name, layout.name, "val") for layout in LAYOUTS)
