"""What lines a street: buildings, walls, fences and hedges."""

from gkd.mini.colours import FACADES, GLASS, GREEN, LEAVES, shade
from gkd.mini.furniture import tree
from gkd.mini.parts import PART
from gkd.mini.scene import Scene


def building(scene: Scene, x: float, start: float, end: float) -> None:
    """A house with its facade at x along the street, from depth start to end, some with a pitched roof."""
    canvas, camera, dice, style = scene
    part, middle, brick = PART["building"], (start + end) / 2, (0.25, 0.15, 0.1)
    colour = shade(dice.choice(FACADES), dice.uniform(0.85, 1.15), style.building)
    storeys = max(1, round(style.storeys + dice.uniform(-1.5, 1.5)))
    tiles = shade((0.4, 0.24, 0.2), dice.uniform(0.7, 1.2), style.building)
    tall = storeys * 3.0 + 1.0
    back = x + (12 if x > 0 else -12)
    glass = canvas.paint(part, dice.choice((GLASS, (0.3, 0.38, 0.45))), middle)
    facade = canvas.paint(part, colour, middle, brick)
    flank = canvas.paint(part, shade(colour, 0.72), start, brick)
    if dice.random() < 0.6:
        ridge, top = (x + back) / 2, tall + 3
        roof = canvas.paint(part, tiles, middle, brick, snow=1.0)
        slope = camera.points((x, tall, start), (x, tall, end), (ridge, top, end), (ridge, top, start))
        canvas.polygon(slope, roof)
        canvas.polygon(camera.points((x, tall, start), (ridge, top, start), (back, tall, start)), flank)
    canvas.polygon(camera.across(x, back, 0, tall, start), flank)
    canvas.polygon(camera.along(x, 0, tall, start, end), facade)
    if middle < 45:  # beyond, windows are smaller than a pixel
        _windows(scene, x, start, end, storeys, (facade, glass))


def _windows(scene: Scene, x: float, start: float, end: float, storeys: int, paints: tuple[int, int]) -> None:
    """A band of glass per storey, cut into windows by pillars of facade colour; at night some are lit."""
    canvas, camera, dice, style = scene
    facade, glass = paints
    light = canvas.paint(PART["building"], (0.95, 0.75, 0.4), (start + end) / 2, glow=0.5)
    columns = max(2, round((end - start) / 3))
    step = (end - start) / columns
    for storey in range(storeys):
        low = 1.0 + 3.0 * storey
        if camera.point(x, low, end)[1] < 0:  # above the picture
            break
        canvas.polygon(camera.along(x, low, low + 1.5, start + 0.5, end - 0.5), glass)
        if dice.random() < 0.6:
            z = start + step * dice.randrange(columns)
            canvas.polygon(camera.along(x, low, low + 1.5, z, z + step), light if style.night > 0.05 else glass)
    for column in range(columns + 1):
        z = start + column * step
        pillar = camera.along(x, 0, storeys * 3.0 + 1.0, max(start, z - 0.6), min(end, z + 0.6))
        canvas.polygon(pillar, facade)


def barrier(scene: Scene, kind: str, x: float, start: float, end: float) -> None:
    """A wall (courses of stone), a fence (bars) or a hedge along the street."""
    canvas, camera, dice, style = scene
    tall, middle = dice.uniform(1.6, 2.8), (start + end) / 2

    def panel(low: float, high: float, paint: int) -> None:
        canvas.polygon(camera.along(x, low, high, start, end), paint)

    def rail(share: float, width: float, paint: int) -> None:
        canvas.line(camera.points((x, tall * share, start), (x, tall * share, end)), width, paint)

    if kind == "hedge":
        green = shade(GREEN, dice.uniform(0.8, 1.2), style.vegetation)
        panel(0, tall, canvas.paint(PART["vegetation"], green, middle, LEAVES, snow=0.4))
        for z in (end - 1, middle, start + 1):
            if dice.random() < style.trees + 0.2:
                tree(scene, x + (2 if x > 0 else -2), z, green)
    elif kind == "wall":
        stone = shade((0.52, 0.48, 0.44), dice.uniform(0.8, 1.15), style.building)
        panel(0, tall, canvas.paint(PART["wall"], stone, middle, (0.35, 0.45, 0.2), snow=0.1))
        course = canvas.paint(PART["wall"], shade(stone, 0.7), middle)
        for share in (0.25, 0.5, 0.75):
            rail(share, 1, course)
        panel(tall, tall + 0.2, canvas.paint(PART["wall"], shade(stone, 1.3), middle, snow=1.0))
    else:
        gaps = shade((0.32, 0.34, 0.26), 1.0, style.terrain)
        ground = canvas.paint(PART["fence"], gaps, middle, (0.3, 0.3, 0))
        wood_or_iron = dice.choice(((0.62, 0.62, 0.6), (0.4, 0.28, 0.18), (0.12, 0.2, 0.14)))
        bars = canvas.paint(PART["fence"], wood_or_iron, middle)
        panel(0, tall, ground)
        z = start
        while z < end:
            canvas.line(camera.points((x, 0, z), (x, tall, z)), camera.size(0.14, z), bars)
            z += max(0.5, z * 0.06)
        for share in (0.15, 0.95):
            rail(share, camera.size(0.12, middle), bars)
