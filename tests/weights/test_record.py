"""What records say, where they have it from, and what they leave out."""

import json

import pytest
import timm
from tiny_models import tiny_vit
from tiny_params import TINY
from torch import nn

from gkd.data.domains import PROXY
from gkd.datasets import official
from gkd.models import Encoder
from gkd.params import EncoderSpec
from gkd.weights import Record, read_record, record, save
from gkd.weights.record import EncoderInfo
from gkd.weights.tensors import digest

WHO = {"setting": "f2l", "method": "gkd", "seed": 0}


def test_a_segmentor_says_all_that_rebuilds_it():
    who = {**WHO, "stage": "task_learning", "source": "gtav"}
    bounds = TINY.evaluate.model_copy(update={"bounds": {"gtav": {"validation": [48, 40]}}})
    params = TINY.model_copy(update={"evaluate": bounds})
    found = Record.of(params, who, segments=official().sources["gtav"], lr=3e-3)
    assert found.classes[0] == "road" and len(found.palette) == len(found.classes) == 19
    assert (found.label_space, found.lr, found.profile) == ("cityscapes", 3e-3, "tiny")
    assert found.decoder.decoder == params.models.decoder and found.decoder.decoder_width == params.models.decoder_width
    assert found.inference.model_dump() == {**params.inference.model_dump(), "bound": (48, 40)}
    # A file without a decoder says nothing of one.
    assert found.completed({"encoder": tiny_vit()}, {}).decoder is None
    assert Record.model_validate_json(found.text()) == found


def test_training_data_and_the_teacher_go_on_from_file_to_file(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "ROOT", tmp_path)
    teacher, student = tiny_vit(40, num_heads=4), tiny_vit()
    first = Record.of(TINY, {**WHO, "stage": "task_agnostic"}, [PROXY], start="none", teacher=teacher)
    assert (first.start, first.teacher_digest) == ("none", digest(teacher.state_dict()))
    file = save(tmp_path / "results" / "encoder.safetensors", {"encoder": student}, first)
    assert read_record(file).digests == {"encoder": digest(student.state_dict())}
    for start in (file, "results/encoder.safetensors"):
        second = Record.of(TINY, {**WHO, "stage": "domain_agnostic"}, official().sources["gtav"].train, start=start)
        assert list(second.data) == ["proxy/train", "gtav/train"] and second.start == "results/encoder.safetensors"
    assert second.data["gtav/train"] == official().layouts["gtav"].about.licence
    elsewhere = Record.of(TINY, {"stage": "domain_agnostic"}, start=tmp_path.parent / "elsewhere" / "dino.pth")
    assert elsewhere.start == "dino.pth" and elsewhere.data == {}
    monkeypatch.setenv("HOME", str(file.parent))
    assert EncoderSpec(name="x", options={}, weights="~/encoder.safetensors").file == str(file)
    assert list(Record.of(TINY, {"stage": "domain_agnostic"}, start="~/encoder.safetensors").data) == ["proxy/train"]


@pytest.mark.parametrize(
    ("stage", "keys"),
    [
        ("task_agnostic", {"task_agnostic", "heads", "compute"}),
        ("task_learning", {"task_learning", "threads", "label_divisor", "heads"}),
    ],
)
def test_edits_that_a_stage_does_not_follow_from_leave_its_record(stage, keys):
    params, first = TINY, Record.of(TINY, {**WHO, "stage": stage})
    assert first.params.keys() == keys
    edited = params.model_copy(
        update={
            "roots": {"gtav": "/data/gtav"},
            "machine": params.machine.model_copy(update={"resume_seconds": 1.0, "processes": 4}),
            "domain_agnostic": params.domain_agnostic.model_copy(update={"steps": 9}),
            "seeds": [0, 1],
            "heads": {**params.heads, "none": {"task_steps": 9}},
        }
    )
    assert Record.of(edited, {**WHO, "stage": stage}).text() == first.text()
    other = params.model_copy(update={stage: getattr(params, stage).model_copy(update={"batch_size": 2})})
    assert Record.of(other, {**WHO, "stage": stage}) != first
    longer = params.model_copy(update={"heads": {**params.heads, "gkd": {"task_steps": 9}}})
    assert Record.of(longer, {**WHO, "stage": stage}) != first


def test_options_of_an_encoder_are_plain_values():
    info = EncoderInfo.of(tiny_vit(size=(32, 48), norm_layer=nn.LayerNorm))
    assert info.options["img_size"] == [32, 48] and info.options["norm_layer"] == "LayerNorm"
    assert json.loads(info.model_dump_json())["heads"] == [3]
    own = EncoderInfo.of(Encoder(timm.create_model("test_vit", num_classes=0)))
    assert (own.name, own.options) == ("test_vit", None)
