"""A map of paints: polygons are drawn once, and colour, part, depth and glow are looked up per pixel."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

Point = tuple[float, float]


class Canvas:
    """H x W map of paint numbers with one table row per paint.

    Colours are reflectances in [0, 1], three or four bands. A depth below 0 means "lies on the ground":
    its depth then follows from the image row. `texture` weighs fine, middle and coarse noise; `snow` says how
    much of it settles.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.image = Image.new("I", (width, height))
        self.pen = ImageDraw.Draw(self.image)
        self.rows: list[tuple] = []  # of each paint: part, colour, depth, texture, glow, snow

    def paint(
        self,
        part: int,
        colour: Sequence[float],
        depth: float = -1.0,
        texture: Sequence[float] = (0.0, 0.0, 0.0),
        glow: float = 0.0,
        snow: float = 0.0,
    ) -> int:
        """Register a paint; returns its number."""
        self.rows.append((part, colour, depth, texture, glow, snow))
        return len(self.rows) - 1

    def polygon(self, points: Sequence[Point], paint: int) -> None:
        """Fill a polygon given by (x, y) pixel coordinates."""
        self.pen.polygon(points, fill=paint)

    def box(self, x0: float, y0: float, x1: float, y1: float, paint: int) -> None:
        """Fill an axis-aligned box; at least one pixel wide and high."""
        self.pen.rectangle((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), fill=paint)

    def ellipse(self, x: float, y: float, rx: float, ry: float, paint: int) -> None:
        """Fill an ellipse about (x, y)."""
        self.pen.ellipse((x - rx, y - ry, x + rx, y + ry), fill=paint)

    def line(self, points: Sequence[Point], width: float, paint: int) -> None:
        """Draw a line of at least one pixel."""
        self.pen.line(points, fill=paint, width=max(1, round(width)))

    def paints(self) -> np.ndarray:
        """The (H, W) int32 map of paint numbers."""
        return np.asarray(self.image)

    def tables(self) -> list[np.ndarray]:
        """The columns of `rows` as float32, paints last: (paints,) or (bands, paints), for `take`."""
        columns = zip(*self.rows, strict=True)
        return [np.ascontiguousarray(np.array(column, np.float32).T) for column in columns]
