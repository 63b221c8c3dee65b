"""The index of methods, their options, and what each of them computes."""

import re

import pytest
import torch
import torch.nn.functional as F
from tiny_models import photos, tiny_vit
from tiny_params import distillation

from gkd import methods
from gkd.distillation import distil
from gkd.methods import NAMES, check_options, guidance, objective, row
from gkd.methods.mse import RegressionHead
from gkd.params import ROOT
from gkd.qsd import QSD
from gkd.train.pixel_kl import pixel_kl
from gkd.train.run import Run

STUDENT, TEACHER = tiny_vit(24, depth=1), tiny_vit(48, depth=1)


def heads(name, seed=0, **options):
    return objective(name, STUDENT, TEACHER, options, seed)


def test_the_rows_are_those_of_the_paper_and_ours() -> None:
    facts = lambda r: (r.distils, r.frozen, r.guided, r.attention)  # noqa: E731
    assert {name: facts(row(name)) for name in NAMES} == {
        "teacher": (False, True, False, False),
        "none": (False, False, False, False),
        "none_frozen": (False, True, False, False),
        "none_long": (False, False, False, False),
        "kd": (False, False, True, False),
        "kd_long": (False, False, True, False),
        "mse": (True, True, False, False),
        "gkd": (True, True, False, True),
        "gkd_diag": (True, True, False, True),
        "gkd_diag_tuned": (True, False, False, True),
        "gkd_light": (True, True, False, True),
    }
    labels = {row(name).label for name in NAMES}
    assert len(labels) == len(NAMES) and {x for x in labels if "ours" in x} == {"GKD-diag (ours)", "GKD-light (ours)"}
    assert guidance("kd") is guidance("kd_long") is pixel_kl
    assert [name for name in NAMES if row(name).long] == ["kd_long", "none_long"]
    with pytest.raises(ValueError, match="unknown method 'gdk'; known: gkd, gkd_diag, gkd_diag_tuned, gkd_light, kd"):
        row("gdk")
    with pytest.raises(ValueError, match="none does not distil"):
        heads("none")


