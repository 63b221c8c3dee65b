"""Kinds of values that a parameter may have, each with the words in which another one is refused."""

import datetime
import math
import re
from collections.abc import Callable
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

POLICY = "a policy of timm's RandAugment, such as rand-m9-mstd0.5-inc1, or '' for none"
PROFILE = "a name of letters, digits, dot, _ and - that is no number, date or truth value"
WEIGHTS = "none, hub, package:<name>, or a .safetensors, .pth or .pt file"
FILES = r"none|hub|package:\w+|[^:]*\.(safetensors|pth|pt)"
# Magnitude, layers and increase are whole numbers; t names one of timm's sets, and another name its default one.
POLICIES = r"(rand(-(m|n|mmax|inc)\d+|-(p|mstd)\d+(\.\d+)?|-t(weights|3aw?))*)?"
SPLITS = "names of letters, digits, dot, _ and -"
SCALE = "two positive numbers, the smaller one first"


def expect(words: str, sound: Callable[[Any], bool]) -> Callable[[Any], Any]:
    """A check that a value is `sound`; `words` say what is expected."""

    def check(value: Any) -> Any:
        if not sound(value):
            raise ValueError(f"expected {words}")
        return value

    return check


def against(other: str, words: str, fits: Callable[[Any, Any], bool]) -> AfterValidator:
    """A check against the value of `other`, a key that stands before this one; a faulty one is told of by itself."""

    def check(value: Any, info: ValidationInfo) -> Any:
        limit = info.data.get(other)
        return value if limit is None else expect(f"{words} {other}, {limit}", lambda v: fits(v, limit))(value)

    return AfterValidator(check)


def _pair(value: Any, *kinds: type) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(number) in kinds for number in value)


def _plain(value: Any) -> bool:
    """Whether it holds nothing that YAML reads and nobody means: .nan and .inf, and dates, at which DVC stops."""
    if isinstance(value, dict | list):
        return all(map(_plain, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, datetime.date) and (not isinstance(value, float) or math.isfinite(value))


def _profile(value: Any) -> bool:
    """It becomes part of folders and of shell commands, and papermill reads it as Python would."""
    if not (isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", value)):
        return False
    number = re.fullmatch(r"[\d._]*(e-?\d+)?|nan|inf(inity)?", value, re.I)
    return number is None and value.lower() not in ("true", "false", "none") and yaml.safe_load(value) == value


Count = Annotated[int, Field(gt=0)]
MicroBatch = Annotated[Count, against("batch_size", "a divisor of", lambda part, whole: whole % part == 0)] | None
Index = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[
    list[int], BeforeValidator(expect("two whole numbers above 0", lambda v: _pair(v, int) and min(v) > 0))
]
Scale = Annotated[
    list[float], BeforeValidator(expect(SCALE, lambda v: _pair(v, int, float) and 0 < v[0] <= v[1] < math.inf))
]
AreaScale = Annotated[Scale, AfterValidator(expect("shares of a photo's area, at most 1", lambda ends: ends[1] <= 1))]
Distinct = AfterValidator(expect("each value once", lambda values: len(set(values)) == len(values)))
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$")]  # it becomes part of file names
Several = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
Splits = Annotated[  # they become part of file names
    list[str] | dict[str, str],
    AfterValidator(expect(SPLITS, lambda names: all(re.fullmatch(r"[A-Za-z0-9_.-]+", name) for name in names))),
]
Options = Annotated[dict[str, Any], AfterValidator(expect("text and finite numbers", _plain))]
Weights = Annotated[str, AfterValidator(expect(WEIGHTS, re.compile(FILES).fullmatch))]
Policy = Annotated[str, AfterValidator(expect(POLICY, re.compile(POLICIES).fullmatch))]
ProfileName = Annotated[str, BeforeValidator(expect(PROFILE, _profile))]
