import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import Photos

from gkd.data.loading import Draw, EpochBatches, loader
from gkd.data.transforms import DistillationView, LabelledView
from gkd.params import ROOT, load

TINY = load(ROOT / "profiles/tiny.yaml")
SMALL = {"image_size": [16, 16], "crop": [16, 16]}


def keys(length, draw):
    """Whole batches of (epoch, view, index)."""
    return list(EpochBatches(length, draw))


@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 99))
def test_every_epoch_is_a_permutation_of_its_own(length, batch, seed):
    draw = Draw(3 * length, batch, seed)
    batches = keys(length, draw)
    assert len(batches) == 3 * length and {len(b) for b in batches} == {batch}
    drawn = [key for b in batches for key in b]
    for epoch in range(3 * batch):
        part = drawn[epoch * length : (epoch + 1) * length]
        assert {(e, v) for e, v, _ in part} == {(epoch, 0)}
        assert sorted(index for *_, index in part) == list(range(length))
    assert batches == keys(length, draw)


def test_orders_differ_between_epochs_and_seeds():
    assert len({tuple(index for *_, index in b) for seed in (0, 1) for b in keys(50, Draw(3, 50, seed))}) == 6


@settings(max_examples=30)
@given(st.integers(1, 20), st.integers(2, 4), st.integers(0, 99))
def test_repeats_show_each_drawn_image_several_times_and_fewer_images(length, repeats, seed):
    drawn = [key for b in keys(length, Draw(length, 1, seed, repeats)) for key in b]
    indices = [index for *_, index in drawn]
    counts = Counter(indices)
    assert len(drawn) == length and len(counts) == -(-length // repeats)  # 1/repeats of the distinct images
    assert sorted(counts.values())[1:] == [repeats] * (len(counts) - 1) and max(counts.values()) <= repeats
    assert len(set(drawn)) == length  # each view augmented differently
    runs = [index for i, index in enumerate(indices) if i == 0 or index != indices[i - 1]]
    assert len(runs) == len(counts)  # in a row


@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 4), st.integers(0, 5))
def test_processes_deal_out_each_batch_and_a_later_start_changes_none(length, share, count, start):
    shape = {"steps": 6, "batch_size": share * count, "seed": 0}
    whole = keys(length, Draw(**shape))[start:]
    parts = [keys(length, Draw(**shape, start=start, process=(index, count))) for index in range(count)]
    for batch, *own in zip(whole, *parts, strict=True):
        assert {len(part) for part in own} == {share}
        assert [key for together in zip(*own, strict=True) for key in together] == batch


def test_an_empty_dataset_and_an_uneven_share_are_refused():
    with pytest.raises(ValueError, match="the dataset is empty"):
        loader(Photos(0), None, Draw(1, 1, 0))
    with pytest.raises(ValueError, match="batch_size: 2 processes cannot share 3 samples evenly"):
        loader(Photos(1), None, Draw(1, 3, 0, process=(0, 2)))


def batches_with(monkeypatch, workers, labelled):
    monkeypatch.setenv("GKD_WORKERS", str(workers))
    view, section = (LabelledView, TINY.task_learning) if labelled else (DistillationView, TINY.domain_agnostic)
    transform = view(section.model_copy(update=SMALL))
    found = loader(Photos(6), transform, Draw(4, 4, 7, repeats=1 if labelled else 3))
    assert found.num_workers == workers and len(found) == 4
    return list(found)


@pytest.mark.parametrize("labelled", [False, True])
def test_batches_do_not_depend_on_the_workers(monkeypatch, labelled):
    here, there = (batches_with(monkeypatch, workers, labelled) for workers in (0, 2))
    assert len(here) == len(there) == 4
    for a, b in zip(here, there, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    images = here[0][0] if labelled else here[0]
    assert images.shape == (4, 3, 16, 16) and images.unique(dim=0).shape[0] == 4
    if labelled:
        assert here[0][1].shape == (4, 16, 16)


def test_loading_leaves_the_generators_of_python_and_numpy_alone(monkeypatch):
    before = np.random.get_state()[1].tolist(), random.getstate()
    batches_with(monkeypatch, 0, True)
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before
