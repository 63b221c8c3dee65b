from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkd.data.subsets import nested_subset, restrict


@given(st.integers(16, 300), st.integers(0, 5))
def test_fractions_are_nested_and_of_the_stated_size(count, seed):
    names = [f"{i:04}.png" for i in range(count)]
    parts = {divisor: nested_subset(reversed(names), divisor, seed) for divisor in (1, 2, 4, 8, 16)}
    assert parts[1] == names
    for divisor, part in parts.items():
        assert len(part) == len(set(part)) == count // divisor and part == sorted(part)
    for larger, smaller in ((1, 2), (2, 4), (4, 8), (8, 16)):
        assert set(parts[smaller]) <= set(parts[larger])


def test_sizes_of_the_published_fractions_and_seeds():
    assert [len(nested_subset(map(str, range(24_964)), k, 0)) for k in (16, 8, 4)] == [1560, 3120, 6241]
    assert [len(nested_subset(map(str, range(2_975)), k, 0)) for k in (16, 8, 4)] == [185, 371, 743]
    names = [str(i) for i in range(100)]
    assert nested_subset(names, 4, 0) != nested_subset(names, 4, 1)
    with pytest.raises(ValueError, match="1/16 of 15 labelled images is none"):
        nested_subset(map(str, range(15)), 16, 0)


@pytest.mark.parametrize(("text", "message"), [("gone.png\n", "gone.png is not in the dataset"), ("", "it is empty")])
def test_a_file_of_other_data_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    data = SimpleNamespace(samples=())
    assert restrict(data, None) is data
    with pytest.raises(ValueError, match=f"a.txt: {message}; `gkd plan` writes"):
        restrict(data, tmp_path / "a.txt")
