"""Tokens come back from bytes: exactly in fp32, within the rounding of the format otherwise."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gkd.models import Tokens
from gkd.token_store import TokenStore


def targets(seed=0, batch=3, dtype=torch.float32, scale=1.0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return (scale * torch.randn(*shape, generator=generator)).to(dtype)

    first = Tokens(draw(batch, 7), draw(batch, 6, 7)), draw(batch, 5, 2, 4)
    return {"": first, "clip/": (Tokens(draw(batch, 3), draw(batch, 4, 3)), None)}


def arrays(found):
    return [t for tokens, block in found.values() for t in (*tokens, block) if t is not None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fp32_is_exact_in_the_format_that_the_teacher_has(dtype):
    given, store = targets(dtype=dtype), TokenStore("fp32", targets(1, 1, dtype))
    payloads = store.encode(given)
    found, errors = store.decode(payloads)
    assert payloads.dtype == torch.uint8 and payloads.shape == (3, store.size) and errors == {}
    assert list(found) == ["", "clip/"] and found["clip/"][1] is None
    for a, b in zip(arrays(found), arrays(given), strict=True):
        assert a.dtype == dtype and torch.equal(a, b)


@settings(max_examples=20)
@given(st.sampled_from(["bf16", "int8"]), st.integers(0, 99), st.floats(1e-3, 1e3))
def test_the_stated_error_is_the_one_that_is_made(kind, seed, scale):
    given = targets(seed, scale=scale)
    store = TokenStore(kind, given)
    found, errors = store.decode(store.encode(given))
    assert list(errors) == ["tokens_error", "block_error", "clip/tokens_error"]
    (tokens, block), (exact, exact_block) = found[""], given[""]
    for name, ours, true in (
        ("tokens_error", [*tokens], [*exact]),
        ("block_error", [block], [exact_block]),
        ("clip/tokens_error", [*found["clip/"][0]], [*given["clip/"][0]]),
    ):
        off = sum((a.double() - b.double()).square().sum() for a, b in zip(ours, true, strict=True))
        norm = sum(b.double().square().sum() for b in true)
        assert errors[name].item() == pytest.approx((off / norm).sqrt().item(), rel=1e-4)
        assert 0 < errors[name] < (0.004 if kind == "bf16" else 0.012)


def test_int8_is_off_by_half_a_step_at_most_and_keeps_zeros():
    exact = targets()
    exact[""][0].patches[1, 2] = 0
    exact[""][0].patches[0, 1, 3] = 1000.0  # one huge channel is the price that its own token pays
    store = TokenStore("int8", exact)
    (tokens, _), *_ = store.decode(store.encode(exact))[0].values()
    off = (tokens.patches - exact[""][0].patches).abs().amax(-1)
    assert (off <= exact[""][0].patches.abs().amax(-1) / 254 * 1.001).all()
    assert (tokens.patches[1, 2] == 0).all() and off[0, 1] > 0.1 and off[0, 2] < 0.02


def test_bytes_and_values_of_a_second_round_are_those_of_the_first():
    exact = targets()
    for kind in ("fp32", "bf16", "int8"):
        store = TokenStore(kind, exact)
        once, _ = store.decode(store.encode(exact))
        alone = [store.encode({k: (Tokens(*(x[i : i + 1] for x in t)), b if b is None else b[i : i + 1])
                               for k, (t, b) in exact.items()}) for i in range(3)]  # fmt: skip
        assert torch.equal(torch.cat(alone), store.encode(exact))  # a record does not depend on its batch
        again, _ = store.decode(store.encode(once))
        for a, b in zip(arrays(once), arrays(again), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=0)


def test_sizes_follow_the_format():
    sizes = {kind: TokenStore(kind, targets()).size for kind in ("fp32", "bf16", "int8")}
    values, rows, parts = 7 * 7 + 8 * 5 + 5 * 3, 7 + 8 + 5, 3
    assert sizes == {
        "fp32": 4 * values + 8 * parts,
        "bf16": 2 * values + 8 * parts,
        "int8": values + 4 * rows + 8 * parts,
    }


def test_what_is_not_a_number_stays_seen():
    wrong = targets()
    wrong[""][0].patches[0, 0, 0] = float("nan")
    for kind in ("fp32", "bf16", "int8"):
        store = TokenStore(kind, wrong)
        assert store.decode(store.encode(wrong))[0][""][0].patches[0, 0].isnan().any()
