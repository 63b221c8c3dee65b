"""Arrays that are made from a file once and kept in .scratch/, under the file's size and time.

pixels = kept("tiles", path, size, changed, lambda: decode(path))       # the array
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gkd.params import ROOT


def kept(
    kind: str, source: Path, size: int, changed: int, make: Callable[[], np.ndarray], *, mapped: bool = False
) -> np.ndarray:
    """The array that `make` gives for `source`, from .scratch/<kind>/.

    It is made where it is missing, was made of a file of another size or time, or is not whole. Processes may make the
    same one at once: each writes aside, and the last one stays.

    Args:
        kind: folder below .scratch/.
        source: the file; its folder counts, so that files of one name do not meet.
        size: its bytes.
        changed: its time of change in nanoseconds.
        make: gives the array; what it raises is passed on.
        mapped: map the kept file read-only instead of reading it: for arrays of which a part is used. Each holds a
            file descriptor, so this is not for thousands of them.
    """
    mode = "r" if mapped else None
    folder = ROOT / ".scratch" / kind
    place = hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:16]
    file = folder / f"{source.stem}-{place}-{size}-{changed}.npy"
    try:
        return np.load(file, mmap_mode=mode)
    except (FileNotFoundError, ValueError, EOFError):  # absent, or shorter than its header says
        pass
    array = make()
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f"{file.stem}.{os.getpid()}.part"
    try:
        with aside.open("wb") as target:
            np.save(target, array)
            target.flush()
            os.fsync(target.fileno())
        aside.replace(file)
        for old in set(folder.glob(f"*-{place}-*.npy")) - {file}:
            old.unlink(missing_ok=True)
    finally:
        aside.unlink(missing_ok=True)
    return np.load(file, mmap_mode=mode)
