"""ISPRS Vaihingen as 512x512 crops. The images are IRRG: infrared in the red channel."""

from gkd.datasets.base import About, Layout
from gkd.datasets.pairing import Place

VAIHINGEN = Layout(
    name="vaihingen",
    folder="vaihingen",
    label_space="isprs",
    splits={
        split: (Place(f"img_dir/{split}", (".png",), f"ann_dir/{split}", ".png", "isprs"),)
        for split in ("train", "val")
    },
    about=About(
        url="https://www.isprs.org/education/benchmarks/UrbanSemLab/",
        licence="research use, by request form; cite Cramer (2010) and acknowledge the DGPF",
        size="33 tiles of about 1900x2500, cut to 344 train and 398 val crops of 512x512",
        tree="img_dir/{train,val}/area<N>_<x0>_<y0>_<x1>_<y1>.png\n"
        "ann_dir/{train,val}/<same name>.png (ids 0..6, 0 = boundary)",
    ),
)
