"""Styles: everything that tells one miniature domain from another, as data.

Three groups of continuous fields: PALETTE (RGB offsets per group of parts), CONDITIONS (light, weather, sensor) and SCENE
(statistics and geometry). `RANGES` holds the interval of each field; distances are measured in those units.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

Triple = tuple[float, float, float]
RGB = (0, 1, 2)
IRRG = (3, 0, 1)  # infrared in the R slot, R in G, G in B


@dataclass(frozen=True)
class Style:
    """Appearance and statistics of one domain. Colours are offsets to reflectances in [0, 1]; lengths are metres."""

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


PALETTE = ("ground", "building", "vegetation", "terrain", "sky", "thing")
CONDITIONS = (
    "saturation",
    "contrast",
    "texture",
    "texture_scale",
    "gain",
    "gamma",
    "gradient",
    "night",
    "lamps",
    "fog",
)
CONDITIONS += ("rain", "snow", "noise", "blur", "vignette", "cast")
SCENE = (
    "cars",
    "trees",
    "people",
    "furniture",
    "camera_height",
    "horizon",
    "offset",
    "focal",
    "storeys",
    "ego",
)
SCENE += ("pixel", "rotation", "pitched", "built")
WEATHER = ("night", "fog", "rain", "snow")

RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(PALETTE, (-0.16, 0.16)),
    **dict(saturation=(0.35, 1.5), contrast=(0.7, 1.3), texture=(0.4, 1.9), texture_scale=(0.6, 2.2)),
    **dict(gain=(0.65, 1.3), gamma=(0.7, 1.5), gradient=(-0.5, 0.5), night=(0.0, 0.85), lamps=(0.4, 1.5)),
    **dict(fog=(0.0, 0.06), rain=(0.0, 1.0), snow=(0.0, 1.0), noise=(0.0, 0.06), blur=(0.0, 0.9)),
    **dict(vignette=(0.0, 0.6), cast=(-0.14, 0.14), cars=(0.1, 1.0), trees=(0.1, 1.0), people=(0.1, 1.0)),
    **dict(furniture=(0.2, 1.0), camera_height=(1.1, 2.4), horizon=(0.3, 0.55), offset=(-1.0, 2.5)),
    **dict(focal=(0.5, 1.0), storeys=(1.5, 6.0), ego=(0.0, 0.12), pixel=(0.3, 0.9), rotation=(0.0, 1.0)),
    **dict(pitched=(0.0, 1.0), built=(0.2, 0.9)),
}

_POTSDAM = Style(
    kind="overhead", ground=(0.02, 0.01, 0.0), building=(0.03, -0.02, -0.02), vegetation=(-0.02, -0.02, -0.02),
    terrain=(0.02, 0.02, 0.0), gain=1.05, noise=0.012, blur=0.3, pixel=0.4, rotation=0.25, pitched=0.45, built=0.65,
    cars=0.6, trees=0.45,
)  # fmt: skip

DOMAIN_STYLES: dict[str, Style] = {
    "gtav": Style(
        ground=(0.02, 0.0, -0.02), building=(0.07, 0.03, -0.03), vegetation=(0.0, 0.04, -0.06), sky=(-0.04, 0.02, 0.1),
        terrain=(0.08, 0.03, -0.04), saturation=1.3, contrast=1.15, texture=0.7, texture_scale=1.0, gain=1.1, gamma=0.95,
        noise=0.004, blur=0.15, cast=(0.03, 0.0, -0.03), cars=0.55, people=0.4, trees=0.4, furniture=0.55,
        camera_height=1.6, horizon=0.44, offset=1.8, focal=0.72, storeys=3.5, ego=0.03, jitter=0.02,
    ),
    "cityscapes": Style(
        ground=(0.0, 0.01, 0.02), building=(-0.04, -0.03, -0.02), vegetation=(-0.03, -0.02, -0.01), sky=(0.07, 0.06, 0.0),
        terrain=(-0.04, 0.0, -0.02), saturation=0.6, contrast=0.9, texture=1.1, texture_scale=1.2, gain=1.0, gamma=1.0,
        noise=0.018, blur=0.45, vignette=0.25, cast=(-0.05, 0.04, -0.01), cars=0.65, people=0.7, trees=0.6,
        furniture=0.7, camera_height=1.3, horizon=0.4, offset=0.9, focal=0.82, storeys=4.5, ego=0.09, jitter=0.02,
    ),
    "bdd100k": Style(
        ground=(0.05, 0.04, 0.03), building=(0.02, 0.0, 0.04), vegetation=(0.05, -0.01, 0.0), sky=(0.1, 0.04, -0.08),
        terrain=(0.1, 0.05, 0.0), saturation=0.8, contrast=1.2, texture=0.9, texture_scale=1.5, gain=0.95, gamma=1.35,
        gradient=0.35, night=0.12, fog=0.008, noise=0.03, blur=0.6, vignette=0.35, cast=(0.06, 0.0, 0.05), cars=0.75,
        people=0.4, trees=0.5, furniture=0.6, camera_height=1.45, horizon=0.46, offset=0.2, focal=0.65, storeys=3.0,
        ego=0.07, jitter=0.07,
    ),
    "mapillary": Style(
        ground=(-0.03, -0.02, 0.0), building=(0.05, 0.06, 0.05), vegetation=(-0.04, 0.05, 0.03), sky=(-0.08, 0.0, 0.03),
        terrain=(-0.02, 0.06, -0.05), saturation=1.1, contrast=1.05, texture=1.5, texture_scale=0.8, gain=1.0, gamma=0.8,
        gradient=-0.25, noise=0.012, blur=0.25, vignette=0.1, cast=(-0.05, 0.01, 0.07), cars=0.5, people=0.55, trees=0.65,
        furniture=0.75, camera_height=1.9, horizon=0.48, offset=0.5, focal=0.58, storeys=2.5, ego=0.01, jitter=0.08,
    ),
    "acdc-night": Style(
        building=(0.04, 0.0, -0.04), sky=(-0.05, -0.05, 0.0), saturation=0.85, texture=1.2, gain=1.0, gamma=0.75,
        night=0.72, lamps=1.0, noise=0.035, blur=0.5, vignette=0.2, cast=(0.08, 0.0, -0.04), cars=0.5, people=0.4,
        trees=0.5, furniture=0.8, camera_height=1.35, horizon=0.42, offset=0.9, focal=0.8, storeys=3.5, ego=0.08,
        jitter=0.03,
    ),
    "acdc-snow": Style(
        ground=(0.03, 0.03, 0.05), building=(0.0, 0.0, 0.03), vegetation=(-0.03, -0.05, 0.0), sky=(0.12, 0.12, 0.06),
        saturation=0.5, contrast=0.9, texture=1.1, gain=0.98, gamma=0.95, fog=0.012, snow=0.85, noise=0.02, blur=0.5,
        vignette=0.1, cast=(-0.04, 0.0, 0.06), cars=0.5, people=0.4, trees=0.6, furniture=0.6, camera_height=1.35,
        horizon=0.42, offset=0.9, focal=0.8, storeys=3.5, ego=0.08, jitter=0.03,
    ),
    "acdc-fog": Style(
        ground=(0.02, 0.03, 0.03), building=(-0.02, 0.0, 0.0), vegetation=(0.0, -0.03, 0.0), sky=(0.12, 0.12, 0.08),
        saturation=0.55, contrast=0.8, texture=0.9, gain=0.9, gamma=1.1, fog=0.045, noise=0.02, blur=0.65, vignette=0.2,
        cast=(0.0, 0.02, 0.02), cars=0.5, people=0.4, trees=0.7, furniture=0.6, camera_height=1.35, horizon=0.42,
        offset=0.9, focal=0.8, storeys=2.5, ego=0.08, jitter=0.03,
    ),
    "acdc-rain": Style(
        ground=(-0.07, -0.05, -0.03), building=(-0.04, -0.03, 0.0), vegetation=(-0.03, -0.02, 0.02), sky=(0.05, 0.05, 0.0),
        saturation=0.65, contrast=1.05, texture=1.1, gain=0.95, gamma=0.95, fog=0.01, rain=0.8, noise=0.028, blur=0.5,
        vignette=0.2, cast=(-0.04, 0.01, 0.06), cars=0.6, people=0.4, trees=0.6, furniture=0.7, camera_height=1.35,
        horizon=0.42, offset=0.9, focal=0.8, storeys=3.5, ego=0.08, jitter=0.03,
    ),
    "potsdam-rgb": _POTSDAM,
    "potsdam-irrg": replace(_POTSDAM, bands=IRRG),  # the same ground, seen through other bands
    "vaihingen-irrg": Style(
        kind="overhead", bands=IRRG, ground=(-0.05, -0.02, 0.02), building=(0.1, -0.01, -0.05), vegetation=(0.03, 0.05, 0.0),
        terrain=(-0.03, 0.05, 0.02), thing=(0.0, 0.03, 0.06), saturation=1.15, contrast=1.15, texture=1.4,
        texture_scale=0.8, gain=0.95, gamma=1.15, gradient=0.1, noise=0.025, blur=0.45, cast=(0.05, -0.02, 0.03),
        pixel=0.7, rotation=0.8, pitched=0.95, built=0.7, cars=0.45, trees=0.7, jitter=0.03,
    ),
}  # fmt: skip

NARROW_STYLE = Style(
    ground=(0.06, 0.05, 0.04), building=(0.05, 0.02, -0.02), vegetation=(-0.03, 0.03, -0.03), terrain=(0.03, 0.04, -0.03),
    sky=(-0.06, 0.0, 0.05), thing=(0.02, 0.0, 0.0), saturation=1.15, contrast=1.05, texture=0.8, gain=1.02, noise=0.008,
    blur=0.2, furniture=0.6, people=0.5, cars=0.6, jitter=0.02,
)  # fmt: skip

MIN_DISTANCE = 0.2  # least root-mean-square distance of a broad style to a domain, in palette and in conditions


def _values(style: Style, fields: tuple[str, ...]) -> np.ndarray:
    """Continuous fields as one vector, each scaled to [0, 1] by its range."""
    scaled = []
    for field in fields:
        low, high = RANGES[field]
        scaled.append((np.atleast_1d(getattr(style, field)) - low) / (high - low))
    return np.concatenate(scaled)


def distance(a: Style, b: Style) -> float:
    """How near two styles are: the smaller of the RMS distances of palette and conditions; infinite across kinds."""
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


def draw_broad(rng: np.random.Generator, kind: str) -> Style:
    """One draw from the full ranges, before anything is left out. Each kind of weather occurs in a third of the draws."""
    values: dict[str, float | Triple] = {}
    for field, (low, high) in RANGES.items():
        draw = rng.uniform(low, high, 3 if field in PALETTE or field == "cast" else 1)
        values[field] = tuple(draw.tolist()) if draw.size == 3 else float(draw[0])
        if field in WEATHER and rng.random() > (1 / 3 if kind == "street" else 0.1):
            values[field] = 0.0
    bands = RGB
    if kind == "overhead":
        for field in WEATHER:
            values[field] = 0.0
        while (bands := tuple(rng.permutation(4)[:3].tolist())) == IRRG:
            pass
        bands = RGB if rng.random() < 0.4 else bands
    return Style(kind=kind, bands=bands, jitter=0.0, **values)


def broad_style(rng: np.random.Generator, kind: str | None = None) -> Style:
    """A style from wide ranges that leaves out every domain of the suite.

    Draws nearer than MIN_DISTANCE to a domain in palette or in conditions are drawn again; the IRRG band order never
    occurs. kind: "street", "overhead" or None (street in two draws of three).
    """
    if kind is None:
        kind = "street" if rng.random() < 2 / 3 else "overhead"
    if kind not in ("street", "overhead"):
        raise ValueError(f"kind: expected 'street' or 'overhead', got {kind!r}")
    while True:
        style = draw_broad(rng, kind)
        if all(distance(style, domain) >= MIN_DISTANCE for domain in DOMAIN_STYLES.values()):
            return style


def narrow_style(rng: np.random.Generator, kind: str = "street") -> Style:
    """NARROW_STYLE with its jitter: one look only, on which a weak student is pretrained."""
    return replace(jittered(replace(NARROW_STYLE, kind=kind), rng), jitter=0.0)
