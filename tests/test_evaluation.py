import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from gkd.evaluation import (
    confusion_matrix,
    evaluate,
    keep_ratio_size,
    predict,
    scores,
    slide,
    window_starts,
)

quick = settings(max_examples=25, deadline=None)


def test_starts_of_the_published_windows():
    assert window_starts(1024, 512, 341) == [0, 341, 512]
    assert window_starts(512, 512, 341) == [0]
    assert window_starts(720, 512, 341) == [0, 208]
    assert window_starts(1280, 512, 341) == [0, 341, 682, 768]
    assert window_starts(960, 512, 341) == [0, 341, 448]
    assert window_starts(300, 512, 341) == [0]


@quick
@given(st.integers(1, 300), st.integers(1, 60), st.data())
def test_windows_cover_every_pixel_inside_the_image(length, size, data):
    stride = data.draw(st.integers(1, size))
    starts = window_starts(length, size, stride)
    covered = {pixel for start in starts for pixel in range(start, min(start + size, length))}
    assert covered == set(range(length))
    assert starts == sorted(set(starts))
    assert starts[-1] == max(length - size, 0)


def test_gaps_between_windows_are_refused():
    with pytest.raises(ValueError, match="stride 5 exceeds the window 4"):
        window_starts(20, 4, 5)


@pytest.mark.parametrize(
    ("size", "bound", "expected"),
    [
        ((2048, 1024), (1024, 512), (1024, 512)),
        ((1280, 720), (1280, 720), (1280, 720)),
        ((1920, 1080), (960, 540), (960, 540)),
        ((2000, 1500), (1024, 512), (683, 512)),
        ((1500, 2000), (1024, 512), (512, 683)),
        ((4000, 3000), (512, 512), (512, 384)),
        ((2000, 500), (1024, 512), (1024, 256)),
    ],
)
def test_keep_ratio_sizes_of_the_protocol(size, bound, expected):
    assert keep_ratio_size(*size, bound) == expected


class WindowDependent(nn.Module):
    """Scores that depend on the place inside the window, so that averaging and cropping show."""

    def forward(self, images):
        b, _, h, w = images.shape
        ramp = torch.arange(h)[:, None] * 0.1 + torch.arange(w) * 0.01
        return torch.stack(
            [images[:, 0] * ramp, images[:, 1] + ramp, images.mean(dim=(1, 2, 3))[:, None, None] + ramp], 1
        )


@quick
@given(
    st.integers(1, 24),
    st.integers(1, 24),
    st.integers(1, 16),
    st.integers(1, 5),
    st.integers(1, 7),
    st.data(),
)
def test_slide_equals_a_loop_over_pixels(height, width, window, multiple, batch_size, data):
    stride = data.draw(st.integers(1, window))
    generator = torch.Generator().manual_seed(height * 41 + width)
    image = torch.rand(3, height, width, generator=generator, dtype=torch.float64)
    seen = []

    def model(crops):
        seen.append(crops.shape)
        return WindowDependent()(crops)

    result = slide(model, image, window, stride, multiple, batch_size)

    h, w = min(window, height), min(window, width)
    total, count = np.zeros((3, height, width)), np.zeros((height, width))
    for y in window_starts(height, window, stride):
        for x in window_starts(width, window, stride):
            padded = torch.zeros(1, 3, -(-h // multiple) * multiple, -(-w // multiple) * multiple, dtype=torch.float64)
            padded[0, :, :h, :w] = image[:, y : y + h, x : x + w]
            local = WindowDependent()(padded)[0].numpy()
            for i in range(h):
                for j in range(w):
                    total[:, y + i, x + j] += local[:, i, j]
                    count[y + i, x + j] += 1
    np.testing.assert_allclose(result.numpy(), total / count, atol=1e-6)
    assert all(shape[2] % multiple == 0 and shape[3] % multiple == 0 for shape in seen)
    assert max(shape[0] for shape in seen) <= batch_size


def test_slide_gives_fixed_input_encoders_their_window():
    shapes = []

    def model(crops):
        shapes.append(tuple(crops.shape[2:]))
        return crops

    image = torch.rand(3, 20, 50)
    torch.testing.assert_close(slide(model, image, 32, 21, multiple=32, batch_size=8), image)
    assert shapes == [(32, 32)]


def test_slide_resizes_coarse_scores_and_upcasts_half():
    image = torch.rand(3, 16, 16)
    result = slide(lambda crops: nn.functional.avg_pool2d(crops, 4).half(), image, 16, 16)
    expected = nn.functional.interpolate(
        nn.functional.avg_pool2d(image[None], 4).half().float(),
        size=(16, 16),
        mode="bilinear",
        align_corners=False,
    )
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, expected[0])


def test_scores_are_averaged_as_logits_not_as_probabilities():
    # Two windows over a 2 x 3 strip share the middle column: logits (9, 0) and (-1, 10) average to (4, 5),
    # while averaged probabilities would be close to one half each.
    answers = iter([(9.0, 0.0), (-1.0, 10.0)])

    def model(crops):
        return torch.tensor(next(answers))[None, :, None, None].expand(1, 2, 2, 2)

    result = slide(model, torch.rand(3, 2, 3), 2, 1)
    torch.testing.assert_close(result[:, 0, 1], torch.tensor([4.0, 5.0]))


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
    confusion = evaluate(model, [(photo, label)] * 2, 2, (30, 20), window=16, stride=11, multiple=4, batch_size=3)
    assert confusion.sum() == 2 * 75 * 120
    assert scores(confusion).miou > 97
    assert model.training and not model.frozen.training
    np.testing.assert_array_equal(
        predict(Brightness().eval(), photo, (40, 60), None, 16, 11), (photo[..., 0] > 0).astype(np.int64)
    )


def test_evaluate_names_the_sample_with_a_bad_label():
    sample = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=r"sample 1: label holds 9\.\.9"):
        evaluate(Brightness(), [(sample, np.zeros((8, 8), int)), (sample, np.full((8, 8), 9))], 2, None, 8, 8)


def test_windows_are_padded_with_the_given_colour():
    seen = []
    image = torch.full((3, 5, 6), 0.5)
    slide(lambda crops: seen.append(crops) or crops[:, :2], image, 8, 4, multiple=8, fill=(0.1, 0.2, 0.3))
    assert seen[0].shape == (1, 3, 8, 8)
    assert (seen[0][:, :, :5, :6] == 0.5).all()
    for channel, value in enumerate((0.1, 0.2, 0.3)):
        assert torch.equal(seen[0][0, channel, 5:], torch.full((3, 8), value))
        assert torch.equal(seen[0][0, channel, :5, 6:], torch.full((5, 2), value))
