import pytest
import timm
import torch
from torch import nn

from gkd.segmentation.decoders import LinearDecoder
from gkd.weights import CheckpointError
from gkd.weights.matching import check_classes, check_state, looks_like


def test_mismatches_are_counted_and_the_first_five_named_with_shapes():
    module = nn.ModuleDict({name: nn.Linear(2, 3) for name in "abc"})
    state = {"a.weight": torch.ones(3, 2), "a.bias": torch.ones(4)}
    state |= {"d.weight": torch.ones(1), "e.weight": torch.ones(1)}
    with pytest.raises(CheckpointError) as error:
        check_state(module, state, "file.safetensors (encoder)")
    assert str(error.value).splitlines() == [
        "file.safetensors (encoder) does not fit this model (7 mismatches):",
        "  missing b.weight (3, 2)",
        "  missing b.bias (3,)",
        "  missing c.weight (3, 2)",
        "  missing c.bias (3,)",
        "  unexpected d.weight (1,)",
        "  and 2 more",
    ]
    with pytest.raises(CheckpointError, match=r"1 mismatches.*\n  a.bias: \(4,\) in the file, \(3,\) in the model$"):
        check_state(module, {**module.state_dict(), "a.bias": torch.ones(4)}, "x")
    check_state(module, module.state_dict(), "x")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("deit_small_patch16_224", "a ViT of 384 channels, 12 blocks, patch 16, without LayerScale"),
        ("vit_base_patch14_dinov2", "a ViT of 768 channels, 12 blocks, patch 14, with LayerScale"),
        ("eva02_base_patch14_224", "a ViT of 768 channels, 12 blocks, patch 14, without LayerScale"),
        ("resnet18", None),
        ("swin_tiny_patch4_window7_224", None),
    ],
)
def test_what_the_weights_of_a_model_look_like(name, text):
    with torch.device("meta"):
        state = timm.create_model(name, num_classes=0).state_dict()
    assert looks_like(state) == text


def test_another_width_is_not_taken_for_another_number_of_classes():
    decoder, wider = LinearDecoder(4, 19), LinearDecoder(5, 11).state_dict()
    check_classes(decoder, wider, "x")
    with pytest.raises(CheckpointError, match="6 mismatches"):
        check_state(decoder, wider, "x")
