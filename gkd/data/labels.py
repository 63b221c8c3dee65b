"""Label tables: what the ids in label images stand for. Those of the official datasets lie in gkd/data/tables/.

lut("mapillary")[raw_ids], class_names("cityscapes"), palette("tables/harbour.csv")

A table is a CSV with the columns id, name, train_id, r, g, b: the id stored in label images, what it stands for, the
train id that it becomes (255 = ignored) and its colour. It is named by the file in gkd/data/tables/ without .csv, or by
the path of a file of one's own, relative to the root of the repository. A table also defines a label space, the classes
that a model predicts, unless it belongs to another one (`space_of`): class k is the first row whose train id is k.

Sources: the labels table of cityscapesScripts, the classes of the ISPRS benchmark, and what the other datasets publish.
Of "rescue" the classes are published, but not which ids become them: rescuenet and isprs_rescue are our own.
"""

import csv
import io
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gkd.params import ROOT

IGNORE = 255
COLUMNS = ("id", "name", "train_id", "r", "g", "b")
# Tables whose train ids are those of another one, which names the classes.
_SPACES = dict.fromkeys(("cityscapes_train_ids", "mapillary", "synthia", "urbansyn"), "cityscapes")
_SPACES |= dict.fromkeys(("rescuenet", "isprs_rescue"), "rescue")
TABLES = tuple(sorted(file.stem for file in Path(__file__).with_name("tables").glob("*.csv")))


class _Row(NamedTuple):
    name: str
    train_id: int
    colour: tuple[int, ...]


class _Table(NamedTuple):
    rows: dict[int, _Row]  # by id, ascending
    classes: list[_Row]  # the first row of each train id, in their order
    lut: np.ndarray  # uint8 (256,)


def space_of(table: str) -> str:
    """The label space that the train ids of a table belong to: the table itself, or the one that names its classes."""
    return _SPACES.get(table, table)


def class_names(space: str) -> tuple[str, ...]:
    """Names of the K classes of a label space, in the order of their train ids."""
    return tuple(row.name for row in _classes(space))


def palette(space: str) -> np.ndarray:
    """Colours of the K classes of a label space: uint8 (K, 3), in the order of their train ids."""
    return np.array([row.colour for row in _classes(space)], dtype=np.uint8)


def table_file(table: str) -> Path | None:
    """The CSV of a table of one's own; None for those of gkd/data/tables/."""
    return ROOT / table if table.endswith(".csv") else None


def known_ids(table: str) -> tuple[int, ...]:
    """The ids that a label image of this table may hold, ascending."""
    return tuple(_table(table).rows)


def colours(table: str) -> dict[int, tuple[int, int, int]]:
    """The colour (red, green, blue) of each id that a label image of this table may hold."""
    return {number: row.colour for number, row in _table(table).rows.items()}


def lut(table: str) -> np.ndarray:
    """Look-up table raw id -> train id: read-only uint8 (256,), 255 where void. Check `unknown_ids` first."""
    return _table(table).lut


def unknown_ids(raw: np.ndarray, table: str) -> tuple[int, ...]:
    """The ids in `raw` (uint8, any shape) that the table does not list: empty when the label is sound."""
    found = np.bincount(raw.ravel(), minlength=256).nonzero()[0]  # much cheaper than sorting the pixels
    return tuple(sorted(set(found.tolist()) - set(known_ids(table))))


def exchanged_ids(raw: np.ndarray, shown: np.ndarray, table: str) -> tuple[int, ...]:
    """The ids in `raw` (uint8, any shape) to which a palette `shown`, uint8 (N, 3), gives colours of other classes.

    At least two, in colours of their own, from a palette with at most one colour that the table has not: other palettes
    and masks in black and white say nothing.
    """
    rows, entries = _table(table).rows, [tuple(colour) for colour in shown.tolist()]
    classes = {row.colour: row.train_id for row in rows.values() if row.train_id != IGNORE}
    wrong = {}
    for number in np.bincount(raw.ravel()).nonzero()[0].tolist():
        if number in rows and number < len(entries) and (colour := entries[number]) != rows[number].colour:
            if classes.get(colour, rows[number].train_id) != rows[number].train_id:
                wrong[number] = colour
    foreign = {*entries} - {row.colour for row in rows.values()}
    return tuple(wrong) if len(foreign) <= 1 and len({*wrong.values()}) == len(wrong) > 1 else ()


def _classes(space: str) -> list[_Row]:
    if space in _SPACES:
        raise ValueError(f"label table {space!r} names no classes of its own, they are those of {_SPACES[space]!r}")
    classes = _table(space).classes
    names = [row.name for row in classes]
    if len({*names, "ignored", ""}) < len(names) + 2:
        raise ValueError(f"{space}: expected a name of its own for each class, none of them 'ignored', found {names}")
    return classes


def _table(table: str) -> _Table:
    """Raises ValueError on an unknown or unusable table, which it names."""
    file = table_file(table) or Path(__file__).with_name("tables") / f"{table}.csv"
    if not file.is_file():
        raise ValueError(
            f"unknown label table {table!r}, expected one of {', '.join(TABLES)}, or the path of a CSV file"
        )
    return _read(file, file.stat().st_mtime_ns)


@lru_cache
def _read(file: Path, _changed: int) -> _Table:
    rows: dict[int, _Row] = {}
    first: dict[int, _Row] = {}
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{file}: expected UTF-8, found another encoding; save it as CSV in UTF-8") from None
    for line, values in enumerate(csv.DictReader(io.StringIO(text)), start=2):
        numbers = [(values.get(key) or "").strip() for key in COLUMNS if key != "name"]
        if not all(number.isdecimal() and int(number) < 256 for number in numbers) or int(numbers[0]) in rows:
            raise ValueError(f"{file}, line {line}: expected {','.join(COLUMNS)}, numbers 0 to 255, each id once")
        number, train_id, *colour = map(int, numbers)
        rows[number] = _Row(values.get("name") or "", train_id, tuple(colour))
        first.setdefault(train_id, rows[number])
    first.pop(IGNORE, None)
    if not first or sorted(first) != list(range(len(first))):
        raise ValueError(f"{file}: expected the train ids 0, 1, 2, ... and 255 (ignored), found {sorted(first)}")
    train_ids = np.full(256, IGNORE, dtype=np.uint8)
    train_ids[list(rows)] = [row.train_id for row in rows.values()]
    train_ids.flags.writeable = False
    return _Table(dict(sorted(rows.items())), [first[k] for k in sorted(first)], train_ids)
