"""What a training or an evaluation has besides its task."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gkd.params import Compute
from gkd.train.resume import Resume, Slot

FP32 = Compute(threads=0, precision="fp32", compile=False, fused_adamw=False)


@dataclass(frozen=True)
class Run:
    """The context of a run."""

    name: str  # shown in the progress lines; states are kept under it
    seed: int = 0  # of data order, augmentation, masks and initial weights
    resume: Resume | None = None  # where states are kept, so that a killed run continues; None = nowhere
    processes: int = 1  # started for the run, one a GPU where there are GPUs; more than one need `resume`
    compute: Compute = FP32  # number format, compiled blocks, fused optimiser

    @property
    def slot(self) -> Slot | None:
        """The place of this run's state."""
        return None if self.resume is None else self.resume.slot(self.name)

    def part(self, name: str) -> Run:
        """The same context for a part of the run, such as one learning rate."""
        return replace(self, name=f"{self.name} {name}")
