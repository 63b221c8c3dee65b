"""params.yaml: what is read, and the one error that names every fault by its key."""

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, get_args

import pytest
from dataset_names import written
from pydantic import BaseModel
from ruamel.yaml import YAML

from gkd import params
from gkd.params import ROOT, EncoderSpec, Machine, Models, Params, ParamsError, load

FAULTS = {  # a key: wrong values, and what is expected instead
    "settings": ([[], ["f2l", "f2l"]], ""),
    "sources": ([[], "gtav", ["gtav", "gtav"]], ""),
    "targets.gtav": ([[], "cityscapes"], ""),
    "seeds": ([[], [0, 1, 0]], ""),
    "seeds.1": ([[0, -1], [0, 1.5], [0, 2**40]], ""),
    "rows": ([["kd", "kd"]], ""),
    "hold_out": (["false"], "a valid boolean"),
    "label_divisor": ([0], "greater than 0"),
    "roots.gtav": ([5], "a valid string"),
    "datasets.harbour": ([5], ""),
    "compute.threads": ([-1], "0"),
    "compute.precision": (["fp16"], "'fp32', 'bf16' or 'auto'"),
    "machine.resume_seconds": ([float("nan"), -1.0], ""),
    "models.decoder": (["mask2fomer"], "'linear', 'conv' or 'mask2former'"),
    "models.decoder_width": ([0, 48], ""),
    "models.teacher.weights": (["hubb", "https://a/b.pth", "weights/a", "package:", "package:a.b", "a.npz", "", 5], ""),
    "models.teacher.options": ([{"img_size": float("inf")}, {"a": [{"b": float("nan")}]}], "text and finite numbers"),
    "models.teacher.blocks.0": ([[-1]], ""),
    "heads.gkd": ([{"pool": float("nan")}, {"pool": date(2026, 3, 1)}, 5], ""),
    "task_agnostic.steps": ([-1, 1.5, True, "6"], ""),
    "task_agnostic.micro_batch": ([0, 3], ""),
    "task_agnostic.lr": ([0.0, "1e-4"], ""),
    "task_agnostic.min_lr": ([-1.0e-5, 1.0], ""),
    "distillation.weight_decay": ([-0.5, float("inf")], ""),
    "distillation.warmup_steps": ([-3, 4], ""),
    "distillation.image_size": ([[64], [64, 0], [64, 64.5], [64, True], 64], "two whole numbers above 0"),
    "distillation.scale": ([[0.5, 0.1], [0.0, 1.0], [0.5, 2.0], [0.5]], ""),
    "distillation.mask_ratio": ([1.5, -0.1], ""),
    "domain_agnostic.erase_probability": ([2], ""),
    "domain_agnostic.source_steps.gtav": ([0], "greater than 0"),
    "task_learning.lrs": ([[], [1.0e-3, 1.0e-3]], ""),
    "task_learning.lrs.1": ([[1.0e-3, "x"], [1.0e-3, -1.0]], ""),
    "task_learning.scale": ([[2.0, 0.5], [1.0, float("inf")]], "two positive numbers, the smaller one first"),
    "task_learning.crop": ([[64, -64]], "two whole numbers above 0"),
    "task_learning.max_class_share": ([0, 1.5], ""),
    "task_learning.kd_temperature": ([0.0], ""),
    "inference.stride": ([0, 96], ""),
    "evaluate.bounds.gtav.bdd100k": ([[0, -5], [2, 2, 2], ["2", 2]], "two whole numbers above 0"),
    "evaluate.pictures": ([0], ""),
}


def faults(file: Path) -> list[str]:
    with pytest.raises(ParamsError) as error:
        load(file)
    assert str(error.value) == "\n".join(error.value.faults)
    assert all(line.startswith("params.yaml: ") for line in error.value.faults)
    return [line.removeprefix("params.yaml: ") for line in error.value.faults]


