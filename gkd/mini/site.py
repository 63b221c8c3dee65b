"""The drawing surface of an overhead scene."""

import math
import random
from collections.abc import Sequence

from PIL import Image, ImageDraw

from gkd.mini.canvas import Canvas, Point
from gkd.mini.style import Style


class Site:
    """Ground coordinates (metres, turned with the street grid) over a paint map and a map of shadows.

    pixel: ground size of a pixel, m; turn: of the street grid, radians; sun: shadow per metre of height, m.
    """

    def __init__(self, dice: random.Random, style: Style, size: int, pixel: float, turn: float, sun: Point) -> None:
        self.dice, self.style = dice, style
        self.canvas = Canvas(size, size)
        self.shadow = Image.new("L", (size, size))
        self.dark = ImageDraw.Draw(self.shadow)
        self.size, self.pixel, self.sun = size, pixel, sun
        self.cos, self.sin = math.cos(turn), math.sin(turn)

    def place(self, x: float, y: float) -> Point:
        """Pixel coordinates of a ground point; the origin is the middle of the image."""
        half = self.size / 2
        column = half + (x * self.cos - y * self.sin) / self.pixel
        return column, half + (x * self.sin + y * self.cos) / self.pixel

    def area(self, points: Sequence[Point], paint: int, height: float = 0.0) -> None:
        """Fill a polygon; one that stands `height` metres tall throws a shadow and is itself in the sun."""
        corners = [self.place(*point) for point in points]
        if height > 0:
            dx, dy = self.sun[0] * height / self.pixel, self.sun[1] * height / self.pixel
            moved = [(x + dx, y + dy) for x, y in corners]
            for k in range(len(corners)):  # swept edges and the moved outline together cover the whole shadow
                self.dark.polygon([corners[k - 1], corners[k], moved[k], moved[k - 1]], fill=255)
            self.dark.polygon(moved, fill=255)
            self.dark.polygon(corners, fill=0)
        self.canvas.polygon(corners, paint)

    def box(self, left: float, top: float, right: float, low: float, paint: int, height: float = 0.0) -> None:
        """Fill a rectangle of the street grid."""
        self.area([(left, top), (right, top), (right, low), (left, low)], paint, height)

    def disc(self, x: float, y: float, radius: float, paint: int, height: float = 0.0) -> None:
        """Fill a disc, with a shadow if it stands `height` metres tall."""
        px, py = self.place(x, y)
        r = radius / self.pixel
        if height > 0:
            sx, sy = px + self.sun[0] * height / self.pixel, py + self.sun[1] * height / self.pixel
            self.dark.ellipse((sx - r, sy - r, sx + r, sy + r), fill=255)
        self.dark.ellipse((px - r, py - r, px + r, py + r), fill=0)
        self.canvas.ellipse(px, py, r, r, paint)
