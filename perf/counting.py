"""FLOPs and activation memory of a training step, counted on the step itself without computing anything.

    cost = count_distillation(student, teacher, objective, (512, 512), torch.bfloat16)
    cost.flops["teacher"], cost.activations          # an image

The models are copied as shapes (torch's fake tensors, on the CPU), so a ViT-L takes seconds and no memory; they may
lie on the meta device. FLOPs are those of matrix products, attention and convolutions, a multiplication and an addition
each; norms, activations, softmax, resampling and the optimiser count nothing, as usual. Attention counts as fused: its
backward pass repeats the forward one.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from profiling import follow, spent
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from gkd.models import Encoder
from gkd.qsd import Objective, distillation_step
from gkd.segmentation.decoders import Segmentor
from gkd.train.compute import Reduced, frozen_copy


@dataclass(frozen=True)
class Cost:
    """What a training step costs."""

    flops: dict[str, float]  # by part (profiling.PARTS, or those of `count_task`), an image
    activations: float  # bytes that the backward pass needs, an image
    constant: float  # further bytes that it needs at any batch, such as weights cast to bf16

    @property
    def total(self) -> float:
        """FLOPs of an image."""
        return sum(self.flops.values())


def count_distillation(
    student: Encoder,
    teacher: Encoder,
    objective: Objective,
    size: Sequence[int],
    dtype: torch.dtype = torch.float32,
    masked: float = 0.5,
) -> Cost:
    """The cost of gkd.qsd.distillation_step in `dtype` and its backward pass, an image; the models stay as they are.

    `size` is (H, W) of the images, `masked` the share of the samples that have a masked view.
    """
    share = Fraction(masked).limit_denominator(16)
    taught = _Taught(student, objective, frozen_copy(_shapes(teacher), dtype))
    rows, columns = student.grid(size)

    def run(batch: int) -> tuple[dict[str, float], int]:
        with _fake(taught) as model, _Rows(int(batch * share)), _counter() as counter, _saved(model) as kept:
            images = torch.empty(batch, 3, *size)
            mask = torch.empty(batch, rows * columns, dtype=torch.bool)
            step = Reduced(model, dtype)
            run_step = lambda: step(images, mask)  # noqa: E731
            marks = follow(counter.get_total_flops, run_step, model.student, model.teacher)
        return spent(marks), sum(kept.values())

    batch = share.denominator
    (flops, small), (_, large) = run(batch), run(2 * batch)
    activations = (large - small) / batch
    return Cost({name: value / batch for name, value in flops.items()}, activations, small - batch * activations)


def count_task(
    segmentor: Segmentor, size: Sequence[int], classes: int, guide: Segmentor | None = None, batch: int = 2
) -> Cost:
    """The cost of a step of task learning in fp32, an image: encoder, decoder, its loss, and their backward pass.

    An encoder may lie on the meta device, a decoder not, since a set loss needs numbers. `size` is (H, W); the counted
    label shows all `classes`; `guide` is the teacher's segmentor, whose forward pass the `kd` row adds. `batch` images
    are counted at a time, and all is taken to grow with them.
    """
    models, marks = nn.ModuleList([segmentor, *([] if guide is None else [guide])]), []
    with _fake(models) as fakes, _Rows(0), _counter() as counter, _saved(fakes) as kept:
        model, *guides = fakes.eval()  # in train mode, transformers' layers look at their numbers
        mark = lambda name: marks.append((name, counter.get_total_flops()))  # noqa: E731
        images = torch.empty(batch, 3, *size)
        mark("teacher")
        with torch.no_grad():
            for module in guides:
                module.log_scores(images)
        mark("student, forward")
        features = model.features(images)
        mark("decoder and loss, forward")
        inputs = tree_map(lambda x: x.detach().requires_grad_(not model.frozen), features)
        prediction = model.decoder.predict(inputs)
        mark("decoder and loss, backward")
        _sum(prediction).backward()
        mark("student, backward")
        if not model.frozen:
            _sum(features).backward()
        mark("")
        shapes = tree_map(lambda x: x.shape, prediction)
    flops = {name: end - begin for (name, begin), (_, end) in zip(marks, marks[1:], strict=False)}
    forward, backward, kept_by_loss = _count_loss(segmentor.decoder, shapes, (batch, *size), classes)
    flops["decoder and loss, forward"] += forward
    flops["decoder and loss, backward"] += backward
    return Cost({k: v / batch for k, v in flops.items()}, (sum(kept.values()) + kept_by_loss) / batch, 0.0)


def _sum(tensors: Any) -> Tensor:
    return torch.stack([x.sum() for x in tree_leaves(tensors)]).sum()


def _count_loss(decoder: Any, shapes: Any, label: Sequence[int], classes: int) -> tuple[float, float, int]:
    """FLOPs of the loss and of its backward pass, and the bytes it keeps, on random numbers: matching needs some."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        is_shape = lambda x: isinstance(x, torch.Size)  # noqa: E731
        prediction = tree_map(lambda s: torch.randn(s, requires_grad=True), shapes, is_leaf=is_shape)
        labels = (torch.arange(label[-1]) * classes // label[-1]).expand(*label).contiguous()  # stripes
        given = nn.ParameterList(tree_leaves(prediction))
        with _counter() as counter, _saved(given) as kept:
            loss, _ = decoder.loss(prediction, labels)
            forward = counter.get_total_flops()
            loss.backward()
    return forward, counter.get_total_flops() - forward, sum(kept.values())


class _Taught(nn.Module):
    """A distillation step as a module."""

    def __init__(self, student: Encoder, objective: Objective, teacher: Encoder) -> None:
        super().__init__()
        self.student, self.objective, self.teacher = student, objective, teacher

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        return distillation_step(self.student, self.teacher, self.objective, images, mask)[0]


def _shapes(module: nn.Module) -> nn.Module:
    """A copy on the meta device: shapes without numbers."""
    tensors = {id(b): torch.empty_like(b, device="meta") for b in module.buffers()}
    tensors |= {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=p.requires_grad)
        for p in module.parameters()
    }
    return copy.deepcopy(module, tensors)  # takes the meta tensors in place of the real ones


@contextmanager
def _fake(module: nn.Module) -> Iterator[nn.Module]:
    """A copy of fake tensors that say they lie on the CPU: kernels are chosen as there, and compute nothing."""
    copied = _shapes(module)
    with FakeTensorMode():
        yield copied._apply(lambda t: torch.empty(t.shape, dtype=t.dtype, device="cpu"))


class _Rows(TorchDispatchMode):
    """Which rows are masked depends on numbers, which there are none of; how many are is enough."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is torch.ops.aten.nonzero.default:
            return torch.empty(self.count, args[0].ndim, dtype=torch.long)
        return func(*args, **(kwargs or {}))


def _counter() -> FlopCounterMode:
    """torch's counter, which knows fused attention on GPUs; on the CPU it would count none."""
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    known = {
        attention: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
        backward: lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(grad, q, k, v),
    }
    return FlopCounterMode(display=False, custom_mapping=known)


@contextmanager
def _saved(model: nn.Module) -> Iterator[dict[int, int]]:
    """Bytes that autograd keeps for the backward pass, by storage; the model's own weights are there anyway."""
    kept: dict[int, int] = {}
    own = {_storage(t) for t in (*model.parameters(), *model.buffers())}

    def note(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in own:
            kept[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield kept


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
