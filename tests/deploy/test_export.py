"""Model folders: what is written is read back bit-equal, ONNX agrees, and damage is named."""

import json
import shutil
import sys
from pathlib import Path

import mmseg_segmentor
import numpy as np
import pytest
import torch
from tiny_models import tiny_vit
from tiny_params import TINY, with_decoder
from torch import nn

from gkd.datasets import official
from gkd.deploy import ExportError, Graphs, build, export, load_folder, onnx_file
from gkd.deploy.config import InferenceConfig, read_config
from gkd.deploy.quantise import calibration_windows, quantise
from gkd.files import sha256
from gkd.models import Encoder
from gkd.params import EncoderSpec
from gkd.segmentation.decoders import Segmentor, build_decoder
from gkd.segmentation.windows import Inference, predict
from gkd.weights import Record, read_record, save
from gkd.weights.tensors import read_tensors

NAME = "vit_tiny_patch16_224"
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 1, "num_heads": 3}
PROTOCOL = {"window": 32, "stride": 24, "bound": [48, 40]}
K = 6  # classes of Potsdam
STAGE = "task_learning"
WHOLE = {"window": 64, "stride": 48, "bound": None}  # two cells of an encoder of stride 32
SMALL = {"dim": 32, "queries": 8, "encoder_layers": 1, "decoder_layers": 1, "points": 64}


def seen_by(protocol, models):
    """The tiny profile with these models, windows, and bound of Potsdam's validation part."""
    windows = {key: protocol[key] for key in ("window", "stride")}
    bounds = {"potsdam_rgb": {"validation": protocol["bound"]}}
    sections = {"inference": windows, "evaluate": {"bounds": bounds}}
    changed = {key: getattr(TINY, key).model_copy(update=own) for key, own in sections.items()}
    return TINY.model_copy(update={"models": models, **changed})


@pytest.fixture(scope="module")
def member(tmp_path_factory):
    """Makes a checkpoint as task learning writes it, and its segmentor."""

    def make(decoder="conv", name=NAME, options=VIT, protocol=PROTOCOL, stage=STAGE, seed=1):
        folder = tmp_path_factory.mktemp("results") / "f2l-gkd-potsdam_rgb-0"
        params = seen_by(protocol, with_decoder(decoder, **SMALL))
        torch.manual_seed(seed)
        # Of one size only, as in task learning. tiny_vit makes all weights count.
        body = tiny_vit(48, depth=1, seed=seed) if options is VIT else settled(Encoder.create(name, **options))
        # Of a ViT as small as these, mask2former must be told its four blocks.
        blocks = [0, 1, 2, 3] if decoder == "mask2former" else []
        model = Segmentor(body, build_decoder(params.models, body, K, blocks), frozen=True).eval()
        who = {"stage": stage, "setting": "f2l", "method": "gkd", "source": "potsdam_rgb", "seed": 0}
        parts = {"encoder": model.encoder} | ({"decoder": model.decoder} if stage == STAGE else {})
        record = Record.of(params, who, segments=official().sources["potsdam_rgb"])
        return save(folder / "model.safetensors", parts, record), model

    return make


@pytest.fixture(scope="module")
def made(member, tmp_path_factory):
    """A folder with all three files, its original model and its checkpoint."""
    file, model = member()
    folder = tmp_path_factory.mktemp("models") / "aerial"
    export(file, folder, Graphs(onnx=True, int8=True))
    return folder, model, file


@pytest.fixture
def copy(made, tmp_path):
    """A copy of that folder, to be damaged."""
    return shutil.copytree(made[0], tmp_path / "copy")


def settled(encoder):
    """The encoder with statistics in its batch norms: without, random convolutions give maps near zero."""
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain average
    with torch.no_grad():
        encoder.train().final_map(torch.rand(8, 3, 64, 64))
    return encoder.eval()


