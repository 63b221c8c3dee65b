"""Pinhole camera above a road that may bend."""

from dataclasses import dataclass

from gkd.mini.canvas import Point


@dataclass(frozen=True)
class Camera:
    """Projects road coordinates (x right of the road's middle, y up, z ahead; metres) to pixels (x, y)."""

    centre: float  # column of the vanishing point, pixels
    horizon: float  # row, pixels
    focal: float  # pixels
    height: float  # above the road, m
    offset: float  # right of the road's middle, m
    bend: float  # the road's middle lies at bend * z^2, m

    def point(self, x: float, y: float, z: float) -> Point:
        """Pixel position (column, row) of a point."""
        scale = self.focal / z
        column = self.centre + (x - self.offset + self.bend * z * z) * scale
        return column, self.horizon + (self.height - y) * scale

    def along(self, x: float, low: float, high: float, z0: float, z1: float) -> list[Point]:
        """Corners of an upright rectangle along the street."""
        return self.points((x, low, z0), (x, low, z1), (x, high, z1), (x, high, z0))

    def across(self, left: float, right: float, low: float, high: float, z: float) -> list[Point]:
        """Corners of an upright rectangle that faces the camera."""
        return self.points((left, low, z), (right, low, z), (right, high, z), (left, high, z))

    def flat(self, left: float, right: float, y: float, z0: float, z1: float) -> list[Point]:
        """Corners of a level rectangle."""
        return self.points((left, y, z0), (right, y, z0), (right, y, z1), (left, y, z1))

    def points(self, *corners: tuple[float, float, float]) -> list[Point]:
        """Several points at once."""
        return [self.point(*corner) for corner in corners]

    def size(self, length: float, z: float) -> float:
        """Pixels that a length in metres takes at depth z."""
        return self.focal * length / z
