"""Charts of costs: parts of a step, memory over time, curves over a size. They look like the report.

figure = stacked_bars({"tiny": seconds, "mini": others}, "seconds a step")
save(figure, folder / "parts")
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from profiling import PARTS

from gkd.report.style import COLORS, MARKERS, style


def stacked_bars(bars: Mapping[str, Mapping[str, float]], label: str) -> Figure:
    """One horizontal bar per entry of `bars`, in pieces by part; a piece of 8 % or more of its bar says so."""
    parts = list(dict.fromkeys(part for values in bars.values() for part in values))
    if not parts:
        raise ValueError("there is nothing to stack: every bar is empty")
    with style():
        figure, axis = plt.subplots(figsize=(5.6, 0.8 + 0.4 * len(bars)))
        plt.close(figure)
        left = np.zeros(len(bars))
        sums = np.array([sum(values.values()) for values in bars.values()])
        for index, part in enumerate(parts):
            widths = np.array([values.get(part, 0.0) for values in bars.values()])
            pieces = axis.barh(list(bars), widths, left=left, color=COLORS[index % len(COLORS)], label=part, height=0.6)
            shares = np.divide(widths, sums, out=np.zeros_like(left), where=sums > 0)
            axis.bar_label(pieces, [f"{s:.0%}" if s >= 0.08 else "" for s in shares], label_type="center", fontsize=6.5)
            left += widths
        axis.invert_yaxis()
        axis.set_xlabel(label)
        axis.grid(axis="x")
        axis.set_axisbelow(True)
        figure.legend(loc="outside lower center", ncols=4, handlelength=1.0, columnspacing=1.0, fontsize=7)
    return figure


def memory_over_time(samples: pd.DataFrame, marks: Sequence[tuple[str, float]]) -> Figure:
    """Memory, `samples` with seconds and bytes, above the first; the background tells the parts apart.

    `marks` are of profiling, on the same clock: what begins, and when; the last one is the end.
    """
    seconds = samples["seconds"] - marks[0][1]
    above = (samples["bytes"] - samples["bytes"].iloc[0]) / 1e6
    names = [name for name in PARTS if name in dict(marks)]
    with style():
        figure, axis = plt.subplots(figsize=(5.6, 2.4))
        plt.close(figure)
        for (name, begin), (_, end) in zip(marks, marks[1:], strict=False):
            if name:
                color = COLORS[PARTS.index(name)]  # as in the bars of a step
                axis.axvspan(begin - marks[0][1], end - marks[0][1], color=color, alpha=0.25, linewidth=0, label=name)
        axis.plot(seconds, above, color="black", marker="", linewidth=1, drawstyle="steps-post")
        axis.set(xlabel="seconds", ylabel="MB above the start", xlim=(0, marks[-1][1] - marks[0][1]))
        handles = dict(
            reversed([(text, handle) for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)])
        )
        figure.legend([handles[name] for name in names], names, loc="outside lower center", ncols=4, fontsize=7)
    return figure


def power_curves(panels: Mapping[str, tuple[str, Mapping[str, Mapping[float, float]]]]) -> Figure:
    """Curves on logarithmic axes, a panel each: title to (label of x, curves by name, each x to y).

    A dashed line through the first point of the first curve shows what growth in proportion would be.
    """
    with style():
        figure, axes = plt.subplots(1, len(panels), figsize=(2.5 * len(panels), 2.5), squeeze=False)
        plt.close(figure)
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
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), handlelength=1.4)
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
