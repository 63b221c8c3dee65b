"""Miniature overhead scenes in four reflectance bands, so that one ground can be seen in RGB and in IRRG."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from gkd.mini import sensor
from gkd.mini.canvas import Canvas, Point
from gkd.mini.parts import OVERHEAD_PARTS
from gkd.mini.styles import Style, jittered
from gkd.mini.texture import texture

IMPERVIOUS, BUILDING, LOW, TREE, CAR, CLUTTER = range(len(OVERHEAD_PARTS))
# Reflectances R, G, B, IR. Vegetation reflects several times more infrared than red; roofs do not.
ASPHALT, PAVING = (0.36, 0.36, 0.37, 0.3), (0.52, 0.5, 0.47, 0.38)
ROOFS = ((0.6, 0.34, 0.27, 0.36), (0.5, 0.48, 0.47, 0.34), (0.66, 0.62, 0.57, 0.4), (0.47, 0.3, 0.27, 0.28))
GRASS, CROWN = (
    ((0.33, 0.42, 0.23, 0.78), (0.38, 0.42, 0.24, 0.7)),
    ((0.17, 0.26, 0.13, 0.92), (0.2, 0.29, 0.15, 0.85)),
)
CARS = (
    (0.85, 0.85, 0.86, 0.6),
    (0.1, 0.1, 0.12, 0.08),
    (0.6, 0.12, 0.12, 0.4),
    (0.15, 0.22, 0.5, 0.2),
    (0.5, 0.5, 0.53, 0.35),
)
LITTER = (
    (0.55, 0.42, 0.3, 0.42),
    (0.1, 0.2, 0.24, 0.03),
    (0.45, 0.33, 0.5, 0.3),
)  # bare soil, water, containers


class Site:
    """Ground coordinates (metres, turned with the street grid) over a paint map and a map of shadows."""

    def __init__(self, size: int, pixel: float, turn: float, sun: Point) -> None:
        self.canvas = Canvas(size, size)
        self.shadow = Image.new("L", (size, size))
        self.dark = ImageDraw.Draw(self.shadow)
        self.size, self.pixel, self.sun = size, pixel, sun
        self.cos, self.sin = math.cos(turn), math.sin(turn)

    def place(self, x: float, y: float) -> Point:
        """Pixel coordinates of a ground point; the origin is the middle of the image."""
        half = self.size / 2
        return half + (x * self.cos - y * self.sin) / self.pixel, half + (x * self.sin + y * self.cos) / self.pixel

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

    def disc(self, x: float, y: float, radius: float, paint: int, height: float = 0.0) -> None:
        """Fill a disc, with a shadow if it stands `height` metres tall."""
        px, py = self.place(x, y)
        r = radius / self.pixel
        if height > 0:
            sx, sy = px + self.sun[0] * height / self.pixel, py + self.sun[1] * height / self.pixel
            self.dark.ellipse((sx - r, sy - r, sx + r, sy + r), fill=255)
        self.dark.ellipse((px - r, py - r, px + r, py + r), fill=0)
        self.canvas.ellipse(px, py, r, r, paint)


def draw_overhead(rng: np.random.Generator, style: Style, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """One overhead scene: uint8 image (size, size, 3) and uint8 ISPRS train ids 0..5 (size, size).

    Equal seeds and styles that differ in `bands` alone show the same ground. Raises ValueError for a street style.
    """
    if style.kind != "overhead":
        raise ValueError(f"style.kind: expected 'overhead', got {style.kind!r}; use draw_street for it")
    style = jittered(style, rng)
    dice = random.Random(int(rng.integers(2**62)))
    turn = dice.uniform(-1, 1) * style.rotation * math.pi / 2 + dice.choice((0, 1)) * math.pi / 2
    angle = dice.uniform(0, 2 * math.pi)
    length = dice.uniform(0.25, 0.6)  # shadow length per metre of height
    site = Site(size, style.pixel * 64 / size, turn, (math.cos(angle) * length, math.sin(angle) * length))
    _compose(site, dice, style)
    return _render(rng, site, style)


def _tint(colour: Sequence[float], offset: Sequence[float], factor: float = 1.0) -> tuple[float, ...]:
    """Four-band colour plus an RGB offset (infrared moves with red), times a factor."""
    return tuple((c + o) * factor for c, o in zip(colour, (*offset, offset[0]), strict=True))


def _compose(site: Site, dice: random.Random, style: Style) -> None:
    """Lawn, streets with parked cars, lots with houses, then trees and clutter."""
    canvas, reach = site.canvas, 0.75 * site.size * site.pixel
    grass = canvas.paint(LOW, _tint(dice.choice(GRASS), style.terrain), texture=(0.3, 0.35, 0.3))
    canvas.box(0, 0, site.size, site.size, grass)
    asphalt = canvas.paint(IMPERVIOUS, _tint(ASPHALT, style.ground), texture=(0.2, 0.05, 0.15))
    paving = canvas.paint(IMPERVIOUS, _tint(PAVING, style.ground), texture=(0.3, 0.1, 0.1))
    line = canvas.paint(IMPERVIOUS, (0.85, 0.85, 0.85, 0.6))
    street, walk = dice.uniform(5, 7), dice.uniform(0.8, 2)
    middle = dice.uniform(-0.35, 0.35) * site.size * site.pixel
    for x, half, paint in (
        (middle, street / 2 + walk, paving),
        (middle, street / 2, asphalt),
        (middle, 0.12, line),
    ):
        site.area([(x - half, -reach), (x + half, -reach), (x + half, reach), (x - half, reach)], paint)
    cross = dice.uniform(-0.4, 0.4) * site.size * site.pixel if dice.random() < 0.3 else None
    if cross is not None:
        half = street * 0.4
        site.area(
            [(-reach, cross - half), (reach, cross - half), (reach, cross + half), (-reach, cross + half)],
            asphalt,
        )
    for side in (-1, 1):
        _lots(site, dice, style, middle + side * (street / 2 + walk), side, reach, cross, paving)
        y = -reach
        while y < reach:  # parked along the curb, and driving
            y += 5.2 + dice.expovariate(style.cars / 6)
            lane = middle + side * (street / 2 - 1.1 if dice.random() < 0.7 else street / 4)
            _car(site, dice, style, lane, y, upright=True)
    for _ in range(int(9 * style.trees + dice.random() * 4)):
        x, y = dice.uniform(-reach, reach), dice.uniform(-reach, reach)
        if abs(x - middle) > street / 2 + 0.5:
            _tree(site, dice, style, x, y)


def _lots(site, dice, style, edge, side, reach, cross, paving) -> None:
    """Along one side of the street: houses, yards with parked cars, gardens, now and then clutter."""
    y = -reach - dice.uniform(0, 6)
    while y < reach:
        long, deep, gap = dice.uniform(8, 17), dice.uniform(8, 13), dice.uniform(0, 2.5)
        x = edge + side * (gap + deep / 2)
        blocked = cross is not None and y - 5 < cross < y + long + 5
        choice = dice.random()
        if blocked:
            pass
        elif choice < 0.4 + 0.6 * style.built:
            _house(site, dice, style, x, y + long / 2, deep, long)
            if dice.random() < 0.3 + 0.6 * style.built:
                _house(
                    site,
                    dice,
                    style,
                    x + side * (deep / 2 + 9),
                    y + long / 2,
                    dice.uniform(6, 10),
                    0.8 * long,
                )
        elif choice < 0.9:
            site.area(
                [(x - deep / 2, y), (x + deep / 2, y), (x + deep / 2, y + long), (x - deep / 2, y + long)],
                paving,
            )
            for k in range(int(long / 3)):
                if dice.random() < style.cars:
                    _car(site, dice, style, x, y + 1.5 + 3 * k, upright=False)
        if choice > 0.8 or dice.random() < 0.35:
            _clutter(site, dice, style, x + side * deep * dice.uniform(0.1, 1.0), y + long)
        y += long + dice.uniform(1, 6)


def _house(site, dice, style, x, y, wide, long) -> None:
    """A roof: pitched (two tones about the ridge) or flat with a rim and boxes; sometimes with a wing."""
    base, height = dice.choice(ROOFS), dice.uniform(4, 11)
    grain = (0.25, 0.1, 0.05)
    sunny, shady = (site.canvas.paint(BUILDING, _tint(base, style.building, f), texture=grain) for f in (1.12, 0.8))
    left, right, top, low = x - wide / 2, x + wide / 2, y - long / 2, y + long / 2
    if dice.random() < 0.3:
        site.area(
            [(right - 1, y), (right + wide * 0.5, y), (right + wide * 0.5, low), (right - 1, low)],
            shady,
            height,
        )
    site.area([(left, top), (right, top), (right, low), (left, low)], sunny, height)
    if dice.random() < style.pitched:
        site.area([(x, top), (right, top), (right, low), (x, low)], shady)
        if dice.random() < 0.4:  # hipped ends
            site.area([(left, top), (right, top), (x, top + wide * 0.4)], shady)
            site.area([(left, low), (right, low), (x, low - wide * 0.4)], sunny)
        bx, by = x + wide * 0.2, y + long * dice.uniform(-0.3, 0.3)
        chimney = site.canvas.paint(BUILDING, (0.3, 0.2, 0.18, 0.2))
        site.area([(bx, by), (bx + 0.9, by), (bx + 0.9, by + 0.9), (bx, by + 0.9)], chimney)
    else:
        flat = site.canvas.paint(BUILDING, _tint(base, style.building, 0.95), texture=grain)
        site.area(
            [
                (left + 0.7, top + 0.7),
                (right - 0.7, top + 0.7),
                (right - 0.7, low - 0.7),
                (left + 0.7, low - 0.7),
            ],
            flat,
        )
        for _ in range(dice.randrange(3)):
            bx, by = x + wide * dice.uniform(-0.3, 0.2), y + long * dice.uniform(-0.3, 0.2)
            site.area([(bx, by), (bx + 1.6, by), (bx + 1.6, by + 1.6), (bx, by + 1.6)], shady)


def _car(site, dice, style, x, y, upright) -> None:
    """A car of 4.4 m x 1.9 m with dark windows, along y or across it."""
    paint = site.canvas.paint(CAR, _tint(dice.choice(CARS), style.thing))
    glass = site.canvas.paint(CAR, (0.08, 0.1, 0.12, 0.06))

    def quad(a: float, b: float, half: float, fill: int, height: float = 0.0) -> None:
        corners = [(-half, a), (half, a), (half, b), (-half, b)]
        site.area([(x + u, y + v) if upright else (x + v, y + u) for u, v in corners], fill, height)

    quad(-2.2, 2.2, 0.95, paint, 1.4)
    quad(-1.2, -0.6, 0.7, glass)
    quad(1.0, 1.5, 0.7, glass)


def _tree(site, dice, style, x, y) -> None:
    """A crown of blobs with a shadow."""
    colour, radius = dice.choice(CROWN), dice.uniform(1.6, 4.2)
    grain = (0.5, 0.7, 0.2)
    dark, bright = (site.canvas.paint(TREE, _tint(colour, style.vegetation, f), texture=grain) for f in (0.85, 1.15))
    site.disc(x, y, radius, dark, dice.uniform(4, 9))
    for _ in range(4):
        a = dice.uniform(0, 6.28)
        site.disc(x + radius * 0.6 * math.cos(a), y + radius * 0.6 * math.sin(a), radius * 0.55, dark, 4)
    site.disc(x - site.sun[0] * radius, y - site.sun[1] * radius, radius * 0.55, bright)


def _clutter(site, dice, style, x, y) -> None:
    """Bare soil, water or containers."""
    colour = dice.choice(LITTER)
    paint = site.canvas.paint(CLUTTER, _tint(colour, style.thing), texture=(0.3, 0.3, 0.2))
    wide, long = dice.uniform(2.5, 5), dice.uniform(3, 6)
    if colour is LITTER[2]:
        for k in range(3):
            left = x + 3 * k
            site.area([(left, y), (left + 2.4, y), (left + 2.4, y + long), (left, y + long)], paint, 2.0)
    else:
        corners = [(a, dice.uniform(0.7, 1.2)) for a in (0, 1, 2, 3, 4, 5, 6)]
        site.area([(x + wide * r * math.cos(a * 0.9), y + long * r * math.sin(a * 0.9)) for a, r in corners], paint)


def _render(rng: np.random.Generator, site: Site, style: Style) -> tuple[np.ndarray, np.ndarray]:
    """Look the paints up in four bands, choose three of them, then light and sensor."""
    unit = site.size / 64
    canvas, paints = site.canvas, site.canvas.paints()
    label = np.array(canvas.parts, np.uint8).take(paints)
    ground = canvas.table(canvas.colours).take(paints, axis=1)  # (4, H, W)
    grain = texture(rng, paints, canvas.table(canvas.textures), style.texture_scale, unit)
    shadow = np.asarray(site.shadow, np.float32) / 255
    ground = ground * (1 + 0.5 * style.texture * grain) * (1 - 0.5 * shadow)
    image = sensor.light(ground[list(style.bands)], np.zeros(label.shape, np.float32), style, unit)
    return sensor.record(rng, image, style, unit), label
