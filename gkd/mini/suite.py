"""Writes the miniature suite to disk, in the official layouts and label encodings."""

import json
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gkd.mini.encode import label_table, palette, save_image, save_label, with_boundary
from gkd.mini.overhead import draw_overhead
from gkd.mini.parts import CITYSCAPES_IDS, MAPILLARY_IDS, TRAIN_IDS
from gkd.mini.street import draw_street, draw_street_parts
from gkd.mini.styles import DOMAIN_STYLES, broad_style

CITIES = {"train": ("aachen", "bremen", "hamburg", "ulm"), "val": ("frankfurt", "lindau", "munster")}
CONDITIONS = ("night", "snow", "fog", "rain")
TILES = {
    "train": "2_10 2_11 2_12 3_10 3_11 3_12 4_10 4_11 4_12 5_10 5_11 5_12"
    " 6_7 6_8 6_9 6_10 6_11 6_12 7_7 7_8 7_9 7_10 7_11 7_12".split(),
    "val": "2_13 2_14 3_13 3_14 4_13 4_14 4_15 5_13 5_14 5_15 6_13 6_14 6_15 7_13".split(),
}
AREAS = (2, 4, 6, 8, 10, 12, 14, 16, 20, 22, 24, 27, 29, 31, 33, 35, 38)  # Vaihingen, val
WINDOW, COLUMNS = 64, 11  # a tile of 6000 px at 1/8 size holds 11 whole windows in a row
PROXY_KINDS = ("n01_street", "n02_overhead", "n03_closeup")
PROXY_SIZE = 96


# The targets' scenes are of this draw, so that a later one shows scenes on which nothing was ever measured.
TARGETS_DRAWN = 2


@dataclass(frozen=True)
class Sizes:
    """Number of images of each part of the suite (acdc: per condition; potsdam: in each of RGB and IRRG; dev: each)."""

    gtav: int = 240
    cityscapes_train: int = 160
    cityscapes_val: int = 200
    bdd100k: int = 200
    mapillary: int = 200
    acdc: int = 200
    potsdam_train: int = 192
    potsdam_val: int = 200
    vaihingen_val: int = 200
    dev: int = 200
    proxy: int = 4000


@dataclass(frozen=True)
class Turn:
    """What one of several processes writes: every n-th image of each part. Each image has a stream of its own."""

    seed: int
    sizes: Sizes
    process: int = 0
    processes: int = 1

    def of(self, count: int) -> range:
        """The numbers of its images, of `count`."""
        return range(self.process, count, self.processes)

    def stream(self, domain: str, index: int, *draw: int) -> np.random.Generator:
        """That of an image which keeps its bytes: of a source, the proxy or a development domain."""
        return np.random.default_rng([self.seed, zlib.crc32(domain.encode()), index, *draw])

    def target(self, domain: str, index: int) -> np.random.Generator:
        """That of an image on which the benchmarks score."""
        return self.stream(domain, index, TARGETS_DRAWN)


def write_suite(
    root: Path,
    seed: int = 0,
    sizes: Sizes = Sizes(),  # noqa: B008 - frozen, so safe to share
    processes: int = 1,
) -> None:
    """Write every dataset of the suite under `root`. Equal arguments give equal bytes, however many processes draw.

    Every image has a random stream of its own (seed, domain, index): a change of one size changes no image.
    Raises FileExistsError, before anything is written, if a dataset folder is there: it may hold real data.
    """
    for name in WRITERS:
        if (root / name).exists():
            raise FileExistsError(
                f"{root / name}: expected no such folder yet; it may hold real data, so it is left as it is."
                " Delete it or choose another folder to write the miniature suite"
            )
    turns = [Turn(seed, sizes, process, processes) for process in range(processes)]
    if processes == 1:
        _write(root, turns[0])
    else:
        with ProcessPoolExecutor(processes) as pool:
            list(pool.map(_write, [root] * processes, turns))


def _write(root: Path, turn: Turn) -> None:
    for name, write in WRITERS.items():
        write(root / name, turn)


def _gtav(root: Path, turn: Turn) -> None:
    colours = palette("cityscapes")
    for k in turn.of(turn.sizes.gtav):
        image, parts = draw_street_parts(turn.stream("gtav", k), DOMAIN_STYLES["gtav"])
        save_image(root / "images" / f"{k + 1:05}.png", image)
        save_label(root / "labels" / f"{k + 1:05}.png", CITYSCAPES_IDS[parts], colours)


def _cityscapes(root: Path, turn: Turn) -> None:
    splits = ("train", turn.sizes.cityscapes_train, turn.stream), ("val", turn.sizes.cityscapes_val, turn.target)
    for split, size, stream_of in splits:
        for k in turn.of(size):
            city = CITIES[split][k % len(CITIES[split])]
            stem = f"{city}_{k // len(CITIES[split]):06}_000019"
            image, parts = draw_street_parts(stream_of(f"cityscapes-{split}", k), DOMAIN_STYLES["cityscapes"])
            save_image(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", image)
            save_label(root / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png", CITYSCAPES_IDS[parts])


def _bdd100k(root: Path, turn: Turn) -> None:
    for k in turn.of(turn.sizes.bdd100k):
        stem = f"{k:08x}-{zlib.crc32(str(k).encode()):08x}"
        image, label = draw_street(turn.target("bdd100k", k), DOMAIN_STYLES["bdd100k"])
        save_image(root / "images/10k/val" / f"{stem}.jpg", image)
        save_label(root / "labels/sem_seg/masks/val" / f"{stem}.png", label)


def _mapillary(root: Path, turn: Turn) -> None:
    colours = palette("mapillary")
    for k in turn.of(turn.sizes.mapillary):  # twice the size, because evaluation halves it
        image, parts = draw_street_parts(turn.target("mapillary", k), DOMAIN_STYLES["mapillary"], 128, 256)
        save_image(root / "validation/images" / f"mini{k:018}.jpg", image)
        save_label(root / "validation/v1.2/labels" / f"mini{k:018}.png", MAPILLARY_IDS[parts], colours)
    if turn.process:
        return
    labels = [
        {
            "name": row["name"].lower().replace(" ", "-"),
            "readable": row["name"],
            "color": [int(row[c]) for c in "rgb"],
        }
        for row in label_table("mapillary")
    ]
    root.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"version": "1.2", "labels": labels}, indent=1)
    (root / "config_v1.2.json").write_text(text + "\n", encoding="utf-8")


