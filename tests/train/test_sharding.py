"""What one process sees of gkd.train.sharding; tests/test_launching.py spreads encoders over two."""

import pytest
from tiny_models import tiny_vit

from gkd.train.sharding import held_bytes, sharded_copy


def test_one_process_keeps_the_encoder_itself() -> None:
    encoder = tiny_vit().requires_grad_(False)
    assert sharded_copy(encoder, "cpu") is encoder
    assert held_bytes(encoder) == 4 * sum(p.numel() for p in encoder.parameters())


def test_an_encoder_that_learns_is_refused() -> None:
    with pytest.raises(ValueError, match="only frozen encoders are spread over processes, and mask_token is trained"):
        sharded_copy(tiny_vit(), "cpu")