def test_heads_follow_the_method_its_options_and_the_seed() -> None:
    gkd, diag, light, mse = (heads(name) for name in ("gkd", "gkd_diag", "gkd_light", "mse"))
    assert isinstance(gkd.fea_head, QSD) and gkd.fea_head.diagonal_bias is None and gkd.fea_head.scale == 1
    assert diag.fea_head.diagonal_bias.item() == 6 and diag.fea_head.scale == pytest.approx(48**-0.5)
    assert light.fea_head.pool == 2 and heads("gkd_light", pool=4).fea_head.pool == 4
    assert isinstance(mse.fea_head, RegressionHead) and heads("mse", weights=[1, 0, 0.5]).weights == (1, 0, 0.5)
    assert heads("gkd_diag", num_heads=3).fea_head.diagonal_bias.item() == 6
    of_training = {"lr_factor": 0.5, "task_steps": 9, "task_pool": 8}
    assert heads("gkd_diag", diagonal_bias=None, **of_training).fea_head.diagonal_bias is None
    with pytest.raises(ValueError, match="heads.mse.lr_factor: Input should be greater than 0"):
        heads("mse", lr_factor=0.0)
    every = heads("gkd", num_heads=3, scaled=True, diagonal_bias=1.0, pool=4, weights=[0.0, 0.5, 2.0])
    for head in (every.fea_head, every.patch_head, every.token_head):
        assert (head.num_heads, head.pool, head.diagonal_bias.item(), head.scale) == (3, 4, 1, 0.25)
    assert every.weights == (0.0, 0.5, 2.0)
    weight = gkd.fea_head.proj_q[1].weight
    assert torch.equal(weight, heads("gkd").fea_head.proj_q[1].weight)
    assert not torch.equal(weight, heads("gkd", seed=1).fea_head.proj_q[1].weight)
    assert not torch.equal(weight, gkd.patch_head.proj_q[1].weight)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "mse",
            {"num_heads": 2},
            r"heads.mse.num_heads: unknown option; mse has hidden, weights, lr_factor, task_steps, task_pool "
            r"\(given: 2\)",
        ),
        ("kd", {"pool": 2}, "heads.kd.pool: unknown option; kd has task_steps, task_pool"),
        ("none_long", {"task_pool": 900}, "heads.none_long.task_steps: Field required"),
        ("gkd", {"num_head": 2}, "heads.gkd.num_head: unknown option; gkd has num_heads, scaled, diagonal_bias, pool"),
        ("gkd_diag", {"pool": 0}, r"heads.gkd_diag.pool: .*greater than 0 \(given: 0\)"),
        ("gkd", {"scaled": "true"}, r"heads.gkd.scaled: .*valid boolean \(given: 'true'\)"),
        ("gkd", {"weights": [1.0]}, "heads.gkd.weights.1: Field required"),
        ("gkd", {"pool": 0, "a": 1, "weights": [1, 1, 1]}, r"heads.gkd.pool: .*\nheads.gkd.a: unknown option"),
    ],
)
def test_options_that_a_method_does_not_take_are_named(name, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        check_options(name, options)
    with pytest.raises(ValueError, match=message):
        heads(name, **options)


def test_the_file_of_docs_adding_is_a_method(tmp_path, monkeypatch) -> None:
    method, _ = re.findall(r"```python\n(.*?)```", (ROOT / "docs/adding.md").read_text(), re.S)
    (tmp_path / "cwd_own.py").write_text(method)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    monkeypatch.setattr(methods, "NAMES", (*NAMES, "cwd_own"))
    assert row("cwd_own").distils and row("cwd_own").label == "CWD"
    section = distillation(steps=25, scale=[1.0, 1.0])
    student, module = tiny_vit(24, depth=1, seed=1), heads("cwd_own", temperature=2.0)
    history = distil(student, TEACHER, module, photos(), section, Run("cwd"))
    assert history["loss"].tail(5).mean() < 0.9 * history["loss"].head(2).mean()
    with pytest.raises(ValueError, match="heads.cwd_own.tau: unknown option; cwd_own has temperature"):
        check_options("cwd_own", {"tau": 1.0})


def test_the_control_that_is_fine_tuned_has_the_heads_of_ours():
    assert str(heads("gkd_diag_tuned")) == str(heads("gkd_diag"))
    assert all(map(torch.equal, heads("gkd_diag_tuned").parameters(), heads("gkd_diag").parameters()))


def test_regression_is_qsd_held_on_the_diagonal_and_may_have_as_many_parameters():
    diag, mse, wide = heads("gkd_diag", diagonal_bias=1e4), heads("mse"), heads("mse", hidden=33)
    s, t = torch.randn(2, 9, 24), torch.randn(2, 9, 48)
    mse.fea_head.proj.load_state_dict(diag.fea_head.proj_v.state_dict())
    torch.testing.assert_close(diag.fea_head(s, t), mse.fea_head(s, t))
    count = {name: sum(p.numel() for p in o.parameters()) for name, o in (("diag", diag), ("mse", mse), ("wide", wide))}
    assert 2 * count["mse"] == count["diag"] - 3 and abs(count["wide"] / count["diag"] - 1) < 0.01
    norm, first, _, last = wide.fea_head.proj
    torch.testing.assert_close(wide.fea_head(s, t), last(F.gelu(first(norm(s)))))


def test_the_linear_head_is_layer_norm_and_linear_and_ignores_the_teacher():
    head, s = RegressionHead(5, 7), torch.randn(2, 3, 5)
    norm, linear = head.proj
    expected = F.linear(F.layer_norm(s, (5,), norm.weight, norm.bias, 1e-5), linear.weight, linear.bias)
    torch.testing.assert_close(head(s, torch.randn(2, 3, 7)), expected)
    keys = [f"proj.{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")]
    assert list(heads("mse").state_dict()) == [f"{h}_head.{key}" for h in ("fea", "patch", "token") for key in keys]
