"""The distillation step: views, grids and inner blocks, against two full forwards."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import Average, Normed, Spy, tiny_vit

from gkd.models import Encoder, Tokens, resample_patches
from gkd.qsd import Objective, distillation_loss, distillation_step

TIGHT = {"rtol": 1e-9, "atol": 1e-9}


@pytest.mark.parametrize(("bias", "pool"), [(None, 1), (6.0, 1), (None, 2), (6.0, 4)])
def test_parameters_without_influence_get_zero_gradients_rather_than_none_and_adamw_decays_them(bias, pool):
    student, teacher = (tiny_vit(dim, dynamic_img_size=True) for dim in (24, 48))
    objective, mask = Objective(24, 48, diagonal_bias=bias, pool=pool), torch.zeros(2, 32, dtype=torch.bool)
    loss, _ = distillation_step(student, teacher, objective, torch.rand(2, 3, 32, 64), mask)  # the grid is no square
    loss.backward()
    gradients = {k: p.grad for k, p in [*objective.named_parameters(), *student.named_parameters()]}
    assert [k for k, g in gradients.items() if g is None] == []
    still = [k for k in gradients if k.startswith("token_head.proj_q") or k == "token_head.diagonal_bias"]
    assert len(still) == (4 if bias is None else 5)
    for key in [*still, "mask_token"]:
        assert not gradients[key].any(), key
    assert gradients["token_head.proj_v.1.weight"].any() and gradients["fea_head.proj_q.1.weight"].any()
    assert all(p.grad is None for p in teacher.parameters())
    weight = objective.token_head.proj_q[1].weight
    before = weight.detach().clone()
    torch.optim.AdamW(objective.parameters(), lr=0.1, weight_decay=0.05).step()  # it would pass over one without
    torch.testing.assert_close(weight.detach(), before * (1 - 0.1 * 0.05))


def two_forwards(student, teacher, objective, images, mask):
    """The step in its plainest form: both views of all samples."""
    size = images.shape[-2:]
    grids = student.grid(size), teacher.grid(size)
    views = (student(images, m) for m in (None, mask))
    plain, masked = (view._replace(patches=resample_patches(view.patches, *grids)) for view in views)
    with torch.no_grad():
        target = teacher(images)
    return distillation_loss(objective, plain, masked, target)


def gradients(loss, *modules):
    parameters = {f"{i}.{k}": p for i, module in enumerate(modules) for k, p in module.named_parameters()}
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {k: torch.zeros_like(p) if g is None else g for (k, p), g in zip(parameters.items(), found, strict=True)}


@settings(max_examples=12)
@given(data=st.data(), patch=st.sampled_from([8, 16]), seed=st.integers(0, 99))
def test_the_step_equals_two_full_forwards_for_any_mask(data, patch, seed):
    student, teacher = tiny_vit(24, patch, depth=1, seed=seed).double(), tiny_vit(48, 8, depth=1).double().eval()
    torch.manual_seed(seed)
    objective = Objective(24, 48).double()
    images, patches = torch.rand(3, 3, 32, 32, dtype=torch.float64), (32 // patch) ** 2
    some = st.lists(st.booleans(), min_size=patches, max_size=patches)
    rows = st.one_of(st.just([False] * patches), st.just([True] * patches), some)
    mask = torch.tensor(data.draw(st.lists(rows, min_size=3, max_size=3)))
    loss, metrics = distillation_step(student, teacher, objective, images, mask)
    expected, terms = two_forwards(student, teacher, objective, images, mask)
    torch.testing.assert_close(loss, expected, **TIGHT)
    torch.testing.assert_close(metrics, terms, **TIGHT)
    ours, theirs = gradients(loss, student, objective), gradients(expected, student, objective)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, **TIGHT, msg=lambda text, n=name: f"{n}: {text}")


def count_samples(encoder):
    """Sizes of the batches that the encoder's backbone sees from now on."""
    seen, inner = [], encoder.backbone.forward_features

    def counted(x):
        seen.append(len(x))
        return inner(x)

    encoder.backbone.forward_features = counted
    return seen


@pytest.mark.parametrize(
    ("make", "training"),
    [
        (lambda: tiny_vit(24), [4, 2]),
        (lambda: tiny_vit(24, drop_path_rate=0.2), [4, 4]),
        (lambda: Encoder(Normed(8)), [4, 4]),
    ],
)
def test_only_masked_rows_are_forwarded_again_unless_samples_mix_or_the_forward_is_random(make, training):
    student, teacher = make(), tiny_vit(24).eval()
    objective, mask = Objective(student.dim, 24), torch.zeros(4, 16, dtype=torch.bool)
    mask[1, 3] = mask[3, 0] = True
    seen, teacher_saw = count_samples(student), count_samples(teacher)
    for mode, expected in ((True, training), (False, [4, 2])):
        distillation_step(student.train(mode), teacher, objective, torch.rand(4, 3, 32, 32), mask)
        assert seen == expected and teacher_saw == [4]
        seen.clear(), teacher_saw.clear()