def test_the_active_profile_is_read_and_frozen(tmp_path: Path) -> None:
    assert load().profile == YAML(typ="safe").load(ROOT / "params.yaml")["profile"]
    params = load(written(tmp_path, {"task_agnostic.batch_size": 4, "task_agnostic.settings": ["f2f"]}))
    assert (params.task_agnostic.batch_size, params.domain_agnostic.batch_size) == (4, 8)  # on top of `distillation`
    with pytest.raises(ParamsError, match=r"models.students has no 'f2g' \(only: f2f, f2l"):
        params.student("f2g")
    with pytest.raises(ValueError, match="frozen"):
        params.task_learning.steps = 1


def sections(section: type[BaseModel] = Params) -> Iterator[type[BaseModel]]:
    yield section
    for kind in (field.annotation for field in section.model_fields.values()):
        for part in (kind, *get_args(kind)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from sections(part)


def test_what_changes_a_result_has_no_default() -> None:
    found = {s: f for s in sections() for f in s.model_fields.values() if not f.is_required()}
    assert {*sections()} >= {Models, EncoderSpec, Machine}
    for section in {*sections()} - {Machine}:  # what no result follows from
        for name, field in section.model_fields.items():
            empty = field.is_required() or field.default in (None, [], {}, Machine())
            assert empty, f"{section.__name__}.{name}: write {field.default!r} in the profiles instead"
    assert found


@pytest.mark.parametrize("number", ["1e-06", "1.0e-6", "1E-6"])
def test_numbers_are_read_as_dvc_writes_them(tmp_path: Path, number: str) -> None:
    file = written(tmp_path, {"task_agnostic.min_lr": "NUMBER"})
    file.write_text(file.read_text().replace("NUMBER", number))
    assert load(file).task_agnostic.min_lr == 1e-6


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, (values, _) in FAULTS.items() for value in values])
def test_a_wrong_value_is_named_with_what_is_expected_and_given(tmp_path: Path, key: str, value: Any) -> None:
    (line,) = faults(written(tmp_path, {key.removesuffix(".1").removesuffix(".0"): value}))
    assert re.match(f"{key}: expected .*{FAULTS[key][1]}.* \\(given: ", line)


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    one = {key: values[0] for key, (values, _) in FAULTS.items() if not key[-1].isdigit()}
    found = [line.split(": ")[0] for line in faults(written(tmp_path, {**one, "profil": "mini", "inference": 5}))]
    expected = {*one, "profil", "inference"} - {"inference.stride"}
    assert {key.removesuffix(".pool") for key in found} >= expected and len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"profil": "mini"}, "profil: unknown key; check its spelling (given: 'mini')"),
        ({"task_agnostic.lrr": 0.1}, "task_agnostic.lrr: unknown key; check"),
        ({"evaluate": []}, "evaluate: expected a mapping of parameters (given: [])"),
        ({"roots": None}, "roots: expected a valid dictionary (given: None)"),
        ({"inference.stride": 96}, "inference.stride: expected at most window, 64 "),
        # What another faulty key says is not held against this one.
        ({"inference.window": -1}, "inference.window: expected greater than 0 (given: -1)"),
        ({"task_agnostic.micro_batch": 3}, "task_agnostic.micro_batch: expected a divisor of batch_size, 8 (given: 3)"),
        ({"settings": ["f2l", "f2f"], "models.students": {"f2f": {"name": "x", "options": {}, "weights": "hub"}}},
         "models.students: expected a student for each of settings; f2l has none"),
        ({"hold_out": False, "task_learning.lrs": [1.0e-3, 3.0e-3]},
         "task_learning.lrs: a choice needs hold_out: true"),
        ({"models.decoder": "mask2former"}, "models.mask2former: expected sizes, as in profiles/paper.yaml, "),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(tmp_path: Path, changes: dict, line: str) -> None:
    (found,) = faults(written(tmp_path, changes))
    assert found.startswith(line)


