"""Everything that lies flat or far away: sky, skyline, terrain, pavements, road and its markings."""

from gkd.mini.colours import GREEN, LEAVES, shade
from gkd.mini.parts import PART
from gkd.mini.scene import Scene

DEPTHS = (1.5, 2.5, 4.0, 6.0, 9.0, 14.0, 22.0, 35.0, 55.0, 90.0, 200.0)  # where strips of ground are sampled


def ground(scene: Scene, road: float, walk: float, verge: float) -> None:
    """Draw the ground; half the road, a pavement and the verge behind it are that wide (m)."""
    _backdrop(scene)
    _surfaces(scene, road, road + walk, road + walk + verge)
    _markings(scene, road)


def _strip(scene: Scene, left: float, right: float, paint: int, depths: tuple[float, ...] = DEPTHS) -> None:
    """A strip of ground along the street, between two lateral positions (m)."""
    point = scene.camera.point
    far_side = [point(right, 0, z) for z in reversed(depths)]
    scene.canvas.polygon([point(left, 0, z) for z in depths] + far_side, paint)


def _backdrop(scene: Scene) -> None:
    """Sky, terrain up to the horizon, and a skyline of woods and towns."""
    canvas, camera, dice, style = scene
    blue, olive, grey = (0.5, 0.68, 0.9), (0.4, 0.42, 0.2), (0.5, 0.5, 0.52)
    # The first paint is number 0, the background.
    canvas.paint(PART["sky"], shade(blue, 1, style.sky), 400.0, (0, 0, 0.35))
    meadow = canvas.paint(PART["terrain"], shade(olive, 1, style.terrain), -1, (0.5, 0.5, 0.4), snow=1.0)
    wood = canvas.paint(PART["vegetation"], shade(GREEN, 0.9, style.vegetation), 150.0, LEAVES, snow=0.4)
    town = canvas.paint(PART["building"], shade(grey, 1, style.building), 150.0, (0.2, 0.4, 0), snow=0.1)
    canvas.box(0, camera.horizon, canvas.width, canvas.height, meadow)
    column = -5.0
    while column < canvas.width:
        far, step = dice.choice((wood, wood, town)), canvas.width * dice.uniform(0.05, 0.15)
        top = camera.horizon - camera.size(dice.uniform(6, 20), 150.0)
        if far == wood:
            canvas.ellipse(column + step / 2, camera.horizon, step * 0.8, camera.horizon - top, far)
        else:
            canvas.box(column, top, column + step, camera.horizon, far)
        column += step


def _surfaces(scene: Scene, road: float, walk: float, verge: float) -> None:
    """Pavements with joints, curbs and the road; the arguments are where each of them ends (m)."""
    canvas, camera, dice, style = scene

    def paint(part: str, grey: tuple[float, float, float], texture: tuple[float, float, float], snow: float) -> int:
        return canvas.paint(PART[part], shade(grey, 1, style.ground), -1, texture, snow=snow)

    slabs = paint("sidewalk", (0.56, 0.54, 0.52), (0.25, 0.1, 0.2), 1.0)
    joint = paint("sidewalk", (0.44, 0.42, 0.4), (0, 0, 0), 1.0)
    curb = paint("curb", (0.68, 0.67, 0.65), (0.1, 0, 0), 0.8)
    asphalt = paint("road", (0.29, 0.29, 0.3), (0.3, 0, 0.25), 0.6)
    end = walk if dice.random() < 0.8 else verge  # a green verge, or paved up to the facades
    _strip(scene, -end, end, slabs)
    for z in (3.0, 4.0, 5.2, 6.8, 9.0, 12.0):
        for side in (-1, 1):
            canvas.line(camera.points((side * road, 0, z), (side * end, 0, z)), 1, joint)
    _strip(scene, -road - 0.25, road + 0.25, curb)
    _strip(scene, -road, road, asphalt)


def _markings(scene: Scene, road: float) -> None:
    """A middle line or dashes, edge lines on wide roads, now and then a crosswalk."""
    canvas, _, dice, _ = scene
    white = canvas.paint(PART["lane marking"], (0.85, 0.85, 0.82), -1, (0.2, 0, 0), snow=0.6)
    stripes = canvas.paint(PART["crosswalk"], (0.82, 0.82, 0.8), -1, (0.2, 0, 0), snow=0.6)
    if dice.random() < 0.5:
        _strip(scene, -0.09, 0.09, white)
    else:
        for z in (2.5, 5.5, 8.5, 12, 16, 21, 28, 38, 52):
            _strip(scene, -0.1, 0.1, white, (z, z * 1.1 + 1.0))
    if road > 4.5:
        for side in (-1, 1):
            _strip(scene, side * (road - 0.6), side * (road - 0.45), white)
    if dice.random() < 0.3:
        z = dice.uniform(7, 16)
        for k in range(int(2 * road)):
            _strip(scene, -road + k + 0.15, -road + k + 0.7, stripes, (z, z + 3))
