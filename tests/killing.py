"""What stands for a killed run in a test: photos whose reading ends it."""

import numpy as np


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


class Photos:
    """Noise with labels; after `left` photos were read, the next one ends the run."""

    def __init__(self, count=5, left=10**6):
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        self.labels = rng.integers(0, 3, (count, 32, 32), dtype=np.uint8)
        self.left = left

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.left -= 1
        if self.left < 0:
            raise Killed
        return self.images[index], self.labels[index]
