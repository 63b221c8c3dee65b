from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gkd.data.loading import EpochBatches, loader
from gkd.data.transforms import DistillationView, LabelledView
from gkd.params import Distillation, TaskLearning


class Photos:
    """Images of noise, and labels; `data[i]` as gkd.datasets give it."""

    def __init__(self, count):
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, (count, 24, 24, 3), dtype=np.uint8)
        self.labels = rng.integers(0, 3, (count, 24, 24), dtype=np.uint8)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


def indices(keys):
    return [index for _epoch, _view, index in keys]


@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 99))
def test_every_epoch_is_a_permutation_of_its_own(length, batch, seed):
    batches = list(EpochBatches(length, batch, 3 * length, seed))
    assert len(batches) == 3 * length and {len(b) for b in batches} == {batch}
    keys = [key for b in batches for key in b]
    for epoch in range(3 * batch):
        part = keys[epoch * length : (epoch + 1) * length]
        assert {(e, v) for e, v, _ in part} == {(epoch, 0)}
        assert sorted(indices(part)) == list(range(length))
    assert keys == [key for b in EpochBatches(length, batch, 3 * length, seed) for key in b]


def test_orders_differ_between_epochs_and_seeds():
    orders = {tuple(indices(b)) for seed in (0, 1) for b in EpochBatches(50, 50, 3, seed)}
    assert len(orders) == 6


@settings(max_examples=30)
@given(st.integers(1, 20), st.integers(2, 4), st.integers(0, 99))
def test_repeats_show_each_drawn_image_several_times_and_fewer_images(length, repeats, seed):
    keys = [key for b in EpochBatches(length, 1, length, seed, repeats) for key in b]
    counts = Counter(indices(keys))
    assert len(keys) == length and len(counts) == -(-length // repeats)  # 1/repeats of the distinct images
    assert sorted(counts.values())[1:] == [repeats] * (len(counts) - 1) and max(counts.values()) <= repeats
    assert len(set(keys)) == length  # each view augmented differently
    runs = [index for i, index in enumerate(indices(keys)) if i == 0 or index != indices(keys)[i - 1]]
    assert len(runs) == len(counts)  # in a row


@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 4), st.integers(0, 5))
def test_processes_deal_out_each_batch(length, share, count, start):
    shape = length, share * count, 6, 0, 1, start
    whole = list(EpochBatches(*shape))
    parts = [list(EpochBatches(*shape, process=(index, count))) for index in range(count)]
    for batch, *own in zip(whole, *parts, strict=True):
        assert {len(part) for part in own} == {share}
        assert [key for keys in zip(*own, strict=True) for key in keys] == batch


def test_an_empty_dataset_is_refused():
    with pytest.raises(ValueError, match="the dataset is empty"):
        loader(Photos(0), None, 1, 1, 0, labelled=False)


@pytest.mark.parametrize("given", ["two", "-1", ""])
def test_a_number_of_workers_that_is_none_is_refused(monkeypatch, given):
    monkeypatch.setenv("GKD_WORKERS", given)
    with pytest.raises(ValueError, match=f"GKD_WORKERS={given}: expected the number of loader processes"):
        loader(Photos(1), None, 1, 1, 0, labelled=False)


def batches_with(monkeypatch, workers, labelled):
    monkeypatch.setenv("GKD_WORKERS", str(workers))
    if labelled:
        transform = LabelledView(TaskLearning(steps=1, batch_size=4, lrs=[1.0], crop=[16, 16]))
    else:
        transform = DistillationView(Distillation(steps=1, batch_size=4, lr=1.0, image_size=[16, 16]))
    found = loader(Photos(6), transform, 4, 4, 7, labelled=labelled, repeats=1 if labelled else 3)
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


def test_loading_leaves_the_global_generators_alone(monkeypatch):
    torch.manual_seed(0)
    before = np.random.get_state()[1].tolist(), torch.rand(1)
    torch.manual_seed(0)
    iterator = batches_with(monkeypatch, 0, True)
    assert len(iterator) == 4
    assert np.random.get_state()[1].tolist() == before[0]
