import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gkd.params import ROOT, Compute, EncoderSpec, Params, ParamsError, load

COMMITTED = (ROOT / "params.yaml").read_text()
EXPONENTS = sorted(set(re.findall(r"(?<![\w.])\d+(?:\.\d*)?e[-+]?\d+", re.sub("#.*", "", COMMITTED))))
PROFILES = list(yaml.safe_load(COMMITTED)["profiles"])


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[Callable[[dict], Any]], Path]:
    """A copy of params.yaml after a change of its content."""

    def write(change: Callable[[dict], Any]) -> Path:
        content = yaml.safe_load(COMMITTED)
        change(content)
        file = tmp_path / "params.yaml"
        file.write_text(yaml.dump(content))
        return file

    return write


def stage(content: dict, name: str = "task_agnostic") -> dict:
    return content["profiles"]["mini"][name]


def heads(content: dict, **options: Any) -> None:
    content["profiles"]["mini"]["heads"] = {"gkd": options}


def teachers(content: dict, **specs: Any) -> None:
    content["profiles"]["mini"]["models"]["extra_teachers"] = specs


@pytest.mark.parametrize("profile", PROFILES)
def test_every_committed_profile_loads(profile: str) -> None:
    params = load(profile)
    assert isinstance(params, Params) and params.profile == profile
    given = yaml.safe_load(COMMITTED)["profiles"][profile]
    assert params.task_learning.lrs == given["task_learning"]["lrs"]
    assert params.plan.methods == given["plan"]["methods"]


def test_committed_profiles_are_those_of_the_design() -> None:
    assert {"tiny", "mini", "camvid", "paper"} <= set(PROFILES)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", ["task_agnostic", "domain_agnostic", "task_learning"])
def test_no_parameter_of_training_hides_in_a_default_that_dvc_does_not_see(profile: str, name: str) -> None:
    section = getattr(load(profile), name)
    if section is not None:
        assert set(type(section).model_fields) - {"source_steps"} <= section.model_fields_set


def test_a_choice_on_training_images_is_refused(changed: Callable) -> None:
    def edit(content: dict) -> None:
        stage(content, "plan").update(hold_out=False)
        stage(content, "task_learning").update(lrs=[1.0e-3, 3.0e-3])

    with pytest.raises(ParamsError, match="task_learning.lrs: a choice needs plan.hold_out: true"):
        load("mini", changed(edit))


def test_the_active_profile_is_that_of_the_file() -> None:
    assert load().profile == yaml.safe_load(COMMITTED)["profile"]


@pytest.mark.parametrize("value", EXPONENTS)
def test_committed_floats_are_floats_in_both_versions_of_yaml(value: str) -> None:
    assert isinstance(yaml.safe_load(value), float), f"write {value} as 1.0e-4 is written"


def test_an_unknown_key_is_named(changed: Callable) -> None:
    file = changed(lambda content: stage(content).update(lrr=1.0e-3))
    with pytest.raises(ParamsError) as error:
        load("mini", file)
    assert str(error.value) == (
        "params.yaml: profiles.mini.task_agnostic.lrr: unknown key; check its spelling (given: 0.001)"
    )


