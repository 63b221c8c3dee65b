"""ACDC: Cityscapes classes at night, in snow, fog and rain. A split is condition and part: "night-val"."""

from gkd.data.layout import About, Layout
from gkd.data.pairing import Place


def _place(condition: str, part: str) -> Place:
    return Place(
        f"rgb_anon/{condition}/{part}",
        ("_rgb_anon.png",),
        f"gt/{condition}/{part}",
        "_gt_labelTrainIds.png",
        "cityscapes_train_ids",
    )


ACDC = Layout(
    name="acdc",
    folder="acdc",
    label_space="cityscapes",
    splits={
        f"{condition}-{part}": (_place(condition, part),)
        for condition in ("night", "snow", "fog", "rain")
        for part in ("train", "val")
    },
    about=About(
        url="https://acdc.vision.ee.ethz.ch (rgb_anon_trainvaltest.zip, gt_trainval.zip)",
        licence="non-commercial research, after registration",
        size="400 train images a condition; val: night 106, snow 100, fog 100, rain 100; all 1920x1080",
        tree="rgb_anon/{night,snow,fog,rain}/{train,val}/<seq>/<seq>_frame_<n>_rgb_anon.png\n"
        "gt/{night,snow,fog,rain}/{train,val}/<seq>/<seq>_frame_<n>_gt_labelTrainIds.png",
    ),
)
