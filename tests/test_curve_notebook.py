"""notebooks/explore_curve.ipynb: its points are those of the table."""

from pathlib import Path

import nbformat
import pandas as pd
import pytest

from gkd.params import ROOT


def test_a_line_for_each_method_with_whiskers_where_there_are_seeds(tmp_path: Path) -> None:
    places = {"016k": (20.0, None), "128k": (30.0, 1.5)}  # mean, and spread over seeds
    rows = [
        {"method": f"{point}: {label}", "column": source, "mean": mean + up, "std": std, "seeds": 1}
        for point, (mean, std) in places.items()
        for source in ("gtav", "potsdam_rgb")
        for up, label in enumerate(("MSE", "GKD", "GKD-diag (ours)"))
    ]
    for point, mean, seeds in (("016k", 5.0, 1), ("064k", 9.0, 3), ("128k", 4.0, 1)):  # the line is of the most seeds
        own = {"method": f"{point}: No KD (frozen)", "mean": mean, "seeds": seeds}
        rows += [{**own, "column": source} for source in ("gtav", "potsdam_rgb")]
    pd.DataFrame(rows).to_csv(tmp_path / "profiles.csv", index=False)
    names: dict = {}
    for cell in nbformat.read(ROOT / "notebooks" / "explore_curve.ipynb", 4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, cell.id, "exec"), names)
        if "parameters" in cell.metadata.get("tags", ()):
            names |= {"results": str(tmp_path), "figure": str(tmp_path / "curve")}
    for axis in names["axes"][0]:
        drawn = {bars.get_label(): bars for bars in axis.containers}
        assert list(drawn) == ["MSE", "GKD", "GKD-diag (ours)"]
        for up, bars in enumerate(drawn.values()):
            assert bars.lines[0].get_xydata().tolist() == [[16, 20 + up], [128, 30 + up]]
            (_, whisker) = bars.lines[2][0].get_segments()
            assert whisker[:, 1] == pytest.approx([28.5 + up, 31.5 + up])
        assert axis.lines[-1].get_ydata() == [9, 9]
    assert (tmp_path / "curve.png").is_file()
