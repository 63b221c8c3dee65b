"""The methods table (design section 2): what each method does before and in task learning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Method:
    """One row of every table.

    Attributes:
        name: as in params.yaml and in the tables.
        label: as printed.
        distils: whether the task-agnostic and domain-agnostic stages come first.
        head: distillation head of those stages, "qsd" or "linear".
        head_options: keyword options of the head, before those of `profiles.<profile>.heads.<method>`.
        encoder: "teacher" or "student".
        frozen: whether the encoder is frozen in task learning.
        guided: whether task learning adds the KL term to the teacher's segmentor.
    """

    name: str
    label: str
    distils: bool = False
    head: str = "qsd"
    head_options: dict[str, Any] = field(default_factory=dict)
    encoder: str = "student"
    frozen: bool = True
    guided: bool = False


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("teacher", "Teacher", encoder="teacher"),
        Method("none", "No KD", frozen=False),
        Method("none-frozen", "No KD (frozen)"),
        Method("kd", "Vanilla KD", frozen=False, guided=True),
        Method("mse", "MSE", distils=True, head="linear"),
        Method("gkd", "GKD", distils=True),
        Method("gkd-diag", "GKD-diag (ours)", distils=True, head_options={"scaled": True, "diagonal_bias": 6.0}),
        Method("gkd-light", "GKD-light (ours)", distils=True, head_options={"pool": 2}),
    )
}


def method(name: str) -> Method:
    """The row of that name; a ValueError lists the known ones."""
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}; known: {', '.join(METHODS)}")
    return METHODS[name]
