"""Miniature overhead scenes in four reflectance bands, so that one ground can be seen in RGB and in IRRG."""

import math
import random

import numpy as np

from gkd.mini import sensor
from gkd.mini.lots import ASPHALT, GRASS, IMPERVIOUS, LOW, PAVING, car, clutter, house, tint, tree
from gkd.mini.site import Site
from gkd.mini.style import Style, jittered
from gkd.mini.texture import texture


def draw_overhead(rng: np.random.Generator, style: Style, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """One overhead scene: uint8 image (size, size, 3) and uint8 ISPRS train ids 0..5 (size, size).

    Equal seeds and styles that differ in `bands` alone show the same ground.
    """
    style = jittered(style, rng)
    dice = random.Random(int(rng.integers(2**62)))
    turn = dice.uniform(-1, 1) * style.rotation * math.pi / 2 + dice.choice((0, 1)) * math.pi / 2
    angle = dice.uniform(0, 2 * math.pi)
    length = dice.uniform(0.25, 0.6)  # shadow length per metre of height
    sun = (math.cos(angle) * length, math.sin(angle) * length)
    site = Site(dice, style, size, style.pixel * 64 / size, turn, sun)
    _compose(site)
    return _render(rng, site)


def _compose(site: Site) -> None:
    """Lawn, streets with parked cars, lots with houses, then trees and clutter."""
    canvas, dice, style = site.canvas, site.dice, site.style
    reach = 0.75 * site.size * site.pixel
    grass = canvas.paint(LOW, tint(dice.choice(GRASS), style.terrain), texture=(0.3, 0.35, 0.3))
    canvas.box(0, 0, site.size, site.size, grass)
    asphalt = canvas.paint(IMPERVIOUS, tint(ASPHALT, style.ground), texture=(0.2, 0.05, 0.15))
    paving = canvas.paint(IMPERVIOUS, tint(PAVING, style.ground), texture=(0.3, 0.1, 0.1))
    line = canvas.paint(IMPERVIOUS, (0.85, 0.85, 0.85, 0.6))
    street, walk = dice.uniform(5, 7), dice.uniform(0.8, 2)
    middle = dice.uniform(-0.35, 0.35) * site.size * site.pixel
    for half, paint in ((street / 2 + walk, paving), (street / 2, asphalt), (0.12, line)):
        site.box(middle - half, -reach, middle + half, reach, paint)
    cross = dice.uniform(-0.4, 0.4) * site.size * site.pixel if dice.random() < 0.3 else None
    if cross is not None:
        half = street * 0.4
        site.box(-reach, cross - half, reach, cross + half, asphalt)
    for side in (-1, 1):
        _lots(site, middle + side * (street / 2 + walk), side, reach, cross, paving)
        y = -reach
        while y < reach:  # parked along the curb, and driving
            y += 5.2 + dice.expovariate(style.cars / 6)
            lane = middle + side * (street / 2 - 1.1 if dice.random() < 0.7 else street / 4)
            car(site, lane, y, upright=True)
    for _ in range(int(9 * style.trees + dice.random() * 4)):
        x, y = dice.uniform(-reach, reach), dice.uniform(-reach, reach)
        if abs(x - middle) > street / 2 + 0.5:
            tree(site, x, y)


def _lots(site: Site, edge: float, side: int, reach: float, cross: float | None, paving: int) -> None:
    """Along one side of the street: houses, yards with parked cars, gardens, now and then clutter."""
    dice, style = site.dice, site.style
    y = -reach - dice.uniform(0, 6)
    while y < reach:
        long, deep, gap = dice.uniform(8, 17), dice.uniform(8, 13), dice.uniform(0, 2.5)
        x = edge + side * (gap + deep / 2)
        blocked = cross is not None and y - 5 < cross < y + long + 5
        choice = dice.random()
        if blocked:
            pass
        elif choice < 0.4 + 0.6 * style.built:
            house(site, x, y + long / 2, deep, long)
            if dice.random() < 0.3 + 0.6 * style.built:
                house(site, x + side * (deep / 2 + 9), y + long / 2, dice.uniform(6, 10), 0.8 * long)
        elif choice < 0.9:
            site.box(x - deep / 2, y, x + deep / 2, y + long, paving)
            for k in range(int(long / 3)):
                if dice.random() < style.cars:
                    car(site, x, y + 1.5 + 3 * k, upright=False)
        if choice > 0.8 or dice.random() < 0.35:
            clutter(site, x + side * deep * dice.uniform(0.1, 1.0), y + long)
        y += long + dice.uniform(1, 6)


def _render(rng: np.random.Generator, site: Site) -> tuple[np.ndarray, np.ndarray]:
    """Look the paints up in four bands, choose three of them, then light and sensor."""
    style, unit = site.style, site.size / 64
    canvas, paints = site.canvas, site.canvas.paints()
    parts, colours, _, textures, _, _ = canvas.tables()
    label = parts.astype(np.uint8).take(paints)
    ground = colours.take(paints, axis=1)  # (4, H, W)
    grain = texture(rng, paints, textures, style.texture_scale, unit)
    shadow = np.asarray(site.shadow, np.float32) / 255
    ground = ground * (1 + 0.5 * style.texture * grain) * (1 - 0.5 * shadow)
    image = sensor.light(ground[list(style.bands)], np.zeros(label.shape, np.float32), style, unit)
    return sensor.record(rng, image, style, unit), label
