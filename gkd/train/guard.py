"""The guard of the training loop: what is not finite ends a run before anything of it is saved."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

Named = list[tuple[str, Tensor]]


class Guard:
    """Looks at the losses, gradients and weights of a run; all it raises is FloatingPointError, which names the step.

    Frozen parameters of `modules` are not looked at; `lr`, the highest learning rate, is for the message.
    """

    def __init__(self, name: str, modules: Sequence[nn.Module], lr: float) -> None:
        self.name, self.advice = name, f"lower the learning rate ({lr:g})"
        self.trained: Named = [item for m in modules for item in m.named_parameters() if item[1].requires_grad]

    def read(self, step: int, values: dict[str, Tensor]) -> dict[str, float]:
        """`values` as numbers; they, gradients and weights come from their device at once, so that it waits once.

        Called between the backward pass of `step` and the optimiser. Of `values`, `_loss` must be finite.
        """
        gradients = [(name, p.grad) for name, p in self.trained if p.grad is not None]
        *numbers, weight, gradient = torch.stack([*values.values(), _norm(self.trained), _norm(gradients)]).tolist()
        self._check(weight, "weight", self.trained, f"after {step} steps")
        found = dict(zip(values, numbers, strict=True))
        if not math.isfinite(found["_loss"]):
            broken = [name for name, value in found.items() if name != "_loss" and not math.isfinite(value)]
            which = f" ({', '.join(broken)})" if broken else ""
            raise FloatingPointError(f"{self.name}: the loss is {found['_loss']}{which} at step {step}; {self.advice}")
        self._check(gradient, "gradient", gradients, f"at step {step}")
        return found

    def weights(self, steps: int) -> None:
        """Called before a state is saved and at the end: the weights after `steps` steps."""
        self._check(float(_norm(self.trained)), "weight", self.trained, f"after {steps} steps")

    def _check(self, norm: float, kind: str, tensors: Named, when: str) -> None:
        # Squares of large values overflow, which is no fault; so all are looked at then, and in a run that ends.
        bad = [] if math.isfinite(norm) else [name for name, tensor in tensors if not tensor.isfinite().all()]
        if bad:
            raise FloatingPointError(f"{self.name}: the {kind} of {bad[0]} is not finite {when}; {self.advice}")


def _norm(tensors: Named) -> Tensor:
    """Not finite where a value is not: the quickest pass over them, seven times as fast as `isfinite` on a CPU."""
    return get_total_norm([tensor.detach() for _, tensor in tensors])
