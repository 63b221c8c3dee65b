import pytest

from gkd.methods.table import METHODS, method


def test_the_table_of_the_design() -> None:
    rows = {m.name: (m.distils, m.encoder, m.frozen, m.guided) for m in METHODS.values()}
    assert rows == {
        "teacher": (False, "teacher", True, False),
        "none": (False, "student", False, False),
        "none-frozen": (False, "student", True, False),
        "kd": (False, "student", False, True),
        "mse": (True, "student", True, False),
        "gkd": (True, "student", True, False),
        "gkd-diag": (True, "student", True, False),
        "gkd-light": (True, "student", True, False),
    }


def test_gkd_is_the_published_form_and_ours_says_so() -> None:
    assert (METHODS["gkd"].head, METHODS["gkd"].head_options) == ("qsd", {})
    assert METHODS["gkd-diag"].head_options == {"scaled": True, "diagonal_bias": 6.0}
    assert METHODS["gkd-light"].head_options == {"pool": 2}
    assert [m.name for m in METHODS.values() if "ours" in m.label] == ["gkd-diag", "gkd-light"]
    assert METHODS["mse"].head == "linear"


def test_names_and_labels_are_unique() -> None:
    assert all(name == m.name for name, m in METHODS.items())
    assert len({m.label for m in METHODS.values()}) == len(METHODS)
    # plan.yaml writes - as _, where two names must not meet.
    assert len({name.replace("-", "_") for name in METHODS}) == len(METHODS)


def test_a_method_by_name() -> None:
    assert method("kd") is METHODS["kd"]
    with pytest.raises(ValueError, match="unknown method 'gdk'; known: teacher, none, none-frozen, kd"):
        method("gdk")
