"""Class maps in colours, alone or laid over their photo: the one way from train ids to pixels."""

import numpy as np

from gkd.data.labels import IGNORE


def colorize(label: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Train-id label (H, W) to colours (H, W, 3) uint8 by `palette` (K, 3); 255 becomes black.

    Raises ValueError where an id is beyond the palette.
    """
    label, palette = np.asarray(label), np.asarray(palette, dtype=np.uint8)
    valid = label[label != IGNORE]
    if valid.size and (valid.max() >= len(palette) or valid.min() < 0):
        raise ValueError(f"label holds {valid.min()}..{valid.max()}, the palette has {len(palette)} colours")
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(palette)] = palette
    return table[label]


def overlay(photo: np.ndarray, label: np.ndarray, palette: np.ndarray, opacity: float = 0.55) -> np.ndarray:
    """Class colours blended into a photo, as uint8 (H, W, 3); ignored pixels stay as they are.

    photo uint8 (H, W, 3), label train ids (H, W) with 255 = ignored, palette uint8 (K, 3), opacity 0 to 1.
    """
    weight = opacity * (label != IGNORE)[..., None]  # (H, W, 1)
    return np.round((1 - weight) * photo + weight * colorize(label, palette)).astype(np.uint8)
