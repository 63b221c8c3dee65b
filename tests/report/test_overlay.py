import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gkd.report.overlay import colorize, overlay

PALETTE = np.array([[128, 64, 128], [70, 70, 70], [70, 130, 180]], np.uint8)


def test_colours_follow_the_palette():
    assert colorize([[0, 2, 255]], PALETTE).tolist() == [[[128, 64, 128], [70, 130, 180], [0, 0, 0]]]
    with pytest.raises(ValueError, match=r"label holds 0\.\.3, the palette has 3 colours"):
        colorize(np.array([[0, 3]]), PALETTE)


@given(arrays(np.uint8, (5, 4), elements=st.sampled_from([0, 1, 2, 255])), st.sampled_from([0.5, 0.55, 1.0]))
@settings(max_examples=20)
def test_colours_are_blended_and_ignored_pixels_stay(label, opacity):
    photo = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    blended, ignored = overlay(photo, label, PALETTE, opacity), label == 255
    assert blended.dtype == np.uint8
    np.testing.assert_array_equal(blended[ignored], photo[ignored])
    expected = (1 - opacity) * photo.astype(float) + opacity * colorize(label, PALETTE)
    np.testing.assert_allclose(blended[~ignored], expected[~ignored], atol=0.51)
