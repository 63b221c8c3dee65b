"""A run that is killed at any moment and repeated ends as one that was left alone."""

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_runs import Killed, Photos, assert_equal_runs, distilled
from tiny_models import tiny_vit
from torch import nn

from gkd.train.loop import Training, fit
from gkd.train.resume import Resume, fingerprint, load_model_state, model_state
from gkd.train.run import FP32, Run
from gkd.train.schedules import parameter_groups, poly


def test_a_state_comes_back_as_it_was(tmp_path):
    slot = Resume(tmp_path / "member", "key").slot("gkd on acdc/night")
    assert slot.load() is None
    state = {"photos": 3, "rows": [{"loss": 0.1 + 0.2}], "tensor": torch.arange(3), "none": None}
    slot.save(state)
    read = slot.load()
    assert torch.equal(read.pop("tensor"), torch.arange(3)) and read == {k: state[k] for k in read} and len(read) == 3
    assert [file.name for file in slot.file.parent.iterdir()] == ["gkd on acdc-night.pt"]


def test_another_key_starts_clean_and_clear_leaves_nothing(tmp_path):
    Resume(tmp_path / "member", "old").slot("a").save({"step": 1})
    assert Resume(tmp_path / "member", "old").slot("a").load() == {"step": 1}
    new = Resume(tmp_path / "member", "new")
    assert new.slot("a").load() is None and not (tmp_path / "member" / "old").exists()
    new.slot("a").save({"step": 2})
    new.clear()
    assert not (tmp_path / "member").exists()
    new.clear()


@pytest.mark.parametrize("content", [b"", b"noise", None])
def test_a_torn_state_is_told_of_and_the_part_starts_anew(tmp_path, capsys, content):
    slot = Resume(tmp_path, "key").slot("a")
    slot.save({"tensor": torch.zeros(1000)})
    whole = slot.file.read_bytes()
    slot.file.write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert slot.load() is None and not slot.file.exists()
    assert "a.pt is torn" in capsys.readouterr().out


def test_saves_are_due_after_the_interval(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("gkd.train.resume.time.monotonic", lambda: now[0])
    slot = Resume(tmp_path, "key", seconds=60).slot("a")
    now[0] = 59.0
    assert not slot.due()
    now[0] = 60.0
    assert slot.due()
    slot.save({})
    assert not slot.due()


def test_the_fingerprint_follows_texts_files_and_weights(tmp_path):
    torch.manual_seed(0)
    module, folder = nn.Linear(2, 2), tmp_path / "code"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "a.py").write_text("1")
    parts = ["text", folder, tmp_path / "absent.csv", module]
    first = fingerprint(*parts)
    (folder / "__pycache__" / "a.pyc").write_text("bytes that change")
    assert fingerprint(*parts) == first
    seen = {first, fingerprint("text", "x", *parts[1:]), fingerprint("textx", *parts[1:])}
    (folder / "a.py").write_text("2")
    seen.add(fingerprint(*parts))
    with torch.no_grad():
        module.bias[0] += 1e-6
    seen.add(fingerprint(*parts))
    (tmp_path / "absent.csv").write_text("")
    seen.add(fingerprint(*parts))
    assert len(seen) == 6
    half = nn.Linear(2, 2).to(torch.bfloat16)
    assert fingerprint(half) == fingerprint(copy.deepcopy(half))


def test_frozen_parameters_are_not_kept_and_other_names_are_refused():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm2d(2))
    model[0].requires_grad_(False)
    assert set(model_state(model)) == {
        "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"
    }  # fmt: skip
    with pytest.raises(ValueError, match="holds other tensors"):
        load_model_state(model, {"1.weight": torch.ones(2)})


def train(resume=None, kill=10**6, steps=8):
    """Dropout draws from torch's generator while the model runs."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.BatchNorm1d(4), nn.Linear(4, 1))
    batches = [torch.randn(5, 3) for _ in range(steps)]

    def step(number, batch, _share):
        if number == kill:
            raise Killed
        loss = model(batch).square().mean()
        return loss, {"loss": loss.detach()}

    groups = parameter_groups([model], 0.1, 0.05)
    training = Training(step, [model], groups, lambda start: batches[start:], steps, poly(steps, 1.0))
    return model, fit(training, Run("run", resume=resume))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kills=st.lists(st.integers(0, 7), min_size=1, max_size=3), seconds=st.sampled_from([0.0, 1e9]))
def test_training_ends_with_the_same_bytes_wherever_it_was_killed(tmp_path_factory, kills, seconds):
    resume = Resume(tmp_path_factory.mktemp("resume") / "member", "key", seconds)
    for kill in sorted(kills):
        with pytest.raises(Killed):
            train(resume, kill)
    assert_equal_runs(train(resume), train())


def test_a_finished_run_is_not_repeated(tmp_path, capsys):
    resume = Resume(tmp_path, "key", 1e9)
    first = train(resume)
    again = train(resume, kill=0)  # a step would end it
    assert_equal_runs(first, again)
    assert not again[0].training and "run  continues after step 8" in capsys.readouterr().out


def test_a_student_that_draws_numbers_continues_with_those_that_it_would_have_drawn(tmp_path):
    """A DataLoader draws one from torch's generator each time it starts (torch 2.14, `_BaseDataLoaderIter`)."""
    run, ended = Run("run", resume=Resume(tmp_path, "key", 0)), []
    for at, photos in ((run, Photos(left=11)), (run, None), (Run("run"), None)):
        student = tiny_vit(24, depth=3, seed=1, drop_path_rate=0.3)
        try:
            ended.append(distilled(at, photos, student=student))
        except Killed:
            assert 0 < len(run.slot.load()["history"]) < 5
    assert_equal_runs(*ended)


@pytest.mark.parametrize(("left", "precision"), [(3, "fp32"), (8, "bf16"), (19, "fp32"), (19, "bf16")])
def test_distillation_ends_with_the_same_bytes(tmp_path, left, precision):
    compute, photos = FP32.model_copy(update={"precision": precision}), Photos()
    run = Run("run", resume=Resume(tmp_path, "key", 0), compute=compute)
    with pytest.raises(Killed):
        distilled(run, Photos(left=left), lr=1e-2)
    if (state := run.slot.load()) is not None:
        moments = [value for entry in state["optimizer"]["state"].values() for value in entry.values()]
        assert {value.dtype for value in [*moments, *state["modules"].values()]} == {torch.float32}
    assert_equal_runs(distilled(run, photos, lr=1e-2), distilled(Run("run", compute=compute), lr=1e-2))
    assert len(photos.reads) == 4 * (5 - left // 4)  # the steps before the kill are not repeated
