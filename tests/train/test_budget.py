"""What rows, settings and sources change in a section."""

import pytest

from gkd.params import Params, load
from gkd.train import budget


def params_with(heads: dict | None = None, processes: int = 1, **sections: dict) -> Params:
    """The default's parameters with changes of its sections."""
    params = load()
    update = {name: getattr(params, name).model_copy(update=own) for name, own in sections.items()}
    update |= {"machine": params.machine.model_copy(update={"processes": processes})}
    return params.model_copy(update=update | ({} if heads is None else {"heads": heads}))


def test_a_setting_and_a_source_have_their_own_steps() -> None:
    params = params_with(task_agnostic={"settings": ["f2f"]}, domain_agnostic={"source_steps": {"gtav": 7}})
    assert budget.task_agnostic(params, "f2l", "mse").steps == 0
    assert budget.task_agnostic(params, "f2f", "mse") == params.task_agnostic
    steps = [budget.domain_agnostic(params, source, "mse").steps for source in ("gtav", "cityscapes")]
    assert steps == [7, params.domain_agnostic.steps]


@pytest.mark.parametrize("heads", [{}, {"gkd": {}}, {"gkd": {"lr_factor": 2.0, "weights": [1, 1, 1]}}])
def test_a_method_has_its_own_rates(heads: dict) -> None:
    params, factor = params_with(heads), heads.get("gkd", {}).get("lr_factor", 1.0)
    for own, section in (
        (budget.task_agnostic(params, "f2l", "gkd"), params.task_agnostic),
        (budget.domain_agnostic(params, "gtav", "gkd"), params.domain_agnostic),
    ):
        assert own == section.model_copy(update={"lr": factor * section.lr, "min_lr": factor * section.min_lr})


def test_task_learning_is_longer_without_distillation_and_as_long_as_a_row_says() -> None:
    heads = {"kd_long": {"task_steps": 700, "task_pool": 900}, "none_long": {"task_steps": 5, "task_pool": None}}
    params = params_with(heads)
    section = params.task_learning
    assert budget.task_learning(params, "gkd", distils=True) == section
    assert budget.task_learning(params, "none", distils=False).steps == section.steps + section.undistilled_steps
    longer = budget.task_learning(params, "kd_long", distils=False)
    assert longer == section.model_copy(update={"steps": 700, "pool": 900})
    assert budget.task_learning(params, "none_long", distils=False).pool is None


@pytest.mark.parametrize(
    ("processes", "batch", "micro", "expected"),
    [
        (1, 4, None, 1),
        (8, 32, None, 8),
        (8, 4, None, 4),
        (8, 6, None, 6),
        (8, 32, 32, 8),
        (8, 128, 32, 8),
        (5, 24, 8, 4),
        (2, 24, 8, 1),
    ],
)
def test_a_batch_is_shared_by_as_many_processes_as_divide_it(capsys, processes, batch, micro, expected) -> None:
    params = params_with(processes=processes, task_learning={"batch_size": batch, "micro_batch": micro})
    assert budget.processes(params, params.task_learning) == expected
    said = f"{expected} of {processes} processes: more do not share a batch of {batch} evenly\n"
    assert capsys.readouterr().out == ("" if expected == processes else said)