def test_without_a_mask_the_plain_view_serves_as_both():
    student, teacher, images = Encoder(Normed(8)), tiny_vit(24).eval(), torch.rand(4, 3, 32, 32)
    objective = Objective(student.dim, 24)
    (two, _), (one, _) = (
        distillation_step(student, teacher, objective, images, mask)
        for mask in (torch.zeros(4, 16, dtype=torch.bool), None)
    )
    torch.testing.assert_close(one, two)  # batch statistics are those of the same images
    seen = count_samples(student)
    distillation_step(student, teacher, objective, images, None)[0].backward()
    assert seen == [4] and all(p.grad is not None for p in [*student.parameters(), *objective.parameters()])


@pytest.mark.parametrize(("own", "other"), [(8, 16), (16, 8), (4, 16), (8, 8), (16, 32)])
def test_a_planted_square_arrives_at_its_place_on_the_teachers_grid(own, other):
    coarse = max(own, other)
    images = torch.zeros(1, 3, 4 * coarse, 4 * coarse)
    images[..., coarse : 2 * coarse, 2 * coarse : 3 * coarse] = 1
    student, teacher = Encoder(Average(own)), Encoder(Average(other))
    objective, (rows, columns) = Objective(3, 3, head=Spy), student.grid(images.shape[-2:])
    distillation_step(student, teacher, objective, images, torch.zeros(1, rows * columns, dtype=torch.bool))
    target, found = (
        x[0, :, 0].view(teacher.grid(images.shape[-2:])) for x in (teacher(images).patches, objective.fea_head.seen)
    )
    times = len(target) // 4  # cells of the teacher's grid along the square
    assert found[times : 2 * times, 2 * times : 3 * times].mean() > 0.5
    places = torch.arange(len(found), dtype=torch.float)
    for axis in (0, 1):  # resampling keeps the centre of mass
        centre, wanted = ((x.sum(axis) * places).sum() / x.sum() for x in (found, target))
        torch.testing.assert_close(centre, wanted, rtol=0, atol=0.05)


def test_the_mask_lies_on_the_students_grid():
    student, teacher = Encoder(Average(4)), Encoder(Average(16))
    objective, mask = Objective(3, 3, head=Spy), torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 4:, :4] = True  # the lower left quarter: one of the teacher's four cells
    distillation_step(student, teacher, objective, torch.ones(1, 3, 32, 32), mask.flatten(1))
    plain, masked = (getattr(objective, head).seen[0, :, 0] for head in ("fea_head", "patch_head"))
    torch.testing.assert_close(plain, torch.ones(4))
    assert masked.argmin() == 2 and masked[2] < 0.4 and masked[[0, 1, 3]].min() > 0.6


class Follow(torch.nn.Module):
    """Keeps what it was given; follows a block of the teacher by one of the student."""

    student_blocks, teacher_blocks = (0,), (2, 1)

    def forward(self, *tokens_and_grid):
        self.plain, self.masked, self.teacher, self.grid = tokens_and_grid
        difference = self.plain.maps[0] - self.teacher.maps[1][:, :24, ::2, ::2]
        loss = difference.square().mean() + self.masked.patches.mean()
        return loss, {"loss": loss.detach()}


@pytest.mark.parametrize("masked", [True, False])
def test_an_objective_that_names_blocks_gets_their_maps_from_the_same_pass(masked):
    student, teacher, objective = tiny_vit(24, 16), tiny_vit(48, depth=3).eval(), Follow()
    passes = {"student": [], "teacher": []}
    for name, encoder in (("student", student), ("teacher", teacher)):
        embed = encoder.backbone.patch_embed
        embed.register_forward_hook(lambda _m, inputs, _o, seen=passes[name]: seen.append(len(inputs[0])))
    images, mask = torch.rand(2, 3, 32, 32), torch.zeros(2, 4, dtype=torch.bool)
    mask[0, ::2] = masked
    loss, _ = distillation_step(student, teacher, objective, images, mask)
    assert passes == {"student": [2, 1] if masked else [2], "teacher": [2]}
    loss.backward()
    assert student.backbone.blocks[0].mlp.fc1.weight.grad.any()
    assert all(p.grad is None for p in teacher.parameters())
    (own,), (first, last) = student.intermediate(images, [0]), teacher.intermediate(images, [1, 2])
    torch.testing.assert_close(objective.plain.maps, {0: own})
    torch.testing.assert_close(objective.teacher.maps, {1: first, 2: last})
    assert objective.grid == (4, 4) and objective.plain.patches.shape == (2, 16, 24)
    assert type(objective.masked) is Tokens
    torch.testing.assert_close(objective.teacher[:2], tuple(teacher(images)))
    objective.teacher_blocks = (7,)
    with pytest.raises(ValueError, match="VisionTransformer has blocks 0 to 2, no block 7"):
        distillation_step(student, teacher, objective, images, mask)
