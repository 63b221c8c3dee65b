"""Files that a pattern names: a folder, and names with one star, whose meaning is the key that pairs two files."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from gkd.data.reading import DatasetError


class Pattern(NamedTuple):
    """Files of a folder, at any depth: "rgb/rgb_*.png" -> those below rgb/ whose names begin and end so.

    The case of endings is ignored; "*.{jpg,png}" names several of them. See `Pattern.parse`.
    """

    folder: str
    start: str
    ends: tuple[str, ...]

    @staticmethod
    @lru_cache
    def parse(text: str) -> Pattern:
        """Raises ValueError unless `text` is folder/start*end, or folder/**/start*end, which means the same."""
        folder, _, name = re.sub(r"/\*\*/(?=[^/]*$)", "/", text.removeprefix("./")).rpartition("/")
        match = re.fullmatch(r"([^*{}]*)\*([^*{}]*)(?:\{([^*{}]+)\})?", name)
        start, end, several = match.groups() if match else ("", "", "")
        ends = tuple(end + part for part in (several or "").split(","))
        if not all("." in end for end in ends) or re.search(r"[*{}]", folder):
            raise ValueError(f"{text!r}: expected a folder and names with one star, such as images/*.png")
        return Pattern(folder or ".", start, ends)

    @property
    def length(self) -> int:
        """Characters of a name that it fixes."""
        return len(self.start) + min(map(len, self.ends))

    def below(self, root: Path) -> Iterator[tuple[str, str]]:
        """(key, name) of the files: name is the posix path below the folder, key is what the star stands for.

        Left out are hidden files and folders (macOS leaves "._x.png" behind) and links back to a folder on the way.

        Raises DatasetError where a folder cannot be read, or a name is not UTF-8.
        """
        folder = root / self.folder
        for where, folders, names in os.walk(folder, onerror=_unreadable, followlinks=True):
            folders[:] = [name for name in folders if not _is_left_out(Path(where, name))]
            prefix = Path(where).relative_to(folder)
            for name in names:
                end = next((end for end in self.ends if name.lower().endswith(end.lower())), None)
                if end is not None and name.startswith(self.start) and not name.startswith("."):
                    _check(where, name)
                    key = name[len(self.start) : len(name) - len(end)]
                    # macOS writes an umlaut as two characters, others as one.
                    yield unicodedata.normalize("NFC", (prefix / key).as_posix()), (prefix / name).as_posix()

    def by_key(self, root: Path, skip: str) -> tuple[dict[str, Path], list[str]]:
        """Key -> file, in the order of the keys, without those like `skip`; a fault for each further file of a key."""
        folder, faults = root / self.folder, []
        found: dict[str, Path] = {}
        for key, name in sorted(self.below(root)):
            if skip and re.fullmatch(skip, key.rpartition("/")[2]):
                continue
            if key in found:
                other = found[key].relative_to(folder).as_posix()
                faults.append(f"{folder / name}: expected one file a name, found also {other}; remove one of them")
            else:
                found[key] = folder / name
        return found, faults


def _unreadable(error: OSError) -> None:
    """What `os.walk` would leave out without a word; a folder that is not there has no files."""
    if not isinstance(error, FileNotFoundError):
        remedy = "its permissions" if isinstance(error, PermissionError) else "the disk, or name another folder"
        what = f"{error.strerror}; check {remedy}"
        raise DatasetError(f"{error.filename}: expected a folder to read, found {what}") from error


def _is_left_out(path: Path) -> bool:
    """Whether a folder is hidden, the file system's own, or a link to one that the walk came through, without end."""
    if path.name.startswith(".") or path.name == "lost+found":
        return True
    if not path.is_symlink():
        return False
    above = {parent.resolve() for parent in path.parents}  # as walked, and where these lie
    return path.resolve() in above | {*path.parent.resolve().parents}


def _check(where: str, name: str) -> None:
    try:
        (where + name).encode()
    except UnicodeEncodeError:  # from a zip that was packed with another encoding
        raise DatasetError(f"{ascii(where)}: expected names in UTF-8, found {ascii(name)}; rename it") from None
