"""Who is where on road and pavement."""

from collections.abc import Callable, Iterator
from functools import partial

from gkd.mini.colours import GREEN, shade
from gkd.mini.furniture import pole, sign, traffic_light, trash_can, tree
from gkd.mini.people import person, two_wheeler
from gkd.mini.scene import Scene
from gkd.mini.vehicles import vehicle

Job = tuple[float, Callable[[], None]]
GAPS = {"car": 7, "truck": 12, "bus": 15, "train": 30}  # least distance to the next vehicle of a lane, m


def traffic(scene: Scene, road: float, walk: float) -> Iterator[Job]:
    """Depth and drawing call of all that stands or moves; half the road and a pavement are that wide (m)."""
    yield from _vehicles(scene, road)
    yield from _people(scene, road, walk)
    yield from _furniture(scene, road, walk)


def _count(scene: Scene, mean: float) -> int:
    """A whole number of things, `mean` on average, less a half."""
    return int(mean + scene.dice.random())


def _vehicles(scene: Scene, road: float) -> Iterator[Job]:
    """Two lanes of traffic, and cars parked along the curbs."""
    dice, cars = scene.dice, scene.style.cars
    for lane in (-road * 0.45, road * 0.45):
        z = dice.uniform(7, 18)
        while z < 70:
            (kind,) = dice.choices(tuple(GAPS), (10, 1.6, 1.5, 0.6))
            if dice.random() < 0.25 + 0.6 * cars:
                yield z, partial(vehicle, scene, kind, lane + dice.uniform(-0.3, 0.3), z)
            z += GAPS[kind] + dice.expovariate(1 / 10)
    for side in (-1, 1):
        z = dice.uniform(4, 12)
        while z < 50 and dice.random() < 0.45 + 0.4 * cars:
            yield z, partial(vehicle, scene, "car", side * (road - 1.0), z)
            z += dice.uniform(5.2, 9)


def _people(scene: Scene, road: float, walk: float) -> Iterator[Job]:
    """Pedestrians (one in five on the road), riders on the road, parked two-wheelers on the pavement."""
    dice, people = scene.dice, scene.style.people

    def pavement(near: float, far: float) -> float:
        return dice.choice((-1, 1)) * (road + walk * dice.uniform(near, far))

    for _ in range(_count(scene, 9 * people)):
        z = dice.uniform(4.5, 14) if dice.random() < 0.5 else dice.uniform(10, 35)
        x = pavement(0.15, 0.95)
        yield z, partial(person, scene, x if dice.random() < 0.8 else dice.uniform(-road, road), z)
    for _ in range(_count(scene, 3.5 * people)):
        z = dice.uniform(4.5, 18)
        yield z, partial(two_wheeler, scene, dice.uniform(-road, road), z, True)
    for _ in range(_count(scene, 3 * people)):
        z = dice.uniform(4, 14)
        yield z, partial(two_wheeler, scene, pavement(0.2, 0.9), z, False)


def _furniture(scene: Scene, road: float, walk: float) -> Iterator[Job]:
    """Poles, signs, lights and trees on both pavements; now and then a bin."""
    dice, style = scene.dice, scene.style
    for side in (-1, 1):
        edge = side * (road + 0.5)
        z = dice.uniform(5, 12)
        while z < 60:
            if dice.random() < 0.3 + 0.6 * style.furniture:
                yield z, partial(pole, scene, edge, z)
            z += dice.uniform(9, 18)
        for _ in range(_count(scene, 2.2 * style.furniture)):
            z = dice.uniform(5, 18)
            yield z, partial(sign, scene, edge + dice.uniform(-0.2, 0.6), z)
        for _ in range(_count(scene, 1.6 * style.furniture)):
            z = dice.uniform(6, 18)
            yield z, partial(traffic_light, scene, edge, z)
        for _ in range(_count(scene, 2.2 * style.trees)):
            z = dice.uniform(8, 40)
            green = shade(GREEN, dice.uniform(0.8, 1.2), style.vegetation)
            yield z, partial(tree, scene, side * (road + walk * 0.8), z, green)
    if dice.random() < 0.3:
        z = dice.uniform(5, 12)
        yield z, partial(trash_can, scene, road + 1.2, z)
