"""Miniature street scenes: a road in perspective, blocks along both sides, and traffic."""

import random
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from gkd.mini import sensor
from gkd.mini.blocks import barrier, building
from gkd.mini.camera import Camera
from gkd.mini.canvas import Canvas
from gkd.mini.ground import ground
from gkd.mini.parts import PART, TRAIN_IDS
from gkd.mini.scene import Scene
from gkd.mini.style import Style, jittered
from gkd.mini.texture import texture
from gkd.mini.traffic import traffic

FAR = 90.0  # m, where the side blocks end


def draw_street(
    rng: np.random.Generator, style: Style, height: int = 64, width: int = 128
) -> tuple[np.ndarray, np.ndarray]:
    """One street scene: uint8 image (height, width, 3) and train ids (height, width), 255 = void.

    Everything random comes from `rng`: equal seeds give equal bytes.
    """
    image, parts = draw_street_parts(rng, style, height, width)
    return image, TRAIN_IDS[parts]


def draw_street_parts(
    rng: np.random.Generator, style: Style, height: int = 64, width: int = 128
) -> tuple[np.ndarray, np.ndarray]:
    """As `draw_street`, with indices of `parts.STREET_PARTS`, from which every label encoding follows."""
    style = jittered(style, rng)
    dice = random.Random(int(rng.integers(2**62)))
    camera = Camera(
        centre=width * dice.uniform(0.4, 0.6),
        horizon=height * (style.horizon + dice.uniform(-0.03, 0.03)),
        focal=style.focal * 2 * height,
        height=style.camera_height,
        offset=style.offset + dice.uniform(-0.5, 0.5),
        bend=dice.choice((0.0, 1.0)) * dice.uniform(-0.006, 0.006),
    )
    scene = Scene(Canvas(height, width), camera, dice, style)
    _compose(scene)
    return _render(rng, scene)


def _compose(scene: Scene) -> None:
    """Draw the scene from far to near."""
    canvas, _, dice, style = scene
    road, walk = dice.uniform(3.2, 5.6), dice.uniform(1.8, 3.6)
    verge = dice.choice((0.0, 1.0, 1.0)) * dice.uniform(2, 7)
    ground(scene, road, walk, verge)
    jobs = [*_sides(scene, road + walk + verge), *traffic(scene, road, walk)]
    for _, draw in sorted(jobs, key=lambda job: -job[0]):
        draw()
    if style.ego > 0.015:
        bonnet = canvas.paint(PART["ego vehicle"], (0.16, 0.17, 0.19), 1.0, (0.0, 0.1, 0.1), snow=0.1)
        canvas.ellipse(canvas.width / 2, canvas.height, canvas.width * 0.46, canvas.height * style.ego, bonnet)


def _sides(scene: Scene, near: float) -> Iterator[tuple[float, Callable[[], None]]]:
    """Depth and drawing call of the blocks along both sides of the street, whose fronts stand at +-near."""
    dice, style = scene.dice, scene.style
    kinds, weights = ("building", "wall", "fence", "hedge", "open"), (4.6, 1.7, 1.7, 1.6 * style.trees + 0.3, 2.2)
    for side in (-1, 1):
        start = dice.uniform(2.0, 4.0)
        while start < FAR:
            end = start + dice.uniform(6, 15)
            (kind,) = dice.choices(kinds, weights)
            depth = (start + end) / 2
            if kind == "building":
                yield depth, partial(building, scene, side * near, start, end)
            elif kind != "open":
                yield depth, partial(barrier, scene, kind, side * near, start, end)
                if dice.random() < 0.6:
                    yield depth + 8, partial(building, scene, side * (near + 7), start, end)
            start = end + dice.choice((0.0, 0.0, 3.0))


def _render(rng: np.random.Generator, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Turn the paint map into an image under the style's light, weather and sensor."""
    canvas, camera, _, style = scene
    unit = canvas.height / 64
    paints = canvas.paints()
    parts, colours, depths, textures, glows, snows = canvas.tables()
    parts = parts.astype(np.uint8).take(paints)
    image = colours.take(paints, axis=1)  # (3, H, W)
    depth = depths.take(paints)
    rows = np.arange(canvas.height, dtype=np.float32)
    by_row = camera.focal * camera.height / np.maximum(rows - camera.horizon, 0.5)
    depth = np.where(depth < 0, by_row[:, None].astype(np.float32), depth)
    grain = texture(rng, paints, textures, style.texture_scale, unit)
    image = image * (1 + 0.55 * style.texture * grain)
    image = sensor.settle_snow(rng, image, snows.take(paints), style, unit)
    image = sensor.wet_road(image, TRAIN_IDS[parts] == 0, camera.horizon, style)
    image = sensor.light(image, glows.take(paints), style, unit)
    image = sensor.fog(image, depth, style)
    image = sensor.precipitation(rng, image, style, unit)
    return sensor.record(rng, image, style, unit), parts
