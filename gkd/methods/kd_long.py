"""As kd, for as long as `heads.kd_long.task_steps` says: whether it only was trained too short."""

from gkd.methods import Row
from gkd.train.pixel_kl import pixel_kl

ROW = Row(label="Vanilla KD (long)", frozen=False, long=True)
guidance = pixel_kl