def photo(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def compare(folder):
    """ONNX against PyTorch on five sizes, and the share of the pixels of a photo whose class int8 keeps."""
    exact, graph, rounded = (load_folder(folder, engine) for engine in ("torch", "onnx", "int8"))
    m = exact.config.inference.multiple
    for batch, rows, columns in ((1, 2, 2), (3, 1, 3), (2, 3, 1), (1, 4, 2), (2, 1, 1)):
        images = torch.rand(batch, 3, rows * m, columns * m)
        with torch.inference_mode():
            expected = exact.model(images)
        assert expected.std() > 1e-3
        torch.testing.assert_close(graph.model(images), expected, rtol=0, atol=1e-4)
    picture = photo(100, 150)
    labels = exact.predict(picture)
    assert len(np.unique(labels)) > 1
    return (labels == rounded.predict(picture)).mean()


@pytest.mark.parametrize("size", [(32, 32), (80, 64), (40, 48)])
def test_the_folder_predicts_as_the_checkpoint_bit_for_bit(made, size):
    folder, model, _ = made
    picture, images = photo(*size), torch.rand(2, 3, 32, 32)
    how = Inference(32, 24, bound=(48, 40), multiple=8, batch_size=16, fill=(0.5, 0.5, 0.5))
    expected = predict(model, picture, size, how)
    found = load_folder(folder)
    assert found.inference == how
    assert found.predict(picture).dtype == np.uint8 and np.array_equal(found.predict(picture), expected)
    assert len(np.unique(expected)) > 1
    with torch.inference_mode():
        assert torch.equal(found.model(images), model(images))


def test_the_folder_describes_itself(made):
    folder, _, file = made
    config = read_config(folder)
    assert (folder / "model.safetensors").read_bytes() == file.read_bytes()
    assert config.name == "f2l-gkd-potsdam_rgb-0" and config.int8 == "dynamic"
    assert config.encoder.options == {**VIT, "dynamic_img_size": True}
    assert config.classes[:2] == ("impervious_surface", "building") and len(config.palette) == K
    assert config.palette[1] == (0, 0, 255)
    source = config.provenance
    assert source["checkpoint_sha256"] == sha256(file) and source["dvc_lock_sha256"] == sha256(build.ROOT / "dvc.lock")
    assert source["record"] == json.loads(read_record(file).text()) and source["record"]["method"] == "gkd"
    assert len(source["git_commit"]) == 40 and source["git_changed"] in (True, False)
    assert str(file.parent.parent) not in (folder / "config.json").read_text()


def test_a_checkpoint_that_dvc_linked_from_its_cache_keeps_its_name(made, tmp_path):
    file = tmp_path / "results/f2l-none-gtav-0/model.safetensors"
    file.parent.mkdir(parents=True)
    file.symlink_to(shutil.copy(made[2], tmp_path / "9a1c2b3d4e5f"))
    config = export(file, tmp_path / "folder")
    assert config.name == "f2l-none-gtav-0" and config.provenance["checkpoint"] == "model.safetensors"


def test_what_is_edited_in_params_yaml_after_the_training_changes_no_export(made, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "load", lambda: pytest.fail("params.yaml was read"))
    assert export(made[2], tmp_path / "again") == read_config(made[0]).model_copy(update={"int8": None, "graphs": {}})
    config = read_config(tmp_path / "again")
    options = {**config.encoder.options, "num_heads": 4}
    edit(tmp_path / "again", encoder={**config.encoder.model_dump(), "options": options})
    with pytest.raises(ExportError, match="weights disagree: .*\n.*options.num_heads: 3 in the file, 4 in the model"):
        load_folder(tmp_path / "again")


def test_onnx_equals_torch_and_int8_nearly(made):
    folder, picture = made[0], photo(70, 90)
    assert compare(folder) > 0.95  # measured: 98.9 %; random weights, so classes lie close together
    exact, graph = (load_folder(folder, engine).predict(picture) for engine in ("torch", "onnx"))
    assert (exact == graph).mean() > 0.999
    sizes = [(folder / name).stat().st_size for name in ("model.onnx", "model.int8.onnx")]
    assert sizes[1] < 0.7 * sizes[0]


def test_the_linear_decoder_exports_and_static_int8_reads_photos(member, tmp_path):
    file, _ = member("linear")
    config = export(file, tmp_path / "m", Graphs(int8=True, photos=[photo(40, 48, seed) for seed in range(3)]))
    assert config.int8 == "static"
    names = ["config.json", "model.int8.onnx", "model.safetensors"]
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == names
    images = torch.rand(2, 3, 24, 40)
    with torch.inference_mode():
        exact = load_folder(tmp_path / "m").model(images)
    rounded = load_folder(tmp_path / "m", "int8").model(images)
    assert exact.shape == rounded.shape == (2, K, 3, 5)
    assert 0 < (exact - rounded).abs().mean() < 0.2 * exact.std()


# Least share of the pixels of a noise photo that keep their class under static int8. Measured: 0.90, 0.965, 0.74.
@pytest.mark.parametrize(
    ("name", "options", "kept"),
    [
        ("resnet10t", {"enlarge": 2}, 0.8),
        ("convnext_atto", {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]}, 0.85),
        pytest.param("mobilenetv4_conv_small_050", {}, 0.6, marks=pytest.mark.slow),
    ],
)
def test_convolutional_encoders(member, tmp_path, name, options, kept):
    file, _ = member("conv", name, options, protocol=WHOLE)
    photos = [photo(80, 96, seed) for seed in range(1, 5)]
    config = export(file, tmp_path / "m", Graphs(onnx=True, int8=True, photos=photos))
    assert config.int8 == "static" and compare(tmp_path / "m") >= kept
    with pytest.raises(ExportError, match="give source photos for static int8"):
        quantise(tmp_path / "m/model.onnx", tmp_path / "int8.onnx")  # without matrix products