@pytest.mark.parametrize(
    ("change", "key", "value"),
    [
        (lambda c: c["profiles"]["mini"].update(in_memory="false"), "profiles.mini.in_memory", "'false'"),
        (lambda c: stage(c, "models").update(mask2former={"dim": 48}), "profiles.mini.models.mask2former.dim", "48"),
        (lambda c: stage(c, "models").update(mask2former={"query": 9}), "profiles.mini.models.mask2former.query", "9"),
        (lambda c: stage(c).update(lr="1e-4"), "profiles.mini.task_agnostic.lr", "'1e-4'"),
        (lambda c: stage(c).update(steps=1.5), "profiles.mini.task_agnostic.steps", "1.5"),
        (lambda c: stage(c).update(steps=True), "profiles.mini.task_agnostic.steps", "True"),
        (lambda c: stage(c).update(steps=0), "profiles.mini.task_agnostic.steps", "0"),
        (lambda c: stage(c).update(image_size=[64]), "profiles.mini.task_agnostic.image_size", "[64]"),
        (lambda c: stage(c, "task_learning").update(lrs=[1.0e-3, "x"]), "profiles.mini.task_learning.lrs.1", "'x'"),
        (lambda c: stage(c, "plan").update(seeds=[]), "profiles.mini.plan.seeds", "[]"),
        (lambda c: stage(c, "plan").update(settings=[]), "profiles.mini.plan.settings", "[]"),
        (lambda c: stage(c, "plan").update(methods=[]), "profiles.mini.plan.methods", "[]"),
        (lambda c: stage(c, "plan").update(sources=[]), "profiles.mini.plan.sources", "[]"),
        (lambda c: stage(c, "plan").update(seeds=[0, 1, 0]), "profiles.mini.plan.seeds", "[0, 1, 0]"),
        (lambda c: stage(c, "plan").update(sources="gtav"), "profiles.mini.plan.sources", "'gtav'"),
        (lambda c: stage(c, "evaluate").update(bounds={"acdc": ["2"]}), "profiles.mini.evaluate.bounds.acdc.0", "'2'"),
        (lambda c: c["profiles"].update(mini=None), "profiles.mini", "None"),
        (lambda c: c["profiles"]["mini"].update(roots={}), "profiles.mini.roots", "{}"),
        (lambda c: c.update(roots=None), "roots", "None"),
        (lambda c: c.update(roots={"gtav": 5}), "roots.gtav", "5"),
        (lambda c: c.update(profil="mini"), "profil", "'mini'"),
        (lambda c: heads(c, num_head=2), "profiles.mini.heads.gkd.num_head", "2"),
        (lambda c: heads(c, pool=0), "profiles.mini.heads.gkd.pool", "0"),
        (lambda c: heads(c, scaled="true"), "profiles.mini.heads.gkd.scaled", "'true'"),
        (lambda c: heads(c, weights=[1.0]), "profiles.mini.heads.gkd.weights", "[1.0]"),
        (
            lambda c: heads(c, intermediate={"student": -1, "teacher": 8}),
            "profiles.mini.heads.gkd.intermediate.student",
            "-1",
        ),
        (lambda c: teachers(c, clip={"nam": "x", "name": "x"}), "profiles.mini.models.extra_teachers.clip.nam", "'x'"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_given(changed: Callable, change: Callable, key: str, value: str) -> None:
    with pytest.raises(ParamsError) as error:
        load("mini", changed(change))
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"params.yaml: {key}: ") and line.endswith(f"(given: {value})")


def test_options_of_heads_are_those_that_are_given(changed: Callable) -> None:
    options = {"num_heads": 6, "scaled": True, "diagonal_bias": None, "intermediate": {"student": 5, "teacher": 8}}
    found = load("mini", changed(lambda content: heads(content, **options))).heads["gkd"]
    assert found.given == {"num_heads": 6, "scaled": True, "diagonal_bias": None}
    assert (found.intermediate.student, found.intermediate.teacher, found.intermediate.weight) == (5, 8, 1.0)


def test_extra_teachers_are_named_and_few(changed: Callable) -> None:
    spec = {"name": "vit_tiny_patch16_224"}
    models = load("mini", changed(lambda content: teachers(content, clip=spec, sam=spec))).models
    assert list(models.extra_teachers) == ["clip", "sam"]
    assert len(models.encoders) == 5 and models.encoders[1] is models.extra_teachers["clip"]
    with pytest.raises(ParamsError, match="extra_teachers: .*at most 2 items"):
        load("mini", changed(lambda content: teachers(content, a=spec, b=spec, c=spec)))
    with pytest.raises(ParamsError, match="extra_teachers.*pattern"):
        load("mini", changed(lambda content: teachers(content, **{"vit.b": spec})))


def test_a_float_without_a_point_is_text_and_refused(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(COMMITTED.replace("lr: 1.0e-3", "lr: 1e-3"))
    with pytest.raises(ParamsError, match=re.escape("profiles.tiny.task_agnostic.lr: ") + ".*given: '1e-3'"):
        load("tiny", file)


@pytest.mark.parametrize("key", ["task_learning", "plan", "models"])
def test_a_missing_section_is_named(changed: Callable, key: str) -> None:
    file = changed(lambda content: content["profiles"]["mini"].pop(key))
    with pytest.raises(ParamsError, match=re.escape(f"params.yaml: profiles.mini.{key}: ") + "Field required"):
        load("mini", file)


def test_every_fault_has_a_line(changed: Callable) -> None:
    file = changed(lambda content: (stage(content).pop("lr"), stage(content).update(lrr=1.0), stage(content, "plan")))
    with pytest.raises(ParamsError) as error:
        load("mini", file)
    assert {line.split(": ")[1].rsplit(".", 1)[1] for line in str(error.value).splitlines()} == {"lr", "lrr"}


def test_a_fault_of_another_profile_does_not_matter(changed: Callable) -> None:
    assert load("tiny", changed(lambda content: stage(content).update(lrr=1.0))).profile == "tiny"


def test_an_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(ParamsError, match="params.yaml: no profile 'nosuch'; there are tiny, mini"):
        load("nosuch")


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "expected a mapping"), ("- a\n", "expected a mapping"), ("a: [", "not valid YAML")],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=f"params.yaml.*{message}"):
        load("mini", tmp_path / "params.yaml")


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="params.yaml is missing"):
        load("mini", tmp_path / "params.yaml")


