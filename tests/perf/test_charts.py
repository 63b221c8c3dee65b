import pytest
from charts import power, power_curves, stacked_bars


def test_pieces_of_a_bar_lie_end_to_end() -> None:
    (axis,) = stacked_bars({"a": {"x": 1.0, "y": 3.0}, "b": {"y": 2.0}}, "s").axes
    pieces = [[(p.get_x(), p.get_width()) for p in bar] for bar in axis.containers]
    assert pieces == [[(0, 1), (0, 0)], [(1, 3), (0, 2)]]
    assert [text.get_text() for text in axis.texts] == ["25%", "", "75%", "100%"]


def test_exponents_are_fitted_over_all_points_or_the_upper_half() -> None:
    square = {x: 3.0 * x**2 for x in (1, 2, 4, 8)}
    assert power(square) == pytest.approx(2) == power(square, upper=True)
    bent = {1: 1.0, 2: 1.0, 4: 1.0, 8: 2.0, 16: 4.0}
    assert power(bent, upper=True) == pytest.approx(1) and power(bent) < 0.6
    with pytest.raises(ValueError, match="two points or more, all positive"):
        power({1: 1.0, 2: 0.0})


def test_curves_have_a_linear_one_beside_them() -> None:
    figure = power_curves({"time": ("tokens", {"full": {2: 1.0, 8: 9.0}, "light": {2: 1.0, 8: 5.0}})})
    lines = {line.get_label(): line.get_ydata()[-1] for line in figure.axes[0].lines}
    assert lines == {"full": 9, "light": 5, "linear": 4}