def test_windows_of_photos_calibrate_static_int8():
    how = InferenceConfig(window=32, stride=32, multiple=8)
    assert [window.shape for window in calibration_windows([photo(12, 40)], how)] == [(3, 8, 32)] * 2
    with pytest.raises(ExportError, match="at least one calibration photo"):
        list(calibration_windows([], how))
    with pytest.raises(ExportError, match="40x7 pixels is smaller than 8"):
        next(calibration_windows([photo(7, 40)], how))


@pytest.mark.slow
def test_mask2former(member, tmp_path):
    vit = {"img_size": 64, "embed_dim": 24, "depth": 4, "num_heads": 3}
    file, _ = member("mask2former", "vit_tiny_patch16_224", vit, protocol=WHOLE)
    config = export(file, tmp_path / "m", Graphs(onnx=True, int8=True))
    assert config.int8 == "dynamic" and config.inference.multiple == 32  # patches of 16, cells of 32
    assert compare(tmp_path / "m") >= 0.9  # measured: 1.0


def test_a_fixed_size_pads_every_window_to_it(member, tmp_path):
    file, _ = member("linear")
    # Fitted into the bound, these photos are lower than the window.
    config = export(file, tmp_path / "m", Graphs(int8=True, onnx=True, photos=[photo(10, 50)], fixed_size=True))
    assert config.inference.multiple == config.inference.window == 32
    exact, graph, rounded = (load_folder(tmp_path / "m", engine) for engine in ("torch", "onnx", "int8"))
    picture = photo(5, 90)
    assert (exact.predict(picture) == graph.predict(picture)).mean() > 0.99
    assert rounded.predict(picture).shape == (5, 90)
    with pytest.raises(ExportError, match=r"model.onnx takes \['batch', 3, 32, 32\], not \[1, 3, 32, 40\]"):
        graph.model(torch.rand(1, 3, 32, 40))


class Undecided(nn.Module):
    """Branches on its values, which no graph can hold."""

    def forward(self, images):
        return images if images.sum() > 0 else -images


def test_what_cannot_be_traced_is_said_in_one_line_with_a_way_out(tmp_path):
    how = InferenceConfig(window=32, stride=32, multiple=8)
    with pytest.raises(ExportError, match=r"Try --fixed-size, .*\(32 x 32\).* Torch says: \w+: ") as caught:
        onnx_file.write_onnx(Undecided().eval(), tmp_path / "model.onnx", how)
    assert "\n" not in str(caught.value)
    padded = Encoder.create("tf_mobilenetv3_small_minimal_100")
    with pytest.raises(ExportError, match="Try --fixed-size, .* padding as in TensorFlow follows from height"):
        onnx_file.write_onnx(padded.eval(), tmp_path / "model.onnx", how)
    with pytest.raises(ExportError, match="cannot write this model as ONNX. Export it without ONNX and int8"):
        onnx_file.write_onnx(Undecided().eval(), tmp_path / "model.onnx", how.model_copy(update={"multiple": 32}))


def test_without_onnxruntime_the_message_says_what_to_install(made, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "gkd.deploy.onnx_runtime")
    with pytest.raises(ExportError, match="onnxruntime is not installed: pip install onnx onnxruntime onnxscript"):
        load_folder(made[0], "onnx")
    assert load_folder(made[0], "torch").config.name == "f2l-gkd-potsdam_rgb-0"


def test_encoders_of_one_size_are_told_from_the_others():
    assert Encoder.create("vit_tiny_patch16_224", **VIT).fixed_size
    encoder = build.any_size("vit_tiny_patch16_224", VIT)
    assert encoder.options["dynamic_img_size"] and not encoder.fixed_size
    encoder = build.any_size("tf_efficientnet_lite0", {"output_stride": 16})
    assert encoder.options == {"output_stride": 16} and not encoder.fixed_size
    assert build.multiple_of(encoder, TINY.models) == 16


