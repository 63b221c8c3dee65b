"""Plain lines on the terminal while a stage runs: papermill shows each refresh of a bar as a line of its own."""

import time


class Progress:
    """Step of `total`, loss, images a second and time left, every few seconds and at the end.

    `done` steps are an earlier process's; `quiet` counts alone.
    """

    def __init__(self, name: str, total: int, every: float = 5.0, done: int = 0, quiet: bool = False) -> None:
        self.name, self.total, self.every, self.before, self.quiet = name, total, every, done, quiet
        self.start = self.last = time.monotonic()
        self.images = 0

    def __call__(self, done: int, images: int, loss: float | None = None) -> None:
        """Count a step of so many images, with which `done` are done."""
        self.images += images
        now = time.monotonic()
        if self.quiet or (now - self.last < self.every and done < self.total):
            return
        self.last = now
        elapsed = max(now - self.start, 1e-9)
        left = int(elapsed / (done - self.before) * (self.total - done))
        shown = "" if loss is None else f"  loss {loss:.4f}"
        rate = f"{self.images / elapsed:.1f} images/s  {left // 60}:{left % 60:02d} left"
        print(f"{self.name}  step {done}/{self.total}{shown}  {rate}", flush=True)
