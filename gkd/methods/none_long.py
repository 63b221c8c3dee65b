"""As none, for as long as `heads.none_long.task_steps` says: whether the student alone only was trained too short."""

from gkd.methods import Row

ROW = Row(label="No KD (long)", frozen=False, long=True)
