from pathlib import Path

import pytest

from gkd.datasets import official
from gkd.params import ROOT, load
from gkd.report.published import paper_rows, paper_table, published
from gkd.report.tables import write

PARAMS = load(ROOT / "params.yaml")
COLUMNS = ["cityscapes", "bdd100k", "mapillary", "Avg(Citys,BDD,Map)"]


@pytest.fixture(scope="module")
def paper():
    return paper_rows()


def test_numbers_carry_their_origin(paper):
    theirs = published(paper, COLUMNS, "F2L", "GTAV", "ViT-S", {"GKD": "GKD"}).loc["GKD (paper)"]
    assert list(theirs)[:2] == ["54.9", "49.8"] and theirs["origin"] == "printed"
    mixed = published(paper, [*COLUMNS, "camvid"], "F2F", "GTAV", "ViT-B", {"KD": "Vanilla KD"}).loc["KD (paper)"]
    shown = {"cityscapes": "59.9 (printed)", "mapillary": "60.2 (digitised)", COLUMNS[3]: "58.2 (secondary)"}
    assert mixed[[*shown, "camvid"]].to_dict() == {**shown, "camvid": "-"}
    known_twice = published(paper, COLUMNS, "vfm-student-no-KD", "GTAV", "ViT-B", {"none": "no KD"})
    assert known_twice.loc["none (paper)", "origin"] == "printed"
    with pytest.raises(ValueError, match="no 'GDK' for F2L"):
        published(paper, COLUMNS, "F2L", "GTAV", "ViT-S", {"GKD": "GDK"})


def test_columns_are_those_of_our_tables(paper, tmp_path: Path):
    table = paper_table(paper, PARAMS, official())
    assert list(table.text.index) == ["No KD (paper)", "Vanilla KD (paper)", "GKD (paper)"]
    assert list(table.text.columns)[:4] == COLUMNS and table.text.columns[-1] == "origin"
    assert [path.name for path in write(table, tmp_path)] == ["published.csv", "published.tex", "published.md"]
    assert paper_table(paper, PARAMS.model_copy(update={"sources": ["camvid"]}), official()) is None


def test_acdc_after_gtav_has_one_published_number(paper):
    own = ["bdd100k", *(f"acdc/{weather}_val" for weather in ("night", "snow", "fog", "rain"))]
    chosen = PARAMS.model_copy(update={"sources": ["gtav"], "targets": {"gtav": own}})
    text = paper_table(paper, chosen, official()).text
    assert list(text["ACDC (all, trained on GTAV)"]) == ["-", "-", "46.5"]
    ours = [name for name in text if name.lower().startswith("acdc_")] + ["Avg(ACDC 4) (ours)"]
    assert len(ours) == 5 and (text[ours] == "-").all(axis=None)
    assert list(text["bdd100k"]) == ["33.8", "44.2", "49.8"] and set(text["origin"]) == {"printed"}
