"""What a member trains with: a section of params.yaml, with what its setting, its source or its row says otherwise.

section = task_learning(params, "none_long", distils=False)
"""

from gkd.params import Distillation, DomainAgnostic, Params, TaskAgnostic, TaskLearning


def task_agnostic(params: Params, setting: str, method: str) -> TaskAgnostic:
    """The section of a method; without steps in a setting that does not distil here."""
    section = params.task_agnostic
    off = {} if setting in section.settings else {"steps": 0, "warmup_steps": 0}
    return section.model_copy(update=off | _rates(section, params, method))


def domain_agnostic(params: Params, source: str, method: str) -> DomainAgnostic:
    """The section of a method, with the steps of a source."""
    section = params.domain_agnostic
    steps = {"steps": section.source_steps.get(source, section.steps)}
    return section.model_copy(update=steps | _rates(section, params, method))


def task_learning(params: Params, method: str, distils: bool) -> TaskLearning:
    """The section with the steps of a method that distils or does not, or with those that its `heads` name."""
    section, own = params.task_learning, params.heads.get(method) or {}
    steps = section.steps + (0 if distils else section.undistilled_steps)
    return section.model_copy(
        update={"steps": own.get("task_steps", steps), "pool": own.get("task_pool", section.pool)}
    )


def _rates(section: Distillation, params: Params, method: str) -> dict[str, float]:
    """Both ends of the schedule, times the method's `lr_factor`: methods whose losses differ have their best rates
    elsewhere."""
    factor = (params.heads.get(method) or {}).get("lr_factor", 1.0)
    return {"lr": section.lr * factor, "min_lr": section.min_lr * factor}


def processes(params: Params, section: Distillation | TaskLearning) -> int:
    """As many of `machine.processes` as share a batch evenly, each its part in micro-batches: 4 of 8 for a batch of 4.

    Says so where they are fewer.
    """
    wanted, batch, micro = params.machine.processes, section.batch_size, section.micro_batch

    def fits(count: int) -> bool:
        share = batch // count
        return batch % count == 0 and share % min(micro or share, share) == 0

    found = next(count for count in range(min(wanted, batch), 0, -1) if fits(count))
    if found < wanted:
        print(f"{found} of {wanted} processes: more do not share a batch of {batch} evenly", flush=True)
    return found
