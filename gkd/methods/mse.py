"""Plain feature regression: the three terms of GKD with LayerNorm + Linear in the place of QSD."""

from pydantic import PositiveInt
from torch import Tensor, nn

from gkd.methods import Row
from gkd.qsd import Objective, projection

ROW = Row(label="MSE")


class RegressionHead(nn.Module):
    """LayerNorm + Linear onto the teacher's tokens: QSD whose attention stays on the own place. `hidden`, a GELU layer
    of so many channels between, is for as many parameters as QSD has."""

    def __init__(self, student_dim: int, teacher_dim: int, hidden: int | None = None) -> None:
        super().__init__()
        self.proj = projection(student_dim, hidden or teacher_dim)
        if hidden is not None:
            self.proj.extend([nn.GELU(), nn.Linear(hidden, teacher_dim)])

    def forward(self, student_tokens: Tensor, teacher_tokens: Tensor) -> Tensor:
        """Student tokens (B, N, Cs) -> (B, N, Ct); the teacher's tokens are only the target of the loss."""
        return self.proj(student_tokens)


def objective(
    student_dim: int,
    teacher_dim: int,
    hidden: PositiveInt | None = None,
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Objective:
    """The heads; `weights` are the factors of the patch, fea and token losses."""
    return Objective(student_dim, teacher_dim, RegressionHead, weights, hidden=hidden)
