"""params.yaml: what is read, and the one error that names every fault by its key."""

import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from gkd.params import ROOT, Compute, EncoderSpec, Models, Params, ParamsError, activate, load

COMMITTED = (ROOT / "params.yaml").read_text()
EXPONENTS = sorted(set(re.findall(r"(?<![\w.])\d+(?:\.\d*)?e[-+]?\d+", re.sub("#.*", "", COMMITTED))))
CONTENT = yaml.safe_load(COMMITTED)
PROFILES = list(CONTENT["profiles"])
SMALL = {**CONTENT, "profiles": {name: CONTENT["profiles"][name] for name in ("tiny", "mini")}}
FAULTS = {  # a key below profiles.mini: wrong values, and what is expected instead
    "in_memory": (["false"], "a valid boolean"),
    "threads": ([-1], "0"),
    "precision": (["fp16"], "'fp32', 'bf16' or 'auto'"),
    "resume_seconds": ([float("nan"), -1.0], ""),
    "plan.settings": ([[], ["f2l", "f2l"]], ""),
    "plan.methods": ([[], ["kd", "kd"]], ""),
    "plan.sources": ([[], "gtav"], ""),
    "plan.seeds": ([[], [0, 1, 0]], ""),
    "plan.seeds.1": ([[0, -1], [0, 1.5], [0, 2**40]], ""),
    "plan.label_divisor": ([0], "greater than 0"),
    "models.decoder": (["mask2fomer"], "'linear', 'conv' or 'mask2former'"),
    "models.decoder_width": ([0, 48], ""),
    "models.mask2former.dim": ([48], "a multiple of 32"),
    "models.teacher.weights": (["hubb", "https://a/b.pth", "weights/a", "package:", "a.npz", "", 5], ""),
    "models.teacher.options": ([{"img_size": float("inf")}, {"a": [{"b": float("nan")}]}], "text and finite numbers"),
    "models.teacher.blocks.0": ([[-1]], ""),
    "heads.gkd": ([{"pool": float("nan")}, {"pool": yaml.safe_load("2026-03-01")}, 5], ""),
    "task_agnostic.steps": ([0, 1.5, True, "6"], ""),
    "task_agnostic.micro_batch": ([0, 3], ""),
    "task_agnostic.lr": ([0.0, "1e-4"], ""),
    "task_agnostic.min_lr": ([-1.0e-5, 1.0], ""),
    "task_agnostic.warmup_steps": ([-3, 300], ""),
    "task_agnostic.weight_decay": ([-0.5, float("inf")], ""),
    "task_agnostic.image_size": ([[64], [64, 0], [64, 64.5], [64, True], 64], "two whole numbers above 0"),
    "task_agnostic.scale": ([[0.5, 0.1], [0.0, 1.0], [0.5, 2.0], [0.5]], ""),
    "task_agnostic.mask_ratio": ([1.5, -0.1], ""),
    "task_agnostic.erase_probability": ([2], ""),
    "domain_agnostic.source_steps.gtav": ([{"gtav": 0}], "greater than 0"),
    "task_learning.lrs": ([[], [1.0e-3, 1.0e-3]], ""),
    "task_learning.lrs.1": ([[1.0e-3, "x"], [1.0e-3, -1.0]], ""),
    "task_learning.scale": ([[2.0, 0.5], [1.0, float("inf")]], "two positive numbers, the smaller one first"),
    "task_learning.crop": ([[64, -64]], "two whole numbers above 0"),
    "task_learning.max_class_share": ([0, 1.5], ""),
    "task_learning.kd_temperature": ([0.0], ""),
    "evaluate.stride": ([0, 96], ""),
    "evaluate.bounds.acdc": ([{"acdc": [0, -5]}, {"acdc": [2, 2, 2]}, {"acdc": ["2", 2]}], "two whole numbers above 0"),
    "report.qualitative": ([0], ""),
}


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[Callable[[dict], Any]], Path]:
    """A copy of params.yaml after a change of its content."""

    def write(change: Callable[[dict], Any]) -> Path:
        change(content := deepcopy(SMALL))
        file = tmp_path / "params.yaml"
        file.write_text(yaml.dump(content))
        return file

    return write


