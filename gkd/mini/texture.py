"""Value noise, the only texture source of the miniature scenes."""

import numpy as np
from PIL import Image


def enlarge(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear enlargement of a float32 (h, w) grid to (height, width)."""
    return np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BILINEAR))


def value_noise(rng: np.random.Generator, height: int, width: int, cell: float) -> np.ndarray:
    """(H, W) float32 noise in [-1, 1]: one random value per `cell` pixels (at least one), enlarged."""
    cell = max(1.0, cell)
    grid = rng.random((max(2, round(height / cell)), max(2, round(width / cell))), dtype=np.float32)
    return enlarge(grid * 2 - 1, height, width)


def texture(rng: np.random.Generator, paints: np.ndarray, weights: np.ndarray, scale: float, unit: float) -> np.ndarray:
    """(H, W) float32 texture: fine, middle and coarse noise, weighted per paint.

    paints: (H, W) paint numbers; weights: (3, paints) float32; scale: relative grain size of the style;
    unit: pixels of this image per pixel of the 64-pixel reference.
    """
    height, width = paints.shape
    total = np.zeros((height, width), np.float32)
    for row, cell in zip(weights, (1.0, 2.5, 9.0), strict=True):
        total += row.take(paints) * value_noise(rng, height, width, cell * scale * unit)
    return total
