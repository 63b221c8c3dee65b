"""Parameters for tests: those of profiles, and sections that say what a test does not."""

from gkd.distillation import PUBLISHED
from gkd.params import ROOT, Distillation, Mask2FormerOptions, Models, TaskLearning, load

TINY = load(ROOT / "profiles" / "tiny.yaml")
MASK2FORMER = load(ROOT / "profiles" / "paper.yaml").models.mask2former


def distillation(**options) -> Distillation:
    """The published options on images of 32 x 32."""
    return Distillation(**{**PUBLISHED, "steps": 3, "batch_size": 4, "lr": 1e-2, "image_size": [32, 32], **options})


def learning(**options) -> TaskLearning:
    """Task learning of a few steps on crops of 32 x 32."""
    short = {"steps": 3, "batch_size": 4, "lrs": [1e-2], "crop": [32, 32], "scale": [1.0, 1.5], "pool": None}
    return TaskLearning(**{**TINY.task_learning.model_dump(), **short, **options})


def mask2former(**sizes) -> Mask2FormerOptions:
    """The published sizes of the decoder, but for `sizes`."""
    return Mask2FormerOptions(**{**MASK2FORMER.model_dump(), **sizes})


def with_decoder(name: str, width: int = 32, **sizes) -> Models:
    """The models of the tiny profile under another decoder, a mask2former of `sizes`."""
    return TINY.models.model_copy(update={"decoder": name, "decoder_width": width, "mask2former": mask2former(**sizes)})
