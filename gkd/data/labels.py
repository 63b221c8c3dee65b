"""Class tables and id maps, kept as CSV files beside this module.

Every file has the columns id, name, train_id, r, g, b: the id stored in label images, what it stands for, the
train id that it becomes (255 = ignored) and its colour. Those of SPACES also define a label space, that
is, the classes that a model predicts.
Sources: cityscapesScripts labels table, spec/datasets.md sections 0, 5, 7.4, 8, 9 and 10.

The classes of "rescue", for transfer from Potsdam to RescueNet, are the published ones. How the ids of both sets map to
them (rescuenet, isprs_rescue) is not published: those two tables are our own.
"""

import csv
from functools import cache
from pathlib import Path

import numpy as np

IGNORE = 255
SPACES = ("cityscapes", "isprs", "camvid", "rescue")
TABLES = (*SPACES, "cityscapes_train_ids", "mapillary", "synthia", "urbansyn", "rescuenet", "isprs_rescue")


@cache
def _rows(table: str, allowed: tuple[str, ...]) -> tuple[dict[str, str], ...]:
    if table not in allowed:
        raise ValueError(f"unknown label table {table!r}, expected one of {', '.join(allowed)}")
    with open(Path(__file__).with_name("tables") / f"{table}.csv", encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def _classes(space: str) -> list[dict[str, str]]:
    scored = [row for row in _rows(space, SPACES) if int(row["train_id"]) != IGNORE]
    return sorted(scored, key=lambda row: int(row["train_id"]))


def class_names(space: str) -> tuple[str, ...]:
    """Names of the K classes of a label space, in the order of their train ids."""
    return tuple(row["name"] for row in _classes(space))


def palette(space: str) -> np.ndarray:
    """Colours of the K classes of a label space: uint8 (K, 3), in the order of their train ids."""
    return np.array([[row["r"], row["g"], row["b"]] for row in _classes(space)], dtype=np.uint8)


def known_ids(table: str) -> tuple[int, ...]:
    """The ids that a label image of this table may hold, ascending."""
    return tuple(sorted(int(row["id"]) for row in _rows(table, TABLES)))


def colours(table: str) -> dict[int, tuple[int, int, int]]:
    """The colour (red, green, blue) of each id that a label image of this table may hold."""
    return {int(row["id"]): (int(row["r"]), int(row["g"]), int(row["b"])) for row in _rows(table, TABLES)}


@cache
def lut(table: str) -> np.ndarray:
    """Look-up table raw id -> train id: read-only uint8 (256,), 255 where void. Check `unknown_ids` first."""
    values = np.full(256, IGNORE, dtype=np.uint8)
    for row in _rows(table, TABLES):
        values[int(row["id"])] = int(row["train_id"])
    values.flags.writeable = False
    return values


@cache
def _is_known(table: str) -> np.ndarray:
    return np.isin(np.arange(256), known_ids(table))


def unknown_ids(raw: np.ndarray, table: str) -> tuple[int, ...]:
    """The ids in `raw` (uint8, any shape) that the table does not list: empty when the label is sound."""
    known = _is_known(table)
    if known[raw].all():  # much cheaper than sorting the pixels, and the usual case
        return ()
    return tuple(int(i) for i in np.unique(raw) if not known[i])
