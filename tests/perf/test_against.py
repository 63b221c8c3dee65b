"""What `perf/against.py` makes of the seconds that the sides report."""

import pytest
from against import BEFORE, LIGHTLY, POOL, faults, rates, ratios


@pytest.fixture
def found():
    """Turns of 100 samples: from a pool 1 s, and 2 s once; the others three times as long, without anything before."""
    slow = {"once": 0.0, "turns": [3.0, 3.0], "memory": 100}
    return {POOL: {"once": 2.0, "turns": [1.0, 1.0], "memory": 150}, BEFORE: slow, LIGHTLY: dict(slow)}


def test_rates_and_ratios_count_what_comes_before_the_first_step(found):
    assert rates(found[POOL], 100) == [100, 100] and rates(found[POOL], 100, samples=200) == [50, 50]
    assert ratios(found, BEFORE, 100) == pytest.approx([3, 3])
    assert ratios(found, BEFORE, 100, samples=200) == pytest.approx([1.5, 1.5])


def test_what_falls_short_is_named(found):
    assert faults(found, 100, 200, pool=60) == []
    assert faults(found, 100, 100, pool=40) == [
        f"{BEFORE}: 1.00 times as fast with the filling of the pool at 100 samples, wanted 1.5",
        f"{LIGHTLY}: 1.00 times as fast with the filling of the pool at 100 samples, wanted 1.5",
        "peak memory 0.00 GB: over that before and the pool",
    ]
    found[BEFORE]["turns"] = [1.0, 1.0]
    del found[LIGHTLY]
    assert faults(found, 100, 10**6, pool=60) == [
        f"{BEFORE}: 1.00 times as fast with the filling of the pool at 1,000,000 samples, wanted 1.5",
        f"{BEFORE}: 1.00 times as fast without that of the pool, wanted 2.0",
        f"{LIGHTLY}: not measured",
    ]
