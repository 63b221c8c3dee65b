import numpy as np
from evaluations import confusions

from gkd.report.resampling import resample, resampled
from gkd.segmentation.scores import parts, scores


def key(method, domain="bdd100k", seed=0):
    return "f2l", method, "gtav", domain, seed


def test_a_draw_is_the_score_of_the_images_that_it_holds_and_rows_see_the_same_ones():
    found = {m: confusions(quality, seed) for m, quality, seed in (("none", 0.4, 1), ("gkd", 0.45, 2), ("kd", 0.4, 1))}
    draws = resample({key(name): parts(own) for name, own in found.items()}, draws=50)
    count = np.random.default_rng([*b"bdd100k"]).multinomial(6, np.full(6, 1 / 6), 50)
    for name, own in found.items():
        expected = [scores(np.repeat(own, row, axis=0).sum(axis=0)).miou for row in count]
        np.testing.assert_allclose(draws[key(name)], expected, rtol=1e-12)
    same = resampled(draws, ("f2l", "kd"), ("f2l", "none"))
    assert list(same) == [("gtav", "bdd100k")] and (same == 0).all(axis=None)
    # The paired difference varies less than either row.
    ahead = resampled(draws, ("f2l", "gkd"), ("f2l", "none"))["gtav", "bdd100k"]
    assert (ahead > 0).all() and ahead.std() < draws[key("none")].std() + draws[key("gkd")].std()


def test_a_class_that_a_draw_has_lost_counts_for_no_row_whatever_they_predict():
    """Else a row that predicts it somewhere would have a 0 more in its mean than one that does not."""
    rare = np.zeros((8, 3, 3), np.uint16)
    rare[:, 0, 0], rare[:, 1, 1], rare[0, 2, 2] = 90, 90, 10  # the third class is in the first image alone
    stray = rare.copy()
    stray[1:, 0, 0], stray[1:, 0, 2] = 89, 1
    draws = resample({key("none"): parts(rare), key("gkd"): parts(stray)}, draws=200)
    lost = np.random.default_rng([*b"bdd100k"]).multinomial(8, np.full(8, 1 / 8), 200)[:, 0] == 0
    assert 20 < lost.sum() < 180
    assert (draws[key("none")] == 100).all()
    assert draws[key("gkd")][lost].min() > 99  # of two classes


def test_seeds_that_both_rows_have_are_averaged_and_domains_are_drawn_apart():
    own = {key(m, d, s): parts(confusions(0.5, 7 * s + len(m))) for m, d, s in (
        ("none", "bdd100k", 0), ("none", "bdd100k", 1), ("gkd", "bdd100k", 0), ("gkd", "bdd100k", 1),
        ("gkd", "bdd100k", 2), ("none", "cityscapes", 0), ("gkd", "cityscapes", 0))}  # fmt: skip
    draws = resample(own, draws=20)
    found = resampled(draws, ("f2l", "gkd"), ("f2l", "none"))
    mean = sum(draws[key("gkd", seed=s)] - draws[key("none", seed=s)] for s in (0, 1)) / 2
    np.testing.assert_allclose(found["gtav", "bdd100k"], mean)
    assert not np.allclose(draws[key("none")], draws[key("none", "cityscapes")])  # equal images, other draws
