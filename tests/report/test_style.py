import matplotlib.pyplot as plt
import pytest

from gkd.report.style import save, style, subplots


def drawn():
    with style():
        figure, axes = subplots(1, 1, 2, 2)
        axes[0, 0].plot([1, 2, 3], label="line")
    return figure


def test_saving_twice_gives_equal_bytes_without_dates(tmp_path):
    for folder in ("a", "b"):
        paths = save(drawn(), tmp_path / folder / "f2l.gtav", ("pdf", "png", "svg"))
        assert [path.name for path in paths] == ["f2l.gtav.pdf", "f2l.gtav.png", "f2l.gtav.svg"]
    assert all(path.read_bytes() == (tmp_path / "a" / path.name).read_bytes() for path in paths)
    assert b"CreationDate" not in paths[0].read_bytes() and b"<dc:date>" not in paths[2].read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(path.name for path in paths)
    with pytest.raises(ValueError, match="eps"):
        save(drawn(), tmp_path / "x", ("eps",))


def test_style_leaves_the_callers_settings_and_pyplot_alone():
    before = dict(plt.rcParams)
    with style():
        assert plt.rcParams["pdf.fonttype"] == 42
    drawn()
    assert dict(plt.rcParams) == before and plt.get_fignums() == []
