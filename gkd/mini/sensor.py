"""Light, weather and sensor: what happens to a scene's colours between the ground and the file.

Images are float32 (3, H, W): with channels first, numpy broadcasts maps and colours several times faster.
`unit` is the number of pixels of this image per pixel of the 64-pixel reference.
"""

import math

import numpy as np
from PIL import Image

from gkd.mini.style import Style
from gkd.mini.texture import enlarge, value_noise


def _colour(r: float, g: float, b: float) -> np.ndarray:
    return np.array([r, g, b], np.float32)[:, None, None]


LAMP, MOON = _colour(1.0, 0.82, 0.55), _colour(0.75, 0.85, 1.15)
AIR, WHITE = _colour(0.78, 0.80, 0.82), _colour(0.86, 0.89, 0.94)
WEIGHTS = _colour(0.3, 0.59, 0.11)


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Blur (..., H, W) by passes of a three-tap kernel, whose variance is twice its outer weight."""
    passes = max(1, math.ceil(sigma**2 / 0.6))
    outer = sigma**2 / 2 / passes
    for _ in range(passes):
        for axis in (-1, -2):
            x = np.moveaxis(image, axis, -1)
            out = x * np.float32(1 - 2 * outer)
            out[..., 1:] += outer * x[..., :-1]
            out[..., :-1] += outer * x[..., 1:]
            out[..., 0] += outer * x[..., 0]
            out[..., -1] += outer * x[..., -1]
            image = np.moveaxis(out, -1, axis)
    return image


def halo(glow: np.ndarray, factor: int) -> np.ndarray:
    """Spread emission (H, W) over roughly 1.5 * factor pixels: shrunk, blurred and enlarged again."""
    height, width = glow.shape
    small = Image.fromarray(glow).resize((width // factor, height // factor), Image.Resampling.BOX)
    return enlarge(blur(np.asarray(small), 1.1), height, width)


def light(image: np.ndarray, glow: np.ndarray, style: Style, unit: float) -> np.ndarray:
    """Expose the scene: gain, left-to-right gradient and night, where only lamps and their halos give light.

    image: (3, H, W) reflectance; glow: (H, W) emission in [0, 1].
    """
    height, width = glow.shape
    lit = image * ((1 + style.gradient * np.linspace(-0.5, 0.5, width, dtype=np.float32)) * style.gain)
    if style.night > 0.02:
        lamps = (halo(glow, max(2, round(2 * unit))) * 2.5 + halo(glow, max(4, round(7 * unit))) * 4.0) * style.lamps
        # The own headlights keep the lower middle of the picture readable.
        rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        columns = np.linspace(-1, 1, width, dtype=np.float32)
        beam = np.exp(-((columns / 0.7) ** 2)) * np.exp(-(((rows - 0.55) / 0.45) ** 2)) * 0.5
        ambient = (1 - style.night) ** 2 + 0.16
        dark = lit * (ambient * MOON + (lamps + beam) * LAMP) + lamps * LAMP * 0.18
        weight = min(1.0, style.night * 2)
        lit = lit * (1 - weight) + dark * weight
    emission = glow * (0.25 + 0.75 * style.night)
    return lit * (1 - emission) + image * emission


def fog(image: np.ndarray, depth: np.ndarray, style: Style) -> np.ndarray:
    """Hide what is far: transmission exp(-fog * depth), depth (H, W) in metres."""
    if style.fog <= 0.0005:
        return image
    clear = np.exp(-style.fog * depth)
    return image * clear + AIR * (style.gain * (1 - 0.8 * style.night)) * (1 - clear)


def settle_snow(
    rng: np.random.Generator, image: np.ndarray, holds: np.ndarray, style: Style, unit: float
) -> np.ndarray:
    """Cover what holds snow ((H, W) in [0, 1]) in patches of white."""
    if style.snow <= 0.02:
        return image
    patches = value_noise(rng, *holds.shape, 3 * unit) * 0.35 + value_noise(rng, *holds.shape, unit) * 0.15
    # Half of the ground is covered where holds * snow reaches 0.5; the slope of 2 keeps the edges soft.
    cover = ((holds * style.snow + patches - 0.5) * 2 + 0.5).clip(0, 1) * (holds > 0)
    return image * (1 - cover) + (WHITE + 0.1 * patches) * cover


def wet_road(image: np.ndarray, is_road: np.ndarray, horizon: float, style: Style) -> np.ndarray:
    """Mirror in the road ((H, W) bool) what stands above the horizon row."""
    if style.rain <= 0.02:
        return image
    height = image.shape[1]
    rows = np.clip(2 * round(horizon) - np.arange(height), 0, height - 1)
    share = is_road * np.float32(0.55 * style.rain)
    return image * (1 - share) + image[:, rows] * share * 0.9


def precipitation(rng: np.random.Generator, image: np.ndarray, style: Style, unit: float) -> np.ndarray:
    """Rain streaks and snow flakes in the air."""
    _, height, width = image.shape
    veil = np.zeros((height, width), np.float32)
    if style.rain > 0.02:
        # The peaks of noise stretched along the columns are the streaks; rows are shifted for wind.
        grid = rng.random((max(2, round(height / (9 * unit))), round(width / unit)), dtype=np.float32)
        slant = np.arange(height)[:, None] // max(1, round(5 * unit))
        streaks = np.take_along_axis(enlarge(grid, height, width), (np.arange(width) + slant) % width, axis=1)
        veil += ((streaks - 0.72) * 3).clip(0, 1) * style.rain * 0.55
    if style.snow > 0.02:
        grid = rng.random((round(height / unit), round(width / unit)), dtype=np.float32)
        veil += enlarge((grid > 1 - 0.03 * style.snow).astype(np.float32), height, width) * 0.7
    if not veil.any():
        return image
    veil = veil.clip(0, 1)
    return image * (1 - veil) + 0.9 * style.gain * (1 - 0.6 * style.night) * veil


def record(rng: np.random.Generator, image: np.ndarray, style: Style, unit: float) -> np.ndarray:
    """Optics and electronics: colour, vignette, blur, gamma, noise; float32 (3, H, W) to uint8 (H, W, 3)."""
    _, height, width = image.shape
    grey = (image * WEIGHTS).sum(0)
    image = grey * (1 - style.saturation) + image * style.saturation
    if style.night < 0.3:  # the middle grey about which contrast turns would light up a night
        image = image * style.contrast + 0.45 * (1 - style.contrast)
    image = image * (1 + _colour(*style.cast))
    if style.vignette > 0.01:
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] ** 2
        x = np.linspace(-1, 1, width, dtype=np.float32) ** 2
        image = image * (1 - style.vignette * 0.5 * (x + y))
    if style.blur > 0.05:
        image = blur(image.clip(0, 1), style.blur * unit)
    curve = (255 * np.linspace(0, 1, 256) ** style.gamma + 0.5).astype(np.float32)  # half up: the cast truncates
    image = curve.take((image * 255).clip(0, 255).astype(np.uint8))
    # Uniform noise of the wanted standard deviation: four times faster than normal noise and as good here.
    noise = (rng.random(image.shape, dtype=np.float32) - 0.5) * (255 * math.sqrt(12) * style.noise)
    return np.ascontiguousarray((image + noise).clip(0, 255).astype(np.uint8).transpose(1, 2, 0))
