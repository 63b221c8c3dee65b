"""ACDC: Cityscapes classes at night, in snow, fog and rain. A split is condition and part: "night_val"."""

from gkd.data.domains import Domain
from gkd.data.layout import About, Layout, Place

_CONDITIONS = {"night": 106, "snow": 100, "fog": 100, "rain": 100}  # images of val
TARGETS = tuple(Domain(f"acdc_{condition}", "acdc", f"{condition}_val") for condition in _CONDITIONS)

ACDC = Layout(
    name="acdc",
    places=(Place("rgb_anon/{split}/*_rgb_anon.png", "gt/{split}/*_gt_labelTrainIds.png", "cityscapes_train_ids"),),
    splits={f"{condition}_{part}": f"{condition}/{part}" for condition in _CONDITIONS for part in ("train", "val")},
    published={f"{c}_train": 400 for c in _CONDITIONS} | {f"{c}_val": count for c, count in _CONDITIONS.items()},
    about=About(
        url="https://acdc.vision.ee.ethz.ch (rgb_anon_trainvaltest.zip, gt_trainval.zip)",
        licence="non-commercial research, after registration",
        size="400 train images a condition; val: night 106, snow 100, fog 100, rain 100; all 1920x1080",
    ),
)