def test_a_graph_that_differs_is_refused_and_nothing_is_left(made, member, monkeypatch, tmp_path):
    other, _ = member(seed=2)
    monkeypatch.setattr(onnx_file, "write_onnx", lambda _m, file, _how: shutil.copyfile(made[0] / "model.onnx", file))
    with pytest.raises(ExportError, match=r"model.onnx differs from PyTorch by .* in logits"):
        export(other, tmp_path / "new", Graphs(onnx=True))
    assert list(tmp_path.iterdir()) == []


STATISTICS = {"mean": [0.5] * 3, "std": [0.5] * 3}
READING = {"name": "vit_tiny_patch16_224", "options": {"checkpoint_path": "other.pth"}, **STATISTICS}


def edit(folder, **changes):
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, **changes}))


def test_a_class_count_that_differs_is_named(copy):
    config = read_config(copy)
    edit(copy, classes=config.classes[:-1], palette=config.palette[:-1])
    with pytest.raises(ExportError, match=r"config.json \(5 classes\) and the weights disagree"):
        load_folder(copy)
    with pytest.raises(ExportError, match="model.onnx gives 6 classes, config.json names 5"):
        load_folder(copy, "onnx")
    edit(copy, classes=config.classes)
    with pytest.raises(ExportError, match="6 classes and 5 colours"):
        load_folder(copy)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").write_text("{"), "config.json: the file: Invalid JSON"),
        (lambda f: edit(f, format="gkd-segmentor-9"), "config.json: format: Input should be"),
        (lambda f: edit(f, surplus=1), "config.json: surplus: Extra inputs"),
        (lambda f: edit(f, encoder=READING), "config.json: vit_tiny_patch16_224: checkpoint_path is no option"),
        (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors in it"),
        (lambda f: (f / "model.safetensors").write_bytes(b"0"), "not a whole safetensors file"),
    ],
)
def test_damaged_folders_are_named(copy, damage, message):
    assert load_folder(copy).inference.window == 32
    damage(copy)
    with pytest.raises(ExportError, match=message) as caught:
        load_folder(copy)
    assert str(copy) in str(caught.value)


def test_engines_and_their_files_are_named(copy):
    (copy / "model.int8.onnx").unlink()
    with pytest.raises(ExportError, match="no model.int8.onnx in it; .* FOLDER --int8"):
        load_folder(copy, "int8")
    graph = copy / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"0")
    with pytest.raises(ExportError, match="model.onnx is damaged: it is not the graph that was written; copy it again"):
        load_folder(copy, "onnx")
    edit(copy, graphs={})  # as in folders of earlier versions
    graph.write_bytes(b"0")
    with pytest.raises(ExportError, match="onnxruntime cannot load it"):
        load_folder(copy, "onnx")


def test_photos_smaller_than_a_patch_once_fitted_are_refused(made):
    with pytest.raises(ExportError, match=r"48x2 pixels after fitting it into \(48, 40\)"):
        load_folder(made[0]).predict(photo(8, 200))


def test_other_checkpoints_and_taken_folders_are_refused(member, made, tmp_path):
    file = made[2]
    (tmp_path / "photos").mkdir()
    (tmp_path / "segformer").mkdir()
    (tmp_path / "segformer/config.json").write_text('{"model_type": "segformer"}')
    shutil.copytree(made[0], tmp_path / "noted")
    (tmp_path / "noted/README.md").touch()
    (tmp_path / "noted/.git").mkdir()
    (tmp_path / "noted/.DS_Store").touch()
    old = save(tmp_path / "x.safetensors", {"encoder": tiny_vit()}, Record(method="gkd"))
    unfinished, expected = member(stage="domain_agnostic")[0], "expected model.safetensors of a .*; found"
    named = {"member": "f2l/gkd/potsdam_rgb"}
    for given, target, options, message in (
        (unfinished, "new", {}, f"{expected} domain_agnostic f2l"),
        (old, "new", {}, f"{expected} gkd"),
        (file.parent, "new", {}, "is a folder: name the file in it, model.safetensors"),
        (tmp_path / "absent.safetensors", "new", {}, "absent.safetensors is missing"),
        (file, "photos", {"force": True}, "no model folder of ours"),
        (file, "segformer", {"force": True}, "no model folder of ours, .*remove it yourself"),
        (file, "noted", {"force": True}, "noted holds .git, README.md as well, which --force would delete"),
        (file, "new", {"graphs": Graphs(photos=[photo(40, 48)])}, "calibration photos are for int8"),
        (file, "new", {"graphs": Graphs(fixed_size=True)}, "a fixed size is one of ONNX and int8 files"),
        (file, "new", named, "says itself what it is .*leave out --as f2l/gkd/potsdam_rgb"),
    ):
        with pytest.raises(ExportError, match=message):
            export(given, tmp_path / target, **options)
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "segformer/config.json").is_file() and (tmp_path / "noted/README.md").is_file()


