"""Datasets as pictures: images with their labels laid over them, and class frequencies. Arrays in, figures out."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gkd.report.figures import heatmap
from gkd.report.overlay import overlay
from gkd.report.style import style, subplots

WIDTH = 480  # pixels of an image on a sheet: larger ones are thinned out


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


def frequency_heatmap(frequencies: pd.DataFrame, title: str = "") -> Figure:
    """Class frequencies in per cent: classes (rows) x domains (columns). Colours follow the square root of a share."""
    if frequencies.empty:
        raise ValueError("no class frequencies to draw: no label was read")
    text = frequencies.map(lambda v: "" if np.isnan(v) or v == 0 else f"{v:.1f}" if v >= 0.05 else "<0.1")
    with style():
        figure, axes = subplots(1, 1, 0.5 * frequencies.shape[1] + 1.6, 0.24 * len(frequencies) + 1.3)
        axis = axes[0, 0]
        # Square roots: one class often covers half of all pixels, another a thousandth.
        heatmap(axis, np.sqrt(frequencies), text, vmax=10, cbar=False)
        axis.set(xlabel="", ylabel="", title=title)
    return figure
