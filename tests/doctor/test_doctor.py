import os
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner, Result

from gkd import doctor
from gkd.cli import app
from gkd.data import catalogue, reading
from gkd.data.labels import palette
from gkd.datasets import DatasetError, official, potsdam, variable
from gkd.doctor import Report, examine, looking
from gkd.doctor.listing import evenly
from gkd.doctor.pictures import contact_sheet, frequency_heatmap, overlay
from gkd.doctor.text import render
from gkd.workspace import availability

SIZE = (6, 8)
IMAGE, LABEL = "img_dir/val/area{}_0_0_512_512.png", "ann_dir/val/area{}_0_0_512_512.png"


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No roots in the environment; data/ and manifests/ are those of a folder of the test."""
    for layout in official().layouts.values():
        monkeypatch.delenv(variable(layout.folder), raising=False)
    for module in (availability, catalogue, doctor, reading):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr("gkd.params.ROOT", tmp_path)


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def photo(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def ids(value: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.full(size, value, dtype=np.uint8)


def vaihingen(root: Path, raw: Sequence[int]) -> Path:
    """Crops of Vaihingen val, one for each raw id, which fills its label."""
    for number, value in enumerate(raw):
        save(root / IMAGE.format(number), photo(number))
        save(root / LABEL.format(number), ids(value))
    return root


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def plant(root: Path) -> dict[Path, str]:
    """Eleven defects in two datasets: the path of each and what the doctor must say of it."""
    data = vaihingen(root / "vaihingen", [1] * 12)
    for name in ("img_dir/train", "ann_dir/train"):
        (data / name).mkdir(parents=True)
    empty, text = data / LABEL.format(3), data / IMAGE.format(4)
    empty.write_bytes(b"")
    text.write_text("<html>404</html>")
    lonely, orphan = data / IMAGE.format(7), data / LABEL.format(8)
    (data / LABEL.format(7)).unlink()
    (data / IMAGE.format(8)).unlink()
    save(root / "city/gtav/images/00001.png", photo())
    save(root / "city/gtav/labels/00001.png", ids(7))
    return {
        cut(data / IMAGE.format(0)): "damaged",
        save(data / LABEL.format(1), photo()): "colour-coded",
        save(data / IMAGE.format(2), np.zeros(SIZE, dtype=np.uint16)): "8 bits a channel",
        empty: "damaged",
        text: "damaged",
        save(data / LABEL.format(5), ids(9)): "found 9",
        save(data / LABEL.format(6), ids(1, (7, 8))): "expected the size of its image",
        lonely: "expected its label",
        orphan: "expected the image of this label",
        data / "img_dir/train": "the split is empty",
        root / "city": f"did you mean {root / 'city/gtav'}",
    }


def roots(root: Path) -> dict[str, str]:
    return {"vaihingen": str(root / "vaihingen"), "gtav": str(root / "city")}


def test_every_planted_defect_is_named_in_one_pass(tmp_path: Path) -> None:
    planted = plant(tmp_path)
    found = [p for name in ("vaihingen", "gtav") for p in examine(name, official(roots(tmp_path)), jobs=1).problems]
    assert len(planted) == 11
    assert sorted(p.path for p in found) == sorted(map(str, planted))
    for path, what in found:
        assert planted[Path(path)] in what and not what.startswith(path)


def test_both_files_of_a_pair_may_be_faulty(tmp_path: Path) -> None:
    data = vaihingen(tmp_path, [1, 2])
    image, label = cut(data / IMAGE.format(0)), save(data / LABEL.format(0), photo(size=(9, 9)))
    report = examine("vaihingen", official({"vaihingen": str(data)}), jobs=1)
    assert {p.path for p in report.problems} == {str(image), str(label)}
    assert [p.what.split(";")[0] for p in report.problems if p.path == str(label)] == [
        f"expected the size of its image {image}, 8x6, found 9x9",
        "expected class ids in one 8-bit channel (mode L or P), found a colour-coded label (RGB)",
    ]
    assert report.counts.loc["val"].tolist() == [2, 398, 2, 1]
    assert report.pixels["val"].sum() == 48


def test_an_error_of_the_image_library_is_a_problem_and_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = vaihingen(tmp_path, [1, 2])
    image = save(data / IMAGE.format(0), photo(size=(50, 50)))
    save(data / LABEL.format(0), ids(1, (5, 5)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    (first,) = examine("vaihingen", official({"vaihingen": str(data)}), jobs=1).problems
    assert first.path == str(image) and "cannot be read (DecompressionBombError" in first.what


def test_two_files_of_one_name(tmp_path: Path) -> None:
    for name in ("a_1.jpg", "a_1.png", "0006R0_1.jpg"):
        save(tmp_path / "train/images" / name, photo())
    for name in ("a_1.png", "0006R0_1.png"):
        save(tmp_path / "train/labels" / name, ids(0))
    report = examine("camvid", official({"camvid": str(tmp_path)}), jobs=1)
    twice = [p for p in report.problems if "expected one file a name" in p.what]
    assert [p.path for p in twice] == [str(tmp_path / "train/images/a_1.png")]
    assert report.counts.loc["day", "images"] == 1


def test_a_sound_set_counts_its_pixels(tmp_path: Path) -> None:
    data = vaihingen(tmp_path, [0, 1, 1, 5])
    report = examine("vaihingen", official({"vaihingen": str(data)}), jobs=1)
    assert report.present and report.problems == []
    assert report.pixels["val"].to_dict() == {
        "impervious_surface": 96,
        "building": 0,
        "low_vegetation": 0,
        "tree": 0,
        "car": 48,
        "clutter": 0,
        "ignored": 48,
    }
    assert report.frequencies["val"].round(2).tolist() == [66.67, 0, 0, 0, 33.33, 0]
    assert report.counts.loc["val"].tolist() == [4, 398, 4, 0]
    assert report.notes == ["val has 4 images, 398 were published"]
    assert list(report.missing) == ["train"] and "img_dir/train" in report.missing["train"]
    about = official().layouts["vaihingen"].about
    assert all(
        part in report.remedy for part in (about.url, about.licence, about.size, official().layouts["vaihingen"].tree)
    )


def test_splits_of_one_folder_are_read_once_and_counted_each(tmp_path: Path) -> None:
    for number in range(1, 21):
        save(tmp_path / f"images/{number:05}.png", photo(number))
        save(tmp_path / f"labels/{number:05}.png", ids(7 if number % 3 else 8))
    broken = cut(tmp_path / "labels/00002.png")
    report = examine("gtav", official({"gtav": str(tmp_path)}), jobs=1)
    assert [p.path for p in report.problems] == [str(broken)]
    assert report.counts["images"].to_dict() == {"all": 20, "train": 18, "val": 2}
    assert report.counts["faulty"].to_dict() == {"all": 1, "train": 1, "val": 0}
    assert (report.pixels["train"] + report.pixels["val"]).equals(report.pixels["all"])
    assert report.pixels["all"].sum() == 19 * 48


def test_a_set_without_labels(tmp_path: Path) -> None:
    save(tmp_path / "train/a/1.png", photo())
    broken = cut(save(tmp_path / "train/b/2.png", photo()))
    report = examine("proxy", official({"proxy": str(tmp_path)}), jobs=1)
    assert [p.path for p in report.problems] == [str(broken)]
    assert report.pixels.empty and report.frequencies.empty
    assert "1 problem, in" in render(report)


def test_quick_looks_at_a_sample_and_counts_everything(tmp_path: Path) -> None:
    data = vaihingen(tmp_path, [1] * 45)
    cut(data / LABEL.format(10))  # the second in the order of names
    (data / LABEL.format(2)).unlink()
    quick, full = (examine("vaihingen", official({"vaihingen": str(data)}), quick, jobs=1) for quick in (True, False))
    assert quick.counts.loc["val"].tolist() == [44, 398, 20, 0] and full.counts.loc["val"].tolist() == [44, 398, 44, 1]
    assert [len(report.problems) for report in (quick, full)] == [1, 2]


@given(st.lists(st.integers(), unique=True), st.integers(1, 30))
def test_evenly_spread(items: list[int], count: int) -> None:
    chosen = evenly(items, count)
    assert len(chosen) == min(count, len(items)) and len(set(chosen)) == len(chosen)
    places = [items.index(item) for item in chosen]
    assert places == sorted(places)
    if len(items) >= 2 and count >= 2:
        assert places[0] == 0 and places[-1] == len(items) - 1
        gaps = np.diff(places)
        assert gaps.max() - gaps.min() <= 1


def test_processes_find_the_same_in_the_same_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path)
    monkeypatch.setattr(looking, "FEW", 0)
    monkeypatch.setattr(looking, "SECONDS", 0)
    lines: list[str] = []
    one = examine("vaihingen", official(roots(tmp_path)), jobs=1)
    two = examine("vaihingen", official(roots(tmp_path)), jobs=2, say=lines.append)
    assert one.problems == two.problems
    pd.testing.assert_frame_equal(one.pixels, two.pixels)
    assert len(lines) == 10 and lines[-1].startswith("vaihingen: 10 of 10 images, ")


def test_a_half_begun_split_is_a_problem(tmp_path: Path) -> None:
    data = vaihingen(tmp_path, [1])
    save(data / "img_dir/train/area1_0_0_512_512.png", photo())
    (problem,) = examine("vaihingen", official({"vaihingen": str(data)}), jobs=1).problems
    assert problem.path == str(data) and "expected ann_dir/train" in problem.what


def test_datasets_that_share_a_folder_may_come_alone(tmp_path: Path) -> None:
    for name in ("img_dir", "ann_dir"):
        for tile in ("2_10", "3_11"):
            save(tmp_path / f"RGB/{name}/train/{tile}_0_0_512_512.png", photo() if name == "img_dir" else ids(1))
    found = {
        name: examine(name, official({"potsdam": str(tmp_path)}), jobs=1) for name in ("potsdam-rgb", "potsdam-irrg")
    }
    assert [(r.present, r.problems) for r in found.values()] == [(True, []), (False, [])]


def test_every_fault_of_tiles_is_named_and_windows_are_counted(tmp_path: Path) -> None:
    def tile(number: int, image: bool = True, label: bool = True, side: int = 600) -> tuple[Path, Path]:
        names = f"top/top_mosaic_09cm_area{number}.tif", f"truth/top_mosaic_09cm_area{number}_noBoundary.tif"
        colours = np.full((520, 600, 3), (0, 0, 255), dtype=np.uint8)  # building
        if image:
            save(tmp_path / names[0], photo(number, (520, side)))
        if label:
            save(tmp_path / names[1], colours)
        return tmp_path / names[0], tmp_path / names[1]

    tile(2)
    faulty = [tile(4, label=False)[0], tile(6, image=False)[1], tile(8, side=599)[1], cut(tile(10)[1])]
    report = examine("vaihingen", official({"vaihingen": str(tmp_path)}), jobs=1)
    assert sorted(p.path for p in report.problems) == sorted(map(str, faulty))
    # Tiles 2 and 10, four windows each; the label of tile 10 has a sound header and lacks pixels.
    assert report.counts.loc["val"].tolist() == [8, 398, 8, 4]
    assert report.pixels["val"].drop("building").sum() == 0
    assert report.pixels.loc["building", "val"] == 4 * 512 * 512
    assert report.counts.loc["train", "images"] == 0 and list(report.missing) == ["train"]


def sparse_tile(path: Path, side: int = 6000) -> Path:
    """A black RGB tile at full size that takes no space on disk: uncompressed, its pixels a hole in the file."""
    header = save(path, np.zeros((side, 1, 3), dtype=np.uint8))  # one column, made wide below
    with Image.open(header) as image:
        (part,) = image.tile
    content = bytearray(header.read_bytes()[: part.offset])
    wide = {256: side, 279: 3 * side * side}  # tags: width, bytes of the pixels
    for place in range(10, len(content) - 12, 12):  # entries of 12 bytes: tag, type (4 = LONG), count, value
        tag = int.from_bytes(content[place : place + 2], "little")
        if tag in wide:
            content[place + 2 : place + 12] = struct.pack("<HII", 4, 1, wide.pop(tag))
    assert not wide
    path.write_bytes(content)
    with path.open("r+b") as file:
        file.truncate(part.offset + 3 * side * side)
    return path


def test_the_official_potsdam_download_at_full_size(tmp_path: Path) -> None:
    """38 tiles under their official names and in their official folders, no crops."""
    first = sparse_tile(tmp_path / "first.tif").read_bytes()[:1000]
    for tile in (*potsdam.TRAIN, *potsdam.VAL):
        for name in (
            f"2_Ortho_RGB/top_potsdam_{tile}_RGB",
            f"5_Labels_all_noBoundary/top_potsdam_{tile}_label_noBoundary",
        ):
            path = tmp_path / f"potsdam/{name}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(first)
            with path.open("r+b") as file:
                file.truncate((tmp_path / "first.tif").stat().st_size)
    data = {"potsdam": str(tmp_path / "potsdam")}
    report = examine("potsdam-rgb", official(data), quick=True, jobs=1)
    assert (report.problems, report.notes, report.missing) == ([], [], {})
    held = 144 * len(potsdam.HELD_OUT)
    assert report.counts["images"].to_dict() == {"train": 3456, "val": 2016, "fit": 3456 - held, "hold-out": held}
    assert (report.counts["examined"] == 20).all() and report.pixels.loc["ignored", "val"] == 20 * 512 * 512
    other = examine("potsdam-irrg", official(data), quick=True, jobs=1)
    assert not other.present and not other.problems and "IRRG" in render(other)
    cut_short = tmp_path / "potsdam/2_Ortho_RGB/top_potsdam_2_10_RGB.tif"
    with cut_short.open("r+b") as file:
        file.truncate(10**6)
    (tmp_path / "potsdam/5_Labels_all_noBoundary/top_potsdam_7_13_label_noBoundary.tif").unlink()
    report = examine("potsdam-rgb", official(data), quick=True, jobs=1)
    assert [Path(p.path).name for p in report.problems] == ["top_potsdam_7_13_RGB.tif", cut_short.name]
    assert report.counts["images"].to_dict()["val"] == 2016 - 144
    assert "val has 1,872 images, 2,016 were published" in report.notes


def test_urbansyn_by_its_official_names_in_full(tmp_path: Path) -> None:
    image, label = (tmp_path / name for name in ("image.png", "label.png"))
    save(image, photo())
    save(label, ids(2))
    for folder in ("rgb", "ss", "ss_color"):
        (tmp_path / "urbansyn" / folder).mkdir(parents=True)
    for number in range(1, 7540):
        os.link(image, tmp_path / f"urbansyn/rgb/rgb_{number:04}.png")
        os.link(label, tmp_path / f"urbansyn/ss/ss_{number:04}.png")
    report = examine("urbansyn", official({"urbansyn": str(tmp_path / "urbansyn")}), quick=True, jobs=1)
    assert (report.problems, report.notes, report.missing) == ([], [], {})
    assert report.counts["images"].to_dict() == {"all": 7539, "train": 6785, "val": 754}


def test_labels_are_paired_by_what_follows_the_prefix(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        save(tmp_path / f"rgb/rgb_{number:04}.png", photo(number))
    for number in (1, 2, 4):
        save(tmp_path / f"ss/ss_{number:04}.png", ids(19 if number == 1 else 2))
    report = examine("urbansyn", official({"urbansyn": str(tmp_path)}), jobs=1)
    assert [p.path for p in report.problems] == [str(tmp_path / n) for n in ("rgb/rgb_0003.png", "ss/ss_0004.png")]
    assert report.counts.loc["all"].tolist() == [2, 7539, 2, 0]
    assert report.pixels["all"].loc[["building", "ignored"]].tolist() == [48, 48]


def test_unknown_names_and_roots_are_refused() -> None:
    with pytest.raises(DatasetError, match="unknown dataset 'city'"):
        examine("city", official())
    with pytest.raises(DatasetError, match="roots.city: no dataset has this folder"):
        examine("cityscapes", official({"city": "x"}))


def test_only_the_text_is_shortened(tmp_path: Path) -> None:
    data = vaihingen(tmp_path, [9] * 13)
    report = examine("vaihingen", official({"vaihingen": str(data)}), jobs=1)
    text = render(report)
    assert len(report.problems) == 13 and text.startswith("vaihingen: 13 problems, in ")
    assert text.count("  problem: ") == 10 and "  ... and 3 more problems\n" in text


def gkd(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *arguments])


def set_roots(monkeypatch: pytest.MonkeyPatch, **folders: Path) -> None:
    for folder, root in folders.items():
        monkeypatch.setenv(variable(folder), str(root))


def test_command_names_every_defect_and_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = plant(tmp_path)
    set_roots(monkeypatch, vaihingen=tmp_path / "vaihingen", gtav=tmp_path / "city")
    result = gkd("vaihingen", "gtav", "--jobs", "1")
    assert result.exit_code == 1 and result.stdout.endswith("11 problems in all\n")
    for path in planted:
        assert f"  problem: {path}: " in result.stdout
    assert official().layouts["gtav"].tree.splitlines()[0] in result.stdout


def test_command_on_a_sound_set_writes_its_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_roots(monkeypatch, vaihingen=vaihingen(tmp_path / "real", [1, 2]))
    result = gkd("vaihingen")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("vaihingen: sound, in ") and result.stdout.endswith("no problems\n")
    assert "low_vegetation" not in gkd("proxy").stdout and "low_vegetation" in result.stdout
    assert "manifests/vaihingen.csv written" in result.stdout
    lines = (tmp_path / "manifests/vaihingen.csv").read_text().splitlines()
    size = (tmp_path / "real" / IMAGE.format(0)).stat().st_size
    assert len(lines) == 5 and f"{IMAGE.format(0)},{size}" in lines


def test_command_writes_content_hashes_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_roots(monkeypatch, vaihingen=vaihingen(tmp_path / "real", [1]))
    file = tmp_path / "manifests/vaihingen.csv"
    for options, columns in (([], 2), (["--hash"], 3), ([], 3)):  # hashes stay once they are there
        assert gkd("vaihingen", *options).exit_code == 0
        assert [line.count(",") for line in file.read_text().splitlines()] == [columns - 1] * 3


def test_command_writes_no_manifest_of_the_data_folder(tmp_path: Path) -> None:
    vaihingen(tmp_path / "data/vaihingen", [1, 2])
    result = gkd("vaihingen", "--quick")
    assert result.exit_code == 0 and not (tmp_path / "manifests").exists()


def test_absent_datasets_are_reported_and_no_failure() -> None:
    result = gkd()
    assert (result.exit_code, result.stderr) == (0, "")
    for name, layout in official().layouts.items():
        assert f"{name}: absent\n" in result.stdout
        for text in (layout.about.url, layout.about.licence, layout.about.size, variable(layout.folder)):
            assert text in result.stdout


def test_command_refuses_an_unknown_name_before_it_starts() -> None:
    result = gkd("vaihingen", "city")
    assert result.exit_code == 1 and result.stdout == ""
    assert result.stderr.startswith("gkd doctor: unknown dataset 'city', expected one of acdc, ")


def test_overlay_leaves_ignored_pixels() -> None:
    image, colours = photo(), palette("isprs")
    label = ids(255)
    label[0] = 3
    blended = overlay(image, label, colours, opacity=1)
    assert np.array_equal(blended[1:], image[1:]) and (blended[0] == colours[3]).all()
    half = overlay(image, label, colours, opacity=0.5)
    assert np.allclose(half[0], (image[0].astype(float) + colours[3]) / 2, atol=0.51)


def test_contact_sheet_of_any_sizes() -> None:
    images, labels = [photo(), photo(1, (40, 1000))], [ids(0), ids(1, (40, 1000))]
    figure = contact_sheet(images, labels, palette("isprs"), "vaihingen")
    shapes = [axis.images[0].get_array().shape for axis in figure.axes]
    assert shapes == [(6, 8, 3), (20, 500, 3)] * 2 and figure.get_suptitle() == "vaihingen"
    with pytest.raises(ValueError, match="got 1 for 2"):
        contact_sheet(images, labels[:1], palette("isprs"))


def test_heatmap_says_the_share_of_each_class(tmp_path: Path) -> None:
    report: Report = examine("vaihingen", official({"vaihingen": str(vaihingen(tmp_path, [1, 1, 5]))}), jobs=1)
    (axis,) = frequency_heatmap(report.frequencies, "shares").axes
    assert [text.get_text() for text in axis.texts] == ["66.7", "", "", "", "33.3", ""]
    with pytest.raises(ValueError, match="no label was read"):
        frequency_heatmap(pd.DataFrame())
