"""Colours that several kinds of things share: reflectances in [0, 1], and texture weights."""

from collections.abc import Sequence

Colour = Sequence[float]

BODYWORK = (
    (0.75, 0.1, 0.1), (0.12, 0.2, 0.55), (0.85, 0.85, 0.85), (0.1, 0.1, 0.11), (0.5, 0.52, 0.55),
    (0.65, 0.6, 0.4), (0.15, 0.4, 0.3), (0.8, 0.45, 0.1),
)  # fmt: skip
FACADES = (
    (0.62, 0.55, 0.46), (0.5, 0.27, 0.2), (0.55, 0.56, 0.58), (0.7, 0.66, 0.58), (0.42, 0.4, 0.4),
    (0.66, 0.5, 0.32),
)  # fmt: skip
CLOTHES = (
    (0.7, 0.15, 0.2), (0.15, 0.2, 0.5), (0.1, 0.1, 0.1), (0.8, 0.75, 0.2), (0.8, 0.8, 0.8), (0.2, 0.5, 0.45),
)  # fmt: skip
SKIN = ((0.8, 0.6, 0.48), (0.5, 0.33, 0.24), (0.68, 0.48, 0.36))
GLASS = (0.13, 0.17, 0.22)
TYRE = (0.05, 0.05, 0.05)
METAL = (0.36, 0.37, 0.38)
GREEN = (0.2, 0.33, 0.12)
LEAVES = (0.5, 0.9, 0.6)  # texture weights: fine, middle, coarse


def shade(colour: Colour, factor: float, tint: Colour = (0.0, 0.0, 0.0)) -> tuple[float, ...]:
    """Colour plus tint, times a factor."""
    return tuple((c + t) * factor for c, t in zip(colour, tint, strict=True))
