import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from layout_files import IMAGE, LABEL, SIZE, image_array, save, write_vaihingen
from PIL import ExifTags, Image
from typer.testing import CliRunner, Result

from gkd.cli import app
from gkd.data.catalogue import variable
from gkd.data.reading import DatasetError
from gkd.datasets import official
from gkd.doctor import Report, reading
from gkd.doctor import examine as examine_known
from gkd.doctor.listing import evenly
from gkd.params import ROOT


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The repository is a folder of the test, with the default parameters and without data."""
    for module in ("gkd.data.catalogue", "gkd.data.reading", "gkd.params"):
        monkeypatch.setattr(f"{module}.ROOT", tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)


def examine(name: str, roots: dict[str, str], quick: bool = False, **options: Any) -> Report:
    return examine_known(name, official(roots), quick, **{"jobs": 1, **options})


def ids(value: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.full(size, value, dtype=np.uint8)


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def plant(root: Path) -> dict[Path, str]:
    """Eleven defects in two datasets: the path of each and what the doctor must say of it."""
    data = write_vaihingen(root / "vaihingen", [1] * 12)
    for name in ("img_dir/train", "ann_dir/train"):
        (data / name).mkdir(parents=True)
    empty, text = data / LABEL.format(3), data / IMAGE.format(4)
    empty.write_bytes(b"")
    text.write_text("<html>404</html>")
    lonely, orphan = data / IMAGE.format(7), data / LABEL.format(8)
    (data / LABEL.format(7)).unlink()
    (data / IMAGE.format(8)).unlink()
    save(root / "city/gtav/images/00001.png", image_array(0))
    save(root / "city/gtav/labels/00001.png", ids(7))
    return {
        cut(data / IMAGE.format(0)): "damaged",
        save(data / LABEL.format(1), image_array(0)): "colour-coded",
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


def test_both_files_of_a_pair_may_be_faulty_and_any_error_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_vaihingen(tmp_path, [1, 2])
    image, label = cut(data / IMAGE.format(0)), save(data / LABEL.format(0), image_array(0, (9, 9)))
    report = examine("vaihingen", {"vaihingen": str(data)})
    assert {p.path for p in report.problems} == {str(image), str(label)}
    assert [p.what.split(";")[0] for p in report.problems if p.path == str(label)] == [
        f"expected the size of its image {image}, 8x6, found 9x9",
        "expected class ids in one channel (mode L or P), found a colour-coded label (RGB)",
    ]
    assert report.counts.loc["val"].tolist() == [2, 398, 2, 1] and report.pixels["val"].sum() == 48
    save(image, image_array(0, (50, 50)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    first, *_ = examine("vaihingen", {"vaihingen": str(data)}).problems
    assert first.path == str(image) and first.what.startswith("expected at most 2,000 pixels, found a larger one")


def test_a_sound_set_counts_its_pixels(tmp_path: Path) -> None:
    report = examine("vaihingen", {"vaihingen": str(write_vaihingen(tmp_path, [0, 1, 1, 5]))})
    assert report.present and report.problems == []
    assert report.pixels["val"].tolist() == [96, 0, 0, 0, 48, 0, 48] and report.pixels.index[-1] == "ignored"
    assert report.frequencies["val"].round(2).to_dict().items() >= {"impervious_surface": 66.67, "car": 33.33}.items()
    assert report.counts.loc["val"].tolist() == [4, 398, 4, 0]
    assert report.notes == ["val has 4 images, 398 were published"]
    assert list(report.missing) == ["train"] and "img_dir/train" in report.missing["train"]
    about = official().layouts["vaihingen"].about
    assert all(part in report.remedy for part in (about.url, about.licence, about.size))


def test_labels_without_a_class_are_a_problem(tmp_path: Path) -> None:
    (problem,) = examine("vaihingen", {"vaihingen": str(write_vaihingen(tmp_path, [0, 0]))}).problems
    assert problem.path.endswith(" (val)") and problem.what == "expected classes, found none in 2 labels"


def test_photos_that_viewers_turn_are_noted_where_their_labels_fit(tmp_path: Path) -> None:
    """Upside down, so that no size tells that a label was drawn on what a viewer shows."""
    data, exif = write_vaihingen(tmp_path, [1, 1, 1]), Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    for number in (0, 2):
        Image.fromarray(image_array(number)).save(data / IMAGE.format(number), format="JPEG", exif=exif)
    report = examine("vaihingen", {"vaihingen": str(data)})
    assert report.problems == [] and report.notes[-1].startswith(
        "2 photos are turned by their EXIF, but read as stored"
    )


def test_splits_of_one_folder_are_read_once_and_counted_each(tmp_path: Path) -> None:
    for number in range(1, 21):
        save(tmp_path / f"images/{number:05}.png", image_array(number))
        save(tmp_path / f"labels/{number:05}.png", ids(7 if number % 3 else 8))
    broken = cut(tmp_path / "labels/00002.png")
    report = examine("gtav", {"gtav": str(tmp_path)})
    assert [p.path for p in report.problems] == [str(broken)]
    assert report.counts["images"].to_dict() == {"all": 20, "train": 18, "val": 2}
    assert report.counts["faulty"].to_dict() == {"all": 1, "train": 1, "val": 0}
    assert (report.pixels["train"] + report.pixels["val"]).equals(report.pixels["all"])
    assert report.pixels["all"].sum() == 19 * 48


def test_quick_looks_at_a_sample_and_counts_everything(tmp_path: Path) -> None:
    data = write_vaihingen(tmp_path, [1] * 45)
    cut(data / LABEL.format(10))  # the second in the order of names
    (data / LABEL.format(2)).unlink()
    save(data / "img_dir/train/area1_0_0_512_512.png", image_array(0))  # a split that is half begun
    quick, full = (examine("vaihingen", {"vaihingen": str(data)}, quick) for quick in (True, False))
    assert quick.counts.loc["val"].tolist() == [44, 398, 20, 0] and full.counts.loc["val"].tolist() == [44, 398, 44, 1]
    assert [len(report.problems) for report in (quick, full)] == [2, 3]
    assert "expected ann_dir/train" in quick.problems[0].what
    assert (evenly("abcdefg", 3), evenly("ab", 3), evenly("abc", 1), evenly("", 2)) == ([*"adg"], [*"ab"], ["a"], [])


def test_processes_find_the_same_in_the_same_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path)
    monkeypatch.setattr(reading, "FEW", 0)
    monkeypatch.setattr(reading, "SECONDS", 0)
    lines: list[str] = []
    roots = {"vaihingen": str(tmp_path / "vaihingen")}
    one, two = examine("vaihingen", roots), examine("vaihingen", roots, jobs=2, say=lines.append)
    assert one.problems == two.problems
    pd.testing.assert_frame_equal(one.pixels, two.pixels)
    assert len(lines) == 10 and lines[-1].startswith("vaihingen: 10 of 10 images, ")


def test_datasets_that_share_a_folder_may_come_alone(tmp_path: Path) -> None:
    for name in ("img_dir", "ann_dir"):
        for tile in ("2_10", "3_11"):
            save(tmp_path / f"RGB/{name}/train/{tile}_0_0_512_512.png", image_array(0) if name == "img_dir" else ids(1))
    found = {name: examine(name, {"potsdam": str(tmp_path)}) for name in ("potsdam_rgb", "potsdam_irrg")}
    assert [(r.present, r.problems) for r in found.values()] == [(True, []), (False, [])]


def test_every_fault_of_tiles_is_named_and_windows_are_counted(tmp_path: Path) -> None:
    def image(number: int, side: int = 600) -> Path:
        return save(tmp_path / f"top/top_mosaic_09cm_area{number}.tif", image_array(number, (520, side)))

    def label(number: int) -> Path:
        building = np.full((520, 600, 3), (0, 0, 255), dtype=np.uint8)
        return save(tmp_path / f"truth/top_mosaic_09cm_area{number}_noBoundary.tif", building)

    for number, side in ((2, 600), (8, 599), (10, 600)):
        image(number, side)
    label(2)
    faulty = [image(4), label(6), label(8), cut(label(10))]
    report = examine("vaihingen", {"vaihingen": str(tmp_path)})
    assert sorted(p.path for p in report.problems) == sorted(map(str, faulty))
    # Tiles 2, 8 and 10, four windows each; the label of tile 10 has a sound header and lacks pixels.
    assert report.counts.loc["val"].tolist() == [12, 398, 12, 8]
    assert report.pixels["val"].drop("building").sum() == 0
    assert report.pixels.loc["building", "val"] == 4 * 512 * 512
    assert report.counts.loc["train", "images"] == 0 and list(report.missing) == ["train"]


def gkd(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *arguments])


def test_command_names_every_defect_and_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = plant(tmp_path)
    monkeypatch.setenv("GKD_VAIHINGEN_ROOT", str(tmp_path / "vaihingen"))
    monkeypatch.setenv("GKD_GTAV_ROOT", str(tmp_path / "city"))
    result = gkd("vaihingen", "gtav", "--jobs", "1")
    assert result.exit_code == 1 and result.stdout.endswith("11 problems in all\n")
    found = dict(re.findall("  problem: (.*?): (.*)", result.stdout))
    assert len(planted) == len(found) == result.stdout.count("  problem: ") == 11
    assert all(what in found[str(path)] for path, what in planted.items())
    for number in range(9, 12):  # of one dataset's problems ten are spelt out
        cut(tmp_path / "vaihingen" / IMAGE.format(number))
    assert "  ... and 3 more problems\n" in gkd("vaihingen").stdout
    assert official().layouts["gtav"].tree.splitlines()[0] in result.stdout


def test_command_on_sound_sets_and_on_one_without_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GKD_VAIHINGEN_ROOT", str(write_vaihingen(tmp_path / "real", [1, 2])))
    result = gkd("vaihingen", "--quick")
    assert (result.exit_code, result.stderr) == (0, "") and "low_vegetation" in result.stdout
    assert result.stdout.startswith("vaihingen: sound, in ") and result.stdout.endswith("no problems\n")
    broken = cut(save(tmp_path / "data/proxy/train/b/2.png", image_array(0)))
    proxy = gkd("proxy").stdout
    assert "1 problem, in" in proxy and f"  problem: {broken}: " in proxy and "low_vegetation" not in proxy
    assert {path.name for path in tmp_path.iterdir()} == {"params.yaml", "real", "data"}  # it writes nothing


def test_command_knows_what_params_declare(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    text = params.read_text().replace("roots: {}", "roots: {harbour: port}")
    params.write_text(text.replace("datasets: {}", "datasets:\n  harbour: {images: 'photos/*.png'}"))
    for number in range(2):
        save(tmp_path / f"port/photos/{number}.png", image_array(number))
    result = gkd("harbour")
    assert result.exit_code == 0 and f"harbour: sound, in {tmp_path / 'port'}" in result.stdout


def test_absent_datasets_are_reported_and_no_failure() -> None:
    result = gkd()
    assert (result.exit_code, result.stderr) == (0, "")
    for name, layout in official().layouts.items():
        assert f"{name}: absent\n" in result.stdout
        for text in (layout.about.url, layout.about.licence, layout.about.size, variable(layout.folder)):
            assert text in result.stdout


def test_a_dataset_that_was_asked_for_and_is_absent_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GKD_GTAV_ROOT", "/nowhere/typo")
    result = gkd("gtav")
    assert result.exit_code == 1 and "gtav: absent" in result.stdout and result.stdout.endswith("1 problem in all\n")
    assert result.stderr == ""
    monkeypatch.setenv("GKD_GTA_ROOT", "/nowhere/typo")
    assert gkd("gtav").stderr == "GKD_GTA_ROOT in the environment names the root of no dataset\n"


def test_command_refuses_an_unknown_name_before_it_starts() -> None:
    result = gkd("vaihingen", "city")
    assert result.exit_code == 1 and result.stdout == ""
    assert result.stderr.startswith("gkd doctor: unknown dataset 'city', expected one of acdc, ")
    with pytest.raises(DatasetError, match="roots.city: no dataset has this folder"):
        examine("cityscapes", {"city": "x"})
