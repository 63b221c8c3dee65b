"""Folders that are walked: what cannot be read is told, what leads in a circle is left out."""

import os
import unicodedata
from pathlib import Path

import pytest
from layout_files import refused

from gkd.data.patterns import Pattern

PHOTOS = Pattern.parse("*.jpg")


def names(root: Path) -> list[str]:
    return sorted(name for _, name in PHOTOS.below(root))


def test_a_link_to_a_folder_above_is_not_followed_and_others_are(tmp_path: Path) -> None:
    for folder in ("root/a", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "1.jpg").touch()
    (tmp_path / "root/a/self").symlink_to(".")
    (tmp_path / "root/a/up").symlink_to(tmp_path / "root")
    (tmp_path / "root/other").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "root")  # through another link
    (tmp_path / "root/lost+found").mkdir()
    (tmp_path / "root/lost+found/1.jpg").touch()
    assert names(tmp_path / "root") == ["a/1.jpg", "other/1.jpg"]
    for one, other in ("ab", "ba"):
        (tmp_path / "two" / one).mkdir(parents=True)
        (tmp_path / "two" / one / "1.jpg").touch()
        (tmp_path / "two" / one / "x").symlink_to(tmp_path / "two" / other)
    assert names(tmp_path / "two") == ["a/1.jpg", "a/x/1.jpg", "b/1.jpg", "b/x/1.jpg"]
    assert names(tmp_path / "nothing") == []


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`os.walk` of Python 3.11 leaves it out without a word."""
    (tmp_path / "a").mkdir()
    real = os.scandir

    def scandir(path):
        if str(path) == str(tmp_path / "a"):  # as root, a mode forbids nothing
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with refused(tmp_path / "a", "expected a folder to read, found Permission denied; check its permissions"):
        names(tmp_path)


def test_a_name_that_is_not_utf_8_is_refused_where_it_is_found(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.jpg")).touch()
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    with refused("expected names in UTF-8, found", r"caf\udce9.jpg", "rename it"):
        names(tmp_path)


@pytest.mark.parametrize("text", ["images/*.png", "images/**/*.png", "./images/*.png"])
def test_a_pattern_is_a_folder_and_a_name(text: str) -> None:
    assert Pattern.parse(text) == Pattern("images", "", (".png",))


@pytest.mark.parametrize("text", ["train/*/images/*.png", "train/**/images/*.png", "images/a.png", "images/*"])
def test_stars_elsewhere_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a folder and names with one star"):
        Pattern.parse(text)


def test_what_is_skipped_goes_by_its_name_in_any_folder(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for name in ("1.jpg", "15188.jpg"):
            (tmp_path / folder / name).touch()
    assert sorted(PHOTOS.by_key(tmp_path, "15188|x.*")[0]) == ["a/1", "b/1"]


def test_names_that_look_alike_are_one_key(tmp_path: Path) -> None:
    """An umlaut is one character, or two, as macOS unpacks it."""
    keys = []
    for folder, form in (("images", "NFC"), ("labels", "NFD")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / unicodedata.normalize(form, "h\u00e4fen.jpg")).touch()
        keys += [key for key, _ in PHOTOS.below(tmp_path / folder)]
    assert keys == ["h\u00e4fen"] * 2
