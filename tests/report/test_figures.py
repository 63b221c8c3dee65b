from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch

from gkd.models.masking import hide_pixels
from gkd.report import figures as viz
from gkd.report.overlay import colorize

PALETTE = np.array([[128, 64, 128], [70, 70, 70], [70, 130, 180]], np.uint8)
NAMES = ["road", "building", "sky"]
METHODS = ["Teacher", "No KD", "No KD (frozen)", "Vanilla KD", "MSE", "GKD", "GKD-diag (ours)"]
DOMAINS = "cityscapes bdd100k mapillary night snow fog rain potsdam_irrg vaihingen_irrg".split()


def titles(figure):
    return [axis.get_title() for axis in figure.axes if axis.get_title()]


def texts_overlap(figure):
    """Pairs of visible tick labels, titles and legend entries of a figure that overlap when drawn."""
    figure.draw_without_rendering()
    texts = [text for axis in figure.axes for text in (axis.title, *axis.get_xticklabels(), *axis.get_yticklabels())]
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    shown = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text() and text.get_visible()]
    return [(a, b) for (a, one), (b, two) in combinations(shown, 2) if one.shrunk(0.9, 0.9).overlaps(two)]


def test_loss_curves_draw_every_loss_for_every_group():
    step = np.arange(20)
    columns = {"step": step, "lr": 0.1, "loss": 1 / (1 + step)}
    history = pd.concat([pd.DataFrame({**columns, "fea_loss": k, "method": m}) for k, m in enumerate("ab")])
    figure = viz.loss_curves(history, by="method")
    assert titles(figure) == ["loss", "fea_loss"]
    np.testing.assert_allclose(figure.axes[0].lines[1].get_ydata(), 1 / (1 + step))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    smooth = viz.loss_curves(history[history["method"] == "a"], columns=["loss"], smooth=4)
    assert smooth.axes[0].lines[1].get_ydata()[-1] == pytest.approx((1 / (1 + step))[-4:].mean())
    with pytest.raises(ValueError, match="column 'step' and losses"):
        viz.loss_curves(history[["step", "lr"]])


def test_batch_with_masks_greys_the_masked_patches():
    images, mask = np.ones((2, 3, 8, 12), np.float32), np.zeros((2, 6), bool)
    mask[0, 4] = True  # row 1, column 1
    first, second = (axis.images[0].get_array() for axis in viz.batch_with_masks(images, mask, (2, 3)).axes[:2])
    assert (first[4:8, 4:8] == 150).all() and (first == 255).all(axis=2).sum() == 8 * 12 - 16
    assert (second == 255).all()
    with pytest.raises(ValueError, match="2 x 3 patches"):
        viz.batch_with_masks(images, mask[:, :5], (2, 3))


def test_batch_with_masks_greys_what_the_student_does_not_see():
    """Sides that are no multiple of a convolutional student's stride: its last cells are cut off by the border."""
    images, mask = torch.ones(1, 3, 50, 66), torch.zeros(1, 6, dtype=torch.bool)
    mask[0, [2, 3]] = True
    (axis, *_) = viz.batch_with_masks(images.numpy(), mask.numpy(), (2, 3)).axes
    hidden = hide_pixels(images, mask, (2, 3))[0, 0].numpy() == 0
    np.testing.assert_array_equal(axis.images[0].get_array()[..., 0] == 150, hidden)


def test_predictions_grid_holds_every_method_and_the_classes_that_occur():
    photo, label = np.zeros((24, 48, 3), np.uint8), np.repeat(np.uint8([2, 2, 1, 0, 0, 255]), 4 * 48).reshape(24, 48)
    figure = viz.predictions_grid([photo] * 2, [label] * 2, {m: [label] * 2 for m in METHODS}, PALETTE, NAMES)
    assert titles(figure) == ["photo", "label", *METHODS]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*NAMES, "ignored"]
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), colorize(label, PALETTE))
    assert texts_overlap(figure) == []
    with pytest.raises(ValueError, match="gkd has 1 predictions for 2 photos"):
        viz.predictions_grid([photo] * 2, [label] * 2, {"gkd": [label]}, PALETTE, NAMES)


def test_heatmaps_say_the_share_of_each_class():
    shares = pd.DataFrame({"train": [66.67, 0.04], "val": [np.nan, 33.33]}, index=["building", "car"])
    for figure, expected in (
        (viz.confusion_heatmap(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 5]]), NAMES), ["75", "25", "100"]),
        (viz.frequency_heatmap(shares, "shares"), ["66.7", "<0.1", "33.3"]),
    ):
        assert [text.get_text() for text in figure.axes[0].texts if text.get_text()] == expected
        assert texts_overlap(figure) == []
    with pytest.raises(ValueError, match="3 class names"):
        viz.confusion_heatmap(np.eye(4), NAMES)
    with pytest.raises(ValueError, match="no label was read"):
        viz.frequency_heatmap(pd.DataFrame())


def test_radar_is_legible_with_seven_methods_and_nine_domains_and_keeps_gaps():
    means = pd.DataFrame(np.linspace(40, 75, 63).reshape(7, 9), index=METHODS, columns=DOMAINS)
    means.iloc[2, 4] = np.nan
    figure = viz.radar(means, "mIoU in %")
    axis = figure.axes[0]
    assert [line.get_label() for line in axis.lines] == METHODS
    assert len({(line.get_color(), line.get_marker()) for line in axis.lines}) == 7
    assert np.isnan(axis.lines[2].get_ydata()[4])
    assert axis.get_ylim() == (30, 80)
    assert texts_overlap(figure) == []
    with pytest.raises(ValueError, match="three domains"):
        viz.radar(means[["cityscapes", "snow"]])
    with pytest.raises(ValueError, match="all are missing"):
        viz.radar(means * np.nan)


def test_attention_figure_outlines_the_query_and_draws_its_row():
    weights, image = np.random.default_rng(0).random((8, 8)), np.ones((3, 16, 32))
    figure = viz.attention_figure(image, 6, (2, 4), {"fea_head": weights, "teacher cosine": weights[3]})
    assert titles(figure) == ["query: row 1, column 2", "fea_head", "teacher cosine"]
    panels = [axis for axis in figure.axes if axis.get_title()]
    np.testing.assert_allclose(panels[1].images[1].get_array(), weights[6].reshape(2, 4))
    np.testing.assert_allclose(panels[2].images[1].get_array(), weights[3].reshape(2, 4))
    assert all(panel.patches[0].get_bbox().bounds == (16, 8, 8, 8) for panel in panels)
    assert texts_overlap(figure) == []
    with pytest.raises(ValueError, match="outside the 2 x 4 grid"):
        viz.attention_figure(image, 8, (2, 4), {})
    with pytest.raises(ValueError, match="map 'fea_head'"):
        viz.attention_figure(image, 0, (2, 4), {"fea_head": weights[:, :5]})


def test_a_contact_sheet_holds_images_of_any_size_and_thins_out_large_ones():
    sizes = (6, 8), (40, 1000)
    images = [np.zeros((*size, 3), np.uint8) for size in sizes]
    labels = [np.full(size, number, np.uint8) for number, size in enumerate(sizes)]
    figure = viz.contact_sheet(images, labels, PALETTE, "vaihingen")
    shapes = [axis.images[0].get_array().shape for axis in figure.axes]
    assert shapes == [(6, 8, 3), (20, 500, 3)] * 2 and figure.get_suptitle() == "vaihingen"
    with pytest.raises(ValueError, match="got 1 for 2"):
        viz.contact_sheet(images, labels[:1], PALETTE)
