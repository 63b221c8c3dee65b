"""QSD and the objective against the published step, against their formulas, and the step against two full forwards."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import Average, Normed, Spy, tiny_vit

from gkd.methods.baselines import LinearHead
from gkd.models import Encoder, Tokens, resample_tokens
from gkd.models.blocks import BlockPair
from gkd.params import ROOT
from gkd.pooling import pool_tokens
from gkd.qsd import QSD, Objective, distillation_loss, distillation_step

VECTORS = ROOT / "tests" / "vectors" / "gkd_step_a.npz"  # a whole distillation step in float64
HEADS = ("fea_head", "patch_head", "token_head")
TIGHT = {"rtol": 1e-9, "atol": 1e-9}
few = settings(max_examples=20)


@pytest.fixture(scope="module")
def vectors():
    with np.load(VECTORS) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def part(vectors, prefix):
    return {key.removeprefix(prefix): value for key, value in vectors.items() if key.startswith(prefix)}


@pytest.fixture
def published(vectors):
    """Student, teacher and objective with the weights of the vectors, loaded strictly."""
    size, patch, *shapes, _batch = vectors["meta"].tolist()

    def encoder(who, dim, depth, heads, **options):
        built = Encoder.create(
            "vit_tiny_patch16_224",
            img_size=size,
            patch_size=patch,
            embed_dim=dim,
            depth=depth,
            num_heads=heads,
            **options,
        ).double()
        built.mean.zero_()
        built.std.fill_(1)
        state = {k if k == "mask_token" else f"backbone.{k}": v for k, v in part(vectors, f"{who}/").items()}
        built.load_state_dict(state, strict=True)
        return built

    student, teacher = encoder("student", *shapes[:3]), encoder("teacher", *shapes[3:], init_values=1.0)
    objective = Objective(student.dim, teacher.dim).double()
    objective.load_state_dict({f"{h}.{k}": v for h in HEADS for k, v in part(vectors, f"{h}/").items()}, strict=True)
    return student, teacher.eval(), objective


def test_the_tokens_are_the_published_ones(vectors, published):
    student, teacher, objective = published
    images, masks = vectors["images"], vectors["masks"]
    tokens = {"teacher": teacher(images), "student_masked": student(images, masks), "student_unmasked": student(images)}
    for name, (cls, patches) in tokens.items():
        torch.testing.assert_close(cls, vectors[f"out/{name}_cls"], **TIGHT)
        torch.testing.assert_close(patches, vectors[f"out/{name}_patches"], **TIGHT)
    fea = objective.fea_head(tokens["student_unmasked"].patches, tokens["teacher"].patches)
    patch = objective.patch_head(tokens["student_masked"].patches, tokens["teacher"].patches)
    torch.testing.assert_close(fea, vectors["out/qsd_fea"], **TIGHT)
    torch.testing.assert_close(patch, vectors["out/qsd_patch"], **TIGHT)


def test_losses_and_gradients_are_the_published_ones(vectors, published):
    student, teacher, objective = published
    loss, metrics = distillation_step(student, teacher, objective, vectors["images"], vectors["masks"])
    for name in ("patch_loss", "fea_loss", "token_loss", "loss"):
        torch.testing.assert_close(metrics[name], vectors[f"out/{name}"], **TIGHT)
        assert not metrics[name].requires_grad
    loss.backward()
    expected = part(vectors, "grad/")
    assert len(expected) == 9
    for name, gradient in expected.items():
        if name.startswith("student/"):
            name = name.removeprefix("student/")
            parameter = student.get_parameter(name if name == "mask_token" else f"backbone.{name}")
        else:
            parameter = objective.get_parameter(name)
        torch.testing.assert_close(parameter.grad, gradient, **TIGHT, msg=lambda text, n=name: f"{n}: {text}")
    assert all(p.grad is None for p in teacher.parameters())


def test_four_heads_are_the_published_ones(vectors):
    head = QSD(24, 40, num_heads=4).double()
    names = ("proj_q.", "proj_v.")
    head.load_state_dict({k: v for k, v in part(vectors, "qsd4/").items() if k.startswith(names)}, strict=True)
    out = head(vectors["qsd4/student_tokens"], vectors["qsd4/teacher_tokens"])
    torch.testing.assert_close(out, vectors["qsd4/out"], **TIGHT)


def layer_norm_linear(module, x):
    norm, linear = module
    centred = x - x.mean(-1, keepdim=True)
    normed = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias
    return normed @ linear.weight.T + linear.bias


def formula(head, s, t, heads, scaled=False, temperature=1.0, bias=None):
    """softmax(q(s) t^T) v(s), one sample, one head and one token at a time."""
    q, v = layer_norm_linear(head.proj_q, s), layer_norm_linear(head.proj_v, s)
    width = t.shape[-1] // heads
    out, attention = torch.empty_like(t), torch.empty(len(s), heads, s.shape[1], t.shape[1], dtype=s.dtype)
    for b in range(len(s)):
        for h in range(heads):
            c = slice(h * width, (h + 1) * width)
            for i in range(s.shape[1]):
                logits = torch.stack([(q[b, i, c] * t[b, j, c]).sum() for j in range(t.shape[1])])
                logits = logits / temperature / (math.sqrt(width) if scaled else 1)
                if bias is not None:
                    logits[i] = logits[i] + bias
                weights = (logits - logits.max()).exp()
                attention[b, h, i] = weights / weights.sum()
                out[b, i, c] = (attention[b, h, i, :, None] * v[b, :, c]).sum(0)
    return out, attention


def randomise(module, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return module


@few
@given(
    batch=st.integers(1, 2),
    tokens=st.integers(1, 5),
    student_dim=st.integers(2, 7),
    width=st.integers(1, 4),
    heads=st.integers(1, 3),
    scaled=st.booleans(),
    temperature=st.sampled_from([0.5, 1.0, 3.0]),
    bias=st.sampled_from([None, 0.0, 6.0]),
    seed=st.integers(0, 999),
)
def test_qsd_is_its_formula(batch, tokens, student_dim, width, heads, scaled, temperature, bias, seed):
    options = {"scaled": scaled, "temperature": temperature}
    head = QSD(student_dim, width * heads, heads, **options, diagonal_bias=bias).double()
    randomise(head.proj_q, seed), randomise(head.proj_v, seed + 1)
    generator = torch.Generator().manual_seed(seed)
    s = torch.randn(batch, tokens, student_dim, generator=generator, dtype=torch.float64)
    t = torch.randn(batch, tokens, width * heads, generator=generator, dtype=torch.float64)
    out, attention = formula(head, s, t, heads, scaled, temperature, bias)
    torch.testing.assert_close(head(s, t), out, **TIGHT)
    found = head.attention_map(s, t)
    torch.testing.assert_close(found, attention, **TIGHT)
    torch.testing.assert_close(found.sum(-1), torch.ones_like(found[..., 0]), **TIGHT)
    v = layer_norm_linear(head.proj_v, s).unflatten(-1, (heads, width)).transpose(1, 2)
    torch.testing.assert_close((found @ v).transpose(1, 2).flatten(2), head(s, t), **TIGHT)


def test_a_map_over_another_number_of_teacher_tokens_is_theirs_by_ours():
    head = QSD(5, 6, num_heads=2)
    found = head.attention_map(torch.randn(2, 3, 5), torch.randn(2, 7, 6))
    assert found.shape == (2, 2, 3, 7)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 2, 3))


def test_state_dict_keys_are_frozen():
    projections = [f"proj_{x}.{i}.{kind}" for x in "qv" for i in (0, 1) for kind in ("weight", "bias")]
    assert list(QSD(4, 6).state_dict()) == projections
    assert list(QSD(4, 6, diagonal_bias=6.0).state_dict()) == ["diagonal_bias", *projections]
    assert list(Objective(4, 6).state_dict()) == [f"{h}.{k}" for h in HEADS for k in projections]
    shapes = {k: tuple(v.shape) for k, v in QSD(4, 6).state_dict().items()}
    assert shapes["proj_q.0.weight"] == (4,) and shapes["proj_q.1.weight"] == (6, 4)
    assert QSD(4, 6).proj_q[0].eps == 1e-5


def test_a_large_diagonal_bias_looks_at_the_own_place():
    found = QSD(4, 6, scaled=True, diagonal_bias=50.0).attention_map(torch.randn(1, 5, 4), torch.randn(1, 5, 6))
    torch.testing.assert_close(found[0, 0], torch.eye(5))


@few
@given(
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    pool=st.integers(2, 4),
    heads=st.integers(1, 2),
    scaled=st.booleans(),
    seed=st.integers(0, 999),
)
def test_light_qsd_is_its_formula(grid, pool, heads, scaled, seed):
    count, width = grid[0] * grid[1], 3
    head = randomise(QSD(5, width * heads, heads, scaled=scaled, pool=pool).double(), seed)
    g = torch.Generator().manual_seed(seed)
    s, t = draw(g, 2, count, 5), draw(g, 2, count, width * heads)
    # Values are projected first and averaged then; the head itself does it the other way round, which costs less.
    q, v = layer_norm_linear(head.proj_q, s), pool_tokens(layer_norm_linear(head.proj_v, s), grid, pool)
    k = pool_tokens(t, grid, pool)
    out, found = torch.empty_like(t), head.attention_map(s, t, grid)
    assert found.shape == (2, heads, count, -(-grid[0] // pool) * -(-grid[1] // pool))
    for h in range(heads):
        c = slice(h * width, (h + 1) * width)
        attention = (q[..., c] @ k[..., c].mT / (math.sqrt(width) if scaled else 1)).softmax(-1)
        torch.testing.assert_close(found[:, h], attention, **TIGHT)
        out[..., c] = attention @ v[..., c]
    torch.testing.assert_close(head(s, t, grid), out, **TIGHT)
    # The map and what forward applies are the same thing.
    values = head.values(s, grid).unflatten(-1, (heads, width)).transpose(1, 2)
    torch.testing.assert_close((found @ values).transpose(1, 2).flatten(2), head(s, t, grid), **TIGHT)


def test_light_qsd_takes_a_square_for_granted_and_nothing_else():
    head, s, t = QSD(4, 6, pool=2), torch.randn(1, 16, 4), torch.randn(1, 16, 6)
    assert torch.equal(head(s, t), head(s, t, (4, 4)))
    assert torch.equal(head.attention_map(s, t), head.attention_map(s, t, (4, 4)))
    assert not torch.equal(head(s, t, (2, 8)), head(s, t, (4, 4)))
    with pytest.raises(ValueError, match="12 tokens fill no square grid"):
        head(s[:, :12], t[:, :12])
    with pytest.raises(ValueError, match="16 tokens do not fill a grid of 3 x 4"):
        head(s, t, (3, 4))
    with pytest.raises(ValueError, match="pool=0"):
        QSD(4, 6, pool=0)


def test_a_large_diagonal_bias_of_light_qsd_looks_at_the_own_cell():
    found = QSD(4, 6, scaled=True, diagonal_bias=50.0, pool=2).attention_map(
        torch.randn(1, 6, 4), torch.randn(1, 6, 6), (2, 3)
    )
    own = torch.tensor([0, 0, 1, 0, 0, 1])  # 2 x 3 patches in a row of two cells
    torch.testing.assert_close(found[0, 0], torch.eye(2)[own])


def test_pooling_without_cells_of_more_than_one_token_changes_nothing():
    full, light = QSD(4, 6, diagonal_bias=1.0), QSD(4, 6, diagonal_bias=1.0, pool=2)
    light.load_state_dict(full.state_dict(), strict=True)
    s, t = torch.randn(2, 1, 4), torch.randn(2, 1, 6)
    assert torch.equal(full(s, t), light(s, t))


def test_bad_shapes_are_named():
    with pytest.raises(ValueError, match="num_heads=4 does not divide the teacher's 6 channels"):
        QSD(4, 6, num_heads=4)
    with pytest.raises(ValueError, match="4 student and 9 teacher tokens.*resample_tokens"):
        QSD(4, 6)(torch.randn(1, 4, 4), torch.randn(1, 9, 6))


def draw(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@few
@given(
    batch=st.integers(1, 3),
    patches=st.integers(1, 4),
    heads=st.integers(1, 2),
    bias=st.sampled_from([None, 6.0]),
    weights=st.tuples(*[st.sampled_from([0.0, 0.5, 1.0, 2.0])] * 3),
    seed=st.integers(0, 999),
)
def test_the_objective_is_its_formula(batch, patches, heads, bias, weights, seed):
    cs, ct = 5, 6
    options = {"num_heads": heads, "scaled": bias is not None, "diagonal_bias": bias}
    objective = Objective(cs, ct, weights=weights, **options).double()
    for name in HEADS:
        randomise(getattr(objective, name).proj_v, seed)
    g = torch.Generator().manual_seed(seed)
    plain, masked = (Tokens(draw(g, batch, cs), draw(g, batch, patches, cs)) for _ in range(2))
    teacher = Tokens(draw(g, batch, ct), draw(g, batch, patches, ct))
    loss, metrics = distillation_loss(objective, plain, masked, teacher)

    arguments = (heads, bias is not None, 1.0, bias)
    cls, _ = formula(objective.token_head, plain.cls[:, None], teacher.cls[:, None], *arguments)
    fea, _ = formula(objective.fea_head, plain.patches, teacher.patches, *arguments)
    patch, _ = formula(objective.patch_head, masked.patches, teacher.patches, *arguments)
    cls_error, fea_error = (cls[:, 0] - teacher.cls) ** 2, (fea - teacher.patches) ** 2
    expected = {
        "patch_loss": ((patch - teacher.patches) ** 2).sum() / (batch * patches * ct),
        "fea_loss": (cls_error.sum() + fea_error.sum()) / (batch * (patches + 1) * ct),
        "token_loss": cls_error.sum() / (batch * ct),
    }
    expected["loss"] = sum(w * expected[k] for w, k in zip(weights, expected, strict=True))
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(metrics[name], value.detach(), **TIGHT)
    torch.testing.assert_close(loss, expected["loss"], **TIGHT)


@pytest.mark.parametrize("bias", [None, 6.0])
def test_parameters_without_influence_get_zero_gradients_rather_than_none(bias):
    student, teacher, objective = tiny_vit(24), tiny_vit(48), Objective(24, 48, diagonal_bias=bias)
    loss, _ = distillation_step(student, teacher, objective, torch.rand(2, 3, 32, 32), torch.zeros(2, 16, dtype=bool))
    loss.backward()
    gradients = {k: p.grad for k, p in [*objective.named_parameters(), *student.named_parameters()]}
    assert [k for k, g in gradients.items() if g is None] == []
    still = [k for k in gradients if k.startswith("token_head.proj_q") or k == "token_head.diagonal_bias"]
    assert len(still) == (4 if bias is None else 5)
    for key in [*still, "mask_token"]:
        assert not gradients[key].any(), key
    assert gradients["token_head.proj_v.1.weight"].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_loss_of_half_types_is_computed_in_float32(dtype):
    objective = Objective(4, 6, head=LinearHead).to(dtype)
    plain, teacher = (Tokens(torch.randn(2, c, dtype=dtype), torch.randn(2, 3, c, dtype=dtype)) for c in (4, 6))
    _, metrics = distillation_loss(objective, plain, plain, teacher)
    assert {value.dtype for value in metrics.values()} == {torch.float32}
    out = objective.patch_head(plain.patches, teacher.patches).float()
    torch.testing.assert_close(metrics["patch_loss"], (out - teacher.patches.float()).pow(2).mean())


def two_forwards(student, teacher, objective, images, mask):
    """The step in its plainest form: both views of all samples."""
    size = images.shape[-2:]
    grids = student.grid(size), teacher.grid(size)
    plain, masked = (resample_tokens(student(images, m), *grids) for m in (None, mask))
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
    images = torch.rand(3, 3, 32, 32, dtype=torch.float64)
    patches = (32 // patch) ** 2
    rows = st.one_of(
        st.just([False] * patches),
        st.just([True] * patches),
        st.lists(st.booleans(), min_size=patches, max_size=patches),
    )
    mask = torch.tensor(data.draw(st.lists(rows, min_size=3, max_size=3)))
    loss, metrics = distillation_step(student, teacher, objective, images, mask)
    expected, terms = two_forwards(student, teacher, objective, images, mask)
    torch.testing.assert_close(loss, expected, **TIGHT)
    for name, value in terms.items():
        torch.testing.assert_close(metrics[name], value, **TIGHT)
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


def test_only_masked_rows_are_forwarded_again():
    student, teacher, objective = tiny_vit(24), tiny_vit(24).eval(), Objective(24, 24)
    seen, teacher_saw = count_samples(student), count_samples(teacher)
    mask = torch.zeros(4, 16, dtype=torch.bool)
    mask[1, 3] = mask[3, 0] = True
    distillation_step(student, teacher, objective, torch.rand(4, 3, 32, 32), mask)
    assert seen == [4, 2] and teacher_saw == [4]


@pytest.mark.parametrize("noise", ["batch norm", "drop path"])
def test_encoders_whose_samples_mix_or_whose_forward_is_random_run_both_views_in_full(noise):
    student = tiny_vit(24, drop_path_rate=0.2) if noise == "drop path" else Encoder(Normed(8))
    teacher = tiny_vit(24).eval()
    objective, mask = Objective(student.dim, 24), torch.zeros(4, 16, dtype=torch.bool)
    mask[0, :8] = True
    seen = count_samples(student)
    distillation_step(student.train(), teacher, objective, torch.rand(4, 3, 32, 32), mask)
    assert seen == [4, 4]
    seen.clear()
    distillation_step(student.eval(), teacher, objective, torch.rand(4, 3, 32, 32), mask)
    assert seen == [4, 1]


def test_batch_statistics_are_those_of_two_full_views():
    student, other = Encoder(Normed(8)).double(), Encoder(Normed(8)).double()
    teacher, objective = tiny_vit(24).double().eval(), Objective(3, 24).double()
    images, mask = torch.rand(4, 3, 32, 32, dtype=torch.float64), torch.zeros(4, 16, dtype=torch.bool)
    mask[:2, ::2] = True
    loss, _ = distillation_step(student, teacher, objective, images, mask)
    expected, _ = two_forwards(other, teacher, objective, images, mask)
    torch.testing.assert_close(loss, expected, **TIGHT)
    torch.testing.assert_close(student.state_dict(), other.state_dict())


@pytest.mark.parametrize(("own", "other"), [(8, 16), (16, 8), (4, 16), (8, 8), (16, 32)])
@pytest.mark.parametrize("cell", [(0, 0), (1, 2), (3, 1)])
def test_a_planted_square_arrives_at_its_place_on_the_teachers_grid(own, other, cell):
    coarse = max(own, other)
    size = (4 * coarse, 4 * coarse)
    images = torch.zeros(1, 3, *size)
    row, column = cell
    images[..., row * coarse : (row + 1) * coarse, column * coarse : (column + 1) * coarse] = 1
    student, teacher = Encoder(Average(own)), Encoder(Average(other))
    objective, (rows, columns) = Objective(3, 3, head=Spy), student.grid(size)
    distillation_step(student, teacher, objective, images, torch.zeros(1, rows * columns, dtype=torch.bool))
    target = teacher(images).patches[0, :, 0].view(teacher.grid(size))
    found = objective.fea_head.seen[0, :, 0].view(teacher.grid(size))
    times = len(target) // 4  # cells of the teacher's grid along the square
    window = (slice(row * times, (row + 1) * times), slice(column * times, (column + 1) * times))
    assert (target[window] == 1).all()
    assert found[window].mean() > 0.5
    away = found.clone()
    away[window] = 0
    assert away.max() <= found[window].max()
    # Resampling keeps the centre of mass, except where the square touches the border.
    if cell == (1, 2):
        places = torch.arange(len(found), dtype=torch.float)
        for profile, wanted in ((found.sum(1), target.sum(1)), (found.sum(0), target.sum(0))):
            centre = (profile * places).sum() / profile.sum()
            torch.testing.assert_close(centre, (wanted * places).sum() / wanted.sum(), rtol=0, atol=0.05)


def test_the_mask_lies_on_the_students_grid():
    student, teacher = Encoder(Average(4)), Encoder(Average(16))
    objective, mask = Objective(3, 3, head=Spy), torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 4:, :4] = True  # the lower left quarter: one of the teacher's four cells
    distillation_step(student, teacher, objective, torch.ones(1, 3, 32, 32), mask.flatten(1))
    plain, masked = (getattr(objective, head).seen[0, :, 0] for head in ("fea_head", "patch_head"))
    torch.testing.assert_close(plain, torch.ones(4))
    assert masked.argmin() == 2 and masked[2] < 0.4 and masked[[0, 1, 3]].min() > 0.6


@pytest.mark.parametrize("patch", [8, 16])
def test_differing_vit_grids_learn(patch):
    student, teacher = tiny_vit(24, patch), tiny_vit(24, 24 - patch).eval()
    objective, patches = Objective(24, 24), (32 // patch) ** 2
    mask = torch.arange(2 * patches).view(2, patches) % 3 == 0
    loss, metrics = distillation_step(student, teacher, objective, torch.rand(2, 3, 32, 32), mask)
    loss.backward()
    assert all(torch.isfinite(value) for value in metrics.values())
    assert student.mask_token.grad.any() and student.backbone.patch_embed.proj.weight.grad.any()
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("pool", [2, 4])
def test_light_heads_know_a_grid_that_is_no_square(pool):
    student, teacher = (tiny_vit(dim, dynamic_img_size=True) for dim in (24, 48))
    objective = Objective(24, 48, pool=pool)
    images, mask = torch.rand(2, 3, 32, 64), torch.arange(64).view(2, 32) % 5 == 0
    loss, _ = distillation_step(student, teacher.eval(), objective, images, mask)
    loss.backward()
    assert torch.isfinite(loss)
    gradients = {k: p.grad for k, p in objective.named_parameters()}
    assert [k for k, g in gradients.items() if g is None] == []
    assert gradients["fea_head.proj_q.1.weight"].any() and not gradients["token_head.proj_q.1.weight"].any()


def count_passes(encoder):
    """Sizes of the batches that enter the encoder's first layer from now on."""
    seen = []
    encoder.backbone.patch_embed.register_forward_hook(lambda _m, inputs, _o: seen.append(len(inputs[0])))
    return seen


