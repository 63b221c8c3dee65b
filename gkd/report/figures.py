"""Figures from arrays, as free functions that return a matplotlib figure.

figure = predictions_grid(photos, labels, {"gkd": predictions}, palette, names)
save(figure, folder / "predictions")        # gkd.report.style
"""

from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch, Rectangle

from gkd.data.labels import IGNORE
from gkd.report.overlay import colorize, overlay
from gkd.report.style import COLORS, MARKERS, legend_below, style, subplots

WIDTH = 480  # pixels of an image on a contact sheet: larger ones are thinned out


def loss_curves(
    history: pd.DataFrame, by: str | None = None, columns: Sequence[str] | None = None, smooth: int = 1
) -> Figure:
    """One panel per loss over `step`, one line per value of the column `by`.

    `columns` are by default all that end in "loss". `smooth` > 1 draws the running mean over that many rows above the
    faint raw values.
    """
    columns = list(columns) if columns else [name for name in history if name.endswith("loss")]
    if not columns or "step" not in history:
        raise ValueError(f"history needs a column 'step' and losses, got {list(history.columns)}")
    groups = {"": history} if by is None else dict(tuple(history.groupby(by, sort=False)))
    with style():
        figure, axes = subplots(1, len(columns), 2.3, 2.0, 0.25 if by else 0)
        for axis, name in zip(axes[0], columns, strict=True):
            for (group, rows), color, marker in zip(groups.items(), cycle(COLORS), cycle(MARKERS), strict=False):
                values = rows[name].rolling(smooth, min_periods=1).mean()
                if smooth > 1:
                    axis.plot(rows["step"], rows[name], color=color, marker="", alpha=0.25, linewidth=0.7)
                look = {"color": color, "marker": marker if by else "", "markevery": max(len(rows) // 8, 1)}
                axis.plot(rows["step"], values, label=group, **look)
            axis.set(title=name, xlabel="step")
            axis.xaxis.set_major_locator(plt.MaxNLocator(4, integer=True))
            axis.grid(axis="y")
        if by is not None:
            lines, _ = axes[0, 0].get_legend_handles_labels()
            legend_below(figure, lines, columns=min(len(groups), 2 * len(columns)))
    return figure


def contact_sheet(
    images: Sequence[np.ndarray], labels: Sequence[np.ndarray], palette: np.ndarray, title: str = ""
) -> Figure:
    """Photos in one row, below each the same photo with its label laid over it.

    images: uint8 (H, W, 3); labels: train ids (H, W); sizes may differ from photo to photo.
    """
    if not images or len(images) != len(labels):
        raise ValueError(f"a contact sheet needs as many labels as images, got {len(labels)} for {len(images)}")
    steps = [max(1, image.shape[1] // WIDTH) for image in images]
    small = [(i[::k, ::k], y[::k, ::k]) for i, y, k in zip(images, labels, steps, strict=True)]
    height = max(image.shape[0] / image.shape[1] for image, _ in small)
    with style():
        figure, axes = subplots(2, len(small), width=1.8, height=1.8 * height, below=0.3)
        for column, (image, label) in zip(axes.T, small, strict=True):
            column[0].imshow(image)
            column[1].imshow(overlay(image, label, palette), interpolation="nearest")
        for axis in axes.flat:
            axis.axis("off")
        figure.suptitle(title)
    return figure


def batch_with_masks(images: np.ndarray, mask: np.ndarray, grid: tuple[int, int], columns: int = 4) -> Figure:
    """A batch with its masked patches greyed out.

    images (B, 3, H, W) floats in [0, 1] (others are clipped for display) or (B, H, W, 3) uint8; mask (B, N)
    boolean, row-major over the rows x columns of `grid` (that of the encoder for H and W), True = replaced.
    """
    photos = [_photo(image) for image in images]
    height, width = photos[0].shape[:2]
    mask = np.asarray(mask, dtype=bool)
    if mask.shape != (len(photos), grid[0] * grid[1]):
        raise ValueError(f"mask {mask.shape} does not fit {len(photos)} images of {grid[0]} x {grid[1]} patches")
    # The patch of each pixel: sides need not be multiples of it, see `hide_pixels` of gkd.models.masking.
    cells = np.ix_(*(np.arange(side) * count // side for side, count in zip((height, width), grid, strict=True)))
    columns = min(columns, len(photos))
    with style():
        figure, axes = subplots(-(-len(photos) // columns), columns, 1.5, 1.5 * height / width + 0.22)
        for axis in axes.flat:
            axis.axis("off")
        for axis, photo, row in zip(axes.flat, photos, mask, strict=False):
            shown = photo.copy()
            shown[row.reshape(grid)[cells]] = 150
            _show(axis, shown)
            axis.set_title(f"{row.mean():.0%} masked" if row.any() else "plain", fontsize=7, pad=2)
    return figure


def predictions_grid(
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    predictions: Mapping[str, Sequence[np.ndarray]],
    palette: np.ndarray,
    names: Sequence[str],
) -> Figure:
    """One row per photo: photo, label, the prediction of each method; a legend of the classes that occur.

    images (H, W, 3) uint8, labels and predictions (h, w) train ids; `palette` (K, 3) and `names` are of the K classes.
    """
    for method, maps in predictions.items():
        if len(maps) != len(images):
            raise ValueError(f"{method} has {len(maps)} predictions for {len(images)} photos")
    titles = ["photo", "label", *predictions]
    width = 1.25 if len(titles) > 6 else 1.6
    height = width * images[0].shape[0] / images[0].shape[1]
    shown = [*labels, *(m for maps in predictions.values() for m in maps)]
    present = sorted(set(np.concatenate([np.unique(m) for m in shown]).tolist()))
    per_line = min(max(int(len(titles) * width / 1.15), 1), len(present))
    with style():
        legend = 0.25 + 0.19 * -(-len(present) // per_line)
        figure, axes = subplots(len(images), len(titles), width, height + 0.06, legend)
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
        for line, photo, *maps in zip(axes, images, labels, *predictions.values(), strict=True):
            for axis, picture in zip(line, [photo, *(colorize(m, palette) for m in maps)], strict=True):
                _show(axis, picture)
        for axis, title in zip(axes[0], titles, strict=True):
            axis.set_title(title, pad=3, fontsize=8 if max(map(len, titles)) * 0.075 < width else 7)
        classes = {c: "ignored" if c == IGNORE else names[c] for c in present}
        edge = {"edgecolor": "#888888", "linewidth": 0.4}
        handles = [Patch(facecolor=colorize(c, palette) / 255, label=name, **edge) for c, name in classes.items()]
        legend_below(figure, handles, per_line)
    return figure


def confusion_heatmap(confusion: np.ndarray, names: Sequence[str], title: str = "") -> Figure:
    """Confusion matrix (K, K), rows = truth, as per cent of each row; rows without pixels stay empty."""
    confusion = np.asarray(confusion, dtype=float)
    if confusion.shape != (len(names), len(names)):
        raise ValueError(f"confusion {confusion.shape} does not fit {len(names)} class names")
    totals = confusion.sum(axis=1, keepdims=True)
    share = np.divide(100 * confusion, totals, out=np.full_like(confusion, np.nan), where=totals > 0)
    text = np.vectorize(lambda v: "" if np.isnan(v) or v < 0.5 else f"{v:.0f}")(share)
    with style():
        side = 0.29 * len(names)
        figure, axes = subplots(1, 1, side + 1.9, side + 1.2)
        table, bar = pd.DataFrame(share, names, names), {"label": "% of the true class", "shrink": 0.7}
        _heatmap(axes[0, 0], table, text, vmax=100, square=True, cbar_kws=bar)
        axes[0, 0].set(xlabel="predicted", ylabel="true", title=title)
        axes[0, 0].tick_params(axis="y", rotation=0)
    return figure


def frequency_heatmap(frequencies: pd.DataFrame, title: str = "") -> Figure:
    """Class frequencies in per cent: classes (rows) x domains (columns). Colours follow the square root of a share."""
    if frequencies.empty:
        raise ValueError("no class frequencies to draw: no label was read")
    text = frequencies.map(lambda v: "" if np.isnan(v) or v == 0 else f"{v:.1f}" if v >= 0.05 else "<0.1")
    with style():
        figure, axes = subplots(1, 1, 0.5 * frequencies.shape[1] + 1.6, 0.24 * len(frequencies) + 1.3)
        axis = axes[0, 0]
        # Square roots: one class often covers half of all pixels, another a thousandth.
        _heatmap(axis, np.sqrt(frequencies), text, vmax=10, cbar=False)
        axis.set(xlabel="", ylabel="", title=title)
    return figure


def radar(means: pd.DataFrame, title: str = "") -> Figure:
    """One polygon per method (rows of `means`) over domains (columns), all on one scale in per cent.

    A missing score (NaN) leaves a gap. The radius starts at a multiple of ten below the smallest score.
    """
    if means.shape[1] < 3:
        raise ValueError(f"a radar needs three domains or more, got {list(means.columns)}")
    if means.isna().all(axis=None):
        raise ValueError("a radar needs at least one score, all are missing")
    smallest, largest = float(means.min(axis=None)), float(means.max(axis=None))
    low, high = max(10 * np.floor(smallest / 10 - 0.2), 0.0), 10 * np.ceil(largest / 10)
    angles = np.linspace(0, 2 * np.pi, means.shape[1], endpoint=False)
    with style():
        clockwise = {"projection": "polar", "theta_offset": np.pi / 2, "theta_direction": -1}
        figure, axes = subplots(1, 1, 4.6, 4.4, subplot_kw=clockwise)
        axis = axes[0, 0]
        for method, row in means.iterrows():
            axis.plot([*angles, angles[0]], [*row, row.iloc[0]], label=method)
        axis.set_ylim(low, high)
        rings = np.arange(low, high + 1, 10 if high - low > 20 else 5)
        axis.set_yticks(rings, [f"{ring:.0f}" for ring in rings], color="#555555", fontsize=7)
        axis.set_rlabel_position(90 / means.shape[1] * 2)
        axis.set_xticks(angles, list(means.columns))
        for label, angle in zip(axis.get_xticklabels(), angles, strict=True):
            side = np.sin(angle)  # labels grow away from the circle
            label.set_horizontalalignment("center" if abs(side) < 0.1 else "left" if side > 0 else "right")
        axis.tick_params(axis="x", pad=2)
        axis.spines["polar"].set_color("#BBBBBB")
        axis.set_title(title, pad=14)
        legend_below(figure, axis.lines, columns=min(len(means), 4))
    return figure


def attention_figure(
    image: np.ndarray, query_index: int, grid: tuple[int, int], maps: Mapping[str, np.ndarray]
) -> Figure:
    """A photo with one query patch outlined, and beside it what each map says of that query over all patches.

    image (3, H, W) floats in [0, 1] or (H, W, 3) uint8; `query_index` row-major in `grid` = (rows, columns) of patches;
    `maps` title to (N, M), whose row `query_index` is drawn, or (M,), M = rows * columns. Each panel has its own colour
    range, given by its bar: attention rows sum to one, cosines lie in [-1, 1].
    """
    rows, columns = grid
    if not 0 <= query_index < rows * columns:
        raise ValueError(f"query {query_index} lies outside the {rows} x {columns} grid")
    photo = _photo(image)
    height, width = photo.shape[:2]
    cell = height / rows, width / columns
    corner = (query_index % columns) * cell[1], (query_index // columns) * cell[0]
    extent = (0, width, height, 0)
    with style():
        panel = 2.1 * height / width
        ratios = {"height_ratios": (panel, 0.07)}
        figure, axes = subplots(2, 1 + len(maps), 2.1, panel / 2, 0.55, gridspec_kw=ratios)
        _show(axes[0, 0], photo, extent)
        axes[0, 0].set_title(f"query: row {query_index // columns}, column {query_index % columns}", pad=4)
        axes[1, 0].remove()
        for (axis, bars), (title, values) in zip(axes[:, 1:].T, maps.items(), strict=True):
            values = np.asarray(values, dtype=float)
            weights = values[query_index] if values.ndim == 2 else values
            if weights.shape != (rows * columns,):
                raise ValueError(f"map {title!r} {values.shape} does not fit the {rows} x {columns} grid of patches")
            _show(axis, np.repeat(photo.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2), extent)
            heat = _show(axis, weights.reshape(rows, columns), extent, cmap="magma", alpha=0.75)
            axis.set_title(title, pad=4)
            bar = figure.colorbar(heat, cax=bars, orientation="horizontal", ticks=plt.MaxNLocator(3))
            bar.formatter = plt.FuncFormatter(lambda value, _: f"{value:.2g}")
            bar.outline.set_visible(False)
            bar.ax.tick_params(labelsize=6.5, length=2)
        for axis in axes[0]:
            frame = Rectangle(corner, cell[1], cell[0], fill=False, edgecolor="#00E5FF", linewidth=1.4)
            frame.set_path_effects([patheffects.withStroke(linewidth=2.8, foreground="black")])
            axis.add_patch(frame)
    return figure


def _heatmap(axis: Axes, values: pd.DataFrame, text: np.ndarray, vmax: float, **options: object) -> None:
    """Cells of `values`, 0 to `vmax`, with `text` on them, and slanted column titles; further options of seaborn."""
    import seaborn as sns  # here, since it loads all of scipy.stats, which most notebooks never need

    look = {"cmap": "Blues", "linewidths": 0.4, "linecolor": "#EEEEEE", "annot_kws": {"fontsize": 6.5}}
    sns.heatmap(values, ax=axis, annot=text, fmt="", vmin=0, vmax=vmax, **look, **options)
    axis.tick_params(length=0)
    axis.set_xticks(axis.get_xticks(), axis.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")


def _photo(image: np.ndarray) -> np.ndarray:
    """(3, H, W) floats or (H, W, 3) uint8, arrays or tensors, to (H, W, 3) uint8."""
    image = np.asarray(image)
    if image.dtype == np.uint8 and image.shape[-1] == 3:
        return image
    if image.shape[0] != 3:
        raise ValueError(f"expected a photo (3, H, W) of floats or (H, W, 3) of uint8, got {image.shape} {image.dtype}")
    return np.round(255 * np.clip(image.transpose(1, 2, 0), 0, 1)).astype(np.uint8)


def _show(axis: Axes, picture: np.ndarray, extent: tuple[float, ...] | None = None, **options: object) -> AxesImage:
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    return axis.imshow(picture, extent=extent, interpolation="nearest", **options)
