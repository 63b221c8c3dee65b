"""`gkd export` and `gkd predict` from the command line, and the files that they write."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from tiny_params import TINY
from typer.testing import CliRunner, Result

from gkd.cli import app
from gkd.datasets import official
from gkd.deploy import load_folder
from gkd.deploy.build import describe
from gkd.deploy.config import Config, InferenceConfig, write_config
from gkd.deploy.predict import read_photo
from gkd.segmentation.stored import rebuild
from gkd.segmentation.task_learning import build_segmentor
from gkd.weights import Record, read_record, save
from gkd.weights.record import DecoderInfo, EncoderInfo

PALETTE = ((10, 20, 30), (200, 100, 0), (0, 255, 0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of three classes, by hand."""
    options = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 3, "dynamic_img_size": True}
    config = Config(
        name="three",
        encoder=EncoderInfo(name="vit_tiny_patch16_224", options=options, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        decoder=DecoderInfo(decoder="linear"),
        classes=("sky", "road", "tree"),
        palette=PALETTE,
        inference=InferenceConfig(window=32, stride=24, multiple=8),
    )
    path = tmp_path_factory.mktemp("models") / "three"
    model = rebuild(config)
    save(path / "model.safetensors", {"encoder": model.encoder, "decoder": model.decoder}, Record())
    write_config(config, path)
    return path


def draw(path: Path, size: tuple[int, int] = (50, 40), seed: int = 0, **options) -> Path:
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 10 + 1, width // 10 + 1, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST).save(path, **options)
    return path


def gkd(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(result: Result, message: str) -> None:
    """Exit code 1 and one line that says why."""
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    assert message in line, line


def test_predict_writes_a_label_and_an_overlay_for_each_photo(folder: Path, tmp_path: Path) -> None:
    frames = [draw(tmp_path / "frames" / f"frame_{i}.jpg", seed=i) for i in (9, 10)]
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    single = draw(tmp_path / "one.png", (33, 70), seed=3, exif=exif)
    (tmp_path / "frames" / "notes.txt").write_text("not a photo")
    result = gkd("predict", folder, tmp_path / "frames", single, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    stems = [Path(line.split()[0]).name for line in result.stdout.splitlines()]
    assert stems == ["frame_9_label.png", "frame_10_label.png", "one_label.png"]
    assert len(list((tmp_path / "out").iterdir())) == 6
    exported = load_folder(folder)
    for file in (*frames, single):
        photo = np.array(ImageOps.exif_transpose(Image.open(file)).convert("RGB"))
        label = Image.open(tmp_path / "out" / f"{file.stem}_label.png")
        expected = exported.predict(photo)
        assert label.mode == "P" and np.array_equal(np.array(label), expected)
        assert tuple(label.getpalette()[: 3 * len(PALETTE)]) == sum(PALETTE, ())
        overlay = np.array(Image.open(tmp_path / "out" / f"{file.stem}_overlay.png"), dtype=float)
        blend = (photo.astype(float) + np.array(PALETTE)[expected]) / 2
        assert np.abs(overlay - blend).max() <= 1


def test_a_model_runs_where_it_lies(folder: Path) -> None:
    """ "meta" stands for an accelerator: it computes nothing, so the class map cannot be fetched from it."""
    exported = load_folder(folder)
    exported.model.to("meta")
    seen = []
    exported.model.register_forward_pre_hook(lambda model, given: seen.append(given[0].device.type))
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        exported.predict(np.zeros((40, 50, 3), np.uint8))
    assert set(seen) == {"meta"}


def test_outputs_are_kept_unless_forced(folder: Path, tmp_path: Path) -> None:
    file, out = draw(tmp_path / "a.png"), tmp_path / "out"
    assert gkd("predict", folder, file, "--out", out).exit_code == 0
    (out / "a_label.png").write_bytes(b"mine")
    refused(gkd("predict", folder, file, "--out", out), "a_label.png and 1 more there already")
    assert (out / "a_label.png").read_bytes() == b"mine"
    assert gkd("predict", folder, file, "--out", out, "--force").exit_code == 0
    refused(gkd("predict", folder, file, draw(tmp_path / "b" / "a.jpg"), "--out", out), "would both write")
    given = draw(tmp_path / "photos" / "a.jpg"), draw(tmp_path / "photos" / "a_label.png")
    before = given[1].read_bytes()
    again = gkd("predict", folder, tmp_path / "photos", "--out", tmp_path / "photos", "--force")
    refused(again, "a_label.png is one of the photos")
    assert given[1].read_bytes() == before
    assert (out / "a_label.png").read_bytes().startswith(b"\x89PNG")


def test_photos_that_cannot_be_read_are_named_and_the_others_segmented(folder: Path, tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    torn = draw(photos / "2.jpg").read_bytes()
    for name in ("1.jpg", "9.png"):
        draw(photos / name)
    draw(photos / "6.png", (50, 7))
    bad = {"2.jpg": torn[: len(torn) // 2], "3.JPG": b"", "4.HEIC": b"ftypheic", "5.pdf": b"%PDF", "6.RW2": b"IIU"}
    beside = {"1.CR2": b"raw", "9.mov": b"a live photo's", "clip.mp4": b"video", "notes.txt": b""}
    for name, content in {**bad, **beside}.items():
        (photos / name).write_bytes(content)
    os.mkfifo(photos / "7.jpg")
    (photos / "8.jpg").symlink_to("8.jpg")
    result = gkd("predict", folder, photos, "--out", out)
    assert result.exit_code == 1 and len(result.stdout.splitlines()) == 2
    assert sorted(path.name for path in out.glob("*_label.png")) == ["1_label.png", "9_label.png"]
    lines = [line.removeprefix(f"gkd predict: {photos}/") for line in result.stderr.splitlines()]
    expected = "2.jpg 3.JPG 4.HEIC 5.pdf 6.png 7.jpg 8.jpg"
    assert sorted(line.split(":")[0] for line in lines) == expected.split()
    (pipe,) = (line for line in lines if line.startswith("7"))
    assert "expected a file, found a folder, a pipe or a device" in pipe


def test_bad_input_is_one_line_and_exit_code_1(folder: Path, tmp_path: Path) -> None:
    out, photo = tmp_path / "out", draw(tmp_path / "photo.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "clip.mp4").write_bytes(b"")
    (tmp_path / "text.png").write_text("text")
    draw(tmp_path / "small.png", (50, 7))
    for given, message in (
        ("absent.png", "absent.png: no such file or folder"),
        ("empty", "empty: no image in this folder"),
        ("clip.mp4", "clip.mp4: video files are not read; take it apart"),
        ("text.png", "text.png: expected a complete image"),
        ("small.png", "small.png: a photo of 50x7 pixels is smaller than a patch (8)"),
    ):
        refused(gkd("predict", folder, tmp_path / given, "--out", out), message)
    refused(gkd("predict", tmp_path / "empty", photo, "--out", out), "no config.json in it")
    refused(gkd("predict", tmp_path / "nothing", photo, "--out", out), "expected a model folder, found nothing")
    refused(gkd("predict", folder, photo, "--out", photo), "expected a folder for the outputs, found a file")
    refused(gkd("predict", folder, photo, "--out", out, "--engine", "gpu"), "unknown engine 'gpu'")
    refused(gkd("predict", folder, photo, "--out", out, "--engine", "int8"), "no model.int8.onnx in it")
    assert not out.exists()


def test_export_reads_what_the_checkpoint_says(tmp_path: Path) -> None:
    spec = TINY.student("f2l").model_copy(update={"weights": "none"})
    model = build_segmentor(TINY.models, spec, 19, True, 0).eval()
    bounds = TINY.evaluate.model_copy(update={"bounds": {"gtav": {"validation": [128, 64]}}})
    bounded = TINY.model_copy(update={"evaluate": bounds})
    who = {"stage": "task_learning", "setting": "f2l", "method": "gkd", "source": "gtav", "seed": 0}
    record = Record.of(bounded, who, segments=official().sources["gtav"])
    file = save(tmp_path / "m" / "model.safetensors", {"encoder": model.encoder, "decoder": model.decoder}, record)
    result = gkd("export", file, tmp_path / "street", "--name", "street")
    assert result.exit_code == 0 and "street written: street, 19 classes" in result.stdout, result.output
    config = describe(file, read_record(file), "street")
    exported = load_folder(tmp_path / "street")
    assert exported.config == config and config.inference.bound == (128, 64)
    assert exported.predict(read_photo(draw(tmp_path / "a.png", (128, 64)))).shape == (64, 128)
    refused(gkd("export", file, tmp_path / "street"), "is there already")
    assert gkd("export", file, tmp_path / "street", "--force").exit_code == 0
    refused(gkd("export", tmp_path / "absent", tmp_path / "new"), "absent is missing")
    foreign = ("export", tmp_path / "a.pth", tmp_path / "new", "--as", "f2l/gkd/gtav")
    refused(gkd(*foreign), "a.pth is missing")
    torch.save({"state_dict": {"decode_head.conv_seg.weight": torch.ones(2)}}, tmp_path / "a.pth")
    refused(gkd(*foreign), "looks like an mmseg segmentor, but has no backbone")
    refused(gkd(*foreign[:3]), "--as SETTING/METHOD/SOURCE")
    refused(gkd("export", file, tmp_path / "new", "--calibration", tmp_path / "m"), "no image in this folder")
