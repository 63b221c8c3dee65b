"""Class tables and id maps: known entries, and the look-up over all 256 values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkd.data import labels

SIZES = {"cityscapes": 19, "isprs": 6, "camvid": 11, "rescue": 5}


@pytest.mark.parametrize(("space", "count"), SIZES.items())
def test_spaces_have_their_classes_in_train_id_order(space: str, count: int) -> None:
    names, colours = labels.class_names(space), labels.palette(space)
    assert len(set(names)) == len(names) == count
    assert colours.shape == (count, 3) and colours.dtype == np.uint8
    assert len({tuple(colour) for colour in colours.tolist()}) == count
    assert set(labels.lut(space).tolist()) == {*range(count), labels.IGNORE}


@pytest.mark.parametrize(
    ("space", "train_id", "name", "colour"),
    [
        ("cityscapes", 0, "road", (128, 64, 128)),
        ("cityscapes", 10, "sky", (70, 130, 180)),
        ("cityscapes", 18, "bicycle", (119, 11, 32)),
        ("isprs", 0, "impervious_surface", (255, 255, 255)),
        ("isprs", 5, "clutter", (255, 0, 0)),
        ("camvid", 0, "sky", (128, 128, 128)),
        ("camvid", 10, "bicyclist", (0, 128, 192)),
        ("rescue", 2, "vegetation", (0, 255, 0)),
        ("rescue", 4, "clutter", (255, 0, 0)),
    ],
)
def test_known_classes(space: str, train_id: int, name: str, colour: tuple[int, int, int]) -> None:
    assert labels.class_names(space)[train_id] == name
    assert tuple(labels.palette(space)[train_id].tolist()) == colour


@pytest.mark.parametrize(
    ("table", "ids", "train_ids"),
    [
        ("cityscapes", [0, 7, 8, 11, 19, 23, 29, 31, 33, 34], [255, 0, 1, 2, 6, 10, 255, 16, 18, 255]),
        # parking, curb and lane marking count as road or sidewalk; sign frames and backs as traffic sign
        ("mapillary", [2, 10, 23, 24, 44, 46, 49, 52, 56, 65], [1, 0, 0, 0, 5, 7, 7, 18, 255, 255]),
        ("isprs", [0, 1, 2, 3, 4, 5, 6], [255, 0, 1, 2, 3, 4, 5]),
        ("camvid", [0, 10, 11], [0, 10, 255]),
        ("cityscapes_train_ids", [0, 18, 255], [0, 18, 255]),
        ("urbansyn", [0, 18, 19, 255], [0, 18, 255, 255]),
        # parking slot, road work and lane marking are ignored
        ("synthia", [0, 1, 3, 13, 14, 16, 21, 22], [255, 10, 0, 255, 255, 9, 3, 255]),
        ("rescuenet", list(range(11)), [255, 4, 1, 1, 1, 1, 3, 0, 0, 2, 4]),
        ("isprs_rescue", list(range(7)), [255, 0, 1, 2, 2, 3, 4]),
    ],
)
def test_known_ids_map_to_their_train_ids(table: str, ids: list[int], train_ids: list[int]) -> None:
    assert labels.lut(table)[ids].tolist() == train_ids


def test_published_cityscapes_lut() -> None:
    expected = [255] * 7 + [
        0,
        1,
        255,
        255,
        2,
        3,
        4,
        255,
        255,
        255,
        5,
        255,
        6,
        7,
        8,
        9,
        10,
        11,
        12,
        13,
        14,
        15,
    ]
    expected += [255, 255, 16, 17, 18, 255]
    assert labels.lut("cityscapes")[:35].tolist() == expected


def test_id_ranges_of_the_tables() -> None:
    lengths = {table: len(labels.known_ids(table)) for table in labels.TABLES}
    assert lengths == {
        "cityscapes": 35,
        "isprs": 7,
        "camvid": 12,
        "cityscapes_train_ids": 20,
        "mapillary": 66,
        "rescue": 6,
        "synthia": 23,
        "urbansyn": 21,
        "rescuenet": 11,
        "isprs_rescue": 7,
    }


def test_synthia_has_16_of_the_19_classes() -> None:
    absent = {16, 18, 20}  # terrain, truck and train are listed and never drawn
    names = {
        labels.class_names("cityscapes")[i] for i in labels.lut("synthia")[sorted({*range(22)} - absent)] if i < 255
    }
    assert {*labels.class_names("cityscapes")} - names == {"terrain", "truck", "train"}


def test_colours_of_ids() -> None:
    assert labels.colours("isprs")[5] == (255, 255, 0)
    assert set(labels.colours("mapillary")) == set(labels.known_ids("mapillary"))
    assert labels.colours("isprs_rescue") == labels.colours("isprs")  # the tiles show the colours of ISPRS


@given(table=st.sampled_from(labels.TABLES), data=st.data())
def test_only_ids_outside_the_table_are_reported(table: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(0, 255), min_size=1, max_size=30))
    raw = np.array(values, dtype=np.uint8).reshape(1, -1)
    assert labels.unknown_ids(raw, table) == tuple(sorted(set(values) - set(labels.known_ids(table))))


@given(space=st.sampled_from(labels.SPACES), data=st.data())
def test_every_train_id_survives_the_round_trip_through_raw_ids(space: str, data: st.DataObject) -> None:
    scored = {labels.lut(space)[i]: i for i in labels.known_ids(space) if labels.lut(space)[i] != labels.IGNORE}
    train = np.array(data.draw(st.lists(st.sampled_from(sorted(scored)), min_size=1)), dtype=np.uint8)
    raw = np.array([scored[value] for value in train.tolist()], dtype=np.uint8)
    assert np.array_equal(labels.lut(space)[raw], train)
    assert labels.unknown_ids(raw, space) == ()


def test_luts_cannot_be_changed_by_accident() -> None:
    with pytest.raises(ValueError, match="read-only"):
        labels.lut("isprs")[0] = 0


@pytest.mark.parametrize("call", [labels.class_names, labels.palette, labels.lut, labels.known_ids, labels.colours])
def test_unknown_table_is_named(call) -> None:
    with pytest.raises(ValueError, match="'ade20k'.*cityscapes, isprs, camvid"):
        call("ade20k")


def test_id_map_alone_is_no_label_space() -> None:
    with pytest.raises(ValueError, match="mapillary"):
        labels.class_names("mapillary")
