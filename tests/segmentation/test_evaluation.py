import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from small_runs import Killed, Photos
from torch import nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from gkd.segmentation.evaluation import count, evaluate, evaluate_images
from gkd.segmentation.scores import scores
from gkd.segmentation.windows import Inference, predict
from gkd.train.resume import Resume
from gkd.train.run import Run

pair = st.integers(2, 6).flatmap(
    lambda k: st.tuples(
        st.just(k),
        arrays(np.uint8, (6, 9), elements=st.integers(0, k - 1)),
        arrays(np.uint8, (6, 9), elements=st.one_of(st.integers(0, k - 1), st.just(255))),
    )
)


def confusion_matrix(prediction, label, classes):
    """In the plainest form, one pixel at a time."""
    found = np.zeros((classes, classes), dtype=np.int64)
    for guess, truth in zip(prediction.ravel(), label.ravel(), strict=True):
        if truth != 255:
            found[truth, guess] += 1
    return found


@settings(max_examples=25)
@given(pair)
def test_counts_equal_a_loop_and_scores_equal_torchmetrics(case):
    classes, prediction, label = case
    label[0, 0] %= 255  # not all void
    confusion = confusion_matrix(prediction, label, classes)
    answer, target = (torch.from_numpy(values.astype(np.int64)) for values in (prediction, label))
    table = count(answer, target, classes).view(classes + 1, classes + 1)
    np.testing.assert_array_equal(table[:classes, :classes], confusion)
    assert table.sum() == label.size and table[classes].sum() == (label == 255).sum()

    result, options = scores(confusion), {"num_classes": classes, "ignore_index": 255}
    iou = MulticlassJaccardIndex(average="none", **options)(answer, target).numpy()
    acc = MulticlassAccuracy(average="none", **options)(answer, target).numpy()
    labelled = confusion.any(axis=1)
    present = labelled | confusion.any(axis=0)
    np.testing.assert_allclose(result.iou, np.where(present, 100 * iou, np.nan), rtol=1e-6)
    np.testing.assert_allclose(result.acc, np.where(labelled, 100 * acc, np.nan), rtol=1e-6)
    micro = MulticlassAccuracy(average="micro", **options)(answer, target)
    means = 100 * iou[present].mean(), 100 * acc[labelled].mean(), 100 * micro
    np.testing.assert_allclose(result[1:4], means, rtol=1e-6)


class Brightness(nn.Module):
    """Class 1 where the photo is bright, class 0 elsewhere; refuses to run in training mode."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Dropout().eval()

    def forward(self, images):
        assert not self.training
        bright = images.mean(dim=1)
        return torch.stack([1 - bright, bright], dim=1)


def test_evaluate_scores_at_label_size_and_restores_the_modes():
    photo = np.zeros((40, 60, 3), np.uint8)
    photo[:, 30:] = 255
    label = np.zeros((80, 120), np.uint8)  # twice the photo, as the label decides the size of the scores
    label[:, 60:] = 1
    label[:5] = 255
    model = Brightness().train()
    model.frozen.eval()
    confusion = evaluate(model, [(photo, label)] * 2, 2, Inference(16, 11, (30, 20), multiple=4, batch_size=3))
    assert confusion.sum() == 2 * 75 * 120
    assert scores(confusion).miou > 97
    assert model.training and not model.frozen.training


def test_a_model_of_another_class_table_is_refused():
    bright = np.full((8, 8, 3), 255, np.uint8)
    data = [(bright, np.full((8, 8), 255)), (bright, np.zeros((8, 8), int))]
    with pytest.raises(ValueError, match=r"prediction holds classes beyond 0\.\.0 at 64 labelled pixels"):
        evaluate(Brightness(), data, 1, Inference(8, 8))
    assert evaluate(Brightness(), data[:1], 1, Inference(8, 8)).sum() == 0  # void


class Colours(nn.Module):
    """Scores of three classes: a mix of the channels, at half the size."""

    def __init__(self, seed):
        super().__init__()
        self.mix = nn.Conv2d(3, 3, 3, stride=2, padding=1)
        nn.init.normal_(self.mix.weight, generator=torch.Generator().manual_seed(seed))

    def forward(self, images):
        return self.mix(images)


# Each with windows of its own, as the patch size of each model asks for.
MODELS = {
    "a": (Colours(0).eval(), Inference(16, 11, (24, 20), multiple=4, batch_size=3)),
    "b": (Colours(1).eval(), Inference(16, 16, (24, 20), multiple=8, batch_size=2)),
}


def one_after_another():
    expected, data = {}, Photos(7)
    for name, (model, how) in MODELS.items():
        pairs = [(predict(model, data[index][0], (32, 32), how), data[index][1]) for index in range(7)]
        expected[name] = np.stack([confusion_matrix(guess, label, 3) for guess, label in pairs])
    return expected


@pytest.mark.parametrize("workers", ["0", "2"])
def test_models_share_one_reading_and_workers_change_nothing(monkeypatch, capsys, workers):
    monkeypatch.setenv("GKD_WORKERS", workers)
    data, expected = Photos(7), one_after_another()
    found = evaluate_images(MODELS, data, 3)
    assert data.reads == ([] if workers == "2" else list(range(7)))  # read elsewhere, or each once
    assert capsys.readouterr().out == ""
    for name, matrices in expected.items():
        np.testing.assert_array_equal(found[name], matrices)
        assert found[name].dtype == np.int64
    assert list(evaluate_images(MODELS, data, 3, Run("told"))) == list(MODELS)
    assert capsys.readouterr().out.startswith("told  step 7/7")


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_a_killed_evaluation_counts_each_photo_once(tmp_path, seconds):
    run = Run("a", resume=Resume(tmp_path, "key", seconds))
    with pytest.raises(Killed):
        evaluate_images(MODELS, Photos(7, left=4), 3, run)
    data = Photos(7)
    for _ in range(2):  # the second time all is done
        found = evaluate_images(MODELS, data, 3, run)
        assert data.reads == list(range(4 if seconds == 0 else 0, 7))
        for name, matrix in one_after_another().items():
            np.testing.assert_array_equal(found[name], matrix)  # of each photo


def test_models_that_see_photos_at_different_sizes_do_not_share_a_reading():
    other = {"c": (Colours(2), Inference(16, 16, (48, 40)))}
    with pytest.raises(ValueError, match="one reading serves models of one bound"):
        evaluate_images(MODELS | other, Photos(7), 3)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_the_sample_with_a_bad_label_is_named(monkeypatch, workers):
    monkeypatch.setenv("GKD_WORKERS", workers)
    data = [(np.zeros((8, 8, 3), np.uint8), np.full((8, 8), value)) for value in (1, 1, 9)]
    with pytest.raises(ValueError, match=r"sample 2: label holds 9\.\.9, expected 0\.\.1 or 255"):
        evaluate(Brightness(), data, 2, Inference(8, 8))
