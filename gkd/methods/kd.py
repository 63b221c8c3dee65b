"""Vanilla distillation: in task learning the student follows the teacher's segmentor."""

from gkd.methods import Row
from gkd.train.pixel_kl import pixel_kl

ROW = Row(label="Vanilla KD", frozen=False)
guidance = pixel_kl
