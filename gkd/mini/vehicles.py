"""Cars, trucks, buses and trains, as boxes in perspective."""

from gkd.mini.camera import Camera
from gkd.mini.canvas import Canvas
from gkd.mini.colours import BODYWORK, GLASS, TYRE, Colour, shade
from gkd.mini.parts import PART
from gkd.mini.scene import Scene

SIZES = {"car": (1.8, 1.5, 4.3), "truck": (2.5, 3.4, 8.0), "bus": (2.5, 3.1, 11.0), "train": (2.7, 3.5, 26.0)}
WAIST, FLOOR = 0.85, 0.3  # heights of a car's windows and of every body's lower edge, m


def vehicle(scene: Scene, kind: str, x: float, z: float) -> None:
    """Draw a car, truck, bus or train whose near end stands at (x, z) on the ground."""
    canvas, camera, dice, style = scene
    wide, _, long = SIZES[kind]
    colour = dice.choice(BODYWORK if kind != "bus" else BODYWORK[:1] + BODYWORK[5:])
    if kind == "train":
        colour = dice.choice(((0.8, 0.72, 0.2), (0.7, 0.2, 0.2)))
    left, right = x - wide / 2, x + wide / 2
    flank = right if camera.point(right, 0, z)[0] < camera.centre else left  # the side that the camera sees
    shadow = canvas.paint(PART["road"], (0.1, 0.1, 0.11))
    near, far = z - 0.3, z + long
    canvas.polygon(
        camera.points((left - 0.2, 0, near), (right + 0.2, 0, near), (right, 0, far), (left, 0, far)), shadow
    )
    body = _car if kind == "car" else _box
    body(canvas, camera, kind, (left, right, flank), z, shade(colour, 1.0, style.thing))
    _ends(canvas, camera, PART[kind], x, wide, z)


def _paints(canvas: Canvas, part: int, colour: Colour, z: float) -> tuple[int, ...]:
    """Paints of near end, flank, roof, glass and tyres."""
    shine = (0.05, 0.1, 0.0)
    return (
        canvas.paint(part, colour, z, shine, snow=0.2),
        canvas.paint(part, shade(colour, 0.72), z, shine),
        canvas.paint(part, shade(colour, 1.15), z, shine, snow=0.9),
        canvas.paint(part, GLASS, z),
        canvas.paint(part, TYRE, z),
    )


def _wheels(canvas: Canvas, camera: Camera, kind: str, x: float, z: float, tyre: int) -> None:
    """The wheels of the long side, if they are large enough to see."""
    wide, _, long = SIZES[kind]
    for end in (z + 0.8, z + long - 0.8) if camera.size(wide, z) > 6 else ():
        canvas.ellipse(*camera.point(x, 0.33, end), camera.size(0.3, end), camera.size(0.35, end), tyre)


def _car(
    canvas: Canvas, camera: Camera, kind: str, sides: tuple[float, float, float], z: float, colour: Colour
) -> None:
    """Body, and above the waist a narrower cabin with windows."""
    (left, right, flank), (_, tall, long) = sides, SIZES[kind]
    end, side, roof, glass, tyre = _paints(canvas, PART[kind], colour, z)
    far, inset, rear, points = z + long, 0.2, z + 0.5, camera.points
    canvas.polygon(camera.along(flank, FLOOR, WAIST, z, far), side)
    _wheels(canvas, camera, kind, flank, z, tyre)
    top = flank + (inset if flank == left else -inset)
    front = far - 1.2
    window = points((flank, WAIST, z + 0.1), (flank, WAIST, far - 0.8), (top, tall, front), (top, tall, rear))
    canvas.polygon(window, glass)
    canvas.polygon(camera.flat(left + inset, right - inset, tall, rear, front), roof)
    canvas.polygon(camera.across(left, right, FLOOR, WAIST, z), end)
    for margin, low, high, paint in ((0.05, WAIST, tall, end), (0.2, WAIST + 0.03, tall - 0.1, glass)):
        a, b = left + margin, right - margin
        corners = points((a, low, z), (b, low, z), (b - 0.15, high, rear), (a + 0.15, high, rear))
        canvas.polygon(corners, paint)


def _box(
    canvas: Canvas, camera: Camera, kind: str, sides: tuple[float, float, float], z: float, colour: Colour
) -> None:
    """A tall box: loading doors on a truck, bands of windows on bus and train."""
    (left, right, flank), (_, tall, long) = sides, SIZES[kind]
    end, side, roof, glass, tyre = _paints(canvas, PART[kind], colour, z)
    far, middle = z + long, (left + right) / 2
    canvas.polygon(camera.along(flank, FLOOR, tall, z, far), side)
    _wheels(canvas, camera, kind, flank, z, tyre)
    if camera.height > tall:
        canvas.polygon(camera.flat(left, right, tall, z, far), roof)
    canvas.polygon(camera.across(left, right, FLOOR, tall, z), end)
    if kind == "truck":
        seam = canvas.paint(PART[kind], shade(colour, 0.5), z)
        canvas.line(camera.points((middle, 0.5, z), (middle, tall - 0.2, z)), camera.size(0.08, z), seam)
        canvas.polygon(camera.across(left, right, FLOOR, 0.75, z), tyre)
    else:
        canvas.polygon(camera.along(flank, 1.5, 2.5, z + 0.3, far), glass)
        canvas.polygon(camera.across(left + 0.2, right - 0.2, 1.4, 2.6, z), glass)
    if kind == "train":
        stripe = canvas.paint(PART[kind], (0.9, 0.9, 0.88), z)
        canvas.polygon(camera.along(flank, 2.7, 3.0, z, far), stripe)


def _ends(canvas: Canvas, camera: Camera, part: int, x: float, wide: float, z: float) -> None:
    """Lamps (white and bright if the vehicle comes towards the camera, red otherwise) and the near wheels."""
    oncoming = x < 0
    colour = (1.0, 0.95, 0.8) if oncoming else (0.9, 0.08, 0.06)
    lamp = canvas.paint(part, colour, z, glow=1.0 if oncoming else 0.6)
    tyre = canvas.paint(part, TYRE, z)
    for sign in (-1, 1):
        for inset, half, low, high, paint in ((0.25, 0.16, 0.63, 0.79, lamp), (0.2, 0.14, 0.0, 0.25, tyre)):
            middle = x + sign * (wide / 2 - inset)
            canvas.box(*camera.point(middle - half, high, z), *camera.point(middle + half, low, z), paint)
