"""QSD and the objective against the published step and against their formulas; the step: tests/test_qsd_step.py."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_vit

from gkd.methods.mse import RegressionHead
from gkd.models import Encoder, Tokens, resample_patches
from gkd.params import ROOT
from gkd.qsd import QSD, Objective, attention_maps, distillation_loss, distillation_step, pool_tokens, spread

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
        options |= {"img_size": size, "patch_size": patch, "embed_dim": dim, "depth": depth, "num_heads": heads}
        built = Encoder.create("vit_tiny_patch16_224", **options).double()
        built.mean.zero_()
        built.std.fill_(1)
        state = {k if k == "mask_token" else f"backbone.{k}": v for k, v in part(vectors, f"{who}/").items()}
        built.load_state_dict(state, strict=True)
        return built

    student, teacher = encoder("student", *shapes[:3]), encoder("teacher", *shapes[3:], init_values=1.0)
    objective = Objective(student.dim, teacher.dim).double()
    objective.load_state_dict({f"{h}.{k}": v for h in HEADS for k, v in part(vectors, f"{h}/").items()}, strict=True)
    return student, teacher.eval(), objective


def test_the_step_is_the_published_one(vectors, published):
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
    loss, metrics = distillation_step(student, teacher, objective, images, masks)
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
    four = QSD(24, 40, num_heads=4).double()
    four.load_state_dict({k: v for k, v in part(vectors, "qsd4/").items() if k.startswith("proj_")}, strict=True)
    out = four(vectors["qsd4/student_tokens"], vectors["qsd4/teacher_tokens"])
    torch.testing.assert_close(out, vectors["qsd4/out"], **TIGHT)


def layer_norm_linear(module, x):
    norm, linear = module
    centred = x - x.mean(-1, keepdim=True)
    normed = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias
    return normed @ linear.weight.T + linear.bias


def formula(head, s, t, heads, scaled=False, bias=None):
    """softmax(q(s) t^T) v(s), one sample, one head and one token at a time."""
    q, v = layer_norm_linear(head.proj_q, s), layer_norm_linear(head.proj_v, s)
    width = t.shape[-1] // heads
    out, attention = torch.empty_like(t), torch.empty(len(s), heads, s.shape[1], t.shape[1], dtype=s.dtype)
    for b, h, i in itertools.product(range(len(s)), range(heads), range(s.shape[1])):
        c = slice(h * width, (h + 1) * width)
        logits = torch.stack([(q[b, i, c] * t[b, j, c]).sum() for j in range(t.shape[1])])
        logits = logits / (math.sqrt(width) if scaled else 1)
        if bias is not None:
            logits[i] = logits[i] + bias
        weights = (logits - logits.max()).exp()
        attention[b, h, i] = weights / weights.sum()
        out[b, i, c] = (attention[b, h, i, :, None] * v[b, :, c]).sum(0)
    return out, attention


def draw(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def randomise(module, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * draw(generator, *parameter.shape)
    return module


def check_map(head, s, t, grid=None):
    """The map and what `forward` applies are the same thing; returns the map."""
    found = head.attention_map(s, t, grid)
    torch.testing.assert_close(found.sum(-1), torch.ones_like(found[..., 0]), **TIGHT)
    values = head.values(s, grid).unflatten(-1, (head.num_heads, -1)).transpose(1, 2)
    torch.testing.assert_close((found @ values).transpose(1, 2).flatten(2), head(s, t, grid), **TIGHT)
    return found


@few
@given(
    batch=st.integers(1, 2),
    tokens=st.integers(1, 5),
    student_dim=st.integers(2, 7),
    width=st.integers(1, 4),
    heads=st.integers(1, 3),
    scaled=st.booleans(),
    bias=st.sampled_from([None, 0.0, 6.0]),
    seed=st.integers(0, 999),
)
def test_qsd_is_its_formula(batch, tokens, student_dim, width, heads, scaled, bias, seed):
    head = QSD(student_dim, width * heads, heads, scaled=scaled, diagonal_bias=bias).double()
    randomise(head.proj_q, seed), randomise(head.proj_v, seed + 1)
    g = torch.Generator().manual_seed(seed)
    s, t = draw(g, batch, tokens, student_dim), draw(g, batch, tokens, width * heads)
    out, attention = formula(head, s, t, heads, scaled, bias)
    torch.testing.assert_close(head(s, t), out, **TIGHT)
    torch.testing.assert_close(check_map(head, s, t), attention, **TIGHT)
    torch.testing.assert_close(head.values(s), layer_norm_linear(head.proj_v, s), **TIGHT)


GRIDS = st.tuples(st.integers(1, 5), st.integers(1, 5))


@few
@given(grid=GRIDS, pool=st.integers(2, 4), heads=st.integers(1, 2), scaled=st.booleans(), seed=st.integers(0, 999))
def test_light_qsd_is_its_formula(grid, pool, heads, scaled, seed):
    count, width = grid[0] * grid[1], 3
    head = randomise(QSD(5, width * heads, heads, scaled=scaled, pool=pool).double(), seed)
    g = torch.Generator().manual_seed(seed)
    s, t = draw(g, 2, count, 5), draw(g, 2, count, width * heads)
    # Values are projected first and averaged then; the head itself does it the other way round, which costs less.
    q, v = layer_norm_linear(head.proj_q, s), pool_tokens(layer_norm_linear(head.proj_v, s), grid, pool)
    k, found = pool_tokens(t, grid, pool), check_map(head, s, t, grid)
    assert found.shape == (2, heads, count, -(-grid[0] // pool) * -(-grid[1] // pool))
    for h in range(heads):
        c = slice(h * width, (h + 1) * width)
        attention = (q[..., c] @ k[..., c].mT / (math.sqrt(width) if scaled else 1)).softmax(-1)
        torch.testing.assert_close(found[:, h], attention, **TIGHT)
        torch.testing.assert_close(head(s, t, grid)[..., c], attention @ v[..., c], **TIGHT)


@few
@given(grid=GRIDS, pool=st.integers(1, 5), seed=st.integers(0, 99))
def test_a_pooled_token_is_the_mean_of_its_cell_and_attention_is_spread_over_it(grid, pool, seed):
    g = torch.Generator().manual_seed(seed)
    tokens = draw(g, 2, grid[0] * grid[1], 3)
    pooled, maps = pool_tokens(tokens, grid, pool), tokens.unflatten(1, grid)
    rows, columns = (range(0, length, pool) for length in grid)
    means = [maps[:, r : r + pool, c : c + pool].flatten(1, 2).mean(1) for r in rows for c in columns]
    torch.testing.assert_close(pooled, torch.stack(means, dim=1))
    attention = draw(g, 2, 4, pooled.shape[1]).softmax(-1)
    wide = spread(attention, grid, pool)
    torch.testing.assert_close(wide @ tokens, attention @ pooled)
    torch.testing.assert_close(wide.sum(-1), torch.ones(2, 4, dtype=torch.float64))


def test_light_qsd_takes_a_square_for_granted_and_nothing_else():
    head, s, t = QSD(4, 6, pool=2), torch.randn(1, 16, 4), torch.randn(1, 16, 6)
    assert torch.equal(head(s, t), head(s, t, (4, 4))) and not torch.equal(head(s, t, (2, 8)), head(s, t, (4, 4)))
    assert torch.equal(head.attention_map(s, t), head.attention_map(s, t, (4, 4)))
    with pytest.raises(ValueError, match=r"12 tokens fill no square grid.*grid=\(rows, columns\)"):
        head(s[:, :12], t[:, :12])
    with pytest.raises(ValueError, match="16 tokens do not fill a grid of 3 x 4"):
        head(s, t, (3, 4))


@pytest.mark.parametrize(("pool", "own"), [(1, range(6)), (2, [0, 0, 1, 0, 0, 1])])  # 2 x 3 patches, a row of two cells
def test_a_large_diagonal_bias_looks_at_the_own_place(pool, own):
    head = QSD(4, 6, scaled=True, diagonal_bias=50.0, pool=pool)
    found = head.attention_map(torch.randn(1, 6, 4), torch.randn(1, 6, 6), (2, 3))
    torch.testing.assert_close(found[0, 0], torch.eye(len(set(own)))[list(own)])


def test_state_dict_keys_are_frozen():
    projections = [f"proj_{x}.{i}.{kind}" for x in "qv" for i in (0, 1) for kind in ("weight", "bias")]
    assert list(QSD(4, 6).state_dict()) == projections
    assert list(QSD(4, 6, diagonal_bias=6.0).state_dict()) == ["diagonal_bias", *projections]
    assert list(Objective(4, 6).state_dict()) == [f"{h}.{k}" for h in HEADS for k in projections]
    norm, linear = QSD(4, 6).proj_q
    assert (norm.weight.shape, linear.weight.shape, norm.eps) == ((4,), (6, 4), 1e-5)


def test_bad_options_and_shapes_are_named():
    for make, message in (
        (lambda: QSD(4, 6, num_heads=4), "num_heads=4 does not divide the teacher's 6 channels"),
        (lambda: QSD(4, 6, pool=0), "pool=0"),
        (lambda: Objective(4, 6, weights=(1.0,)), r"weights=\[1.0\]: expected three"),
        (
            lambda: QSD(4, 6)(torch.randn(1, 4, 4), torch.randn(1, 9, 6)),
            "4 student and 9 teacher tokens.*resample_patches",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(TypeError, match="objective.fea_head is a RegressionHead without attention"):
        attention_maps(tiny_vit(24), tiny_vit(24), Objective(24, 24, head=RegressionHead), torch.rand(3, 32, 32))


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

    arguments = (heads, bias is not None, bias)
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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_loss_of_half_types_is_computed_in_float32(dtype):
    objective = Objective(4, 6, head=RegressionHead).to(dtype)
    plain, teacher = (Tokens(torch.randn(2, c, dtype=dtype), torch.randn(2, 3, c, dtype=dtype)) for c in (4, 6))
    _, metrics = distillation_loss(objective, plain, plain, teacher)
    assert {value.dtype for value in metrics.values()} == {torch.float32}
    out = objective.patch_head(plain.patches, teacher.patches).float()
    torch.testing.assert_close(metrics["patch_loss"], (out - teacher.patches.float()).pow(2).mean())


@pytest.mark.parametrize(("patch", "size", "pool"), [(8, 32, 1), (16, 32, 1), (8, 32, 2), (8, 48, 2), (8, 48, 3)])
def test_maps_lie_on_the_teachers_grid_and_are_those_of_training(patch, size, pool):
    student, teacher = (tiny_vit(d, p, dynamic_img_size=True).eval() for d, p in ((24, patch), (48, 8)))
    objective, image = Objective(24, 48, num_heads=2, pool=pool).eval(), torch.rand(3, 32, size)
    maps, grid = attention_maps(student, teacher, objective, image), teacher.grid((32, size))
    patches = grid[0] * grid[1]
    assert list(maps) == ["fea_head", "patch_head", "teacher cosine"]
    assert {m.shape for m in maps.values()} == {(patches, patches)}
    with torch.no_grad():
        tokens = resample_patches(student(image[None]).patches, student.grid((32, size)), grid)
        target = teacher(image[None]).patches
        for name in ("fea_head", "patch_head"):
            head = getattr(objective, name)
            mean = head.attention_map(tokens, target, grid)[0].mean(0)
            expected = spread(mean, grid, pool) if pool > 1 else mean
            np.testing.assert_allclose(maps[name], expected.numpy(), rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(maps[name].sum(axis=1), 1, rtol=1e-5)
    unit = target[0].numpy() / np.linalg.norm(target[0].numpy(), axis=1, keepdims=True)
    np.testing.assert_allclose(maps["teacher cosine"], unit @ unit.T, rtol=1e-4, atol=1e-5)
