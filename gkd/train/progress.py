"""Plain lines on the terminal while a stage runs: papermill shows each refresh of a bar as a line of its own."""

import time


class Progress:
    """Step of `total`, loss, images a second and time left, every few seconds and at the end.

    Its pace is that from the end of the first step on: before that a pool is filled, or a kernel compiled. `quiet`
    counts alone.
    """

    def __init__(self, name: str, total: int, every: float = 5.0, quiet: bool = False) -> None:
        self.name, self.total, self.every, self.quiet = name, total, every, quiet
        self.first: tuple[float, int] | None = None  # when the first step ended here, and its number
        self.last, self.images = time.monotonic(), 0

    def __call__(self, done: int, images: int, loss: float | None = None) -> None:
        """Count a step of so many images, with which `done` are done."""
        now = time.monotonic()
        if self.first is None:
            self.first, images = (now, done), 0
        self.images += images
        if self.quiet or (now - self.last < self.every and done < self.total):
            return
        self.last = now
        shown = "" if loss is None else f"  loss {loss:.4f}"
        if steps := done - self.first[1]:
            elapsed = max(now - self.first[0], 1e-9)
            left = int(elapsed / steps * (self.total - done))
            shown += f"  {self.images / elapsed:.1f} images/s  {left // 60}:{left % 60:02d} left"
        print(f"{self.name}  step {done}/{self.total}{shown}", flush=True)
