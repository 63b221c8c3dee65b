"""Estimates of a small preset: which stages a row has, what it sums up, and what follows from the assumptions."""

import pytest

from gkd.counting import Cost
from gkd.estimates import GPUS, Assumptions, Gpu, _candidates, estimate, stages, totals
from gkd.params import load


@pytest.fixture(scope="module")
def params():
    """The tiny profile with two sources."""
    tiny = load("tiny")
    return tiny.model_copy(update={"plan": tiny.plan.model_copy(update={"sources": ["gtav", "potsdam"]})})


@pytest.fixture(scope="module")
def table(params):
    return stages(params, ["none", "gkd", "kd"])


def test_rows_have_the_stages_of_their_method(table) -> None:
    found = {name: list(zip(rows["stage"], rows["source"], strict=True)) for name, rows in table.groupby("method")}
    task = [("task_learning", "gtav"), ("task_learning", "potsdam")]
    domain = [("domain_agnostic", "gtav"), ("domain_agnostic", "potsdam")]
    assert found == {"none": task, "kd": task, "gkd": [("task_agnostic", "all"), *domain, *task]}


def test_f2f_has_no_task_agnostic_stage(params) -> None:
    plan = params.plan.model_copy(update={"settings": ["f2f"], "sources": ["gtav"]})
    table = stages(params.model_copy(update={"plan": plan}), ["gkd"])
    assert list(table["stage"]) == ["domain_agnostic", "task_learning"]


def test_images_follow_the_steps_of_each_source(params) -> None:
    section = params.domain_agnostic.model_copy(update={"source_steps": {"potsdam": 7}})
    table = stages(params.model_copy(update={"domain_agnostic": section}), ["gkd"])
    rows = table[table["stage"] == "domain_agnostic"].set_index("source")
    assert rows["images"].to_dict() == {"gtav": 4 * 8, "potsdam": 7 * 8}
    assert rows["flops"]["potsdam"] / rows["flops"]["gtav"] == pytest.approx(7 / 4)


def test_fine_tuning_costs_a_backward_pass_and_kd_the_teacher(table) -> None:
    task = table[(table["stage"] == "task_learning") & (table["source"] == "gtav")].set_index("method")
    assert task["flops"]["gkd"] < task["flops"]["none"] < task["flops"]["kd"]
    backward = task["student, backward"].fillna(0)
    assert backward["gkd"] == 0 < backward["none"] == backward["kd"]
    assert task["teacher"]["kd"] > 0


def test_order_of_the_methods_changes_nothing(params, table) -> None:
    columns = ["method", "stage", "source", "flops", "bytes"]
    other = stages(params, ["kd", "gkd", "none"])
    sort = ["method", "stage", "source"]
    a, b = (t[columns].sort_values(sort).reset_index(drop=True) for t in (table, other))
    assert a.equals(b)


def test_more_gpus_hold_less_each(params) -> None:
    few, many = (
        stages(params, ["gkd"], Assumptions(gpus={"task_agnostic": n, "domain_agnostic": n, "task_learning": 1}))
        for n in (1, 4)
    )
    assert (few["flops"] == many["flops"]).all()
    assert few["bytes"][0] > many["bytes"][0]


def test_hours_by_hand(table) -> None:
    gpu = Gpu("some", bf16=200, fp32=20)
    hours = estimate(table, gpu, Assumptions(utilisation=0.5))["some hours"]
    for row, value in zip(table.itertuples(), hours, strict=True):
        peak = {"bf16": 200e12, "fp32": 20e12}[row.dtype]
        assert value == pytest.approx(row.flops / (peak * 0.5 * 3600))
    assert set(table["dtype"]) == {"bf16", "fp32"}
    assert set(GPUS) == {"A100", "RTX 4090"}


def test_totals_share_the_task_agnostic_stage(table) -> None:
    sums = totals(table, ["flops"]).set_index(["method", "source"])["flops"]
    own = table[(table["method"] == "gkd") & table["source"].isin(["all", "gtav"])]["flops"].sum()
    assert sums["gkd", "gtav"] == own
    assert len(sums) == 6


def test_candidates_share_what_is_frozen() -> None:
    cost = Cost({"teacher": 1, "student, forward": 2, "decoder and loss, forward": 3}, 4, 5)
    assert _candidates(cost, 3, frozen=True) == Cost(
        {"teacher": 1, "student, forward": 2, "decoder and loss, forward": 9}, 12, 5
    )
    assert _candidates(cost, 3, frozen=False).flops["student, forward"] == 6
