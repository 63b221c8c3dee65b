"""ISPRS Potsdam as windows of 512x512: RGB and IRRG (infrared in the red channel) of the same ground.

Read from the official tiles, or from files cut beforehand as mmsegmentation does.

The published code trains on all tiles of "train". The official "val" tiles are no place to choose a learning rate:
their labels are those of the IRRG target. We hold out three train tiles ("hold_out") and train on the rest ("fit").
"""

from gkd.data.domains import Domain, Source
from gkd.data.layout import About, Place
from gkd.data.reading import Encoding
from gkd.data.samples import Sample
from gkd.data.tiles import TileLayout, TileName

TRAIN = tuple(
    "2_10 2_11 2_12 3_10 3_11 3_12 4_10 4_11 4_12 5_10 5_11 5_12"
    " 6_7 6_8 6_9 6_10 6_11 6_12 7_7 7_8 7_9 7_10 7_11 7_12".split()
)
VAL = tuple("2_13 2_14 3_13 3_14 4_13 4_14 4_15 5_13 5_14 5_15 6_13 6_14 6_15 7_13".split())
HELD_OUT = ("3_11", "5_12", "7_8")

_IMAGES = {
    "RGB": (TileName("top_potsdam_<tile>_RGB.tif"), TileName("top_potsdam_<tile>_RGBIR.tif")),
    "IRRG": (TileName("top_potsdam_<tile>_IRRG.tif"), TileName("top_potsdam_<tile>_RGBIR.tif", bands=(3, 0, 1))),
}


def _part(split: str, samples: list[Sample]) -> list[Sample]:
    if split not in ("fit", "hold_out"):
        return samples
    held = ["_".join(sample.image.stem.split("_")[:2]) in HELD_OUT for sample in samples]
    return [sample for sample, out in zip(samples, held, strict=True) if out == (split == "hold_out")]


def _layout(channels: str, variant: str = "", table: str = "isprs", colours: Encoding = "colours") -> TileLayout:
    return TileLayout(
        name=f"potsdam_{channels.lower()}{variant}",
        folder="potsdam",
        places=(Place(f"{channels}/img_dir/{{split}}/*.png", f"{channels}/ann_dir/{{split}}/*.png", table),),
        splits={"train": "train", "val": "val", "fit": "train", "hold_out": "train"},
        published={"train": 3_456, "val": 2_016},
        part=_part,
        tiles={
            "train": TRAIN,
            "val": VAL,
            "fit": tuple(tile for tile in TRAIN if tile not in HELD_OUT),
            "hold_out": HELD_OUT,
        },
        images=_IMAGES[channels],
        labels=(TileName("top_potsdam_<tile>_label_noBoundary.tif"), TileName("top_potsdam_<tile>_label.tif")),
        colours=colours,
        about=About(
            url="https://www.isprs.org/education/benchmarks/UrbanSemLab/ (2_Ortho_RGB.zip, 3_Ortho_IRRG.zip,"
            " 5_Labels_all_noBoundary.zip)",
            licence="research use, no redistribution; by request form",
            size="38 tiles of 6000x6000, read as 3,456 train and 2,016 val windows of 512x512",
        ),
    )


LAYOUTS = (
    _layout("RGB"),
    _layout("IRRG"),
    # Colours of label tiles as mmsegmentation decodes them: tile 4_12 and most cars of 6_7 are lost.
    _layout("RGB", "_exact", colours="exact colours"),
    # With the five classes for transfer to RescueNet, which are our own (gkd.data.labels).
    _layout("RGB", "_rescue", table="isprs_rescue"),
    _layout("IRRG", "_rescue", table="isprs_rescue"),
)


def _source(name: str, dataset: str, label_space: str) -> Source:
    fit, hold_out, full = (Domain(f"{dataset}_{split}", dataset, split) for split in ("fit", "hold_out", "train"))
    return Source(name, (fit,), hold_out, label_space, full=(full,))


SOURCES = (
    _source("potsdam_rgb", "potsdam_rgb", "isprs"),
    _source("potsdam_rescue", "potsdam_rgb_rescue", "rescue"),
    _source("potsdam_irrg_rescue", "potsdam_irrg_rescue", "rescue"),
)
TARGET = Domain("potsdam_irrg", "potsdam_irrg", "val")
