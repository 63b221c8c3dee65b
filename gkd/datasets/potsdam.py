"""ISPRS Potsdam as 512x512 crops: RGB and IRRG (infrared in the red channel) of the same ground.

The published code trains on all tiles of "train". The official "val" tiles are no place to choose a learning rate:
their labels are those of the IRRG target. We hold out three train tiles ("hold-out") and train on the rest ("fit").
"""

from gkd.datasets.base import About, Layout
from gkd.datasets.pairing import Place, Sample

HELD_OUT = ("3_11", "5_12", "7_8")


def _part(split: str, samples: list[Sample]) -> list[Sample]:
    if split not in ("fit", "hold-out"):
        return samples
    held = ["_".join(sample.image.stem.split("_")[:2]) in HELD_OUT for sample in samples]
    return [sample for sample, out in zip(samples, held, strict=True) if out == (split == "hold-out")]


def _layout(channels: str) -> Layout:
    def places(split: str) -> tuple[Place, ...]:
        split = "val" if split == "val" else "train"
        return (Place(f"{channels}/img_dir/{split}", (".png",), f"{channels}/ann_dir/{split}", ".png", "isprs"),)

    return Layout(
        name=f"potsdam-{channels.lower()}",
        folder="potsdam",
        label_space="isprs",
        splits={split: places(split) for split in ("train", "val", "fit", "hold-out")},
        part=_part,
        about=About(
            url="https://www.isprs.org/education/benchmarks/UrbanSemLab/",
            licence="research use, no redistribution; by request form",
            size="38 tiles of 6000x6000, cut to 3,456 train and 2,016 val crops of 512x512",
            tree=f"{channels}/img_dir/{{train,val}}/<r>_<c>_<x0>_<y0>_<x1>_<y1>.png\n"
            f"{channels}/ann_dir/{{train,val}}/<same name>.png (ids 0..6, 0 = boundary)",
        ),
    )


POTSDAM_RGB = _layout("RGB")
POTSDAM_IRRG = _layout("IRRG")
