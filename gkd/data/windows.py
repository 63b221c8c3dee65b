"""Where windows lie along a side, of tiles that are read in parts and of photos that a model slides over."""


def window_starts(length: int, size: int, stride: int) -> list[int]:
    """First pixels of the windows along a side of `length` pixels: 0, stride, ..., the last at length - size.

    A side that is no longer than the window has the one start 0.

    Raises ValueError where a number is not positive, or the stride leaves gaps.
    """
    if min(length, size, stride) < 1:
        raise ValueError(f"length, window and stride must be positive, got {length}, {size} and {stride}")
    if stride > size:
        raise ValueError(f"stride {stride} exceeds the window {size}: pixels between windows would be in none")
    last = max(length - size, 0)
    return [*range(0, last, stride), last]
