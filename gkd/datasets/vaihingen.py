"""ISPRS Vaihingen as windows of 512x512. The images are IRRG: infrared in the red channel.

Read from the official tiles, or from files cut beforehand as mmsegmentation does. Area 9 has a label only and is in no
split.
"""

from gkd.data.domains import Domain
from gkd.data.layout import About, Place
from gkd.data.tiles import TileLayout, TileName

TRAIN = tuple("1 3 5 7 11 13 15 17 21 23 26 28 30 32 34 37".split())
VAL = tuple("2 4 6 8 10 12 14 16 20 22 24 27 29 31 33 35 38".split())
TARGET = Domain("vaihingen_irrg", "vaihingen", "val")

VAIHINGEN = TileLayout(
    name="vaihingen",
    places=(Place("img_dir/{split}/*.png", "ann_dir/{split}/*.png", "isprs"),),
    splits={"train": "train", "val": "val"},
    published={"train": 344, "val": 398},
    tiles={"train": TRAIN, "val": VAL},
    images=(
        TileName("top_mosaic_09cm_area<tile>.tif", folder="(.*/)?top"),
        # The labels with boundaries have the same names as the images: gts_for_participants, *_ground_truth_COMPLETE.
        TileName("top_mosaic_09cm_area<tile>.tif", folder="(?!.*(gts|ground_truth)).*"),
    ),
    labels=(TileName("top_mosaic_09cm_area<tile>_noBoundary.tif"),),
    about=About(
        url="https://www.isprs.org/education/benchmarks/UrbanSemLab/ (ISPRS_semantic_labeling_Vaihingen.zip,"
        " ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE.zip)",
        licence="research use, by request form; cite Cramer (2010) and acknowledge the DGPF",
        size="33 tiles of about 1900x2500, read as 344 train and 398 val windows of 512x512",
    ),
)
