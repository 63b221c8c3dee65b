"""Pedestrians, riders and their two-wheelers."""

from gkd.mini.colours import BODYWORK, CLOTHES, SKIN, TYRE, shade
from gkd.mini.parts import PART
from gkd.mini.scene import Scene


def body(scene: Scene, part: int, x: float, foot: float, z: float) -> None:
    """A human figure: legs, trunk, arms and head, standing at height `foot`."""
    canvas, camera, dice, _ = scene
    tall = dice.uniform(1.55, 1.85)
    trousers = canvas.paint(part, shade(dice.choice(CLOTHES), 0.6), z)
    coat = canvas.paint(part, dice.choice(CLOTHES), z, (0.1, 0.1, 0.0), snow=0.1)
    skin = canvas.paint(part, dice.choice(SKIN), z)
    px, py = camera.point(x, foot, z)
    unit = camera.size(tall, z)
    stride = unit * dice.uniform(0.03, 0.12)
    leg = unit * 0.09
    for sign in (-1, 1):
        canvas.line([(px, py - unit * 0.5), (px + sign * stride, py)], leg, trousers)
    shoulder, hip, waist, neck = unit * 0.14, unit * 0.1, py - unit * 0.42, py - unit * 0.82
    canvas.polygon([(px - shoulder, neck), (px + shoulder, neck), (px + hip, waist), (px - hip, waist)], coat)
    canvas.line([(px - unit * 0.13, py - unit * 0.8), (px - unit * 0.17, py - unit * 0.5)], unit * 0.06, coat)
    canvas.ellipse(px, py - unit * 0.91, unit * 0.065, unit * 0.085, skin)


def person(scene: Scene, x: float, z: float) -> None:
    """A pedestrian."""
    body(scene, PART["person"], x, 0.0, z)


def two_wheeler(scene: Scene, x: float, z: float, ridden: bool) -> None:
    """Bicycle or motorcycle seen from the side or obliquely, with or without its rider."""
    canvas, camera, dice, _ = scene
    kind = "bicycle" if dice.random() < 0.65 else "motorcycle"
    part = PART[kind]
    span = dice.uniform(0.35, 0.6)  # half the distance of the wheels; small = seen obliquely
    radius = 0.36
    tyre = canvas.paint(part, TYRE, z)
    frame = canvas.paint(part, dice.choice(BODYWORK[:3]), z)
    thick = camera.size(0.07 if kind == "bicycle" else 0.16, z)
    (ax, ay), (bx, by) = camera.point(x - span, radius, z), camera.point(x + span, radius, z)
    px, py = camera.point(x, 0.85, z)
    rx, ry = camera.size(radius * span / 0.6, z), camera.size(radius, z)
    for cx, cy in ((ax, ay), (bx, by)):
        canvas.pen.ellipse((cx - rx, cy - ry, cx + rx, cy + ry), outline=tyre, width=max(1, round(thick)))
    canvas.line([(ax, ay), (px, py), (bx, by), (px, ay), (ax, ay)], thick, frame)
    canvas.line([(bx, by), camera.point(x + span * 0.8, 1.05, z)], thick, tyre)
    if kind == "motorcycle":
        canvas.ellipse(px, (py + ay) / 2, camera.size(span * 0.8, z), camera.size(0.22, z), frame)
    if ridden:
        rider = PART["bicyclist" if kind == "bicycle" else "motorcyclist"]
        body(scene, rider, x - 0.05, 0.35 if kind == "bicycle" else 0.3, z)
