"""Style: everything that tells one miniature domain from another, as numbers.

Three groups of continuous fields: PALETTE (RGB offsets per kind of part), CONDITIONS (light, weather, sensor)
and the statistics and geometry of scenes. RANGES holds the interval of each field, the unit of distances.
"""

from dataclasses import dataclass, replace

import numpy as np

Triple = tuple[float, float, float]
RGB = (0, 1, 2)
IRRG = (3, 0, 1)  # infrared in the R slot, R in G, G in B


@dataclass(frozen=True)
class Style:
    """Appearance and statistics of one domain. Colours are offsets to reflectances in [0, 1]."""

    kind: str = "street"  # or "overhead"
    bands: tuple[int, int, int] = RGB  # which of R, G, B, IR the three channels show; overhead only
    jitter: float = 0.02  # standard deviation per scene of every continuous field, in units of its range
    # palette
    ground: Triple = (0.0, 0.0, 0.0)
    building: Triple = (0.0, 0.0, 0.0)
    vegetation: Triple = (0.0, 0.0, 0.0)
    terrain: Triple = (0.0, 0.0, 0.0)
    sky: Triple = (0.0, 0.0, 0.0)
    thing: Triple = (0.0, 0.0, 0.0)
    # conditions
    saturation: float = 1.0
    contrast: float = 1.0
    texture: float = 1.0  # strength
    texture_scale: float = 1.0  # grain size
    gain: float = 1.0
    gamma: float = 1.0
    gradient: float = 0.0
    night: float = 0.0  # 0 day, 1 no ambient light
    lamps: float = 1.0  # how far lamps reach at night
    fog: float = 0.0  # extinction, 1/m
    rain: float = 0.0
    snow: float = 0.0
    noise: float = 0.01  # standard deviation, of full scale
    blur: float = 0.3  # pixels at height 64
    vignette: float = 0.0
    cast: Triple = (0.0, 0.0, 0.0)
    # scene, both kinds
    cars: float = 0.5
    trees: float = 0.5
    # scene, street
    people: float = 0.5
    furniture: float = 0.5  # poles, lights, signs
    camera_height: float = 1.5
    horizon: float = 0.42  # share of the height
    offset: float = 1.0  # camera right of the road's middle, m
    focal: float = 0.75  # share of the width
    storeys: float = 3.5
    ego: float = 0.05  # height of the own bonnet, share of the height
    # scene, overhead
    pixel: float = 0.4  # ground size of a pixel at size 64, m
    rotation: float = 0.3  # largest turn of the street grid, in quarter turns
    pitched: float = 0.5  # share of pitched roofs
    built: float = 0.5  # how closely built


# fmt: off
PALETTE = ("ground", "building", "vegetation", "terrain", "sky", "thing")
CONDITIONS = (
    "saturation", "contrast", "texture", "texture_scale", "gain", "gamma", "gradient", "night", "lamps",
    "fog", "rain", "snow", "noise", "blur", "vignette", "cast",
)
WEATHER = ("night", "fog", "rain", "snow")
# fmt: on

RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(PALETTE, (-0.16, 0.16)),
    **dict(saturation=(0.35, 1.5), contrast=(0.7, 1.3), texture=(0.4, 1.9), texture_scale=(0.6, 2.2)),
    **dict(gain=(0.65, 1.3), gamma=(0.7, 1.5), gradient=(-0.5, 0.5), night=(0.0, 0.95), lamps=(0.4, 1.5)),
    **dict(fog=(0.0, 0.07), rain=(0.0, 1.0), snow=(0.0, 1.0), noise=(0.0, 0.06), blur=(0.0, 0.9)),
    **dict(vignette=(0.0, 0.6), cast=(-0.14, 0.14), cars=(0.1, 1.0), trees=(0.1, 1.0), people=(0.1, 1.0)),
    **dict(furniture=(0.2, 1.0), camera_height=(1.1, 2.4), horizon=(0.3, 0.55), offset=(-1.0, 2.5)),
    **dict(focal=(0.5, 1.0), storeys=(1.5, 6.0), ego=(0.0, 0.12), pixel=(0.3, 0.9), rotation=(0.0, 1.0)),
    **dict(pitched=(0.0, 1.0), built=(0.2, 0.9)),
}


def _values(style: Style, fields: tuple[str, ...]) -> np.ndarray:
    """Continuous fields as one vector, each scaled to [0, 1] by its range."""
    scaled = []
    for field in fields:
        low, high = RANGES[field]
        scaled.append((np.atleast_1d(getattr(style, field)) - low) / (high - low))
    return np.concatenate(scaled)


def distance(a: Style, b: Style) -> float:
    """How near two styles are, in units of RANGES: 0 = equal, about 0.4 for two uniform draws.

    The smaller of two root-mean-square distances, that of the palettes and that of the conditions; infinite
    between street and overhead.
    """
    if a.kind != b.kind:
        return float("inf")
    groups = (PALETTE, CONDITIONS)
    return min(float(np.sqrt(np.mean((_values(a, g) - _values(b, g)) ** 2))) for g in groups)


def jittered(style: Style, rng: np.random.Generator) -> Style:
    """The style of one scene: every continuous field moved a little. Weather that is absent stays absent."""
    if style.jitter == 0:
        return style
    changes: dict[str, float | Triple] = {}
    shifts = (rng.standard_normal((len(RANGES), 3)) * style.jitter).tolist()
    for (field, (low, high)), (a, b, c) in zip(RANGES.items(), shifts, strict=True):
        value, span = getattr(style, field), high - low
        if isinstance(value, tuple):
            changes[field] = (value[0] + a * span, value[1] + b * span, value[2] + c * span)
        elif field not in WEATHER or value > 0:
            changes[field] = min(max(value + a * span, low), high)
    return replace(style, **changes)