@pytest.mark.parametrize("patch", [8, 16])
@pytest.mark.parametrize("masked", [True, False])
def test_the_term_between_two_blocks_is_its_formula_and_costs_no_further_pass(patch, masked):
    student, teacher = tiny_vit(24, patch).double(), tiny_vit(48, depth=3).double().eval()
    torch.manual_seed(0)
    objective = Objective(24, 48, blocks=BlockPair(0, 1, 24, 48), block_weight=0.5).double()
    torch.manual_seed(0)
    plain = Objective(24, 48).double()
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    mask = torch.zeros(2, (32 // patch) ** 2, dtype=torch.bool)
    mask[0, ::2] = masked
    passes = count_passes(student), count_passes(teacher)
    loss, metrics = distillation_step(student, teacher, objective, images, mask)
    assert passes == ([2, 1] if masked else [2], [2])

    (own,), (target,) = student.intermediate(images, [0]), teacher.intermediate(images, [1])
    if patch == 16:
        own = torch.nn.functional.interpolate(own, (4, 4), mode="bilinear")
    target = target.flatten(2).mT
    target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    out, _ = formula(objective.block_head, own.flatten(2).mT, target, 1)
    without, terms = distillation_step(student, teacher, plain, images, mask)
    torch.testing.assert_close(metrics["block_loss"], (out - target).pow(2).mean().detach(), **TIGHT)
    torch.testing.assert_close(loss, without + 0.5 * metrics["block_loss"], **TIGHT)
    for name in ("patch_loss", "fea_loss", "token_loss"):
        assert torch.equal(metrics[name], terms[name])
    loss.backward()
    assert all(p.grad is not None for p in objective.parameters()) and all(p.grad is None for p in teacher.parameters())


def test_the_losses_of_several_teachers_are_added():
    student, first, second = tiny_vit(24), tiny_vit(48).eval(), tiny_vit(36, 16).eval()
    objective = Objective(24, 48, blocks=BlockPair(0, 1, 24, 48))
    objective.others["coarse"] = Objective(24, 36, weights=(1.0, 0.5, 2.0), blocks=BlockPair(1, 0, 24, 36))
    images, mask = torch.rand(2, 3, 32, 32), torch.arange(32).view(2, 16) % 3 == 0
    passes = count_passes(student)
    loss, metrics = distillation_step(student, first, objective, images, mask, {"coarse": second})
    assert passes == [2, 2]
    alone = copy.deepcopy(objective)
    alone.others.clear()
    one, terms = distillation_step(student, first, alone, images, mask)
    two, others = distillation_step(student, second, objective.others["coarse"], images, mask)
    torch.testing.assert_close(loss, one + two)
    expected = {**terms, **{f"coarse/{name}": value for name, value in others.items()}, "loss": loss.detach()}
    torch.testing.assert_close(metrics, expected)


@pytest.mark.parametrize("others", [None, {"b": 0}])
def test_teachers_that_the_objective_does_not_know_are_named(others):
    objective = Objective(24, 24)
    objective.others["a"] = Objective(24, 24)
    with pytest.raises(ValueError, match=r"teachers \[.*\] do not match the objective's \['a'\]"):
        distillation_step(tiny_vit(24), tiny_vit(24), objective, torch.rand(1, 3, 32, 32), torch.zeros(1, 16), others)
