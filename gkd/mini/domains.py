"""The styles of the suite's domains, as data.

The sources (gtav, cityscapes, potsdam_rgb) vary little from scene to scene. The dev domains, one for each source, are
about as far from it as its targets: all tuning is done on them.
"""

from dataclasses import replace

from gkd.mini.style import IRRG, Style

_POTSDAM = Style(
    kind="overhead", ground=(0.02, 0.01, 0.0), building=(0.03, -0.02, -0.02),
    vegetation=(-0.02, -0.02, -0.02), terrain=(0.02, 0.02, 0.0), gain=1.05, noise=0.012, blur=0.3,
    pixel=0.4, rotation=0.25, pitched=0.45, built=0.65, cars=0.6, trees=0.45,
)  # fmt: skip

DOMAIN_STYLES: dict[str, Style] = {
    "gtav": Style(
        ground=(0.02, 0.0, -0.02), building=(0.07, 0.03, -0.03), vegetation=(0.0, 0.04, -0.06),
        sky=(-0.04, 0.02, 0.1), terrain=(0.08, 0.03, -0.04), saturation=1.3, contrast=1.15, texture=0.7,
        texture_scale=1.0, gain=1.1, gamma=0.95, noise=0.004, blur=0.15, cast=(0.03, 0.0, -0.03), cars=0.55,
        people=0.4, trees=0.4, furniture=0.55, camera_height=1.6, horizon=0.44, offset=1.8, focal=0.72,
        storeys=3.5, ego=0.03, jitter=0.02,
    ),
    "cityscapes": Style(
        ground=(0.0, 0.01, 0.02), building=(-0.04, -0.03, -0.02), vegetation=(-0.03, -0.02, -0.01),
        sky=(0.07, 0.06, 0.0), terrain=(-0.04, 0.0, -0.02), saturation=0.6, contrast=0.9, texture=1.1,
        texture_scale=1.2, gain=1.0, gamma=1.0, noise=0.018, blur=0.45, vignette=0.25,
        cast=(-0.05, 0.04, -0.01), cars=0.65, people=0.7, trees=0.6, furniture=0.7, camera_height=1.3,
        horizon=0.4, offset=0.9, focal=0.82, storeys=4.5, ego=0.09, jitter=0.02,
    ),
    "bdd100k": Style(
        ground=(0.05, 0.04, 0.03), building=(0.02, 0.0, 0.04), vegetation=(0.05, -0.01, 0.0),
        sky=(0.1, 0.04, -0.08), terrain=(0.1, 0.05, 0.0), saturation=0.8, contrast=1.2, texture=0.9,
        texture_scale=1.5, gain=0.95, gamma=1.35, gradient=0.35, night=0.12, fog=0.008, noise=0.03,
        blur=0.6, vignette=0.35, cast=(0.06, 0.0, 0.05), cars=0.75, people=0.4, trees=0.5, furniture=0.6,
        camera_height=1.45, horizon=0.46, offset=0.2, focal=0.65, storeys=3.0, ego=0.07, jitter=0.07,
    ),
    "mapillary": Style(
        ground=(-0.03, -0.02, 0.0), building=(0.05, 0.06, 0.05), vegetation=(-0.04, 0.05, 0.03),
        sky=(-0.08, 0.0, 0.03), terrain=(-0.02, 0.06, -0.05), saturation=1.1, contrast=1.05, texture=1.5,
        texture_scale=0.8, gain=1.0, gamma=0.8, gradient=-0.25, noise=0.012, blur=0.25, vignette=0.1,
        cast=(-0.05, 0.01, 0.07), cars=0.5, people=0.55, trees=0.65, furniture=0.75, camera_height=1.9,
        horizon=0.48, offset=0.5, focal=0.58, storeys=2.5, ego=0.01, jitter=0.08,
    ),
    "acdc_night": Style(
        building=(0.04, 0.0, -0.04), sky=(-0.05, -0.05, 0.0), saturation=0.85, texture=1.2, gain=1.0,
        gamma=0.75, night=0.72, lamps=1.0, noise=0.035, blur=0.5, vignette=0.2, cast=(0.08, 0.0, -0.04),
        cars=0.5, people=0.4, trees=0.5, furniture=0.8, camera_height=1.35, horizon=0.42, offset=0.9,
        focal=0.8, storeys=3.5, ego=0.08, jitter=0.03,
    ),
    "acdc_snow": Style(
        ground=(0.03, 0.03, 0.05), building=(0.0, 0.0, 0.03), vegetation=(-0.03, -0.05, 0.0),
        sky=(0.12, 0.12, 0.06), saturation=0.5, contrast=0.9, texture=1.1, gain=0.98, gamma=0.95, fog=0.012,
        snow=0.85, noise=0.02, blur=0.5, vignette=0.1, cast=(-0.04, 0.0, 0.06), cars=0.5, people=0.4,
        trees=0.6, furniture=0.6, camera_height=1.35, horizon=0.42, offset=0.9, focal=0.8, storeys=3.5,
        ego=0.08, jitter=0.03,
    ),
    "acdc_fog": Style(
        ground=(0.02, 0.03, 0.03), building=(-0.02, 0.0, 0.0), vegetation=(0.0, -0.03, 0.0),
        sky=(0.12, 0.12, 0.08), saturation=0.55, contrast=0.8, texture=0.9, gain=0.9, gamma=1.1, fog=0.045,
        noise=0.02, blur=0.65, vignette=0.2, cast=(0.0, 0.02, 0.02), cars=0.5, people=0.4, trees=0.7,
        furniture=0.6, camera_height=1.35, horizon=0.42, offset=0.9, focal=0.8, storeys=2.5, ego=0.08,
        jitter=0.03,
    ),
    "acdc_rain": Style(
        ground=(-0.07, -0.05, -0.03), building=(-0.04, -0.03, 0.0), vegetation=(-0.03, -0.02, 0.02),
        sky=(0.05, 0.05, 0.0), saturation=0.65, contrast=1.05, texture=1.1, gain=0.95, gamma=0.95, fog=0.01,
        rain=0.8, noise=0.028, blur=0.5, vignette=0.2, cast=(-0.04, 0.01, 0.06), cars=0.6, people=0.4,
        trees=0.6, furniture=0.7, camera_height=1.35, horizon=0.42, offset=0.9, focal=0.8, storeys=3.5,
        ego=0.08, jitter=0.03,
    ),
    "potsdam_rgb": _POTSDAM,
    "potsdam_irrg": replace(_POTSDAM, bands=IRRG),  # the same ground, seen through other bands
    "vaihingen_irrg": Style(
        kind="overhead", bands=IRRG, ground=(-0.05, -0.02, 0.02), building=(0.1, -0.01, -0.05),
        vegetation=(0.03, 0.05, 0.0), terrain=(-0.03, 0.05, 0.02), thing=(0.0, 0.03, 0.06), saturation=1.15,
        contrast=1.15, texture=1.4, texture_scale=0.8, gain=0.95, gamma=1.15, gradient=0.1, noise=0.025,
        blur=0.45, cast=(0.05, -0.02, 0.03), pixel=0.7, rotation=0.8, pitched=0.95, built=0.7, cars=0.45,
        trees=0.7, jitter=0.03,
    ),
    "dev_street": Style(
        ground=(0.06, 0.03, -0.01), building=(-0.03, 0.04, 0.07), vegetation=(0.06, 0.03, 0.02),
        sky=(0.03, -0.05, -0.06), terrain=(0.03, -0.04, 0.05), thing=(0.03, -0.03, 0.02), saturation=0.7,
        contrast=0.95, texture=1.3, texture_scale=1.5, gain=0.9, gamma=1.15, gradient=0.2, fog=0.01,
        noise=0.022, blur=0.45, vignette=0.25, cast=(0.04, -0.04, 0.06), cars=0.6, people=0.5, trees=0.55,
        furniture=0.65, camera_height=2.1, horizon=0.39, offset=-0.3, focal=0.66, storeys=5.0, ego=0.05,
        jitter=0.06,
    ),
    "dev_weather": Style(
        ground=(0.02, -0.02, 0.04), building=(0.03, 0.03, 0.05), vegetation=(0.03, -0.02, 0.04),
        sky=(-0.03, 0.04, 0.08), terrain=(0.03, 0.02, 0.04), saturation=0.6, contrast=0.95, texture=1.2,
        texture_scale=1.0, gain=0.95, gamma=0.9, night=0.4, lamps=1.1, fog=0.022, rain=0.45, snow=0.3,
        noise=0.03, blur=0.55, vignette=0.25, cast=(0.03, -0.03, 0.06), cars=0.5, people=0.45, trees=0.6,
        furniture=0.65, camera_height=1.4, horizon=0.42, offset=0.8, focal=0.78, storeys=4.0, ego=0.07,
        jitter=0.04,
    ),
    "dev_overhead": Style(
        kind="overhead", bands=(2, 3, 0), ground=(0.05, 0.0, -0.03), building=(-0.04, 0.05, 0.06),
        vegetation=(-0.03, 0.02, 0.04), terrain=(0.06, -0.04, -0.03), thing=(0.03, -0.03, 0.0), saturation=0.85,
        contrast=0.9, texture=0.7, texture_scale=1.5, gain=1.1, gamma=0.9, gradient=-0.2, noise=0.02, blur=0.5,
        cast=(-0.04, 0.03, 0.04), pixel=0.55, rotation=0.6, pitched=0.7, built=0.5, cars=0.5, trees=0.55,
        jitter=0.03,
    ),
}  # fmt: skip

# One look only, of no domain: the weak student is pretrained on it.
NARROW_STYLE = Style(
    ground=(0.06, 0.05, 0.04), building=(0.05, 0.02, -0.02), vegetation=(-0.03, 0.03, -0.03),
    terrain=(0.03, 0.04, -0.03), sky=(-0.06, 0.0, 0.05), thing=(0.02, 0.0, 0.0), saturation=1.15,
    contrast=1.05, texture=0.8, gain=1.02, noise=0.008, blur=0.2, furniture=0.6, people=0.5, cars=0.6,
    jitter=0.02,
)  # fmt: skip
