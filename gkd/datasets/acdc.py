"""ACDC: Cityscapes classes at night, in snow, fog and rain. A split is condition and part: "night-val"."""

from gkd.data.domains import Domain
from gkd.data.layout import About, Layout
from gkd.data.pairing import Place

_CONDITIONS = ("night", "snow", "fog", "rain")
TARGETS = tuple(Domain(f"acdc-{condition}", "acdc", f"{condition}-val") for condition in _CONDITIONS)

ACDC = Layout(
    name="acdc",
    places=(Place("rgb_anon/{split}/*_rgb_anon.png", "gt/{split}/*_gt_labelTrainIds.png", "cityscapes_train_ids"),),
    splits={f"{condition}-{part}": f"{condition}/{part}" for condition in _CONDITIONS for part in ("train", "val")},
    published={
        **{f"{condition}-train": 400 for condition in _CONDITIONS},
        **{f"{condition}-val": 100 for condition in _CONDITIONS},
        "night-val": 106,
    },
    about=About(
        url="https://acdc.vision.ee.ethz.ch (rgb_anon_trainvaltest.zip, gt_trainval.zip)",
        licence="non-commercial research, after registration",
        size="400 train images a condition; val: night 106, snow 100, fog 100, rain 100; all 1920x1080",
    ),
)
