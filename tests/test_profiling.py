"""The parts of a step add up to it, and the backward pass is told apart where the heads end."""

import time

import pytest
import torch
from tiny_models import tiny_vit

from gkd.counting import count_distillation
from gkd.profiling import PARTS, MemoryRecord, allocated_memory, follow, spent, step_marks, time_parts
from gkd.qsd import Objective, distillation_step


@pytest.fixture
def models():
    torch.manual_seed(0)
    student, teacher = tiny_vit(seed=1), tiny_vit(dim=48, seed=2).requires_grad_(False).eval()
    return student.train(), teacher, Objective(student.dim, teacher.dim)


def batch(rows=4, masked=2):
    mask = torch.zeros(rows, 16, dtype=torch.bool)
    mask[:masked, :8] = True
    return torch.rand(rows, 3, 32, 32), mask


def test_every_part_is_there_and_takes_time(models) -> None:
    parts = time_parts(*models, [batch() for _ in range(4)], lr=1e-3, warmup=1)
    assert tuple(parts) == PARTS
    assert all(seconds > 0 for seconds in parts.values())


def test_parts_add_up_to_the_step(models) -> None:
    (marks,) = step_marks(*models, [batch()], lr=1e-3)
    assert [value for _, value in marks] == sorted(value for _, value in marks)
    assert sum(spent(marks).values()) == pytest.approx(marks[-1][1] - marks[0][1])


def test_waiting_for_data_is_data(models) -> None:
    def slow():
        time.sleep(0.2)
        yield batch()

    (marks,) = step_marks(*models, slow(), lr=1e-3)
    assert spent(marks)["data"] >= 0.2


@pytest.mark.parametrize("masked", [0, 2])
def test_the_order_of_a_step(models, masked) -> None:
    student, teacher, objective = models
    images, mask = batch(masked=masked)
    marks = follow(lambda: 0.0, lambda: distillation_step(*models, images, mask)[0], student, teacher)
    names = [name for name, _ in marks]
    views = ["student, forward", "QSD and losses, forward"] * (2 if masked else 1)
    start = ["QSD and losses, forward", "teacher", "QSD and losses, forward", *views]
    assert names == [*start, "QSD and losses, backward", "student, backward", "AdamW", ""]


@pytest.mark.parametrize("masked", [0, 2])
def test_heads_are_done_before_the_student_in_the_backward_pass(models, masked) -> None:
    student, teacher, objective = models
    images, mask = batch(masked=masked)
    seen = {}

    def meter() -> float:
        heads = [p.grad is not None for p in objective.parameters()]
        seen[len(seen)] = sum(heads) / len(heads), any(p.grad is not None for p in student.backbone.parameters())
        return float(len(seen))

    marks = follow(meter, lambda: distillation_step(*models, images, mask)[0], student, teacher)
    at = {name: number for number, (name, _) in enumerate(marks)}
    assert seen[at["QSD and losses, backward"]] == (0, False)
    assert seen[at["student, backward"]] == (1, False)
    assert seen[at["AdamW"]] == (1, True)


def test_the_step_is_that_of_training(models) -> None:
    student, _, _ = models
    before = [p.clone() for p in student.parameters()]
    time_parts(*models, [batch()], lr=1e-3)
    assert any((a != b).any() for a, b in zip(before, student.parameters(), strict=True))
    assert not student._forward_hooks and not student._forward_pre_hooks


def test_nothing_to_measure_is_said(models) -> None:
    with pytest.raises(ValueError, match="more batches than the 1"):
        time_parts(*models, [batch()], lr=1e-3, warmup=1)


def test_each_tensor_counts_while_it_lives() -> None:
    with allocated_memory() as record:
        start = time.perf_counter()
        kept = torch.ones(1000, 25)
        between = time.perf_counter()
        passing = torch.ones(500_000)
        del passing
        end = time.perf_counter()
    frame = record.frame
    assert frame["seconds"].is_monotonic_increasing
    assert frame["bytes"].iloc[0] == 0 and frame["bytes"].iloc[-1] == kept.nbytes
    assert record.between(start, between)["bytes"].max() == kept.nbytes
    assert record.between(between, end)["bytes"].max() == kept.nbytes + 2_000_000


def test_a_step_holds_its_activations_until_the_backward_pass(models) -> None:
    student, teacher, objective = models
    with allocated_memory() as record:
        _, marks = step_marks(student, teacher, objective, [batch(), batch()], lr=1e-3)
    times = dict(marks)
    peak = record.between(times["student, forward"], marks[-1][1]).sort_values("bytes").iloc[-1]
    assert times["student, forward"] < peak["seconds"] < times["AdamW"]
    kept = count_distillation(student, teacher, objective, batch()[0].shape[-2:]).activations * len(batch()[0])
    assert peak["bytes"] > 0.5 * kept


def test_the_samples_of_a_stretch_begin_before_it() -> None:
    record = MemoryRecord()
    record.rows = [(0.0, 5), (1.0, 6), (2.0, 7), (3.0, 8)]
    assert record.between(1.5, 2.5)["bytes"].tolist() == [6, 7]
    with pytest.raises(ValueError, match="not from -1"):
        record.between(-1.0, 2.0)
