"""Files read as they are: torn ones, pickles that hold code, and digests."""

import argparse
import os
import shlex
import sys
import types

import pytest
import torch
from safetensors.torch import save_file
from tiny_models import encoder_of, mmseg_file, randomised, tiny_vit

from gkd.segmentation.decoders import LinearDecoder, Segmentor
from gkd.weights import CheckpointError, load
from gkd.weights.tensors import digest, read_pickle, read_tensors


def test_a_digest_follows_from_names_types_shapes_and_values_alone():
    state = {"b": torch.ones(2, 3), "a": torch.arange(4)}
    found = digest(state)
    assert digest(dict(reversed(state.items()))) == found == digest({**state, "b": torch.ones(3, 2).T})
    others = ({"c": state["b"]}, {"b": torch.ones(3, 2)}, {"b": torch.ones(2, 3).int()}, {"b": -state["b"]})
    assert found not in [digest(state | other) for other in others]


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_safetensors_file_is_named(tmp_path, kept):
    path = tmp_path / "x.safetensors"
    save_file({"w": torch.ones(64)}, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="x.safetensors is not a whole safetensors file.*delete it, and run what"):
        read_tensors(path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.01, 0.5, 0.999])
def test_a_truncated_pickle_is_named(tmp_path, kept, zipped):
    path = tmp_path / "x.pth"
    torch.save({"w": torch.ones(500)}, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(CheckpointError, match=r"x.pth is not a whole file of torch.save \(.+\); fetch or write it"):
        read_pickle(path)


def test_missing_files_and_web_pages_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="checkpoint .*absent.safetensors is missing: run the stage"):
        read_tensors(tmp_path / "absent.safetensors")
    with pytest.raises(CheckpointError, match="checkpoint .*absent.pth is missing"):
        read_pickle(tmp_path / "absent.pth")
    (tmp_path / "x.pth").write_text("<html>404 Not Found</html>")
    with pytest.raises(CheckpointError, match="not a whole file of torch.save"):
        read_pickle(tmp_path / "x.pth")


class Command(str):
    """A pickle of it runs a command when it is read."""

    def __reduce__(self):
        return os.system, (str(self),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, zipped):
    path = tmp_path / "evil.pth"
    content = {"model": {"w": torch.ones(1)}, "args": Command(f"touch {tmp_path / 'ran'}")}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError) as error:
        encoder_of(path)
    assert not (tmp_path / "ran").exists()
    for part in (str(path), "was refused", "posix.system", "can run code", "trust its maker", "torch.save("):
        assert part in str(error.value)


def test_namespaces_are_read_and_other_objects_are_not(tmp_path):
    torch.save({"args": argparse.Namespace(lr=1.0), "model": {"w": torch.ones(1)}}, tmp_path / "a.pth")
    assert read_pickle(tmp_path / "a.pth")["args"].lr == 1.0
    torch.save({"args": argparse.Namespace(path=tmp_path)}, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match="b.pth was refused: besides weights it holds pathlib.PosixPath"):
        read_pickle(tmp_path / "b.pth")


def test_a_file_straight_from_mmengine_is_refused_and_the_line_of_the_message_strips_it(tmp_path, monkeypatch):
    """A stand-in for mmengine's class: its training files keep the loss curves as objects."""
    for name in ("mmengine", "mmengine.logging", "mmengine.logging.history_buffer"):
        monkeypatch.setitem(sys.modules, name, module := types.ModuleType(name))
    module.HistoryBuffer = type("HistoryBuffer", (), {"__module__": module.__name__})
    original = Segmentor(tiny_vit(seed=1), randomised(LinearDecoder(24, 5)), frozen=True)
    history = {"message_hub": {"log_scalars": {"train/loss": module.HistoryBuffer()}}}
    torch.save(mmseg_file(original) | history, tmp_path / "iter_40000.pth")
    with pytest.raises(CheckpointError) as error:
        encoder_of(tmp_path / "iter_40000.pth")
    message, line = str(error.value).splitlines()
    assert "besides weights it holds mmengine.logging.history_buffer.HistoryBuffer, and" in message
    assert message.endswith("write one where such code may run and mmengine is installed:")

    run_line(line, tmp_path, monkeypatch)
    encoder, decoder = tiny_vit(), LinearDecoder(24, 5)
    load(tmp_path / "weights_only.pth", {"encoder": encoder, "decoder": decoder})
    for found, wanted in ((encoder.backbone, original.encoder.backbone), (decoder, original.decoder)):
        assert all(torch.equal(value, wanted.state_dict()[key]) for key, value in found.state_dict().items())


@pytest.mark.parametrize(
    "wrap", [lambda m: m, lambda m: {"model": m, "epoch": 3}, lambda m: {"module": m.state_dict()}]
)
def test_the_line_of_the_message_strips_whole_models_too(tmp_path, monkeypatch, wrap):
    original = tiny_vit(seed=1).backbone
    torch.save({"net": original}, tmp_path / "refused.pth")
    with pytest.raises(CheckpointError) as error:
        read_pickle(tmp_path / "refused.pth")
    torch.save(wrap(original), tmp_path / "refused.pth")
    run_line(str(error.value).splitlines()[1], tmp_path, monkeypatch)
    loaded = encoder_of(tmp_path / "weights_only.pth").backbone.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in original.state_dict().items())


def run_line(line, folder, monkeypatch):
    """What a user would paste, without the shell."""
    monkeypatch.chdir(folder)
    python, option, code = shlex.split(line)
    assert (python, option) == ("python", "-c")
    exec(code, {})
