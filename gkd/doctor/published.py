"""How many images the published datasets hold, by split, as their pages say. Our own parts of a split have no entry."""

_POTSDAM = {"train": 3_456, "val": 2_016}  # windows, 144 of each tile

COUNTS: dict[str, dict[str, int]] = {
    "proxy": {"train": 1_281_167},  # ImageNet-1k; any other folder of images serves as well
    "gtav": {"all": 24_964},  # 24,966 less two whose image and label differ in size
    "synthia": {"all": 9_400},
    "urbansyn": {"all": 7_539},
    "cityscapes": {"train": 2_975, "val": 500},
    "bdd100k": {"train": 7_000, "val": 1_000},
    "mapillary": {"train": 18_000, "val": 2_000},
    "acdc": {
        **{f"{condition}-train": 400 for condition in ("night", "snow", "fog", "rain")},
        "night-val": 106,
        "snow-val": 100,
        "fog-val": 100,
        "rain-val": 100,
    },
    "potsdam-rgb": _POTSDAM,
    "potsdam-irrg": _POTSDAM,
    "potsdam-rgb-exact": _POTSDAM,
    "potsdam-rgb-rescue": _POTSDAM,
    "potsdam-irrg-rescue": _POTSDAM,
    "vaihingen": {"train": 344, "val": 398},
    "rescuenet": {"train": 3_595, "val": 449, "test": 450},
    "camvid": {"val": 101},  # "day" and "dusk" are parts of the 367 of train
}
