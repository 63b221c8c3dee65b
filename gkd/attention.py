"""What each patch attends to: QSD's maps beside the similarity of the teacher's own tokens."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gkd.models import Encoder, resample_tokens
from gkd.pooling import spread
from gkd.qsd import QSD, Objective


@torch.inference_mode()
def attention_maps(student: Encoder, teacher: Encoder, objective: Objective, image: Tensor) -> dict[str, np.ndarray]:
    """What each patch of one image (3, H, W) attends to among the teacher's patches.

    Returns "fea_head" and "patch_head", the attention of the two QSD heads averaged over heads (rows sum to one),
    and "teacher cosine", the cosine similarity of the teacher's own tokens; all (N, M) float with N = M = patches
    of the teacher, since student tokens are brought onto its grid first, as in training. Light QSD attends to cells
    of pooled patches; its maps are spread over the patches of each cell. The modules, which should be in eval mode,
    lie on one device; the image is moved there. TypeError for heads without attention (plain regression).
    """
    for name in ("fea_head", "patch_head"):
        head = getattr(objective, name)
        if not hasattr(head, "attention_map"):
            raise TypeError(f"objective.{name} is a {type(head).__name__} without attention; a QSD head is needed")
    size = image.shape[-2:]
    grid = teacher.grid(size)
    images = image[None].to(next(student.parameters()).device)  # (1, 3, H, W)
    tokens = resample_tokens(student(images), student.grid(size), grid).patches  # (1, M, Cs)
    target = teacher(images).patches  # (1, M, Ct)
    unit = F.normalize(target[0], dim=-1)
    return {
        "fea_head": _mean_map(objective.fea_head, tokens, target, grid),
        "patch_head": _mean_map(objective.patch_head, tokens, target, grid),
        "teacher cosine": (unit @ unit.T).float().cpu().numpy(),
    }


def _mean_map(head: QSD, tokens: Tensor, target: Tensor, grid: tuple[int, int]) -> np.ndarray:
    """Attention over all patches, averaged over heads: (N, M)."""
    attention = head.attention_map(tokens, target, grid)[0].mean(dim=0)  # (N, M), or (N, cells) where it pools
    return (attention if head.pool == 1 else spread(attention, grid, head.pool)).float().cpu().numpy()
