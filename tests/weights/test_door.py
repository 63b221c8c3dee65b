"""`save` and `load` of our own files: what goes in comes out, and every difference is refused by name."""

import errno

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from tiny_models import tiny_vit
from tiny_params import TINY, with_decoder
from torch import nn

from gkd.datasets import official
from gkd.models import Encoder
from gkd.qsd import Objective
from gkd.segmentation.decoders import ConvDecoder, LinearDecoder, build_decoder
from gkd.weights import CheckpointError, Record, load, read_record, save, tensors
from gkd.weights.tensors import read_tensors

RECORD = Record(stage="task_agnostic", method="gkd", seed=3, lr=1e-4)


def same_bits(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) and a[key].dtype == b[key].dtype for key in a)


def as_before(path, said='{"stage": "pretrain", "lr": 0.003, "steps": 400}'):
    """The file as earlier versions wrote it: metadata without a format, or none."""
    state = read_tensors(path)[0]
    save_file(state, path, metadata=None if said is None else {"gkd": said})
    return path


def test_a_round_trip_is_bit_equal(tmp_path):
    encoder, objective = tiny_vit(seed=1), Objective(24, 16, diagonal_bias=6.0)
    path = save(tmp_path / "new" / "folder" / "x.safetensors", {"encoder": encoder, "objective": objective}, RECORD)
    fresh, heads = tiny_vit(seed=2), Objective(24, 16, diagonal_bias=0.0)
    record = load(path, {"encoder": fresh, "objective": heads})
    assert record == read_record(path) and record.digests.keys() == {"encoder", "objective"}
    assert record.model_copy(update={"encoder": None, "digests": {}}) == RECORD
    assert same_bits(fresh.state_dict(), encoder.state_dict()) and same_bits(heads.state_dict(), objective.state_dict())
    assert [file.name for file in path.parent.iterdir()] == ["x.safetensors"] and path.stat().st_mode & 0o077 == 0o044


def test_equal_content_gives_equal_bytes(tmp_path):
    encoder, objective = tiny_vit(), Objective(24, 16)
    one = save(tmp_path / "one.safetensors", {"encoder": encoder, "objective": objective}, RECORD).read_bytes()
    two = save(tmp_path / "two.safetensors", {"objective": objective, "encoder": encoder}, RECORD).read_bytes()
    assert one == two
    assert str(tmp_path).encode() not in one


def test_other_parts_are_left_alone_and_absent_ones_named(tmp_path):
    path = save(tmp_path / "x.safetensors", {"encoder": nn.Linear(2, 3), "encoder2": nn.Linear(4, 5)}, RECORD)
    fresh = nn.Linear(4, 5)
    load(path, {"encoder2": fresh})
    assert torch.equal(read_tensors(path)[0]["encoder2.weight"], fresh.weight)
    with pytest.raises(CheckpointError, match="x.safetensors holds encoder, encoder2, no decoder"):
        load(path, {"decoder": fresh})
    with pytest.raises(CheckpointError, match=r"x.safetensors \(decoder\) does not fit.*\n  missing weight \(5, 4\)"):
        load(as_before(path), {"decoder": fresh})


def test_nothing_is_loaded_unless_all_fits(tmp_path):
    path = save(tmp_path / "x.safetensors", {"a": nn.Linear(2, 2), "b": nn.Linear(2, 3)}, RECORD)
    first = nn.Linear(2, 2)
    before = first.weight.clone()
    with pytest.raises(CheckpointError, match=r"x.safetensors \(b\) does not fit"):
        load(path, {"a": first, "b": nn.Linear(2, 4)})
    assert torch.equal(first.weight, before)


@pytest.mark.parametrize(
    "failure",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("I/O error: No space left on device (os error 28)"),
        PermissionError(errno.EACCES, "Permission denied"),
    ],
    ids=["python", "safetensors", "another"],
)
def test_a_full_disk_leaves_the_old_file_and_no_partial_one(tmp_path, monkeypatch, failure):
    path = save(tmp_path / "x.safetensors", {"m": nn.Linear(2, 2)}, RECORD)
    before = path.read_bytes()

    def full(_tensors, aside, metadata):
        aside.write_bytes(b"half")
        raise failure

    monkeypatch.setattr(tensors, "save_file", full)
    expected = PermissionError if isinstance(failure, PermissionError) else CheckpointError
    with pytest.raises(expected, match=r"denied|no disk space to write .*x.safetensors \(1 MB\)"):
        save(path, {"m": nn.Linear(500, 500)}, RECORD)
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"] and path.read_bytes() == before


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_neither_written_nor_read(tmp_path, monkeypatch, value):
    sound, broken = tiny_vit(), tiny_vit()
    with torch.no_grad():
        broken.backbone.blocks[1].mlp.fc1.weight[5] = value
    with pytest.raises(CheckpointError, match=r"x.safetensors was not written: .*encoder.backbone.blocks.1.mlp.fc1.w"):
        save(tmp_path / "x.safetensors", {"encoder": broken}, RECORD)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("gkd.weights.door.not_finite", lambda _: [])
    path = save(tmp_path / "x.safetensors", {"encoder": broken}, RECORD)
    with pytest.raises(CheckpointError, match=r"x.safetensors \(encoder\) holds NaN or infinite values in backbone.b"):
        load(path, {"encoder": sound})
    with torch.no_grad():
        sound.mask_token.fill_(3e38)  # whose sum is no number of this format
    save(tmp_path / "y.safetensors", {"encoder": sound}, RECORD)


