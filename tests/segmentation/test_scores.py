import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gkd.segmentation.scores import iou, parts, score_row, scores


def test_scores_keep_full_precision_and_a_class_that_is_only_predicted_counts_for_miou_alone():
    result = scores(np.array([[2, 1], [0, 4]]))
    assert (result.miou, result.aacc) == (100 * (2 / 3 + 4 / 5) / 2, 100 * 6 / 7)
    assert result.macc == pytest.approx(100 * (2 / 3 + 1) / 2, rel=1e-15) and result.iou[0] == 100 * (2 / 3)
    result = scores(np.array([[6, 2, 0], [0, 0, 0], [0, 0, 0]]))
    assert (result.miou, result.macc, result.aacc) == (37.5, 75.0, 75.0)
    np.testing.assert_array_equal(result.iou, [75.0, 0.0, np.nan])
    with pytest.raises(ValueError, match="the confusion matrix is empty"):
        scores(np.zeros((3, 3), int))


@settings(max_examples=30)
@given(arrays(np.uint8, (3, 4, 4), elements=st.one_of(st.just(0), st.integers(0, 255))))
def test_class_scores_are_those_of_the_evaluation_and_sums_do_not_overflow(found):
    found[0, 0, 0] = 1  # not all void
    whole = found.sum(axis=0, dtype=np.int64)
    np.testing.assert_array_equal(iou(parts(found).sum(axis=0)), scores(whole).iou)


def test_a_row_of_scores_says_whose_they_are():
    who, confusion = {"setting": "f2l", "method": "gkd", "source": "potsdam_rgb", "seed": 0}, np.array([[2, 1], [0, 4]])
    expected = dict(zip(("miou", "macc", "aacc"), scores(confusion)[1:4], strict=True))
    assert score_row(who, "potsdam_irrg", confusion, 0.1) == {**who, "domain": "potsdam_irrg", **expected, "lr": 0.1}
