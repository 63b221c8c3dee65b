import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from gkd.evaluation import confusion_matrix, evaluate, scores
from gkd.inference import Inference

quick = settings(max_examples=25, deadline=None)
pair = st.integers(2, 6).flatmap(
    lambda k: st.tuples(
        st.just(k),
        arrays(np.uint8, (6, 9), elements=st.integers(0, k - 1)),
        arrays(np.uint8, (6, 9), elements=st.one_of(st.integers(0, k - 1), st.just(255))),
    )
)


@quick
@given(pair)
def test_confusion_equals_a_loop(case):
    classes, prediction, label = case
    expected = np.zeros((classes, classes), dtype=np.int64)
    for guess, truth in zip(prediction.ravel(), label.ravel(), strict=True):
        if truth != 255:
            expected[truth, guess] += 1
    result = confusion_matrix(prediction, label, classes)
    np.testing.assert_array_equal(result, expected)
    assert result.dtype == np.int64


@quick
@given(pair)
def test_scores_equal_torchmetrics_and_a_loop(case):
    classes, prediction, label = case
    if (label == 255).all():
        label[0, 0] = 0
    result = scores(confusion_matrix(prediction, label, classes))
    guess, truth = prediction[label != 255], label[label != 255]

    for c in range(classes):
        union = ((guess == c) | (truth == c)).sum()
        expected = 100 * ((guess == c) & (truth == c)).sum() / union if union else np.nan
        np.testing.assert_allclose(result.iou[c], expected, atol=0.005001)

    target, answer = torch.from_numpy(label.astype(np.int64)), torch.from_numpy(prediction.astype(np.int64))
    options = {"num_classes": classes, "ignore_index": 255}
    iou = MulticlassJaccardIndex(average="none", **options)(answer, target).numpy()
    present = ~np.isnan(result.iou)
    np.testing.assert_allclose(result.iou[present], 100 * iou[present], atol=0.006)
    np.testing.assert_allclose(result.miou, 100 * iou[present].mean(), atol=0.006)
    acc = MulticlassAccuracy(average="none", **options)(answer, target).numpy()
    labelled = ~np.isnan(result.acc)
    np.testing.assert_array_equal(labelled, [(truth == c).any() for c in range(classes)])
    np.testing.assert_allclose(result.macc, 100 * acc[labelled].mean(), atol=0.006)
    np.testing.assert_allclose(
        result.aacc, 100 * MulticlassAccuracy(average="micro", **options)(answer, target), atol=0.006
    )


def test_a_predicted_but_unlabelled_class_counts_for_miou_and_not_for_macc():
    confusion = np.array([[6, 2, 0], [0, 0, 0], [0, 0, 0]])
    result = scores(confusion)
    assert (result.miou, result.macc, result.aacc) == (37.5, 75.0, 75.0)
    np.testing.assert_array_equal(result.iou, [75.0, 0.0, np.nan])


def test_values_outside_the_classes_are_refused():
    with pytest.raises(ValueError, match=r"prediction holds 0\.\.3, expected 0\.\.2"):
        confusion_matrix(np.array([0, 3]), np.array([1, 1]), 3)
    with pytest.raises(ValueError, match=r"label holds 1\.\.34, expected 0\.\.2 or 255"):
        confusion_matrix(np.array([0, 0]), np.array([1, 34]), 3)
    with pytest.raises(ValueError, match="one shape"):
        confusion_matrix(np.zeros(4, int), np.zeros((2, 2), int), 3)
    assert confusion_matrix(np.array([7, 1]), np.array([255, 1]), 3).sum() == 1  # ignored before the check


def test_a_domain_without_labels_is_an_error():
    with pytest.raises(ValueError, match="empty"):
        scores(np.zeros((3, 3), int))


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


def test_evaluate_names_the_sample_with_a_bad_label():
    sample = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=r"sample 1: label holds 9\.\.9"):
        evaluate(Brightness(), [(sample, np.zeros((8, 8), int)), (sample, np.full((8, 8), 9))], 2, Inference(8, 8))
