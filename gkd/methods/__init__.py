"""Methods by name."""

from __future__ import annotations

from collections.abc import Callable

from gkd.methods.table import Method, method


def row(name: str) -> Method:
    """The row of a method."""
    return method(name)


def guidance(name: str) -> Callable:
    """The loss of a guided method."""
    from gkd.methods.baselines import pixel_kl

    return pixel_kl