def test_a_folder_is_replaced_once_the_new_one_is_whole(made, copy, monkeypatch):
    """A failure, at any step, leaves the old folder and nothing beside it."""
    edit(copy, name="old")
    rename = Path.rename

    def refuse(*args):
        raise OSError("no space")

    for name, fail in (
        ("gkd.deploy.write.write_config", refuse),
        ("pathlib.Path.rename", lambda path, to: refuse() if path.name == "new" else rename(path, to)),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(name, fail)
            with pytest.raises(OSError, match="no space"):
                export(made[2], copy, force=True)
        assert load_folder(copy).config.name == "old" and [file.name for file in copy.parent.iterdir()] == ["copy"]
    monkeypatch.chdir(copy)
    export(made[2], Path(), force=True)
    assert load_folder(copy).config.name == "f2l-gkd-potsdam_rgb-0"
    assert [file.name for file in copy.parent.iterdir()] == ["copy"]


@pytest.fixture
def published(monkeypatch, tmp_path):
    """A segmentor file of mmsegmentation with 6 classes, its weights, and its sizes in params.yaml."""
    state = mmseg_segmentor.random_weights(classes=K, queries=20, size=(64, 64))
    file = tmp_path / "iter_40000.pth"
    torch.save({"state_dict": state, "meta": {"iter": 40000}}, file)
    vit = {"img_size": 64, "patch_size": 16, "embed_dim": 24, "depth": 12, "num_heads": 3}
    models = with_decoder("mask2former", dim=64, queries=20, encoder_layers=2, decoder_layers=4)
    student = EncoderSpec(name="vit_small_patch14_dinov2", options=vit, weights="none")
    models = models.model_copy(update={"students": {"f2l": student}})
    monkeypatch.setattr(build, "load", lambda: seen_by(WHOLE, models))
    return file, state


def test_a_segmentor_of_mmsegmentation_becomes_a_folder_that_predicts_as_published(published, tmp_path):
    file, state = published
    folder = tmp_path / "aerial"
    config = export(file, folder, member="f2l/gkd/potsdam_rgb")
    assert config == read_config(folder) and config.name == "iter_40000" and len(config.classes) == K
    source = config.provenance
    assert source["checkpoint_sha256"] == sha256(file) and source["checkpoint"] == "iter_40000.pth"
    record = read_record(folder / "model.safetensors")
    assert (record.stage, record.setting, record.method, record.source) == ("foreign", "f2l", "gkd", "potsdam_rgb")
    assert "decoder.transformer.level_embed.weight" in read_tensors(folder / "model.safetensors")[0]
    images = torch.rand(2, 3, 64, 64)
    found = load_folder(folder).model
    with torch.inference_mode():
        expected = mmseg_segmentor.predict(state, 255 * images.double())[2]
        torch.testing.assert_close(found(images).double(), expected, rtol=0, atol=1e-4)
    assert load_folder(folder).predict(photo(80, 64)).shape == (80, 64)
    again = export(folder / "model.safetensors", tmp_path / "again")
    assert again.provenance["record"] == json.loads(record.text()) and again.classes == config.classes
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (None, "Of a segmentor that others trained, say .*: --as SETTING/METHOD/SOURCE"),
        ("f2l", "--as f2l: expected SETTING/METHOD/SOURCE, such as f2l/gkd/gtav"),
        ("f2l//gtav", "expected SETTING/METHOD/SOURCE"),
        ("f2l/gkd/mars", "unknown source 'mars'"),
        ("f2l/rein/potsdam", "unknown source 'potsdam' or method 'rein'"),
        ("f3l/gkd/potsdam_rgb", "models.students has no 'f3l'"),
        ("f2l/gkd/gtav", r"classes: 6 in the file, 19 in the model"),
    ],
)
def test_what_a_foreign_segmentor_is_must_be_said_and_fit(published, tmp_path, member, message):
    with pytest.raises(ValueError, match=message):
        export(published[0], tmp_path / "new", member=member)
    assert not (tmp_path / "new").exists()
