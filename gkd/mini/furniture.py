"""What stands along a street: poles, traffic lights, signs, trees, bins; each with its foot at (x, z)."""

from gkd.mini.colours import LEAVES, METAL, Colour, shade
from gkd.mini.parts import PART
from gkd.mini.scene import Scene


def pole(scene: Scene, x: float, z: float) -> None:
    """Street light (arm over the road, glowing head) or utility pole (cross-bar)."""
    canvas, camera, dice, style = scene
    lit = style.night > 0.05 or dice.random() < 0.6
    part = PART["street light" if lit else "utility pole"]
    tall = dice.uniform(5.5, 8)
    metal = canvas.paint(part, METAL if lit else (0.3, 0.23, 0.17), z, (0.1, 0.0, 0.0), snow=0.05)
    width = camera.size(0.24, z)
    canvas.line([camera.point(x, 0, z), camera.point(x, tall, z)], width, metal)
    if lit:
        inward = -1.8 if x > 0 else 1.8
        canvas.line([camera.point(x, tall, z), camera.point(x + inward, tall + 0.3, z)], width * 0.7, metal)
        head = canvas.paint(part, (1.0, 0.93, 0.75), z, glow=1.0)
        px, py = camera.point(x + inward, tall + 0.2, z)
        canvas.ellipse(px, py, camera.size(0.4, z), camera.size(0.2, z), head)
    else:
        bar = tall - 0.6
        canvas.line(camera.points((x - 1, bar, z), (x + 1, bar, z)), width * 0.6, metal)


def traffic_light(scene: Scene, x: float, z: float) -> None:
    """A dark box with one lamp on a pole."""
    canvas, camera, dice, _ = scene
    metal = canvas.paint(PART["pole"], METAL, z, (0.1, 0.0, 0.0))
    tall = dice.uniform(2.9, 3.6)
    canvas.line([camera.point(x, 0, z), camera.point(x, tall, z)], camera.size(0.2, z), metal)
    box = canvas.paint(PART["traffic light"], (0.09, 0.1, 0.08), z, snow=0.1)
    x0, y0 = camera.point(x - 0.3, tall + 1.3, z)
    x1, y1 = camera.point(x + 0.3, tall, z)
    canvas.box(x0, y0, x1, y1, box)
    slot, colour = dice.choice(((0, (1.0, 0.1, 0.08)), (1, (1.0, 0.65, 0.05)), (2, (0.1, 0.95, 0.45))))
    lamp = canvas.paint(PART["traffic light"], colour, z, glow=0.9)
    r = camera.size(0.19, z)
    canvas.ellipse((x0 + x1) / 2, y0 + (y1 - y0) * (0.18 + 0.32 * slot), r, r, lamp)


def sign(scene: Scene, x: float, z: float) -> None:
    """A traffic sign on a pole: ring, triangle, diamond, plate, or the grey back of one."""
    canvas, camera, dice, _ = scene
    metal = canvas.paint(PART["pole"], METAL, z, (0.1, 0.0, 0.0))
    middle, radius = dice.uniform(2.3, 2.8), dice.uniform(0.42, 0.6)
    canvas.line([camera.point(x, 0, z), camera.point(x, middle, z)], camera.size(0.14, z), metal)
    px, py = camera.point(x, middle, z)
    r = max(1.5, camera.size(radius, z))
    white = canvas.paint(PART["sign"], (0.9, 0.9, 0.88), z, snow=0.05)
    red = canvas.paint(PART["sign"], (0.8, 0.08, 0.1), z, snow=0.05)
    shape = dice.randrange(5)
    if shape == 0:
        canvas.ellipse(px, py, r, r, red)
        canvas.ellipse(px, py, r * 0.6, r * 0.6, white)
    elif shape == 1:
        canvas.polygon([(px - r, py + r * 0.8), (px + r, py + r * 0.8), (px, py - r)], red)
        half = r / 2
        canvas.polygon([(px - half, py + half), (px + half, py + half), (px, py - r * 0.4)], white)
    elif shape == 2:
        canvas.polygon([(px - r, py), (px, py - r), (px + r, py), (px, py + r)], white)
        yellow = canvas.paint(PART["sign"], (0.95, 0.75, 0.1), z)
        r *= 0.7
        canvas.polygon([(px - r, py), (px, py - r), (px + r, py), (px, py + r)], yellow)
    elif shape == 3:
        blue = canvas.paint(PART["sign"], (0.08, 0.25, 0.7), z)
        canvas.box(px - r, py - r, px + r, py + r, blue)
        canvas.box(px - r * 0.4, py - r * 0.2, px + r * 0.4, py + r * 0.5, white)
    else:
        back = canvas.paint(PART["sign back"], (0.45, 0.46, 0.47), z)
        canvas.ellipse(px, py, r, r, back)


def tree(scene: Scene, x: float, z: float, colour: Colour) -> None:
    """Trunk and a crown of blobs, darker below."""
    canvas, camera, dice, _ = scene
    part = PART["vegetation"]
    tall, spread = dice.uniform(4.5, 8.5), dice.uniform(1.3, 2.4)
    trunk = canvas.paint(part, (0.23, 0.17, 0.12), z, (0.3, 0.0, 0.0))
    canvas.line([camera.point(x, 0, z), camera.point(x, tall * 0.6, z)], camera.size(0.4, z), trunk)
    dark = canvas.paint(part, shade(colour, 0.65), z, LEAVES, snow=0.2)
    bright = canvas.paint(part, shade(colour, 1.15), z, LEAVES, snow=0.45)
    for paint, lift in ((dark, 0.5), (dark, 0.6), (dark, 0.65), (bright, 0.72), (bright, 0.8)):
        px, py = camera.point(x + dice.uniform(-0.6, 0.6) * spread, tall * lift, z)
        r = camera.size(spread * dice.uniform(0.55, 0.9), z)
        canvas.ellipse(px, py, r, r * dice.uniform(0.7, 1.0), paint)


def trash_can(scene: Scene, x: float, z: float) -> None:
    """Something that belongs to no evaluated class."""
    canvas, camera, dice, _ = scene
    paint = canvas.paint(PART["trash can"], dice.choice(((0.2, 0.3, 0.2), (0.4, 0.3, 0.15))), z, snow=0.3)
    canvas.box(*camera.point(x - 0.3, 1.1, z), *camera.point(x + 0.3, 0, z), paint)
