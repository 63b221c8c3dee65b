import pytest
from estimates import GPUS, PUBLISHED, stages, totals, with_hours
from tiny_params import TINY


@pytest.fixture(scope="module")
def params():
    """The tiny profile with two sources, of which one has steps of its own."""
    section = TINY.domain_agnostic.model_copy(update={"source_steps": {"potsdam_rgb": 7}})
    return TINY.model_copy(update={"sources": ["gtav", "potsdam_rgb"], "domain_agnostic": section})


@pytest.fixture(scope="module")
def table(params):
    return stages(params, ["none", "gkd", "kd"])


def test_rows_have_the_stages_of_their_method_and_the_steps_of_each_source(params, table) -> None:
    found = {name: list(zip(rows["stage"], rows["source"], strict=True)) for name, rows in table.groupby("method")}
    task = [("task_learning", "gtav"), ("task_learning", "potsdam_rgb")]
    domain = [("domain_agnostic", "gtav"), ("domain_agnostic", "potsdam_rgb")]
    assert found == {"none": task, "kd": task, "gkd": [("task_agnostic", "all"), *domain, *task]}
    f2f = params.model_copy(update={"settings": ["f2f"]})
    rows = stages(f2f, ["gkd"]).query("stage != 'task_learning'")
    assert list(rows["stage"]) == ["domain_agnostic"] * 2
    assert list(rows["images"]) == [4 * 8, 7 * 8] and rows["flops"].iloc[1] / rows["flops"].iloc[0] == pytest.approx(
        7 / 4
    )
    with pytest.raises(ValueError, match="none of the rows asked for; it has teacher, none"):
        stages(params, [])


def test_hours_memory_and_sums_by_hand(params, table) -> None:
    hours = with_hours(table, 0.5)
    for gpu, peak in GPUS.items():
        expected = [row.flops / (peak[row.dtype] * 1e12 * 0.5 * 3600) for row in table.itertuples()]
        assert list(hours[f"{gpu} hours"]) == pytest.approx(expected)
    few, many = (stages(params, ["gkd"], {**PUBLISHED, "task_agnostic": n}) for n in (1, 4))
    assert (few["flops"] == many["flops"]).all() and few["bytes"][0] > many["bytes"][0]
    sums = totals(table, ["flops"]).set_index(["method", "source"])["flops"]
    shared = table[(table["method"] == "gkd") & table["source"].isin(["all", "gtav"])]
    assert len(sums) == 6 and sums["gkd", "gtav"] == shared["flops"].sum()
