"""Records are read as they were written, or not at all."""

import errno
import multiprocessing
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gkd import records as module
from gkd.records import HEADER, PAGE, Records, State

SIZE = 5000


def payload(seed):
    return np.random.default_rng(seed).integers(0, 256, SIZE, dtype=np.uint8)


@pytest.fixture
def few(tmp_path, monkeypatch):
    """Three records a file."""
    monkeypatch.setattr(module, "FILE_BYTES", 3 * 2 * PAGE)
    return Records(tmp_path / "cache", SIZE)


def test_records_come_back_from_files_of_bounded_size(few):
    assert few.per_file == 3 and few.on_disk() == 0
    for slot in (7, 0, 2, 3):
        assert few.read(slot, slot)[0] == State.ABSENT
        few.write(slot, slot, payload(slot))
    for slot in (0, 2, 3, 7):
        state, found = few.read(slot, slot)
        assert state == State.GOOD and (found == payload(slot)).all()
    assert few.read(1, 1)[0] == few.read(8, 8)[0] == State.ABSENT
    files = sorted(few.folder.iterdir())
    assert [file.name for file in files] == ["000000.records", "000001.records", "000002.records"]
    assert max(file.stat().st_size for file in files) <= 3 * 2 * PAGE and few.on_disk() >= 4 * SIZE
    few.write(0, 5, payload(9))
    assert few.read(0, 0)[0] == State.OTHER and (few.read(0, 5)[1] == payload(9)).all()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_flipped_bit_anywhere_is_found(tmp_path_factory, data):
    records = Records(tmp_path_factory.mktemp("cache"), SIZE)
    records.write(1, 42, payload(0))
    (file,) = records.folder.iterdir()
    content = bytearray(file.read_bytes())
    at = data.draw(st.one_of(st.integers(0, HEADER.size - 1), st.integers(HEADER.size, HEADER.size + SIZE - 1)))
    content[records.step + at] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)
    assert records.read(1, 42)[0] == State.TORN


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, HEADER.size + SIZE - 1))
def test_a_write_that_ended_midway_is_never_believed(tmp_path_factory, length):
    records = Records(tmp_path_factory.mktemp("cache"), SIZE)
    records.write(0, 1, payload(0))
    (file,) = records.folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:length])  # a kill, a full disk
    cut = records.read(0, 1)[0]
    file.write_bytes(whole[:length] + bytes(len(whole) - length))  # a power cut: the file has its length, not its data
    holes = records.read(0, 1)[0]
    assert {cut, holes} <= {State.TORN, State.ABSENT} and (length < 4 or cut == State.TORN)
    records.write(0, 1, payload(0))
    assert records.read(0, 1)[0] == State.GOOD


def test_a_record_at_the_place_of_another_is_of_something_else(few):
    few.write(1, 7, payload(0))
    file = few.folder / "000000.records"
    content = file.read_bytes()
    file.write_bytes(content[few.step :] + content)
    assert few.read(0, 7)[0] == State.OTHER


def test_a_full_disk_says_what_to_do(few, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(
        OSError, match=r"No space left on device: .*000000.records; free space or remove an older cache"
    ):
        few.write(0, 0, payload(0))
    monkeypatch.setattr(os, "pwrite", lambda *_: 100)
    with pytest.raises(OSError, match="the disk is full"):
        few.write(0, 0, payload(0))


def test_a_payload_of_another_size_is_refused(few):
    with pytest.raises(ValueError, match="a payload has 5000 bytes"):
        few.write(0, 0, payload(0)[1:])


def _write(folder, slots):
    for slot in slots:
        Records(folder, SIZE).write(slot, slot, payload(slot))


def test_processes_write_side_by_side(few):
    fork = multiprocessing.get_context("fork")
    parts = [range(0, 30, 2), range(1, 30, 2), range(0, 30, 3)]  # some records twice, as two members may
    processes = [fork.Process(target=_write, args=(few.folder, part)) for part in parts]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    for slot in range(30):
        state, found = few.read(slot, slot)
        assert state == State.GOOD and (found == payload(slot)).all()