def _acdc(root: Path, turn: Turn) -> None:
    for number, condition in enumerate(CONDITIONS):
        for k in turn.of(turn.sizes.acdc):
            sequence = f"GOPR{1000 + 10 * number + k % 3:04}"
            stem = f"{sequence}_frame_{k // 3 * 30 + 30:06}"
            style = DOMAIN_STYLES[f"acdc_{condition}"]
            image, parts = draw_street_parts(turn.target(f"acdc-{condition}", k), style)
            save_image(root / "rgb_anon" / condition / "val" / sequence / f"{stem}_rgb_anon.png", image)
            label = TRAIN_IDS[parts]
            save_label(root / "gt" / condition / "val" / sequence / f"{stem}_gt_labelTrainIds.png", label)


def _window(index: int) -> str:
    """Pixel corners x0_y0_x1_y1 of the index-th window of a tile."""
    x0, y0 = WINDOW * (index % COLUMNS), WINDOW * (index // COLUMNS)
    return f"{x0}_{y0}_{x0 + WINDOW}_{y0 + WINDOW}"


def _potsdam(root: Path, turn: Turn) -> None:
    splits = ("train", turn.sizes.potsdam_train, turn.stream), ("val", turn.sizes.potsdam_val, turn.target)
    for split, size, stream_of in splits:
        tiles = TILES[split]
        for k in turn.of(size):
            name = f"{tiles[k % len(tiles)]}_{_window(k // len(tiles))}.png"
            for bands in ("RGB", "IRRG"):  # the same stream draws the same ground
                style = DOMAIN_STYLES[f"potsdam_{bands.lower()}"]
                image, label = draw_overhead(stream_of(f"potsdam-{split}", k), style, WINDOW)
                save_image(root / bands / "img_dir" / split / name, image)
                save_label(root / bands / "ann_dir" / split / name, with_boundary(label))


def _vaihingen(root: Path, turn: Turn) -> None:
    for k in turn.of(turn.sizes.vaihingen_val):
        name = f"area{AREAS[k % len(AREAS)]}_{_window(k // len(AREAS))}.png"
        image, label = draw_overhead(turn.target("vaihingen-val", k), DOMAIN_STYLES["vaihingen_irrg"], WINDOW)
        save_image(root / "img_dir/val" / name, image)
        save_label(root / "ann_dir/val" / name, with_boundary(label))


def _dev(root: Path, turn: Turn) -> None:
    for name in ("street", "weather", "overhead"):
        for k in turn.of(turn.sizes.dev):
            style, rng = DOMAIN_STYLES[f"dev_{name}"], turn.stream(f"dev-{name}", k)
            image, label = (draw_street if style.kind == "street" else draw_overhead)(rng, style)
            save_image(root / name / "images" / f"{k:05}.png", image)
            save_label(
                root / name / "labels" / f"{k:05}.png", label if style.kind == "street" else with_boundary(label)
            )


def _proxy(root: Path, turn: Turn) -> None:
    for k in turn.of(turn.sizes.proxy):
        kind = PROXY_KINDS[k % len(PROXY_KINDS)]
        image = draw_proxy(turn.stream("proxy", k), kind)
        save_image(root / "train" / kind / f"{kind[:3]}_{k:06}.JPEG", image)


def draw_proxy(rng: np.random.Generator, kind: str) -> np.ndarray:
    """One proxy image, uint8 (96, 96, 3), in a broad style: a street, overhead, or one thing near by."""
    size = PROXY_SIZE
    if kind == "n02_overhead":
        return draw_overhead(rng, broad_style(rng, "overhead"), size)[0]
    if kind == "n01_street":
        image, _ = draw_street(rng, broad_style(rng, "street"), size, 2 * size)
        y, x = 0, int(rng.integers(size + 1))
    else:
        image, label = draw_street(rng, broad_style(rng, "street"), 2 * size, 4 * size)
        present = [c for c in np.unique(label) if c not in (0, 1, 9, 10, 255)]  # no flat ground, no sky
        spot = rng.choice(np.argwhere(label == rng.choice(present)))
        y, x = np.clip(spot - size // 2, 0, (size, 3 * size))
    return image[y : y + size, x : x + size]


WRITERS = {
    "gtav": _gtav,
    "cityscapes": _cityscapes,
    "bdd100k": _bdd100k,
    "mapillary": _mapillary,
    "acdc": _acdc,
    "potsdam": _potsdam,
    "vaihingen": _vaihingen,
    "dev": _dev,
    "proxy": _proxy,
}
