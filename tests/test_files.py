"""A file is written whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from gkd.files import sha256, write_whole


def test_text_bytes_and_what_a_library_writes(tmp_path: Path) -> None:
    assert write_whole(tmp_path / "new" / "a.txt", "é\r\n").read_bytes() == b"\xc3\xa9\r\n"
    assert write_whole(tmp_path / "a.bin", b"\0\1").read_bytes() == b"\0\1"
    assert write_whole(tmp_path / "a.txt", lambda aside: aside.write_text("by path")).read_text() == "by path"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.bin", "a.txt", "new"]


def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    file = write_whole(tmp_path / "a.txt", "old")

    def fail(aside: Path) -> None:
        aside.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_whole(file, fail)
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]


def test_the_mode_follows_the_umask(tmp_path: Path) -> None:
    def private(aside: Path) -> None:  # as safetensors 0.8 does
        aside.touch(mode=0o600)

    old = os.umask(0o027)
    try:
        assert stat.S_IMODE(write_whole(tmp_path / "a", private).stat().st_mode) == 0o640
    finally:
        os.umask(old)


def test_the_hash_of_a_file(tmp_path: Path) -> None:
    file = write_whole(tmp_path / "a", b"abc")
    assert sha256(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
