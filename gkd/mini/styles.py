"""Where scenes get their look: the suite's domains, one narrow style, or broad draws without the domains."""

from dataclasses import replace

import numpy as np

from gkd.mini.domains import DOMAIN_STYLES, NARROW_STYLE
from gkd.mini.style import PALETTE, RANGES, RGB, WEATHER, Style, Triple, distance, jittered

SHARES = (0.3, 0.9)  # how far broad styles go from the narrow one towards a uniform draw
MIN_DISTANCE = 0.12  # least distance of a broad style to every domain, see `style.distance`
OF_DOMAINS = {style.bands for style in DOMAIN_STYLES.values()} - {RGB}  # orders of bands that broad styles leave out


def draw_broad(rng: np.random.Generator, kind: str) -> Style:
    """One draw from the full ranges, before anything is left out.

    Every field lies between NARROW_STYLE and a uniform draw, at one random share of the way: a mixture of mild and
    extreme looks, which small models learn from in fewer steps than from extreme ones alone. On streets each kind of
    weather occurs in a third of the draws; overhead scenes have none.
    """
    share = rng.uniform(*SHARES)
    values: dict[str, float | Triple] = {}
    for field, (low, high) in RANGES.items():
        draw = rng.uniform(low, high, 3 if field in PALETTE or field == "cast" else 1)
        start = np.atleast_1d(getattr(NARROW_STYLE, field))
        blended = start + share * (draw - start)
        values[field] = tuple(blended.tolist()) if blended.size == 3 else float(blended[0])
        if field in WEATHER and rng.random() > 1 / 3:
            values[field] = 0.0
    bands = RGB
    if kind == "overhead":
        for field in WEATHER:
            values[field] = 0.0
        while (bands := tuple(rng.permutation(4)[:3].tolist())) in OF_DOMAINS:
            pass
        bands = RGB if rng.random() < 0.4 else bands
    return Style(kind=kind, bands=bands, jitter=0.0, **values)


def broad_style(rng: np.random.Generator, kind: str) -> Style:
    """A style from wide ranges, of "street" or "overhead", that leaves out every domain of the suite.

    Draws nearer than MIN_DISTANCE to a domain in palette or in conditions are drawn again; orders of bands that a
    domain has, other than RGB, never occur.
    """
    while True:
        style = draw_broad(rng, kind)
        if all(distance(style, domain) >= MIN_DISTANCE for domain in DOMAIN_STYLES.values()):
            return style


def narrow_style(rng: np.random.Generator, kind: str) -> Style:
    """NARROW_STYLE with its jitter: one look only, on which a weak student is pretrained."""
    return replace(jittered(replace(NARROW_STYLE, kind=kind), rng), jitter=0.0)
