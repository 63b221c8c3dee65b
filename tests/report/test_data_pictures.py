import numpy as np
import pandas as pd
import pytest

from gkd.data.labels import palette
from gkd.report.data_pictures import contact_sheet, frequency_heatmap


def test_a_contact_sheet_holds_images_of_any_size_and_thins_out_large_ones():
    sizes = (6, 8), (40, 1000)
    images = [np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    labels = [np.full(size, number, np.uint8) for number, size in enumerate(sizes)]
    figure = contact_sheet(images, labels, palette("isprs"), "vaihingen")
    shapes = [axis.images[0].get_array().shape for axis in figure.axes]
    assert shapes == [(6, 8, 3), (20, 500, 3)] * 2 and figure.get_suptitle() == "vaihingen"
    with pytest.raises(ValueError, match="got 1 for 2"):
        contact_sheet(images, labels[:1], palette("isprs"))


def test_the_heatmap_says_the_share_of_each_class():
    shares = pd.DataFrame({"train": [66.67, 0.04], "val": [np.nan, 33.33]}, index=["building", "car"])
    (axis,) = frequency_heatmap(shares, "shares").axes
    assert [text.get_text() for text in axis.texts] == ["66.7", "<0.1", "33.3"]
    with pytest.raises(ValueError, match="no label was read"):
        frequency_heatmap(pd.DataFrame())