@pytest.mark.parametrize("key", ["task_learning", "hold_out", "seeds", "distillation.scale", "task_agnostic.lr"])
def test_a_key_that_is_absent_is_missing(tmp_path: Path, key: str) -> None:
    content = YAML(typ="safe").load(written(tmp_path))
    section, _, name = key.partition(".")
    (content[section] if name else content).pop(name or section)
    YAML().dump(content, tmp_path / "params.yaml")
    assert faults(tmp_path / "params.yaml") == [f"{key}: missing"]


@pytest.mark.parametrize("name", ["x$(touch y)", "a b", "../x", ".x", "-x", "", "20260301", "1.5", "1e5", "1_0", "nan",
                                  "true", "None", "yes", "2026-03-01", 20260301, "é"])  # fmt: skip
def test_names_of_profiles_are_plain_text_for_every_reader(tmp_path: Path, name: Any) -> None:
    (line,) = faults(written(tmp_path, {"profile": name}))
    assert (
        line.startswith("profile: expected a name of letters, digits, dot, _ and -")
        and repr(name) in line
        or name == "1e5"
    )  # which is a number already
    assert load(written(tmp_path, {"profile": "sound-1.0_x"})).profile == "sound-1.0_x"


@pytest.mark.parametrize(
    ("text", "message"),
    {
        b"": "expected a mapping",
        b"- a\n": "expected a mapping",
        b"a: [": "not valid YAML",
        b"\xff": "not valid",
    }.items(),
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "params.yaml").write_bytes(text)
    with pytest.raises(ParamsError, match=f"^params.yaml.*{message}"):
        load(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").unlink()
    with pytest.raises(ParamsError, match="params.yaml is missing: .*profiles/"):
        load(tmp_path / "params.yaml")


def test_a_file_may_be_put_over_another(tmp_path: Path) -> None:
    (tmp_path / "changed").mkdir()
    (tmp_path / "base.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    file, base = tmp_path / "changed" / "some.yaml", load(tmp_path / "base.yaml")
    changes = "rows: [none]\nheads:\n  none: {task_steps: 7}\ncompute:\n  threads: 2\n"
    file.write_text(f"over: ../base.yaml\n{changes}")
    heads = {**base.heads, "none": {"task_steps": 7}}
    compute = base.compute.model_copy(update={"threads": 2})
    assert load(file) == base.model_copy(update={"rows": ["none"], "heads": heads, "compute": compute})
    file.write_text("over: ../base.yaml\nrows: [none]\nmodles: {}\n")
    with pytest.raises(ParamsError, match=r"^some.yaml: modles: unknown key; check its spelling \(given: \{\}\)$"):
        load(file)
    file.write_text("over: ../bsae.yaml\n")
    with pytest.raises(ParamsError, match="^some.yaml: over: expected a parameter file, .*, found no .*bsae.yaml"):
        load(file)
    (tmp_path / "other.yaml").write_text("over: base.yaml\n")
    for text in ("over: ../other.yaml\n", "over: some.yaml\n"):  # itself would not end
        file.write_text(text)
        with pytest.raises(ParamsError, match="^some.yaml: over: expected a parameter file that is whole"):
            load(file)


def test_params_itself_stands_over_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC reads it without us, after `cp profiles/NAME.yaml params.yaml`."""
    monkeypatch.setattr(params, "ROOT", tmp_path)
    (tmp_path / "params.yaml").write_text("over: profiles/grid_f2l.yaml\n")
    with pytest.raises(ParamsError, match="^params.yaml: over: DVC reads this file as it stands: use `gkd profile`"):
        load()


@pytest.mark.parametrize("weights", ["none", "hub", "package:x", "weights/a.safetensors", "/data/b.pth", "c.pt"])
def test_weights_come_from_a_file_or_not(weights: str) -> None:
    spec = EncoderSpec(name="vit_tiny_patch16_224", options={}, weights=weights)
    assert spec.file == (weights if "." in weights else None)


def test_the_decoders_are_those_that_can_be_built() -> None:
    from gkd.segmentation.decoders import DECODERS

    assert get_args(Models.model_fields["decoder"].annotation) == DECODERS
