"""Ours, with an encoder that task learning goes on to train: the control of keeping it frozen."""

from gkd.methods import Row
from gkd.methods.gkd_diag import objective  # noqa: F401

ROW = Row(label="GKD-diag, fine-tuned", frozen=False, attention=True)
