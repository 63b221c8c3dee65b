"""The real CamVid frames, where they lie beside the repository."""

import numpy as np
import pytest

from gkd.data.labels import IGNORE
from gkd.datasets import official
from gkd.params import ROOT

PHOTOS = ROOT.parent / "shared" / "camvid"
pytestmark = pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"needs the CamVid photos in {PHOTOS}")
KNOWN = official({"camvid": str(PHOTOS)})


@pytest.mark.parametrize(("split", "count"), [("day", 305), ("val", 101), ("dusk", 62)])
def test_counts_and_ids(split: str, count: int) -> None:
    assert KNOWN.problem("camvid", split) is None
    data = KNOWN.open_split("camvid", split)
    assert len(data) == count
    image, label = data[count // 2]
    assert image.shape == (360, 480, 3) and label.shape == (360, 480)
    assert set(np.unique(label).tolist()) <= {*range(11), IGNORE}


def test_sky_lies_above_road_and_dusk_is_darker() -> None:
    day, dusk = KNOWN.open_split("camvid", "day"), KNOWN.open_split("camvid", "dusk")
    _, label = day[150]
    rows = [np.nonzero(label == train_id)[0].mean() for train_id in (0, 3)]
    assert rows[0] < rows[1]
    brightness = [np.mean([data[i][0].mean() for i in range(0, len(data), 20)]) for data in (day, dusk)]
    assert brightness[1] < brightness[0]