def put(content: dict, key: str, value: Any) -> None:
    """Set a key below profiles.mini; a key whose last part is in `value` stands for the one above it."""
    *path, last = ("profiles.mini." + key).split(".")
    if last.isdigit() or (isinstance(value, dict) and last in value):
        *path, last = path
    for part in path:
        content = content.setdefault(part, {})
    content[last] = value


def faults(file: Path, profile: str | None = "mini") -> list[str]:
    with pytest.raises(ParamsError) as error:
        load(profile, file)
    assert str(error.value) == "\n".join(error.value.faults)
    assert all(line.startswith("params.yaml: ") for line in error.value.faults)
    return [line.removeprefix("params.yaml: ") for line in error.value.faults]


@pytest.mark.parametrize("profile", PROFILES)
def test_every_committed_profile_states_what_is_tracked(profile: str) -> None:
    params = load(profile)
    assert isinstance(params, Params) and params.profile == profile
    given = CONTENT["profiles"][profile]
    assert (params.task_learning.lrs, params.plan.methods) == (given["task_learning"]["lrs"], given["plan"]["methods"])
    # No parameter of training hides in a default that DVC does not see.
    for section in filter(None, (params.task_agnostic, params.domain_agnostic, params.task_learning)):
        assert set(type(section).model_fields) - {"source_steps"} <= section.model_fields_set
    # Only the published protocol gives up equal bytes.
    paper = profile.startswith("paper")
    assert params.compute == Compute("auto" if paper else "fp32", compile=False, fused_adamw=paper)
    assert (params.task_agnostic or params.domain_agnostic).grad_checkpointing == paper
    section = params.task_learning
    assert section.for_method(distils=True) is section
    assert section.for_method(distils=False).steps == section.steps + section.undistilled_steps
    with pytest.raises(ValueError, match="frozen"):
        section.steps = 1


def test_the_active_profile_is_that_of_the_file() -> None:
    assert load("paper").domain_agnostic.for_source("cityscapes").steps == 6600
    assert load().profile == CONTENT["profile"]


@pytest.mark.parametrize("value", EXPONENTS)
def test_committed_floats_are_floats_in_both_versions_of_yaml(value: str) -> None:
    assert isinstance(yaml.safe_load(value), float), f"write {value} as 1.0e-4 is written"


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, (values, _) in FAULTS.items() for value in values])
def test_a_wrong_value_is_named_with_what_is_expected_and_given(changed: Callable, key: str, value: Any) -> None:
    (line,) = faults(changed(lambda content: put(content, key, value)))
    assert re.match(re.escape(f"profiles.mini.{key}: expected ") + f".*{FAULTS[key][1]}.* \\(given: ", line)


