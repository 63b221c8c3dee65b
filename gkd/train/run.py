"""What a training or an evaluation has besides its task.

run = Run("task_agnostic f2l-gkd-0", seed=0, resume=space.resume(params, teacher, student))
history = distil(student, teacher, objective, data=images, section=section, run=run)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gkd.params import Compute
from gkd.train.resume import Resume, Slot


@dataclass(frozen=True)
class Run:
    """The context of a run.

    Attributes:
        name: shown in the progress lines; states are kept under it.
        seed: of data order, augmentation, masks and initial weights.
        resume: where states are kept, so that a killed run continues; None = nowhere.
        processes: started for the run, one a GPU where there are GPUs; more than one need `resume`.
        compute: number format, compiled blocks, fused optimiser.
    """

    name: str
    seed: int = 0
    resume: Resume | None = None
    processes: int = 1
    compute: Compute = Compute()

    @property
    def slot(self) -> Slot | None:
        """The place of this run's state."""
        return None if self.resume is None else self.resume.slot(self.name)

    def part(self, name: str) -> Run:
        """The same context for a part of the run, such as one learning rate."""
        return replace(self, name=f"{self.name} {name}")

    def alone(self) -> Run:
        """The same context for one of several processes that were started."""
        return replace(self, processes=1)
