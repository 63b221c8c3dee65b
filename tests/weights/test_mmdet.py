"""mmdet's Mask2Former head under our names, against the forward pass written out in mmseg_segmentor.py."""

import mmseg_segmentor
import pytest
import torch
from tiny_models import official_eva02
from tiny_params import mask2former

from gkd.models import Encoder
from gkd.params import EncoderSpec
from gkd.segmentation.decoders import LinearDecoder, Segmentor
from gkd.segmentation.mask2former import Mask2Former
from gkd.weights import CheckpointError, build_encoder, load

NAME = "vit_small_patch14_dinov2"
VIT = {"img_size": (64, 96), "patch_size": 16, "embed_dim": 24, "depth": 12, "num_heads": 3}
SIZES = {"dim": 64, "queries": 6, "encoder_layers": 2, "decoder_layers": 4}
CLASSES = 4
HEAD = "decode_head."


@pytest.fixture(scope="module")
def state():
    return mmseg_segmentor.random_weights()


@pytest.fixture(scope="module")
def images():
    """RGB in [0, 1]; float64, so that right results differ by fp32 pixel statistics and sampling places alone."""
    return torch.rand(2, 3, 64, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def published(state, images):
    return mmseg_segmentor.predict(state, 255 * images)


def segmentor(classes=CLASSES, **sizes):
    torch.manual_seed(0)
    encoder = Encoder.create(NAME, **VIT)
    decoder = Mask2Former(encoder, classes, mask2former(**{**SIZES, **sizes}))
    return Segmentor(encoder, decoder, frozen=True).eval()


def write(path, state):
    torch.save({"meta": {"dataset_meta": {"classes": ("road", "car")}, "iter": 40000}, "state_dict": state}, path)
    return path


def parts(model):
    return {"encoder": model.encoder, "decoder": model.decoder}


def below(prefix, state):
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def test_a_file_predicts_as_published(tmp_path, capsys, state, images, published):
    model = segmentor()
    path = write(tmp_path / "iter_40000.pth", state)
    load(path, parts(model))
    assert capsys.readouterr().out == (
        f"{path}: taken for an mmseg segmentor with mmdet's Mask2Former head; loaded: encoder, decoder; set aside: "
        "meta, mask token (mask_token)\n"
    )
    model.double()
    with torch.no_grad():
        features = model.features(images)
        theirs = mmseg_segmentor.vit(below("backbone.", {k: v.double() for k, v in state.items()}), 255 * images)
        for level in range(4):
            ours = model.decoder._at_level(level, features[level])
            torch.testing.assert_close(ours, theirs[level], rtol=0, atol=1e-5)
        found = model.decoder.predict(features)
        assert len(found.classes) == len(published[0]) == 5
        for ours, theirs in zip([*found.classes, *found.masks], [*published[0], *published[1]], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
        torch.testing.assert_close(model(images), published[2], rtol=0, atol=1e-5)


def test_another_number_of_classes_is_one_error_with_both(tmp_path, state):
    path = write(tmp_path / "x.pth", state)
    with pytest.raises(CheckpointError) as error:
        load(path, {"decoder": segmentor(6).decoder})
    assert str(error.value) == (
        f"{path}, an mmseg segmentor with mmdet's Mask2Former head (decoder): the decoder was trained with another "
        "number of classes (classes: 4 in the file, 6 in the model). Use it with the classes of its own source, or "
        "train a new decoder"
    )


@pytest.mark.parametrize("sizes", [{"queries": 8}, {"encoder_layers": 1}, {"decoder_layers": 5}, {"dim": 32}])
def test_other_sizes_are_named_as_in_params_yaml(tmp_path, state, sizes):
    with pytest.raises(CheckpointError, match="does not fit this model") as error:
        load(write(tmp_path / "x.pth", state), {"decoder": segmentor(**sizes).decoder})
    wanted = {**SIZES, **sizes}
    in_words = [", ".join(f"{name}: {value}" for name, value in values.items()) for values in (SIZES, wanted)]
    assert str(error.value).splitlines()[-1] == (
        "The file looks like a mask2former decoder of {}; the model is a mask2former decoder of {}".format(*in_words)
    )


def test_another_decoder_and_weights_that_one_side_lacks_are_named(tmp_path, state):
    path, decoder = tmp_path / "x.pth", segmentor().decoder
    with pytest.raises(CheckpointError, match="looks like a mask2former decoder of dim: 64, .*; the model is none"):
        load(write(path, state), {"decoder": LinearDecoder(24, CLASSES)})
    for key in ("decoder_input_projs.0.weight", "pixel_decoder.lateral_convs.1.conv.weight", "extra"):
        with pytest.raises(CheckpointError, match=rf"model \(1 mismatches\):\n  unexpected {key} \(4,\)"):
            load(write(path, state | {HEAD + key: torch.zeros(4)}), {"decoder": decoder})
    less = {k: v for k, v in state.items() if "layers.1.self_attn.attn.in_proj_b" not in k}
    with pytest.raises(CheckpointError, match=r"3 mismatches\):\n  missing transformer.decoder.layers.1.self_attn.k"):
        load(write(path, less), {"decoder": decoder})


def test_without_a_final_norm_only_a_decoder_of_blocks_will_do(tmp_path, capsys, state, images, published):
    """As mmsegmentation's EVA02: the head reads blocks, and the final norm behind them is not built."""
    path = write(tmp_path / "x.pth", {k: v for k, v in state.items() if not k.startswith("backbone.norm.")})
    model = segmentor()
    load(path, parts(model))
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"{path}: the final norm is not in the file; the decoder does not read it"
    ]
    with torch.no_grad():
        torch.testing.assert_close(model.double()(images), published[2], rtol=0, atol=1e-5)
    with pytest.raises(CheckpointError, match=r"2 mismatches\):\n  missing backbone.norm.weight \(24,\)"):
        build_encoder(EncoderSpec(name=NAME, options=VIT, weights=str(path)))
    pixels = {k: v for k, v in torch.load(path)["state_dict"].items() if not k.startswith(HEAD)}
    path = write(tmp_path / "linear.pth", pixels | {f"{HEAD}conv_seg.bias": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"2 mismatches\):\n  missing backbone.norm.weight \(24,\)"):
        load(path, {"encoder": model.encoder, "decoder": LinearDecoder(24, 1)})


def test_a_segmentor_on_eva02_loads_from_mmsegmentations_names(tmp_path, capsys, state):
    """Rotary buffers in every block, no final norm, no mask token; the head is the same."""
    name, options = "eva02_base_patch14_224", {**VIT, "img_size": 64, "num_heads": 2}
    torch.manual_seed(1)
    encoder = Encoder.create(name, **options).eval()
    file = {f"backbone.{k}": v for k, v in official_eva02(encoder).items() if not k.startswith("norm.")}
    path = write(tmp_path / "x.pth", file | {key: v for key, v in state.items() if key.startswith(HEAD)})
    fresh = Segmentor(Encoder.create(name, **options), segmentor().decoder, frozen=True).eval()
    load(path, parts(fresh))
    first, *notes = capsys.readouterr().out.splitlines()
    assert first.endswith(
        "set aside: meta, rope buffers (rope.freqs_cos, blocks.0.attn.rope.freqs_sin, "
        "blocks.1.attn.rope.freqs_sin and 10 more)"
    )
    assert [note.split(": ", 1)[1][:20] for note in notes] == ["the final norm is no", "the file does not sa"]
    pictures = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        maps = encoder.intermediate(pictures, fresh.decoder.blocks)
        assert all(torch.equal(*pair) for pair in zip(fresh.features(pictures), maps, strict=True))


def test_an_encoder_with_other_pixel_statistics_is_told_to_the_user(tmp_path, capsys, state):
    path = write(tmp_path / "x.pth", state)
    statistics = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    options = {**VIT, "init_values": 1e-5}
    load(path, {"encoder": Encoder.create("vit_small_patch16_224", **options)})  # 0.5 and 0.5 in timm
    note = capsys.readouterr().out.splitlines()[1]
    assert note.startswith(f"{path}: the file does not say how images were normalised.")
    assert "this encoder has mean (0.5, 0.5, 0.5), std (0.5, 0.5, 0.5)" in note
    assert note.endswith(
        "add to its `options` pretrained_cfg_overlay: {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}"
    )
    load(path, {"encoder": Encoder.create("vit_small_patch16_224", **options, pretrained_cfg_overlay=statistics)})
    assert len(capsys.readouterr().out.splitlines()) == 1
