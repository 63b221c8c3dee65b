"""The guard of the training loop: what is not finite ends a run before anything of it is saved."""

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

Owned = list[tuple[str, str, Tensor]]  # label of its module, name, tensor


class Diverged(FloatingPointError):
    """A loss, a gradient or a weight is not finite; `labels` are those of the modules in which it is so."""

    def __init__(self, message: str, labels: Collection[str]) -> None:
        super().__init__(message)
        self.labels = labels


class Guard:
    """Looks at the losses, gradients and weights of a run; all it raises is Diverged, which names the step.

    Frozen parameters of `modules` are not looked at; `lr`, the highest learning rate, is for the message. Modules that
    are trained beside each other have `labels`, with which the names of their values end ("loss 0.01").
    """

    def __init__(self, name: str, modules: Sequence[nn.Module], lr: float, labels: Sequence[str] = ()) -> None:
        self.name, self.lr, self.labels = name, lr, labels
        pairs = zip(labels or [""] * len(modules), modules, strict=True)
        self.trained: Owned = [(label, n, p) for label, m in pairs for n, p in m.named_parameters() if p.requires_grad]

    def read(self, step: int, values: dict[str, Tensor]) -> dict[str, float]:
        """`values` as numbers; they, gradients and weights come from their device at once, so that it waits once.

        Called between the backward pass of `step` and the optimiser. Of `values`, `_loss` must be finite.
        """
        gradients = [(label, name, p.grad) for label, name, p in self.trained if p.grad is not None]
        *numbers, weight, gradient = torch.stack([*values.values(), _norm(self.trained), _norm(gradients)]).tolist()
        self._check(weight, "weight", self.trained, f"after {step} steps")
        found = dict(zip(values, numbers, strict=True))
        if not math.isfinite(found["_loss"]):
            broken = [name for name, value in found.items() if name != "_loss" and not math.isfinite(value)]
            which = f" (in {', '.join(broken)})" if broken else ""
            labels = [label for label in self.labels if any(name.endswith(f" {label}") for name in broken)]
            raise self._diverged(f"the loss is {found['_loss']}{which} at step {step}", labels)
        self._check(gradient, "gradient", gradients, f"at step {step}")
        return found

    def weights(self, steps: int) -> None:
        """Called before a state is saved and at the end: the weights after `steps` steps."""
        self._check(float(_norm(self.trained)), "weight", self.trained, f"after {steps} steps")

    def _check(self, norm: float, kind: str, tensors: Owned, when: str) -> None:
        # Squares of large values overflow, which is no fault; so all are looked at then, and in a run that ends.
        bad = [] if math.isfinite(norm) else [item for item in tensors if not item[2].isfinite().all()]
        if bad:
            labels = list(dict.fromkeys(label for label, _, _ in bad if label))
            raise self._diverged(f"the {kind} of {bad[0][1]} is not finite {when}", labels)

    def _diverged(self, what: str, labels: list[str]) -> Diverged:
        lower = ", ".join(labels) or f"{self.lr:g}"
        return Diverged(f"{self.name}: {what}; lower the learning rate ({lower})", labels)


def _norm(tensors: Owned) -> Tensor:
    """Not finite where a value is not: the quickest pass over them, seven times as fast as `isfinite` on a CPU."""
    return get_total_norm([tensor.detach() for _, _, tensor in tensors])