def test_all_faults_come_at_once(changed: Callable) -> None:
    def change(content: dict) -> None:
        for key, (values, _) in FAULTS.items():
            if key not in ("plan.settings", "plan.seeds", "task_learning.lrs"):  # the whole, whose parts are here, too
                put(content, key, values[0])
        content["profil"] = "mini"
        content["profiles"]["mini"].pop("models")

    found = [line.split(": ")[0].removeprefix("profiles.mini.") for line in faults(changed(change))]
    expected = {key for key in FAULTS if not key.startswith("models.")} - {"plan.settings", "plan.seeds"}
    assert set(found) == (expected - {"task_learning.lrs"}) | {"profil", "models"} and len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda c: c.update(profil="mini"), "profil: unknown key; check its spelling (given: 'mini')"),
        (lambda c: put(c, "task_agnostic.lrr", 0.1), "profiles.mini.task_agnostic.lrr: unknown key; check"),
        (lambda c: put(c, "roots", {}), "profiles.mini.roots: unknown key"),
        (lambda c: c["profiles"]["mini"].pop("plan"), "profiles.mini.plan: missing"),
        (lambda c: c["profiles"]["mini"]["plan"].pop("hold_out"), "profiles.mini.plan.hold_out: missing"),
        (lambda c: c["profiles"].update(mini=None), "profiles.mini: expected a mapping of parameters (given: None)"),
        (lambda c: put(c, "evaluate", []), "profiles.mini.evaluate: expected a mapping of parameters (given: [])"),
        (lambda c: c.update(roots=None), "roots: expected a valid dictionary (given: None)"),
        (lambda c: c.update(roots={"gtav": 5}), "roots.gtav: expected a valid string (given: 5)"),
        (lambda c: put(c, "evaluate.stride", 96), "profiles.mini.evaluate.stride: expected at most window, 64 "),
        (
            lambda c: put(c, "task_agnostic.micro_batch", 3),
            "profiles.mini.task_agnostic.micro_batch: expected a divisor of batch_size, 16 (given: 3)",
        ),
        (
            lambda c: put(c, "models.students", {"f2f": {"name": "x"}}),
            "profiles.mini.models.students: expected a student for each of plan.settings; f2l has none",
        ),
        (
            lambda c: put(c, "plan", {**c["profiles"]["mini"]["plan"], "hold_out": False})
            or put(c, "task_learning", {**c["profiles"]["mini"]["task_learning"], "lrs": [1.0e-3, 3.0e-3]}),
            "profiles.mini.task_learning.lrs: a choice needs plan.hold_out: true",
        ),
        # What another faulty key says is not held against this one.
        (lambda c: put(c, "evaluate.window", -1), "profiles.mini.evaluate.window: expected greater than 0 (given: -1)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(changed: Callable, change: Callable, line: str) -> None:
    (found,) = faults(changed(change))
    assert found.startswith(line)


@pytest.mark.parametrize("name", ["x$(touch y)", "a b", "../x", ".x", "-x", "", "20260301", "1.5", "1e5", "1_0", "nan",
                                  "true", "None", "yes", "2026-03-01", 20260301, "é"])  # fmt: skip
def test_names_of_profiles_are_plain_text_for_every_reader(changed: Callable, name: Any) -> None:
    def change(content: dict) -> None:
        content["profiles"][name] = content["profiles"]["mini"]
        content["profile"] = name

    lines = faults(changed(change), None)
    assert lines[0].startswith("profile: expected a name of letters, digits, dot, _ and -") and repr(name) in lines[0]
    change = lambda content: content["profiles"].update({"sound-1.0_x": content["profiles"]["mini"]})  # noqa: E731
    assert load("sound-1.0_x", changed(change)).profile == "sound-1.0_x"


def test_a_fault_of_another_profile_does_not_matter(changed: Callable) -> None:
    assert load("tiny", changed(lambda content: put(content, "task_agnostic.lr", -1.0))).profile == "tiny"


def test_an_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(ParamsError, match="params.yaml: profile: expected one of tiny, mini, .*given: 'nosuch'"):
        load("nosuch")


NO_MAPPINGS = {
    b"": "expected a mapping",
    b"- a\n": "expected a mapping",
    b"a: [": "not valid YAML",
    b"\xff": "not valid",
}


@pytest.mark.parametrize(("text", "message"), NO_MAPPINGS.items())
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "params.yaml").write_bytes(text)
    with pytest.raises(ParamsError, match=f"^params.yaml.*{message}"):
        load("mini", tmp_path / "params.yaml")
    (tmp_path / "params.yaml").unlink()
    with pytest.raises(ParamsError, match="params.yaml is missing"):
        load("mini", tmp_path / "params.yaml")


def test_activating_changes_the_name_alone(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    before = COMMITTED.replace("\nprofile: mini\n", "\nprofile: mini # active\n").replace("\n", "\r\n").encode()
    file.write_bytes(before)
    activate("tiny", file)
    assert file.read_bytes() == before.replace(b"profile: mini #", b"profile: tiny #") != before
    assert load(path=file).profile == "tiny"


@pytest.mark.parametrize("weights", ["none", "hub", "package:x", "weights/a.safetensors", "/data/b.pth", "c.pt"])
def test_weights_come_from_a_file_or_not(weights: str) -> None:
    spec = EncoderSpec(name="vit_tiny_patch16_224", weights=weights)
    assert spec.file == (weights if "." in weights else None)


def test_the_decoders_are_those_that_can_be_built() -> None:
    from gkd.segmentation.decoders import DECODERS

    assert get_args(Models.model_fields["decoder"].annotation) == DECODERS
