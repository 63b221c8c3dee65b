"""Class tables and id maps: known entries, the look-up over all 256 values, and tables of one's own."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkd.data import labels


@pytest.mark.parametrize(
    ("space", "count", "known"),
    [
        ("cityscapes", 19, {0: ("road", 128, 64, 128), 10: ("sky", 70, 130, 180), 18: ("bicycle", 119, 11, 32)}),
        ("isprs", 6, {0: ("impervious_surface", 255, 255, 255), 5: ("clutter", 255, 0, 0)}),
        ("camvid", 11, {0: ("sky", 128, 128, 128), 10: ("bicyclist", 0, 128, 192)}),
        ("rescue", 5, {2: ("vegetation", 0, 255, 0), 4: ("clutter", 255, 0, 0)}),
    ],
)
def test_spaces_have_their_classes_in_train_id_order(space: str, count: int, known: dict[int, tuple]) -> None:
    names, colours = labels.class_names(space), labels.palette(space)
    assert len(set(names)) == len(names) == count
    assert colours.shape == (count, 3) and colours.dtype == np.uint8 and len(np.unique(colours, axis=0)) == count
    assert set(labels.lut(space).tolist()) == {*range(count), labels.IGNORE}
    assert {k: (names[k], *colours[k].tolist()) for k in known} == known


CITYSCAPES = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]  # published, by train id


@pytest.mark.parametrize(
    ("table", "count", "ids", "train_ids"),  # of the others: tests/layout_files.py
    [
        ("cityscapes", 35, range(35), [CITYSCAPES.index(i) if i in CITYSCAPES else 255 for i in range(35)]),
        # parking, curb and lane marking count as road or sidewalk; sign frames and backs as traffic sign
        ("mapillary", 66, [2, 10, 23, 24, 44, 46, 49, 52, 56, 65], [1, 0, 0, 0, 5, 7, 7, 18, 255, 255]),
        # parking slot, road work and lane marking are ignored
        ("synthia", 23, [0, 1, 3, 13, 14, 16, 21, 22], [255, 10, 0, 255, 255, 9, 3, 255]),
        ("rescue", 6, [0, 1, 5], [255, 0, 4]),
    ],
)
def test_known_ids_map_to_their_train_ids(table: str, count: int, ids: list[int], train_ids: list[int]) -> None:
    assert labels.lut(table)[list(ids)].tolist() == train_ids
    assert len(labels.known_ids(table)) == count and table in labels.TABLES


def test_synthia_has_16_of_the_19_classes() -> None:
    drawn = labels.lut("synthia")[sorted({*range(22)} - {16, 18, 20})]  # terrain, truck and train are never drawn
    names = {labels.class_names("cityscapes")[i] for i in drawn if i < 255}
    assert {*labels.class_names("cityscapes")} - names == {"terrain", "truck", "train"}
    assert labels.colours("isprs_rescue") == labels.colours("isprs")  # the tiles show the colours of ISPRS


@given(table=st.sampled_from(labels.TABLES), values=st.lists(st.integers(0, 255), min_size=1, max_size=30))
def test_only_ids_outside_the_table_are_reported(table: str, values: list[int]) -> None:
    found = labels.unknown_ids(np.array([values], dtype=np.uint8), table)
    assert found == tuple(sorted(set(values) - set(labels.known_ids(table))))


@pytest.mark.parametrize("call", [labels.class_names, labels.palette, labels.lut, labels.known_ids, labels.colours])
def test_unknown_tables_are_refused(call) -> None:
    with pytest.raises(ValueError, match="'ade20k'.*camvid, cityscapes, .*or the path of a CSV"):
        call("ade20k")
    with pytest.raises(ValueError, match="unknown label table '/nowhere/a.csv'"):
        call("/nowhere/a.csv")


def test_tables_without_classes_of_their_own_and_luts_that_nobody_changes() -> None:
    assert labels.space_of("mapillary") == "cityscapes" and labels.space_of("isprs") == "isprs"
    with pytest.raises(ValueError, match="'mapillary' names no classes of its own, they are those of 'cityscapes'"):
        labels.class_names("mapillary")
    with pytest.raises(ValueError, match="read-only"):
        labels.lut("isprs")[0] = 0


OWN = "id,name,train_id,r,g,b\n9,quay,1,1,2,3\n4,water,0,0,0,255\n5,dock water,0,0,0,200\n0,void,255,0,0,0\n"


def test_a_table_of_ones_own_names_its_classes_and_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "harbour.csv"
    file.write_text("\ufeff" + OWN)  # as a spreadsheet program saves it
    table = str(file)
    assert labels.class_names(table) == ("water", "quay")  # merged ids: the first row of a class names it
    assert labels.palette(table).tolist() == [[0, 0, 255], [1, 2, 3]] and labels.known_ids(table) == (0, 4, 5, 9)
    assert labels.lut(table)[[0, 4, 5, 9]].tolist() == [255, 0, 0, 1] and labels.space_of(table) == table
    file.write_text(OWN.replace("quay", "pier"))
    os.utime(file, ns=(1, 1))
    assert labels.class_names(table) == ("water", "pier")


def test_a_table_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(OWN.replace("quay", "mol\u00e9").encode("latin-1"))
    with pytest.raises(ValueError, match="a.csv: expected UTF-8, found another encoding; save it as CSV in UTF-8"):
        labels.class_names(str(tmp_path / "a.csv"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("train_id,r", "trainid,r", "line 2: expected id,name,train_id"),
        ("4,water,0,0", "4,water,,0", "line 3: expected"),
        ("9,quay", "256,quay", "line 2: expected .* numbers 0 to 255"),
        ("5,dock", "4,dock", "line 4: expected .* each id once"),
        ("quay,1", "quay,2", r"expected the train ids 0, 1, 2, .* found \[0, 2\]"),
        ("quay", "water", r"expected a name of its own for each class, .* found \['water', 'water'\]"),
        ("id,name", "id,class", r"expected a name of its own .* found \['', ''\]"),
        ("quay", "ignored", "none of them 'ignored'"),
        (OWN, "id,name,train_id,r,g,b\n", r"expected the train ids .* found \[\]"),
    ],
)
def test_a_faulty_table_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    file = tmp_path / "harbour.csv"
    file.write_text(OWN.replace(old, new))
    with pytest.raises(ValueError, match=f"{file}.*{message}"):
        labels.class_names(str(file))
