"""Class maps of photos, as files: a label PNG of train ids and a colour overlay for each.

jobs = plan_outputs(photos([Path("frames/")]), Path("out"))
for job in jobs:
    photo = read_photo(job.photo)
    write(job, photo, exported.predict(photo), exported.config)
"""

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from gkd.data import reading
from gkd.deploy.config import Config, ExportError
from gkd.files import write_whole
from gkd.report.overlay import overlay

VIDEO = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".gif"}
UNREAD = set(  # other pictures
    ".heic .heif .jxl .pdf .psd .eps .svg .gif .tga .dng .cr2 .cr3 .nef .arw .rw2 .orf .raf .pef .srw .rwl .3fr".split()
)
FRAMES = "take it apart first, such as by `ffmpeg -i FILE frames/%06d.png`, and give the folder"


@dataclass(frozen=True)
class Job:
    """A photo and the two files that are written for it."""

    photo: Path
    label: Path
    overlay: Path


def photos(inputs: Sequence[Path]) -> list[Path]:
    """The image files that `inputs` name: files as given, of a folder the images right in it.

    Numbers in names count as numbers, so that frame_10 follows frame_9. Raises ExportError on absent files and folders
    without images.
    """
    found: list[Path] = []
    for path in inputs:
        if path.is_dir():
            inside = _inside(path, reading.suffixes())
            if not inside:
                raise ExportError(f"{path}: no image in this folder ({', '.join(reading.FORMATS)}; not below it)")
            found += inside
        elif not path.exists():
            raise ExportError(f"{path}: no such file or folder")
        else:
            found.append(path)
    return found


def unread(inputs: Sequence[Path]) -> list[Path]:
    """Pictures in the folders of `inputs` that `photos` leaves out, but for those beside a photo of the same name, as
    cameras write them."""
    folders = [path for path in inputs if path.is_dir()]
    stems = {photo.with_suffix("") for folder in folders for photo in _inside(folder, reading.suffixes())}
    return [path for folder in folders for path in _inside(folder, UNREAD) if path.with_suffix("") not in stems]


def read_photo(path: Path) -> np.ndarray:
    """A photo as uint8 RGB (H, W, 3), turned as its EXIF says, as viewers show it.

    Raises ExportError on a video, DatasetError on what cannot be read.
    """
    if path.suffix.lower() in VIDEO:
        raise ExportError(f"{path}: video files are not read; {FRAMES}")
    return reading.read_photo(path, upright=True)


def plan_outputs(files: Sequence[Path], out: Path, force: bool = False) -> list[Job]:
    """What is written for each photo, `<stem>_label.png` and `<stem>_overlay.png` in `out`.

    Raises ExportError, before any work, where two photos share a stem, `out` is a file, an output is there and `force`
    is not set, or an output is one of the photos.
    """
    if out.exists() and not out.is_dir():
        raise ExportError(f"{out}: expected a folder for the outputs, found a file")
    jobs = [Job(file, out / f"{file.stem}_label.png", out / f"{file.stem}_overlay.png") for file in files]
    taken: dict[Path, Path] = {}
    for job in jobs:
        if job.label in taken:
            raise ExportError(f"{taken[job.label]} and {job.photo} would both write {job.label}: run them apart")
        taken[job.label] = job.photo
    there = [path for job in jobs for path in (job.label, job.overlay) if path.exists()]
    given = {os.path.realpath(file) for file in files}
    if lost := [path for path in there if os.path.realpath(path) in given]:
        raise ExportError(f"{lost[0]} is one of the photos and would be overwritten: name another --out")
    if there and not force:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise ExportError(f"{there[0]}{more} there already: name another --out, or overwrite by --force")
    return jobs


def overlay_image(photo: np.ndarray, label: np.ndarray, config: Config) -> Image.Image:
    """The photo (H, W, 3) uint8 under the colours of its classes."""
    return Image.fromarray(overlay(photo, label, np.array(config.palette, dtype=np.uint8), opacity=0.5))


def write(job: Job, photo: np.ndarray, label: np.ndarray, config: Config) -> None:
    """Write both files of `job`; a file appears whole or not at all.

    The label is a palette image: its indices are the train ids (H, W) uint8, its colours those of the classes.
    """
    image = Image.fromarray(label)
    image.putpalette([value for colour in config.palette for value in colour])
    write_whole(job.label, partial(image.save, format="PNG"))
    write_whole(job.overlay, partial(overlay_image(photo, label, config).save, format="PNG"))


def _inside(folder: Path, kinds: Collection[str]) -> list[Path]:
    """The files right in a folder whose names end so, in the order of numbers in them."""
    found = (file for file in folder.iterdir() if file.suffix.lower() in kinds and not file.name.startswith("."))
    return sorted(found, key=_by_number)


def _by_number(path: Path) -> list[tuple[bool, int, str]]:
    parts = re.split(r"(\d+)", path.name)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]