def test_another_number_format_and_a_flipped_bit_are_refused_in_the_part_that_is_read(tmp_path):
    modules = {"decoder": LinearDecoder(24, 5), "encoder": tiny_vit()}
    path = save(tmp_path / "x.safetensors", modules, RECORD)
    with pytest.raises(CheckpointError, match=r"mask_token: torch.float32 in the file, torch.float64 in the model"):
        load(path, {"encoder": tiny_vit().double()})
    content = bytearray(path.read_bytes())
    content[-4001] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x.safetensors \(encoder\) is damaged: its weights are not those that"):
        load(path, modules)
    load(path, {"decoder": modules["decoder"]})


def vit(**options):
    return tiny_vit(num_heads=options.pop("num_heads", 3), **options)


@pytest.mark.parametrize(
    ("other", "line"),
    [
        (lambda: vit(num_heads=4), "encoder.options.num_heads: 3 in the file, 4 in the model"),
        (lambda: Encoder(vit(num_heads=4).backbone), r"encoder.heads: \(3,\) in the file, \(4,\) in the model"),
        (lambda: vit(act_layer="relu"), "encoder.options.act_layer: None in the file, relu in the model"),
        (lambda: vit(dim=12), "encoder.options.embed_dim: 24 in the file, 12 in the model"),
        (lambda: vit(patch=16, size=64), "encoder.options.img_size: 32 in the file, 64 in the model"),
        (
            lambda: vit(pretrained_cfg_overlay={"mean": (0.4, 0.5, 0.5)}),
            r"encoder.mean: \(0.5, 0.5, 0.5\) in .*, \(0.4",
        ),
        (
            lambda: Encoder.create("vit_small_patch16_224", **vit().options),
            "encoder.name: vit_tiny_.* in the file, vit_sm",
        ),
    ],
)
def test_another_encoder_is_refused_by_name_though_weights_may_fit(tmp_path, other, line):
    path = save(tmp_path / "x.safetensors", {"encoder": vit(seed=1)}, RECORD)
    with pytest.raises(CheckpointError, match=rf"x.safetensors does not fit this model:(.|\n)*{line}"):
        load(path, {"encoder": other()})
    load(path, {"encoder": vit(drop_path_rate=0.1, dynamic_img_size=True)})  # other sizes and training, the same model


def decoder(name, classes=19, blocks=(), **sizes):
    models = with_decoder(name, 64, **{"dim": 32, "queries": 20, "encoder_layers": 1, **sizes})
    params = TINY.model_copy(update={"models": models})
    record = Record.of(params, {"stage": "x"}, segments=official().sources["gtav"])
    return record, build_decoder(models, tiny_vit(depth=5), classes, blocks)


def test_what_a_decoder_reads_is_refused_by_name(tmp_path):
    record, own = decoder("mask2former", blocks=(0, 1, 2, 3))
    path = save(tmp_path / "x.safetensors", {"decoder": own}, record)
    assert load(path, {"decoder": own}).decoder.blocks == (0, 1, 2, 3)
    for other, line in (
        ({"blocks": (0, 1, 2, 4)}, r"decoder.blocks: \(0, 1, 2, 3\) in the file, \(0, 1, 2, 4\) in the model"),
        ({"blocks": (0, 1, 2, 3), "stride": 8}, "decoder.mask2former.stride: 4 in the file, 8 in the model"),
    ):
        with pytest.raises(CheckpointError, match=line):
            load(path, {"decoder": decoder("mask2former", **other)[1]})
    record, own = decoder("conv")
    path = save(path, {"decoder": own}, record)
    with pytest.raises(CheckpointError, match=r"\(decoder conv\): the decoder was .*classes: 19 in .*, 7 in the"):
        load(path, {"decoder": decoder("conv", 7)[1]})
    with pytest.raises(CheckpointError, match=r"x.safetensors \(decoder conv\) does not fit this model"):
        load(path, {"decoder": ConvDecoder(24, 19, 32)})


@pytest.mark.parametrize("said", ['{"stage": "pretrain", "lr": 0.003, "steps": 400}', '{"made": "elsewhere"}', None])
def test_files_of_earlier_versions_load_without_a_word(tmp_path, capsys, said):
    encoder, fresh = tiny_vit(seed=1), tiny_vit(seed=2)
    path = as_before(save(tmp_path / "x.safetensors", {"encoder": encoder}, RECORD), said)
    assert load(str(path), {"encoder": fresh}) == Record() and same_bits(fresh.state_dict(), encoder.state_dict())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("{", "x.safetensors: its record is damaged"),
        ('{"format": "gkd-weights-9"}', "has the format 'gkd-weights-9', known is 'gkd-weights-1': update gkd"),
        ('{"format": "gkd-weights-1", "lr": "0.1"}', "its record is damaged; .*\n.*lr"),
        ('{"format": "gkd-weights-1", "surplus": 1}', "its record is damaged; .*\n.*surplus"),
    ],
)
def test_a_record_that_is_not_understood_is_named(tmp_path, said, message):
    path = as_before(save(tmp_path / "x.safetensors", {"encoder": tiny_vit()}, RECORD), said)
    with pytest.raises(CheckpointError, match=message):
        read_record(path)
