"""The miniature suite: scenes, styles and the files in their official layouts."""

import hashlib
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gkd.data.labels import lut
from gkd.datasets import official
from gkd.mini.__main__ import main
from gkd.mini.encode import with_boundary
from gkd.mini.overhead import draw_overhead
from gkd.mini.parts import STREET_PARTS
from gkd.mini.street import draw_street
from gkd.mini.style import IRRG, RGB, distance
from gkd.mini.styles import DOMAIN_STYLES, MIN_DISTANCE, broad_style, draw_broad
from gkd.mini.suite import WRITERS, Sizes, write_suite

STREETS = [name for name, style in DOMAIN_STYLES.items() if style.kind == "street"]
STREET_SIZES = {"gtav": 3, "cityscapes_train": 3, "cityscapes_val": 3, "bdd100k": 2, "mapillary": 2, "acdc": 2}
SMALL = Sizes(**STREET_SIZES, potsdam_train=30, potsdam_val=4, vaihingen_val=20, dev=3, proxy=6)
VAL_TILES = {"2_13", "2_14", "3_13", "3_14"}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("suite")
    write_suite(root, seed=3, sizes=SMALL)
    return root


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
    return image


def pixels(path: Path) -> np.ndarray:
    return np.array(opened(path))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def scenes(name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of a domain, of the seeds from 0 on."""
    draw = draw_street if name in STREETS else draw_overhead
    drawn = [draw(np.random.default_rng(seed), DOMAIN_STYLES[name]) for seed in range(count)]
    return np.stack([image for image, _ in drawn]), np.stack([label for _, label in drawn])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(sorted(DOMAIN_STYLES)))
def test_scenes_follow_from_the_seed(seed: int, name: str) -> None:
    draw = draw_street if name in STREETS else draw_overhead
    image, label = draw(np.random.default_rng(seed), DOMAIN_STYLES[name])
    again, same = draw(np.random.default_rng(seed), DOMAIN_STYLES[name])
    assert image.tobytes() == again.tobytes() and label.tobytes() == same.tobytes()
    assert image.shape == (*label.shape, 3) and image.dtype == label.dtype == np.uint8
    allowed = {*range(19), 255} if name in STREETS else set(range(6))
    assert image.std() > 5 and set(np.unique(label).tolist()) <= allowed


@pytest.mark.parametrize("name", [*STREETS, "potsdam_rgb", "vaihingen_irrg", "dev_overhead"])
def test_every_domain_shows_all_classes(name: str) -> None:
    count, classes, in_one = (60, 19, 12) if name in STREETS else (30, 6, 3)
    _, labels = scenes(name, count)
    assert set(np.unique(labels).tolist()) >= set(range(classes))
    assert np.mean([len(np.unique(label[label < 255])) for label in labels]) >= in_one


def test_night_is_dark_snow_lies_on_the_road_and_fog_hides_what_is_far() -> None:
    road, building, sky = 0, 2, 10
    drawn = {name: scenes(name, 20) for name in STREETS}

    def mean_of(name: str, train_id: int) -> float:
        images, labels = drawn[name]
        return float(images[labels == train_id].mean())

    for source in ("gtav", "cityscapes"):
        assert mean_of("acdc_night", sky) < 0.6 * mean_of(source, sky)
        assert mean_of("acdc_night", building) < 0.75 * mean_of(source, building)
        assert mean_of("acdc_snow", road) > 1.3 * mean_of(source, road)
    # The darkest things far away (rows at the horizon) are no longer dark.
    foggy, clear = (np.percentile(drawn[name][0][:, 26:30], 5) for name in ("acdc_fog", "cityscapes"))
    assert foggy > 2 * clear


@pytest.mark.parametrize("kind", ["street", "overhead"])
def test_broad_styles_leave_out_every_domain(kind: str) -> None:
    rng = np.random.default_rng(0)
    raw = [draw_broad(rng, kind) for _ in range(300)]
    assert any(distance(draw, d) < MIN_DISTANCE for draw in raw for d in DOMAIN_STYLES.values())  # not vacuous
    others = {domain.bands for domain in DOMAIN_STYLES.values()} - {RGB}
    assert IRRG in others and len(others) == 2
    for style in [broad_style(rng, kind) for _ in range(300)]:
        assert min(distance(style, domain) for domain in DOMAIN_STYLES.values()) >= MIN_DISTANCE
        assert style.bands not in others


def test_parts_agree_with_the_class_tables_and_the_boundary_lies_between_classes() -> None:
    for part in STREET_PARTS:
        assert lut("cityscapes")[part.cityscapes_id] == lut("mapillary")[part.mapillary_id] == part.train_id, part.name
    label = np.array([[0, 0, 0, 5, 5, 5]] * 4, np.uint8)
    np.testing.assert_array_equal(with_boundary(label), [[1, 1, 0, 6, 6, 6]] * 4)


def test_runs_repeat_their_bytes_and_sizes_and_seed_change_only_what_they_name(suite: Path, tmp_path: Path) -> None:
    def written(**options: object) -> dict[str, str]:
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        write_suite(root, **options)
        return digests(root)

    before = digests(suite)
    assert written(seed=3, sizes=SMALL, processes=3) == before
    after = written(seed=3, sizes=replace(SMALL, gtav=1, cityscapes_train=5, proxy=0))
    assert all(before[name] == after[name] for name in before.keys() & after.keys())
    assert {name.split("/")[0] for name in before.keys() - after.keys()} == {"gtav", "proxy"}
    assert {name.split("/")[0] for name in after.keys() - before.keys()} == {"cityscapes"}
    assert written(seed=4, sizes=SMALL)["gtav/images/00001.png"] != before["gtav/images/00001.png"]


COUNTS = {  # by domain
    **dict.fromkeys(("gtav_all", "cityscapes_train", "cityscapes"), 3),
    **dict.fromkeys(("bdd100k", "mapillary", "acdc_night", "acdc_snow", "acdc_fog", "acdc_rain"), 2),
    **{"potsdam_rgb_train": 30, "potsdam_rgb/val": 4, "potsdam_irrg/train": 30, "potsdam_irrg": 4},
    **{"vaihingen_irrg": 20, "proxy/train": 6},
    **dict.fromkeys(("dev_street", "dev_weather", "dev_overhead"), 3),
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_readers_of_the_official_datasets_take_the_files(suite: Path, name: str) -> None:
    count, domain = COUNTS[name], official().domain(name)
    folder = official().layout(domain.dataset).folder
    tile = folder in ("potsdam", "vaihingen") or name == "dev_overhead"
    size = (96, 96) if folder == "proxy" else (64, 64) if tile else (64, 128)
    data = official({folder: str(suite / folder)}).open_split(domain.dataset, domain.split)
    assert len(data) == count
    for image, label in (data[i] for i in range(count)):  # which checks that each id is known
        assert image.shape == (*size, 3)
        assert label is None or (label.shape == size and len(np.unique(label[label < 255])) > 1)


def test_labels_are_stored_as_the_official_ones(suite: Path) -> None:
    gtav = opened(suite / "gtav/labels/00001.png")
    assert gtav.mode == "P" and gtav.getpalette()[3 * 7 : 3 * 8] == [128, 64, 128]  # road
    ids = {
        "gtav/labels": ({1, 7, 11, 23, 26}, range(35)),  # with void: ego vehicle
        "cityscapes/gtFine": ({7, 11}, range(34)),
        "bdd100k/labels/sem_seg/masks/val": ({0, 2}, {*range(19), 255}),
        "mapillary/validation/v1.2/labels": ({13, 24, 15, 2}, range(66)),  # road, its markings, sidewalk, curb
        "acdc/gt": ({0, 2}, {*range(19), 255}),
        "potsdam/RGB/ann_dir": ({0, 1}, range(7)),  # 0: the boundary
    }
    for folder, (present, allowed) in ids.items():
        found = set(np.unique(np.concatenate([pixels(f).ravel() for f in (suite / folder).rglob("*.png")])).tolist())
        assert present <= found <= set(allowed), folder
    label = opened(next((suite / "mapillary/validation/v1.2/labels").iterdir()))
    assert label.mode == "P" and label.size == (256, 128)  # evaluated at half size
    kinds = {path.parent.name: opened(path).format for path in (suite / "proxy/train").rglob("*.JPEG")}
    assert kinds == dict.fromkeys(("n01_street", "n02_overhead", "n03_closeup"), "JPEG")
    config = (suite / "mapillary/config_v1.2.json").read_text()
    assert config.count('"readable"') == config.count('"color"') == 66 and '"Lane Marking - General"' in config


def test_tiles_of_validation_stay_apart_and_both_bands_show_one_ground(suite: Path) -> None:
    rgb, irrg = (suite / "potsdam" / bands for bands in ("RGB", "IRRG"))
    for split in ("train", "val"):
        for name in names(rgb / "img_dir" / split):
            row, column, x0, y0, x1, y1 = map(int, Path(name).stem.split("_"))
            assert x1 - x0 == y1 - y0 == 64 and (f"{row}_{column}" in VAL_TILES) == (split == "val")
            np.testing.assert_array_equal(*(pixels(root / "ann_dir" / split / name) for root in (rgb, irrg)))
            images = [pixels(root / "img_dir" / split / name) for root in (rgb, irrg)]
            assert np.abs(images[0].astype(int) - images[1]).mean() > 3
    areas = names(suite / "vaihingen/img_dir/val")
    assert not any(name.startswith(("area1_", "area9_")) for name in areas)


def test_command_prints_one_line_per_dataset_and_never_overwrites_one(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("gkd.mini.__main__.write_suite", partial(write_suite, sizes=SMALL))
    main(["--out", str(tmp_path), "--seed", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == list(WRITERS) and lines[0].startswith("gtav: 6 files")
    for name in set(WRITERS) - {"mapillary"}:
        shutil.rmtree(tmp_path / name)
    with pytest.raises(SystemExit, match="error: .*mapillary.*Delete it or choose another folder"):
        main(["--out", str(tmp_path)])
    assert names(tmp_path) == ["mapillary"]
