"""How figures look and how they are written: one style, no dates, equal figures in equal files.

    with style():
        figure, axes = subplots(rows=1, columns=2, width=2.3, height=2.0)
    save(figure, folder / "curves")        # curves.pdf and curves.png

Figures are closed for pyplot before they are returned: notebooks show them once, loops do not pile them up.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from gkd.files import write_whole

# Okabe and Ito's colours, safe for colour-blind readers, each with a marker of its own for grey print.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#8C8C00", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "h")


def style() -> AbstractContextManager[None]:
    """The look of every figure here; wrap your own plots in it to match."""
    look = {
        "font.family": "DejaVu Sans",  # comes with matplotlib: the machine's fonts do not matter
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.labelsize": 8,
        "axes.prop_cycle": plt.cycler(color=COLORS, marker=MARKERS),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "grid.color": "#D9D9D9",
        "grid.linewidth": 0.5,
        "lines.linewidth": 1.3,
        "lines.markersize": 4,
        "legend.frameon": False,
        "figure.constrained_layout.use": True,
        "figure.dpi": 110,
        "savefig.dpi": 200,
        "pdf.fonttype": 42,  # editable text in PDF
        "svg.hashsalt": "gkd",
    }
    return plt.rc_context({**plt.rcParamsDefault, "backend": plt.rcParams["backend"], **look})


def save(figure: Figure, stem: Path, formats: Sequence[str] = ("pdf", "png")) -> list[Path]:
    """Write stem.<format> without dates, so that equal figures are equal files. Returns the paths."""
    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {"Software": None}}
    if unknown := set(formats) - set(undated):
        raise ValueError(f"cannot write {sorted(unknown)} without dates, expected some of {sorted(undated)}")
    layout, paths = {"bbox_inches": "tight", "pad_inches": 0.03}, []
    for name in formats:
        write = partial(figure.savefig, format=name, metadata=undated[name], **layout)
        with style():
            paths.append(write_whole(stem.with_name(f"{stem.name}.{name}"), write))
    return paths


def subplots(
    rows: int, columns: int, width: float, height: float, below: float = 0, **options: object
) -> tuple[Figure, np.ndarray]:
    """Figure and axes (rows, columns): `width` x `height` inches a panel, and inches for what lies below or above."""
    size = columns * width, rows * height + below
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, **options)
    plt.close(figure)
    return figure, axes


def legend_below(figure: Figure, handles: Sequence[Artist], columns: int) -> None:
    """A legend of `columns` columns under the axes, by the labels of `handles`."""
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=1.4, columnspacing=1.2)
