import numpy as np
import pytest
from small_runs import Photos, segmentor
from tiny_models import tiny_vit

from gkd.data.labels import IGNORE
from gkd.params import Inference
from gkd.segmentation.decoders import LinearDecoder, Segmentor
from gkd.segmentation.measure import EvaluationSet, measure_images, show
from gkd.train.run import Run

CLASSES = 3
PROTOCOL = Inference(window=32, stride=32, batch_size=4)


@pytest.mark.parametrize(("count", "rows"), [(1, [0]), (3, [0, 2, 5]), (9, [0, 1, 2, 3, 4, 5])])
def test_show_gives_samples_spread_over_the_domain(count, rows):
    data, model = Photos(6), Segmentor(tiny_vit(24, depth=1), LinearDecoder(24, CLASSES), True)
    photos, labels, maps = show({"a": model}, EvaluationSet("a", data, CLASSES, PROTOCOL), count)
    assert list(maps) == ["a"]
    for row, photo, label, found in zip(rows, photos, labels, maps["a"], strict=True):
        assert np.array_equal(photo, data.images[row]) and np.array_equal(label, data.labels[row])
        assert found.shape == label.shape and 0 <= found.min() and found.max() < CLASSES


def test_a_domain_whose_labels_hold_no_class_is_named():
    data, model = Photos(2), Segmentor(tiny_vit(24, depth=1), LinearDecoder(24, CLASSES), True)
    data.labels[:] = IGNORE
    with pytest.raises(ValueError, match="^dusk: every pixel of its labels is ignored; .*or leave dusk out"):
        measure_images({"a": model}, EvaluationSet("dusk", data, CLASSES, PROTOCOL), Run("x"))


def test_the_protocol_of_the_domain_is_used():
    protocol = Inference(window=64, stride=43, batch_size=4)
    used = [EvaluationSet("a", [], CLASSES, protocol, bound).inference(segmentor()) for bound in ((128, 64), None)]
    assert [how.bound for how in used] == [(128, 64), None]
    assert all((how.window, how.stride, how.multiple, how.batch_size) == (64, 43, 64, 4) for how in used)  # of one size
    assert all(how.fill == pytest.approx((0.5, 0.5, 0.5)) for how in used)