def test_parameters_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load("mini").task_agnostic.lr = 1.0


@pytest.mark.parametrize(
    ("weights", "file"),
    [("none", None), ("hub", None), ("package:efficientnet_lite0", None), ("weights/mini/a.safetensors",) * 2],
)
def test_weights_come_from_a_file_or_not(weights: str, file: str | None) -> None:
    teacher = load("mini").models.teacher.model_copy(update={"weights": weights})
    assert teacher.file == file


@settings(max_examples=25)
@given(st.sampled_from(["plan", "models", "task_agnostic", "domain_agnostic", "task_learning", "evaluate"]), st.data())
def test_any_misspelt_key_is_named(tmp_path_factory: pytest.TempPathFactory, section: str, data: st.DataObject) -> None:
    content = yaml.safe_load(COMMITTED)
    keys = content["profiles"]["mini"][section]
    key = data.draw(st.sampled_from(sorted(keys)))
    keys[wrong := key + data.draw(st.sampled_from("xyz"))] = keys.pop(key)
    file = tmp_path_factory.mktemp("params") / "params.yaml"
    file.write_text(yaml.dump(content))
    with pytest.raises(ParamsError, match=re.escape(f"params.yaml: profiles.mini.{section}.{wrong}: unknown key")):
        load("mini", file)


@pytest.mark.parametrize("weights", ["none", "hub", "package:x", "weights/a.safetensors", "/data/b.pth", "c.pt"])
def test_weights_name_a_known_source(weights):
    spec = EncoderSpec(name="vit_tiny_patch16_224", weights=weights)
    assert spec.file == (weights if "." in weights else None)


@pytest.mark.parametrize("weights", ["hubb", "https://a/b.pth", "weights/a", "package", "a.npz", ""])
def test_weights_of_no_known_source_are_refused(weights):
    with pytest.raises(ValueError, match=r"expected none, hub, package:<name>, or a .safetensors, .pth or .pt file"):
        EncoderSpec(name="vit_tiny_patch16_224", weights=weights)


@pytest.mark.parametrize("profile", PROFILES)
def test_how_it_computes_is_stated_and_only_the_published_protocol_gives_up_equal_bytes(profile: str) -> None:
    params = load(profile)
    assert {"precision", "compile", "fused_adamw"} <= params.model_fields_set  # dvc.yaml tracks them
    paper = profile.startswith("paper")
    assert params.compute == Compute("auto" if paper else "fp32", compile=False, fused_adamw=paper)


def test_an_unknown_precision_is_named(changed: Callable) -> None:
    with pytest.raises(ParamsError, match="profiles.mini.precision: .*'fp32', 'bf16' or 'auto'.*'fp16'"):
        load("mini", changed(lambda content: content["profiles"]["mini"].update(precision="fp16")))
