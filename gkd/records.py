"""Records of one size in files of bounded size: written by any process at any moment, and never believed when torn.

records = Records(folder, size)
records.write(slot, stamp, payload)               # `stamp`: a checksum of what the record was made from
state, payload = records.read(slot, stamp)        # State.GOOD, or why the payload is to be made again

A record is its header and its payload, at a place that follows from its number alone: there is no index that could
disagree with the files, and several processes write side by side. Considered: a memory map (a full disk or a file cut
short ends the process by SIGBUS), LMDB or HDF5 (one writer at a time), one safetensors file a record (millions of
files).
"""

from __future__ import annotations

import os
import struct
import zlib
from enum import IntEnum
from pathlib import Path

import numpy as np

HEADER = struct.Struct("<4sIIQ")  # mark, checksum of what follows it, stamp, number of the record
MARK = b"gkd1"
FILE_BYTES = 2**30  # bytes of a file, about
PAGE = 4096  # records begin at multiples of it, so that two machines do not write one page of a network file


class State(IntEnum):
    """What a place holds: a record as asked for, nothing, half a record or noise, or a record of something else."""

    GOOD = 0
    ABSENT = 1
    TORN = 2
    OTHER = 3


class Records:
    """Records with payloads of `size` bytes in `folder`, numbered from 0; files appear as records are written."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        self.step = -(-(HEADER.size + size) // PAGE) * PAGE  # from one record to the next
        self.per_file = max(1, FILE_BYTES // self.step)

    def read(self, slot: int, stamp: int) -> tuple[State, np.ndarray]:
        """The state of a record and its payload (size,) of uint8, which means something where the state is GOOD.

        Every read compares the checksum, so that a crash, a full disk or a changed file is found.
        """
        file, offset = self._place(slot)
        record = np.zeros(HEADER.size + self.size, np.uint8)
        try:
            with file.open("rb", buffering=0) as opened:
                opened.seek(offset)
                length = _fill(opened, record)
        except FileNotFoundError:
            length = 0
        payload = record[HEADER.size :]
        mark, checksum, *rest = HEADER.unpack(record[: HEADER.size].tobytes())
        if mark == b"\0\0\0\0":  # never written: beyond the end of the file, or a hole in it
            return State.ABSENT, payload
        if mark != MARK or length < len(record) or checksum != _checksum(*rest, payload):
            return State.TORN, payload
        return State.GOOD if rest == [stamp, slot] else State.OTHER, payload

    def write(self, slot: int, stamp: int, payload: np.ndarray) -> None:
        """Write a record, over what was there.

        Raises:
            OSError: the disk is full; what to do is in the message.
        """
        if payload.shape != (self.size,) or payload.dtype != np.uint8:
            raise ValueError(f"a payload has {self.size} bytes (given: {payload.dtype} {payload.shape})")
        file, offset = self._place(slot)
        header = HEADER.pack(MARK, _checksum(stamp, slot, payload), stamp, slot)
        record = header + payload.tobytes()
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            written = os.pwrite(descriptor, record, offset)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}: {file}; free space or remove an older cache") from error
        finally:
            os.close(descriptor)
        if written < len(record):  # found torn by who reads it
            raise OSError(f"the disk is full: {file}; free space or remove an older cache")

    def on_disk(self) -> int:
        """Bytes that the files take; holes in them take none."""
        return sum(512 * file.stat().st_blocks for file in self.folder.glob("*.records"))

    def _place(self, slot: int) -> tuple[Path, int]:
        number, position = divmod(slot, self.per_file)
        return self.folder / f"{number:06d}.records", position * self.step


def _checksum(stamp: int, slot: int, payload: np.ndarray) -> int:
    return zlib.crc32(payload, zlib.crc32(struct.pack("<IQ", stamp, slot)))


def _fill(file: object, buffer: np.ndarray) -> int:
    """Read until `buffer` is full or the file ends; returns the bytes read."""
    view, length = memoryview(buffer), 0
    while length < len(buffer) and (more := file.readinto(view[length:])):
        length += more
    return length
