import pytest
from charts import power


def test_exponents_are_fitted_over_all_points_or_the_upper_half() -> None:
    square = {x: 3.0 * x**2 for x in (1, 2, 4, 8)}
    assert power(square) == pytest.approx(2) == power(square, upper=True)
    bent = {1: 1.0, 2: 1.0, 4: 1.0, 8: 2.0, 16: 4.0}
    assert power(bent, upper=True) == pytest.approx(1) and power(bent) < 0.6
    with pytest.raises(ValueError, match="two points or more, all positive"):
        power({1: 1.0, 2: 0.0})
