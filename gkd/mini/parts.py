"""What the miniature scenes consist of, and how each part is encoded in the official label files."""

from typing import NamedTuple

import numpy as np

from gkd.data.labels import IGNORE


class Part(NamedTuple):
    """One kind of thing in a street scene and its ids in three label encodings."""

    name: str
    train_id: int  # Cityscapes train id, 255 = ignore
    cityscapes_id: int  # label id, 0..34, as in Cityscapes and GTAV files
    mapillary_id: int  # Mapillary Vistas v1.2 raw id, 0..65


STREET_PARTS = (
    Part("road", 0, 7, 13),
    Part("lane marking", 0, 7, 24),
    Part("crosswalk", 0, 7, 23),
    Part("sidewalk", 1, 8, 15),
    Part("curb", 1, 8, 2),
    Part("building", 2, 11, 17),
    Part("wall", 3, 12, 6),
    Part("fence", 4, 13, 3),
    Part("pole", 5, 17, 45),
    Part("street light", 5, 17, 44),
    Part("utility pole", 5, 17, 47),
    Part("traffic light", 6, 19, 48),
    Part("sign", 7, 20, 50),
    Part("sign back", 7, 20, 49),
    Part("vegetation", 8, 21, 30),
    Part("terrain", 9, 22, 29),
    Part("sky", 10, 23, 27),
    Part("person", 11, 24, 19),
    Part("bicyclist", 12, 25, 20),
    Part("motorcyclist", 12, 25, 21),
    Part("car", 13, 26, 55),
    Part("truck", 14, 27, 61),
    Part("bus", 15, 28, 54),
    Part("train", 16, 31, 58),
    Part("motorcycle", 17, 32, 57),
    Part("bicycle", 18, 33, 52),
    Part("ego vehicle", IGNORE, 1, 64),
    Part("trash can", IGNORE, 4, 51),
)

PART = {part.name: index for index, part in enumerate(STREET_PARTS)}
TRAIN_IDS, CITYSCAPES_IDS, MAPILLARY_IDS = np.array([part[1:] for part in STREET_PARTS], np.uint8).T
