"""The example of docs/adding_a_dataset.md works as it stands."""

import re
from pathlib import Path

import layout_files
import numpy as np
from layout_files import Case, write_case

from gkd.data.samples import SegmentationData
from gkd.params import ROOT


def test_the_documented_dataset_loads(tmp_path: Path) -> None:
    text = (ROOT / "docs/adding_a_dataset.md").read_text()
    module, row, line = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict = {}
    exec(module, names)
    datasets = eval(f"{{{row}}}", names)
    (case,) = eval(f"[{line}]", vars(layout_files))
    assert isinstance(case, Case)
    _, expected = write_case(tmp_path, case)
    layout = datasets[case.name]
    data = SegmentationData(layout, tuple(layout.find(tmp_path, case.split)))
    assert np.array_equal(data[0][1], expected)
