"""Charts of costs: curves over a size. They look like the report.

figure = power_curves({"time": ("tokens", {"step": {64: 0.1, 256: 0.4}})})
save(figure, folder / "curves")
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from gkd.report.style import COLORS, MARKERS, legend_below, style, subplots


def power_curves(panels: Mapping[str, tuple[str, Mapping[str, Mapping[float, float]]]]) -> Figure:
    """Curves on logarithmic axes, a panel each: title to (label of x, curves by name, each x to y).

    A dashed line through the first point of the first curve shows what growth in proportion would be.
    """
    with style():
        figure, axes = subplots(1, len(panels), 2.5, 2.5)
        for axis, (title, (label, curves)) in zip(axes[0], panels.items(), strict=True):
            for index, (name, values) in enumerate(curves.items()):
                axis.plot(list(values), list(values.values()), color=COLORS[index], marker=MARKERS[index], label=name)
            first = next(iter(curves.values()))
            sizes = np.array(sorted(first), dtype=float)
            proportional = first[min(first)] * sizes / sizes[0]
            axis.plot(sizes, proportional, color="#999999", marker="", linestyle="--", linewidth=0.8, label="linear")
            axis.set(xscale="log", yscale="log", title=title, xlabel=label)
            axis.set_xticks(sizes, [f"{size:g}" for size in sizes], fontsize=6.5)
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.minorticks_off()
            axis.grid()
        legend_below(figure, axes[0, 0].lines, columns=len(axes[0, 0].lines))
    return figure


def power(values: Mapping[float, float], upper: bool = False) -> float:
    """The exponent p of y ~ x^p, fitted on logarithms over all points, or over the upper half of them.

    Raises:
        ValueError: fewer than two points, or one that is not positive.
    """
    points = sorted(values.items())
    points = points[len(points) // 2 :] if upper and len(points) > 3 else points
    if len(points) < 2 or min(min(point) for point in points) <= 0:
        raise ValueError(f"an exponent needs two points or more, all positive; given {dict(points)}")
    x, y = np.log(np.array(points, dtype=float)).T
    return float(np.polyfit(x, y, 1)[0])
