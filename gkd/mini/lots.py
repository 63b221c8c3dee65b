"""What stands on the ground of an overhead scene: houses, cars, trees, clutter (metres)."""

import math
from collections.abc import Sequence

from gkd.mini.site import Site

IMPERVIOUS, BUILDING, LOW, TREE, CAR, CLUTTER = range(6)  # train ids of ISPRS
# Reflectances R, G, B, IR. Vegetation reflects several times more infrared than red; roofs do not.
ASPHALT, PAVING = (0.36, 0.36, 0.37, 0.3), (0.52, 0.5, 0.47, 0.38)
ROOFS = ((0.6, 0.34, 0.27, 0.36), (0.5, 0.48, 0.47, 0.34), (0.66, 0.62, 0.57, 0.4), (0.47, 0.3, 0.27, 0.28))
GRASS, CROWN = (
    ((0.33, 0.42, 0.23, 0.78), (0.38, 0.42, 0.24, 0.7)),
    ((0.17, 0.26, 0.13, 0.92), (0.2, 0.29, 0.15, 0.85)),
)
CARS = (
    (0.85, 0.85, 0.86, 0.6), (0.1, 0.1, 0.12, 0.08), (0.6, 0.12, 0.12, 0.4), (0.15, 0.22, 0.5, 0.2),
    (0.5, 0.5, 0.53, 0.35),
)  # fmt: skip
LITTER = ((0.55, 0.42, 0.3, 0.42), (0.1, 0.2, 0.24, 0.03), (0.45, 0.33, 0.5, 0.3))  # bare soil, water, containers


def tint(colour: Sequence[float], offset: Sequence[float], factor: float = 1.0) -> tuple[float, ...]:
    """Four-band colour plus an RGB offset (infrared moves with red), times a factor."""
    return tuple((c + o) * factor for c, o in zip(colour, (*offset, offset[0]), strict=True))


def house(site: Site, x: float, y: float, wide: float, long: float) -> None:
    """A roof: pitched (two tones about the ridge) or flat with a rim and boxes; sometimes with a wing."""
    dice, style = site.dice, site.style
    base, height = dice.choice(ROOFS), dice.uniform(4, 11)
    grain = (0.25, 0.1, 0.05)
    tones = [tint(base, style.building, factor) for factor in (1.12, 0.8, 0.95)]
    sunny, shady, flat = (site.canvas.paint(BUILDING, tone, texture=grain) for tone in tones)
    left, right, top, low = x - wide / 2, x + wide / 2, y - long / 2, y + long / 2
    if dice.random() < 0.3:
        site.box(right - 1, y, right + wide * 0.5, low, shady, height)
    site.box(left, top, right, low, sunny, height)
    if dice.random() < style.pitched:
        site.box(x, top, right, low, shady)
        if dice.random() < 0.4:  # hipped ends
            site.area([(left, top), (right, top), (x, top + wide * 0.4)], shady)
            site.area([(left, low), (right, low), (x, low - wide * 0.4)], sunny)
        bx, by = x + wide * 0.2, y + long * dice.uniform(-0.3, 0.3)
        chimney = site.canvas.paint(BUILDING, (0.3, 0.2, 0.18, 0.2))
        site.box(bx, by, bx + 0.9, by + 0.9, chimney)
    else:
        site.box(left + 0.7, top + 0.7, right - 0.7, low - 0.7, flat)
        for _ in range(dice.randrange(3)):
            bx, by = x + wide * dice.uniform(-0.3, 0.2), y + long * dice.uniform(-0.3, 0.2)
            site.box(bx, by, bx + 1.6, by + 1.6, shady)


def car(site: Site, x: float, y: float, upright: bool) -> None:
    """A car of 4.4 m x 1.9 m with dark windows, along y or across it."""
    dice, style = site.dice, site.style
    paint = site.canvas.paint(CAR, tint(dice.choice(CARS), style.thing))
    glass = site.canvas.paint(CAR, (0.08, 0.1, 0.12, 0.06))

    def quad(a: float, b: float, half: float, fill: int, height: float = 0.0) -> None:
        corners = [(-half, a), (half, a), (half, b), (-half, b)]
        site.area([(x + u, y + v) if upright else (x + v, y + u) for u, v in corners], fill, height)

    quad(-2.2, 2.2, 0.95, paint, 1.4)
    quad(-1.2, -0.6, 0.7, glass)
    quad(1.0, 1.5, 0.7, glass)


def tree(site: Site, x: float, y: float) -> None:
    """A crown of blobs with a shadow."""
    dice, style = site.dice, site.style
    colour, radius = dice.choice(CROWN), dice.uniform(1.6, 4.2)
    grain = (0.5, 0.7, 0.2)
    tones = [tint(colour, style.vegetation, factor) for factor in (0.85, 1.15)]
    dark, bright = (site.canvas.paint(TREE, tone, texture=grain) for tone in tones)
    site.disc(x, y, radius, dark, dice.uniform(4, 9))
    for _ in range(4):
        a = dice.uniform(0, 6.28)
        site.disc(x + radius * 0.6 * math.cos(a), y + radius * 0.6 * math.sin(a), radius * 0.55, dark, 4)
    site.disc(x - site.sun[0] * radius, y - site.sun[1] * radius, radius * 0.55, bright)


def clutter(site: Site, x: float, y: float) -> None:
    """Bare soil, water or containers."""
    dice, style = site.dice, site.style
    colour = dice.choice(LITTER)
    paint = site.canvas.paint(CLUTTER, tint(colour, style.thing), texture=(0.3, 0.3, 0.2))
    wide, long = dice.uniform(2.5, 5), dice.uniform(3, 6)
    if colour is LITTER[2]:
        for k in range(3):
            left = x + 3 * k
            site.box(left, y, left + 2.4, y + long, paint, 2.0)
    else:
        corners = [(a, dice.uniform(0.7, 1.2)) for a in (0, 1, 2, 3, 4, 5, 6)]
        outline = [(x + wide * r * math.cos(a * 0.9), y + long * r * math.sin(a * 0.9)) for a, r in corners]
        site.area(outline, paint)
